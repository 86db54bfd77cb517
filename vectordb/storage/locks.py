"""The locks between processes: ``flock`` on empty files, which goes with its process.

``write.lock``: alone by who writes. A process that can't be in LMDB's table of readers (it may not write there) shares it while it reads.
``open.lock``: shared by all who have data.mdb open; alone by who makes it, or puts a new one in its place. ``swap.lock``: see ``rewrite``.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ..errors import LockedError, StorageError
from . import modes

SHARED, ALONE = fcntl.LOCK_SH, fcntl.LOCK_EX
WRITE, OPEN, SWAP = "write.lock", "open.lock", "swap.lock"
PAUSE_SECONDS = 0.001  # between two of its tries
READ_SECONDS = 60.0  # that a reader without a slot in LMDB's table waits for a writer


def open_file(path: Path, mode: int = modes.PRIVATE, read_only: bool = False) -> IO[Any] | None:
    """A file to lock, made if it isn't there. read_only: nothing is made; None when it isn't there."""
    if not read_only:
        return modes.create(path, "ab", mode)
    try:
        return open(path, "rb")
    except FileNotFoundError:
        return None


def attempt(file: IO[Any], kind: int) -> bool:
    """Take a lock if that can be done now. One that was held of the other kind is lost when it can't."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def wait(file: IO[Any], kind: int) -> None:
    """Take a lock, however long that takes."""
    fcntl.flock(file, kind)


def take(file: IO[Any], kind: int, timeout: float, refused: str, path: Path, pause: float = 0.005) -> None:
    """Take a lock, or raise LockedError after ``timeout`` seconds. refused: what then has been the case, without the seconds."""
    deadline = time.monotonic() + timeout
    while not attempt(file, kind):
        if time.monotonic() >= deadline:
            raise LockedError(f"{refused} for {timeout:g} s", field="path", value=str(path))
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def release(file: IO[Any]) -> None:
    """Give a lock back; a child of a fork may hold the same file, so closing it may not do."""
    fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def writing(file: IO[Any], timeout: float, path: Path) -> Iterator[None]:
    """The lock of who writes; unlike LMDB's own it can time out, and it goes with its process."""
    take(file, ALONE, timeout, f"another process has been writing to {path}", path, pause=0.0005)
    try:
        yield
    finally:
        release(file)


def in_use(path: Path) -> bool:
    """Whether somebody, in any process, has the database of a directory open. Changes nothing there."""
    return _held(path / OPEN, ALONE)


def being_swapped(path: Path) -> bool:
    """Whether somebody puts a new data.mdb into a directory now. Changes nothing there."""
    return _held(path / SWAP, SHARED)


def _held(path: Path, kind: int) -> bool:
    """Whether somebody has a lock that keeps one of that kind from being taken."""
    try:
        file = open_file(path, read_only=True)
        if file is None:
            return False
        with file:
            return not attempt(file, kind)
    except OSError:
        return False


class WhileReading:
    """Keeps writers of other processes waiting while this one reads, which may not write to LMDB's table of readers."""

    def __init__(self, path: Path):
        self._path = path
        self._file: IO[Any] | None = None

    def attempt(self) -> bool:
        """False: somebody writes now. Raises StorageError when the lock file can't be read."""
        try:
            if self._file is None:  # one that opens it to write makes the file first
                self._file = open_file(self._path / WRITE, read_only=True)
        except OSError as error:
            raise StorageError(
                f"{self._path} can't be read safely: {WRITE} in it can't be opened ({error.strerror})", field="path", value=str(self._path)
            ) from error
        return self._file is None or attempt(self._file, SHARED)

    def take(self) -> None:
        """Raises LockedError when somebody writes for too long, StorageError when the lock file can't be read."""
        deadline = time.monotonic() + READ_SECONDS
        while not self.attempt():
            self.check_patience(deadline)
            time.sleep(PAUSE_SECONDS)

    def check_patience(self, deadline: float) -> None:
        """Raises LockedError once the monotonic clock has come so far."""
        if time.monotonic() >= deadline:
            what = f"another process has been writing to {self._path} for {READ_SECONDS:g} s"
            raise LockedError(what, field="path", value=str(self._path))

    def release(self) -> None:
        if self._file is not None:
            release(self._file)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
