"""The reading half of a collection: get, count, scroll, search, changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar, overload

import numpy as np
from vectordb_client.model.access import PointsOfCollection
from vectordb_client.model.aliases import FilterLike, FusionLike, Ids, Selection, SupportsArray, Vector, VectorColumn
from vectordb_client.model.arguments import named
from vectordb_client.model.batch import check_each_id
from vectordb_client.model.ranking import Prefetch
from vectordb_client.model.results import Change, CollectionInfo, Hits, Page, Point
from vectordb_client.model.schema import Schema
from vectordb_client.model.terms import check_page, check_sparse
from vectordb_client.model.tuning import FusionTuning, drive, tune
from vectordb_client.model.values import Id, check_id, is_single_id

from .engine.directory import Handle
from .engine.encoding import load_encoder
from .engine.snapshot import Snapshots, View
from .filters.bitmap import FilterCache
from .maintenance import Maintainer
from .query import execute, read
from .query.changes import changes
from .query.changes import pieces as change_pieces
from .query.info import describe
from .query.request import PreparedSearchCache, Words, check_limit, check_selection, make_search, selected
from .storage import term_words

# A search with these arguments differs from others of its kind only in what ``PreparedSearchCache`` compares, and in its query vectors.
_PLAIN = (("text", None), ("candidates", None), ("prefetch", None), ("exact", False), ("with_vectors", False), ("explain", False))
T = TypeVar("T")


class Reads(PointsOfCollection):
    """What a collection is opened with, and its methods that read. ``Collection`` adds those that write."""

    def __init__(self, name: str, number: int, handle: Handle):
        self.name = name
        self._number = number
        self._handle = handle
        self._directory = handle.directory
        self._maintainer: Maintainer = handle.directory.maintainer
        self._snapshots = Snapshots(handle.directory, number)
        self._filters = FilterCache()
        self._familiar = PreparedSearchCache()
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
        check_limit(limit)
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
        check_limit(page, "page")
        cursor = None
        while True:
            found = self.scroll(filter=filter, limit=page, cursor=cursor, with_vectors=with_vectors, with_attributes=with_attributes)
            yield from found
            cursor = found.cursor
            if cursor is None:
                return

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
        arms = {"vectors": vectors, "text": text, "fusion": fusion, "candidates": candidates, "prefetch": prefetch}
        wanted = {"filter": filter, "limit": limit, "recall": recall, "exact": exact}
        shown = {"with_attributes": with_attributes, "with_vectors": with_vectors, "explain": explain}
        return self._search_pieces(False, execute.whole, arms | wanted | shown)[0]

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
    ) -> list[Hits]:
        """Run many searches at once, on all cores. All queries share the other arguments, which are those of ``search``.

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

        Returns:
            n results, one for each query.

        Raises:
            VectorDBError: what ``search`` raises.
        """
        arms = {"vectors": vectors, "text": text, "fusion": fusion, "candidates": candidates, "prefetch": prefetch}
        wanted = {"filter": filter, "limit": limit, "recall": recall, "exact": exact}
        shown = {"with_attributes": with_attributes, "with_vectors": with_vectors, "explain": explain}
        return self._search_pieces(True, execute.whole, arms | wanted | shown)

    def _search_pieces(self, batch: bool, take: Callable[[execute.Answers], T], asked: Mapping[str, Any]) -> T:
        """Return ``take(answers)`` of a search, or with ``batch`` of a batch of searches. asked: all arguments of ``search``."""
        fusion = asked["fusion"]
        plain = not batch and type(fusion) is str and fusion == "rrf" and all(asked[name] is value for name, value in _PLAIN)
        with self._snapshots.pin() as view:
            like = asked["vectors"], asked["filter"], asked["limit"], asked["recall"], asked["with_attributes"]
            if plain:
                search = self._familiar.again(view.schema, *like)
                if search is not None:
                    return take(execute.Answers(view, search, self._filters))
            identities = view.snapshot.meta.encoders

            def encode(name: str, spec, texts: Sequence[str]) -> tuple[list, Words]:
                encoder = load_encoder(name, spec, identities[name])
                return encoder.encode_queries(texts), lambda terms: encoder.words_of(texts[0], terms)

            search = make_search(view.schema, self._filters, encode, batch, **asked)
            if plain:
                self._familiar.keep(view.schema, *like, search)
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

        Returns:
            The fusion with weights learned on all queries, and nDCG of each fold: of linear fusion with weights learned on the other
            folds, of rrf, and of each arm alone.

        Raises:
            InvalidArgumentError: an argument is wrong, or there are fewer judged queries than folds.
            VectorDBError: what ``search_batch`` raises.
        """
        return drive(tune(vectors, qrels, text, filter, limit, candidates, recall, folds, seed), self.search_batch)

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
    return attributes, selected(check_selection("with_vectors", with_vectors, view.schema.vectors), view.schema.vectors)
