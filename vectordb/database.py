"""A database: a directory that holds collections."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Mapping
from typing import Any

from vectordb_client.errors import AlreadyExistsError, ClosedError, InvalidArgumentError, StorageError, shown
from vectordb_client.model.access import Collections
from vectordb_client.model.aliases import Durability, Span
from vectordb_client.model.arguments import UnknownArgumentError, named
from vectordb_client.model.branches import BranchDiff, MergeResult, OnConflict, check_diff_limit, check_on_conflict
from vectordb_client.model.checks import check_durability, check_flag, check_write_timeout
from vectordb_client.model.history import check_history
from vectordb_client.model.memory import Memory, check_memory
from vectordb_client.model.schema import Schema, check_schema
from vectordb_client.model.schema_diff import exists_already

from .collection import Collection
from .encoders import functions, names
from .engine import merging, word_vectors
from .engine.audits import check_share
from .engine.directory import Options, open_directory
from .engine.encoding import encoder_identities
from .index.base import check_options
from .maintenance import Maintainer, backup
from .storage import aliases, branches, catalog, change_log, modes, place
from .storage.change_log import Limits
from .storage.format import Txn
from .transaction import Transaction


@named
def open(
    path: str | os.PathLike[str],
    *,
    durability: Durability = "commit",
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
    memory: Memory = None,
    encoders: Mapping[str, Any] | None = None,
) -> Database:
    """Open the database in a directory. A missing directory is created, unless ``create=False``.

    Several processes may open one directory. One of them writes at a time; the others see each write at their next read.

    Args:
        path: the directory. It is resolved once, so a later ``chdir`` changes nothing. If the directory is moved, removed or replaced while
            it is open, writes raise StorageError. "~" is your home directory. ":memory:" opens a database in a private temporary
            directory, which is removed when it is closed.
        durability: "commit": a write returns when it is on disk. "batched": a write returns before the sync of its last page, so a power
            loss (not a crash of the process) may undo the newest writes, but never parts of one. ``close()`` and ``flush()`` sync.
        write_timeout: seconds to wait while another process writes.
        create: create the directory if it doesn't exist.
        maintenance: index new rows, merge segments and compact chunks in the background. False leaves these to ``Collection.optimize`` and
            to other processes.
        recall_audit: the share of single searches, 0 to 1, that are repeated exactly in the background, in at most 0.5 % of the time of
            one core. ``Collection.info()`` reports the measured recall. None is the value of an earlier handle of the directory in this
            process, or else 1/64.
        salvage: open a damaged directory to read what is left of it. It accepts no writes. Without salvage a directory with missing or
            changed records is refused.
        read_only: write nothing but lock files, and start no maintenance; writes raise StorageError. A directory for which this process has
            no write permission is always opened like this, without lock files. A snapshot can only be opened like this.
        file_mode: the mode of new files, such as ``0o640``; folders may be entered by everyone who may read them. The umask applies. None
            is the value of an earlier handle of the directory in this process, or else the mode of data.mdb, or else ``0o600``.
        change_log_batches: how many batches of each collection ``Collection.changes`` keeps. None is the value of an earlier handle, or
            else 65,536. The newest batch is always kept. The limits apply to the writes of this process.
        change_log_bytes: how many bytes of them; None is the value of an earlier handle, or else 64 MiB.
        change_log_seconds: how long they are kept, in seconds; None is the value of an earlier handle, or else 30 days.
        memory: how much memory index files and caches may take in this process: "2GiB", "500MB" or a number of bytes, at least 16 MiB.
            ``set_memory`` explains it and changes it. None is the value of an earlier handle, or else no limit.
        encoders: Python functions that encode texts, by name: ``{"mine": function}`` for ``Dense(384, encoder="mine")``. A function takes a
            list of texts, from any thread, and returns an array of as many rows. A tuple has one for documents and one for queries. A name
            belongs to one function in all open directories of the process.

    Returns:
        The database. Use it as a context manager, or call ``close()``.

    Raises:
        InvalidArgumentError: an argument is not valid, for example the address of a service as the path.
        StorageError: the directory can't be created, read or locked.
        CorruptionError: stored data is damaged.
        FormatVersionError: another version of vectordb wrote the directory.

    Example:
        ```python
        with vectordb.open("data") as db:
            docs = db.create_collection("docs", Schema(vectors={"v": Dense(384)}), exist_ok=True)
            docs.upsert(ids=[1, 2], vectors={"v": vectors})
            print(docs.search({"v": query}, limit=5))
        ```
    """
    check_durability(durability)
    check_write_timeout(write_timeout)
    check_flag("maintenance", maintenance)
    if recall_audit is not None:
        recall_audit = check_share(recall_audit)
    for name, value in (("create", create), ("salvage", salvage), ("read_only", read_only)):
        check_flag(name, value)
    if file_mode is not None:
        modes.check_mode(file_mode)
    budget = check_memory(memory)
    pairs = {} if encoders is None else functions.checked(encoders, names())
    limits = {"batches": change_log_batches, "bytes": change_log_bytes, "seconds": change_log_seconds}
    given = {name: value for name, value in limits.items() if value is not None}
    Limits(**given)  # raises before anything is created
    if path is None:
        what = 'path must be a str or a pathlib.Path, not None; write ":memory:" for a database that is removed when it is closed'
        raise InvalidArgumentError(what, field="path")
    in_memory = is_memory(path)
    if in_memory:
        for name, value, usual in (("create", create, True), ("salvage", salvage, False), ("read_only", read_only, False)):
            if value is not usual:
                raise InvalidArgumentError(
                    f"a database in memory is always new and empty; leave out {name}={value}", field=name, value=value
                )
        path, durability = _new_folder(), "batched"
    times = durability, float(write_timeout)
    options = Options(*times, create, maintenance, recall_audit, salvage, read_only, file_mode, in_memory, given, budget)
    database = Database(path, options)
    try:
        database._give(pairs)
    except InvalidArgumentError:
        database.close()
        raise
    return database


def is_memory(path: Any) -> bool:
    """Whether a path means a database in memory: ":memory:"."""
    return isinstance(path, (str, os.PathLike)) and os.fspath(path) == place.MEMORY


def _new_folder() -> str:
    """A temporary folder for a database in memory. /dev/shm is not used, because it is small in containers; the page cache is as fast."""
    try:
        return tempfile.mkdtemp(prefix="vectordb-memory-")
    except OSError as error:
        raise StorageError(f"a temporary folder can't be created: {error.strerror}", field="path") from error


def _remove_folder(path: str, pid: int) -> None:
    if os.getpid() == pid:  # a forked child must not remove it
        shutil.rmtree(path, ignore_errors=True)


class Database(Collections[Collection]):
    """An open directory. ``vectordb.open`` returns it. Safe to share between threads.

    Use it as a context manager, or call ``close``. A database is also a container of its collections: ``db["docs"]`` is
    ``db.collection("docs")``, ``"docs" in db`` says whether there is one, ``list(db)`` has their names, ``len(db)`` their number.

    Attributes:
        path: the absolute path of the directory.
        read_only: why nothing can be written, or None.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] = "data",
        options: Options | None = None,
        **given: Any,
    ):
        if options is None or given:
            raise UnknownArgumentError(f"Database() is not called directly; write vectordb.open({shown(path)})", field="path", value=path)
        self._handle = open_directory(path, options, Maintainer)
        self.directory = self._handle.directory
        self.read_only = self._handle.read_only
        self._remove = weakref.finalize(self.directory, _remove_folder, os.fspath(path), os.getpid()) if options.temporary else None
        self.path = str(self.directory.path)
        self._collections: dict[int, Collection] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._forget = weakref.finalize(self, functions.take_back, owner := object())
        self._owner = owner

    def __repr__(self) -> str:
        return f"Database({self.path!r})"

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    @named
    def create_collection(self, name: str, schema: Schema, *, exist_ok: bool = False, history: Span | None = None) -> Collection:
        self._check_open()
        check_schema(schema)
        check_flag("exist_ok", exist_ok)
        seconds = check_history("history", history)
        identities = encoder_identities(schema)
        check_options(schema.vectors)
        records = word_vectors.begun(schema, schema.vectors, identities)
        try:
            number = self._handle.write(lambda txn: catalog.create(txn, name, schema, identities, seconds, records))
        except AlreadyExistsError:
            if not exist_ok:
                raise
            existing = self.collection(name)
            if not existing.schema.same_as(schema):
                raise exists_already(name, schema, existing.schema, True) from None
            if seconds and existing.info().history.get("seconds", 0) != seconds:
                what = f"collection {shown(name)} exists and keeps its history for another time than {shown(history)}"
                raise AlreadyExistsError(f"{what}; keep_history changes that", field="history", value=history) from None
            return existing
        return self._collection(name, number)

    @named
    def collection(self, name: str) -> Collection:
        self._check_open()
        with self.directory.env.read() as txn:
            name, number = catalog.find(txn, name)
        return self._collection(name, number)

    def collections(self) -> list[str]:
        self._check_open()
        with self.directory.env.read() as txn:
            return list(catalog.names(txn))

    @named
    def drop_collection(self, name: str) -> None:
        self._check_open()

        def work(txn: Txn) -> None:
            aliases.own_number(txn, name, "drop_collection")
            aliases.check_no_alias(txn, name)
            catalog.drop(txn, name)

        self._handle.write(work)
        self.directory.maintainer.dropped()

    @named
    def rename_collection(self, name: str, new_name: str) -> None:
        self._check_open()
        number = self._handle.write(lambda txn: aliases.rename(txn, name, new_name))
        self._collection(new_name, number)

    @named
    def alias(self, alias: str, collection: str) -> None:
        self._check_open()
        self._handle.write(lambda txn: aliases.put(txn, alias, collection))

    @named
    def drop_alias(self, alias: str) -> None:
        self._check_open()
        self._handle.write(lambda txn: aliases.drop(txn, alias))

    def aliases(self) -> dict[str, str]:
        self._check_open()
        with self.directory.env.read() as txn:
            return aliases.aliases(txn)

    @named
    def branch(self, source: str, name: str) -> Collection:
        self._check_open()
        at = change_log.now()
        number = self._handle.write(lambda txn: branches.create(txn, source, name, at))
        return self._collection(name, number)

    @named
    def diff(self, branch: str, *, limit: int = 1_000) -> BranchDiff:
        self._check_open()
        limit = check_diff_limit(limit)
        with self.directory.env.read() as txn:
            return merging.diff(txn, branch, limit)

    @named
    def merge(self, branch: str, *, on_conflict: OnConflict = "error") -> MergeResult:
        self._check_open()
        choice, at = check_on_conflict(on_conflict), change_log.now()
        number, result = self._handle.write(lambda txn: merging.merge(txn, branch, choice, at, self.directory))
        self.directory.maintainer.wrote(number, result.added + result.changed + result.deleted)
        return result

    def transaction(self, *, durability: Durability | None = None) -> Transaction:
        self._check_open()
        self._handle.check_writable()
        return Transaction(self._handle, self.collection, durability)

    @named
    def snapshot(self, path: str | os.PathLike, *, archive: bool = False) -> dict[str, Any]:
        """Copy the current state of the database. Reads and writes continue meanwhile. ``vectordb.restore`` reads the copy back.

        Index files are hard links where the file system permits, so a directory on the same disk takes little more space than the rows.
        The snapshot appears under its name only when it is complete and on disk.

        Args:
            path: the directory or the file to create.
            archive: write one tar file instead of a directory.

        Returns:
            The manifest: created, collections (name → sequence, points), files (name → bytes, xxh3_128), path.

        Raises:
            AlreadyExistsError: the path exists.
            InvalidArgumentError: the path is inside a database (this one or another) or a snapshot.
            StorageError: the file system refused a read or a write.
            CorruptionError: stored data is damaged.
        """
        self._check_open()
        check_flag("archive", archive)
        return backup.snapshot(self.directory.env, path, archive)

    def purge(self, timeout: float | None = None) -> dict[str, Any]:
        self._check_open()
        self._handle.check_writable()
        with self.directory.env.read() as txn:
            numbers = list(catalog.names(txn).values())
        return self.directory.maintainer.purge(numbers, timeout)

    @named
    def set_memory(self, memory: Memory) -> dict[str, int]:
        self._check_open()
        self.directory.memory.set(check_memory(memory))
        return self.directory.memory.facts()

    def flush(self) -> None:
        """Sync all writes to disk; needed only for durability="batched". Raises StorageError."""
        self._check_open()
        if self.read_only is None:
            self.directory.env.sync()

    def close(self) -> None:
        """Sync all writes and close the database. A second call does nothing.

        Maintenance under way is cancelled. Reads under way in other threads raise ClosedError, usually within a second; writes under way
        are finished; ``close`` waits for both. Later calls raise ClosedError.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._handle.close()
        self._forget()
        if self._remove is not None:
            self._remove()

    def _collection(self, name: str, number: int) -> Collection:
        with self._lock:
            collection = self._collections.get(number)
            if collection is not None:
                collection.name = name  # it may have been renamed
                return collection
            collection = self._collections[number] = Collection(name, number, self._handle)
        self.directory.maintainer.opened(number)
        return collection

    def _give(self, pairs: Mapping[str, Any]) -> None:
        functions.give(pairs, self._owner, self.path)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"database {self.path} was closed", field="path", value=self.path)
