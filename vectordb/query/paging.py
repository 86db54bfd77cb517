"""Pages of a search: ``offset``, ``cursor`` and ``hits.next``.

A later page is a search in the state of the first one, deep enough for all rows that were returned before, which are then left out. While
few rows were returned by an approximate plan, the same plan goes deeper; otherwise the later pages are exact. So no row comes twice, and
rows that an approximate page missed come later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from vectordb_client.errors import InvalidArgumentError, PreconditionError
from vectordb_client.model.page_options import AUTO

from ..engine.snapshot import View
from ..filters.cache import FilterCache
from . import cursor as cursors
from .arms import sign
from .cursor import Cursor
from .past import needs_every_row, past_view
from .request import Arm, Search

# Constants: unit and meaning. Chosen, not measured.
MOST_LISTED = 1_000  # rows that an approximate plan finds again; with more, the later pages are exact
MOST_SHOWN = 4_096  # rows that a cursor lists
NO_PAGES = frozenset(("group_by", "diversity", "rerank"))  # options whose hits have no cursor (``page_options.check_together``)


@dataclass
class Page:
    """What a page leaves out.

    hidden: docids. last: (score, docid) of the last row before it, in an exact ranking. before: the cursor of the page before, None of the
    first page. passed: docids that an offset passed over, which the page fills in.
    """

    hidden: frozenset[int] = frozenset()
    last: tuple[float, int] | None = None
    before: Cursor | None = None
    passed: Sequence[int] = ()


def begin(view: View, search: Search, filters: FilterCache) -> tuple[View, Search, FilterCache]:
    """What to search for a page: the view, the search and the filters of the state that its first page saw.

    Raises InvalidArgumentError for a cursor of another search or collection, PreconditionError if that state is gone.
    """
    text = search.request.cursor
    if text is None:
        return view, search._replace(page=Page()), filters
    cursor = cursors.decode(text)
    if cursor.collection == view.store.collection:  # first: a query that is derived anew makes another search
        _check_fits(view, search, cursor)
    cursors.check_of(cursor, view.store.collection, cursors.fingerprint(search))
    past = past_view(view, cursor, needs_every_row(view.snapshot, _arms(search)))
    exact = search.exact or len(search.arms) > 1 or bool(past.died) or cursor.last is not None or cursor.taken > MOST_LISTED
    shown = cursor.docids()
    search = search._replace(
        limit=max(cursor.taken + search.request.limit + len(past.deleted), search.limit),
        candidates=cursor.candidates,
        fixed=True,
        page=Page(frozenset(shown) | frozenset(past.deleted), cursor.last, cursor),
    )
    if exact:
        search = search._replace(exact=True, recall=1.0, proven=True)
    return past.view, search, filters if past.view is view else FilterCache()


def _check_fits(view: View, search: Search, cursor: Cursor) -> None:
    """Raise PreconditionError if the vectors of a derived field that is searched were derived anew since the first page."""
    names = {view.fields[arm.field]: arm.field for arm in _arms(search) if arm.spec.derived is not None}
    for sequence in range(cursor.sequence + 1, view.sequence + 1) if names else ():
        entry = view.store.log(sequence)
        if entry is None or entry.get("derived") in names:
            field = names[entry["derived"]] if entry else next(iter(names.values()))
            why = f"the vectors of field {field!r} were derived anew" if entry else f"the change log no longer has sequence {sequence}"
            raise PreconditionError(
                f"cursor can't be continued: {why}; start again without a cursor", field="cursor", value=cursor.sequence
            )


def _arms(search: Search) -> list[Arm]:
    """The arms of a search and of the stages before it."""
    return [*search.arms, *(() if search.prefetch is None else _arms(search.prefetch))]


def cut(view: View, search: Search, ranking: tuple) -> tuple:
    """The part of a ranking that a page shows."""
    docids, scores, arms = ranking
    start, page, limit = search.request.offset, search.page, search.request.limit
    if page is None or page.before is None:
        if page is not None:
            page.passed = docids[:start]
        return docids[start : start + limit], scores[start : start + limit], arms[start : start + limit]
    if page.last is not None:
        start = _after(search, docids, scores, *page.last)
    kept = [i for i in range(start, len(docids)) if docids[i] not in page.hidden][:limit]
    return [docids[i] for i in kept], [scores[i] for i in kept], [arms[i] for i in kept]


def _after(search: Search, docids: Sequence[int], scores: Sequence[float], score: float, docid: int) -> int:
    """The place behind a row in a ranking. If the row isn't stored any more, the place where it would be."""
    if docid in docids:
        return docids.index(docid) + 1
    lower = -score_sign(search)
    return sum((lower * each, row) <= (lower * score, docid) for each, row in zip(scores, docids, strict=True))


