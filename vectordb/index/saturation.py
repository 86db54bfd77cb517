"""BM25's weight of a term frequency (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009):

``tf·(k1+1) / (tf + k1·(1 − b + b·length/mean))``, where a text's length is the sum of its term frequencies and mean is the mean length of
all live texts.
"""

from __future__ import annotations

import numpy as np

from ..kernels import TABLE_WIDTH

_NO_LENGTHS = np.empty((0, TABLE_WIDTH), np.int64)
_NOTHING = np.zeros(3, np.float32)
_PLAIN = np.array([0, 0, 0, 1], np.float32)
_ROUNDED = 1 + 1e-6  # more than the factor by which float32 arithmetic may round a bound down


class Saturation:
    """The formula for one mean length. It is computed in float32 and rounded after each step, so that every implementation gets the same
    bits.

    documents: the number of live texts. words: the sum of their lengths. mean: words ÷ documents; 1 if there are none. numbers: float32
    ``(3,)``, the coefficients as kernels take them. lengths: a chunk table of the rows' lengths, needed by plans that read postings.
    """

    __slots__ = ("documents", "lengths", "mean", "numbers")

    def __init__(self, k1: float, b: float, documents: int, words: int, lengths: np.ndarray = _NO_LENGTHS):
        self.documents = documents
        self.mean = words / documents if words else 1.0
        self.numbers = np.array([k1 + 1, k1 * (1 - b), k1 * b / self.mean], np.float32)
        self.lengths = lengths

    def weights(self, frequencies: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The weights of term frequencies (float32) in texts of the given lengths, float32."""
        gain, fixed, slope = self.numbers
        return frequencies * gain / (frequencies + (fixed + slope * lengths.astype(np.float32)))


def numbers_of(saturation: Saturation | None) -> tuple[np.ndarray, np.ndarray]:
    """(numbers, lengths) for the kernels that sum postings. None: the stored weights are used as they are."""
    return (_NOTHING, _NO_LENGTHS) if saturation is None else (saturation.numbers, saturation.lengths)


def stretch(saturation: Saturation | None, mean: float) -> float:
    """An upper bound, rounding included, of a term's weight now divided by its weight at another mean length.

    If the mean grows, each weight grows by at most the same factor, because the mean is in one summand of the divisor only. If it falls, no
    weight grows.
    """
    return 1.0 if saturation is None else max(saturation.mean / mean, 1.0) * _ROUNDED


def numbers_for(saturation: Saturation | None, mean: float) -> np.ndarray:
    """The coefficients and the stretch, float32 ``(4,)``, for kernels that search a segment that was built at the given mean length."""
    if saturation is None:
        return _PLAIN
    return np.append(saturation.numbers, np.float32(stretch(saturation, mean)))
