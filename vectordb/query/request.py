"""Check the arguments of a search. The result, ``Search``, has arms with their query vectors, a canonical filter and the options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vectordb_client.errors import InvalidArgumentError, shown
from vectordb_client.model.checks import DEFAULT_RECALL, MAX_LIMIT, check_count, check_flag, check_recall, check_selection
from vectordb_client.model.filter import Filter
from vectordb_client.model.ranking import Fusion, Prefetch, check_prefetch, checked_fusion
from vectordb_client.model.schema import Schema, VectorField
from vectordb_client.model.vectors import query_fields, query_texts, query_vector, query_vectors

from ..filters.bitmap import FilterCache

MIN_CANDIDATES = 100  # candidates of each arm by default, at least
MAX_FAMILIAR = 512  # checked searches cached by ``PreparedSearchCache``


Words = Callable[[Sequence[int]], dict[int, str]]


@dataclass(slots=True)
class Arm:
    """One vector field of a search, with one query vector for each query of a batch. words: a function from the term ids of the first
    query to their words; None where the query was given as a vector.
    """

    name: str
    spec: VectorField
    queries: Sequence[Any]
    words: Words | None = None


@dataclass(slots=True)
class Search:
    """A checked search, or a checked prefetch stage of one.

    queries: the number of queries in the batch. candidates: the number of each arm's best rows that are fused. exact: results must be
    exact; dense fields are then scanned. recall: the target of each arm, the predicted mean share of the true best rows that it finds; 1.0
    if ``exact``. proven: linear fusion must prove its result. prefetch: the stage before this one, with the same queries and filter; this
    stage ranks only its hits.
    """

    arms: tuple[Arm, ...]
    queries: int
    filter: Filter | None
    limit: int
    exact: bool
    recall: float
    fusion: Fusion
    candidates: int
    attributes: bool | Sequence[str]
    vectors: Sequence[str]
    explain: bool
    proven: bool = True
    prefetch: Search | None = None

    def of_query(self, q: int) -> Search:
        """The search of the q-th query of a batch alone."""
        arms = tuple([Arm(arm.name, arm.spec, arm.queries[q : q + 1], arm.words if q == 0 else None) for arm in self.arms])
        inner = None if self.prefetch is None else self.prefetch.of_query(q)
        return replace(self, arms=arms, queries=1, prefetch=inner)


Encode = Callable[[str, VectorField, Sequence[str]], tuple[list, Words]]


def make_search(
    schema: Schema,
    filters: FilterCache,
    encode: Encode,
    batch: bool,
    *,
    vectors: Mapping[str, Any] | None,
    text: Any,
    filter: Any,
    limit: int,
    recall: float | None,
    exact: bool,
    fusion: Any,
    candidates: int | None,
    prefetch: Any,
    with_attributes: Any,
    with_vectors: Any,
    explain: bool,
) -> Search:
    """Check the arguments of ``search``, or with ``batch`` of ``search_batch``.

    encode: a function (field, spec, texts) → (query vectors, a function from the term ids of the first to their words). Raises
    InvalidArgumentError, SchemaError, FilterError or EncoderError, which name the field and the value.
    """
    check_count("limit", limit)
    if recall is not None:
        recall = check_recall("recall", recall)
    check_flag("exact", exact)
    check_flag("explain", explain)
    stages = [Prefetch(vectors, text, limit, fusion, candidates, prefetch), *_stages(prefetch)]
    bound = filters.bind(filter, schema)
    attributes = check_selection("with_attributes", with_attributes, schema.attributes)
    returned = selected(check_selection("with_vectors", with_vectors, schema.vectors), schema.vectors)
    search: Search | None = None
    for stage in reversed(stages):
        last = stage is stages[0]
        arms = _arms(schema, encode, batch, stage)
        method = _fusion(stage.fusion, [arm.name for arm in arms])
        unindexed = bool(exact) or recall == 1.0
        search = Search(
            arms=arms,
            queries=len(arms[0].queries),
            filter=bound,
            limit=int(stage.limit),
            exact=unindexed,
            recall=1.0 if unindexed else DEFAULT_RECALL if recall is None else recall,
            fusion=method,
            candidates=_candidates(stage),
            attributes=attributes if last else False,
            vectors=returned if last else (),
            explain=bool(explain),
            proven=unindexed or recall is None,
            prefetch=search,
        )
        if search.prefetch is not None and search.prefetch.queries != search.queries:
            sizes = (search.prefetch.queries, search.queries)
            what = f"all stages of a search must have the same number of queries, but a prefetch has {sizes[0]} and the next {sizes[1]}"
            raise InvalidArgumentError(what, field="vectors", value=sizes[0])
    return search


def _stages(prefetch: Any) -> list[Prefetch]:
    """The prefetch stages of a search, the last one first. Raises InvalidArgumentError for a value that is not a Prefetch."""
    found: list[Prefetch] = []
    while prefetch is not None:
        found.append(check_prefetch(prefetch, len(found)))
        prefetch = prefetch.prefetch
    return found


def _arms(schema: Schema, encode: Encode, batch: bool, stage: Prefetch) -> tuple[Arm, ...]:
    """The arms of a stage. Each has the same number of query vectors."""
    given: dict[str, Sequence] = {}
    words: dict[str, Words] = {}
    for name, value in query_fields(schema, stage.vectors).items():
        spec = schema.vector(name)
        given[name] = query_vectors(name, spec, value) if batch else [query_vector(name, spec, value)]
    for name, texts in _texts(schema, stage.text, batch, given).items():
        given[name], words[name] = encode(name, schema.vector(name), texts)
    if not given:
        what = "a search needs a query: write vectors={field: …} or text=…; to list points without a query, call scroll"
        raise InvalidArgumentError(what, field="vectors")
    sizes = {name: len(queries) for name, queries in given.items()}
    if len(set(sizes.values())) > 1:
        raise InvalidArgumentError(f"all fields must have the same number of queries, not {sizes}", field="vectors", value=sizes)
    return tuple([Arm(name, schema.vectors[name], queries, words.get(name)) for name, queries in given.items()])


def _candidates(stage: Prefetch) -> int:
    """The number of candidates of each arm of a stage."""
    if stage.candidates is None:
        return min(max(MIN_CANDIDATES, 4 * int(stage.limit)), MAX_LIMIT)
    check_count("candidates", stage.candidates)
    return int(max(stage.candidates, stage.limit))


class PreparedSearchCache:
    """A cache of checked searches. A search that differs from an earlier one only in its query vectors needs only these checked."""

    def __init__(self):
        self._schema: Schema | None = None
        self._known: dict[tuple, tuple[Any, Search]] = {}

    def again(self, schema: Schema, vectors: Any, filter: Any, limit: Any, recall: Any, attributes: Any) -> Search | None:
        """The checked search if a similar one is cached, else None. Raises InvalidArgumentError for a query that isn't a vector of
        its field.
        """
        key = self._key(vectors, filter, limit, recall, attributes)
        found = None if key is None or schema is not self._schema else self._known.get(key)
        if found is None:
            return None
        similar = found[1]
        return Search(
            tuple([Arm(arm.name, arm.spec, [query_vector(arm.name, arm.spec, vectors[arm.name])]) for arm in similar.arms]),
            1,
            similar.filter,
            similar.limit,
            similar.exact,
            similar.recall,
            similar.fusion,
            similar.candidates,
            similar.attributes,
            similar.vectors,
            False,
        )

    def keep(self, schema: Schema, vectors: Any, filter: Any, limit: Any, recall: Any, attributes: Any, search: Search) -> None:
        """Cache a checked search. It must have no arguments but these."""
        key = self._key(vectors, filter, limit, recall, attributes)
        if key is not None:
            if schema is not self._schema or len(self._known) >= MAX_FAMILIAR:
                self._schema, self._known = schema, {}
            self._known[key] = (filter, search)  # keeps the filter alive, so that no other object gets its id

    @staticmethod
    def _key(vectors: Any, filter: Any, limit: Any, recall: Any, attributes: Any) -> tuple | None:
        # Check the types: 1, True and 1.0 are equal as keys, but not all of them are valid.
        if type(vectors) is not dict or not vectors or type(limit) is not int or not (recall is None or type(recall) is float):
            return None
        if (attributes is not True and attributes is not False) or not (filter is None or isinstance(filter, (str, Filter))):
            return None
        return tuple(vectors), id(filter), limit, recall, attributes


def selected(choice: bool | Sequence[str], fields: Mapping[str, Any]) -> Sequence[str]:
    """The names of the selected fields."""
    if choice is True:
        return tuple(fields)
    return () if choice is False else choice


def _texts(schema: Schema, text: Any, batch: bool, given: Mapping) -> dict[str, list[str]]:
    """Field → its query texts. A plain text is for every field that has an encoder and for which no vector is given."""
    if text is None:
        return {}
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


def _fusion(fusion: Any, arms: Sequence[str]) -> Fusion:
    method = checked_fusion(fusion)
    for name in method.weights:
        if name not in arms:
            what = f"fusion has a weight for {shown(name)}, which is not a field of this search; its fields are: {', '.join(arms)}"
            raise InvalidArgumentError(what, field="fusion", value=name)
    return method
