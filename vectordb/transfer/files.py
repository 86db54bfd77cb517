"""Rows out of JSON lines, CSV and Parquet files, and points into them. Files are streamed: memory holds a batch, not the file."""

from __future__ import annotations

import csv
import gzip
import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InvalidArgumentError, StorageError, VectorDBError
from ..storage import modes
from ..types import Point, Schema, Sparse
from .forms import Layout, cell_id, dumps, flat_cells, full_record, id_cell, loads, stored, write_vector

FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
_SCHEMA_KEY = b"vectordb.schema"
_INSTALL = "Parquet files need pyarrow: pip install 'vectordb[parquet]'"
_ROW_GROUP = 1000


class Row(NamedTuple):
    """number: from 0. record: its mapping, None when it can't be read. done: how far the file is read, 0 … 1. error, text: of a bad row."""

    number: int
    record: Any
    done: float
    error: str | None = None
    text: Any = None


def format_of(path: Path) -> str:
    """ "jsonl", "csv" or "parquet", by the name of the file (``.gz`` may follow the first two)."""
    suffixes = [s.lower() for s in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    suffix = (suffixes[:-1] if zipped else suffixes)[-1:]
    found = FORMATS.get(suffix[0]) if suffix else None
    if found is None or (zipped and found == "parquet"):
        what = f"{path.name}: the name must end in .jsonl, .csv (or these with .gz) or .parquet"
        raise InvalidArgumentError(what, field="file", value=str(path))
    return found


def read_rows(path: Path, start: int = 0) -> Iterator[Row]:
    """The rows of a file from number ``start`` on. A row that isn't readable comes with its error; a broken file raises."""
    kind = format_of(path)
    try:
        if kind == "parquet":
            yield from _parquet_rows(path, start)
            return
        size = max(path.stat().st_size, 1)
        with path.open("rb") as raw:
            stream = gzip.open(raw) if path.suffix.lower() == ".gz" else raw
            for row in (_jsonl_rows if kind == "jsonl" else _csv_rows)(stream, start):
                yield row._replace(done=min(raw.tell() / size, 1.0))
    except (OSError, EOFError) as error:
        raise StorageError(f"can't read {path}: {error}", field="file", value=str(path)) from error


def _jsonl_rows(stream: Any, start: int) -> Iterator[Row]:
    for number, line in enumerate(stream):
        if number < start:
            continue
        if number == 0:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            yield Row(number, loads(line), 0.0)
        except ValueError as error:
            yield Row(number, None, 0.0, f"not JSON: {error}", line.decode("utf-8", "replace").rstrip("\r\n"))


def _csv_rows(stream: Any, start: int) -> Iterator[Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a cell holds a vector or a document; the module's default is 128 KiB
    reader = csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline="", errors="surrogateescape"), strict=True)
    names: list[str] = []
    number = -1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InvalidArgumentError(f"not CSV at line {reader.line_num}: {error}", field="file") from None
        if not names:
            names = cells
            if len(set(names)) != len(names):
                raise InvalidArgumentError("the header names a column twice", field="file", value=names)
            continue
        if not cells:
            continue
        number += 1
        if number < start:
            continue
        text = dict(zip(names, cells, strict=False))
        if len(cells) != len(names):
            yield Row(number, None, 0.0, f"{len(cells)} cells under {len(names)} column names", cells)
        elif any("\udc80" <= c <= "\udcff" for cell in cells for c in cell if not cell.isascii()):
            yield Row(number, None, 0.0, "not UTF-8", [cell.encode("utf-8", "replace").decode() for cell in cells])
        else:
            yield Row(number, text, 0.0)


