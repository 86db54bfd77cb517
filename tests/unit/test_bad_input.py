"""Bad input is refused with a typed error that names the field and the value, and nothing of it is written."""

from __future__ import annotations

import base64
import uuid
from datetime import datetime

import numpy as np
import pytest
import scipy.sparse
from vectordb_client import UNSET

import vectordb
from vectordb import (
    HNSW,
    RRF,
    Bool,
    Datetime,
    Dense,
    F,
    FilterError,
    Float,
    Geo,
    ImpactIndex,
    Int,
    InvalidArgumentError,
    Keyword,
    LimitError,
    Linear,
    MultiVector,
    NotFoundError,
    Prefetch,
    Schema,
    SchemaError,
    Sparse,
    StorageError,
    Text,
    Uuid,
    VectorDBError,
)

SCHEMA = Schema(
    {"v": Dense(3), "l": Dense(2, "l2", "float16"), "s": Sparse(), "m": MultiVector(2)},
    {
        "k": Keyword(),
        "n": Int(),
        "x": Float(),
        "ok": Bool(),
        "at": Datetime(),
        "t": Text(),
        "u": Uuid(),
        "g": Geo(),
        "ks": Keyword(array=True),
    },
)
NAN, INF = float("nan"), float("inf")


class Unreadable:
    def __repr__(self):
        return "<unreadable>"


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    with vectordb.open(tmp_path_factory.mktemp("bad"), durability="batched") as database:
        collection = database.create_collection("c", SCHEMA)
        collection.upsert(
            ids=[1, 2],
            vectors={"v": np.eye(3)[:2], "s": [{1: 1.0}, {2: 1.0}]},
            attributes={"k": ["a", "b"], "n": [1, 2]},
            payload=[None, 1],
        )
        yield collection


@pytest.fixture(autouse=True)
def unchanged(collection):
    """Nothing is half-written: the same sequence, the same points, the same terms."""

    def state():
        with collection._directory.env.read() as txn:
            entries = [(bytes(key), bytes(value)) for key, value in txn.cursor()]
        return collection.info(), entries

    before = state()
    yield
    assert state() == before


