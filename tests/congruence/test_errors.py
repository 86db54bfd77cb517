"""The same wrong input gives the same error in each place: one class, text, field and value; and the text says what to write instead."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.congruence.filled import BOOKS
from vectordb import (
    DBSF,
    RRF,
    Dense,
    F,
    FilterError,
    Int,
    InvalidArgumentError,
    LimitError,
    Linear,
    NotFoundError,
    Point,
    Prefetch,
    Relative,
    Schema,
    SchemaError,
    VectorDBError,
)

VECTOR = [1.0, 2.0]
OPERATORS = ["embedded", "served"]  # with an AsyncClient, what has to wait is no operator


def refused(same, call, collection="books", places=None) -> VectorDBError:
    """The error that the call raises in each place."""
    with pytest.raises(VectorDBError) as caught:
        same(call, collection, **({} if places is None else {"places": places}))
    return caught.value


def search(**wrong):
    return lambda docs: docs.search({"v": VECTOR}, **wrong)


def update(ids=(1,), **wrong):
    return lambda docs: docs.update(ids=list(ids), **wrong)


# Filters where an id is wanted.
FILTERS = [
    "year > 3",
    "year>=3",
    "isbn = 'a'",
    "isbn = 'a' AND year < 3",
    "(year != 3)",
    "NOT year = 3",
    "isbn IN ('a')",
    "year NOT IN (3, 4)",
    "year BETWEEN 1 AND 3",
    "year IS NULL",
    "body MATCH 'a'",
    "isbn GLOB 'a*'",
]

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
    (update((1, 2), vectors={"v": VECTOR}), "must have shape (2, 2), not (2,); write a list of 2 vectors"),
    (update(vectors={"m": [VECTOR]}), "not (2,); write [[1.0, 2.0]], a list of vectors"),
    (lambda docs: docs.search({"m": VECTOR}), "not (rows, 2); write [[1.0, 2.0]], a list of vectors"),
    # numbers that are none, as they were written
    (update(vectors={"v": [[1e39, 0]]}), "vector 'v' of point 1 holds 1e+39 at position 0, which is too large for float32"),
    (update(vectors={"v": [[10**400, 0]]}), "must be numbers"),
    (update(vectors={"v": [[0, None]]}), "holds None at position 1; give all of a vector's numbers, or no vector for that point"),
    (update(vectors={"v": [[0, float("inf")]]}), "holds inf at position 1; numbers must be finite"),
    (update(vectors={"m": [[VECTOR, [0, -1e39]]]}), "holds -1e+39 at position 1, which is too large for float32"),
    (update(vectors={"v": [["a", "b"]]}), "vector 'v' must be numbers, not the text 'a'"),
    (update(vectors={"v": [[1]]}), "has 1 dimension, not 2"),
    (lambda docs: docs.search({"v": [1e39, 0]}), "query vector 'v' holds 1e+39 at position 0, which is too large for float32"),
    (lambda docs: docs.search({"v": [[1e39, 0]]}), "holds 1e+39 at position 0, which is too large for float32"),
    (lambda docs: docs.search({"v": [0, None]}), "query vector 'v' holds None at position 1"),
    (lambda docs: docs.search({"m": [VECTOR, [0, 1e39]]}), "holds 1e+39 at position 1"),
    # filters
    (lambda docs: docs.count(""), "the filter is empty; leave filter out, or write ALL for all points"),
    (lambda docs: docs.search({"v": VECTOR}, filter=" "), "the filter is empty; leave filter out"),
    (lambda docs: docs.count("id = 1"), "write HAS_ID(1) (F.has_id)"),
    (lambda docs: docs.count(F.has_id(1)), "'id' needs a list of values, not 1; write [1]"),
    (lambda docs: docs.count(F("year").isin(1)), "'year' needs a list of values, not 1; write [1]"),
    *[(lambda docs, wrong=wrong: docs.delete(wrong), f"write delete(filter={wrong!r})") for wrong in FILTERS],
    # fields
    (lambda docs: docs.search(text={"body": "a"}), "('body' is an attribute, which 'b' reads; write 'b')"),
    (lambda docs: docs.search(text={"year": "a"}), "('year' is an attribute)"),
    (lambda docs: docs.add_fields(vectors={"v": Dense(4)}), "field 'v' exists already, as Dense(dim=2), not Dense(dim=4)"),
    (lambda docs: docs.upsert(documents=["a"]), "write attributes={field: texts}"),
    # what is no id
    (lambda docs: docs.get(1.5), "id 1.5 is a float; an id is an unsigned integer, a string or a UUID"),
    (lambda docs: docs.delete(F("n") == 1), "is a filter, not ids; write delete"),
    (lambda docs: docs.delete(1.5), "id 1.5 is a float; an id is an unsigned integer, a string or a UUID"),
]


@pytest.mark.parametrize(("call", "text"), TOLD)
def test_an_error_says_what_to_write(same, call, text):
    assert text in refused(same, call).message


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda docs: None in docs, "id is null (None); an id is an unsigned integer, a string or a UUID"),
        (lambda docs: [1] in docs, "id [1] is a list; an id is an unsigned integer, a string or a UUID"),
        (lambda docs: 1.5 in docs, "id 1.5 is a float; an id is an unsigned integer, a string or a UUID"),
    ],
)
def test_what_is_no_id_is_an_error_though_no_point_has_it(same, call, text):
    assert text in refused(same, call, places=OPERATORS).message


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
    *[search(filter=wrong) for wrong in ("id = 1", "isbn = ", {"op": "eq"}, {"op": "foo"}, object, 5, "isbn = 3")],
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
]


@pytest.mark.parametrize("call", SAME)
def test_a_wrong_argument_of_a_collection_gives_one_error(same, call):
    assert refused(same, call).message


@pytest.mark.parametrize(
    "call",
    [
        *[lambda db, wrong=wrong: db.collection(wrong) for wrong in (5, "", "nope", "a b", "\ud800")],
        *[lambda db, wrong=wrong: db.drop_collection(wrong) for wrong in (5, "", "nope", "a b")],
        *[lambda db, wrong=wrong: db.create_collection(wrong, BOOKS) for wrong in (5, "a b", "docs")],
        lambda db: db.create_collection("x", 5),
        lambda db: db.create_collection("x", BOOKS, exist_ok=3),
        lambda db: db.create_collection("docs", Schema({}), exist_ok=True),
        lambda db: db.purge("x"),
        lambda db: db.snapshot("a", archive=3),
        lambda db: db.create_collection("q"),
        lambda db: db.create_collection(),
        lambda db: db.collection(),
        lambda db: db.collection(nam="docs"),
        lambda db: db.drop_collection(),
        lambda db: db.snapshot(),
    ],
)
def test_a_wrong_argument_of_a_database_gives_one_error(same, call):
    assert refused(same, call, None).message


@pytest.mark.parametrize("call", [lambda db: db[1], lambda db: db["nope"], lambda db: Point(1) in db["docs"]])
def test_a_wrong_operand_gives_one_error(same, call):
    assert refused(same, call, None, OPERATORS).message


def nested(n):
    """n stages."""
    return Prefetch({"d": np.ones(8)}, prefetch=nested(n - 1) if n > 1 else None)


MISTAKES = [
    (lambda c: c.upsert(ids=[1], vectors={"d": [[1, 2]]}), InvalidArgumentError),
    (lambda c: c.upsert(ids=[1, 1]), InvalidArgumentError),
    (lambda c: c.upsert(ids=[1], attributes={"nope": [1]}), SchemaError),
    (lambda c: c.upsert(ids=[1], durability="never"), InvalidArgumentError),
    (lambda c: c.upsert([{"id": 1, "colour": 2}]), InvalidArgumentError),
    (lambda c: c.upsert(ids=["k" * 500]), LimitError),
    (lambda c: c.update(ids=[10**6], attributes={"n": [1]}), NotFoundError),
    (lambda c: c.delete(), InvalidArgumentError),
    (lambda c: c.delete([1], filter="n = 1"), InvalidArgumentError),
    (lambda c: c.delete(filter="n = 1", if_version=3), InvalidArgumentError),
    (lambda c: c.delete([1, 1]), InvalidArgumentError),
    (lambda c: c.get([-1]), InvalidArgumentError),
    (lambda c: c.get(0, with_vectors=["nope"]), InvalidArgumentError),
    (lambda c: c.get(0, with_vectors="d"), InvalidArgumentError),
    (lambda c: c.search(), InvalidArgumentError),
    (lambda c: c.search({"nope": [1]}), SchemaError),
    (lambda c: c.search({"d": [1]}), InvalidArgumentError),
    (lambda c: c.search([1]), InvalidArgumentError),
    (lambda c: c.search({"d": [0] * 8}), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, limit=0), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, limit=10**9), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, recall=0), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, recall=1.5), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, recall=float("nan")), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, recall=True), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, recall="high"), InvalidArgumentError),
    (lambda c: c.search_batch({"d": np.ones((2, 8))}, recall=10**400), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, exact=1), InvalidArgumentError),
    (lambda c: c.optimize(wait=1), InvalidArgumentError),
    (lambda c: c.optimize(timeout=-1), InvalidArgumentError),
    (lambda c: c.optimize(timeout="soon"), InvalidArgumentError),
    (lambda c: c.optimize(timeout=True), InvalidArgumentError),
    (lambda c: c.optimize(timeout=float("nan")), InvalidArgumentError),
    (lambda c: c.optimize(timeout=float("inf")), InvalidArgumentError),
    (lambda c: c.optimize(timeout=10**400), InvalidArgumentError),
    (lambda c: c.optimize(wait=False, timeout=float("inf")), InvalidArgumentError),
    (lambda c: c.optimize(wait=None), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, fusion=Linear({"d": -1})), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, prefetch={"d": [1] * 8}), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, prefetch=Prefetch()), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, prefetch=Prefetch({"d": [1] * 8}, limit=0)), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, prefetch=Prefetch({"d": [1] * 8}, limit="x")), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, prefetch=Prefetch({"d": [1] * 8}, candidates=-1)), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, prefetch=nested(9)), InvalidArgumentError),
    (lambda c: c.search_batch({"d": np.ones((2, 8))}, prefetch=Prefetch({"d": np.ones((3, 8))})), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, fusion="best"), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, candidates=0), InvalidArgumentError),
    (lambda c: c.search({"d": [1] * 8}, filter="n >"), FilterError),
    (lambda c: c.search({"d": [1] * 8}, filter="id = 1"), FilterError),
    (lambda c: c.search({"d": [1] * 8}, filter={"op": "?"}), FilterError),
    (lambda c: c.search({"d": [1] * 8}, filter=7), FilterError),
    (lambda c: c.search(text={"d": "hello"}), InvalidArgumentError),
    (lambda c: c.search_batch({"d": np.ones((2, 8)), "s": [{1: 1.0}]}), InvalidArgumentError),
    (lambda c: c.search_batch(text="one"), InvalidArgumentError),
    (lambda c: c.count("n = 'x'"), FilterError),
    (lambda c: c.scroll(cursor="nonsense"), InvalidArgumentError),
    (lambda c: c.scroll(limit=0), InvalidArgumentError),
    (lambda c: c.add_fields(attributes={"n": Int()}), SchemaError),
]


def test_a_text_needs_a_field_with_an_encoder(same):
    assert type(refused(same, lambda docs: docs.search(text="hello"), "every")) is InvalidArgumentError


@pytest.mark.parametrize(("call", "cls"), MISTAKES)
def test_a_mistake_raises_an_error_of_its_class(same, call, cls):
    assert type(refused(same, call, "docs")) is cls


@pytest.mark.parametrize(
    ("fusion", "text"),
    [
        (RRF(k=0), "k of RRF must be a number above 0 and at most 1e+06, not 0"),
        (RRF(k=-1.5), "above 0"),
        (RRF(k=math.inf), "at most 1e+06"),
        (RRF(k="60"), "k of RRF must be a number"),
        (Relative({"v": -1}), "weight of 'v' in a fusion must be a number from 0 to 1e+06, not -1"),
        (DBSF({"v": math.nan}), "from 0 to 1e+06, not nan"),
        (Linear({"v": 10**400}), "from 0 to 1e+06"),
        (Linear({"v": True}), "must be a number"),
        (Linear({"v": "2"}), "must be a number"),
        (Linear({"v": 1e10}), "from 0 to 1e+06"),
        (Linear({"nope": 1}), "'nope', which is not a field of this search; its fields are: v, s"),
        (Linear([1, 2]), "the weights of a fusion must map fields to numbers"),
        (Linear(missing="skip"), "missing of a fusion must be 'zero' or 'renormalise', not 'skip'"),
        (Linear(missing=None), "'zero' or 'renormalise'"),
        (RRF, "fusion must be RRF() or 'rrf'"),
        ("RRF", "fusion must be RRF() or 'rrf'"),
        (DBSF, "fusion must be DBSF() or 'dbsf'"),
        ("borda", "'rrf', 'relative', 'dbsf', 'linear'"),
        ({"rrf": 60}, "RRF(…)"),
        (None, "RRF(…)"),
        (60, "RRF(…)"),
    ],
)
def test_what_is_no_fusion_says_what_to_write(same, fusion, text):
    vectors = {"v": [1, 0], "s": {1: 1.0}}
    error = refused(same, lambda docs: docs.search(vectors, fusion=fusion))
    assert type(error) is InvalidArgumentError and text in error.message
    error = refused(same, lambda docs: docs.search({"v": [1, 0]}, prefetch=Prefetch(vectors, fusion=fusion)))
    assert type(error) is InvalidArgumentError and text in error.message
