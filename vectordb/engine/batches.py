"""Batches made from other batches while they are applied: the points that are missing, and those that match a filter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from vectordb_client.errors import VectorDBError, shown
from vectordb_client.model.batch import UNSET, Batch
from vectordb_client.model.batch_ids import MAX_BATCH
from vectordb_client.model.dynamic import with_changed
from vectordb_client.model.fields import Column
from vectordb_client.model.schema import Schema
from vectordb_client.model.values import Id
from vectordb_client.model.write_options import merged


def taken(batch: Batch, rows: Sequence[int]) -> Batch:
    """The points of a batch at some rows (ascending)."""
    chosen = np.array(rows, dtype=np.int64)
    columns = {name: column for name, whole in batch.vectors.items() if (column := _column(whole, chosen)) is not None}
    attributes = {name: [values[row] for row in rows] for name, values in batch.attributes.items()}
    payload = None if batch.payload is None else [batch.payload[row] for row in rows]
    return replace(batch, ids=[batch.ids[row] for row in rows], vectors=columns, attributes=attributes, payload=payload)


def _column(column: Column, rows: np.ndarray) -> Column | None:
    if column.rows is None:
        return column.take(rows)
    kept = np.flatnonzero(np.isin(column.rows, rows))
    return column.take(kept, np.searchsorted(rows, column.rows[kept]).astype(np.int32)) if len(kept) else None


def repeated(batch: Batch, ids: Sequence[Id]) -> Iterator[Batch]:
    """An update by filter as updates of the points that match, at most ``MAX_BATCH`` each. The batch has one row, for all of them."""
    for low in range(0, len(ids), MAX_BATCH):
        some = ids[low : low + MAX_BATCH]
        n, first = len(some), np.zeros(len(some), np.int64)
        yield replace(
            batch,
            ids=some,
            vectors={name: column.take(first) for name, column in batch.vectors.items()},
            attributes={name: list(values) * n for name, values in batch.attributes.items()},
            payload=None if batch.payload is None else list(batch.payload) * n,
            removed={name: np.arange(n, dtype=np.int32) for name, rows in batch.removed.items() if len(rows)},
            filter=None,
            increments={name: list(values) * n for name, values in batch.increments.items()},
            payload_merge=None if batch.payload_merge is None else list(batch.payload_merge) * n,
            keys={name: list(values) * n for name, values in batch.keys.items()},
        )


def change_values(batch: Batch, schema: Schema, rows: Sequence[Any]) -> None:
    """Carry out the increments and merges of an update on the records of its points. A missing number counts as 0.

    Raises InvalidArgumentError if a sum doesn't fit its attribute.
    """
    for name, values in batch.increments.items():
        spec = schema.attributes[name]
        for value, row, more in zip(batch.ids, rows, values, strict=True):
            if more is None:
                continue
            try:
                row.attributes[name] = spec.coerce_one(name, row.attributes.get(name, 0) + more)
            except VectorDBError as error:
                what = f"point {shown(value)} can't be incremented by {shown(more)}: {error.message}"
                raise type(error)(what, field=name, value=more) from None
    if batch.payload_merge is not None:
        for row, patch in zip(rows, batch.payload_merge, strict=True):
            if patch is not None:
                row.payload = merged(row.payload, patch)


def changed_payloads(batch: Batch, payloads: Sequence[Any]) -> list[Any]:
    """The payloads of the points of an update with the keys that it changes. Raises InvalidArgumentError if one isn't an object."""
    made = list(payloads)
    for row, value in enumerate(batch.ids):
        keys = {name: values[row] for name, values in batch.keys.items() if values[row] is not UNSET}
        if keys:
            made[row] = with_changed(made[row], keys, value)
    return made
