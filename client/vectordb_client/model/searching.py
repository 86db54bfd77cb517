"""The methods of a collection that search, with their documentation. The embedded collection inherits them; a client adds timeouts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import CoroutineType
from typing import Any, Generic, TypeVar, Unpack

from ..errors import InvalidArgumentError
from .aliases import FilterLike, Vector, VectorColumn
from .arguments import named
from .boosts import Boost
from .results import Hits
from .schema import Schema
from .search_request import SearchOptions, SearchRequest, takes_options
from .steps import run_steps
from .tuning import FusionTuning, tune
from .values import Id

One = TypeVar("One")
Many = TypeVar("Many")


class PreparedSearch(Generic[One, Many]):
    """A search whose options were checked once, made by ``Collection.prepare``. Call it with the queries.

    Of an asyncio collection the hits have to be awaited: ``await prepared({"v": query})``.

    Example:
        ```python
        prepared = docs.prepare(filter=F("year") >= 2020, limit=5)
        hits = prepared({"v": query})
        several = prepared.batch({"v": queries})
        ```
    """

    def __init__(self, request: SearchRequest, search: Callable[[SearchRequest, Any, Any, bool], Any]):
        self.request = request
        self._search = search

    @named
    def __call__(self, vectors: Mapping[str, Vector] | None = None, *, text: str | Mapping[str, str] | None = None) -> One:
        """Search for one query. The arguments, the result and the errors are those of ``Collection.search``."""
        return self._hits(vectors, text, False)

    @named
    def batch(
        self, vectors: Mapping[str, VectorColumn] | None = None, *, text: Sequence[str] | Mapping[str, Sequence[str]] | None = None
    ) -> Many:
        """Search for n queries at once. The arguments, the result and the errors are those of ``Collection.search_batch``."""
        return self._hits(vectors, text, True)

    def _hits(self, vectors: Any, text: Any, batch: bool) -> Any:
        try:
            hits = self._search(self.request, vectors, text, batch)
        except InvalidArgumentError as error:
            _name_prepared(error)
            raise
        return _awaited(hits) if type(hits) is CoroutineType else hits

    def __repr__(self) -> str:
        return repr(self.request).replace("SearchRequest", "PreparedSearch", 1)


async def _awaited(hits: Awaitable[Any]) -> Any:
    try:
        return await hits
    except InvalidArgumentError as error:
        _name_prepared(error)
        raise


def _name_prepared(error: InvalidArgumentError) -> None:
    """Let an error about queries name the methods of ``PreparedSearch`` in the place of those of a collection."""
    text = error.message.replace("several queries write search_batch", "several queries write prepared.batch")
    error.message = text.replace("one query write search", "one query write prepared")
    error.args = (error.message,)


class Searching:
    """``search``, ``search_batch``, ``prepare`` and ``tune_fusion``. A subclass implements ``_search``."""

    schema: Any

    def _search(self, request: SearchRequest, vectors: Any, text: Any, batch: bool) -> Any:
        """The hits of one query, or with ``batch`` a list with the hits of each of n queries."""
        raise NotImplementedError

    @takes_options
    def search(
        self,
        vectors: Mapping[str, Vector] | None = None,
        *,
        text: str | Mapping[str, str] | None = None,
        **options: Unpack[SearchOptions],
    ) -> Hits:
        """Find the best ``limit`` points for a query of one or several arms. An arm is a vector field with its query.

        Args:
            vectors: field → query. Dense: ``(dim,)`` numbers (list, array, tensor, Series). Sparse: ``{term: weight}``, ``(indices,
                values)`` or a list of ``(term, weight)``. Multi-vector: ``(rows, dim)`` numbers.
            text: a string, encoded for every field that has an encoder. Or a mapping from field to string.
            options: those of ``SearchOptions``.

        Returns:
            The hits, best first: ``min(limit, number of matching points)`` of them, or fewer after a prefetch.

        Raises:
            InvalidArgumentError: a query or an option is not valid, for example ``(dim,)`` numbers of another dimension.
            SchemaError: a field is not in the schema.
            FilterError: the filter can't be read, or doesn't fit the schema.
            EncoderError: the text can't be encoded.
            PreconditionError: the state that a cursor continues isn't stored any more.

        Example:
            ```python
            hits = docs.search({"v": query}, filter=F("year") >= 2020, limit=5)
            hits = docs.search(text="a short question", recall=0.99)
            hits = docs.search({"v": query}, text={"terms": "exact words"}, fusion=RRF(weights={"terms": 2.0}), explain=True)
            print(hits.plan)
            ```
        """
        return self._search(SearchRequest.of(options), vectors, text, False)

    @takes_options
    def search_batch(
        self,
        vectors: Mapping[str, VectorColumn] | None = None,
        *,
        text: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        **options: Unpack[SearchOptions],
    ) -> list[Hits]:
        """Run many searches at once, on all cores, and of a service in one message. All queries share the options of ``search``.

        Args:
            vectors: field → n queries: an ``(n, dim)`` array, a sparse matrix of n rows, or a list of n queries.
            text: n strings, or a mapping from field to n strings.
            options: those of ``SearchOptions``.

        Returns:
            n results, one for each query.

        Raises:
            VectorDBError: what ``search`` raises.
        """
        return self._search(SearchRequest.of(options), vectors, text, True)

    @takes_options
    def prepare(self, **options: Unpack[SearchOptions]) -> PreparedSearch[Hits, list[Hits]]:
        """Check the options of a search once, to run it many times: ``prepared({"v": query})``.

        A prefetch has queries of its own, so it can't be prepared.

        Args:
            options: those of ``SearchOptions``.

        Returns:
            The prepared search. It sees later writes, like any search.

        Raises:
            InvalidArgumentError: an option is not valid, or ``prefetch`` is given.
            FilterError: the filter can't be read, or doesn't fit the schema.
        """
        request = SearchRequest.prepared(options)
        self._search(request, no_queries(self.schema), None, True)  # checks the options against the schema
        return PreparedSearch(request, self._search)

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
        attributes: Mapping[str, Boost] | None = None,
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
            attributes: name → ``Decay(…)``, ``Value(…)`` or ``If(…)``: attribute arms of ``Linear``, whose weights are learned too.

        Returns:
            The fusion with weights learned on all queries, and nDCG of each fold: of linear fusion with weights learned on the other
            folds, of rrf, and of each arm alone.

        Raises:
            InvalidArgumentError: an argument is wrong, or there are fewer judged queries than folds.
            VectorDBError: what ``search_batch`` raises.
        """
        steps = tune(vectors, qrels, text, filter, limit, candidates, recall, folds, seed, attributes)
        return run_steps(steps, lambda arguments: self.search_batch(**arguments))


def no_queries(schema: Schema) -> dict[str, list]:
    """The queries of an empty batch that names every vector field. Its search checks the options and finds nothing."""
    return {name: [] for name in schema.vectors}
