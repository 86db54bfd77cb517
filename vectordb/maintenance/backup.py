"""Snapshots of a directory in use, and how to restore them. FORMAT.md describes the manifest.

A snapshot consists of data.mdb, copied in one read transaction, and the index files that its registry names. The manifest, which has the
size and checksum of every file, is written last. A snapshot gets its final name only once it is complete and synced.
"""

from __future__ import annotations

import datetime
import errno
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from vectordb_client._version import __version__
from vectordb_client.errors import AlreadyExistsError, CorruptionError, StorageError
from vectordb_client.model.arguments import named

from ..common.failpoints import reach
from ..engine.check import check as check_directory
from ..storage import catalog, format, modes, place, segments
from ..storage import manifest as manifests
from ..storage.check import IntegrityReport
from ..storage.format import Txn
from ..storage.lmdb_env import Env
from ..storage.lmdb_errors import of_files
from ..storage.segments import Record
from ..storage.store import Store
from .archive import ArchiveWriter, FolderWriter, SnapshotReader

STEPS = (
    "snapshot.begun",
    "snapshot.taken",
    "snapshot.copied",
    "snapshot.written",
    "snapshot.named",
    "restore.begun",
    "restore.copied",
    "restore.checked",
    "restore.named",
)
_TRIES = 20  # attempts, because index files may be replaced while they are copied
_SCRATCH = ".vectordb-tmp-"


def snapshot(env: Env, path: str | os.PathLike, archive: bool) -> dict[str, Any]:
    """See ``Database.snapshot``."""
    target, mode = place.given(path), env.file_mode
    with of_files(target), _to_fill(target, "path", mode) as scratch:
        reach("snapshot.begun")
        result = scratch / "snapshot"
        with closing(ArchiveWriter(result, mode) if archive else FolderWriter(result, mode)) as sink:
            manifest = _write(env, sink, scratch / "anew")
        reach("snapshot.written")
        _name(result, target)
        reach("snapshot.named")
    return manifest | {"path": str(target)}


def _write(env: Env, sink: FolderWriter | ArchiveWriter, scratch: Path) -> dict[str, Any]:
    """Write all files into ``sink``, the manifest last; returns the manifest."""
    with _taken(env, sink) as (txn, records):
        reach("snapshot.taken")
        manifest = _facts(txn)
        sink.write(manifests.DATA, lambda descriptor: env.copy(txn, descriptor, scratch))
    reach("snapshot.copied")
    files = {manifests.DATA: sink.digest(manifests.DATA)}
    for record in records:
        name = f"{segments.FOLDER}/{record.file}"
        copied = sink.digest(name)
        if (copied["bytes"], copied["xxh3_64"]) == (record.bytes, f"{record.checksum:016x}"):
            files[name] = copied
        else:  # damaged, so it is left out
            sink.leave_out(name)
    manifest["files"] = {name: {"bytes": file["bytes"], "xxh3_128": file["xxh3_128"]} for name, file in sorted(files.items())}
    sink.finish(manifests.pack(manifest))
    return manifest


@named
def restore(source: str | os.PathLike, directory: str | os.PathLike, *, file_mode: int = modes.PRIVATE) -> dict[str, Any]:
    """Restore a snapshot as a directory that can be opened; returns its manifest.

    source: a snapshot, either a directory or a tar file. directory: must not exist, or be empty. It appears complete or not at all: all
    checksums and all invariants are checked before it gets its name. file_mode: permissions of the files, such as 0o640, minus the umask;
    whoever may read the files may enter the folders.
    Raises AlreadyExistsError if the directory is not empty, NotFoundError if ``source`` is not a snapshot, CorruptionError naming what is
    damaged, FormatVersionError for a snapshot of a newer version, InvalidArgumentError if an argument is not valid or the directory is
    inside a database or a snapshot, or StorageError.
    """
    origin, target = place.given(source, "source"), place.given(directory, "directory")
    modes.check_mode(file_mode)
    with of_files(origin, "source"), SnapshotReader(origin) as snapshot:
        with of_files(target, "directory"), _to_fill(target, "directory", file_mode) as scratch:
            reach("restore.begun")
            folder = scratch / "restored"
            snapshot.copy_to(folder, file_mode)
            reach("restore.copied")
            problems = check_directory(folder, untouched=True).problems or snapshot.strangers(folder)
            if problems:
                raise CorruptionError(f"snapshot {source} is damaged: {problems[0]}", field="source", value=str(source))
            reach("restore.checked")
            _name(folder, target)
            reach("restore.named")
        return snapshot.manifest | {"path": str(target)}


