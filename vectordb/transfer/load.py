"""Write the rows of a file to a collection in batches, and record the position on disk so that an interrupted import can resume.

A new collection is created together with its first batch, so an import without a single valid row leaves nothing behind. A resumed import
writes the rows after the last recorded batch again; as they are upserts, that changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vectordb_client.errors import InvalidArgumentError, StorageError, shown
from vectordb_client.model.batch import make_batch
from vectordb_client.model.schema import Schema
from vectordb_client.model.values import check_id

from ..storage import modes
from ..storage.lmdb_errors import of_files
from .forms import Columns, Layout, dumps
from .sources import Row, Source, source_of
from .terms import set_all

if TYPE_CHECKING:
    from ..collection import Collection
    from ..database import Database

BATCH = 1000
_BATCH_NUMBERS = 2_000_000  # vector elements per batch: bounds a batch of large vectors to some megabytes
_BATCH_BYTES = 32 << 20  # bytes of source text per batch


@dataclass(frozen=True)
class ImportResult:
    """written: points upserted by this run. rejected: rows set aside, by this run and the ones it continues.

    resumed: rows that an interrupted earlier run had finished.
    """

    written: int
    rejected: int
    resumed: int


@dataclass(frozen=True)
class NewCollection:
    """A collection to be created by the first batch of an import. opened: returns the database, creating it if needed.

    words: field → term → word.
    """

    opened: Callable[[], Database]
    name: str
    schema: Schema
    words: Mapping[str, Mapping[int, str | None]] = field(default_factory=dict)

    def make(self) -> Collection:
        made = self.opened().create_collection(self.name, self.schema)
        for name, words in self.words.items():
            set_all(made, name, words)
        return made


Progress = Callable[[float, int, int], None]  # share of the file read, points written, rows rejected


def state_file(data: Path, collection: str, source: Path) -> Path:
    """The file in the data directory that records the position of importing one source file into one collection."""
    key = hashlib.sha256(f"{collection}\0{source.resolve()}".encode()).hexdigest()[:16]
    return data / "imports" / f"{key}.json"


def import_points(
    collection: Collection | NewCollection,
    source: Path | Source,
    *,
    columns: Columns | None = None,
    rejects: Path | None = None,
    state: Path | None = None,
    progress: Progress | None = None,
) -> ImportResult:
    """Upsert every row of a file.

    columns: the meaning of the columns of flat rows. rejects: a JSON-lines file for invalid rows (row, counted from 1; error; record);
    without it, the first invalid row raises InvalidArgumentError. state: the file that records the position; None records nothing.
    A NewCollection is created by the first batch. If every row is rejected it is not created, and InvalidArgumentError is raised.
    """
    source = source_of(source)
    layout = Layout(collection.schema, columns)
    place = _Place(state, source, collection, columns)
    start, written = place.row, 0
    with _rejects(rejects, source, place) as reject:
        batch = _Pending(collection, layout, source.cells, reject, place)
        for row in source.rows(start):
            if batch.full:
                written += batch.write(row.number)
            point = batch.read(row)
            if point is None:
                continue
            if point["id"] in batch:  # the later row wins, as it does across batches
                written += batch.write(row.number)
            batch.add(row, point)
            if progress and row.number % 100 == 0:
                progress(row.done, written, place.rejected + batch.rejected)
        written += batch.finish()
        rejected = place.rejected + batch.rejected
    place.forget()
    if progress:
        progress(1.0, written, rejected)
    return ImportResult(written, rejected, start)


class _Pending:
    """Rows collected for the next upsert."""

    def __init__(
        self,
        target: Collection | NewCollection,
        layout: Layout,
        cells: bool,
        reject: Callable[[Row, str], None],
        place: _Place,
    ):
        self._new = target if isinstance(target, NewCollection) else None
        self._collection: Any = None if self._new else target
        self._schema, self._layout, self._cells, self._reject, self._place = target.schema, layout, cells, reject, place
        dims = sum(getattr(spec, "dim", 100) for spec in self._schema.vectors.values())
        self._size = max(1, min(BATCH, _BATCH_NUMBERS // max(dims, 1)))
        self._rows: dict[Any, tuple[Row, dict]] = {}
        self._bytes = self.rejected = 0

    @property
    def full(self) -> bool:
        return len(self._rows) >= self._size or self._bytes >= _BATCH_BYTES

    def __contains__(self, point_id: Any) -> bool:
        return point_id in self._rows

    def read(self, row: Row) -> dict | None:
        """The point in a row, or None if the row was rejected."""
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
        self._bytes += row.size

    def _set_aside(self, row: Row, reason: str) -> None:
        self._reject(row, reason)
        self.rejected += 1

    def write(self, upto: int) -> int:
        """Upsert the collected rows and record that all rows before number ``upto`` are done. Returns the number of points written.

        If the batch is refused, its invalid points are rejected one by one and the others are written.
        """
        pending = list(self._rows.values())
        self._rows.clear()
        self._bytes = 0
        if self._new is not None:
            # The collection is created only for a batch with valid rows.
            pending = self._good(pending)
        if not pending:
            return 0
        try:
            result = self._upsert([point for _, point in pending])
        except InvalidArgumentError:
            good = self._good(pending)
            if len(good) == len(pending):
                raise
            result = self._upsert([point for _, point in good]) if good else None
        if result is None:
            return 0
        self._place.keep(upto, self.rejected, self._collection, int(result))
        return result.count

    def finish(self) -> int:
        """Write the last rows. A new collection without rows is created here."""
        count = self.write(-1) if self._rows else 0
        if self._new is not None:
            if self.rejected:
                what = f"all {self.rejected:,} rows were rejected; collection {self._new.name!r} was not created"
                raise InvalidArgumentError(what, field="file")
            self._collection, self._new = self._new.make(), None
        return count

    def _good(self, pending: list[tuple[Row, dict]]) -> list[tuple[Row, dict]]:
        """The valid points; the others are rejected."""
        try:
            make_batch(self._schema, "upsert", [point for _, point in pending])
            return pending
        except InvalidArgumentError:
            good = []
            for row, point in pending:
                try:
                    make_batch(self._schema, "upsert", [point])
                    good.append((row, point))
                except InvalidArgumentError as error:
                    self._set_aside(row, str(error))
            return good

    def _upsert(self, points: list[dict]) -> Any:
        if self._new is None:
            return self._collection.upsert(points)
        new, made = self._new, self._new.make()
        try:
            result = made.upsert(points)
        except BaseException:
            new.opened().drop_collection(new.name)
            raise
        self._collection, self._new = made, None
        return result


class _Place:
    """The recorded position of an import.

    It is valid only for the same file (size and modification time), the same reading options and the same collection: one that was dropped
    and created again, or restored from an older snapshot, does not have those rows.
    """

    def __init__(self, path: Path | None, source: Source, target: Collection | NewCollection, columns: Columns | None):
        self._path = path = None if path is None else Path(os.path.abspath(path))
        columns = columns or Columns()
        self.row = self.rejected = self.rejects_bytes = 0
        self.position: Callable[[], int] = lambda: 0
        if path is None:
            return
        try:
            stat = source.path.stat()
        except OSError as error:
            raise StorageError(f"can't read {source.path}: {error.strerror}", field="file", value=str(source.path)) from error
        self._about = {"source": str(source.path.resolve()), "collection": target.name, "size": stat.st_size, "changed": stat.st_mtime_ns}
        self._about |= {"id": columns.id, "vectors": dict(columns.vectors), **source.about()}
        try:
            kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            same = isinstance(kept, dict) and kept.get("about") == self._about and not isinstance(target, NewCollection)
            if same and kept["number"] == target.number and target.reached(kept["sequence"]):
                self.row, self.rejected, self.rejects_bytes = kept["row"], kept["rejected"], kept["rejects_bytes"]
        except (OSError, ValueError, KeyError):
            pass  # incomplete after a crash, or of an older version: start over

    def keep(self, row: int, rejected: int, collection: Collection, sequence: int) -> None:
        """Record that all rows before ``row`` are committed, by a write of this sequence. rejected: rows rejected by this run."""
        if self._path is None or row < 0:
            return
        kept = {"about": self._about, "row": row, "rejected": self.rejected + rejected, "rejects_bytes": self.position()}
        kept |= {"number": collection.number, "sequence": sequence}
        try:
            modes.make_folder(self._path.parent)
            part = self._path.with_suffix(".part")
            with modes.create(part, "w", encoding="utf-8") as file:
                file.write(json.dumps(kept))
                file.flush()
                os.fsync(file.fileno())  # without it, a power loss could leave an empty file under the name
            os.replace(part, self._path)
        except OSError as error:
            raise StorageError(
                f"can't record the import's position in {self._path}: {error}", field="state", value=str(self._path)
            ) from error

    def forget(self) -> None:
        if self._path is not None:
            with of_files(self._path, "state"):
                self._path.unlink(missing_ok=True)


@contextmanager
def _rejects(path: Path | None, source: Source, place: _Place) -> Iterator[Callable[[Row, str], None]]:
    """A function that rejects a row. The file is truncated to its recorded size, so that no row is in it twice."""
    if path is None:

        def refuse(row: Row, reason: str) -> None:
            what = f"row {row.number + 1}: {reason} (to skip such rows, add --rejects FILE)"
            raise InvalidArgumentError(what, field="file", value=row.number + 1)

        yield refuse
        return
    if path.exists() and source.stream is None and path.samefile(source.path):
        raise InvalidArgumentError(f"{path} is the file to import; --rejects must be another file", field="rejects", value=str(path))
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
