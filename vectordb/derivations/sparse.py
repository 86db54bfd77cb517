"""Sparse codes of dense vectors: CSR, a k-sparse autoencoder (Wen et al., "Beyond Matryoshka", 2025; Makhzani and Frey 2013)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from vectordb_client.model.fields import SparseColumn

from ..common import deadline
from .base import Method, Parts, lengths, product
from .fixed import mixed
from .pieces import multiplied

# Constants of a fit. Chosen on embeddings of 384 dimensions.
STEPS = 300
BATCH = 512  # vectors of a step
RATE = 2e-3  # of Adam (Kingma and Ba 2015)
WARM_STEPS = 20  # in which the rate rises
FALL = 0.3  # the share of the steps in which it falls
WIDE = 4  # times k terms are kept for the second loss
WIDE_WEIGHT = 1 / 8
IDLE_STEPS = 20  # without a vector that has a latent, after which it is helped
HELP_WEIGHT = 1 / 32
_ROWS = 1_024  # encoded at a time


class CSRMethod(Method):
    name = "csr"
    learned = True
    sparse = True

    def least(self, given: Any, spec: Any) -> int:
        return 2 * given.width(spec.source_dim)

    def size(self, given: Any, spec: Any) -> int:
        return given.width(spec.source_dim)

    def derive(self, given: Any, spec: Any, parts: Parts, rows: np.ndarray) -> SparseColumn:
        return column_of(self._codes(given, spec, parts, rows))

    def _codes(self, given: Any, spec: Any, parts: Parts, rows: np.ndarray) -> Iterator[np.ndarray]:
        for size, codes in activations(parts, rows, given.k):
            scale = lengths(codes)
            scale = np.where(scale > 0, 1.0 / np.where(scale > 0, scale, 1.0), 0.0)
            if spec.source_metric == "dot":
                scale *= size
            yield (codes * scale[:, None]).astype(np.float32)

    def fit(self, given: Any, spec: Any, rows: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        made = trained(units(rows), given.width(rows.shape[1]), given.k, given.seed)
        parts = {"encoder": made.encoder, "bias": made.bias}
        used = np.unique(self.derive(given, spec, parts, rows).terms)
        return parts, {"explained": round(1.0 - made.lost, 4), "dead": round(1.0 - len(used) / len(made.bias), 4)}


def units(rows: np.ndarray) -> np.ndarray:
    """The rows that aren't all zeros, scaled to length 1, float32."""
    sizes = lengths(rows)
    return (rows[sizes > 0] / sizes[sizes > 0, None]).astype(np.float32)


