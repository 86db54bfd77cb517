"""Group the ranking of a search by the values of an attribute: search deeper until all groups are found, then fill those with few hits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

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
FILL_AT_ONCE = 64  # rows a group, up to which the rows of all groups are ranked at once [chosen, not measured]
_DIRECT = frozenset(("group_by", "group_size", "groups", "recall", "with_attributes"))  # options of direct searches in groups
FILLED = 16  # a fused ranking is not searched deeper than so many times the first depth to fill groups [chosen, not measured]

Ranking = tuple[list[int], list[float], Sequence[dict]]
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
        ranking, filled = _filled(view, search, rows, column, ranking, short, size, rank)
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


class DirectRequests(NamedTuple):
    """The requests of single hits that direct searches in groups run: by depth, the least first, and that which fills groups."""

    depths: tuple[SearchRequest, ...]
    filling: SearchRequest

    @property
    def all(self) -> tuple[SearchRequest, ...]:
        return (*self.depths, self.filling)


def direct_requests(request: SearchRequest) -> DirectRequests | None:
    """The requests of a direct search in groups; None if another option of the search needs the long way."""
    known = request.__dict__.get("_direct", ())
    if known == ():
        given = request.changed()
        known = None
        hits, deepest = request.groups * request.group_size, request.groups * (request.group_size + MORE)
        if request.reusable and given.keys() <= _DIRECT and deepest <= DIRECT_DEPTH:
            plain = {name: value for name, value in given.items() if name in ("recall", "with_attributes")}
            depths = sorted({min(depth, deepest) for depth in (hits, hits + 1 + hits // 8, hits + hits // 2, 2 * hits)} | {deepest})
            made = [SearchRequest.of(plain | {"limit": depth}) for depth in (*depths, request.group_size)]
            known = DirectRequests(tuple(made[:-1]), made[-1]) if all(each.reusable for each in made) else None
        request.__dict__["_direct"] = known
    return known


def members_of(column: ValueColumn, docids: Sequence[int] | np.ndarray, size: int, count: int) -> dict[int, list[int]]:
    """Code → the places in a ranking of its first ``size`` rows, of the ``count`` codes that come first."""
    rows = np.asarray(docids, np.int64)
    if column.owners is None:
        return members_of_codes(column.codes[rows], size, count)
    members: dict[int, list[int]] = {}
    for place, codes in enumerate(_codes(column, rows)):
        for code in codes:
            group = members.get(code)
            if group is None:
                if len(members) < count:
                    members[code] = [place]
            elif len(group) < size:
                group.append(place)
    return members


def members_of_codes(codes: np.ndarray, size: int, count: int) -> dict[int, list[int]]:
    """``members_of`` rows that have one code each, or 0."""
    firsts: dict[int, int] = {}
    for place, code in enumerate(codes.tolist()):
        if code and code not in firsts:
            firsts[code] = place
            if len(firsts) == count:
                break
    if size == 1:
        return {code: [place] for code, place in firsts.items()}
    order = np.argsort(codes, kind="stable")
    begins = np.searchsorted(codes, np.array([*firsts], codes.dtype), sorter=order).tolist()
    places = [order[begin : begin + size] for begin in begins]
    return {code: found[codes[found] == code].tolist() for code, found in zip(firsts, places, strict=True)}


def _codes(column: ValueColumn, docids: np.ndarray) -> Iterator[list[int]]:
    """The distinct codes of each row of an array, in ascending order of their values."""
    rows, ranks, owners = docids.astype(np.uint32), column.ranks(), column.owners
    assert owners is not None
    begins, ends = owners.searchsorted(rows, "left"), owners.searchsorted(rows, "right")
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        codes = column.codes[begin:end]
        yield list(dict.fromkeys(codes[np.argsort(ranks[codes])].tolist()))


def _filled(
    view: View, search: Search, rows: RowFilter, column: ValueColumn, ranking: Ranking, short: list[int], size: int, rank: Rank
) -> tuple[Ranking, int]:
    """The ranking with the best rows of the groups that have few hits, and the number of rows that were scored for it.

    Few rows are ranked at once. Of large groups each is ranked for itself, because only its best ``size`` rows matter.
    """
    groups = [short] if len(column.rows_of(short)) <= FILL_AT_ONCE * len(short) else [[code] for code in short]
    best, scored = {}, 0
    for codes in groups:
        deadline.check()
        docids = column.rows_of(codes)
        docids = rows.those_of(docids[: np.searchsorted(docids, view.rows)])
        limit = len(docids) if len(codes) > 1 or search.steps else min(size, len(docids))
        if not limit:
            continue
        more, _ = rank(search._replace(limit=limit, steps=()), rows.among(docids))
        for step in search.steps:
            more = step(view, search, more)
        best |= {docid: (score, arms) for docid, score, arms in zip(*more, strict=True)}
        scored += len(docids)
    best |= {docid: (score, arms) for docid, score, arms in zip(*ranking, strict=True)}
    way = sign(search.arms[0])
    order = sorted(best, key=lambda docid: (-way * best[docid][0], docid))
    return (order, [best[docid][0] for docid in order], [best[docid][1] for docid in order]), scored
