"""Merges that keep what the largest segment has learned: in the background, by ``optimize``, after kills, beside another process; and a
purge, after which nothing of erased rows is left.
"""

from __future__ import annotations

import logging
import os
import signal

import numpy as np
import pytest

import vectordb
from tests.support import forked
from tests.support.upkeep import accounts, hurry, index_files
from tests.support.upkeep import until as wait_for
from vectordb import IVF, Dense, Int, Schema
from vectordb.common import failpoints
from vectordb.engine.check import check
from vectordb.index.base import open_file
from vectordb.index.dense import build, calibrate, healing
from vectordb.index.lists import build as lists_build
from vectordb.index.lists import calibrate as lists_calibrate
from vectordb.index.lists import healing as lists_healing
from vectordb.index.lists import segment

ROWS, MORE, GONE, DIM = 1_200, 150, 130, 8
KINDS = {"graph": Dense(DIM, "l2"), "lists": Dense(DIM, "l2", index=IVF())}
STEPS = {"graph": healing.STEPS, "lists": lists_healing.STEPS}
_open: dict[str, vectordb.Database] = {}


def low_bounds(patch) -> None:
    patch.setattr(build, "GRAPH_ROWS", 300)
    patch.setattr(segment, "LEAST", 300)
    for name, value in {"SELECTIVITIES": (0.3,), "QUERIES": 40, "FILTERED": 8}.items():
        patch.setattr(lists_calibrate, name, value)
        patch.setattr(calibrate, name, value)
    for name, few in {"REQUESTS": (12, 6), "OTHERS": (12, 6), "MADE": 12, "MADE_REQUESTS": (6, 4)}.items():
        patch.setattr(calibrate, name, few)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    low_bounds(monkeypatch)
    yield
    failpoints.disarm()


def rows(low: int, high: int) -> dict:
    rng = np.random.default_rng(low)
    v = (rng.integers(0, 12, (high - low, 1)) + rng.standard_normal((high - low, DIM))).astype(np.float32)
    return {"ids": list(range(low, high)), "vectors": {"v": v}, "attributes": {"n": list(range(low, high))}}


def begin(database, kind: str):
    collection = database.create_collection("c", Schema({"v": KINDS[kind]}, {"n": Int()}))
    collection.upsert(**rows(0, ROWS))
    collection.optimize()
    return collection


def change(collection) -> None:
    collection.upsert(**rows(ROWS, ROWS + MORE))
    collection.delete(list(range(0, 9 * GONE, 9)))


def segments_of(collection) -> list[dict]:
    return collection.info().statistics["v"]["segments"]


def check_searches(collection) -> None:
    queries = rows(7_000, 7_010)["vectors"]["v"]
    for condition in (None, "n < 900", "n >= 1200", "n < 40"):
        for query in queries[:4]:
            truth = collection.search({"v": query}, limit=10, exact=True, filter=condition)
            assert collection.search({"v": query}, limit=10, recall=1.0, filter=condition).ids.tolist() == truth.ids.tolist()
            assert len(collection.search({"v": query}, limit=10, filter=condition)) == len(truth)


@pytest.mark.parametrize("kind", KINDS)
def test_small_segments_are_merged_into_a_large_one_in_the_background(directory, kind, monkeypatch, caplog):
    hurry(monkeypatch)
    caplog.set_level(logging.INFO, "vectordb.maintenance")
    with vectordb.open(directory, durability="batched", maintenance=False) as database:
        collection = begin(database, kind)
        assert "healed" not in segments_of(collection)[0] and "(healed)" not in str(explained(collection))
        change(collection)
    with vectordb.open(directory, durability="batched") as database:
        collection = database.collection("c")
        until(lambda: [each.get("healed") for each in segments_of(collection)] == [1])
        until(lambda: len(index_files(directory)) == 1)
        assert accounts(collection) == ([(0, ROWS + MORE, ROWS + MORE - GONE)], 0)
        check_searches(collection)
        assert explained(collection)["arms"][0]["segments"][0]["healed"] == 1 and "(healed)" in str(explained(collection))
        assert "1 healed" in str(collection.info())
        until(lambda: f"healed: {MORE} rows added, {GONE} removed" in caplog.text)
        # Dead rows alone, once they are a tenth.
        collection.delete(list(range(1, 9 * GONE, 9)))
        until(lambda: [each["healed"] for each in segments_of(collection)] == [2])
        check_searches(collection)
        until(lambda: f"healed: 0 rows added, {GONE} removed" in caplog.text)


def until(condition) -> None:
    wait_for(condition, 30)


def explained(collection):
    return collection.search({"v": np.zeros(DIM)}, explain=True).plan


