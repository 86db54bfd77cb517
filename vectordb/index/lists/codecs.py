"""The codecs of a file of lists: RaBitQ codes of one bit, and longer ones. ``kernels/rabitq.py`` has the formulas and their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...kernels import rabitq
from ...kernels.dots import LINE
from ..base import Codec
from ..exact import METRICS
from ..scratch import aligned_copy
from .frame import Frame


@dataclass(frozen=True)
class Coding:
    """What codes are relative to. centroids: float32 ``(lists, frame.dim)``, in the frame. assigned: int32 ``(n,)``, the list of each
    row.
    """

    frame: Frame
    centroids: np.ndarray
    assigned: np.ndarray


class RaBitQ(Codec):
    """Codes of ``bits`` bits a number, relative to the centroids of lists. factors: float32 ``(3, rows)``, add, scale and error.

    longer: its sections are those of the longer codes of a file. lost: the mean of 1 − ρ², ρ being the cosine of a row and its code.
    """

    bits: ClassVar[int]
    encode_query = rabitq.code_query

    def __init__(self, coding: Coding, rows: int):
        self.coding = coding
        self.codes = np.zeros((rows, rabitq.stride_of(coding.frame.dim, self.bits)), np.uint8)
        self.factors = np.empty((3, rows), np.float32)
        self._lost: list[tuple[float, int]] = []

    @classmethod
    def train(cls, frame: Coding, rows: int) -> RaBitQ:
        return cls(frame, rows)

    def encode_rows(self, low: int, rotated: np.ndarray) -> None:
        part, coding = slice(low, low + len(rotated)), self.coding
        given = self.bits, METRICS[coding.frame.metric], rabitq.STEPS[self.bits]
        factors = [each[part] for each in self.factors]
        self._lost.append(rabitq.encode(rotated, coding.centroids, coding.assigned[part], *given, self.codes[part], *factors))

    @property
    def lost(self) -> float:
        total, count = (sum(each) for each in zip(*self._lost, strict=True))
        return round(total / count, 9) if count else 1.0  # the last digits depend on how rows were divided among threads

    @classmethod
    def held(cls, sections: Mapping[str, np.ndarray], meta: Mapping[str, Any], rows: int) -> tuple[np.ndarray, np.ndarray, float]:
        """(the codes and the factors of a file's rows, as this class has them; ``lost``). sections, meta: of the file."""
        raise NotImplementedError

    def weigh(self, lost: float, rows: int) -> None:
        """Let ``lost`` of some rows count that were coded elsewhere."""
        self._lost.append((lost * rows, rows))

    def _factors(self, order: np.ndarray) -> list[np.ndarray]:
        """The factors of rows, filled up to whole blocks."""
        filled = np.zeros((3, -(-len(order) // LINE) * LINE), np.float32)
        filled[:, : len(order)] = self.factors[:, order]
        return list(filled)


class OneBit(RaBitQ):
    """The sign of each number. In blocks of 64 rows: uint8 ``(blocks, dim / 8, 64)``."""

    name = "rabitq1"
    bits = 1
    sections = frozenset({"signs", "add", "factor", "error"})
    large = sections
    score = rabitq.weigh_block

    def arranged(self, order: np.ndarray, sections: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        blocks = -(-len(order) // rabitq.BLOCK_ROWS)
        rows = np.zeros((blocks * rabitq.BLOCK_ROWS, self.codes.shape[1]), np.uint8)
        rows[: len(order)] = self.codes[order]
        signs = rows.reshape(blocks, rabitq.BLOCK_ROWS, -1).transpose(0, 2, 1)
        add, factor, error = self._factors(order)
        return {"signs": aligned_copy(signs), "add": add, "factor": factor, "error": error}, {"lost": self.lost}

    @classmethod
    def held(cls, sections: Mapping[str, np.ndarray], meta: Mapping[str, Any], rows: int) -> tuple[np.ndarray, np.ndarray, float]:
        signs = sections["signs"]
        codes = signs.transpose(0, 2, 1).reshape(-1, signs.shape[1])[:rows]
        return codes, np.stack([sections[name][:rows] for name in ("add", "factor", "error")]), meta["lost"]


class Longer(RaBitQ):
    """Several bits a number, in whole cache lines a row."""

    sections = frozenset({"codes", "long_add", "long_factor"})
    large = sections
    score = rabitq.code_product

    def arranged(self, order: np.ndarray, sections: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        add, factor, _ = self._factors(order)
        encoded = {"codes": aligned_copy(self.codes[order]), "long_add": add, "long_factor": factor}
        return encoded, {"bits": self.bits, "long_lost": self.lost}

    @classmethod
    def held(cls, sections: Mapping[str, np.ndarray], meta: Mapping[str, Any], rows: int) -> tuple[np.ndarray, np.ndarray, float]:
        factors = [sections["long_add"][:rows], sections["long_factor"][:rows], np.zeros(rows, np.float32)]
        return sections["codes"], np.stack(factors), meta["long_lost"]


class TwoBits(Longer):
    name, bits = "rabitq2", 2


class FourBits(Longer):
    name, bits = "rabitq4", 4


class EightBits(Longer):
    name, bits = "rabitq8", 8


CODECS: dict[str, type[Codec]] = {codec.name: codec for codec in (OneBit, TwoBits, FourBits, EightBits)}
LONGER: dict[int, type[Longer]] = {codec.bits: codec for codec in (TwoBits, FourBits, EightBits)}
