"""The options of a graph: what the schema leaves open is chosen by the build, what it says is taken as it is; and work in pieces."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from vectordb_client.model.fields import HNSW

from tests.support.indexed import Indexed, clustered
from vectordb.index.dense.build import Options
from vectordb.index.dense.linking import REFINEMENTS
from vectordb.index.dense.pieces import in_pieces


def test_an_index_leaves_its_sizes_to_the_build_unless_they_are_given():
    assert (HNSW().degree, HNSW().ef_construction, HNSW().graph_builder) == (None, None, "vamana")
    assert Options().sizes() == Options(graph_builder="faiss").sizes() == (16, 80)
    assert Options(degree=64).sizes() == (64, 80) and Options(ef_construction=200).sizes() == (16, 200)
    assert Options(degree=4, ef_construction=4).sizes() == (4, 4)


def test_given_sizes_are_taken_as_they_are():
    rows = np.random.default_rng(0).normal(size=(900, 32)).astype(np.float32)  # without clusters: searches find too little
    given = Indexed(rows, "l2", options=Options(degree=4, ef_construction=20, threads=1), GRAPH_ROWS=100, ROWS_A_CLUSTER=30).segment
    assert given.facts() == {"graph": True, "degree": 4, "ef_construction": 20} and given.sections["graph"].shape == (900, 8)


def test_a_graph_that_finds_too_little_is_refined():
    rows = np.random.default_rng(0).normal(size=(3_000, 64)).astype(np.float32)
    chosen = Indexed(rows, "cosine", options=Options(threads=1), GRAPH_ROWS=100, ROWS_A_CLUSTER=30).segment
    how = next(each for each in REFINEMENTS if each.name == chosen.facts()["refined"])
    assert chosen.facts() == {"graph": True, "degree": how.degree, "ef_construction": how.ef, "refined": how.name}
    easy = Indexed(clustered(3, 900, 9), "l2", options=Options(threads=1), GRAPH_ROWS=100, ROWS_A_CLUSTER=30).segment
    assert easy.facts() == {"graph": True, "degree": 16, "ef_construction": 80}


@pytest.mark.parametrize("threads", [1, 3])
def test_work_in_pieces_covers_all_rows_and_ends_with_an_error(threads):
    seen, told, lock = np.zeros(1_000, np.int64), [], threading.Lock()

    def call(low: int, high: int) -> None:
        assert high - low <= 64
        with lock:
            seen[low:high] += 1

    in_pieces(1_000, 64, threads, call, told.append)
    assert (seen == 1).all() and told == sorted(told) and told[-1] == 1_000

    def stop(high: int) -> None:
        raise KeyError(high)

    with pytest.raises(KeyError):
        in_pieces(1_000, 64, threads, call, stop)
    more = int(seen.sum()) - 1_000  # 16 pieces of 62 or 63 rows: those that had begun
    assert more == 62 if threads == 1 else more >= 62
