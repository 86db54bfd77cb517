"""The reading half of a collection of a service, for the blocking client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, overload

from ..model.access import PointsOfCollection
from ..model.aliases import FilterLike, FusionLike, Ids, Selection, SupportsArray, Vector, VectorColumn
from ..model.arguments import named
from ..model.ranking import Prefetch
from ..model.results import Change, CollectionInfo, Hits, Page, Point
from ..model.schema import Schema
from ..model.steps import run_steps
from ..model.tuning import FusionTuning, tune
from ..model.values import Id
from . import calls, changes

if TYPE_CHECKING:
    from .client import Client


class Reads(PointsOfCollection):
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

    @named
    def search(
        self,
        vectors: Mapping[str, Vector] | None = None,
        *,
        text: str | Mapping[str, str] | None = None,
        filter: FilterLike | None = None,
        limit: int = 10,
        recall: float | None = None,
        exact: bool = False,
        fusion: FusionLike = "rrf",
        candidates: int | None = None,
        prefetch: Prefetch | None = None,
        with_attributes: Selection = True,
        with_vectors: Selection = False,
        explain: bool = False,
        timeout: float | None = None,
    ) -> Hits:
        """Find the best ``limit`` points for a query of one or several arms. An arm is a vector field with its query.

        Args:
            vectors: field → query. Dense: ``(dim,)`` numbers (list, array, tensor, Series). Sparse: ``{term: weight}``, ``(indices,
                values)`` or a list of ``(term, weight)``. Multi-vector: ``(rows, dim)`` numbers.
            text: a string, encoded for every field that has an encoder. Or a mapping from field to string.
            filter: an ``F`` expression, a string such as ``"year >= 2020 AND lang = 'en'"``, or its JSON form such as
                ``{"op": "ge", "field": "year", "value": 2020}``. Only matching points are returned.
            limit: the number of hits, at least 1.
            recall: the share of the true best ``limit`` points that the result should contain on average, above 0 and at most 1. None is
                0.95. For each indexed field the planner takes the cheapest plan that is predicted to reach it under this filter. The
                average is over queries; a single query may get less. Fields without an index, multi-vectors and rows not indexed yet are
                always searched exactly.
            exact: return the exact result. Dense fields are scanned; sparse fields may still use lossless index plans. ``recall=1.0``
                does the same.
            fusion: how the scores of several arms are combined: "rrf", "relative", "dbsf", "linear", or ``RRF(…)``, ``Relative(…)``,
                ``DBSF(…)``, ``Linear(…)`` with weights. "linear" finds the true best sums over all points, unless a recall is given; then
                it only sums the scores of the candidates. ``missing`` of a fusion says how it ranks points that have no vector in a field.
            candidates: how many of its best rows each arm passes to the fusion. None is ``max(100, 4 * limit)``, so another limit can
                change the first hits. With a number given, the first hits are the same for every limit up to it.
            prefetch: a ``Prefetch`` stage. Only its hits are ranked, by exact scores.
            with_attributes: True for all attributes and the payload, a list of attributes, or False for neither.
            with_vectors: True for all vector fields, a list of fields, or False for none.
            explain: fill in ``hits.plan``, which says how the search was run.
            timeout: seconds; None is the timeout of the client.

        Returns:
            The hits, best first: ``min(limit, number of matching points)`` of them, or fewer after a prefetch.

        Raises:
            InvalidArgumentError: a query or an option is not valid, for example ``(dim,)`` numbers of another dimension.
            SchemaError: a field is not in the schema.
            FilterError: the filter can't be read, or doesn't fit the schema.
            EncoderError: the text can't be encoded.

        Example:
            ```python
            hits = docs.search({"v": query}, filter=F("year") >= 2020, limit=5)
            hits = docs.search(text="a short question", recall=0.99)
            hits = docs.search({"v": query}, text={"terms": "exact words"}, fusion=RRF(weights={"terms": 2.0}), explain=True)
            print(hits.plan)
            ```
        """
        wanted = calls.SearchOptions(filter, limit, recall, exact, fusion, candidates, prefetch, with_attributes, with_vectors, explain)
        # aio: large=is_large(limit)
        return self._client._run(calls.search(self._remote, vectors, text, wanted), timeout)

    @named
    def search_batch(
        self,
        vectors: Mapping[str, VectorColumn] | None = None,
        *,
        text: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        filter: FilterLike | None = None,
        limit: int = 10,
        recall: float | None = None,
        exact: bool = False,
        fusion: FusionLike = "rrf",
        candidates: int | None = None,
        prefetch: Prefetch | None = None,
        with_attributes: Selection = True,
        with_vectors: Selection = False,
        explain: bool = False,
        timeout: float | None = None,
    ) -> list[Hits]:
        """Run many searches at once, in one message. All queries share the other arguments, which are those of ``search``.

        Args:
            vectors: field → n queries: an ``(n, dim)`` array, a sparse matrix of n rows, or a list of n queries.
            text: n strings, or a mapping from field to n strings.
            filter: as in ``search``.
            limit: as in ``search``.
            recall: as in ``search``.
            exact: as in ``search``.
            fusion: as in ``search``.
            candidates: as in ``search``.
            prefetch: as in ``search``; its queries are n as well.
            with_attributes: as in ``search``.
            with_vectors: as in ``search``.
            explain: as in ``search``; every result has the plan of the first query.
            timeout: seconds; None is the timeout of the client.

        Returns:
            n results, one for each query.

        Raises:
            VectorDBError: what ``search`` raises.
        """
        wanted = calls.SearchOptions(filter, limit, recall, exact, fusion, candidates, prefetch, with_attributes, with_vectors, explain)
        # aio: large=is_large(*lists_in(vectors), *lists_in(text), limit)
        return self._client._run(calls.search_batch(self._remote, vectors, text, wanted), timeout)

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
        """Learn the weights of ``Linear`` fusion from judged queries, and measure them on queries they were not learned from.

        Args:
            vectors: as in ``search_batch``. With text there must be at least two arms.
            qrels: for each query a mapping from id to grade (a number ≥ 0; a missing id has grade 0). Queries without a relevant point are
                ignored.
            text: as in ``search_batch``.
            filter: as in ``search``.
            limit: nDCG is measured on the best ``limit`` points.
            candidates: learn from this many of the best points of each arm.
            recall: as in ``search``.
            folds: the number of folds of the cross-validation, at least 2.
            seed: of the assignment of queries to folds. The same seed gives the same result.
            timeout: seconds for each search; None is the timeout of the client.

        Returns:
            The fusion with weights learned on all queries, and nDCG of each fold: of linear fusion with weights learned on the other
            folds, of rrf, and of each arm alone.

        Raises:
            InvalidArgumentError: an argument is wrong, or there are fewer judged queries than folds.
            VectorDBError: what ``search_batch`` raises.
        """
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
