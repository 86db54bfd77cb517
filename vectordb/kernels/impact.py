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

from .bitset import gather, passes
from .dense import lower_bound
from .jit import inner, kernel, pointer, prefetch
from .sparse import saturated
from .topk import make_key, offer, row_of, score_of, sort_keys

# Columns of a segment's description, int64.
(
    ROWS,
    VOCABULARY,
    TERMS,  # address of uint64 (vocabulary,), ascending
    FREQUENCIES,  # uint32 (vocabulary,): rows that hold a term
    LIST_AT,  # uint32 (blocks · vocabulary + 1,): where a list begins in LISTS
    LISTS,  # uint16: runs of a list, each (level, count, rows less the block's first)
    LEVELS,
    LEVEL_MOST,  # float32 (levels,): the largest weight of a level, descending
    LEVEL_MEAN,  # float32 (levels,)
    LEVEL_SHARE,  # float32 (levels,): of all postings
    ROW_AT,  # int64 (rows + 1,): where a row begins in ROW_TERMS and ROW_WEIGHTS
    ROW_TERMS,  # uint16, or uint32 where WIDE: positions in TERMS, ascending
    WIDE,
    ROW_WEIGHTS,  # float32; address 0 where all are 1
    DOCIDS_AT,  # uint32 (rows,), ascending
    ROW_LENGTHS,  # float32 (rows,): ROW_WEIGHTS are term frequencies of texts of these lengths; address 0 where they are weights
) = range(16)
SEGMENT_WIDTH = 16
# What BM25 makes of a frequency (see ``sparse.saturated``), float32; and how many times the weights that a segment was built with may be
# exceeded, since the mean length is another now. Without lengths only the last is read, and is 1.
GAIN, FIXED, SLOPE, STRETCH = range(4)
# Columns of scratch space: addresses of arrays of the thread.
SUMS, MAXIMA, NEAR, QUERY, CONTRIBUTIONS, PLACES, HISTOGRAM = range(7)
WORK_WIDTH = 7
# Plans. Impacts: of the postings the largest share is added up, then rows are scored until few of the best are to be expected among the
# others. Safe: all postings are added up, rounded up, and every row is scored that can still be among the best.
# The ids are written in index files, so they are frozen: a plan keeps its id for ever, a new one gets the next. Their order says nothing.
# POSTINGS isn't done here: every posting of the query's terms is added up out of the chunks, as without an index.
SCAN, IMPACTS, SAFE, POSTINGS = 0, 1, 2, 3
PLANS = {SCAN: "scan", IMPACTS: "impacts", SAFE: "safe impacts", POSTINGS: "full postings"}  # id → name
# Columns of a report.
R_POSTINGS, R_SCORED, R_FALLBACK = range(3)
REPORT_WIDTH = 3

BLOCK_ROWS = 32_768  # a run's count and rows fit 16 bits, a block's sums the second-level cache
LAST_ROW = np.uint16(BLOCK_ROWS - 1)
GROUP = 64  # rows of a filter's word
FULL = 65_000  # what the sum of a query's largest contributions is scaled to
BUCKETS = 1_024
SQRT2 = math.sqrt(2.0)
ROUNDING = 1e-5  # what float32 sums may be off
FARTHEST = 4.5  # standard deviations beyond which no row is expected
STEPS = 16  # in which rows between there and those scored are counted
SAMPLED = 16  # rows whose sums and scores are compared when a filter may have kept away those whose scores lie far above their sums
SPARE = 8  # results kept beyond k until they are scored in the order of terms


@kernel
def locate_terms(terms, query, places):
    """The position in ``terms`` (uint64, ascending) of each query term (uint64), or −1, into places (int64)."""
    count = len(terms)
    first = terms[0]
    span = np.float64(terms[count - 1] - first) + 1.0
    for q in range(len(query)):
        term = query[q]
        places[q] = -1
        if term < first or term > terms[count - 1]:
            continue
        # Ids are hashes or nearly consecutive: where a term would be if they were evenly spread is close to where it is.
        low = min(np.int64(np.float64(term - first) / span * count), count - 1)
        high, step = low, 1
        while low > 0 and terms[low] > term:
            high = low
            low = max(low - step, 0)
            step <<= 1
        step = 1
        while high < count and terms[high] < term:
            low = high
            high += step
            step <<= 1
        low = lower_bound(terms, low, min(high, count - 1), term)
        if terms[low] == term:
            places[q] = low


