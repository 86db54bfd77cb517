"""Transactions over several collections of one directory: all writes in one LMDB transaction."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from vectordb_client.errors import CorruptionError, StorageError, VectorDBError, shown
from vectordb_client.model.aliases import Durability
from vectordb_client.model.batch import Batch, Columns
from vectordb_client.model.transaction import TransactionWrites, Writes, not_a_collection

from .collection import Collection
from .common.failpoints import reach
from .engine.apply import Applied, Delete, OvertakenError
from .engine.directory import Handle


class Transaction(Writes):
    """Writes to several collections that are committed together: all of them or none. ``Database.transaction`` makes one.

    ``t["docs"]`` has ``upsert``, ``update`` and ``delete``. They check their arguments at once and write at the end of the ``with`` block,
    in the order of the calls. If the block raises an exception, nothing is written. Only one thread may use a transaction.

    A transaction reads nothing: reads inside the block, through the collections themselves, show what is committed, without its writes.
    To write only if nothing has changed since a read, pass ``if_version`` or ``if_filter``. Conditions, and filters of ``delete`` and
    ``update``, are evaluated at the end of the block and see the earlier writes of the transaction.
    """

    def __init__(self, handle: Handle, named: Callable[[str], Collection], durability: Durability | None = None):
        super().__init__(durability)
        self._handle = handle
        self._named = named
        self._steps: list[tuple[Collection, Batch | Delete]] = []

    def __getitem__(self, collection: str | Collection) -> TransactionWrites:
        """The collection of a name, or a collection of this database, for writes in this transaction. Raises NotFoundError."""
        if isinstance(collection, str):
            collection = self._named(collection)
        elif not isinstance(collection, Collection) or collection._handle is not self._handle:
            raise not_a_collection(collection)
        self._check_open()
        return _Writes(self, collection)

    def __enter__(self) -> Transaction:
        self._begin()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._end(kind is not None):
            self._commit()

    def keep(self, collection: Collection, write: Batch | Delete) -> None:
        """Keep a checked write for the end of the block."""
        self._kept.append((collection.name, write))
        self._steps.append((collection, write))

    def _commit(self) -> None:
        """Apply all writes and commit them. Raises the error of the first write that can't be applied."""
        while True:
            changes = [(collection, collection._change_of(write)) for collection, write in self._steps]
            try:
                applied = self._handle.write(functools.partial(_apply_all, changes=changes), self._durability)
                break
            except OvertakenError:  # a field was converted meanwhile: its texts are encoded again
                continue
        for (collection, change), each in zip(changes, applied, strict=True):
            collection._committed(change, each)
        self.results = [each.result for each in applied]


class _Writes(TransactionWrites):
    _transaction: Transaction

    def __init__(self, transaction: Transaction, collection: Collection):
        super().__init__(transaction, collection.name)
        self._collection = collection

    def _keep_write(self, kind: str, points: Any, columns: Columns, durability: Durability | None) -> None:
        self._transaction._begin_write(durability)
        self._transaction.keep(self._collection, self._collection._checked_batch(kind, points, columns))

    def _keep_delete(self, ids: Any, filter: Any, if_version: Any, if_filter: Any, durability: Durability | None) -> None:
        self._transaction._begin_write(durability)
        self._transaction.keep(self._collection, self._collection._checked_delete(ids, filter, if_version, if_filter))


def _apply_all(txn: Any, changes: Sequence[tuple[Collection, Any]]) -> list[Applied]:
    applied = []
    for number, (collection, change) in enumerate(changes, 1):
        try:
            applied.append(collection._apply(txn, change))
        except (OvertakenError, StorageError, CorruptionError):
            raise
        except VectorDBError as error:
            where = f"write {number} of the transaction, collection {shown(collection.name)}; nothing was written"
            raise type(error)(f"{error.message} ({where})", field=error.field, value=error.value) from error.__cause__
        reach("transaction.applied")
    return applied
