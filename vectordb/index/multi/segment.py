"""A segment of a multi-vector field: byte codes of all vectors in the order of their docids, and lists of rows by centroids.

The file is derived from the field's chunks and can be deleted and rebuilt. FORMAT.md describes its sections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...kernels.codes import rotate_rows
from ...kernels.maxsim import LANES, MOST_GROUPS, lay_out, width_of
from ..base import IndexKind
from ..file import IndexFile
from ..model import Corrections, which_model
from .ahead import Ahead
from .far import reach_of
from .model import Choice, MultiModel, models_of
from .plans import PLANS

SMALLEST = 1e-37  # the least step of a query's codes; zeros get it [float32]


@dataclass(frozen=True)
class CodedQuery:
    """A query in byte codes, in parts of 16 or 32 vectors. rows: its vectors. lines, zeros, scales: as ``maxsim.add_maxsim`` takes them."""

    rows: int
    lines: np.ndarray
    zeros: np.ndarray
    scales: np.ndarray

    @property
    def lanes(self) -> int:
        """Vectors of a part."""
        return self.zeros.shape[1]


class MultiSegment(IndexKind):
    """total: the number of vectors. has_lists: whether there are centroids and lists. best: scores are those of the best pair of vectors,
    not sums. every: int32, all rows. ahead: what searches ask for before they read it.
    choices: the cache of ``search``: request → (number of calls when it was chosen, choice).
    """

    plans = PLANS
    models: tuple[MultiModel, ...]

    def __init__(self, meta: dict[str, Any], sections: dict[str, np.ndarray], file: IndexFile | None = None):
        super().__init__(meta, sections, file)
        self.dim, self.metric, self.step = meta["dim"], meta["metric"], np.float32(meta["step"])
        self.best = meta["aggregation"] == "max"
        self.starts, self.codes, self.flips = sections["starts"], sections["codes"], sections["flips"]
        self.total, self.has_lists = len(self.codes), "centroids" in sections
        self.every = np.arange(self.rows, dtype=np.int32)
        self.corrections = Corrections.of(PLANS)
        self.ahead = Ahead()
        self.choices: dict[tuple, tuple[int, Choice]] = {}
        if file is not None:
            self.models = models_of(meta, sections)

    def rotated(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors (float32 ``(n, dim)``) after normalising, for cosine, and rotating."""
        return rotated(vectors, self.metric == "cosine", self.flips)

    def coded(self, query: np.ndarray) -> CodedQuery:
        """A query (float32 ``(rows, dim)``) in byte codes."""
        rows, groups = len(query), 1 if len(query) <= LANES else MOST_GROUPS
        lanes = LANES * groups
        padded = np.zeros((-(-rows // lanes) * lanes, width_of(self.dim)), np.float32)
        padded[:rows, : self.dim] = self.rotated(query)
        steps = np.maximum(np.abs(padded).max(axis=1) / np.float32(127), np.float32(SMALLEST))
        codes = np.rint(padded / steps[:, None]).astype(np.int8)
        zeros = (128 * codes.sum(axis=1, dtype=np.int32)).reshape(-1, lanes)
        scales = np.maximum(steps * self.step, np.float32(SMALLEST))
        scales[rows:] = 0
        return CodedQuery(rows, lay_out(codes, groups), zeros, scales.reshape(-1, lanes))

    def reach(self, query: np.ndarray) -> float:
        """The highest score that a query (float32 ``(rows, dim)``) can have."""
        return reach_of(query, self.metric == "cosine", self.meta.get("longest", 1.0), self.best)

    def model(self, k: int) -> MultiModel:
        return self.models[which_model(k)]

    def fits(self, spec: Any) -> bool:
        own = self.dim, self.metric, self.meta["aggregation"]
        return super().fits(spec) and own == (spec.dim, spec.metric, spec.aggregation)

    def facts(self) -> dict[str, Any]:
        lists = {"centroids": len(self.sections["centroids"])} if self.has_lists else {}
        return super().facts() | {"vectors": self.total} | lists


def rotated(vectors: np.ndarray, unit: bool, flips: np.ndarray) -> np.ndarray:
    """Vectors (float32 ``(n, dim)``), of length 1 if ``unit``, after the rotation that ``flips`` describes."""
    out = np.empty((len(vectors), vectors.shape[1]), np.float32)
    rotate_rows(vectors, unit, np.zeros(vectors.shape[1], np.float32), flips, out)
    return out
