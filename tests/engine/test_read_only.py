"""Directories on a read-only file system or without write permission: reads work, and writes are refused with a typed error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

import vectordb
from tests.support.directories import SCHEMA, filled, looks, put
from tests.support.upkeep import until
from tests.support.worker import Worker
from vectordb import LockedError, StorageError
from vectordb.cli import main
from vectordb.engine.check import check
from vectordb.storage import locks, place

NOBODY = 65534
QUERY = {"v": [1.0, 1.0, 1.0, 1.0]}
_theirs: dict[str, vectordb.Database] = {}


@contextmanager
def disk(folder, size: str = "64m"):
    """A file system of our own; ``remount`` says how it is mounted."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    try:
        yield lambda how: subprocess.run(["mount", "-o", f"remount,{how}", "none", folder], check=True)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def refused(database, reason: str) -> None:
    c = database.collection("c")
    for write in (
        lambda: put(c, 9000),
        lambda: c.delete([1]),
        lambda: c.optimize(),
        lambda: c.purge(),
        lambda: database.purge(),
        lambda: c.add_fields(attributes={"more": vectordb.Int()}),
        lambda: database.create_collection("d", SCHEMA),
        lambda: database.create_collection("c", SCHEMA, exist_ok=True),
        lambda: database.drop_collection("c"),
    ):
        with pytest.raises(StorageError, match=f"is read-only: {reason}"):
            write()
    database.flush()


@pytest.mark.parametrize("lacking", ["nothing", "lock files", "an index file"])
def test_a_read_only_file_system_serves_everything_that_reads(tmp_path, lacking, monkeypatch):
    with disk(tmp_path / "disk") as remount:
        path = tmp_path / "disk" / "data"
        filled(path)
        if lacking == "lock files":
            for name in ("lock.mdb", "write.lock", "open.lock"):
                (path / name).unlink()
        if lacking == "an index file":
            next((path / "indexes").glob("*.index")).unlink()
        remount("ro")
        before = looks(path)
        for options in ({}, {"create": False}, {"read_only": True}, {"salvage": True}, {"maintenance": True}):
            with vectordb.open(path, **options) as database:
                c = database.collection("c")
                assert c.count() == c.count("n >= 0") == 300 and len(c.search(QUERY, limit=400)) == 300
                assert (c.info().statistics["v"]["tail"] == 0) is (lacking != "an index file")
                refused(database, "the file system is mounted read-only")
        with vectordb.open(path) as first, vectordb.open(path) as second, Worker() as worker:
            assert first.collection("c").count() == second.collection("c").count() == worker.call(count, str(path)) == 300
            first.snapshot(tmp_path / "snapshot")
        assert vectordb.maintenance.backup.check(path).ok and vectordb.maintenance.backup.check(tmp_path / "snapshot").points == 300
        assert main(["info", "--data", str(path)]) == main(["check", "--data", str(path)]) == 0
        assert main(["export", "--data", str(path), "--collection", "c", "--out", str(tmp_path / "out.jsonl")]) == 0
        assert main(["snapshot", "--data", str(path), str(tmp_path / "archive"), "--archive"]) == 0
        assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 300
        assert looks(path) == before
        remount("rw")
        with vectordb.open(path) as database:
            put(database.collection("c"), 9000)
        assert check(path).points == 301


def count(path: str) -> int:
    with vectordb.open(path) as database:
        return database.collection("c").count()


def test_a_service_answers_reads_on_a_read_only_file_system(tmp_path):
    from vectordb_client import Client

    from vectordb.server.main import start

    with disk(tmp_path / "disk") as remount:
        path = tmp_path / "disk" / "data"
        filled(path)
        remount("ro")
        with vectordb.open(path) as database:
            server, port = start(database, port=0)
            try:
                with Client(f"127.0.0.1:{port}") as client:
                    c = client.collection("c")
                    assert c.count() == 300 and len(c.search(QUERY, limit=5)) == 5
                    with pytest.raises(StorageError, match="is read-only: the file system is mounted read-only"):
                        put(c, 9000)
            finally:
                server.stop(0).wait()


# No permission


def as_nobody(function, *arguments):
    """Run as a user whom the files don't belong to."""
    assert vectordb.open and vectordb.maintenance.backup  # imported, and with them all they need
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        return function(*arguments)
    finally:
        os.seteuid(0)
        os.setegid(0)


def look_around(path: str, target: str) -> list:
    """What a reader without permission sees; the kernels were compiled before."""
    with vectordb.open(path) as database:
        c = database.collection("c")
        found = [c.count(), len(c.search(QUERY, limit=400)), len(c.get([1, 2])), len(list(c.iterate()))]
        refused(database, "this process has no permission to write to it")
        database.snapshot(target)
    return [*found, vectordb.maintenance.backup.check(path).ok, vectordb.maintenance.backup.check(target).points]


def keep_open(path: str) -> int:
    _theirs[path] = vectordb.open(path)
    return _theirs[path].collection("c").count()


def counted(path: str) -> int:
    return _theirs[path].collection("c").count()


def let_go(path: str) -> None:
    _theirs.pop(path).close()


