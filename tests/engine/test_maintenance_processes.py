"""Maintenance beside other processes: one works at a time, the others see its segments."""

from __future__ import annotations

import fcntl
import os
import threading
import time

import numpy as np
import pytest

import vectordb
from tests.support.maintained import SCHEMA, answers, fill
from tests.support.upkeep import accounts, hurry, until
from vectordb import (
    ClosedError,
    LockedError,
)
from vectordb.storage import segments


@pytest.fixture
def manual(directory):
    """An open database in which nothing is done in the background."""
    with vectordb.open(directory, durability="batched", maintenance=False) as opened:
        yield opened


@pytest.fixture
def rng():
    return np.random.default_rng(1)


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