@inner
def row_score(segment, saturation, query, row, start, end):
    """A row's score, items [start, end) of the forward index, for the query: float32, one a term, 65,536 of them at least. About: its last
    digits depend on the order of additions, see ``in_order_of_terms``.
    """
    total = np.float32(0)
    count = end - start
    last = np.int64(len(query) - 1)  # a damaged file may name terms that there aren't
    if segment[ROW_WEIGHTS] == 0:
        if segment[WIDE]:
            wide = carray(pointer(segment[ROW_TERMS] + 4 * start), count, np.uint32)
            for i in range(count):
                total += query[min(np.int64(wide[i]), last)]
        else:
            narrow = carray(pointer(segment[ROW_TERMS] + 2 * start), count, np.uint16)
            for i in range(count):
                total += query[narrow[i]]
        return total
    if segment[ROW_LENGTHS] != 0:
        return counted_score(segment, saturation, query, row, start, end)
    weights = carray(pointer(segment[ROW_WEIGHTS] + 4 * start), count, np.float32)
    if segment[WIDE]:
        wide = carray(pointer(segment[ROW_TERMS] + 4 * start), count, np.uint32)
        for i in range(count):
            total += query[min(np.int64(wide[i]), last)] * weights[i]
    else:
        narrow = carray(pointer(segment[ROW_TERMS] + 2 * start), count, np.uint16)
        for i in range(count):
            total += query[narrow[i]] * weights[i]
    return total


@inner(ordered=True)
def counted_score(segment, saturation, query, row, start, end):
    """``row_score`` where rows are term frequencies, in the order of terms: texts that say the same have the same score, so that ties go to
    the lower docid. Few terms are the query's, so this takes no longer.
    """
    total = np.float32(0)
    count = end - start
    last = np.int64(len(query) - 1)
    frequencies = carray(pointer(segment[ROW_WEIGHTS] + 4 * start), count, np.float32)
    norm = norm_of(segment, saturation, row)
    if segment[WIDE]:
        wide = carray(pointer(segment[ROW_TERMS] + 4 * start), count, np.uint32)
        for i in range(count):
            asked = query[min(np.int64(wide[i]), last)]
            if asked != 0:
                total += asked * saturated(frequencies[i], saturation[GAIN], norm)
    else:
        narrow = carray(pointer(segment[ROW_TERMS] + 2 * start), count, np.uint16)
        for i in range(count):
            asked = query[narrow[i]]
            if asked != 0:
                total += asked * saturated(frequencies[i], saturation[GAIN], norm)
    return total


@inner(ordered=True)
def norm_of(segment, saturation, row):
    """What a row's length adds to the frequency of each of its terms, as ``sparse.norms_between`` has it."""
    return saturation[FIXED] + saturation[SLOPE] * carray(pointer(segment[ROW_LENGTHS] + 4 * row), 1, np.float32)[0]


@inner
def prefetch_row(segment, start, end):
    """Ask for a row of the forward index."""
    width = 4 if segment[WIDE] else 2
    for line in range(0, width * (end - start) + 63, 64):
        prefetch(segment[ROW_TERMS] + width * start + line)
    if segment[ROW_WEIGHTS] != 0:
        for line in range(0, 4 * (end - start) + 63, 64):
            prefetch(segment[ROW_WEIGHTS] + 4 * start + line)


