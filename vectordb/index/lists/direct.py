"""Segments of lists as the columns of a block of ``kernels/direct.py``, which searches them in one call with everything around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...kernels import direct, entry
from ..base import Run, SegmentTarget
from .far import FAR_RANK
from .model import Choice
from .search import chosen


def columns_of(targets: Sequence[SegmentTarget], k: int, recall: float) -> tuple[np.ndarray, tuple[int, ...], Any] | None:
    """As ``IndexKind.direct``. Plans are chosen here, not in each search."""
    search = entry.lists_search()
    if not search:
        return None
    columns, kept = np.zeros((len(targets), direct.TARGET_WIDTH), np.int64), []
    for row, target in zip(columns, targets, strict=True):
        segment, allowed = target.segment, target.allowed
        values = {
            direct.LISTS: search,
            direct.SEGMENT: segment.description.ctypes.data,
            direct.INVERSE: segment.inverse.ctypes.data,
            direct.SPAN: len(segment.inverse),
        }
        choices = None if allowed.few is not None else chosen(target, k, recall, anew=True)
        kept.append(choices)
        if choices is None:
            few = allowed.few if allowed.few is not None else _NOTHING
            values |= {direct.LISTED: few.ctypes.data, direct.LISTED_COUNT: len(few)}
        else:
            values |= {
                direct.SETTINGS: choices.options.ctypes.data,
                direct.SETTING_COUNT: len(choices.options),
                direct.SETTING_WIDTH: choices.options.shape[1],
                direct.LEVELS: choices.limits.ctypes.data,
                direct.LEVEL_COUNT: len(choices.limits),
                direct.CORRELATIONS: choices.stops.ctypes.data,
                direct.CORRELATION_COUNT: len(choices.stops),
                direct.COSTS: choices.known.ctypes.data,
                direct.DEPTH: FAR_RANK,
                direct.FILTERED: allowed.filtered,
                direct.BITS: allowed.bits.ctypes.data,
                direct.BIT_COUNT: allowed.bits.shape[1],
                direct.COUNTS: allowed.counts.ctypes.data,
                direct.COUNT_COUNT: allowed.counts.shape[1],
                direct.MATCHES: allowed.matches.ctypes.data,
                direct.LISTED_COUNT: -1,
            }
        for column, value in values.items():
            row[column] = value
    return columns.reshape(-1), (), kept


def few_run(target: SegmentTarget, k: int) -> Run:
    """How a segment is searched of which few rows match."""
    matches = int(target.allowed.matches[0])
    choice = Choice(0, target.segment.model(k).scan * matches, 1.0)
    return Run(choice.setting if matches else -1, -1, matches, choice.microseconds, choice.recall, False)


_NOTHING = np.empty(0, np.uint32)
