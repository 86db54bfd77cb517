"""Group the ranking of a search by the values of an attribute: search deeper until all groups are found, then fill those with few hits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from vectordb_client.model.search_request import SearchRequest

from ..common import deadline
from ..engine.snapshot import View
from ..filters.cache import FilterCache
from .arms import sign
from .counts import values_at
from .request import Search
from .row_filter import RowFilter
from .trace import all_exact
from .values import ValueColumn, column_of

MORE = 2  # hits a group beside its size that the first search asks for [chosen, not measured]
DIRECT_DEPTH = 1_000  # hits of the first search of a direct search in groups, at most [chosen, not measured]
FILL_ROWS = 256  # rows that a direct search fills groups from, at most [chosen, not measured]
_DIRECT = frozenset(("group_by", "group_size", "groups", "recall", "with_attributes"))  # options of direct searches in groups
FILLED = 16  # a fused ranking is not searched deeper than so many times the first depth to fill groups [chosen, not measured]

Ranking = tuple[list[int], list[float], list[dict]]
Rank = Callable[[Search, RowFilter], tuple[Ranking, dict | None]]


class Grouped:
    """The groups of one query. docids, scores, arms: of the hits, group by group, best group first. groups: (value, number of hits). plan:
    the stage's entry of the plan if the search is explained; facts: what explain says of the groups.
    """

    def __init__(self, ranking: Ranking, groups: list[tuple[Any, int]], plan: dict | None, facts: dict[str, Any]):
        self.ranking, self.groups, self.plan, self.facts = ranking, groups, plan, facts


def grouped(view: View, search: Search, rows: RowFilter, cache: FilterCache, rank: Rank) -> Grouped:
    """Group the ranking of the search of one query.

    A group is certain once its ``group_size`` best hits are found, or all of its rows that match. The asked depth doubles until there are
    ``groups`` groups, or no more rows. Scores of a single field don't depend on the depth, so a group that still has few hits is filled
    from its own rows. A fused score depends on the candidates, so a fused search goes on doubling instead, up to a limit.
    """
    request, fused = search.request, len(search.arms) > 1
    size, count = request.group_size, request.groups
    column = column_of(request.group_by, view, cache)
    first = depth = count * (size + MORE)
    if search.prefetch is not None:  # all its hits are scored in any case
        depth = max(depth, search.prefetch.limit)
    rounds = 0
    while True:
        deadline.check()
        rounds += 1
        deeper = search._replace(limit=depth, candidates=max(search.candidates, depth), steps=())
        ranking, plan = rank(deeper, rows)
        for step in search.steps:
            ranking = step(view, search, ranking)
        ended = len(ranking[0]) < depth or depth >= rows.matches
        members = members_of(column, ranking[0], size, count)
        short = [code for code, places in members.items() if len(places) < size]
        if ended or (len(members) >= count and not (short and fused and depth < FILLED * first)):
            break
        depth = min(2 * depth, max(rows.matches, 1))
    filled = 0
    complete = ended or not short
    if not complete and not fused and search.prefetch is None:
        ranking, filled = _filled(view, search, rows, column, ranking, short, rank)
        members, complete = members_of(column, ranking[0], size, count), True
    places = [place for group in members.values() for place in group]
    codes = column.ranks()[list(members)] if members else np.empty(0, np.int64)
    spec = view.schema.attributes[request.group_by]
    groups = list(zip(values_at(spec, column, codes), map(len, members.values()), strict=True))
    facts = {"by": request.group_by, "found": len(groups), "depth": depth, "searches": rounds, "filled": filled, "complete": complete}
    if plan is not None:
        facts["proven"] = complete and all_exact(plan)
    docids, scores, arms = ranking
    chosen = [docids[p] for p in places], [scores[p] for p in places], [arms[p] for p in places]
    return Grouped(chosen, groups, plan, facts)


def direct_requests(request: SearchRequest) -> tuple[SearchRequest, SearchRequest] | None:
    """The requests of single hits that a direct search in groups runs: the first, and that which fills groups; None if another option of
    the search needs the long way.
    """
    known = request.__dict__.get("_direct", ())
    if known == ():
        given = request.changed()
        known = None
        depth = request.groups * (request.group_size + MORE)
        if request.reusable and given.keys() <= _DIRECT and depth <= DIRECT_DEPTH:
            plain = {name: value for name, value in given.items() if name in ("recall", "with_attributes")}
            first = SearchRequest.of(plain | {"limit": depth})
            filling = SearchRequest.of(plain | {"limit": FILL_ROWS})
            known = (first, filling) if first.reusable and filling.reusable else None
        request.__dict__["_direct"] = known
    return known


def members_of(column: ValueColumn, docids: Sequence[int] | np.ndarray, size: int, count: int) -> dict[int, list[int]]:
    """Code → the places in a ranking of its first ``size`` rows, of the ``count`` codes that come first."""
    members: dict[int, list[int]] = {}
    rows = np.asarray(docids, np.int64)
    single = column.owners is None
    for place, codes in enumerate(column.codes[rows].tolist() if single else _codes(column, rows)):
        for code in ((codes,) if codes else ()) if single else codes:
            group = members.get(code)
            if group is None:
                if len(members) < count:
                    members[code] = [place]
            elif len(group) < size:
                group.append(place)
    return members


def _codes(column: ValueColumn, docids: np.ndarray) -> Iterator[list[int]]:
    """The distinct codes of each row of an array, in ascending order of their values."""
    rows, ranks = docids.astype(np.uint32), column.ranks()
    begins, ends = (np.searchsorted(column.owners, rows, side) for side in ("left", "right"))
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        codes = column.codes[begin:end]
        yield list(dict.fromkeys(codes[np.argsort(ranks[codes])].tolist()))


def _filled(
    view: View, search: Search, rows: RowFilter, column: ValueColumn, ranking: Ranking, short: list[int], rank: Rank
) -> tuple[Ranking, int]:
    """The ranking with all rows of the groups that have few hits, and the number of rows that were scored for it."""
    docids = column.rows_of(short)
    docids = rows.those_of(docids[: np.searchsorted(docids, view.rows)])
    more, _ = rank(search._replace(limit=len(docids), steps=()), rows.among(docids))
    for step in search.steps:
        more = step(view, search, more)
    best = {docid: (score, arms) for docid, score, arms in zip(*more, strict=True)}
    best |= {docid: (score, arms) for docid, score, arms in zip(*ranking, strict=True)}
    way = sign(search.arms[0])
    order = sorted(best, key=lambda docid: (-way * best[docid][0], docid))
    return (order, [best[docid][0] for docid in order], [best[docid][1] for docid in order]), len(docids)
