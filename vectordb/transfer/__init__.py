"""Import and export: JSON lines, CSV and Parquet files into a collection and out of it.

An import writes batches of upserts and keeps its place in a small state file. When it is interrupted, even killed, the same
import goes on where it was: rows after the last recorded batch are written again, which changes nothing, as an id is written over.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import InvalidArgumentError, StorageError, VectorDBError, shown
from ..storage import modes
from ..storage.lmdb_errors import of_files
from ..types import check_id, make_batch
from .files import Row, format_of, read_rows, write_points, write_text
from .forms import Columns, Layout, dumps
from .infer import infer_schema

if TYPE_CHECKING:
    from ..collection import Collection

__all__ = ["Columns", "ImportResult", "export_points", "export_stream", "import_points", "infer_schema", "state_file"]

BATCH = 1000
_BATCH_NUMBERS = 2_000_000  # vector numbers in a batch, so that a batch of large vectors stays some megabytes


@dataclass(frozen=True)
class ImportResult:
    """written: points upserted by this run. rejected: rows set aside, by this run and the ones it continues.

    resumed: how many rows an interrupted run had done before.
    """

    written: int
    rejected: int
    resumed: int


Progress = Callable[[float, int, int], None]  # share of the file read, points written, rows rejected


def state_file(data: Path, collection: str, source: Path) -> Path:
    """Where the import of one file into one collection keeps its place: in the data directory, by the file's full path."""
    key = hashlib.sha256(f"{collection}\0{source.resolve()}".encode()).hexdigest()[:16]
    return data / "imports" / f"{key}.json"


def import_points(
    collection: Collection,
    source: Path,
    *,
    columns: Columns | None = None,
    rejects: Path | None = None,
    state: Path | None = None,
    progress: Progress | None = None,
) -> ImportResult:
    """Upsert every row of a file.

    columns: what the columns of flat rows mean. rejects: a JSON-lines file for rows that can't be taken (row from 1, error, record);
    without it the first such row raises InvalidArgumentError. state: the file that keeps the place; None keeps none.
    """
    layout = Layout(collection.schema, columns)
    cells = format_of(source) == "csv"
    place = _Place(state, source, collection.name, columns)
    start, written = place.row, 0
    with _rejects(rejects, place) as reject:
        batch = _Pending(collection, layout, cells, reject)
        for row in read_rows(source, start):
            if batch.full:
                written += batch.write()
                place.keep(row.number, batch.rejected)
            point = batch.read(row)
            if point is None:
                continue
            if point["id"] in batch:  # the later row wins, as it does across batches
                written += batch.write()
                place.keep(row.number, batch.rejected)
            batch.add(row, point)
            if progress and row.number % 100 == 0:
                progress(row.done, written, place.rejected + batch.rejected)
        written += batch.write()
        rejected = place.rejected + batch.rejected
    place.forget()
    if progress:
        progress(1.0, written, rejected)
    return ImportResult(written, rejected, start)


