"""Optimize, and builds beside writes, drops and closing: one segment without dead rows, and nothing is left of what was given up."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import vectordb
from tests.support.maintained import SCHEMA, answers, fill
from tests.support.upkeep import accounts, hurry, index_files, until, vectors
from vectordb import (
    HNSW,
    ClosedError,
    DeadlineError,
    Dense,
    InvalidArgumentError,
    NotFoundError,
    Schema,
    Sparse,
    StorageError,
)
from vectordb.index import base
from vectordb.index.dense import build as builder
from vectordb.index.dense import kind


@pytest.fixture
def manual(directory):
    """An open database in which nothing is done in the background."""
    with vectordb.open(directory, durability="batched", maintenance=False) as opened:
        yield opened


@pytest.fixture
def rng():
    return np.random.default_rng(1)


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
