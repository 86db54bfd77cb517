"""The rows that a search may return: those that match its filter, as a bitmap, as docids and as masks of segments."""

from __future__ import annotations

import time
from functools import cached_property

import numpy as np
from pyroaring import BitMap
from vectordb_client.model.filter_nodes import Filter

from ..engine.snapshot import OpenSegment, View
from ..filters.bitmap import bitmap_of, matching, matching_rows
from ..filters.cache import FilterCache
from ..filters.nodes import both
from ..index.mask import FEW_ROWS, SegmentMask
from .trace import current


class RowFilter:
    """The rows that a search may return: those that match its filter, or all live rows. With ``given`` (docids, uint32 ascending) only
    these, which the caller has filtered already: the candidates of a prefetch.
    """

    def __init__(self, view: View, node: Filter | None, cache: FilterCache, given: np.ndarray | None = None):
        self.view, self.node, self._cache, self.given = view, node, cache, given
        self._rows: np.ndarray | None = given
        self._narrowed: dict[int, RowFilter] = {}  # by the identity of the filters, which the search keeps

    def of(self, view: View) -> RowFilter:
        """The same filter in another view."""
        return RowFilter(view, self.node, self._cache)

    def among(self, docids: np.ndarray) -> RowFilter:
        """The same restricted to these docids, which must be rows that the search may return."""
        return RowFilter(self.view, self.node, self._cache, np.sort(docids))

    def narrowed(self, node: Filter) -> RowFilter:
        """Those of these rows that also match another canonical filter."""
        known = self._narrowed.get(id(node))
        if known is None:
            if self.given is None:
                known = RowFilter(self.view, both(self.node, node), self._cache)
            else:
                docids = BitMap(self.given) & (matching(node, self.view, self._cache))
                known = self.among(np.asarray(docids.to_array(), np.uint32))
            self._narrowed[id(node)] = known
        return known

    @cached_property
    def _matching(self) -> BitMap | np.ndarray | None:
        """The live rows that match the filter, as a bitmap or as docids; None without a filter."""
        if self.node is None:
            return None
        notes = current()
        started = 0.0 if notes is None else time.perf_counter()
        matches = matching_rows(self.node, self.view, self._cache)
        if notes is not None and notes.clock is not None:
            notes.clock.charge("filter", time.perf_counter() - started)
        return matches

    @property
    def few(self) -> np.ndarray | None:
        """The docids that match the filter, uint32 ascending, if they are known to be FEW_ROWS at most; else None."""
        matches = self._matching
        return matches if isinstance(matches, np.ndarray) and len(matches) <= FEW_ROWS else None

    @cached_property
    def bitmap(self) -> BitMap | None:
        """The live rows that match the filter; None without a filter."""
        matches = self._matching
        return bitmap_of(matches) if isinstance(matches, np.ndarray) else matches

    @cached_property
    def matches(self) -> int:
        """The number of rows that the search may return."""
        if self.given is not None:
            return len(self.given)
        return self.view.snapshot.live if self._matching is None else len(self._matching)

    @property
    def everything(self) -> bool:
        """Whether the search may return every row: there is no dead row, and the filter, if any, matches all."""
        return self.matches == self.view.rows

    def rows(self) -> np.ndarray | None:
        """Their docids, uint32 ascending; None for all rows."""
        if self.everything:
            return None
        if self._rows is None:
            matches = self._matching
            if matches is None:
                self._rows = self.view.snapshot.live_rows()
            else:
                self._rows = matches if isinstance(matches, np.ndarray) else np.asarray(matches.to_array(), dtype=np.uint32)
        return self._rows

    def allowed(self, part: OpenSegment) -> SegmentMask:
        """The mask of a segment. It is cached by the filter and valid until a row of the segment dies."""
        if self.everything:
            return part.segment.all_allowed
        rows = self.rows()
        if rows is not None and len(rows) <= FEW_ROWS:
            return SegmentMask(part.segment, rows)  # it takes less time to make than to look up
        key = ("allowed", self.node, part.file, self.view.snapshot.meta.revision)
        # Rows are immutable, so the mask changes only when one of them dies.
        dead = self.view.dead.range_cardinality(part.first, part.end)
        cached = self._cache.get(key)
        if cached is not None and cached[0] == dead:
            return cached[1]
        allowed = SegmentMask(part.segment, rows)
        self._cache.put(key, dead, allowed, allowed.nbytes)
        return allowed

    def those_of(self, docids: np.ndarray) -> np.ndarray:
        """Those of some docids (uint32, ascending) that the search may return."""
        rows = self.rows() if len(docids) else None
        if rows is None:
            return docids
        at = np.searchsorted(rows, docids)
        return docids[np.append(rows, np.uint32(0xFFFFFFFF))[at] == docids]  # the padding matches no row: this docid is never assigned

    def between(self, low: int, high: int) -> np.ndarray:
        """The docids in [low, high) that the search may return, uint32 ascending."""
        rows = self.rows()
        if rows is None:
            return np.arange(low, high, dtype=np.uint32)
        start, end = np.searchsorted(rows, [low, high])
        return rows[start:end].copy()  # a copy: it may be cached, and a view would keep the whole array alive
