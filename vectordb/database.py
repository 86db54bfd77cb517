"""A database: a directory with collections in it."""

from __future__ import annotations

import os
import threading
from typing import Any

from . import backup
from . import maintenance as upkeep
from .collection import Collection, check_graph_builders, encoder_identities
from .errors import AlreadyExistsError, ClosedError, InvalidArgumentError, SchemaError, shown
from .query import audit
from .storage import catalog
from .storage.commit import Committer
from .storage.env import check_durability, close_env, open_env
from .types import Schema


def open(
    path: str | os.PathLike,
    *,
    durability: str = "commit",
    write_timeout: float = 60.0,
    create: bool = True,
    maintenance: bool = True,
    recall_audit: float | None = None,
    salvage: bool = False,
) -> Database:
    """Open the database of a directory, making it if there is none (unless ``create=False``).

    durability: "commit" — a write returns when it is on disk; "batched" — its last page is left to the next sync, so a power loss (not a
    crash of the process) may undo the newest writes, never tear them. ``close()`` and ``flush()`` sync.
    write_timeout: seconds to wait while another process writes, then LockedError.
    maintenance: index new rows, merge segments and compact chunks in the background; False leaves that to ``Collection.optimize`` and to
    other processes.
    recall_audit: the share of single searches, 0 to 1, that are done again exactly in the background, at most 2 % of a core's time; None
    is one in 64, or what an earlier handle of the directory said. ``Collection.info()`` tells what they found.
    salvage: open a directory in which records are missing or changed, which is refused otherwise, to read what is left; it takes no writes.
    Several processes may open one directory: one writes at a time, the others see it at their next query.
    Raises StorageError, CorruptionError, FormatVersionError.
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
    if not isinstance(salvage, bool):
        raise InvalidArgumentError(f"salvage must be True or False, not {shown(salvage)}", field="salvage", value=salvage)
    return Database(path, durability, float(write_timeout), create, maintenance and not salvage, recall_audit, salvage)


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
    ):
        self.path = os.fspath(path)
        self._durability = durability
        self._env = open_env(path, create, salvage)
        self._committer = Committer(self._env, write_timeout)
        self._maintenance = maintenance
        self._maintainer = upkeep.attach(self._env, write_timeout, maintenance)
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
            if found.schema != schema:
                raise AlreadyExistsError(f"collection {name!r} exists with another schema", field="collection", value=name) from None
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
        with self._env.read() as txn:
            numbers = list(catalog.names(txn).values())
        return self._maintainer.purge(numbers, timeout)

    def flush(self) -> None:
        """Make every write so far durable (for durability="batched")."""
        self._check_open()
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
