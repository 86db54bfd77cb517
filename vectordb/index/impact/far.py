"""Queries that are unlike the rows: how they are made for a calibration.

Searches of sparse fields estimate from each query's own rows how many of the best they miss (``kernels/impact.least_sum``). For queries
that resemble no row the estimate is too low: each of many rows has a few of their terms, and what was left out of the postings decides.
So settings that read as many postings and miss less are tried with such queries too: they score more rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Constants: unit and meaning, then the source in brackets. [far]: chosen with queries of other lengths, of random terms and from several
# texts, on four data sets, 1 December 2026. [chosen]: chosen, not measured.
MIXED = 12  # rows whose terms are mixed [far]
SHORTEST = 3  # terms of a made query, at least [far]
LONGER, LONGEST = 8, 512  # at most, times the terms of a row, and at all [chosen]
LEAST, MOST = 0.1, 1.1  # weights of random terms, relative to the mean weight of the rows [far]
KINDS = 3  # made by turns: terms of rows, by how frequent they are, of any frequency
MADE = 48  # queries, at most [chosen]


def made_queries(segment: Any, factors: np.ndarray, count: int, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Queries (terms uint64 ascending, weights float32), by turns: terms of several rows, random terms by how frequent they are, and random
    ones of any frequency. factors: float32, what the weight of each term is multiplied by.
    """
    sections = segment.sections
    row_at, row_terms, vocabulary = sections["row_at"], sections["row_terms"], sections["terms"]
    if not len(row_terms):
        return []
    weighted = "row_weights" in sections and "row_lengths" not in sections
    mean = float(np.abs(sections["level_mean"]) @ sections["level_share"])
    longest = min(max(LONGER * len(row_terms) // segment.rows, SHORTEST), LONGEST, len(vocabulary))
    made = []
    for kind in range(count):
        size = round(SHORTEST * (longest / SHORTEST) ** rng.random()) if longest > SHORTEST else longest
        if kind % KINDS == 0:
            rows = rng.integers(0, segment.rows, MIXED)
            items = np.concatenate([np.arange(row_at[row], row_at[row + 1]) for row in rows])
            items = items[rng.permutation(len(items))[:size]]
            places, first = np.unique(row_terms[items].astype(np.int64), return_index=True)
            weights = sections["row_weights"][items[first]] if weighted else np.ones(len(places), np.float32)
        else:
            drawn = row_terms[rng.integers(0, len(row_terms), size)] if kind % KINDS == 1 else rng.integers(0, len(vocabulary), size)
            places = np.unique(drawn.astype(np.int64))
            weights = mean * rng.uniform(LEAST, MOST, len(places))
        weights = (weights * factors[places]).astype(np.float32)
        if len(weights):
            made.append((vocabulary[places], weights))
    return made
