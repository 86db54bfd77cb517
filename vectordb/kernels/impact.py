"""Impact-ordered search of a sparse segment: the largest contributions of a query's terms first, then exact scores of the best rows.

A term's list holds its rows by falling weight, rounded to a few levels, so the part of it that matters to a query is its beginning
(Anh, de Kretser and Moffat, "Vector-space ranking with effective early termination", SIGIR 2001; Lin and Trotman, "Anytime ranking for
impact-ordered indexes", ICTIR 2015). Sums are 16-bit integers; how far they lie below exact scores is measured on each query's own best
rows, and decides how many more rows are scored exactly.
"""

from __future__ import annotations

import math

import numpy as np
from numba import carray

from .bitset import gather
from .impact_layout import (
    BLOCK_ROWS,
    BUCKETS,
    CONTRIBUTIONS,
    GROUP,
    HISTOGRAM,
    LEVELS,
    MAXIMA,
    NEAR,
    PLACES,
    QUERY,
    R_FALLBACK,
    R_POSTINGS,
    R_SCORED,
    ROWS,
    STRETCH,
    SUMS,
    VOCABULARY,
)
from .impact_lists import (
    add_lists,
    contributions_of,
    floor_of,
    group_maxima,
    least_contribution,
    place_terms,
    rows_as_high,
    rows_between,
)
from .impact_rows import gaps_of, in_order_of_terms, score_rows
from .jit import inner, kernel, pointer
from .topk import score_of, sort_keys

# The ids of the plans, and how two of them are run; ``index/impact/plans.py`` has the rest. They are written in index files, so they are
# frozen (see ``index.base.Plan``). IMPACTS: of the postings the largest share is added up, then rows are scored until few of the best are
# to be expected among the others. SAFE: all postings are added up, rounded up, and every row is scored that can still be among the best.
# POSTINGS isn't done here: every posting of the query's terms is added up out of the chunks, as without an index.
SCAN, IMPACTS, SAFE, POSTINGS = 0, 1, 2, 3

# Constants: unit and meaning, then the source in brackets. [type]: from the range or rounding of a type. [S1]: checked by the filtered
# sparse suite of 22 November 2026, commit 16627f3 (bench/RESULTS.md). [chosen]: chosen, not measured.
FULL = 65_000  # the sum that a query's largest contributions are scaled to [type]
ROUNDING = 1e-5  # share by which float32 sums may be off [type]
FARTHEST = 4.5  # standard deviations beyond which no row is expected [S1]
STEPS = 16  # in which rows between there and those scored are counted [chosen]
SPARE = 8  # results kept beyond k until they are scored in the order of terms [chosen]
SQRT2 = math.sqrt(2.0)


