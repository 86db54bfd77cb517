"""What reads and writes return: points, pages, hits and changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from ..errors import shown
from . import export, info_text
from .facets import FacetResult
from .groups import Group, groups_of
from .page_options import cursor_text
from .plan import Plan
from .schema import Schema
from .values import Id

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

    from .hit_reader import HitReader

_LARGEST = float(np.finfo(np.float32).max)
_SHOWN_HITS = 5
_SCALARS = frozenset((int, float, str, bool, bytes, type(None)))


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, which may hold arrays in mappings and tuples."""
    if type(one) in _SCALARS and type(other) in _SCALARS:
        return bool(one == other)
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return bool(np.array_equal(one, other))
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    return bool(one == other)


@dataclass(frozen=True)
class Point:
    """One point.

    Attributes:
        id: an unsigned 64-bit integer, a string or a UUID.
        vectors: field → vector. Dense vectors are ``(dim,)`` arrays, multi-vectors ``(rows, dim)`` arrays, both float32 or float16; sparse
            vectors are ``(terms, weights)``, uint64 and float32 arrays of one length. A read fills in only the fields that were asked for.
        attributes: name → value. Attributes that are null are left out, so ``attributes["year"]`` may raise KeyError; write
            ``attributes.get("year")``.
        payload: any JSON value.
        version: the sequence of the write that made the point what it is. None for a point that was not read from a database.

    Example:
        ```python
        docs.upsert([Point("a", vectors={"v": [0.1, 0.2]}, attributes={"year": 2021})])
        ```
    """

    id: Id
    vectors: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    payload: Any = None
    version: int | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Point):
            return NotImplemented
        return all(same(getattr(self, each.name), getattr(other, each.name)) for each in dataclasses.fields(Point))

    def to_dict(self) -> dict[str, Any]:
        """The point as a dict with the keys id, vectors, attributes, payload and version. ``upsert`` accepts it."""
        return export.point_dict(self)

    def _repr_html_(self) -> str:
        return Page((self,), None)._repr_html_()

    def to_json(self, indent: int | None = None) -> str:
        """The point as a JSON object. ``upsert([json.loads(text)])`` and ``vectordb import`` read it back.

        Args:
            indent: spaces for each level; None writes one line.

        Raises:
            InvalidArgumentError: a value has no JSON form, such as NaN.
        """
        return export.json_text(self.to_dict(), indent)


class WriteResult(int):
    """What a write returns: the sequence number of its batch, as an int.

    Attributes:
        count: how many points were written or deleted.
    """

    count: int

    def __new__(cls, sequence: int, count: int):
        self = super().__new__(cls, sequence)
        self.count = count
        return self

    @property
    def sequence(self) -> int:
        """The sequence number of the batch. Every batch of a collection has a higher one than the batch before."""
        return int(self)

    def __repr__(self) -> str:
        return f"WriteResult(sequence={int(self)}, count={self.count})"

    def __reduce__(self):
        return WriteResult, (int(self), self.count)


@dataclass(frozen=True)
class Change:
    """What one batch did to a collection.

    Attributes:
        sequence: the sequence number of the batch.
        kind: "write": the ids were written. "delete": the ids were deleted. "schema": fields were added.
        ids: the ids that this batch wrote or deleted and that no later batch wrote or deleted.
        points: the written points, in the order of ids, if vectors or attributes were asked for; else None.
        schema: the schema of the collection now, for the kind "schema"; else None.
    """

    sequence: int
    kind: str
    ids: tuple[Id, ...] = ()
    points: tuple[Point, ...] | None = None
    schema: Schema | None = None


class ArmScore(NamedTuple):
    """The part of one arm (one field) in the score of a hit. The contributions of all arms add up to the score. With boosts there is one
    part more, "boost": its weight is the product of the factors, its contribution what that adds.

    Attributes:
        rank: the place of the hit among the candidates of this arm, from 1. None if it is not among them, or if the place is unknown
            (linear fusion).
        score: the score of the arm itself: cosine, inner product, squared distance and so on. None if the hit is not among the candidates
            of this arm, or with linear fusion if it has no score in this arm at all. The arm then contributes 0.
        normalized: the score after the fusion normalized it; ``contribution = weight · normalized``.
        weight: the weight of the arm for this hit. It is rescaled if the hit has no vector in the field of another arm and the fusion has
            missing="renormalise".
        contribution: what the arm adds to the score of the hit.
        missing: whether score is None because the point has no vector in the field of this arm.
    """

    rank: int | None
    score: float | None
    normalized: float | None
    weight: float
    contribution: float
    missing: bool = False


