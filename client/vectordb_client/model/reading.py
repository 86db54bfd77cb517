"""The methods of a collection that read, with their documentation. The embedded collection inherits them; a client adds timeouts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

from .access import COLLECTION_METHODS, Hinting
from .aliases import AsOf, FilterLike, Ids, Selection, SupportsArray
from .arguments import named
from .checks import check_count, check_paths
from .collection_info import CollectionInfo
from .exploring import Exploring
from .facets import FacetLike, FacetResult
from .history import check_as_of
from .page_options import check_order
from .results import Change, Page, Point
from .searching import Searching
from .values import Id, check_id


class Reading(Hinting, Searching, Exploring):
    """Operators, searches, and the methods that read points.

    A subclass implements ``count``, ``facets``, ``aggregate``, ``terms``, ``info`` and the steps below. Or it replaces the methods that
    call a step.
    """

    _meant = COLLECTION_METHODS
    _get: Callable[..., Any]
    _scroll: Callable[..., Page]
    _changes: Callable[..., Iterator[Change]]

    @overload
    def get(
        self,
        ids: Id,
        *,
        with_vectors: Selection = False,
        with_attributes: Selection = True,
        with_payload: Selection | None = None,
        as_of: AsOf = None,
    ) -> Point | None: ...

    @overload
    def get(
        self,
        ids: Iterable[Id] | SupportsArray,
        *,
        with_vectors: Selection = False,
        with_attributes: Selection = True,
        with_payload: Selection | None = None,
        as_of: AsOf = None,
    ) -> list[Point | None]: ...

    @named
    def get(
        self,
        ids: Ids,
        *,
        with_vectors: Selection = False,
        with_attributes: Selection = True,
        with_payload: Selection | None = None,
        as_of: AsOf = None,
    ) -> list[Point | None] | Point | None:
        """Read points by id.

        Args:
            ids: one id or several. The ids 1 and "1" are different.
            with_vectors: True for all vector fields, a list of fields, or False for none.
            with_attributes: True for all attributes and the payload, a list of attributes, or False for neither.
            with_payload: True for the payload, a list of paths such as ``["title", "meta.page"]`` for a part of it, or False for none.
                None follows ``with_attributes``: the payload, unless that is False.
            as_of: read the collection as it was: a sequence number, or a moment (a datetime with a time zone, or ISO text), which means
                the last write until then. The version of a point that was changed since is None where the change log doesn't reach back.

        Returns:
            For one id the point, or None if it doesn't exist. For several ids a list in the order of the ids.

        Raises:
            InvalidArgumentError: an id is not valid, a name is not in the schema, or ``as_of`` is in the future or has no time zone.
            NotFoundError: ``as_of`` is older than the history of the collection.
            PreconditionError: ``as_of`` of a collection that keeps no history.
        """
        state = check_as_of("as_of", as_of)
        return self._get(ids, with_vectors, with_attributes, check_paths("with_payload", with_payload), state)

    def count(self, filter: FilterLike | None = None, *, as_of: AsOf = None) -> int:
        """Count points.

        Args:
            filter: count the points that match; None counts all points.
            as_of: as in ``get``.

        Returns:
            The number of points.

        Raises:
            FilterError: the filter can't be read, or doesn't fit the schema.
        """
        raise NotImplementedError

    def facets(self, facets: FacetLike, *, filter: FilterLike | None = None, as_of: AsOf = None) -> dict[str, FacetResult]:
        """Count the points that have each value of attributes, or a value in each of some ranges. The counts are exact.

        Args:
            facets: names of attributes, ``Facet`` and ``Range``, one or a list of at most 64.
            filter: count only points that match; None counts all points.
            as_of: as in ``get``.

        Returns:
            The name of each facet, which is that of its attribute unless it has its own → its result.

        Raises:
            SchemaError: an attribute doesn't exist, or its type doesn't support the facet.
            InvalidArgumentError: a facet is not valid.
            FilterError: the filter can't be read, or doesn't fit the schema.

        Example:
            ```python
            found = docs.facets(["brand", Range("price", [0, 10, 100, None])], filter="in_stock = true")
            for value, count in found["brand"]:
                print(value, count)
            docs.facets(Facet("brand", limit=20, prefix="ac"))
            ```
        """
        raise NotImplementedError

    def aggregate(
        self, functions: Mapping[str, str | Sequence[str]], *, filter: FilterLike | None = None, as_of: AsOf = None
    ) -> dict[str, dict[str, Any]]:
        """Compute numbers of all values of attributes. They are exact, and don't depend on the order of points.

        Functions: "count" (points that have a value), "distinct" (different values), "min", "max", "sum", "mean", and percentiles such as
        "p50" or "p99.9", between two values by linear interpolation. Of arrays, every element is a value. Int and Float have all of them,
        Datetime all but "sum", Keyword, Uuid and Bool "count", "distinct", "min" and "max", Geo "count" and "distinct", Text "count".

        Args:
            functions: attribute → the name of a function, or a list of names.
            filter: only points that match; None takes all points.
            as_of: as in ``get``.

        Returns:
            attribute → function → result. Without values, a sum is 0, and "min", "max", "mean" and percentiles are None. A sum that exceeds
            all floats is None.

        Raises:
            SchemaError: an attribute doesn't exist, or its type doesn't have the function.
            InvalidArgumentError: there is no such function.
            FilterError: the filter can't be read, or doesn't fit the schema.

        Example:
            ```python
            found = docs.aggregate({"price": ["min", "max", "mean", "p95"], "date": "max"}, filter="in_stock = true")
            print(found["price"]["mean"])
            ```
        """
        raise NotImplementedError

    @named
    def scroll(
        self,
        *,
        filter: FilterLike | None = None,
        limit: int = 100,
        cursor: str | None = None,
        order_by: Sequence[str] | str | None = None,
        with_vectors: Selection = False,
        with_attributes: Selection = True,
        with_payload: Selection | None = None,
        as_of: AsOf = None,
    ) -> Page:
        """Read one page of points in the order of ids: integers, then strings, then UUIDs. Or in the order of attributes.

        The order is stable under writes: a point that exists during the whole scroll appears exactly once. Ordered by attributes, the pages
        show the collection as it was at the first page; points that were deleted since are left out.

        Args:
            filter: only points that match.
            limit: the number of points in a page. A page of a service has fewer if more don't fit a message.
            cursor: ``page.cursor`` of the page before; None starts from the beginning.
            order_by: attributes that order the points; "-" in front: descending. Null comes last, and of equal points the older row first.
            with_vectors: as in ``get``.
            with_attributes: as in ``get``.
            with_payload: as in ``get``.
            as_of: as in ``get``; the same for every page.

        Returns:
            The page. Its ``cursor`` is None if it is the last one.

        Raises:
            InvalidArgumentError: the limit or the cursor is not valid.
            SchemaError: ``order_by`` names an attribute that isn't in the schema, or has no order.
            PreconditionError: the state that a cursor of an ordered scroll continues isn't stored any more.
            FilterError: the filter can't be read, or doesn't fit the schema.

        Example:
            ```python
            page = docs.scroll(limit=100)
            while page.cursor is not None:
                page = docs.scroll(limit=100, cursor=page.cursor)
            ```
        """
        order = None if order_by is None else check_order("order_by", order_by)
        selected = (with_vectors, with_attributes, check_paths("with_payload", with_payload))
        return self._scroll(filter, limit, cursor, order, *selected, check_as_of("as_of", as_of))

    def iterate(
        self,
        *,
        filter: FilterLike | None = None,
        page: int = 1000,
        order_by: Sequence[str] | str | None = None,
        with_vectors: Selection = False,
        with_attributes: Selection = True,
        with_payload: Selection | None = None,
        as_of: AsOf = None,
    ) -> Iterator[Point]:
        """Read all points, page by page, in the order of ``scroll``. ``for point in docs`` does the same.

        Args:
            filter: only points that match.
            page: the number of points read at a time.
            order_by: attributes that order the points, as in ``scroll``.
            with_vectors: as in ``get``.
            with_attributes: as in ``get``.
            with_payload: as in ``get``.
            as_of: as in ``get``.

        Yields:
            The points.

        Raises:
            VectorDBError: what ``scroll`` raises.
        """
        check_count("page", page)
        cursor = None
        selected = {"with_vectors": with_vectors, "with_attributes": with_attributes, "with_payload": with_payload, "as_of": as_of}
        while True:
            points = self.scroll(filter=filter, limit=page, cursor=cursor, order_by=order_by, **selected)
            yield from points
            cursor = points.cursor
            if cursor is None:
                return

    def terms(self, field: str, *, after: int | None = None, limit: int = 10_000) -> dict[int, str]:
        """Read a page of the words of a sparse field's terms, in ascending order of terms.

        Args:
            field: a sparse vector field.
            after: the page starts behind this term; None starts from the beginning.
            limit: the number of terms in the page, 1 to 100,000. A page of a service has fewer if more don't fit a message.

        Returns:
            Term → word. An empty page is the end.

        Raises:
            SchemaError: the field is not a sparse field.
            InvalidArgumentError: ``after`` or ``limit`` is not valid.
        """
        raise NotImplementedError

    def report(self, field: str) -> dict[str, Any]:
        """What is known of a derived field: whether it is ready, what it was fitted to, and how well it finds neighbours.

        Args:
            field: the name of the derived field.

        Returns:
            field, by (the derivation) and its options, dim and source_dim (dimensions of the field and of its source), and state: "ready";
            "waiting": it is not fitted, for lack of points; "deriving": its first vectors are being made; "refitting": new vectors are
            being made, and the old ones are searched meanwhile. share: how much of that is done, 0 to 1.

            recall_at_10 is the mean share of the ten nearest points by the source that are among the ten nearest by the field, without any
            rescoring. Queries are held_out points, which the field was not fitted to; they are searched among sample points. Of a
            derivation that learns nothing this is measured in the call, with up to 5,000 points.

            A sparse field also has recall_by_terms: the same with queries of fewer terms (their number, as a string → recall). Its dim is
            the number of different terms. ``CSR`` has explained, the share of the variance that the codes hold, and dead, the share of the
            terms that no point of the sample has. ``Concepts`` has encoder, the identity of what made the vectors of the words.

            ``SAE`` has, besides explained and dead: residual, the share of the squared length of held-out vectors that their concepts don't
            explain; families, lists of concepts whose directions have a cosine of at least 0.7 or at most -0.7; and concepts: number (as a
            string) → label, named (whether a user gave it that name) and frequency, the share of the sample that has it. lost: names of
            the fit before whose concepts have no match in this one, by their old numbers.

            A fitted field also has version (how often it was fitted), sequence (the state that it was fitted to), variance (the share of
            the variance that its dimensions hold), and deleted_since: points of the sample that were deleted or replaced since.

        Raises:
            SchemaError: there is no such field.
            InvalidArgumentError: the field is not derived.
        """
        raise NotImplementedError

    def migration(self, field: str) -> dict[str, Any]:
        """How far the migration of a field is (``migrate``).

        Args:
            field: the name of a vector field.

        Returns:
            field, and state: "none": no migration is under way; "encoding" or "mapping": new vectors are being made; "indexing": all but a
            few are, and their index is being built; then the field gets them. answers: the identity of the encoder whose vectors searches
            use. mapped: live points whose vector was mapped by an earlier migration, and was not written again.

            While a migration is under way also encoder (as it was named), identity and dim of the new encoder; rows with a vector, deleted
            ones that are still stored among them; share of the rows that are done, 0 to 1; rows_encoded and rows_mapped, of these; and
            report, the facts that ``migrate`` returns.

        Raises:
            SchemaError: there is no such field.
        """
        raise NotImplementedError

    def info(self) -> CollectionInfo:
        """Schema, counts, sequence number and statistics of the fields. ``print(docs.info())`` shows them as a short text.

        A client also reads the schema again.
        """
        raise NotImplementedError

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
            follow: wait for further changes, until the timeout passes or the database or client is closed.
            with_vectors: add the written points with these vector fields: True, False or a list of names.
            with_attributes: add the written points with these attributes and the payload: True, False or a list of names.
            timeout: seconds; None has no limit.

        Yields:
            One Change for each batch.

        Raises:
            NotFoundError: changes that far back are not kept (field "since"). By default the newest 65,536 batches are kept, at most 64
                MiB and 30 days (longer for ``keep_history``); a purge also removes the changes of deleted points.
            InvalidArgumentError: ``since`` is higher than the newest sequence number.
            DeadlineError: the timeout passed without ``follow``.
            LimitError: the service answers as many streams as it may.
            UnavailableError: the service ended.
        """
        return self._changes(since, follow, with_vectors, with_attributes, timeout)

    def __len__(self) -> int:
        """The number of points: ``count()``."""
        return self.count()

    def __contains__(self, id: object) -> bool:
        """Whether there is a point with this id. Raises InvalidArgumentError for a value that can't be an id."""
        return self.get(check_id(id), with_attributes=False) is not None

    def __iter__(self) -> Iterator[Point]:
        """All points in id order, without vectors, read page by page: ``iterate()``."""
        return self.iterate()

    def __bool__(self) -> bool:
        return True  # an empty collection is not a missing one
