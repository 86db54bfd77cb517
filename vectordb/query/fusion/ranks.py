"""Fusion of candidate lists: a row's score is Σ weight · normalised score over the arms that list it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from vectordb_client.errors import InvalidArgumentError
from vectordb_client.model.ranking import Fusion
from vectordb_client.model.results import ArmScore

from ...engine.snapshot import View
from ...index.exact import Found
from ...kernels.fusion import merge_lists
from ..arms import sign
from ..request import Search
from .missing import arm_weights, has_vectors, rescaled

Ranked = tuple[list[int], list[float], list[dict[str, ArmScore]]]  # docids, scores as users see them, each hit's scores by arm


def fuse(view: View, search: Search, lists: Sequence[Found]) -> Ranked:
    """The best ``limit`` rows of the union of the arms' candidates. A hit's contributions add up to its fused score. Ties go to the lower
    docid.

    lists: (docids, scores) of each arm, best first, higher is better.
    """
    arms, weights = search.arms, arm_weights(search)
    rescale = search.fusion.missing == "renormalise"
    normal = [_normalised(search.fusion, scores) for _, scores in lists]
    lengths = [len(each) for each in normal]
    ends = np.cumsum(lengths)
    docids = np.concatenate([docids for docids, _ in lists], dtype=np.int64)
    own = np.repeat(weights, lengths)  # the weight of each candidate in the arm that lists it
    if rescale:
        has = np.array([has_vectors(view, arm, docids) for arm in arms])
        own = rescaled(weights, has)[np.repeat(np.arange(len(arms)), lengths), np.arange(len(docids))]
    parts = own * np.concatenate(normal)
    limit = min(search.limit, len(parts))
    best, sums, places = np.empty(limit, np.int64), np.empty(limit, np.float64), np.empty((limit, len(arms)), np.int64)
    count = merge_lists(docids, parts, ends, best, sums, places)
    best, places = best[:count], places[:count]
    # A row that an arm lists has a vector there, so only the others are looked up.
    has = places >= 0
    for a, arm in enumerate(arms):
        if not has[:, a].all():
            has[~has[:, a], a] = has_vectors(view, arm, best[~has[:, a]])
    counts = rescaled(weights, has.T) if rescale else np.repeat(weights[:, None], count, axis=1)
    explained: list[dict[str, ArmScore]] = [{} for _ in range(count)]
    for a, (arm, (_, scores)) in enumerate(zip(arms, lists, strict=True)):
        begin, shown = int(ends[a]) - len(scores), sign(arm)
        columns = explained, places[:, a].tolist(), counts[a].tolist(), has[:, a].tolist()
        for arms_of_hit, place, weight, present in zip(*columns, strict=True):
            if place < 0:
                arms_of_hit[arm.name] = ArmScore(None, None, None, weight, 0.0, not present)
            else:
                value, part = float(normal[a][place]), float(parts[begin + place])
                arms_of_hit[arm.name] = ArmScore(place + 1, shown * float(scores[place]), value, weight, part)
    return best.tolist(), sums[:count].tolist(), explained


def _normalised(fusion: Fusion, scores: np.ndarray) -> np.ndarray:
    """An arm's scores as the fusion normalises them: float64 of the same length, finite."""
    normal = np.asarray(fusion.normalise(scores), np.float64)
    if normal.shape != scores.shape or not np.isfinite(normal).all():
        what = f"fusion {fusion.name!r} must normalise {len(scores)} scores to as many finite numbers"
        raise InvalidArgumentError(what, field="fusion", value=fusion.name)
    return normal