def refuse(error, call, field, value=...):
    with pytest.raises(error) as caught:
        call()
    assert isinstance(caught.value, VectorDBError)
    assert caught.value.field == field, (caught.value.field, str(caught.value))
    if value is not ...:
        assert caught.value.value == value or (caught.value.value != caught.value.value and value != value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


IDS = {
    "a float": (1.5, InvalidArgumentError),
    "a bool": (True, InvalidArgumentError),
    "none": (None, InvalidArgumentError),
    "bytes": (b"x", InvalidArgumentError),
    "negative": (-1, InvalidArgumentError),
    "too large": (2**64, InvalidArgumentError),
    "empty": ("", InvalidArgumentError),
    "too long": ("é" * 241, LimitError),
    "a lone surrogate": ("\ud800", InvalidArgumentError),
    "a tuple": ((1,), InvalidArgumentError),
    "unreadable": (Unreadable(), InvalidArgumentError),
}


@pytest.mark.parametrize("name", IDS)
def test_ids(collection, name):
    value, error = IDS[name]
    for call in (
        lambda: collection.upsert(ids=[7, value], attributes={"k": ["new", "new"]}),
        lambda: collection.upsert([{"id": 7}, {"id": value}]),
        lambda: collection.update(ids=[1, value]),
        lambda: collection.delete([1, value]),
        lambda: collection.get([1, value]),
    ):
        refuse(error, call, "id", value)
    refuse(FilterError, lambda: collection.count(F.has_id([1, value])), "id")


def test_batches_of_ids(collection):
    for ids in ([1, 1], ["a", "a"], [7, uuid.UUID(int=7), uuid.UUID(int=7)], np.array([3, 3])):
        refuse(InvalidArgumentError, lambda ids=ids: collection.upsert(ids=ids), "ids", ids[-1])
    refuse(InvalidArgumentError, lambda: collection.delete([2, 2]), "ids", 2)
    refuse(LimitError, lambda: collection.upsert(ids=range(100_001)), "ids", 100_001)
    for ids in (5, "abc", np.array([[1]]), None, {7, 8}, {7: 8}):
        refuse(InvalidArgumentError, lambda ids=ids: collection.upsert(ids=ids), "ids")
    refuse(InvalidArgumentError, lambda: collection.delete(), "ids")
    refuse(InvalidArgumentError, lambda: collection.delete([1], filter="n = 1"), "filter")
    refuse(NotFoundError, lambda: collection.update(ids=[1, 99], attributes={"k": ["z", "z"]}), "ids", 99)


VECTORS = {
    "v: a dimension too few": ({"v": np.ones((2, 2))}, InvalidArgumentError, "v"),
    "v: ragged": ({"v": [[1, 2, 3], [1, 2]]}, InvalidArgumentError, "v"),
    "v: a row too few": ({"v": np.ones((1, 3))}, InvalidArgumentError, "v"),
    "v: one vector": ({"v": [1, 2, 3]}, InvalidArgumentError, "v"),
    "v: nan": ({"v": [[1, 2, 3], [1, NAN, 3]]}, InvalidArgumentError, "v"),
    "v: infinite": ({"v": np.array([[1, 2, INF], [1, 2, 3]])}, InvalidArgumentError, "v"),
    "v: does not fit float32": ({"v": [[1, 2, 1e39], [1, 2, 3]]}, InvalidArgumentError, "v"),
    "v: zeros": ({"v": [[1, 2, 3], [0, 0, 0]]}, InvalidArgumentError, "v"),
    "v: zero after the cast": ({"v": [[1, 2, 3], [1e-60, 0, 0]]}, InvalidArgumentError, "v"),
    "v: too short for a cosine": ({"v": [[1, 2, 3], [1e-40, 0, 0]]}, InvalidArgumentError, "v"),
    "v: too long for a cosine": ({"v": [[1, 2, 3], [3e38, 3e38, 3e38]]}, InvalidArgumentError, "v"),
    "v: strings": ({"v": [["a", "b", "c"], [1, 2, 3]]}, InvalidArgumentError, "v"),
    "v: complex": ({"v": np.ones((2, 3), np.complex64)}, InvalidArgumentError, "v"),
    "v: a number": ({"v": 3}, InvalidArgumentError, "v"),
    "v: objects": ({"v": [[Unreadable()] * 3] * 2}, InvalidArgumentError, "v"),
    "l: does not fit float16": ({"l": [[1, 70_000], [1, 2]]}, InvalidArgumentError, "l"),
    "s: nan": ({"s": [{1: 1.0}, {2: NAN}]}, InvalidArgumentError, "s"),
    "s: twice": ({"s": [{1: 1.0}, ([2, 2], [1.0, 1.0])]}, InvalidArgumentError, "s"),
    "s: negative term": ({"s": [{1: 1.0}, {-1: 1.0}]}, InvalidArgumentError, "s"),
    "s: term too large": ({"s": [{1: 1.0}, {2**64: 1.0}]}, InvalidArgumentError, "s"),
    "s: term a string": ({"s": [{1: 1.0}, {"x": 1.0}]}, InvalidArgumentError, "s"),
    "s: lengths": ({"s": [{1: 1.0}, ([1, 2], [1.0])]}, InvalidArgumentError, "s"),
    "s: rows": ({"s": scipy.sparse.eye(3, format="csr")}, InvalidArgumentError, "s"),
    "s: float terms": ({"s": [(np.array([1.5]), np.array([1.0])), {}]}, InvalidArgumentError, "s"),
    "s: too many terms": ({"s": [{}, (np.arange(65_536), np.ones(65_536))]}, LimitError, "s"),
    "s: a number": ({"s": [1, 2]}, InvalidArgumentError, "s"),
    "m: no rows": ({"m": [np.empty((0, 2)), [[1, 2]]]}, InvalidArgumentError, "m"),
    "m: a dimension too many": ({"m": [[[1, 2]], [[1, 2, 3]]]}, InvalidArgumentError, "m"),
    "m: flat": ({"m": [[1, 2], [1, 2]]}, InvalidArgumentError, "m"),
    "m: zeros": ({"m": [[[1, 2]], [[1, 2], [0, 0]]]}, InvalidArgumentError, "m"),
    "m: nan": ({"m": [[[1, 2]], [[NAN, 2]]]}, InvalidArgumentError, "m"),
    "m: a number": ({"m": 5}, InvalidArgumentError, "m"),
    "unknown": ({"w": np.ones((2, 3))}, SchemaError, "vectors"),
    "an attribute": ({"k": np.ones((2, 3))}, SchemaError, "vectors"),
    "not a mapping": ([1, 2], InvalidArgumentError, "vectors"),
}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(collection, name):
    vectors, error, field = VECTORS[name]
    for call in (collection.upsert, collection.update):
        message = refuse(error, lambda call=call: call(ids=[1, 2], vectors=vectors, attributes={"k": ["new1", "new2"]}), field)
        if ": " in name and not name.endswith(("a number", "one vector", "rows", "complex", "strings", "objects")):
            assert repr(field) in message
    if (
        isinstance(vectors, dict)
        and ":" in name
        and isinstance(next(iter(vectors.values())), list)
        and len(next(iter(vectors.values()))) == 2
    ):
        (column,) = vectors.values()
        points = [{"id": 1, "vectors": {field: column[0]}}, {"id": 2, "vectors": {field: column[1]}}]
        refuse(error, lambda: collection.upsert(points), field)


def test_an_error_names_the_point(collection):
    assert "'x'" in refuse(InvalidArgumentError, lambda: collection.upsert(ids=[1, "x"], vectors={"v": [[1, 2, 3], [1, NAN, 3]]}), "v")
    rows = [None, [1, 2, 3], [0, 0, 0]]
    assert "point 7" in refuse(InvalidArgumentError, lambda: collection.upsert(ids=[5, 6, 7], vectors={"v": rows}), "v")


ATTRIBUTES = {
    "k": [
        (1, InvalidArgumentError),
        (b"x", InvalidArgumentError),
        ("\ud800", InvalidArgumentError),
        (["a"], InvalidArgumentError),
    ],
    "n": [(1.0, InvalidArgumentError), (True, InvalidArgumentError), ("1", InvalidArgumentError), (2**63, InvalidArgumentError)],
    "x": [
        (NAN, InvalidArgumentError),
        (INF, InvalidArgumentError),
        ("1", InvalidArgumentError),
        (True, InvalidArgumentError),
        (10**400, InvalidArgumentError),
    ],
    "ok": [(1, InvalidArgumentError), ("true", InvalidArgumentError)],
    "at": [("yesterday", InvalidArgumentError), (5, InvalidArgumentError), (np.datetime64("300000-01-01"), InvalidArgumentError)],
    "t": [(5, InvalidArgumentError), ("\ud800", InvalidArgumentError)],
    "u": [("not a uuid", InvalidArgumentError), (5, InvalidArgumentError), (b"short", InvalidArgumentError)],
    "g": [
        *[(place, InvalidArgumentError) for place in ((91, 0), (0, 181), (1, 2, 3), (NAN, 0), ("a", "b"))],
        *[(place, InvalidArgumentError) for place in ({"lat": 1}, "1,2")],
    ],
    "ks": [
        ("abc", InvalidArgumentError),
        ([1], InvalidArgumentError),
        ([None], InvalidArgumentError),
        (["a"] * 65_536, LimitError),
        ({"a": 1}, InvalidArgumentError),
    ],
}


@pytest.mark.parametrize(("name", "at"), [(name, at) for name, cases in ATTRIBUTES.items() for at in range(len(cases))])
def test_attributes(collection, name, at):
    value, error = ATTRIBUTES[name][at]
    for call in (
        lambda: collection.upsert(
            ids=[1, 8], vectors={"v": np.eye(3)[:2]}, attributes={"t": ["never seen words"] * 2, name: [None, value]}
        ),
        lambda: collection.update(ids=[1, 2], attributes={name: [None, value]}),
        lambda: collection.upsert([{"id": 8, "attributes": {name: value}}]),
    ):
        refuse(error, call, name)


def test_columns_of_attributes_and_payloads(collection):
    for values in ([1], [1, 2, 3], 5, "ab", {"a": 1}, {1, 2}):
        refuse(InvalidArgumentError, lambda values=values: collection.upsert(ids=[1, 2], attributes={"n": values}), "n")
    refuse(SchemaError, lambda: collection.upsert(ids=[1], attributes={"nope": [1]}), "attributes", "nope")
    refuse(SchemaError, lambda: collection.upsert(ids=[1], attributes={"v": [1]}), "attributes", "v")
    refuse(InvalidArgumentError, lambda: collection.upsert(ids=[1], attributes=[1]), "attributes")
    refuse(InvalidArgumentError, lambda: collection.upsert(ids=[1], attributes={"n": [UNSET]}), "n", UNSET)
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    cases = [
        object(),
        {1, 2},
        NAN,
        {"a": INF},
        b"x",
        "\ud800",
        {"\ud800": 1},
        2**64,
        -(2**63) - 1,
        {(1, 2): 3},
        datetime(2024, 1, 1),
        UNSET,
        deep,
    ]
    for value in cases:
        refuse(InvalidArgumentError, lambda value=value: collection.upsert(ids=[1, 8], payload=[None, value]), "payload")
    for payload in ([1], "ab", {"a": 1}, 5, {1, 2}):
        refuse(InvalidArgumentError, lambda payload=payload: collection.upsert(ids=[1, 2], payload=payload), "payload")


def test_points(collection):
    for points in (5, "abc", {"id": 1}, [5], [{"vectors": {}}], [{"id": 1, "vector": [1]}], [{"id": 1, "payload": 1, "x": 2}], [None]):
        refuse(InvalidArgumentError, lambda points=points: collection.upsert(points), "points")
    refuse(InvalidArgumentError, lambda: collection.upsert([{"id": 1}], ids=[1]), "points")
    refuse(InvalidArgumentError, lambda: collection.upsert([{"id": 1, "vectors": [1]}]), "vectors")
    refuse(InvalidArgumentError, lambda: collection.upsert([{"id": 1, "attributes": 5}]), "attributes")


def test_conditions(collection):
    for version in (-1, "1", 1.5, True, [1, 2, 3], ["a", 1], {3: 1}, [-1, 0], 2**63):
        refuse(InvalidArgumentError, lambda version=version: collection.upsert(ids=[1, 2], if_version=version), "if_version")
    refuse(InvalidArgumentError, lambda: collection.delete(filter="n = 1", if_version=1), "if_version")
    for condition in ("id = 1", "n =", 5, {"op": "what"}):
        for call in (
            lambda c: collection.upsert(ids=[1], if_filter=c),
            lambda c: collection.delete([1], if_filter=c),
            lambda c: collection.delete(filter=c),
        ):
            with pytest.raises(FilterError):
                call(condition)
    for durability in ("fast", 1, True):
        for call in (lambda d: collection.upsert(ids=[9], durability=d), lambda d: collection.delete([1], durability=d)):
            refuse(InvalidArgumentError, lambda call=call, durability=durability: call(durability), "durability", durability)


GOOD = {"v": [1.0, 2.0, 3.0]}


def nested(n):
    """n stages."""
    return Prefetch(GOOD, prefetch=nested(n - 1)) if n > 1 else Prefetch(GOOD)


SEARCHES = {
    "nothing": ({}, InvalidArgumentError, "vectors"),
    "not a mapping": ({"vectors": [1, 2, 3]}, InvalidArgumentError, "vectors"),
    "an empty mapping": ({"vectors": {}}, InvalidArgumentError, "vectors"),
    "unknown field": ({"vectors": {"w": [1]}}, SchemaError, "vectors"),
    "dimensions": ({"vectors": {"v": [1, 2]}}, InvalidArgumentError, "v"),
    "nan": ({"vectors": {"v": [1, 2, NAN]}}, InvalidArgumentError, "v"),
    "zeros": ({"vectors": {"v": [0, 0, 0]}}, InvalidArgumentError, "v"),
    "does not fit": ({"vectors": {"v": [1, 2, 1e39]}}, InvalidArgumentError, "v"),
    "none": ({"vectors": {"v": None}}, InvalidArgumentError, "v"),
    "a string": ({"vectors": {"v": "abc"}}, InvalidArgumentError, "v"),
    "sparse nan": ({"vectors": {"s": {1: NAN}}}, InvalidArgumentError, "s"),
    "sparse negative term": ({"vectors": {"s": {-1: 1.0}}}, InvalidArgumentError, "s"),
    "sparse a list": ({"vectors": {"s": [1, 2, 3]}}, InvalidArgumentError, "s"),
    "multi flat": ({"vectors": {"m": [1, 2]}}, InvalidArgumentError, "m"),
    "multi empty": ({"vectors": {"m": np.empty((0, 2))}}, InvalidArgumentError, "m"),
    "multi zero row": ({"vectors": {"m": [[1, 2], [0, 0]]}}, InvalidArgumentError, "m"),
    "text without encoder": ({"text": "hello"}, InvalidArgumentError, "text"),
    "text for a field without encoder": ({"text": {"v": "hello"}}, InvalidArgumentError, "text"),
    "limit zero": ({"vectors": GOOD, "limit": 0}, InvalidArgumentError, "limit"),
    "limit a float": ({"vectors": GOOD, "limit": 1.5}, InvalidArgumentError, "limit"),
    "limit a bool": ({"vectors": GOOD, "limit": True}, InvalidArgumentError, "limit"),
    "limit too large": ({"vectors": GOOD, "limit": 100_001}, InvalidArgumentError, "limit"),
    "candidates": ({"vectors": GOOD, "candidates": 0}, InvalidArgumentError, "candidates"),
    "recall zero": ({"vectors": GOOD, "recall": 0}, InvalidArgumentError, "recall"),
    "recall negative": ({"vectors": GOOD, "recall": -0.5}, InvalidArgumentError, "recall"),
    "recall above one": ({"vectors": GOOD, "recall": 1.0000001}, InvalidArgumentError, "recall"),
    "recall in percent": ({"vectors": GOOD, "recall": 95}, InvalidArgumentError, "recall"),
    "recall nan": ({"vectors": GOOD, "recall": NAN}, InvalidArgumentError, "recall"),
    "recall a bool": ({"vectors": GOOD, "recall": True}, InvalidArgumentError, "recall"),
    "recall a numpy bool": ({"vectors": GOOD, "recall": np.True_}, InvalidArgumentError, "recall"),
    "recall a string": ({"vectors": GOOD, "recall": "high"}, InvalidArgumentError, "recall"),
    "recall a list": ({"vectors": GOOD, "recall": [0.9]}, InvalidArgumentError, "recall"),
    "recall of no float": ({"vectors": GOOD, "recall": 10**400}, InvalidArgumentError, "recall"),
    "recall beside exact": ({"vectors": GOOD, "recall": 2, "exact": True}, InvalidArgumentError, "recall"),
    "exact": ({"vectors": GOOD, "exact": "yes"}, InvalidArgumentError, "exact"),
    "explain": ({"vectors": GOOD, "explain": 1}, InvalidArgumentError, "explain"),
    "fusion": ({"vectors": GOOD, "fusion": "best"}, InvalidArgumentError, "fusion"),
    "fusion a class": ({"vectors": GOOD, "fusion": RRF}, InvalidArgumentError, "fusion"),
    "fusion's k": ({"vectors": GOOD, "fusion": RRF(0)}, InvalidArgumentError, "fusion"),
    "fusion's weight": ({"vectors": GOOD, "fusion": RRF(60, {"v": -1})}, InvalidArgumentError, "fusion"),
    "fusion of another arm": ({"vectors": GOOD, "fusion": RRF(60, {"s": 1})}, InvalidArgumentError, "fusion"),
    "fusion's weights": ({"vectors": GOOD, "fusion": Linear(5)}, InvalidArgumentError, "fusion"),
    "a negative weight": ({"vectors": GOOD, "fusion": Linear({"v": -1e-9})}, InvalidArgumentError, "fusion"),
    "prefetch": ({"vectors": GOOD, "prefetch": GOOD}, InvalidArgumentError, "prefetch"),
    "prefetch a list": ({"vectors": GOOD, "prefetch": [Prefetch(GOOD)]}, InvalidArgumentError, "prefetch"),
    "prefetch of nothing": ({"vectors": GOOD, "prefetch": Prefetch()}, InvalidArgumentError, "vectors"),
    "prefetch alone": ({"prefetch": Prefetch(GOOD)}, InvalidArgumentError, "vectors"),
    "prefetch's field": ({"vectors": GOOD, "prefetch": Prefetch({"nope": [1]})}, SchemaError, "vectors"),
    "prefetch's vector": ({"vectors": GOOD, "prefetch": Prefetch({"v": [1.0]})}, InvalidArgumentError, "v"),
    "prefetch's limit": ({"vectors": GOOD, "prefetch": Prefetch(GOOD, limit=0)}, InvalidArgumentError, "prefetch.limit"),
    "prefetch's candidates": ({"vectors": GOOD, "prefetch": Prefetch(GOOD, candidates=0)}, InvalidArgumentError, "prefetch.candidates"),
    "prefetch's fusion": ({"vectors": GOOD, "prefetch": Prefetch(GOOD, fusion="best")}, InvalidArgumentError, "fusion"),
    "prefetch's text": ({"vectors": GOOD, "prefetch": Prefetch(text="hello")}, InvalidArgumentError, "text"),
    "prefetch of prefetch": ({"vectors": GOOD, "prefetch": Prefetch(GOOD, prefetch=3)}, InvalidArgumentError, "prefetch"),
    "nine prefetches": ({"vectors": GOOD, "prefetch": nested(9)}, InvalidArgumentError, "prefetch"),
    "attributes asked": ({"vectors": GOOD, "with_attributes": ["nope"]}, InvalidArgumentError, "with_attributes"),
    "attributes as a string": ({"vectors": GOOD, "with_attributes": "k"}, InvalidArgumentError, "with_attributes"),
    "vectors asked": ({"vectors": GOOD, "with_vectors": ["k"]}, InvalidArgumentError, "with_vectors"),
    "vectors as a number": ({"vectors": GOOD, "with_vectors": 1}, InvalidArgumentError, "with_vectors"),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_searches(collection, name):
    arguments, error, field = SEARCHES[name]
    refuse(error, lambda: collection.search(**arguments), field, arguments["recall"] if field == "recall" else ...)
    vectors = arguments.get("vectors")
    if isinstance(vectors, dict) and "text" not in arguments and "prefetch" not in arguments:
        refuse(error, lambda: collection.search_batch(**arguments | {"vectors": {key: [value] for key, value in vectors.items()}}), field)


def test_batches_of_queries(collection):
    for queries in (5, "abc", np.ones(3), np.ones((2, 2)), [[1, 2, 3], [1, 2]]):
        refuse(InvalidArgumentError, lambda queries=queries: collection.search_batch({"v": queries}), "v")
    refuse(InvalidArgumentError, lambda: collection.search_batch({"v": np.ones((2, 3)), "s": [{1: 1.0}]}), "vectors")


def test_reading(collection):
    def cursor(raw):
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    for bad in ("", "!", "é", 5, b"x", cursor(b"\x09x"), cursor(b"\x01short"), cursor(b"\x02\xff"), cursor(b"\x03" + b"x" * 15), "A"):
        refuse(InvalidArgumentError, lambda bad=bad: collection.scroll(cursor=bad), "cursor", bad)
    assert collection.scroll(cursor=cursor(b"\x02" + b"z" * 600)).points == ()  # past every id there can be
    for limit in (0, -1, 1.5, None, 100_001):
        refuse(InvalidArgumentError, lambda limit=limit: collection.scroll(limit=limit), "limit", limit)
        refuse(InvalidArgumentError, lambda limit=limit: next(collection.iterate(page=limit)), "page", limit)
    for ids in (None, 1.5, {1}, Unreadable()):
        with pytest.raises(InvalidArgumentError):
            collection.get(ids)
    refuse(InvalidArgumentError, lambda: collection.get(1, with_vectors=["nope"]), "with_vectors", "nope")


@pytest.mark.parametrize(
    "condition",
    ["id = 1", "n = 'x'", "n", "", "n = 1 AND", "k > 5", "g = 1", "v = 1", "HAS_VECTOR(k)", "n MATCH 'x'", 5, {}, {"op": "eq"}, ["n"]],
)
def test_filters(collection, condition):
    for call in (collection.count, lambda c: collection.scroll(filter=c), lambda c: collection.search(GOOD, filter=c)):
        with pytest.raises(FilterError) as caught:
            call(condition)
        assert len(str(caught.value)) < 600


def test_patterns_that_are_not_text_match_nothing_or_are_refused(collection):
    for ask in (
        lambda: F("k").glob("\ud800*b"),
        lambda: F("k").startswith("\ud800"),
        lambda: F("k") == "\ud800",
        lambda: F("t").match_all("\ud800"),
    ):
        try:
            assert collection.count(ask()) == 0
        except FilterError:
            pass


SCHEMAS = [
    (lambda: Dense(0), "dim"),
    (lambda: Dense(65_537), "dim"),
    (lambda: Dense(True), "dim"),
    (lambda: Dense(3, "euclid"), "metric"),
    (lambda: Dense(3, dtype="int8"), "dtype"),
    (lambda: Dense(3, source="k"), "source"),
    (lambda: Dense(3, index=HNSW), "index"),
    (lambda: Dense(3, index="faiss"), "index"),
    (lambda: Dense(3, index=False), "index"),
    (lambda: Dense(3, index={"degree": 8}), "index"),
    (lambda: HNSW("annoy"), "graph_builder"),
    (lambda: HNSW(None), "graph_builder"),
    (lambda: HNSW(["faiss"]), "graph_builder"),
    (lambda: HNSW(degree=3), "degree"),
    (lambda: HNSW(degree=65), "degree"),
    (lambda: HNSW(degree=16.0), "degree"),
    (lambda: HNSW(degree=True), "degree"),
    (lambda: HNSW(ef_construction=15), "ef_construction"),
    (lambda: HNSW(degree=64, ef_construction=63), "ef_construction"),
    (lambda: HNSW(ef_construction=2001), "ef_construction"),
    (lambda: HNSW(ef_construction="80"), "ef_construction"),
    (lambda: MultiVector(3, "l2"), "metric"),
    (lambda: MultiVector(3, aggregation="mean"), "aggregation"),
    (lambda: Sparse("bm25"), "weighting"),
    (lambda: Int(array=1), "array"),
    (lambda: Schema({"v": Dense}), "v"),
    (lambda: Schema({"v": Int()}), "v"),
    (lambda: Schema({"1v": Dense(3)}), "vector field"),
    (lambda: Schema({"v": Dense(3)}, {"v": Int()}), "v"),
    (lambda: Schema({}, {"x" * 256: Int()}), "attribute"),
    (lambda: Schema([]), "vector field"),
    (lambda: Schema({}, {f"a{i}": Int() for i in range(4097)}), "schema"),
    (lambda: Schema({"v": Dense(3, encoder="e", source="nope")}), "v"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "dens"}}}), "v"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "dense", "dimension": 3}}}), "v"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "dense", "dim": 3, "index": {"ef": 3}}}}), "v"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "dense", "dim": 3, "index": {5: 3}}}}), "v"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "dense", "dim": 3, "index": {"degree": 1}}}}), "degree"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "dense", "dim": 3, "index": True}}}), "index"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "sparse", "index": {"degree": 8}}}}), "v"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "multi", "dim": 2, "index": {}}}}), "v"),
    (lambda: Sparse(index=HNSW()), "index"),
    (lambda: Sparse(index=ImpactIndex), "index"),
    (lambda: Dense(3, index=ImpactIndex()), "index"),
    (lambda: Sparse(binary=1), "binary"),
    (lambda: ImpactIndex(levels=1), "levels"),
    (lambda: ImpactIndex(levels=65), "levels"),
    (lambda: ImpactIndex(levels=True), "levels"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "dense"}}}), "v"),
    (lambda: Schema.from_dict({"fields": {}}), "schema"),
]


