"""A process that dies at any step of a build or a compaction loses nothing, and the next one finishes the work."""

from __future__ import annotations

import multiprocessing
import os

import numpy as np
import pytest
from upkeep import accounts, hurry, index_files, vectors

import vectordb
from vectordb import Dense, Int, Keyword, Schema, Sparse, Text
from vectordb.index import build as builder
from vectordb.maintenance import policy, tasks
from vectordb.storage import chunks, compact, segments, store
from vectordb.storage.check import check
from vectordb.storage.env import Env

SCHEMA = Schema({"v": Dense(4), "s": Sparse()}, {"n": Int(), "k": Keyword(), "t": Text()})
DIED = 77


def make(directory) -> None:
    """Two segments and dead rows in them, more rows after them, and chunks of which many are dead."""
    rng = np.random.default_rng(0)
    with vectordb.open(directory, maintenance=False) as database:
        c = database.create_collection("c", SCHEMA)
        for turn in range(2):
            fill(c, rng, range(100 * turn, 100 * turn + 100))
            with pytest.MonkeyPatch.context() as patch:
                hurry(patch, MAX_SEGMENT_ROWS=100)
                c.optimize()
        assert len(accounts(c)[0]) == 2
        fill(c, rng, range(180, 260))
        c.delete(list(range(0, 200, 3)))


def fill(collection, rng, ids) -> None:
    ids = list(ids)
    attributes = {"n": ids, "k": [f"k{i % 3}" for i in ids], "t": [f"word{i % 5} again" for i in ids]}
    collection.upsert(ids=ids, vectors={"v": vectors(rng, len(ids)), "s": [{i % 7: 1.0, 50 + i: 2.0} for i in ids]}, attributes=attributes)


def said(collection) -> list:
    queries = ({"v": np.array([1, 0, -1, 2], np.float32)}, {"s": {3: 1.0, 60: 1.0}})
    return [
        [(p.id, p.attributes, p.version, p.vectors["v"].tolist()) for p in collection.iterate(with_vectors=["v"])],
        [[(h.id, h.score) for h in collection.search(query, limit=50, exact=True)] for query in queries],
        [collection.count(condition) for condition in ("k = 'k1'", "n > 120", "t MATCH 'word3'", "NOT n = 4")],
    ]


def die(*_, **__):
    os._exit(DIED)


def before(owner, name, nth=1):
    """Die at the nth call."""
    whole, calls = getattr(owner, name), iter(range(1, 10**6))

    def dying(*arguments, **named):
        return die() if next(calls) == nth else whole(*arguments, **named)

    setattr(owner, name, dying)


def after(owner, name, nth=1):
    """Die when the nth call has returned."""
    whole, calls = getattr(owner, name), iter(range(1, 10**6))

    def dying(*arguments, **named):
        result = whole(*arguments, **named)
        return die() if next(calls) == nth else result

    setattr(owner, name, dying)


def half_written():
    def build(path, *_):
        path.write_bytes(b"half a file")
        die()

    builder.build = build


STEPS = {
    "rows copied": lambda: after(tasks, "rows_to_index"),
    "file half written": half_written,
    "file written": lambda: after(builder, "build"),
    "file renamed": lambda: before(tasks, "sync_folder"),
    "folder synced": lambda: after(tasks, "sync_folder"),
    "registry changed, not committed": lambda: after(segments, "replace"),
    "registry committed": lambda: after(Env, "write"),
    "compaction planned": lambda: after(tasks, "runs_to_compact"),
    **{f"compaction, chunk {nth}": (lambda nth=nth: before(chunks, "encode", nth)) for nth in (1, 2, 5, 9)},
    "compaction, chunks written": lambda: after(compact, "rewrite"),
    **{f"compaction, transaction {nth}": (lambda nth=nth: after(tasks, "compact_batch", nth)) for nth in (1, 2, 4)},
}


def small() -> None:
    for module in (store, compact):
        module.CHUNK_BYTES = module.POSTINGS_BYTES = 3_000
    policy.COMPACT_BYTES = 6_000


def run_until_killed(path: str, step: str) -> None:
    small()
    with pytest.MonkeyPatch.context() as patch:
        hurry(patch)
        database = vectordb.open(path, maintenance=False)
        STEPS[step]()
        database.collection("c").optimize()
    os._exit(0)  # it never came to the step


@pytest.mark.parametrize("step", STEPS)
def test_nothing_is_lost_and_the_work_is_done_by_the_next(directory, monkeypatch, step):
    for module in (store, compact):
        monkeypatch.setattr(module, "CHUNK_BYTES", 3_000)
        monkeypatch.setattr(module, "POSTINGS_BYTES", 3_000)
    make(directory)
    with vectordb.open(directory, maintenance=False) as database:
        right = said(database.collection("c"))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_maintenance_crash"])
    process = context.Process(target=run_until_killed, args=(str(directory), step))
    process.start()
    process.join(120)
    assert process.exitcode == DIED
    report = check(directory)
    assert report.ok and report.notes == ()
    hurry(monkeypatch)
    with vectordb.open(directory, maintenance=False) as database:
        c = database.collection("c")
        assert said(c) == right
        accounts(c)
        c.optimize()
        assert said(c) == right
        assert len(accounts(c)[0]) == 1 and accounts(c)[1] == 0 and c.info().deleted_rows == 0
        assert len(index_files(directory)) == 2  # a dense field and a sparse one
