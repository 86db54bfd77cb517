"""Kernels that search a graph, compiled and interpreted, on random graphs whose scores are exact."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.support.interpreted import SEEDS, both, random_bits
from vectordb.index.scratch import aligned
from vectordb.kernels import beam, scoring, topk


class Links:
    """A random graph over rows of random codes, whose scores are exact in float32."""

    def __init__(self, seed, biased):
        rng = self.rng = np.random.default_rng(seed)
        self.n, self.degree, self.stride = int(rng.integers(2, 300)), 8, 64
        self.codes = aligned((self.n, self.stride), np.uint8)
        self.codes[:] = rng.integers(96, 160, self.codes.shape)
        self.query = aligned((self.stride,), np.int8)
        self.query[:] = rng.integers(-9, 10, self.stride)
        self.offset = 128 * int(self.query.astype(int).sum())
        self.bias = rng.integers(-90, 90, self.n).astype(np.float32) if biased else np.empty(0, np.float32)
        self.biased = biased
        self.graph = np.ascontiguousarray(rng.integers(-1, self.n, (self.n, self.degree)), np.int32)
        self.graph.sort(axis=1)
        self.graph = np.ascontiguousarray(self.graph[:, ::-1])
        self.graph[rng.integers(self.n), 0] = self.n + 7  # as in a damaged file
        self.bits, self.passing = random_bits(rng, self.n)
        scores = (self.codes.astype(np.int64) @ self.query.astype(np.int64) - self.offset) * 0.5
        self.scores = (scores + (self.bias if biased else 0)).astype(np.float32)

    def scoring(self):
        return scoring.Scoring(
            self.codes.ctypes.data, self.stride, self.query.ctypes.data, np.float32(0.5), self.offset, self.bias, self.biased
        )

    def key(self, row):
        return topk.make_key(self.scores[row], row)

    @property
    def links(self):
        return beam.Links(self.n, self.graph.ctypes.data, self.degree)

    def reach(self):
        """The score at distance 0: a little more than any row's."""
        return float(self.scores.max()) + 3.0

    def visits(self, starts):
        """Marks of a search that begins at ``starts``, one more than rows."""
        visited = np.zeros(self.n + 1, np.uint8)
        visited[starts] = 4
        return visited

    def heaps(self, starts, count, passing):
        """(candidates, their number, results, their number) of a search that begins at ``starts``."""
        candidates, results, n, size = np.empty(self.n + 200, np.int64), np.empty(count, np.int64), 0, 0
        for row in starts:
            n = topk.push_best(candidates, n, self.key(row))
            if passing[row]:
                size = topk.offer(results, size, count, self.key(row))
        return candidates, n, results, size

    def best(self, rows, count):
        """The highest keys of some rows."""
        return sorted((self.key(row) for row in rows), reverse=True)[:count]


def scratch_of_links():
    return np.zeros(beam.MOST_LINKS + 4, np.int64), np.zeros(beam.MOST_LINKS + 4, np.int32)