def activations(parts: Parts, rows: np.ndarray, k: int, signed: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each block of rows: (their lengths; float32 ``(n, hidden)``, the k strongest activations of each row scaled to length 1)."""
    sizes = lengths(rows)
    for low in deadline.each(range(0, len(rows), _ROWS), 1):
        size = sizes[low : low + _ROWS]
        unit = np.ascontiguousarray(rows[low : low + _ROWS] / np.where(size > 0, size, 1.0)[:, None], np.float32)
        yield size, strongest(product(unit, parts["encoder"]) + parts["bias"], k, signed)


def column_of(blocks: Iterable[np.ndarray]) -> SparseColumn:
    """Sparse vectors of the rows of dense float32 blocks ``(n, m)``, with a term for each number that isn't 0."""
    counts, terms, weights = [], [], []
    for codes in blocks:
        owners, columns = np.nonzero(codes)
        counts.append(np.bincount(owners, minlength=len(codes)))
        terms.append(columns.astype(np.uint64))
        weights.append(codes[owners, columns])
    if not counts:
        return SparseColumn(np.zeros(1, np.int64), np.empty(0, np.uint64), np.empty(0, np.float32))
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    return SparseColumn(indptr, np.concatenate(terms), np.concatenate(weights))


def strongest(values: np.ndarray, k: int, signed: bool = False) -> np.ndarray:
    """The k largest positive numbers of each row of float32 ``(n, m)``, and 0 elsewhere. Of equal ones the first are kept.

    signed: the k largest in absolute value, with their signs (AbsTopK, Zhu et al. 2025).
    """
    positive = np.abs(values) if signed else np.maximum(values, 0.0)
    if k >= values.shape[1]:
        return values if signed else positive
    limit = np.partition(positive, values.shape[1] - k, axis=1)[:, -k][:, None]
    kept = (positive >= limit) & (positive > 0)
    for row in np.flatnonzero(kept.sum(axis=1) > k):
        equal = np.flatnonzero(positive[row] == limit[row])
        kept[row, equal[k - int((positive[row] > limit[row]).sum()) :]] = False
    return np.where(kept, values if signed else positive, np.float32(0))


class Trained(NamedTuple):
    """What ``trained`` makes: E transposed, float32 ``(dim, hidden)``; ``a − E b``, ``(hidden,)``; D transposed, ``(hidden, dim)``, whose
    rows have length 1; b, ``(dim,)``; the share of the variance that the last batch lost.
    """

    encoder: np.ndarray
    bias: np.ndarray
    decoder: np.ndarray
    centre: np.ndarray
    lost: float


def trained(rows: np.ndarray, hidden: int, k: int, seed: int, signed: bool = False) -> Trained:
    """Train the autoencoder ``z = strongest(E (x − b) + a, k, signed)``, ``x ≈ D z + b`` on unit vectors, float32 ``(n, dim)``.

    The loss is the squared error with k terms, an eighth of that with 4k, and for latents that no vector of the last steps has, how well
    they explain what is left over. Each latent begins as the direction of a vector from the mean.
    """
    n = len(rows)
    centre = rows.mean(axis=0)
    moved = rows - centre
    spread = float(np.square(moved, dtype=np.float64).sum() / n) or 1.0
    first = moved[_shuffled(n, seed, 0)[:hidden]]
    first /= np.maximum(np.linalg.norm(first, axis=1, keepdims=True), np.float32(1e-6))
    values = [first.copy(), first.copy(), np.zeros(hidden, np.float32), centre.copy()]
    means, squares = ([np.zeros_like(each) for each in values] for _ in range(2))
    batch, seen, epoch, order, lost = min(BATCH, n), np.zeros(hidden, np.int64), 0, np.empty(0, np.int64), 1.0
    for step in range(1, STEPS + 1):
        deadline.check()
        if len(order) < batch:
            epoch += 1
            order = _shuffled(n, seed, epoch)
        chosen, order = rows[order[:batch]], order[batch:]
        slopes, fired, lost = _slopes(chosen, values, k, spread, step - seen > max(IDLE_STEPS, n // batch // 2), signed)
        seen[fired] = step
        rate = RATE * min(1.0, step / WARM_STEPS) * min(1.0, (STEPS - step + 1) / (STEPS * FALL))
        for value, slope, mean, square in zip(values, slopes, means, squares, strict=True):
            mean += np.float32(0.1) * (slope - mean)
            square += np.float32(0.01) * (slope * slope - square)
            root = np.sqrt(square / np.float32(1 - 0.99**step)) + np.float32(1e-8)
            value -= np.float32(rate / (1 - 0.9**step)) * mean / root
        values[1] /= np.maximum(np.linalg.norm(values[1], axis=1, keepdims=True), np.float32(1e-6))
    encoder, decoder, bias, centre = values
    return Trained(np.ascontiguousarray(encoder.T), bias - encoder @ centre, decoder, centre, lost)


def _slopes(
    rows: np.ndarray, values: list[np.ndarray], k: int, spread: float, idle: np.ndarray, signed: bool = False
) -> tuple[list[np.ndarray], np.ndarray, float]:
    """(the derivatives of the loss by each of ``values``, which latents some row has, the share of the variance that is lost).

    values: E and D, ``(hidden, dim)``, a ``(hidden,)``, b ``(dim,)``. idle: bool ``(hidden,)``, the latents that are helped.
    """
    encoder, decoder, bias, centre = values
    moved, unit = rows - centre, np.float32(2.0 / (len(rows) * spread))
    before = multiplied(moved, encoder.T) + bias
    by_decoder, by_centre = np.zeros_like(decoder), np.zeros_like(centre)
    by_before = np.zeros_like(before)
    codes = strongest(before, k, signed)
    error = multiplied(codes, decoder) - moved
    for kept, weight in ((codes, 1.0), (strongest(before, WIDE * k, signed), WIDE_WEIGHT)):
        slope = (error if kept is codes else multiplied(kept, decoder) - moved) * (unit * np.float32(weight))
        by_decoder += multiplied(kept.T, slope)
        by_before += multiplied(slope, decoder.T) * (kept != 0)
        by_centre += slope.sum(axis=0)
    by_centre -= by_before.sum(axis=0) @ encoder
    helped = np.flatnonzero(idle)
    if len(helped):
        kept = strongest(np.ascontiguousarray(before[:, helped]), min(len(helped), 2 * k), signed)
        slope = (multiplied(kept, decoder[helped]) + error) * (unit * np.float32(HELP_WEIGHT))
        by_decoder[helped] += multiplied(kept.T, slope)
        by_before[:, helped] += multiplied(slope, decoder[helped].T) * (kept != 0)
    slopes = [multiplied(by_before.T, moved), by_decoder, by_before.sum(axis=0), by_centre]
    lost = float(np.square(error, dtype=np.float64).sum() / (len(rows) * spread))
    return slopes, np.any(codes != 0, axis=0), lost


def _shuffled(n: int, seed: int, turn: int) -> np.ndarray:
    """0 … n − 1 in an order that depends on the arguments alone, int64."""
    start = mixed(np.array([seed], np.uint64)) + np.uint64(turn)
    return np.argsort(mixed(np.arange(n, dtype=np.uint64) ^ mixed(start)), kind="stable")
