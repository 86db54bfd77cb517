"""What reads and writes return: points, hits with their explanation, pages, and a write's receipt."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .errors import VectorDBError
from .plan import Plan
from .schema import Schema
from .values import Id


@dataclass(frozen=True)
class Point:
    """One point. ``vectors`` holds what is given or was asked for; ``version`` is the sequence of its last write.

    Dense vectors are ``(dim,)`` arrays, multi-vectors ``(rows, dim)``, sparse vectors ``(u64 term ids, f32 weights)``.
    """

    id: Id
    vectors: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    payload: Any = None
    version: int | None = None


class WriteResult(int):
    """The sequence number of the batch, as an int; ``count`` is how many points it wrote or deleted."""

    count: int

    def __new__(cls, sequence: int, count: int):
        self = super().__new__(cls, sequence)
        self.count = count
        return self

    @property
    def sequence(self) -> int:
        return int(self)

    def __repr__(self) -> str:
        return f"WriteResult(sequence={int(self)}, count={self.count})"

    def __reduce__(self):
        return WriteResult, (int(self), self.count)


@dataclass(frozen=True)
class Change:
    """What one batch did to a collection. sequence: the batch's.

    kind: "write" — ids were written, and are as this batch left them (those that a later batch wrote or deleted are told of there);
    "delete" — ids were deleted; "schema" — fields were added, and ``schema`` is the collection's now.
    points: of a write, in the order of ids, when vectors or attributes were asked for; else None.
    """

    sequence: int
    kind: str
    ids: tuple[Id, ...] = ()
    points: tuple[Point, ...] | None = None
    schema: Schema | None = None


_LARGEST = float(np.finfo(np.float32).max)


class ArmScore(NamedTuple):
    """What one arm said of a hit. ``contribution`` is its part of the fused score; contributions add up to it.

    rank: 1 is best; None when the arm's candidates don't hold the hit (and with linear fusion, where the place isn't known). score: the
    arm's raw score (cosine, inner product, squared distance, …). normalized: what fusion made of it; contribution is weight · normalized.
    weight: for this hit: rescaled where it lacks the field of another arm and the fusion says missing="renormalise". Where score is None
    the arm says nothing of the hit and contributes 0: it isn't among its candidates, and with linear fusion, which looks further, has no
    score in it at all. missing: because the point has no vector in the arm's field.
    """

    rank: int | None
    score: float | None
    normalized: float | None
    weight: float
    contribution: float
    missing: bool = False


class Hit(NamedTuple):
    """One result. ``score``: cosine or dot (higher is closer), l2 squared distance (lower is closer), or the fused score.

    attributes, payload: what was asked for. arms: field → ArmScore, when several arms were fused. vectors: when asked for.
    """

    id: Id
    score: float
    attributes: Mapping[str, Any]
    payload: Any
    arms: Mapping[str, ArmScore]
    vectors: Mapping[str, Any]


class Hits(Sequence[Hit]):
    """Ranked results, best first: a sequence of Hit, and columns.

    ids: ``(n,)`` uint64 when all are integers, else object. scores: ``(n,)`` float32.
    plan: how the search was run, when ``explain=True``: a dict that prints as a text.
    """

    def __init__(self, hits: Sequence[Hit], plan: Mapping[str, Any] | None = None):
        self._made: tuple[Hit, ...] | None = tuple(hits)
        self._bare: tuple[np.ndarray, np.ndarray] | None = None
        self.plan = None if plan is None else Plan(plan)

    @classmethod
    def bare(cls, ids: np.ndarray, scores: np.ndarray) -> Hits:
        """Hits of which only ids (uint64 ``(n,)``) and scores (float32 ``(n,)``) were asked for; a Hit is made when it is read."""
        hits = cls.__new__(cls)
        hits._made, hits._bare, hits.plan = None, (ids, scores), None
        return hits

    @property
    def columns(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The ids (uint64 ``(n,)``) and scores (float32 ``(n,)``) of ``bare`` hits, not to be written to; None of all others."""
        return self._bare

    @property
    def _hits(self) -> tuple[Hit, ...]:
        if self._made is None:
            ids, scores = self._bare
            self._made = tuple([Hit(i, score, {}, None, {}, {}) for i, score in zip(ids.tolist(), scores.tolist(), strict=True)])
        return self._made

    def __len__(self) -> int:
        return len(self._bare[0]) if self._made is None else len(self._made)

    def __getitem__(self, index):
        return Hits(self._hits[index], self.plan) if isinstance(index, slice) else self._hits[index]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._hits)

    @property
    def ids(self) -> np.ndarray:
        if self._bare is not None:
            return self._bare[0].copy()
        ids = [hit.id for hit in self._hits]
        if all(type(i) is int for i in ids):
            return np.array(ids, dtype=np.uint64)
        column = np.empty(len(ids), dtype=object)
        column[:] = ids
        return column

    @property
    def scores(self) -> np.ndarray:
        if self._bare is not None:
            return self._bare[1].copy()
        scores = np.array([hit.score for hit in self._hits], dtype=np.float64)  # a sum of float32 scores may be larger than any of float32
        return np.clip(scores, -_LARGEST, _LARGEST).astype(np.float32)

    def __eq__(self, other) -> bool:
        return isinstance(other, Hits) and self._hits == other._hits

    __hash__ = None

    def __repr__(self) -> str:
        shown = ", ".join(f"{hit.id!r}: {hit.score:.4g}" for hit in self._hits[:5])
        return f"Hits({len(self)}: {shown}{', …' if len(self) > 5 else ''})"

    def _columns(self) -> dict[str, list]:
        columns: dict[str, list] = {"id": [hit.id for hit in self._hits], "score": [hit.score for hit in self._hits]}
        for name in dict.fromkeys(name for hit in self._hits for name in hit.attributes):
            columns[name if name not in columns else f"attributes.{name}"] = [hit.attributes.get(name) for hit in self._hits]
        return columns

    def to_pandas(self):
        """A DataFrame: id, score, and one column an attribute. Needs pandas."""
        try:
            import pandas
        except ImportError as error:
            raise VectorDBError("to_pandas() needs pandas: pip install pandas") from error
        return pandas.DataFrame(self._columns())

    def to_arrow(self):
        """A pyarrow Table: id (strings where ids are mixed), score, and one column an attribute. Needs pyarrow."""
        try:
            import pyarrow
        except ImportError as error:
            raise VectorDBError("to_arrow() needs pyarrow: pip install pyarrow") from error
        columns = self._columns()
        columns["id"] = self.ids if self.ids.dtype != object else [str(i) for i in self.ids]
        for name, values in columns.items():
            if any(type(value).__name__ == "UUID" for value in values if not isinstance(values, np.ndarray)):
                columns[name] = [None if value is None else str(value) for value in values]
        return pyarrow.table(columns)


