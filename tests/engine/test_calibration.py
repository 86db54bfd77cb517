"""The sample that scores are calibrated by, and the depth of lists whose number of candidates was given."""

from __future__ import annotations

import numpy as np

import vectordb
from vectordb import Dense, Int, Schema
from vectordb.filters.cache import FilterCache
from vectordb.query.calibration import SAMPLE, background

ROWS = np.random.default_rng(9).standard_normal((3_000, 4)).astype(np.float32)
QUERY = ROWS[0] + 0.5


def sample_of(docs):
    with docs._snapshots.pin() as view:
        return background(view, "v", FilterCache()).tolist()


def test_the_sample_is_the_same_in_each_process_and_changes_little(tmp_path):
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        docs = database.create_collection("docs", Schema({"v": Dense(4)}, {"n": Int()}))
        docs.upsert(ids=list(range(3_000)), vectors={"v": ROWS})
        docs.upsert(ids=[5_000], attributes={"n": [1]})  # without a vector
        sample = sample_of(docs)
        hashes = sorted((docid * 0x9E3779B97F4A7C15 % 2**64, docid) for docid in range(3_000))
        assert sample == sorted(docid for _, docid in hashes[:SAMPLE])
        scores = {i: float(s) for i, s in zip(*_columns(docs.search({"v": QUERY}, limit=3_000, exact=True)), strict=True)}
        background_scores = np.array([scores[docid] for docid in sample])
        for hit in docs.search({"v": QUERY}, limit=50, score="calibrated"):
            assert hit.score == np.mean(background_scores < scores[hit.id])
        docs.delete(sample[:5])
        docs.upsert(ids=[6_000], vectors={"v": ROWS[:1]})
        later = sample_of(docs)
        assert len(later) == SAMPLE and len(set(sample[5:]) - set(later)) <= 1
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        assert sample_of(database.collection("docs")) == later


def _columns(hits):
    return hits.ids.tolist(), hits.scores.tolist()


def test_lists_are_as_deep_as_the_candidates_that_were_given(tmp_path):
    """Otherwise the depth follows what was measured of such searches, which depends on their limit."""
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        docs = database.create_collection("docs", Schema({"v": Dense(4), "w": Dense(4)}))
        docs.upsert(ids=list(range(3_000)), vectors={"v": ROWS, "w": ROWS[::-1]})
        docs.optimize()
        query = {"v": QUERY, "w": QUERY}
        assert "lists" in docs.search(query, explain=True).plan["fusion"]
        first = docs.search(query, candidates=50)
        for limit in (10, 50):
            hits = docs.search(query, candidates=50, limit=limit, explain=True)
            assert "lists" not in hits.plan["fusion"] and list(hits)[:10] == list(first)
