"""How much a term counts that a text says so often: what BM25 makes of frequencies and lengths (Robertson and Zaragoza, "The
Probabilistic Relevance Framework: BM25 and Beyond", 2009).

``tf·(k1+1) / (tf + k1·(1 − b + b·length/mean))``, where a text's length is the sum of its term frequencies and mean that of all live texts.
"""

from __future__ import annotations

import numpy as np

from ..kernels import TABLE_WIDTH

_NO_LENGTHS = np.empty((0, TABLE_WIDTH), np.int64)
_NOTHING = np.zeros(3, np.float32)
_PLAIN = np.array([0, 0, 0, 1], np.float32)
_ROUNDED = 1 + 1e-6  # what float32 may round a bound down by, and more


class Saturation:
    """The formula at one mean length: float32, rounded after each step, so that everybody who computes it gets the same number.

    documents: live texts. mean: words a text, as all of them have so many ``words``; 1 where there are none. numbers: float32
    ``(3,)``, as kernels take them. lengths: a chunk table of the rows' lengths; needed where postings are added up.
    """

    __slots__ = ("documents", "lengths", "mean", "numbers")

    def __init__(self, k1: float, b: float, documents: int, words: int, lengths: np.ndarray = _NO_LENGTHS):
        self.documents = documents
        self.mean = words / documents if words else 1.0
        self.numbers = np.array([k1 + 1, k1 * (1 - b), k1 * b / self.mean], np.float32)
        self.lengths = lengths

    def weights(self, frequencies: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """float32, one for each frequency (float32) in a text of the given length."""
        gain, fixed, slope = self.numbers
        return frequencies * gain / (frequencies + (fixed + slope * lengths.astype(np.float32)))


def numbers_of(saturation: Saturation | None) -> tuple[np.ndarray, np.ndarray]:
    """(numbers, lengths) for the kernels that add postings up; None: stored weights count as they are."""
    return (_NOTHING, _NO_LENGTHS) if saturation is None else (saturation.numbers, saturation.lengths)


def stretch(saturation: Saturation | None, mean: float) -> float:
    """How many times its weight at another mean a term may have now, rounding included. With a higher mean every weight is higher, by no
    more than the mean is, as the mean is in a part of the divisor only; with a lower one none is.
    """
    return 1.0 if saturation is None else max(saturation.mean / mean, 1.0) * _ROUNDED


def numbers_for(saturation: Saturation | None, mean: float) -> np.ndarray:
    """float32 ``(4,)`` for the kernels that search a segment built at a mean length: numbers, and the stretch."""
    if saturation is None:
        return _PLAIN
    return np.append(saturation.numbers, np.float32(stretch(saturation, mean)))
