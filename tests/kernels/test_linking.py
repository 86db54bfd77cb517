"""The links of search graphs, compared with the same by numpy; and the graph of a segment built of them."""

from __future__ import annotations

import numpy as np
import pytest

from vectordb.index.dense.linking import REFINEMENTS, Layout, Linker
from vectordb.kernels import linking

FAR = np.float32(np.inf)


class Case:
    """Random codes around some middles, their distances by numpy, and random links."""

    def __init__(self, seed: int, rows: int = 120, width: int = 10, lifted: bool = False, stride: int = 128):
        rng = np.random.default_rng(seed)
        middles = rng.integers(60, 190, (6, stride))
        self.cluster = np.sort(rng.integers(0, 6, rows)).astype(np.int32)
        self.codes = np.clip(middles[self.cluster] + rng.normal(0, 20, (rows, stride)), 1, 255).astype(np.uint8)
        self.codes[5] = self.codes[6] = self.codes[7]  # alike
        self.lifts = rng.uniform(0, 300, rows).astype(np.float32) if lifted else np.zeros(0, np.float32)
        self.squares, self.totals = np.empty(rows, np.int32), np.empty(rows, np.int32)
        linking.code_norms(self.codes, self.squares, self.totals)
        self.rows = self.codes, self.squares, self.totals, self.lifts
        numbers = self.codes.astype(np.int64)
        self.far = np.square(numbers[:, None] - numbers[None]).sum(axis=2)
        if lifted:
            self.far = (self.far + np.square(self.lifts[:, None].astype(np.float64) - self.lifts[None])).astype(np.int64)
        self.graph = np.full((rows, width), -1, np.int32)
        for row, links in enumerate(self.graph):
            others = rng.permutation(np.delete(np.arange(rows), row))[: rng.integers(1, width + 1)]
            links[: len(others)] = others

    def nearest(self, x: int, rows: np.ndarray) -> np.ndarray:
        rows = np.array(sorted(set(rows.tolist()) - {x, -1}), np.int64)
        return rows[np.argsort(self.far[x, rows], kind="stable")]

    @np.errstate(invalid="ignore")  # ∞ · 0
    def pruned(self, x: int, rows: np.ndarray, degree: int, alpha: float) -> list[int]:
        kept: list[int] = []
        alike = 0
        for row in rows:
            alike += self.far[x, row] == 0
            if self.far[x, row] == 0 and linking.ALIKE * alike > degree:
                continue
            if not any(np.float32(alpha) * np.float32(self.far[row, other]) < np.float32(self.far[x, row]) for other in kept):
                kept.append(int(row))
            if len(kept) == degree:
                break
        return kept


def listed(links: np.ndarray) -> list[int]:
    count = int((links >= 0).sum())
    assert (links[count:] == -1).all()
    return links[:count].tolist()


@pytest.mark.parametrize("lifted", [False, True])
def test_norms_and_nearest_rows(lifted):
    case = Case(1, lifted=lifted)
    numbers = case.codes.astype(np.int64) - 128
    np.testing.assert_array_equal(case.squares, np.square(numbers).sum(axis=1))
    np.testing.assert_array_equal(case.totals, numbers.sum(axis=1))
    out = np.empty(9, np.int64)
    for x in range(0, 120, 7):
        assert linking.nearest_rows(*case.rows, x, 9, out) == 9
        assert out.tolist() == case.nearest(x, np.arange(120))[:9].tolist()


@pytest.mark.parametrize("lifted", [False, True])
@pytest.mark.parametrize(("degree", "alpha"), [(4, 1.0), (10, 1.2), (10, FAR)])
def test_a_search_that_keeps_all_rows_finds_the_nearest_and_prunes_them(degree, alpha, lifted):
    case = Case(2, lifted=lifted)
    batch, starts = np.arange(0, 120, 3, dtype=np.int32), np.array([[3, 50, -1]] * 6, np.int32)
    links = np.empty((len(batch), 10), np.int32)
    linking.links_by_search(*case.rows, case.graph, starts, case.cluster, batch, 0, len(batch), 120, degree, np.float32(alpha), True, links)
    for x, own in zip(batch.tolist(), links, strict=True):
        seen, edge = np.zeros(120, np.bool_), np.concatenate([[3, 50], case.graph[x][case.graph[x] >= 0]])
        seen[x] = True  # searches don't go through the row itself
        edge = edge[~seen[edge]]
        while len(edge):
            seen[edge] = True
            edge = np.unique(case.graph[edge])
            edge = edge[(edge >= 0) & ~seen[edge]]
        assert listed(own) == case.pruned(x, case.nearest(x, np.flatnonzero(seen)), degree, alpha)


