"""Branches share chunks and index files, and are still independent: random changes of a family of collections against a model."""

from __future__ import annotations

import itertools
import os
import random
import signal

import numpy as np
import pytest

import vectordb
from tests.support import forked
from tests.support.crash_load import small
from tests.support.upkeep import hurry, index_files, until
from vectordb import Datetime, Dense, Int, Keyword, MultiVector, PreconditionError, Schema, Sparse, Text
from vectordb.common import clock, failpoints
from vectordb.engine.check import check
from vectordb.storage import branches, catalog, segments
from vectordb.storage.branches import STEPS

SCHEMA = Schema(
    {"v": Dense(4, "l2"), "m": MultiVector(2), "s": Sparse(), "t": Sparse(encoder="bm25", source="body")},
    {"n": Int(), "k": Keyword(), "body": Text()},
)
WORDS = ["ape", "bee", "cat", "dog", "eel", "fox"]
TERMS = [0x9E3779B97F4A7C15 * i % 2**64 for i in range(1, 13)]  # a purge finds small numbers everywhere
_stamps = itertools.count(1)


def rows(ids, draw: random.Random) -> list[dict]:
    """Points with random values; some lack some of them."""
    points = []
    for value in ids:
        vectors = {"v": [draw.uniform(-9, 9) for _ in range(4)]}
        if draw.random() < 0.7:
            vectors["s"] = {draw.choice(TERMS): draw.uniform(1, 10) for _ in range(3)}
        if draw.random() < 0.3:
            vectors["m"] = [[float(draw.randrange(9)), 1.0] for _ in range(draw.randrange(1, 3))]
        body = " ".join([f"u{draw.random()}", *draw.choices(WORDS, k=draw.randrange(5))])
        attributes = {"n": draw.randrange(20), "k": f"k{draw.randrange(3)}", "body": body}
        points.append({"id": value, "vectors": vectors, "attributes": attributes, "payload": {"of": value, "at": draw.random()}})
    return points


def contents(collection) -> dict:
    """id → everything that a read gives, without the version."""
    found = {}
    for point in collection.iterate(with_vectors=True):
        vectors = {
            name: tuple(part.tolist() for part in each) if type(each) is tuple else each.tolist() for name, each in point.vectors.items()
        }
        found[point.id] = (vectors, dict(point.attributes), point.payload)
    return found


def answers(collection) -> list:
    """Exact searches of all kinds, and counts of filters."""
    found = [
        collection.search({"v": [1.0, 2.0, 0.0, -3.0]}, limit=15, exact=True),
        collection.search({"v": [1.0, 2.0, 0.0, -3.0]}, limit=15, exact=True, filter="n < 9 AND k = 'k1'"),
        collection.search({"s": {TERMS[1]: 2.0, TERMS[5]: 1.0, TERMS[7]: 3.0}}, limit=15, exact=True),
        collection.search({"m": [[1.0, 0.0], [0.0, 2.0]]}, limit=15, exact=True),
        collection.search(text="fox eel", limit=15, exact=True),
    ]
    scores = [np.round(hits.scores.astype(float), 4).tolist() for hits in found]
    return [scores, collection.count("body MATCH 'cat' AND n >= 5"), collection.count("k = 'k2'"), collection.count("n = 3")]


