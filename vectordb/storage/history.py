"""The history of a collection: for how long its earlier states can be read, and from which sequence on they are whole.

Only two entries of the descriptor are stored for it (``Meta.history``, ``Meta.history_from``). Earlier states consist of rows that died
since, which compaction spares for that time, and of the entries of the change log that say when they died.
"""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs

from . import catalog, change_log
from .catalog import Meta
from .format import Txn
from .store import Store


def limits(given: change_log.Limits, meta: Meta) -> change_log.Limits:
    """The limits of a collection's change log, with its history. given: those of the directory."""
    return replace(given, history=meta.history) if meta.history else given


def keep(txn: Txn, number: int, seconds: float) -> None:
    """Keep the history of a collection for so many seconds from now on; 0 keeps none."""
    meta = catalog.read_meta(txn, number)
    if meta.history and seconds:
        catalog.write_meta(txn, number, structs.replace(meta, history=seconds))
    elif meta.history or seconds:  # it begins with the present state, or ends
        present = Store(txn, number).existing_state()[0] if seconds else 0
        catalog.write_meta(txn, number, structs.replace(meta, history=seconds or 0, history_from=present))


def ended(meta: Meta, sequence: int) -> Meta:
    """The descriptor of a collection whose rows that were dead at a sequence are stored no more: history begins with that state."""
    return structs.replace(meta, history_from=max(meta.history_from, sequence)) if meta.history else meta


def begin_later(txn: Txn, number: int, sequence: int) -> None:
    """Note that the rows are removed that were dead at a sequence. Does nothing if the collection was dropped or keeps no history."""
    if Store(txn, number).state() is None:
        return
    meta = catalog.read_meta(txn, number)
    if ended(meta, sequence) != meta:
        catalog.write_meta(txn, number, ended(meta, sequence))


def first_of(txn: Txn, number: int, meta: Meta) -> int:
    """The earliest sequence whose state can be read, of a collection that keeps history: the log has all entries after it."""
    oldest, present = change_log.oldest(txn, number), Store(txn, number).existing_state()[0]
    if oldest is None:
        return max(meta.history_from, present)
    return meta.history_from if oldest <= meta.history_from + 1 else oldest
