"""Bind a search request to a collection: its filter in canonical form, its queries as arms. The result is a ``Search``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from vectordb_client.errors import FilterError, InvalidArgumentError, listing, shown
from vectordb_client.model import diversity, facets, groups
from vectordb_client.model.arms import GivenArm, any_given, check_arms, given_arms
from vectordb_client.model.checks import DEFAULT_RECALL, MAX_LIMIT, check_names, check_selection
from vectordb_client.model.examples import with_likes
from vectordb_client.model.filter_nodes import Filter
from vectordb_client.model.page_options import AUTO, AUTO_LIMIT
from vectordb_client.model.ranking import Fusion, Prefetch, checked_fusion, default_candidates
from vectordb_client.model.schema import Schema, VectorField
from vectordb_client.model.search_request import SearchRequest, check_filters, of_query
from vectordb_client.model.vectors import query_fields, query_texts, query_vector, query_vectors

from ..encoders.bm25 import BM25
from ..engine import deriving
from ..engine.encoding import load_encoder
from ..engine.snapshot import View
from ..filters.cache import FilterCache
from ..filters.nodes import both
from ..filters.text import to_string
from .boosts import PART, Bound, bind_boosts
from .examples import Pooled, left_out, pooled
from .highlight import check_highlight
from .near_words import NearQueries, can_be_near, wants_near
from .projection import project
from .steering import steer
from .thresholds import check_bounds

_ONE_FILTER = ("facets", "group_by")  # options that can't have a filter for each query
MAX_KEPT = 512  # requests kept by ``RequestCache``

Words = Callable[[Sequence[int]], dict[int, str]]
Step = Callable[[View, "Search", tuple], tuple]
# Option → a step that changes the ranking of a query, after fusion and before the records are fetched: (view, search, ranking) → ranking.
# It runs where the option isn't the default; its value is ``search.request.NAME``; "auto" runs for limit="auto". Steps run in the order of
# this table. Of a batch, ``search`` is the search of the one query.
RANKING_STEPS: dict[str, Step] = {}


@dataclass(slots=True)
class Arm:
    """One vector field of a search, with one query vector for each query of a batch. words: a function from the term ids of the first
    query to their words; None where the query was given as a vector.

    of: the field, where it isn't the name. filter: canonical, of this arm alone. limit, weight: as in ``vectordb_client.Arm``. examples: of
    the first query, if it was given by examples. without: what was projected out of the first query, for its entry of the plan. left_out:
    of each query, the filter that leaves out points that are examples. texts: of the queries, where they were given as texts. steered:
    along which concepts the first query was moved, for its entry of the plan.
    """

    name: str
    spec: VectorField
    queries: Sequence[Any]
    words: Words | None = None
    of: str | None = None
    filter: Filter | None = None
    limit: int | None = None
    weight: float | None = None
    examples: Pooled | None = None
    without: dict[str, Any] | None = None
    left_out: Sequence[Filter | None] = ()
    texts: Sequence[str] | None = None
    steered: list[dict[str, Any]] | None = None

    @property
    def field(self) -> str:
        """The vector field."""
        return self.of or self.name

    @property
    def plain(self) -> bool:
        """Whether it is a field with a query and nothing else, apart from its weight."""
        return (
            self.of is None
            and self.filter is None
            and self.limit is None
            and self.without is None
            and self.steered is None
            and not self.pooled
        )

    @property
    def pooled(self) -> bool:
        """Whether queries are examples that every point is scored for, and not vectors."""
        return bool(self.queries) and type(self.queries[0]) is Pooled if type(self.queries) is list else False

    @property
    def measured(self) -> bool:
        """Whether the recall of fused lists is measured with it. An arm with a filter or a limit lists as many rows as it says."""
        return self.filter is None and self.limit is None and not self.pooled

    def most(self, limit: int) -> int:
        """The hits of a search of this arm alone."""
        return limit if self.limit is None else min(limit, self.limit)

    @property
    def key(self) -> Any:
        """Equal for arms that find the same of equal queries. Arms with a filter or a limit have none."""
        return self.name if self.of is None and self.weight is None else (self.name, self.of, self.weight)

    def with_queries(self, queries: Sequence[Any], first: bool = True, texts: Sequence[str] | None = None) -> Arm:
        """The same arm with some of its queries. first: they begin with its first query. texts: of these queries."""
        facts = (self.words, self.examples, self.without) if first else (None, None, None)
        arm = Arm(self.name, self.spec, queries, facts[0], self.of, self.filter, self.limit, self.weight, *facts[1:], texts=texts)
        arm.steered = self.steered if first else None
        return arm

    def of_queries(self, some: Sequence[int]) -> Arm:
        """The same arm with the queries of these places in a batch."""
        texts = None if self.texts is None else [self.texts[q] for q in some]
        return self.with_queries([self.queries[q] for q in some], some[0] == 0, texts)

    def shown(self) -> dict[str, Any]:
        """What makes it differ from a field with a query, for its entry of the plan."""
        condition = None if self.filter is None else to_string(self.filter, values=True)
        derived = None if self.spec.derived is None else f"{self.spec.derived.name} of {', '.join(self.spec.derived.sources)}"
        facts = {
            "derived": derived,
            "arm": None if self.of is None else self.name,
            "filter": condition,
            "limit": self.limit,
            "without": self.without,
            "steered": self.steered,
        }
        return {name: value for name, value in facts.items() if value is not None}


class Search(NamedTuple):
    """A request bound to a schema, with its queries; or a prefetch stage of one.

    queries: the number of queries in the batch. request: what was asked for. candidates: the number of each arm's best rows that are fused.
    exact: results must be exact; dense fields are then scanned. recall: the target of each arm, the predicted mean share of the true best
    rows that it finds; 1.0 if ``exact``. proven: linear fusion must prove its result. prefetch: the stage before this one, with the same
    queries and filter; this stage ranks only its hits. steps: those of ``RANKING_STEPS`` that this search takes. page: what a page leaves
    out (``paging.Page``). fixed: the number of candidates was given, so each arm is read exactly so deep. filters: a filter for each
    query, in the place of ``filter``; None where all have the same. boosts: of the last stage. attribute_arms: those of ``Linear``.
    words: ``NearQueries.counts``.
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
    page: Any = None
    fixed: bool = False
    filters: tuple[Filter | None, ...] | None = None
    boosts: tuple[Bound, ...] = ()
    attribute_arms: Mapping[str, Bound] = {}
    words: Mapping[str, int] = {}

    def with_arms(self, arms: tuple[Arm, ...]) -> Search:
        """The same search for other queries. ``arms`` and ``queries`` are the first two fields."""
        return tuple.__new__(Search, (arms, len(arms[0].queries), *self[2:]))  # a third of the cost of ``_replace``

    def with_recall(self, recall: float) -> Search:
        """The same search with another target for its arms."""
        return tuple.__new__(Search, (*self[:RECALL], recall, *self[RECALL + 1 :]))

    @property
    def changed(self) -> bool:
        """Whether more than its arms makes the ranking."""
        return bool(self.steps or self.boosts or self.attribute_arms)

    @property
    def fused(self) -> bool:
        """Whether several arms make the ranking."""
        return len(self.arms) > 1 or bool(self.attribute_arms)

    @property
    def stages(self) -> list[Search]:
        """The search, and the stages before it."""
        return [self, *([] if self.prefetch is None else self.prefetch.stages)]

    def of_query(self, q: int) -> Search:
        """The search of the q-th query of a batch alone."""
        arms = tuple([arm.with_queries(arm.queries[q : q + 1], q == 0, arm.texts and arm.texts[q : q + 1]) for arm in self.arms])
        inner = None if self.prefetch is None else self.prefetch.of_query(q)
        return self._replace(arms=arms, queries=1, prefetch=inner)

    def of_queries(self, some: Sequence[int], node: Filter | None) -> Search:
        """The search of some queries of a batch, which have the same filter."""
        arms = tuple([arm.of_queries(some) for arm in self.arms])
        inner = None if self.prefetch is None else self.prefetch.of_queries(some, node)
        return self._replace(arms=arms, queries=len(some), prefetch=inner, filter=node, filters=None)


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
        vectors = with_likes(view.schema, request, vectors, batch)
        near = NearQueries(view, request, self._filters) if wants_near(request) else None
        if request.prefetch is not None:
            bound = _with_stages(view, bound, request.prefetch, batch, self._filters, near)
        search = _checked(bound.with_arms(_arms(view, vectors, text, batch, self._filters, near)))
        if near is not None and search.queries:  # ``prepare`` checks its options with none
            near.check_used()
            search = search._replace(words=near.counts)
        if search.filters is not None:
            check_filters(request.filter, batch, search.queries)
        _check_floor(view, search)
        search = _without_examples(search)
        if request.steer is not None:
            steer(view, [stage.arms for stage in search.stages], request.steer)
        if request.without is not None:
            project(view, [stage.arms for stage in search.stages], request.without)
        return search


