"""Direct searches of several arms: one call for the list of each arm, and one that merges the lists and reads the ids of the best rows.

The lists of a search stand one behind another in arrays of the thread. *Lists* is an array of numbers and addresses that says where; each
call for an arm adds a list.
"""

from __future__ import annotations

import numpy as np
from numba import carray, types

from . import TABLE_WIDTH, TINY_WEIGHT
from .direct import KEYS, LANE_WIDTH, LEAST_SQUARE, MOST_SQUARE, REFUSED, TOUCHED, best_keys, read_rows
from .fusion import merge_lists
from .impact_layout import REPORT_WIDTH, SEGMENT_WIDTH, WORK_WIDTH
from .jit import caller, inner, kernel, pointer
from .topk import offer, row_of, score_of, sort_keys

# Columns of lists (int64): how many there are, the rows in them, the addresses of their docids (int64), scores (float32), normalised scores
# (float64) and ends (int64: where each list ends).
LISTS, TOTAL, DOCIDS, SCORES, NORMAL, ENDS = range(6)
STARTS, ARENA, ARENA_BYTES = 6, 7, 8  # of the thread, for ``read_rows``
LISTS_WIDTH = 9
# Columns of a block of a sparse arm (int64): the head, then TARGET_WIDTH for each segment. MOST: an upper bound of the sizes of all
# weights, the bits of a float64; LEAST_BOUND, MOST_BOUND: between these the highest possible score must be. SIGNED: some weight is
# negative. SEARCH: the address of ``search_impacts``. NEEDED: the results of a segment; 0: it is searched otherwise. NEGATIVE: SIGNED of a
# segment.
TARGETS, K, MOST, LEAST_BOUND, MOST_BOUND, SIGNED, MAX_TERMS, SEARCH = range(8)
HEAD_WIDTH = 8
SEGMENT, SATURATION, PLAN, SHARE, MISSES, FIRST, NEEDED, MATCHES, BITS, BIT_COUNT, NEGATIVE = range(11)
TARGET_WIDTH = 11
# Columns of a lane of sparse arms (int64): addresses of the thread's arrays.
WORK, BEST, HEAP, REPORTS, TERMS, WEIGHTS = range(6)
SPARSE_LANE_WIDTH = 6
# Columns of a block of a fusion (int64). RANKS: address of what the fusion gives each rank, float64; 0: NORMAL is filled in.
LIMIT, ARMS, FACTORS, RANKS, ROWS_TABLE, ROWS_CHUNKS, ROWS_VERIFIED, RECORDS = range(8)
FUSION_WIDTH = 8
FAR_TERM = 1 << 63  # terms from here on may have been negative numbers


def _array(dtype):
    return types.Array(dtype, 1, "C")


# Of the arguments of ``search_impacts``. It is called by its address for the reason that ``direct.SEGMENT_ARGUMENTS`` gives.
IMPACT_ARGUMENTS = (
    _array(types.int64), _array(types.int64), _array(types.float32), types.int64, types.float64, types.float64, types.int64, types.int64,
    _array(types.uint64), _array(types.uint64), _array(types.float32), _array(types.int64), _array(types.int64),
)  # fmt: skip
_search_impacts = caller(IMPACT_ARGUMENTS, types.int64)


@inner
def add_list(lists_at, keys):
    """Add a list: the rows of some keys (int64, ascending), best first."""
    lists, n = carray(pointer(lists_at), LISTS_WIDTH, np.int64), len(keys)
    begin = lists[TOTAL]
    docids = carray(pointer(lists[DOCIDS] + 8 * begin), n, np.int64)
    scores = carray(pointer(lists[SCORES] + 4 * begin), n, np.float32)
    for i in range(n):
        docids[i] = row_of(keys[n - 1 - i])
        scores[i] = score_of(keys[n - 1 - i])
    carray(pointer(lists[ENDS]), lists[LISTS] + 1, np.int64)[lists[LISTS]] = begin + n
    lists[LISTS], lists[TOTAL] = lists[LISTS] + 1, begin + n


