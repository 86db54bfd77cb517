"""Describe a collection: the counts, sizes and index state of its fields (``Collection.info``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from vectordb_client.model.attributes import AttributeType
from vectordb_client.model.collection_info import CollectionInfo
from vectordb_client.model.schema import Sparse

from ..engine import deriving, migrating
from ..engine.snapshot import View
from ..fields import FIELD_TYPES
from ..kernels import ITEMS
from ..storage import attribute_forms, branches, format
from . import history
from .terms import dictionary


def describe(view: View, name: str, maintenance: Mapping[str, Any]) -> CollectionInfo:
    """The facts of a collection. Counts include dead rows until compaction removes them; only ``points`` counts live points.

    The statistics of a vector field have: segments (docids [first, end); rows in the file; dead, of these; bytes; for dense fields graph,
    whether there is one, or kind "lists", the number of lists and the bits of their codes; for multi-vector fields vectors, and centroids
    if there are lists; apart, the number of outliers, if any; chosen, why it is of lists if the memory budget decided that; with a memory
    budget memory: kept_bytes, mapped_bytes, and mapped, the names of the sections that aren't kept);
    memory, with a budget: that of this process in bytes, see ``Keeper.facts``;
    damaged and stale, the index files that aren't used because they are damaged or of another version; tail, the number of live rows that
    no segment covers; recall, the results of audits (``Audits.statistics``). A multi-vector field that keeps codes has keep and
    score_error, mean and highest: the standard deviation of what rounding changed the score of a stored row for a query row of length 1.
    A sparse field also has dictionary, the distribution of its terms, and a BM25 field texts, the number of live texts and of their words.
    A field made by an earlier version of vectordb has note, which says how it differs and what to do.
    """
    statistics: dict[str, dict[str, Any]] = {}
    total = _bytes(view, format.ROWS_FIELD, format.FORWARD)
    for field, spec in (*view.schema.vectors.items(), *view.schema.attributes.items()):
        number = view.fields[field]
        vector, attribute = view.schema.vectors.get(field), view.schema.attributes.get(field)
        parts = [format.FORWARD, format.POSTINGS, format.COUNTS, format.LENGTHS]
        sizes = [_bytes(view, number, part) for part in parts]
        main = format.FORWARD if attribute is None else attribute_forms.main_part(attribute)
        table = view.snapshot.table(view.store, number, main)
        facts: dict[str, Any] = {"kind": spec.kind, "rows": table.present, "chunks": len(table), "bytes": sum(sizes)}
        if vector is not None and vector.has_terms:
            facts["nonzeros"] = int(table.rows[:, ITEMS].sum())
            facts["dictionary"] = dictionary(view, number)
        if vector is not None and vector.encoder is not None:
            facts["encoder"] = view.snapshot.meta.encoders[field]
        if vector is not None and vector.derived is not None:
            facts["derived"] = deriving.facts(view, field)
        if vector is not None and (number in view.snapshot.meta.migrating or number in view.snapshot.meta.mapped):
            facts["migration"] = migrating.facts(view, field)
        if vector is not None:
            facts |= FIELD_TYPES[vector.kind].facts(view, field)
        if view.schema.is_bm25(field):
            facts["texts"] = view.store.texts(number)._asdict()
        if field in view.schema.earlier:
            facts["note"] = _kept(field, cast(Sparse | AttributeType, spec))
        if vector is not None and vector.index_options:
            facts |= _index(view, number)
            facts["recall"] = view.directory.audits.statistics(view.store.collection, field)
        statistics[field] = facts
        total += sum(sizes)
    snapshot = view.snapshot
    dead = snapshot.stored_rows(view.store) - snapshot.live
    counts = (snapshot.live, snapshot.sequence, dead, total)
    branch = branches.facts(view.txn, view.store.collection)
    return CollectionInfo(name, view.schema, *counts, statistics, maintenance, history.facts(view), branch)


def _kept(field: str, spec: Sparse | AttributeType) -> str:
    """How a field that an earlier version of vectordb made differs from one of today, and what to do about it."""
    if isinstance(spec, AttributeType):
        return (
            "This field was made by an earlier version of vectordb: it does not split text in scripts without spaces (Thai, Khmer …) into "
            "words, and does not index emoji. optimize() converts it."
        )
    if spec.weighting == "none":
        return (
            "This field was made by an earlier version of vectordb, without weighting: its scores have no inverse document frequency, and "
            "use the mean text length at the time of each write. For BM25, write the points into a new collection."
        )
    frozen = (
        "This field was made by an earlier version of vectordb: its scores use the mean text length at the time of each write, and it does "
        "not index emoji or split text in scripts without spaces into words"
    )
    if spec.source is None or spec.binary:
        return f"{frozen}. To change that, write the points into a new collection."
    return f"{frozen}. optimize() converts it if every vector was made from {spec.source!r}."


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
            **part.segment.facts(),
            **part.segment.placement(),
            **({"apart": len(part.segment.apart)} if len(part.segment.apart) else {}),
        }
        for part in opened
    ]
    in_use = {part.file for part in opened}
    unused = [record for record in snapshot.records.get(field, ()) if record.file not in in_use]
    stale = view.directory.index_files.stale
    damaged, older = (
        [{"first": record.first, "end": record.end, "file": record.file} for record in unused if (record.file in stale) == is_stale]
        for is_stale in (False, True)
    )
    rows = sum(len(snapshot.live_between(view.store, field, low, high)) for low, high in tail)
    memory = view.directory.memory.facts()
    return {"segments": segments, "damaged": damaged, "stale": older, "tail": rows, **({"memory": memory} if memory else {})}


def _bytes(view: View, field: int, part: int) -> int:
    return int(view.snapshot.table(view.store, field, part).sizes.sum())
