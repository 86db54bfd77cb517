"""Run a search on a pinned snapshot: filter → rows → each arm → fusion → the final rows' records."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from vectordb_client.filter import HasVector

from ..filters.bitmap import FilterCache, matching
from ..index import flat
from ..snapshot import View
from ..storage import format
from ..types import Dense, Hit, Hits, MultiVector, Sparse
from .fusion import fuse
from .read import attribute_reader, vectors_of
from .request import Arm, Search

Ranked = tuple[list[int], list[float], list[dict]]  # docids, scores as shown, what each arm said


class _Clock:
    """Milliseconds of each stage, for explain."""

    def __init__(self):
        self.stages: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.stages[stage] = self.stages.get(stage, 0.0) + 1000 * (now - self._last)
        self._last = now


def run(view: View, search: Search, cache: FilterCache) -> list[Hits]:
    """The hits of each query of the search. min(limit, matches) of them, always."""
    clock = _Clock() if search.explain else None
    matches = None
    if search.filter is None:
        rows = view.snapshot.live_rows()
    else:
        bitmap = matching(search.filter, view, cache)
        matches = len(bitmap)
        # A filter that every row satisfies costs nothing.
        rows = None if matches == view.rows else np.asarray(bitmap.to_array(), dtype=np.uint32)
    if clock:
        clock.lap("filter")
    fused = len(search.arms) > 1
    depth = search.candidates if fused else search.limit
    found = {}
    for arm in search.arms:
        found[arm.name] = _search_arm(view, arm, depth, rows, cache)
        if clock:
            clock.lap(f"arm {arm.name}")
    ranked = [_rank(search, {name: results[q] for name, results in found.items()}) for q in range(search.queries)]
    if clock:
        clock.lap("fusion")
    answers = [_fetch(view, search, result) for result in ranked]
    if clock:
        clock.lap("fetch")
        plan = _plan(view, search, matches, rows, found, clock)
        answers = [Hits(list(hits), plan) for hits in answers]
    return answers


def _search_arm(view: View, arm: Arm, k: int, rows: np.ndarray | None, cache: FilterCache) -> list[flat.Found]:
    spec, field = arm.spec, view.fields[arm.name]
    if isinstance(spec, Dense):
        queries = arm.queries[0][None, :] if len(arm.queries) == 1 else np.array(arm.queries)
        return flat.search_dense(view.table(field), queries, spec.dtype, spec.metric, k, rows)
    if isinstance(spec, MultiVector):
        table = view.table(field)
        return [flat.search_multi(table, query, spec.dtype, spec.metric, spec.aggregation, k, rows) for query in arm.queries]
    table = view.table(field, format.POSTINGS)
    weighted = [(terms, _weights(view, arm.name, spec, table, terms, weights, cache)) for terms, weights in arm.queries]
    if len(weighted) == 1:
        return [flat.search_sparse(table, *weighted[0], k, rows)]
    return list(flat.pool().map(lambda query: flat.search_sparse(table, *query, k, rows), weighted))


def _weights(
    view: View, name: str, spec: Sparse, table: np.ndarray, terms: np.ndarray, weights: np.ndarray, cache: FilterCache
) -> np.ndarray:
    """Query weights, times the inverse document frequency among live rows where the field asks for it."""
    if spec.weighting is None or not len(terms):
        return weights
    dead = view.snapshot.dead_words() if view.dead else None
    frequency = flat.document_frequencies(table, terms, dead)
    total = len(matching(HasVector(name), view, cache))
    return (weights * np.log1p((total - frequency + 0.5) / (frequency + 0.5))).astype(np.float32)


def _shown(arms: dict[str, Arm], name: str, score: float) -> float:
    """Inside, higher is better; a user sees a squared distance as what it is."""
    spec = arms[name].spec
    return -score if isinstance(spec, Dense) and spec.metric == "l2" else score


def _rank(search: Search, found: dict[str, flat.Found]) -> Ranked:
    arms = {arm.name: arm for arm in search.arms}
    if len(arms) > 1:
        return fuse(found, search.fusion, search.limit, lambda name, score: _shown(arms, name, score))
    ((name, (docids, scores)),) = found.items()
    docids = docids.tolist()
    return docids, (scores * _shown(arms, name, 1.0)).tolist(), [{} for _ in docids]


def _fetch(view: View, search: Search, ranked: Ranked) -> Hits:
    """Records of the final rows only."""
    docids, scores, arms = ranked
    records = view.records(docids)
    read = attribute_reader(view.schema, search.attributes)
    attributes = [{} for _ in docids] if read is None else [read(row.attributes) for row in records]
    payloads = [None] * len(docids) if read is None else [row.payload for row in records]
    found = vectors_of(view, docids, search.vectors)
    vectors = [found.get(docid, {}) for docid in docids]
    return Hits(list(map(Hit, [row.id for row in records], scores, attributes, payloads, arms, vectors)))


def _plan(view: View, search: Search, matches: int | None, rows: np.ndarray | None, found: dict, clock: _Clock) -> dict:
    """How the search was run, as plain data."""
    scanned = view.rows if rows is None else len(rows)
    plan: dict[str, Any] = {
        "sequence": view.sequence,
        "queries": search.queries,
        "exact": True,
        "live_rows": view.snapshot.live,
        "filter": None if matches is None else {"matches": matches, "selectivity": matches / max(view.snapshot.live, 1)},
        "arms": [
            {
                "field": arm.name,
                "kind": arm.spec.kind,
                "plan": "exact term-at-a-time" if isinstance(arm.spec, Sparse) else "exact scan",
                "rows": scanned,
                "candidates": max((len(docids) for docids, _ in found[arm.name]), default=0),
            }
            for arm in search.arms
        ],
        "fusion": None if len(search.arms) == 1 else {"method": search.fusion.name, "candidates": search.candidates},
        "milliseconds": {stage: round(value, 4) for stage, value in clock.stages.items()},
    }
    return plan
