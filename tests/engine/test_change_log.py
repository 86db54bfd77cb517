"""The change log is limited in entries, bytes and age, and so is the disk space of a database with constant updates."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vectordb
from tests.support.nightly import cases, record
from vectordb import Dense, Int, InvalidArgumentError, NotFoundError, Schema
from vectordb.server.settings import Settings, gather
from vectordb.storage import change_log, format
from vectordb.storage.change_log import Limits

WRONG = {"batches": (0, 1.5, True), "bytes": (-1, "64MB"), "seconds": (0, "1d", 1e10)}
SCHEMA = Schema({"v": Dense(4)}, {"n": Int()})


def log_bytes(database, collection) -> int:
    """Of the entries that are stored."""
    with database.directory.env.read() as txn:
        return sum(
            len(txn.get(format.log_key(collection.number, sequence)))
            for sequence in range(change_log.oldest(txn, collection.number), collection.info().sequence + 1)
        )


def oldest(database, collection) -> int:
    with database.directory.env.read() as txn:
        return change_log.oldest(txn, collection.number)


def test_the_log_is_bounded_by_bytes(directory):
    with vectordb.open(directory, durability="batched", maintenance=False, change_log_bytes=20_000) as database:
        collection = database.create_collection("c", SCHEMA)
        ids = [f"a rather long id of a point that will be deleted, {i}" for i in range(100)]
        for _ in range(20):
            collection.upsert(ids=ids)
            collection.delete(ids)
        last = collection.info().sequence
        assert 0 < log_bytes(database, collection) <= 20_000
        assert 1 < oldest(database, collection) <= last - 1
        list(collection.changes(oldest(database, collection) - 1))
        with pytest.raises(NotFoundError, match="oldest change in the log"):
            list(collection.changes(oldest(database, collection) - 2))


def test_the_newest_batch_is_kept_however_large(directory):
    with vectordb.open(directory, durability="batched", maintenance=False, change_log_bytes=0, change_log_batches=1) as database:
        collection = database.create_collection("c", SCHEMA)
        for _ in range(5):
            collection.upsert(ids=list(range(50)))
            collection.delete(list(range(50)))
        last = collection.info().sequence
        assert oldest(database, collection) == last
        assert [change.sequence for change in collection.changes(last - 1)] == [last]


def test_the_log_is_bounded_by_age(directory, monkeypatch):
    now = [1_800_000_000_000_000_000]
    monkeypatch.setattr(time, "time_ns", lambda: now[0])
    with vectordb.open(directory, durability="batched", maintenance=False, change_log_seconds=60) as database:
        collection = database.create_collection("c", SCHEMA)
        for _ in range(10):
            collection.upsert(ids=[1])
            now[0] += 20_000_000_000
        assert oldest(database, collection) == 7  # written at 120, 140, 160 and 180 s; the newest write came at 180 s
        now[0] -= 10**15  # a clock that is set back drops nothing
        collection.upsert(ids=[1])
        assert oldest(database, collection) == 7
        now[0] += 10**16
        collection.add_fields(attributes={"m": Int()})
        assert oldest(database, collection) == collection.info().sequence


def test_lower_limits_drop_a_part_with_each_write(directory, monkeypatch):
    monkeypatch.setattr(change_log, "DROPPED_AT_ONCE", 3)
    with vectordb.open(directory, durability="batched", maintenance=False) as database:
        collection = database.create_collection("c", SCHEMA)
        for _ in range(20):
            collection.upsert(ids=[1])
        vectordb.open(directory, maintenance=False, change_log_batches=5).close()
        seen = []
        for _ in range(8):
            collection.upsert(ids=[1])
            seen.append(oldest(database, collection))
        assert seen == [4, 7, 10, 13, 16, 19, 22, 24]


def test_a_log_without_an_account_gets_one_with_its_first_write(directory):
    """As versions before wrote it."""
    with vectordb.open(directory, durability="batched", maintenance=False) as database:
        collection = database.create_collection("c", SCHEMA)
        for _ in range(5):
            collection.upsert(ids=[1, 2])

        def forget(txn):
            txn.delete(format.key(collection.number, format.LOG_KEPT))
            for sequence in range(1, 6):
                entry = change_log.read(txn, collection.number, sequence)
                txn.put(format.log_key(collection.number, sequence), format.pack_record({k: v for k, v in entry.items() if k != "at"}))

        database.directory.env.write(forget, "batched", 10)
        collection.upsert(ids=[1])
        assert len(list(collection.changes())) == 6
        assert oldest(database, collection) == 1
        with database.directory.env.read() as txn:
            first, size, written = format.unpack_log_kept(txn.get(format.key(collection.number, format.LOG_KEPT)))
        assert (first, size) == (1, log_bytes(database, collection)) and abs(written / 1000 - time.time()) < 3600


@settings(max_examples=cases(10, 40))
@given(
    limits=st.builds(Limits, batches=st.integers(1, 8), bytes=st.integers(0, 600), seconds=st.integers(1, 50)),
    steps=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40)), min_size=1, max_size=30),
)
def test_what_is_kept_is_what_the_limits_allow(tmp_path_factory, limits, steps):
    """Against a plain list; the account agrees with the entries at every step."""
    path = tmp_path_factory.mktemp("log")
    with vectordb.open(path, durability="batched", maintenance=False) as database:
        kept: list[tuple[int, int, int]] = []  # sequence, bytes, when
        now, newest = 1_000_000, 0

        def step(txn, entry):
            change_log.append(txn, 7, newest, entry, limits)
            return len(txn.get(format.log_key(7, newest)))

        for wait, ids in steps:
            now, newest = now + 1000 * wait, newest + 1
            entry = {"op": "delete", "at": now, "dead": [], "ids": list(range(ids))}
            size = database.directory.env.write(lambda txn, entry=entry: step(txn, entry), "batched", 10)
            kept.append((newest, size, now))
            while len(kept) > 1 and (
                len(kept) > limits.batches or sum(s for _, s, _ in kept) > limits.bytes or now - kept[0][2] > 1000 * limits.seconds
            ):
                kept.pop(0)
            with database.directory.env.read() as txn:
                assert change_log.oldest(txn, 7) == kept[0][0]
                account = format.unpack_log_kept(txn.get(format.key(7, format.LOG_KEPT)))
                assert account == (kept[0][0], sum(s for _, s, _ in kept), kept[0][2])

        def forget(txn):
            for key in [*(format.log_key(7, s) for s in range(newest + 1)), format.key(7, format.LOG_KEPT)]:
                txn.delete(key)

        database.directory.env.write(forget, "batched", 10)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batches", 0),
        ("batches", 1.5),
        ("batches", True),
        ("bytes", -1),
        ("bytes", "64MB"),
        ("seconds", 0),
        ("seconds", "1d"),
        ("seconds", 1e10),
    ],
)
def test_wrong_limits_are_refused_before_anything_is_made(tmp_path, name, value):
    with pytest.raises(InvalidArgumentError, match=f"change_log_{name}") as caught:
        vectordb.open(tmp_path / "new", **{f"change_log_{name}": value})
    assert caught.value.field == f"change_log_{name}" and not (tmp_path / "new").exists()


def test_a_service_has_the_same_limits():
    assert {f"change_log_{name}" for name in ("batches", "bytes", "seconds")} <= {*vars(Settings())}
    chosen = gather({}, {"VECTORDB_SERVE_CHANGE_LOG_BYTES": "1000"})
    assert chosen.change_log_bytes == 1000
    defaults = Limits()
    assert (Settings().change_log_batches, Settings().change_log_bytes, Settings().change_log_seconds) == (
        defaults.batches,
        defaults.bytes,
        defaults.seconds,
    )


def test_points_that_come_and_go_leave_a_bounded_log_and_no_more(directory):
    """The ids of deleted points are in the log: without a bound of its bytes these rounds left 6 MB in use."""
    bound = 256 << 10
    with vectordb.open(directory, durability="batched", maintenance=False, change_log_bytes=bound) as database:
        collection = database.create_collection("c", SCHEMA)
        rounds = cases(80, 1_000)
        for round_ in range(rounds):
            ids = [f"round {round_}, an id that is as long as some people's ids are, {i}" for i in range(1_000)]
            collection.upsert(ids=ids)
            collection.delete(ids)
        collection.optimize()  # drops the rows
        assert log_bytes(database, collection) <= bound
        facts = database.directory.env.facts()
        assert facts["used"] * facts["page_bytes"] <= 2 * bound  # seen: 1.2 × bound
        database.purge()
        assert (directory / "data.mdb").stat().st_size <= 2 * bound
    record("churn_change_log", rounds=rounds, deletes=1_000 * rounds, bytes_of_the_log_at_most=bound)
