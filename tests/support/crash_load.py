"""A seeded load that uses every kind of write, and a model of it: the state that a killed process must have left.

Step k is determined by the number k and by the operation to favour. So the parent process can compute what a killed process did.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import numpy as np

import vectordb
from tests.support.upkeep import hurry
from vectordb import Dense, Int, Keyword, Schema, Sparse, Text
from vectordb.common import failpoints
from vectordb.storage import compact, store

IDS = 200
DIM = 8
SCHEMA = Schema({"v": Dense(DIM), "s": Sparse()}, {"step": Int(), "tag": Keyword(), "body": Text()})
OTHER = Schema({"v": Dense(2)}, {"n": Int()})
WORDS = ["red", "green", "blue", "fox", "dog"]
MOST_FIELDS = 12


class Model:
    """The expected content after a step. points: id → (step that wrote it, tag)."""

    def __init__(self):
        self.points: dict[int, tuple[int, str]] = {}
        self.sequence = 0
        self.fields: list[str] = []
        self.others: list[str] = []
        self.written: dict[str, int] = {}  # other collection → step of its last transaction

    def after(self, k: int, favoured: str | None) -> tuple[Model, Callable]:
        """(model after step k, function that does step k on a database)."""
        model = copy.deepcopy(self)
        return model, model._step(k, favoured)

    def _step(self, k: int, favoured: str | None) -> Callable:
        rng = random.Random(k)
        kinds = ["upsert"] * 5 + ["update", "delete", "delete_by_filter", "transact", "optimize", "create", "drop", "rename"]
        kinds += ["add_field", "change_field"]
        kind = favoured if favoured and rng.random() < 0.6 else rng.choice(kinds)
        return getattr(self, f"_{kind}")(k, rng)

    def _upsert(self, k: int, rng: random.Random) -> Callable:
        ids = rng.sample(range(IDS), rng.choice([1, 5, 40]))
        tags = [f"t{rng.randrange(20)}" for _ in ids]
        self.points.update(zip(ids, ((k, tag) for tag in tags), strict=True))
        self.sequence += 1
        attributes = {"step": [k] * len(ids), "tag": tags, "body": [f"{WORDS[i % 5]} {WORDS[k % 5]} w{i}" for i in ids]}
        attributes |= {name: [k] * len(ids) for name in self.fields}
        vectors = {"v": dense(ids, k), "s": [{i: 1.0, IDS: 2.0} for i in ids]}
        return lambda database: database.collection("c").upsert(ids=ids, vectors=vectors, attributes=attributes)

    def _update(self, k: int, rng: random.Random) -> Callable:
        ids = rng.sample(sorted(self.points), min(len(self.points), 20))
        if not ids:
            return self._upsert(k, rng)
        self.points.update({i: (k, self.points[i][1]) for i in ids})
        self.sequence += 1
        return lambda database: database.collection("c").update(ids=ids, vectors={"v": dense(ids, k)}, attributes={"step": [k] * len(ids)})

    def _delete(self, k: int, rng: random.Random) -> Callable:
        return self._gone(rng.sample(sorted(self.points), min(len(self.points), rng.randint(1, 10))))

    def _delete_by_filter(self, k: int, rng: random.Random) -> Callable:
        tag = f"t{rng.randrange(20)}"
        self._gone([i for i, point in self.points.items() if point[1] == tag])
        return lambda database: database.collection("c").delete(filter=f"tag = '{tag}'")

    def _gone(self, ids: list[int]) -> Callable:
        for i in ids:
            del self.points[i]
        self.sequence += bool(ids)
        return lambda database: database.collection("c").delete(ids)

    def _transact(self, k: int, rng: random.Random) -> Callable:
        """Points of several collections, each of which exists only with the others."""
        if not self.others:
            return self._create(k, rng)
        ids, other = rng.sample(range(IDS), 3), rng.choice(self.others)
        self.points.update(dict.fromkeys(ids, (k, "both")))
        gone = sorted(self.points)[0]
        del self.points[gone]
        self.sequence += 2
        self.written[other] = k
        attributes = {"step": [k] * len(ids), "tag": ["both"] * len(ids)} | {name: [k] * len(ids) for name in self.fields}

        def transact(database):
            with database.transaction() as t:
                t["c"].upsert(ids=ids, vectors={"v": dense(ids, k), "s": [{i: 1.0, IDS: 2.0} for i in ids]}, attributes=attributes)
                t[other].upsert(ids=[1], vectors={"v": [[k, 1]]}, attributes={"n": [k]})
                t["c"].delete(gone)

        return transact

    def _optimize(self, k: int, rng: random.Random) -> Callable:
        return lambda database: database.collection("c").optimize()

    def _create(self, k: int, rng: random.Random) -> Callable:
        self.others.append(f"other{k}")

        def create(database):
            database.create_collection(f"other{k}", OTHER)

        return create

    def _drop(self, k: int, rng: random.Random) -> Callable:
        if not self.others:
            return self._create(k, rng)
        name = self.others.pop(0)
        self.written.pop(name, None)
        return lambda database: database.drop_collection(name)

    def _rename(self, k: int, rng: random.Random) -> Callable:
        if not self.others:
            return self._create(k, rng)
        name = self.others.pop(0)
        self.others.append(f"other{k}")
        if name in self.written:
            self.written[f"other{k}"] = self.written.pop(name)

        def rename(database):
            database.rename_collection(name, f"other{k}")

        return rename

    def _add_field(self, k: int, rng: random.Random) -> Callable:
        if len(self.fields) >= MOST_FIELDS:  # then the field is added to another collection
            if not self.others:
                return self._create(k, rng)
            name = self.others[-1]
            return lambda database: database.collection(name).add_fields(attributes={f"f{k}": Int()})
        self.fields.append(f"f{k}")
        self.sequence += 1
        return lambda database: database.collection("c").add_fields(attributes={f"f{k}": Int()})

    def _change_field(self, k: int, rng: random.Random) -> Callable:
        if not self.fields:
            return self._add_field(k, rng)
        self.sequence += 1
        name = self.fields[0]
        if rng.random() < 0.5:
            self.fields[0] = f"f{k}"
            return lambda database: database.collection("c").rename_fields({name: f"f{k}"})
        del self.fields[0]
        return lambda database: database.collection("c").drop_fields(name)

    def holds_in(self, database) -> bool:
        """Whether a database has exactly this content."""
        c = database.collection("c")
        if database.collections() != sorted(["c", *self.others]) or c.info().sequence != self.sequence:
            return False
        if list(c.schema.attributes) != [*SCHEMA.attributes, *self.fields]:
            return False
        others = {name: database.collection(name).get(1) for name in self.others}
        if {name: point.attributes["n"] for name, point in others.items() if point is not None} != self.written:
            return False
        found = {}
        for point in c.iterate(with_vectors=["v"]):
            assert point.vectors["v"].tolist() == dense([point.id], point.attributes["step"])[0].tolist()
            found[point.id] = (point.attributes["step"], point.attributes["tag"])
        return found == self.points

    def assert_found_by_searches(self, database) -> None:
        """Check that filters and indexed searches find what exact searches find."""
        c = database.collection("c")
        for tag in sorted({tag for _, tag in self.points.values()})[:3]:
            assert c.count(f"tag = '{tag}'") == sum(point[1] == tag for point in self.points.values())
        assert c.count("body MATCH 'fox'") <= c.count() == len(self.points)
        for query in ({"v": np.linspace(-1, 1, DIM, dtype=np.float32)}, {"s": {3: 1.0, IDS: 0.1}}):
            wanted = min(10, len(self.points))
            exact, found = (c.search(query, limit=10, exact=exact) for exact in (True, False))
            assert len(exact) == len(found) == wanted
            assert wanted == 0 or sum(hit.score >= exact[-1].score - 1e-5 for hit in found) >= 0.9 * wanted


def dense(ids, k: int) -> np.ndarray:
    """Vectors from which the step that wrote them can be computed."""
    rows = np.random.default_rng(3).standard_normal((IDS, DIM)).astype(np.float32)[ids]
    rows[:, 0] = k
    return rows


def small(patch) -> None:
    """Set sizes and thresholds so low that little data causes all kinds of work. patch: a MonkeyPatch."""
    hurry(patch, SEAL_ROWS=32)
    for module in (store, compact):
        patch.setattr(module, "CHUNK_BYTES", 3_000)
        patch.setattr(module, "POSTINGS_BYTES", 3_000)


def write_on(path: str, done: int, model: Model, favoured: str | None, connection, name: str | None, nth: int, durability: str) -> None:
    """Continue after step ``done`` and report every completed step, until failpoint ``name`` is reached for the nth time (or forever)."""
    import pytest

    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        with vectordb.open(path, durability=durability, maintenance=False) as database:
            if name is not None:
                failpoints.arm(name, failpoints.kill_at(nth))
            connection.send(done)
            for k in range(done + 1, done + 200):
                model, do = model.after(k, favoured)
                do(database)
                connection.send(k)
