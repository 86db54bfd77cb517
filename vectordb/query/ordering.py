"""Searches and scrolls in the order of attributes: ``order_by``. Null comes last in both directions; of equal rows the older one first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from vectordb_client.errors import InvalidArgumentError, PreconditionError
from vectordb_client.model.checks import check_names, check_selection, not_a_cursor
from vectordb_client.model.filter_nodes import Filter
from vectordb_client.model.page_options import cursor_text
from vectordb_client.model.results import Hit, Point
from vectordb_client.model.search_request import SearchRequest
from vectordb_client.model.values import Id

from ..engine.snapshot import View
from ..filters.cache import FilterCache
from ..filters.text import to_string
from . import cursor as cursors
from .columns import Values, check_ordered, values_of
from .cursor import Cursor
from .execute import fetched
from .past import past_view
from .read import points
from .row_filter import RowFilter
from .sorted_rows import sorted_rows
from .trace import Clock


class Order:
    """One page of the rows that match a filter, in the order of attributes.

    node: the canonical filter. after: the cursor of the page before. view: of the state that the first page saw.
    docids: int64, of the page. more: whether rows follow. matches: rows that match the filter.

    Raises SchemaError for an attribute without order, InvalidArgumentError or PreconditionError for a cursor that can't be continued.
    """

    def __init__(self, view: View, node: Filter | None, names: Sequence[str], limit: int, after: str | None, cache: FilterCache):
        columns = tuple([name.removeprefix("-") for name in names])
        check_ordered(view, columns)
        asked = (node, tuple(names), *(() if view.as_of is None else (view.as_of,)))
        self._search = blake2b(repr(asked).encode(errors="surrogatepass"), digest_size=8).digest()
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
        known = sorted_rows(present, columns[0], names[0][0] == "-", cache) if len(columns) == 1 else None
        walked = None if known is None else known.page(rows, hidden, limit, last)
        if walked is not None:
            self.docids, self.more = walked[:limit], len(walked) > limit
            return
        docids = rows.rows()
        docids = np.arange(view.rows, dtype=np.int64) if docids is None else docids.astype(np.int64)
        if hidden:
            docids = docids[~np.isin(docids, np.asarray(hidden.to_array()))]
        # The columns are those of the present: rows don't change.
        keys = [
            key for name, given in zip(columns, names, strict=True) for key in _columns(values_of(present, name, cache), given[0] == "-")
        ]
        if last is not None:
            docids = _after(keys, docids, last)
        self.docids = _first(keys, docids, limit)
        self.more = len(docids) > limit

    def cursor(self, docid: int) -> bytes:
        """The cursor of the page behind a row."""
        return Cursor(self.view.store.collection, *self._state, self._search, 0, 0, b"", (0.0, docid)).encode()


def _columns(values: Values, descending: bool) -> list[np.ndarray]:
    """What rows are compared by, the smallest first: whether a row has no value, if some have none, and int64 keys."""
    keys = ~values.keys if descending else values.keys
    return [keys] if values.has.all() else [~values.has, np.where(values.has, keys, 0)]


def _after(columns: Sequence[np.ndarray], docids: np.ndarray, last: int) -> np.ndarray:
    """Those of some rows (ascending) that come after a row. Rows that are equal in a column are in ascending order."""
    if not columns:
        return docids[docids > last]
    values, bound = columns[0][docids], columns[0][last]
    return np.concatenate([docids[values > bound], _after(columns[1:], docids[values == bound], last)])


def _first(columns: Sequence[np.ndarray], docids: np.ndarray, limit: int) -> np.ndarray:
    """The first ``limit`` of some rows. docids: ascending among rows that are equal in the first column."""
    chosen = _smallest(columns, docids, limit)
    return chosen[np.lexsort([chosen, *[column[chosen] for column in reversed(columns)]])]


def _smallest(columns: Sequence[np.ndarray], docids: np.ndarray, limit: int) -> np.ndarray:
    """``_first`` in any order. Only rows that are equal so far are compared further."""
    if len(docids) <= limit:
        return docids
    if not columns:
        return docids[:limit]
    values = columns[0][docids]
    bound = np.partition(values, limit - 1)[limit - 1]
    lower = docids[values < bound]
    return np.concatenate([lower, _smallest(columns[1:], docids[values == bound], limit - len(lower))])


def scroll(
    view: View,
    node: Filter | None,
    names: Sequence[str],
    limit: int,
    after: Any,
    attributes: bool | Sequence[str],
    vectors: Sequence[str],
    cache: FilterCache,
    payload: bool | Sequence[str] | None = None,
) -> tuple[Iterator[list[Point]], bool, Callable[[Id], str]]:
    """``read.scroll`` in the order of attributes, and a function from the id of a point of the page to the cursor behind it.

    A point that was replaced since the first page is shown as it was then, without a version.
    """
    if after is not None and not isinstance(after, str):
        raise not_a_cursor(after)
    order = Order(view, node, names, limit, after, cache)
    docids = order.docids
    ids = [value.item() if isinstance(value, np.generic) else value for value in order.view.ids(docids)]
    entries = []
    for docid, entry in zip(docids.tolist(), order.view.entries(ids), strict=True):
        entries.append((docid, entry[1] if entry is not None and entry[0] == docid else None))
    places = dict(zip(ids, docids.tolist(), strict=True))
    found = points(order.view, ids, entries, attributes, vectors, payload)
    return found, order.more, lambda value: cursor_text(order.cursor(places[value]))


class Ordered:
    """The answer of a search without a query, in the form of ``execute.Answers``. Each hit has the score 0."""

    facets: Mapping[str, Any] = {}
    groups: Sequence[Any] = ()

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
        ranked = docids, [0.0] * len(docids), [{} for _ in docids]
        yield fetched(self._order.view, self._attributes, self._vectors, ranked, self._request.with_payload)
        self._clock.lap("fetch")

    @property
    def next(self) -> bytes | None:
        """The cursor of the next page; None if there is none."""
        return self._order.cursor(int(self._order.docids[-1])) if self._order.more else None

    @property
    def later(self) -> tuple[Callable[[Any], bytes], Any] | None:
        """As ``execute.Answers.later``."""
        raw = self.next
        return None if raw is None else (bytes, raw)

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
            **self._order.view.told,
            "queries": 1,
            "live_rows": self._live,
            "filter": None if self._node is None else {"matches": matches, "selectivity": matches / max(self._live, 1)},
            "exact": True,
            "arms": [],
            "fusion": None,
            "prefetch": None,
            "milliseconds": self._clock.milliseconds,
        }
