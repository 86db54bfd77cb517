"""Run a search on a pinned snapshot: evaluate the filter, search the arms of each stage, fuse them, fetch the records of the final rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
from vectordb_client.model.results import Hit, Hits

from ..common import deadline
from ..engine.snapshot import View
from ..filters.cache import FilterCache
from ..filters.text import to_string
from ..index.exact import Found
from ..storage import format
from .arms import search_arm, sign
from .fusion.lists import search_lists
from .fusion.missing import lacking
from .fusion.ranks import Ranked, fuse
from .fusion.sums import sum_arms
from .highlight import Highlighter, highlighter
from .read import attribute_reader, pieces
from .request import Arm, Search
from .row_filter import RowFilter
from .trace import Clock, current, stage_plan, whole_plan


class Answers:
    """The answers of a search: iterating yields, for each query, either ``Hits`` (if only ids and scores are wanted) or an iterator over
    lists of hits, which must be read while the view is pinned. Each query gets min(limit, matches) hits, always.
    """

    def __init__(self, view: View, search: Search, filters: FilterCache):
        self._view, self._search, self._filters = view, search, filters
        self._rows = RowFilter(view, search.filter, filters)
        self._stage_plan: dict | None = None
        self._clock: Clock | None = None

    def __iter__(self) -> Iterator[Hits | Iterator[list[Hit]]]:
        view, search = self._view, self._search
        if not search.queries:
            return
        trace = current()
        clock = self._clock = None if trace is None else trace.start(search, view.snapshot.live, view.sequence)
        if len(search.arms) == 1 and not search.explain and search.prefetch is None and not search.steps:  # most searches
            (arm,) = search.arms
            results, _ = search_arm(view, search, arm, search.limit, self._rows, self._filters)
            if clock is not None:
                clock.lap(f"arm {arm.name}")
            bare = search.attributes is False and not search.vectors and not search.request.highlight
            for q, best in enumerate(results):
                hits = _bare(view, arm, best) if bare else None
                yield _fetched(view, search, _alone(arm, best), highlighter(view, search, q)) if hits is None else hits
                if clock is not None:
                    clock.lap("fetch")
            return
        clock = self._clock = clock or Clock()
        if search.explain:
            _ = self._rows.matches
            clock.lap("filter")
        for q, (ranking, plan) in enumerate(self._rank(search, self._rows, clock)):
            self._stage_plan = self._stage_plan or plan
            for step in search.steps:
                ranking = step(view, search, ranking)
            yield _fetched(view, search, ranking, highlighter(view, search, q))
            clock.lap("fetch")

    @property
    def plan(self) -> dict | None:
        """How the search was run (``Hits.plan``), after it has run; None unless the search is explained."""
        search, stage, clock = self._search, self._stage_plan, self._clock
        if stage is None or clock is None:
            return None
        request = search.request.shown()
        if search.filter is not None:
            request = {"filter": to_string(search.filter, values=True)} | request
        return {"request": request, **whole_plan(search, self._view.snapshot.live, self._view.sequence, self._rows.matches, stage, clock)}

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

    def _fused(self, search: Search, rows: RowFilter, clock: Clock) -> Iterator[tuple[Ranked, dict | None]]:
        """Search the arms of a stage and fuse them. Yields as ``_rank``."""
        view, fused = self._view, len(search.arms) > 1
        if fused and search.fusion.all_points:
            for ranking, plans, done in sum_arms(view, search, rows, self._filters, clock):
                yield ranking, stage_plan(plans, self._fusion_plan(search, rows) | done) if search.explain else None
            return
        if fused:
            lists, plans, read = search_lists(view, search, rows, self._filters, clock)
            stage = stage_plan(plans, self._fusion_plan(search, rows) | read) if search.explain else None
        else:
            (arm,) = search.arms
            results, plan = search_arm(view, search, arm, search.limit, rows, self._filters)
            clock.lap(f"arm {arm.name}")
            lists, found = [results], max((len(docids) for docids, _ in results), default=0)
            stage = None if plan is None else stage_plan([plan | {"candidates": found}], None)
        for q in range(search.queries):
            deadline.check()
            best = [results[q] for results in lists]
            ranking = fuse(view, search, best) if fused else _alone(search.arms[0], best[0])
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
        }


def whole(answers: Answers) -> list[Hits]:
    """Read all answers: the hits of each query."""
    results = [each if isinstance(each, Hits) else Hits(list(chain.from_iterable(each))) for each in answers]
    plan = answers.plan
    return results if plan is None else [Hits(list(hits), plan) for hits in results]


def _alone(arm: Arm, best: Found) -> Ranked:
    """The ranking of a single arm."""
    docids, scores = best
    return docids.tolist(), (scores * sign(arm)).tolist(), [{} for _ in docids]


def _bare(view: View, arm: Arm, best: Found) -> Hits | None:
    """The answer of a single arm if only ids and scores are wanted; None if some id is not an integer."""
    docids, scores = best
    ids = view.ids(docids)
    if not isinstance(ids, np.ndarray):
        return None
    return Hits.bare(ids, -scores if sign(arm) < 0 else scores)


_hit = tuple.__new__  # half the cost of the named tuple's constructor


def _fetched(view: View, search: Search, ranked: Ranked, places: Highlighter | None = None) -> Iterator[list[Hit]]:
    """Fetch the records and vectors of the final rows. Yields lists of hits. places: where the words of the query are."""
    docids, scores, arms = ranked
    read = attribute_reader(view.schema, search.attributes)
    begin = 0
    for some, stored, vectors in pieces(view, docids, read is not None or places is not None, search.vectors):
        end = begin + len(some)
        beside = scores[begin:end], arms[begin:end], vectors
        rows = None if read is None and places is None else format.unpack_rows(stored)
        marked = [{}] * len(some) if places is None or rows is None else [places(row.attributes) for row in rows]
        if read is None or rows is None:
            ids = view.ids(np.array(some, np.int64))
            ids = ids.tolist() if isinstance(ids, np.ndarray) else ids
            yield [
                _hit(Hit, (value, score, {}, None, arm, vector, words))
                for value, score, arm, vector, words in zip(ids, *beside, marked, strict=True)
            ]
        else:
            yield [
                _hit(Hit, (row.id, score, read(row.attributes), row.payload, arm, vector, words))
                for row, score, arm, vector, words in zip(rows, *beside, marked, strict=True)
            ]
        begin = end
