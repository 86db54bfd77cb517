"""The demo's corpus, which is the docstrings of the standard library, and its searches: the code it shows is the code it runs."""

import pytest
from vectordb_client.model.batch import make_batch
from vectordb_client.model.filter import F  # noqa: F401 - the demo's code is evaluated with it
from vectordb_client.model.ranking import DBSF, Relative  # noqa: F401 - and with these

from vectordb.demo import corpus, queries, show
from vectordb.demo import point as demo_point

SOURCE = '''"""A module of examples.

More about it."""

import nowhere_at_all

raise SystemExit("sources must not be run")


class Box:
    """Holds a thing."""

    def __init__(self, thing, *, label="x"):
        self.thing = thing

    @property
    def size(self) -> int:
        """How big."""

    @size.setter
    def size(self, value):
        """Another how big."""

    class Inner:
        def method(self, a, /, b=1, *args, c: int = 2, **more):
            """Does something."""

    def undocumented(self):
        pass


if True:

    async def fetch(url: str, self=None) -> bytes:
        """Gets it."""

        def inner():
            """Not hidden."""
'''


@pytest.fixture
def entries(tmp_path):
    (tmp_path / "pkg" / "test").mkdir(parents=True)
    (tmp_path / "pkg" / "site-packages").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text('"""A package."""\n')
    (tmp_path / "pkg" / "mod.py").write_text(SOURCE)
    (tmp_path / "pkg" / "broken.py").write_text("def f(:\n")
    for skipped in ("test", "site-packages"):
        (tmp_path / "pkg" / skipped / "x.py").write_text('"""No."""\n')
    return {entry.id: entry for entry in corpus.collect(tmp_path)}


def test_documented_things_are_found_without_running_the_source(entries):
    assert list(entries) == [
        "pkg",
        "pkg.mod",
        "pkg.mod.Box",
        "pkg.mod.Box.size",
        "pkg.mod.Box.size@21",
        "pkg.mod.Box.Inner.method",
        "pkg.mod.fetch",
        "pkg.mod.fetch.inner",
    ]
    assert [e.kind for e in entries.values()] == ["module", "module", "class", "method", "method", "method", "function", "function"]


def test_signatures_leave_out_self_and_keep_the_rest(entries):
    signatures = {name: (e.signature, e.parameters) for name, e in entries.items()}
    assert signatures["pkg.mod"] == ("", ())
    assert signatures["pkg.mod.Box"] == ("Box(thing, *, label='x')", ("thing", "label"))
    assert signatures["pkg.mod.Box.size"] == ("Box.size() -> int", ())
    method = ("Box.Inner.method(a, /, b=1, *args, c: int=2, **more)", ("a", "b", "c", "args", "more"))
    assert signatures["pkg.mod.Box.Inner.method"] == method
    assert signatures["pkg.mod.fetch"] == ("async fetch(url: str, self=None) -> bytes", ("url", "self"))


def test_a_text_says_what_it_is_about(entries):
    entry = entries["pkg.mod.Box"]
    assert entry.body == "pkg.mod.Box: Holds a thing." and (entry.package, entry.module, entry.lines) == ("pkg", "pkg.mod", 20)
    assert entries["pkg.mod"].body.startswith("pkg.mod: A module of examples.")


def test_the_standard_library_has_thousands_of_points_that_fit_the_schema():
    found = list(corpus.collect())
    assert len(found) >= 8000 and len({e.id for e in found}) == len(found)
    by_id = {e.id: e for e in found}
    assert by_id["builtins.str.split"].parameters == ("sep", "maxsplit")
    assert "dst" in by_id["shutil.copytree"].parameters and by_id["shutil.copytree"].file == "shutil.py"
    assert not any(e.package in ("test", "site-packages") for e in found)
    points = [demo_point(e) for e in found]
    assert len(make_batch(queries.SCHEMA, "upsert", points).ids) == len(found)


def test_a_limit_takes_the_first_ones():
    assert [e.id for e in corpus.collect(limit=5)] == [e.id for _, e in zip(range(5), corpus.collect(), strict=False)]


def test_the_code_that_is_shown_is_what_is_asked():
    for query in queries.QUERIES:
        shown = " ".join(query.code)
        code, _, fusion = shown.partition(" fusion=")
        assert eval(code.removeprefix("filter=")) == query.filter
        assert eval(fusion or "'rrf'") == query.fusion
    assert {type(q.filter).__name__ in ("str", "dict") and type(q.filter).__name__ for q in queries.QUERIES} == {"str", "dict", False}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("m.f: Does this.\n\nAnd that.", "Does this."),
        ("m.f: f(x, y) -> int\n\nDoes this\n  and more.", "Does this and more."),
        ("m.f: f(x)", "f(x)"),
        ("m.f: " + "word " * 40, "word word word …"),
    ],
)
def test_a_summary_is_the_first_paragraph_of_prose(body, expected):
    assert show.summary(body, 20) == expected
