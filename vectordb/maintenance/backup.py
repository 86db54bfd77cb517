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
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import xxhash
from vectordb_client._version import __version__
from vectordb_client.errors import AlreadyExistsError, CorruptionError, NotFoundError, StorageError, VectorDBError
from vectordb_client.model.arguments import named

from ..common.failpoints import reach
from ..engine.check import check as check_directory
from ..storage import catalog, format, modes, place, segments
from ..storage import manifest as manifests
from ..storage.check import IntegrityReport
from ..storage.env import Env, read_only, sync_folder
from ..storage.lmdb_errors import of_files
from ..storage.segments import Record
from ..storage.store import Store

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
_BLOCK = 1 << 22
_SECTOR = 512  # bytes of a block in a tar file
_SCRATCH = ".vectordb-tmp-"
_MANIFEST_BYTES = 1 << 28


def snapshot(env: Env, path: str | os.PathLike, archive: bool) -> dict[str, Any]:
    """See ``Database.snapshot``."""
    target, mode = place.given(path), env.file_mode
    with of_files(target), _to_fill(target, "path", mode) as scratch:
        reach("snapshot.begun")
        made = scratch / "snapshot"
        with closing(_Archive(made, mode) if archive else _Folder(made, mode)) as sink:
            manifest = _write(env, sink, scratch / "anew")
        reach("snapshot.written")
        _name(made, target)
        reach("snapshot.named")
    return manifest | {"path": str(target)}


def _write(env: Env, sink: _Folder | _Archive, scratch: Path) -> dict[str, Any]:
    """Write all files into ``sink``, the manifest last; returns the manifest."""
    with _taken(env, sink) as (txn, records):
        reach("snapshot.taken")
        manifest = _facts(txn)
        sink.write(manifests.DATA, lambda descriptor: env.copy(txn, descriptor, scratch))
    reach("snapshot.copied")
    files = {manifests.DATA: sink.digest(manifests.DATA)}
    for record in records:
        name = f"{segments.FOLDER}/{record.file}"
        found = sink.digest(name)
        if (found["bytes"], found["xxh3_64"]) == (record.bytes, f"{record.checksum:016x}"):
            files[name] = found
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
    with of_files(origin, "source"), _Source(origin) as snapshot:
        with of_files(target, "directory"), _to_fill(target, "directory", file_mode) as scratch:
            reach("restore.begun")
            made = scratch / "restored"
            snapshot.copy_to(made, file_mode)
            reach("restore.copied")
            problems = check_directory(made, untouched=True).problems or snapshot.strangers(made)
            if problems:
                raise CorruptionError(f"snapshot {source} is damaged: {problems[0]}", field="source", value=str(source))
            reach("restore.checked")
            _name(made, target)
            reach("restore.named")
        return snapshot.manifest | {"path": str(target)}


def check(path: str | os.PathLike) -> IntegrityReport:
    """Check a database directory or a snapshot, without changing it. Raises the errors of ``storage.check.check``."""
    path = place.given(path)
    with of_files(path):
        return _check(path)


def _check(path: Path) -> IntegrityReport:
    if not is_snapshot(path):
        return check_directory(path)
    with _Source(path) as source:
        problems = source.problems()
        if problems:  # files that fail their checksums are not examined further
            return IntegrityReport(str(path), tuple(problems), 0, 0, 0, 0, 0)
        if path.is_dir():
            return _checked(source, path)
        folder = tempfile.gettempdir()
        with of_files(Path(folder)), tempfile.TemporaryDirectory(prefix="vectordb-check-", dir=folder) as scratch:
            source.copy_to(Path(scratch) / "copy", modes.PRIVATE)
            return _checked(source, Path(scratch) / "copy")


def _checked(source: _Source, made: Path) -> IntegrityReport:
    """The report of ``check`` on the files of a snapshot, which were copied to ``made``."""
    report = check_directory(made, untouched=True)
    return replace(report, path=str(source.path), problems=report.problems or tuple(source.strangers(made)))


def is_snapshot(path: Path) -> bool:
    """Whether a path must be a snapshot: it is not a directory, or it is a directory with a manifest."""
    return (path.exists() and not path.is_dir()) or os.path.lexists(path / manifests.NAME)


# Contents of a snapshot


@contextmanager
def _taken(env: Env, sink: _Folder | _Archive) -> Iterator[tuple[Any, list[Record]]]:
    """A read transaction, and the records of its registry whose index files were copied into ``sink``.

    If another process deletes an index file meanwhile, a newer registry no longer names it, so this starts again with a new transaction.
    """
    for attempt in range(_TRIES):
        with env.read() as txn:
            records = _records(txn)
            there = [record for record in records if sink.take(f"{segments.FOLDER}/{record.file}", segments.folder(env.path) / record.file)]
            if len(there) == len(records) or env.last_transaction() == txn.id() or attempt == _TRIES - 1:
                yield txn, there
                return


def _records(txn: Any) -> list[Record]:
    numbers = catalog.names(txn).values()
    return [record for number in numbers for group in segments.records(txn, number)[0].values() for record in group]


