"""A whole search of one dense field in one call: every segment, the rows without an index, the order, the ids and the records.

What is equal for many queries comes as a *block* of numbers and addresses, what belongs to the thread as a *lane* of addresses. So a call
has four arguments, whatever is searched.
"""

from __future__ import annotations

import numpy as np
from numba import carray, types

from . import AUX, COUNT, DATA, TABLE_WIDTH
from .columns import integer_of
from .dense import dense_topk, place_of
from .few import score_others, search_few
from .jit import caller, inner, kernel, pointer
from .layout import FIRST_DOCID, R_FALLBACK, R_LOCAL, R_SCORED, REPORT_WIDTH, SEGMENT_WIDTH, WORK_WIDTH
from .lists import LISTS_WIDTH, R_AGAIN, R_DISTANCE, R_OPTION, R_WIDTH
from .lists import R_LOCAL as R_NEAR
from .lists import R_SCORED as R_ROWS
from .segment import AGAIN, CHOOSE
from .topk import row_of, score_of, sort_keys

# Columns of a block (int64): the head, then TARGET_WIDTH for each segment, then RANGE_WIDTH for each range of rows without an index.
TARGETS, RANGES, K, DIM, METRIC, HALF, TABLE, CHUNKS, VERIFIED = range(9)  # TABLE, CHUNKS, VERIFIED: the chunk table of the field
NEGATED = 9  # users see the negated score
ROWS_TABLE, ROWS_CHUNKS, ROWS_VERIFIED, RECORDS = range(10, 14)  # the chunk table of the records; RECORDS: 1 if they are wanted
SEARCH = 14  # address of ``search_segment``, if there are segments
HEAD_WIDTH = 15
(
    SEGMENT, SETTINGS, SETTING_COUNT, SETTING_WIDTH, LEVELS, LEVEL_COUNT, CORRELATIONS, CORRELATION_COUNT, RECALLS, COSTS, CELLS,
    CORRECTIONS, PLANS, RECALL, DEPTH, FILTERED, BITS, BIT_COUNT, COUNTS, COUNT_COUNT, MATCHES, INVERSE, SPAN, LISTED, LISTED_COUNT, LISTS,
) = range(26)  # fmt: skip
# RECALL has the bits of a float64. LISTED, LISTED_COUNT: address and number of the docids (uint32 ascending) that may be found where these
# are few, so that each of them is scored; −1: the rows are in BITS, and a plan is chosen.
# LISTS: address of ``search_lists`` for a segment of lists, of which SETTINGS are the options, LEVELS the limits, CORRELATIONS the stops
# (CORRELATION_COUNT of them), and COSTS for each option the columns of a report that are known before; 0 for others.
TARGET_WIDTH = 26
LOW, HIGH, SELECTED, DOCIDS, DOCID_COUNT = range(5)  # chunks [LOW, HIGH); SELECTED: only the rows DOCIDS, else all
RANGE_WIDTH = 5
# Columns of a lane (int64): addresses of the thread's arrays, and the length of ARENA in bytes. SIZE is written by the call.
WORK, KEYS, REPORTS, QUERY, STARTS, ARENA, ARENA_BYTES, SIZE = range(8)
FEW, FEW_COUNT = 8, 9  # address of the docids (uint32 ascending) that may be found, and how many, at most a few; −1: those of the block
LANE_WIDTH = 10

# What a call returns: REFUSED, or the number of rows found and some of these bits.
REFUSED = -1  # the query needs a check that isn't made here: nothing was done
TOUCHED = 1 << 40  # chunks were read that must be confirmed
INTEGERS = 1 << 41  # all ids are integers, and in ``out``
STORED = 1 << 42  # the arena has a piece of msgpack for each row: its record, or an array of its id alone
UNREAD = 1 << 43  # ids and records must be read another way: a chunk wasn't verified yet, or the arena is too small
COUNT_BITS = (1 << 32) - 1
# Squared norms between these are allowed for every metric, and the vector is then finite (client/vectordb_client/model/norms.py).
LEAST_SQUARE, MOST_SQUARE = 1e-27, 1e29
_ARRAY_OF_ONE = np.uint8(0x91)  # msgpack


def _array(dtype, dimensions):
    return types.Array(dtype, dimensions, "C")


