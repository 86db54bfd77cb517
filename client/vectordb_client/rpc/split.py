"""Splitting a large batch into batches that fit a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import LimitError, shown
from ..model.batch import Batch
from ..model.fields import Column


def slice_batch(batch: Batch, low: int, high: int) -> Batch:
    """Points ``low`` to ``high − 1`` of a batch."""
    vectors = {name: column for name, whole in batch.vectors.items() if (column := _slice_column(whole, low, high)) is not None}
    removed = {name: rows[(rows >= low) & (rows < high)] - np.int32(low) for name, rows in batch.removed.items()}
    return Batch(
        batch.kind,
        batch.ids[low:high],
        vectors,
        {name: values[low:high] for name, values in batch.attributes.items()},
        None if batch.payload is None else batch.payload[low:high],
        {name: rows for name, rows in removed.items() if len(rows)},
        None if batch.if_version is None else batch.if_version[low:high],
        batch.if_filter,
        increments={name: values[low:high] for name, values in batch.increments.items()},
        payload_merge=None if batch.payload_merge is None else batch.payload_merge[low:high],
        if_absent=batch.if_absent,
        keys={name: values[low:high] for name, values in batch.keys.items()},
    )


def _slice_column(column: Column, low: int, high: int) -> Column | None:
    if column.rows is None:
        return column.slice(low, high)
    start, stop = map(int, np.searchsorted(column.rows, (low, high)))
    return column.slice(start, stop, column.rows[start:stop] - np.int32(low)) if start < stop else None


def split_batch(batch: Batch, limit: int, pack: Callable[[Batch], Any]) -> list[Any]:
    """``pack(part)`` for parts of a batch, so that each message has at most ``limit`` bytes. All parts are made before one is sent.

    Raises LimitError if a single point is larger, or if a batch with a condition is too large: a condition applies to the whole batch.
    """
    size = sum(column.nbytes for column in batch.vectors.values())
    if size <= limit:
        message = pack(batch)
        size = message.ByteSize()
        if size <= limit:
            return [message]
    n = len(batch.ids)
    if n <= 1:
        where = f"point {shown(batch.ids[0])}" if n else "the batch"
        raise LimitError(f"{where} takes {size} bytes; the service accepts messages of at most {limit}", field="points", value=size)
    if batch.if_version is not None or batch.if_filter is not None:
        what = f"the batch takes {size} bytes; the service accepts messages of at most {limit}"
        raise LimitError(f"{what}, and a batch with if_version or if_filter isn't split", field="points", value=size)
    step = max(1, min(n // 2, int(n * limit * 0.9 / size)))
    return [message for low in range(0, n, step) for message in split_batch(slice_batch(batch, low, min(n, low + step)), limit, pack)]
