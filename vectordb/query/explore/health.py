"""What the vectors of a field are like, measured on a sample."""

from __future__ import annotations

import numpy as np
from vectordb_client.model.explored import Health
from vectordb_client.model.explored_text import advice

from ...common import deadline
from .space import Space, Steps, by_content, hashed, lengths_of
from .spectrum import components

# Chosen, not measured.
COMPARED = 5_000  # points that are compared with one another
HUBS, OUTLIERS = 10, 100  # ids that are named
FAR = 8.0  # deviations from the median distance to the nearest neighbours, from which on a point is an outlier
_ROWS = 512  # rows that are compared at a time


def health(space: Space) -> Steps[Health]:
    docids = space.sample()
    yield 0, 4
    stored = space.matrix(docids)
    yield 1, 4
    ids, points = space.ids(docids), len(space.docids)
    space.end()  # what follows reads nothing
    order = by_content(stored)
    stored, ids = stored[order], [ids[row] for row in order.tolist()]
    facts = {"points": points, "sample": len(ids), "dim": space.dim, "metric": space.metric}
    facts |= _lengths(stored) | {"duplicates": int((stored[1:] == stored[:-1]).all(axis=1).sum()) if len(stored) else 0}
    facts["dead"] = np.flatnonzero((stored == stored[:1]).all(axis=0)).tolist() if len(stored) > 1 else []
    places = space.placed(stored)
    facts |= _ranks(places)
    yield 2, 4
    facts |= yield from _crowding(space, ids, places)
    yield 4, 4
    return Health(**facts, advice=advice(facts, space.field))


def _lengths(stored: np.ndarray) -> dict:
    if not len(stored):
        return {"norms": {"min": 0.0, "mean": 0.0, "max": 0.0, "deviation": 0.0, "zero": 0}}
    lengths = lengths_of(stored)
    facts = {"min": lengths.min(), "mean": lengths.mean(), "max": lengths.max(), "deviation": lengths.std()}
    return {"norms": {**{name: float(value) for name, value in facts.items()}, "zero": int((lengths == 0.0).sum())}}


def _ranks(places: np.ndarray) -> dict:
    """Ranks by the variances of principal components.

    The rank above noise is the number of singular values above the threshold of Gavish and Donoho (2014) for noise of unknown strength: a
    multiple of the median, which depends on the shape of the matrix alone.
    """
    if len(places) < 2:
        return {"rank": 0, "effective_rank": 0.0, "dims_for": {"0.9": 0, "0.95": 0, "0.99": 0}}
    _, variances, _, n = components(places)
    total = variances.sum()
    if total <= 0.0:
        return {"rank": 0, "effective_rank": 0.0, "dims_for": {"0.9": 0, "0.95": 0, "0.99": 0}}
    shares = variances / total
    some = shares[shares > 0.0]
    cumulative = np.cumsum(shares)
    ratio = min(n, places.shape[1]) / max(n, places.shape[1])
    factor = 0.56 * ratio**3 - 0.95 * ratio**2 + 1.82 * ratio + 1.43
    values = np.sqrt(variances[: min(n - 1, places.shape[1])])
    rounding = values[0] * np.finfo(np.float32).eps * np.sqrt(places.shape[1])
    return {
        "rank": int((values > max(factor * np.median(values), rounding)).sum()),
        "effective_rank": float(np.exp(-(some * np.log(some)).sum())),
        "dims_for": {str(share): int(np.searchsorted(cumulative, share - 1e-12)) + 1 for share in (0.9, 0.95, 0.99)},
    }


def _crowding(space: Space, ids: list, places: np.ndarray) -> Steps[dict]:
    """Hubs and outliers, among points of the sample that are compared with one another."""
    if len(ids) > COMPARED:
        chosen = np.sort(np.argsort(hashed(ids, space.options["seed"] + 1), kind="stable")[:COMPARED])
        ids, places = [ids[row] for row in chosen.tolist()], places[chosen]
    n = len(ids)
    k = min(space.options["k"], n - 1)
    if k < 1:
        nothing = {"hubness": 0.0, "lonely": 0.0, "hubs": [], "hub_counts": np.empty(0, np.int64), "outliers": [], "outlier_count": 0}
        return {**nothing, "hub_k": 0, "hub_sample": n}
    counts, distances = np.zeros(n, np.int64), np.empty(n)
    squares = np.einsum("ij,ij->i", places, places, dtype=np.float64).astype(np.float32)
    for low in range(0, n, _ROWS):
        deadline.check()
        yield 2, 4
        rows = np.arange(low, min(low + _ROWS, n))
        products = places[rows] @ places.T
        apart = np.maximum(squares[rows, None] + squares[None] - 2 * products, 0.0)
        scores = -apart if space.metric != "dot" else products
        scores[np.arange(len(rows)), rows] = -np.inf
        near = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        np.add.at(counts, near.ravel(), 1)
        apart[np.arange(len(rows)), rows] = np.inf
        distances[rows] = np.sqrt(np.partition(apart, k - 1, axis=1)[:, :k]).mean(axis=1)
    deviation = counts.std()
    hubs = np.lexsort((np.arange(n), -counts))[:HUBS]
    median = np.median(distances)
    spread = 1.4826 * np.median(np.abs(distances - median))  # a standard deviation, for a normal distribution
    limit = median + FAR * spread if spread > 0.0 else 2.0 * median
    far = np.flatnonzero(distances > limit) if median > 0.0 else np.empty(0, np.int64)
    far = far[np.lexsort((far, -distances[far]))]
    return {
        "hubness": float(((counts - counts.mean()) ** 3).mean() / deviation**3) if deviation > 0.0 else 0.0,
        "hub_k": k,
        "hub_sample": n,
        "hubs": [ids[row] for row in hubs.tolist()],
        "hub_counts": counts[hubs],
        "lonely": float((counts == 0).mean()),
        "outliers": [ids[row] for row in far[:OUTLIERS].tolist()],
        "outlier_count": len(far),
    }
