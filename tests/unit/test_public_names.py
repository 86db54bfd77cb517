"""The public names of both packages: lazy, typed, complete and documented."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys

import pytest
import vectordb_client
from vectordb_client import AsyncClient, AsyncCollection, Client
from vectordb_client.model.reading import Reading
from vectordb_client.model.writing import Writing

import vectordb
from tests.support.paths import ROOT

PACKAGES = {vectordb: ROOT / "vectordb", vectordb_client: ROOT / "client" / "vectordb_client"}


def loaded(code: str) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "client")])}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_importing_a_package_loads_neither_numpy_nor_an_engine():
    heavy = "{'numpy', 'numba', 'lmdb', 'grpc', 'google.protobuf', 'faiss', 'rich'}"
    assert loaded(f"import sys, vectordb, vectordb_client; print(sorted({heavy} & set(sys.modules)))") == "[]"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_public_name_is_there_listed_and_visible_to_type_checkers(package):
    names = set(package.__all__)
    assert names <= set(dir(package))
    for name in names:
        assert getattr(package, name) is not None
    tree = ast.parse((PACKAGES[package] / "__init__.py").read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {alias.asname or alias.name for node in ast.walk(checked) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen - {"open"} == names - {"__version__"}
    assert (PACKAGES[package] / "py.typed").exists()


def test_a_star_import_leaves_the_builtins_alone():
    names: dict = {}
    exec("from vectordb import *\nfrom vectordb_client import *", names)
    assert "open" not in names and names["Schema"] is vectordb.Schema and names["Client"] is Client
    assert callable(vectordb.open) and "open" in dir(vectordb)


def public_methods() -> list:
    methods = []
    for owner in (vectordb.Database, vectordb.Collection, Client, vectordb_client.Collection):
        for name, method in inspect.getmembers(owner, callable):
            if not name.startswith("_") and name not in ("apply_batch", "reached"):
                methods.append(pytest.param(method, id=f"{owner.__module__}.{owner.__name__}.{name}"))
    return [*methods, pytest.param(vectordb.open, id="open")]


@pytest.mark.parametrize("method", public_methods())
def test_every_parameter_is_documented(method):
    text = inspect.getdoc(method)
    parameters = [name for name in inspect.signature(method).parameters if name != "self"]
    documented = set(re.findall(r"^    (\w+): ", text.partition("Args:")[2], re.M))
    needed = [name for name in parameters if name != "timeout"]
    if len(needed) > 1:  # a method with one plain parameter may describe it in its sentence
        assert [name for name in needed if name not in documented] == []
    assert documented - set(parameters) - {*re.findall(r"^    (\w+): ", text.partition("Raises:")[2], re.M)} == set()


@pytest.mark.parametrize("owner", [AsyncClient, AsyncCollection, vectordb.F, vectordb.Hits, vectordb.Page, vectordb.Point, vectordb.Schema])
def test_every_public_attribute_has_a_docstring(owner):
    for name, value in vars(owner).items():
        if not name.startswith("_") and (callable(value) or isinstance(value, (property, staticmethod, classmethod))):
            assert inspect.getdoc(getattr(owner, name)), name


def test_methods_are_the_same_embedded_and_served():
    embedded = {name for name in dir(vectordb.Collection) if not name.startswith("_")} - {"apply_batch", "reached", "number", "revision"}
    served = {name for name in dir(vectordb_client.Collection) if not name.startswith("_")}
    assert embedded - {"name"} == served - {"name"} == {name for name in dir(AsyncCollection) if not name.startswith("_")} - {"name"}


def test_methods_have_the_same_documentation_embedded_and_served():
    def sections(owner, name):
        text = inspect.getdoc(getattr(owner, name)).replace("await ", "").replace("async for", "for")
        return re.sub(r"(\n\nArgs:)?\n    timeout: .*", "", text)

    names = {name for name, value in {**vars(Reading), **vars(Writing)}.items() if not name.startswith("_") and callable(value)}
    assert len(names) > 12
    for name in {*names, "search", "search_batch", "prepare", "tune_fusion"}:
        embedded = sections(vectordb.Collection, name)
        assert embedded == sections(vectordb_client.Collection, name) == sections(AsyncCollection, name)
        assert "timeout: " in inspect.getdoc(getattr(vectordb_client.Collection, name)), name
    for name in ("create_collection", "collection", "collections", "drop_collection", "purge"):
        assert sections(vectordb.Database, name) == sections(Client, name) == sections(AsyncClient, name)


def test_names_missing_in_the_package_say_where_they_are():
    with pytest.raises(AttributeError, match="from vectordb_client import Client"):
        vectordb.Client  # noqa: B018
    with pytest.raises(AttributeError, match="open"):
        vectordb.connect  # noqa: B018
