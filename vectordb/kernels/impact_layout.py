"""Columns of the arrays that describe a sparse segment and a thread's scratch space to kernels, and of their reports."""

from __future__ import annotations

import numpy as np

# Columns of a segment's description, int64.
(
    ROWS,
    VOCABULARY,
    TERMS,  # address of uint64 (vocabulary,), ascending
    FREQUENCIES,  # uint32 (vocabulary,): rows that hold a term
    LIST_AT,  # BY_TERM: int64 (lists + 1,), else uint32 (blocks · vocabulary + 1,): where a list begins in LISTS
    LISTS,  # uint16: BY_TERM: see ``impact_runs``, else runs of a list, each (level, count, rows less the block's first)
    LEVELS,
    LEVEL_MOST,  # float32 (levels,): the largest weight of a level, descending
    LEVEL_MEAN,  # float32 (levels,)
    LEVEL_SHARE,  # float32 (levels,): of all postings
    ROW_AT,  # int64 (rows + 1,): where a row begins in ROW_TERMS and ROW_WEIGHTS
    ROW_TERMS,  # uint16, or uint32 where WIDE: positions in TERMS, ascending
    WIDE,
    ROW_WEIGHTS,  # float32, or uint8 where BYTES; address 0 where all are alike: the first of LEVEL_MOST, or term frequencies of 1
    DOCIDS_AT,  # uint32 (rows,), ascending
    ROW_LENGTHS,  # float32 (rows,): ROW_WEIGHTS are term frequencies of texts of these lengths; address 0 where they are weights
    BY_TERM,  # 1: all of a term's postings are one list; 0, in files of earlier versions: there is one for each block of rows
    SIGNS,  # 2: after the lists of the positive weights of all terms are those of the negative ones; else 1
    BYTES,  # 1: ROW_WEIGHTS are uint8
) = range(19)
SEGMENT_WIDTH = 19
# What BM25 makes of a frequency (see ``sparse.saturated``), float32; and how many times the weights that a segment was built with may be
# exceeded, since the mean length is another now. Without lengths only the last is read, and is 1.
GAIN, FIXED, SLOPE, STRETCH = range(4)
# Columns of scratch space: addresses of arrays of the thread.
SUMS, HEIGHTS, NEAR, QUERY, CONTRIBUTIONS, PLACES, LISTED, BEGINS, CURSORS, HISTOGRAM = range(10)
WORK_WIDTH = 10
# Columns of a report.
R_POSTINGS, R_SCORED, R_FALLBACK = range(3)
REPORT_WIDTH = 3

BLOCK_ROWS = 32_768  # rows whose sums are added at a time: a run's count and rows fit 16 bits, a block's sums the second-level cache
LAST_ROW = np.uint16(BLOCK_ROWS - 1)
GROUP = 64  # rows of a filter's u64
BUCKETS = 1_024  # of a histogram of 16-bit sums
