"""The rows in the order of one attribute, so that a page can begin anywhere in it: what ``order_by`` uses where it is asked repeatedly."""

from __future__ import annotations

import numpy as np
from pyroaring import BitMap

from ..common import memory
from ..engine.snapshot import View
from ..filters.cache import FilterCache
from .columns import values_of
from .row_filter import RowFilter

ASKED = 3  # orders by an attribute, without a write between them, before its rows are sorted [chosen, not measured]
WALKED = 2_048  # rows that are looked at for one page, at most; to compare all rows takes less time than more [estimate]
_ROW_BYTES = 40  # of memory for each row while rows are sorted [estimate]


class SortedRows:
    """order: docids uint32 ``(rows,)``, those of equal values ascending, those without a value last. place: uint32, where each docid is."""

    __slots__ = ("order", "place")

    def __init__(self, keys: np.ndarray, has: np.ndarray):
        valued = np.flatnonzero(has)
        valued = valued[np.argsort(keys[valued], kind="stable")]
        self.order = np.concatenate([valued, np.flatnonzero(~has)]).astype(np.uint32)
        self.place = np.empty(len(has), np.uint32)
        self.place[self.order] = np.arange(len(has), dtype=np.uint32)

    def page(self, rows: RowFilter, hidden: BitMap | None, limit: int, last: int | None) -> np.ndarray | None:
        """The first ``limit + 1`` of some rows behind the row ``last``: docids int64. None if too many others are between them."""
        if rows.few is not None or rows.matches * WALKED < (limit + 1) * rows.view.rows:
            return None
        allowed, out = (None, rows.view.dead) if rows.node is None else (rows.bitmap, BitMap())
        out, end = out | hidden if hidden else out, rows.view.rows
        at = 0 if last is None else int(self.place[last]) + 1
        found: list[int] = []
        for low in range(at, min(at + WALKED, len(self.order)), limit + 1):
            for docid in self.order[low : low + limit + 1].tolist():
                if docid < end and docid not in out and (allowed is None or docid in allowed):
                    found.append(docid)
            if len(found) > limit:
                return np.array(found[: limit + 1], np.int64)
        return np.array(found, np.int64) if at + WALKED >= len(self.order) else None


def sorted_rows(view: View, name: str, descending: bool, cache: FilterCache) -> SortedRows | None:
    """The rows in the order of an attribute that ``check_ordered`` accepts; None until it was asked for a few times.

    They are for the rows of this view: a write makes them void.
    """
    key = ("sorted rows", view.fields[name], descending)
    cached = cache.get(key)
    known, asked = cached[1] if cached is not None and cached[0] == view.rows else (None, 0)
    if known is not None:
        return known
    asked += 1
    if asked >= ASKED and 2 * _ROW_BYTES * view.rows <= cache.capacity:
        values = values_of(view, name, cache)
        with memory.held(_ROW_BYTES * view.rows, "the rows in the order of an attribute"):
            known = SortedRows(~values.keys if descending else values.keys, values.has)
    cache.put(key, view.rows, (known, asked), 128 + (0 if known is None else known.order.nbytes + known.place.nbytes))
    return known
