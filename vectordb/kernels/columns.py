"""Predicates over numeric, geo and token columns: which rows hold a value that satisfies them."""

from __future__ import annotations

import math

import numpy as np
from numba import carray

from . import AUX, COUNT, DATA, DOCIDS, FIRST, LAST
from .dense import lower_bound, next_position, place_of
from .jit import inner, kernel, pointer

EARTH_RADIUS_METERS = 6_371_008.8  # mean radius R1 of the IUGG


@inner
def span_of(table, c, i, ragged):
    """Items [low, high) of row i: one a row, or by the offsets of an array column."""
    if not ragged:
        return i, i + 1
    offsets = carray(pointer(table[c, DATA]), table[c, COUNT] + 1, np.uint32)
    return np.int64(offsets[i]), np.int64(offsets[i + 1])


@kernel
def rows_in_range(table, low, high, ragged, start, out):
    """Docids ≥ start with a value in the closed range [low, high], ascending into ``out``; the bounds' dtype is the column's."""
    n = 0
    for c in range(len(table)):
        if table[c, LAST] < start:
            continue
        count = table[c, COUNT]
        items = span_of(table, c, count - 1, ragged)[1]
        values = carray(pointer(table[c, AUX]), items, low.dtype)
        docids = carray(pointer(table[c, DOCIDS]), count, np.uint32)
        listed = table[c, DOCIDS] != 0
        first = table[c, FIRST]
        for i in range(count):
            begin, end = span_of(table, c, i, ragged)
            match = False
            for j in range(begin, end):
                match |= low[0] <= values[j] and values[j] <= high[0]
            docid = np.int64(docids[i]) if listed else first + i
            out[n] = docid
            n += match and docid >= start
    return n


@kernel
def rows_in_set(table, members, ragged, start, out):
    """Docids ≥ start with a value among ``members`` (ascending, of the column's dtype), ascending into ``out``."""
    n = 0
    for c in range(len(table)):
        if table[c, LAST] < start:
            continue
        count = table[c, COUNT]
        items = span_of(table, c, count - 1, ragged)[1]
        values = carray(pointer(table[c, AUX]), items, members.dtype)
        docids = carray(pointer(table[c, DOCIDS]), count, np.uint32)
        listed = table[c, DOCIDS] != 0
        first = table[c, FIRST]
        for i in range(count):
            begin, end = span_of(table, c, i, ragged)
            match = False
            for j in range(begin, end):
                place = lower_bound(members, 0, len(members), values[j])
                match |= place < len(members) and members[min(place, len(members) - 1)] == values[j]
            docid = np.int64(docids[i]) if listed else first + i
            out[n] = docid
            n += match and docid >= start
    return n


@kernel
def rows_in_area(table, radial, south, west, north, east, meters, ragged, start, out):
    """Docids ≥ start with a point in the box, or (``radial``) within ``meters`` of (south, west) on the sphere, ascending into ``out``.

    Points are (lat, lon) float64 pairs in degrees. west > east crosses the antimeridian.
    """
    n = 0
    lat0 = math.radians(south)
    lon0 = math.radians(west)
    for c in range(len(table)):
        if table[c, LAST] < start:
            continue
        count = table[c, COUNT]
        items = span_of(table, c, count - 1, ragged)[1]
        values = carray(pointer(table[c, AUX]), 2 * items, np.float64)
        docids = carray(pointer(table[c, DOCIDS]), count, np.uint32)
        listed = table[c, DOCIDS] != 0
        first = table[c, FIRST]
        for i in range(count):
            begin, end = span_of(table, c, i, ragged)
            match = False
            for j in range(begin, end):
                lat = values[2 * j]
                lon = values[2 * j + 1]
                if radial:
                    phi = math.radians(lat)
                    a = math.sin((phi - lat0) / 2) ** 2 + math.cos(lat0) * math.cos(phi) * math.sin((math.radians(lon) - lon0) / 2) ** 2
                    match |= 2 * EARTH_RADIUS_METERS * math.asin(math.sqrt(min(1.0, a))) <= meters
                elif south <= lat and lat <= north:
                    match |= (west <= lon and lon <= east) if west <= east else (lon >= west or lon <= east)
            docid = np.int64(docids[i]) if listed else first + i
            out[n] = docid
            n += match and docid >= start
    return n


