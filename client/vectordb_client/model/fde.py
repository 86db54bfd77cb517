"""One dense vector for a multi-vector, whose dot product with that of a query is near MaxSim (Dhulipala et al., "MUVERA", 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError, SchemaError, shown
from .arguments import named_class
from .fields import MAX_DIM
from .fields.base import floats
from .options import check_integer, choice

MAX_BITS, MAX_REPETITIONS = 10, 1000
_ONES = np.array([number.bit_count() for number in range(1 << MAX_BITS)], np.uint8)  # the bits that are set in a number


@named_class
@dataclass(frozen=True)
class FDE:
    """Fixed-dimensional encodings of multi-vectors: a first stage for a search by MaxSim.

    Random hyperplanes divide space into ``2 ** bits`` regions. A block of the encoding holds, of one region, the sum of the query's rows or
    the mean of a point's rows; of a region where a point has no row, the row that fewest hyperplanes separate from it. Rows are projected
    to ``projected`` dimensions by random signs. All of this is repeated. The dot product of two encodings estimates the MaxSim score; a
    mean is never more than the best row, so it is rather too low. The same options give the same encodings on every machine.

    Attributes:
        dim: the number of dimensions of the rows.
        repetitions: how often, 1 to 1,000. More are nearer to MaxSim.
        bits: hyperplanes of each repetition, 0 to 10.
        projected: dimensions of a block; None: those of the rows, without projection.
        metric: "cosine" or "dot", as that of the multi-vector field.
        seed: of the random numbers, 0 or more.

    Raises:
        SchemaError: a value is not valid, or encodings would have more than 65,536 dimensions.

    Example:
        ```python
        fde = FDE(128)
        schema = Schema({"tokens": MultiVector(128), "first": Dense(fde.size, metric="dot")})
        docs.upsert(ids=ids, vectors={"tokens": matrices, "first": fde.documents(matrices)})
        docs.search({"tokens": query}, prefetch=Prefetch({"first": fde.query(query)}, limit=100))
        ```
    """

    dim: int
    repetitions: int = 20
    bits: int = 4
    projected: int | None = 8
    metric: str = "cosine"
    seed: int = 0

    def __post_init__(self):
        check_integer("dim", self.dim, 1, MAX_DIM)
        check_integer("repetitions", self.repetitions, 1, MAX_REPETITIONS)
        check_integer("bits", self.bits, 0, MAX_BITS)
        if self.projected is not None:
            check_integer("projected", self.projected, 1, self.dim)
        choice("metric", self.metric, ("cosine", "dot"))
        check_integer("seed", self.seed, 0, (1 << 63) - 1)
        if self.size > MAX_DIM:
            parts = f"{self.repetitions} repetitions × {1 << self.bits} regions × {self.projected or self.dim} dimensions"
            what = f"encodings have {self.size:,} dimensions ({parts}), and a Dense field has at most {MAX_DIM:,}; lower one of the three"
            raise SchemaError(what, field="repetitions", value=self.repetitions)

    @property
    def size(self) -> int:
        """The number of dimensions of the encodings."""
        return self.repetitions * (1 << self.bits) * (self.projected or self.dim)

    def documents(self, matrices: Sequence[Any]) -> np.ndarray:
        """The encodings of points, float32 ``(n, size)``. matrices: ``(rows, dim)`` numbers each. Raises InvalidArgumentError."""
        return self._encoded(matrices, means=True)

    def queries(self, matrices: Sequence[Any]) -> np.ndarray:
        """The encodings of queries, float32 ``(n, size)``, for ``search_batch``. Raises InvalidArgumentError."""
        return self._encoded(matrices, means=False)

    def query(self, matrix: Any) -> np.ndarray:
        """The encoding of one query, float32 ``(size,)``. Raises InvalidArgumentError."""
        return self._encoded([matrix], means=False)[0]

    def _encoded(self, matrices: Sequence[Any], means: bool) -> np.ndarray:
        if isinstance(matrices, str) or not hasattr(matrices, "__len__"):
            what = f"matrices must be a list of matrices of shape (rows, {self.dim}), not {shown(matrices)}"
            raise InvalidArgumentError(what, field="matrices", value=matrices)
        out = np.empty((len(matrices), self.size), np.float32)
        for i, matrix in enumerate(matrices):
            out[i] = self._one(self._checked(i, matrix), means)
        return out

    def _checked(self, i: int, matrix: Any) -> np.ndarray:
        rows = floats("matrices", matrix, "float32")
        if rows.ndim != 2 or rows.shape[1] != self.dim or not len(rows):
            what = f"matrix {i} must have shape (rows, {self.dim}) with at least one row, not {rows.shape}"
            raise InvalidArgumentError(what, field="matrices", value=rows.shape)
        if not np.isfinite(rows).all():
            raise InvalidArgumentError(f"matrix {i} has numbers that are not finite", field="matrices", value=rows[~np.isfinite(rows)][0])
        if self.metric == "cosine" and not rows.any(axis=1).all():
            raise InvalidArgumentError(f"matrix {i} has a row of zeros, which has no cosine", field="matrices", value=0.0)
        return rows

    def _one(self, rows: np.ndarray, means: bool) -> np.ndarray:
        planes, signs = _matrices(self.dim, self.repetitions, self.bits, self.projected, self.seed)
        wide = rows.astype(np.float64)
        if self.metric == "cosine":
            wide /= np.linalg.norm(wide, axis=1, keepdims=True)
        regions, n = 1 << self.bits, len(wide)
        above = (wide @ planes.T > 0).reshape(n, self.repetitions, self.bits)
        codes = above @ (1 << np.arange(self.bits)) if self.bits else np.zeros((n, self.repetitions), np.int64)
        short = np.repeat(wide[:, None], self.repetitions, axis=1) if signs is None else (wide @ signs.T).reshape(n, self.repetitions, -1)
        blocks = np.zeros((self.repetitions, regions, short.shape[2]))
        counts = np.zeros((self.repetitions, regions), np.int64)
        every = np.arange(self.repetitions)
        for codes_of_row, row in zip(codes, short, strict=True):
            blocks[every, codes_of_row] += row
            counts[every, codes_of_row] += 1
        if means:
            blocks /= np.maximum(counts, 1)[:, :, None]
            for repetition in range(self.repetitions):
                empty = np.flatnonzero(counts[repetition] == 0)
                apart = _ONES[codes[:, repetition, None] ^ empty]
                blocks[repetition, empty] = short[apart.argmin(axis=0), repetition]
        return (blocks / np.sqrt(self.repetitions)).reshape(-1).astype(np.float32)


@lru_cache(8)
def _matrices(dim: int, repetitions: int, bits: int, projected: int | None, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """(hyperplanes of all repetitions, float64 ``(repetitions · bits, dim)``; signs ÷ √projected, ``(repetitions · projected, dim)``, None
    without projection). The bits of PCG64 are fixed; what NumPy makes of them may change, so they are turned into numbers here.
    """
    source = np.random.PCG64(seed)
    count = repetitions * bits * dim
    raw = source.random_raw(2 * count)
    first, second = (((part >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53 for part in (raw[:count], raw[count:]))
    planes = np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second)  # Box and Muller: normal numbers of uniform ones
    signs = None
    if projected is not None and projected < dim:
        drawn = source.random_raw(repetitions * projected * dim) >> np.uint64(63)
        signs = (2.0 * drawn - 1).reshape(-1, dim) / np.sqrt(projected)
    return planes.reshape(-1, dim), signs
