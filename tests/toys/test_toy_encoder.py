"""An encoder from outside: one class, and one line in ``ENCODERS`` or an entry point of another distribution."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pytest
from vectordb_client.model.fields import SparseColumn

import vectordb
from tests.support.toys import checked, moved
from vectordb import EncoderError, Schema, Sparse, Text, cli, encoders
from vectordb.encoders.base import Encoded, Encoder, boolean, unknown


class Letters(Encoder):
    """Each letter is a term, as often as the text has it. case=true tells upper from lower case."""

    kind = "sparse"
    options = {"case": boolean}

    def __init__(self, case: bool = False):
        self.case = case
        self.identity = f"letters(case={case}) 1"

    def _counts(self, text: str) -> dict[int, float]:
        counts = Counter(letter for letter in (text if self.case else text.lower()) if letter.isalpha())
        return {ord(letter): float(n) for letter, n in sorted(counts.items())}

    def encode_documents(self, texts, state=None):
        rows = [self._counts(text) for text in texts]
        terms = np.array([term for row in rows for term in row], np.uint64)
        weights = np.array([weight for row in rows for weight in row.values()], np.float32)
        column = SparseColumn(np.cumsum([0, *map(len, rows)]), terms, weights, None)
        made = np.unique(terms)
        return Encoded(column, words=lambda known: self.words_of("", made[unknown(made, known)]))

    def encode_queries(self, texts):
        counts = [self._counts(text) for text in texts]
        return [(np.array(list(one), np.uint64), np.array(list(one.values()), np.float32)) for one in counts]

    def words_of(self, text, terms):
        return {int(term): chr(term) for term in terms}


SCHEMA = Schema({"letters": Sparse(encoder="letters", source="body"), "plain": Sparse()}, {"body": Text()})
BODIES = ["aab", "Abc", "xyz!"]


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(encoders.ENCODERS, "letters", Letters)


def fill(database, schema=SCHEMA):
    docs = database.create_collection("docs", schema)
    docs.upsert(ids=[1, 2, 3], vectors={"plain": [{1: 1.0}] * 3}, attributes={"body": BODIES})
    return docs


def scores(hits) -> dict:
    return {hit.id: hit.score for hit in hits}


def test_it_encodes_texts_and_queries_in_each_place(registered, database):
    docs = fill(database)
    assert scores(docs.search(text="AA c")) == {1: 4.0, 2: 3.0}
    assert scores(docs.search(text={"letters": "z"})) == {3: 1.0}
    assert [scores(hits) for hits in docs.search_batch(text=["b", "y"])] == [{1: 1.0, 2: 1.0}, {3: 1.0}]
    docs.update(ids=[3], attributes={"body": ["b"]})
    assert scores(docs.search(text="b")) == {1: 1.0, 2: 1.0, 3: 1.0}
    terms, weights = docs.get(1, with_vectors=["letters"]).vectors["letters"]
    assert dict(zip(terms.tolist(), weights.tolist(), strict=True)) == {ord("a"): 2.0, ord("b"): 1.0}


def test_it_is_explained_in_its_words(registered, database):
    docs = fill(database)
    hits = docs.search(text="cab", explain=True)
    assert {part["word"] for part in hits.plan["arms"][0]["terms"]} == {"a", "b", "c"}
    assert "contributions to the best row: a 2, b 1" in str(hits.plan)
    assert docs.terms("letters") == {ord(letter): letter for letter in "abcxyz"}
    assert docs.info().statistics["letters"]["encoder"] == "letters(case=False) 1"


def test_its_options_are_read_and_refused(registered, database):
    schema = Schema({"letters": Sparse(encoder="letters(case=true)", source="body"), "plain": Sparse()}, {"body": Text()})
    assert scores(fill(database, schema).search(text="A")) == {2: 1.0}
    for wrong, text in (
        ("letters(size=3)", "encoder 'letters' has no option 'size'; its options are: case"),
        ("letters(case=1)", "true or"),
    ):
        with pytest.raises(EncoderError, match=text):
            database.create_collection("no", Schema({"letters": Sparse(encoder=wrong, source="body")}, {"body": Text()}))


@pytest.mark.parametrize("with_vectors", [False, True])
def test_it_is_exported_imported_and_checked(registered, directory, tmp_path, with_vectors):
    with vectordb.open(directory) as database:
        expected = list(fill(database).iterate(with_vectors=["plain"] if not with_vectors else True))
        found = database["docs"].search(text="ab")
    checked(directory)
    with moved(directory, "docs", tmp_path / "moved", with_vectors=with_vectors) as docs:
        assert scores(docs.search(text="ab")) == scores(found)
        assert [point.attributes for point in docs] == [point.attributes for point in expected]
        assert docs.terms("letters")[ord("z")] == "z"


def test_without_it_what_needs_it_names_it_and_the_rest_works(database, directory, tmp_path, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(encoders.ENCODERS, "letters", Letters)
        docs = fill(database)
    for call in (
        lambda: docs.search(text="a"),
        lambda: docs.upsert(ids=[4], attributes={"body": ["a"]}),
        lambda: database.create_collection("more", SCHEMA),
    ):
        with pytest.raises(EncoderError, match=r"no encoder 'letters'; the encoders are: bm25, "):
            call()
    assert scores(docs.search({"letters": {ord("a"): 1.0}})) == {1: 2.0, 2: 1.0}
    assert docs.get(1).attributes == {"body": "aab"} and docs.count("body MATCH 'abc'") == 1
    assert docs.upsert(ids=[5], vectors={"plain": [{1: 2.0}]}).count == 1 and docs.delete([2]).count == 1
    assert database.collections() == ["docs"]
    checked(directory)
    file, schema = tmp_path / "points.jsonl", tmp_path / "schema.json"
    assert cli.main(["export", str(directory), "docs", str(file), "--schema", str(schema), "--with-vectors"]) == 0
    assert cli.main(["import", str(tmp_path / "new"), "docs", str(file), "--schema", str(schema), "--create"]) == 1
    assert "no encoder 'letters'" in capsys.readouterr().err


# ---- As another distribution ----


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A function that puts a distribution of one entry point on the path."""

    def install(name: str, target: str, code: str = "") -> None:
        metadata = tmp_path / "vectordb_letters-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: vectordb-letters\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[vectordb.encoders]\n{name} = {target}\n")
        (tmp_path / "vectordb_letters.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "vectordb_letters", raising=False)
        encoders._entry_points.cache_clear()

    yield install
    monkeypatch.undo()
    encoders._entry_points.cache_clear()


def test_an_entry_point_registers_an_encoder(installed, database):
    installed("letters", "vectordb_letters:Letters", "from tests.toys.test_toy_encoder import Letters")
    assert scores(fill(database).search(text="c")) == {2: 1.0}
    with pytest.raises(EncoderError, match=r"no encoder 'letter'; the encoders are: bm25, .*, letters\. A Python function"):
        encoders.load("letter")


def test_the_names_of_the_database_win(installed):
    installed("bm25", "vectordb_letters:Letters", "from tests.toys.test_toy_encoder import Letters")
    assert type(encoders.load("bm25")) is encoders.bm25.BM25


@pytest.mark.parametrize(
    ("target", "code", "text"),
    [
        ("vectordb_letters:Letters", "raise RuntimeError('no licence')", "can't be loaded: RuntimeError: no licence"),
        ("vectordb_letters:Letters", "import a_module_that_nobody_has", "can't be loaded: ModuleNotFoundError: "),
        ("vectordb_letters:Letters", "", "can't be loaded: AttributeError: "),
        ("vectordb_letters:Letters", "Letters = 5", "is 5, not a subclass of vectordb.encoders.Encoder"),
    ],
)
def test_a_broken_entry_point_names_its_distribution(installed, database, target, code, text):
    installed("letters", target, code)
    with pytest.raises(EncoderError) as caught:
        database.create_collection("docs", SCHEMA)
    assert caught.value.message.startswith(f"encoder 'letters' of vectordb-letters ({target}) {text}")
    assert (caught.value.field, caught.value.value) == ("encoder", "letters")
    assert database.collections() == []
