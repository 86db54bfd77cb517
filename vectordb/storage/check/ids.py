"""The id map against the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import shown
from vectordb_client.model.values import check_id

from .. import format

if TYPE_CHECKING:
    from .collection import CollectionCheck


def check_ids(collection: CollectionCheck, ids: list) -> None:
    """Check that the id map and the records name the same live rows, and that all other rows are marked dead."""
    mapped = np.zeros(collection.rows, np.bool_)
    count = 0
    for key, value in collection.walker.walk(format.id_prefix(collection.number)):
        count += 1
        what = f"id key {shown(key[5:])}"
        with collection.walker.guard(collection.where(what)):
            given = check_id(format.id_of_key(key))
            what = f"id {shown(given)}"
            if not collection.expect(len(value) == 12, what, f"has an entry of {len(value)} bytes, not 12"):
                continue
            docid, version = format.unpack_entry(value)
            possible = 1 <= version <= collection.sequence
            collection.expect(possible, what, f"has version {version}, but the newest sequence is {collection.sequence}")
            if collection.expect(docid < collection.rows, what, f"points to row {docid}, but there are only {collection.rows} rows"):
                same = type(ids[docid]) is type(given) and ids[docid] == given
                collection.expect(same, what, f"points to row {docid}, which belongs to {shown(ids[docid])}")
                mapped[docid] = True
    collection.expect(count == collection.live, "id map", f"has {count} ids, but {collection.live} rows are live")
    wrong = collection.dead ^ BitMap(np.flatnonzero(~mapped).astype(np.uint32))
    collection.expect(not wrong, "dead rows", f"differ from the rows without an id, first in {shown(list(wrong[:3]))}")
