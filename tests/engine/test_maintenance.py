"""Segments are sealed, merged and rebuilt in the background: every live row is in exactly one place, and answers don't change."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import vectordb
from tests.support.maintained import SCHEMA, answers, fill
from tests.support.upkeep import accounts, hurry, idle, index_files, until, vectors
from vectordb import (
    Dense,
    Int,
    InvalidArgumentError,
    Schema,
    StorageError,
)
from vectordb.index import base
from vectordb.index.dense import build as builder
from vectordb.maintenance import jobs as tasks
from vectordb.maintenance import policy
from vectordb.storage import segments


@pytest.fixture
def manual(directory):
    """An open database in which nothing is done in the background."""
    with vectordb.open(directory, durability="batched", maintenance=False) as opened:
        yield opened


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def test_a_quiet_tail_is_sealed_and_later_rows_are_the_tail(database, rng, monkeypatch):
    hurry(monkeypatch)
    c = database.create_collection("c", SCHEMA)
    fill(c, rng, range(80))
    before = answers(c)
    until(lambda: c.info().statistics["v"]["segments"])
    assert accounts(c) == ([(0, 80, 80)], 0)
    assert answers(c) == before
    fill(c, rng, range(80, 100))
    assert accounts(c) == ([(0, 80, 80)], 20)
    (facts,) = c.info().statistics["v"]["segments"]
    assert facts == {"first": 0, "end": 80, "rows": 80, "dead": 0, "bytes": facts["bytes"], "graph": False} and facts["bytes"] > 80 * 4
    assert c.info().statistics["v"]["tail"] == 20


def test_a_short_tail_is_left_alone(database, rng, monkeypatch):
    hurry(monkeypatch)
    c = database.create_collection("c", SCHEMA)
    fill(c, rng, range(63))
    until(lambda: idle(c))
    assert accounts(c) == ([], 63) and index_files(database.directory.env.path) == set()


def test_while_writes_go_on_only_a_long_tail_is_sealed(database, rng, monkeypatch):
    hurry(monkeypatch, QUIET_SECONDS=3600, SEAL_ALWAYS_ROWS=300)
    c = database.create_collection("c", SCHEMA)
    fill(c, rng, range(299))
    time.sleep(0.2)
    assert accounts(c) == ([], 299)
    fill(c, rng, range(299, 301))
    until(lambda: accounts(c)[0])
    assert accounts(c) == ([(0, 301, 301)], 0)


def test_neighbours_of_one_size_become_one(database, rng, monkeypatch):
    hurry(monkeypatch)
    c = database.create_collection("c", SCHEMA)
    for turn in range(4):
        fill(c, rng, range(70 * turn, 70 * turn + 70))
        until(lambda turn=turn: accounts(c)[1] == 0)
    before = answers(c)
    until(lambda: accounts(c)[0] == [(0, 280, 280)])
    assert answers(c) == before
    until(lambda: len(index_files(database.directory.env.path)) == 1)


def test_a_segment_with_many_dead_rows_is_built_again_without_them(database, rng, monkeypatch):
    hurry(monkeypatch)
    c = database.create_collection("c", SCHEMA)
    fill(c, rng, range(100))
    until(lambda: accounts(c)[0])
    (old,) = index_files(database.directory.env.path)
    c.delete(list(range(20)))
    until(lambda: idle(c))
    assert accounts(c) == ([(0, 100, 80)], 0) and index_files(database.directory.env.path) == {old}
    c.delete(list(range(20, 30)))
    until(lambda: old not in index_files(database.directory.env.path))
    assert accounts(c) == ([(0, 100, 70)], 0)
    assert [facts["rows"] for facts in c.info().statistics["v"]["segments"]] == [70]
    c.delete(list(range(30, 100)))  # all of them: then there is nothing to index
    until(lambda: accounts(c)[0] == [])
    until(lambda: index_files(database.directory.env.path) == set())


def test_deleted_rows_leave_the_chunks_by_themselves(database, rng, monkeypatch):
    hurry(monkeypatch)
    c = database.create_collection("c", SCHEMA)
    fill(c, rng, range(100))
    c.delete(list(range(0, 100, 2)))
    before = answers(c)
    until(lambda: c.info().deleted_rows == 0)
    assert answers(c) == before and c.count() == 50


def test_what_another_process_left_is_done_after_opening(directory, rng, monkeypatch):
    with vectordb.open(directory, maintenance=False) as database:
        fill(database.create_collection("c", SCHEMA), rng, range(100))
    hurry(monkeypatch)
    with vectordb.open(directory) as database:
        c = database.collection("c")
        until(lambda: accounts(c) == ([(0, 100, 100)], 0))


def test_without_maintenance_nothing_happens_until_it_is_asked_for(directory, rng, monkeypatch):
    hurry(monkeypatch)
    with vectordb.open(directory, maintenance=False) as database:
        c = database.create_collection("c", SCHEMA)
        fill(c, rng, range(100))
        c.delete([1])
        time.sleep(0.2)
        assert accounts(c) == ([], 99) and database.directory.maintainer._thread is None
        assert c.info().maintenance == {"state": "off", "task": None, "stage": None, "share": None, "error": None, "pending": 1}
        c.optimize()
        assert accounts(c) == ([(0, 100, 99)], 0) and c.info().deleted_rows == 0
    with pytest.raises(InvalidArgumentError, match="maintenance") as caught:
        vectordb.open(directory, maintenance=1)
    assert (caught.value.field, caught.value.value) == ("maintenance", 1)


def test_two_handles_of_a_directory_share_one_thread(directory, rng, monkeypatch):
    hurry(monkeypatch)
    with vectordb.open(directory, maintenance=False) as quiet:
        with vectordb.open(directory) as lively:
            assert quiet.directory.maintainer is lively.directory.maintainer
            c = quiet.create_collection("c", SCHEMA)
            fill(c, rng, range(100))
            until(lambda: accounts(c)[0])
        fill(c, rng, range(100, 200))  # whoever wanted maintenance is gone
        time.sleep(0.2)
        assert accounts(c) == ([(0, 100, 100)], 100)
        assert c.info().maintenance["state"] == "off"


def test_what_no_record_names_is_removed_by_the_maintainer_and_by_nobody_else(directory, rng, monkeypatch):
    hurry(monkeypatch)
    with vectordb.open(directory) as manual:
        c = manual.create_collection("c", SCHEMA)
        fill(c, rng, range(50))
        c.optimize()
    kept = index_files(directory)
    folder = segments.folder(directory)
    strangers = {segments.new_name(1, 16, 0, 9), "tmp-" + segments.new_name(7, 16, 0, 9)}
    for name in (*strangers, "notes.txt"):
        (folder / name).write_bytes(b"x")
    with vectordb.open(directory, maintenance=False) as manual:
        c = manual.collection("c")
        answers(c)
        assert index_files(directory) == kept | strangers | {"notes.txt"}
        c.optimize()
        assert index_files(directory) == kept | {"notes.txt"}


def test_a_file_is_mapped_once_and_let_go_when_it_is_replaced(manual, rng, monkeypatch):
    hurry(monkeypatch)
    opened = []
    open_file = base.open_file
    monkeypatch.setattr("vectordb.engine.index_files.open_file", lambda path: opened.append(path.name) or open_file(path))
    c = manual.create_collection("c", Schema({"v": Dense(4), "once": Dense(4)}, {"n": Int()}))
    c.upsert(ids=range(100), vectors={"v": vectors(rng, 100), "once": vectors(rng, 100)})
    c.optimize()
    # The maintainer looked at the files, and a thread keeps them open until it has verified them.
    until(lambda: c._directory.index_files.verified() and not len(c._directory.index_files._open))
    del opened[:]
    for i in range(5):
        fill(c, rng, [1000 + i])  # each write makes a new snapshot
        accounts(c, "v"), accounts(c, "once")
    assert len(opened) == len(set(opened)) == 2
    fill(c, rng, range(200, 300))
    c.optimize()
    accounts(c, "v"), accounts(c, "once")
    assert sum("-f17-" in name for name in opened) == 1  # of "once" nothing changed
    del opened[:]
    files = until(lambda: len(c._directory.index_files._open) == 2 and c._directory.index_files)
    assert set(files._open) == index_files(manual.directory.env.path)


def test_rows_that_died_a_moment_ago_are_kept_for_cursors(database, rng, monkeypatch):
    """The background removes rows that died longer ago than SPARE_SECONDS, whenever that has passed, also if nobody writes."""
    hurry(monkeypatch, SPARE_SECONDS=3600.0)
    c = database.create_collection("c", Schema({"v": Dense(4)}, {"n": Int()}))
    fill(c, rng, range(200))
    first = c.search({"v": [1, 0, 0, 0]}, limit=5, exact=True)
    fill(c, rng, range(150))  # each of these points gets another row
    until(lambda: c._maintainer._runner._not_worth)
    others = c.search({"v": [1, 0, 0, 0]}, limit=195, cursor=first.next, exact=True)
    assert sorted([*first.ids.tolist(), *others.ids.tolist()]) == list(range(200))
    monkeypatch.setattr(policy, "SPARE_SECONDS", 0.0)
    c._maintainer._runner._not_worth.clear()
    until(lambda: c.info().deleted_rows == 0)


def test_a_damaged_chunk_keeps_a_tail_unindexed_and_is_named(manual, rng, monkeypatch):
    hurry(monkeypatch)
    c = manual.create_collection("c", SCHEMA)
    fill(c, rng, range(100))

    def damaged(view, task, spec):
        raise vectordb.CorruptionError("chunk x fails its checksum", field="x")

    monkeypatch.setattr(tasks, "rows_to_index", damaged)
    with pytest.raises(vectordb.CorruptionError, match="chunk x"):
        c.optimize()
    assert accounts(c) == ([], 100)


@pytest.mark.parametrize("same", [True, False])
def test_background_work_gives_way_to_a_request_unless_it_is_the_same_work(database, rng, monkeypatch, same):
    hurry(monkeypatch, SEAL_ALWAYS_ROWS=100, QUIET_SECONDS=3600)
    asked, built = threading.Event(), []

    def slow(path, values, docids, metric, options, progress, cancelled):
        while not asked.is_set():
            time.sleep(0.005)
        time.sleep(0.1)
        if cancelled():
            raise base.Cancelled("graph")
        build(path, values, docids, metric, options, progress, cancelled)
        built.append(len(docids))

    build = builder.build
    monkeypatch.setattr(builder, "build", slow)
    c = database.create_collection("c", SCHEMA)
    fill(c, rng, range(100))
    until(lambda: (c.info().maintenance["task"] or "").startswith("seal"))
    if not same:
        fill(c, rng, range(100, 150))
    c.optimize(wait=False)
    asked.set()
    c.optimize()
    assert built == [100 if same else 150]
    assert c.info().maintenance["error"] is None


def test_where_no_thread_can_be_started_writes_and_searches_go_on(database, rng, monkeypatch, caplog):
    hurry(monkeypatch)
    start = threading.Thread.start

    def refuse(thread):
        if thread.name.startswith("vectordb-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    c = database.create_collection("c", SCHEMA)
    fill(c, rng, range(100))
    assert len(answers(c)[0]) == 20 and accounts(c) == ([], 100)
    with pytest.raises(StorageError, match="new thread"):
        c.optimize()
    assert "can't start" in caplog.text
    monkeypatch.undo()
    hurry(monkeypatch)
    fill(c, rng, range(100, 110))
    until(lambda: accounts(c)[0])