@inner
def least_sum(best, size, k, scale, plan, misses, statistics, histogram, groups, matches, floor):
    """The least sum with which a row can (SAFE) be among the k best, given those scored so far, or of so many that no more than ``misses``
    of the best are to be expected below: how far sums lie below scores is taken to be normally distributed as ``statistics`` say, and
    ``histogram`` tells about how many rows have which sum. 0 where even rows of which nothing was added up may be among the best, or more
    rows would have to be scored than it pays.
    """
    if size < k:
        return np.int64(0)
    keys = best[:size].copy()
    sort_keys(keys)
    kth = np.float64(score_of(keys[size - k])) * scale
    if plan == SAFE:
        return np.int64(kth * (1 - ROUNDING)) - 1
    mean = statistics[1] / statistics[0]
    deviation = np.sqrt(max(statistics[2] / statistics[0] - mean * mean, 0.0))
    even = kth - mean  # a row with this sum is as likely as not among the best
    if even <= 0:
        return np.int64(0)
    deviation = max(deviation, 1.0)
    top = min(floor, np.int64(even)) >> 6
    low = max(np.int64(even - FARTHEST * deviation) >> 6, 0)
    step = max((top - low) // STEPS, 1)
    reached = 0  # groups with a sum of ``low`` or more
    for bucket in range(low, BUCKETS):
        reached += histogram[bucket]
    rows = rows_of_groups(reached, groups) if low > 0 else np.float64(matches)
    missed = 0.0
    while low < top:
        for bucket in range(low, low + step):
            reached -= histogram[bucket]
        above = rows_of_groups(reached, groups)
        missed += (rows - above) * 0.5 * math.erfc((even - 64.0 * (low + 0.5 * step)) / (deviation * SQRT2))
        if missed > misses:
            break
        low, rows = low + step, above
    scored = 0
    for bucket in range(floor >> 6, BUCKETS):
        scored += histogram[bucket]
    return np.int64(low << 6) if rows - rows_of_groups(scored, groups) <= groups else np.int64(0)


@inner
def rows_of_groups(reached, groups):
    """About how many rows there are when so many of the groups have one: as if each lay anywhere."""
    return -groups * math.log(1.0 - min(reached, groups - 0.5) / groups)


@inner
def by_impacts(segment, work, saturation, plan, share, misses, first, bound, matches, bits, places, weights, query, best, report):
    """The plans IMPACTS and SAFE: adds lists up, scores the ``first`` rows of largest sums, and then all that their scores suggest. Returns
    (results, whether that was enough).
    """
    k = len(best) - SPARE
    rows = segment[ROWS]
    groups = (rows + GROUP - 1) // GROUP
    padded = (rows + BLOCK_ROWS - 1) // BLOCK_ROWS * BLOCK_ROWS
    sums = carray(pointer(work[SUMS]), padded, np.uint16)
    maxima = carray(pointer(work[MAXIMA]), groups, np.uint16)
    near = carray(pointer(work[NEAR]), groups * GROUP, np.int32)
    contributions = carray(pointer(work[CONTRIBUTIONS]), len(places) * segment[LEVELS], np.int64)
    histogram = carray(pointer(work[HISTOGRAM]), BUCKETS, np.int64)
    statistics = np.zeros(3)
    scale = np.float64(FULL - len(places)) / bound  # rounding may add one for each term
    least = least_contribution(segment, places, weights, share, histogram) if plan == IMPACTS and share < 1 else np.float32(0)
    contributions_of(segment, places, weights, saturation[STRETCH], np.float32(scale), least, plan == SAFE, contributions)
    report[R_POSTINGS] += add_lists(segment, places, contributions, sums)
    group_maxima(sums, bits, maxima)
    floor = floor_of(maxima, first, histogram)
    n = rows_between(sums, maxima, bits, floor, 65_536, near)
    estimating = scale if plan == IMPACTS and matches == rows else 0.0
    size = score_rows(segment, saturation, query, near, n, estimating, sums, best, 0, statistics)
    if plan == IMPACTS and matches < rows:
        read = rows_as_high(sums, groups, floor, near)
        gaps_of(segment, saturation, query, near, read, scale, sums, statistics)
        report[R_SCORED] += read
    low = least_sum(best, size, k, scale, plan, misses * k, statistics, histogram, groups, matches, floor)
    enough = low > 0 or plan == SAFE
    if enough and low < floor:
        more = rows_between(sums, maxima, bits, max(low, 1), floor, near)
        size = score_rows(segment, saturation, query, near, more, 0.0, sums, best, size, statistics)
        n += more
    report[R_SCORED] += n
    return size, enough


@kernel
def search_impacts(segment, work, saturation, plan, share, misses, first, matches, bits, terms, weights, heap, report):
    """The best rows of a segment for one query by exact score, as keys of docids into ``heap`` (int64). Returns how many: as many
    as the heap has room for, or all rows that pass and share a term.

    saturation: float32 (4,), see GAIN … STRETCH. terms: uint64 ascending, weights float32, none below TINY_WEIGHT. share: which part of the
    query's postings is added up, the largest contributions first; misses: which share of the results may be expected to be missed; first:
    rows scored before it is known how many more must be. matches: how many rows may be found; bits: uint64, a bit for each of them, none
    past the last row.
    """
    report[:] = 0
    k = len(heap)
    places = carray(pointer(work[PLACES]), len(terms), np.int64)
    query = carray(pointer(work[QUERY]), max(segment[VOCABULARY], 65_536), np.float32)
    best = np.empty(k + SPARE, np.int64)
    bound = place_terms(segment, terms, weights, saturation[STRETCH], places, query)
    size = 0
    if bound > 0:
        if plan == SCAN:
            rows = segment[ROWS]
            near = carray(pointer(work[NEAR]), (rows + GROUP - 1) // GROUP * GROUP, np.int32)
            report[R_SCORED] = gather(True, bits, 0, rows, near)
            sums = carray(pointer(work[SUMS]), 1, np.uint16)
            size = score_rows(segment, saturation, query, near, report[R_SCORED], 0.0, sums, best, 0, np.zeros(3))
        else:
            size, enough = by_impacts(
                segment, work, saturation, plan, share, misses, first, bound, matches, bits, places, weights, query, best, report
            )
            if not enough:  # every row that shares a term gets a sum now
                size, _ = by_impacts(
                    segment, work, saturation, SAFE, share, misses, first, bound, matches, bits, places, weights, query, best, report
                )
                report[R_FALLBACK] = 1
        size = in_order_of_terms(segment, saturation, query, best, size, heap)
    for q in range(len(terms)):
        if places[q] >= 0:
            query[places[q]] = 0
    return size
