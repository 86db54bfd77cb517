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
    BEGINS,
    BLOCK_ROWS,
    BUCKETS,
    BY_TERM,
    CONTRIBUTIONS,
    CURSORS,
    GROUP,
    HEIGHTS,
    HISTOGRAM,
    LEVELS,
    LISTED,
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
from .impact_lists import add_block, contributions_of, least_contribution, narrow_scale, place_terms, postings_of
from .impact_rows import gaps_of, in_order_of_terms, score_rows
from .impact_runs import CURSOR, add_runs, most_of_window, open_lists
from .impact_windows import SAMPLED, SPARE_ROWS, bring_forward, collect, first_floor, floor_of, raise_floor
from .jit import inner, kernel, pointer
from .topk import score_of, sort_keys

# The ids of the plans, and how two of them are run; ``index/impact/plans.py`` has the rest. They are written in index files, so they are
# frozen (see ``index.base.Plan``). IMPACTS: of the postings the largest share is added up, then rows are scored until few of the best are
# to be expected among the others. SAFE: all postings are added up, rounded up, and every row is scored that can still be among the best.
# POSTINGS isn't done here: every posting of the query's terms is added up out of the chunks, as without an index.
SCAN, IMPACTS, SAFE, POSTINGS = 0, 1, 2, 3

# Constants: unit and meaning, then the source in brackets. [type]: from the range or rounding of a type. [S1]: checked by the filtered
# sparse suite of 22 November 2026, commit 16627f3 (bench/RESULTS.md). [S3]: chosen with queries of other lengths, of random terms and from
# several texts, on four data sets, 1 December 2026. [estimate]: rounded; machines differ. [chosen]: chosen, not measured.
FULL = 65_000  # the sum that a query's largest contributions are scaled to [type]
ROUNDING = 1e-5  # share by which float32 sums may be off [type]
STEEPEST = -0.99  # how much of a lower sum is made up for by a larger gap, at most [chosen]
LOWER = 8  # rows of lower sums whose gaps are measured [S3]
FARTHEST = 6.0  # standard deviations beyond which no row is expected [S1]
STEPS = 32  # in which rows between there and those scored are counted [chosen]
ROW_POSTINGS = 150.0  # postings that are added up in the time in which a row is scored [estimate]
KEPT_POSTINGS, MOST_KEPT = 1_000.0, 1_024.0  # a row of which is kept what sum it has for so many postings; so many rows at most [chosen]
EARLY = 0.1  # share of these that is kept after the first window already [chosen]
SEED_SHARE, SEED_MISSES = 0.03, 0.05  # the search by impacts with which SAFE begins [chosen]
RETRIED = 0.5  # share of the postings with which a search by impacts is tried again, before all are added up [chosen]
SPARE = 8  # results kept beyond k until they are scored in the order of terms [chosen]
SQRT2 = math.sqrt(2.0)


@inner
def kth_of(best, size, k):
    """The k-th best score of a heap of at least k keys."""
    keys = best[:size].copy()
    sort_keys(keys)
    return np.float64(score_of(keys[size - k]))


