"""When points end (``Schema.ttl``): one record for each live row that has a moment, in the order of the moments.

A read leaves out rows whose moment has come, whether or not they were deleted. The next write deletes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyroaring import BitMap

from . import format
from .format import Txn

NEVER = 1 << 63  # later than any moment


def add(txn: Txn, collection: int, attribute: str, first: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Record when rows end. rows: attributes in stored form, of rows ``first`` and following."""
    moments = ((row.get(attribute), docid) for docid, row in enumerate(rows, first))
    txn.putmulti([(format.expiry_key(collection, moment, docid), b"\x01") for moment, docid in moments if moment is not None])


def remove(txn: Txn, collection: int, attribute: str, docids: Iterable[int], rows: Iterable[Mapping[str, Any]]) -> None:
    """Remove the records of rows that die."""
    for docid, row in zip(docids, rows, strict=True):
        moment = row.get(attribute)
        if moment is not None:
            txn.delete(format.expiry_key(collection, moment, docid))


def due(txn: Txn, collection: int, now: int) -> tuple[BitMap, int]:
    """(the rows whose moment is ``now`` or earlier, the next moment or NEVER). now: Unix time in microseconds."""
    docids: list[int] = []
    for key, _ in format.walk(txn, format.key(collection, format.EXPIRY)):
        moment, docid = format.expiry_of_key(key)
        if moment > now:
            return BitMap(docids), moment
        docids.append(docid)
    return BitMap(docids), NEVER
