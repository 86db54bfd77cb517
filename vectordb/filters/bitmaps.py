"""Docids as bitmaps."""

from __future__ import annotations

from array import array

import numpy as np
from pyroaring import BitMap


def bitmap_of(docids: np.ndarray) -> BitMap:
    """The bitmap of docids (uint32). BitMap reads an array.array directly, an ndarray one Python integer at a time."""
    listed = array("I")
    listed.frombytes(np.ascontiguousarray(docids).view(np.uint8).data)
    return BitMap(listed)
