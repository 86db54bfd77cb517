"""What is found where a database is to be opened or checked: empty, cut, damaged or half-made directories, snapshots, other processes."""

from __future__ import annotations

import os
import shutil
import threading

import pytest

import vectordb
from tests.support.directories import SCHEMA, filled, looks, put
from tests.support.upkeep import until
from tests.support.worker import Worker
from vectordb import CorruptionError, StorageError
from vectordb.engine.check import check
from vectordb.storage import integrity
from vectordb.storage.check import walker

_theirs: dict[str, vectordb.Database] = {}


@pytest.mark.parametrize("state", ["empty", "missing"])
def test_index_files_without_data_are_not_made_an_empty_database_of(tmp_path, state):
    path = tmp_path / "data"
    filled(path)
    assert list((path / "indexes").glob("*.index"))
    os.truncate(path / "data.mdb", 0) if state == "empty" else (path / "data.mdb").unlink()
    before = looks(path)
    for options in ({}, {"create": False}, {"salvage": True}, {"read_only": True}):
        with pytest.raises(CorruptionError, match=rf"data.mdb is {state}, but index files show that a database was here.*snapshot.*remove"):
            vectordb.open(path, **options)
    with pytest.raises(CorruptionError, match=f"is {state}"):
        vectordb.maintenance.backup.check(path)
    assert looks(path) == before
    shutil.rmtree(path / "indexes")
    if state == "missing":
        with pytest.raises(CorruptionError, match=r"lock files show that a database was here.*write\.lock"):
            vectordb.open(path)
        (path / "write.lock").unlink()
    with vectordb.open(path) as database:
        assert database.collections() == []


def test_who_has_the_only_copy_says_so_and_it_can_be_saved(tmp_path, caplog):
    path = tmp_path / "data"
    filled(path)
    old = vectordb.open(path, maintenance=False)
    (path / "data.mdb").unlink()
    with pytest.raises(StorageError, match=r"only copy.*snapshot\(\)"):
        put(old.collection("c"), 1000)
    with pytest.raises(StorageError, match=r"only copy.*snapshot\(\)"):
        vectordb.open(path)
    assert sum("only copy" in line for line in caplog.messages) == 1  # told once
    old.snapshot(tmp_path / "saved")
    points = old.collection("c").count()
    old.close()
    vectordb.restore(tmp_path / "saved", tmp_path / "again")
    with vectordb.open(tmp_path / "again") as database:
        assert database.collection("c").count() == points


def test_a_data_file_that_is_a_link_is_not_purged(tmp_path):
    """The file at the other end would keep what was deleted, and nobody would look there."""
    path = tmp_path / "data"
    filled(path)
    os.rename(path / "data.mdb", tmp_path / "elsewhere.mdb")
    (path / "data.mdb").symlink_to(tmp_path / "elsewhere.mdb")
    with vectordb.open(path, maintenance=False) as database:
        with pytest.raises(StorageError, match="is a link to"):
            database.purge()
        put(database.collection("c"), 1000)
    assert check(path).ok and (path / "data.mdb").is_symlink()


@pytest.mark.parametrize("leave", [[], ["data.mdb"], ["data.mdb", "lock.mdb", "open.lock"]])
def test_what_a_process_that_died_at_once_left_may_be_begun_again(tmp_path, leave):
    path = tmp_path / "data"
    path.mkdir()
    for name in leave:
        (path / name).touch()
    before = looks(path)
    for read in (lambda: vectordb.open(path, create=False), lambda: vectordb.open(path, read_only=True), lambda: check(path)):
        with pytest.raises(StorageError, match="doesn't hold a database"):
            read()
    assert looks(path) == before
    with vectordb.open(path) as database:
        put(database.create_collection("c", SCHEMA), 0)
    assert check(path).points == 1


def test_several_who_make_a_directory_at_once_make_one(tmp_path):
    with Worker() as first, Worker() as second, Worker() as third:
        for _ in range(3):
            path = tmp_path / str(_)
            for worker in (first, second, third):
                worker.send(made, str(path))
            assert [worker.receive() for worker in (first, second, third)] == ["made"] * 3


def made(path: str) -> str:
    with vectordb.open(path, maintenance=False) as database:
        put(database.create_collection("c", SCHEMA, exist_ok=True), os.getpid())
    return "made"


def leak(path) -> None:
    """Say in both first pages that the file has a page more, which nothing has."""
    data = bytearray((path / "data.mdb").read_bytes())
    with vectordb.open(path, maintenance=False) as database:
        last = database.directory.env._lmdb.info()["last_pgno"]
        size = database.directory.env._lmdb.stat()["psize"]
    for page in (0, 1):
        at = page * size + integrity._META_BYTES - integrity._end.size
        number, transaction = integrity._end.unpack_from(data, at)
        integrity._end.pack_into(data, at, max(number, last) + 1, transaction)
    data.extend(bytes(max(0, (last + 2) * size - len(data))))
    (path / "data.mdb").write_bytes(data)


