"""The encoder "term-weights": query weights from a table."""

import asyncio
import json

import numpy as np
import pytest
import xxhash
from vectordb_client import AsyncClient, Client

import vectordb
from tests.support.places import serving
from vectordb import EncoderError, InvalidArgumentError, Schema, Sparse, Text, encoders
from vectordb.encoders import write_term_weights

TEXTS = ["cats chase dogs", "the sea, the sea", "a dog by the sea", "", "quiet"]


def term(word):
    return xxhash.xxh3_64_intdigest(word.encode())


def spec(path, **options):
    return f"term-weights({', '.join(f'{name}={value}' for name, value in {'model': path, **options}.items())})"


def schema(path, **options):
    return Schema({"words": Sparse(encoder=spec(path, **options), source="body")}, {"body": Text()})


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "weights.json"
    path.write_text(json.dumps({"sea": 2.0, "dog": 3, "the": 0}))
    return path


@pytest.fixture
def tokenizer(tmp_path):
    tokenizers = pytest.importorskip("tokenizers", reason="the tokenizers package is not installed")
    pieces = {"[UNK]": 0, "sea": 1, "dog": 2, "##s": 3, "the": 4, "cats": 5}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(pieces, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_a_query_is_looked_up_in_the_table(table):
    encoder = encoders.load(spec(table))
    found, none = encoder.encode_queries(["The sea, a SEA and a dog", "the cat"])
    assert dict(zip(found[0].tolist(), found[1].tolist(), strict=True)) == {term("sea"): 2.0, term("dog"): 3.0}
    assert found[0].tolist() == sorted(found[0].tolist()) and len(none[0]) == 0


def test_documents_have_vectors_or_weights_of_the_same_table(table, database):
    docs = database.create_collection("docs", schema(table))
    docs.upsert(ids=[1, 2], attributes={"body": TEXTS[1:3]})
    docs.upsert(ids=[3], vectors={"words": [{term("sea"): 0.5, 7: 1.0}]}, attributes={"body": ["dog"]})
    assert {hit.id: hit.score for hit in docs.search(text="sea")} == {1: pytest.approx(2 * 2 * 2.2 / 3.2), 2: 2.0, 3: 1.0}
    assert docs.get(2, with_vectors=True).vectors["words"][0].tolist() == sorted([term("sea"), term("dog")])
    assert docs.terms("words") == {term("sea"): "sea", term("dog"): "dog"}
    assert "sea" in str(docs.search(text="sea", explain=True).plan)
    assert docs.info().statistics["words"]["encoder"].startswith("term-weights(")


@pytest.mark.parametrize("options", [{}, {"language": "none"}, {"stopwords": True}])
def test_the_table_of_texts_scores_as_bm25(tmp_path, database, options):
    path = tmp_path / "made.json"
    assert write_term_weights(path, iter(TEXTS), **options) == len(json.loads(path.read_text())["terms"])
    given = ", ".join(f"{name}={str(value).lower()}" for name, value in options.items())
    other = Sparse(encoder=f"bm25({given})", source="body")
    docs = database.create_collection("docs", Schema({"words": Sparse(encoder=spec(path), source="body"), "bm25": other}, {"body": Text()}))
    docs.upsert(ids=range(len(TEXTS)), attributes={"body": TEXTS})
    for query in ("sea dogs", "the cats", "quiet dog"):
        mine, its = ({hit.id: hit.score for hit in docs.search(text={name: query})} for name in ("words", "bm25"))
        assert mine == pytest.approx(its, rel=0.3) and list(mine) == list(its)  # bm25 counts the empty text too


def test_terms_are_those_of_a_tokenizer(tmp_path, tokenizer, database):
    path = tmp_path / "idf.json"
    path.write_text(json.dumps({"sea": 1.5, "##s": 0.5, "dog": 1}))
    docs = database.create_collection("docs", schema(path, tokenizer=tokenizer))
    docs.upsert(ids=[1], vectors={"words": [{1: 2.0, 3: 4.0}]}, attributes={"body": ["?"]})
    docs.upsert(ids=[2], attributes={"body": ["the dogs"]})
    assert {hit.id: hit.score for hit in docs.search(text="sea dogs")} == {1: 5.0, 2: 1.5}
    assert docs.terms("words") == {2: "dog", 3: "##s"}
    assert write_term_weights(path, ["the sea", "dogs"], tokenizer=str(tokenizer)) == 4
    assert set(json.loads(path.read_text())["terms"]) == {"the", "sea", "dog", "##s"}


def test_a_changed_or_missing_table_is_named(table, tmp_path):
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        database.create_collection("docs", schema(table)).upsert(ids=[1], attributes={"body": ["sea"]})
    table.write_text(json.dumps({"sea": 4.0}))
    encoders._loaded.clear()  # as in a new process
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        docs = database["docs"]
        with pytest.raises(EncoderError, match=r"field 'words' was built with encoder term-weights.* is installed"):
            docs.search(text="sea")
        assert docs.search({"words": {term("sea"): 1.0}}).ids.tolist() == [1]
    table.unlink()
    encoders._loaded.clear()
    with vectordb.open(tmp_path / "data", maintenance=False) as database, pytest.raises(EncoderError, match="finds no model at"):
        database["docs"].upsert(ids=[2], attributes={"body": ["sea"]})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "must hold a JSON object"),
        ("{", "can't read"),
        ("{}", "it has no terms"),
        ('{"a": "b"}', "the weight of 'a' must be a number from 0"),
        ('{"a": -1}', "the weight of 'a' must be a number from 0"),
        ('{"a": NaN}', "the weight of 'a' must be a number from 0"),
        ('{"terms": {"a": 1}, "k2": 3}', "its 'k2' is 3; the parts are: terms, language"),
        ('{"terms": {"a": 1}, "language": 3}', "its 'language' is 3"),
        ('{"terms": {"a": 1}, "language": "klingon"}', "no language 'klingon'"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, content, message):
    path = tmp_path / "wrong.json"
    path.write_text(content)
    with pytest.raises(EncoderError, match=message):
        encoders.load(spec(path))