class Hit(NamedTuple):
    """One result of a search.

    Attributes:
        id: the id of the point.
        score: of one arm: the cosine or the inner product (higher is closer), or the squared Euclidean distance of an l2 field (lower is
            closer). Of several arms: the fused score (higher is better).
        attributes: name → value of the attributes that were asked for. Attributes that are null are left out, so ``attributes["year"]`` may
            raise KeyError; write ``attributes.get("year")``.
        payload: the payload of the point, if attributes were asked for.
        arms: field → ArmScore, if several arms were fused; else empty.
        vectors: field → vector, if vectors were asked for; in the form of ``Point.vectors``.
        highlights: attribute → where the words of the query are in its text, if ``highlight`` was asked for: a list of (start, end), in
            characters, ascending; ``text[start:end]`` is the word. Of an array, a list of such lists, one an element. Attributes that
            are null are left out.
    """

    id: Id
    score: float
    attributes: Mapping[str, Any]
    payload: Any
    arms: Mapping[str, ArmScore]
    vectors: Mapping[str, Any]
    highlights: Mapping[str, list] = {}

    def __eq__(self, other: object) -> bool:
        return same(tuple(self), tuple(other)) if isinstance(other, tuple) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not same(tuple(self), tuple(other)) if isinstance(other, tuple) else NotImplemented

    def to_dict(self) -> dict[str, Any]:
        """The hit as a dict with the keys id, score, attributes and payload, and arms, vectors and highlights where it has some."""
        return export.hit_dict(self)

    def to_json(self, indent: int | None = None) -> str:
        """The hit as a JSON object, see ``Hits.to_json``."""
        return export.json_text(self.to_dict(), indent)


