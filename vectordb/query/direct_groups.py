"""Direct searches in groups: the usual search of one dense field without a filter, grouped by a scalar attribute.

The first search and the filling of groups (``groups.grouped``) are direct searches. Whatever is unusual returns None and goes the long way,
which finds the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from vectordb_client.model.results import Hits
from vectordb_client.model.search_request import SearchRequest

from ..engine.snapshot import Snapshots
from ..fields import FIELD_TYPES
from ..filters.cache import FilterCache
from . import trace
from .counts import values_at
from .direct import DirectSearches
from .direct_blocks import piece
from .groups import FILL_ROWS, direct_requests, members_of

Found = tuple[np.ndarray, int, int, int, Any]  # what ``direct_blocks.RowReader`` reads


class DirectGroups:
    """The direct searches in groups of one collection."""

    def __init__(self, direct: DirectSearches, snapshots: Snapshots, filters: FilterCache):
        self._direct, self._snapshots, self._filters = direct, snapshots, filters

    def search(self, request: SearchRequest, vectors: Any) -> Hits | None:
        """The hits of one query in groups; None if the long way must be gone."""
        requests, snapshot = direct_requests(request), self._snapshots.newest
        if requests is None or snapshot is None or trace.current() is not None:
            return None
        spec: Any = snapshot.schema.attributes.get(request.group_by)
        if spec is None:
            return None
        cached = self._filters.get(("values", snapshot.meta.fields[request.group_by]))
        if cached is None or cached[0] < snapshot.rows or cached[1].owners is not None:
            return None
        column, (first, filling) = cached[1], requests
        hits = self._direct.search(first, vectors)
        if hits is None:
            return None
        unread: Any = hits._unread  # of every direct search
        reader, found, count = unread
        docids, listed, at = found[0][:count], [found], None
        members = members_of(column, docids, request.group_size, request.groups)
        if count == first.limit:
            if len(members) < request.groups:
                return None
            short = [code for code, group in members.items() if len(group) < request.group_size]
            if short:
                more = self._filled(snapshot, column.rows_of(short), filling, vectors)
                if more is None:
                    return None
                listed.append(more)
                docids, at = _merged(listed, self._way(snapshot, vectors))
                members = members_of(column, docids, request.group_size, request.groups)
        if self._snapshots.newest is not snapshot:  # a search may have seen a newer one
            return None
        places = np.array([place for group in members.values() for place in group], np.int64)
        made = Hits.unread(reader, _subset(listed, places if at is None else at[places]), len(places))
        codes = np.array(list(members), np.int64)
        made._grouping = list(zip(values_at(spec, column, column.ranks()[codes]), map(len, members.values()), strict=True))
        return made

    def _filled(self, snapshot: Any, rows: np.ndarray, filling: SearchRequest, vectors: Any) -> Found | None:
        """What a search of the live ones of some rows finds; None if there are too many of them."""
        rows = rows[: np.searchsorted(rows, snapshot.rows)]
        if snapshot.dead:
            dead = snapshot.dead
            rows = np.array([docid for docid in rows.tolist() if docid not in dead], np.uint32)
        hits = self._direct.search(filling, vectors, rows) if len(rows) <= FILL_ROWS else None
        unread: Any = None if hits is None else hits._unread
        return None if unread is None else unread[1]

    def _way(self, snapshot: Any, vectors: Any) -> float:
        """1 where a higher score is better, −1 where a lower one is."""
        spec = snapshot.schema.vectors[next(iter(vectors))]
        return FIELD_TYPES[spec.kind].sign(spec)


def _merged(listed: list[Found], way: float) -> tuple[np.ndarray, np.ndarray]:
    """(docids, best first; where each is among all hits of the searches)."""
    docids = np.concatenate([found[0][: found[1]] for found in listed])
    scores = np.concatenate([found[0][2 * found[2] :].view(np.float32)[: found[1]] for found in listed])
    docids, at = np.unique(docids, return_index=True)
    order = np.lexsort((docids, -way * scores[at]))
    return docids[order], at[order]


def _subset(listed: list[Found], at: np.ndarray) -> Found:
    """Some of the hits of direct searches, as if one search had found them. at: their places among all hits of the searches."""
    n = len(at)
    out = np.empty(2 * n + (n + 1) // 2, np.int64)
    for place, column in enumerate((0, 1)):
        out[place * n : place * n + n] = np.concatenate([found[0][column * found[2] :][: found[1]] for found in listed])[at]
    out[2 * n :].view(np.float32)[:n] = np.concatenate([found[0][2 * found[2] :].view(np.float32)[: found[1]] for found in listed])[at]
    integers = all(found[3] for found in listed)
    if any(found[4] is None for found in listed):
        return out, n, n, integers, None
    first = listed[0][1]
    pieces = [piece(listed[0][4], i) if i < first else piece(listed[1][4], i - first) for i in at.tolist()]
    return out, n, n, integers, pieces
