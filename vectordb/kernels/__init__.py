"""Numba kernels over arrays and over chunk tables (addresses inside the memory map). Nothing here knows ids or text, and
only ``pages`` knows how LMDB lays out its file.

A chunk table is an int64 array with one row a chunk; the constants below name its columns. Addresses are valid only inside the
read transaction they were taken in.
"""

# Columns of a chunk table.
FIRST, LAST, COUNT, DATA, AUX, EXTRA, NORMS, DOCIDS, ITEMS, FLAGS = range(10)
TABLE_WIDTH = 10

TINY_WEIGHT = 1e-19  # the product of a sparse weight below it with another may be 0 in float32, and would hide that a row was reached


def columns_of_memory(vectors, docids, norms):
    """A chunk table of one chunk for arrays in memory: float32 ``(n, dim)``, uint32 ``(n,)`` ascending, float32 ``(n,)``. Keep them
    alive.
    """
    import numpy as np

    row = [0] * TABLE_WIDTH
    row[FIRST], row[LAST], row[COUNT], row[ITEMS] = int(docids[0]), int(docids[-1]), len(docids), len(docids)
    row[DATA] = row[AUX] = vectors.ctypes.data
    row[NORMS] = norms.ctypes.data
    if row[LAST] - row[FIRST] + 1 != len(docids):  # as in chunks: docids without gaps aren't listed
        row[DOCIDS] = docids.ctypes.data
    return np.array([row], np.int64)
