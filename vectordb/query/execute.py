"""Run a search on a pinned snapshot: evaluate the filter, search the arms of each stage, fuse them, fetch the records of the final rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from vectordb_client.model.facets import FacetResult
from vectordb_client.model.filter_nodes import Filter
from vectordb_client.model.results import Hit, Hits

from ..common import deadline
from ..engine.snapshot import View
from ..filters.cache import FilterCache
from ..filters.text import to_string
from ..index.exact import Found
from ..storage import format
from . import steps as _steps  # noqa: F401  # it adds to the table of steps
from .arms import search_arm, sign
from .boosts import boost_rankings
from .counts import facets_of
from .diversity import deeper
from .fusion.lists import search_lists
from .fusion.missing import lacking
from .fusion.ranks import ArmScores, Ranked, Rows, fuse
from .fusion.sums import sum_arms
from .groups import grouped
from .highlight import Highlighter, highlighter
from .paging import following
from .payload_paths import payload_reader
from .read import attribute_reader, pieces
from .request import Arm, Search
from .row_filter import RowFilter
from .trace import Clock, current, stage_plan, whole_plan
from .unread import unread


class Answers:
    """The answers of a search: iterating yields, for each query, either ``Hits`` (if only ids and scores are wanted) or an iterator over
    lists of hits, which must be read while the view is pinned. Each query gets min(limit, matches) hits, always.
    """

    def __init__(self, view: View, search: Search, filters: FilterCache, counts: bool = True):
        """counts: whether facets are counted."""
        self._view, self._search, self._filters, self._counts = view, search, filters, counts
        self._rows = RowFilter(view, search.filter, filters)
        self._stage_plan: dict | None = None
        self._first: Answers | None = None  # of the queries that have the filter of the first one, where filters differ
        self._clock: Clock | None = None
        self._last: tuple[Any, Any] = ((), ())  # docids and scores of the last query's hits
        self.facets: dict[str, FacetResult] = {}  # name → result, after the answers were read
        self.groups: list[list[tuple[Any, int]]] = []  # of each answer that was read: (value, number of hits), if it is in groups

    def __iter__(self) -> Iterator[Hits | Iterator[list[Hit]]]:
        view, search = self._view, self._search
        if not search.queries:
            return
        started, counted, took = time.perf_counter(), search.request.facets is not None and self._counts, 0.0
        if counted:  # first: an iteration may be left before its end
            assert search.request.facets is not None
            rows = self._rows
            if search.filters is not None:  # that leave out points that are examples, which facets count
                rows = RowFilter(view, self._filters.bind(search.request.filter, view.schema), self._filters)
            self.facets = facets_of(view, rows, search.request.facets, self._filters)
            took = 1000 * (time.perf_counter() - started)
        if search.filters is not None:
            yield from self._by_filter(search.filters)
            return
        trace = current()
        clock = self._clock = None if trace is None else trace.start(search, view.snapshot.live, view.sequence)
        if counted and (search.explain or clock is not None):
            clock = self._clock = clock or Clock()
            clock.stages["facets"] = took
        if search.request.group_by is not None:
            yield from self._groups()
            return
        if len(search.arms) == 1 and not search.explain and search.prefetch is None and not search.changed:  # most searches
            (arm,) = search.arms
            results, _ = search_arm(view, search, arm, arm.most(search.limit), self._rows, self._filters)
            if clock is not None:
                clock.lap(f"arm {arm.name}")
            request = search.request
            bare = search.attributes is False and not search.vectors and not request.with_payload and not request.highlight
            for q, best in enumerate(results):
                self._last = best[0], best[1] * sign(arm)
                hits = _bare(view, arm, best) if bare else None
                yield self._fetched(_alone(arm, best), q) if hits is None else hits
                if clock is not None:
                    clock.lap("fetch")
            return
        clock = self._clock = clock or Clock()
        if search.explain:
            _ = self._rows.matches
            clock.lap("filter")
        for q, (ranking, plan) in enumerate(self._rank(deeper(search), self._rows, clock)):
            self._stage_plan = self._stage_plan or plan
            one = search.of_query(q) if search.steps and search.queries > 1 else search
            for step in search.steps:
                ranking = step(view, one, ranking)
            self._last = ranking[:2]
            yield self._fetched(ranking, q)
            clock.lap("fetch")

    def _fetched(self, ranking: Ranked, q: int) -> Hits | Iterator[list[Hit]]:
        """Fetch the hits of the q-th query."""
        view, search = self._view, self._search
        docids, scores, arms = ranking
        if isinstance(arms, ArmScores) and not search.vectors and not search.request.highlight and not search.explain:
            hits = unread(view, search, docids, scores, arms)
            if hits is not None:
                return hits
        places = highlighter(view, search, q) if search.request.highlight else None
        return fetched(view, search.attributes, search.vectors, ranking, search.request.with_payload, places)

    def _by_filter(self, filters: Sequence[Filter | None]) -> list[Hits | Iterator[list[Hit]]]:
        """The answers of queries that have filters of their own: those with the same filter are searched together."""
        groups: dict[Filter | None, list[int]] = {}
        for q, node in enumerate(filters):
            groups.setdefault(node, []).append(q)
        results: list[Any] = [None] * len(filters)
        grouped_by: dict[int, list[tuple[Any, int]]] = {}
        for node, some in groups.items():
            answers = Answers(self._view, self._search.of_queries(some, node), self._filters, counts=False)
            self._first = self._first or answers
            for q, answer in zip(some, answers, strict=True):
                results[q] = answer
            self._last = answers._last
            grouped_by |= zip(some, answers.groups, strict=False)
        self.groups = [grouped_by[q] for q in sorted(grouped_by)]
        trace = current()
        if trace is not None:
            trace.search = self._search
        return results

    @property
    def next(self) -> bytes | None:
        """The cursor of the page after the hits of the last query, after it has run; None if there is none."""
        later = self.later
        return None if later is None else later[0](later[1])

    @property
    def later(self) -> tuple[Callable[[Any], bytes], Any] | None:
        """A function that makes ``next``, and its argument."""
        return following(self._view, self._search, *self._last)

    def _groups(self) -> Iterator[Hits | Iterator[list[Hit]]]:
        """The answer of each query in groups, which are added to ``groups`` before it."""
        view, search = self._view, self._search
        clock = self._clock = self._clock or Clock()

        def rank(one: Search, rows: RowFilter) -> tuple[Ranked, dict | None]:
            return next(self._rank(one, rows, clock))

        for q in range(search.queries):
            found = grouped(view, search.of_query(q), self._rows, self._filters, rank)
            clock.lap("groups")
            if self._stage_plan is None and found.plan is not None:
                self._stage_plan = found.plan | {"groups": found.facts}
            self.groups.append(found.groups)
            yield self._fetched(found.ranking, q)
            clock.lap("fetch")

    @property
    def plan(self) -> dict | None:
        """How the search was run (``Hits.plan``), after it has run; None unless the search is explained."""
        if self._first is not None:
            plan = self._first.plan
            return None if plan is None else plan | {"queries": self._search.queries}
        search, stage, clock = self._search, self._stage_plan, self._clock
        if stage is None or clock is None:
            return None
        request = search.request.shown()
        if search.filter is not None:
            request = {"filter": to_string(search.filter, values=True)} | request
        view = self._view
        plan = whole_plan(search, view.snapshot.live, view.sequence, self._rows.matches, stage, clock)
        return {"request": request, **plan, **view.told}

    def _rank(self, search: Search, rows: RowFilter, clock: Clock) -> Iterator[tuple[Ranked, dict | None]]:
        """Run a stage, after the prefetch stage before it if there is one. Yields, for each query, its ranking and how the stage was run:
        that of the first query, if the search is explained.
        """
        if search.prefetch is None:
            yield from self._fused(search, rows, clock)
            return
        before = Clock()
        stages = list(self._rank(search.prefetch, rows, before))
        clock.lap("prefetch")
        trace = current()
        if trace is not None:
            trace.record_prefetch(search.prefetch, len(stages[0][0][0]))
        for q, ((docids, _, _), inner) in enumerate(stages):
            among = rows.among(np.array(docids, np.uint32))
            for ranking, plan in self._fused(search.of_query(q), among, clock):
                if plan is not None and inner is not None:
                    inner |= {"limit": search.prefetch.limit, "hits": len(docids), "milliseconds": before.milliseconds}
                    plan["prefetch"] = inner
                yield ranking, plan

    def _fused(self, search: Search, rows: RowFilter, clock: Clock, arrays: bool = False) -> Iterator[tuple[Any, dict | None]]:
        """Search the arms of a stage and fuse them. Yields as ``_rank``. arrays: rankings are arrays where they may be long (``Rows``)."""
        view, fused = self._view, search.fused
        if search.boosts:
            direction = 1.0 if fused else sign(search.arms[0])

            def run(asked: Search) -> tuple[Any, dict | None]:
                return next(self._fused(asked, rows, clock, arrays=True))

            for q in range(search.queries):
                one = search.of_query(q) if search.queries > 1 else search
                yield boost_rankings(view, one, direction, rows.matches, run, clock)
            return
        if fused and search.fusion.all_points:
            for ranking, plans, done in sum_arms(view, search, rows, self._filters, clock, arrays):
                yield ranking, stage_plan(plans, self._fusion_plan(search, rows) | done) if search.explain else None
            return
        if fused:
            lists, plans, read = search_lists(view, search, rows, self._filters, clock)
            stage = stage_plan(plans, self._fusion_plan(search, rows) | read) if search.explain else None
        else:
            (arm,) = search.arms
            results, plan = search_arm(view, search, arm, arm.most(search.limit), rows, self._filters)
            clock.lap(f"arm {arm.name}")
            lists, found = [results], max((len(docids) for docids, _ in results), default=0)
            stage = None if plan is None else stage_plan([plan | {"candidates": found}], None)
        for q in range(search.queries):
            deadline.check()
            best = [results[q] for results in lists]
            ranking = fuse(view, search, best) if fused else _alone(search.arms[0], best[0], arrays)
            clock.lap("fusion")
            yield ranking, stage

    def _fusion_plan(self, search: Search, rows: RowFilter) -> dict:
        """The fusion's entry of the plan. lacking: field → the number of rows that may be returned and have no vector there, if there are
        any.
        """
        without = lacking(self._view, rows, search.arms, self._filters)
        return {
            "method": search.fusion.name,
            "candidates": search.candidates,
            "missing": search.fusion.missing,
            "lacking": {name: len(docids) for name, docids in without.items()},
            **({"attributes": {name: arm.shown for name, arm in search.attribute_arms.items()}} if search.attribute_arms else {}),
        }


def whole(answers: Answers) -> list[Hits]:
    """Read all answers: the hits of each query."""
    results = [each if isinstance(each, Hits) else Hits(list(chain.from_iterable(each))) for each in answers]
    plan = answers.plan
    results = results if plan is None else [Hits(list(hits), plan) for hits in results]
    if answers.facets:
        for hits in results:
            hits.facets = answers.facets
    for hits, grouping in zip(results, answers.groups, strict=False):
        hits._grouping = grouping
    return results


def page(answers: Answers) -> list[Hits]:
    """``whole`` of one query, with the cursor of the next page."""
    (hits,) = whole(answers)
    hits._next = answers.later
    return [hits]


def _alone(arm: Arm, best: Found, arrays: bool = False) -> Any:
    """The ranking of a single arm: ``Ranked``, or ``Rows``."""
    docids, scores = best
    if arrays:
        return Rows(docids, scores * sign(arm), lambda i: {})
    return docids.tolist(), (scores * sign(arm)).tolist(), [{} for _ in docids]


def _bare(view: View, arm: Arm, best: Found) -> Hits | None:
    """The answer of a single arm if only ids and scores are wanted; None if some id is not an integer."""
    docids, scores = best
    ids = view.ids(docids)
    if not isinstance(ids, np.ndarray):
        return None
    return Hits.bare(ids, -scores if sign(arm) < 0 else scores)


_hit = tuple.__new__  # half the cost of the named tuple's constructor


def fetched(
    view: View,
    attributes: bool | Sequence[str],
    names: Sequence[str],
    ranked: Ranked,
    payload: Any = None,
    places: Highlighter | None = None,
) -> Iterator[list[Hit]]:
    """Fetch the records of the final rows, and their vectors in the fields ``names``. payload: ``with_payload``. places: where the words of
    the query are. Yields lists of hits.
    """
    docids, scores, arms = ranked
    read, part = attribute_reader(view.schema, attributes), payload_reader(payload, attributes)
    begin = 0
    wanted = read is not None or part is not None or places is not None
    for some, stored, vectors in pieces(view, docids, wanted, names):
        end = begin + len(some)
        beside = scores[begin:end], arms[begin:end], vectors
        if stored is None:
            ids = view.ids(np.array(some, np.int64))
            ids = ids.tolist() if isinstance(ids, np.ndarray) else ids
            yield [_hit(Hit, (value, score, {}, None, arm, vector, {})) for value, score, arm, vector in zip(ids, *beside, strict=True)]
        else:
            yield [
                _hit(
                    Hit,
                    (
                        row.id,
                        score,
                        {} if read is None else read(row.attributes),
                        None if part is None else part(row.payload),
                        arm,
                        vector,
                        {} if places is None else places(row.attributes, docid),
                    ),
                )
                for docid, row, score, arm, vector in zip(some, format.unpack_rows(stored), *beside, strict=True)
            ]
        begin = end