class Family:
    """The collections of a directory, and a model of each: id → (stamp of the write, content)."""

    def __init__(self, path, seed):
        self.path, self.draw = path, random.Random(seed)
        self.database = vectordb.open(path, durability="batched", maintenance=False)
        self.database.create_collection("c0", SCHEMA)
        self.points: dict[str, dict] = {"c0": {}}
        # branch → (its original, id → (stamp there, stamp here) when both were last the same or merged)
        self.made: dict[str, tuple[str, dict]] = {}
        self.names = (f"c{i}" for i in itertools.count(1))

    def any(self):
        name = self.draw.choice(sorted(self.points))
        return name, self.database.collection(name), self.points[name]

    def upsert(self):
        _, collection, points = self.any()
        new = rows(self.draw.sample(range(120), self.draw.choice([1, 4, 40])), self.draw)
        collection.upsert(new)
        written = contents(collection)
        points.update({point["id"]: (next(_stamps), written[point["id"]]) for point in new})

    def update(self):
        _, collection, points = self.any()
        low = self.draw.randrange(20)
        n = self.draw.randrange(20)
        collection.update(filter=f"n >= {low} AND n < {low + 3}", attributes={"n": n})
        for value, (_, (vectors, attributes, payload)) in list(points.items()):
            if low <= attributes["n"] < low + 3:
                points[value] = (next(_stamps), (vectors, attributes | {"n": n}, payload))

    def delete(self):
        _, collection, points = self.any()
        ids = self.draw.sample(range(120), self.draw.choice([1, 5, 30]))
        collection.delete(ids)
        for value in ids:
            points.pop(value, None)

    def optimize(self):
        self.any()[1].optimize()

    def reopen(self):
        self.database.close()
        assert check(self.path).problems == ()
        self.database = vectordb.open(self.path, durability="batched", maintenance=False)

    def purge(self):
        done = self.any()[1].purge()
        assert not done["residue"], (done["residue"], sorted(self.points), self.made.keys())

    def branch(self):
        if len(self.points) < 4:
            source, _, points = self.any()
            name = next(self.names)
            self.database.branch(source, name)
            self.points[name] = dict(points)
            self.made[name] = (source, {value: (stamp, stamp) for value, (stamp, _) in points.items()})

    def drop(self):
        if len(self.points) > 1:
            name, _, _ = self.any()
            self.database.drop_collection(name)
            del self.points[name]
            self.made.pop(name, None)

    def changes(self, name):
        """(kind → ids, conflicts) of a branch, from the model."""
        source, agreed = self.made[name]
        mine, theirs = self.points[name], self.points[source]
        kinds, conflicts, gone = {"added": set(), "changed": set(), "deleted": set()}, set(), set()
        for value in mine.keys() | agreed.keys():
            was, had = agreed.get(value, (None, None))
            now, there = (points[value][0] if value in points else None for points in (mine, theirs))
            if now == had:
                continue
            if now is None and (was is None or there is None):
                gone |= {value} if there is None else set()
                continue
            kinds["deleted" if now is None else "changed" if was else "added"].add(value)
            if there != was:
                conflicts.add(value)
        return kinds, conflicts, gone

    def merge(self):
        open_ = sorted(name for name, (source, _) in self.made.items() if source in self.points)
        if not open_:
            return
        name = self.draw.choice(open_)
        kinds, conflicts, gone = self.changes(name)
        diff = self.database.diff(name)
        assert {kind: set(getattr(diff, kind)) for kind in kinds} == kinds and set(diff.conflicts) == conflicts
        source, agreed = self.made[name]
        choice = self.draw.choice(["error", "branch", "original"])
        if choice == "error" and conflicts:
            with pytest.raises(PreconditionError, match=f"{len(conflicts)} point"):
                self.database.merge(name)
            return
        merged = self.database.merge(name, on_conflict=choice)
        mine, theirs = self.points[name], self.points[source]
        touched = kinds["added"] | kinds["changed"] | kinds["deleted"]
        taken = touched if choice == "branch" else touched - conflicts
        assert (merged.added, merged.changed, merged.deleted, merged.conflicts) == (
            sum(value in mine and value not in theirs for value in taken),
            sum(value in mine and value in theirs for value in taken),
            sum(value not in mine for value in taken),
            len(conflicts),
        )
        for value in taken:
            if value in mine:
                theirs[value] = (next(_stamps), mine[value][1])
            else:
                del theirs[value]
        for value in touched | gone:
            agreed[value] = tuple(points[value][0] if value in points else None for points in (theirs, mine))
        assert self.database.diff(name).counts == {"added": 0, "changed": 0, "deleted": 0, "conflicts": 0}

    def check(self):
        for name, points in self.points.items():
            assert contents(self.database.collection(name)) == {value: content for value, (_, content) in points.items()}, name

    def check_searches(self):
        """Every collection answers like a new database with the same points."""
        for name, points in self.points.items():
            collection = self.database.collection(name)
            with vectordb.open(":memory:", maintenance=False) as other:
                fresh = other.create_collection("c", SCHEMA)
                fields = [dict(zip(("vectors", "attributes", "payload"), content, strict=True)) for _, content in points.values()]
                plain = [point | {"id": value} for value, point in zip(points, fields, strict=True)]
                for point in plain:
                    point["vectors"] = {field: vector for field, vector in point["vectors"].items() if field != "t"}
                fresh.upsert(plain)
                assert answers(collection) == answers(fresh), name
            hits = collection.search({"v": [1.0, 2.0, 0.0, -3.0]}, limit=5, recall=1.0)
            assert len(hits) == min(5, len(points))


