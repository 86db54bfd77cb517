"""Search one arm (one vector field of a query) on a pinned snapshot: by its index and its tail, by an exact scan, or among given rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..common import deadline
from ..engine.snapshot import View
from ..fields import FIELD_TYPES
from ..filters.bitmap import FilterCache
from ..index.exact import Found, nothing
from . import segments, terms
from .request import Arm, Search
from .row_filter import RowFilter
from .trace import ArmTrace, current


def search_arm(view: View, search: Search, arm: Arm, k: int, rows: RowFilter, cache: FilterCache) -> tuple[list[Found], dict | None]:
    """Search an arm. Returns the k best rows of each query, and the arm's entry of the plan if the search is explained, else None."""
    deadline.check()
    queries = queries_of(view, arm, cache)
    opened, tail = segments.cover(view, search, arm, k, queries) if rows.given is None else ((), ())
    answer = segments.search_segments(view, search, arm, k, rows, queries, opened, tail) if opened else None
    if answer is not None:
        hits, plan = answer
    else:
        if opened:
            hits = [nothing()] * len(queries)
        elif rows.given is None:
            hits = FIELD_TYPES[arm.spec.kind].search(view, arm.name, queries, k, rows.rows())
        else:
            hits = [(docids[:k], scores[:k]) for docids, scores in score_rows(view, arm, queries, rows.given)]
        notes, matches = current(), rows.matches
        if notes is not None:
            notes.record_arm(search, arm.name, ArmTrace(lambda: ("exact",), matches, hits, lambda: _exact_plan(arm, matches)))
        plan = exact_plan(search, arm, rows)
    if plan is not None and arm.spec.has_terms:
        plan |= terms.explained(view, arm, queries[0], hits[0], FIELD_TYPES[arm.spec.kind].saturation(view, arm.name))
    return hits, plan


def queries_of(view: View, arm: Arm, cache: FilterCache) -> Sequence:
    """An arm's queries as kernels take them. The weights of a sparse query are multiplied by IDF where the field asks for it."""
    return FIELD_TYPES[arm.spec.kind].prepare(view, arm.name, arm.queries, cache)


def score_rows(view: View, arm: Arm, queries: Sequence, rows: np.ndarray) -> list[Found]:
    """The exact scores of given rows (docids, uint32 ascending) for each query, best first. Rows that don't match the arm are left out."""
    deadline.check()
    return FIELD_TYPES[arm.spec.kind].score(view, arm.name, queries, rows)


def sign(arm: Arm) -> float:
    """1, or −1 for l2: internal scores are negated squared distances (higher is better), and users see squared distances."""
    return FIELD_TYPES[arm.spec.kind].sign(arm.spec)


def exact_plan(search: Search, arm: Arm, rows: RowFilter) -> dict | None:
    """The plan's entry of an arm that was searched without an index; None if the search isn't explained."""
    return _exact_plan(arm, rows.matches) if search.explain else None


def _exact_plan(arm: Arm, rows: int) -> dict:
    return {"field": arm.name, "kind": arm.spec.kind, "plan": FIELD_TYPES[arm.spec.kind].exact_plan, "exact": True, "rows": rows}
