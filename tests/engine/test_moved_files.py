"""Files that were moved, removed or replaced under an open database are not written to, and nothing is acknowledged."""

from __future__ import annotations

import logging
import os
import shutil
import threading

import pytest

import vectordb
from tests.support.directories import SCHEMA, filled, looks, put
from tests.support.upkeep import hurry, until
from tests.support.worker import Worker
from vectordb import StorageError, VectorDBError
from vectordb.engine.check import check
from vectordb.maintenance import backoff, requests, scheduler
from vectordb.storage import place


def move(path, spare) -> None:
    path.rename(path.with_name("elsewhere"))


def remove(path, spare) -> None:
    shutil.rmtree(path)


def remove_data(path, spare) -> None:
    (path / "data.mdb").unlink()


def replace_data(path, spare) -> None:
    os.replace(spare / "data.mdb", path / "data.mdb")


def replace_all(path, spare) -> None:
    shutil.rmtree(path)
    shutil.copytree(spare, path)


def remove_lock(path, spare) -> None:
    (path / "lock.mdb").unlink()


def remove_locks(path, spare) -> None:
    for name in ("lock.mdb", "write.lock", "open.lock"):
        (path / name).unlink()


@pytest.mark.parametrize("happens", [move, remove, remove_data, replace_data, replace_all, remove_lock, remove_locks])
def test_nothing_is_written_or_acknowledged_once_the_files_are_others(tmp_path, happens, monkeypatch):
    path, spare = tmp_path / "data", tmp_path / "spare"
    filled(path)
    filled(spare, 7)
    with vectordb.open(path, maintenance=False) as database:
        c = database.collection("c")
        sequence = put(c, 1000) and c.info().sequence
        happens(path, spare)
        after = {place: looks(place) for place in (path, path.with_name("elsewhere")) if place.exists()}
        for attempt in (
            lambda: put(c, 2000),
            lambda: c.delete([1]),
            lambda: c.optimize(),
            lambda: c.optimize(wait=False),
            lambda: c.purge(),
            lambda: database.purge(),
            lambda: database.flush(),
            lambda: database.create_collection("d", SCHEMA),
            lambda: database.drop_collection("c"),
        ):
            with pytest.raises(StorageError, match=r"was re(moved|placed|moved or moved) while this process had .* open it"):
                attempt()
        for place, before in after.items():
            assert looks(place) == before
        if happens not in (remove_lock, remove_locks):  # others may be writing to the very same pages
            assert c.info().sequence == sequence and c.count() == 301 and len(c.search({"v": [1, 1, 1, 1]}, limit=400)) == 301
            database.snapshot(tmp_path / "rescued")
            assert vectordb.maintenance.backup.check(tmp_path / "rescued").points == 301
        else:
            until(lambda: _refuses(c.count))


def _refuses(call) -> bool:
    try:
        call()
    except StorageError:
        return True
    return False


def test_files_that_are_back_in_their_place_are_written_to_again(tmp_path):
    filled(tmp_path / "data")
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        c = database.collection("c")
        (tmp_path / "data").rename(tmp_path / "aside")
        with pytest.raises(StorageError, match="removed or moved"):
            put(c, 1000)
        (tmp_path / "aside").rename(tmp_path / "data")
        put(c, 1000)
    assert check(tmp_path / "data").points == 301


def test_what_took_the_place_of_a_directory_is_what_is_opened(tmp_path):
    path = tmp_path / "data"
    filled(path)
    with vectordb.open(path) as old:
        old.snapshot(tmp_path / "snapshot")
        put(old.collection("c"), 1000)
        shutil.rmtree(path)
        vectordb.restore(tmp_path / "snapshot", path)
        with vectordb.open(path) as new:
            c = new.collection("c")
            assert c.count() == 300 and old.collection("c").count() == 301
            put(c, 2000, 2)
            with pytest.raises(StorageError, match="replaced"):
                put(old.collection("c"), 3000)
            new.collection("c").optimize()
        with vectordb.open(path) as again, Worker() as worker:
            assert again.collection("c").count() == worker.call(counted, str(path)) == 302
    with vectordb.open(path) as last:
        put(last.collection("c"), 4000)
    assert check(path).points == 303


def test_a_directory_that_was_moved_is_opened_where_it_is_once_the_old_handle_is_closed(tmp_path):
    filled(tmp_path / "data")
    old = vectordb.open(tmp_path / "data", maintenance=False)
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=f"this process already has it open as {tmp_path / 'data'}. Use that path"):
        vectordb.open(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="doesn't hold a database"):
        vectordb.open(tmp_path / "data", create=False)
    old.close()
    with vectordb.open(tmp_path / "elsewhere") as database:
        put(database.collection("c"), 1000)
    assert check(tmp_path / "elsewhere").points == 301 and not (tmp_path / "data").exists()


