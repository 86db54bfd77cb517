"""Transactions of the blocking client: the writes of a block are sent as one call at its end."""

from __future__ import annotations

from typing import Any

from ..model.aliases import Durability
from ..model.batch import Columns
from ..model.transaction import TransactionWrites, Writes, not_a_collection
from . import calls
from .collection import Collection


class Transaction(Writes):
    """Writes to several collections that are committed together: all of them or none. ``Client.transaction`` makes one.

    ``t["docs"]`` has ``upsert``, ``update`` and ``delete``. They check their arguments at once and are sent at the end of the block, in
    the order of the calls. If the block raises an exception, nothing is sent.
    """

    def __init__(self, client: Any, durability: Durability | None, timeout: float | None):
        super().__init__(durability)
        self._client, self._timeout = client, timeout
        self._remotes: dict[str, calls.Remote] = {}

    def __getitem__(self, collection: str | Collection) -> TransactionWrites:
        """The collection of a name, or a collection of this client, for writes in this transaction."""
        self._check_open()
        if isinstance(collection, Collection) and collection._client is self._client:
            self._remotes[collection.name] = collection._remote
            return _Writes(self, collection.name)
        if not isinstance(collection, str):
            raise not_a_collection(collection)
        return _Writes(self, collection)

    def __enter__(self) -> Transaction:
        self._begin()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._end(kind is not None):
            # aio: large=True
            self.results = self._client._run(calls.transact(self._client._service, self._kept, self._durability), self._timeout)


class _Writes(TransactionWrites):
    _transaction: Transaction

    def _keep_write(self, kind: str, points: Any, columns: Columns, durability: Durability | None) -> None:
        block = self._transaction
        block._begin_write(durability)
        steps = calls.kept_write(block._client._service, block._remotes, self._name, kind, points, columns)
        block._kept.append(block._client._run(steps, block._timeout))

    def _keep_delete(self, ids: Any, filter: Any, if_version: Any, if_filter: Any, durability: Durability | None) -> None:
        block = self._transaction
        block._begin_write(durability)
        steps = calls.kept_delete(block._client._service, block._remotes, self._name, ids, filter, if_version, if_filter)
        block._kept.append(block._client._run(steps, block._timeout))
