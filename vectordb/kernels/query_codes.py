"""What a query becomes to be held against a segment's codes."""

from __future__ import annotations

import numpy as np
from numba import carray

from .codes import encode_query, rotate, sign_bits
from .dense import COSINE, L2
from .dots import LINE, dot_four
from .jit import inner, pointer
from .layout import (
    AXES,
    AXIS_COUNT,
    AXIS_STEP,
    CODE_ERROR,
    DIM,
    FLIP_ROUNDS,
    FLIPS,
    MAX_NORM,
    MEAN,
    METRIC,
    PRINCIPAL_STEP,
    ROTATED_MEAN,
    SAMPLE_RADIUS,
    STEP,
    STRIDE,
)

DEVIATIONS = 3.0  # standard deviations of the codes' error, within which rows are scored again [chosen, not measured]


@inner
def normalise(segment, query, unit):
    """The query into ``unit``: of length 1 for cosine, else as given."""
    length = 1.0
    if segment[METRIC] == COSINE:
        square = 0.0
        for j in range(len(query)):
            square += np.float64(query[j]) * np.float64(query[j])
        length = 1.0 / np.sqrt(square) if square > 0 else 0.0
    for j in range(len(query)):
        unit[j] = np.float32(query[j] * length)  # as the exact scan has it: scores of both are the same


@inner
def encode(segment, unit, rotated, spare, codes):
    """A query as a segment's codes have it: ``rotated`` (centred for l2), byte ``codes``. Returns (scale, offset, shift, bound): the first
    two are ``Scoring``'s; a score by codes plus ``shift`` is the true one, up to ``bound`` off, because row and query were rounded.
    """
    dim, metric = segment[DIM], segment[METRIC]
    mean = carray(pointer(segment[MEAN]), dim, np.float32)
    flips = carray(pointer(segment[FLIPS]), (segment[FLIP_ROUNDS], dim), np.float32)
    step, code_error, sample_radius = (
        np.int64(segment[STEP]).view(np.float64),
        np.int64(segment[CODE_ERROR]).view(np.float64),
        np.int64(segment[SAMPLE_RADIUS]).view(np.float64),
    )
    whole = 0.0
    for j in range(dim):
        rotated[j] = unit[j] - mean[j] if metric == L2 else unit[j]
        whole += np.float64(rotated[j]) * np.float64(rotated[j])
    rotate(rotated, flips)
    query_step, total = encode_query(rotated, codes)
    doubled = np.float32(2) if metric == L2 else np.float32(1)
    shift, square = np.float32(0), 0.0
    for j in range(dim):
        shift += unit[j] * mean[j]
        square += np.float64(rotated[j]) * np.float64(rotated[j])
    noise = square * code_error * code_error + (sample_radius * np.float64(query_step)) ** 2 / 12  # float64: squares of squares
    if metric == L2:
        shift = np.float32(-whole)  # also of dimensions that all rows agree in, which a rotation leaves out
    return (
        np.float32(query_step * np.float32(step)) * doubled,
        128 * total,
        shift,
        np.float32(DEVIATIONS * np.sqrt(noise)) * doubled,
    )


@inner
def encode_principal(segment, codes, scale, offset, principal):
    """A query's coordinates on the axes as signed codes, into ``principal`` (int8), from its byte codes and what ``encode`` returned with
    them. Returns (scale, offset) of ``Scoring``.
    """
    count, stride, axes = segment[AXIS_COUNT], segment[STRIDE], segment[AXES]
    products, coordinates = np.empty(count, np.int32), np.empty(count, np.float32)
    query, out = codes.ctypes.data, products.ctypes.data
    for i in range(0, count, 4):  # axes come in whole lines of codes
        at = axes + i * stride
        dot_four(at, at + stride, at + 2 * stride, at + 3 * stride, query, stride // LINE, out + 4 * i)
    step, axis_step = np.int64(segment[STEP]).view(np.float64), np.int64(segment[AXIS_STEP]).view(np.float64)
    unit = np.float32(np.float64(scale) / step * axis_step)
    for i in range(count):
        coordinates[i] = np.float32(np.int64(products[i]) - offset) * unit
    query_step, total = encode_query(coordinates, principal[:count])
    return np.float32(query_step * np.float32(np.int64(segment[PRINCIPAL_STEP]).view(np.float64))), 128 * total


@inner
def reach_of(segment, unit):
    """The score of a row at distance 0 from the query, as searches by distance take it. Cosine and l2 have one. A dot product has none:
    with one more dimension that brings all rows to the length of the longest, and the query scaled to it, its nearest rows are those of
    the highest products (Bachrach et al. 2014).
    """
    if segment[METRIC] == COSINE:
        return 1.0
    if segment[METRIC] == L2:
        return 0.0
    square = 0.0
    for j in range(segment[DIM]):
        square += np.float64(unit[j]) * np.float64(unit[j])
    return np.sqrt(square) * np.int64(segment[MAX_NORM]).view(np.float64)


@inner
def encode_signs(segment, rotated, spare, signs):
    """The query's sign bits. For cosine they are those of its difference to the mean, as the rows' are; the inner products of codes
    do without the mean.
    """
    if segment[METRIC] == COSINE:
        mean = carray(pointer(segment[ROTATED_MEAN]), segment[DIM], np.float32)
        for j in range(segment[DIM]):
            spare[j] = rotated[j] - mean[j]
        sign_bits(spare, signs)
    else:
        sign_bits(rotated, signs)