@inner
def score_rows(segment, saturation, query, near, count, scale, sums, heap, size, statistics):
    """Scores rows near[:count] and offers them. statistics: of score · scale − sum, (count, sum, sum of squares), added to."""
    row_at = carray(pointer(segment[ROW_AT]), segment[ROWS] + 1, np.int64)
    k = len(heap)
    ahead = 4
    for i in range(min(ahead, count)):
        prefetch_row(segment, row_at[near[i]], row_at[near[i] + 1])
    for i in range(count):
        if i + ahead < count:
            after = near[i + ahead]
            prefetch_row(segment, row_at[after], row_at[after + 1])
        row = np.int64(near[i])
        score = row_score(segment, saturation, query, row, row_at[row], row_at[row + 1])
        if score > 0:
            key = make_key(score, row)
            if size < k or key > heap[0]:
                size = offer(heap, size, k, key)
        if scale > 0:
            learn_gap(np.float64(score) * scale - np.float64(sums[row]), statistics)
    return size


@inner
def contributions_of(segment, places, weights, stretch, scale, least, upward, contributions):
    """What a posting of each term and level adds to a sum, at ``scale``: int64 (terms · levels). Those below ``least`` add nothing. upward:
    at least what it adds to a score.
    """
    levels = segment[LEVELS]
    most = carray(pointer(segment[LEVEL_MOST]), levels, np.float32)
    mean = carray(pointer(segment[LEVEL_MEAN]), levels, np.float32)
    for q in range(len(places)):
        for level in range(levels):
            if upward:
                contributions[q * levels + level] = np.int64(weights[q] * (most[level] * stretch) * scale) + 1
            else:
                exact = weights[q] * mean[level]
                contributions[q * levels + level] = np.int64(exact * scale + np.float32(0.5)) if exact >= least else np.int64(0)


@inner
def add_lists(segment, places, contributions, sums):
    """Adds the postings of the query's terms to the rows' sums (uint16, cleared here). Returns postings read."""
    rows, vocabulary, levels = segment[ROWS], segment[VOCABULARY], segment[LEVELS]
    blocks = (rows + BLOCK_ROWS - 1) // BLOCK_ROWS
    list_at = carray(pointer(segment[LIST_AT]), blocks * vocabulary + 1, np.uint32)
    lists = carray(pointer(segment[LISTS]), np.int64(list_at[blocks * vocabulary]), np.uint16)
    read = np.int64(0)
    for b in range(blocks):
        low = b * BLOCK_ROWS
        block = sums[low : low + BLOCK_ROWS]
        block[:] = 0
        for q in range(len(places)):
            if places[q] >= 0:
                start = segment[LISTS] + 2 * np.int64(list_at[b * vocabulary + places[q]])
                prefetch(start)
                prefetch(start + 64)
        for q in range(len(places)):
            if places[q] < 0:
                continue
            at = np.int64(list_at[b * vocabulary + places[q]])
            end = np.int64(list_at[b * vocabulary + places[q] + 1])
            while at + 1 < end:
                contribution = np.uint16(contributions[q * levels + min(np.int64(lists[at]), levels - 1)])
                if contribution == 0:
                    break  # the rest of the list is lower still
                count = min(np.int64(lists[at + 1]), end - at - 2)
                read += count
                for p in range(at + 2, at + 2 + count):
                    block[lists[p] & LAST_ROW] += contribution
                at += 2 + max(count, 0)
    return read


@inner
def group_maxima(sums, bits, maxima):
    """The largest sum of each 64 rows, of rows whose bit is set only."""
    for g in range(len(maxima)):
        word = bits[g]
        best = np.int32(0)
        for i in range(GROUP):  # without a branch, and with a product even where all pass: so it is vectorized
            best = max(best, np.int32(sums[GROUP * g + i]) * np.int32((word >> np.uint64(i)) & np.uint64(1)))
        maxima[g] = best


@inner
def floor_of(maxima, wanted, histogram):
    """A sum, at least 1, that so many of the maxima reach (as all do, if there aren't so many)."""
    histogram[:] = 0
    for g in range(len(maxima)):
        histogram[maxima[g] >> 6] += 1
    bucket = BUCKETS - 1
    total = np.int64(histogram[bucket])
    while bucket > 0 and total < wanted:
        bucket -= 1
        total += histogram[bucket]
    return max(bucket << 6, 1)


