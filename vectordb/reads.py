"""The reading half of a collection: get, count, scroll, search, changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, TypeVar, overload

import numpy as np
from vectordb_client.model.access import PointsOfCollection
from vectordb_client.model.aliases import FilterLike, Ids, Selection, SupportsArray
from vectordb_client.model.arguments import named
from vectordb_client.model.batch import check_each_id
from vectordb_client.model.checks import check_count
from vectordb_client.model.results import Change, CollectionInfo, Page, Point
from vectordb_client.model.schema import Schema
from vectordb_client.model.search_request import SearchRequest
from vectordb_client.model.searching import Searching
from vectordb_client.model.terms import check_page, check_sparse
from vectordb_client.model.values import Id, check_id, is_single_id

from .engine.directory import Handle
from .engine.snapshot import Snapshots
from .filters.bitmap import FilterCache
from .maintenance import Maintainer
from .query import execute, read
from .query.changes import changes
from .query.info import describe
from .query.pieces import PieceReader
from .storage import term_words

T = TypeVar("T")


class Reads(PointsOfCollection, Searching):
    """What a collection is opened with, and its methods that read. ``Collection`` adds those that write."""

    def __init__(self, name: str, number: int, handle: Handle):
        self.name = name
        self._number = number
        self._handle = handle
        self._directory = handle.directory
        self._maintainer: Maintainer = handle.directory.maintainer
        self._snapshots = Snapshots(handle.directory, number)
        self._filters = FilterCache()
        self.pieces = PieceReader(self._snapshots, self._filters)  # of the service
        self._worded: dict[str, np.ndarray] = {}  # field → terms (ascending) whose words are known to be stored

    def __repr__(self) -> str:
        return f"Collection({self.name!r})"

    @property
    def schema(self) -> Schema:
        """The vector fields and attributes of the collection, as they are now."""
        with self._snapshots.pin() as view:
            return view.schema

    @property
    def number(self) -> int:
        """The number of the collection. A collection that is created again under the same name has a higher number."""
        return self._number

    @property
    def revision(self) -> int:
        """The revision of the schema that this process has read last. Every change of the schema raises it."""
        newest = self._snapshots.newest
        if newest is not None:
            return newest.meta.revision
        with self._snapshots.pin() as view:
            return view.snapshot.meta.revision

    def reached(self, sequence: int) -> bool:
        """Whether reads show the write with this sequence number."""
        newest = self._snapshots.newest
        if newest is not None and newest.sequence >= sequence:
            return True
        with self._snapshots.pin() as view:
            return view.sequence >= sequence

    @overload
    def get(self, ids: Id, *, with_vectors: Selection = False, with_attributes: Selection = True) -> Point | None: ...

    @overload
    def get(
        self, ids: Iterable[Id] | SupportsArray, *, with_vectors: Selection = False, with_attributes: Selection = True
    ) -> list[Point | None]: ...

    @named
    def get(self, ids: Ids, *, with_vectors: Selection = False, with_attributes: Selection = True) -> list[Point | None] | Point | None:
        """Read points by id.

        Args:
            ids: one id or several. The ids 1 and "1" are different.
            with_vectors: True for all vector fields, a list of fields, or False for none.
            with_attributes: True for all attributes and the payload, a list of attributes, or False for neither.

        Returns:
            For one id the point, or None if it doesn't exist. For several ids a list in the order of the ids.

        Raises:
            InvalidArgumentError: an id is not valid, or a name is not in the schema.
        """
        single = is_single_id(ids)
        asked = [check_id(ids)] if single else check_each_id(ids)

        def take(exists: list[bool], pieces: Iterator[list[Point]]) -> list[Point | None]:
            points = chain.from_iterable(pieces)
            return [next(points) if one else None for one in exists]

        points = self.pieces.get(asked, take, with_vectors=with_vectors, with_attributes=with_attributes)
        return points[0] if single else points

    @named
    def count(self, filter: FilterLike | None = None) -> int:
        """Count points.

        Args:
            filter: count the points that match; None counts all points.

        Returns:
            The number of points.

        Raises:
            FilterError: the filter can't be read, or doesn't fit the schema.
        """
        with self._snapshots.pin() as view:
            return read.count(view, self._filters.bind(filter, view.schema), self._filters)

    @named
    def scroll(
        self,
        *,
        filter: FilterLike | None = None,
        limit: int = 100,
        cursor: str | None = None,
        with_vectors: Selection = False,
        with_attributes: Selection = True,
    ) -> Page:
        """Read one page of points in the order of ids: integers, then strings, then UUIDs.

        The order is stable under writes: a point that exists during the whole scroll appears exactly once.

        Args:
            filter: only points that match.
            limit: the number of points in a page.
            cursor: ``page.cursor`` of the page before; None starts from the beginning.
            with_vectors: as in ``get``.
            with_attributes: as in ``get``.

        Returns:
            The page. Its ``cursor`` is None if it is the last one.

        Raises:
            InvalidArgumentError: the limit or the cursor is not valid.
            FilterError: the filter can't be read, or doesn't fit the schema.

        Example:
            ```python
            page = docs.scroll(limit=100)
            while page.cursor is not None:
                page = docs.scroll(limit=100, cursor=page.cursor)
            ```
        """

        def take(pieces: Iterator[list[Point]], more: bool) -> Page:
            points = tuple(chain.from_iterable(pieces))
            return Page(points, read.encode_cursor(points[-1].id) if more else None)

        return self.pieces.scroll(take, filter, limit, cursor, with_vectors=with_vectors, with_attributes=with_attributes)

    def iterate(
        self, *, filter: FilterLike | None = None, page: int = 1000, with_vectors: Selection = False, with_attributes: Selection = True
    ) -> Iterator[Point]:
        """Read all points, page by page, in the order of ``scroll``. ``for point in docs`` does the same.

        Args:
            filter: only points that match.
            page: the number of points read at a time.
            with_vectors: as in ``get``.
            with_attributes: as in ``get``.

        Yields:
            The points.

        Raises:
            VectorDBError: what ``scroll`` raises.
        """
        check_count("page", page)
        cursor = None
        while True:
            points = self.scroll(filter=filter, limit=page, cursor=cursor, with_vectors=with_vectors, with_attributes=with_attributes)
            yield from points
            cursor = points.cursor
            if cursor is None:
                return

    def _search(self, request: SearchRequest, vectors: Any, text: Any, batch: bool) -> Any:
        results = self.pieces.search(request, vectors, text, batch, execute.whole)
        return results if batch else results[0]

    def terms(self, field: str, *, after: int | None = None, limit: int = 10_000) -> dict[int, str]:
        """Read a page of the words of a sparse field's terms, in ascending order of terms.

        Args:
            field: a sparse vector field.
            after: the page starts behind this term; None starts from the beginning.
            limit: the number of terms in the page, 1 to 100,000.

        Returns:
            Term → word. An empty page is the end.

        Raises:
            SchemaError: the field is not a sparse field.
            InvalidArgumentError: ``after`` or ``limit`` is not valid.
        """
        after, limit = check_page(after, limit)
        with self._snapshots.pin() as view:
            return term_words.page(view.txn, self._number, view.fields[check_sparse(view.schema, field)], after, limit)

    def info(self) -> CollectionInfo:
        """Schema, counts, sequence number and statistics of the fields. ``print(docs.info())`` shows them as a short text."""
        with self._snapshots.pin() as view:
            facts = self._maintainer.status(self._number) | {"pending": self._maintainer.pending(view)}
            return describe(view, self.name, facts)

    def changes(
        self,
        since: int = 0,
        *,
        follow: bool = False,
        with_vectors: Selection = False,
        with_attributes: Selection = False,
        timeout: float | None = None,
    ) -> Iterator[Change]:
        """Read what each batch after a sequence number did, in order and without gaps.

        Whoever applies all changes has an equal collection. To resume, pass the sequence number of the last change that was applied.

        Args:
            since: a sequence number; 0 starts from the beginning.
            follow: wait for further changes, until the timeout passes or the database is closed.
            with_vectors: add the written points with these vector fields: True, False or a list of names.
            with_attributes: add the written points with these attributes and the payload: True, False or a list of names.
            timeout: seconds; None has no limit.

        Yields:
            One Change for each batch.

        Raises:
            NotFoundError: changes that far back are not kept (field "since"). By default the newest 65,536 batches are kept, at most 64
                MiB and 30 days; a purge also removes the changes of deleted points.
            InvalidArgumentError: ``since`` is higher than the newest sequence number.
            DeadlineError: the timeout passed without ``follow``.
        """
        arguments = {"follow": follow, "with_vectors": with_vectors, "with_attributes": with_attributes, "timeout": timeout}
        return changes(self._snapshots, since=since, **arguments)
