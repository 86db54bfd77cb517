"""One database as its users have it: embedded, with a ``Client`` and with an ``AsyncClient``; and whether their answers are equal."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import math
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any, Self

import numpy as np
from vectordb_client import AsyncClient, AsyncCollection, Client

from vectordb import Hits, Plan, PreparedSearch, VectorDBError
from vectordb.server.main import start

TIMEOUT = 300.0  # of every call: no test depends on a fast machine


@contextlib.contextmanager
def serving(database, **settings) -> Iterator[str]:
    """The address of a service over an open database, in this process."""
    server, port = start(database, port=0, **settings)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


class Blocking:
    """An ``AsyncClient`` or one of its collections with the blocking methods of ``Client``; an event loop in a thread runs each call."""

    def __init__(self, awaited: Any, loop: asyncio.AbstractEventLoop):
        self._awaited, self._loop = awaited, loop

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._awaited, name)
        return (lambda *arguments, **named: self._result(member(*arguments, **named))) if callable(member) else member

    def __call__(self, *arguments: Any, **named: Any) -> Any:  # of a prepared search
        return self._result(self._awaited(*arguments, **named))

    def __iter__(self) -> Iterator[Any]:
        return self._result(aiter(self._awaited))

    def _result(self, answer: Any) -> Any:
        if isinstance(answer, AsyncGenerator):
            return self._items(answer)
        answer = self._run(answer)
        return Blocking(answer, self._loop) if isinstance(answer, (AsyncCollection, PreparedSearch)) else answer

    def transaction(self, **named: Any) -> BlockingTransaction:
        return BlockingTransaction(self._awaited.transaction(**named), self)

    def _items(self, answer: AsyncGenerator[Any]) -> Iterator[Any]:
        try:
            while True:
                yield self._run(anext(answer))
        except StopAsyncIteration:
            return
        finally:
            self._run(answer.aclose())

    def _run(self, answer: Any) -> Any:
        async def wait():
            return await answer

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result(TIMEOUT)


class BlockingTransaction:
    """A transaction of an ``AsyncClient`` with the blocking methods of one of ``Client``."""

    def __init__(self, transaction: Any, client: Blocking):
        self._transaction, self._client = transaction, client

    def __enter__(self) -> Self:
        self._client._run(self._transaction.__aenter__())
        return self

    def __exit__(self, *error: Any) -> None:
        self._client._run(self._transaction.__aexit__(*error))

    def __getitem__(self, collection: Any) -> Blocking:
        return Blocking(self._transaction[getattr(collection, "_awaited", collection)], self._client._loop)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)


@contextlib.contextmanager
def asyncio_client(address: str) -> Iterator[Blocking]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    client = Blocking(AsyncClient(address, timeout=TIMEOUT), loop)
    try:
        yield client
    finally:
        client.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def opened(place: str, database, address: str) -> Iterator[Any]:
    """The database, or a client of the service at the address.

    Args:
        place: "embedded", "served" or "asyncio".
    """
    if place == "embedded":
        yield database
    else:
        with Client(address, timeout=TIMEOUT) if place == "served" else asyncio_client(address) as client:
            yield client


def outcome(call: Callable[[Any], Any], place: Any) -> Any:
    """What a call returns, or the error that it raises. Iterators are read to their end."""
    try:
        answer = call(place)
        return list(answer) if isinstance(answer, Iterator) else answer
    except VectorDBError as error:
        return error


def plain(value: Any) -> Any:
    """A value as dicts, lists, tuples and scalars that are equal only if all types and bits are. Times of a plan are left out."""
    return _way(type(value))(value)


@functools.cache
def _way(kind: type) -> Callable[[Any], Any]:
    """What ``plain`` does with values of a type: looked up once, because whole collections are compared by it."""
    ways = {
        VectorDBError: lambda value: (kind.__name__, value.message, value.field, _plain_cause(value.value)),
        np.ndarray: _plain_array,
        float: lambda value: ("float", value.hex()),
        Plan: _plain_plan,
        Hits: _plain_hits,
        Mapping: lambda value: {key if type(key) is str else repr(plain(key)): plain(item) for key, item in value.items()},
    }
    if kind in (str, type(None)):
        return lambda value: value
    if kind in (int, bool):
        return lambda value: (kind.__name__, value)
    for each, way in ways.items():
        if issubclass(kind, each):
            return way
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
        return lambda value: (kind.__name__, [(name, plain(getattr(value, name))) for name in names])
    if issubclass(kind, list | tuple):
        return lambda value: (kind.__name__, [plain(item) for item in value])
    return lambda value: (kind.__name__, repr(value))


def _plain_array(value: np.ndarray) -> Any:
    return "array", value.dtype.str, value.shape, plain(value.tolist()) if value.dtype == object else value.tobytes()


def _plain_plan(value: Plan) -> Any:
    bare, timed = _without_times(value)
    return "Plan", plain(bare), timed, str(Plan(bare))


def _plain_hits(value: Hits) -> Any:
    more = dict(value.facets), value._grouping, value.reranked
    return "Hits", [plain(hit) for hit in value], plain(value.ids), plain(value.scores), plain(value.plan), plain(more)


def difference(a: Any, b: Any, where: str = "") -> str:
    """Where two values of ``plain`` first differ, and both sides there; empty if they are equal."""
    if not where and a == b:
        return ""
    if isinstance(a, dict) and isinstance(b, dict):
        a, b = (sorted(each.items()) for each in (a, b))
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return next((found for i, pair in enumerate(zip(a, b, strict=True)) if (found := difference(*pair, f"{where}[{i}]"))), "")
    return "" if a == b else f"{where}: {a!r} is not {b!r}"


def _without_times(plan: Mapping[str, Any]) -> tuple[dict[str, Any], list[list[str]]]:
    """A plan without the times of its steps, stage by stage, and the names of these steps."""
    bare = {name: part for name, part in plan.items() if name != "milliseconds"}
    steps = [sorted(plan["milliseconds"])]
    if bare.get("prefetch"):
        bare["prefetch"], more = _without_times(bare["prefetch"])
        steps += more
    return bare, steps


def _plain_cause(value: Any) -> Any:
    """The wrong value of an error as a service sends it: a short scalar, or else its text."""
    short = isinstance(value, bool | int | str | None) or (isinstance(value, float) and math.isfinite(value))
    return value if short and len(repr(value)) <= 120 and not (isinstance(value, int) and abs(value) >= 2**64) else str(value)
