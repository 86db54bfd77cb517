"""The ranking step of ``diversity``: maximal marginal relevance over the best rows of a search."""

from __future__ import annotations

from typing import Any

import numpy as np
from vectordb_client.errors import InvalidArgumentError
from vectordb_client.model.diversity import Diversity

from ..common import deadline
from ..engine.snapshot import View
from .arms import sign
from .request import RANKING_STEPS, Search


def deeper(search: Search) -> Search:
    """The search of as many rows as the step chooses from. Raises InvalidArgumentError if no field is named and none follows."""
    diversity: Diversity | None = search.request.diversity
    if diversity is None:
        return search
    _field(search, diversity)
    over = diversity.candidates(search.limit)
    return search._replace(limit=over, candidates=max(search.candidates, over))


def diversified(view: View, search: Search, ranking: Any) -> Any:
    """The ``limit`` rows that maximal marginal relevance takes of a ranking, in the order in which it takes them."""
    diversity: Diversity = search.request.diversity
    docids, scores, arms = ranking
    limit = min(search.request.limit, len(docids))
    way = sign(search.arms[0]) if len(search.arms) == 1 else 1.0  # squared distances are better the lower they are
    directions = _directions(view, _field(search, diversity), np.array(docids, np.int64))
    chosen = marginal(way * np.array(scores, np.float64), directions, diversity.weight, limit)
    return [docids[i] for i in chosen], [scores[i] for i in chosen], [arms[i] for i in chosen]


def marginal(scores: np.ndarray, directions: np.ndarray, weight: float, limit: int) -> list[int]:
    """The places of ``limit`` candidates. scores: float64 ``(n,)``, higher is better. directions: float64 ``(n, dim)``, each of length 1
    or 0.
    """
    if not limit:
        return []
    low, high = scores.min(), scores.max()
    relevance = (scores - low) / (high - low) if high > low else np.ones(len(scores))
    similarity, free, chosen = np.full(len(scores), -np.inf), np.ones(len(scores), np.bool_), [0]
    for _ in range(limit - 1):
        deadline.check()
        free[chosen[-1]] = False
        # ``einsum`` adds in one order, whatever the machine's linear algebra does.
        similarity = np.maximum(similarity, np.einsum("ij,j->i", directions, directions[chosen[-1]]))
        gains = np.where(free, (1 - weight) * relevance - weight * similarity, -np.inf)
        chosen.append(int(np.argmax(gains)))
    return chosen


def _field(search: Search, diversity: Diversity) -> str:
    if diversity.field is not None:
        return diversity.field
    dense = [arm.field for arm in search.arms if arm.spec.kind == "dense"]
    if len(search.arms) != 1 or not dense:
        what = f"diversity needs the dense field whose vectors are compared: diversity=Diversity({diversity.weight:g}, field='…')"
        raise InvalidArgumentError(what, field="diversity", value=diversity.weight)
    return dense[0]


def _directions(view: View, name: str, docids: np.ndarray) -> np.ndarray:
    """The vectors of rows, each divided by its length; zeros where a row has none. float64 ``(n, dim)``."""
    spec: Any = view.schema.vectors[name]
    directions = np.zeros((len(docids), spec.dim))
    order = np.argsort(docids)
    column: Any = view.vectors(name, docids[order])
    if column is not None and len(column.rows):
        vectors = np.stack([column.vector(i) for i in range(len(column.rows))]).astype(np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        directions[order[column.rows]] = vectors / np.where(lengths > 0, lengths, 1.0)
    return directions


RANKING_STEPS["diversity"] = diversified