class _Pending:
    """Rows on their way into one upsert."""

    def __init__(self, collection: Collection, layout: Layout, cells: bool, reject: Callable[[Row, str], None]):
        self._collection, self._layout, self._cells, self._reject = collection, layout, cells, reject
        dims = sum(getattr(spec, "dim", 100) for spec in layout.schema.vectors.values())
        self._size = max(1, min(BATCH, _BATCH_NUMBERS // max(dims, 1)))
        self._rows: dict[Any, tuple[Row, dict]] = {}
        self.rejected = 0

    @property
    def full(self) -> bool:
        return len(self._rows) >= self._size

    def __contains__(self, point_id: Any) -> bool:
        return point_id in self._rows

    def read(self, row: Row) -> dict | None:
        """The point in a row, or None when the row was set aside."""
        try:
            if row.error is not None:
                raise InvalidArgumentError(row.error)
            point = self._layout.point(row.record, row.number, self._cells)
            point["id"] = check_id(point["id"])
            return point
        except InvalidArgumentError as error:
            self._set_aside(row, str(error))
            return None

    def add(self, row: Row, point: dict) -> None:
        self._rows[point["id"]] = (row, point)

    def _set_aside(self, row: Row, reason: str) -> None:
        self._reject(row, reason)
        self.rejected += 1

    def write(self) -> int:
        """Upsert what is pending. When the batch is refused, the points that are wrong by themselves are set aside first."""
        pending = list(self._rows.values())
        self._rows.clear()
        if not pending:
            return 0
        try:
            return self._collection.upsert([point for _, point in pending]).count
        except InvalidArgumentError:
            good = []
            for row, point in pending:
                try:
                    make_batch(self._collection.schema, "upsert", [point])
                    good.append(point)
                except InvalidArgumentError as error:
                    self._set_aside(row, str(error))
            if len(good) == len(pending):
                raise
            return self._collection.upsert(good).count if good else 0


class _Place:
    """How far an import came, on disk. It counts only for the same file: same size and time of change, same columns."""

    def __init__(self, path: Path | None, source: Path, collection: str, columns: Columns | None):
        try:
            stat = source.stat()
        except OSError as error:
            raise StorageError(f"can't read {source}: {error}", field="file", value=str(source)) from error
        self._path = None if path is None else Path(os.path.abspath(path))
        path = self._path
        columns = columns or Columns()
        self._about = {"source": str(source.resolve()), "collection": collection, "size": stat.st_size, "changed": stat.st_mtime_ns}
        self._about |= {"id": columns.id, "vectors": dict(columns.vectors)}
        self.row = self.rejected = self.rejects_bytes = 0
        self.position: Callable[[], int] = lambda: 0
        try:
            kept = json.loads(path.read_text(encoding="utf-8")) if path and path.exists() else {}
        except (OSError, ValueError):
            kept = {}  # half written by a crash of the machine: start over, which is only slower
        if isinstance(kept, dict) and kept.get("about") == self._about:
            self.row, self.rejected, self.rejects_bytes = kept["row"], kept["rejected"], kept["rejects_bytes"]

    def keep(self, row: int, rejected: int) -> None:
        """Rows before ``row`` are committed. ``rejected``: by this run."""
        if self._path is None:
            return
        kept = {"about": self._about, "row": row, "rejected": self.rejected + rejected, "rejects_bytes": self.position()}
        try:
            modes.make_folder(self._path.parent)
            part = self._path.with_suffix(".part")
            with modes.create(part, "w", encoding="utf-8") as file:
                file.write(json.dumps(kept))
                file.flush()
                os.fsync(file.fileno())  # or a power loss could leave the name with nothing in it
            os.replace(part, self._path)
        except OSError as error:
            raise StorageError(f"can't keep the import's place in {self._path}: {error}", field="state", value=str(self._path)) from error

    def forget(self) -> None:
        if self._path is not None:
            with of_files(self._path, "state"):
                self._path.unlink(missing_ok=True)


@contextmanager
def _rejects(path: Path | None, place: _Place) -> Iterator[Callable[[Row, str], None]]:
    """The function that sets a row aside. The file is cut back to where the recorded place left it, so that no row is in it twice."""
    if path is None:

        def refuse(row: Row, reason: str) -> None:
            what = f"row {row.number + 1}: {reason} (--rejects FILE sets such rows aside and goes on)"
            raise InvalidArgumentError(what, field="file", value=row.number + 1)

        yield refuse
        return
    try:
        file = modes.create(path, "r+b" if place.row and path.exists() else "wb")
    except OSError as error:
        raise StorageError(f"can't write {path}: {error}", field="rejects", value=str(path)) from error
    with file:
        file.truncate(min(place.rejects_bytes, file.seek(0, os.SEEK_END)))
        file.seek(0, os.SEEK_END)

        def position() -> int:
            file.flush()
            return file.tell()

        def set_aside(row: Row, reason: str) -> None:
            record = row.text if row.error is not None else row.record
            file.write(_line({"row": row.number + 1, "error": reason, "record": record}))

        place.position = position
        yield set_aside


def _line(entry: dict) -> bytes:
    try:
        return dumps(entry).encode() + b"\n"
    except (TypeError, ValueError):
        return dumps({**entry, "record": shown(entry["record"])}).encode() + b"\n"


def export_points(
    collection: Collection, target: Path, *, filter: Any = None, with_vectors: bool = False, progress: Callable[[int], None] | None = None
) -> int:
    """Write the points (that match a filter) to a file by the format its name asks for; returns how many.

    The file appears under its name when it is whole. Raises VectorDBError when ids change between integers and others meanwhile.
    """
    # A Parquet column has one type; integers come first in id order, so only the whole list tells.
    integers = format_of(target) == "parquet" and all(type(p.id) is int for p in collection.iterate(filter=filter, with_attributes=False))
    points = _counted(collection.iterate(filter=filter, with_vectors=with_vectors), progress, integers)
    return write_points(target, collection.schema, points, with_vectors, integers)


def export_stream(collection: Collection, stream: BinaryIO, *, filter: Any = None, with_vectors: bool = False) -> int:
    """Write the points as JSON lines to a binary stream; returns how many."""
    return write_text(stream, "jsonl", collection.schema, collection.iterate(filter=filter, with_vectors=with_vectors), with_vectors)


def _counted(points: Iterator, progress: Callable[[int], None] | None, integers: bool) -> Iterator:
    for count, point in enumerate(points, 1):
        if integers and type(point.id) is not int:
            raise VectorDBError(f"id {shown(point.id)} was written during the export, whose ids were integers: run it again")
        yield point
        if progress and count % 1000 == 0:
            progress(count)
