"""The files of a snapshot: written as a directory or a tar file, and read from either. FORMAT.md describes the manifest."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import xxhash
from vectordb_client.errors import CorruptionError, NotFoundError, StorageError, VectorDBError

from ..storage import catalog, modes, segments
from ..storage import manifest as manifests
from ..storage.reader import read_only

_BLOCK = 1 << 22
_SECTOR = 512  # bytes of a block in a tar file
_MANIFEST_BYTES = 1 << 28


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


def _pour(source: IO[bytes], write: Callable[[bytes], Any] | None, left: int | None = None) -> dict[str, Any]:
    """Copy a file to its end, or ``left`` bytes of it. write: None only reads. Returns its size and checksums."""
    digest = _Digest()
    while left != 0 and (block := source.read(_BLOCK if left is None else min(left, _BLOCK))):
        digest.update(block)
        if write is not None:
            write(block)
        if left is not None:
            left -= len(block)
    return digest.facts()


class FolderWriter:
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
        modes.sync_folder(self.path / segments.FOLDER)
        modes.sync_folder(self.path)

    def close(self) -> None:
        """Nothing to close: no file stays open."""


class ArchiveWriter:
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
        start = self._file.tell()
        self._file.write(bytes(_SECTOR))
        self._file.flush()
        writer(self._file.fileno())
        end = self._file.seek(0, os.SEEK_END)
        self._file.seek(start)
        self._file.write(_header(name, end - start - _SECTOR))
        self._taken[name] = _pour(self._file, None, end - start - _SECTOR)
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


class SnapshotReader:
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

    def __enter__(self) -> SnapshotReader:
        return self

    def __exit__(self, *exc: Any) -> None:
        if self._tar is not None:
            self._tar.close()

    def _open(self, name: str) -> IO[bytes]:
        """Open a file of the snapshot. Only a regular file is opened, because the snapshot may be malicious. Raises _MissingError."""
        if self._tar is None:
            return _plain_file(self.path / name, name)
        with _archive_errors(self.path):
            try:
                member = self._tar.getmember(name)
            except KeyError:
                raise _MissingError(f"{name} is missing") from None
            file = self._tar.extractfile(member) if member.isreg() else None
        if file is None:
            raise _MissingError(f"{name} is not a regular file")
        return file

    def problems(self) -> list[str]:
        """Missing, changed and damaged files, one line each."""
        wrong = (self._wrong(name, None) for name in self.manifest["files"])
        return [f"{self.path}: {what}" for what in wrong if what is not None]

    def strangers(self, folder: Path) -> list[str]:
        """Index files that the manifest names and the registry doesn't, one line each. folder: the folder with data.mdb."""
        with read_only(folder) as (txn, _):
            named = {f"{segments.FOLDER}/{file}" for file in segments.named_files(txn, list(catalog.names(txn).values()))}
        return [
            f"{self.path}: {name} is not in the registry of index files"
            for name in self.manifest["files"]
            if name not in named | {manifests.DATA}
        ]

    def copy_to(self, folder: Path, mode: int) -> None:
        """Copy all files into a new directory and sync them. Raises CorruptionError naming a file that differs from the manifest."""
        modes.make_folder(folder / segments.FOLDER, mode)
        for name in self.manifest["files"]:
            with modes.create(folder / name, "wb", mode) as file:
                wrong = self._wrong(name, file.write)
                if wrong is not None:
                    raise CorruptionError(f"snapshot {self.path}: {wrong}", field="source", value=name)
                file.flush()
                os.fsync(file.fileno())
        modes.sync_folder(folder / segments.FOLDER)
        modes.sync_folder(folder)

    def _wrong(self, name: str, write: Callable[[bytes], Any] | None) -> str | None:
        recorded = self.manifest["files"][name]
        try:
            with self._open(name) as file, _archive_errors(self.path):
                read = _pour(file, write)
        except _MissingError as error:
            return f"file {error}"
        if read["bytes"] != recorded["bytes"]:
            return f"file {name} has {read['bytes']} bytes, not {recorded['bytes']}"
        return None if read["xxh3_128"] == recorded["xxh3_128"] else f"file {name} fails its checksum"


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


def _plain_file(path: Path, name: str) -> IO[bytes]:
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


def _copy(source: Path, target: Path, mode: int) -> None:
    with open(source, "rb") as reading, modes.create(target, "wb", mode) as writing:
        shutil.copyfileobj(reading, writing, _BLOCK)
        writing.flush()
        os.fsync(writing.fileno())
