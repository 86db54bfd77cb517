"""The index files that this process has open. Each is mapped once, shared by all snapshots, and verified once in the background."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from weakref import WeakValueDictionary

from vectordb_client.errors import CorruptionError
from vectordb_client.model.fields import VectorField

from ..index.base import IndexKind, open_file
from ..index.file import Stale, damaged, header_of
from ..storage import segments
from ..storage.segments import Record

log = logging.getLogger("vectordb.maintenance")


class Files:
    """Open index files of a directory. The rows of a file that can't be used are searched exactly until the file is built again.

    A file can't be used if it is missing, damaged, different from the one that the registry names, or stale: another version of vectordb
    wrote it with something that this version does not know.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.changes = 0  # raised when a file turns out to be unusable, so that snapshots discard their cached segments
        self.damaged: dict[str, str] = {}  # file → what is wrong with it
        self.stale: dict[str, str] = {}  # file → what this version does not know
        self.on_loss: Callable[[str], None] | None = None
        self.on_open: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._open: WeakValueDictionary[str, IndexKind] = WeakValueDictionary()
        self._seen: set[str] = set()  # files whose checksums were verified or are queued
        self._whole: set[str] = set()  # files whose checksum was right, which need no verification if mapped again
        self._unverified: deque[tuple[str, IndexKind]] = deque()
        self._verifying = False

    def open(self, record: Record, spec: VectorField) -> IndexKind | None:
        """The mapped file of a record; None if it can't be used. Raises FileNotFoundError."""
        with self._lock:
            if record.file in self.damaged or record.file in self.stale:
                return None
            found = self._open.get(record.file)
        return self._opened(record, spec) if found is None else found

    def _opened(self, record: Record, spec: VectorField) -> IndexKind | None:
        """Map a file. The lock is not held, so that searches with other files don't wait."""
        path = self.folder / record.file
        try:
            whole = _check_belongs(path, record)
            made = open_file(path)
            if (made.covered, made.file.nbytes) != (record.rows, record.bytes) or not made.fits(spec):
                raise _foreign(path)
        except FileNotFoundError:
            raise
        except Stale as error:
            with self._lock:
                self._put_aside(record.file, str(error))
            return None
        except (CorruptionError, OSError) as error:
            with self._lock:
                self._damage(record.file, str(error))
            return None
        with self._lock:
            if record.file in self.damaged:
                return None
            made.chosen = record.options.get("chosen")
            found = self._open.setdefault(record.file, made)
            if whole:
                self._seen.add(record.file)
                self._whole.add(record.file)
            found.verified = record.file in self._whole
            self._verify_later(record.file, found)
        self.on_open()
        return found

    def opened(self) -> dict[str, IndexKind]:
        """The files that are open now, by name."""
        with self._lock:
            return dict(self._open)

    def missing(self, record: Record) -> None:
        """Note that a file of the registry does not exist."""
        with self._lock:
            self._damage(record.file, f"index file {self.folder / record.file} is missing")

    def _damage(self, file: str, what: str) -> None:
        if file in self.damaged:
            return
        self.damaged[file] = what
        log.warning("%s; its rows are searched exactly until it is built again", what)
        self._lost(file)

    def _put_aside(self, file: str, what: str) -> None:
        if file in self.stale:
            return
        self.stale[file] = what
        log.info("%s; its rows are searched exactly until it is built again", what)
        self._lost(file)

    def _lost(self, file: str) -> None:
        self._open.pop(file, None)
        self.changes += 1
        if self.on_loss is not None:
            self.on_loss(file)

    def _verify_later(self, file: str, segment: IndexKind) -> None:
        if file in self._seen:
            return
        self._seen.add(file)
        self._unverified.append((file, segment))
        if not self._verifying:
            self._verifying = True
            try:
                threading.Thread(target=self._verify, name="vectordb-verify", daemon=True).start()
            except RuntimeError as error:  # no thread can be started: that must not fail a search
                log.warning("the checksum of index file %s can't be verified: %s", file, error)
                self._verifying = False

    def _verify(self) -> None:
        while True:
            with self._lock:
                if not self._unverified:
                    self._verifying = False
                    return
                file, segment = self._unverified.popleft()
            try:
                segment.verify()
            except (CorruptionError, OSError) as error:
                with self._lock:
                    self._damage(file, str(error))
            else:
                with self._lock:
                    self._whole.add(file)
                    mapped = self._open.get(file)
                    if mapped is not None:
                        mapped.verified = True
                    del mapped
            del segment

    def verified(self) -> bool:
        """Whether the checksums of all files opened so far were verified."""
        with self._lock:
            return not self._verifying


def _check_belongs(path: Path, record: Record) -> bool:
    """Check that a file is the one of the record. True if its whole content was read for that, which is necessary if its header is unknown.

    Raises FileNotFoundError, Stale, or CorruptionError for a different file, even an intact one of other rows.
    """
    if header_of(path) == record.header:
        return False
    if path.stat().st_size == record.bytes and segments.checksum(path) == record.checksum:
        return True
    raise _foreign(path)


def _foreign(path: Path) -> CorruptionError:
    return damaged(path, "is not the file that the registry names")
