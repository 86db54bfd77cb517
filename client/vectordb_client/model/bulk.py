"""Bulk writes: many points in chunks, several of which are written at the same time. A wrong point doesn't stop the others.

The blocking client and the embedded database write the chunks with threads, ``AsyncClient`` with tasks.
"""

from __future__ import annotations

import concurrent.futures
import itertools
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import InvalidArgumentError, VectorDBError, shown
from .batch import one_value
from .batch_ids import listed_ids
from .foreign import Table, as_table, is_sparse, listed, repeatable, size_of, sliced, sparse_rows
from .info_text import many
from .results import Point, WriteResult
from .steps import run_steps, run_steps_async

MAX_PARALLEL = 64


class FailedPoint(NamedTuple):
    """A point that was not written.

    Attributes:
        position: the position of the point in the input, from 0.
        id: its id.
        error: the error that ``upsert`` raises for it.
    """

    position: int
    id: Any
    error: VectorDBError


@dataclass(frozen=True)
class BulkResult:
    """The result of a bulk write.

    Attributes:
        count: the number of points written.
        sequence: the highest sequence number of their batches.
        failed: the points that were not written, in the order of their positions.
    """

    count: int
    sequence: int
    failed: tuple[FailedPoint, ...]


class Chunk(NamedTuple):
    """Points [first, first + n) as arguments of ``upsert``: either ``points`` or columns."""

    first: int
    n: int
    arguments: dict[str, Any]

    def part(self, low: int, high: int) -> Chunk:
        return Chunk(self.first + low, high - low, {name: _sliced(value, low, high) for name, value in self.arguments.items()})

    def id_of(self, i: int) -> Any:
        points = self.arguments.get("points")
        if "ids" in self.arguments:
            return self.arguments["ids"][i]
        if isinstance(points, Table):
            ids = listed(points.columns["id"]) if "id" in points.columns else None
            return None if ids is None else ids[i]
        point = self.arguments["points"][i]
        return point.id if isinstance(point, Point) else point.get("id") if isinstance(point, Mapping) else None


@dataclass(frozen=True)
class Outcome:
    """The result of one chunk."""

    count: int
    sequence: int
    failed: list[FailedPoint]


def _sliced(value: Any, low: int, high: int) -> Any:
    if isinstance(value, Mapping):
        return {name: sliced(column, low, high) for name, column in value.items()}
    return sliced(value, low, high)