def _parquet_rows(path: Path, start: int) -> Iterator[Row]:
    pa, pq = _arrow()
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise InvalidArgumentError(f"{path} is not a Parquet file: {error}", field="file", value=str(path)) from None
    with file:
        ours = _SCHEMA_KEY in (file.schema_arrow.metadata or {})
        total, number = max(file.metadata.num_rows, 1), 0
        for batch in file.iter_batches(batch_size=_ROW_GROUP):
            if number + len(batch) > start:
                columns = {name: _python_values(pa, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
                for i in range(max(start - number, 0), len(batch)):
                    record = {name: values[i] for name, values in columns.items()}
                    if ours:
                        record["id"] = cell_id(record["id"])
                        record["payload"] = None if record["payload"] is None else loads(record["payload"])
                    yield Row(number + i, record, (number + i + 1) / total)
            number += len(batch)


def _python_values(pa: Any, column: Any) -> list:
    """A column as Python values. Vectors stay arrays, and timestamps become numpy's, which know years beyond 9999."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        return list(column.cast(pa.timestamp("us", kind.tz), safe=False).to_numpy(zero_copy_only=False))
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if listed and pa.types.is_timestamp(kind.value_type):
        flat = list(column.flatten().cast(pa.timestamp("us", kind.value_type.tz), safe=False).to_numpy(zero_copy_only=False))
        flat.reverse()
        return [None if n is None else [flat.pop() for _ in range(n)] for n in pa.compute.list_value_length(column).to_pylist()]
    if listed and pa.types.is_floating(kind.value_type):
        return [None if not v.is_valid else v.values.to_numpy(zero_copy_only=False) for v in column]
    return column.to_pylist()


def parquet_schema(path: Path) -> Schema | None:
    """The collection's schema that an exported Parquet file carries, if it does."""
    pa, pq = _arrow()
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowInvalid) as error:
        raise StorageError(f"can't read {path}: {error}", field="file", value=str(path)) from error
    return Schema.from_dict(loads(metadata[_SCHEMA_KEY])) if _SCHEMA_KEY in metadata else None


def _arrow():
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise VectorDBError(_INSTALL, field="file") from error
    return pyarrow, pyarrow.parquet


def write_points(path: Path, schema: Schema, points: Iterable[Point], with_vectors: bool, integers: bool) -> int:
    """Write points in the format the name asks for; returns how many. integers: every id is an integer (a Parquet column has one type)."""
    kind = format_of(path)
    with _replacing(path) as part:
        if kind == "parquet":
            return _write_parquet(part, schema, points, with_vectors, integers)
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
    """A file beside ``path`` that takes its name when all went well: a reader never meets half an export."""
    path = Path(os.path.abspath(path))
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)
        modes.create(part, "xb", modes.mode_of(path) or modes.PRIVATE).close()  # for its owner's eyes, or as the one that it replaces
        yield part
        part.replace(path)
    except OSError as error:
        raise StorageError(f"can't write {path}: {error}", field="file", value=str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def _write_parquet(part: Path, schema: Schema, points: Iterable[Point], with_vectors: bool, integers: bool) -> int:
    pa, pq = _arrow()
    layout = Layout(schema)
    fields = [pa.field("id", pa.uint64() if integers else pa.string(), nullable=False)]
    fields += [pa.field(column, _arrow_type(pa, schema.attributes[name])) for column, name in layout.attributes.items()]
    if with_vectors:
        fields += [pa.field(column, _vector_type(pa, schema.vectors[name])) for column, name in layout.vectors.items()]
    fields.append(pa.field("payload", pa.string()))
    table_schema = pa.schema(fields, metadata={_SCHEMA_KEY: dumps(schema.to_dict()).encode()})
    count = 0
    with pq.ParquetWriter(part, table_schema, compression="zstd") as writer:
        for page in _pages(points):
            columns: list[Any] = [[p.id for p in page] if integers else [id_cell(p.id) for p in page]]
            columns += [stored(n, schema.attributes[n], [p.attributes.get(n) for p in page]) for n in layout.attributes.values()]
            if with_vectors:
                for name in layout.vectors.values():
                    spec = schema.vectors[name]
                    columns.append([None if (v := p.vectors.get(name)) is None else write_vector(spec, v) for p in page])
            columns.append([None if p.payload is None else dumps(p.payload) for p in page])
            try:
                arrays = [pa.array(values, type=f.type) for values, f in zip(columns, table_schema, strict=True)]
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError) as error:
                raise VectorDBError(f"the export doesn't fit Parquet: {error}") from error
            writer.write_batch(pa.record_batch(arrays, schema=table_schema))
            count += len(page)
    return count


def _pages(points: Iterable[Point]) -> Iterator[list[Point]]:
    page: list[Point] = []
    for point in points:
        page.append(point)
        if len(page) == _ROW_GROUP:
            yield page
            page = []
    if page:
        yield page


def _arrow_type(pa: Any, spec: Any) -> Any:
    types = {"keyword": pa.string(), "text": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "uuid": pa.string()}
    types |= {"datetime": pa.timestamp("us", tz="UTC"), "geo": pa.list_(pa.float64(), 2)}
    return pa.list_(types[spec.kind]) if spec.array else types[spec.kind]


def _vector_type(pa: Any, spec: Any) -> Any:
    """float16 is widened: nothing is lost, and more programs can read it."""
    if isinstance(spec, Sparse):
        return pa.struct([("indices", pa.list_(pa.uint64())), ("values", pa.list_(pa.float32()))])
    if spec.kind == "multi":
        return pa.list_(pa.list_(pa.float32()))
    return pa.list_(pa.float32(), spec.dim)