class Hits(Sequence[Hit]):
    """The result of one query: a sequence of Hit, best first.

    Attributes:
        plan: how the search was run, if ``explain=True`` was asked for; else None. ``print(hits.plan)`` shows it as a short text.
        reranked: of a search with ``rerank`` the score of each hit by its function, or the matches that it won; None for hits that were
            not scored in time. Else empty.
        facets: name → FacetResult, the counts over all points that match the filter, if ``facets`` were asked for; else empty.

    Example:
        ```python
        hits = docs.search({"v": query}, limit=10)
        for hit in hits:
            print(hit.id, hit.score, hit.attributes["title"])
        hits.ids, hits.scores      # numpy arrays
        hits.to_pandas()           # a DataFrame
        ```
    """

    # A search that is to cost little sets no more of these than it must.
    _made: tuple[Hit, ...] | None = None
    _bare: tuple[np.ndarray, np.ndarray] | None = None  # ids and scores of hits that consist of nothing else
    _unread: tuple[HitReader, Any, int] | None = None  # what has yet to be read: the reader, what was found, the number of hits
    _next: bytes | tuple[Callable[..., bytes], Any] | None = (
        None  # the bytes of the cursor, or a function that makes them with its argument
    )
    plan: Plan | None = None
    facets: Mapping[str, FacetResult] = MappingProxyType({})
    reranked: tuple[float | None, ...] = ()
    _grouping: Sequence[tuple[Any, int]] = ()  # (value, number of hits) of each group

    def __init__(self, hits: Sequence[Hit], plan: Mapping[str, Any] | None = None):
        self._made = tuple(hits)
        self.plan = None if plan is None else Plan(plan)

    @classmethod
    def bare(cls, ids: np.ndarray, scores: np.ndarray) -> Hits:
        """Hits that consist of ids (uint64 ``(n,)``) and scores (float32 ``(n,)``) only. A Hit is made when it is read."""
        hits = cls.__new__(cls)
        hits._bare = (ids, scores)
        return hits

    @classmethod
    def unread(cls, reader: HitReader, found: Any, count: int) -> Hits:
        """``count`` hits that are made, by ``reader``, when they are read."""
        hits = cls.__new__(cls)
        hits._unread = (reader, found, count)
        return hits

    def __getstate__(self) -> dict[str, Any]:
        held: dict[str, Any] = {"_made": self._hits} if self._bare is None else {"_bare": self._bare}
        more = {"facets": dict(self.facets), "_grouping": self._grouping, "reranked": self.reranked}
        return held | {"plan": self.plan, "_next": self.next_bytes} | {name: value for name, value in more.items() if value}

    @property
    def next_bytes(self) -> bytes | None:
        """The bytes of ``next``, as messages carry them."""
        known = self._next
        if isinstance(known, tuple):
            make, given = known
            known = self._next = make(given)
        return known

    @property
    def next(self) -> str | None:
        """The cursor of the next page: text, which can be stored. Pass it to ``search(cursor=…)`` with the same query and options.

        None: there are fewer hits than were asked for, so this is the last page; or the hits are of ``search_batch``, or of a search that
        has no pages, such as one with ``limit="auto"``.
        """
        raw = self.next_bytes
        return None if raw is None else cursor_text(raw)

    @property
    def groups(self) -> tuple[Group, ...]:
        """The hits in groups, best group first, of a search with ``group_by``; else empty."""
        return groups_of(self, self._grouping)

    @property
    def columns(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The ids (uint64 ``(n,)``) and scores (float32 ``(n,)``) of ``bare`` hits, as views that must not be written to; else None."""
        if self._bare is None and self._unread is not None:
            reader, found, _ = self._unread
            if reader.bare:
                ids, scores = reader.columns(found)
                if ids is not None:
                    self._bare = (ids, scores)
        return self._bare

    @property
    def _hits(self) -> tuple[Hit, ...]:
        if self._made is None:
            if self._unread is not None:
                reader, found, _ = self._unread
                self._made = reader.hits(found)
            else:
                assert self._bare is not None
                ids, scores = self._bare
                self._made = tuple([Hit(i, score, {}, None, {}, {}, {}) for i, score in zip(ids.tolist(), scores.tolist(), strict=True)])
        return self._made

    def __len__(self) -> int:
        if self._unread is not None:
            return self._unread[2]
        return len(self._bare[0]) if self._bare is not None else len(self._hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Hits: ...
    def __getitem__(self, index: int | slice) -> Hit | Hits:
        if isinstance(index, slice):
            return Hits(self._hits[index], self.plan)
        try:
            return self._hits[index]
        except IndexError:
            raise IndexError(f"there is no hit {index}: the search found {info_text.many(len(self), 'hit')}") from None

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._hits)

    @property
    def ids(self) -> np.ndarray:
        """The ids: a uint64 array ``(n,)`` if all are integers, else an object array."""
        integers, _ = self._columns_found()
        if integers is not None:
            return integers.copy()
        ids = [hit.id for hit in self._hits]
        if all(type(i) is int for i in ids):
            return np.array(ids, dtype=np.uint64)
        column = np.empty(len(ids), dtype=object)
        column[:] = ids
        return column

    @property
    def scores(self) -> np.ndarray:
        """The scores: a float32 array ``(n,)``."""
        _, found = self._columns_found()
        if found is not None:
            return found.copy()
        scores = np.array([hit.score for hit in self._hits], dtype=np.float64)  # a sum of float32 scores may exceed the float32 range
        return np.clip(scores, -_LARGEST, _LARGEST).astype(np.float32)

    def _columns_found(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Ids and scores as arrays, each None if there is no such array. They must not be written to."""
        if self._unread is not None:
            reader, found, _ = self._unread
            return reader.columns(found)
        return (None, None) if self._bare is None else self._bare

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hits) and self._hits == other._hits

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        first = ", ".join(f"{hit.id!r}: {hit.score:.4g}" for hit in self._hits[:_SHOWN_HITS])
        return f"Hits({len(self)}: {first}{', …' if len(self) > _SHOWN_HITS else ''})"

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dict for each hit: id, score, attributes, payload, and arms and vectors where a hit has some."""
        return [export.hit_dict(hit) for hit in self._hits]

    def to_json(self, indent: int | None = None) -> str:
        """The hits as a JSON array of the dicts of ``to_dicts``.

        Ids are numbers, strings or ``{"uuid": "…"}``. Datetimes are in ISO 8601, UUIDs strings, places ``[lat, lon]``, vectors lists of
        numbers, sparse vectors ``{"indices": […], "values": […]}``.

        Args:
            indent: spaces for each level; None writes one line.

        Raises:
            InvalidArgumentError: a value has no JSON form.
        """
        return export.json_text(self.to_dicts(), indent)

    def to_pandas(self) -> pandas.DataFrame:
        """A DataFrame of pandas: id, score, one column for each attribute and each vector field, and payload where there is one.

        An attribute with the name of another column is called ``attributes.NAME``. Vectors are arrays, one in each cell.

        Raises:
            VectorDBError: pandas is not installed.
        """
        return export.to_pandas(self._columns())

    def to_polars(self) -> polars.DataFrame:
        """A DataFrame of polars with the columns and types of ``to_arrow``.

        Raises:
            VectorDBError: polars or pyarrow is not installed.
        """
        return export.to_polars(self._columns())

    def to_arrow(self) -> pyarrow.Table:
        """An Arrow table with the columns of ``to_pandas``.

        Ids are uint64, or strings where any is not an integer. UUIDs are strings, datetimes timestamps in UTC, vectors lists, sparse
        vectors structs of ``indices`` and ``values``, payloads JSON text.

        Raises:
            VectorDBError: pyarrow is not installed.
        """
        return export.to_arrow(self._columns())

    def _columns(self, most: int | None = None) -> dict[str, list[Any]]:
        return export.columns_of([export.hit_dict(hit) for hit in self._hits[:most]], ("id", "score"))

    def _repr_html_(self) -> str:
        title = f"{len(self):,} hit{'s' * (len(self) != 1)}"
        return export.html_table(title, self._columns(export.HTML_ROWS), len(self))


@dataclass(frozen=True)
class Page:
    """One page of a scroll: a sequence of points, integer ids first, then strings, then UUIDs, each in ascending order.

    Attributes:
        points: the points of the page.
        cursor: pass it to ``scroll(cursor=…)`` to get the next page. None: this is the last page.
    """

    points: tuple[Point, ...]
    cursor: str | None

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Point, ...]: ...
    def __getitem__(self, index: int | slice) -> Point | tuple[Point, ...]:
        try:
            return self.points[index]
        except IndexError:
            raise IndexError(f"there is no point {index}: the page has {info_text.many(len(self.points), 'point')}") from None

    def __repr__(self) -> str:
        first = ", ".join(shown(point.id) for point in self.points[:_SHOWN_HITS])
        more = ", …" if len(self.points) > _SHOWN_HITS else ""
        return f"Page({len(self.points)} points: {first}{more}; cursor={self.cursor!r})"

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dict for each point: id, vectors, attributes, payload, version. ``upsert`` accepts the list."""
        return [export.point_dict(point) for point in self.points]

    def to_json(self, indent: int | None = None) -> str:
        """The points as a JSON array, each in the form of ``Point.to_json``. ``upsert(json.loads(text))`` reads it back.

        Args:
            indent: spaces for each level; None writes one line.

        Raises:
            InvalidArgumentError: a value has no JSON form.
        """
        return export.json_text(self.to_dicts(), indent)

    def to_pandas(self) -> pandas.DataFrame:
        """A DataFrame of pandas: id, one column for each attribute and each vector field, and payload where there is one.

        ``upsert`` accepts the table. An attribute called "id" or "payload" becomes the column ``attributes.NAME``, which it doesn't accept.

        Raises:
            VectorDBError: pandas is not installed.
        """
        return export.to_pandas(self._columns())

    def to_polars(self) -> polars.DataFrame:
        """A DataFrame of polars with the columns and types of ``to_arrow``.

        Raises:
            VectorDBError: polars or pyarrow is not installed.
        """
        return export.to_polars(self._columns())

    def to_arrow(self) -> pyarrow.Table:
        """An Arrow table with the columns of ``to_pandas`` and the types of ``Hits.to_arrow``.

        Raises:
            VectorDBError: pyarrow is not installed.
        """
        return export.to_arrow(self._columns())

    def _columns(self, most: int | None = None) -> dict[str, list[Any]]:
        return export.columns_of([export.point_dict(point) for point in self.points[:most]], ("id",))

    def _repr_html_(self) -> str:
        more = "" if self.cursor is None else ", more pages follow"
        title = f"{len(self):,} point{'s' * (len(self) != 1)}{more}"
        return export.html_table(title, self._columns(export.HTML_ROWS), len(self))
