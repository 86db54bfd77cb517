"""Bind a search request to a collection: its filter in canonical form, its queries as arms. The result is a ``Search``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from vectordb_client.errors import InvalidArgumentError, shown
from vectordb_client.model.checks import DEFAULT_RECALL, check_names, check_selection
from vectordb_client.model.filter_nodes import Filter
from vectordb_client.model.ranking import Fusion, Prefetch, checked_fusion, default_candidates
from vectordb_client.model.schema import Schema, VectorField
from vectordb_client.model.search_request import SearchRequest
from vectordb_client.model.vectors import query_fields, query_texts, query_vector, query_vectors

from ..engine.encoding import load_encoder
from ..engine.snapshot import View
from ..filters.cache import FilterCache
from .highlight import check_highlight
from .near_words import NearQueries, can_be_near, wants_near

MAX_KEPT = 512  # requests kept by ``RequestCache``

Words = Callable[[Sequence[int]], dict[int, str]]
Step = Callable[[View, "Search", tuple], tuple]
# Option → a step that changes the ranking of a query, after fusion and before the records are fetched: (view, search, ranking) → ranking.
# It runs where the option isn't the default; its value is ``search.request.NAME``. Steps run in the order of this table.
RANKING_STEPS: dict[str, Step] = {}


@dataclass(slots=True)
class Arm:
    """One vector field of a search, with one query vector for each query of a batch. words: a function from the term ids of the first
    query to their words; None where the query was given as a vector. texts: of the queries, where they were given as texts.
    """

    name: str
    spec: VectorField
    queries: Sequence[Any]
    words: Words | None = None
    texts: Sequence[str] | None = None

    def of_query(self, q: int) -> Arm:
        """The arm with the q-th query of a batch alone."""
        texts = None if self.texts is None else self.texts[q : q + 1]
        return Arm(self.name, self.spec, self.queries[q : q + 1], self.words if q == 0 else None, texts)


class Search(NamedTuple):
    """A request bound to a schema, with its queries; or a prefetch stage of one.

    queries: the number of queries in the batch. request: what was asked for. candidates: the number of each arm's best rows that are fused.
    exact: results must be exact; dense fields are then scanned. recall: the target of each arm, the predicted mean share of the true best
    rows that it finds; 1.0 if ``exact``. proven: linear fusion must prove its result. prefetch: the stage before this one, with the same
    queries and filter; this stage ranks only its hits. steps: those of ``RANKING_STEPS`` that this search takes.
    """

    arms: tuple[Arm, ...]
    queries: int
    request: SearchRequest
    filter: Filter | None
    limit: int
    exact: bool
    recall: float
    fusion: Fusion
    candidates: int
    attributes: bool | Sequence[str]
    vectors: Sequence[str]
    explain: bool
    proven: bool
    steps: tuple[Step, ...] = ()
    prefetch: Search | None = None

    def with_arms(self, arms: tuple[Arm, ...]) -> Search:
        """The same search for other queries. ``arms`` and ``queries`` are the first two fields."""
        return tuple.__new__(Search, (arms, len(arms[0].queries), *self[2:]))  # a third of the cost of ``_replace``

    def with_recall(self, recall: float) -> Search:
        """The same search with another target for its arms."""
        return tuple.__new__(Search, (*self[:RECALL], recall, *self[RECALL + 1 :]))

    def of_query(self, q: int) -> Search:
        """The search of the q-th query of a batch alone."""
        arms = tuple([arm.of_query(q) for arm in self.arms])
        inner = None if self.prefetch is None else self.prefetch.of_query(q)
        return self._replace(arms=arms, queries=1, prefetch=inner)


RECALL = Search._fields.index("recall")


class RequestCache:
    """Requests bound to the schema of a collection, so that a search that differs from an earlier one only in its queries checks only
    these.
    """

    def __init__(self, filters: FilterCache):
        self._filters = filters
        self._bound: tuple[Schema | None, dict[SearchRequest, Search]] = (None, {})

    def search(self, view: View, request: SearchRequest, vectors: Any, text: Any, batch: bool) -> Search:
        """The search for one query, or with ``batch`` for many.

        Raises InvalidArgumentError, SchemaError, FilterError or EncoderError, which name the field and the value.
        """
        schema, kept = self._bound
        bound = kept.get(request) if schema is view.schema else None
        if bound is None:
            bound = _bind(request, view.schema, self._filters)
            if request.reusable:
                if schema is not view.schema or len(kept) >= MAX_KEPT:
                    self._bound = (view.schema, kept := {})
                kept[request] = bound
        near = NearQueries(view, request, self._filters) if wants_near(request) else None
        if request.prefetch is not None:
            bound = _with_stages(view, bound, request.prefetch, batch, near)
        search = _checked(bound.with_arms(_arms(view, vectors, text, batch, near)))
        if near is not None and search.queries:  # ``prepare`` checks its options with none
            near.check_used()
        return search


def _bind(request: SearchRequest, schema: Schema, filters: FilterCache) -> Search:
    """A search without queries."""
    exact = request.exact or request.recall == 1.0
    check_highlight(request.highlight, schema)
    return Search(
        arms=(),
        queries=0,
        request=request,
        filter=filters.bind(request.filter, schema),
        limit=request.limit,
        exact=exact,
        recall=1.0 if exact else DEFAULT_RECALL if request.recall is None else request.recall,
        fusion=checked_fusion(request.fusion),
        candidates=_candidates(request),
        attributes=check_selection("with_attributes", request.with_attributes, schema.attributes),
        vectors=check_names("with_vectors", request.with_vectors, schema.vectors),
        explain=request.explain,
        proven=exact or request.recall is None,
        steps=tuple([step for name, step in RANKING_STEPS.items() if name in request.changed()]),
    )


def _with_stages(view: View, search: Search, prefetch: Prefetch, batch: bool, near: NearQueries | None) -> Search:
    """The search with the stages before it."""
    inner = search if prefetch.prefetch is None else _with_stages(view, search, prefetch.prefetch, batch, near)
    arms = _arms(view, prefetch.vectors, prefetch.text, batch, near)
    inner = inner._replace(
        limit=int(prefetch.limit),
        fusion=checked_fusion(prefetch.fusion),
        candidates=_candidates(prefetch),
        attributes=False,
        vectors=(),
        steps=(),
    )
    return search._replace(prefetch=_checked(inner.with_arms(arms)))


def _candidates(stage: SearchRequest | Prefetch) -> int:
    """The number of candidates of each arm of a stage."""
    return default_candidates(int(stage.limit)) if stage.candidates is None else int(max(stage.candidates, stage.limit))


def _checked(search: Search) -> Search:
    """Check a stage against its queries."""
    for name in search.fusion.weights:
        fields = [arm.name for arm in search.arms]
        if name not in fields:
            what = f"fusion has a weight for {shown(name)}, which is not a field of this search; its fields are: {', '.join(fields)}"
            raise InvalidArgumentError(what, field="fusion", value=name)
    if search.prefetch is not None and search.prefetch.queries != search.queries:
        sizes = (search.prefetch.queries, search.queries)
        what = f"all stages of a search must have the same number of queries, but a prefetch has {sizes[0]} and the next {sizes[1]}"
        raise InvalidArgumentError(what, field="vectors", value=sizes[0])
    return search


def _arms(view: View, vectors: Any, text: Any, batch: bool, near: NearQueries | None) -> tuple[Arm, ...]:
    """The arms of a stage. Each has the same number of query vectors."""
    schema, arms = view.schema, []
    for name, value in vectors.items() if type(vectors) is dict else query_fields(schema, vectors).items():
        spec = schema.vector(name)
        arms.append(Arm(name, spec, query_vectors(name, spec, value) if batch else [query_vector(name, spec, value)]))
    if text is not None:
        arms += [_encoded(view, name, texts, near) for name, texts in _texts(schema, text, batch, [arm.name for arm in arms]).items()]
    if not arms:
        what = "a search needs a query: write vectors={field: …} or text=…; to list points without a query, call scroll"
        raise InvalidArgumentError(what, field="vectors")
    if len(arms) > 1:
        sizes = {arm.name: len(arm.queries) for arm in arms}
        if len(set(sizes.values())) > 1:
            raise InvalidArgumentError(f"all fields must have the same number of queries, not {sizes}", field="vectors", value=sizes)
    return tuple(arms)


def _encoded(view: View, name: str, texts: Sequence[str], near: NearQueries | None) -> Arm:
    """The arm of a field with an encoder."""
    spec = view.schema.vector(name)
    encoder = load_encoder(name, spec, view.snapshot.meta.encoders[name])
    if near is not None and can_be_near(spec):
        return Arm(name, spec, *near.of(name, encoder, texts), texts)
    return Arm(name, spec, encoder.encode_queries(texts), lambda terms: encoder.words_of(texts[0], terms), texts)


def _texts(schema: Schema, text: Any, batch: bool, given: Sequence[str]) -> dict[str, list[str]]:
    """Field → its query texts. A plain text is for every field that has an encoder and for which no vector is given."""
    if isinstance(text, Mapping):
        chosen = dict(text)
        for name in chosen:
            if schema.vector(name).encoder is None:
                what = f"vector field {name!r} has no encoder; give a vector: vectors={{{name!r}: …}}"
                raise InvalidArgumentError(what, field="text", value=name)
            if name in given:
                what = f"field {name!r} is given both in vectors and in text; give one of them"
                raise InvalidArgumentError(what, field="text", value=name)
    else:
        chosen = {name: text for name, spec in schema.vectors.items() if spec.encoder is not None and name not in given}
        if not chosen:
            what = "text needs a vector field with an encoder for which no vector is given, and there is none; give vectors={field: …}"
            raise InvalidArgumentError(what, field="text", value=text)
    return {name: query_texts(value, batch) for name, value in chosen.items()}
