"""What searches of a sparse segment by impacts would find, for all shares of misses at once: a calibration needs one pass of them."""

from __future__ import annotations

import numpy as np
from numba import carray

from .impact import SPARE, first_rows, kth_of, least_sum, too_many
from .impact_layout import BEGINS, BUCKETS, HISTOGRAM, LISTED, PLACES, QUERY, STRETCH, VOCABULARY
from .impact_lists import place_terms
from .jit import kernel, pointer

NOT_ENOUGH = 1 << 16  # in the place of a sum, larger than any: such a search goes on with more postings, and at last with all


@kernel
def try_impacts(segment, work, saturation, share, misses, first, matches, bits, terms, weights, truth, sums, lows, report):
    """A search by impacts for as many rows as ``truth`` has, as far as all settings with this ``share`` of the postings do the same.

    misses: float64, ascending or not, shares of the results that may be missed. lows: int64, for each of them the sum from which on rows
    would be scored, or NOT_ENOUGH. truth: int64, rows; sums: int64, theirs. A search finds those of them whose sums reach its low. The
    others as in ``search_impacts``.
    """
    report[:] = 0
    k = len(truth)
    places = carray(pointer(work[PLACES]), len(terms), np.int64)
    listed = carray(pointer(work[LISTED]), len(terms), np.int64)
    begins = carray(pointer(work[BEGINS]), len(terms), np.int64)
    counts = carray(pointer(work[HISTOGRAM]), BUCKETS, np.int64)
    query = carray(pointer(work[QUERY]), max(segment[VOCABULARY], 65_536), np.float32)
    best, statistics, lower = np.empty(k + SPARE, np.int64), np.zeros(4), np.zeros(4)
    lows[:] = NOT_ENOUGH
    sums[:] = 0
    bound = place_terms(segment, terms, weights, saturation[STRETCH], places, listed, begins, query)
    if bound > 0:
        size, _, _, floor, top, scale, _, total = first_rows(
            segment,
            work,
            saturation,
            share,
            first,
            bound,
            matches,
            bits,
            places,
            weights,
            query,
            best,
            statistics,
            lower,
            truth,
            sums,
            report,
        )
        if size >= k and statistics[0] > 0:
            kth = kth_of(best, size, k) * scale
            for i in range(len(misses)):
                low = least_sum(kth, misses[i] * k, statistics, lower, counts, matches, top)
                if low >= floor or (low > 0 and not too_many(low, top, counts, total)):
                    lows[i] = low
    for q in range(len(terms)):
        if places[q] >= 0:
            query[places[q]] = 0
