"""Clusters of a field's points, the same for any order of rows.

The idea is that of deterministic seeds of k-means by variance (Su and Dy, 2007) and of PPP: the cluster with the largest error is split at
its mean along its longest axis, and all centres move to the means of their points. Nothing is random but the sample, which depends on ids.
The number of clusters is that of the best Bayesian information criterion of a mixture of Gaussians, in the space of the first principal
components; pairs of clusters that are better described as one are then joined.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from vectordb_client.errors import InvalidArgumentError
from vectordb_client.model.explored import Clusters

from ...common import deadline, memory
from .space import Space, Steps, by_content, rank_of
from .spectrum import components

# Chosen, not measured.
DIMS = 32  # principal components that the number of clusters is judged in
ROUNDS = 5  # moves of all centres after a split
FINAL_ROUNDS = 50  # at the end, at most
PATIENCE = 16  # splits without a better criterion, after which a larger number isn't looked for
PRIOR = 3  # points of the expected spread that a cluster is thought to have besides, with all covariances so many more than dimensions
FLOOR = 1e-6  # the least variance of a dimension, as a share of the largest


class Moments(NamedTuple):
    """Of each cluster the number of points, their sums and their sums of squares, ``(k,)`` and ``(k, dim)``, float64."""

    counts: np.ndarray
    sums: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray, labels: np.ndarray, k: int) -> Moments:
        order = np.argsort(labels, kind="stable")
        starts = np.searchsorted(labels[order], np.arange(k))
        counts = np.bincount(labels, minlength=k).astype(np.float64)
        sorted_points = points[order]
        # reduceat gives the next row for an empty cluster, so these are set to 0.
        starts = np.minimum(starts, len(points) - 1)
        sums, squares = np.add.reduceat(sorted_points, starts), np.add.reduceat(sorted_points**2, starts)
        empty = counts == 0
        sums[empty] = squares[empty] = 0.0
        return cls(counts, sums, squares)

    def means(self) -> np.ndarray:
        return self.sums / np.maximum(self.counts, 1.0)[:, None]

    def errors(self) -> np.ndarray:
        """The sum of squared distances from the mean, of each cluster."""
        return np.maximum(self.squares - self.sums**2 / np.maximum(self.counts, 1.0)[:, None], 0.0).sum(axis=1)


def cluster(space: Space) -> Steps[Clusters]:
    """Steps of work are counted as rows: those of the sample once for each split that is expected, then all rows."""
    docids = space.sample()
    asked, n = space.options.get("k"), len(space.docids)
    most = space.options["max_k"] if asked is None else asked
    total = len(docids) * (1 + most // 8) + n
    yield 0, total
    matrix = space.placed(space.matrix(docids))
    matrix = matrix[by_content(matrix)]
    distinct = int((matrix[1:] != matrix[:-1]).any(axis=1).sum()) + 1 if len(matrix) else 0
    if asked is not None and asked > distinct:
        what = f"k={asked} clusters need as many different points, but {space.field!r} has {distinct}"
        raise InvalidArgumentError(what + (" in the sample" if len(docids) < n else ""), field="k", value=asked)
    yield len(docids), total
    sampled = len(docids)
    space.release()
    centres, explained = np.empty((0, space.dim), np.float32), 0.0
    if distinct:
        labels = yield from _labels(matrix, asked, min(most, distinct), len(docids), total)
        k = int(labels.max()) + 1
        sizes, error = np.bincount(labels, minlength=k), _error(matrix)
        means, errors = zip(
            *((some.mean(axis=0, dtype=np.float64), _error(some)) for some in (matrix[labels == c] for c in range(k))), strict=True
        )
        explained = 1.0 - sum(errors) / error if error > 0.0 else 0.0
        centres = np.array(means, np.float32)
        centres = centres[np.lexsort((*centres.T[::-1], -sizes))]
    space.resume()
    ids, labels, sizes, central = yield from _assigned(space, centres, total - n, total)
    shown = space.placed(centres) if space.options.get("with_centres") else None
    return Clusters(len(centres), ids, labels, sizes, max(0.0, explained), central, sampled, shown)


def _error(points: np.ndarray) -> float:
    """The sum of the squared distances of points from their mean."""
    return float(points.var(axis=0, dtype=np.float64).sum() * len(points))


def _labels(matrix: np.ndarray, asked: int | None, most: int, done: int, total: int) -> Steps[np.ndarray]:
    """The cluster of each row of the sample. asked: the number of clusters, if it is given."""
    mean, _, axes, _ = components(matrix)
    axes = axes[:, :DIMS]
    points = np.empty((len(matrix), axes.shape[1]))
    for low in range(0, len(matrix), 4_096):
        deadline.check()
        points[low : low + 4_096] = (matrix[low : low + 4_096] - mean) @ axes
    labels, moments = np.zeros(len(points), np.int64), Moments.of(points, np.zeros(len(points), np.int64), 1)
    best = (criterion(points, labels, 1), 1, labels)
    k = 1
    while k < most:
        deadline.check()
        step = min(done + len(matrix) * k // 8, total)
        yield step, total
        halves = _split(points, labels, moments)
        if halves is None:
            break
        labels, k = halves, k + 1
        labels, moments = _moved(points, labels, k, ROUNDS)
        if asked is None:
            value = criterion(points, labels, k)
            if value < best[0]:
                best = (value, k, labels)
            elif k - best[1] >= PATIENCE:
                break
    if asked is None:
        labels = _merged(points, best[2])
        labels, _ = _moved(points, labels, int(labels.max()) + 1, ROUNDS)
        return labels
    return _moved(points, labels, k, FINAL_ROUNDS)[0]


class Shapes(NamedTuple):
    """Of each cluster the number of points, their sums ``(k, dim)`` and the sums of their outer products ``(k, dim, dim)``, float64."""

    counts: np.ndarray
    sums: np.ndarray
    products: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray, labels: np.ndarray, k: int) -> Shapes:
        dims = points.shape[1]
        counts, sums, products = np.zeros(k), np.zeros((k, dims)), np.empty((k, dims, dims))
        for cluster in range(k):
            some = points[labels == cluster]
            counts[cluster], sums[cluster], products[cluster] = len(some), some.sum(axis=0), some.T @ some
        return cls(counts, sums, products)

    def costs(self, n: int, spread: np.ndarray) -> np.ndarray:
        """What each cluster adds to the Bayesian information criterion: −2 · the log likelihood of its points, and log n for each number
        that describes it, without what all clusterings of the n points share. Lower is better.

        A cluster is a Gaussian, with a variance for each dimension or with all covariances, whichever costs less. Both are drawn towards
        ``spread``, variances ``(dim,)``, as if some points of that spread were in the cluster (Fraley and Raftery, 2007), so that few
        points that are nearly equal don't seem infinitely likely.
        """
        dims, counts = self.sums.shape[1], self.counts
        means = self.sums / counts[:, None]
        covariances = self.products / counts[:, None, None] - means[:, :, None] * means[:, None]
        own = np.maximum(np.einsum("kii->ki", covariances), 0.0)
        variances = (counts[:, None] * own + PRIOR * spread) / (counts + PRIOR)[:, None]
        plain = counts * (np.log(variances) + own / variances).sum(axis=1) + 2 * dims * np.log(n)
        weight = float(dims + PRIOR)
        drawn = (counts[:, None, None] * covariances + weight * np.diag(spread)) / (counts + weight)[:, None, None]
        _, determinants = np.linalg.slogdet(drawn)
        traces = np.einsum("kij,kji->k", np.linalg.inv(drawn), covariances)
        full = counts * (determinants + traces) + (dims + dims * (dims + 1) / 2) * np.log(n)
        return np.minimum(plain, full) - 2.0 * counts * np.log(counts / n) + np.log(n)


def _spread(points: np.ndarray, k: int) -> np.ndarray:
    """The variances that k clusters are expected to have, ``(dim,)``."""
    variances = points.var(axis=0)
    return np.maximum(variances, FLOOR * max(float(variances.max(initial=0.0)), 1e-30)) / k ** (2.0 / points.shape[1])


def criterion(points: np.ndarray, labels: np.ndarray, k: int) -> float:
    """The Bayesian information criterion of clusters; lower is better."""
    return float(Shapes.of(points, labels, k).costs(len(points), _spread(points, k)).sum())


def _split(points: np.ndarray, labels: np.ndarray, moments: Moments) -> np.ndarray | None:
    """The labels after the cluster with the largest error was split at its mean along its longest axis; None if no cluster can be."""
    for chosen in np.argsort(-moments.errors(), kind="stable").tolist():
        rows = np.flatnonzero(labels == chosen)
        if len(rows) < 2:
            continue
        some = points[rows] - moments.sums[chosen] / moments.counts[chosen]
        _, axes = np.linalg.eigh(some.T @ some)
        upper = some @ axes[:, -1] > 0.0
        if not upper.any() or upper.all():
            continue
        for _ in range(ROUNDS):
            centres = np.stack([some[~upper].mean(axis=0), some[upper].mean(axis=0)])
            moved = some @ (centres[1] - centres[0]) > ((centres[1] ** 2).sum() - (centres[0] ** 2).sum()) / 2
            if (moved == upper).all() or not moved.any() or moved.all():
                break
            upper = moved
        after = labels.copy()
        after[rows[upper]] = len(moments.counts)
        return after
    return None


def _moved(points: np.ndarray, labels: np.ndarray, k: int, rounds: int) -> tuple[np.ndarray, Moments]:
    """Labels after at most ``rounds`` rounds of k-means from the means of these labels. No cluster becomes empty."""
    moments = Moments.of(points, labels, k)
    for _ in range(rounds):
        deadline.check()
        means = moments.means()
        nearest = np.argmax(points @ means.T - (means**2).sum(axis=1) / 2, axis=1)
        if (nearest == labels).all() or len(np.unique(nearest)) < k:
            break
        labels, moments = nearest, Moments.of(points, nearest, k)
    return labels, moments


def _merged(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The labels after the pair of clusters whose union improves the criterion most was joined, as long as there is one."""
    k, n = int(labels.max()) + 1, len(points)
    shapes, spread = Shapes.of(points, labels, k), _spread(points, k)
    names = np.arange(k)  # cluster → the one that it is now part of
    own = shapes.costs(n, spread)
    gains = np.full((k, k), -np.inf)  # of joining two clusters; filled above the diagonal

    def gained(one: int) -> np.ndarray:
        """The gains of joining a cluster with each."""
        return own[one] + own - Shapes(*(part[one] + part for part in shapes)).costs(n, spread)

    for one in range(k):
        deadline.check()
        gains[one, one + 1 :] = gained(one)[one + 1 :]
    while len(own) > 1:
        deadline.check()
        one, other = np.unravel_index(int(gains.argmax()), gains.shape)
        if gains[one, other] <= 0.0:
            break
        for part in shapes:
            part[one] += part[other]
        shapes = Shapes(*(np.delete(part, other, axis=0) for part in shapes))
        gains = np.delete(np.delete(gains, other, axis=0), other, axis=1)
        own = shapes.costs(n, spread)
        fresh = gained(int(one))
        gains[one, one + 1 :], gains[:one, one] = fresh[one + 1 :], fresh[:one]
        names = np.where(names == other, one, names)
        names = names - (names > other)
    return names[labels]


