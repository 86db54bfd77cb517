"""The index files that this process has open: each is mapped once, shared by all snapshots, and read through once in the background."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from weakref import WeakKeyDictionary, WeakValueDictionary

from .errors import CorruptionError
from .index.file import Stale, damaged, header_of
from .index.segment import Segment
from .index.sparse_segment import SparseSegment
from .storage import segments
from .storage.env import Env
from .storage.segments import Record
from .types import Dense, Sparse

log = logging.getLogger("vectordb.maintenance")
_of_env: WeakKeyDictionary[Env, Files] = WeakKeyDictionary()
_of_env_lock = threading.Lock()
AnySegment = Segment | SparseSegment
Indexed = Dense | Sparse


class Files:
    """Open index files of a directory. What a file covered that can't be used is searched exactly: one that is missing or damaged, or
    another than the registry means, or (stale) one that another version of vectordb made for something that this one doesn't know.
    """

    def __init__(self, env: Env):
        self.folder = segments.folder(env.path)
        self.changes = 0  # grows when a file turns out to be of no use: what snapshots remember is then void
        self.damaged: dict[str, str] = {}  # file → what is wrong with it
        self.stale: dict[str, str] = {}  # file → what isn't known of it
        self.on_loss: Callable[[str], None] | None = None
        self._lock = threading.Lock()
        self._open: WeakValueDictionary[str, AnySegment] = WeakValueDictionary()
        self._seen: set[str] = set()  # files whose checksums were checked, or will be
        self._whole: set[str] = set()  # those that passed: a file may be mapped again
        self._unverified: deque[tuple[str, AnySegment]] = deque()
        self._verifying = False

    def open(self, record: Record, spec: Indexed) -> AnySegment | None:
        """The mapped file of a record, None when it can't be used. Raises FileNotFoundError."""
        with self._lock:
            if record.file in self.damaged or record.file in self.stale:
                return None
            found = self._open.get(record.file)
        return self._opened(record, spec) if found is None else found

    def _opened(self, record: Record, spec: Indexed) -> AnySegment | None:
        """Map a file; nobody waits meanwhile who has his."""
        path = self.folder / record.file
        try:
            whole = _check_belongs(path, record)
            made = (Segment if isinstance(spec, Dense) else SparseSegment).open(path)
            if (made.covered, made.nbytes) != (record.rows, record.bytes) or not made.fits(spec):
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
            found = self._open.setdefault(record.file, made)
            if whole:
                self._seen.add(record.file)
                self._whole.add(record.file)
            found.verified = record.file in self._whole
            self._verify_later(record.file, found)
            return found

    def missing(self, record: Record) -> None:
        """A file that is in the registry isn't there."""
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

    def _verify_later(self, file: str, segment: AnySegment) -> None:
        if file in self._seen:
            return
        self._seen.add(file)
        self._unverified.append((file, segment))
        if not self._verifying:
            self._verifying = True
            try:
                threading.Thread(target=self._verify, name="vectordb-verify", daemon=True).start()
            except RuntimeError as error:  # no more threads: no reason to fail a search
                log.warning("index file %s isn't read through: %s", file, error)
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
        """Whether every file opened so far has been read through."""
        with self._lock:
            return not self._verifying


def _check_belongs(path: Path, record: Record) -> bool:
    """Whether the file is the one of the record by its whole content: it was read for that only where its header didn't tell.

    Raises FileNotFoundError, Stale, and CorruptionError for another file, which may be a sound one of other rows.
    """
    if header_of(path) == record.header:
        return False
    if path.stat().st_size == record.bytes and segments.checksum(path) == record.checksum:
        return True
    raise _foreign(path)


def _foreign(path: Path) -> CorruptionError:
    return damaged(path, "isn't the one that the registry names")


def files_of(env: Env) -> Files:
    """The open index files of an environment."""
    with _of_env_lock:
        found = _of_env.get(env)
        if found is None:
            found = _of_env[env] = Files(env)
        return found
