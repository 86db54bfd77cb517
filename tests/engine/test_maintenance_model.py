"""Random writes, maintenance in two processes, lost files and reopening: exact answers equal the model's, rows are not duplicated."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest

import vectordb
from tests.support.nightly import cases
from tests.support.upkeep import accounts, hurry, index_files, until
from vectordb import IVF, Dense, Int, Keyword, Linear, Schema, Sparse
from vectordb.engine.check import check
from vectordb.index.dense import build, calibrate
from vectordb.index.lists import calibrate as lists_calibrate
from vectordb.index.lists import segment
from vectordb.storage import compact, segments, store

SCHEMA = Schema({"v": Dense(4, "l2"), "w": Dense(3, "dot", "float16", index=IVF()), "s": Sparse()}, {"n": Int(), "k": Keyword()})
STEPS = cases(40, 60)
RUNS = int(os.environ.get("VECTORDB_MAINTENANCE_RUNS", "4"))
_open: dict[str, vectordb.Database] = {}
_patches = pytest.MonkeyPatch()


def small(patch, seed: int) -> None:
    """Small chunks and segments, of other sizes in each run."""
    draw = random.Random(seed)
    sizes = {"SEAL_ROWS": draw.choice([20, 60]), "MAX_ROWS": draw.choice([80, 10_000]), "OPTIMIZE_ROWS": draw.choice([1, 30])}
    hurry(patch, **sizes, SEAL_ALWAYS_ROWS=draw.choice([50, 10_000]), COMPACT_BYTES=draw.choice([3_000, 100_000]))
    if seed % 2:  # merges heal files
        patch.setattr(build, "GRAPH_ROWS", 20)
        patch.setattr(segment, "LEAST", 20)
        for module in (calibrate, lists_calibrate):
            for name, few in {"QUERIES": 8, "FILTERED": 4, "SELECTIVITIES": (0.3,)}.items():
                patch.setattr(module, name, few)
    for module in (store, compact):
        patch.setattr(module, "CHUNK_BYTES", draw.choice([800, 5_000]))
        patch.setattr(module, "POSTINGS_BYTES", 1_500)


def elsewhere(path: str, seed: int, method: str, arguments: dict):
    """A method of the collection, in the other process, which maintains as well."""
    if method == "close":
        _patches.undo()
        if path in _open:
            _open.pop(path).close()
        return None
    if path not in _open:
        small(_patches, seed)
        _open[path] = vectordb.open(path, durability="batched", create=False)
    collection = _open[path].collection("c")
    if method == "accounts":
        return [accounts(collection, name) for name in SCHEMA.vectors]
    return getattr(collection, method)(**arguments)


def score(name: str, vector, query) -> float:
    if name == "s":
        return sum(weight * query.get(term, 0.0) for term, weight in vector.items())
    return float(((vector - query) ** 2).sum()) if name == "v" else float(vector @ query)


class Run:
    def __init__(self, directory, worker, seed):
        self.path, self.worker, self.seed = str(directory), worker, seed
        self.draw, self.rng = random.Random(seed), np.random.default_rng(seed)
        self.points: dict[int, tuple] = {}
        self.database = vectordb.open(self.path, durability="batched")
        self.collection = self.database.create_collection("c", SCHEMA)

    def call(self, method, **arguments):
        if self.draw.random() < 0.25:
            return self.worker.call(elsewhere, self.path, self.seed, method, arguments)
        return getattr(self.collection, method)(**arguments)

    def upsert(self):
        ids = self.draw.sample(range(400), self.draw.choice([1, 5, 40, 90]))
        v = self.rng.integers(-9, 10, (len(ids), 4)).astype(np.float32)
        w = [None if self.draw.random() < 0.3 else row for row in self.rng.integers(-9, 10, (len(ids), 3)).astype(np.float32)]
        s = [None if self.draw.random() < 0.3 else self.sparse(6) for _ in ids]
        n, k = [self.draw.randrange(50) for _ in ids], [f"k{self.draw.randrange(3)}" for _ in ids]
        self.call("upsert", ids=ids, vectors={"v": v, "w": w, "s": s}, attributes={"n": n, "k": k})
        self.points.update({i: (v[row], w[row], s[row], n[row], k[row]) for row, i in enumerate(ids)})

    def sparse(self, most):
        """Some of 12 terms, with small whole weights."""
        return {self.draw.randrange(12): float(self.draw.randrange(1, 10)) for _ in range(self.draw.randrange(most))}

    def delete(self):
        ids = self.draw.sample(range(400), self.draw.choice([1, 20, 100]))
        self.call("delete", ids=ids)
        for i in ids:
            self.points.pop(i, None)

    def update(self):
        ids = self.draw.sample(sorted(self.points), min(len(self.points), 5))
        n = [self.draw.randrange(50) for _ in ids]
        self.call("update", ids=ids, attributes={"n": n})
        for i, value in zip(ids, n, strict=True):
            self.points[i] = (*self.points[i][:3], value, self.points[i][4])

    def optimize(self):
        assert self.call("optimize", timeout=60)["done"]

    def optimize_later(self):
        assert self.call("optimize", wait=False)["done"] is False

    def reopen(self):
        self.database.close()
        self.database = vectordb.open(self.path, durability="batched", maintenance=self.draw.random() < 0.8)
        self.collection = self.database.collection("c")

    def lose_a_file(self):
        """Only where nobody has it open: what is mapped stays readable."""
        self.database.close()
        self.worker.call(elsewhere, self.path, self.seed, "close", {})
        names = sorted(index_files(self.database.directory.env.path))
        if names:
            (segments.folder(self.database.directory.env.path) / self.draw.choice(names)).unlink()
        self.reopen()

    def check(self):
        query = {"v": self.rng.integers(-9, 10, 4).astype(np.float32), "w": self.rng.integers(-9, 10, 3).astype(np.float32)}
        query["s"] = self.sparse(4)
        limit, upto = self.draw.choice([1, 10, 500]), self.draw.choice([None, 10, 30])
        condition = None if upto is None else f"n < {upto}"
        for at, name in enumerate(SCHEMA.vectors):
            scores = {
                i: score(name, p[at], query[name])
                for i, p in self.points.items()
                if p[at] is not None and (upto is None or p[3] < upto) and (name != "s" or p[at].keys() & query["s"].keys())
            }
            best = sorted(scores.values(), reverse=name != "v")[:limit]
            hits = self.call("search", vectors={name: query[name]}, limit=limit, filter=condition, exact=True)
            assert [hit.score for hit in hits] == best  # small whole numbers: no rounding
            assert all(scores[hit.id] == hit.score and hit.attributes["n"] == self.points[hit.id][3] for hit in hits)
            near = self.call("search", vectors={name: query[name]}, limit=limit, filter=condition)
            assert len(near) == len(best) and all(scores[hit.id] == hit.score for hit in near)
        self.check_both(query, limit, upto)
        assert self.call("count", filter="k = 'k1'") == sum(p[4] == "k1" for p in self.points.values())
        for name in SCHEMA.vectors:
            accounts(self.collection, name)

    def check_both(self, query, limit, upto):
        """Two arms in one search: the best sums of all points, which small whole numbers add up to without rounding."""
        sums = {}
        for i, (_, w, s, n, _) in self.points.items():
            parts = [score("w", w, query["w"])] if w is not None else []
            if s is not None and s.keys() & query["s"].keys():
                parts.append(2 * score("s", s, query["s"]))
            if parts and (upto is None or n < upto):
                sums[i] = sum(parts)
        arms = {"vectors": {"w": query["w"], "s": query["s"]}, "fusion": Linear({"s": 2.0})}
        hits = self.call("search", **arms, limit=limit, filter=None if upto is None else f"n < {upto}")
        assert [hit.score for hit in hits] == sorted(sums.values(), reverse=True)[:limit]
        assert all(sums[hit.id] == hit.score == sum(said.contribution for said in hit.arms.values()) for hit in hits)


@pytest.mark.parametrize("seed", range(RUNS))
def test_answers_are_the_models_whatever_is_maintained(directory, worker, monkeypatch, seed):
    small(monkeypatch, seed)
    run = Run(directory, worker, seed)
    steps = [run.upsert] * 5 + [run.delete] * 3 + [run.update, run.optimize, run.optimize_later, run.reopen, run.lose_a_file]
    try:
        for _ in range(STEPS):
            run.draw.choice(steps)()
            run.check()
        run.optimize()
        run.check()
        worker.call(elsewhere, run.path, seed, "accounts", {})
        assert sorted(point.id for point in run.collection.iterate()) == sorted(run.points)
        until(lambda: check(directory).notes == ())
    finally:
        worker.call(elsewhere, run.path, seed, "close", {})
        run.database.close()