def _facts(txn: Any) -> dict[str, Any]:
    collections = {}
    for name, number in catalog.names(txn).items():
        sequence, _, points = Store(txn, number).state()
        collections[name] = {"sequence": sequence, "points": points}
    return {
        "snapshot": manifests.VERSION,
        "format": format.unpack_record(txn.get(format.FORMAT_KEY), "format")["format"],
        "vectordb": __version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "collections": collections,
    }


class _Digest:
    """Counts and hashes the bytes that pass through."""

    def __init__(self) -> None:
        self.bytes, self._short, self._long = 0, xxhash.xxh3_64(), xxhash.xxh3_128()

    def update(self, block: bytes) -> None:
        self.bytes += len(block)
        self._short.update(block)
        self._long.update(block)

    def facts(self) -> dict[str, Any]:
        return {"bytes": self.bytes, "xxh3_64": self._short.hexdigest(), "xxh3_128": self._long.hexdigest()}


def _pour(source: BinaryIO, write: Callable[[bytes], Any] | None, left: int | None = None) -> dict[str, Any]:
    """Copy a file to its end, or ``left`` bytes of it. write: None only reads. Returns its size and checksums."""
    digest = _Digest()
    while left != 0 and (block := source.read(_BLOCK if left is None else min(left, _BLOCK))):
        digest.update(block)
        if write is not None:
            write(block)
        if left is not None:
            left -= len(block)
    return digest.facts()


class _Folder:
    """Writes a snapshot as a directory. Index files are never changed in place, so they are hard-linked where possible."""

    def __init__(self, path: Path, mode: int):
        self.path = path
        self._mode = mode
        modes.make_folder(path / segments.FOLDER, mode)

    def take(self, name: str, source: Path) -> bool:
        """Whether the file was there."""
        target = self.path / name
        if target.exists():
            return True
        try:
            os.link(source, target)
        except FileNotFoundError:
            return False
        except OSError:  # another file system, or one without hard links
            try:
                _copy(source, target, self._mode)
            except FileNotFoundError:
                return False
        return True

    def write(self, name: str, writer: Callable[[int], None]) -> None:
        with modes.create(self.path / name, "wb", self._mode) as file:
            writer(file.fileno())
            os.fsync(file.fileno())

    def digest(self, name: str) -> dict[str, Any]:
        with open(self.path / name, "rb") as file:
            return _pour(file, None)

    def leave_out(self, name: str) -> None:
        (self.path / name).unlink()

    def finish(self, manifest: bytes) -> None:
        with modes.create(self.path / manifests.NAME, "wb", self._mode) as file:
            file.write(manifest)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self.path / segments.FOLDER)
        sync_folder(self.path)

    def close(self) -> None:
        """Nothing to close: no file stays open."""


class _Archive:
    """Writes a snapshot as one tar file. The size of LMDB's copy is known only after it was written, so its header is filled in then."""

    def __init__(self, path: Path, mode: int):
        self._file = modes.create(path, "w+b", mode)
        self._taken: dict[str, dict[str, Any]] = {}

    def take(self, name: str, source: Path) -> bool:
        """Whether the file was there."""
        if name in self._taken:
            return True
        try:
            with open(source, "rb") as file:
                self._file.write(_header(name, os.fstat(file.fileno()).st_size))
                self._taken[name] = _pour(file, self._file.write)
        except FileNotFoundError:
            return False
        self._pad()
        return True

    def write(self, name: str, writer: Callable[[int], None]) -> None:
        at = self._file.tell()
        self._file.write(bytes(_SECTOR))
        self._file.flush()
        writer(self._file.fileno())
        end = self._file.seek(0, os.SEEK_END)
        self._file.seek(at)
        self._file.write(_header(name, end - at - _SECTOR))
        self._taken[name] = _pour(self._file, None, end - at - _SECTOR)
        self._pad()

    def digest(self, name: str) -> dict[str, Any]:
        return self._taken[name]

    def leave_out(self, name: str) -> None:
        """Nothing to do: the file stays in the archive, but only files that the manifest names belong to the snapshot."""

    def finish(self, manifest: bytes) -> None:
        self._file.write(_header(manifests.NAME, len(manifest)) + manifest)
        self._pad()
        self._file.write(bytes(2 * _SECTOR))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _pad(self) -> None:
        self._file.write(bytes(-self._file.seek(0, os.SEEK_END) % _SECTOR))


def _header(name: str, size: int) -> bytes:
    about = tarfile.TarInfo(name)
    about.size, about.mode = size, modes.PRIVATE
    return about.tobuf(tarfile.GNU_FORMAT)