def _bind(request: SearchRequest, schema: Schema, filters: FilterCache) -> Search:
    """A search without queries."""
    exact = request.exact or request.recall == 1.0
    changed = {*request.changed(), *(("auto",) if request.limit == AUTO else ())}
    if isinstance(request.filter, tuple):
        for name in _ONE_FILTER:
            if name in changed:
                what = f"{name} needs one filter for all queries: call search_batch once for each filter, or leave {name} out"
                raise InvalidArgumentError(what, field=name, value=getattr(request, name))
    groups.check_request(request, schema)
    if request.diversity is not None:
        diversity.check_field(request.diversity, schema)
    if request.facets is not None:
        facets.check_against(schema, request.facets)
    check_highlight(request.highlight, schema)
    return Search(
        arms=(),
        queries=0,
        request=request,
        filter=None if isinstance(request.filter, tuple) else filters.bind(request.filter, schema),
        filters=_bound(request.filter, schema, filters) if isinstance(request.filter, tuple) else None,
        limit=_depth(request),
        exact=exact,
        recall=1.0 if exact else DEFAULT_RECALL if request.recall is None else request.recall,
        fusion=checked_fusion(request.fusion),
        candidates=_candidates(request.candidates, _depth(request)),
        attributes=check_selection("with_attributes", request.with_attributes, schema.attributes),
        vectors=check_names("with_vectors", request.with_vectors, schema.vectors),
        explain=request.explain,
        proven=exact or request.recall is None,
        boosts=() if request.boost is None else bind_boosts(request.boost, schema, filters),
        attribute_arms=_attribute_arms(checked_fusion(request.fusion), schema, filters),
        steps=tuple([step for name, step in RANKING_STEPS.items() if name in changed]),
        fixed=request.candidates is not None,
    )


