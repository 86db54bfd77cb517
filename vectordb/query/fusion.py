"""Fusion: several arms' ranked candidates into one ranking whose scores can be explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..index.flat import Found
from ..kernels.fusion import merge_lists
from ..types import DBSF, RRF, ArmScore, Fusion
from .linear import Ranking

Ranked = tuple[list[int], list[float], list[dict[str, ArmScore]]]  # docids, scores as shown, what each arm said
ShownScore = Callable[[str, float], float]


def fuse(arms: Mapping[str, Found], fusion: Fusion, limit: int, shown_score: ShownScore) -> Ranked:
    """The best ``limit`` docids of the union of the arms' candidates: docids, fused scores, what each arm said.

    arms: name → (docids, scores) best first, higher is better. shown_score: (arm, score) → the raw score a user sees.
    Contributions add up to the fused score; ties go to the lower docid.
    """
    normal = [_normalised(scores, fusion) for _, scores in arms.values()]
    weights = [float(fusion.weights.get(name, 1.0)) for name in arms]
    parts = np.concatenate([weight * each for weight, each in zip(weights, normal, strict=True)])
    ends = np.cumsum([len(each) for each in normal])
    limit = min(limit, len(parts))
    best, sums, places = np.empty(limit, np.int64), np.empty(limit, np.float64), np.empty((limit, len(arms)), np.int64)
    docids = np.concatenate([docids for docids, _ in arms.values()], dtype=np.int64)
    count = merge_lists(docids, parts, ends, best, sums, places)
    explained: list[dict[str, ArmScore]] = [{} for _ in range(count)]
    for (name, (_, scores)), weight, each, column in zip(arms.items(), weights, normal, places[:count].T.tolist(), strict=True):
        absent = ArmScore(None, None, None, weight, 0.0)
        for arms_of_hit, at in zip(explained, column, strict=True):
            if at < 0:
                arms_of_hit[name] = absent
            else:
                value = float(each[at])
                arms_of_hit[name] = ArmScore(at + 1, shown_score(name, float(scores[at])), value, weight, weight * value)
    return best[:count].tolist(), sums[:count].tolist(), explained


def explained_sums(names: Sequence[str], weights: Sequence[float], ranking: Ranking, shown_score: ShownScore) -> Ranked:
    """A ranking by linear fusion, which adds the scores as they are."""
    explained = [{} for _ in ranking.docids]
    for name, weight, scores, ranks in zip(names, weights, ranking.scores.tolist(), ranking.ranks.tolist(), strict=True):
        for arms_of_hit, score, rank in zip(explained, scores, ranks, strict=True):
            if score != score:  # no match
                arms_of_hit[name] = ArmScore(None, None, None, weight, 0.0)
            else:
                arms_of_hit[name] = ArmScore(rank or None, shown_score(name, score), score, weight, weight * score)
    return ranking.docids.tolist(), ranking.sums.tolist(), explained


def _normalised(scores: np.ndarray, fusion: Fusion) -> np.ndarray:
    """What fusion makes of an arm's scores, best first: float64 of the same length."""
    if isinstance(fusion, RRF):
        return 1.0 / (fusion.k + np.arange(1, len(scores) + 1))
    wide = scores.astype(np.float64)
    if not len(wide):
        return wide
    if isinstance(fusion, DBSF):
        spread = wide.std()
        return np.full(len(wide), 0.5) if spread == 0 else np.clip((wide - (wide.mean() - 3 * spread)) / (6 * spread), 0.0, 1.0)
    low, high = wide.min(), wide.max()
    return np.ones(len(wide)) if high == low else (wide - low) / (high - low)
