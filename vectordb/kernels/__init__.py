"""Numba kernels over arrays and over chunk tables (addresses inside the memory map). Nothing here knows LMDB, ids or text.

A chunk table is an int64 array with one row a chunk; the constants below name its columns. Addresses are valid only inside the
read transaction they were taken in.
"""

# Columns of a chunk table.
FIRST, LAST, COUNT, DATA, AUX, EXTRA, NORMS, DOCIDS, ITEMS, FLAGS = range(10)
TABLE_WIDTH = 10

TINY_WEIGHT = 1e-19  # the product of a sparse weight below it with another may be 0 in float32, and would hide that a row was reached
