"""Dense segments as the columns of a block of ``kernels/direct.py``, which searches them in one call with everything around them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...kernels import direct
from ..base import SegmentTarget
from ..model import which_model
from .model import needed
from .scratch import DenseScratch

# The arrays of a model as a block has them: dtypes that ``search_segment`` is compiled for.
_DTYPES = {"settings": np.float64, "levels": np.float64, "correlations": np.float64, "table": np.float32, "costs": np.float32}


def columns_of(targets: Sequence[SegmentTarget], k: int, recall: float) -> tuple[np.ndarray, tuple[int, ...], None] | None:
    """As ``IndexKind.direct``. None if a segment can't be searched so: it may choose a plan with a kernel of its own. The columns have
    addresses of the targets' arrays.
    """
    columns, sizes, which = np.zeros((len(targets), direct.TARGET_WIDTH), np.int64), (0, 0, 0), which_model(k)
    for row, target in zip(columns, targets, strict=True):
        segment, allowed = target.segment, target.allowed
        model = segment.models[which]
        arrays = {name: getattr(model, name) for name in _DTYPES}
        if segment.uncompiled or any(each.dtype != _DTYPES[name] or not each.flags.c_contiguous for name, each in arrays.items()):
            return None
        values = {
            direct.SEGMENT: segment.description.ctypes.data,
            direct.SETTINGS: model.settings.ctypes.data,
            direct.SETTING_COUNT: model.settings.shape[0],
            direct.SETTING_WIDTH: model.settings.shape[1],
            direct.LEVELS: model.levels.ctypes.data,
            direct.LEVEL_COUNT: len(model.levels),
            direct.CORRELATIONS: model.correlations.ctypes.data,
            direct.CORRELATION_COUNT: len(model.correlations),
            direct.RECALLS: model.table.ctypes.data,
            direct.COSTS: model.costs.ctypes.data,
            direct.CELLS: len(model.costs),
            direct.CORRECTIONS: segment.corrections.table.ctypes.data,
            direct.PLANS: segment.corrections.table.shape[1],
            direct.RECALL: np.float64(needed(recall, k, model.depth)).view(np.int64),
            direct.DEPTH: model.depth,
            direct.INVERSE: segment.inverse.ctypes.data,
            direct.SPAN: len(segment.inverse),
        }
        if allowed.few is not None:
            values |= {direct.LISTED: allowed.few.ctypes.data, direct.LISTED_COUNT: len(allowed.few)}
        else:
            values |= {
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
        sizes = tuple(map(max, sizes, (segment.rows, segment.clusters, segment.dim)))
    return columns.reshape(-1), sizes, None


def scratch(sizes: tuple[int, ...]) -> DenseScratch:
    """This thread's scratch space for segments of these sizes."""
    return DenseScratch.of_thread(*sizes)
