"""Points with bad ids, vectors, attributes, payloads or conditions are refused with a typed error that names the field and the value."""

from __future__ import annotations

import uuid
from datetime import datetime

import numpy as np
import pytest
import scipy.sparse
from vectordb_client import UNSET

from tests.support.refusals import INF, NAN, Unreadable, filled, refuse, unchanged
from vectordb import (
    F,
    FilterError,
    InvalidArgumentError,
    LimitError,
    NotFoundError,
    SchemaError,
)


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    with filled(tmp_path_factory.mktemp("bad")) as collection:
        yield collection


@pytest.fixture(autouse=True)
def nothing_written(collection):
    with unchanged(collection):
        yield


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
