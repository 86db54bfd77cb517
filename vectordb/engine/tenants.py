"""Tenants in writes: each point of a collection with ``Keyword(tenant=True)`` has one, and keeps it. A writer bound to a tenant sees only
its points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from vectordb_client.errors import AlreadyExistsError, InvalidArgumentError, shown
from vectordb_client.model.batch import UNSET, Batch

from ..storage.store import Store

Entries = Sequence[tuple[int, int] | None]


def held_by(store: Store, name: str, entries: Entries) -> list[Any]:
    """The tenant of the point of each entry of the id map; None where there is no point."""
    docids = np.array(sorted(entry[0] for entry in entries if entry is not None), np.int64)
    held = {docid: row.attributes.get(name) for docid, row in zip(docids.tolist(), store.rows(docids), strict=True)} if len(docids) else {}
    return [None if entry is None else held[entry[0]] for entry in entries]


def seen(store: Store, name: str, tenant: str | None, entries: Entries) -> Entries:
    """The entries that a writer bound to a tenant sees; all of them without one."""
    if tenant is None:
        return entries
    held = held_by(store, name, entries)
    return [entry if owner == tenant else None for entry, owner in zip(entries, held, strict=True)]


def check(store: Store, name: str, batch: Batch, entries: Entries) -> Entries:
    """Check the tenants of a batch, and return the entries that its writer sees. name: the attribute that is the tenant.

    Raises InvalidArgumentError for a point without a tenant or an update that changes one, AlreadyExistsError for an upsert of a point that
    belongs to another tenant.
    """
    given = batch.attributes.get(name)
    if batch.kind == "update":
        entries = seen(store, name, batch.tenant, entries)
        if given is not None and any(value is not UNSET for value in given):
            for value, entry, new, old in zip(batch.ids, entries, given, held_by(store, name, entries), strict=True):
                if entry is not None and new is not UNSET and new != old:
                    what = f"point {shown(value)} can't get the tenant {name!r} {shown(new)}, because a point keeps its tenant"
                    raise InvalidArgumentError(f"{what}; delete the point and write it again", field=name, value=new)
        return entries
    for row, value in enumerate(batch.ids):
        if given is None or given[row] is None:
            what = f"point {shown(value)} has no {name!r}, which is the tenant and which every point must have"
            raise InvalidArgumentError(f"{what}; write attributes={{{name!r}: […]}}", field=name, value=value)
    assert given is not None or not batch.ids
    for value, entry, new, old in zip(batch.ids, entries, given or (), held_by(store, name, entries), strict=True):
        if entry is not None and new != old:
            what = f"id {shown(value)} belongs to another tenant; ids are unique in a collection, and a point keeps its tenant"
            raise AlreadyExistsError(f"{what}: choose another id, or delete the point first", field="ids", value=value)
    return entries
