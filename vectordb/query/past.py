"""The state of a collection at an earlier sequence, as far as it is still stored: for later pages of a search, and for ``history.py``.

Rows are never changed, so the rows that were live then are the rows below the number of rows then, without those that were dead. Which rows
died since is in the change log. Compaction removes them for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import PreconditionError

from ..common import deadline
from ..engine.snapshot import Snapshot, View
from ..storage.store import Texts
from .cursor import Cursor


@dataclass(frozen=True)
class Past:
    """view: of the collection as it was. died: the rows that died since. deleted: those of them whose points don't exist any more; the
    others were replaced.
    """

    view: View
    died: BitMap
    deleted: BitMap


class _NoIndex:
    """A registry without index files: files that were built since don't have the rows that died."""

    records: dict = {}
    problems: Sequence[str] = ()

    def segments(self, *_: Any) -> tuple:
        return ()


def past_view(view: View, cursor: Cursor, every_row: bool) -> Past:
    """The collection as the first page of a search saw it.

    view: of its present state. every_row: whether rows whose points were deleted are needed, too: the scores of others depend on them.

    Raises PreconditionError if it can't be told any more, or rows that are needed were removed.
    """
    now = view.snapshot
    if cursor.sequence > now.sequence:
        what = f"cursor is of sequence {cursor.sequence}, but the collection is at {now.sequence}: start again without a cursor"
        raise PreconditionError(what, field="cursor", value=cursor.sequence)
    if cursor.sequence == now.sequence:
        return Past(view, BitMap(), BitMap())
    later = BitMap(range(cursor.rows, now.rows))
    dead = now.dead - later
    died, deleted = BitMap(), BitMap()
    if len(dead) != cursor.rows - cursor.live:
        died, deleted = _died(view, cursor)
        if now.compactions != cursor.compactions and (every_row or died - deleted):
            what = "cursor can't be continued: rows that its pages need were removed by a compaction; start again without a cursor"
            raise PreconditionError(what, field="cursor", value=cursor.sequence)
        dead = dead - died
    dead |= later
    texts = {field: texts_of(view, field, later - now.dead, died) for field in bm25_numbers(view)}
    snapshot = earlier(now, cursor.sequence, dead, texts, _NoIndex() if died else now.registry)
    then = View(view.directory, view.txn, snapshot, view.store.collection, view.again)
    then.within = view.within and view.within.elsewhere()
    return Past(then, died, deleted)


def earlier(now: Snapshot, sequence: int, dead: BitMap, texts: dict[int, Texts], registry: Any, **others: Any) -> Snapshot:
    """The snapshot of an earlier state.

    now: that of the present. dead: rows that don't count, which includes all that were written since. texts: the counters of the BM25
    fields. registry: the index files to use. others: further fields that differ.
    """
    return replace(
        now,
        sequence=sequence,
        live=now.rows - len(dead),
        dead=dead,
        registry=registry,
        texts=texts,
        prepared={},
        direct={},
        sources={},
        codes=None,
        _tails={},
        _live_rows=None,
        _dead_words=None,
        **others,
    )


def bm25_numbers(view: View) -> list[int]:
    """The numbers of the BM25 fields."""
    return [view.fields[name] for name in view.schema.vectors if view.schema.is_bm25(name)]


def _died(view: View, cursor: Cursor) -> tuple[BitMap, BitMap]:
    """(the rows of the first page's state that died since, those of them whose points don't exist any more)."""
    replaced, deleted = BitMap(), BitMap()
    for sequence in deadline.each(range(cursor.sequence + 1, view.sequence + 1)):
        entry = view.store.log(sequence)
        if entry is None:
            what = f"cursor can't be continued: the change log no longer has sequence {sequence}; start again without a cursor"
            raise PreconditionError(what, field="cursor", value=cursor.sequence)
        (deleted if entry["op"] == "delete" else replaced).update(entry.get("dead", ()))
    later = BitMap(range(cursor.rows, view.rows))
    replaced, deleted = replaced - later, deleted - later
    if view.snapshot.compactions == cursor.compactions and replaced:
        docids = np.asarray(replaced.to_array(), np.int64)
        ids = view.ids(docids)
        entries = view.store.entries(ids.tolist() if isinstance(ids, np.ndarray) else ids)
        gone = [docid for docid, entry in zip(docids.tolist(), entries, strict=True) if entry is None]
        deleted |= BitMap(gone)
    return replaced | deleted, deleted


def texts_of(view: View, field: int, newer: BitMap, died: BitMap) -> Texts:
    """The counters of a BM25 field as they were. newer: live rows that were written since."""
    documents, words = view.store.texts(field)
    for rows, factor in ((newer, -1), (died, 1)):
        lengths = view.store.lengths(field, np.asarray(rows.to_array(), np.int64))
        documents, words = documents + factor * len(lengths), words + factor * int(lengths.sum())
    return Texts(documents, words)


def needs_every_row(snapshot: Snapshot, arms: Sequence[Any]) -> bool:
    """Whether the scores, or the ranking, of points depend on points that were deleted since: those of fields with terms, and fusions."""
    return len(arms) > 1 or any(arm.spec.has_terms for arm in arms)