@kernel
def list_dense(block_at, lane_at, lists_at, query):
    """Adds the list of a dense arm: its best rows by ``direct.search_direct``'s block and lane. Returns the rows and perhaps TOUCHED, or
    REFUSED.
    """
    n, touched = best_keys(block_at, lane_at, query)
    if n < 0:
        return np.int64(REFUSED)
    lane = carray(pointer(lane_at), LANE_WIDTH, np.int64)
    add_list(lists_at, carray(pointer(lane[KEYS]), n, np.int64))
    return np.int64(n | (TOUCHED if touched != 0 else 0))


@inner
def checked_terms(block, terms, weights, own_terms, own_weights):
    """Copies a query and checks the copy. Returns whether it is one that the block can be searched for, and whether some weight is
    negative or tiny.
    """
    square, total, most, low = 0.0, 0.0, np.float32(-1), False
    for i in range(len(terms)):
        term, weight = terms[i], weights[i]
        own_terms[i], own_weights[i] = term, weight
        if weight == 0 or term >= np.uint64(FAR_TERM) or (i > 0 and term <= own_terms[i - 1]):
            return False, low
        square += np.float64(weight) * np.float64(weight)
        total += abs(np.float64(weight))
        most, low = max(most, weight), low or weight < TINY_WEIGHT
    bound = block[MOST : MOST + 1].view(np.float64)[0] * total
    bounds = block[LEAST_BOUND : MOST_BOUND + 1].view(np.float64)
    fine = square > LEAST_SQUARE and square < MOST_SQUARE and bound > bounds[0] and bound < bounds[1]
    return fine and (most >= 0 or block[SIGNED] != 0), low


@kernel
def list_sparse(block_at, lane_at, lists_at, terms, weights, more):
    """Adds the list of a sparse arm: the best K of its segments' rows for a query, and of other rows.

    terms: uint64 ascending, weights: float32, not 0. more: int64, keys of rows that were found otherwise. Returns the rows, or REFUSED
    where the query needs another check or another plan. A report of each segment is left in the lane. The query is copied before it is
    checked.
    """
    block, lane = carray(pointer(block_at), HEAD_WIDTH, np.int64), carray(pointer(lane_at), SPARSE_LANE_WIDTH, np.int64)
    n, k = len(terms), block[K]
    if n == 0 or n > block[MAX_TERMS] or n != len(weights):
        return np.int64(REFUSED)
    own_terms, own_weights = carray(pointer(lane[TERMS]), n, np.uint64), carray(pointer(lane[WEIGHTS]), n, np.float32)
    fine, low = checked_terms(block, terms, weights, own_terms, own_weights)
    if not fine:
        return np.int64(REFUSED)
    work, best = carray(pointer(lane[WORK]), WORK_WIDTH, np.int64), carray(pointer(lane[BEST]), k, np.int64)
    at, report_at, size = block_at + 8 * HEAD_WIDTH, lane[REPORTS], np.int64(0)
    for _ in range(block[TARGETS]):
        target = carray(pointer(at), TARGET_WIDTH, np.int64)
        settings = target[SHARE : MISSES + 1].view(np.float64)
        report, needed = carray(pointer(report_at), REPORT_WIDTH, np.int64), target[NEEDED]
        at, report_at = at + 8 * TARGET_WIDTH, report_at + 8 * REPORT_WIDTH
        if needed == 0:
            continue
        found = carray(pointer(lane[HEAP]), needed, np.int64)
        given = (
            carray(pointer(target[SEGMENT]), SEGMENT_WIDTH, np.int64),
            work,
            carray(pointer(target[SATURATION]), 4, np.float32),
            np.int64(target[PLAN]),
            settings[0],
            settings[1],
            np.int64(target[FIRST]),
            np.int64(target[MATCHES]),
            carray(pointer(target[BITS]), target[BIT_COUNT], np.uint64),
            own_terms,
            own_weights,
            found,
            report,
        )
        count = _search_impacts(block[SEARCH], given)
        if count < needed and (low or target[NEGATIVE] != 0):
            return np.int64(REFUSED)  # rows that score 0 or less may be among the best
        for i in range(count):
            size = offer(best, size, k, found[i])
    for i in range(len(more)):
        size = offer(best, size, k, more[i])
    sort_keys(best[:size])
    add_list(lists_at, best[:size])
    return size