@pytest.mark.parametrize("at", range(len(SCHEMAS)))
def test_schemas(at):
    make, field = SCHEMAS[at]
    refuse(SchemaError, make, field)


def test_collections_and_fields(tmp_path, collection):
    with vectordb.open(tmp_path / "d") as database:
        for name in ("", "1x", "a b", "x" * 65, None, 5, "é", "../x"):
            refuse(SchemaError, lambda name=name: database.create_collection(name, SCHEMA), "collection", name)
        for schema in (None, {}, {"vectors": {}}, Schema()):
            refuse(SchemaError, lambda schema=schema: database.create_collection("c", schema), "schema")
        assert database.collections() == []
    for added in ({"vectors": {"v": Dense(3)}}, {"attributes": {"k": Int()}}, {"attributes": {"v": Int()}}, {"vectors": {"new": Int()}}):
        with pytest.raises(SchemaError):
            collection.add_fields(**added)


def test_opening(tmp_path):
    path = tmp_path / "d"
    for durability in ("fast", None, 1):
        refuse(InvalidArgumentError, lambda durability=durability: vectordb.open(path, durability=durability), "durability", durability)
    for timeout in (0, -1, NAN, INF, "1", True, None):
        refuse(InvalidArgumentError, lambda timeout=timeout: vectordb.open(path, write_timeout=timeout), "write_timeout", timeout)
    assert not path.exists()
    refuse(StorageError, lambda: vectordb.open(path, create=False), "path", str(path))
    assert not path.exists()
    path.mkdir()
    refuse(StorageError, lambda: vectordb.open(path, create=False), "path", str(path))
    assert list(path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    refuse(StorageError, lambda: vectordb.open(tmp_path / "file"), "path")
    refuse(StorageError, lambda: vectordb.open(tmp_path / "file" / "below"), "path")