@inner
def least_sum(kth, misses, highest, lower, counts, matches, top):
    """The sum, of ``top`` at most, below which no more than ``misses`` of the best are to be expected; 0 where rows may be among them that
    have none.

    kth: the k-th best score so far, on the scale of sums. How far sums lie below scores is taken to be normally distributed around a line:
    rows of lower sums lack more, because what was added of the query's terms is a smaller part of what they have. highest, lower:
    statistics of rows of the largest sums and of some below (``learn_gap``). counts: about how many of the ``matches`` rows have which sum.
    """
    at, mean = highest[3] / highest[0], highest[1] / highest[0]
    deviation, slope = deviation_of(highest), 0.0
    if lower[0] > 0:
        deviation = max(deviation, deviation_of(lower))
        below = at - lower[3] / lower[0]
        slope = min(max((mean - lower[1] / lower[0]) / max(below, 1.0), STEEPEST), 0.0)
    ahead = kth - mean - at  # what the k-th best has more than a row with a sum of ``at``
    even = at + ahead / (1 + slope)  # a row with this sum is as likely as not among the best
    if even <= 0:
        return np.int64(0)
    high = min(top, np.int64(min(even, float(FULL)))) >> 6
    low = max(np.int64(max(at + (ahead - FARTHEST * deviation) / (1 + slope), 0.0)) >> 6, 0)
    step = max((high - low) // STEPS, 1)
    reached = np.int64(0)
    for bucket in range(BUCKETS):
        reached += counts[bucket]
    missed = max(matches - reached, 0) * 0.5 * math.erfc(even * (1 + slope) / (deviation * SQRT2))
    if missed > misses:
        return np.int64(0)
    while low < high:
        rows = np.int64(0)
        for bucket in range(low, min(low + step, high)):
            rows += counts[bucket]
        missed += rows * 0.5 * math.erfc((even - 64.0 * (low + 0.5 * step)) * (1 + slope) / (deviation * SQRT2))
        if missed > misses:
            break
        low += step
    return min(np.int64(low << 6), top)


@inner
def deviation_of(statistics):
    """The standard deviation of gaps, at least 1."""
    mean = statistics[1] / statistics[0]
    return max(np.sqrt(max(statistics[2] / statistics[0] - mean * mean, 0.0)), 1.0)


@inner
def add_window(segment, listed, contributions, cursors, count, window, sums):
    """Adds the postings of a window of rows to their sums. Returns postings read."""
    if segment[BY_TERM]:
        return add_runs(segment, cursors, count, window, sums)
    return add_block(segment, listed, contributions, window, sums)


@inner
def rows_of_sums(
    segment, sums, work, kept, floor, bits, sampled, listed, contributions, cursors, near, heights, others, counts, watched, seen, report
):  # fmt: skip
    """Adds up the postings of the query's lists, a window of rows at a time, into ``sums`` (uint8 or uint16, at work[SUMS]). Keeps rows
    whose bit is set and whose sums are ``floor`` or more (on the scale of ``heights``): about the ``kept`` highest. Returns (how many, the
    floor in the end). The others as in ``collect`` and ``raise_floor``. watched: int64, rows whose sums are written into ``seen`` (int64),
    kept or not; a search has none.
    """
    rows = segment[ROWS]
    windows = (rows + BLOCK_ROWS - 1) // BLOCK_ROWS
    shift, address = 16 - 8 * sums.itemsize, work[SUMS]
    opened = open_lists(segment, listed, contributions, cursors) if segment[BY_TERM] else np.int64(0)
    n = np.int64(0)
    for window in range(windows):
        report[R_POSTINGS] += add_window(segment, listed, contributions, cursors, opened, window, sums)
        low = window * BLOCK_ROWS
        for i in range(len(watched)):
            if low <= watched[i] < low + BLOCK_ROWS:
                seen[i] = np.int64(sums[watched[i] - low]) << shift
        if window == 0 and windows > 1 and floor == 1:
            floor = first_floor(sums, address, bits, 0, BLOCK_ROWS, np.int64(kept * max(1.0 / windows, EARLY)), 1.0 / windows, counts)
        least = sums.dtype.type(max(floor >> shift, 1))
        n = collect(sums, address, least, bits, low, min(rows - low, BLOCK_ROWS), near, heights, n, others, sampled)
        part = (window + 1.0) / windows
        aim = kept * max(part, EARLY)  # rows may lie in an order in which the first windows have the best
        if n > 1.5 * aim + SPARE_ROWS:
            n, floor = raise_floor(near, heights, n, floor, np.int64(aim), part, counts)
    return n, floor


@inner
def arrays_of(segment, work, count):
    """The arrays of a search by sums for ``count`` terms, in the thread's working memory: (wide, narrow, near, heights, listed, begins,
    contributions, cursors, counts).
    """
    padded = (segment[ROWS] + GROUP - 1) // GROUP * GROUP
    return (
        carray(pointer(work[SUMS]), BLOCK_ROWS, np.uint16),
        carray(pointer(work[SUMS]), BLOCK_ROWS, np.uint8),
        carray(pointer(work[NEAR]), padded, np.int32),
        carray(pointer(work[HEIGHTS]), padded, np.uint16),
        carray(pointer(work[LISTED]), count, np.int64),
        carray(pointer(work[BEGINS]), count, np.int64),
        carray(pointer(work[CONTRIBUTIONS]), count * segment[LEVELS], np.int64),
        carray(pointer(work[CURSORS]), CURSOR * count * segment[LEVELS], np.int64),
        carray(pointer(work[HISTOGRAM]), BUCKETS, np.int64),
    )


@inner
def first_rows(
    segment, work, saturation, share, first, bound, matches, bits, places, weights, query, best, statistics, lower, watched, seen, report
):  # fmt: skip
    """Adds up the largest contributions, a ``share`` of the postings, and scores the ``first`` rows of largest sums. Adds to ``statistics``
    how far their sums lie below their scores (``learn_gap``), and to ``lower`` the same of some rows that were kept. Returns (results, rows
    scored, rows kept, the least sum of those kept, the least of those scored, the scale of sums, whether they have 8 bits, postings).
    """
    sampled = matches < segment[ROWS]
    wide, narrow, near, heights, listed, begins, contributions, cursors, counts = arrays_of(segment, work, len(places))
    others = np.zeros(2 * SAMPLED, np.int64)
    total = postings_of(segment, listed, places)
    least = least_contribution(segment, listed, places, weights, share, total, counts) if share < 1 else np.float32(0)
    scale = narrow_scale(segment, listed, begins, weights, least)
    eight = scale > 0
    if not eight:
        scale = np.float64(FULL - len(places)) / bound  # rounding may add one for each term
    contributions_of(segment, listed, weights, saturation[STRETCH], np.float32(scale), least, False, contributions)
    if eight:
        scale *= 256
    kept = max(2.0 * first, min(total / KEPT_POSTINGS, MOST_KEPT))
    counts[:] = 0
    floor = np.int64(1)
    if eight:
        n, floor = rows_of_sums(
            segment, narrow, work, kept, floor, bits, sampled, listed, contributions, cursors, near, heights, others, counts, watched, seen,
            report
        )  # fmt: skip
    else:
        n, floor = rows_of_sums(
            segment, wide, work, kept, floor, bits, sampled, listed, contributions, cursors, near, heights, others, counts, watched, seen,
            report
        )  # fmt: skip
    for i in range(n):
        counts[heights[i] >> 6] += 1
    top = max(floor_of(counts, first), floor)
    scored = bring_forward(near, heights, 0, n, top)
    least_high = np.int64(0)
    if sampled:  # rows that a filter excludes may be those that score most for their sums
        sort_keys(others)  # the highest are left out: a copy of the query's own text would say nothing of other rows
        least_high = others[0] >> 32
        report[R_SCORED] += gaps_of(segment, saturation, query, others, SAMPLED, scale, statistics)
    size = score_rows(segment, saturation, query, near, heights, 0, scored, scale, least_high, best, 0, statistics)
    report[R_SCORED] += scored
    some, stride = np.zeros(LOWER, np.int64), max((n - scored) // LOWER, 1)
    for i in range(min(LOWER, n - scored)):
        some[i] = (np.int64(heights[scored + i * stride]) << 32) | np.int64(near[scored + i * stride])
    report[R_SCORED] += gaps_of(segment, saturation, query, some, LOWER, scale, lower)
    return size, scored, n, floor, top, scale, eight, total


@inner
def too_many(low, top, counts, total):
    """Whether more rows are expected to have sums of [low, top) than can be scored in the time in which all postings are added up."""
    expected = 0
    for bucket in range(low >> 6, top >> 6):
        expected += counts[bucket]
    return expected > total / ROW_POSTINGS


@inner
def by_impacts(segment, work, saturation, share, misses, first, bound, matches, bits, places, weights, query, best, report):
    """The plan IMPACTS: adds up the largest contributions, scores the ``first`` rows of largest sums, and then all that their scores
    suggest. Returns (results, whether that was enough).
    """
    k, none = len(best) - SPARE, np.empty(0, np.int64)
    statistics, lower = np.zeros(4), np.zeros(4)
    size, scored, n, floor, top, scale, eight, total = first_rows(
        segment, work, saturation, share, first, bound, matches, bits, places, weights, query, best, statistics, lower, none, none, report
    )
    if size < k or statistics[0] == 0:
        return size, False
    wide, narrow, near, heights, listed, _, contributions, cursors, counts = arrays_of(segment, work, len(places))
    low = least_sum(kth_of(best, size, k) * scale, misses * k, statistics, lower, counts, matches, top)
    if low == 0:
        return size, False
    if low >= top:
        return size, True
    if low < floor:
        if too_many(low, top, counts, total):
            return size, False
        # Rows were dropped that are wanted now: all is added up again, and all from this sum on are kept.
        kept, others = np.float64(len(near)), np.zeros(1, np.int64)
        if eight:
            n, _ = rows_of_sums(
                segment, narrow, work, kept, low, bits, False, listed, contributions, cursors, near, heights, others, counts, none, none,
                report
            )  # fmt: skip
        else:
            n, _ = rows_of_sums(
                segment, wide, work, kept, low, bits, False, listed, contributions, cursors, near, heights, others, counts, none, none,
                report
            )  # fmt: skip
        scored = bring_forward(near, heights, 0, n, top)
    more = bring_forward(near, heights, scored, n, low)
    size = score_rows(segment, saturation, query, near, heights, scored, more, 0.0, 0, best, size, statistics)
    report[R_SCORED] += more - scored
    return size, True


@inner
def by_bounds(segment, work, saturation, first, bound, matches, bits, places, weights, query, best, report):
    """The plan SAFE. A search by impacts gives a score that k rows have at least. Then windows whose rows can't reach it are left out; in
    the others all postings are added up, rounded up, and the rows scored that may reach it. Returns results.
    """
    k, rows = len(best) - SPARE, segment[ROWS]
    padded = (rows + GROUP - 1) // GROUP * GROUP
    sums = carray(pointer(work[SUMS]), BLOCK_ROWS, np.uint16)
    near = carray(pointer(work[NEAR]), padded, np.int32)
    heights = carray(pointer(work[HEIGHTS]), padded, np.uint16)
    listed = carray(pointer(work[LISTED]), len(places), np.int64)
    contributions = carray(pointer(work[CONTRIBUTIONS]), len(places) * segment[LEVELS], np.int64)
    cursors = carray(pointer(work[CURSORS]), CURSOR * len(places) * segment[LEVELS], np.int64)
    scale = np.float64(FULL - len(places)) / bound
    size, share = np.int64(0), SEED_SHARE
    while True:
        size, _ = by_impacts(
            segment, work, saturation, share, SEED_MISSES, first, bound, matches, bits, places, weights, query, best, report
        )
        if size >= k or share == 1.0:
            break
        share = 1.0
    floor = np.int64(1)
    if size >= k:
        floor = max(np.int64(kth_of(best, size, k) * scale * (1 - ROUNDING)) - 1, np.int64(1))
    contributions_of(segment, listed, weights, saturation[STRETCH], np.float32(scale), np.float32(0), True, contributions)
    opened = open_lists(segment, listed, contributions, cursors) if segment[BY_TERM] else np.int64(0)
    others, statistics = np.zeros(1, np.int64), np.zeros(4)
    size = 0
    for window in range((rows + BLOCK_ROWS - 1) // BLOCK_ROWS):
        if segment[BY_TERM] and most_of_window(segment, cursors, opened, window) < floor:
            continue
        report[R_POSTINGS] += add_window(segment, listed, contributions, cursors, opened, window, sums)
        low = window * BLOCK_ROWS
        n = collect(sums, work[SUMS], np.uint16(floor), bits, low, min(rows - low, BLOCK_ROWS), near, heights, 0, others, False)
        size = score_rows(segment, saturation, query, near, heights, 0, n, 0.0, 0, best, size, statistics)
        report[R_SCORED] += n
    return size


@kernel
def search_impacts(segment, work, saturation, plan, share, misses, first, matches, bits, terms, weights, heap, report):
    """The best rows of a segment for one query by exact score, as keys of docids into ``heap`` (int64). Returns how many: as many
    as the heap has room for, or all rows that pass and share a term.

    saturation: float32 (4,), see GAIN … STRETCH. terms: uint64 ascending, weights float32. Rows that score 0 or less aren't found. share:
    which part of the query's postings is added up, the largest contributions first; misses: which share of the results may be expected to
    be missed; first: rows scored before it is known how many more must be. matches: how many rows may be found; bits: uint64, a bit for
    each of them, none past the last row.
    """
    report[:] = 0
    k = len(heap)
    places = carray(pointer(work[PLACES]), len(terms), np.int64)
    listed = carray(pointer(work[LISTED]), len(terms), np.int64)
    begins = carray(pointer(work[BEGINS]), len(terms), np.int64)
    query = carray(pointer(work[QUERY]), max(segment[VOCABULARY], 65_536), np.float32)
    best = np.empty(k + SPARE, np.int64)
    bound = place_terms(segment, terms, weights, saturation[STRETCH], places, listed, begins, query)
    size = 0
    if bound > 0:
        if plan == SCAN:
            rows = segment[ROWS]
            near = carray(pointer(work[NEAR]), (rows + GROUP - 1) // GROUP * GROUP, np.int32)
            heights = carray(pointer(work[HEIGHTS]), 1, np.uint16)
            report[R_SCORED] = gather(True, bits, 0, rows, near)
            size = score_rows(segment, saturation, query, near, heights, 0, report[R_SCORED], 0.0, 0, best, 0, np.zeros(4))
        else:
            enough = False
            if plan == IMPACTS:
                size, enough = by_impacts(
                    segment, work, saturation, share, misses, first, bound, matches, bits, places, weights, query, best, report
                )
                if not enough and share < RETRIED:
                    size, enough = by_impacts(
                        segment,
                        work,
                        saturation,
                        RETRIED,
                        misses,
                        first,
                        bound,
                        matches,
                        bits,
                        places,
                        weights,
                        query,
                        best,
                        report,
                    )
                report[R_FALLBACK] = not enough
            if not enough:
                size = by_bounds(segment, work, saturation, first, bound, matches, bits, places, weights, query, best, report)
        size = in_order_of_terms(segment, saturation, query, best, size, heap)
    for q in range(len(terms)):
        if places[q] >= 0:
            query[places[q]] = 0
    return size


@kernel
def all_sums(segment, work, terms, weights, out):
    """The sums of a query's postings for all rows of a segment, into ``out`` (uint16, for whole windows)."""
    places = carray(pointer(work[PLACES]), len(terms), np.int64)
    listed = carray(pointer(work[LISTED]), len(terms), np.int64)
    begins = carray(pointer(work[BEGINS]), len(terms), np.int64)
    query = carray(pointer(work[QUERY]), max(segment[VOCABULARY], 65_536), np.float32)
    contributions = carray(pointer(work[CONTRIBUTIONS]), len(terms) * segment[LEVELS], np.int64)
    cursors = carray(pointer(work[CURSORS]), CURSOR * len(terms) * segment[LEVELS], np.int64)
    bound = place_terms(segment, terms, weights, np.float32(1), places, listed, begins, query)
    if bound > 0:
        scale = np.float32(np.float64(FULL - len(terms)) / bound)
        contributions_of(segment, listed, weights, np.float32(1), scale, np.float32(0), True, contributions)
        opened = open_lists(segment, listed, contributions, cursors) if segment[BY_TERM] else np.int64(0)
        for window in range(len(out) // BLOCK_ROWS):
            low = window * BLOCK_ROWS
            add_window(segment, listed, contributions, cursors, opened, window, out[low : low + BLOCK_ROWS])
    else:
        out[:] = 0
    for q in range(len(terms)):
        if places[q] >= 0:
            query[places[q]] = 0
