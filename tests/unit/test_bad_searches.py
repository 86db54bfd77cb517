"""Searches, reads and filters that make no sense are refused with a typed error that names the field and the value."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from tests.support.refusals import NAN, Unreadable, filled, refuse, unchanged
from vectordb import (
    RRF,
    F,
    FilterError,
    InvalidArgumentError,
    Linear,
    Prefetch,
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
