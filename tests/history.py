"""What threads saw of single points, and whether one order of all operations explains it."""

from __future__ import annotations

import bisect
import threading
import time
from collections import defaultdict
from dataclasses import dataclass


@dataclass(frozen=True)
class Operation:
    """begin, end: seconds. version: the sequence that wrote or deleted, of a read what it returned (None: no point). value: None for a
    delete, or a read of no point.
    """

    begin: float
    end: float
    writes: bool
    version: int | None
    value: int | None


class History:
    """Operations on ids, told by any thread."""

    def __init__(self):
        self._lock = threading.Lock()
        self._of: dict[int, list[Operation]] = defaultdict(list)

    def add(self, value_of: dict[int, tuple[int | None, int | None]], begin: float, writes: bool) -> None:
        """id → (version, value) of an operation on several ids that just ended."""
        end = time.monotonic()
        with self._lock:
            for i, (version, value) in value_of.items():
                self._of[i].append(Operation(begin, end, writes, version, value))

    def count(self) -> int:
        return sum(map(len, self._of.values()))

    def problems(self) -> list[str]:
        return [f"id {i}: {problem}" for i, operations in self._of.items() for problem in not_linear(operations)]


def not_linear(operations: list[Operation]) -> list[str]:
    """Why no order explains the operations on one id; empty when one does.

    Versions order the writes, so it is enough that each read returns a write of its version, and that whatever ended before something else
    began also comes before it in that order. A read of nothing has a place behind a delete, or before the first write.
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
        least = newest[at - 1] if at else 0  # the newest version that anybody knew of before
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
