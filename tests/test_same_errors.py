"""The same wrong input gives the same error, embedded and served, and the text says what to write instead."""

from __future__ import annotations

import pytest
from vectordb_client import Client

import vectordb
from vectordb import (
    RRF,
    Dense,
    F,
    Int,
    InvalidArgumentError,
    Keyword,
    Linear,
    MultiVector,
    Point,
    Prefetch,
    Schema,
    Sparse,
    Text,
    VectorDBError,
)
from vectordb.server.serve import start

VECTOR = [1.0, 2.0]
SCHEMA = Schema(
    {"v": Dense(2), "s": Sparse(), "m": MultiVector(2), "b": Sparse(encoder="bm25", source="body")},
    {"isbn": Keyword(), "tags": Keyword(array=True), "year": Int(), "body": Text()},
)


@pytest.fixture(scope="module")
def databases(tmp_path_factory):
    """(embedded, served): one database, with one collection that the wrong calls don't change."""
    folder = tmp_path_factory.mktemp("same")
    with vectordb.open(folder / "data", maintenance=False) as database:
        docs = database.create_collection("docs", SCHEMA)
        docs.upsert(ids=[1, 2, 3], vectors={"v": [VECTOR] * 3}, attributes={"body": ["a b", "b", "c"], "isbn": ["a", "b", "c"]})
        server, port = start(database, port=0, snapshot_dir=str(folder / "snapshots"))
        with Client(f"127.0.0.1:{port}", timeout=300) as client:
            yield database, client
        server.stop(0).wait()


def refusals(pair, call) -> str:
    """The text of the error that both raise."""
    errors = []
    for one in pair:
        with pytest.raises(VectorDBError) as caught:
            call(one)
        errors.append((type(caught.value), caught.value.message, caught.value.field))
    assert errors[0] == errors[1]
    return errors[0][1]


def search(**wrong):
    return lambda docs: docs.search({"v": VECTOR}, **wrong)


def update(ids=(1,), **wrong):
    return lambda docs: docs.update(ids=list(ids), **wrong)


