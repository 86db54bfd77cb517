"""Segments are sealed, merged, rebuilt and optimized: every live row is in exactly one place, and answers don't change."""

from __future__ import annotations

import fcntl
import os
import threading
import time

import numpy as np
import pytest

import vectordb
from tests.support.upkeep import accounts, hurry, idle, index_files, until, vectors
from vectordb import (
    HNSW,
    ClosedError,
    DeadlineError,
    Dense,
    Int,
    InvalidArgumentError,
    LockedError,
    NotFoundError,
    Schema,
    Sparse,
    StorageError,
)
from vectordb.index import base
from vectordb.index.dense import build as builder
from vectordb.index.dense import kind
from vectordb.maintenance import jobs as tasks
from vectordb.maintenance import policy
from vectordb.maintenance.policy import Span
from vectordb.storage import segments
from vectordb.storage.segments import Record

SCHEMA = Schema({"v": Dense(4)}, {"n": Int()})


@pytest.fixture
def manual(directory):
    """An open database in which nothing is done in the background."""
    with vectordb.open(directory, durability="batched", maintenance=False) as opened:
        yield opened


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def fill(collection, rng, ids) -> None:
    ids = list(ids)
    collection.upsert(ids=ids, vectors={"v": vectors(rng, len(ids))}, attributes={"n": ids})


def answers(collection, rng=None) -> list:
    """Some exact searches, filtered too."""
    queries = np.random.default_rng(9).standard_normal((3, 4)).astype(np.float32)
    return [
        [(hit.id, round(hit.score, 5)) for hit in collection.search({"v": query}, limit=20, exact=True, filter=condition)]
        for query in queries
        for condition in (None, "n < 50")
    ]


# By itself


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


# On request


def test_optimize_makes_one_segment_without_dead_rows(manual, rng, monkeypatch):
    hurry(monkeypatch)
    c = manual.create_collection("c", SCHEMA)
    fill(c, rng, range(100))
    assert c.optimize()["segments_built"] == 1
    fill(c, rng, range(50, 150))
    before = answers(c)
    result = c.optimize()
    assert result["done"] and result["rows_indexed"] == 150 and result["rows_dropped"] == 50 and result["bytes_rewritten"] > 0
    assert accounts(c) == ([(0, 200, 150)], 0) and answers(c) == before
    assert c.info().deleted_rows == 0 and len(index_files(manual.directory.env.path)) == 1
    again = c.optimize()
    assert (again["segments_built"], again["rows_indexed"], again["rows_dropped"], again["bytes_rewritten"]) == (0, 0, 0, 0)
    fill(c, rng, range(200, 215))
    assert c.optimize()["segments_built"] == 0  # too few: they are searched exactly
    assert accounts(c) == ([(0, 200, 150)], 15)
    fill(c, rng, range(215, 216))
    c.optimize()
    assert accounts(c) == ([(0, 216, 166)], 0)


def test_segments_never_exceed_the_limit(manual, rng, monkeypatch):
    hurry(monkeypatch, MAX_ROWS=100)
    c = manual.create_collection("c", SCHEMA)
    fill(c, rng, range(330))
    c.delete([5, 150])
    c.optimize()
    sizes, tail = accounts(c)
    assert [rows for _, _, rows in sizes] == [100, 100, 100, 28] and tail == 0
    assert c.optimize()["segments_built"] == 0
    monkeypatch.setattr(kind, "MAX_ROWS", 4_000_000)
    monkeypatch.setattr(kind, "MAX_BUILD_BYTES", 4 * 4 * 200)
    c.optimize()
    assert [rows for _, _, rows in accounts(c)[0]] == [200, 128]


@pytest.mark.parametrize(
    "spec", [Dense(4, "cosine"), Dense(4, "dot", "float16"), Dense(4, "l2"), Dense(4, "l2", "float16", index=HNSW(degree=4))]
)
def test_rows_without_the_field_are_left_out_and_the_vectors_are_the_ones_written(manual, rng, monkeypatch, spec):
    hurry(monkeypatch)
    given = []
    build = builder.build

    def watch(path, values, docids, metric, options, *rest):
        given.append((values.copy(), docids.copy(), metric, options))
        build(path, values, docids, metric, options, *rest)

    monkeypatch.setattr(builder, "build", watch)
    c = manual.create_collection("c", Schema({"v": spec, "s": Sparse()}))
    written = [None if i % 3 == 0 else row for i, row in enumerate(vectors(rng, 90))]
    c.upsert(ids=range(90), vectors={"v": written})
    c.delete([4, 5])
    c.optimize()
    ((values, docids, metric, options),) = given
    wanted = [i for i in range(90) if i % 3 and i not in (4, 5)]
    assert docids.tolist() == wanted and docids.dtype == np.uint32
    np.testing.assert_array_equal(values, np.array([written[i] for i in wanted]).astype(spec.dtype).astype(np.float32))
    assert values.dtype == np.float32 and values.flags.c_contiguous and metric == spec.metric
    assert (options.graph_builder, options.degree) == (spec.index.graph_builder, spec.index.degree)
    assert accounts(c) == ([(0, 90, 58)], 0)