@dataclass(frozen=True)
class Page:
    """One page of a scroll, in id order (integers, then strings, then UUIDs). ``cursor`` is None at the end."""

    points: tuple[Point, ...]
    cursor: str | None

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class CollectionInfo:
    """Facts about a collection.

    deleted_rows: still stored, until they are compacted away. statistics: field → counts and sizes; of a dense or sparse one also segments
    (first, end: the stretch of rows an index file covers, rows in it, of these dead, bytes; dense: graph, and apart, where there are any:
    rows so far from all others that every search scores them exactly), damaged (files out of use), stale (files of another version of
    vectordb, out of use until they are built again) and tail (rows that have no index yet), of a sparse one its dictionary (terms,
    imbalance of their frequencies, postings_a_query: what an exact search for a row's own terms adds up, heaviest: term, rows, and word
    where one is known); and recall: for each recall that was asked for the number of searches that were done again exactly in the
    background (audited), and of these the mean that was found and predicted and the 5th percentile (p5), since the process that answers
    opened the directory.
    maintenance: state (running, idle, failed; off: only when asked), task, stage and share (0 … 1) of what is done
    now, error: what failed last, and pending: how many pieces of work there are to do.
    """

    name: str
    schema: Schema
    points: int
    sequence: int
    deleted_rows: int
    bytes: int
    statistics: Mapping[str, Mapping[str, Any]]
    maintenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
