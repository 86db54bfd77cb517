"""The reading half of a collection of a service, for the blocking client."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack, overload

from ..model.aliases import AsOf, DenseVector, FilterLike, Ids, Selection, SupportsArray, Vector, VectorColumn
from ..model.arguments import like, named
from ..model.boosts import Boost
from ..model.checks import check_count
from ..model.collection_info import CollectionInfo
from ..model.explorations import Exploration, Progress
from ..model.explored import Clusters, Duplicates, Health, Neighbours
from ..model.explored_labels import Axis, Classification, Probe
from ..model.facets import FacetLike, FacetResult
from ..model.mining import mine
from ..model.pseudo import PseudoQueries, pseudo
from ..model.reading import Reading
from ..model.results import Change, Hits, Page, Point
from ..model.schema import Schema
from ..model.search_request import SearchOptions, SearchRequest, takes_options
from ..model.searching import PreparedSearch
from ..model.steps import run_steps
from ..model.tuning import FusionTuning, tune
from ..model.values import Id
from . import calls, changes

if TYPE_CHECKING:
    from .client import Client


class Reads(Reading):
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
        self,
        ids: Id,
        *,
        with_vectors: Selection = False,
        with_attributes: Selection = True,
        with_payload: Selection | None = None,
        as_of: AsOf = None,
        timeout: float | None = None,
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
        timeout: float | None = None,
    ) -> list[Point | None]: ...

    @like(Reading.get)
    @named
    def get(
        self,
        ids: Ids,
        *,
        with_vectors: Selection = False,
        with_attributes: Selection = True,
        with_payload: Selection | None = None,
        as_of: AsOf = None,
        timeout: float | None = None,
    ) -> list[Point | None] | Point | None:
        # aio: large=not is_single_id(ids) and is_large(ids)
        return self._client._run(calls.get(self._remote, ids, with_vectors, with_attributes, with_payload, as_of), timeout)

    def _search(self, request: SearchRequest, vectors: Any, text: Any, batch: bool, timeout: float | None = None) -> Any:
        # aio: large=is_large(request.limit) or (batch and is_large(*lists_in(vectors), *lists_in(text)))
        return self._client._run(calls.search(self._remote, request, vectors, text, batch), timeout)

    @like(Reading.search)
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

    @like(Reading.search_batch)
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

    @like(Reading.prepare, "seconds for each call")
    @takes_options
    def prepare(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, *, timeout: float | None = None, **options: Unpack[SearchOptions]
    ) -> PreparedSearch[Hits, list[Hits]]:
        request = SearchRequest.prepared(options)
        self._client._run(calls.prepare(self._remote, request), timeout)
        return PreparedSearch(request, functools.partial(self._search, timeout=timeout))

    @like(Reading.tune_fusion, "seconds for each call")
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
        timeout: float | None = None,
    ) -> FusionTuning:
        steps = tune(vectors, qrels, text, filter, limit, candidates, recall, folds, seed, attributes)
        return run_steps(steps, lambda arguments: self.search_batch(**arguments, timeout=timeout))

    @like(Reading.count)
    @named
    def count(self, filter: FilterLike | None = None, *, as_of: AsOf = None, timeout: float | None = None) -> int:
        return self._client._run(calls.count(self._remote, filter, as_of), timeout)

    @like(Reading.facets)
    @named
    def facets(
        self, facets: FacetLike, *, filter: FilterLike | None = None, as_of: AsOf = None, timeout: float | None = None
    ) -> dict[str, FacetResult]:
        return self._client._run(calls.facets(self._remote, facets, filter, as_of), timeout)

    @like(Reading.aggregate)
    @named
    def aggregate(
        self,
        functions: Mapping[str, str | Sequence[str]],
        *,
        filter: FilterLike | None = None,
        as_of: AsOf = None,
        timeout: float | None = None,
    ) -> dict[str, dict[str, Any]]:
        return self._client._run(calls.aggregate(self._remote, functions, filter, as_of), timeout)

    @like(Reading.scroll)
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
        timeout: float | None = None,
    ) -> Page:
        # aio: large=is_large(limit)
        selected = (order_by, with_vectors, with_attributes, with_payload, as_of)
        return self._client._run(calls.scroll(self._remote, filter, limit, cursor, *selected), timeout)

    @like(Reading.iterate, "seconds for each page")
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
        timeout: float | None = None,
    ) -> Iterator[Point]:
        check_count("page", page)
        cursor = None
        selected = {"with_vectors": with_vectors, "with_attributes": with_attributes, "with_payload": with_payload, "as_of": as_of}
        while True:
            points = self.scroll(filter=filter, limit=page, cursor=cursor, order_by=order_by, **selected, timeout=timeout)
            yield from points
            cursor = points.cursor
            if cursor is None:
                return

    @like(Reading.neighbours, without="has no limit")
    @named
    def neighbours(
        self,
        field: str,
        k: int = 10,
        *,
        filter: FilterLike | None = None,
        recall: float | None = None,
        exact: bool = False,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Neighbours:
        return self._client._explore(
            self._remote, Exploration.of("neighbours", field, filter, progress, k=k, recall=recall, exact=exact), timeout
        )

    @like(Reading.duplicates, without="has no limit")
    @named
    def duplicates(
        self,
        field: str,
        min_score: float | None = None,
        *,
        radius: float | None = None,
        filter: FilterLike | None = None,
        limit: int = 10_000,
        recall: float | None = None,
        exact: bool = False,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Duplicates:
        options = {"min_score": min_score, "radius": radius, "limit": limit, "recall": recall, "exact": exact}
        return self._client._explore(self._remote, Exploration.of("duplicates", field, filter, progress, **options), timeout)

    @like(Reading.health, without="has no limit")
    @named
    def health(
        self,
        field: str,
        *,
        filter: FilterLike | None = None,
        sample: int = 20_000,
        k: int = 10,
        seed: int = 0,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Health:
        return self._client._explore(
            self._remote, Exploration.of("health", field, filter, progress, sample=sample, k=k, seed=seed), timeout
        )

    @like(Reading.cluster, without="has no limit")
    @named
    def cluster(
        self,
        field: str,
        k: int | None = None,
        *,
        max_k: int = 64,
        filter: FilterLike | None = None,
        sample: int = 20_000,
        central: int = 5,
        with_centres: bool = False,
        seed: int = 0,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Clusters:
        options = {"k": k, "max_k": max_k, "sample": sample, "central": central, "with_centres": with_centres, "seed": seed}
        return self._client._explore(self._remote, Exploration.of("cluster", field, filter, progress, **options), timeout)

    @like(Reading.axis, without="has no limit")
    @named
    def axis(
        self,
        field: str,
        low: Sequence[Id | DenseVector] | None = None,
        high: Sequence[Id | DenseVector] | None = None,
        *,
        low_text: Sequence[str] | None = None,
        high_text: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> Axis:
        options = {"low": low, "high": high, "low_text": low_text, "high_text": high_text}
        return self._client._explore(self._remote, Exploration.of("axis", field, **options), timeout)

    @like(Reading.probe, without="has no limit")
    @named
    def probe(
        self,
        field: str,
        positives: Sequence[Id | DenseVector],
        negatives: Sequence[Id | DenseVector] | None = None,
        k: int = 32,
        *,
        filter: FilterLike | None = None,
        sample: int = 500,
        seed: int = 0,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Probe:
        options = {"positives": positives, "negatives": negatives, "k": k, "sample": sample, "seed": seed}
        return self._client._explore(self._remote, Exploration.of("probe", field, filter, progress, **options), timeout)

    @like(Reading.classify, without="has no limit")
    @named
    def classify(
        self,
        field: str,
        label: str,
        *,
        method: str = "nearest",
        k: int = 10,
        filter: FilterLike | None = None,
        sample: int = 10_000,
        seed: int = 0,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Classification:
        options = {"label": label, "method": method, "k": k, "sample": sample, "seed": seed}
        return self._client._explore(self._remote, Exploration.of("classify", field, filter, progress, **options), timeout)

    @like(Reading.mine_negatives, "seconds for each call")
    def mine_negatives(
        self,
        field: str,
        queries: VectorColumn | Sequence[str],
        relevant: Sequence[Any],
        *,
        n: int = 5,
        candidates: int = 100,
        margin: float = 0.05,
        filter: FilterLike | None = None,
        recall: float | None = None,
        timeout: float | None = None,
    ) -> list[list[tuple[Id, float]]]:
        steps = mine(self.schema, field, queries, relevant, n, candidates, margin, filter, recall)
        return run_steps(steps, lambda arguments: self.search_batch(**arguments, timeout=timeout))

    @like(Reading.pseudo_queries, "seconds for each call")
    def pseudo_queries(
        self,
        field: str,
        *,
        kind: str = "ict",
        n: int = 300,
        seed: int = 0,
        filter: FilterLike | None = None,
        timeout: float | None = None,
    ) -> PseudoQueries:
        steps = pseudo(self.schema, field, kind, n, seed, filter)
        return run_steps(steps, lambda read: getattr(self, read[0])(**read[1], timeout=timeout))

    @like(Reading.terms)
    def terms(self, field: str, *, after: int | None = None, limit: int = 10_000, timeout: float | None = None) -> dict[int, str]:
        return self._client._run(calls.terms(self._remote, field, after, limit), timeout)

    @like(Reading.report)
    @named
    def report(self, field: str, *, timeout: float | None = None) -> dict[str, Any]:
        return self._client._run(calls.report(self._remote, field), timeout)

    @like(Reading.migration)
    @named
    def migration(self, field: str, *, timeout: float | None = None) -> dict[str, Any]:
        return self._client._run(calls.migration(self._remote, field), timeout)

    @like(Reading.info)
    def info(self, *, timeout: float | None = None) -> CollectionInfo:
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
        request = calls.changes(self._remote, since, follow, with_vectors, with_attributes)
        return self._client._stream("Changes", request, changes.Assembly(), timeout, ends_quietly=follow)