# Of the arguments of ``search_segment``. It is called by its address: it takes long to compile, and as a part of another kernel its loops
# might add in another order, so that scores would differ in the last bit from those of ``search_segment`` itself.
SEGMENT_ARGUMENTS = (
    _array(types.int64, 1), _array(types.int64, 1), _array(types.float64, 2), _array(types.float64, 1), _array(types.float64, 1),
    _array(types.float32, 2), _array(types.float32, 2), _array(types.float64, 2), types.float64, types.int64, types.int64, types.boolean,
    _array(types.uint64, 2), _array(types.int32, 2), _array(types.int64, 1), _array(types.float32, 2), types.int64,
    _array(types.int64, 2), _array(types.uint8, 1), types.boolean, _array(types.int64, 2), _array(types.int64, 1),
    _array(types.float64, 2),
)  # fmt: skip
_search_segment = caller(SEGMENT_ARGUMENTS, types.int64)
LISTS_ARGUMENTS = (
    _array(types.int64, 1), _array(types.float64, 2), _array(types.float64, 1), _array(types.float64, 2), types.int64, types.boolean,
    _array(types.uint64, 1), _array(types.int32, 1), types.int64, _array(types.float32, 2), _array(types.int64, 2),
    _array(types.uint8, 1), types.boolean, _array(types.int64, 2), _array(types.int64, 1), _array(types.float64, 2),
)  # fmt: skip
_search_lists = caller(LISTS_ARGUMENTS, types.int64)


@inner
def size_of_id(record, size):
    """Bytes of the msgpack value after the first byte of a record (uint8, ``size`` bytes): an integer, a text or bytes; −1 for others."""
    if size < 2:
        return -1
    kind = record[1]
    length = np.int64(-1)
    if kind < 0x80:
        length = 1
    elif kind >= 0xA0 and kind < 0xC0:
        length = 1 + np.int64(kind & 0x1F)
    elif kind >= 0xCC and kind <= 0xCF:
        length = 1 + (np.int64(1) << np.int64(kind - 0xCC))
    elif (kind == 0xD9 or kind == 0xC4) and size > 2:
        length = 2 + np.int64(record[2])
    elif (kind == 0xDA or kind == 0xC5) and size > 3:
        length = 3 + (np.int64(record[2]) << 8) + np.int64(record[3])
    return length if 1 + length <= size else -1


@inner
def read_rows(table, verified, docids, records, ids, arena, starts):
    """The ids of rows (int64 docids), and with ``records`` their records. Returns some of these bits. INTEGERS: all ids are integers, and
    in ``ids`` (uint64). STORED: row i is in ``arena`` (uint8) from starts[i] to starts[i + 1]; without ``records`` only where an id is
    something else. UNREAD: nothing is to be used.
    """
    integers = True
    for attempt in range(2):
        at = np.int64(0)
        for i in range(len(docids)):
            c, position = place_of(table, docids[i])
            if c < 0 or verified[c] != 1:
                return UNREAD
            offsets = carray(pointer(table[c, DATA]), table[c, COUNT] + 1, np.uint32)
            low, size = np.int64(offsets[position]), np.int64(offsets[position + 1]) - np.int64(offsets[position])
            record = carray(pointer(table[c, AUX] + low), max(size, 0), np.uint8)
            if integers:
                integers, value = integer_of(record, size)
                ids[i] = value
                if not integers and not records:
                    break
            if records:
                if size < 0 or at + size > len(arena):
                    return UNREAD
                starts[i] = at
                for j in range(size):
                    arena[at + j] = record[j]
                at += size
            elif attempt == 1:
                length = size_of_id(record, size)
                if length < 0 or at + 1 + length > len(arena):
                    return UNREAD
                starts[i] = at
                arena[at] = _ARRAY_OF_ONE
                for j in range(length):
                    arena[at + 1 + j] = record[1 + j]
                at += 1 + length
        if records or integers or attempt == 1:
            starts[len(docids)] = at
            return (INTEGERS if integers else 0) | (STORED if records or not integers else 0)
    return UNREAD


@inner
def search_target(search, at, work, queries, k, table, verified, half, heaps, sizes, report):
    """``search_segment`` (its address: search) of the segment whose columns of a block are at an address."""
    target = carray(pointer(at), TARGET_WIDTH, np.int64)
    settings = target[SETTING_COUNT]
    arguments = (
        carray(pointer(target[SEGMENT]), SEGMENT_WIDTH, np.int64),
        work,
        carray(pointer(target[SETTINGS]), (settings, target[SETTING_WIDTH]), np.float64),
        carray(pointer(target[LEVELS]), target[LEVEL_COUNT], np.float64),
        carray(pointer(target[CORRELATIONS]), target[CORRELATION_COUNT], np.float64),
        carray(pointer(target[RECALLS]), (2 * target[CELLS], settings), np.float32),
        carray(pointer(target[COSTS]), (target[CELLS], settings), np.float32),
        carray(pointer(target[CORRECTIONS]), (3, target[PLANS]), np.float64),
        np.int64(target[RECALL]).view(np.float64),
        CHOOSE,
        target[DEPTH],
        target[FILTERED] != 0,
        carray(pointer(target[BITS]), (1, target[BIT_COUNT]), np.uint64),
        carray(pointer(target[COUNTS]), (1, target[COUNT_COUNT]), np.int32),
        carray(pointer(target[MATCHES]), 1, np.int64),
        queries,
        k,
        table,
        verified,
        half,
        heaps,
        sizes,
        report,
    )
    return _search_segment(search, arguments)


