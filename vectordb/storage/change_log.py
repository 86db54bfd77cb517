"""The change log of a collection: what its newest batches did, by sequence. Its number of entries, bytes and age are limited.

One record beside the entries (``format.LOG_KEPT``) holds the oldest sequence, the bytes of all entries, and the time of the oldest entry.
So a write reads only the entries that it drops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from vectordb_client.errors import InvalidArgumentError, shown

from ..common import clock
from . import format
from .format import Txn

DROPPED_AT_ONCE = 1_024  # most entries that one write drops: if a limit is lowered, the next writes share the work


@dataclass(frozen=True)
class Limits:
    """Limits of the log. The newest entry is always kept.

    batches: most entries, at least 1. bytes: of all entries, at least 0. seconds: age of the oldest entry, above 0.
    history: seconds for which a collection keeps its history; entries that states of this time need are kept whatever the others say.
    """

    batches: int = 65_536
    bytes: int = 64 << 20
    seconds: float = 30 * 86_400.0
    history: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("batches", 1), ("bytes", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
                message = f"change_log_{name} must be an integer of at least {least}, not {shown(value)}"
                raise InvalidArgumentError(message, field=f"change_log_{name}", value=value)
        if isinstance(self.seconds, bool) or not isinstance(self.seconds, (int, float)) or not 0 < self.seconds <= 1e9:
            message = f"change_log_seconds must be a number of seconds above 0 and up to 1e9, not {shown(self.seconds)}"
            raise InvalidArgumentError(message, field="change_log_seconds", value=self.seconds)


class _Written(msgspec.Struct):
    """The part of an entry that trimming reads. at: Unix time in milliseconds; entries of earlier versions have none."""

    at: int = 0


def now() -> int:
    """Unix time in milliseconds."""
    return clock.now() // 1_000


def append(txn: Txn, collection: int, sequence: int, entry: dict[str, Any], limits: Limits) -> None:
    """Append the entry of a batch, and drop the oldest entries beyond the limits. ``entry["at"]``: Unix time in milliseconds.

    While history is kept, an entry has the time at which it is appended, and none is earlier than that of the entry before.
    """
    if limits.history:
        entry = entry | {"at": max(now(), entry["at"], _written(txn.get(format.log_key(collection, sequence - 1))))}
    record = format.pack_record(entry)
    stored = txn.get(format.key(collection, format.LOG_KEPT))
    kept = None if stored is None else format.unpack_log_kept(stored)  # read before a put may move the pages
    txn.put(format.log_key(collection, sequence), record)
    if kept is not None:
        first, size, written = kept[0], kept[1] + len(record), kept[2]
    else:  # the first entry, or the first one since a version without this record
        first, size = _counted(txn, collection)
        written = entry["at"]
    end = min(sequence, first + DROPPED_AT_ONCE)
    while first < end and (sequence - first >= limits.batches or size > limits.bytes or entry["at"] - written > 1000 * limits.seconds):
        if limits.history and _written(txn.get(format.log_key(collection, first + 1))) > entry["at"] - 1000 * limits.history:
            break
        key = format.log_key(collection, first)
        size -= len(txn.get(key, b""))
        txn.delete(key)
        first += 1
        written = max(written, _written(txn.get(format.log_key(collection, first))))
    txn.put(format.key(collection, format.LOG_KEPT), format.pack_log_kept(first, size, written))


def _counted(txn: Txn, collection: int) -> tuple[int, int]:
    """(the oldest sequence in the log, bytes of all entries), by reading all of them."""
    sizes = {int.from_bytes(key[5:], "big"): len(value) for key, value in format.walk(txn, format.key(collection, format.LOG))}
    return min(sizes), sum(sizes.values())


def _written(record: format.Stored | None) -> int:
    return 0 if record is None else msgspec.msgpack.decode(format.verify_checksum(record, "change log"), type=_Written).at


def read(txn: Txn, collection: int, sequence: int) -> dict[str, Any] | None:
    """The entry of a batch; None if it was dropped."""
    stored = txn.get(format.log_key(collection, sequence))
    return None if stored is None else format.unpack_record(stored, "change log")


def oldest(txn: Txn, collection: int) -> int | None:
    """The oldest sequence in the log; None if the log is empty."""
    return next((int.from_bytes(key[5:], "big") for key, _ in format.walk(txn, format.key(collection, format.LOG))), None)


def forget_deleted_ids(txn: Txn, collection: int) -> int:
    """Remove the ids of deleted points from all entries; returns how many entries were changed."""
    entries = [(key, format.unpack_record(value, "change log")) for key, value in format.walk(txn, format.key(collection, format.LOG))]
    named = ("ids", "tenants")
    changed = [(key, {name: value for name, value in entry.items() if name not in named}) for key, entry in entries if "ids" in entry]
    for key, entry in changed:
        txn.put(key, format.pack_record(entry))
    stored = txn.get(format.key(collection, format.LOG_KEPT))
    if changed and stored is not None:
        _, _, written = format.unpack_log_kept(stored)
        txn.put(format.key(collection, format.LOG_KEPT), format.pack_log_kept(*_counted(txn, collection), written))
    return len(changed)