@pytest.mark.parametrize("seed", range(3))
def test_a_family_behaves_like_independent_collections(directory, monkeypatch, seed):
    small(monkeypatch)
    monkeypatch.setattr(branches, "COPIED_BYTES", [0, 400, 4_096][seed])
    monkeypatch.setattr(branches, "COPIED_AT_ONCE", 37)
    family = Family(directory, seed)
    steps = [*["upsert"] * 5, *["update"] * 3, *["delete"] * 3, *["branch"] * 3, *["merge"] * 4, "drop", "optimize", "reopen"]
    for step in range(60):
        getattr(family, "upsert" if step < 3 else family.draw.choice(steps))()
        if not step % 7:
            family.check()
    family.purge()
    family.reopen()
    family.check()
    family.check_searches()
    family.database.purge()
    family.check()
    with family.database.directory.env.read() as txn:
        named = segments.named_files(txn, list(catalog.names(txn).values()))
    assert index_files(directory) == named
    family.database.close()


def filled(database, n: int = 4_000):
    docs = database.create_collection("docs", Schema({"v": Dense(64)}, {"n": Int()}))
    docs.upsert(ids=range(n), vectors={"v": np.random.default_rng(0).normal(size=(n, 64))}, attributes={"n": list(range(n))})
    return docs


def test_a_branch_shares_vectors_rows_and_index_files(directory):
    with vectordb.open(directory, maintenance=False) as database:
        docs = filled(database)
        docs.optimize()
        files, size = index_files(directory), docs.info().bytes
        before = used(database)
        branch = database.branch("docs", "next")
        assert used(database) - before < 0.2 * size
        assert branch.info().branch["shared_bytes"] > 0.99 * branch.info().bytes
        assert index_files(directory) == files
        info = branch.info().statistics["v"]
        assert info["tail"] == 0 and len(info["segments"]) == 1  # indexed without a build
        # Changes copy only what they change.
        branch.delete(list(range(10)))
        docs.update(filter="n < 100", attributes={"n": 0})
        assert used(database) - before < 0.4 * size
        assert branch.info().branch["shared_bytes"] > 0.9 * size
        # The files stay until the last of both no longer needs them.
        docs.optimize()
        docs.delete(filter="n >= 2000")
        docs.optimize()
        assert files < index_files(directory)
        assert branch.info().statistics["v"]["damaged"] == []
        database.drop_collection("docs")
        assert (
            branch.search({"v": [1.0] * 64}, limit=3, recall=1.0).ids.tolist()
            == branch.search({"v": [1.0] * 64}, limit=3, exact=True).ids.tolist()
        )
        database.drop_collection("next")
        database.purge()
        assert index_files(directory) == set()


def segments_of(collection) -> tuple[int, int, int]:
    """Numbers of segments of the field v, of those that are damaged, and of rows without an index."""
    facts = collection.info().statistics["v"]
    return len(facts["segments"]), len(facts["damaged"]), facts["tail"]


@pytest.mark.parametrize("archive", [False, True])
def test_a_snapshot_holds_a_shared_index_file_once(directory, tmp_path, archive):
    with vectordb.open(directory, maintenance=False) as database:
        filled(database).optimize()
        database.branch("docs", "next").delete([3])
        database.snapshot(tmp_path / "copy", archive=archive)
    vectordb.restore(tmp_path / "copy", tmp_path / "restored")
    with vectordb.open(tmp_path / "restored", maintenance=False) as database:
        docs, branch = database.collection("docs"), database.collection("next")
        assert segments_of(docs) == segments_of(branch) == (1, 0, 0) and len(index_files(tmp_path / "restored")) == 1
        assert (docs.count(), branch.count(), database.diff("next").deleted) == (4_000, 3_999, (3,))


def test_a_damaged_shared_index_file_is_built_again_for_both(directory):
    with vectordb.open(directory, maintenance=False) as database:
        filled(database).optimize()
        database.branch("docs", "next")
    (file,) = index_files(directory)
    (segments.folder(directory) / file).write_bytes(b"damaged")
    with vectordb.open(directory, maintenance=False) as database:
        docs, branch = database.collection("docs"), database.collection("next")
        for collection in (docs, branch):
            assert segments_of(collection) == (0, 1, 4_000)
            collection.optimize()
            assert segments_of(collection) == (1, 0, 0)
        assert len(index_files(directory)) == 2 and file not in index_files(directory)


