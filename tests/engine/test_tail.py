"""Rows without an index are scanned by byte codes with bounds: the hits and scores are those of the exact scan, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

import vectordb
from vectordb import Dense, F, Int, Schema
from vectordb.index import exact, tail
from vectordb.index.base import TailRange
from vectordb.kernels import COUNT, DATA, DOCIDS, FIRST, LAST, NORMS, TABLE_WIDTH, dense
from vectordb.kernels import tail as kernel

DIM, ROWS = 40, 700


@pytest.fixture(autouse=True)
def short_tails(monkeypatch):
    """Codes for tails of some hundred rows, a part of them with each search."""
    monkeypatch.setattr(tail, "AT_ONCE", 250)
    monkeypatch.setattr(tail.TailCodes.suits, "__defaults__", (100 * DIM,))
    monkeypatch.setattr("vectordb.query.direct_blocks.DIRECT_NUMBERS", 100 * DIM)


def rows_of(shape: str, rng) -> np.ndarray:
    """Vectors of a shape that is easy or hard for codes."""
    rows = rng.standard_normal((ROWS, DIM))
    if shape == "shifted":
        rows += 20
    elif shape == "outliers":
        rows[:, :2] *= 50
    elif shape == "equal":
        rows[:] = rows[0]
    elif shape == "sizes":
        rows *= 10.0 ** rng.integers(-6, 7, (ROWS, 1))
    return rows.astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
@pytest.mark.parametrize(
    ("shape", "dtype"), [(shape, "float32") for shape in ("plain", "shifted", "outliers", "equal", "sizes")] + [("plain", "float16")]
)
def test_a_scan_by_codes_finds_what_the_scan_of_vectors_finds(metric, shape, dtype):
    rng = np.random.default_rng(3)
    rows = rows_of(shape, rng)
    rows = np.ascontiguousarray(rows.astype(dtype))
    docids = np.sort(rng.choice(5 * ROWS, ROWS, replace=False)).astype(np.uint32)
    norms, cut = np.linalg.norm(rows.astype(np.float64), axis=1).astype(np.float32), 300
    table = np.zeros((2, TABLE_WIDTH), np.int64)
    for c, (low, high) in enumerate([(0, cut), (cut, ROWS)]):
        columns = {FIRST: docids[low], LAST: docids[high - 1], COUNT: high - low, DATA: rows[low:].ctypes.data}
        for column, value in {**columns, DOCIDS: docids[low:].ctypes.data, NORMS: norms[low:].ctypes.data}.items():
            table[c, column] = value
    spec = Dense(DIM, metric, dtype=dtype)
    codes = tail.TailCodes(spec, 0, 0)
    chosen = docids[rng.random(ROWS) < 0.8]
    queries = np.concatenate([rows[:2].astype(np.float32), rows_of("plain", rng)[:2]])
    for k in (1, 10, 60):
        for _ in range(16):  # more rows are coded with each
            found = [np.empty((4, k), np.int64) for _ in range(2)], [np.zeros(4, np.int64) for _ in range(2)]
            for part, heaps, sizes in zip((codes, None), *found, strict=True):
                exact.scan_tail(table, queries, spec, [TailRange(0, 2, chosen, part)], heaps, sizes)
            (ours, theirs), (our_size, size) = found
            assert our_size.tolist() == size.tolist() == [k] * 4
            assert np.array_equal(np.sort(ours), np.sort(theirs))
    assert codes.nbytes > 0
    if shape == "equal":
        assert not codes.suits(chosen, 1)  # most rows were read all the same, so codes were given up
    elif shape != "sizes":
        assert codes.rows > int(chosen[-1])
    if shape == "plain":
        held = codes.cover(table, 0, int(chosen[-1]) + 1)
        kept = codes.candidates(held, chosen, queries[0], exact.METRICS[metric], 10, -np.inf)
        assert len(kept) < len(chosen) / 3  # observed: 12 to 58 of some 560


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_bounds_hold_for_every_row(metric):
    """With k of 1 and the row's own score as the threshold, no row is left out."""
    rng = np.random.default_rng(5)
    rows = rows_of("shifted", rng)
    norms, docids = np.linalg.norm(rows, axis=1).astype(np.float32), np.arange(ROWS, dtype=np.uint32)
    table = np.zeros((1, TABLE_WIDTH), np.int64)
    for column, value in {LAST: ROWS - 1, COUNT: ROWS, DATA: rows.ctypes.data, NORMS: norms.ctypes.data}.items():
        table[0, column] = value
    codes, query = tail.TailCodes(Dense(DIM, metric), 0, 0), rng.standard_normal(DIM).astype(np.float32)
    for _ in range(3):
        held = codes.cover(table, 0, ROWS)
    heaps, sizes = np.empty((1, ROWS), np.int64), np.zeros(1, np.int64)
    dense.dense_topk(table, query[None], False, exact.METRICS[metric], docids[:0], False, 0, 1, heaps, sizes)
    found, scores = exact.unpacked(heaps[0])
    for docid, score in zip(found[::7].tolist(), scores[::7].tolist(), strict=True):
        one = docids[docid : docid + 1]
        assert codes.candidates(held, one, query, exact.METRICS[metric], 1, score).tolist() == [docid]