def _attribute_arms(fusion: Fusion, schema: Schema, filters: FilterCache) -> dict[str, Bound]:
    """The attribute arms of a linear fusion, by name."""
    boosts = fusion.arms()
    return dict(zip(boosts, bind_boosts(list(boosts.values()), schema, filters), strict=True))


def _bound(given: Sequence[Any], schema: Schema, filters: FilterCache) -> tuple[Filter | None, ...]:
    """The filters of the queries of a batch, in canonical form. Equal ones are the same object."""
    known: dict[Filter | None, Filter | None] = {}
    nodes = []
    for q, one in enumerate(given):
        with of_query(q):
            node = filters.bind(one, schema)
        nodes.append(known.setdefault(node, node))
    return tuple(nodes)


def _with_stages(view: View, search: Search, prefetch: Prefetch, batch: bool, filters: FilterCache, near: NearQueries | None) -> Search:
    """The search with the stages before it."""
    inner = search if prefetch.prefetch is None else _with_stages(view, search, prefetch.prefetch, batch, filters, near)
    arms = _arms(view, prefetch.vectors, prefetch.text, batch, filters, near)
    inner = inner._replace(
        limit=int(prefetch.limit),
        fusion=checked_fusion(prefetch.fusion),
        candidates=_candidates(prefetch.candidates, int(prefetch.limit)),
        attributes=False,
        vectors=(),
        steps=(),
        fixed=prefetch.candidates is not None,
        boosts=(),
        attribute_arms=_attribute_arms(checked_fusion(prefetch.fusion), view.schema, filters),
    )
    return search._replace(prefetch=_checked(inner.with_arms(arms)))