@pytest.mark.parametrize("kind", KINDS)
def test_a_purge_builds_anew_what_erased_rows_have_shaped(directory, kind):
    """Afterwards the file is the one that the rows that are left give, bit for bit, but for measured times."""
    with vectordb.open(directory, durability="batched", maintenance=False) as database:
        collection = begin(database, kind)
        change(collection)
        collection.optimize()
        (facts,) = segments_of(collection)
        assert facts["healed"] == 1 and facts["dead"] == 0
        assert collection.purge()["segments_built"] == 1  # though none of its rows is dead
        assert "healed" not in segments_of(collection)[0]
        assert collection.purge()["segments_built"] == 0
        check_searches(collection)
        (name,) = index_files(directory)
        purged = open_file(directory / "indexes" / name)
        docids = np.sort(purged.docids)
        vectors = np.concatenate([rows(0, ROWS)["vectors"]["v"], rows(ROWS, ROWS + MORE)["vectors"]["v"]])[docids]
        own = build if kind == "graph" else lists_build
        own.build(directory.parent / "plain", vectors, docids, "l2", own.options_of(KINDS[kind]))
        plain = open_file(directory.parent / "plain")
        measured = {"recalls", "lows", "costs", "far_recalls", "far_costs", "distances", "scan"}
        for name in plain.sections.keys() - measured:
            np.testing.assert_array_equal(purged.sections[name], plain.sections[name])
        assert {**purged.meta, "cold": 0} == {**plain.meta, "cold": 0}


def optimize_until_killed(path: str, step: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        low_bounds(patch)
        failpoints.arm(step, lambda: os.kill(os.getpid(), signal.SIGKILL))
        with vectordb.open(path, maintenance=False) as database:
            database.collection("c").optimize()


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_step_the_merge_is_made_later(directory, kind):
    with vectordb.open(directory, durability="batched", maintenance=False) as database:
        change(begin(database, kind))
    context = forked.context()
    for step in (*STEPS[kind], "index.recorded"):
        process = context.Process(target=optimize_until_killed, args=(str(directory), step))
        process.start()
        process.join(300)
        assert process.exitcode == -signal.SIGKILL, step
        report = check(directory)
        assert (report.problems, report.notes) == ((), ()), step
        with vectordb.open(directory, create=False, maintenance=False) as database:
            collection = database.collection("c")
            assert "healed" not in segments_of(collection)[0]
            assert len(collection.search({"v": np.zeros(DIM)}, limit=5)) == 5
    with vectordb.open(directory, create=False, maintenance=False) as database:
        database.collection("c").optimize()
        assert segments_of(database.collection("c"))[0]["healed"] == 1
        check_searches(database.collection("c"))
        assert len(index_files(directory)) == 1


def theirs(path: str, query: list[float]):
    """The hits in the other process, and whether its segments are healed."""
    if path not in _open:
        _open[path] = vectordb.open(path, create=False, maintenance=False)
    collection = _open[path].collection("c")
    hits = collection.search({"v": np.array(query, np.float32)}, limit=10, recall=1.0)
    return hits.ids.tolist(), [each.get("healed") for each in segments_of(collection)]


@pytest.mark.parametrize("kind", KINDS)
def test_another_process_sees_the_earlier_file_or_the_new_one(directory, kind, worker):
    with vectordb.open(directory, durability="batched", maintenance=False) as database:
        collection = begin(database, kind)
        change(collection)
        query = rows(9_000, 9_001)["vectors"]["v"][0].tolist()
        truth = collection.search({"v": np.array(query, np.float32)}, limit=10, exact=True).ids.tolist()
        seen = []
        failpoints.arm(STEPS[kind][1], lambda: seen.append(worker.call(theirs, str(directory), query)))
        failpoints.arm("index.renamed", lambda: seen.append(worker.call(theirs, str(directory), query)))
        failpoints.arm("index.registered", lambda: seen.append(worker.call(theirs, str(directory), query)))
        collection.optimize()
        failpoints.disarm()
        assert seen == [(truth, [None])] * 2 + [(truth, [1])]
        collection.delete(truth[0])
        assert worker.call(theirs, str(directory), query)[0] == collection.search({"v": np.array(query)}, limit=10, exact=True).ids.tolist()


def test_a_file_that_cannot_be_healed_is_built_anew_and_the_log_says_why(directory, caplog):
    caplog.set_level(logging.INFO, "vectordb.maintenance")
    with vectordb.open(directory, durability="batched", maintenance=False) as database:
        collection = begin(database, "graph")
        collection.upsert(**rows(ROWS, 2 * ROWS))
        collection.optimize()
        assert "healed" not in segments_of(collection)[0]
        assert f"built anew, because {ROWS:,} rows are added to {ROWS:,}" in caplog.text