def check(path: str | os.PathLike) -> IntegrityReport:
    """Check a database directory or a snapshot, without changing it. Raises the errors of ``engine.check.check``."""
    path = place.given(path)
    with of_files(path):
        return _check(path)


def _check(path: Path) -> IntegrityReport:
    if not is_snapshot(path):
        return check_directory(path)
    with SnapshotReader(path) as source:
        problems = source.problems()
        if problems:  # files that fail their checksums are not examined further
            return IntegrityReport(str(path), tuple(problems), 0, 0, 0, 0, 0)
        if path.is_dir():
            return _checked(source, path)
        folder = tempfile.gettempdir()
        with of_files(Path(folder)), tempfile.TemporaryDirectory(prefix="vectordb-check-", dir=folder) as scratch:
            source.copy_to(Path(scratch) / "copy", modes.PRIVATE)
            return _checked(source, Path(scratch) / "copy")


def _checked(source: SnapshotReader, folder: Path) -> IntegrityReport:
    """The report of ``check`` on the files of a snapshot, which were copied to ``folder``."""
    report = check_directory(folder, untouched=True)
    return replace(report, path=str(source.path), problems=report.problems or tuple(source.strangers(folder)))


def is_snapshot(path: Path) -> bool:
    """Whether a path must be a snapshot: it is not a directory, or it is a directory with a manifest."""
    return (path.exists() and not path.is_dir()) or os.path.lexists(path / manifests.NAME)


# Contents of a snapshot


@contextmanager
def _taken(env: Env, sink: FolderWriter | ArchiveWriter) -> Iterator[tuple[Txn, list[Record]]]:
    """A read transaction, and the records of its registry whose index files were copied into ``sink``.

    If another process deletes an index file meanwhile, a newer registry no longer names it, so this starts again with a new transaction.
    """
    for attempt in range(_TRIES):
        with env.read() as txn:
            records = _records(txn)
            taken = [record for record in records if sink.take(f"{segments.FOLDER}/{record.file}", segments.folder(env.path) / record.file)]
            if len(taken) == len(records) or env.last_transaction() == txn.id() or attempt == _TRIES - 1:
                yield txn, taken
                return


def _records(txn: Txn) -> list[Record]:
    """The records of all index files, one for each file: branches share files."""
    numbers = catalog.names(txn).values()
    records = [record for number in numbers for group in segments.records(txn, number)[0].values() for record in group]
    return list({record.file: record for record in records}.values())


def _facts(txn: Txn) -> dict[str, Any]:
    collections = {}
    for name, number in catalog.names(txn).items():
        sequence, _, points = Store(txn, number).existing_state()
        collections[name] = {"sequence": sequence, "points": points}
    return {
        "snapshot": manifests.VERSION,
        "format": format.unpack_record(cast(format.Stored, txn.get(format.FORMAT_KEY)), "format")["format"],
        "vectordb": __version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "collections": collections,
    }


# Final names and temporary directories


def _check_free(target: Path, field: str) -> None:
    """Raises AlreadyExistsError unless the path does not exist or is an empty directory."""
    if target.is_dir() and not target.is_symlink() and not any(target.iterdir()):
        return
    if target.exists() or target.is_symlink():
        raise AlreadyExistsError(f"{target} already exists", field=field, value=str(target))


def _name(result: Path, target: Path) -> None:
    """Give a complete snapshot or directory its final name. Raises AlreadyExistsError if the name was taken meanwhile."""
    try:
        if result.is_dir():
            os.rename(result, target)
        else:
            if target.is_dir():
                target.rmdir()
            os.link(result, target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise AlreadyExistsError(f"{target} already exists", field="path", value=str(target)) from None
        raise
    modes.sync_folder(target.parent)


@contextmanager
def _to_fill(target: Path, field: str, mode: int) -> Iterator[Path]:
    """A temporary directory beside ``target``. Those of processes that died are removed.

    Raises AlreadyExistsError if the target already exists, InvalidArgumentError if it is inside a database or a snapshot.
    """
    _check_free(target, field)
    place.check_outside(target, field)
    modes.make_folder(target.parent, mode)
    for left in target.parent.glob(_SCRATCH + "*"):
        with _held(left) as mine:
            if mine:
                shutil.rmtree(left, ignore_errors=True)
    path = target.parent / (_SCRATCH + secrets.token_hex(8))
    path.mkdir(0o700)
    with _held(path) as mine:
        if not mine or not path.exists():  # another process removed it before we locked it
            raise StorageError(
                f"another process removed {path}, because it looked like a leftover of a crash; try again", field="path", value=str(path)
            )
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Lock a directory for the block; yields False if another process has it locked. The lock ends with the process."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)
