"""Transactions over several collections: what the embedded database and the clients share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ClosedError, InvalidArgumentError, shown
from .access import AwaitForgottenError, Hinting
from .aliases import Durability
from .checks import check_durability
from .point_writes import PointWrites
from .results import WriteResult

_READS = ("search", "search_batch", "prepare", "get", "count", "scroll", "iterate", "info", "changes", "facets", "aggregate")
_READS += ("neighbours", "duplicates", "health", "cluster", "axis", "probe", "classify", "mine_negatives", "pseudo_queries")
_ONE_BY_ONE = ("bulk", "set_terms", "add_fields", "optimize", "purge")
_MEANT = {
    **{name: f"{name}(…) of the collection itself; a transaction only writes, and reads show what is committed" for name in _READS},
    **{name: f"{name}(…) of the collection itself, outside of the transaction" for name in _ONE_BY_ONE},
    **dict.fromkeys(("add", "insert", "put"), "upsert(…)"),
}


class TransactionWrites(Hinting, PointWrites[Any]):
    """A collection in a transaction: ``upsert``, ``update`` and ``delete``, with the arguments of ``Collection`` but ``durability``.

    Each call checks its arguments and keeps the write; it returns None. Nothing is written before the end of the block.
    """

    _meant = _MEANT
    _keep_write: Callable[..., Any]
    _keep_delete: Callable[..., Any]

    def __init__(self, transaction: Writes, name: str):
        self._transaction, self._name = transaction, name

    def _write(self, *arguments: Any) -> Any:
        self._transaction._called += 1
        return self._keep_write(*arguments)

    def _delete(self, *arguments: Any) -> Any:
        self._transaction._called += 1
        return self._keep_delete(*arguments)


class Writes:
    """The writes of a transaction that are kept until its block ends.

    Attributes:
        results: after the block, the ``WriteResult`` (sequence, count) of each write, in the order of the calls; before that, empty.
        sequences: after the block, collection → sequence of its last write.
    """

    def __init__(self, durability: Durability | None):
        if durability is not None:
            check_durability(durability)
        self._durability: Durability | None = durability
        self._state = "new"  # then "open", then "ended"
        self._kept: list[tuple[str, Any]] = []  # (name of the collection, its write)
        self._called = self._begun = 0  # writes that were called; those that were also awaited, if they have to be
        self.results: list[WriteResult] = []

    @property
    def sequences(self) -> dict[str, int]:
        return {name: result.sequence for (name, _), result in zip(self._kept, self.results, strict=False) if result.sequence}

    def _begin(self) -> None:
        if self._state != "new":
            raise ClosedError("a transaction is used once; begin another with transaction()", field="transaction")
        self._state = "open"

    def _end(self, failed: bool) -> bool:
        """End the block. Returns whether its writes are to be committed. Raises AwaitForgottenError."""
        self._state = "ended"
        if not failed and self._begun < self._called:
            what = "a write of the transaction was not awaited, so nothing was written; write await t['docs'].upsert(…)"
            raise AwaitForgottenError(what, field="transaction")
        return not failed and bool(self._kept)

    def _begin_write(self, durability: Durability | None) -> None:
        """A write is called. durability: its own, which it can't have."""
        self._begun += 1
        self._check_open()
        if durability is not None:
            what = f"durability belongs to the whole transaction; write transaction(durability={shown(durability)})"
            raise InvalidArgumentError(what, field="durability", value=durability)

    def _check_open(self) -> None:
        """Raise unless the block has begun and not ended."""
        if self._state == "new":
            what = "a transaction begins with its block: with db.transaction() as t: t['docs'].upsert(…)"
            raise InvalidArgumentError(what, field="transaction")
        if self._state == "ended":
            raise ClosedError("the transaction has ended; begin another with transaction()", field="transaction")


def not_a_collection(value: Any) -> InvalidArgumentError:
    what = f"t[…] takes the name of a collection, or a collection of the same database, not {shown(value)}"
    return InvalidArgumentError(what, field="collection", value=value)