def _depth(request: SearchRequest) -> int:
    """The number of rows that a search ranks: those that it returns, and those that an offset leaves out."""
    return AUTO_LIMIT if request.limit == AUTO else request.limit + request.offset


def _candidates(given: int | None, limit: int) -> int:
    """The number of candidates of each arm of a stage."""
    return default_candidates(limit) if given is None else int(max(given, limit))


def _check_floor(view: View, search: Search) -> None:
    """Check the option ``recall_floor``. Raises SchemaError or InvalidArgumentError."""
    name = search.request.recall_floor
    if name is None:
        return
    spec = view.schema.attribute(name)
    if "category" not in spec.parts:
        usable = [each for each, other in view.schema.attributes.items() if "category" in other.parts]
        what = f"recall_floor needs an attribute of categories, and {name!r} is {spec.kind}; there are: {listing(usable)}"
        raise InvalidArgumentError(what, field="recall_floor", value=name)
    if len(search.arms) > 1 or search.prefetch is not None:
        what = "recall_floor is for searches of one field without a prefetch; leave it out, or ask for a higher recall"
        raise InvalidArgumentError(what, field="recall_floor", value=name)


def _checked(search: Search) -> Search:
    """Check a stage against its queries."""
    for arm in search.arms if search.attribute_arms else ():
        if arm.name in search.attribute_arms and search.queries:
            what = f"an attribute arm of the fusion and a field of the search are both named {arm.name!r}; rename the attribute arm"
            raise InvalidArgumentError(what, field="fusion", value=arm.name)
    for name in search.fusion.weights:
        fields = [*(arm.name for arm in search.arms), *search.attribute_arms]
        if name not in fields:
            what = f"fusion has a weight for {shown(name)}, which is not a field of this search; its fields are: {', '.join(fields)}"
            raise InvalidArgumentError(what, field="fusion", value=name)
    check_arms(search.arms, search.fusion)
    if search.boosts and search.fused and PART in (*(arm.name for arm in search.arms), *search.attribute_arms):
        what = f"the part of boosts in a hit is named {PART!r}, so no arm can be; give it another name: vectors={{name: (field, query)}}"
        raise InvalidArgumentError(what, field="boost", value=PART)
    if search.prefetch is not None and search.prefetch.queries != search.queries:
        sizes = (search.prefetch.queries, search.queries)
        what = f"all stages of a search must have the same number of queries, but a prefetch has {sizes[0]} and the next {sizes[1]}"
        raise InvalidArgumentError(what, field="vectors", value=sizes[0])
    if search.queries and search.steps:
        check_bounds(search.request, search.arms, search.fusion)
        if len(search.arms) > 1 and search.request.score == "calibrated":  # all candidates are ranked anew
            search = search._replace(limit=search.candidates if search.fusion.all_points else MAX_LIMIT, fixed=True)
    return search


def _without_examples(search: Search) -> Search:
    """The search with filters that leave out points that are examples, in any of its stages."""
    arms = [arm for stage in search.stages for arm in stage.arms if any(node is not None for node in arm.left_out)]
    if not arms:
        return search
    nodes = list(search.filters or (search.filter,) * search.queries)
    for arm in arms:
        for q, node in enumerate(arm.left_out):
            if node is not None:
                nodes[q] = both(nodes[q], node)
    return search._replace(filter=None, filters=tuple(nodes))


