"""Maliciously crafted snapshots are refused quickly with a typed error, and nothing of them is restored."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile

import numpy as np
import pytest

import vectordb
from tests.support.nightly import cases, record
from tests.support.upkeep import index_files
from vectordb import CorruptionError, Dense, FormatVersionError, NotFoundError, Schema, StorageError, VectorDBError
from vectordb.maintenance import archive as archive_files
from vectordb.maintenance import backup
from vectordb.storage import manifest as manifests

POINTS = 300


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A snapshot with an index file."""
    path = tmp_path_factory.mktemp("original")
    with vectordb.open(path / "data", maintenance=False) as database:
        collection = database.create_collection("c", Schema({"v": Dense(4)}))
        collection.upsert(ids=list(range(POINTS)), vectors={"v": np.random.default_rng(0).standard_normal((POINTS, 4))})
        collection.optimize()
        assert index_files(path / "data")
        database.snapshot(path / "snap")
    return path / "snap"


@pytest.fixture
def snap(original, tmp_path):
    shutil.copytree(original, tmp_path / "snap")
    return tmp_path / "snap"


def refused(snap, back, *errors: type[VectorDBError]) -> None:
    """By ``restore`` and by ``check``."""
    with pytest.raises(errors):
        vectordb.restore(snap, back)
    assert not back.exists()
    try:
        report = backup.check(snap)
    except VectorDBError:
        return
    assert not report.ok


def manifest_of(snap) -> dict:
    return json.loads((snap / "manifest.json").read_bytes())["manifest"]


INDEX = "indexes/c1-f16-0-300-0123456789abcdef.index"
FILE = {"bytes": 0, "xxh3_128": "99aa06d3014798d86001c324468d497f"}  # of an empty file
CHANGES = {
    "files is a list": lambda m: m | {"files": list(m["files"])},
    "files is null": lambda m: m | {"files": None},
    "files is empty": lambda m: m | {"files": {}},
    "a file without bytes": lambda m: m | {"files": {"data.mdb": {"xxh3_128": "0" * 32}}},
    "a file that is a string": lambda m: m | {"files": {"data.mdb": "all of it"}},
    "negative bytes": lambda m: m | {"files": {"data.mdb": {"bytes": -1, "xxh3_128": "0" * 32}}},
    "huge bytes": lambda m: m | {"files": {"data.mdb": {"bytes": 10**30, "xxh3_128": "0" * 32}}},
    "fractional bytes": lambda m: m | {"files": {"data.mdb": {"bytes": 1.5, "xxh3_128": "0" * 32}}},
    "a checksum that is a number": lambda m: m | {"files": {"data.mdb": {"bytes": 1, "xxh3_128": 5}}},
    "no collections": lambda m: {k: v for k, v in m.items() if k != "collections"},
    "collections is a list": lambda m: m | {"collections": []},
    "negative points": lambda m: m | {"collections": {"c": {"sequence": 1, "points": -1}}},
    "format true": lambda m: m | {"format": True},
    "format -1": lambda m: m | {"format": -1},
    "format 0": lambda m: m | {"format": 0},
    "format null": lambda m: m | {"format": None},
    "snapshot '1'": lambda m: m | {"snapshot": "1"},
    "snapshot 1.0": lambda m: m | {"snapshot": 1.0},
    "created is a number": lambda m: m | {"created": 5},
    **{
        f"the name {name!r}": lambda m, name=name: m | {"files": m["files"] | {name: FILE}}
        for name in (
            "",
            "/",
            ".",
            "..",
            "indexes/",
            "indexes",
            "lock.mdb",
            "data.mdb\0",
            "../data.mdb",
            "indexes/../data.mdb",
            "indexes//" + INDEX[8:],
            "indexes/a\nb.index",
            "indexes/.lock",
            "indexes/tmp-" + INDEX[8:],
            INDEX + "\n",
            INDEX + "\0",
            "x/" + INDEX,
            "\ud800",
        )
    },
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_manifest_with_wrong_values_is_refused(snap, tmp_path, change):
    made = CHANGES[change](manifest_of(snap))
    data = json.dumps({"manifest": made, "xxh3_128": _digest(made)}).encode()
    (snap / "manifest.json").write_bytes(data)
    refused(snap, tmp_path / "back", CorruptionError)


def _digest(made: dict) -> str:
    try:
        return manifests._digest(made)
    except UnicodeEncodeError:
        return "0" * 32


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"5",
        b"{}",
        b'{"manifest": 1, "xxh3_128": "a"}',
        b'{"manifest": {}, "xxh3_128": 5}',
        b'{"manifest": {}}',
        b"[" * 200_000,
        b'{"manifest":' * 100_000,
        b'{"manifest": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b'}, "xxh3_128": ""}',
        b"\xff\xfe",
        "{}".encode("utf-16"),
        b'{"manifest": {"format": 1e400}, "xxh3_128": ""}',
    ],
)
def test_what_is_no_manifest_is_refused(snap, tmp_path, data):
    (snap / "manifest.json").write_bytes(data)
    refused(snap, tmp_path / "back", CorruptionError)