@pytest.mark.parametrize("lifted", [False, True])
def test_hops_look_at_neighbours_of_neighbours(lifted):
    case = Case(3, lifted=lifted)
    batch = np.arange(120, dtype=np.int32)
    links = np.empty((120, 10), np.int32)
    linking.links_by_hops(*case.rows, case.graph, batch, 0, 120, 30, 8, np.float32(1.1), links)
    for x in range(120):
        near = case.graph[x][case.graph[x] >= 0]
        rows = case.nearest(x, np.concatenate([near, case.graph[near].reshape(-1)]))[:30]
        assert listed(links[x]) == case.pruned(x, rows, 8, 1.1)


@pytest.mark.parametrize("lifted", [False, True])
def test_links_back_are_added_and_pruned_where_they_are_too_many(lifted):
    case = Case(4, lifted=lifted)
    before = case.graph.copy()
    targets, begins = np.array([2, 6, 40], np.int32), np.array([0, 1, 13, 16])
    sources = np.concatenate([[9], np.arange(20, 32), [6, 7, 8]]).astype(np.int32)
    linking.link_back(*case.rows, case.graph, targets, begins, sources, 0, 3, 7, np.float32(1.1))
    for t, x in enumerate(targets.tolist()):
        own = before[x][before[x] >= 0].tolist()
        every = own + [row for row in sources[begins[t] : begins[t + 1]].tolist() if row not in own]
        expected = every if len(every) <= 10 else case.pruned(x, case.nearest(x, np.array(every)), 7, 1.1)
        assert listed(case.graph[x]) == expected
    others = np.setdiff1d(np.arange(120), targets)
    np.testing.assert_array_equal(case.graph[others], before[others])


def linker(threads: int, degree: int = 8, rows: int = 3_000) -> tuple[Linker, np.ndarray, np.ndarray]:
    """(a linker, its rows but the last 40, those)."""
    rng = np.random.default_rng(0)
    clusters = 15
    middles = rng.normal(128, 15, (clusters, 64))
    cluster = np.sort(rng.integers(0, clusters, rows))
    codes = np.clip(middles[cluster] + rng.normal(0, 25, (rows, 64)), 1, 255).astype(np.uint8)
    offsets = np.searchsorted(cluster, np.arange(clusters + 1)).astype(np.int32)
    medoids = offsets[:-1].copy()
    medoids[4] = -1
    made = Linker(
        Layout(codes, offsets, medoids, middles.astype(np.float32) - 128, np.zeros(0, np.float32)), degree, 40, threads, lambda *_: None
    )
    made.link_medoids()
    rest = rng.permutation(np.setdiff1d(np.arange(rows, dtype=np.int32), medoids))
    return made, rest[:-40], np.sort(rest[-40:])


def test_any_number_of_threads_makes_the_same_graph_and_refinement_finds_more():
    graphs, recalls = [], []
    for threads in (1, 3):
        made, rest, last = linker(threads)
        made.insert(rest, 14)
        first = made.recall(last)
        made.refine(np.setdiff1d(np.arange(3_000, dtype=np.int32), last), REFINEMENTS[0])
        recalls.append((first, made.recall(last)))
        made.insert(last, 2_960)
        made.adopt()
        graphs.append(made.graph)
        assert made.graph.shape == (3_000, REFINEMENTS[0].degree) and made.entries()["linking"]["refined"] == REFINEMENTS[0].name
    np.testing.assert_array_equal(*graphs)
    assert recalls[0] == recalls[1] and recalls[0][1] > recalls[0][0] > 0.5  # the codes are nearly random, so the first graph finds little


def test_every_row_has_a_link_to_it_and_none_to_itself():
    made, rest, last = linker(2, degree=4)
    made.insert(rest, 14)
    made.insert(last, 2_960)
    made.adopt()
    graph = made.graph
    assert graph.shape == (3_000, 8) and not (graph == np.arange(3_000)[:, None]).any()
    assert np.bincount(graph[graph >= 0], minlength=3_000).min() >= 1
    for links in graph:
        assert len(set(listed(links))) == len(listed(links)) >= 1