def test_a_second_handle_of_files_that_were_tampered_with_says_which_to_close(tmp_path):
    path = tmp_path / "data"
    filled(path)
    old = vectordb.open(path, maintenance=False)
    (path / "lock.mdb").unlink()
    with pytest.raises(StorageError, match=r"lock.mdb was removed .* Close it first; no acknowledged write will be lost"):
        vectordb.open(path)
    old.close()
    with vectordb.open(path) as database:
        put(database.collection("c"), 1000)
    assert check(path).ok


def counted(path: str) -> int:
    with vectordb.open(path, maintenance=False) as database:
        return database.collection("c").count()


def written(path: str, first: int, count: int) -> list[int]:
    """Writes one by one in the other process; the ids that were acknowledged."""
    acknowledged: list[int] = []
    try:
        with vectordb.open(path, maintenance=False) as database:
            for i in range(first, first + count):
                acknowledged += put(database.collection("c"), i)
    except StorageError:
        pass
    return acknowledged


LOCKS = ["lock.mdb", "open.lock", "write.lock", "swap.lock"]


@pytest.mark.parametrize(
    ("removed", "ours", "theirs"),
    [(LOCKS[:1], 1, 1), (LOCKS[:1], 1, 2), (LOCKS[:2], 5, 5), (LOCKS[:2], 1, 2), (LOCKS, 1, 1), (LOCKS, 30, 3)],
)
def test_lock_files_removed_under_a_running_process_lose_nothing_that_was_acknowledged(tmp_path, removed, ours, theirs):
    path = tmp_path / "data"
    filled(path)
    database = vectordb.open(path, maintenance=False)
    c = database.collection("c")
    acknowledged = [i for first in range(1000, 1020) for i in put(c, first)]
    for name in removed:
        (path / name).unlink(missing_ok=True)
    with Worker() as worker:
        acknowledged += worker.call(written, str(path), 5000, theirs)
    for i in range(6000, 6000 + ours):
        with pytest.raises(StorageError, match=r"lock.mdb was re(mov|plac)ed"):
            acknowledged += put(c, i)
    database.close()
    assert check(path).ok
    with vectordb.open(path, maintenance=False) as database:
        c = database.collection("c")
        assert all(point is not None for point in c.get(acknowledged)) and c.count() == 300 + len(acknowledged)


def test_a_commit_looks_at_two_files(tmp_path, monkeypatch):
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        c = database.create_collection("c", SCHEMA)
        put(c, 0)
        seen = []
        identity = place.identity
        monkeypatch.setattr(place, "identity", lambda path: seen.append(path.name) or identity(path))
        c.upsert(ids=[1], vectors={"v": [[1, 1, 1, 1]]}, attributes={"n": [1]}, durability="batched")
        in_time = [name for name in seen if threading.current_thread() is threading.main_thread()]
        assert sorted(set(in_time)) == ["data.mdb", "lock.mdb"] and len(in_time) <= 4  # the other thread looks twice a second


def test_maintenance_says_once_that_the_directory_is_gone(tmp_path, monkeypatch, caplog):
    hurry(monkeypatch)
    monkeypatch.setattr(backoff, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(scheduler, "WAKE_ROWS", 1)
    filled(tmp_path / "data")
    with vectordb.open(tmp_path / "data") as database, caplog.at_level(logging.WARNING, "vectordb.maintenance"):
        c = database.collection("c")
        put(c, 1000, 2000)
        upkeep = database.directory.maintainer
        (tmp_path / "data").rename(tmp_path / "elsewhere")
        upkeep._look(c.number)
        until(lambda: upkeep.failures > 4)
        said = [record for record in caplog.records if "removed or moved" in record.getMessage()]
        assert len(said) <= 2  # as a whole, and of the build that was under way
        assert "removed or moved" in c.info().maintenance["error"]
    assert not (tmp_path / "data").exists()


def test_a_purge_of_another_process_is_not_followed_to_another_directory(tmp_path):
    """The handle of a directory that was moved goes on reading what it has open."""
    path = tmp_path / "data"
    filled(path)
    filled(tmp_path / "spare", 7)
    with vectordb.open(path, maintenance=False) as database:
        c = database.collection("c")
        c.count()
        path.rename(tmp_path / "elsewhere")
        (tmp_path / "spare").rename(path)
        with Worker() as worker:
            assert "has had" in worker.call(purge, str(tmp_path / "elsewhere"))
        assert c.count() == 300
        with pytest.raises(StorageError, match="replaced"):
            put(c, 1000)
    assert check(path).points == 7 and check(tmp_path / "elsewhere").points == 300


def purge(path: str) -> str:
    requests.PATIENCE_SECONDS = 0.5
    with vectordb.open(path, maintenance=False) as database:
        try:
            return str(database.purge())
        except VectorDBError as error:
            return str(error)