def test_each_field_has_its_own_segments_and_one_without_index_has_none(database, rng, monkeypatch):
    hurry(monkeypatch)
    c = database.create_collection("c", Schema({"v": Dense(4), "never": Dense(4, index=None)}))
    c.upsert(ids=range(100), vectors={"v": vectors(rng, 100), "never": vectors(rng, 100)})
    until(lambda: accounts(c)[0])
    c.add_fields(vectors={"later": Dense(4)})
    ids = list(range(100, 190))
    c.upsert(ids=ids, vectors={"v": vectors(rng, 90), "later": vectors(rng, 90)})
    until(lambda: accounts(c, "later")[0])
    c.optimize()
    assert accounts(c, "never") == ([], 100)
    assert accounts(c, "v") == ([(0, 190, 190)], 0)
    assert accounts(c, "later") == ([(0, 190, 90)], 0)


def test_optimize_without_waiting_returns_at_once_and_info_tells_how_far_it_is(manual, rng, monkeypatch):
    hurry(monkeypatch)
    go_on = threading.Event()

    def slow(path, values, docids, metric, options, progress, cancelled):
        progress("graph", 0.25)
        assert go_on.wait(300)
        build(path, values, docids, metric, options, progress, cancelled)

    build = builder.build
    monkeypatch.setattr(builder, "build", slow)
    c = manual.create_collection("c", SCHEMA)
    fill(c, rng, range(100))
    assert c.optimize(wait=False)["done"] is False
    said = until(lambda: (said := c.info().maintenance)["stage"] == "graph" and said)
    assert said == {"state": "running", "task": "optimize v rows 0 … 99", "stage": "graph", "share": 0.25, "error": None, "pending": 1}
    with pytest.raises(DeadlineError) as caught:
        c.optimize(timeout=0.05)
    assert caught.value.field == "timeout"
    go_on.set()
    until(lambda: accounts(c)[0])
    until(lambda: c.info().maintenance["state"] == "off")


@pytest.mark.parametrize(("field", "value"), [("wait", 1), *(("timeout", value) for value in (-1, "1", float("nan"), True))])
def test_wrong_arguments_of_optimize_are_named(database, field, value):
    c = database.create_collection("c", SCHEMA)
    with pytest.raises(InvalidArgumentError) as caught:
        c.optimize(**{field: value})
    assert caught.value.field == field and caught.value.value is value


# Beside writes, drops and closing


def test_rows_written_and_deleted_during_a_build_are_found_and_gone(directory, rng, monkeypatch):
    hurry(monkeypatch)
    with vectordb.open(directory, maintenance=False) as database:
        c = database.create_collection("c", SCHEMA)
        fill(c, rng, range(100))

        def busy(*arguments):
            c.delete(list(range(10)))
            fill(c, rng, range(50, 130))
            build(*arguments)

        build = builder.build
        monkeypatch.setattr(builder, "build", busy)
        c.optimize(timeout=60)
        assert c.count() == 120 and accounts(c) == ([(0, 100, 40)], 80)  # what came meanwhile can wait: otherwise it might never end
        monkeypatch.setattr(builder, "build", build)
        c.optimize()
        assert accounts(c) == ([(0, 180, 120)], 0)


@pytest.mark.parametrize("background", [True, False])
def test_a_collection_dropped_during_a_build_leaves_nothing(database, rng, monkeypatch, background):
    hurry(monkeypatch, WAKE_ROWS=1 if background else 10**9)
    c = database.create_collection("c", SCHEMA)
    dropped = threading.Event()

    def drop_then_build(*arguments):
        if not dropped.is_set():
            database.drop_collection("c")
            dropped.set()
        build(*arguments)

    build = builder.build
    monkeypatch.setattr(builder, "build", drop_then_build)
    fill(c, rng, range(100))
    if not background:
        with pytest.raises(NotFoundError):
            c.optimize()
    assert dropped.wait(300)
    other = database.create_collection("c", SCHEMA)
    fill(other, rng, range(100))
    other.optimize()
    until(lambda: len(index_files(database.directory.env.path)) == 1)
    assert accounts(other) == ([(0, 100, 100)], 0)


