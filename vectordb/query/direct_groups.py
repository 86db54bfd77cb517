"""Direct searches in groups: the usual search of one dense field without a filter, grouped by a scalar attribute.

The first search and the filling of groups (``groups.grouped``) are direct searches. Whatever is unusual returns None and goes the long way,
which finds the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pyroaring import BitMap
from vectordb_client.model.results import Hits
from vectordb_client.model.search_request import SearchRequest

from ..engine.snapshot import Snapshots
from ..fields import FIELD_TYPES
from ..filters.cache import FilterCache
from ..index.mask import FEW_ROWS
from . import trace
from .counts import values_at
from .direct import DirectSearches
from .direct_blocks import piece
from .groups import DirectRequests, direct_requests, members_of_codes
from .values import ValueColumn

EVERY, MAX_DEPTHS = 16, 512  # searches by which the next depth is chosen; kinds of searches that are known [chosen, not measured]

Found = tuple[np.ndarray, int, int, int, Any]  # what ``direct_blocks.RowReader`` reads


class Depths:
    """How deep the recent searches of one kind had to go to find their groups, and the depth that is best for the next.

    best: the number of the depth with the least work: that of a search of this depth and, where it isn't enough, of the deepest after.
    """

    __slots__ = ("_depths", "_enough", "_last", "_needed", "best")

    def __init__(self, depths: tuple[int, ...]):
        self._depths, self._last = depths, len(depths) - 1
        self._enough: np.ndarray | None = None  # the share of searches for which each depth was enough, newer ones counting more
        self._needed: list[int] = []
        self.best = self._last

    def learn(self, needed: int) -> None:
        """Take note of a search. needed: the hits that it had to see; more than the deepest if even those weren't enough."""
        self._needed.append(needed)
        if len(self._needed) >= EVERY:
            self._choose()

    def _choose(self) -> None:
        needed, self._needed = np.array(self._needed), []
        enough = (needed[:, None] <= np.array(self._depths)).mean(axis=0)
        self._enough = enough = enough if self._enough is None else (self._enough + enough) / 2
        work = self._depths + (1 - enough) * self._depths[-1]
        work[-1] = self._depths[-1]
        self.best = int(work.argmin())


class Grouping(Sequence):
    """(value, number of hits) of each group, made of codes when it is read."""

    __slots__ = ("_codes", "_column", "_read", "_sizes", "_spec")

    def __init__(self, spec: Any, column: ValueColumn, codes: list[int], sizes: list[int]):
        self._spec, self._column, self._codes, self._sizes = spec, column, codes, sizes
        self._read: list[tuple[Any, int]] | None = None

    def _list(self) -> list[tuple[Any, int]]:
        if self._read is None:
            positions = self._column.ranks()[np.array(self._codes, np.int64)]
            self._read = list(zip(values_at(self._spec, self._column, positions), self._sizes, strict=True))
        return self._read

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, place: Any) -> Any:
        return self._list()[place]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._list() == list(other)

    def __reduce__(self) -> tuple:
        return list, (self._list(),)


