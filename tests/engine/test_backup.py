"""Snapshots and restore: consistent during writes, complete or absent, and damaged snapshots are refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

import vectordb
from tests.support import forked
from tests.support.upkeep import hurry, index_files, vectors
from vectordb import (
    AlreadyExistsError,
    CorruptionError,
    Dense,
    FormatVersionError,
    Int,
    InvalidArgumentError,
    NotFoundError,
    Schema,
    Sparse,
)
from vectordb import StorageError as StorageProblem
from vectordb.common import failpoints
from vectordb.maintenance import backup
from vectordb.storage import manifest as manifest_file
from vectordb.storage.reader import read_only

SCHEMA = Schema({"v": Dense(4, "dot"), "s": Sparse()}, {"n": Int()})
POINTS = 300


@pytest.fixture(autouse=True)
def disarmed():
    yield
    failpoints.disarm()


def fill(collection, k: int, n: int = POINTS) -> None:
    """Every point says k, so that an answer of two batches shows."""
    rows = {"v": np.full((n, 4), k, np.float32), "s": [{i: float(k)} for i in range(n)]}
    collection.upsert(ids=list(range(n)), vectors=rows, attributes={"n": [k] * n})


def generation(collection) -> int:
    found = {(point.attributes["n"], *point.vectors["v"].tolist()) for point in collection.iterate(with_vectors=True)}
    ((k, *vector),) = found
    assert vector == [k] * 4 and collection.count() == POINTS
    return k


@pytest.fixture
def filled(database):
    collection = database.create_collection("c", SCHEMA)
    collection.upsert(ids=list(range(POINTS)), vectors={"v": vectors(np.random.default_rng(0), POINTS)}, attributes={"n": [1] * POINTS})
    collection.optimize()
    return collection


def left_beside(target: Path) -> list[str]:
    return [path.name for path in target.parent.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("archive", [False, True])
def test_a_restored_snapshot_answers_as_the_database_did(database, filled, directory, tmp_path, archive):
    target = tmp_path / "deep" / "snap"
    manifest = database.snapshot(target, archive=archive)
    assert manifest["collections"] == {"c": {"sequence": 1, "points": POINTS}}
    assert set(manifest["files"]) == {"data.mdb", *(f"indexes/{name}" for name in index_files(directory))} and len(manifest["files"]) == 2
    assert target.is_file() == archive and left_beside(target) == []
    filled.delete(list(range(100)))
    report = backup.check(target)
    assert report.ok and report.notes == () and report.points == POINTS
    again = vectordb.restore(target, tmp_path / "back")
    assert again == manifest | {"path": str(tmp_path / "back")}
    query = vectors(np.random.default_rng(1), 1)[0]
    with vectordb.open(tmp_path / "back", create=False) as back:
        collection = back.collection("c")
        assert collection.count() == POINTS and collection.info().statistics["v"]["segments"]
        assert collection.search({"v": query}, limit=3).ids.tolist() == collection.search({"v": query}, limit=3, exact=True).ids.tolist()
        collection.upsert(ids=[1000], vectors={"v": [query]})
    assert backup.check(target).ok  # what happens to the restored directory doesn't reach the snapshot
    assert backup.check(tmp_path / "back").ok


def test_a_directory_snapshot_links_index_files_and_copies_them_where_it_can_not(database, filled, directory, tmp_path, monkeypatch):
    (name,) = index_files(directory)
    database.snapshot(tmp_path / "linked")
    assert (tmp_path / "linked" / "indexes" / name).samefile(directory / "indexes" / name)

    def no_links(*_):
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", no_links)
    database.snapshot(tmp_path / "copied")
    assert not (tmp_path / "copied" / "indexes" / name).samefile(directory / "indexes" / name)
    assert backup.check(tmp_path / "copied").ok


def test_a_snapshot_of_a_moment_while_others_write_and_maintain(database, tmp_path, monkeypatch):
    hurry(monkeypatch)
    collection = database.create_collection("c", SCHEMA)
    fill(collection, 1)
    stop, failed = threading.Event(), []

    def write():
        k = 1
        try:
            while not stop.is_set():
                k += 1
                fill(collection, k)
                collection.optimize(timeout=30)
        except Exception as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        manifests = [database.snapshot(tmp_path / f"s{i}", archive=bool(i % 2)) for i in range(6)]
    finally:
        stop.set()
        writer.join(300)
    assert not failed
    for i, manifest in enumerate(manifests):
        assert backup.check(tmp_path / f"s{i}").ok
        vectordb.restore(tmp_path / f"s{i}", tmp_path / f"b{i}")
        with vectordb.open(tmp_path / f"b{i}", create=False, maintenance=False) as back:
            restored = back.collection("c")
            assert generation(restored) == restored.info().sequence == manifest["collections"]["c"]["sequence"]


def test_an_index_file_replaced_while_it_is_taken_is_taken_anew(database, filled, directory, tmp_path, monkeypatch):
    """Between the transaction and the link, maintenance replaces the file that the registry names."""
    (before,) = index_files(directory)
    link, replaced = os.link, []

    def replace_first(source, target):
        if not replaced and Path(source).name == before:
            replaced.append(True)
            filled.delete([0])
            filled.optimize()
        link(source, target)

    monkeypatch.setattr(os, "link", replace_first)
    manifest = database.snapshot(tmp_path / "snap")
    (after,) = index_files(directory)
    assert replaced and after != before and set(manifest["files"]) == {"data.mdb", f"indexes/{after}"}
    assert manifest["collections"]["c"]["points"] == POINTS - 1


def test_a_missing_or_damaged_index_file_is_left_out_of_a_snapshot(database, filled, directory, tmp_path):
    (name,) = index_files(directory)
    path = directory / "indexes" / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.unlink()  # the open file stays as it is
    path.write_bytes(data)
    for archive in (False, True):
        assert set(database.snapshot(tmp_path / f"d{archive}", archive=archive)["files"]) == {"data.mdb"}
    path.unlink()
    assert set(database.snapshot(tmp_path / "lost")["files"]) == {"data.mdb"}
    vectordb.restore(tmp_path / "lost", tmp_path / "back")
    with vectordb.open(tmp_path / "back", maintenance=False) as back:
        assert len(back.collection("c").search({"v": [1, 0, 0, 0]}, limit=20)) == 20


def test_what_is_there_is_not_written_over(database, filled, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty too").mkdir()
    for name in ("full", "file"):
        for archive in (False, True):
            with pytest.raises(AlreadyExistsError, match="already exists"):
                database.snapshot(tmp_path / name, archive=archive)
    database.snapshot(tmp_path / "empty")
    database.snapshot(tmp_path / "empty too", archive=True)
    for name in ("full", "file"):
        with pytest.raises(AlreadyExistsError):
            vectordb.restore(tmp_path / "empty", tmp_path / name)
    assert (tmp_path / "full" / "mine").read_text() == (tmp_path / "file").read_text() == "mine"
    with pytest.raises(InvalidArgumentError, match="archive must be"):
        database.snapshot(tmp_path / "x", archive="tar")


@pytest.mark.parametrize("archive", [False, True])
def test_a_snapshot_inside_a_database_or_a_snapshot_is_refused(database, filled, directory, tmp_path, archive):
    (tmp_path / "link").symlink_to(directory)
    database.snapshot(tmp_path / "first")
    before = sorted(path for path in tmp_path.rglob("*"))
    inside = [
        directory / "x",
        directory / "deep" / "x",
        directory / "indexes" / "x",
        tmp_path / "link" / "x",
        directory / ".." / "data" / "x",
    ]
    for path in inside:
        with pytest.raises(
            InvalidArgumentError, match=f"is in the directory of the database {directory}; write a path outside it"
        ) as caught:
            database.snapshot(path, archive=archive)
        assert caught.value.field == "path"
    with pytest.raises(InvalidArgumentError, match=f"is in the directory of the snapshot {tmp_path / 'first'}"):
        database.snapshot(tmp_path / "first" / "x", archive=archive)
    with pytest.raises(AlreadyExistsError):
        database.snapshot(directory, archive=archive)
    assert sorted(path for path in tmp_path.rglob("*")) == before
    database.snapshot(tmp_path / "data-snapshots" / "x", archive=archive)


def test_a_directory_restored_inside_a_database_or_its_own_snapshot_is_refused(database, filled, directory, tmp_path):
    database.snapshot(tmp_path / "snap")
    before = sorted(path for path in tmp_path.rglob("*"))
    for target in (directory / "x", tmp_path / "snap" / "x"):
        with pytest.raises(InvalidArgumentError, match="write a path outside it") as caught:
            vectordb.restore(tmp_path / "snap", target)
        assert caught.value.field == "directory"
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_a_name_taken_meanwhile_is_left_to_whoever_took_it(database, filled, tmp_path):
    for archive in (False, True):
        target = tmp_path / f"taken{archive}"

        def take(target=target):
            target.mkdir()
            (target / "theirs").write_text("theirs")

        failpoints.arm("snapshot.written", take)
        with pytest.raises(AlreadyExistsError):
            database.snapshot(target, archive=archive)
        assert [path.name for path in target.iterdir()] == ["theirs"] and left_beside(target) == []


@pytest.mark.parametrize("archive", [False, True])
def test_a_flipped_bit_anywhere_in_a_snapshot_is_found_and_not_restored(database, filled, tmp_path, archive):
    snap = tmp_path / "snap"
    manifest = database.snapshot(snap, archive=archive)
    places = [snap] if archive else [snap / "manifest.json", *(snap / name for name in manifest["files"])]
    rng = np.random.default_rng(3)
    harmless = 0
    for path in places:
        whole = path.read_bytes()
        for at in rng.integers(0, len(whole), 12).tolist():
            damaged = bytearray(whole)
            damaged[at] ^= 1 << int(rng.integers(8))
            path.unlink()
            path.write_bytes(damaged)
            try:
                vectordb.restore(snap, tmp_path / "back")
            except (CorruptionError, NotFoundError, FormatVersionError):
                assert not (tmp_path / "back").exists() and left_beside(snap) == []
            else:  # an owner's name in a tar header, or padding: nothing of the snapshot
                assert archive
                harmless += 1
                shutil.rmtree(tmp_path / "back")
        path.write_bytes(whole)
    assert harmless < 12
    assert backup.check(snap).ok


@pytest.mark.parametrize("archive", [False, True])
def test_a_snapshot_cut_short_is_none(database, filled, tmp_path, archive):
    snap = tmp_path / "snap"
    database.snapshot(snap, archive=archive)
    path = snap if archive else snap / "data.mdb"
    whole = path.read_bytes()
    for length in (0, 100, 512, len(whole) // 2, len(whole) - 5_000):
        path.write_bytes(whole[:length])
        with pytest.raises((NotFoundError, CorruptionError)):
            vectordb.restore(snap, tmp_path / "back")
    path.write_bytes(whole)
    if not archive:
        (snap / "manifest.json").unlink()
        with pytest.raises(NotFoundError, match="not a complete snapshot"):
            vectordb.restore(snap, tmp_path / "back")
    with pytest.raises(NotFoundError, match="no snapshot at"):
        vectordb.restore(tmp_path / "nothing", tmp_path / "back")


def test_a_snapshot_of_a_newer_version_or_with_strange_names_is_refused(database, filled, tmp_path):
    snap = tmp_path / "snap"
    database.snapshot(snap)
    manifest = json.loads((snap / "manifest.json").read_text())["manifest"]
    for change in ({"snapshot": 2}, {"format": 99}):
        (snap / "manifest.json").write_bytes(manifest_file.pack(manifest | change))
        with pytest.raises(FormatVersionError, match="reads up to"):
            vectordb.restore(snap, tmp_path / "back")
    for name in ("../evil", "/etc/evil", "indexes/../../evil", "lock.mdb"):
        (snap / "manifest.json").write_bytes(
            manifest_file.pack(manifest | {"files": manifest["files"] | {name: {"bytes": 0, "xxh3_128": "0" * 32}}})
        )
        with pytest.raises(CorruptionError, match="no snapshot contains"):
            vectordb.restore(snap, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_check_makes_no_file_in_a_snapshot(database, filled, tmp_path):
    database.snapshot(tmp_path / "snap")
    there = {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "snap").rglob("*"))}
    assert backup.check(tmp_path / "snap").ok
    assert {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "snap").rglob("*"))} == there


def test_an_archive_is_a_plain_tar_with_the_manifest_last(database, filled, tmp_path):
    manifest = database.snapshot(tmp_path / "snap.tar", archive=True)
    with tarfile.open(tmp_path / "snap.tar", "r:") as tar:
        assert tar.getnames()[-1] == "manifest.json" and set(tar.getnames()) == {*manifest["files"], "manifest.json"}
        assert {name: tar.getmember(name).size for name in manifest["files"]} == {n: f["bytes"] for n, f in manifest["files"].items()}


@pytest.mark.parametrize("step", ["snapshot.begun", "snapshot.taken", "snapshot.copied", "snapshot.written"])
def test_a_full_disk_leaves_no_snapshot(database, filled, tmp_path, step):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    failpoints.arm(step, full)
    with pytest.raises(StorageProblem, match="no space left"):
        database.snapshot(tmp_path / "snap")
    assert not (tmp_path / "snap").exists() and left_beside(tmp_path / "snap") == []


def run(directory: str, snap: str, back: str, step: str, archive: bool) -> None:
    """Snapshot or restore until killed at ``step``. Runs in a child."""
    failpoints.arm(step, lambda: os.kill(os.getpid(), signal.SIGKILL))
    if step.startswith("snapshot"):
        with vectordb.open(directory, maintenance=False) as database:
            database.snapshot(snap, archive=archive)
    else:
        vectordb.restore(snap, back)


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("step", backup.STEPS)
def test_killed_at_any_step_there_is_the_whole_thing_or_nothing(database, filled, directory, tmp_path, step, archive):
    context = forked.context()
    snap, back = tmp_path / "out" / "snap", tmp_path / "out" / "back"
    made = back if step.startswith("restore") else snap
    if made is back:
        database.snapshot(snap, archive=archive)
    process = context.Process(target=run, args=(str(directory), str(snap), str(back), step, archive))
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    assert made.exists() == step.endswith(".named")
    assert len(left_beside(made)) == 1
    if made.exists():
        assert backup.check(made).ok
        made = made.with_name("another")  # the next of them cleans up, whatever its name
    if step.startswith("snapshot"):
        database.snapshot(made, archive=archive)
    else:
        vectordb.restore(snap, made)
    assert left_beside(made) == [] and backup.check(made).ok


def test_a_scratch_directory_in_use_is_left_alone(database, filled, tmp_path):
    failpoints.arm("snapshot.written", lambda: (failpoints.disarm(), database.snapshot(tmp_path / "inner")))
    database.snapshot(tmp_path / "outer")
    assert backup.check(tmp_path / "inner").ok and backup.check(tmp_path / "outer").ok


def test_a_read_only_look_refuses_what_open_refuses(tmp_path):
    for make in (lambda path: None, lambda path: (path / "data.mdb").write_bytes(b"x" * 9000)):
        path = tmp_path / f"p{len(list(tmp_path.iterdir()))}"
        path.mkdir()
        make(path)
        with pytest.raises(StorageProblem), read_only(path):
            pass
        assert {entry.name for entry in path.iterdir()} <= {"data.mdb"}
