"""Locks between processes: ``flock`` on empty files. The system releases them when a process ends.

``write.lock``: exclusive while a process writes. A process without write permission can't enter LMDB's table of readers; it holds this lock
shared while it reads.
``open.lock``: shared by every process that has data.mdb open; exclusive while a process creates or replaces it.
``swap.lock``: see ``rewrite``.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, overload

from vectordb_client.errors import LockedError, StorageError

from . import modes, place

SHARED, ALONE = fcntl.LOCK_SH, fcntl.LOCK_EX
WRITE, OPEN, SWAP = "write.lock", "open.lock", "swap.lock"
OPEN_SECONDS = 60.0  # waiting for another process that is replacing data.mdb
MAKE_SECONDS = 2.0  # waiting for another process that has opened an empty directory and is about to create LMDB's files
PAUSE_SECONDS = 0.001  # between two attempts of WhileReading
READ_SECONDS = 60.0  # that a reader outside LMDB's table of readers waits for a writer


@overload
def open_file(path: Path, mode: int = modes.PRIVATE, read_only: Literal[False] = False) -> IO[Any]: ...
@overload
def open_file(path: Path, mode: int = modes.PRIVATE, read_only: bool = False) -> IO[Any] | None: ...
def open_file(path: Path, mode: int = modes.PRIVATE, read_only: bool = False) -> IO[Any] | None:
    """Open a lock file, creating it if necessary. read_only: create nothing, and return None if it does not exist."""
    if not read_only:
        return modes.create(path, "ab", mode)
    try:
        return open(path, "rb")
    except FileNotFoundError:
        return None


def attempt(file: IO[Any], kind: int) -> bool:
    """Try to take a lock without waiting. If that fails, a lock of the other kind that was held on the file is lost."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def wait(file: IO[Any], kind: int) -> None:
    """Take a lock, waiting without a limit."""
    fcntl.flock(file, kind)


def take(file: IO[Any], kind: int, timeout: float, refused: str, path: Path, pause: float = 0.005) -> None:
    """Take a lock. Raises LockedError, "{refused} for {timeout} s", after ``timeout`` seconds. pause: seconds between tries."""
    deadline = time.monotonic() + timeout
    while not attempt(file, kind):
        if time.monotonic() >= deadline:
            raise LockedError(f"{refused} for {timeout:g} s", field="path", value=str(path))
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def release(file: IO[Any]) -> None:
    """Release a lock. Closing the file is not enough if a forked child has the same file open."""
    fcntl.flock(file, fcntl.LOCK_UN)


def in_use(path: Path) -> bool:
    """Whether any process has the database of a directory open. Changes nothing in it."""
    return _held(path / OPEN, ALONE)


def being_swapped(path: Path) -> bool:
    """Whether a process is replacing data.mdb of a directory. Changes nothing in it."""
    return _held(path / SWAP, SHARED)


def _held(path: Path, kind: int) -> bool:
    """Whether another process holds a lock that conflicts with this kind."""
    try:
        file = open_file(path, read_only=True)
        if file is None:
            return False
        with file:
            return not attempt(file, kind)
    except OSError:
        return False


class WhileReading:
    """Makes writers of other processes wait while this one reads, because it has no permission to write to LMDB's table of readers."""

    def __init__(self, path: Path):
        self._path = path
        self._file: IO[Any] | None = None

    def attempt(self) -> bool:
        """Try to take the lock; False if a process is writing. Raises StorageError if the lock file can't be opened."""
        try:
            if self._file is None:  # a process that opens the database for writing creates the file first
                self._file = open_file(self._path / WRITE, read_only=True)
        except OSError as error:
            raise StorageError(
                f"{self._path} can't be read safely, because {WRITE} in it can't be opened: {error.strerror}",
                field="path",
                value=str(self._path),
            ) from error
        return self._file is None or attempt(self._file, SHARED)

    def take(self) -> None:
        """Take the lock. Raises LockedError after ``READ_SECONDS``, StorageError if the lock file can't be opened."""
        deadline = time.monotonic() + READ_SECONDS
        while not self.attempt():
            self.check_patience(deadline)
            time.sleep(PAUSE_SECONDS)

    def check_patience(self, deadline: float) -> None:
        """Raises LockedError once ``time.monotonic()`` has passed ``deadline``."""
        if time.monotonic() >= deadline:
            what = f"another process has been writing to {self._path} for {READ_SECONDS:g} s"
            raise LockedError(what, field="path", value=str(self._path))

    def release(self) -> None:
        if self._file is not None:
            release(self._file)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class DirectoryLocks:
    """The locks of one open directory. reading: that of a process without write permission; None for all others."""

    def __init__(self, path: Path, read_only: bool):
        self.reading = WhileReading(path) if read_only else None
        self._path = path
        self._open: IO[Any] | None = None  # stays None if the directory is read-only and has no lock file
        self._write: IO[Any] | None = None

    def open_directory(self, mode: int) -> None:
        """Take the shared lock that is held while data.mdb is open, or the exclusive one while LMDB's files are still to be created."""
        self._open = file = open_file(self._path / OPEN, mode, self.reading is not None)
        if file is None:  # no process can have opened it for writing
            return
        deadline = time.monotonic() + MAKE_SECONDS
        while True:
            take(file, SHARED, OPEN_SECONDS, f"another process has been rewriting {self._path}", self._path)
            missing = place.DATA if place.is_empty(self._path) else None if (self._path / place.LOCK).exists() else place.LOCK
            if missing is None or self.reading is not None:
                return
            release(file)  # or two processes that open at the same time would wait for each other
            if attempt(file, ALONE):
                return
            if time.monotonic() >= deadline:
                raise StorageError(
                    f"{self._path}: {missing} was removed or emptied while the database was open, and this or another process still has "
                    "it open. Close it there first; no acknowledged write will be lost",
                    field="path",
                    value=str(self._path),
                )
            time.sleep(0.005)

    def open_write_lock(self, mode: int) -> None:
        """Open the file of the write lock; it stays open until ``close``."""
        self._write = open_file(self._path / WRITE, mode)

    @contextmanager
    def writing(self, timeout: float) -> Iterator[None]:
        """Hold the write lock. Unlike LMDB's own it has a timeout, and it is released when the process dies. Raises LockedError."""
        assert self._write is not None
        take(self._write, ALONE, timeout, f"another process has been writing to {self._path}", self._path, pause=0.0005)
        try:
            yield
        finally:
            release(self._write)

    @contextmanager
    def kept_from_writers(self) -> Iterator[None]:
        """In a process without write permission: make writers wait during the block."""
        if self.reading is not None:
            self.reading.take()
        try:
            yield
        finally:
            if self.reading is not None:
                self.reading.release()

    def alone(self) -> bool:
        """Try to take the exclusive lock on data.mdb; False if another process has it open. The shared lock is lost either way."""
        return self._open is not None and attempt(self._open, ALONE)

    def share(self) -> None:
        """Take the shared lock that shows that this process has data.mdb open."""
        if self._open is not None:
            wait(self._open, SHARED)

    def release(self) -> None:
        """Give up this process's lock on data.mdb."""
        if self._open is not None:
            release(self._open)

    def close(self) -> None:
        """Close all lock files."""
        for file in (self._open, self._write, self.reading):
            if file is not None:
                file.close()