def test_a_newer_version_is_said_to_be_newer(snap, tmp_path):
    for change in ({"snapshot": 2}, {"format": 99}, {"format": 99, "files": []}):
        (snap / "manifest.json").write_bytes(manifests.pack(manifest_of(snap) | change))
        refused(snap, tmp_path / "back", FormatVersionError)


def test_an_index_file_that_no_registry_names_is_not_restored(snap, tmp_path):
    name = INDEX.replace("0123456789abcdef", "f" * 16)
    (snap / name).write_bytes(b"")
    made = manifest_of(snap)
    (snap / "manifest.json").write_bytes(manifests.pack(made | {"files": made["files"] | {name: FILE}}))
    refused(snap, tmp_path / "back", CorruptionError)
    report = backup.check(snap)
    assert name in report.problems[0]


@pytest.mark.parametrize("name", ["manifest.json", "data.mdb", "index"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "link to itself", "broken link", "device"])
def test_what_is_no_plain_file_is_refused_at_once(snap, tmp_path, name, kind):
    """Reading a FIFO would wait for ever, and a device may never end."""
    path = snap / (next(n for n in manifest_of(snap)["files"] if n.startswith("indexes/")) if name == "index" else name)
    path.unlink()
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "link to itself":
            path.symlink_to(path)
        case "broken link":
            path.symlink_to("nothing")
        case "device":
            path.symlink_to("/dev/zero")
    refused(snap, tmp_path / "back", NotFoundError, CorruptionError)


def test_a_fifo_is_no_snapshot(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    refused(tmp_path / "fifo", tmp_path / "back", NotFoundError)


def archive(snap, path, change=lambda tar, member: member) -> None:
    """The snapshot as a tar; change: gives each member a last look."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name in [*manifest_of(snap)["files"], "manifest.json"]:
            data = (snap / name).read_bytes()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member = change(tar, member)
            if member is not None:
                tar.addfile(member, io.BytesIO(data) if member.isreg() else None)


@pytest.mark.parametrize("name", ["manifest.json", "data.mdb"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_an_archive_with_links_or_devices_is_refused(snap, tmp_path, name, kind):
    def change(tar, member):
        if member.name == name:
            member.type, member.linkname, member.size = kind, name, 0
        return member

    archive(snap, tmp_path / "s.tar", change)
    refused(tmp_path / "s.tar", tmp_path / "back", NotFoundError, CorruptionError)


def test_an_archive_of_links_to_one_another_is_refused(snap, tmp_path):
    def change(tar, member):
        if member.name == "data.mdb":
            for i in range(3_000):
                link = tarfile.TarInfo(f"l{i}")
                link.type, link.linkname = tarfile.LNKTYPE, f"l{i + 1}"
                tar.addfile(link)
            member.type, member.linkname, member.size = tarfile.LNKTYPE, "l0", 0
        return member

    archive(snap, tmp_path / "s.tar", change)
    refused(tmp_path / "s.tar", tmp_path / "back", NotFoundError, CorruptionError)


def test_a_sound_archive_made_by_others_is_restored(snap, tmp_path):
    archive(snap, tmp_path / "s.tar")
    assert backup.check(tmp_path / "s.tar").ok
    vectordb.restore(tmp_path / "s.tar", tmp_path / "back")
    with vectordb.open(tmp_path / "back") as database:
        assert database.collection("c").count() == POINTS


@pytest.mark.parametrize("junk", [b"x", b"\0" * 10_240, b"\xff" * 10_240, b"BZh91AY&SY", b"\x1f\x8b\x08\0"])
def test_a_file_that_is_no_archive_is_refused(tmp_path, junk):
    (tmp_path / "junk").write_bytes(junk)
    refused(tmp_path / "junk", tmp_path / "back", NotFoundError, CorruptionError)


def test_headers_of_an_archive_with_any_byte_changed_raise_typed_errors_only(snap, tmp_path):
    archive(snap, tmp_path / "s.tar")
    whole, rng = (tmp_path / "s.tar").read_bytes(), np.random.default_rng(0)
    target = tmp_path / "t.tar"
    for case in range(cases(512, 20_000)):
        at = case % 512
        damaged = bytearray(whole)
        damaged[at] = int(rng.integers(256))
        # The checksum of the header is made right again, so that its numbers are read.
        damaged[148:156] = b"%06o\0 " % sum(damaged[:148] + b" " * 8 + damaged[156:512])
        target.write_bytes(damaged)
        try:
            archive_files.SnapshotReader(target).__exit__()
        except (NotFoundError, CorruptionError, StorageError):
            pass
    record("fuzz_snapshot_archives", cases=cases(512, 20_000))
