"""A path is resolved once; what open and restore are given, and databases in memory."""

from __future__ import annotations

import errno
import os

import pytest

import vectordb
from tests.support.directories import SCHEMA, filled, looks, put
from vectordb import ClosedError, InvalidArgumentError, StorageError, VectorDBError
from vectordb.engine.check import check
from vectordb.storage import modes
from vectordb.storage.lmdb_errors import translated


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