def test_wrong_options_are_refused(table, tokenizer, database):
    for given, message in (
        ("term-weights", r"needs a model; write term-weights\(model=weights.json\)"),
        ("term-weights(k1=3)", "has no option 'k1'; its options are: model, tokenizer"),
        (spec(table, tokenizer="/nowhere"), "finds no tokenizer at '/nowhere'"),
        (spec(table, tokenizer=table), "can't read"),
    ):
        with pytest.raises(EncoderError, match=message):
            encoders.load(given)
    table.write_text('{"fish": 1}')
    with pytest.raises(EncoderError, match="the tokenizer doesn't know its term 'fish'"):
        encoders.load(spec(table, tokenizer=tokenizer))
    with pytest.raises(EncoderError, match="takes the weights from its table; leave weighting out"):
        database.create_collection("docs", Schema({"w": Sparse(encoder=spec(table), weighting="idf")}))
    for texts, message in (("sea", "several texts"), ([3], "must hold texts"), (["", "!"], "no text with a word")):
        with pytest.raises(InvalidArgumentError, match=message):
            write_term_weights(table, texts)
    assert np.isfinite(encoders.load(spec(table)).encode_queries(["fish"])[0][1]).all()


def test_a_service_encodes_by_the_table(table, database):
    with serving(database) as address, Client(address) as client:
        client.create_collection("docs", schema(table)).upsert(ids=[1, 2], attributes={"body": TEXTS[1:3]})
        expected = database["docs"].search(text="sea")
        assert client["docs"].search(text="sea").ids.tolist() == expected.ids.tolist() == [1, 2]

        async def found():
            async with AsyncClient(address) as other:
                return await (await other.collection("docs")).search(text="sea")

        assert asyncio.run(found()).scores.tolist() == expected.scores.tolist()
