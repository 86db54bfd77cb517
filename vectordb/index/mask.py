"""The rows of a segment that a search may return."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..kernels import bitset

if TYPE_CHECKING:
    from .base import IndexKind

FEW_ROWS = 1_000  # rows; so few that match are searched one by one [estimate]
_NO_BITS, _NO_COUNTS = np.zeros((1, 1), np.uint64), np.zeros((1, 1), np.int32)


class SegmentMask:
    """The mask of the rows of a segment that a search may return.

    filtered: whether it excludes any row. bits: uint64 ``(1, u64s)``, one bit for each row; unused if not filtered. counts: int32 ``(1,
    clusters)``, the number of rows in each cluster that may be returned. matches: int64 ``(1,)``, their total. few: the docids (uint32
    ascending) of all rows that may be returned, where these are FEW_ROWS at most, and perhaps of others that the segment doesn't hold; the
    rest is then made when it is first asked for. None: more rows, or no filter.
    """

    __slots__ = ("_made", "_segment", "few", "nbytes")

    def __init__(self, segment: IndexKind, docids: np.ndarray | None):
        """docids: the rows, uint32 ascending; docids outside the segment are ignored. None: every row."""
        # Only where the rest is made later: a segment keeps its own mask of all rows, and must not keep itself alive by it.
        self._segment: IndexKind | None = None
        self.few: np.ndarray | None = None
        self._made: tuple[bool, np.ndarray, np.ndarray, np.ndarray] | None = None
        self.nbytes = 256
        if docids is None:
            self._made = False, _NO_BITS, _NO_COUNTS, np.array([segment.rows], np.int64)
            return
        self.nbytes += 8 * -(-segment.rows // 64) + 4 * (len(segment.offsets) - 1)
        if len(docids):
            low, high = docids.searchsorted([segment.first, segment.first + len(segment.inverse)]).tolist()
            docids = docids[low:high]
        if len(docids) <= FEW_ROWS:
            self._segment, self.few = segment, docids
        else:
            self._made = _made_of(segment, docids)

    @property
    def _all(self) -> tuple[bool, np.ndarray, np.ndarray, np.ndarray]:
        if self._made is None:
            assert self._segment is not None and self.few is not None
            self._made = _made_of(self._segment, self.few)
        return self._made

    @property
    def filtered(self) -> bool:
        return self._all[0]

    @property
    def bits(self) -> np.ndarray:
        return self._all[1]

    @property
    def counts(self) -> np.ndarray:
        return self._all[2]

    @property
    def matches(self) -> np.ndarray:
        return self._all[3]


def _made_of(segment: IndexKind, docids: np.ndarray) -> tuple[bool, np.ndarray, np.ndarray, np.ndarray]:
    """(filtered, bits, counts, matches) of a mask."""
    bits = np.zeros((1, -(-segment.rows // 64)), np.uint64)
    counts = np.zeros((1, len(segment.offsets) - 1), np.int32)
    bitset.local_bits(docids, segment.inverse, segment.first, bits[0])
    total = bitset.passing_of_clusters(bits[0], segment.offsets, counts[0])
    return total != segment.rows, bits, counts, np.array([total], np.int64)
