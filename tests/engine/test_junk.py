"""Junk in every argument of every public method of a collection gives an answer or a typed error, never one of Python or numpy."""

from __future__ import annotations

import asyncio
import decimal
import fractions
import functools
import inspect
import itertools
import random
import uuid
from array import array
from datetime import UTC, date, datetime, timedelta, tzinfo

import numpy as np
import pytest
from vectordb_client import AsyncClient, Client

import vectordb
from tests.support.nightly import cases
from vectordb import Datetime, Dense, F, Float, Int, InvalidArgumentError, Keyword, MultiVector, Schema, Sparse, Text, Uuid, VectorDBError
from vectordb.server.main import start

SCHEMA = Schema(
    {"v": Dense(3), "s": Sparse(), "m": MultiVector(2)},
    {
        "k": Keyword(),
        "n": Int(),
        "x": Float(),
        "at": Datetime(),
        "t": Text(),
        "u": Uuid(),
        "g": vectordb.Geo(),
        "ok": vectordb.Bool(),
        "ks": Keyword(array=True),
        "xs": Float(array=True),
    },
)


class Raising:
    """Whatever is asked of it fails."""

    def _fail(self, *_, **__):
        raise RuntimeError("not for you")

    __array__ = __len__ = __iter__ = __getitem__ = __float__ = __int__ = __index__ = __repr__ = __eq__ = __lt__ = __contains__ = _fail
    __hash__ = None


class Zone(tzinfo):
    def utcoffset(self, moment):
        raise ZeroDivisionError


class FarZone(tzinfo):
    def utcoffset(self, moment):
        return timedelta(hours=23, minutes=59)


def recursive():
    itself: list = []
    itself.append(itself)
    return itself


def deep():
    nested: list = []
    for _ in range(5_000):
        nested = [nested]
    return nested


ENDLESS = range(10**30)
JUNK = [
    None,
    True,
    0,
    -1,
    2**63,
    2**64,
    10**400,
    10**5_000,
    1.5,
    -0.0,
    float("nan"),
    float("inf"),
    1 + 2j,
    "",
    "x",
    "\ud800",
    "a\0b",
    "x" * 100_000,
    b"bytes",
    bytearray(b"x"),
    memoryview(b"abc"),
    memoryview(np.ones((2, 3))),
    array("d", [1, 2, 3]),
    [],
    (),
    {},
    set(),
    {1, 2},
    [None],
    [1, [2, [3]]],
    [[1.0, 2.0], [1.0]],
    recursive(),
    deep(),
    {1: 2},
    {None: None},
    {"v": None},
    {"v": Raising()},
    {"k": [Raising()]},
    {(1, 2): 3.0},
    object(),
    Raising(),
    [Raising()],
    int,
    len,
    ...,
    decimal.Decimal("1.5"),
    decimal.Decimal("sNaN"),
    fractions.Fraction(1, 3),
    datetime(2020, 1, 1, tzinfo=Zone()),
    datetime.min.replace(tzinfo=FarZone()),
    datetime.max.replace(tzinfo=UTC),
    date(2020, 1, 1),
    timedelta(1),
    uuid.UUID(int=1),
    range(3),
    ENDLESS,
    F("n"),
    F("n") > 1,
    slice(1),
    np.ma.masked,
    np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]),
    np.array(["a"], dtype=object),
    np.array([object()], dtype=object),
    np.array(3.0),
    np.zeros((0, 3)),
    np.array([(1, 2.0)], dtype=[("id", "i8"), ("x", "f8")]),
    np.datetime64("NaT"),
    np.datetime64("3000000-01-01"),
    np.timedelta64(1, "s"),
    *(np.ones(3, dtype)[0] for dtype in "?bBhHiIlLqQefdgFDSU"),
    *(np.ones((2, 3), dtype) for dtype in "?bBdgFO"),
    np.array([b"x", b"y"]),
    np.void(b"x"),
]
METHODS = {
    "upsert": {"points": [{"id": 1}], "ids": [1], "vectors": {"v": [[1, 2, 3]]}, "attributes": {"n": [1]}, "payload": [1]},
    "bulk": {"points": [{"id": 1}], "ids": [1], "vectors": {"v": [[1, 2, 3]]}, "attributes": {"n": [1]}, "payload": [1]},
    "update": {"points": [{"id": 1}], "ids": [1], "vectors": {"v": [[1, 2, 3]]}, "attributes": {"n": [1]}, "payload": [1]},
    "delete": {"ids": [9]},
    "get": {"ids": [1]},
    "count": {},
    "scroll": {},
    "iterate": {},
    "search": {"vectors": {"v": [1, 2, 3]}},
    "search_batch": {"vectors": {"v": [[1, 2, 3]]}},
    "tune_fusion": {"vectors": {"v": [[1, 2, 3]], "s": [{1: 1.0}]}, "qrels": [{1: 1}]},
    "terms": {"field": "s"},
    "set_terms": {"field": "s", "terms": {1: "word"}},
    "add_fields": {},
    "changes": {"since": 0},
}
ESCAPES = ("follow", "timeout", "progress")  # they wait, or call what they are given


