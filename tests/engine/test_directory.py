"""What the handles of one directory share in a process, and how the last one closes it."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import vectordb
from tests.support.upkeep import until
from vectordb import Dense, Schema
from vectordb.engine.check import check
from vectordb.engine.snapshot import Snapshot

SCHEMA = Schema(vectors={"v": Dense(4)})


def upsert(docs, value):
    docs.upsert(ids=[value], vectors={"v": np.ones((1, 4), np.float32)})


@pytest.mark.parametrize(("timeout", "groups"), [(60.0, [2]), (30.0, [1, 1])])
def test_writers_of_several_handles_share_a_commit_if_they_wait_equally_long(directory, monkeypatch, timeout, groups):
    with vectordb.open(directory) as one, vectordb.open(directory, write_timeout=timeout) as other:
        assert one.directory is other.directory
        handles = [one.create_collection("c", SCHEMA), other.collection("c")]
        committer, sizes = one.directory.committer, []
        commit = committer._commit
        monkeypatch.setattr(committer, "_commit", lambda group: (sizes.append(len(group)), commit(group)))
        threads = [threading.Thread(target=upsert, args=(docs, i)) for i, docs in enumerate(handles)]
        with committer._turn:
            for thread in threads:
                thread.start()
            until(lambda: len(committer._waiting) == 2)
        for thread in threads:
            thread.join()
        assert sizes == groups and handles[0].count() == 2


def test_a_directory_that_is_being_closed_is_opened_anew_when_that_is_done(directory):
    database, opened = vectordb.open(directory), []
    upsert(database.create_collection("c", SCHEMA), 1)
    before = database.directory
    with before.env.read():  # the closing waits for it
        closing = threading.Thread(target=database.close)
        closing.start()
        until(lambda: before.closing)
        opening = threading.Thread(target=lambda: opened.append(vectordb.open(directory)))
        opening.start()
        assert not opened and not before.closed.is_set()
    closing.join()
    opening.join()
    (database,) = opened
    assert database.directory is not before and database.collection("c").count() == 1
    database.close()


def test_a_directory_is_closed_with_its_last_handle(directory):
    one, other = vectordb.open(directory), vectordb.open(directory, maintenance=False)
    shared = one.directory
    assert (shared.handles, shared.background) == (2, 1)
    one.close()
    assert (shared.handles, shared.background) == (1, 0) and not shared.env.closed
    assert other.create_collection("c", SCHEMA).count() == 0
    other.close()
    assert shared.env.closed


def test_a_directory_that_was_opened_for_a_check_can_be_maintained_afterwards(directory):
    vectordb.open(directory).close()
    with vectordb.open(directory) as database:
        assert check(directory).ok and database.directory.handles == 1
        assert database.create_collection("c", SCHEMA).optimize()["done"]


def test_a_snapshot_is_read_whole_and_takes_over_what_did_not_change(directory):
    with vectordb.open(directory, maintenance=False) as database:
        docs = database.create_collection("c", SCHEMA)
        upsert(docs, 1)
        with docs._snapshots.pin() as view:
            alone = Snapshot.read(view.txn, docs.number, database.directory)
            after = Snapshot.read(view.txn, docs.number, database.directory, alone)
        assert (after.schema, after.registry, after.known, after.dead) == (alone.schema, alone.registry, alone.known, alone.dead)
        assert after.schema is alone.schema and after.registry is alone.registry
        assert (alone.sequence, alone.rows, alone.live) == (1, 1, 1)
