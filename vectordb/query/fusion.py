"""Fusion: several arms' ranked candidates into one ranking whose scores can be explained."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..types import DBSF, RRF, ArmScore, Fusion

Found = tuple[np.ndarray, np.ndarray]


def fuse(arms: Mapping[str, Found], fusion: Fusion, limit: int, shown_score) -> tuple[list[int], list[float], list[dict[str, ArmScore]]]:
    """The best ``limit`` docids of the union of the arms' candidates: docids, fused scores, what each arm said.

    arms: name → (docids, scores) best first, higher is better. shown_score: (arm, score) → the raw score a user sees.
    Contributions add up to the fused score; ties go to the lower docid.
    """
    normal = {name: _normalised(scores, fusion) for name, (_, scores) in arms.items()}
    weights = {name: float(fusion.weights.get(name, 1.0)) for name in arms}
    docids = np.unique(np.concatenate([found for found, _ in arms.values()]))
    total = np.zeros(len(docids))
    for name, (found, _) in arms.items():
        total[np.searchsorted(docids, found)] += weights[name] * normal[name]
    best = np.lexsort((docids, -total))[:limit]
    places = {name: {docid: rank for rank, docid in enumerate(found.tolist())} for name, (found, _) in arms.items()}
    explained = []
    for docid in docids[best].tolist():
        said = {}
        for name, (_, scores) in arms.items():
            rank = places[name].get(docid)
            if rank is None:
                said[name] = ArmScore(None, None, None, weights[name], 0.0)
            else:
                value = float(normal[name][rank])
                said[name] = ArmScore(rank + 1, shown_score(name, float(scores[rank])), value, weights[name], weights[name] * value)
        explained.append(said)
    return docids[best].tolist(), total[best].tolist(), explained


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
