"""Fusion: merge the ranked candidates of several arms into one ranking, and explain each score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from vectordb_client.model.ranking import DBSF, RRF, Fusion
from vectordb_client.model.results import ArmScore

from ..index.exact import Found
from ..kernels.fusion import merge_lists
from .linear import Ranking
from .missing import rescaled

Ranked = tuple[list[int], list[float], list[dict[str, ArmScore]]]  # docids, scores as users see them, each hit's scores by arm
ShownScore = Callable[[str, float], float]
HasVectors = Callable[[str, np.ndarray], np.ndarray]  # (arm, int64 docids) → bool: which of them have a vector in its field


def fuse(arms: Mapping[str, Found], fusion: Fusion, limit: int, shown_score: ShownScore, has_vectors: HasVectors) -> Ranked:
    """The best ``limit`` rows of the union of the arms' candidates. A hit's contributions add up to its fused score. Ties go to the lower
    docid.

    arms: name → (docids, scores), best first, higher is better. shown_score: (arm, score) → the score as users see it. has_vectors: (arm,
    docids) → which of them have a vector in the arm's field.
    """
    names = list(arms)
    normal = [_normalised(scores, fusion) for _, scores in arms.values()]
    weights = np.array([float(fusion.weights.get(name, 1.0)) for name in names])
    docids = np.concatenate([docids for docids, _ in arms.values()], dtype=np.int64)
    ends = np.cumsum([len(each) for each in normal])
    # The weight of each candidate in the arm that lists it.
    own = np.repeat(weights, [len(each) for each in normal])
    if fusion.missing == "renormalise":
        has = np.array([has_vectors(name, docids) for name in names])
        own = rescaled(weights, has)[np.repeat(np.arange(len(names)), [len(each) for each in normal]), np.arange(len(docids))]
    parts = own * np.concatenate(normal)
    limit = min(limit, len(parts))
    best, sums, places = np.empty(limit, np.int64), np.empty(limit, np.float64), np.empty((limit, len(arms)), np.int64)
    count = merge_lists(docids, parts, ends, best, sums, places)
    best, places = best[:count], places[:count]
    # A row that an arm lists has a vector there, so only the others are looked up.
    has = places >= 0
    for a, name in enumerate(names):
        if not has[:, a].all():
            has[~has[:, a], a] = has_vectors(name, best[~has[:, a]])
    counts = rescaled(weights, has.T) if fusion.missing == "renormalise" else np.repeat(weights[:, None], count, axis=1)
    explained: list[dict[str, ArmScore]] = [{} for _ in range(count)]
    for a, (name, (_, scores)) in enumerate(arms.items()):
        begin = int(ends[a]) - len(scores)
        for arms_of_hit, at, weight, present in zip(explained, places[:, a].tolist(), counts[a].tolist(), has[:, a].tolist(), strict=True):
            if at < 0:
                arms_of_hit[name] = ArmScore(None, None, None, weight, 0.0, not present)
            else:
                value = float(normal[a][at])
                arms_of_hit[name] = ArmScore(at + 1, shown_score(name, float(scores[at])), value, weight, float(parts[begin + at]))
    return best.tolist(), sums[:count].tolist(), explained


def explained_sums(
    names: Sequence[str], weights: Sequence[float], ranking: Ranking, shown_score: ShownScore, has_vectors: HasVectors, ranked: bool = True
) -> Ranked:
    """The result of linear fusion with each hit's scores by arm. ranked: False if ranks in the lists are not ranks among all rows."""
    explained = [{} for _ in ranking.docids]
    for name, weight, scores, ranks in zip(names, weights, ranking.scores, ranking.ranks.tolist(), strict=True):
        absent = np.isnan(scores)
        lacks = absent.copy()
        if absent.any():
            lacks[absent] = ~has_vectors(name, ranking.docids[absent])
        for arms_of_hit, score, rank, lack in zip(explained, scores.tolist(), ranks, lacks.tolist(), strict=True):
            if score != score:  # no match
                arms_of_hit[name] = ArmScore(None, None, None, weight, 0.0, lack)
            else:
                arms_of_hit[name] = ArmScore(rank if ranked and rank else None, shown_score(name, score), score, weight, weight * score)
    return ranking.docids.tolist(), ranking.sums.tolist(), explained


def merged(rankings: Sequence[Ranked], limit: int) -> Ranked:
    """The best ``limit`` rows of rankings that have no row in common. Ties go to the lower docid."""
    if len(rankings) == 1:
        return rankings[0]
    rows = [row for ranking in rankings for row in zip(*ranking, strict=True)]
    rows = sorted(rows, key=lambda row: (-row[1], row[0]))[:limit]
    return [docid for docid, _, _ in rows], [score for _, score, _ in rows], [arms for _, _, arms in rows]


def _normalised(scores: np.ndarray, fusion: Fusion) -> np.ndarray:
    """An arm's scores (best first) as the fusion method normalises them: float64 of the same length, finite."""
    if isinstance(fusion, RRF):
        return 1.0 / (fusion.k + np.arange(1, len(scores) + 1))
    wide = scores.astype(np.float64)
    if not len(wide):
        return wide
    low, high = wide.min(), wide.max()
    if isinstance(fusion, DBSF):
        if low == high:  # a single candidate, or equal scores
            return np.full(len(wide), 0.5)
        spread = 3.0 * wide.std(ddof=1)
        return (wide - (wide.mean() - spread)) / (2.0 * spread)
    return np.ones(len(wide)) if high == low else (wide - low) / (high - low)