def _assigned(space: Space, centres: np.ndarray, done: int, total: int) -> Steps[tuple[list, np.ndarray, np.ndarray, list]]:
    """(the ids of the points, their clusters, sizes, the ids of the most central points of each). Larger clusters come first."""
    docids, k, most = space.docids, len(centres), space.options["central"]
    memory.hold(8 * len(docids), "the labels")
    labels, distances = np.full(len(docids), -1, np.int32), np.empty(len(docids), np.float32)
    squares = (centres.astype(np.float64) ** 2).sum(axis=1).astype(np.float32)
    for low, some in space.blocks(docids):
        yield done + low, total
        space.give_way()
        there, vectors = space.present(some)
        rows, places = low + there, space.placed(vectors)
        apart = squares - 2 * (places @ centres.T)
        labels[rows] = apart.argmin(axis=1)
        distances[rows] = apart.min(axis=1) + np.einsum("ij,ij->i", places, places)
    left = np.flatnonzero(labels >= 0)
    labels, distances, ids = labels[left], distances[left], space.ids_at(left)
    sizes = np.bincount(labels, minlength=k).astype(np.int64)
    order = np.argsort(-sizes, kind="stable")
    place = np.empty(k, np.int32)
    place[order] = np.arange(k, dtype=np.int32)
    labels, sizes = place[labels] if k else labels, sizes[order] if k else sizes
    central = []
    for cluster in range(k):
        rows = np.flatnonzero(labels == cluster)
        near = rows[np.argsort(distances[rows], kind="stable")]
        edge = np.searchsorted(distances[near], distances[near[min(most, len(near)) - 1]], side="right") if most and len(near) else 0
        some = [ids[row] for row in near[:edge].tolist()]  # with all that are as near as the last one
        keyed = sorted(zip(distances[near[:edge]].tolist(), rank_of(some), some, strict=True), key=lambda each: each[:2])
        central.append([id for _, _, id in keyed[:most]])
    yield total, total
    return ids, labels, sizes, central