@inner
def search_lists_target(at, queries, table, verified, half, heaps, sizes, report):
    """As ``search_target``, of a segment of lists. report: filled as ``search_segment`` does."""
    target = carray(pointer(at), TARGET_WIDTH, np.int64)
    options, facts = target[SETTING_COUNT], np.zeros((1, R_WIDTH), np.float64)
    arguments = (
        carray(pointer(target[SEGMENT]), LISTS_WIDTH, np.int64),
        carray(pointer(target[SETTINGS]), (options, target[SETTING_WIDTH]), np.float64),
        carray(pointer(target[LEVELS]), target[LEVEL_COUNT], np.float64),
        carray(pointer(target[CORRELATIONS]), (target[CORRELATION_COUNT], 2), np.float64),
        target[DEPTH],
        target[FILTERED] != 0,
        carray(pointer(target[BITS]), target[BIT_COUNT], np.uint64),
        carray(pointer(target[COUNTS]), target[COUNT_COUNT], np.int32),
        carray(pointer(target[MATCHES]), 1, np.int64)[0],
        queries,
        table,
        verified,
        half,
        heaps,
        sizes,
        facts,
    )
    touched = _search_lists(target[LISTS], arguments)
    known = carray(pointer(target[COSTS]), (options, REPORT_WIDTH), np.float64)
    report[0, :] = known[np.int64(facts[0, R_OPTION])]
    report[0, R_SCORED] = facts[0, R_ROWS]
    report[0, R_LOCAL] = facts[0, R_NEAR] if target[FILTERED] != 0 else facts[0, R_DISTANCE]
    report[0, R_FALLBACK] = AGAIN if facts[0, R_AGAIN] != 0 else 0
    return touched


@inner
def score_listed(target, docids, query, table, verified, half, metric, heap, hits):
    """The rows ``docids`` (uint32) of a segment scored at full precision: (hits, chunks newly touched)."""
    inverse = carray(pointer(target[INVERSE]), target[SPAN], np.int32)
    first = carray(pointer(target[SEGMENT]), SEGMENT_WIDTH, np.int64)[FIRST_DOCID]
    others = np.ones(len(docids), np.bool_)
    for i in range(len(docids)):
        offset = np.int64(docids[i]) - first
        others[i] = not (0 <= offset < len(inverse) and inverse[offset] >= 0)
    return score_others(metric, docids, others, query, table, verified, half, heap, hits)


@inner
def search_targets(block_at, block, few, docids, work, queries, k, table, verified, half, heaps, sizes, report_at):
    """Searches every segment of a block. few: only the rows ``docids`` (uint32, ascending), wherever they are. Returns the chunks newly
    touched.
    """
    at, touched, held = block_at + 8 * HEAD_WIDTH, 0, np.zeros(len(docids), np.bool_)
    for _ in range(block[TARGETS]):
        target = carray(pointer(at), TARGET_WIDTH, np.int64)
        if target[LISTS] != 0:
            if not few and target[LISTED_COUNT] >= 0:
                listed = carray(pointer(target[LISTED]), target[LISTED_COUNT], np.uint32)
                sizes[0], fresh = score_listed(target, listed, queries[0], table, verified, half, block[METRIC], heaps[0], sizes[0])
                touched += fresh
            elif not few:  # else its rows are scored with those that no segment holds
                report = carray(pointer(report_at), (1, REPORT_WIDTH), np.float64)
                touched += search_lists_target(at, queries, table, verified, half, heaps, sizes, report)
        elif few or target[LISTED_COUNT] >= 0:
            listed, marks = docids, held
            if not few:
                listed = carray(pointer(target[LISTED]), target[LISTED_COUNT], np.uint32)
                marks = np.empty(len(listed), np.bool_)
            segment = carray(pointer(target[SEGMENT]), SEGMENT_WIDTH, np.int64)
            inverse = carray(pointer(target[INVERSE]), target[SPAN], np.int32)
            touched += search_few(segment, work, inverse, listed, marks, queries, k, table, verified, half, heaps, sizes)
        else:
            report = carray(pointer(report_at), (1, REPORT_WIDTH), np.float64)
            touched += search_target(block[SEARCH], at, work, queries, k, table, verified, half, heaps, sizes, report)
        at += 8 * TARGET_WIDTH
        report_at += 8 * REPORT_WIDTH
    if few:
        sizes[0], fresh = score_others(block[METRIC], docids, held, queries[0], table, verified, half, heaps[0], sizes[0])
        touched += fresh
    return touched


