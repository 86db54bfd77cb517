"""What every check of a directory uses: the list of problems, a walk over keys, and errors of damaged bytes as problems."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vectordb_client.errors import VectorDBError

from .. import format, locks

MAX_PROBLEMS = 1_000
_LOOK_SECONDS = 0.25  # between two checks whether a process has opened the directory


@dataclass(frozen=True)
class IntegrityReport:
    """What ``check`` found. problems: one line each, naming collection, field and rows; empty if the directory is sound.

    notes: problems of index files, which can be built again, so no answer is wrong and nothing is lost; and what could not be checked.
    points: live rows of all collections. bytes: size of all keys, values and index files that were read.
    """

    path: str
    problems: tuple[str, ...]
    collections: int
    points: int
    rows: int
    chunks: int
    bytes: int
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems


class Overtaken(Exception):
    """Another process has opened the directory and may want to write."""


class Lookout:
    """Checks every ``_LOOK_SECONDS`` whether another process has opened the directory."""

    def __init__(self, path: Path):
        self._path = path
        self._next = 0.0

    def check(self) -> None:
        """Raises Overtaken."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _LOOK_SECONDS
            if locks.in_use(self._path):
                raise Overtaken


class Full(Exception):
    """``MAX_PROBLEMS`` problems were found."""


class Walker:
    """One check of a directory in one read transaction.

    folder: of the index files. lookout: if nobody else had the directory open when the check began.
    """

    def __init__(self, txn: format.Txn, folder: Path, lookout: Lookout | None = None):
        self.txn = txn
        self.folder = folder
        self._lookout = lookout
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.points = self.rows = self.chunks = self.bytes = 0

    def report(self, path: str, collections: int) -> IntegrityReport:
        counts = (collections, self.points, self.rows, self.chunks, self.bytes)
        return IntegrityReport(path, tuple(self.problems), *counts, tuple(self.notes))

    def problem(self, where: str, what: str) -> None:
        """Add a problem. Raises Full if there are too many."""
        if len(self.problems) >= MAX_PROBLEMS:
            raise Full
        self.problems.append(f"{where}: {what}")

    def expect(self, holds: Any, where: str, what: str) -> bool:
        """Add a problem if a condition doesn't hold; returns whether it holds."""
        if not holds:
            self.problem(where, what)
        return bool(holds)

    @contextmanager
    def guard(self, where: str) -> Iterator[None]:
        """Any error that reading raises inside the block, because of damaged bytes, becomes a problem of ``where``."""
        if self._lookout is not None:
            self._lookout.check()
        try:
            yield
        except (Full, Overtaken):
            raise
        except VectorDBError as error:
            self.problem(where, error.message)
        except Exception as error:
            self.problem(where, f"can't be read: {type(error).__name__}: {error}")

    def walk(self, prefix: bytes) -> Iterator[tuple[bytes, format.Stored]]:
        """The keys with a prefix, and their values."""
        return format.walk(self.txn, prefix)
