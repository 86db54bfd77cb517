"""Load of several clients on a service: closed loop and open loop.

Clients are threads of one process, each with its own connection. In the open loop a latency is measured from the time the request was
scheduled, not from the time it was sent. So a stalled server can't hide the requests that waited (no coordinated omission).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

K = 10
_LATE_CLIENTS = 64  # threads that send the open loop's requests


class _Log:
    """The log of one client: seconds of each request, and the number of failures."""

    def __init__(self):
        self.seconds: list[float] = []
        self.answers: list[tuple[int, Any]] = []
        self.failed = 0
        self.reason = ""

    def request(self, system: Any, prepared: tuple, i: int, due: float) -> None:
        queries, wheres = prepared
        i %= len(queries)
        try:
            answer = system.search(queries[i], K, wheres[i])
        except Exception as error:
            self.failed += 1
            self.reason = f"{type(error).__name__}: {error}"[:300]
        else:
            self.seconds.append(time.perf_counter() - due)
            self.answers.append((i, answer))


def drive(client: Callable[[], Any], queries: Sequence, mode: str, clients: int, rate: float, seconds: float, timeout: float) -> dict:
    """Run a load for ``seconds``. Returns the milliseconds of every answered request, and the number of requests that failed, that timed
    out (took longer than ``timeout`` seconds) or, in the open loop, were not sent before the end.

    mode: "closed" or "open". rate: requests per second of the open loop.
    """
    count = clients if mode == "closed" else min(_LATE_CLIENTS, max(4, clients))
    systems = [client() for _ in range(count)]
    try:
        prepared = [system.prepare(queries, [None] * len(queries)) for system in systems]
        logs = [_Log() for _ in systems]
        for system, (prepared_queries, wheres) in zip(systems, prepared, strict=True):
            for i in range(min(10, len(prepared_queries))):
                system.search(prepared_queries[i], K, wheres[i])
        begin = time.perf_counter() + 0.1
        if mode == "closed":
            bodies = [_closed(*parts, begin, seconds, i) for i, parts in enumerate(zip(systems, prepared, logs, strict=True))]
            due: np.ndarray | None = None
        else:
            due = begin + np.cumsum(np.random.default_rng(0).exponential(1 / rate, max(1, int(rate * seconds))))
            shared = iter(range(len(due)))
            lock = threading.Lock()
            bodies = [_open(*parts, due, shared, lock, begin + seconds + timeout) for parts in zip(systems, prepared, logs, strict=True)]
        threads = [threading.Thread(target=body) for body in bodies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        elapsed = time.perf_counter() - begin
        answers = _distinct(systems[0], [pair for log in logs for pair in log.answers])
    finally:
        for system in systems:
            system.close()
    every = [value for log in logs for value in log.seconds]
    unsent = 0 if due is None else len(due) - len(every) - sum(log.failed for log in logs)
    return {
        "milliseconds": [round(value * 1e3, 4) for value in every],
        "seconds": elapsed,
        "failed": sum(log.failed for log in logs),
        "reason": next((log.reason for log in logs if log.reason), ""),
        "timed_out": sum(value > timeout for value in every) + unsent,
        "asked_rate": rate if mode == "open" else None,
        "answers": answers,
    }


def _distinct(system: Any, answers: list[tuple[int, Any]]) -> list[list]:
    """[query index, count, rows] of each distinct answer. Most queries get the same answer each time, so the list is short."""
    counts: dict[tuple, int] = {}
    for i, answer in answers:
        key = (i, *system.ids(answer).tolist())
        counts[key] = counts.get(key, 0) + 1
    return [[key[0], count, list(key[1:])] for key, count in counts.items()]


def _closed(system: Any, prepared: tuple, log: _Log, begin: float, seconds: float, number: int) -> Callable[[], None]:
    def body() -> None:
        i = number * 7  # so clients don't send the same query at the same time
        time.sleep(max(0.0, begin - time.perf_counter()))
        while (now := time.perf_counter()) < begin + seconds:
            log.request(system, prepared, i, now)
            i += 1

    return body


def _open(system: Any, prepared: tuple, log: _Log, due: np.ndarray, shared: Any, lock: Any, end: float) -> Callable[[], None]:
    def body() -> None:
        while time.perf_counter() < end:
            with lock:
                i = next(shared, None)
            if i is None:
                return
            time.sleep(max(0.0, due[i] - time.perf_counter()))
            log.request(system, prepared, i, float(due[i]))

    return body