TOLD = [
    # if_version
    (lambda docs: docs.upsert([{"id": 1}], if_version=0), "point 1 exists already (version 1)"),
    (lambda docs: docs.upsert([{"id": 1}], if_version=5), "point 1 is at version 1, not at version 5"),
    (lambda docs: docs.upsert([{"id": 99}], if_version=9), "point 99 doesn't exist (expected version 9)"),
    # sets of ids
    (lambda docs: docs.get({1, 2}), "a set has no order; pass a list"),
    (lambda docs: docs.get(frozenset({1})), "a set has no order; pass a list"),
    (lambda docs: docs.upsert(ids={1}), "a set has no order; pass a list"),
    (lambda docs: docs.delete({1, 2}, if_version=[1, 1]), "pass ids as a list, or if_version as a mapping from id"),
    (lambda docs: docs.delete({1, None}), "an id is an unsigned integer, a string or a UUID"),
    # strings without quotes in filters
    (lambda docs: docs.count("isbn = 978-0-1"), "found '-0'; a string needs quotes"),
    (lambda docs: docs.count("isbn IN (978-0-1)"), "found '-0'; a string needs quotes"),
    (lambda docs: docs.count("isbn = 978 0"), "found '0'; a string needs quotes"),
    (lambda docs: docs.count("year BETWEEN 2020-01-01 AND 3"), "found '-01'; a string needs quotes"),
    (lambda docs: docs.count("isbn = 978/0"), "there is no arithmetic, and a string needs quotes"),
    (lambda docs: docs.count("isbn = 9:5"), "a string in quotes"),
    # operators of other languages in JSON
    (lambda docs: docs.count({"op": "gte", "field": "year", "value": 1}), "unknown filter op 'gte'; write 'ge'"),
    (lambda docs: docs.count({"op": "$lte", "field": "year", "value": 1}), "unknown filter op '$lte'; write 'le'"),
    (lambda docs: docs.count({"op": "LTE", "field": "year", "value": 1}), "unknown filter op 'LTE'; write 'le'"),
    (lambda docs: docs.count({"op": "$in", "field": "year", "values": [1]}), "unknown filter op '$in'; write 'in'"),
    (lambda docs: docs.count({"year": {"$gte": 3}}), '{"op": "ge", "field": "year", "value": 3}'),
    (lambda docs: docs.count(F("year")), "write a comparison, such as F('year') == True"),
    (lambda docs: docs.count([F("year") > 1]), "combine several filters with & or |"),
    # several queries where one is wanted, and the other way round
    (lambda docs: docs.search(text=["a", "b"]), "for several queries write search_batch"),
    (lambda docs: docs.search(text={"b": ["a", "b"]}), "for several queries write search_batch"),
    (lambda docs: docs.search({"v": [VECTOR, VECTOR]}), "for several queries write search_batch"),
    (lambda docs: docs.search({"m": [[VECTOR], [VECTOR]]}), "for several queries write search_batch"),
    (lambda docs: docs.search({"s": [{1: 1.0}, {2: 1.0}]}), "for several queries write search_batch"),
    (lambda docs: docs.search_batch(text="a"), "for one query write search"),
    # one value where a column is wanted
    (update(attributes={"isbn": "x"}), "write {'isbn': ['x']}"),
    (update((1, 2), attributes={"isbn": "x"}), "write {'isbn': ['x', …]}"),
    (update(attributes={"year": 3}), "write {'year': [3]}"),
    (update(attributes={"tags": ["a", "b"]}), "write {'tags': [['a', 'b']]}"),
    (lambda docs: docs.bulk(ids=[1], attributes={"isbn": "x"}), "write {'isbn': ['x']}"),
    (update(payload={"a": 1}), "write payload=[{'a': 1}]"),
    (update(vectors={"v": VECTOR}), "write {'v': [vector]}"),
    (update(vectors={"s": {1: 0.5}}), "write {'s': [{1: 0.5}]}"),
    (update(vectors={"m": [VECTOR, VECTOR]}), "write {'m': [matrix]}"),
    (lambda docs: docs.update(ids=1, attributes={"isbn": ["x"]}), "not 1; write [1]"),
    # what is no id
    (lambda docs: None in docs, "id is null (None); an id is an unsigned integer, a string or a UUID"),
    (lambda docs: [1] in docs, "id [1] is a list; an id is an unsigned integer, a string or a UUID"),
    (lambda docs: 1.5 in docs, "id 1.5 is a float; an id is an unsigned integer, a string or a UUID"),
]


@pytest.mark.parametrize(("call", "text"), TOLD)
def test_an_error_says_what_to_write(databases, call, text):
    assert text in refusals([one.collection("docs") for one in databases], call)