@inner
def rows_between(sums, maxima, bits, low, high, near):
    """Passing rows with low ≤ sum < high into ``near`` (int32). Returns how many."""
    n = 0
    for g in range(len(maxima)):
        if np.int64(maxima[g]) < low:
            continue
        for i in range(GROUP):
            total = np.int64(sums[GROUP * g + i])
            if low <= total < high and passes(bits, GROUP * g + i):
                near[n] = GROUP * g + i
                n += 1
    return n


@inner
def rows_as_high(sums, groups, low, near):
    """Some rows with low ≤ sum, whether they pass or not, into ``near`` (int32). Returns how many."""
    n = 0
    least = np.uint16(low)
    for g in range(groups):
        high = np.int32(0)
        for i in range(GROUP):  # counted first: that is vectorized
            high += np.int32(sums[GROUP * g + i] >= least)
        if high > 0:
            for i in range(GROUP):
                if np.int64(sums[GROUP * g + i]) >= low:
                    near[n] = GROUP * g + i
                    n += 1
            if n >= SAMPLED:
                break
    return min(n, SAMPLED)


@inner
def gaps_of(segment, saturation, query, near, count, scale, sums, statistics):
    """How far the sums of rows near[:count] lie below their scores, added to ``statistics`` as by ``score_rows``."""
    row_at = carray(pointer(segment[ROW_AT]), segment[ROWS] + 1, np.int64)
    for i in range(count):
        prefetch_row(segment, row_at[near[i]], row_at[near[i] + 1])
    for i in range(count):
        row = np.int64(near[i])
        score = row_score(segment, saturation, query, row, row_at[row], row_at[row + 1])
        learn_gap(np.float64(score) * scale - np.float64(sums[row]), statistics)


@inner
def learn_gap(gap, statistics):
    """Adds to (count, sum, sum of squares)."""
    statistics[0] += 1
    statistics[1] += gap
    statistics[2] += gap * gap


@inner
def least_contribution(segment, places, weights, share, histogram):
    """The contribution below which postings are left out, so that about ``share`` of the query's postings remain."""
    levels = segment[LEVELS]
    mean = carray(pointer(segment[LEVEL_MEAN]), levels, np.float32)
    shares = carray(pointer(segment[LEVEL_SHARE]), levels, np.float32)
    frequencies = carray(pointer(segment[FREQUENCIES]), segment[VOCABULARY], np.uint32)
    largest = np.float32(0)
    for q in range(len(places)):
        if places[q] >= 0:
            largest = max(largest, weights[q])
    step = np.float32(BUCKETS - 1) / (largest * mean[0])
    histogram[:] = 0
    total = 0.0
    for q in range(len(places)):
        if places[q] >= 0:
            frequency = np.float32(frequencies[places[q]])
            total += frequency
            for level in range(levels):
                histogram[np.int64(weights[q] * mean[level] * step)] += np.int64(frequency * shares[level])
    bucket = BUCKETS - 1
    read = np.float64(histogram[bucket])
    while bucket > 0 and read + histogram[bucket - 1] <= share * total:
        bucket -= 1
        read += histogram[bucket]
    return np.float32(bucket) / step


@inner
def place_terms(segment, terms, weights, stretch, places, query):
    """Finds the query's terms, and spreads its weights over the vocabulary. Returns a score that no row exceeds: a term adds no more than
    the level says that its lists begin with.
    """
    locate_terms(carray(pointer(segment[TERMS]), segment[VOCABULARY], np.uint64), terms, places)
    most = carray(pointer(segment[LEVEL_MOST]), segment[LEVELS], np.float32)
    vocabulary, levels, blocks = segment[VOCABULARY], segment[LEVELS], (segment[ROWS] + BLOCK_ROWS - 1) // BLOCK_ROWS
    list_at = carray(pointer(segment[LIST_AT]), blocks * vocabulary + 1, np.uint32)
    lists = carray(pointer(segment[LISTS]), np.int64(list_at[blocks * vocabulary]), np.uint16)
    bound = 0.0
    for q in range(len(terms)):
        if places[q] >= 0:
            query[places[q]] = weights[q]
            first = levels - 1
            for b in range(blocks):
                at = np.int64(list_at[b * vocabulary + places[q]])
                if at < np.int64(list_at[b * vocabulary + places[q] + 1]):
                    first = min(first, np.int64(lists[at]))
            bound += np.float64(weights[q]) * np.float64(most[first] * stretch)
    return bound


