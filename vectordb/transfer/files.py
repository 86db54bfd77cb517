"""Export points to JSON-lines, CSV and Parquet files. Points are streamed: memory holds a page, not the collection."""

from __future__ import annotations

import csv
import gzip
import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from vectordb_client.errors import InvalidArgumentError, StorageError, VectorDBError, shown
from vectordb_client.model.results import Point
from vectordb_client.model.schema import Schema

from ..storage import modes
from .forms import Layout, dumps, flat_cells, full_record
from .sources import ENDINGS

if TYPE_CHECKING:
    from ..collection import Collection

_WRITTEN = (".jsonl", ".ndjson", ".csv", ".jsonl.gz", ".ndjson.gz", ".csv.gz", ".parquet")


def written_format(path: Path) -> str:
    """The format of a file name's ending: "jsonl", "csv" or "parquet". Raises InvalidArgumentError for another ending."""
    ending = next((ending for ending in _WRITTEN if path.name.lower().endswith(ending)), None)
    if ending is None:
        what = f"{path.name}: the name must end in .jsonl, .csv (or these with .gz) or .parquet"
        raise InvalidArgumentError(what, field="file", value=str(path))
    return ENDINGS[ending.removesuffix(".gz")]


def export_points(
    collection: Collection,
    target: Path,
    *,
    filter: Any = None,
    with_vectors: bool = False,
    as_of: Any = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write the points (that match a filter) to a file in the format of its name. Returns the number of points. as_of: of an earlier state.

    The file appears under its name only when it is complete. Raises VectorDBError if a non-integer id is written during a Parquet export
    of integer ids.
    """
    # A Parquet column has one type. Integers come first in id order, so all ids must be looked at.
    integers = written_format(target) == "parquet" and all(
        type(p.id) is int for p in collection.iterate(filter=filter, with_attributes=False, as_of=as_of)
    )
    points = _counted(collection.iterate(filter=filter, with_vectors=with_vectors, as_of=as_of), progress, integers)
    return write_points(target, collection.schema, points, with_vectors, integers)


def export_stream(collection: Collection, stream: BinaryIO, *, filter: Any = None, with_vectors: bool = False, as_of: Any = None) -> int:
    """Write the points as JSON lines to a binary stream. Returns the number of points."""
    points = collection.iterate(filter=filter, with_vectors=with_vectors, as_of=as_of)
    return write_text(stream, "jsonl", collection.schema, points, with_vectors)


def _counted(points: Iterator, progress: Callable[[int], None] | None, integers: bool) -> Iterator:
    for count, point in enumerate(points, 1):
        if integers and type(point.id) is not int:
            raise VectorDBError(f"id {shown(point.id)} was written during an export of integer ids: run it again")
        yield point
        if progress and count % 1000 == 0:
            progress(count)


def write_points(path: Path, schema: Schema, points: Iterable[Point], with_vectors: bool, integers: bool) -> int:
    """Write points in the format of the file name. Returns their number. integers: all ids are integers (for Parquet's column type)."""
    kind = written_format(path)
    with _replacing(path) as part:
        if kind == "parquet":
            from .arrow import write_parquet

            return write_parquet(part, schema, points, with_vectors, integers)
        with gzip.open(part, "wb", compresslevel=6) if path.suffix.lower() == ".gz" else part.open("wb") as raw:
            return write_text(raw, kind, schema, points, with_vectors)


def write_text(raw: Any, kind: str, schema: Schema, points: Iterable[Point], with_vectors: bool) -> int:
    """Write points to a binary stream as "jsonl" or "csv"."""
    count = 0
    stream = io.TextIOWrapper(raw, encoding="utf-8", newline="", write_through=False)
    if kind == "csv":
        layout = Layout(schema)
        writer = csv.writer(stream)
        writer.writerow(layout.names(with_vectors))
        for point in points:
            writer.writerow(flat_cells(layout, point, with_vectors))
            count += 1
    else:
        for point in points:
            stream.write(dumps(full_record(schema, point, with_vectors)) + "\n")
            count += 1
    stream.flush()
    stream.detach()
    return count


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary file that is renamed to ``path`` on success, so that a reader never sees a partial export."""
    path = Path(os.path.abspath(path))
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)
        modes.create(part, "xb", modes.mode_of(path) or modes.PRIVATE).close()  # owner-only, or the mode of the replaced file
        yield part
        part.replace(path)
    except OSError as error:
        raise StorageError(f"can't write {path}: {error}", field="file", value=str(path)) from error
    finally:
        part.unlink(missing_ok=True)