class Bulk:
    """The checked arguments of ``bulk``, and its progress. Raises InvalidArgumentError, which names the argument."""

    def __init__(self, points: Any, columns: dict[str, Any], chunk: Any, parallel: Any, progress: Any):
        size = _count("chunk", chunk, 100_000)
        self.parallel = _count("parallel", parallel, MAX_PARALLEL)
        if progress is not True and progress is not False and not callable(progress):
            what = f"progress must be True, False or a function of the points written and failed, not {shown(progress)}"
            raise InvalidArgumentError(what, field="progress", value=progress)
        self._progress = progress
        given = {name: repeatable(value) for name, value in columns.items() if value is not None}
        table = as_table(points)
        if table is not None:
            given["points"] = table
        elif (points is None) == (not given):
            raise InvalidArgumentError("bulk needs either points or columns", field="points")
        if table is None and points is not None:
            self._total = size_of(points)
            self.chunks = _of_points(points, size)
        else:
            self._total = _rows(given)
            self.chunks = _of_columns(given, self._total, size)
        self._count = self._sequence = 0
        self._failed: list[FailedPoint] = []
        self._report: Callable[[int, int], Any] = lambda written, failed: None

    def add(self, outcome: Outcome) -> None:
        """Count a finished chunk, and report the progress."""
        self._count += outcome.count
        self._sequence = max(self._sequence, outcome.sequence)
        self._failed += outcome.failed
        self._report(self._count, len(self._failed))

    def result(self) -> BulkResult:
        return BulkResult(self._count, self._sequence, tuple(sorted(self._failed, key=lambda failed: failed.position)))

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Report the progress inside the ``with`` block."""
        if self._progress is not True:
            self._report = self._progress or self._report
            yield
            return
        try:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        except ImportError as error:
            raise InvalidArgumentError("progress=True needs rich: pip install rich", field="progress", value=True) from error
        with Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[failed]} failed")) as bars:
            bar = bars.add_task("", total=self._total, failed=0)
            self._report = lambda written, failed: bars.update(bar, completed=written + failed, failed=failed)
            yield


def _count(name: str, value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidArgumentError(f"{name} must be an integer from 1 to {most}, not {shown(value)}", field=name, value=value)
    return value


def _of_points(points: Any, size: int) -> Iterator[Chunk]:
    try:
        rest = None if isinstance(points, (str, bytes, bytearray, memoryview, Mapping, Point)) else iter(points)
    except Exception:  # it isn't iterable, or its iterator fails
        rest = None
    if rest is None:
        raise InvalidArgumentError(f"points must be an iterable of points, not {shown(points)}", field="points", value=points)
    return _chunks(rest, size)


def _chunks(rest: Iterator, size: int) -> Iterator[Chunk]:
    first = 0
    while taken := list(itertools.islice(rest, size)):
        yield Chunk(first, len(taken), {"points": taken})
        first += len(taken)


def _of_columns(columns: dict[str, Any], n: int, size: int) -> Iterator[Chunk]:
    whole = Chunk(0, n, columns)
    return (whole.part(low, min(n, low + size)) for low in range(0, n, size))


def _rows(columns: dict[str, Any]) -> int:
    """The number of points in the columns. Ids and sparse matrices are converted to forms that can be sliced."""
    table, ids = columns.get("points"), columns.get("ids")
    if table is None or ids is not None:
        if ids is None:
            raise InvalidArgumentError("columns need ids=…, a list or an array", field="ids", value=ids)
        ids = columns["ids"] = listed_ids(ids)
    rows = len(table if table is not None else ids or ())
    for part in ("vectors", "attributes"):
        if not isinstance(columns.get(part, {}), Mapping):
            raise InvalidArgumentError(f"{part} must be a mapping of names to columns, not {shown(columns[part])}", field=part)
        if part in columns:
            columns[part] = {name: sparse_rows(value) if is_sparse(value) else value for name, value in columns[part].items()}
    every = {name: columns[name] for name in ("ids", "payload") if name in columns}
    for name, column in {**columns.get("vectors", {}), **columns.get("attributes", {}), **every}.items():
        if isinstance(column, (Mapping, str, bytes)) or not hasattr(column, "__getitem__"):
            what = f"{name!r} must be a column that can be sliced, not {shown(column)}{one_value(name, column, rows)}"
            raise InvalidArgumentError(what, field=name, value=column)
        size = column.shape[0] if is_sparse(column) else size_of(column)
        if size != rows:
            values = "no length" if size is None else many(size, "value")
            raise InvalidArgumentError(f"{name!r} has {values} for {many(rows, 'id')}", field=name, value=size)
    return rows


def attempts(chunk: Chunk) -> Generator[Chunk, WriteResult | VectorDBError, Outcome]:
    """Yields the part to write next and is sent its result or error. A refused part is halved until single wrong points are found."""
    count, sequence, failed = 0, 0, []
    waiting = [chunk]
    while waiting:
        part = waiting.pop()
        answer = yield part
        if isinstance(answer, WriteResult):
            count, sequence = count + answer.count, max(sequence, int(answer))
        elif part.n == 1:
            failed.append(FailedPoint(part.first, part.id_of(0), answer))
        else:
            middle = part.n // 2
            waiting += [part.part(middle, part.n), part.part(0, middle)]
    return Outcome(count, sequence, failed)


def of_a_point(error: InvalidArgumentError) -> bool:
    """Whether the error may be about single points, so that smaller parts help. Rate limits and table columns are not."""
    return getattr(error, "retry_after", None) is None and error.field != "columns"


def write_all(bulk: Bulk, upsert: Callable[..., WriteResult]) -> BulkResult:
    """Write the chunks with ``bulk.parallel`` threads.

    An error that is not about single points ends the write: chunks under way are finished, then the error is raised.
    """

    def attempt(part: Chunk) -> WriteResult | VectorDBError:
        try:
            return upsert(**part.arguments)
        except InvalidArgumentError as error:
            if not of_a_point(error):
                raise
            return error

    with bulk.shown(), concurrent.futures.ThreadPoolExecutor(bulk.parallel, "vectordb-bulk") as pool:
        pending: set[concurrent.futures.Future] = set()
        for chunk in bulk.chunks:
            if len(pending) > bulk.parallel:  # one more than threads, so that none waits for the next chunk
                done, pending = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    bulk.add(future.result())
            pending.add(pool.submit(run_steps, attempts(chunk), attempt))
        for future in concurrent.futures.as_completed(pending):
            bulk.add(future.result())
    return bulk.result()


async def write_all_async(bulk: Bulk, upsert: Callable[..., Awaitable[WriteResult]]) -> BulkResult:
    """``write_all`` with tasks instead of threads."""
    import asyncio  # here, so that the embedded database doesn't load it

    async def attempt(part: Chunk) -> WriteResult | VectorDBError:
        try:
            return await upsert(**part.arguments)
        except InvalidArgumentError as error:
            if not of_a_point(error):
                raise
            return error

    pending: set[asyncio.Task] = set()
    try:
        with bulk.shown():
            for chunk in bulk.chunks:
                if len(pending) >= bulk.parallel:
                    done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        bulk.add(task.result())
                pending.add(asyncio.create_task(run_steps_async(attempts(chunk), attempt)))
            for task in asyncio.as_completed(pending):
                bulk.add(await task)
    finally:
        if pending:
            await asyncio.gather(*pending, return_exceptions=True)
    return bulk.result()
