"""Byte codes of the rows that no index file has yet, in memory. They are made as searches come to new rows, and are never stored.

A scan reads a byte a number instead of four, and then the vectors of the rows whose bounds say that they may be among the best. So it finds
what an exact scan finds, with the same scores.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np

from ..kernels import FIRST, LAST
from ..kernels import tail as kernel
from ..kernels.codes import stride_of
from .scratch import aligned

# Constants: unit and meaning. Chosen, not measured.
LEAST_NUMBERS = 1 << 18  # rows times dimensions; a smaller range is scanned at full precision, which takes some 30 µs
DIRECT_NUMBERS = 1 << 22  # the same; a search with more goes the long way: one kernel call, 250 µs shorter, scans at full precision
LEAST_SHARE = 8  # rows for each result: with fewer, most rows would be read at full precision anyway
AT_ONCE = 4_096  # rows that a search codes, at most
MOST_ROWS, MOST_BYTES = 1 << 18, 256 << 20  # of the codes of a field; rows beyond are scanned at full precision
MISSES = 8  # scans in a row that had to read most rows, after which codes are given up: these vectors don't suit them
_FIRST_ROWS = 1_024  # that room is made for at first, and whose mean is subtracted from all


class _Codes(NamedTuple):
    """Codes of docids [base, end). The arrays are as ``kernel.code_tail`` takes them, and may have room for more rows."""

    base: int
    end: int
    mean: np.ndarray
    codes: np.ndarray
    facts: np.ndarray
    states: np.ndarray


class TailCodes:
    """Codes of the newest rows of a field. All snapshots of a process share them: a row's vector never changes.

    generation: number of compactions of the collection; other snapshots don't use these codes.
    """

    def __init__(self, spec: Any, generation: int, low: int):
        self.spec, self.generation = spec, generation
        self._now = self._empty(low)
        self._lock = threading.Lock()
        self._misses = 0

    def _empty(self, low: int) -> _Codes:
        width = stride_of(self.spec.dim)
        nothing = aligned((0, width), np.uint8), np.empty((0, kernel.FACTS), np.float32), np.empty(0, np.uint8)
        return _Codes(low, low, np.zeros(self.spec.dim, np.float32), *nothing)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(part.nbytes for part in self._now[3:])

    @property
    def rows(self) -> int:
        """Docids that are covered."""
        return self._now.end - self._now.base

    def begin_at(self, low: int, rows: int) -> None:
        """Forget the docids below ``low``, which an index file has. rows: of the snapshot; where ``low`` is below all codes and the
        snapshot has all coded rows, begin again.
        """
        if low == self._now.base or not self._lock.acquire(blocking=False):
            return
        try:
            now = self._now
            if low < now.base and rows < now.end:
                return  # an older snapshot
            if low < now.base or low >= now.end:
                self._now, self._misses = self._empty(low), 0
                return
            held, cut = slice(low - now.base, now.end - now.base), now.end - low
            codes = aligned((cut, now.codes.shape[1]), np.uint8)
            codes[...] = now.codes[held]
            self._now = _Codes(low, now.end, now.mean, codes, now.facts[held].copy(), now.states[held].copy())
        finally:
            self._lock.release()

    def suits(self, docids: np.ndarray, k: int, least: int = LEAST_NUMBERS) -> bool:
        """Whether to look for the best k of some rows by their codes: there are many, and codes have been of use so far."""
        return len(docids) >= LEAST_SHARE * k and len(docids) * self.spec.dim >= least and self._misses < MISSES

    def cover(self, table: np.ndarray, begin: int, end: int) -> _Codes:
        """The codes, after more of the rows of a chunk table were coded: at most AT_ONCE, and none while another thread does. [begin, end):
        docids whose chunks are verified; no other is read.
        """
        now = self._now
        if now.end >= end or now.end < begin or not self._lock.acquire(blocking=False):
            return now
        try:
            now = self._now
            if now.end < begin:
                return now
            half = self.spec.dtype == "float16"
            room = min(MOST_ROWS, MOST_BYTES // now.codes.shape[1])
            low, high = now.end, min(end, now.end + AT_ONCE, now.base + room)
            if low < high:
                mean = self._mean(table, half, low, min(high, low + _FIRST_ROWS)) if low == now.base else now.mean
                arrays = self._grown(now, high - now.base, room)
                kernel.code_tail(table, half, self.spec.metric == "cosine", low, high, now.base, mean, *arrays)
                now = self._now = _Codes(now.base, high, mean, *arrays)
            return now
        finally:
            self._lock.release()

    def _mean(self, table: np.ndarray, half: bool, low: int, high: int) -> np.ndarray:
        """The mean of the vectors of some rows, which makes codes finer where vectors have a common direction. Zeros if there are none."""
        codes = aligned((high - low, stride_of(self.spec.dim)), np.uint8)
        facts, states = np.zeros((high - low, kernel.FACTS), np.float32), np.zeros(high - low, np.uint8)
        zeros = np.zeros(self.spec.dim, np.float32)
        kernel.code_tail(table, half, False, low, high, low, zeros, codes, facts, states)
        some = states == kernel.CODED
        if not some.any():
            return zeros
        decoded = (codes[some, : self.spec.dim].astype(np.float32) - np.float32(128)) * facts[some, kernel.STEP, None]
        return decoded.mean(0, dtype=np.float64).astype(np.float32)

    def _grown(self, now: _Codes, rows: int, room: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The arrays with room for so many rows; rows that aren't coded are ABSENT."""
        if rows <= len(now.states):
            return now.codes, now.facts, now.states
        size, held = min(max(2 * rows, _FIRST_ROWS), room), now.end - now.base
        codes, facts = aligned((size, now.codes.shape[1]), np.uint8), np.zeros((size, kernel.FACTS), np.float32)
        states = np.zeros(size, np.uint8)
        codes[:held], facts[:held], states[:held] = now.codes[:held], now.facts[:held], now.states[:held]
        return codes, facts, states

    def candidates(self, now: _Codes, docids: np.ndarray, query: np.ndarray, metric: int, k: int, threshold: float) -> np.ndarray:
        """Which of some coded rows (uint32 ascending) may be among their best k and reach a threshold: uint32 ascending."""
        out = np.empty(len(docids), np.uint32)
        given = now.codes, now.facts, now.states, now.base, docids, query, now.mean, metric, k, max(threshold, -kernel.FAR), out
        kept = out[: kernel.tail_candidates(*given)]
        self._misses = self._misses + 1 if 2 * len(kept) > len(docids) else 0
        return kept


def chunks_of(table: np.ndarray, docids: np.ndarray, low: int, high: int) -> tuple[int, int]:
    """The chunks, of [low, high), that some rows (uint32 ascending, at least one) can be in."""
    first = low + int(np.searchsorted(table[low:high, LAST], docids[0]))
    return first, low + int(np.searchsorted(table[low:high, FIRST], docids[-1], "right"))