# K, γ, the most rows scored. With a γ of 1e9 all that links lead to is near enough.
ENDINGS = ((1, 0.0, 1_000), (10, 0.0, 1_000), (10, 0.3, 1_000), (10, 1e9, 1_000), (400, 0.0, 1_000), (10, 0.3, 5))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("biased", [False, True])
def test_scores_of_several_rows(seed, biased):
    links = Links(seed, biased)
    keys = np.array([links.key(row) for row in range(links.n)])
    for n in {0, 1, 2, 3, 4, 5, 7, links.n // 2, links.n}:
        n = min(n, links.n)
        for _, (*_, found) in both("scoring.score_each", links.scoring(), n, np.full(links.n + 1, 77)):
            np.testing.assert_array_equal(found[:n], keys[:n])
            assert (found[n:] == 77).all()
        rows = links.rng.permutation(links.n)[:n].astype(np.int32)
        for r in (1, 9, links.n):
            for size, (*_, heap, _, _) in both("scoring.score_rows", links.scoring(), rows, n, np.zeros(links.n + 1, np.int64), 0, r):
                np.testing.assert_array_equal(np.sort(heap[:size])[::-1], np.sort(keys[rows])[::-1][:r])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("biased", [False, True])
def test_sorted_beam(seed, biased):
    links = Links(seed, biased)
    for row in range(min(links.n, 9)):
        for score, _ in both("scoring.code_score", links.scoring(), row):
            assert score == links.scores[row]
    product = int(links.codes[0].astype(np.int64) @ links.query.astype(np.int64))
    (first, _), (same, _) = both("beam.buffer_key", links.scoring(), np.int32(product), 0)
    assert first == same and first & 1 and beam.row_in(first) == 0
    assert all(key == links.key(0) for key, _ in both("beam.result_key", links.scoring(), first))
    for (count, gamma, cap), most in itertools.product(ENDINGS, (500, 40)):
        buffer = np.zeros(504, np.int64)
        buffer[0] = first
        ending = beam.Ending(count, gamma, links.reach(), cap)
        given = (links.scoring(), links.links, ending, 20, max(most, count), links.visits([0]), np.uint8(4), buffer, 1, *scratch_of_links())
        ((size, scored), one), ((others_size, others_scored), other) = both("beam.sorted_beam", *given)
        assert (size, scored) == (others_size, others_scored)
        np.testing.assert_array_equal(one[7][:size], other[7][:size])
        np.testing.assert_array_equal(one[5], other[5])
        visited = np.flatnonzero(one[5][: links.n] == 4)
        assert scored == len(visited) - 1 <= cap + links.degree
        keys = one[7][:size]
        rows = [beam.row_in(key) for key in keys]
        assert (keys[:-1] > keys[1:]).all() and len(set(rows)) == len(rows) and set(rows) <= set(visited.tolist())
        found = [beam.result_key(links.scoring(), key) for key in keys]
        assert found == [links.key(row) for row in rows]
        # Rows of equal score come in another order in the buffer.
        assert [topk.score_of(key) for key in found[:count]] == [topk.score_of(key) for key in links.best(visited, count)][: len(found)]
        assert len(found) >= min(count, len(visited))
        if gamma > 1 and most >= links.n:
            assert set(rows) == set(visited.tolist()) and not (keys & 1).any()
        if cap == 1_000 and most >= links.n:  # it ended where no row near enough is left to be expanded
            limit = beam.farthest(float(topk.score_of(found[count - 1])), ending) if len(found) >= count else -np.inf
            assert all(topk.score_of(each) <= limit + 1e-3 for key, each in zip(keys, found, strict=True) if key & 1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("biased", [False, True])
def test_filtered_beam(seed, biased):
    links = Links(seed, biased)
    for count, gamma, cap in ENDINGS:
        ending = beam.Ending(count, gamma, links.reach(), cap)
        candidates, n, results, size = links.heaps([0], count, links.passing)
        given = (links.scoring(), links.links, ending, links.bits, links.visits([0]), np.uint8(4), candidates, n, results, size)
        ((size, scored), one), (other, copies) = both("beam.filtered_beam", *given, *scratch_of_links())
        assert (size, scored) == other
        np.testing.assert_array_equal(one[8][:size], copies[8][:size])
        np.testing.assert_array_equal(one[4], copies[4])
        visited = np.flatnonzero(one[4][: links.n] == 4)
        assert scored == len(visited) - 1 <= cap + links.degree
        best = links.best(visited[links.passing[visited]], count)
        assert sorted(one[8][:size].tolist(), reverse=True) == best


@pytest.mark.parametrize("biased", [False, True])
def test_a_beam_goes_farther_with_a_larger_gamma(biased):
    """Over all seeds, so that it holds whatever the graph of one is."""
    visited = []
    for gamma in (0.0, 0.2, 0.6, 1e9):
        total = 0
        for seed in SEEDS:
            links = Links(seed, biased)
            buffer = np.zeros(504, np.int64)
            buffer[0] = beam.buffer_key(links.scoring(), np.int32(links.codes[0].astype(np.int64) @ links.query.astype(np.int64)), 0)
            ending = beam.Ending(3, gamma, links.reach(), 1_000)
            marks = links.visits([0])
            total += beam.sorted_beam(
                links.scoring(), links.links, ending, 5, 500, marks, np.uint8(4), buffer, 1, *scratch_of_links()
            )[1]  # fmt: skip
        visited.append(total)
    assert visited == sorted(visited) and visited[0] < visited[1] < visited[2] < visited[3]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("biased", [False, True])
def test_two_hop(seed, biased):
    links = Links(seed, biased)
    starts = np.flatnonzero(links.passing)[:3]
    for ef, cap in ((1, 1_000), (10, 1_000), (400, 1_000), (10, 5)):
        given = (
            links.scoring(),
            links.links,
            links.bits,
            ef,
            cap,
            links.visits(starts),
            np.uint8(4),
            *links.heaps(starts, ef, links.passing),
        )
        ((size, scored), one), (other, copies) = both("graph.acorn", *given)
        assert (size, scored) == other
        np.testing.assert_array_equal(one[9][:size], copies[9][:size])
        np.testing.assert_array_equal(one[5], copies[5])
        results, visited = np.sort(one[9][:size])[::-1], one[5][: links.n] == 4
        rows = [topk.row_of(key) for key in results]
        assert links.passing[rows].all() and len(set(rows)) == len(rows)
        assert scored == (visited & links.passing).sum() - len(starts) <= cap + 64 + links.degree
        np.testing.assert_array_equal(results, links.best(np.flatnonzero(visited & links.passing), ef))


@pytest.mark.parametrize("seed", SEEDS)
def test_descend(seed):
    links = Links(seed, bool(seed % 2))
    rng, degree = links.rng, 4
    count = min(links.n, 20)
    rows = rng.permutation(links.n)[:count].astype(np.int32)
    levels = rng.integers(1, 4, count)
    offsets = (np.cumsum(levels) - levels).astype(np.int32)
    upper = np.full((int(levels.sum()), degree), -1, np.int32)
    for slot in range(count):
        for level in range(1, levels[slot] + 1):
            others = np.flatnonzero(levels >= level)
            chosen = rng.choice(others, min(degree, len(others)), replace=False)
            upper[offsets[slot] + level - 1, : len(chosen)] = chosen
    top = int(levels.max())
    start = int(levels.argmax())
    given = (links.scoring(), rows, offsets, upper.reshape(-1), degree, start, top)
    (one, _), (other, _) = both("graph.descend", *given)
    assert one == other
    neighbours = [slot for slot in upper[offsets[one]] if slot >= 0]
    assert all(links.scores[rows[slot]] <= links.scores[rows[one]] for slot in neighbours)
    assert links.scores[rows[one]] >= links.scores[rows[start]]
