"""Hits of fused searches that are made when somebody reads them: many callers want the ids alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from vectordb_client.model.results import Hit, Hits

from ..engine.snapshot import View
from ..storage import format
from .fusion.ranks import ArmScores
from .payload_paths import payload_reader
from .read import attribute_reader
from .request import Search

MOST_BYTES = 1 << 18  # of the records of an answer; larger ones are made piece by piece. Chosen, not measured.
_hit = tuple.__new__  # half the cost of the named tuple's constructor


class FusedReader:
    """Makes the hits of a fused search: ``HitReader``. found: (ids, scores, the hits' scores by arm, the records or None)."""

    __slots__ = ("part", "read")
    bare = False

    def __init__(self, read: Callable[[Any], Any] | None, part: Callable[[Any], Any] | None):
        self.read, self.part = read, part

    def columns(self, found: tuple) -> tuple[np.ndarray | None, np.ndarray]:
        ids, scores = found[:2]
        limit = np.finfo(np.float32).max  # a sum of float32 scores may exceed their range
        return ids if isinstance(ids, np.ndarray) else None, np.clip(scores, -limit, limit).astype(np.float32)

    def hits(self, found: tuple) -> tuple[Hit, ...]:
        ids, scores, arms, records = found
        ids, scores = ids.tolist() if isinstance(ids, np.ndarray) else ids, scores.tolist()
        if records is None:
            return tuple([_hit(Hit, (value, score, {}, None, arm, {}, {})) for value, score, arm in zip(ids, scores, arms, strict=True)])
        read, part, made = self.read, self.part, []
        for row, score, arm in zip(format.unpack_rows(records), scores, arms, strict=True):
            attributes = {} if read is None else read(row.attributes)
            made.append(_hit(Hit, (row.id, score, attributes, None if part is None else part(row.payload), arm, {}, {})))
        return tuple(made)


_NO_RECORDS = FusedReader(None, None)


def unread(view: View, search: Search, docids: Sequence[int], scores: Sequence[float], arms: ArmScores) -> Hits | None:
    """The answer of a fused search of few or small rows; None if it must be made piece by piece."""
    read, part = attribute_reader(view.schema, search.attributes), payload_reader(search.request.with_payload, search.attributes)
    sums = np.array(scores, np.float64)
    if read is None and part is None:
        return Hits.unread(_NO_RECORDS, (view.ids(np.array(docids, np.int64)), sums, arms, None), len(docids))
    stored = view.stored(docids)
    if sum(map(len, stored)) > MOST_BYTES:
        return None
    records = [bytes(each) for each in stored]  # copies: the map may move when the transaction has ended
    return Hits.unread(FusedReader(read, part), (None, sums, arms, records), len(docids))