ELEMENT_END = np.uint32(0xFFFFFFFF)  # stands between the elements of an array of texts


@inner
def holds_phrase(values, begin, end, tokens):
    """Whether the tokens stand in sequence in values [begin, end)."""
    for j in range(begin, end - len(tokens) + 1):
        same = 0
        while same < len(tokens) and values[j + same] == tokens[same]:
            same += 1
        if same == len(tokens):
            return True
    return False


@inner
def holds_words(values, begin, end, tokens, matched):
    """Whether one element of values [begin, end) holds all tokens (distinct). matched: bool, as long as tokens."""
    missing = len(tokens)
    matched[:] = False
    for j in range(begin, end):
        if values[j] == ELEMENT_END:
            missing = len(tokens)
            matched[:] = False
            continue
        for t in range(len(tokens)):
            if values[j] == tokens[t] and not matched[t]:
                matched[t] = True
                missing -= 1
        if missing == 0:
            return True
    return False


@kernel
def rows_with_tokens(table, tokens, phrase, rows, out):
    """Those of ``rows`` (u32, ascending) that hold ``tokens`` (u32), as a phrase or all in one element. Returns how many."""
    n = 0
    cursor = 0
    matched = np.empty(len(tokens), np.bool_)
    for c in range(len(table)):
        count = table[c, COUNT]
        listed = table[c, DOCIDS] != 0
        docids = carray(pointer(table[c, DOCIDS]), count, np.uint32)
        offsets = carray(pointer(table[c, DATA]), count + 1, np.uint32)
        values = carray(pointer(table[c, AUX]), np.int64(offsets[count]), np.uint32)
        position = 0
        while cursor < len(rows) and np.int64(rows[cursor]) <= table[c, LAST]:
            docid = np.int64(rows[cursor])
            cursor += 1
            if docid < table[c, FIRST]:
                continue
            place = next_position(docids, listed, table[c, FIRST], count, position, docid)
            if place < 0:
                position = -1 - place
                continue
            position = place
            begin = np.int64(offsets[place])
            end = np.int64(offsets[place + 1])
            if holds_phrase(values, begin, end, tokens) if phrase else holds_words(values, begin, end, tokens, matched):
                out[n] = docid
                n += 1
    return n


@inner
def integer_of(record, size):
    """Whether a record (uint8, ``size`` bytes, msgpack) begins with an unsigned integer, its id; and that number."""
    if size < 2 or record[0] != 0x93:
        return False, np.uint64(0)
    kind = record[1]
    width = 0
    if kind >= 0x80:
        if kind < 0xCC or kind > 0xCF:
            return False, np.uint64(0)
        width = 1 << (kind - 0xCC)
    if size < 2 + width:
        return False, np.uint64(0)
    value = np.uint64(kind) if width == 0 else np.uint64(0)
    for j in range(width):
        value = (value << np.uint64(8)) | np.uint64(record[2 + j])
    return True, value


@kernel(nogil=False)
def integer_ids(table, docids, verified, out):
    """The ids of rows (int64 docids) whose records begin with an unsigned integer, into ``out`` (uint64), read as msgpack.

    Returns False, and nothing is to be used, when a row's id is something else, or its chunk isn't there or wasn't checked yet.
    """
    for i in range(len(docids)):
        c, position = place_of(table, docids[i])
        if c < 0 or verified[c] != 1:
            return False
        offsets = carray(pointer(table[c, DATA]), table[c, COUNT] + 1, np.uint32)
        size = np.int64(offsets[position + 1]) - np.int64(offsets[position])
        record = carray(pointer(table[c, AUX] + np.int64(offsets[position])), max(size, 0), np.uint8)
        valid, value = integer_of(record, size)
        if not valid:
            return False
        out[i] = value
    return True
