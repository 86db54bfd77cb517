"""The reading half of a collection of a service, for the blocking client."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack, overload

from ..model.access import PointsOfCollection
from ..model.aliases import FilterLike, Ids, Selection, SupportsArray, Vector, VectorColumn
from ..model.arguments import named
from ..model.results import Change, CollectionInfo, Hits, Page, Point
from ..model.schema import Schema
from ..model.search_request import SearchOptions, SearchRequest, takes_options
from ..model.searching import PreparedSearch, Searching, like
from ..model.steps import run_steps
from ..model.tuning import FusionTuning, tune
from ..model.values import Id
from . import calls, changes

if TYPE_CHECKING:
    from .client import Client


class Reads(PointsOfCollection, Searching):
    """The methods of ``Collection`` that read."""

    def __init__(self, client: Client, remote: calls.Remote):
        self._client = client
        self._remote = remote

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r} of {self._client.target!r})"

    @property
    def name(self) -> str:
        """The name of the collection."""
        return self._remote.name

    @property
    def schema(self) -> Schema:
        """The vector fields and attributes of the collection, as last read.

        ``info()`` reads them again. A call that doesn't fit them reads them again before it fails.
        """
        return self._remote.schema

    @overload
    def get(
        self, ids: Id, *, with_vectors: Selection = False, with_attributes: Selection = True, timeout: float | None = None
    ) -> Point | None: ...

    @overload
    def get(
        self,
        ids: Iterable[Id] | SupportsArray,
        *,
        with_vectors: Selection = False,
        with_attributes: Selection = True,
        timeout: float | None = None,
    ) -> list[Point | None]: ...

    @named
    def get(
        self, ids: Ids, *, with_vectors: Selection = False, with_attributes: Selection = True, timeout: float | None = None
    ) -> list[Point | None] | Point | None:
        """Read points by id.

        Args:
            ids: one id or several. The ids 1 and "1" are different.
            with_vectors: True for all vector fields, a list of fields, or False for none.
            with_attributes: True for all attributes and the payload, a list of attributes, or False for neither.
            timeout: seconds; None is the timeout of the client.

        Returns:
            For one id the point, or None if it doesn't exist. For several ids a list in the order of the ids.

        Raises:
            InvalidArgumentError: an id is not valid, or a name is not in the schema.
        """
        # aio: large=not is_single_id(ids) and is_large(ids)
        return self._client._run(calls.get(self._remote, ids, with_vectors, with_attributes), timeout)

    def _search(self, request: SearchRequest, vectors: Any, text: Any, batch: bool, timeout: float | None = None) -> Any:
        # aio: large=is_large(request.limit) or (batch and is_large(*lists_in(vectors), *lists_in(text)))
        return self._client._run(calls.search(self._remote, request, vectors, text, batch), timeout)

    @like(Searching.search)
    @takes_options
    def search(  # pyright: ignore[reportIncompatibleMethodOverride]  # it takes the timeout for an option
        self,
        vectors: Mapping[str, Vector] | None = None,
        *,
        text: str | Mapping[str, str] | None = None,
        timeout: float | None = None,
        **options: Unpack[SearchOptions],
    ) -> Hits:
        return self._search(SearchRequest.of(options), vectors, text, False, timeout)

    @like(Searching.search_batch)
    @takes_options
    def search_batch(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        vectors: Mapping[str, VectorColumn] | None = None,
        *,
        text: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        timeout: float | None = None,
        **options: Unpack[SearchOptions],
    ) -> list[Hits]:
        return self._search(SearchRequest.of(options), vectors, text, True, timeout)

    @like(Searching.prepare)
    @takes_options
    def prepare(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, *, timeout: float | None = None, **options: Unpack[SearchOptions]
    ) -> PreparedSearch[Hits, list[Hits]]:
        request = SearchRequest.prepared(options)
        self._client._run(calls.prepare(self._remote, request), timeout)
        return PreparedSearch(request, functools.partial(self._search, timeout=timeout))

    @like(Searching.tune_fusion)
    def tune_fusion(
        self,
        vectors: Mapping[str, VectorColumn] | None,
        qrels: Sequence[Mapping[Id, float]],
        *,
        text: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        filter: FilterLike | None = None,
        limit: int = 10,
        candidates: int = 100,
        recall: float | None = None,
        folds: int = 5,
        seed: int = 0,
        timeout: float | None = None,
    ) -> FusionTuning:
        steps = tune(vectors, qrels, text, filter, limit, candidates, recall, folds, seed)
        return run_steps(steps, lambda arguments: self.search_batch(**arguments, timeout=timeout))

    @named
    def count(self, filter: FilterLike | None = None, *, timeout: float | None = None) -> int:
        """Count points.

        Args:
            filter: count the points that match; None counts all points.
            timeout: seconds; None is the timeout of the client.

        Returns:
            The number of points.

        Raises:
            FilterError: the filter can't be read, or doesn't fit the schema.
        """
        return self._client._run(calls.count(self._remote, filter), timeout)

    @named
    def scroll(
        self,
        *,
        filter: FilterLike | None = None,
        limit: int = 100,
        cursor: str | None = None,
        with_vectors: Selection = False,
        with_attributes: Selection = True,
        timeout: float | None = None,
    ) -> Page:
        """Read one page of points in the order of ids: integers, then strings, then UUIDs.

        The order is stable under writes: a point that exists during the whole scroll appears exactly once.

        Args:
            filter: only points that match.
            limit: the number of points in a page. A page has fewer if more don't fit a message.
            cursor: ``page.cursor`` of the page before; None starts from the beginning.
            with_vectors: as in ``get``.
            with_attributes: as in ``get``.
            timeout: seconds; None is the timeout of the client.

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
        # aio: large=is_large(limit)
        return self._client._run(calls.scroll(self._remote, filter, limit, cursor, with_vectors, with_attributes), timeout)

    def iterate(
        self,
        *,
        filter: FilterLike | None = None,
        page: int = 1000,
        with_vectors: Selection = False,
        with_attributes: Selection = True,
        timeout: float | None = None,
    ) -> Iterator[Point]:
        """Read all points, page by page, in the order of ``scroll``. ``for point in docs`` does the same.

        Args:
            filter: only points that match.
            page: the number of points read at a time.
            with_vectors: as in ``get``.
            with_attributes: as in ``get``.
            timeout: seconds for each page; None is the timeout of the client.

        Yields:
            The points.

        Raises:
            VectorDBError: what ``scroll`` raises.
        """
        cursor = None
        while True:
            points = self.scroll(
                filter=filter, limit=page, cursor=cursor, with_vectors=with_vectors, with_attributes=with_attributes, timeout=timeout
            )
            yield from points
            cursor = points.cursor
            if cursor is None:
                return

    def terms(self, field: str, *, after: int | None = None, limit: int = 10_000, timeout: float | None = None) -> dict[int, str]:
        """Read a page of the words of a sparse field's terms, in ascending order of terms.

        Args:
            field: a sparse vector field.
            after: the page starts behind this term; None starts from the beginning.
            limit: the number of terms in the page, 1 to 100,000. The page has fewer if more don't fit a message.
            timeout: seconds; None is the timeout of the client.

        Returns:
            Term → word. An empty page is the end.

        Raises:
            SchemaError: the field is not a sparse field.
            InvalidArgumentError: ``after`` or ``limit`` is not valid.
        """
        return self._client._run(calls.terms(self._remote, field, after, limit), timeout)

    def info(self, *, timeout: float | None = None) -> CollectionInfo:
        """Schema, counts, sequence number and statistics of the fields. ``print(docs.info())`` shows them as a short text.

        The schema is read again.

        Args:
            timeout: seconds; None is the timeout of the client.
        """
        return self._client._run(calls.info(self._remote), timeout)

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
            follow: wait for further changes, until the timeout passes or the client is closed.
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
            LimitError: the service answers as many streams as it may.
            UnavailableError: the service ended.
        """
        request = calls.changes(self._remote, since, follow, with_vectors, with_attributes)
        return self._client._stream("Changes", request, changes.Assembly(), timeout, ends_quietly=follow)
