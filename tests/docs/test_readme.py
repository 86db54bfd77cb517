"""README.md and FORMAT.md are correct: commands and targets exist, figures equal those of the results, every key type is listed.

test_docs_snippets.py runs the examples.
"""

from __future__ import annotations

import importlib.util
import re
import tomllib

from tests.support.paths import ROOT
from vectordb.cli import parsers
from vectordb.storage import chunks, format

README = (ROOT / "README.md").read_text()
# Everything that a reader may try.
PAGES = [README, *(path.read_text() for path in [ROOT / "client" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))])]


def test_the_readme_is_short_and_its_make_targets_exist():
    assert len(README.splitlines()) <= 130
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE)
    assert {"demo", "test", "docs"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_command_in_backticks_exists():
    words = {word for page in PAGES for word in re.findall(r"`vectordb ([a-z]+)\b", page)}
    assert {"check", "top"} <= words <= set(parsers())


def test_no_page_advises_to_install_a_name_that_is_not_ours():
    for page in PAGES:
        text = re.sub(r"^#.*$", "", page, flags=re.MULTILINE)  # a question of the FAQ names the command that doesn't work
        assert re.findall(r"pip install (?:-\S+ )*['\"]?(?:hybrid-)?vectordb\b.*", text) == []


def test_the_extras_that_pages_advise_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for page in PAGES for extra in re.findall(r"pip install '\.\[(\w[\w-]*)\]'", page)}
    assert "wordllama" in named and named <= set(extras)


def test_the_figures_of_the_readme_are_read_from_the_results():
    spec = importlib.util.spec_from_file_location("docs_figure", ROOT / "tools" / "docs_figure.py")
    figure = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figure)
    results = (ROOT / "bench" / "RESULTS.md").read_text()
    for title, _, *where in figure.PANELS:
        rows = dict(figure.values(results, *where))
        assert len(rows) >= 3 and "vectordb" in rows and min(rows.values()) > 10, title


def test_the_format_page_names_every_kind_of_key_and_the_header():
    page = (ROOT / "FORMAT.md").read_text()
    names = "META STATE IDS TOMBSTONES LOG LOG_KEPT CHUNK LENT TERMS TERM_COUNT ENCODER TERM_WORD EXPIRY SEGMENT DERIVED TOUCHED"
    names += " NAME ALIAS BRANCH NEXT"
    kinds = [getattr(format, name) for name in names.split()]
    for kind in (*kinds, format.FORMAT_KEY[4:]):
        assert f"| `{kind.decode()}` |" in page, kind
    assert f"Format version {format.VERSION}." in page
    assert f"`{chunks.MAGIC:#06x}`" in page and f"header of {chunks.HEADER} bytes" in page
