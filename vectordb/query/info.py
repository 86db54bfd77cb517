"""Facts about a collection: counts and sizes of its fields."""

from __future__ import annotations

from typing import Any

from ..kernels import ITEMS
from ..snapshot import View
from ..storage import chunks, fields, format
from ..types import CollectionInfo, Sparse


def describe(view: View, name: str) -> CollectionInfo:
    """Counts are of rows, dead ones included until they are compacted; ``points`` counts live points only."""
    statistics: dict[str, dict[str, Any]] = {}
    total = _bytes(view, format.ROWS_FIELD, format.FORWARD)
    for field, spec in (*view.schema.vectors.items(), *view.schema.attributes.items()):
        number = view.fields[field]
        parts = [format.FORWARD, format.POSTINGS, format.COUNTS]
        sizes = [_bytes(view, number, part) for part in parts]
        table = view.snapshot.table(view.store, number, fields.main_part(spec))
        facts: dict[str, Any] = {"kind": spec.kind, "rows": table.present, "chunks": len(table), "bytes": sum(sizes)}
        if isinstance(spec, Sparse):
            facts["nonzeros"] = int(table.rows[:, ITEMS].sum())
        if field in view.schema.vectors and spec.encoder is not None:
            facts["encoder"] = view.snapshot.meta.encoders[field]
        statistics[field] = facts
        total += sum(sizes)
    snapshot = view.snapshot
    return CollectionInfo(name, view.schema, snapshot.live, snapshot.sequence, snapshot.rows - snapshot.live, total, statistics)


def _bytes(view: View, field: int, part: int) -> int:
    return sum(chunks.size_in(head) for head in view.snapshot.table(view.store, field, part).heads)