def test_pages_that_belong_to_nothing_are_refused_and_read_when_that_is_asked_for(tmp_path):
    path = tmp_path / "data"
    filled(path)
    leak(path)
    with pytest.raises(CorruptionError, match=r"1 of its pages are used by no record.*salvage=True"):
        vectordb.open(path)
    with vectordb.open(path, salvage=True) as database:
        c = database.collection("c")
        assert c.count() == 300 and len(c.search({"v": [1, 1, 1, 1]}, limit=400)) == 300
        with pytest.raises(CorruptionError, match="is damaged, so writes are refused"):
            put(c, 1000)
        database.snapshot(tmp_path / "rescued")
    assert check(path).problems == ("data.mdb: 1 of its pages are used by no record",)
    vectordb.restore(tmp_path / "rescued", tmp_path / "whole")
    assert check(tmp_path / "whole").points == 300 and check(tmp_path / "whole").ok


def healthy(path) -> None:
    pass


def empty(path) -> None:
    os.truncate(path / "data.mdb", 0)


def cut(path) -> None:
    os.truncate(path / "data.mdb", 8192)


def flipped(path) -> None:
    data = bytearray((path / "data.mdb").read_bytes())
    data[data.index(b"v" * 3) if b"vvv" in data else len(data) // 2] ^= 1
    (path / "data.mdb").write_bytes(data)


def without_locks(path) -> None:
    for name in ("lock.mdb", "write.lock", "open.lock"):
        (path / name).unlink()


def without_index(path) -> None:
    shutil.rmtree(path / "indexes")


def leftover(path) -> None:
    (path / "tmp-data.mdb").write_bytes(b"half")


@pytest.mark.parametrize("state", [healthy, empty, cut, flipped, without_locks, without_index, leftover, leak])
def test_check_writes_nothing(tmp_path, state, monkeypatch):
    path = tmp_path / "data"
    filled(path)
    state(path)
    monkeypatch.chdir(path)
    before = looks(tmp_path)
    try:
        vectordb.maintenance.backup.check(path)
    except StorageError:
        assert state in (empty, cut, flipped)
    assert looks(tmp_path) == before


@pytest.mark.parametrize("archive", [False, True])
def test_check_writes_nothing_to_a_snapshot_or_beside_it(tmp_path, archive):
    filled(tmp_path / "data")
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        database.snapshot(tmp_path / "snapshot", archive=archive)
    before = looks(tmp_path)
    assert vectordb.maintenance.backup.check(tmp_path / "snapshot").points == 300
    assert looks(tmp_path) == before


def test_a_check_that_somebody_comes_to_write_beside_lets_him_and_begins_again(tmp_path, monkeypatch):
    path = tmp_path / "data"
    filled(path)
    monkeypatch.setattr(walker, "_LOOK_SECONDS", 0.0)
    with Worker() as worker:
        looked, run = [], walker.Lookout.check

        def look(self) -> None:
            if not looked:
                looked.append(True)
                worker.call(come, str(path))
            run(self)

        monkeypatch.setattr(walker.Lookout, "check", look)
        assert check(path).ok and looked
        assert worker.call(go, str(path)) == 301
    assert check(path).points == 301


def come(path: str) -> None:
    _theirs[path] = vectordb.open(path, maintenance=False)
    threading.Thread(target=put, args=(_theirs[path].collection("c"), 9000)).start()


def go(path: str) -> int:
    c = _theirs[path].collection("c")
    until(lambda: c.count() == 301)
    _theirs.pop(path).close()
    return 301


def test_a_snapshot_is_not_opened_to_be_written_to(tmp_path):
    filled(tmp_path / "data")
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        database.snapshot(tmp_path / "snapshot")
        database.snapshot(tmp_path / "snapshot.tar", archive=True)
    before = looks(tmp_path / "snapshot")
    for options in ({}, {"create": False}, {"salvage": True}):
        with pytest.raises(StorageError, match=r"is a snapshot.*read_only=True.*vectordb\.restore"):
            vectordb.open(tmp_path / "snapshot", **options)
    with pytest.raises(StorageError, match=r"is a file, not a directory.*restore"):
        vectordb.open(tmp_path / "snapshot.tar")
    with vectordb.open(tmp_path / "snapshot", read_only=True) as database:
        c = database.collection("c")
        assert c.count() == 300 and len(c.search({"v": [1, 1, 1, 1]}, limit=5)) == 5
        with pytest.raises(StorageError, match="is read-only: it is a snapshot"):
            put(c, 1000)
    assert looks(tmp_path / "snapshot") == before
