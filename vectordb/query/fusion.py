"""Fusion: several arms' ranked candidates into one ranking whose scores can be explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..types import DBSF, RRF, ArmScore, Fusion

Found = tuple[np.ndarray, np.ndarray]
ShownScore = Callable[[str, float], float]


def fuse(arms: Mapping[str, Found], fusion: Fusion, limit: int, shown_score: ShownScore) -> tuple[list[int], list[float], list[dict]]:
    """The best ``limit`` docids of the union of the arms' candidates: docids, fused scores, what each arm said (name → ArmScore).

    arms: name → (docids, scores) best first, higher is better. shown_score: (arm, score) → the raw score a user sees.
    Contributions add up to the fused score; ties go to the lower docid.
    """
    weights = [float(fusion.weights.get(name, 1.0)) for name in arms]
    docids = np.unique(np.concatenate([found for found, _ in arms.values()]))
    scores, normal, ranks = np.zeros((3, len(arms), len(docids)))
    for a, (found, raw) in enumerate(arms.values()):
        at = np.searchsorted(docids, found)
        scores[a, at], normal[a, at], ranks[a, at] = raw, _normalised(raw, fusion), np.arange(1, len(found) + 1)
    total = np.zeros(len(docids))
    for weight, values in zip(weights, normal, strict=True):
        total += weight * values
    best = np.lexsort((docids, -total))[:limit]
    scores = np.where(ranks[:, best] > 0, scores[:, best], np.nan)
    said = explained(list(arms), weights, scores, normal[:, best], ranks[:, best].astype(np.int64), shown_score)
    return docids[best].tolist(), total[best].tolist(), said


def explained(
    names: Sequence[str], weights: Sequence[float], scores: np.ndarray, normal: np.ndarray, ranks: np.ndarray, shown_score: ShownScore
) -> list[dict[str, ArmScore]]:
    """What each arm said of each hit. scores (NaN: none), normal, ranks (0: none): ``(arms, hits)``."""
    columns = []
    for name, weight, *rows in zip(names, weights, scores.tolist(), normal.tolist(), ranks.tolist(), strict=True):
        said = []
        for score, value, rank in zip(*rows, strict=True):
            if score != score:
                said.append(ArmScore(rank or None, None, None, weight, 0.0))
            else:
                said.append(ArmScore(rank or None, shown_score(name, score), value, weight, weight * value))
        columns.append(said)
    return [dict(zip(names, hit, strict=True)) for hit in zip(*columns, strict=True)]


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
