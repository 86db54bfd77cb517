"""The documentation agrees with the code: generated pages are current, every public name and error has its place, the site builds."""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys

import pytest
import vectordb_client
from vectordb_client import errors
from vectordb_client.rpc.status import STATUS

import vectordb
from tests.support.paths import ROOT
from tests.unit.test_layers import LAYERS

DOCS = ROOT / "docs"
_spec = importlib.util.spec_from_file_location("docs_tool", ROOT / "tools" / "docs.py")
docs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(docs)
NOT_SHOWN = {"__version__", "UNSET"}  # what says nothing by itself


@pytest.mark.parametrize("name", docs.PAGES)
def test_pages_made_from_the_code_are_current(name):
    assert (ROOT / name).read_text() == docs.PAGES[name](), "run: python tools/docs.py"


def test_the_command_line_page_has_every_command_and_option():
    page = docs.command_line()
    for name, made in docs.commands().items():
        section = page.split(f"\n## vectordb {name}\n")[1].split("\n## ")[0]
        assert "usage:" not in section
        if name != "serve":
            for action in made._actions:
                for option in action.option_strings:
                    assert f"`{option}" in section or option in ("-h", "--help"), (name, option)


def _directives(page: str) -> list[str]:
    return re.findall(r"^::: ([\w.]+)$", (DOCS / "reference" / page).read_text(), re.MULTILINE)


def _resolved(path: str):
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_the_api_pages_name_objects_that_exist_and_miss_no_public_one():
    table = (DOCS / "reference" / "python.md").read_text().split("\n## Types of parameters\n")[1]
    types = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert types <= {*vectordb.__all__}
    shown = {}
    for page in ("python.md", "client.md"):
        for path in _directives(page):
            shown[path.rpartition(".")[2]] = _resolved(path)
    for package in (vectordb, vectordb_client):
        names = {name for name in {*package.__all__, "open"} if hasattr(package, name)} - NOT_SHOWN - types
        for name in names:
            value = getattr(package, name)
            if not (isinstance(value, type) and issubclass(value, errors.VectorDBError)):
                assert any(value is object for object in shown.values()) or name == "Collection", f"{package.__name__}.{name} is on no page"
    for value in shown.values():
        assert value.__doc__, value


def test_the_catalogue_of_errors_has_each_class_with_its_status_and_its_base():
    page = (DOCS / "reference" / "errors.md").read_text()
    rows = dict(re.findall(r"^\| \[`(\w+)`\]\(#\w+\) \| ([A-Z_]+) \|", page, re.MULTILINE))
    bases = dict(re.findall(r"^\| \[`(\w+)`\]\(#\w+\) \| [A-Z_]+ \| `?(\w*)`? *\|$", page, re.MULTILINE))
    assert rows == {cls.__name__: status for cls, status in STATUS.items()}
    assert set(rows) == {name for name in vars(errors) if name.endswith("Error")}
    for name, base in bases.items():
        cls = getattr(errors, name)
        assert (base or "VectorDBError") in {other.__name__ for other in cls.__mro__[1:]}, name
        section = page.split(f"\n### {name}\n")[1].split("\n#")[0]
        assert len(section.split()) > 15, name


def test_the_table_of_packages_has_every_module_in_its_layer():
    table = re.findall(r"^\| (\d+) \| `(\w+)` \| [^|]+ \| [^|]+ \| ([^|]+) \|$", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    layers = {name: len(LAYERS) - i for i, names in enumerate(LAYERS) for name in names}
    assert {name: int(layer) for layer, name, _ in table} | {"__main__": len(LAYERS)} == layers
    for _, _, entry in table:
        for path, name in re.findall(r"`([\w/]+\.py)(?::(\w+))?`", entry):
            source = (ROOT / "vectordb" / path).read_text()
            assert not name or re.search(rf"^(def|class) {name}\b|^{name}\b", source, re.MULTILINE), (path, name)


def test_files_that_the_architecture_names_exist():
    paths = set(re.findall(r"`((?:[\w.]+/)+(?:\w+\.\w+)?)`", (ROOT / "ARCHITECTURE.md").read_text()))
    assert len(paths) > 40
    roots = (ROOT, ROOT / "vectordb", ROOT / "client" / "vectordb_client")
    assert [path for path in sorted(paths) if "NAME" not in path and not any((root / path).exists() for root in roots)] == []


def test_links_between_the_site_and_the_repository_are_rewritten():
    text = "[a](docs/index.md) [b](LICENSE) ![c](bench/figures/overview.png) [d](https://example.org) [e](#here)\n```\n[f](LICENSE)\n```\n"
    made = docs.relink(text, "ARCHITECTURE.md")
    assert made == (
        "[a](../index.md) b ![c](../benchmarks/figures/overview.png) [d](https://example.org) [e](#here)\n```\n[f](LICENSE)\n```\n"
    )
    assert (
        docs.relink("[a](../ARCHITECTURE.md#packages) [b](faq.md)\n", "docs/index.md")
        == "[a](project/architecture.md#packages) [b](faq.md)\n"
    )


def test_anchors_are_those_of_github_and_of_mkdocs():
    text = "# One thing\n## `code` & more\n## One thing\n```\n# no heading\n```\n## [Link](x.md)\n"
    assert docs.anchors(text) == {"one-thing", "link"}, "'code--more' on GitHub is 'code-more' on the site"


def test_the_site_builds_without_warnings(tmp_path):
    for package in ("mkdocs", "material", "mkdocstrings"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} isn't installed: pip install '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "site" / "reference" / "python.html").read_text()
    assert 'id="vectordb.collection.Collection.search"' in page and 'id="vectordb.collection.Collection.upsert"' in page
    assert "the share of the true best" in page and "Args:" not in page, "arguments are shown as a list"
    for made in (tmp_path / "site").rglob("*.html"):
        outside = re.findall(r'(?:src|href)="(?:https?:)?//([^/"]+)[^"]*\.(?:js|css|woff2?)', made.read_text())
        assert outside == [], f"{made.name} loads from {outside}"


def test_the_glossary_is_in_alphabetical_order_and_has_the_words_that_plans_use():
    page = (DOCS / "glossary.md").read_text()
    terms = [term for term in re.findall(r"^\| ([^|]+) \| [^|]+ \|$", page, re.MULTILINE) if term != "---"][1:]
    assert terms == sorted(terms, key=str.lower) and len(terms) == len(set(terms))
    assert {
        "arm",
        "beam",
        "binary-code scan",
        "exact scan",
        "fusion",
        "plan",
        "post-filter",
        "recall",
        "segment",
        "tail",
        "tombstone",
    } <= set(terms)


RIDDLES = (
    r"\boracle\b",
    r"\btold\b",
    r"is there already",
    r"\bhas there\b",
    r"gives that many",
    r"asks itself",
    r"\bwhoever\b",
    r"the one knob",
)


@pytest.mark.parametrize("phrase", RIDDLES)
def test_pages_are_free_of_words_that_readers_did_not_understand(phrase):
    pages = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "FORMAT.md", "client/README.md")]
    pages += [page for page in DOCS.rglob("*.md") if page.name not in ("command-line.md", "settings.md")]  # made from the code
    for page in pages:
        for number, line in docs.prose(page.read_text()):
            assert not re.search(phrase, line), f"{page.name}:{number}: {line}"