def _arms(view: View, vectors: Any, text: Any, batch: bool, filters: FilterCache, near: NearQueries | None) -> tuple[Arm, ...]:
    """The arms of a stage. Each has the same number of query vectors."""
    schema, arms = view.schema, []
    if any_given(vectors):
        arms = [_named(view, given, filters, near) for given in given_arms(schema, vectors, batch)]
    else:
        for name, value in vectors.items() if type(vectors) is dict else query_fields(schema, vectors).items():
            spec = schema.vector(name)
            arms.append(Arm(name, spec, query_vectors(name, spec, value) if batch else [query_vector(name, spec, value)]))
    if text is not None:
        for field, texts in _texts(schema, text, batch, arms).items():
            arms.append(Arm(field, schema.vector(field), *_encoded(view, field, texts, near), texts=texts))
    for arm in arms:
        if arm.spec.derived is not None and arm.queries and not arm.pooled:
            arm.queries = deriving.queries(view, arm.field, arm.queries)
    if not arms:
        what = "a search needs a query: write vectors={field: …} or text=…; to list points without a query, give order_by or call scroll"
        raise InvalidArgumentError(what, field="vectors")
    if len(arms) > 1:
        sizes = {arm.name: len(arm.queries) for arm in arms}
        if len(set(sizes.values())) > 1:
            raise InvalidArgumentError(f"all fields must have the same number of queries, not {sizes}", field="vectors", value=sizes)
    return tuple(arms)


def _named(view: View, given: GivenArm, filters: FilterCache, near: NearQueries | None) -> Arm:
    """An arm that a user gave with a name of its own."""
    queries, words = (given.queries, None) if given.texts is None else _encoded(view, given.field, given.texts, near)
    examples = None if given.examples is None else [pooled(view, given.field, given.spec, each) for each in given.examples]
    if examples is not None:
        queries = [each.vector for each in examples] if all(each.one_vector for each in examples) else examples
    of = None if given.field == given.name else given.field
    try:
        node = filters.bind(given.filter, view.schema)
    except FilterError as error:
        raise FilterError(f"arm {given.name!r}: {error.message}", field=error.field, value=error.value) from None
    arm = Arm(given.name, given.spec, queries or [], words, of, node, given.limit, given.weight, texts=given.texts)
    if examples:
        arm.examples, arm.left_out = examples[0], [filters.bind(left_out(each.given), view.schema) for each in examples]
    return arm


def _encoded(view: View, field: str, texts: Sequence[str], near: NearQueries | None) -> tuple[Sequence[Any], Words]:
    """The queries of a field with an encoder, and the words of the first one."""
    name = view.schema.encoding(field) or field
    spec = view.schema.vector(name)
    encoder = load_encoder(name, spec, view.snapshot.meta.encoders[name])
    if near is not None and can_be_near(spec):
        return near.of(field, cast(BM25, encoder), texts)
    return encoder.encode_queries(texts), lambda terms: encoder.words_of(texts[0], terms)


def _texts(schema: Schema, text: Any, batch: bool, arms: Sequence[Arm]) -> dict[str, list[str]]:
    """Field → its query texts. A plain text is for every field that has an encoder and for which no vector is given."""
    given = [arm.name for arm in arms]
    if isinstance(text, Mapping):
        chosen = dict(text)
        for name in chosen:
            if schema.encoding(name) is None:
                what = f"vector field {name!r} has no encoder; give a vector: vectors={{{name!r}: …}}"
                raise InvalidArgumentError(what, field="text", value=name)
            if name in given:
                what = f"field {name!r} is given both in vectors and in text; give one of them"
                raise InvalidArgumentError(what, field="text", value=name)
    else:
        given += [arm.field for arm in arms]
        chosen = {name: text for name, spec in schema.vectors.items() if spec.encoder is not None and name not in given}
        if not chosen:
            what = "text needs a vector field with an encoder for which no vector is given, and there is none; give vectors={field: …}"
            raise InvalidArgumentError(what, field="text", value=text)
    return {name: query_texts(value, batch) for name, value in chosen.items()}