@inner
def reach(best, size, k, scale, plan, misses, statistics, histogram, groups, matches, floor):
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
    low = reach(best, size, k, scale, plan, misses * k, statistics, histogram, groups, matches, floor)
    enough = low > 0 or plan == SAFE
    if enough and low < floor:
        more = rows_between(sums, maxima, bits, max(low, 1), floor, near)
        size = score_rows(segment, saturation, query, near, more, 0.0, sums, best, size, statistics)
        n += more
    report[R_SCORED] += n
    return size, enough


@inner(ordered=True)
def in_order_of_terms(segment, saturation, query, best, size, heap):
    """Scores the rows best[:size] again, adding up in the order of terms as an exact search does, into ``heap`` under their docids."""
    row_at = carray(pointer(segment[ROW_AT]), segment[ROWS] + 1, np.int64)
    docids = carray(pointer(segment[DOCIDS_AT]), segment[ROWS], np.uint32)
    last = np.int64(len(query) - 1)
    n = 0
    for i in range(size):
        row = row_of(best[i])
        total = np.float32(0)
        norm = norm_of(segment, saturation, row) if segment[ROW_LENGTHS] != 0 else np.float32(0)
        for j in range(row_at[row], row_at[row + 1]):
            if segment[WIDE]:
                term = min(np.int64(carray(pointer(segment[ROW_TERMS] + 4 * j), 1, np.uint32)[0]), last)
            else:
                term = np.int64(carray(pointer(segment[ROW_TERMS] + 2 * j), 1, np.uint16)[0])
            if query[term] != 0:
                weight = np.float32(1)
                if segment[ROW_WEIGHTS] != 0:
                    weight = carray(pointer(segment[ROW_WEIGHTS] + 4 * j), 1, np.float32)[0]
                if segment[ROW_LENGTHS] != 0:
                    weight = saturated(weight, saturation[GAIN], norm)
                total += query[term] * weight
        n = offer(heap, n, len(heap), make_key(total, docids[row]))
    return n


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


@kernel
def count_postings(row_at, row_terms, low, high, counts):
    """How many postings each term (position) has among rows [low, high), into counts (int64, cleared here)."""
    counts[:] = 0
    for i in range(row_at[low], row_at[high]):
        counts[row_terms[i]] += 1


@kernel
def fill_lists(row_at, row_terms, row_levels, low, high, starts, docs, levels):
    """Postings of rows [low, high) by term: docs (uint16, row − low), levels (uint8). starts: int64, where each term's begin; moved."""
    for row in range(low, high):
        for i in range(row_at[row], row_at[row + 1]):
            at = starts[row_terms[i]]
            docs[at] = row - low
            levels[at] = row_levels[i]
            starts[row_terms[i]] = at + 1


@kernel
def write_runs(ends, docs, levels, level_count, list_at, out):
    """Each term's postings as runs of falling weight. ends: where each term's postings end. list_at: uint32 (terms,), where a list begins
    in out (uint16). Returns how much of it was written.
    """
    counts = np.empty(level_count, np.int64)
    begins = np.empty(level_count, np.int64)
    at = np.int64(0)
    start = np.int64(0)
    for t in range(len(ends)):
        list_at[t] = at
        counts[:] = 0
        for p in range(start, ends[t]):
            counts[levels[p]] += 1
        for level in range(level_count):
            if counts[level] > 0:
                out[at] = level
                out[at + 1] = counts[level]
                begins[level] = at + 2
                at += 2 + counts[level]
        for p in range(start, ends[t]):
            out[begins[levels[p]]] = docs[p]
            begins[levels[p]] += 1
        start = ends[t]
    return at