def calls(kind):
    """(method, arguments) with junk in one argument, by itself or inside of what the argument is made of."""
    for method, sound in METHODS.items():
        for name in inspect.signature(getattr(kind, method)).parameters:
            if name in ("self", *ESCAPES):
                continue
            columns = {"points"} if name in ("ids", "vectors", "attributes", "payload") else {"ids", "vectors", "attributes", "payload"}
            base = {key: value for key, value in sound.items() if key not in columns or method not in ("upsert", "bulk", "update")}
            for junk in JUNK:
                if (method, name) != ("bulk", "points") or junk is not ENDLESS:
                    yield method, base | {name: junk}
    for method, junk in itertools.product(("upsert", "update"), JUNK):
        yield method, {"points": [{"id": junk}]}
        yield method, {"points": [{"id": 1, "payload": junk}]}
        yield method, {"points": [{"id": 1, "payload": {"a": [junk]}}]}
        yield method, {"points": [junk]}
        for name in (*SCHEMA.attributes, "other"):
            yield method, {"ids": [1], "attributes": {name: [junk]}}
            yield method, {"ids": [1], "attributes": {name: junk}}
        for name in ("ks", "xs"):
            yield method, {"ids": [1], "attributes": {name: [[junk]]}}
        for name in SCHEMA.vectors:
            for value in (junk, [junk], [[junk]], [[junk, 1.0, 2.0]]):
                yield method, {"ids": [1], "vectors": {name: value}}
        yield method, {"ids": [1], "vectors": {"s": [{3: junk}]}}
        yield method, {"ids": [1], "vectors": {"s": [([1], junk)]}}
        yield method, {"ids": [1], "vectors": {"s": [(junk, [1.0])]}}
        yield method, {"ids": [1], "if_version": [junk]}
    for method, junk in itertools.product(("search", "search_batch"), JUNK):
        for name in SCHEMA.vectors:
            for value in (junk, [junk], [[junk]]):
                yield method, {"vectors": {name: value}}
        yield method, {"vectors": {"v": [1, 2, 3]}, "text": {"v": junk}}
        yield method, {"vectors": {"v": [1, 2, 3]}, "with_attributes": [junk]}
        yield method, {"vectors": {"v": [1, 2, 3]}, "fusion": vectordb.RRF(junk, {"v": junk})}
        yield method, {"vectors": {"v": [1, 2, 3]}, "prefetch": vectordb.Prefetch(junk, limit=junk)}
    for junk in JUNK:
        for name in ("k", "n", "x", "at", "u", "ok", "g", "t", "ks"):
            yield "count", {"filter": {"op": "eq", "field": name, "value": junk}}
            yield "count", {"filter": {"op": "in", "field": name, "values": [junk]}}
            yield "count", {"filter": {"op": "gt", "field": name, "value": junk}}
        yield "count", {"filter": {"op": "has_id", "values": [junk]}}
        yield "count", {"filter": {"op": junk}}
        yield "count", {"filter": {"op": "and", "filters": [junk]}}
        yield "get", {"ids": [junk]}
        yield "delete", {"ids": [junk]}


def described(method, arguments):
    try:
        return f"{method}({arguments!r:.300})"
    except Exception:
        return method


def answered(collection, method, arguments):
    answer = getattr(collection, method)(**arguments)
    # Iterators fail when they are read.
    return list(itertools.islice(answer, 5)) if hasattr(answer, "__next__") else answer