def test_the_files_of_a_dropped_collection_are_removed(database, rng, monkeypatch):
    hurry(monkeypatch)
    c = database.create_collection("c", SCHEMA)
    fill(c, rng, range(100))
    until(lambda: index_files(database.directory.env.path))
    database.drop_collection("c")
    until(lambda: index_files(database.directory.env.path) == set())


def test_closing_gives_up_a_build(directory, rng, monkeypatch):
    hurry(monkeypatch)
    building = threading.Event()

    def endless(path, values, docids, metric, options, progress, cancelled):
        path.write_bytes(b"half")
        building.set()
        while not cancelled():
            time.sleep(0.005)
        raise base.Cancelled("test")

    monkeypatch.setattr(builder, "build", endless)
    database = vectordb.open(directory)
    c = database.create_collection("c", SCHEMA)
    fill(c, rng, range(100))
    failed = []

    def wait():
        with pytest.raises(ClosedError) as caught:
            c.optimize()
        failed.append(caught.value)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert building.wait(300)
    thread = database.directory.maintainer._thread
    began = time.monotonic()
    database.close()
    assert time.monotonic() - began < 60 and not thread.is_alive()
    waiting.join(300)
    assert failed and index_files(directory) == set()
    with pytest.raises(ClosedError):
        c.optimize()
    monkeypatch.undo()
    with vectordb.open(directory) as database:
        assert accounts(database.collection("c")) == ([], 100)


def test_a_build_that_fails_is_told_tried_again_and_harms_nothing(database, rng, monkeypatch, caplog):
    hurry(monkeypatch)
    failures = []

    def broken(*arguments):
        failures.append(time.monotonic())
        if len(failures) < 3:
            raise OSError(28, "No space left on device")
        build(*arguments)

    build = builder.build
    monkeypatch.setattr(builder, "build", broken)
    c = database.create_collection("c", SCHEMA)
    fill(c, rng, range(100))
    said = until(lambda: (said := c.info().maintenance)["error"] and said)
    assert "seal v" in said["error"] and "No space left" in said["error"]
    fill(c, rng, range(100, 110))
    assert len(answers(c)[0]) == 20
    until(lambda: accounts(c)[0])
    assert len(failures) == 3 and failures[1] - failures[0] >= 0.05 and failures[2] - failures[1] >= 0.1  # twice as long
    until(lambda: c.info().maintenance["error"] is None)
    assert "No space left" in caplog.text


def test_optimize_raises_what_went_wrong(manual, rng, monkeypatch):
    hurry(monkeypatch)
    c = manual.create_collection("c", SCHEMA)
    fill(c, rng, range(100))
    c.delete([1])

    def broken(*arguments):
        raise MemoryError("too large")

    monkeypatch.setattr(builder, "build", broken)
    with pytest.raises(StorageError, match="maintenance failed: MemoryError: too large"):
        c.optimize()
    assert c.info().deleted_rows == 0  # the rest was done
    assert "too large" in c.info().maintenance["error"]


# Other processes


def optimize_elsewhere(path, upto):
    with vectordb.open(path, maintenance=False) as database:
        c = database.collection("c")
        if upto:
            fill(c, np.random.default_rng(3), range(upto))
        c.optimize()
        return accounts(c)


def test_a_second_process_sees_new_segments_without_reopening(manual, worker, rng, monkeypatch):
    hurry(monkeypatch)
    c = manual.create_collection("c", SCHEMA)
    fill(c, rng, range(300))
    before = answers(c)
    assert accounts(c) == ([], 300)
    assert worker.call(optimize_elsewhere, manual.directory.env.path, 0) == ([(0, 300, 300)], 0)
    assert accounts(c) == ([(0, 300, 300)], 0) and answers(c) == before
    worker.call(optimize_elsewhere, manual.directory.env.path, 300)  # all rows again: another file, and compacted chunks
    assert accounts(c) == ([(0, 600, 300)], 0)
    assert [point.id for point in c.iterate()] == list(range(300))
    assert c.info().deleted_rows == 0


