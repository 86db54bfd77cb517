"""The index files that this process has open: each is mapped once, shared by all snapshots, and read through once in the background."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from weakref import WeakKeyDictionary, WeakValueDictionary

from .errors import CorruptionError
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
    """Open index files of a directory. A file that is missing or damaged is left out, and what it covered is searched exactly."""

    def __init__(self, env: Env):
        self.folder = segments.folder(env.path)
        self.changes = 0  # grows when a file turns out to be damaged: what snapshots remember is then void
        self.damaged: dict[str, str] = {}  # file → what is wrong with it
        self.on_damage: Callable[[str], None] | None = None
        self._lock = threading.Lock()
        self._open: WeakValueDictionary[str, AnySegment] = WeakValueDictionary()
        self._seen: set[str] = set()  # files whose checksums were checked, or will be
        self._whole: set[str] = set()  # those that passed: a file may be mapped again
        self._unverified: deque[tuple[str, AnySegment]] = deque()
        self._verifying = False

    def open(self, record: Record, spec: Indexed) -> AnySegment | None:
        """The mapped file of a record, None when it is damaged. Raises FileNotFoundError."""
        with self._lock:
            if record.file in self.damaged:
                return None
            found = self._open.get(record.file)
            if found is None:
                try:
                    found = (Segment if isinstance(spec, Dense) else SparseSegment).open(self.folder / record.file)
                    _check_belongs(found, record, spec)
                except FileNotFoundError:
                    raise
                except (CorruptionError, OSError) as error:
                    self._damage(record.file, str(error))
                    return None
                self._open[record.file] = found
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
        self._open.pop(file, None)
        self.changes += 1
        log.warning("%s; its rows are searched exactly until it is built again", what)
        if self.on_damage is not None:
            self.on_damage(file)

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


def _check_belongs(segment: AnySegment, record: Record, spec: Indexed) -> None:
    said, is_ = (segment.rows, segment.nbytes), (record.rows, record.bytes)
    if said != is_ or not segment.fits(spec):
        raise CorruptionError(f"index file {record.file} isn't the one that the registry names", field="index", value=record.file)


def files_of(env: Env) -> Files:
    """The open index files of an environment."""
    with _of_env_lock:
        found = _of_env.get(env)
        if found is None:
            found = _of_env[env] = Files(env)
        return found