class DirectGroups:
    """The direct searches in groups of one collection."""

    def __init__(self, direct: DirectSearches, snapshots: Snapshots, filters: FilterCache):
        self._direct, self._snapshots, self._filters = direct, snapshots, filters
        self._depths: dict[tuple[SearchRequest, str], Depths] = {}

    def search(self, request: SearchRequest, vectors: Any) -> Hits | None:
        """The hits of one query in groups; None if the long way must be gone."""
        requests, snapshot = direct_requests(request), self._snapshots.newest
        if requests is None or snapshot is None or trace.current() is not None or type(vectors) is not dict or len(vectors) != 1:
            return None
        spec: Any = snapshot.schema.attributes.get(request.group_by)
        if spec is None:
            return None
        cached = self._filters.get(("values", snapshot.meta.fields[request.group_by]))
        if cached is None or cached[0] < snapshot.rows or cached[1].owners is not None:
            return None
        column, size, wanted = cached[1], request.group_size, request.groups
        depths = self._depths_of(request, next(iter(vectors)), requests)
        number, last = depths.best, len(requests.depths) - 1
        while True:
            first = requests.depths[number]
            hits = self._direct.search(first, vectors)
            if hits is None:
                return None
            unread: Any = hits._unread  # of every direct search
            reader, found, count = unread
            codes = column.codes[found[0][:count]]
            if size == 1:  # mostly the best hits are of different groups
                best = codes[:wanted].tolist()
                if len(best) == wanted and len(set(best)) == wanted and 0 not in best:
                    depths.learn(wanted)
                    return self._made(snapshot, reader, _beginning(found, wanted), Grouping(spec, column, best, [1] * wanted))
            members = members_of_codes(codes, size, wanted)
            if count < first.limit or len(members) == wanted:
                break
            if number == last:
                depths.learn(first.limit + 1)
                return None
            number = last
        listed, at = [found], None
        if count == first.limit:
            depths.learn(max([group[0] for group in members.values()]) + 1)
            short = [code for code, group in members.items() if len(group) < size]
            if short:
                for code in short:
                    more = self._filled(snapshot, column.rows_of([code]), requests.filling, vectors)
                    if more is None:
                        return None
                    listed.append(more)
                others = np.flatnonzero(~np.isin(codes, short))  # the best rows of the short groups are in the others
                docids, at = _merged(listed, others, self._way(snapshot, vectors))
                members = members_of_codes(column.codes[docids], size, wanted)
        chosen = [place for group in members.values() for place in group]
        if at is None and chosen == [*range(len(chosen))]:
            subset = _beginning(found, len(chosen))
        else:
            places = np.array(chosen, np.int64)
            subset = _subset(listed, places if at is None else at[places])
        return self._made(snapshot, reader, subset, Grouping(spec, column, [*members], [*map(len, members.values())]))

    def _made(self, snapshot: Any, reader: Any, found: Found, grouping: Grouping) -> Hits | None:
        """The hits that were found; None if a search may have seen a newer snapshot."""
        if self._snapshots.newest is not snapshot:
            return None
        hits = Hits.unread(reader, found, found[1])
        hits._grouping = grouping
        return hits

    def _depths_of(self, request: SearchRequest, name: str, requests: DirectRequests) -> Depths:
        known = self._depths.get((request, name))
        if known is None:
            if len(self._depths) >= MAX_DEPTHS:
                self._depths.clear()
            known = self._depths[request, name] = Depths(tuple([each.limit for each in requests.depths]))
        return known

    def _filled(self, snapshot: Any, rows: np.ndarray, filling: SearchRequest, vectors: Any) -> Found | None:
        """The best of the live ones of some rows; None if there are too many of them."""
        rows = rows[: np.searchsorted(rows, snapshot.rows)]
        if snapshot.dead:
            rows = np.asarray((BitMap(rows) - snapshot.dead).to_array(), np.uint32)
        hits = self._direct.search(filling, vectors, rows) if len(rows) <= FEW_ROWS else None
        unread: Any = None if hits is None else hits._unread
        return None if unread is None else unread[1]

    def _way(self, snapshot: Any, vectors: Any) -> float:
        """1 where a higher score is better, −1 where a lower one is."""
        spec = snapshot.schema.vectors[next(iter(vectors))]
        return FIELD_TYPES[spec.kind].sign(spec)


def _merged(listed: list[Found], kept: np.ndarray, way: float) -> tuple[np.ndarray, np.ndarray]:
    """(docids, best first; where each is among all hits of some searches). kept: the places of the hits of the first that are taken."""
    at = np.concatenate([kept, np.arange(listed[0][1], sum([found[1] for found in listed]))])
    docids = np.concatenate([found[0][: found[1]] for found in listed])[at]
    scores = np.concatenate([found[0][2 * found[2] :].view(np.float32)[: found[1]] for found in listed])[at]
    order = np.lexsort((docids, -way * scores))
    return docids[order], at[order]


def _beginning(found: Found, n: int) -> Found:
    """The first n hits of a direct search, as if it had found no more."""
    out, count, k, integers, pieces = found
    if n == count or pieces is None:
        return out, n, k, integers, pieces
    return out, n, k, integers, pieces[:n] if type(pieces) is list else (pieces[0], pieces[1][: n + 1])


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
    begins = np.cumsum([0] + [found[1] for found in listed])
    numbers = (np.searchsorted(begins, at, "right") - 1).tolist()
    pieces = [piece(listed[number][4], i) for number, i in zip(numbers, (at - begins[numbers]).tolist(), strict=True)]
    return out, n, n, integers, pieces
