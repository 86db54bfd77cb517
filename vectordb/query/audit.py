"""Compare the recall of a search with the planner's prediction, by the exact answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..engine import floors
from ..engine.audits import Audits, Key
from ..index.base import IndexKind
from ..index.exact import Found

Grouped = tuple[floors.Key, float, list[list[Any]]]  # the key, the target of the search, and the groups of each true result
FEWEST = 3  # true results that a segment must hold for an audit to correct its predictions


def learn(
    audits: Audits,
    key: Key,
    segments: Sequence[IndexKind],
    judged: Sequence[tuple[int, float] | None],
    k: int,
    found: Found,
    exact: Callable[[], Found | None],
    ranges: Sequence[tuple[int, int]],
    grouped: Grouped | None = None,
) -> None:
    """Compare the result of a search with the exact answer. Records the recall and corrects the predictions of each segment.

    found: the result. judged: for each segment its plan and the predicted recall; None where these can't be judged. exact: returns the
    exact answer, or None if the rows have changed meanwhile. ranges: the docids [first, end) of each segment. grouped: of a search with
    recall_floor; ``exact`` fills in the groups.
    """
    truth = exact()
    if truth is None or not len(truth[0]):
        return
    hit = np.isin(truth[0][:k], found[0])
    predicted = None
    known = [prediction for prediction in judged if prediction is not None]
    if len(known) == len(judged):
        offsets = [float(segment.corrections.table[0, plan]) for segment, (plan, _) in zip(segments, known, strict=True)]
        predicted = min(1.0, *(recall + offset for (_, recall), offset in zip(known, offsets, strict=True)))
    audits.learned(key, predicted, float(hit.mean()))
    if grouped is not None:
        floor, target, groups = grouped
        audits.floors.learn(floor, target, [(group, bool(found)) for each, found in zip(groups, hit, strict=False) for group in each])
    for segment, prediction, (first, end) in zip(segments, judged, ranges, strict=True):
        own = (truth[0][:k] >= first) & (truth[0][:k] < end)
        if own.sum() >= FEWEST and prediction is not None:
            segment.corrections.learn_recall(*prediction, float(hit[own].mean()))
