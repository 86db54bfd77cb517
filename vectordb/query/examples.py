"""Queries by examples (``Like``): look the examples up, pool them into one vector where that can be done, else score every point.

What a point scores for each example is a row of a matrix, *similarities*: float64 ``(rows, examples)``, higher is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from vectordb_client.errors import InvalidArgumentError, NotFoundError, shown
from vectordb_client.model.examples import Examples
from vectordb_client.model.fields import VectorField
from vectordb_client.model.filter_nodes import Filter, HasId, Not
from vectordb_client.model.vectors import query_vector

from ..common import deadline
from ..engine import deriving
from ..engine.snapshot import View
from ..fields import FIELD_TYPES
from ..index.exact import Found
from .read import vectors_of

TEMPERATURE = 0.1  # of the softmax of "attention", in units of the examples' spread. Chosen, not measured
BLOCK = 8_192  # rows whose similarities are in memory at a time. Chosen, not measured
EXPLAINED = 10  # best rows whose parts are explained
NOTHING_LEFT = 1e-6  # of the length of a query or of its parts; less is rounding


@dataclass(frozen=True, slots=True)
class Pooled:
    """Examples as a query. vectors: float32 ``(examples, dim)``: like, unlike, then pairs. temperature: of the softmax of "attention".
    coefficients: float64, of the like and unlike in the vector of "mean". mean: that vector, float64, before it is scaled; None without.
    """

    given: Examples
    vectors: np.ndarray
    temperature: float
    coefficients: np.ndarray
    mean: np.ndarray | None
    metric: str

    @property
    def one_vector(self) -> bool:
        """Whether the query is the mean alone, an ordinary query vector."""
        return self.given.pool == "mean" and not self.given.context

    @property
    def vector(self) -> np.ndarray:
        """The mean as a query vector, float32 ``(dim,)``."""
        assert self.mean is not None
        return self.mean.astype(np.float32)

    def scores(self, similarities: np.ndarray) -> np.ndarray:
        """The score of each row, float64 ``(rows,)``."""
        return self.parts(similarities)[1]

    def parts(self, similarities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(the contribution of each like, unlike and pair to the scores, float64 ``(rows, parts)``; the scores, their sums)."""
        likes, unlikes = len(self.given.like), len(self.given.unlike)
        near, far = similarities[:, :likes], similarities[:, likes : likes + unlikes]
        pairs = similarities[:, likes + unlikes :]
        if not self.given.context:
            parts = self._pooled(near, far)
            return parts, parts.sum(axis=1)
        difference = pairs[:, 0::2] - pairs[:, 1::2]
        if not likes:
            parts = np.minimum(difference, 0.0)
            return parts, parts.sum(axis=1)
        weights, target = self._target(near)
        sides = np.sign(difference)
        parts = np.concatenate([weights * squashed(target)[:, None], sides], axis=1)
        return parts, squashed(target) + sides.sum(axis=1)

    def _pooled(self, near: np.ndarray, far: np.ndarray) -> np.ndarray:
        if self.given.pool == "attention":
            parts = [softmax(near / self.temperature) * near]
            if far.shape[1]:
                parts.append(-softmax(far / self.temperature) * far)
            return np.concatenate(parts, axis=1)
        if self.given.pool == "mean":
            return self._mean_parts(np.concatenate([near, far], axis=1))
        rows = np.arange(len(near))
        lowest = np.full(len(near), -np.inf)
        best, worst = (each.max(axis=1) if each.shape[1] else lowest for each in (near, far))
        parts = np.zeros((len(near), near.shape[1] + far.shape[1]))
        liked = best > worst
        if near.shape[1]:
            parts[rows[liked], near.argmax(axis=1)[liked]] = squashed(best[liked])
        if far.shape[1]:
            parts[rows[~liked], near.shape[1] + far.argmax(axis=1)[~liked]] = -squashed(worst[~liked])
        return parts

    def _mean_parts(self, similarities: np.ndarray) -> np.ndarray:
        """The parts of the score for the mean vector: of a cosine or a product its terms; of a squared distance d²(Σ cᵢeᵢ, p) the terms
        cᵢ · (d²(eᵢ, p) − d²(eᵢ, mean)), which add up to it because Σ cᵢ = 1.
        """
        if self.metric == "l2":
            assert self.mean is not None
            return self.coefficients * (similarities + _squared_distances(self.vectors[: len(self.coefficients)], self.mean))
        return self.coefficients * similarities

    def _target(self, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(the share of each like in the target, float64 ``(rows, likes)``; the score of each row for the pooled likes)."""
        if self.given.pool == "max":
            weights = np.zeros(near.shape)
            weights[np.arange(len(near)), near.argmax(axis=1)] = 1.0
            return weights, near.max(axis=1)
        if self.given.pool == "attention":
            weights = softmax(near / self.temperature)
            return weights, (weights * near).sum(axis=1)
        return np.full(near.shape, 1 / near.shape[1]), self._mean_parts(near).sum(axis=1)

    def described(self) -> list[dict[str, Any]]:
        """The like, unlike and pairs for plans: in the order of ``parts``."""
        roles = [("like", each) for each in self.given.like] + [("unlike", each) for each in self.given.unlike]
        named: list[dict[str, Any]] = [{role: _named(each)} for role, each in roles]
        return named + [{"positive": _named(one), "negative": _named(other)} for one, other in self.given.context]


def _named(example: Any) -> Any:
    """An example in a plan: an id, or the first numbers of a vector."""
    if isinstance(example, np.ndarray):
        return [float(value) for value in example[:4].round(4)]
    return example if isinstance(example, (int, str)) else str(example)


def squashed(scores: np.ndarray) -> np.ndarray:
    """σ(x) = ½ + ½ · x ÷ (1 + |x|): rising, from 0 to 1."""
    return 0.5 + 0.5 * scores / (1.0 + np.abs(scores))


def softmax(scores: np.ndarray) -> np.ndarray:
    """Of each row."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _squared_distances(vectors: np.ndarray, other: np.ndarray) -> np.ndarray:
    difference = vectors.astype(np.float64) - other
    return np.einsum("ij,ij->i", difference, difference)


def pooled(view: View, field: str, spec: VectorField, given: Examples) -> Pooled:
    """The examples of one query with their vectors. Raises NotFoundError or InvalidArgumentError, which name the example."""
    every = given.every if spec.derived is None else deriving.queries(view, field, given.every)
    found = _looked_up(view, field, [each for each in every if not isinstance(each, np.ndarray)])
    vectors = np.array([each if isinstance(each, np.ndarray) else next(found) for each in every], np.float32).reshape(len(every), -1)
    metric: str = spec.metric  # type: ignore[attr-defined]
    likes, unlikes = len(given.like), len(given.unlike)
    own = vectors[: likes + unlikes].astype(np.float64)
    if metric == "cosine":
        own /= np.linalg.norm(own, axis=1, keepdims=True)
    coefficients = np.concatenate([np.full(likes, (2.0 if unlikes else 1.0) / max(likes, 1)), np.full(unlikes, -1.0 / max(unlikes, 1))])
    mean = None
    if given.pool == "mean" and likes:
        mean = coefficients @ own
        length = np.linalg.norm(mean)
        if metric == "cosine":
            if length <= NOTHING_LEFT * np.abs(coefficients).max():
                what = "the examples cancel each other out, so that their mean has no direction; leave some out, or write pool='max'"
                raise InvalidArgumentError(what, field="like", value=len(own))
            coefficients = coefficients / length
        query_vector(field, spec, mean)
    return Pooled(given, vectors, TEMPERATURE * _spread(own, metric), coefficients, mean, metric)


def _spread(vectors: np.ndarray, metric: str) -> float:
    """The unit of the temperature: 1 for a cosine, the mean squared length for dot, the mean squared distance from the mean for l2."""
    if metric == "cosine" or not len(vectors):
        return 1.0
    centred = vectors if metric == "dot" else vectors - vectors.mean(axis=0)
    return float(np.einsum("ij,ij->i", centred, centred).mean()) or 1.0


def _looked_up(view: View, field: str, ids: Sequence[Any]) -> Any:
    """The vectors of points in a field, in order."""
    rows: list[int] = []
    for value, entry in zip(ids, view.entries(ids), strict=True):
        if entry is None:
            raise NotFoundError(f"there is no point with the id {shown(value)}, which is given as an example", field="like", value=value)
        rows.append(entry[0])
    docids = list(dict.fromkeys(rows))
    by_docid = dict(zip(docids, vectors_of(view, docids, [field]), strict=True))
    for value, docid in zip(ids, rows, strict=True):
        if field not in by_docid[docid]:
            what = f"point {shown(value)} is given as an example, but it has no vector in field {field!r}"
            raise InvalidArgumentError(what, field="like", value=value)
    return iter([by_docid[docid][field] for docid in rows])


def left_out(given: Examples) -> Filter | None:
    """The filter that leaves out points that are examples; None if there are none."""
    ids = tuple(dict.fromkeys(each for each in given.every if not isinstance(each, np.ndarray)))
    return Not(HasId(ids)) if ids else None


def search(view: View, field: str, spec: VectorField, queries: Sequence[Pooled], k: int | None, rows: np.ndarray | None) -> list[Found]:
    """The k best rows (None: all) of each query among some rows (docids, ascending; None: all), best first, by exact scores."""
    return [_searched(view, field, spec, query, k, rows) for query in queries]


def _searched(view: View, field: str, spec: VectorField, query: Pooled, k: int | None, rows: np.ndarray | None) -> Found:
    every = np.arange(view.rows, dtype=np.int64) if rows is None else rows.astype(np.int64)
    docids, scores = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for low in range(0, len(every), BLOCK):
        deadline.check()
        some, similarities = FIELD_TYPES[spec.kind].similarities(view, field, query.vectors, every[low : low + BLOCK])
        docids.append(some)
        scores.append(query.scores(similarities).astype(np.float32))
    joined, scored = np.concatenate(docids), np.concatenate(scores)
    if k is not None and k < len(joined):
        least = np.partition(scored, len(scored) - k)[len(scored) - k]
        some = np.flatnonzero(scored >= least)
        joined, scored = joined[some], scored[some]
    order = np.lexsort((joined, -scored))[:k]
    return joined[order], scored[order]


def explained(view: View, field: str, spec: VectorField, query: Pooled, found: Found) -> dict[str, Any]:
    """The examples of an arm's query for ``explain``, and for each of the best rows what each example adds to its score."""
    best = found[0][:EXPLAINED].astype(np.int64)
    order = np.sort(best)
    docids, similarities = FIELD_TYPES[spec.kind].similarities(view, field, query.vectors, order)
    parts, _ = query.parts(similarities)
    places = np.searchsorted(docids, best)
    return {"examples": query.described(), "pool": query.given.pool, "contributions": parts[places].tolist()}
