"""A thread's working memory for reading token lists: sums of rows, and which rows were found."""

from __future__ import annotations

import numpy as np

from ..scratch import Scratch

SUMS, STAMPS, TOUCHED = range(3)


class ListScratch(Scratch):
    """Arrays for segments of up to so many rows. tag: the first stamp that no search has used."""

    width = 3

    @staticmethod
    def arrays(rows: int) -> dict[int, np.ndarray]:
        return {SUMS: np.empty(rows, np.float32), STAMPS: np.zeros(rows, np.int64), TOUCHED: np.empty(rows, np.int32)}

    def __init__(self, *sizes: int):
        super().__init__(*sizes)
        self.tag = 1

    @property
    def sums(self) -> np.ndarray:
        return self._arrays[SUMS]

    @property
    def stamps(self) -> np.ndarray:
        return self._arrays[STAMPS]

    @property
    def touched(self) -> np.ndarray:
        return self._arrays[TOUCHED]
