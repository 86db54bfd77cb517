"""The path of a database, and whether it still leads to the opened files.

A path is made absolute once, when it is given. From then on the database is the set of files that were opened. If the path later leads to
other files, or to none, because they were removed, replaced or moved, writes are refused: they would go into deleted files, or conflict
with another process whose LMDB does not see this one.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from vectordb_client.errors import CorruptionError, InvalidArgumentError, StorageError, shown

log = logging.getLogger("vectordb.storage")
DATA, LOCK = "data.mdb", "lock.mdb"
INDEXES = "indexes"
MANIFEST = "manifest.json"  # a folder with this file is a snapshot
MEMORY = ":memory:"
_ADDRESS = re.compile(r"([A-Za-z0-9_.-]+|\[[0-9a-fA-F:.]+\]):\d{1,5}|[a-z][a-z0-9+.-]*://.*")


class Identity(NamedTuple):
    """Identifies a file independently of its name."""

    device: int
    inode: int


class Files(NamedTuple):
    """The identities of the two files that LMDB has open."""

    data: Identity | None
    lock: Identity | None


def given(path: Any, field: str = "path") -> Path:
    """A user's path made absolute, without following links. Raises InvalidArgumentError if it is not a path."""
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise InvalidArgumentError(f"{field} must be a str or a pathlib.Path, not {shown(path)}", field=field, value=path)
    if not text:
        raise InvalidArgumentError(f"{field} is empty; write '.' for the current directory", field=field, value=path)
    try:
        if b"\0" in os.fsencode(text):
            raise InvalidArgumentError(f"{field} must not hold a NUL character: {shown(text)}", field=field, value=path)
        return Path(os.path.abspath(_expanded(text, field)))
    except UnicodeError:
        raise InvalidArgumentError(f"{field} is not a valid file name: {shown(text)}", field=field, value=path) from None
    except OSError as error:  # the current directory was removed
        raise StorageError(f"{text}: the current directory can't be found: {error.strerror}", field=field, value=text) from error


def _expanded(text: str, field: str) -> str:
    """A path with "~" or "~name" at its start replaced by a home directory. Raises InvalidArgumentError if there is no such user."""
    if not text.startswith("~"):
        return text
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        user = text.split("/")[0]
        what = (
            f"{field} {shown(text)} starts with {user!r}, and there is no home directory of that user; write {'./' + text!r} for a folder"
        )
        raise InvalidArgumentError(what, field=field, value=text)
    return expanded


def resolved(path: Any) -> Path:
    """The absolute path of a database directory, with all links followed. Raises InvalidArgumentError or StorageError."""
    absolute = given(path)
    try:
        where = Path(os.path.realpath(absolute))
        if _ADDRESS.fullmatch(os.fspath(path)) and not where.exists():
            raise InvalidArgumentError(
                f"{os.fspath(path)!r} is the address of a service, not a directory: use vectordb_client.Client('HOST:PORT') "
                f"(or write {os.path.join('.', os.fspath(path))!r} if a directory is meant)",
                field="path",
                value=path,
            )
        if where.exists() and not where.is_dir():
            raise StorageError(
                f"{absolute} is a file, not a directory; if it is a snapshot, restore it first: vectordb restore {absolute} DIR",
                field="path",
                value=str(absolute),
            )
    except OSError as error:
        raise StorageError(f"{absolute}: {error.strerror or error}", field="path", value=str(absolute)) from error
    return where


