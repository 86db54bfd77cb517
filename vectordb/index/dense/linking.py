"""Build the search graph of a segment over the codes that searches read first, in batches: the rows of a batch are linked to those before
them, each on its own, so that the graph is the same for any number of threads.

The first rows are the medoids of the clusters, where searches begin. They also form the upper layer. Last come the rows that served as
calibration queries. When these show that searches find too few of the nearest rows, all rows are linked anew, by longer searches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...kernels import linking as kernel
from ...kernels.codes import ZERO
from ..base import Progress
from ..scratch import aligned
from .pieces import in_pieces

# Constants: unit and meaning, then the source in brackets. [graphs]: from the rows that searches score for a recall of .95, .99 and .995,
# and the time of builds, on five data sets in November 2026. [chosen]: chosen, not measured.
ENTRIES = 4  # medoids that a row's search begins at [graphs]
GROWTH, FIRST_BATCH = 0.1, 8  # rows of a batch: that share of those before, or this many if that is more [graphs]
LARGEST_BATCH = 0.02  # of all rows [graphs]
PASS_BATCHES, PASS_ROWS = 2, 1_000_000  # batches of a pass over all rows, at least [graphs]; rows of one, at most: bounds memory [chosen]
PIECE, LEAST_PIECE = (
    1_024,
    32,
)  # most rows of a call of a kernel, so that the build can be cancelled; fewest that are worth a thread [chosen]
MEDOIDS_NEAR = 64  # candidates for the links among medoids [chosen]
PROBED, PROBE_BEAM = 10, 64  # nearest rows that the probe looks for, and rows that its searches keep [graphs]
INSERTED, EVERY = np.float32(1), np.float32(np.inf)  # alpha, see ``kernels.linking.prune``: of new rows; that leaves out none [graphs]


@dataclass(frozen=True)
class Refinement:
    """How all rows are linked anew. below: the recall of the probe below which it is done. ef: candidates of a row. degree: its most links.
    alpha: see ``kernels.linking.prune``.
    """

    name: str
    below: float
    ef: int
    degree: int
    alpha: float


# The first one whose bound the recall is below is taken [graphs].
REFINEMENTS = (Refinement("long searches", 0.90, 128, 64, 1.2), Refinement("searches", 0.99, 96, 48, 1.1))


@dataclass(frozen=True)
class Layout:
    """The rows of a segment, in cluster order. codes: uint8 ``(n, stride)``. offsets, medoids: int32, as in the file. centroids: float32
    ``(clusters, dim)``. lifts: float32 ``(n,)``, one more dimension of each row, in steps; or empty.
    """

    codes: np.ndarray
    offsets: np.ndarray
    medoids: np.ndarray
    centroids: np.ndarray
    lifts: np.ndarray


class Linker:
    """Links the rows of a segment. graph: int32 ``(n, width)``. degree: links of a new row; a row that others link to may have twice as
    many. ef: candidates for them. step: the progress of the build; raises Cancelled.
    """

    def __init__(self, layout: Layout, degree: int, ef: int, threads: int, step: Progress):
        n = len(layout.codes)
        self._squares = np.empty(n, np.int32)
        self._rows = layout.codes, self._squares, np.empty(n, np.int32), layout.lifts
        kernel.code_norms(*self._rows[:3])
        medoids = layout.medoids
        self._medoids = np.sort(medoids[medoids >= 0])
        self._near = _starts(medoids, layout.centroids), np.repeat(np.arange(len(medoids), dtype=np.int32), np.diff(layout.offsets))
        self._degree, self._ef, self._alpha = degree, ef, INSERTED
        self._threads, self.step, self._share = threads, step, 0.0
        self.graph = _no_links(n, 2 * degree)
        self.refined: Refinement | None = None

    def link_medoids(self) -> None:
        """Link the first rows: the medoids, each to some of those near it."""
        rows, width = self._medoids, self.graph.shape[1]
        numbers = self._rows[0][rows].astype(np.float32) - np.float32(ZERO)
        far = np.square(numbers).sum(axis=1)[None] - 2 * numbers @ numbers.T
        np.fill_diagonal(far, np.inf)
        near = np.argsort(far, axis=1, kind="stable")[:, : min(width, len(rows) - 1)]
        self.graph[rows, : near.shape[1]] = rows[near]
        links, given = _no_links(len(rows), width), (*self._rows, self.graph, rows)
        self._run(len(rows), lambda low, high: kernel.links_by_hops(*given, low, high, MEDOIDS_NEAR, width, self._alpha, links))
        self._commit(rows, links)
        self._upper = self.graph[rows]

    def insert(self, rows: np.ndarray, before: int) -> None:
        """Link rows (int32, in this order) to those before them, of which there are ``before``."""
        done, n = 0, len(self.graph)
        most = max(int(LARGEST_BATCH * n), FIRST_BATCH)
        while done < len(rows):
            size = min(max(int(GROWTH * (before + done)), FIRST_BATCH), most)
            batch = np.sort(rows[done : done + size])  # rows of one cluster after another, whose searches read the same codes
            self._commit(batch, self._searched(batch, self._ef, False))
            done += len(batch)
            self._share = (before + done) / n
            self.step("graph", self._share)

    def refine(self, rows: np.ndarray, how: Refinement) -> None:
        """Link rows (int32, ascending) anew; rows that are inserted later are linked in the same way."""
        wider = _no_links(len(self.graph), max(how.degree, self.graph.shape[1]))
        wider[:, : self.graph.shape[1]] = self.graph
        self.graph, self.refined = wider, how
        self._degree, self._ef, self._alpha = how.degree, how.ef, np.float32(how.alpha)
        for batch in np.array_split(rows, max(PASS_BATCHES, -(-len(rows) // PASS_ROWS))):
            self._commit(batch, self._searched(batch, self._ef, True))

    def resume(self, graph: np.ndarray, refined: Refinement | None, upper: np.ndarray) -> None:
        """Go on with a graph (int32 ``(n, width)``) as its last rows were linked. refined: how its rows were linked anew. upper: int32, the
        links among the medoids, by rising number.
        """
        self.graph, self.refined, self._upper = graph, refined, upper
        if refined is not None:
            self._degree, self._ef, self._alpha = refined.degree, refined.ef, np.float32(refined.alpha)

    def link_anew(self, rows: np.ndarray) -> None:
        """Link rows of the graph (int32, ascending) again. The links that they have are candidates, too."""
        self._commit(rows, self._searched(rows, self._ef, True))

    def recall(self, rows: np.ndarray) -> float:
        """The share of the nearest rows, by codes, that searches for some rows (int32, not linked yet) find."""
        found = self._searched(rows, PROBE_BEAM, False, EVERY)
        count = PROBED + len(rows)  # rows that aren't linked can't be found, so as many more are looked at
        nearest, right = np.empty((len(rows), count), np.int64), np.ones(len(rows))

        def look(low: int, high: int) -> None:
            for i in range(low, high):
                every = nearest[i, : kernel.nearest_rows(*self._rows, int(rows[i]), count, nearest[i])]
                right[i] = np.isin(every[~np.isin(every, rows)][:PROBED], found[i]).mean()

        self._run(len(rows), look)
        return float(right.mean())

    def adopt(self) -> None:
        """Have a neighbour link to each row that no row links to, in place of a link to one that several link to."""
        links = self.graph[self.graph >= 0]
        linked = np.bincount(links, minlength=len(self.graph))
        for row in np.flatnonzero(linked == 0):
            for neighbour in self.graph[row][self.graph[row] >= 0]:
                own = self.graph[neighbour]
                places = np.flatnonzero((own < 0) | (linked[own] > 1))
                if len(places):
                    place = places[-1] if (own >= 0).all() else np.flatnonzero(own < 0)[0]
                    if own[place] >= 0:
                        linked[own[place]] -= 1
                    own[place] = row
                    linked[row] += 1
                    break

    def sections(self) -> dict[str, np.ndarray]:
        """The sections of the file that hold the graph. The medoids form the only upper layer."""
        count, degree = len(self._medoids), self.graph.shape[1] // 2
        slots = np.full(len(self.graph) + 1, -1, np.int32)  # the last element maps −1, "no link", to itself
        slots[self._medoids] = np.arange(count, dtype=np.int32)
        upper = np.full((count, degree), -1, np.int32)
        some = slots[self._upper][:, :degree]
        upper[:, : some.shape[1]] = some
        return {
            "graph": self.graph,
            "upper_rows": self._medoids.astype(np.int32),
            "upper_offsets": np.arange(count, dtype=np.int32),
            "upper_links": upper,
        }

    def entries(self) -> dict[str, Any]:
        """The entries of the file's header about the graph. Searches that descend begin at the medoid nearest to the mean."""
        slot = int(np.argmin(self._squares[self._medoids]))
        built = {"degree": self._degree, "ef_construction": self._ef, "refined": self.refined.name if self.refined else None}
        return {"entry_row": int(self._medoids[slot]), "entry_slot": slot, "top_level": 1, "linking": built}

    def _searched(self, batch: np.ndarray, ef: int, own: bool, alpha: np.float32 | None = None) -> np.ndarray:
        """Links for the rows of a batch, pruned of what a search for each finds; all of it for alpha EVERY. own: the links that a row has
        are candidates too.
        """
        alpha = self._alpha if alpha is None else alpha
        degree = ef if alpha == EVERY else self._degree
        links = np.empty((len(batch), max(self.graph.shape[1], degree)), np.int32)
        given = *self._rows, self.graph, *self._near, batch
        self._run(len(batch), lambda low, high: kernel.links_by_search(*given, low, high, ef, degree, alpha, own, links))
        return links

    def _commit(self, batch: np.ndarray, links: np.ndarray) -> None:
        """Store the links of the rows of a batch, and a link back from each row that they lead to."""
        self.graph[batch] = links
        there = links >= 0
        pairs = (links[there].astype(np.int64) << 32) | np.repeat(batch.astype(np.int64), there.sum(axis=1))
        pairs.sort()
        targets, begins = np.unique(pairs >> 32, return_index=True)
        sources, begins = (pairs & 0xFFFFFFFF).astype(np.int32), np.append(begins, len(pairs))
        given, width = (*self._rows, self.graph, targets.astype(np.int32), begins, sources), self.graph.shape[1]
        self._run(len(targets), lambda low, high: kernel.link_back(*given, low, high, width, self._alpha))

    def _run(self, n: int, call: Callable[[int, int], None]) -> None:
        """Call for consecutive ranges of n rows, on all threads."""
        in_pieces(n, PIECE, self._threads, call, lambda high: self.step("graph", self._share), LEAST_PIECE)


def _no_links(rows: int, width: int) -> np.ndarray:
    links = aligned((rows, width), np.int32)
    links[...] = -1
    return links


def _starts(medoids: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The medoids that the search for a row of each cluster begins at: those of the nearest clusters, int32 ``(clusters, ≤ ENTRIES)``."""
    far = np.einsum("ij,ij->i", centroids, centroids)[None] - 2 * centroids @ centroids.T
    np.fill_diagonal(far, -np.inf)
    far[:, medoids < 0] = np.inf
    return np.ascontiguousarray(medoids[np.argsort(far, axis=1, kind="stable")[:, :ENTRIES]])
