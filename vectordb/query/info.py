"""Facts about a collection: counts and sizes of its fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..files import files_of
from ..kernels import ITEMS
from ..snapshot import View
from ..storage import fields, format
from ..types import CollectionInfo, Dense, Sparse, Text
from .audit import audits_of
from .terms import dictionary


def describe(view: View, name: str, maintenance: Mapping[str, Any]) -> CollectionInfo:
    """Counts are of rows, dead ones included until they are compacted away; ``points`` counts live points only.

    A dense or sparse field's statistics name its segments (docids [first, end), rows in the file, of these dead now, bytes; dense: whether
    there is a graph; and how many rows are kept apart, if there are any), the files that are out of use because they are damaged or because
    another version made them (stale), and in ``tail`` the live rows that no segment covers. How a sparse field's terms are spread is its
    ``dictionary``, and ``recall`` is what audits found of it (see ``Audits.told``). ``texts`` are the live ones of a BM25 field, and
    ``note`` says what is different about a field that an earlier version made.
    """
    statistics: dict[str, dict[str, Any]] = {}
    total = _bytes(view, format.ROWS_FIELD, format.FORWARD)
    for field, spec in (*view.schema.vectors.items(), *view.schema.attributes.items()):
        number = view.fields[field]
        parts = [format.FORWARD, format.POSTINGS, format.COUNTS, format.LENGTHS]
        sizes = [_bytes(view, number, part) for part in parts]
        table = view.snapshot.table(view.store, number, fields.main_part(spec))
        facts: dict[str, Any] = {"kind": spec.kind, "rows": table.present, "chunks": len(table), "bytes": sum(sizes)}
        if isinstance(spec, Sparse):
            facts["nonzeros"] = int(table.rows[:, ITEMS].sum())
            facts["dictionary"] = dictionary(view, number)
        if field in view.schema.vectors and spec.encoder is not None:
            facts["encoder"] = view.snapshot.meta.encoders[field]
        if view.schema.is_bm25(field):
            facts["texts"] = view.store.texts(number)._asdict()
        if field in view.schema.earlier:
            facts["note"] = _kept(field, spec)
        if isinstance(spec, (Dense, Sparse)):
            facts |= _index(view, number)
            facts["recall"] = audits_of(view.env).told(view.store.collection, field)
        statistics[field] = facts
        total += sum(sizes)
    snapshot = view.snapshot
    dead = snapshot.stored_rows(view.store) - snapshot.live
    return CollectionInfo(name, view.schema, snapshot.live, snapshot.sequence, dead, total, statistics, maintenance)


def _kept(field: str, spec: Sparse | Text) -> str:
    """What is different about a field that an earlier version made, and what to do about it."""
    if isinstance(spec, Text):
        return (
            "In scripts without spaces (Thai, Khmer …) a whole run is one word, and emoji are none: an earlier version made the field. "
            "optimize() converts it."
        )
    if spec.weighting == "none":
        return (
            "Scores are without inverse document frequencies, and of text lengths as they were at each write: an earlier version made the "
            "field without weighting. For BM25 write the points into a new collection."
        )
    frozen = "Scores are of text lengths as they were at each write, and texts without spaces and emoji aren't found"
    if spec.source is None or spec.binary:
        return f"{frozen}: an earlier version made the field. To change that, write the points into a new collection."
    return f"{frozen}: an earlier version made the field. optimize() converts it, if every vector was made from {spec.source!r}."


def _index(view: View, field: int) -> dict[str, Any]:
    snapshot = view.snapshot
    opened, tail = snapshot.cover(field)
    segments = [
        {
            "first": part.first,
            "end": part.end,
            "rows": part.record.rows,
            "dead": snapshot.dead_in(part),
            "bytes": part.record.bytes,
            **({"graph": part.segment.has_graph} if part.segment.kind == "dense" else {}),
            **({"apart": len(part.segment.apart)} if len(part.segment.apart) else {}),
        }
        for part in opened
    ]
    in_use = {part.file for part in opened}
    unused = [record for record in snapshot.records.get(field, ()) if record.file not in in_use]
    stale = files_of(view.env).stale
    damaged, older = (
        [{"first": record.first, "end": record.end, "file": record.file} for record in unused if (record.file in stale) == aside]
        for aside in (False, True)
    )
    rows = sum(len(snapshot.live_between(view.store, field, low, high)) for low, high in tail)
    return {"segments": segments, "damaged": damaged, "stale": older, "tail": rows}


def _bytes(view: View, field: int, part: int) -> int:
    return int(view.snapshot.table(view.store, field, part).sizes.sum())
