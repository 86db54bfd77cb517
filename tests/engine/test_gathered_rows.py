"""Few rows of many chunks are copied one by one; many are read chunk by chunk. Both find the same vectors."""

from __future__ import annotations

import numpy as np
import pytest

import vectordb
from vectordb import Dense, Schema
from vectordb.storage import tables

N = 1_500


@pytest.fixture
def docs(directory):
    schema = Schema({"v": Dense(200), "half": Dense(400, dtype="float16"), "some": Dense(300)})
    with vectordb.open(directory, durability="batched", maintenance=False) as database:
        yield database.create_collection("docs", schema)


def test_the_vectors_of_some_rows(docs, monkeypatch):
    rng = np.random.default_rng(1)
    known = {
        name: rng.standard_normal((N, dim)).astype(dtype)
        for name, dim, dtype in (("v", 200, "f4"), ("half", 400, "f2"), ("some", 300, "f4"))
    }
    rows = np.arange(N)
    docs.upsert(ids=rows, vectors={name: known[name] for name in ("v", "half")})
    docs.update(ids=rows[::3], vectors={"some": known["some"][::3]})  # rows that are written again, and chunks that list their rows
    docs.delete(rows[100:600:2].tolist())
    alive = np.setdiff1d(rows, rows[100:600:2])
    copied, gathered = 0, tables.ChunkTable._gathered

    def counted(*given):
        nonlocal copied
        copied += 1
        return gathered(*given)

    monkeypatch.setattr(tables.ChunkTable, "_gathered", counted)
    for _ in range(2):
        for few, count in ((32, 1), (32, 12), (32, 60), (0, 60), (32, 1_000)):
            monkeypatch.setattr(tables, "_FEW_ROWS", few)
            ids = rng.choice(alive, count, replace=False).tolist()
            for point in docs.get(ids, with_vectors=True):
                assert set(point.vectors) == ({"v", "half", "some"} if point.id % 3 == 0 else {"v", "half"})
                assert all(np.array_equal(vector, known[name][point.id]) for name, vector in point.vectors.items())
        docs.purge()
    assert copied > 3
