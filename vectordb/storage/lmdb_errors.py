"""Translates errors of LMDB and of the operating system into VectorDBErrors."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
from vectordb_client.errors import ClosedError, CorruptionError, FormatVersionError, StorageError, VectorDBError

MAX_READERS = 1022  # LMDB keeps a page-sized table of reader slots; these fill 16 pages
FORKED = "opened before a fork, which LMDB does not support; start child processes with 'spawn', or open it only in the child"


def translated(error: Exception, path: Path) -> VectorDBError:
    """The VectorDBError for an error of LMDB or of the system that concerns a database directory."""
    where = {"field": "path", "value": str(path)}
    code = getattr(error, "errno", None)
    if isinstance(error, lmdb.DiskError) or code in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"no space left on the disk of {path}", **where)
    if isinstance(error, (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError)):
        return CorruptionError(f"{path}/data.mdb is damaged or not an LMDB file: {error}", **where)
    if isinstance(error, lmdb.VersionMismatchError):
        return FormatVersionError(f"{path}/data.mdb was written by another version of LMDB: {error}", **where)
    if isinstance(error, lmdb.ReadersFullError):
        return StorageError(f"{path} has more than {MAX_READERS} readers at a time", **where)
    if isinstance(error, FileNotFoundError) or (isinstance(error, lmdb.Error) and "No such file" in str(error)):
        return StorageError(f"{path} doesn't hold a database", **where)
    text = str(error)
    if "already open in this process" in text:
        return ClosedError(f"{path} was {FORKED}", **where)
    if "No space left" in text or (code in (None, errno.EIO) and "Input/output error" in text and _full(path)):
        return StorageError(f"no space left on the disk of {path}", **where)
    if isinstance(error, OSError):
        return StorageError(refusal(error, path), **where)
    return StorageError(f"{path}: {text}", **where)


def refusal(error: OSError, path: Path) -> str:
    """What an error of the system means, in a sentence, and what to do about it."""
    name = error.filename if isinstance(error.filename, (str, os.PathLike)) else None
    about = path if name is None else Path(os.fspath(name))
    if not about.is_absolute():
        about = path / about
    if error.errno in (errno.EACCES, errno.EPERM):
        folder = next((above for above in about.parents if _exists(above)), about)
        place = about if _exists(about) else folder
        return f"{path}: this process has no permission to use {place}; choose another path, or change the permissions of that one"
    if error.errno == errno.ENOTDIR:
        file = next((above for above in (about, *about.parents) if _exists(above)), about)
        return f"{path}: {file} is a file, not a directory; choose a path that doesn't lead through a file"
    if error.errno == errno.EROFS:
        return f"{path}: the file system is mounted read-only; choose another path"
    return f"{path}: {error.strerror or error}"


def _exists(path: Path) -> bool:
    try:
        return os.path.lexists(path)
    except OSError:
        return False


@contextmanager
def in_our_words(path: Path) -> Iterator[None]:
    """Translate errors of LMDB and of the system inside the block into VectorDBErrors about a database directory."""
    try:
        yield
    except (lmdb.Error, OSError) as error:
        raise translated(error, path) from error


@contextmanager
def of_files(where: Path, field: str = "path") -> Iterator[None]:
    """Translate errors of the system inside the block into StorageErrors about a file or folder that is not a database."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = f"{where}: no space left on the disk" if full else refusal(error, where)
        raise StorageError(what, field=field, value=str(where)) from error


def _full(path: Path) -> bool:
    """Whether the disk is full. LMDB reports the short write that a full disk causes as an I/O error."""
    try:
        return os.statvfs(path).f_bavail * os.statvfs(path).f_frsize < 1 << 20
    except OSError:
        return False
