"""A reference implementation of the database with a dict and NumPy. It computes scores in float64 from the stored values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from vectordb_client.model.values import Id

from tests.support.filter_model import holds
from vectordb import Dense, Hits, Schema, Sparse

TOLERANCE = 2e-5  # error of a float32 score of up to a few hundred terms, relative to the sum of the terms' magnitudes


@dataclass
class Stored:
    """vectors: arrays as stored, sparse ones {term: weight}. attributes: stored forms, without nulls."""

    vectors: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    payload: Any = None
    version: int = 0


def stored_vector(spec, value):
    """The stored form of a vector."""
    if isinstance(spec, Sparse):
        terms = value.items() if isinstance(value, dict) else zip(*value, strict=True)
        return {int(t): float(np.float32(w)) for t, w in terms if np.float32(w) != 0}
    return np.asarray(value).astype(spec.dtype)


def score(spec, query, vector, idf=None) -> tuple[float, float] | None:
    """(score, sum of the terms' magnitudes), or None if the vector is no match of the query."""
    if isinstance(spec, Sparse):
        shared = query.keys() & vector.keys()
        parts = [query[t] * vector[t] * (1.0 if idf is None else idf[t]) for t in shared]
        return (sum(parts), sum(map(abs, parts))) if shared else None
    query, vector = np.asarray(query, np.float32).astype(np.float64), vector.astype(np.float64)
    if isinstance(spec, Dense):
        if spec.metric == "l2":
            return float(((query - vector) ** 2).sum()), float((np.abs(query) + np.abs(vector)).max() ** 2) * len(query)
        scale = np.linalg.norm(query) * np.linalg.norm(vector) if spec.metric == "cosine" else 1.0
        return float(query @ vector / scale), float(np.abs(query) @ np.abs(vector) / scale)
    products, sizes = query @ vector.T, np.abs(query) @ np.abs(vector).T
    if spec.metric == "cosine":
        scale = np.linalg.norm(query, axis=1)[:, None] * np.linalg.norm(vector, axis=1)[None, :]
        products, sizes = products / scale, sizes / scale
    best = products.max(axis=1)
    return float(best.sum() if spec.aggregation == "maxsim" else best.max()), float(sizes.max(axis=1).sum())


class Model:
    """A model of one collection."""

    def __init__(self, schema: Schema):
        self.schema = schema
        self.points: dict[Id, Stored] = {}
        self.sequence = 0
        self.rows = 0

    def matches(self, node) -> set[Id]:
        """Ids of the points that match a filter; None matches every point."""
        return {i for i, point in self.points.items() if node is None or holds(node, self.row(i, point))}

    def row(self, i: Id, point: Stored) -> dict:
        """A point as a row for ``filter_model``."""
        return {"id": i, "vectors": set(point.vectors), **dict.fromkeys(self.schema.attributes), **point.attributes}

    def attributes(self, i: Id) -> dict:
        """A point's attributes in the user's form."""
        return {name: self.schema.attributes[name].restore(value) for name, value in self.points[i].attributes.items()}

    def in_order(self, ids) -> list[Id]:
        """Ids in the order of ``scroll``: integers, then strings by UTF-8, then UUIDs."""
        return sorted(ids, key=lambda i: (0, i) if isinstance(i, int) else (1, i.encode()) if isinstance(i, str) else (2, i.bytes))

    def idf(self, name: str, query: dict) -> dict[int, float] | None:
        if self.schema.vectors[name].weighting is None:
            return None
        having = [point.vectors[name] for point in self.points.values() if name in point.vectors]
        df = {term: sum(term in vector for vector in having) for term in query}
        return {term: float(np.log(1 + (len(having) - n + 0.5) / (n + 0.5))) for term, n in df.items()}

    def scores(self, name: str, query, node=None) -> dict[Id, tuple[float, float]]:
        """id → (score, sum of the terms' magnitudes) of every match of a search."""
        spec = self.schema.vectors[name]
        idf = None
        if isinstance(spec, Sparse):
            query = stored_vector(spec, query)
            idf = self.idf(name, query)
        found = {}
        for i in self.matches(node):
            vector = self.points[i].vectors.get(name)
            if vector is not None:
                given = score(spec, query, vector, idf)
                if given is not None:
                    found[i] = given
        return found

    def check_hits(self, hits: Hits, name: str, query, node, limit: int) -> None:
        """Check the number, scores and order of the hits, and that no better point is missing. Ties may be in any order."""
        check_ranking(list(hits), self.scores(name, query, node), limit, lower=getattr(self.schema.vectors[name], "metric", "") == "l2")


def tolerance(size: float) -> float:
    return TOLERANCE * size + 1e-12


def check_ranking(hits: list, scores: dict[Id, tuple[float, float]], limit: int, lower: bool) -> None:
    """Check hits against the scores of all matches."""
    assert len(hits) == min(limit, len(scores)), f"{len(hits)} hits of {len(scores)} matches, limit {limit}"
    ids = [hit.id for hit in hits]
    assert len(set(ids)) == len(ids)
    sign = -1.0 if lower else 1.0
    for hit in hits:
        assert hit.id in scores, f"{hit.id!r} is not a match"
        expected, size = scores[hit.id]
        assert abs(hit.score - expected) <= tolerance(size), (hit.id, hit.score, expected)
    given = [sign * hit.score for hit in hits]
    assert given == sorted(given, reverse=True)
    if hits and len(scores) > len(hits):
        worst = min(sign * scores[i][0] for i in ids)
        slack = max(tolerance(size) for _, size in scores.values())
        for i in scores.keys() - set(ids):
            assert sign * scores[i][0] <= worst + 2 * slack, f"{i!r} scores {scores[i][0]}, was left out; the worst hit has {sign * worst}"