def test_background_maintenance_builds_a_shared_file_again_for_all_that_need_it(directory, monkeypatch):
    hurry(monkeypatch)
    with vectordb.open(directory, maintenance=False) as database:
        filled(database, 300).optimize()
        database.branch("docs", "next")
    (file,) = index_files(directory)
    (segments.folder(directory) / file).write_bytes(b"damaged")
    with vectordb.open(directory) as database:
        docs, branch = database.collection("docs"), database.collection("next")
        branch.search({"v": [1.0] * 64}, limit=1)
        until(lambda: segments_of(docs) == segments_of(branch) == (1, 0, 0))
        until(lambda: file not in index_files(directory))


def test_readers_of_another_process_follow_a_chunk_that_is_given_to_the_branch(directory, worker, monkeypatch):
    small(monkeypatch)
    with vectordb.open(directory, maintenance=False) as database:
        docs = filled(database, 400)
        branch = database.branch("docs", "next")
        before = worker.call(look, str(directory))
        assert before == seen(branch)
        docs.delete(filter="n >= 20")
        docs.optimize()
        docs.upsert(ids=range(1_000, 1_400), vectors={"v": np.ones((400, 64))}, attributes={"n": [1] * 400})  # takes freed pages
        assert seen(branch) == before == worker.call(look, str(directory))
        worker.call(leave, str(directory))


_theirs: dict[str, vectordb.Database] = {}


def look(path: str) -> list:
    if path not in _theirs:
        _theirs[path] = vectordb.open(path, maintenance=False)
    return seen(_theirs[path].collection("next"))


def leave(path: str) -> None:
    _theirs.pop(path).close()


def seen(collection) -> list:
    hits = collection.search({"v": [1.0] * 64}, limit=20, exact=True)
    return [
        hits.ids.tolist(),
        hits.scores.tolist(),
        collection.count("n < 100"),
        collection.get(399, with_vectors=True).vectors["v"].tolist(),
    ]


def used(database) -> int:
    """Bytes of all records."""
    with database.directory.env.read() as txn:
        return sum(len(key) + len(value) for key, value in txn.cursor())


def test_dropping_the_original_leaves_what_branches_read_and_the_last_branch_takes_it_along(directory):
    with vectordb.open(directory, maintenance=False) as database:
        filled(database)
        one = database.branch("docs", "one")
        two = database.branch("one", "two")
        whole = used(database)
        database.drop_collection("docs")
        assert used(database) > 0.8 * whole - used_by(two) and check(directory).problems == ()
        assert one.info().branch["dropped"] and not two.info().branch["dropped"]
        with pytest.raises(PreconditionError, match="the original of branch 'one', collection 'docs', was dropped"):
            database.merge("one")
        database.create_collection("docs", Schema({"v": Dense(64)}, {"n": Int()}))  # of the same name, but another one
        with pytest.raises(PreconditionError, match="was dropped"):
            database.diff("one")
        database.drop_collection("one")
        assert len(two.scroll(limit=5_000).points) == 4_000 and check(directory).problems == ()
        database.drop_collection("two")
        assert used(database) < 2_000


def used_by(collection) -> int:
    """Bytes of the records of a collection."""
    with collection._snapshots.pin() as view:
        prefix = collection.number.to_bytes(4, "big")
        return sum(len(key) + len(value) for key, value in view.txn.cursor() if bytes(key).startswith(prefix))


def test_a_purge_erases_deleted_points_in_the_whole_family_and_nothing_that_a_branch_has(directory):
    def held() -> list[int]:
        data = (directory / "data.mdb").read_bytes()
        assert [f"point-{i:04d}".encode() in data for i in range(5)] == [f"secret {i}.".encode() in data for i in range(5)]
        return [i for i in range(5) if f"secret {i}.".encode() in data]

    with vectordb.open(directory, maintenance=False) as database:
        docs = database.create_collection("docs", Schema({}, {"n": Int()}))
        docs.upsert([{"id": f"point-{i:04d}", "attributes": {"n": i}, "payload": f"secret {i}." + "x" * 300} for i in range(100)])
        docs.delete(["point-0000"])
        branch = database.branch("docs", "next")
        docs.delete(["point-0001", "point-0002"])
        branch.delete(["point-0002", "point-0003"])
        assert docs.purge()["proven"] and held() == [1, 3, 4]
        assert branch.get("point-0001") is not None and docs.get("point-0003") is not None
        assert database.diff("next").deleted == ("point-0003",)
        database.merge("next")
        assert branch.purge()["proven"] and held() == [1, 4]


