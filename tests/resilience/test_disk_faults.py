"""A full disk, an I/O error, a failed sync: a typed error, no writes until the directory is reopened, and reads continue.

The faults come from the kernel: LMDB's file descriptor is replaced by another one, for which the kernel refuses writes or the sync.
"""

from __future__ import annotations

import errno
import os
import resource
import subprocess

import lmdb
import numpy as np
import pytest

import vectordb
from tests.support.nightly import record
from tests.support.upkeep import hurry
from tests.support.worker import Worker
from vectordb import Dense, Int, Schema, StorageError
from vectordb.common import failpoints
from vectordb.engine.check import check

SCHEMA = Schema({"v": Dense(4)}, {"n": Int()})
FAULTS = {
    "no space": ("/dev/full", os.O_RDWR, "no space left|No space left"),
    "input/output error": ("/proc/self/mem", os.O_RDWR, "Input/output error|no space left"),
    "a sync that fails": ("/dev/null", os.O_RDWR, "Invalid argument"),
    "not writable": ("data.mdb", os.O_RDONLY, "Bad file descriptor"),
}


def write(collection, ids) -> None:
    ids = list(ids)
    collection.upsert(ids=ids, vectors={"v": np.ones((len(ids), 4))}, attributes={"n": ids})


def descriptors(path: str) -> list[int]:
    """Those of this process that are open for writing to a file."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            same = os.readlink(f"/proc/self/fd/{name}") == path
        except OSError:
            continue
        if same:
            found.append(int(name))
    return found


def suffer(path: str, fault: str, durability: str) -> dict:
    """Write, suffer a fault, go on reading; what was seen of it."""
    target, mode, _ = FAULTS[fault]
    seen: dict = {}
    database = vectordb.open(path, durability=durability, maintenance=False)
    c = database.collection("c")
    write(c, range(50, 100))
    data = os.path.join(os.path.realpath(path), "data.mdb")
    held = descriptors(data)
    other = os.open(os.path.join(path, target), mode)
    kept = [os.dup(descriptor) for descriptor in held]
    for descriptor in held:
        os.dup2(other, descriptor)
    for name in ("fault", "after"):
        try:
            write(c, range(100, 150))
        except StorageError as error:
            seen[name] = str(error)
    for descriptor, good in zip(held, kept, strict=True):
        os.dup2(good, descriptor)
    try:  # the disk is well again, but nobody knows what is on it
        write(c, range(100, 150))
    except StorageError as error:
        seen["healed"] = str(error)
    seen["count"] = c.count()
    seen["hits"] = len(c.search({"v": [1, 1, 1, 1]}, limit=200))
    database.close()
    with vectordb.open(path, maintenance=False) as database:
        c = database.collection("c")
        seen["reopened"] = c.count()
        write(c, range(100, 150))
        seen["written"] = c.count()
    return seen


@pytest.mark.parametrize("durability", ["commit", "batched"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_write_is_told_and_refuses_others_until_the_directory_is_reopened(directory, fault, durability):
    with vectordb.open(directory) as database:
        write(database.create_collection("c", SCHEMA), range(50))
    with Worker() as worker:
        seen = worker.call(suffer, str(directory), fault, durability)
    assert any(words in seen["fault"] for words in FAULTS[fault][2].split("|")), seen
    assert str(directory) in seen["fault"]
    assert (
        "refuses writes until it is closed and opened again" in seen["after"]
        and "refuses writes until it is closed and opened again" in seen["healed"]
    )
    assert (seen["count"], seen["hits"], seen["reopened"], seen["written"]) == (100, 100, 100, 150)


def fill_up(path: str, limit: int) -> dict:
    """Write until the file may grow no more."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    database = vectordb.open(path, maintenance=False)
    c = database.collection("c")
    acknowledged = 0
    try:
        for batch in range(1000):
            c.upsert(ids=range(batch * 100, batch * 100 + 100), vectors={"v": np.ones((100, 4))}, attributes={"n": [batch] * 100})
            acknowledged += 100
    except StorageError as error:
        said = str(error)
    found = c.count(), len(c.search({"v": [1, 1, 1, 1]}, limit=5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    database.close()
    return {"said": said, "acknowledged": acknowledged, "found": found}


def test_a_file_that_may_not_grow_loses_nothing_that_was_acknowledged(directory):
    with vectordb.open(directory) as database:
        database.create_collection("c", SCHEMA)
    with Worker() as worker:
        seen = worker.call(fill_up, str(directory), 600_000)
    assert seen["acknowledged"] > 0 and str(directory) in seen["said"]
    assert seen["found"] == (seen["acknowledged"], 5)
    with vectordb.open(directory) as database:
        c = database.collection("c")
        assert c.count() == seen["acknowledged"]
        write(c, [10**9])


def test_a_full_file_system_loses_nothing_that_was_acknowledged(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        acknowledged = 0
        with vectordb.open(disk / "data", maintenance=False) as database:
            c = database.create_collection("c", SCHEMA)
            with pytest.raises(StorageError, match="no space left"):
                while True:
                    write(c, range(acknowledged, acknowledged + 100))
                    acknowledged += 100
            assert c.count() == acknowledged > 0
        with vectordb.open(disk / "data", maintenance=False) as database:
            assert database.collection("c").count() == acknowledged
        assert check(disk / "data").ok
        record("full_file_system", acknowledged_rows=acknowledged)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_failed_sync_after_a_commit_refuses_writes_and_keeps_what_was_acknowledged(directory):
    def fail() -> None:
        raise lmdb.Error("fdatasync: Input/output error")

    with vectordb.open(directory, maintenance=False) as database:
        c = database.create_collection("c", SCHEMA)
        write(c, range(10))
        failpoints.arm("commit.unsynced", fail)
        try:
            with pytest.raises(StorageError, match="Input/output"):
                write(c, range(10, 20))
        finally:
            failpoints.disarm()
        with pytest.raises(StorageError, match="until it is closed and opened again"):
            write(c, range(20, 30))
        assert len(c.search({"v": [1, 1, 1, 1]}, limit=50)) == c.count() >= 10
    with vectordb.open(directory, maintenance=False) as database:
        c = database.collection("c")
        assert c.count() in (10, 20)  # never acknowledged, and whole if it is there
        write(c, range(20, 30))


@pytest.mark.parametrize("step", [step for step in failpoints.STEPS if step.startswith("index.") and step != "index.recorded"])
def test_an_index_that_cannot_be_written_fails_alone(directory, monkeypatch, step):
    code = errno.EIO if "sync" in step else errno.ENOSPC
    hurry(monkeypatch)

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    with vectordb.open(directory, maintenance=False) as database:
        c = database.create_collection("c", SCHEMA)
        write(c, range(100))
        c.optimize()
        write(c, range(100, 200))
        failpoints.arm(step, fail)
        try:
            with pytest.raises(StorageError, match=os.strerror(code)):
                c.optimize()
        finally:
            failpoints.disarm()
        write(c, range(200, 300))
        assert len(c.search({"v": [1, 1, 1, 1]}, limit=500)) == 300
        c.optimize()
        assert c.info().statistics["v"]["tail"] == 0
        assert len(list((directory / "indexes").glob("*.index"))) == 1