@pytest.fixture
def collection(tmp_path):
    with vectordb.open(tmp_path / "data", durability="batched", maintenance=False) as database:
        collection = database.create_collection("c", SCHEMA)
        collection.upsert(ids=[1, 2], vectors={"v": np.eye(3)[:2], "s": [{1: 1.0}, {2: 1.0}]}, attributes={"n": [1, 2]})
        yield collection


def judge(run, method, arguments):
    try:
        run()
    except VectorDBError as error:
        str(error)
    except Exception as error:
        pytest.fail(f"{described(method, arguments)} raised {type(error).__name__}: {error}")


def test_junk_is_answered_or_refused(collection):
    for method, arguments in calls(vectordb.Collection):
        judge(functools.partial(answered, collection, method, arguments), method, arguments)


def test_junk_is_answered_or_refused_by_a_client(collection, tmp_path):
    """By day an eighth of the calls, drawn at random; by night all."""
    rng, share = random.Random(0), cases(1, 8) / 8
    with vectordb.open(tmp_path / "served", durability="batched", maintenance=False) as database:
        database.create_collection("c", SCHEMA)
        server, port = start(database, port=0)
        try:
            with Client(f"127.0.0.1:{port}") as client:
                remote = client.collection("c")
                for method, arguments in calls(type(remote)):
                    if rng.random() >= share:
                        continue
                    judge(functools.partial(answered, remote, method, arguments), method, arguments)
        finally:
            server.stop(1).wait()


def test_junk_in_builders_and_schemas():
    made = [
        lambda junk: F(junk),
        lambda junk: F("n") == junk,
        lambda junk: F("n").isin(junk),
        lambda junk: F("n").isin([junk]),
        lambda junk: F("n").between(junk, junk),
        lambda junk: F("n").contains_any(junk),
        lambda junk: F("n").match_any(junk),
        lambda junk: F("n").geo_radius(junk, junk, junk),
        lambda junk: F.has_id(junk),
        lambda junk: F("n").count() == junk,
        lambda junk: Dense(junk),
        lambda junk: Dense(3, junk),
        lambda junk: Dense(3, dtype=junk),
        lambda junk: Dense(3, index=junk),
        lambda junk: Dense(3, encoder=junk, source=junk),
        lambda junk: Sparse(junk),
        lambda junk: Sparse(binary=junk),
        lambda junk: Int(junk),
        lambda junk: Schema(junk),
        lambda junk: Schema({}, junk),
        lambda junk: Schema({"v": junk}),
        lambda junk: Schema({}, {"a": junk}),
        lambda junk: Schema.from_dict(junk),
        lambda junk: Schema.from_dict({"vectors": {"v": {"kind": "dense", "dim": junk}}}),
        lambda junk: Schema.from_dict({"attributes": {"v": junk}}),
    ]
    for junk, (at, make) in itertools.product(JUNK, enumerate(made)):
        judge(functools.partial(make, junk), f"builder {at}", {"junk": junk})


def test_an_argument_of_another_name_says_what_it_is_called_here(collection, tmp_path):
    cases = [
        (collection.search, {"k": 3}, "limit="),
        (collection.search, {"top_k": 3}, "limit="),
        (collection.search_batch, {"n_results": 3}, "limit="),
        (collection.search, {"where": "n = 1"}, "filter="),
        (collection.search, {"limitt": 1}, "limit="),
        (collection.upsert, {"metadatas": [{}]}, "attributes="),
        (collection.search, {"nothing_like_it": 1}, "there are: vectors, text, "),
        (collection.count, {"where": "n = 1"}, "filter="),
    ]
    for method, arguments, advice in cases:
        with pytest.raises(InvalidArgumentError, match=advice) as caught:
            method(**arguments)
        assert isinstance(caught.value, TypeError)
    with pytest.raises(InvalidArgumentError, match="limit="):
        vectordb.Collection.search(collection, {"v": [1, 2, 3]}, k=3)

    async def asked():
        async with AsyncClient("127.0.0.1:1") as client:
            from vectordb_client.rpc.aio import AsyncCollection

            assert inspect.iscoroutinefunction(AsyncCollection.search)
            await AsyncCollection(client, None).search({"v": [1, 2, 3]}, top_k=3)

    with pytest.raises(InvalidArgumentError, match="limit="):
        asyncio.run(asked())
