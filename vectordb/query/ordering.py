"""Searches and scrolls in the order of attributes: ``order_by``. Null comes last in both directions; of equal points the older row first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from vectordb_client.errors import InvalidArgumentError, PreconditionError
from vectordb_client.model.checks import check_names, check_selection
from vectordb_client.model.filter_nodes import Filter
from vectordb_client.model.results import Hit
from vectordb_client.model.search_request import SearchRequest

from ..engine.snapshot import View
from ..filters.cache import FilterCache
from ..filters.text import to_string
from . import cursor as cursors
from .columns import Values, check_ordered, values_of
from .cursor import Cursor
from .execute import fetched
from .past import past_view
from .row_filter import RowFilter
from .trace import Clock

_LAST = np.iinfo(np.int64).max


class Order:
    """One page of the rows that match a filter, in the order of attributes. node: the canonical filter. after: the cursor of the page before.

    view: of the state that the first page saw. docids: int64, of the page. more: whether rows follow. matches: rows that match the filter.

    Raises SchemaError for an attribute without order, InvalidArgumentError or PreconditionError for a cursor that can't be continued.
    """

    def __init__(self, view: View, node: Filter | None, names: Sequence[str], limit: int, after: str | None, cache: FilterCache):
        columns = tuple([name.removeprefix("-") for name in names])
        check_ordered(view, columns)
        self._search = blake2b(repr((node, tuple(names))).encode(errors="surrogatepass"), digest_size=8).digest()
        self._state, last, hidden, present = view.snapshot.state, None, None, view
        if after is not None:
            cursor = cursors.decode(after)
            cursors.check_of(cursor, view.store.collection, self._search)
            past = past_view(view, cursor, False)
            assert cursor.last is not None
            last = cursor.last[1]
            if last in past.died and view.snapshot.compactions != cursor.compactions:
                what = "cursor can't be continued: the last point of its page was removed by a compaction; start again without a cursor"
                raise PreconditionError(what, field="cursor")
            self._state, hidden = (cursor.sequence, cursor.rows, cursor.live, cursor.compactions), past.deleted
            view = past.view
        self.view = view
        rows = RowFilter(view, node, cache if view is present else FilterCache())
        self.matches = rows.matches
        docids = rows.rows()
        docids = np.arange(view.rows, dtype=np.int64) if docids is None else docids.astype(np.int64)
        if hidden:
            docids = docids[~np.isin(docids, np.asarray(hidden.to_array()))]
        # The columns are those of the present: rows don't change.
        keys = [_key(values_of(present, name, cache), given.startswith("-")) for name, given in zip(columns, names, strict=True)]
        if last is not None:
            docids = _after(keys, docids, last)
        self.docids = _first(keys, docids, limit)
        self.more = len(docids) > limit

    def cursor(self, docid: int) -> bytes:
        """The cursor of the page behind a row."""
        return Cursor(self.view.store.collection, *self._state, self._search, 0, 0, b"", (0.0, docid)).encode()


def _key(values: Values, descending: bool) -> tuple[np.ndarray, np.ndarray]:
    """What rows are compared by: int64 keys, and whether a row has no value, which comes last."""
    keys = ~values.keys if descending else values.keys
    return np.where(values.has, keys, _LAST), ~values.has


def _after(keys: Sequence[tuple[np.ndarray, np.ndarray]], docids: np.ndarray, last: int) -> np.ndarray:
    """Those of some rows (ascending) that come after a row."""
    after, equal = np.zeros(len(docids), np.bool_), np.ones(len(docids), np.bool_)
    for column in keys:
        for part in column[::-1]:
            values = part[docids]
            after |= equal & (values > part[last])
            equal &= values == part[last]
    return docids[after | (equal & (docids > last))]


def _first(keys: Sequence[tuple[np.ndarray, np.ndarray]], docids: np.ndarray, limit: int) -> np.ndarray:
    """The first ``limit`` of some rows (ascending)."""
    columns = [part for column in keys for part in column]
    chosen = _smallest(columns, docids, limit)
    return chosen[np.lexsort([chosen, *[part[chosen] for part in reversed(columns)]])]


def _smallest(columns: Sequence[np.ndarray], docids: np.ndarray, limit: int) -> np.ndarray:
    """The first ``limit`` of some rows (ascending), in any order. Only rows that are equal so far are compared further."""
    if len(docids) <= limit:
        return docids
    if not columns:
        return docids[:limit]
    values = columns[0][docids]
    bound = np.partition(values, limit - 1)[limit - 1]
    lower = docids[values < bound]
    return np.concatenate([lower, _smallest(columns[1:], docids[values == bound], limit - len(lower))])


class Ordered:
    """The answer of a search without a query, in the form of ``execute.Answers``. Each hit has the score 0."""

    def __init__(self, view: View, request: SearchRequest, vectors: Any, text: Any, batch: bool, cache: FilterCache):
        if batch:
            what = "order_by lists points without a query: call search, not search_batch or prepare"
            raise InvalidArgumentError(what, field="order_by", value=request.order_by)
        if vectors is not None or text is not None:
            what = "order_by lists points without a query: leave vectors and text out, or leave order_by out to rank by score"
            raise InvalidArgumentError(what, field="order_by", value=request.order_by)
        self._request, self._clock = request, Clock()
        self._attributes = check_selection("with_attributes", request.with_attributes, view.schema.attributes)
        self._vectors = check_names("with_vectors", request.with_vectors, view.schema.vectors)
        self._node = cache.bind(request.filter, view.schema)
        self._live = view.snapshot.live
        self._order = Order(view, self._node, request.order_by, request.limit, request.cursor, cache)
        self._clock.lap("order")

    def __iter__(self) -> Iterator[Iterator[list[Hit]]]:
        docids = self._order.docids.tolist()
        yield fetched(self._order.view, self._attributes, self._vectors, (docids, [0.0] * len(docids), [{} for _ in docids]))
        self._clock.lap("fetch")

    @property
    def next(self) -> bytes | None:
        """The cursor of the next page; None if there is none."""
        return self._order.cursor(int(self._order.docids[-1])) if self._order.more else None

    @property
    def plan(self) -> dict | None:
        """How it was run, if the search is explained."""
        if not self._request.explain:
            return None
        request, matches = self._request.shown(), self._order.matches
        if self._node is not None:
            request = {"filter": to_string(self._node, values=True)} | request
        return {
            "request": request,
            "sequence": self._order.view.sequence,
            "queries": 1,
            "live_rows": self._live,
            "filter": None if self._node is None else {"matches": matches, "selectivity": matches / max(self._live, 1)},
            "exact": True,
            "arms": [],
            "fusion": None,
            "prefetch": None,
            "milliseconds": self._clock.milliseconds,
        }