@kernel
def merge_arms(block_at, lists_at, out):
    """Merges the lists by ``fusion.merge_lists``, and reads the ids of the best rows, and their records where they are wanted.

    out: int64 ``(LIMIT · (3 + 4 · ARMS),)``: docids, ids (uint64; see ``direct.read_rows``), sums (float64), places ``(LIMIT, ARMS)``,
    facts (float64 ``(3, LIMIT, ARMS)``). Returns the number of rows and the bits of ``direct.read_rows``.
    """
    block, lists = carray(pointer(block_at), FUSION_WIDTH, np.int64), carray(pointer(lists_at), LISTS_WIDTH, np.int64)
    limit, arms, total = block[LIMIT], block[ARMS], lists[TOTAL]
    normal, ends = carray(pointer(lists[NORMAL]), total, np.float64), carray(pointer(lists[ENDS]), arms, np.int64)
    if block[RANKS] != 0:
        begin = np.int64(0)
        for a in range(arms):
            given = carray(pointer(block[RANKS]), ends[a] - begin, np.float64)
            for i in range(ends[a] - begin):
                normal[begin + i] = given[i]
            begin = ends[a]
    best, sums = out[:limit], out[2 * limit : 3 * limit].view(np.float64)
    places = out[3 * limit : (3 + arms) * limit].reshape(limit, arms)
    facts = out[(3 + arms) * limit : (3 + 4 * arms) * limit].view(np.float64).reshape(3, limit, arms)
    n = merge_lists(
        carray(pointer(lists[DOCIDS]), total, np.int64),
        carray(pointer(lists[SCORES]), total, np.float32),
        normal,
        ends,
        carray(pointer(block[FACTORS]), arms, np.float64),
        False,
        best,
        sums,
        places,
        facts,
    )
    told = read_rows(
        carray(pointer(block[ROWS_TABLE]), (block[ROWS_CHUNKS], TABLE_WIDTH), np.int64),
        carray(pointer(block[ROWS_VERIFIED]), block[ROWS_CHUNKS], np.uint8),
        best[:n],
        block[RECORDS] != 0,
        out[limit : 2 * limit].view(np.uint64),
        carray(pointer(lists[ARENA]), lists[ARENA_BYTES], np.uint8),
        carray(pointer(lists[STARTS]), limit + 1, np.int64),
    )
    return np.int64(told | n)


@kernel
def read_list(block_at, lists_at, out):
    """Reads the ids of the rows of the only list, and their records where they are wanted. out: as of ``direct.search_direct``, with LIMIT
    places. Returns the number of rows and the bits of ``direct.read_rows``.
    """
    block, lists = carray(pointer(block_at), FUSION_WIDTH, np.int64), carray(pointer(lists_at), LISTS_WIDTH, np.int64)
    limit, n = block[LIMIT], lists[TOTAL]
    docids, scores = carray(pointer(lists[DOCIDS]), n, np.int64), carray(pointer(lists[SCORES]), n, np.float32)
    best, found = out[:limit], out[2 * limit :].view(np.float32)
    for i in range(n):
        best[i], found[i] = docids[i], scores[i]
    told = read_rows(
        carray(pointer(block[ROWS_TABLE]), (block[ROWS_CHUNKS], TABLE_WIDTH), np.int64),
        carray(pointer(block[ROWS_VERIFIED]), block[ROWS_CHUNKS], np.uint8),
        best[:n],
        block[RECORDS] != 0,
        out[limit : 2 * limit].view(np.uint64),
        carray(pointer(lists[ARENA]), lists[ARENA_BYTES], np.uint8),
        carray(pointer(lists[STARTS]), limit + 1, np.int64),
    )
    return np.int64(told | n)
