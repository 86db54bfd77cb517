"""Imports point downward only and in no circle, and each third-party library is imported in one place only, at run time too."""

from __future__ import annotations

import ast
import functools
import graphlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# From the top down; names of one line don't import one another.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"transfer", "demo", "interrupt"},
    {"server"},
    {"warm", "process_stats"},
    {"database"},
    {"transaction"},
    {"collection"},
    {"reads"},
    {"maintenance"},
    {"query"},
    {"engine"},
    {"fields"},
    {"index", "filters", "encoders", "derivations"},
    {"storage"},
    {"kernels"},
    {"common"},
]
LEVEL = {name: len(LAYERS) - i for i, names in enumerate(LAYERS) for name in names}
# Allowed by their layers, but not by what they are: an index takes arrays and returns arrays.
APART = {("index", "storage")}
DOORS = {
    "lmdb": "storage",
    "grpc": "server",
    "grpc_health": "server",
    "grpc_reflection": "server",
    "prometheus_client": "server",
    "opentelemetry": "server",
    "numba": "kernels",
    "llvmlite": "kernels",
}


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def imports(path: Path, package: str):
    """The parts of the name of every imported module; relative ones made absolute."""
    parts = path.relative_to(ROOT / package).with_suffix("").parts
    here = [package, *(parts[:-1] if parts[-1] == "__init__" else parts)]
    folder = here if path.name == "__init__.py" else here[:-1]
    for node in nodes(path):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else []
            module = [*base, *(node.module or "").split(".")] if node.module else base
            if module == [package]:
                for alias in node.names:
                    yield [package, alias.name]
            else:
                yield module


def modules_with_tops():
    """(file, the name of its layer) of every module."""
    for path in sorted((ROOT / "vectordb").rglob("*.py")):
        top = path.relative_to(ROOT / "vectordb").parts[0].removesuffix(".py")
        if top != "__init__":
            yield path, top


def points_downward(top: str, module: list[str]) -> bool:
    if module[0] != "vectordb":
        return True
    if len(module) == 1 or module[1] not in LEVEL:  # the public face
        return LEVEL[top] >= LEVEL["demo"]
    if module[1] == top:
        return True
    below = LEVEL[module[1]] < LEVEL[top] or LEVEL[module[1]] == LEVEL[top] == 1
    return below and (top, module[1]) not in APART


def test_imports_point_downward():
    every = [(path, top, module) for path, top in modules_with_tops() for module in imports(path, "vectordb")]
    wrong = [f"{path.relative_to(ROOT)} imports {'.'.join(module)}" for path, top, module in every if not points_downward(top, module)]
    assert len(every) > 1_000 and not wrong, wrong


def test_each_library_has_one_door():
    every = [(path, top, module[0]) for path, top in modules_with_tops() for module in imports(path, "vectordb")]
    wrong = [f"{path.relative_to(ROOT)} imports {library}" for path, top, library in every if DOORS.get(library) not in (None, top)]
    assert not wrong, wrong


def test_no_library_is_handed_on_by_the_module_that_imports_it():
    wrong = [
        f"{path.relative_to(ROOT)}: {ast.unparse(node)}"
        for path, top in modules_with_tops()
        for node in nodes(path)
        if isinstance(node, ast.ImportFrom) and not all(DOORS.get(alias.name) in (None, top) for alias in node.names)
    ]
    assert not wrong, wrong


def modules_of(folder: Path) -> dict[str, Path]:
    """Module → its file, of a package in a folder."""
    paths = {".".join(path.relative_to(folder.parent).with_suffix("").parts): path for path in folder.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in paths.items()}


def loaded_with(name: str, path: Path, modules: dict[str, Path]) -> set[str]:
    """The modules that are imported when this one is, before any function is called."""
    here = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            module = ".".join([*here[: len(here) - node.level + 1], *filter(None, [node.module])]) if node.level else node.module
            found |= {full if (full := f"{module}.{alias.name}") in modules else module for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & modules.keys() - {name}


@pytest.mark.parametrize("folder", [ROOT / "vectordb", ROOT / "client" / "vectordb_client"], ids=lambda folder: folder.name)
def test_no_modules_import_each_other(folder):
    modules = modules_of(folder)
    needs = {name: loaded_with(name, path, modules) for name, path in modules.items()}
    assert sum(map(len, needs.values())) > len(modules)
    graphlib.TopologicalSorter(needs).prepare()  # raises CycleError, which names the modules of a circle


@pytest.mark.parametrize("package", ["index", "kernels", "encoders", "common"])
def test_what_needs_no_database_runs_without_its_library(package):
    code = (
        "import pkgutil, sys; sys.modules['lmdb'] = None\n"
        f"import vectordb.{package} as package\n"
        "for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    __import__(module.name)\n"
        "assert not any(name.startswith('vectordb.storage') for name in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "client")])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_client_never_imports_the_database():
    for path in (ROOT / "client" / "vectordb_client").rglob("*.py"):
        for module in imports(path, "client"):
            assert module[0] != "vectordb", path


def test_the_shared_words_need_neither_grpc_nor_the_engine():
    code = (
        "import sys\n"
        "from vectordb_client.model import batch, filter, results, schema\n"
        "import vectordb; vectordb.Schema, vectordb.F\n"
        "print(sorted({'grpc', 'lmdb', 'numba', 'google.protobuf'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "client")])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_client_alone_runs_without_the_database():
    code = (
        "import sys; sys.modules['vectordb'] = None\n"
        "import vectordb_client; vectordb_client.Client, vectordb_client.AsyncClient\n"
        "print(sorted({'lmdb', 'numba', 'pyroaring', 'msgspec', 'xxhash'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "client")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
