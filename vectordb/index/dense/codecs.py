"""The codecs of a dense segment: byte codes, sign bits, and principal codes (``principal``).

``CODECS`` has those that a file built now gets, in order; another one is one more class and one more line, and a plan that needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...kernels import query_codes, scoring
from ...kernels.codes import LINE, block_distances, encode_and_measure, pack_signs, stride_of, u64s_of
from ..base import Codec
from ..scratch import aligned_copy
from .frame import Frame
from .principal import PrincipalCodes


class ByteCodes(Codec):
    """One byte a dimension of the rotated vector, rounded to the step of the frame.

    lengths: float64, the norm of each rotated row. They decide which rows are outliers; a build encodes all rows and keeps the others.
    """

    name = "byte"
    sections = frozenset({"codes", "bias", "lacking"})
    large = sections
    encode_query = query_codes.encode
    score = scoring.code_score

    def __init__(self, frame: Frame, rows: int):
        dim = len(frame.mean)
        self.frame = frame
        self.codes = np.empty((rows, stride_of(dim)), np.uint8)
        self.lengths, self.residual_norms = np.empty(rows, np.float64), np.empty(rows, np.float32)

    @classmethod
    def train(cls, frame: Frame, rows: int) -> ByteCodes:
        return cls(frame, rows)

    def encode_rows(self, low: int, rotated: np.ndarray) -> None:
        part = slice(low, low + len(rotated))
        encode_and_measure(rotated, self.frame.step, self.codes[part], self.lengths[part], self.residual_norms[part])

    def arranged(self, order: np.ndarray, sections: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        frame, lengths = self.frame, self.lengths[order]
        arranged = {"codes": aligned_copy(self.codes[order]), "lacking": self.residual_norms[order]}
        if frame.metric == "l2":
            arranged["bias"] = -np.square(lengths).astype(np.float32)
        entries = {
            "step": float(frame.step),
            "code_error": frame.error,
            "reach": frame.sample_radius,
            "longest": float(lengths.max()),
        }
        return arranged, entries


class SignBits(Codec):
    """One bit a dimension: whether the byte code is positive. In blocks of 64 rows: uint64 ``(blocks, u64s, 64)``."""

    name = "sign"
    sections = frozenset({"signs"})
    large = sections
    encode_query = query_codes.encode_signs
    score = block_distances

    def __init__(self, dim: int):
        self.dim = dim

    @classmethod
    def train(cls, frame: Frame, rows: int) -> SignBits:
        return cls(len(frame.mean))

    def encode_rows(self, low: int, rotated: np.ndarray) -> None:
        """The bits are those of the byte codes."""

    def arranged(self, order: np.ndarray, sections: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        signs = aligned_copy(np.zeros((-(-len(order) // LINE), u64s_of(self.dim), LINE), np.uint64))
        pack_signs(sections["codes"], self.dim, signs)
        return {"signs": signs}, {}


CODECS: dict[str, type[Codec]] = {codec.name: codec for codec in (ByteCodes, SignBits, PrincipalCodes)}
EARLIER = (ByteCodes.name, SignBits.name)  # of files whose header names no codecs
