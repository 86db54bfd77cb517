"""The reading half of a collection: get, count, scroll, search, changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from vectordb_client.model.aggregates import check_aggregates
from vectordb_client.model.aliases import AsOf, FilterLike, Ids, Selection
from vectordb_client.model.arguments import named
from vectordb_client.model.batch_ids import check_each_id
from vectordb_client.model.collection_info import CollectionInfo
from vectordb_client.model.explorations import Exploration
from vectordb_client.model.facets import FacetLike, FacetResult, check_against, check_facets
from vectordb_client.model.history import check_as_of
from vectordb_client.model.reading import Reading
from vectordb_client.model.rerank import late_of
from vectordb_client.model.results import Page, Point
from vectordb_client.model.schema import Schema
from vectordb_client.model.search_request import SearchRequest
from vectordb_client.model.steps import run_steps
from vectordb_client.model.terms import check_page, check_sparse
from vectordb_client.model.values import Id, check_id, is_single_id

from .engine import deriving, migrating
from .engine.directory import Handle
from .engine.snapshot import Snapshots
from .filters.cache import FilterCache
from .maintenance import Maintainer, derive
from .query import counts, execute, read
from .query.changes import changes
from .query.info import describe
from .query.pieces import PieceReader
from .query.row_filter import RowFilter


class Reads(Reading):
    """What a collection is opened with, and its methods that read. ``Collection`` adds those that write."""

    def __init__(self, name: str, number: int, handle: Handle):
        self.name = name
        self._number = number
        self._handle = handle
        self._directory = handle.directory
        self._maintainer: Maintainer = handle.directory.maintainer
        self._snapshots = Snapshots(handle.directory, number)
        self._filters = FilterCache()
        handle.directory.memory.add_cache(self._filters)
        self.pieces = PieceReader(self._snapshots, self._filters)  # of the service
        self._direct = self.pieces.direct.search
        self._worded: dict[tuple[str, int], np.ndarray] = {}  # (field, number) → terms (ascending) whose words are known to be stored

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

    def _get(
        self, ids: Ids, with_vectors: Selection, with_attributes: Selection, with_payload: Any, as_of: Any
    ) -> list[Point | None] | Point | None:
        single = is_single_id(ids)
        asked = [check_id(ids)] if single else check_each_id(ids)

        def take(exists: list[bool], pieces: Iterator[list[Point]]) -> list[Point | None]:
            points = chain.from_iterable(pieces)
            return [next(points) if one else None for one in exists]

        selected = {"with_vectors": with_vectors, "with_attributes": with_attributes, "with_payload": with_payload, "as_of": as_of}
        points = self.pieces.get(asked, take, **selected)
        return points[0] if single else points

    @named
    def count(self, filter: FilterLike | None = None, *, as_of: AsOf = None) -> int:
        state = check_as_of("as_of", as_of)
        with self._snapshots.pin() as present:
            view, filters = self.pieces.histories.at(present, state)
            return read.count(view, self._filters.bind(filter, view.schema), filters)

    @named
    def facets(self, facets: FacetLike, *, filter: FilterLike | None = None, as_of: AsOf = None) -> dict[str, FacetResult]:
        asked, state = check_facets("facets", facets), check_as_of("as_of", as_of)
        with self._snapshots.pin() as present:
            check_against(present.schema, asked)
            view, filters = self.pieces.histories.at(present, state)
            rows = RowFilter(view, self._filters.bind(filter, view.schema), filters)
            return counts.facets_of(view, rows, asked, filters)

    @named
    def aggregate(
        self, functions: Mapping[str, str | Sequence[str]], *, filter: FilterLike | None = None, as_of: AsOf = None
    ) -> dict[str, dict[str, Any]]:
        asked, state = check_aggregates(functions), check_as_of("as_of", as_of)
        with self._snapshots.pin() as present:
            view, filters = self.pieces.histories.at(present, state)
            rows = RowFilter(view, self._filters.bind(filter, view.schema), filters)
            return counts.aggregates_of(view, rows, asked, filters)

    def _scroll(
        self,
        filter: Any,
        limit: int,
        cursor: str | None,
        order: Any,
        with_vectors: Selection,
        with_attributes: Selection,
        with_payload: Any,
        as_of: Any,
    ) -> Page:
        def take(pieces: Iterator[list[Point]], more: bool, cursor_at: Callable[[Id], str]) -> Page:
            points = tuple(chain.from_iterable(pieces))
            return Page(points, cursor_at(points[-1].id) if more else None)

        selected = {"with_vectors": with_vectors, "with_attributes": with_attributes, "with_payload": with_payload, "as_of": as_of}
        return self.pieces.scroll(take, filter, limit, cursor, order, **selected)

    def _search(self, request: SearchRequest, vectors: Any, text: Any, batch: bool) -> Any:
        late = late_of(request, SearchRequest.of)
        if late is not None:
            return late.results(self._search(late.request, vectors, text, batch), vectors, text, batch)
        if text is None and not batch:
            hits = self._direct(request, vectors) if request.group_by is None else self.pieces.direct_groups.search(request, vectors)
            if hits is not None:
                return hits
        results = self.pieces.search_anything(request, vectors, text, batch, execute.whole if batch else execute.page)
        return results if batch else results[0]

    def _explore(self, exploration: Exploration) -> Any:
        steps, report = self.pieces.explore(exploration), exploration.progress
        return run_steps(steps, lambda step: None if report is None else report(*step))

    def terms(self, field: str, *, after: int | None = None, limit: int = 10_000) -> dict[int, str]:
        after, limit = check_page(after, limit)
        with self._snapshots.pin() as view:
            return deriving.page_of_words(view.txn, self._number, view.fields[check_sparse(view.schema, field)], after, limit)

    @named
    def report(self, field: str) -> dict[str, Any]:
        with self._snapshots.pin() as view:
            derive.check_fitted(view.schema, field, learned=False)
            return derive.report(view, field)

    @named
    def migration(self, field: str) -> dict[str, Any]:
        with self._snapshots.pin() as view:
            view.schema.vector(field)
            return migrating.facts(view, field)

    def info(self) -> CollectionInfo:
        with self._snapshots.pin() as view:
            facts = self._maintainer.status(self._number) | {"pending": self._maintainer.pending(view)}
            return describe(view, self.name, facts)

    def _changes(self, since: int, follow: bool, with_vectors: Selection, with_attributes: Selection, timeout: float | None):
        arguments = {"follow": follow, "with_vectors": with_vectors, "with_attributes": with_attributes, "timeout": timeout}
        return changes(self._snapshots, since=since, **arguments)
