"""A database is bound to the files it opened: its path is resolved once, and moved, removed or replaced files are not written."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading

import numpy as np
import pytest

import vectordb
from tests.support.upkeep import hurry, until
from tests.support.worker import Worker
from vectordb import ClosedError, CorruptionError, Dense, Int, InvalidArgumentError, Schema, StorageError, VectorDBError
from vectordb.engine.check import check
from vectordb.maintenance import backoff, requests, scheduler
from vectordb.storage import integrity, modes, place
from vectordb.storage.check import walker
from vectordb.storage.lmdb_errors import translated

SCHEMA = Schema({"v": Dense(4)}, {"n": Int()})
_theirs: dict[str, vectordb.Database] = {}


def put(collection, first: int, count: int = 1) -> list[int]:
    ids = list(range(first, first + count))
    collection.upsert(ids=ids, vectors={"v": np.ones((count, 4))}, attributes={"n": ids})
    return ids


def filled(path, count: int = 300) -> None:
    with vectordb.open(path, maintenance=False) as database:
        c = database.create_collection("c", SCHEMA)
        put(c, 0, count)
        c.optimize()


def looks(folder) -> dict:
    """Everything about the files of a folder that reading leaves alone."""
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        about = os.stat(path)
        content = path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = (about.st_ino, about.st_mode, about.st_size, about.st_mtime_ns, about.st_ctime_ns, content)
    return found


# Once resolved


def test_a_relative_path_means_the_same_directory_after_chdir(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    filled(tmp_path / "a" / "data")
    filled(tmp_path / "b" / "data")
    other = looks(tmp_path / "b")
    monkeypatch.chdir(tmp_path / "a")
    with vectordb.open("data", maintenance=False) as database:
        monkeypatch.chdir(tmp_path / "b")
        assert database.path == str(tmp_path / "a" / "data")
        c = database.collection("c")
        c.delete([1, 2, 3])
        put(c, 1000, 300)
        c.optimize()
        assert database.purge()["proven"]
        database.snapshot(tmp_path / "snapshot")
        database.flush()
        assert c.count() == 597 and vectordb.open(tmp_path / "a" / "data").collection("c").count() == 597
    monkeypatch.chdir(tmp_path)
    assert looks(tmp_path / "b") == other
    assert check(tmp_path / "a" / "data").ok and sorted(os.listdir(tmp_path)) == ["a", "b", "snapshot"]


def test_a_link_is_followed_once(tmp_path):
    filled(tmp_path / "one")
    filled(tmp_path / "two", 10)
    (tmp_path / "now").symlink_to("one")
    with vectordb.open(tmp_path / "now") as database:
        (tmp_path / "now").unlink()
        (tmp_path / "now").symlink_to("two")
        put(database.collection("c"), 1000)
        with vectordb.open(tmp_path / "now") as other:
            assert other.collection("c").count() == 10
    assert check(tmp_path / "one").points == 301


# Gone


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


@pytest.mark.parametrize("removed", [["lock.mdb"], ["lock.mdb", "open.lock"], ["lock.mdb", "open.lock", "write.lock", "swap.lock"]])
@pytest.mark.parametrize("ours, theirs", [(1, 1), (1, 2), (5, 5), (30, 3)])
def test_lock_files_removed_under_a_running_process_lose_nothing_that_was_acknowledged(tmp_path, monkeypatch, ours, theirs, removed):
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


# Empty, missing, damaged


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


# What open is given


@pytest.mark.parametrize(
    "path", ["", b"bytes", 7, True, 1.5, ["a"], "a\0b", "\ud800", "localhost:7070", "10.0.0.1:80", "[::1]:7070", "grpc://x"]
)
def test_what_is_no_path_is_refused(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidArgumentError, match="Client" if isinstance(path, str) and ":" in path else "path") as caught:
        vectordb.open(path)
    assert caught.value.field == "path" and os.listdir(tmp_path) == []


def test_none_is_not_a_database_in_memory():
    with pytest.raises(InvalidArgumentError, match='not None; write ":memory:" for a database that is removed'):
        vectordb.open(None)


def test_a_tilde_is_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with vectordb.open("~/data") as database:
        assert database.path == str(tmp_path / "home" / "data")
        database.snapshot("~/snapshot")
    vectordb.restore("~/snapshot", "~/restored")
    assert check("~/restored").ok
    assert sorted(os.listdir(tmp_path / "home")) == ["data", "restored", "snapshot"] and os.listdir(tmp_path) == ["home"]
    for path in ("~no-such-user/data", "~no-such-user"):
        with pytest.raises(InvalidArgumentError, match=rf"no home directory of that user; write './{path}' for a folder"):
            vectordb.open(path)
    vectordb.open("./~no-such-user").close()
    assert sorted(os.listdir(tmp_path)) == ["home", "~no-such-user"]


def test_open_and_restore_say_which_argument_is_wrong(tmp_path):
    for call, text in (
        (lambda: vectordb.open(), "open() needs path; write open("),
        (lambda: vectordb.open(tmp_path, readonly=True), "open() has no argument 'readonly'; write read_only=…"),
        (lambda: vectordb.restore("a"), "restore() needs directory; write restore(source, directory)"),
        (lambda: vectordb.Database("x"), "Database() is not called directly; write vectordb.open('x')"),
        (lambda: vectordb.Database(path="x", create=True), "write vectordb.open('x')"),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            call()
        assert text in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_path_that_cannot_be_used_says_why_and_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file is a file, not a directory; choose a path that doesn't lead through a file"):
        vectordb.open(tmp_path / "file" / "below" / "data")
    for code, text in ((errno.EACCES, "no permission to use"), (errno.EROFS, "mounted read-only; choose another path")):
        error = OSError(code, os.strerror(code), str(tmp_path / "missing" / "data"))
        assert text in str(translated(error, tmp_path / "missing" / "data")) and "Errno" not in str(translated(error, tmp_path))
    error = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "missing" / "data"))
    assert f"to use {tmp_path}; choose another path, or change" in str(translated(error, tmp_path / "missing"))
    error = FileNotFoundError(errno.ENOENT, "No such file or directory", "x")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(StorageError, match="takes no new folders; choose another path"):
        patch.setattr(modes, "make_folder", lambda *_: (_ for _ in ()).throw(error))  # as below /proc
        vectordb.open(tmp_path / "data")


def test_a_directory_with_the_name_of_an_address_is_opened_by_a_longer_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vectordb.open(tmp_path / "localhost:7070").close()
    vectordb.open("localhost:7070").close()  # it is there
    assert os.listdir(tmp_path) == ["localhost:7070"]


def test_paths_that_lead_nowhere_are_told_of_in_our_words(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    vectordb.open(tmp_path / "any bytes \udcff").close()
    assert check(tmp_path / "any bytes \udcff").ok
    for path in ("file", "file/below", "loop", "loop/below", "x" * 300):
        with pytest.raises(StorageError):
            vectordb.open(tmp_path / path)
        with pytest.raises(StorageError):
            check(tmp_path / path)
        with pytest.raises(VectorDBError):
            vectordb.restore(tmp_path / path, tmp_path / "restored")
    with vectordb.open(tmp_path / "data") as database:
        for path in ("file/below", "loop/below", "x" * 300, "a\0b", "", None, 7):
            with pytest.raises(VectorDBError):
                database.snapshot(tmp_path / path if isinstance(path, str) and path else path)
            with pytest.raises(VectorDBError):
                vectordb.restore(tmp_path / "data", tmp_path / path if isinstance(path, str) and path else path)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(StorageError, match="current directory"):
        vectordb.open("data")


def test_a_database_in_memory_is_gone_when_it_is_closed(tmp_path, monkeypatch):
    path = ":memory:"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first, second = vectordb.open(path), vectordb.open(path)
    put(first.create_collection("c", SCHEMA), 0, 300)
    assert second.collections() == [] and len(os.listdir(tmp_path)) == 2
    assert all(os.stat(tmp_path / name).st_mode & 0o777 == 0o700 for name in os.listdir(tmp_path))
    first.collection("c").optimize()
    first.snapshot(tmp_path / "snapshot")
    first.close()
    second.close()
    assert os.listdir(tmp_path) == ["snapshot"]
    with pytest.raises(ClosedError):
        first.collections()
    vectordb.restore("snapshot", "data")
    assert check(tmp_path / "data").points == 300
    for options in ({"create": False}, {"read_only": True}, {"salvage": True}):
        with pytest.raises(InvalidArgumentError, match="in memory"):
            vectordb.open(path, **options)


def left_open(folder: str) -> list[str]:
    import subprocess
    import sys

    code = (
        "import tempfile, sys, os, vectordb; tempfile.tempdir = sys.argv[1]\n"
        "c = vectordb.open(':memory:').create_collection('c', vectordb.Schema({'v': vectordb.Dense(4)}))\n"
        "c.upsert(ids=[1], vectors={'v': [[1, 1, 1, 1]]})\n"
        "assert c.count() == 1 and len(os.listdir(sys.argv[1])) == 1\n"
    )
    subprocess.run([sys.executable, "-c", code, folder], check=True)
    return os.listdir(folder)


def test_a_database_in_memory_is_gone_when_the_process_ends(tmp_path):
    assert left_open(str(tmp_path)) == []


def test_the_address_of_a_service_is_not_a_directory_and_memory_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for address in ("localhost:7070", "https://db.example.org"):
        with pytest.raises(InvalidArgumentError, match="Client"):
            vectordb.open(address)
    with vectordb.open(":memory:") as db:
        db.create_collection("docs", SCHEMA).upsert(ids=[1])
        assert len(db["docs"]) == 1
    assert list(tmp_path.iterdir()) == []
