"""Search one arm (one vector field of a query) on a pinned snapshot: by its index and its tail, by an exact scan, or among given rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..common import deadline
from ..engine import migrating
from ..engine.snapshot import View
from ..fields import FIELD_TYPES
from ..filters.cache import FilterCache
from ..index.exact import Found
from . import alignment, examples, segments, terms
from .request import Arm, Search
from .row_filter import RowFilter


def search_arm(view: View, search: Search, arm: Arm, k: int, rows: RowFilter, cache: FilterCache) -> tuple[list[Found], dict | None]:
    """Search an arm. Returns the k best rows of each query, and the arm's entry of the plan if the search is explained, else None."""
    deadline.check()
    if arm.filter is not None:
        rows = rows.narrowed(arm.filter)
    if arm.pooled:
        hits = examples.search(view, arm.field, arm.spec, arm.queries, k, rows.rows() if rows.given is None else rows.given)
        plan = segments.record_exact(search, arm, rows.matches, hits)
        return hits, plan if plan is None else plan | examples.explained(view, arm.field, arm.spec, arm.queries[0], hits[0])
    queries = queries_of(view, arm, cache)
    indexed = rows.given is None and bool(arm.spec.index_options)
    answer = segments.search_segments(view, search, arm, k, rows, queries) if indexed else None
    if answer is not None:
        hits, plan = answer
    else:
        if rows.given is None:
            hits = FIELD_TYPES[arm.spec.kind].search(view, arm.field, queries, k, rows.rows())
        else:
            hits = [(docids[:k], scores[:k]) for docids, scores in score_rows(view, arm, queries, rows.given)]
        plan = segments.record_exact(search, arm, rows.matches, hits)
    if plan is not None and arm.examples is not None:
        plan |= examples.explained(view, arm.field, arm.spec, arm.examples, hits[0])
    if plan is not None and arm.spec.has_terms:
        plan |= terms.explained(view, arm, queries[0], hits[0], FIELD_TYPES[arm.spec.kind].saturation(view, arm.field))
    if plan is not None:
        plan |= migrating.explained(view, arm.field)
    return hits, plan if plan is None else plan | alignment.explained(view, arm, queries[0], hits[0])


def queries_of(view: View, arm: Arm, cache: FilterCache) -> Sequence:
    """An arm's queries as kernels take them. The weights of a sparse query are multiplied by IDF where the field asks for it."""
    if arm.pooled:
        return arm.queries
    return FIELD_TYPES[arm.spec.kind].prepare(view, arm.field, arm.queries, cache)


def score_rows(view: View, arm: Arm, queries: Sequence, rows: np.ndarray) -> list[Found]:
    """The exact scores of given rows (docids, uint32 ascending) for each query, best first. Rows that don't match the arm are left out."""
    deadline.check()
    if arm.pooled:
        return examples.search(view, arm.field, arm.spec, queries, None, rows)
    return FIELD_TYPES[arm.spec.kind].score(view, arm.field, queries, rows)


def sign(arm: Arm) -> float:
    """1, or −1 for l2: internal scores are negated squared distances (higher is better), and users see squared distances."""
    return 1.0 if arm.pooled else FIELD_TYPES[arm.spec.kind].sign(arm.spec)
