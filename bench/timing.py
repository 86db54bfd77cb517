"""Timing, of searches and of any other calls. ``overhead`` measures what the harness adds to each request; every report prints it."""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

import numpy as np

_WARM_SECONDS = 0.1


def timed(search: Callable, queries: Sequence, k: int, filters: Sequence | None, times: array, answers: list, low: int = 0) -> None:
    """Call ``search(query, k, filter)`` for each query. Writes nanoseconds to ``times`` and answers to ``found``, from index ``low`` on.

    Both are preallocated, all names are local and the garbage collector is off, so only the call is between the two readings of the clock.
    """
    clock, place = time.perf_counter_ns, low
    collecting = gc.isenabled()
    gc.disable()
    try:
        for query, where in zip(queries, repeat(None) if filters is None else filters, strict=False):
            start = clock()
            answer = search(query, k, where)
            end = clock()
            times[place] = end - start
            answers[place] = answer
            place += 1
    finally:
        if collecting:
            gc.enable()


def bare(search: Callable, queries: Sequence, k: int, filters: Sequence) -> None:
    """The same loop without timing, for ``overhead``."""
    for query, where in zip(queries, filters, strict=False):
        search(query, k, where)


def measure(
    search: Callable, queries: Sequence, k: int, filters: Sequence | None, cap: float, warm: int = 20, chunk: int = 32
) -> tuple[list[int], list[Any], float]:
    """(nanoseconds per request, answers, total seconds) of one pass over the queries.

    It begins with a warm-up: ``warm`` unmeasured requests, or a tenth of a second of requests if those are more. Other systems ran before,
    so the processor's caches are cold. cap: no further chunk of queries begins after so many seconds, so a slow system is measured on
    fewer queries. warm: 0 for calls that must not be repeated, such as writes.
    """
    wheres = None if filters is None else filters
    if warm:
        _warm(search, queries, k, wheres, cap, warm)
    times, answers = array("q", bytes(8 * len(queries))), [None] * len(queries)
    done, started = 0, time.monotonic()
    while done < len(queries) and (done == 0 or time.monotonic() - started < cap):
        part = slice(done, min(done + chunk, len(queries)))
        timed(search, queries[part], k, None if wheres is None else wheres[part], times, answers, done)
        done = part.stop
    return times[:done].tolist(), answers[:done], time.monotonic() - started


def _warm(search: Callable, queries: Sequence, k: int, filters: Sequence | None, cap: float, least: int) -> None:
    started, i = time.monotonic(), 0
    while True:
        passed = time.monotonic() - started
        if passed > cap / 4 or (i >= min(least, len(queries)) and passed > min(_WARM_SECONDS, cap / 40)):
            return
        search(queries[i % len(queries)], k, None if filters is None else filters[i % len(queries)])
        i += 1


def calls(call: Callable, values: Sequence, cap: float = 60.0, warm: int = 20) -> np.ndarray:
    """Microseconds of each ``call(value)``. cap, warm: as in ``measure``."""
    times, _, _ = measure(lambda value, k, where: call(value), values, 0, None, cap, warm)
    return np.array(times) / 1e3


def p50(call: Callable, values: Sequence, cap: float = 60.0) -> float:
    """Median microseconds of ``call(value)``."""
    return float(np.median(calls(call, values, cap)))


def stream(call: Callable, values: Sequence, go_on: Callable[[int], bool]) -> np.ndarray:
    """Microseconds of ``call(value)``, one after another over and over, as long as ``go_on(number of calls so far)`` is true."""
    clock, times = time.perf_counter_ns, array("q")
    while go_on(len(times)):
        value = values[len(times) % len(values)]
        start = clock()
        call(value)
        times.append(clock() - start)
    return np.array(times) / 1e3


def lasting(seconds: float) -> Callable[[int], bool]:
    """For ``stream``: true until so many seconds have passed."""
    end = time.perf_counter() + seconds
    return lambda done: time.perf_counter() < end


def seconds(call: Callable, *arguments: Any) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def rate(call: Callable[[], Any], total: float = 1.0) -> float:
    """Calls per second, from the fastest call within about ``total`` seconds."""
    best, end = 0.0, time.perf_counter() + total
    while time.perf_counter() < end or not best:
        best = max(best, 1 / seconds(call))
    return best


def overhead(n: int = 20_000, rounds: int = 7) -> dict[str, float]:
    """The cost of timing in µs per request: loop_us, added to an iteration of the loop; in_figures_us, the part included in the measured
    time. Each is the minimum over ``rounds``.
    """
    queries, filters = [None] * n, [None] * n
    times, answers = array("q", bytes(8 * n)), [None] * n

    def search(query, k, where):
        return query

    added, seen = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        bare(search, queries, 10, filters)
        middle = time.perf_counter()
        timed(search, queries, 10, filters, times, answers)
        end = time.perf_counter()
        added.append(((end - middle) - (middle - start)) / n * 1e6)
        seen.append(sum(times) / n / 1e3 - (middle - start) / n * 1e6)
    return {"loop_us": max(0.0, min(added)), "in_figures_us": max(0.0, min(seen))}
