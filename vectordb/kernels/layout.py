"""Columns of the arrays that describe a segment, a thread's scratch space and a search to kernels, and of their reports."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .scoring import Scoring

# Columns of a segment's description (int64; STEP, CODE_ERROR and SAMPLE_RADIUS hold the bits of float64).
ROWS, DIM, STRIDE, CODES, BIAS, SIGNS, U64S, DOCIDS_AT, MEAN, FLIPS, FLIP_ROUNDS, METRIC, STEP, CODE_ERROR, SAMPLE_RADIUS = range(15)
GRAPH, DEGREE, UPPER_COUNT, UPPER_ROWS, UPPER_OFFSETS, UPPER_LINKS, UPPER_SIZE, ENTRY_ROW, ENTRY_SLOT, TOP_LEVEL = range(15, 25)
CLUSTERS, CENTROIDS, CENTROID_BIAS, OFFSETS, ROTATED_MEAN = range(25, 30)
FIRST_DOCID, SPAN, PRESENT = range(30, 33)  # the lowest docid; docids up to the highest; address of their bits, set where a row is here
# Of the row in the middle of each cluster, 0 where a file doesn't have them; the bits of a float64, at least the norm of every row.
MEDOIDS, MAX_NORM = range(33, 35)
# Principal codes, 0 where a file doesn't have them: of the rows, and of the centroids; byte codes of the axes, and how many these are; the
# bits of the float64 steps of coordinates and of axes.
PRINCIPAL, PRINCIPAL_CENTROIDS, AXES, AXIS_COUNT, PRINCIPAL_STEP, AXIS_STEP = range(35, 41)
SEGMENT_WIDTH = 41

# Columns of a scratch description: addresses of arrays as long as the largest segment (in rows) or as KEYS says.
VISITED, CANDIDATES, RESULTS, RANKED, ORDER, DISTANCES, NEAR, EPOCH, QUERY, QUERY_CODES, QUERY_SIGNS, SPARE, KEYS, VISITED_ROWS = range(14)
QUERY_PRINCIPAL = 14
WORK_WIDTH = 15

# Columns of a report (float64), one row a query.
R_SETTING, R_LOCAL, R_SCORED, R_MICROSECONDS, R_RECALL, R_FALLBACK = range(6)
REPORT_WIDTH = 6


class Mask(NamedTuple):
    """The rows that may be found. bits: uint64, a bit a row, where ``filtered``; counts: int32, passing rows of each cluster; matches: of
    all.
    """

    filtered: bool
    bits: np.ndarray
    counts: np.ndarray
    matches: int


class Clusters(NamedTuple):
    """The clusters, ranked for one query as far as somebody asks.

    scoring: of the centroids. offsets: int32, the first row of each, and the end. heap: keys of those not taken yet; order: those taken,
    nearest first; taken: int64 ``(1,)``, how many, −1 before any was ranked.
    """

    scoring: Scoring
    offsets: np.ndarray
    heap: np.ndarray
    order: np.ndarray
    taken: np.ndarray


class Space(NamedTuple):
    """Scratch arrays: see ``vectordb/index/dense/scratch.py``. histogram: int64, rows by Hamming distance."""

    visited: np.ndarray
    epoch: np.ndarray
    candidates: np.ndarray
    results: np.ndarray
    distances: np.ndarray
    near: np.ndarray
    histogram: np.ndarray
