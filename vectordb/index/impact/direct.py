"""Sparse segments as the columns of a block of ``kernels/direct_arms.py``, which lists their best rows in one call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...kernels import direct_arms
from ...kernels import impact as kernel
from ..base import Run, SegmentTarget
from ..saturation import Saturation, numbers_for, stretch
from .model import Choice, first_pass
from .scratch import MAX_QUERY_TERMS, ImpactScratch
from .search import MAX_DEPTH, NOTHING, SCORES, chosen


class ImpactColumns:
    """The segments of a search as the columns of a block. It changes when another plan is chosen for one (``choose``).

    head: int64, the columns of the block's head. rows: int64 ``(targets, TARGET_WIDTH)``, of the segments that have something to find.
    """

    def __init__(self, targets: Sequence[SegmentTarget], k: int, recall: float, saturation: Saturation | None):
        self.targets, self.k, self.recall = targets, k, recall
        self.searched = [target for target in targets if int(target.allowed.matches[0]) and target.segment.vocabulary]
        self.numbers = [numbers_for(saturation, target.segment.mean) for target in self.searched]
        segments = [target.segment for target in self.searched]
        most = max([segment.most * (1.0 if saturation is None else stretch(saturation, segment.mean)) for segment in segments], default=1.0)
        self.usable = k <= MAX_DEPTH and not any(segment.unsearchable for segment in segments)
        self.sizes = max([segment.rows for segment in segments], default=0), max([segment.vocabulary for segment in segments], default=0)
        self.head = np.zeros(direct_arms.HEAD_WIDTH, np.int64)
        self.head[direct_arms.TARGETS], self.head[direct_arms.K] = len(segments), k
        self.head[direct_arms.MOST : direct_arms.MOST_BOUND + 1] = np.array([most, *SCORES]).view(np.int64)
        self.head[direct_arms.SIGNED] = any(segment.signed for segment in segments)
        self.head[direct_arms.MAX_TERMS] = MAX_QUERY_TERMS
        self.rows = np.zeros((len(segments), direct_arms.TARGET_WIDTH), np.int64)
        for row, target, numbers in zip(self.rows, self.searched, self.numbers, strict=True):
            self._fill(row, target, numbers)
        self.choices: list[Choice] = []

    def _fill(self, row: np.ndarray, target: SegmentTarget, numbers: np.ndarray) -> None:
        segment, allowed = target.segment, target.allowed
        bits, matches = allowed.bits[0] if allowed.filtered else segment.every_bit, int(allowed.matches[0])
        values = {
            direct_arms.SEGMENT: segment.description.ctypes.data,
            direct_arms.SATURATION: numbers.ctypes.data,
            direct_arms.FIRST: first_pass(min(self.k, matches)),
            direct_arms.MATCHES: matches,
            direct_arms.BITS: bits.ctypes.data,
            direct_arms.BIT_COUNT: len(bits),
            direct_arms.NEGATIVE: segment.signed,
        }
        for column, value in values.items():
            row[column] = value

    def choose(self, rows: np.ndarray, known: list[SegmentTarget] | None = None) -> list[SegmentTarget]:
        """Write the plans that are the cheapest now into the segments' columns. Returns the segments whose plan is POSTINGS, which the call
        leaves out: search them by ``by_postings``. known: what was returned before; if it is something else now, nothing is written,
        because other threads may be searching.
        """
        choices = [chosen(target, self.k, self.recall) for target in self.searched]
        settings = [
            target.segment.model(self.k).settings[choice.setting].tolist() for target, choice in zip(self.searched, choices, strict=True)
        ]
        chosen_now = zip(self.searched, settings, strict=True)
        left_out = [target for target, (plan, _, _) in chosen_now if int(plan) == kernel.POSTINGS]
        if known is not None and left_out != known:
            return left_out
        self.choices = choices
        for row, target, (plan, share, misses) in zip(rows, self.searched, settings, strict=True):
            row[direct_arms.PLAN] = int(plan)
            row[direct_arms.SHARE : direct_arms.MISSES + 1].view(np.float64)[:] = share, misses
            row[direct_arms.NEEDED] = 0 if int(plan) == kernel.POSTINGS else min(self.k, int(target.allowed.matches[0]))
        return left_out

    def runs(self, reports: np.ndarray, left_out: Sequence[SegmentTarget], terms: np.ndarray) -> list[Run]:
        """How the segments were searched for a query of these terms. reports: int64 ``(searched, REPORT_WIDTH)``, those that the call left.
        left_out: as ``choose`` returns them.
        """
        facts = [
            (target.segment.postings_of(terms), 0, 0) if target in left_out else tuple(report)
            for target, report in zip(self.searched, reports.tolist(), strict=True)
        ]
        found = {
            id(target.segment): Run(choice.setting, -1, scored, choice.microseconds, choice.recall, fallback, None, postings)
            for target, choice, (postings, scored, fallback) in zip(self.searched, self.choices, facts, strict=True)
        }
        return [found.get(id(target.segment), NOTHING) for target in self.targets]


def scratch(sizes: tuple[int, ...]) -> ImpactScratch:
    """This thread's scratch space for segments of these sizes."""
    return ImpactScratch.of_thread(*sizes)
