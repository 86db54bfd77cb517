"""Records what threads read and write of single points, and checks that one order of all operations explains it (linearizability)."""

from __future__ import annotations

import bisect
import threading
import time
from collections import defaultdict
from dataclasses import dataclass


@dataclass(frozen=True)
class Operation:
    """A read or a write of one point. begin, end: seconds. version: the sequence of the write or delete; for a read the version that it
    returned, None if there was no point. value: None for a delete and for a read without a point.
    """

    begin: float
    end: float
    writes: bool
    version: int | None
    value: int | None


class History:
    """The operations on each id, recorded by all threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self._of: dict[int, list[Operation]] = defaultdict(list)

    def add(self, value_of: dict[int, tuple[int | None, int | None]], begin: float, writes: bool) -> None:
        """Record an operation on several ids that has just ended. value_of: id → (version, value)."""
        end = time.monotonic()
        with self._lock:
            for i, (version, value) in value_of.items():
                self._of[i].append(Operation(begin, end, writes, version, value))

    def count(self) -> int:
        return sum(map(len, self._of.values()))

    def problems(self) -> list[str]:
        return [f"id {i}: {problem}" for i, operations in self._of.items() for problem in not_linear(operations)]


def not_linear(operations: list[Operation]) -> list[str]:
    """The reasons why the operations on one id are not linearizable; empty if they are.

    The versions order the writes. So it is sufficient that each read returns the value of the write with its version, and that an operation
    that ended before another one began also precedes it in that order. A read without a point must follow a delete or precede all writes.
    """
    problems = []
    writes = {operation.version: operation for operation in operations if operation.writes}
    order = sorted(writes)
    ended = sorted((o for o in operations if o.version is not None), key=lambda o: o.end)
    ends, newest = [o.end for o in ended], []
    for operation in ended:
        newest.append(max(operation.version, newest[-1] if newest else 0))
    for operation in operations:
        at = bisect.bisect_left(ends, operation.begin)
        least = newest[at - 1] if at else 0  # the newest version of any operation that had ended before
        if operation.writes:
            if operation.version <= least:
                problems.append(f"version {operation.version} was written after version {least} was seen")
        elif operation.version is not None:
            written = writes.get(operation.version)
            if written is None or written.value != operation.value:
                problems.append(f"a read says {operation.value} at version {operation.version}, which nobody wrote")
            elif operation.version < least:
                problems.append(f"version {operation.version} was read after version {least} was seen")
            elif written.begin > operation.end:
                problems.append(f"version {operation.version} was read before it was written")
        else:
            at = bisect.bisect_left(order, least)
            explained = not least or any(writes[v].value is None and writes[v].begin <= operation.end for v in order[at:])
            if not explained:
                problems.append(f"nothing was read after version {least} was seen, and nobody deleted it")
    return problems
