"""A database: a directory with collections in it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
import threading
import weakref
from typing import Any

from . import backup
from . import maintenance as upkeep
from .collection import Collection
from .encoding import check_graph_builders, encoder_identities
from .errors import AlreadyExistsError, ClosedError, InvalidArgumentError, SchemaError, StorageError, shown
from .query import audit
from .storage import catalog, modes, place
from .storage.change_log import Limits
from .storage.commit import Committer
from .storage.env import check_durability, close_env, open_env
from .types import Schema, exists_already


def open(
    path: str | os.PathLike | None,
    *,
    durability: str = "commit",
    write_timeout: float = 60.0,
    create: bool = True,
    maintenance: bool = True,
    recall_audit: float | None = None,
    salvage: bool = False,
    read_only: bool = False,
    file_mode: int | None = None,
    change_log_batches: int | None = None,
    change_log_bytes: int | None = None,
    change_log_seconds: float | None = None,
) -> Database:
    """Open the database of a directory, making it if there is none (unless ``create=False``).

    path: resolved now, once: a later ``chdir`` changes nothing, and when the directory is moved, removed or replaced meanwhile, writes
    raise StorageError. None or ":memory:" is a database in memory: in a private temporary directory, which goes when it is closed.

    durability: "commit" — a write returns when it is on disk; "batched" — its last page is left to the next sync, so a power loss (not a
    crash of the process) may undo the newest writes, never tear them. ``close()`` and ``flush()`` sync.
    write_timeout: seconds to wait while another process writes, then LockedError.
    maintenance: index new rows, merge segments and compact chunks in the background; False leaves that to ``Collection.optimize`` and to
    other processes.
    recall_audit: the share of single searches, 0 to 1, that are done again exactly in the background, at most 2 % of a core's time; None
    is one in 64, or what an earlier handle of the directory said. ``Collection.info()`` tells what they found.
    salvage: open a directory in which records are missing or changed, or pages belong to nothing, which is refused otherwise, to read what
    is left; it takes no writes.
    read_only: make nothing there but lock files, begin no maintenance; writes raise StorageError. A directory that this process can't write
    to (a file system that is mounted read-only, no permission) is opened so in any case, and has no file made in it. The only way to open a
    snapshot as it is.
    file_mode: the mode of new files, such as 0o640; folders may be entered by who may read them. The umask is taken off, and files that are
    there keep theirs. None: as an earlier handle of the directory said, else as data.mdb has it, else 0o600.
    change_log_batches, change_log_bytes, change_log_seconds: how much of what ``Collection.changes`` tells is kept of each collection: the
    newest batches, their size, and their age. The newest batch always is. None is 65,536, 64 MiB and 30 days, or what an earlier handle of
    the directory said. They hold for the writes of this process.
    Several processes may open one directory: one writes at a time, the others see it at their next query.
    Raises InvalidArgumentError, StorageError, CorruptionError, FormatVersionError.
    """
    check_durability(durability)
    if isinstance(write_timeout, bool) or not isinstance(write_timeout, (int, float)) or not 0 < write_timeout < 1e9:
        raise InvalidArgumentError(
            f"write_timeout must be seconds > 0, not {shown(write_timeout)}", field="write_timeout", value=write_timeout
        )
    if not isinstance(maintenance, bool):
        raise InvalidArgumentError(f"maintenance must be True or False, not {shown(maintenance)}", field="maintenance", value=maintenance)
    if recall_audit is not None:
        recall_audit = audit.check_share(recall_audit)
    for name, value in (("create", create), ("salvage", salvage), ("read_only", read_only)):
        if not isinstance(value, bool):
            raise InvalidArgumentError(f"{name} must be True or False, not {shown(value)}", field=name, value=value)
    if file_mode is not None:
        modes.check_mode(file_mode)
    limits = {"batches": change_log_batches, "bytes": change_log_bytes, "seconds": change_log_seconds}
    given = {name: value for name, value in limits.items() if value is not None}
    Limits(**given)  # refuses what is wrong before anything is made
    in_memory = is_memory(path)
    if in_memory:
        for name, value, usual in (("create", create, True), ("salvage", salvage, False), ("read_only", read_only, False)):
            if value is not usual:
                raise InvalidArgumentError(f"a database in memory is new and empty: it takes no {name}={value}", field=name, value=value)
        path, durability = _new_folder(), "batched"
    opened = Database(path, durability, float(write_timeout), create, maintenance, recall_audit, salvage, read_only, file_mode, in_memory)
    opened._env.change_log = dataclasses.replace(opened._env.change_log, **given)
    return opened


def is_memory(path: Any) -> bool:
    """Whether a path stands for a database in memory."""
    return path is None or (isinstance(path, (str, os.PathLike)) and os.fspath(path) == place.MEMORY)


def _new_folder() -> str:
    """Of a database in memory. Not in /dev/shm, which containers keep small; what is written there stays in the page cache all the same."""
    try:
        return tempfile.mkdtemp(prefix="vectordb-memory-")
    except OSError as error:
        raise StorageError(f"there is no folder for temporary files: {error.strerror}", field="path") from error


def _remove_folder(path: str, pid: int) -> None:
    if os.getpid() == pid:  # not by the child of a fork
        shutil.rmtree(path, ignore_errors=True)


class Database:
    """An open directory. Safe to share among threads; use as a context manager, or call ``close``."""

    def __init__(
        self,
        path: str | os.PathLike,
        durability: str,
        write_timeout: float,
        create: bool,
        maintenance: bool,
        recall_audit: float | None,
        salvage: bool,
        read_only: bool,
        file_mode: int | None,
        in_memory: bool,
    ):
        self._env = open_env(path, create, salvage, file_mode, read_only, in_memory)
        self._remove = weakref.finalize(self._env, _remove_folder, os.fspath(path), os.getpid()) if in_memory else None
        self.path = str(self._env.path)
        self._durability = durability
        self._read_only = self._env.read_only or ("it was opened with read_only=True" if read_only else None)
        self._committer = Committer(self._env, write_timeout, self._read_only)
        self._maintenance = maintenance and not salvage and self._read_only is None
        self._maintainer = upkeep.attach(self._env, write_timeout, self._maintenance)
        if recall_audit is not None:
            audit.audits_of(self._env).share = recall_audit
        self._collections: dict[int, Collection] = {}
        self._lock = threading.Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"Database({self.path!r})"

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    def create_collection(self, name: str, schema: Schema, *, exist_ok: bool = False) -> Collection:
        """Make a collection. With ``exist_ok`` one of the same schema is taken as it is.

        Raises AlreadyExistsError, SchemaError, EncoderError.
        """
        self._check_open()
        if not isinstance(schema, Schema):
            raise SchemaError(f"schema must be a Schema, not {shown(schema)}", field="schema", value=schema)
        identities = encoder_identities(schema.vectors)
        check_graph_builders(schema.vectors)
        try:
            number = self._committer.run(lambda txn: catalog.create(txn, name, schema, identities), self._durability)
        except AlreadyExistsError:
            if not exist_ok:
                raise
            found = self.collection(name)
            if not found.schema.same_as(schema):
                raise exists_already(name, schema, found.schema, True) from None
            return found
        return self._collection(name, number)

    def collection(self, name: str) -> Collection:
        """A collection by name. Raises NotFoundError naming those there are."""
        self._check_open()
        with self._env.read() as txn:
            number = catalog.number_of(txn, name)
        return self._collection(name, number)

    def collections(self) -> list[str]:
        """Names of the collections, sorted."""
        self._check_open()
        with self._env.read() as txn:
            return list(catalog.names(txn))

    def drop_collection(self, name: str) -> None:
        """Delete a collection and everything in it. Raises NotFoundError."""
        self._check_open()
        self._committer.run(lambda txn: catalog.drop(txn, name), self._durability)
        self._maintainer.dropped()

    def snapshot(self, path: str | os.PathLike, *, archive: bool = False) -> dict[str, Any]:
        """Copy the database as it is now, while everybody goes on reading and writing; ``vectordb.restore`` brings it back.

        path: what is to be made, a directory or (archive) one tar file. Index files are linked where they can be, so a directory on the
        same disk takes little more than the rows. It appears under its name when it is whole and on disk.
        Returns the manifest: created, collections (name → sequence, points), files (name → bytes, xxh3_128), path.
        Raises AlreadyExistsError when something is there, StorageError, CorruptionError.
        """
        self._check_open()
        if not isinstance(archive, bool):
            raise InvalidArgumentError(f"archive must be True or False, not {shown(archive)}", field="archive", value=archive)
        return backup.snapshot(self._env, path, archive)

    def purge(self, timeout: float | None = None) -> dict[str, Any]:
        """``Collection.purge`` of all collections, and of what was dropped."""
        self._check_open()
        self._committer.check_writable()
        with self._env.read() as txn:
            numbers = list(catalog.names(txn).values())
        return self._maintainer.purge(numbers, timeout)

    def flush(self) -> None:
        """Make every write so far durable (for durability="batched"). Raises StorageError."""
        self._check_open()
        if self._read_only is None:
            self._env.sync()

    def close(self) -> None:
        """Sync and close; maintenance under way is given up. Reads under way in other threads raise ClosedError, mostly within a second,
        and writes are finished: both are waited for. Further calls raise ClosedError; closing twice is fine.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._maintainer.release(self._maintenance)
        close_env(self._env)
        if self._remove is not None:
            self._remove()

    def _collection(self, name: str, number: int) -> Collection:
        with self._lock:
            found = self._collections.get(number)
            if found is not None:
                return found
            found = Collection(name, number, self._env, self._committer, self._durability, self._maintainer)
            self._collections[number] = found
        self._maintainer.opened(number)
        return found

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"database {self.path} was closed", field="path", value=self.path)
