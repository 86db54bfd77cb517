"""Principal codes: byte codes of a row's coordinates on a few axes, which a graph's search reads instead of all of the row's byte codes.

The axes span the directions in which rows differ most (principal component analysis), and that of the mean, because queries aren't centred.
Within that space they are turned at random, so that all coordinates are of one size and one step serves them. As few axes are taken as
tell the nearest rows from the others. Where that takes more than half as many as there are dimensions, there are no principal codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...kernels import query_codes, scoring
from ...kernels.codes import LINE, ZERO, encode_rows, rotate, stride_of
from ..base import Codec
from ..scratch import aligned_copy
from .frame import Frame, learned_step

# Constants: unit and meaning, then the source in brackets. [A]: on Debian's package texts (54k × 384) and Fashion-MNIST (60k × 784),
# December 2026: recall of the nearest 10 among the best by principal codes, and time of searches. [chosen]: chosen, not measured.
MOST_AXES = 512  # axes: bounds the time to find them [chosen]
ASKED, AMONG, NEAREST = 64, 20, 10  # rows of the sample that are asked for, whose nearest must be among so many by principal codes [A]
ENOUGH = 0.99  # the share of the nearest that must be [A]
ITERATIONS = 8  # of the power method: neighbouring components needn't be told apart [chosen]


class PrincipalCodes(Codec):
    """One byte an axis, rounded to a step of their own. A row has its coordinates on the rounded axes, as a query has."""

    name = "principal"
    sections = frozenset({"principal", "principal_centroids", "axes"})
    large = frozenset({"principal"})
    encode_query = query_codes.encode_principal
    score = scoring.code_score
    of_graph = True

    def __init__(self, frame: Frame, axes: np.ndarray, axis_step: float, step: float, rows: int):
        """axes: uint8 ``(axes, stride)``, their byte codes. step: of the rows' codes."""
        self.frame, self.coded, self.axis_step, self.step = frame, axes, axis_step, np.float32(step)
        self.codes = np.empty((rows, len(axes)), np.uint8)
        self._axes = (axes.astype(np.float32) - np.float32(ZERO)) * np.float32(axis_step)

    @classmethod
    def train(cls, frame: Frame, rows: int) -> PrincipalCodes | None:
        axes = learned_axes(frame)
        if axes is None:
            return None
        axis_step = float(np.abs(axes).max()) / 127
        coded = np.empty((len(axes), stride_of(axes.shape[1])), np.uint8)
        encode_rows(axes, np.float32(axis_step), coded)
        step, _ = learned_step(np.ascontiguousarray(frame.sample @ axes.T))
        return cls(frame, coded, axis_step, step * float(frame.step), rows)

    def encode_rows(self, low: int, rotated: np.ndarray) -> None:
        encode_rows(self._coordinates(rotated), self.step, self.codes[low : low + len(rotated)])

    def arranged(self, order: np.ndarray, sections: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        middles = (sections["centroids"].astype(np.float32) - np.float32(ZERO)) * self.frame.step
        centroids = np.empty((len(middles), len(self.coded)), np.uint8)
        encode_rows(self._coordinates(middles), self.step, centroids)
        arranged = {"principal": self.codes[order], "principal_centroids": centroids, "axes": self.coded}
        return {name: aligned_copy(each) for name, each in arranged.items()}, {
            "principal_step": float(self.step),
            "axis_step": self.axis_step,
        }

    def _coordinates(self, rotated: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(rotated @ self._axes[:, : rotated.shape[1]].T)


def learned_axes(frame: Frame) -> np.ndarray | None:
    """The axes, float32 ``(axes, dim)``, a multiple of LINE of them; None where as many as pay don't tell the nearest rows."""
    sample = frame.sample
    most = min(stride_of(sample.shape[1]) // 2 // LINE * LINE, MOST_AXES)
    if most == 0 or len(sample) < ASKED + most:
        return None
    rng = np.random.default_rng(0)
    basis = _components(sample, most, rng)
    if frame.metric != "l2":
        mean = frame.mean.copy()
        rotate(mean, frame.flips)
        if mean.any():
            basis, _ = np.linalg.qr(np.concatenate([mean[:, None] / np.abs(mean).max(), basis[:, : most - 1]], axis=1))
    count = _enough(sample, basis.astype(np.float32))
    if count is None:
        return None
    turned, _ = np.linalg.qr(rng.standard_normal((count, count)))
    return np.ascontiguousarray((basis[:, :count] @ turned).T, np.float32)


def _components(sample: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """About the first principal components of centred rows, by falling variance: float64 ``(dim, most)``, orthonormal."""
    products = (sample.T @ sample).astype(np.float64)
    basis, _ = np.linalg.qr(rng.standard_normal((len(products), most)))
    for _ in range(ITERATIONS):
        basis, _ = np.linalg.qr(products @ basis)
    _, order = np.linalg.eigh(basis.T @ products @ basis)
    return basis @ order[:, ::-1]


def _enough(sample: np.ndarray, basis: np.ndarray) -> int | None:
    """The fewest axes (a multiple of LINE) by which a search finds ENOUGH of the nearest rows, None if all aren't enough."""
    asked, rows = sample[:ASKED], sample[ASKED:]
    squares = np.einsum("ij,ij->i", rows, rows)[None]
    far = squares - 2 * asked @ rows.T
    limits = np.partition(far, NEAREST, axis=1)[:, NEAREST - 1 : NEAREST]
    on_axes, theirs, products = asked @ basis, rows @ basis, np.zeros_like(far)
    for count in range(LINE, basis.shape[1] + 1, LINE):
        some = slice(count - LINE, count)
        products += on_axes[:, some] @ theirs[:, some].T
        best = np.argpartition(squares - 2 * products, AMONG, axis=1)[:, :AMONG]
        found = np.minimum((np.take_along_axis(far, best, axis=1) <= limits).sum(axis=1), NEAREST)
        if found.mean() >= ENOUGH * NEAREST:
            return count
    return None