@pytest.fixture
def open_folder():
    """A folder that anybody may enter, with one in it where anybody may write. Not below pytest's, which it closes to others."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    before = os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="vectordb-test-") as folder:
        os.chmod(folder, 0o755)
        free = Path(folder) / "free"
        free.mkdir()
        free.chmod(0o777)
        yield Path(folder)
    os.umask(before)


def shared(path) -> None:
    with vectordb.open(path, maintenance=False, file_mode=0o644) as database:
        put(database.create_collection("c", SCHEMA), 0, 300)
        database.collection("c").optimize()


def test_a_directory_without_write_permission_serves_everything_that_reads(open_folder):
    path = open_folder / "data"
    shared(path)
    with Worker() as worker:
        worker.call(count_all, str(path))
        before = looks(path)
        expected = [300, 300, 2, 300, True, 300]
        assert worker.call(as_nobody, look_around, str(path), str(open_folder / "free" / "snapshot")) == expected
    assert looks(path) == before


def count_all(path: str) -> None:
    """What needs compiling is compiled."""
    with vectordb.open(path, read_only=True) as database:
        c = database.collection("c")
        c.count()
        c.search(QUERY, limit=400)
        list(c.iterate())
    check(path)


def test_a_reader_without_permission_sees_what_the_owner_writes_and_lets_him(open_folder):
    path = open_folder / "data"
    shared(path)
    with Worker() as worker, vectordb.open(path, maintenance=False) as database:
        worker.call(count_all, str(path))
        c = database.collection("c")
        assert worker.call(as_nobody, keep_open, str(path)) == 300
        for i in range(20):
            put(c, 1000 + 100 * i, 100)
            c.delete(list(range(1000 + 100 * i, 1050 + 100 * i)))
            assert worker.call(as_nobody, counted, str(path)) == 300 + 50 * (i + 1)
        assert database.purge()["proven"]  # the reader lets the old file go
        put(c, 9000)
        assert worker.call(as_nobody, counted, str(path)) == 1301
        worker.call(let_go, str(path))
    assert check(path).ok


def test_writers_wait_while_a_reader_without_permission_reads(open_folder):
    path = open_folder / "data"
    shared(path)
    with Worker() as worker, vectordb.open(path, maintenance=False, write_timeout=0.2) as database:
        worker.call(count_all, str(path))
        worker.call(as_nobody, keep_open, str(path))
        worker.call(as_nobody, begin_reading, str(path))
        with pytest.raises(LockedError):
            put(database.collection("c"), 1000)
        worker.call(as_nobody, end_reading, str(path))
        put(database.collection("c"), 1000)
        worker.call(let_go, str(path))


_reading: dict[str, list] = {}


def begin_reading(path: str) -> None:
    env = _theirs[path].directory.env
    _reading[path] = [env, env.begin_read()]


def end_reading(path: str) -> None:
    env, txn = _reading.pop(path)
    env.end_read(txn)


@pytest.mark.parametrize("name", ["data.mdb", "write.lock", "."])
def test_what_may_not_be_read_is_told_of_in_our_words(open_folder, name):
    path = open_folder / "data"
    shared(path)
    (path / name).chmod(0o700 if name == "." else 0o600)
    with Worker() as worker:
        worker.call(count_all, str(path))
        for read in (count, check_ok):
            with pytest.raises(StorageError, match=r"[Pp]ermission denied"):
                worker.call(as_nobody, read, str(path))


def check_ok(path: str) -> bool:
    return check(path).ok


def test_a_file_that_may_not_be_written_makes_a_directory_read_only(tmp_path, monkeypatch):
    """The same without another user: what the system says of the files is put in its mouth."""
    path = tmp_path / "data"
    filled(path)
    may = place._may_write
    monkeypatch.setattr(place, "_may_write", lambda file: file.name != "lock.mdb" and may(file))
    before = looks(path)
    with vectordb.open(path) as database:
        assert database.collection("c").count() == 300
        refused(database, "this process has no permission to write to lock.mdb")
    assert looks(path) == before


# When it was asked for


def test_read_only_writes_nothing_and_is_one_handles_alone(tmp_path):
    path = tmp_path / "data"
    filled(path)
    before = {name: about for name, about in looks(path).items() if name != "lock.mdb"}
    with vectordb.open(path, read_only=True) as reader:
        refused(reader, "it was opened with read_only=True")
        assert len(reader.collection("c").search(QUERY, limit=400)) == 300
        assert {name: about for name, about in looks(path).items() if name != "lock.mdb"} == before
        with vectordb.open(path) as writer:
            put(writer.collection("c"), 1000)
        assert reader.collection("c").count() == 301
    with pytest.raises(StorageError, match="doesn't hold a database"):
        vectordb.open(tmp_path / "nowhere", read_only=True)
    assert not (tmp_path / "nowhere").exists()


def test_a_table_of_readers_is_not_needed_to_know_that_somebody_is_there(tmp_path):
    path = tmp_path / "data"
    filled(path)
    before = looks(path)
    assert not locks.in_use(path) and looks(path) == before
    with Worker() as worker:
        worker.call(keep_open, str(path))
        assert locks.in_use(path)
        worker.call(let_go, str(path))
    until(lambda: not locks.in_use(path))


@pytest.mark.parametrize("home", ["", "/proc/nowhere", None])
def test_no_home_is_needed(tmp_path, home):
    """Kernels are kept elsewhere, or not at all."""
    filled(tmp_path / "data", 3)
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME", "VECTORDB_CACHE_DIR")}
    environment |= {"TMPDIR": str(tmp_path)} | ({} if home is None else {"HOME": home})
    code = (
        "import os, pwd, sys, json\n"
        "def unknown(*_): raise KeyError('uid not found')\n"
        "pwd.getpwuid = unknown\n"
        "from vectordb.kernels import store\n"
        "print(json.dumps(store.cache_dir()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kept = json.loads(done.stdout)
    assert kept.startswith(str(tmp_path)) and not (tmp_path / "~").exists()