class _Source:
    """An existing snapshot, directory or tar file. Raises NotFoundError if it is none, and the errors of ``manifest.unpack``."""

    def __init__(self, path: Path):
        self.path = path
        self._tar: tarfile.TarFile | None = None
        try:
            if path.is_dir():
                pass
            elif path.is_file():
                with _archive_errors(path):
                    self._tar = tarfile.open(path, "r:")
            elif os.path.lexists(path):
                raise NotFoundError(f"{path} is not a snapshot: it is neither a file nor a directory", field="source", value=str(path))
            else:
                raise NotFoundError(f"no snapshot at {path}", field="source", value=str(path))
            with self._open(manifests.NAME) as file:
                data = file.read(_MANIFEST_BYTES)
            self.manifest = manifests.unpack(data, str(path))
        except _MissingError as error:
            self.__exit__()
            raise NotFoundError(f"{path} is not a complete snapshot: {error}", field="source", value=str(path)) from None
        except OSError as error:
            self.__exit__()
            raise StorageError(f"{path}: {error.strerror or error}", field="source", value=str(path)) from None
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *exc: Any) -> None:
        if self._tar is not None:
            self._tar.close()

    def _open(self, name: str) -> BinaryIO:
        """Open a file of the snapshot. Only a regular file is opened, because the snapshot may be malicious. Raises _MissingError."""
        if self._tar is None:
            return _plain_file(self.path / name, name)
        with _archive_errors(self.path):
            try:
                member = self._tar.getmember(name)
            except KeyError:
                raise _MissingError(f"{name} is missing") from None
            found = self._tar.extractfile(member) if member.isreg() else None
        if found is None:
            raise _MissingError(f"{name} is not a regular file")
        return found

    def problems(self) -> list[str]:
        """Missing, changed and damaged files, one line each."""
        found = [wrong for name in self.manifest["files"] if (wrong := self._wrong(name, None)) is not None]
        return [f"{self.path}: {wrong}" for wrong in found]

    def strangers(self, made: Path) -> list[str]:
        """Index files that the manifest names and the registry doesn't, one line each. made: the folder with data.mdb."""
        with read_only(made) as (txn, _):
            named = {f"{segments.FOLDER}/{record.file}" for record in _records(txn)}
        return [
            f"{self.path}: {name} is not in the registry of index files"
            for name in self.manifest["files"]
            if name not in named | {manifests.DATA}
        ]

    def copy_to(self, made: Path, mode: int) -> None:
        """Copy all files into a new directory and sync them. Raises CorruptionError naming a file that differs from the manifest."""
        modes.make_folder(made / segments.FOLDER, mode)
        for name in self.manifest["files"]:
            with modes.create(made / name, "wb", mode) as file:
                wrong = self._wrong(name, file.write)
                if wrong is not None:
                    raise CorruptionError(f"snapshot {self.path}: {wrong}", field="source", value=name)
                file.flush()
                os.fsync(file.fileno())
        sync_folder(made / segments.FOLDER)
        sync_folder(made)

    def _wrong(self, name: str, write: Callable[[bytes], Any] | None) -> str | None:
        wanted = self.manifest["files"][name]
        try:
            with self._open(name) as file, _archive_errors(self.path):
                found = _pour(file, write)
        except _MissingError as error:
            return f"file {error}"
        if found["bytes"] != wanted["bytes"]:
            return f"file {name} has {found['bytes']} bytes, not {wanted['bytes']}"
        return None if found["xxh3_128"] == wanted["xxh3_128"] else f"file {name} fails its checksum"


class _MissingError(Exception):
    """A file of a snapshot is missing or can't be read."""


@contextmanager
def _archive_errors(path: Path) -> Iterator[None]:
    """Translate errors of tarfile, which raises many kinds of errors for a truncated or malicious archive, into _MissingError."""
    try:
        yield
    except (_MissingError, VectorDBError, OSError):
        raise
    except Exception as error:
        raise _MissingError(f"{path.name} is damaged or not a tar archive: {error}") from None


def _plain_file(path: Path, name: str) -> BinaryIO:
    """Open a regular file. Others, such as a FIFO or a device, could block for ever; they raise _MissingError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise _MissingError(f"{name} is missing") from None
    except OSError as error:
        raise _MissingError(f"{name} can't be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _MissingError(f"{name} is not a regular file")
    return open(descriptor, "rb")


# Final names and temporary directories


def _check_free(target: Path, field: str) -> None:
    """Raises AlreadyExistsError unless the path does not exist or is an empty directory."""
    if target.is_dir() and not target.is_symlink() and not any(target.iterdir()):
        return
    if target.exists() or target.is_symlink():
        raise AlreadyExistsError(f"{target} already exists", field=field, value=str(target))


def _name(made: Path, target: Path) -> None:
    """Give a complete snapshot or directory its final name. Raises AlreadyExistsError if the name was taken meanwhile."""
    try:
        if made.is_dir():
            os.rename(made, target)
        else:
            if target.is_dir():
                target.rmdir()
            os.link(made, target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise AlreadyExistsError(f"{target} already exists", field="path", value=str(target)) from None
        raise
    sync_folder(target.parent)


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


def _copy(source: Path, target: Path, mode: int) -> None:
    with open(source, "rb") as reading, modes.create(target, "wb", mode) as writing:
        shutil.copyfileobj(reading, writing, _BLOCK)
        writing.flush()
        os.fsync(writing.fileno())