SAME = [
    *[search(limit=wrong) for wrong in (0, -1, "x", None, 1.5, True, 10**30, 100_001)],
    *[search(candidates=wrong) for wrong in (0, "x", 1.5, True, 10**30)],
    *[search(prefetch=Prefetch({"v": VECTOR}, limit=wrong)) for wrong in (0, "x", 10**30)],
    *[search(prefetch=Prefetch({"v": VECTOR}, candidates=wrong)) for wrong in (0, "x", 10**30)],
    *[search(prefetch=wrong) for wrong in (5, {"v": VECTOR}, Prefetch())],
    *[search(recall=wrong) for wrong in (0, 2, "x")],
    *[search(exact=wrong) for wrong in (1, "x", None)],
    search(explain=1),
    *[search(fusion=wrong) for wrong in ("nope", 5, RRF, RRF(k=0), RRF(k=2e6), RRF(missing="x"), Linear({"v": -1}), Linear({"x": 1}))],
    *[search(with_attributes=wrong) for wrong in ("isbn", ["nope"], [3], 5, None)],
    *[search(with_vectors=wrong) for wrong in ("v", ["nope"], [3], ["v", 3], None)],
    *[search(filter=wrong) for wrong in ("nope = 1", "isbn = ", {"op": "eq"}, {"op": "foo"}, object, 5, "isbn = 3")],
    lambda docs: docs.search(),
    lambda docs: docs.search([1, 2]),
    lambda docs: docs.search({"nope": VECTOR}),
    lambda docs: docs.search({"v": "a"}),
    *[lambda docs, wrong=wrong: docs.search(text=wrong) for wrong in (5, "\ud800", {"v": "a"}, {"nope": "a"})],
    lambda docs: docs.search({"b": {1: 1.0}}, text={"b": "a"}),
    lambda docs: docs.search_batch(text=["a", 3]),
    lambda docs: docs.search_batch({"v": [VECTOR, VECTOR]}, text=["a"]),
    lambda docs: docs.search_batch({"v": [VECTOR, VECTOR]}, prefetch=Prefetch(text=["a"])),
    lambda docs: docs.search_batch({"v": [VECTOR]}, prefetch=Prefetch({"v": [VECTOR, VECTOR]}, text=["a"])),
    *[lambda docs, wrong=wrong: docs.optimize(timeout=wrong) for wrong in ("x", -1, True, 10**400)],
    lambda docs: docs.optimize(wait=3),
    lambda docs: docs.purge(timeout="x"),
    *[lambda docs, wrong=wrong: docs.scroll(limit=wrong) for wrong in ("x", 0, None, 1.5, 10**9)],
    *[lambda docs, wrong=wrong: docs.scroll(cursor=wrong) for wrong in (5, "zz", "\ud800", "é")],
    *[lambda docs, wrong=wrong: docs.upsert([{"id": 1}], durability=wrong) for wrong in (5, "nope")],
    lambda docs: docs.set_terms("s", {"a": "x"}),
    lambda docs: docs.set_terms("v", {1: "x"}),
    lambda docs: docs.terms("s", limit=0),
    lambda docs: docs.terms("nope"),
    lambda docs: docs.add_fields(vectors=5),
    lambda docs: docs.add_fields(attributes={"isbn": Int()}),
    lambda docs: docs.add_fields(exist_ok=3),
    lambda docs: docs.delete(),
    lambda docs: docs.delete([1], filter="ALL"),
    lambda docs: docs.delete(filter="ALL", if_version=1),
    *[lambda docs, wrong=wrong: docs.get(wrong) for wrong in (None, [None], [1.5])],
    *[lambda docs, wrong=wrong: list(docs.changes(wrong)) for wrong in ("x", -1, 10**9)],
    lambda docs: docs.tune_fusion([1], []),
    lambda docs: docs.tune_fusion({"v": [VECTOR]}, [{}], limit="x"),
    lambda docs: Point(1) in docs,
]


@pytest.mark.parametrize("call", SAME)
def test_a_wrong_argument_of_a_collection_gives_one_text(databases, call):
    assert refusals([one.collection("docs") for one in databases], call)


@pytest.mark.parametrize(
    "call",
    [
        *[lambda db, wrong=wrong: db.collection(wrong) for wrong in (5, "", "nope", "a b", "\ud800")],
        *[lambda db, wrong=wrong: db.drop_collection(wrong) for wrong in (5, "", "nope", "a b")],
        *[lambda db, wrong=wrong: db.create_collection(wrong, SCHEMA) for wrong in (5, "a b", "docs")],
        lambda db: db.create_collection("x", 5),
        lambda db: db.create_collection("x", SCHEMA, exist_ok=3),
        lambda db: db.create_collection("docs", Schema({}), exist_ok=True),
        lambda db: db.purge("x"),
        lambda db: db.snapshot("a", archive=3),
    ],
)
def test_a_wrong_argument_of_a_database_gives_one_text(databases, call):
    assert refusals(databases, call)
    assert databases[0].collections() == ["docs"]


def test_a_deletion_takes_sets(databases):
    for one in databases:
        docs = one.create_collection("sets", Schema({"v": Dense(2)}))
        docs.upsert(ids=list(range(6)))
        assert docs.delete({0, 1}).count == 2 and docs.delete(frozenset({2, 99})).count == 1
        assert docs.delete(set()).count == 0
        with pytest.raises(vectordb.PreconditionError, match="point 3 is at version 1, not at version 7"):
            docs.delete({3}, if_version=7)
        assert docs.delete({3, 4}, if_version={3: 1, 4: 1}).count == 2
        assert [point.id for point in docs] == [5]
        one.drop_collection("sets")


def test_what_cannot_be_an_id_is_an_error_though_no_point_has_it(databases):
    docs = databases[0].collection("docs")
    assert 1 in docs and 99 not in docs and "1" not in docs
    with pytest.raises(InvalidArgumentError, match="id is null"):
        assert None in docs
