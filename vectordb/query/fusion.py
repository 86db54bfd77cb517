"""Fusion: several arms' ranked candidates into one ranking whose scores can be explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..index.flat import Found
from ..types import DBSF, RRF, ArmScore, Fusion
from .linear import Ranking

Ranked = tuple[list[int], list[float], list[dict[str, ArmScore]]]  # docids, scores as shown, what each arm said
ShownScore = Callable[[str, float], float]


def fuse(arms: Mapping[str, Found], fusion: Fusion, limit: int, shown_score: ShownScore) -> Ranked:
    """The best ``limit`` docids of the union of the arms' candidates: docids, fused scores, what each arm said.

    arms: name → (docids, scores) best first, higher is better. shown_score: (arm, score) → the raw score a user sees.
    Contributions add up to the fused score; ties go to the lower docid.
    """
    # Mostly in Python: for the usual few hundred candidates that takes less than NumPy's calls do.
    said, totals = [], {}
    for name, (docids, scores) in arms.items():
        weight, listed = float(fusion.weights.get(name, 1.0)), docids.tolist()
        normal = _normalised(scores, fusion)
        for docid, part in zip(listed, (weight * normal).tolist(), strict=True):
            totals[docid] = totals.get(docid, 0.0) + part
        said.append((name, weight, {docid: at for at, docid in enumerate(listed)}, scores, normal))
    rows, sums = np.fromiter(totals, np.int64, len(totals)), np.fromiter(totals.values(), np.float64, len(totals))
    best = np.lexsort((rows, -sums))[:limit]
    ranked = rows[best].tolist()
    explained = [{} for _ in ranked]
    for name, weight, places, scores, normal in said:
        for arms_of_hit, docid in zip(explained, ranked, strict=True):
            at = places.get(docid)
            if at is None:
                arms_of_hit[name] = ArmScore(None, None, None, weight, 0.0)
            else:
                value = float(normal[at])
                arms_of_hit[name] = ArmScore(at + 1, shown_score(name, float(scores[at])), value, weight, weight * value)
    return ranked, sums[best].tolist(), explained


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