def test_points_that_end_are_no_changes(directory, monkeypatch):
    now = [1_000_000_000]
    monkeypatch.setattr(clock, "now", lambda: now[0])
    with vectordb.open(directory, maintenance=False) as database:
        docs = database.create_collection("docs", Schema({}, {"until": Datetime(), "n": Int()}, ttl="until"))
        ends = np.array([2_000_000_000, 9_000_000_000], "datetime64[us]")
        docs.upsert(ids=[1, 2], attributes={"until": [ends[0].item(), ends[1].item()], "n": [1, 1]})
        branch = database.branch("docs", "next")
        docs.update(ids=[1], attributes={"until": [ends[1].item()]})
        branch.update(ids=[2], attributes={"n": [5]})
        now[0] = 3_000_000_000
        assert (branch.count(), docs.count()) == (1, 2)
        merged = database.merge("next")
        assert (merged.changed, merged.deleted, merged.conflicts) == (1, 0, 0) and docs.get(1) is not None


def test_fields_of_both_sides_fit_or_are_refused(directory):
    with vectordb.open(directory, maintenance=False) as database:
        docs = filled(database, 50)
        branch = database.branch("docs", "next")
        branch.add_fields(vectors={"w": Dense(3)}, attributes={"tag": Keyword()})
        branch.update(ids=[1], vectors={"w": [[1, 2, 3]]}, attributes={"tag": ["new"]})
        docs.add_fields(attributes={"more": Int()})
        assert database.merge("next").changed == 1
        assert docs.get(1, with_vectors=True).vectors["w"].tolist() == [1, 2, 3] and docs.count("tag = 'new'") == 1
        branch.add_fields(attributes={"other": Int()})
        docs.add_fields(attributes={"other": Keyword()})
        with pytest.raises(vectordb.SchemaError, match="define field 'other' differently"):
            database.merge("next")
        docs.drop_fields("other")
        docs.rename_fields({"n": "number"})
        with pytest.raises(vectordb.SchemaError, match="n isn't there in the original"):
            database.merge("next")
        branch.rename_fields({"n": "number"})
        branch.update(ids=[2], attributes={"number": [77]})
        database.merge("next")
        assert docs.get(2).attributes["number"] == 77
        branch.drop_fields("number")
        with pytest.raises(vectordb.SchemaError, match="number isn't there on the branch"):
            database.merge("next")


def change_until_killed(path: str, step: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        patch.setattr(branches, "COPIED_BYTES", 0)
        with vectordb.open(path, maintenance=False) as database:
            failpoints.arm(step, lambda: os.kill(os.getpid(), signal.SIGKILL))
            docs, branch = database.collection("docs"), database.collection("next")
            if step.startswith("branch."):
                database.branch("docs", "third")
            elif step.startswith("merge."):
                database.merge("next")
            else:
                docs.upsert(rows(range(1_000, 1_200), random.Random(3)))
                docs.delete(filter="n < 10")
                docs.optimize()
            del branch


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_both_collections_are_as_before(directory, monkeypatch, step):
    small(monkeypatch)
    monkeypatch.setattr(branches, "COPIED_BYTES", 0)
    with vectordb.open(directory, maintenance=False) as database:
        docs = database.create_collection("docs", SCHEMA)
        docs.upsert(rows(range(150), random.Random(1)))
        branch = database.branch("docs", "next")
        branch.upsert(rows(range(100, 200), random.Random(2)))
        branch.delete(list(range(20)))
        before = contents(docs), contents(branch)
    process = forked.context().Process(target=change_until_killed, args=(str(directory), step))
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    assert check(directory).problems == ()
    with vectordb.open(directory, maintenance=False) as database:
        docs, branch = database.collection("docs"), database.collection("next")
        assert database.collections() == ["docs", "next"]
        if not step.startswith("share."):
            assert contents(docs) == before[0]
        assert contents(branch) == before[1]
        database.merge("next", on_conflict="branch")
        assert {value: content for value, content in contents(docs).items() if value < 1_000} == before[1] | {
            value: content for value, content in contents(docs).items() if 20 <= value < 100
        }