def score_sign(search: Search) -> float:
    """1 if a higher score of a hit is better, else −1: of a single l2 arm, unless its scores are calibrated."""
    return sign(search.arms[0]) if len(search.arms) == 1 and search.request.score == "raw" else 1.0


def following(view: View, search: Search, docids: Sequence[int], scores: Sequence[float]) -> tuple[Callable[[Any], bytes], Any] | None:
    """A function that makes the cursor of the page after this one, and its argument; None if this one isn't full.

    docids, scores: of the page, as users see them. Queries are copied, because their owner may change them.
    """
    request = search.request
    if request.limit == AUTO or len(docids) < request.limit or (search.steps and not NO_PAGES.isdisjoint(request.changed())):
        return None
    if search.prefetch is not None:
        return bytes, _made((view.store.collection, view.snapshot.state, search, docids, scores))
    arms = tuple([arm.with_queries([_copied(arm.queries[0])], first=False) for arm in search.arms])
    return _made, (view.store.collection, view.snapshot.state, search.with_arms(arms), docids, scores)


def _copied(query: Any) -> Any:
    if isinstance(query, np.ndarray):
        return query.copy()
    return tuple(map(_copied, query)) if isinstance(query, tuple) else query


def _made(given: tuple) -> bytes:
    """The cursor after a page, of the collection's number, the state that it saw, its search, and its docids and scores."""
    collection, state, search, docids, scores = given
    page, key = search.page or Page(), cursors.fingerprint(search)
    before, last, words = page.before, (float(scores[-1]), int(docids[-1])), search.words
    if before is None:
        every = [*page.passed, *docids]
        if search.exact or len(every) > MOST_SHOWN:
            return _encoded(collection, state, key, len(every), search.candidates, (), last, words)
        return _encoded(collection, state, key, len(every), search.candidates, every, None, words)
    state = (before.sequence, before.rows, before.live, before.compactions)
    taken, shown = before.taken + len(docids), before.docids()
    if not search.exact:
        return _encoded(collection, state, key, taken, search.candidates, [*shown, *docids], None, words)
    return _encoded(collection, state, key, taken, search.candidates, shown, last, words)


def _encoded(
    number: int,
    state: tuple[int, int, int, int],
    search: bytes,
    taken: int,
    candidates: int,
    shown: Sequence[int],
    last: tuple[float, int] | None,
    words: Mapping[str, int] = {},
) -> bytes:
    return Cursor(number, *state, search, taken, candidates, np.array(shown, "<u4").tobytes(), last, dict(words)).encode()


def after_direct(found: tuple) -> bytes:
    """The cursor after a page that a direct search found.

    found: (the collection's number, the state, the search, the field, the bytes of the query, the array of docids, ids and scores as in
    ``direct_blocks.RowReader``, the number of hits, the number of places in it).
    """
    collection, state, search, name, query, out, count, k = found
    key, docids = cursors.finished(search, [(name, query)]), out[:count].tolist()
    if count <= MOST_SHOWN:
        return _encoded(collection, state, key, count, search.candidates, docids, None)
    return _encoded(collection, state, key, count, search.candidates, (), (float(out[2 * k :].view(np.float32)[count - 1]), docids[-1]))


def after_direct_arms(found: tuple) -> bytes:
    """``after_direct`` of several arms. found: (the collection's number, the state, the search, the fields, the bytes of their queries,
    what ``kernels.direct_arms.merge_arms`` wrote, the number of hits).
    """
    collection, state, search, names, queries, out, count = found
    key, docids = cursors.finished(search, list(zip(names, queries, strict=True))), out[:count].tolist()
    if count <= MOST_SHOWN:
        return _encoded(collection, state, key, count, search.candidates, docids, None)
    score = float(out[2 * search.limit :].view(np.float64)[count - 1])
    return _encoded(collection, state, key, count, search.candidates, (), (score, docids[-1]))


def check_single(batch: bool, search: Search) -> None:
    """Check that a search that has a cursor is one search. Raises InvalidArgumentError."""
    if batch and search.request.cursor is not None:
        what = "cursor continues one search: call search, not search_batch or prepare"
        raise InvalidArgumentError(what, field="cursor", value=search.request.cursor)