def test_rows_that_are_too_long_for_a_code_are_always_scored():
    rows = np.full((2, DIM), 1e20, np.float32)
    mean, codes = np.zeros(DIM, np.float32), np.zeros((2, 64), np.uint8)
    facts, states = np.zeros((2, kernel.FACTS), np.float32), np.zeros(2, np.uint8)
    table = np.zeros((1, TABLE_WIDTH), np.int64)
    table[0, LAST], table[0, COUNT], table[0, DATA] = 1, 2, rows.ctypes.data
    kernel.code_tail(table, False, False, 0, 2, 0, mean, codes, facts, states)
    assert states.tolist() == [kernel.PLAIN] * 2
    out, docids = np.empty(2, np.uint32), np.arange(2, dtype=np.uint32)
    assert kernel.tail_candidates(codes, facts, states, 0, docids, rows[0], mean, dense.DOT, 1, 1e30, out) == 2


@pytest.mark.parametrize("metric", ["cosine", "l2", "dot"])
def test_searches_with_a_coded_tail_equal_exact_ones(tmp_path, metric):
    """With updates, deletes, filters, an index that takes rows over, another process's view, and a batch."""
    rng = np.random.default_rng(7)
    schema = Schema({"v": Dense(DIM, metric), "w": Dense(DIM, metric)}, {"i": Int()})

    def write(low: int, high: int) -> None:
        vectors = {name: rng.standard_normal((high - low, DIM)) for name in "vw"}
        docs.upsert(ids=range(low, high), vectors=vectors, attributes={"i": range(low, high)})

    def compare(low: int) -> dict:
        """Of the rows from ``low`` on, which are all without an index."""
        for field in "vw":
            queries = rng.standard_normal((3, DIM))
            for condition in (F("i") >= low, F("i") >= low + 50):
                for query in queries:
                    want = docs.search({field: query}, filter=condition, exact=True)
                    for _ in range(2):
                        got = docs.search({field: query}, filter=condition)
                        assert [(hit.id, hit.score) for hit in got] == [(hit.id, hit.score) for hit in want]
                many = docs.search_batch({field: queries}, filter=condition)
                for query, got in zip(queries, many, strict=True):
                    assert [hit.id for hit in got] == [hit.id for hit in docs.search({field: query}, filter=condition, exact=True)]
        plan = docs.search({"v": queries[0]}, filter=F("i") >= low, explain=True).plan
        assert plan["exact"] is False and "at full precision" in str(plan)
        return plan["arms"][0]["tail"]

    with vectordb.open(tmp_path / "db", durability="batched", maintenance=False) as database:
        docs = database.create_collection("docs", schema)
        write(0, 600)
        docs.optimize()
        write(600, 1_200)
        told = compare(600)
        assert told["read"] < told["rows"] == 600
        docs.delete(list(range(700, 760)))
        write(800, 900)  # updates
        write(1_200, 1_300)
        told = compare(600)
        assert told["read"] < told["rows"] == 640
        docs.optimize()
        write(1_300, 1_700)
        told = compare(1_300)
        assert told["read"] < told["rows"] == 400
        before = docs.search({"v": np.ones(DIM)}, filter=F("i") >= 1_300)
        write(1_700, 1_720)
        assert [hit.id for hit in before] == [hit.id for hit in docs.search({"v": np.ones(DIM)}, filter=F("i").between(1_300, 1_699))]
