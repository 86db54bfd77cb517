"""The reading half of a collection: get, count, scroll, search, changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar, overload

import numpy as np
from vectordb_client.model.access import PointsOfCollection
from vectordb_client.model.aliases import FilterLike, Ids, Selection, SupportsArray
from vectordb_client.model.arguments import named
from vectordb_client.model.batch import check_each_id
from vectordb_client.model.checks import check_count, check_names, check_selection
from vectordb_client.model.results import Change, CollectionInfo, Page, Point
from vectordb_client.model.schema import Schema
from vectordb_client.model.search_request import SearchRequest
from vectordb_client.model.searching import Searching
from vectordb_client.model.terms import check_page, check_sparse
from vectordb_client.model.values import Id, check_id, is_single_id

from .engine.directory import Handle
from .engine.snapshot import Snapshots, View
from .filters.bitmap import FilterCache
from .maintenance import Maintainer
from .query import execute, read
from .query.changes import changes
from .query.changes import pieces as change_pieces
from .query.info import describe
from .query.request import PreparedSearchCache
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
        self._prepared = PreparedSearchCache(self._filters)
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

        def take(there: list[bool], pieces: Iterator[list[Point]]) -> list[Point | None]:
            found = chain.from_iterable(pieces)
            return [next(found) if one else None for one in there]

        found = self._get_pieces(asked, take, with_vectors=with_vectors, with_attributes=with_attributes)
        return found[0] if single else found

    def _get_pieces(
        self, ids: list[Id], take: Callable[[list[bool], Iterator[list[Point]]], T], *, with_vectors: Any, with_attributes: Any
    ) -> T:
        """Return ``take(exists, pieces)``: whether each id exists, and their points, read in pieces while ``take`` consumes them."""
        with self._snapshots.pin() as view:
            return take(*read.get(view, ids, *_selections(view, with_attributes, with_vectors)))

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

        return self._scroll_pieces(take, filter, limit, cursor, with_vectors=with_vectors, with_attributes=with_attributes)

    def _scroll_pieces(
        self,
        take: Callable[[Iterator[list[Point]], bool], T],
        filter: Any,
        limit: int,
        cursor: str | None,
        *,
        with_vectors: Any,
        with_attributes: Any,
    ) -> T:
        """Return ``take(pieces, more)``: the points of a page, read in pieces, and whether more points follow the page."""
        check_count("limit", limit)
        with self._snapshots.pin() as view:
            selections = _selections(view, with_attributes, with_vectors)
            wanted = self._filters.bind(filter, view.schema)
            return take(*read.scroll(view, wanted, int(limit), cursor, *selections, self._filters))

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
            found = self.scroll(filter=filter, limit=page, cursor=cursor, with_vectors=with_vectors, with_attributes=with_attributes)
            yield from found
            cursor = found.cursor
            if cursor is None:
                return

    def _search(self, request: SearchRequest, vectors: Any, text: Any, batch: bool) -> Any:
        results = self._search_pieces(request, vectors, text, batch, execute.whole)
        return results if batch else results[0]

    def _search_pieces(self, request: SearchRequest, vectors: Any, text: Any, batch: bool, take: Callable[[execute.Answers], T]) -> T:
        """Return ``take(answers)`` of a search for one query, or with ``batch`` for many."""
        with self._snapshots.pin() as view:
            search = self._prepared.search(view, request, vectors, text, batch)
            return take(execute.Answers(view, search, self._filters))

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

    def _change_pieces(self, since: int, **arguments: Any) -> Iterator[tuple[Change, bool]]:
        """``changes`` with large batches split into parts. The bool says whether more parts of the same batch follow."""
        wanted = {"follow": False, "with_vectors": False, "with_attributes": False, "timeout": None} | arguments
        return change_pieces(self._snapshots, since=since, **wanted)


def _selections(view: View, with_attributes: Any, with_vectors: Any) -> tuple[bool | Sequence[str], Sequence[str]]:
    """Check the selections: True, False or names of attributes, and names of vector fields. Raises InvalidArgumentError."""
    attributes = check_selection("with_attributes", with_attributes, view.schema.attributes)
    return attributes, check_names("with_vectors", with_vectors, view.schema.vectors)