@inner
def best_keys(block_at, lane_at, query):
    """The keys of the best K rows for a query, ascending, at lane[KEYS]: as ``search_direct``. Returns (how many, or REFUSED; chunks newly
    touched).
    """
    block, lane = carray(pointer(block_at), HEAD_WIDTH, np.int64), carray(pointer(lane_at), LANE_WIDTH, np.int64)
    dim, k, half = block[DIM], block[K], block[HALF] != 0
    queries = carray(pointer(lane[QUERY]), (1, dim), np.float32)
    if len(query) != dim:
        return np.int64(REFUSED), np.int64(0)
    square = 0.0
    for j in range(dim):
        value = query[j]
        queries[0, j] = value
        square += np.float64(value) * np.float64(value)
    if not (square > LEAST_SQUARE and square < MOST_SQUARE):
        return np.int64(REFUSED), np.int64(0)
    work = carray(pointer(lane[WORK]), WORK_WIDTH, np.int64)
    heaps, sizes = carray(pointer(lane[KEYS]), (1, k), np.int64), carray(pointer(lane_at + 8 * SIZE), 1, np.int64)
    table = carray(pointer(block[TABLE]), (block[CHUNKS], TABLE_WIDTH), np.int64)
    verified = carray(pointer(block[VERIFIED]), block[CHUNKS], np.uint8)
    sizes[0] = 0
    few = lane[FEW_COUNT] >= 0
    listed = carray(pointer(lane[FEW]), max(lane[FEW_COUNT], 0), np.uint32)
    touched = search_targets(block_at, block, few, listed, work, queries, k, table, verified, half, heaps, sizes, lane[REPORTS])
    at = block_at + 8 * (HEAD_WIDTH + TARGET_WIDTH * block[TARGETS])
    for _ in range(0 if few else block[RANGES]):
        piece = carray(pointer(at), RANGE_WIDTH, np.int64)
        docids = carray(pointer(piece[DOCIDS]), piece[DOCID_COUNT], np.uint32)
        dense_topk(table, queries, half, block[METRIC], docids, piece[SELECTED] != 0, piece[LOW], piece[HIGH], heaps, sizes)
        at += 8 * RANGE_WIDTH
    sort_keys(heaps[0, : sizes[0]])
    return sizes[0], np.int64(touched)


@kernel
def search_direct(block_at, lane_at, query, out):
    """The best K rows for a query (float32 ``(dim,)``) by the block and the lane at two addresses.

    out: int64 ``(2·K + ⌈K/2⌉,)``: K docids, K ids (uint64; see ``read_rows``), K scores (float32) as users see them; best first. Another
    thread may write to ``query`` meanwhile: it is checked as it is copied, and only the copy is searched for. The field's chunk table must
    have every chunk verified that the ranges without an index are in.
    """
    n, touched = best_keys(block_at, lane_at, query)
    if n < 0:
        return np.int64(REFUSED)
    block, lane = carray(pointer(block_at), HEAD_WIDTH, np.int64), carray(pointer(lane_at), LANE_WIDTH, np.int64)
    k = block[K]
    keys = carray(pointer(lane[KEYS]), n, np.int64)
    found, ids, scores = out[:n], out[k : k + n].view(np.uint64), out[2 * k :].view(np.uint32)
    flipped = np.uint32(0x80000000) if block[NEGATED] != 0 else np.uint32(0)  # as bits: fast arithmetic may lose the sign of a zero
    for i in range(n):
        key = keys[n - 1 - i]
        found[i] = row_of(key)
        scores[i] = np.float32(score_of(key)).view(np.uint32) ^ flipped
    told = read_rows(
        carray(pointer(block[ROWS_TABLE]), (block[ROWS_CHUNKS], TABLE_WIDTH), np.int64),
        carray(pointer(block[ROWS_VERIFIED]), block[ROWS_CHUNKS], np.uint8),
        found,
        block[RECORDS] != 0,
        ids,
        carray(pointer(lane[ARENA]), lane[ARENA_BYTES], np.uint8),
        carray(pointer(lane[STARTS]), k + 1, np.int64),
    )
    return np.int64(told | n | (TOUCHED if touched != 0 else 0))


@kernel(nogil=False)
def narrow(query, out):
    """A query (float64) as float32, into ``out``. What is too large becomes infinite."""
    for j in range(len(query)):
        out[j] = np.float32(query[j])
