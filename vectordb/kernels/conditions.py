"""Filters of a few conditions on values: the docids of the rows that meet all of them, without a bitmap.

The condition that the fewest rows meet is looked up: a term in its postings, a range in the attribute's values in order. The rows found
are held against the other conditions, one by one.

Conditions come as one array of int64: CONDITION_WIDTH columns each, then the numbers that they list. A condition is one of two kinds.
TERMS: a row has one of some terms, which are listed by ascending number. RANGES: a row has a value in one of some closed ranges, which are
listed as pairs, ascending and disjoint, of values as ``ordered_key`` has them.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from . import AUX, COUNT, DATA, DOCIDS, EXTRA, FIRST, ITEMS, LAST, TABLE_WIDTH
from .columns import span_of
from .dense import lower_bound
from .jit import inner, kernel, pointer
from .sparse import find_term

TERMS, RANGES = 0, 1
# Columns of a condition. NEGATED: rows that don't meet it pass. TABLE: address of the chunk table, with CHUNKS rows, of postings or of a
# column. LIST: where in the array its LISTED numbers begin. Of RANGES only: ORDERED, addresses of the values in order (int64) and, OWNERS,
# of the docids that have them (uint32), VALUES of them, 0 if they aren't in order; COVERED: the rows that these are of; newer ones are
# looked for in the column. FLOATS, RAGGED: the column is of float64, of arrays.
KIND, NEGATED, TABLE, CHUNKS, LIST, LISTED, ORDERED, OWNERS, VALUES, COVERED, FLOATS, RAGGED = range(12)
CONDITION_WIDTH = 12

MANY = -1  # what ``rows_that_meet`` returns where it gave up
_LOWEST = np.int64(-(2**63))
_HIGHEST = np.int64(2**63 - 1)
_ANY = np.int64(1 << 60)
SORTED = 3  # time to look a row up by its value, which includes to sort its docid, relative to one looked up by its term [estimate]
_INSERTED = 24  # docids; so many or fewer are sorted by insertion [chosen, not measured]


@inner
def ordered_key(bits, floats):
    """The 64 bits of a value as an integer that orders as the value does. −0.0 is 0.0."""
    if not floats:
        return bits
    return np.int64(0) if bits == _LOWEST else bits ^ ((bits >> np.int64(63)) & _HIGHEST)


@kernel
def column_keys(table, floats, ragged, keys, owners):
    """All values of a numeric column as ``ordered_key`` has them, into ``keys`` (int64), and whose they are, into ``owners`` (uint32)."""
    n = 0
    for c in range(len(table)):
        count = table[c, COUNT]
        items = span_of(table, c, count - 1, ragged)[1]
        values = carray(pointer(table[c, AUX]), items, np.int64)
        docids = carray(pointer(table[c, DOCIDS]), count, np.uint32)
        listed = table[c, DOCIDS] != 0
        for i in range(count):
            begin, end = span_of(table, c, i, ragged)
            docid = np.uint32(docids[i]) if listed else np.uint32(table[c, FIRST] + i)
            for j in range(begin, end):
                keys[n], owners[n] = ordered_key(values[j], floats), docid
                n += 1
    return n


@inner
def sort_docids(docids, n, spare):
    """Sort docids[:n] (uint32) ascending, byte by byte, and leave out repeated ones; returns how many are left. spare: as long."""
    if n <= _INSERTED:
        for i in range(1, n):
            docid, j = docids[i], i
            while j > 0 and docids[j - 1] > docid:
                docids[j] = docids[j - 1]
                j -= 1
            docids[j] = docid
    else:
        differing = np.uint32(0)
        for i in range(1, n):
            differing |= docids[i] ^ docids[0]
        starts = np.empty(256, np.int64)
        for shift in range(0, 32, 8):
            if (differing >> np.uint32(shift)) & np.uint32(255) == 0:
                continue
            starts[:] = 0
            for i in range(n):
                starts[(docids[i] >> np.uint32(shift)) & np.uint32(255)] += 1
            total = np.int64(0)
            for byte in range(256):
                total, starts[byte] = total + starts[byte], total
            for i in range(n):
                byte = (docids[i] >> np.uint32(shift)) & np.uint32(255)
                spare[starts[byte]] = docids[i]
                starts[byte] += 1
            for i in range(n):
                docids[i] = spare[i]
    kept = min(n, 1)
    for i in range(1, n):
        if docids[i] != docids[kept - 1]:
            docids[kept] = docids[i]
            kept += 1
    return kept


@inner
def in_ranges(key, numbers, first, pairs):
    """Whether a value is in one of ``pairs`` ranges, listed in ``numbers`` from ``first`` on."""
    low, high = 0, pairs
    while low < high:  # the first range that doesn't end below the value
        middle = (low + high) >> 1
        if numbers[first + 2 * middle + 1] < key:
            low = middle + 1
        else:
            high = middle
    return low < pairs and numbers[first + 2 * low] <= key


@inner
def place_in_order(keys, low, high):
    """Where the values from ``low`` to ``high`` begin and end among ascending ones."""
    begin = lower_bound(keys, 0, len(keys), low)
    return begin, len(keys) if high == _HIGHEST else lower_bound(keys, begin, len(keys), high + 1)


@inner
def most_that_meet(conditions, i, rows):
    """At most so many values meet condition i; more than any number of rows if that can't be told without a look at all of them."""
    at = i * CONDITION_WIDTH
    first, listed = conditions[at + LIST], conditions[at + LISTED]
    total = np.int64(0)
    if conditions[at + KIND] == TERMS:
        table = carray(pointer(conditions[at + TABLE]), (conditions[at + CHUNKS], TABLE_WIDTH), np.int64)
        for c in range(len(table)):
            vocabulary = table[c, ITEMS]
            terms = carray(pointer(table[c, DATA]), vocabulary, np.uint64)
            ends = carray(pointer(table[c, AUX]), vocabulary + 1, np.uint32)
            position = 0
            for t in range(listed):
                position = find_term(terms, vocabulary, position, np.uint64(conditions[first + t]))
                if position < 0:
                    position = -1 - position
                else:
                    total += np.int64(ends[position + 1]) - np.int64(ends[position])
        return total
    if conditions[at + VALUES] == 0:
        return _ANY
    keys = carray(pointer(conditions[at + ORDERED]), conditions[at + VALUES], np.int64)
    for pair in range(listed // 2):
        begin, end = place_in_order(keys, conditions[first + 2 * pair], conditions[first + 2 * pair + 1])
        total += end - begin
    return total + max(rows - conditions[at + COVERED], 0)


@inner
def list_terms(conditions, at, rows, out):
    """The docids below ``rows`` that have one of a condition's terms, into ``out``; returns how many, with repetitions."""
    n, first = 0, conditions[at + LIST]
    table = carray(pointer(conditions[at + TABLE]), (conditions[at + CHUNKS], TABLE_WIDTH), np.int64)
    for c in range(len(table)):
        vocabulary = table[c, ITEMS]
        terms = carray(pointer(table[c, DATA]), vocabulary, np.uint64)
        ends = carray(pointer(table[c, AUX]), vocabulary + 1, np.uint32)
        docs = carray(pointer(table[c, EXTRA]), np.int64(ends[vocabulary]), np.uint16)
        position = 0
        for t in range(conditions[at + LISTED]):
            position = find_term(terms, vocabulary, position, np.uint64(conditions[first + t]))
            if position < 0:
                position = -1 - position
                continue
            for p in range(np.int64(ends[position]), np.int64(ends[position + 1])):
                docid = table[c, FIRST] + np.int64(docs[p])
                if docid < rows:
                    out[n] = docid
                    n += 1
    return n


@inner
def list_ranges(conditions, at, rows, out):
    """The docids below ``rows`` with a value in one of a condition's ranges, into ``out``; returns how many, with repetitions."""
    n, first, pairs = 0, conditions[at + LIST], conditions[at + LISTED] // 2
    keys = carray(pointer(conditions[at + ORDERED]), conditions[at + VALUES], np.int64)
    owners = carray(pointer(conditions[at + OWNERS]), conditions[at + VALUES], np.uint32)
    for pair in range(pairs):
        begin, end = place_in_order(keys, conditions[first + 2 * pair], conditions[first + 2 * pair + 1])
        for i in range(begin, end):
            out[n] = owners[i]
            n += np.int64(owners[i]) < rows
    covered, floats, ragged = conditions[at + COVERED], conditions[at + FLOATS] != 0, conditions[at + RAGGED] != 0
    table = carray(pointer(conditions[at + TABLE]), (conditions[at + CHUNKS], TABLE_WIDTH), np.int64)
    for c in range(len(table)):
        if table[c, LAST] < covered or table[c, FIRST] >= rows:
            continue
        count, listed = table[c, COUNT], table[c, DOCIDS] != 0
        docids = carray(pointer(table[c, DOCIDS]), count, np.uint32)
        values = carray(pointer(table[c, AUX]), span_of(table, c, count - 1, ragged)[1], np.int64)
        start = lower_bound(docids, 0, count, covered) if listed else max(covered - table[c, FIRST], 0)
        for i in range(start, count):
            begin, end = span_of(table, c, i, ragged)
            docid = np.int64(docids[i]) if listed else table[c, FIRST] + i
            for j in range(begin, end):
                if docid < rows and in_ranges(ordered_key(values[j], floats), conditions, first, pairs):
                    out[n] = docid
                    n += 1
                    break
    return n


@inner
def keep_with_terms(conditions, at, docids, n):
    """Those of docids[:n] (ascending) that have one of a condition's terms, or none of them if it is negated, in place."""
    kept, c, first, listed = 0, -1, conditions[at + LIST], conditions[at + LISTED]
    table = carray(pointer(conditions[at + TABLE]), (conditions[at + CHUNKS], TABLE_WIDTH), np.int64)
    begins, ends = np.empty(listed, np.int64), np.empty(listed, np.int64)
    for i in range(n):
        docid = np.int64(docids[i])
        moved = False
        while c + 1 < len(table) and table[c + 1, FIRST] <= docid:
            c, moved = c + 1, True
        meets = False
        if c >= 0 and docid <= table[c, LAST]:
            vocabulary = table[c, ITEMS]
            indptr = carray(pointer(table[c, AUX]), vocabulary + 1, np.uint32)
            docs = carray(pointer(table[c, EXTRA]), np.int64(indptr[vocabulary]), np.uint16)
            if moved:
                terms = carray(pointer(table[c, DATA]), vocabulary, np.uint64)
                position = 0
                for t in range(listed):
                    begins[t] = ends[t] = 0
                    position = find_term(terms, vocabulary, position, np.uint64(conditions[first + t]))
                    if position < 0:
                        position = -1 - position
                    else:
                        begins[t], ends[t] = np.int64(indptr[position]), np.int64(indptr[position + 1])
            own = np.uint16(docid - table[c, FIRST])
            for t in range(listed):
                high, step = begins[t], np.int64(1)  # docids come ascending: the next one is near, so by steps that double
                while high < ends[t] and docs[high] < own:
                    begins[t] = high + 1
                    high += step
                    step <<= 1
                begins[t] = lower_bound(docs, begins[t], min(high, ends[t]), own)
                if begins[t] < ends[t] and docs[begins[t]] == own:
                    meets = True
                    break
        docids[kept] = docids[i]
        kept += meets != (conditions[at + NEGATED] != 0)
    return kept


@inner
def keep_with_values(conditions, at, docids, n):
    """Those of docids[:n] (ascending) that have a value in one of a condition's ranges, or none if it is negated, in place."""
    kept, c, first, pairs = 0, -1, conditions[at + LIST], conditions[at + LISTED] // 2
    floats, ragged, negated = conditions[at + FLOATS] != 0, conditions[at + RAGGED] != 0, conditions[at + NEGATED] != 0
    lowest, highest = conditions[first], conditions[first + 2 * pairs - 1]
    table = carray(pointer(conditions[at + TABLE]), (conditions[at + CHUNKS], TABLE_WIDTH), np.int64)
    held = carray(pointer(conditions[at + TABLE]), 0, np.uint32)  # of the chunk: the docids that it lists
    start, end, count, position, listed, values_at = np.int64(0), np.int64(-1), np.int64(0), np.int64(0), False, np.int64(0)
    for i in range(n):
        docid = np.int64(docids[i])
        while docid > end and c + 1 < len(table) and table[c + 1, FIRST] <= docid:
            c += 1
            if c + 1 < len(table) and table[c + 1, FIRST] <= docid:
                continue
            start, end, count, position = table[c, FIRST], table[c, LAST], table[c, COUNT], np.int64(0)
            listed, values_at = table[c, DOCIDS] != 0, table[c, AUX]
            held = carray(pointer(table[c, DOCIDS]), count, np.uint32)
        meets = False
        if c >= 0 and docid <= end:
            place = docid - start
            if listed:
                place = position = lower_bound(held, position, count, docid)
            if place < count and (not listed or np.int64(held[place]) == docid):
                low, high = span_of(table, c, place, ragged)
                values = carray(pointer(values_at), high, np.int64)
                for j in range(low, high):
                    key = ordered_key(values[j], floats)
                    meets |= lowest <= key and key <= highest and (pairs == 1 or in_ranges(key, conditions, first, pairs))
        docids[kept] = docids[i]
        kept += meets != negated
    return kept


@kernel
def rows_that_meet(conditions, count, rows, most, out, spare):
    """The docids below ``rows`` of the rows that meet all of ``count`` conditions, ascending into ``out``; returns how many. MANY, and
    nothing is to be used, if more than ``most`` values meet each of the conditions that can be looked up.

    out, spare: uint32 ``(most + 1,)``.
    """
    chosen, least = -1, _HIGHEST
    for i in range(count):
        if conditions[i * CONDITION_WIDTH + NEGATED] == 0:
            meet = most_that_meet(conditions, i, rows)
            cost = meet if conditions[i * CONDITION_WIDTH + KIND] == TERMS else SORTED * meet
            if meet <= most and cost < least:
                chosen, least = i, cost
    if chosen < 0:
        return MANY
    at = chosen * CONDITION_WIDTH
    if conditions[at + KIND] == TERMS:
        n = list_terms(conditions, at, rows, out)
        if conditions[at + LISTED] > 1:
            n = sort_docids(out, n, spare)
    else:
        n = sort_docids(out, list_ranges(conditions, at, rows, out), spare)
    for i in range(count):
        at = i * CONDITION_WIDTH
        if i != chosen and n > 0:
            n = keep_with_terms(conditions, at, out, n) if conditions[at + KIND] == TERMS else keep_with_values(conditions, at, out, n)
    return n
