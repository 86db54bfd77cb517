"""Read rows from Parquet and Arrow files and write points to Parquet files. Needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from vectordb_client.errors import InvalidArgumentError, StorageError, VectorDBError
from vectordb_client.model.results import Point
from vectordb_client.model.schema import Schema

from .forms import Layout, cell_id, dumps, id_cell, loads
from .sources import Row, Source

_SCHEMA_KEY = b"vectordb.schema"
_INSTALL = "Parquet and Arrow files need pyarrow: pip install pyarrow"
_ROW_GROUP = 1000


def parquet_rows(raw: BinaryIO, path: Path, start: int) -> Iterator[Row]:
    pa, pq = _arrow()
    try:
        file = pq.ParquetFile(raw)
    except pa.ArrowInvalid as error:
        raise InvalidArgumentError(f"{path} is not a Parquet file: {error}", field="file", value=str(path)) from None
    yield from _rows(pa, file.schema_arrow, file.iter_batches(batch_size=_ROW_GROUP), max(file.metadata.num_rows, 1), path, start)


def arrow_rows(raw: BinaryIO, path: Path, start: int) -> Iterator[Row]:
    """The rows of an Arrow IPC file (such as Feather) or of an IPC stream."""
    pa, _ = _arrow()
    try:
        try:
            file = pa.ipc.open_file(raw)
            batches, total = (file.get_batch(i) for i in range(file.num_record_batches)), file.num_record_batches
        except pa.ArrowInvalid:
            raw.seek(0)
            file = pa.ipc.open_stream(raw)
            batches, total = iter(file), 0
    except pa.ArrowInvalid as error:
        raise InvalidArgumentError(f"{path} is not an Arrow file: {error}", field="file", value=str(path)) from None
    pages = (batch.slice(low, _ROW_GROUP) for batch in batches for low in range(0, len(batch), _ROW_GROUP))
    yield from _rows(pa, file.schema, pages, max(total, 1), path, start)


def _rows(pa: Any, schema: Any, batches: Iterable[Any], total: int, path: Path, start: int) -> Iterator[Row]:
    names = schema.names
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise InvalidArgumentError(f"{path} names a column twice: {twice!r}", field="file", value=names)
    ours, number = _SCHEMA_KEY in (schema.metadata or {}), 0
    try:
        for batch in batches:
            if number + len(batch) > start:
                columns = {name: _python_values(pa, column) for name, column in zip(names, batch.columns, strict=True)}
                for i in range(max(start - number, 0), len(batch)):
                    record = {name: values[i] for name, values in columns.items()}
                    if ours:
                        record["id"] = cell_id(record["id"])
                        record["payload"] = None if record["payload"] is None else loads(record["payload"])
                    yield Row(number + i, record, min((number + i + 1) / total, 1.0))
            number += len(batch)
    except pa.ArrowException as error:
        raise InvalidArgumentError(f"{path} can't be read after row {number:,}: {error}", field="file", value=str(path)) from None


def _python_values(pa: Any, column: Any) -> list:
    """A column as Python values. Vectors stay arrays; timestamps become numpy's, which support years after 9999."""
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
    if pa.types.is_floating(kind):
        return [None if value != value else value for value in column.to_pylist()]  # many programs write NaN for a missing value
    return column.to_pylist()


def kept_schema(source: Source) -> Schema | None:
    """The collection schema stored in a Parquet file by an export, or None."""
    pa, pq = _arrow()
    try:
        with source.opened() as raw:
            metadata = pq.read_schema(raw).metadata or {}
    except pa.ArrowInvalid as error:
        raise InvalidArgumentError(f"{source.path} is not a Parquet file: {error}", field="file", value=str(source.path)) from None
    except OSError as error:
        raise StorageError(f"can't read {source.path}: {error}", field="file", value=str(source.path)) from error
    return Schema.from_dict(loads(metadata[_SCHEMA_KEY])) if _SCHEMA_KEY in metadata else None


def _arrow():
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise VectorDBError(_INSTALL, field="file") from error
    return pyarrow, pyarrow.parquet


def write_parquet(part: Path, schema: Schema, points: Iterable[Point], with_vectors: bool, integers: bool) -> int:
    """Write points to a Parquet file; returns their number. integers: all ids are integers (a column has one type)."""
    pa, pq = _arrow()
    layout = Layout(schema)
    fields = [pa.field("id", pa.uint64() if integers else pa.string(), nullable=False)]
    fields += [pa.field(column, schema.attributes[name].arrow_column_type(pa)) for column, name in layout.attributes.items()]
    if with_vectors:
        specs = {column: schema.vectors[name] for column, name in layout.vectors.items()}
        fields += [pa.field(column, spec.column.arrow_type(pa, spec)) for column, spec in specs.items()]
    fields.append(pa.field("payload", pa.string()))
    table_schema = pa.schema(fields, metadata={_SCHEMA_KEY: dumps(schema.to_dict()).encode()})
    count = 0
    with pq.ParquetWriter(part, table_schema, compression="zstd") as writer:
        points = iter(points)
        while page := list(islice(points, _ROW_GROUP)):
            columns: list[Any] = [[p.id for p in page] if integers else [id_cell(p.id) for p in page]]
            columns += [schema.attributes[n].arrow_column(n, [p.attributes.get(n) for p in page]) for n in layout.attributes.values()]
            if with_vectors:
                for name in layout.vectors.values():
                    spec = schema.vectors[name]
                    columns.append([None if (v := p.vectors.get(name)) is None else spec.column.to_json(v) for p in page])
            columns.append([None if p.payload is None else dumps(p.payload) for p in page])
            try:
                arrays = [pa.array(values, type=f.type) for values, f in zip(columns, table_schema, strict=True)]
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError) as error:
                raise VectorDBError(f"a value can't be written to Parquet: {error}") from error
            writer.write_batch(pa.record_batch(arrays, schema=table_schema))
            count += len(page)
    return count
