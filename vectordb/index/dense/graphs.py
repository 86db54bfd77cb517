"""Build HNSW graphs with a library and export them as arrays. The library is faiss (the default) or hnswlib (optional; pip compiles it)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from ..base import Unbuildable

ROWS_AT_ONCE = 4_096  # rows added between two checks whether the build was cancelled


@contextmanager
def of_library(name: str) -> Iterator[None]:
    """Turn errors of a library into Unbuildable."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError) as error:
        raise Unbuildable(f"{name} can't build this index: {' '.join(str(error).split())}", field="index", value=name) from error


@dataclass(frozen=True)
class Graph:
    """An HNSW graph whose rows are numbered by insertion.

    bottom: int32 ``(n, 2·degree)``, the links of each row in layer 0, padded with −1. The u rows of the upper layers have a slot each:
    upper_rows: int32 ``(u,)``, the row of each slot. upper_links: int32 ``(·, degree)``, links as slots, padded with −1; one line for each
    slot and layer from 1 up. upper_offsets: int32 ``(u,)``, the first line of each slot. entry_row, entry_slot: the entry point; a slot of
    −1 means that there are no upper layers.
    """

    bottom: np.ndarray
    upper_rows: np.ndarray
    upper_offsets: np.ndarray
    upper_links: np.ndarray
    entry_row: int
    entry_slot: int
    top_level: int


class FaissBuilder:
    """faiss ``IndexHNSWSQ``, by squared distance. bytes_: the vectors are byte codes and compared as they are; other vectors are quantised
    to 8 bits by faiss.
    """

    def __init__(self, dim: int, bytes_: bool, degree: int, ef_construction: int, seed: int, threads: int):
        faiss: Any = import_module("faiss")  # its stubs lack what SWIG adds
        self._faiss = faiss
        kind = faiss.ScalarQuantizer.QT_8bit_direct if bytes_ else faiss.ScalarQuantizer.QT_8bit
        self._index = faiss.IndexHNSWSQ(dim, kind, degree)
        self._index.hnsw.efConstruction = ef_construction
        self._index.hnsw.rng = faiss.RandomGenerator(seed)
        self._threads = threads

    def train(self, sample: np.ndarray) -> None:
        self._index.train(sample)

    def add(self, vectors: np.ndarray) -> None:
        before = self._faiss.omp_get_max_threads()
        self._faiss.omp_set_num_threads(self._threads)
        try:
            self._index.add(vectors)
        finally:
            self._faiss.omp_set_num_threads(before)

    def export(self) -> Graph:
        hnsw, n = self._index.hnsw, self._index.ntotal
        links = _of_vector(self._faiss, hnsw.neighbors, np.int32)
        starts = self._faiss.vector_to_array(hnsw.offsets)[:-1].astype(np.int64)
        levels = self._faiss.vector_to_array(hnsw.levels).astype(np.int64) - 1
        degree = hnsw.nb_neighbors(1)
        width = hnsw.nb_neighbors(0)
        bottom = links[starts[:, None] + np.arange(width)]

        def of_level(rows: np.ndarray, level: int) -> np.ndarray:
            return links[starts[rows][:, None] + hnsw.cum_nb_neighbors(level) + np.arange(degree)]

        return _graph(n, bottom, levels, degree, of_level, int(hnsw.entry_point))


class HnswlibBuilder:
    """hnswlib's index, by squared distance. Its threads add rows in any order, so a row is identified by its label, not by its position."""

    def __init__(self, dim: int, rows: int, degree: int, ef_construction: int, seed: int, threads: int):
        import hnswlib

        self._index = hnswlib.Index(space="l2", dim=dim)
        self._index.init_index(max_elements=rows, M=degree, ef_construction=ef_construction, random_seed=seed)
        self._threads = threads
        self._degree = degree
        self._count = 0

    def train(self, sample: np.ndarray) -> None:
        pass

    def add(self, vectors: np.ndarray) -> None:
        self._index.add_items(vectors, np.arange(self._count, self._count + len(vectors)), num_threads=self._threads)
        self._count += len(vectors)

    def export(self) -> Graph:
        parts: Any = self._index.__getstate__()
        state = next(part for part in parts if isinstance(part, dict) and "data_level0" in part)
        n, size = state["cur_element_count"], state["size_data_per_element"]
        base = np.asarray(state["data_level0"]).view(np.uint8)[: n * size].reshape(n, size)
        offset = state["label_offset"]
        labels = np.ascontiguousarray(base[:, offset : offset + 8]).view(np.uint64).reshape(-1).astype(np.int64)
        levels = np.zeros(n, np.int64)
        inner_levels = np.asarray(state["element_levels"])[:n].astype(np.int64)
        levels[labels] = inner_levels
        raw = np.ascontiguousarray(base[:, : 4 * (state["max_M0"] + 1)]).view(np.int32)
        bottom = np.empty((n, state["max_M0"]), np.int32)
        bottom[labels] = _listed(raw, labels)
        upper = np.asarray(state["link_lists"]).view(np.uint8)
        row_bytes = state["size_links_per_element"]
        upper = np.ascontiguousarray(upper[: int(inner_levels.sum()) * row_bytes].reshape(-1, row_bytes)).view(np.int32)
        upper = _listed(upper, labels)
        starts = np.zeros(n, np.int64)
        starts[labels] = np.concatenate([[0], np.cumsum(inner_levels)[:-1]])

        def of_level(rows: np.ndarray, level: int) -> np.ndarray:
            return upper[starts[rows] + level - 1]

        return _graph(n, bottom, levels, self._degree, of_level, int(labels[state["enterpoint_node"]]))


def _listed(raw: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """hnswlib's link lists (a count in the low 16 bits, then ids) as labels, padded with −1."""
    counts = raw[:, 0] & 0xFFFF
    ids = raw[:, 1:]
    used = np.arange(ids.shape[1]) < counts[:, None]
    return np.where(used, labels[np.where(used, ids, 0)], -1).astype(np.int32)


def _of_vector(faiss, vector, dtype: type) -> np.ndarray:
    """A copy of a C++ vector of faiss. In some versions it is a MaybeOwnedVector, whose memory may belong to a mapped file."""
    return faiss.rev_swig_ptr(vector.data(), vector.size()).astype(dtype)


def _graph(
    n: int, bottom: np.ndarray, levels: np.ndarray, degree: int, of_level: Callable[[np.ndarray, int], np.ndarray], entry: int
) -> Graph:
    upper_rows = np.flatnonzero(levels > 0)
    slots = np.full(n + 1, -1, np.int32)  # the last element maps −1, "no link", to itself
    slots[upper_rows] = np.arange(len(upper_rows))
    offsets = np.concatenate([[0], np.cumsum(levels[upper_rows])])
    links = np.full((int(offsets[-1]), degree), -1, np.int32)
    top = int(levels.max(initial=0))
    for level in range(1, top + 1):
        rows = upper_rows[levels[upper_rows] >= level]
        links[offsets[slots[rows]] + level - 1] = slots[of_level(rows, level)]
    return Graph(
        np.ascontiguousarray(bottom, np.int32),
        upper_rows.astype(np.int32),
        offsets[:-1].astype(np.int32),
        links,
        entry,
        int(slots[entry]),
        top,
    )


def blocks_of(n: int) -> Iterator[tuple[int, int]]:
    """(low, high) of the blocks in which n rows are added."""
    for low in range(0, n, ROWS_AT_ONCE):
        yield low, min(low + ROWS_AT_ONCE, n)