def test_while_another_process_works_optimize_waits_and_then_gives_up(manual, rng, monkeypatch):
    hurry(monkeypatch)
    c = manual.create_collection("c", SCHEMA)
    fill(c, rng, range(100))
    folder = segments.folder(manual.directory.env.path)
    folder.mkdir()
    with open(folder / ".lock", "ab") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        with pytest.raises(LockedError, match="another process") as caught:
            c.optimize(timeout=0.2)
        assert caught.value.field == "path"
        ended = threading.Timer(0.3, lambda: fcntl.flock(theirs, fcntl.LOCK_UN))
        ended.start()
        assert c.optimize(timeout=30)["segments_built"] == 1
        ended.join()


def test_a_busy_lock_only_delays_the_background(database, rng, monkeypatch):
    hurry(monkeypatch)
    c = database.create_collection("c", SCHEMA)
    folder = segments.folder(database.directory.env.path)
    folder.mkdir()
    with open(folder / ".lock", "ab") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        fill(c, rng, range(100))
        time.sleep(0.3)
        assert accounts(c) == ([], 100)
    until(lambda: accounts(c)[0])


def test_after_a_fork_the_child_ends_and_the_parent_works_on(database, rng, monkeypatch):
    hurry(monkeypatch)
    c = database.create_collection("c", SCHEMA)
    fill(c, rng, range(100))
    until(lambda: accounts(c)[0])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            try:
                c.optimize()
            except ClosedError:
                database.close()
                code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    fill(c, rng, range(100, 200))
    until(lambda: accounts(c)[1] == 0)


# Files


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


# The policy alone


def piece(first, end, rows=None, dead=0, segment=True, lost=False):
    record = Record(16, first, end, end - first, 0, "f", 1, 1, {}, 1) if segment else None
    return Span(first, end, end - first if rows is None else rows, dead, record, lost)


def plan(*pieces, quiet=True, limit=10**9):
    spec = Dense(4)
    return policy.next_build("v", 16, spec, pieces, quiet)


def shape(found):
    return None if found is None else (found[1].kind, found[1].first, found[1].end, len(found[1].replaced))


def test_the_most_useful_work_comes_first():
    k = policy.SEAL_ROWS
    lost, tail = piece(0, k, lost=True), piece(6 * k, 7 * k + 1, segment=False)
    merged = [piece(i * k, (i + 1) * k) for i in range(1, 5)]
    heavy = piece(5 * k, 6 * k, rows=k // 2, dead=k // 2)
    assert shape(plan(lost, *merged, heavy, tail)) == ("rebuild", 0, k, 1)
    assert shape(plan(piece(0, 9 * k), *merged, heavy, tail)) == ("seal", 6 * k, 7 * k + 1, 0)
    assert shape(plan(piece(0, 99 * k), *(piece(i * k, i * k + k) for i in range(99, 103)), tail, quiet=False))[0] == "merge"
    assert shape(plan(piece(0, 9 * k), heavy)) == ("purge", 5 * k, 6 * k, 1)
    assert plan(piece(0, 9 * k), piece(9 * k, 10 * k - 1, segment=False)) is None


def test_small_segments_between_large_ones_are_merged_with_them_in_the_end():
    k = policy.SEAL_ROWS
    pieces, at = [], 0
    for _ in range(4):
        for size in (k, k, k, 16 * k):
            pieces.append(piece(at, at + size))
            at += size
    assert shape(plan(*pieces)) == ("merge", 0, at, 16)
    assert plan(*pieces[:-1]) is None  # three large ones: not yet


def test_what_lies_between_merged_segments_comes_with_them_and_the_limit_holds(monkeypatch):
    k = policy.SEAL_ROWS
    gap = piece(2 * k, 2 * k + 10, segment=False)
    four = [piece(0, k), piece(k, 2 * k), gap, piece(2 * k + 10, 3 * k), piece(3 * k, 4 * k)]
    assert shape(plan(*four, quiet=False)) == ("merge", 0, 4 * k, 4)
    monkeypatch.setattr(kind, "MAX_ROWS", 3 * k)
    assert plan(*four, quiet=False) is None


def test_dead_heavy_neighbours_are_built_as_one():
    k = policy.SEAL_ROWS
    heavy = [piece(i * k, (i + 1) * k, rows=k // 2, dead=k // 2) for i in range(2)]
    assert shape(plan(*heavy, piece(2 * k, 9 * k))) == ("purge", 0, 2 * k, 2)
    assert plan(piece(0, k, rows=k - k // 4, dead=k // 4)) is None  # a quarter isn't more than a quarter


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