def identity(path: Path) -> Identity | None:
    """The identity of the file that has this name now; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return Identity(status.st_dev, status.st_ino)


def files(path: Path) -> Files:
    """The files of LMDB that are in a directory now. Costs two calls of stat."""
    return Files(identity(path / DATA), identity(path / LOCK))


def problem(path: Path, opened: Files) -> str | None:
    """What happened to the opened files, or None if the path still leads to them. ``opened.lock`` is None if LMDB uses no lock file."""
    now = files(path)
    if now.data == opened.data and (opened.lock is None or now.lock == opened.lock):
        return None
    if now.data is None and not path.exists():
        what = "the directory was removed or moved"
    elif now.data == opened.data:
        what = f"{LOCK} was {'removed' if now.lock is None else 'replaced'}"
    else:
        what = f"{DATA} was {'removed' if now.data is None else 'replaced'}"
    return f"{what} while this process had the database open"


class OpenedFiles:
    """The files of LMDB that a process has open, and whether the path of their directory still leads to them.

    ids: their identities; the lock file's is None if LMDB uses none.
    """

    def __init__(self, path: Path):
        self.path = path
        self.ids = Files(None, None)
        self._logged = False  # whether the log already says that the files were moved or replaced

    def note(self, with_lock: bool) -> None:
        """LMDB has opened the files that are there now."""
        now = files(self.path)
        self.ids = now if with_lock else now._replace(lock=None)

    def problem(self) -> str | None:
        """What happened to the opened files, or None if the path still leads to them. Costs two calls of stat."""
        return problem(self.path, self.ids)

    def lock_problem(self) -> str | None:
        """The same, only if lock.mdb alone was replaced."""
        now = files(self.path)
        if now.data != self.ids.data or now.lock == self.ids.lock:
            return None
        return self.problem() or f"{LOCK} was replaced"

    def check(self) -> None:
        """Raises StorageError unless the path still leads to the opened files."""
        problem = self.problem()
        if problem is not None:
            raise self.error(problem)

    def error(self, problem: str) -> StorageError:
        """The error of a write after ``problem`` happened to the files."""
        if identity(self.path / DATA) == self.ids.data:
            rescue = "close the database and open it again; no acknowledged write is lost"
        else:
            rescue = (
                "if it was moved, open it at its new path; if it was removed or replaced, this open database is the only copy of "
                "the acknowledged writes, so save it with snapshot() before you close it"
            )
        if not self._logged:
            self._logged = True
            log.error("%s: %s. Writes are refused; %s", self.path, problem, rescue)
        return StorageError(f"{self.path}: {problem}. Writes are refused: {rescue}", field="path", value=str(self.path))

    def share_with(self, others: Files) -> bool:
        """Whether one of these files is among the opened ones. LMDB must not open a file twice in one process."""
        return any(file is not None and file in self.ids for file in others)


def is_snapshot(path: Path) -> bool:
    """Whether a folder is a snapshot."""
    return os.path.lexists(path / MANIFEST)


def check_outside(target: Path, field: str, database: Path | None = None) -> None:
    """Raises InvalidArgumentError if a path, with links followed, is in the directory of a database or of a snapshot.

    database: a directory in which a database may be created later.
    """
    real = Path(os.path.realpath(target))
    for folder in (real, *real.parents):
        if os.path.lexists(folder / DATA) or (database is not None and folder == Path(os.path.realpath(database))):
            kind = "snapshot" if is_snapshot(folder) else "database"
            what = f"{field} {target} is in the directory of the {kind} {folder}; write a path outside it"
            raise InvalidArgumentError(what, field=field, value=str(target))


def is_empty(path: Path) -> bool:
    """Whether there is no data file, or an empty one."""
    try:
        return os.stat(path / DATA).st_size == 0
    except FileNotFoundError:
        return True


def check_may_begin(path: Path, create: bool) -> None:
    """Check that a new database may be created in a directory without data.

    Raises StorageError if ``create`` is false, CorruptionError if other files show that a database was there.
    """
    where = {"field": "path", "value": str(path)}
    missing = identity(path / DATA) is None
    if any(name.endswith(".index") for name in _names(path / INDEXES)):
        state = "is missing" if missing else "is empty"
        raise CorruptionError(
            f"{path / DATA} {state}, but index files show that a database was here. Restore a snapshot of it, "
            f"or remove {path / INDEXES} to create an empty database",
            **where,
        )
    if (
        missing and create and os.path.lexists(path / "write.lock")
    ):  # created after data.mdb, by a process that opens a database for writing
        raise CorruptionError(
            f"{path / DATA} is missing, but lock files show that a database was here. Restore a snapshot of it, "
            f"or remove {path / 'write.lock'} to create an empty database",
            **where,
        )
    if not create:
        raise StorageError(f"{path} doesn't hold a database{'' if missing else f': {DATA} is empty'}", **where)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def why_read_only(path: Path, read_only: bool) -> str | None:
    """Why this process can't write to the database of a directory, or None. read_only: open it for reading only.

    Raises StorageError for a snapshot unless ``read_only`` is set.
    """
    if is_snapshot(path):
        if not read_only:
            raise StorageError(
                f"{path} is a snapshot, which must not change. To read it, use open(…, read_only=True); to write, make a database "
                f"of it with vectordb.restore({str(path)!r}, …)",
                field="path",
                value=str(path),
            )
        return "it is a snapshot"
    for name in (path, *(path / name for name in (DATA, LOCK, "write.lock", "open.lock"))):
        if _may_write(name):
            continue
        try:
            mounted = os.statvfs(name).f_flag & os.ST_RDONLY
        except OSError:
            mounted = 0
        if mounted:
            return "the file system is mounted read-only"
        return "this process has no permission to write to " + ("it" if name == path else name.name)
    return None


def _may_write(path: Path) -> bool:
    """Whether this process has write permission; true also for a path that does not exist."""
    effective = os.access in os.supports_effective_ids
    if not os.access(path, os.F_OK, effective_ids=effective):
        return True
    return os.access(path, os.W_OK | os.X_OK if path.is_dir() else os.W_OK, effective_ids=effective)
