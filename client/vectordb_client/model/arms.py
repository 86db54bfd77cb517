"""Named arms: several queries for one vector field, each with a filter, a length of its list and a weight of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import FilterError, InvalidArgumentError, SchemaError, VectorDBError, shown
from .arguments import named_class
from .checks import MAX_NUMBER, check_count, checked_number
from .examples import Examples, Like, are_examples, check_examples
from .schema import Schema, VectorField
from .vectors import query_fields, query_texts, query_vector, query_vectors

if TYPE_CHECKING:
    from .aliases import FilterLike, Vector, VectorColumn

MAX_ARMS = 64  # of a stage


@named_class
@dataclass(frozen=True)
class Arm:
    """An arm of a search with a name of its own: ``vectors={name: Arm(field, query)}``. So one field can have several queries.

    ``vectors={name: (field, query)}`` is an arm without options. Weights of the fusion, the scores of a hit by arm and ``explain`` go by
    the name. A point that doesn't match the arm's filter isn't found by this arm, but may be found by others; an l2 field in ``Linear``
    is the exception: 0 would be its best score, so only points that match are returned.

    Attributes:
        field: the vector field that is searched.
        query: as in ``search``; in ``search_batch`` n of them. A string (n strings) where the field has an encoder; a ``Like``.
        filter: only points that match it, besides the filter of the search, are found by this arm.
        limit: how many of its best points the arm passes to the fusion; the default is ``candidates`` of the search. ``Linear`` adds up the
            scores of all points, so it has no such limit.
        weight: of the arm in the fusion, from 0 to 1e6. The default is the weight in the fusion, or 1.

    Example:
        ```python
        docs.search({"now": Arm("v", query, filter="year >= 2024", weight=2.0), "ever": ("v", query)}, fusion="rrf")
        ```
    """

    field: str
    query: Vector | VectorColumn | Like | str | Sequence[str] | Sequence[Like]
    filter: FilterLike | None = None
    limit: int | None = None
    weight: float | None = None


class GivenArm(NamedTuple):
    """An arm as a user gave it, checked: either its queries (checked vectors), its texts, or its examples. Others as in ``Arm``."""

    name: str
    field: str
    spec: VectorField
    queries: list | None
    texts: list[str] | None
    filter: Any = None
    limit: int | None = None
    weight: float | None = None
    examples: list[Examples] | None = None

    @property
    def size(self) -> int:
        """The number of queries."""
        return len(self.queries or self.texts or self.examples or ())


def is_named(value: Any) -> bool:
    """Whether a value of ``vectors`` of a search is an arm: ``Arm(field, query)`` or ``(field, query)``."""
    return isinstance(value, Arm) or (isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str))


def any_given(vectors: Any) -> bool:
    """Whether some value of ``vectors`` of a search is something else than a query vector, or n of them."""
    return isinstance(vectors, Mapping) and any(is_named(value) or are_examples(value) for value in vectors.values())


def given_arms(schema: Schema, vectors: Any, batch: bool) -> Iterator[GivenArm]:
    """The arms of ``vectors`` of a search, checked one by one. Raises InvalidArgumentError, SchemaError or FilterError."""
    fields = query_fields(schema, vectors)
    if len(fields) > MAX_ARMS:
        raise InvalidArgumentError(f"a search has at most {MAX_ARMS} arms, not {len(fields)}", field="vectors", value=len(fields))
    for name, value in fields.items():
        if not is_named(value):
            spec = schema.vector(name)
            if are_examples(value):
                yield GivenArm(name, name, spec, None, None, examples=check_examples(name, spec, value, batch))
            else:
                yield GivenArm(name, name, spec, query_vectors(name, spec, value) if batch else [query_vector(name, spec, value)], None)
            continue
        arm = value if isinstance(value, Arm) else Arm(*value)
        spec = _checked(schema, name, arm)
        try:
            examples = check_examples(arm.field, spec, arm.query, batch) if are_examples(arm.query) else None
        except VectorDBError as error:
            raise _of_arm(name, error) from None
        queries, texts = _queries(name, arm, spec, batch) if examples is None else (None, None)
        yield GivenArm(name, arm.field, spec, queries, texts, arm.filter, arm.limit, arm.weight, examples)


def _checked(schema: Schema, name: Any, arm: Arm) -> VectorField:
    """Check everything of an arm but its query. Returns the definition of its field."""
    if not isinstance(name, str) or not name:
        raise InvalidArgumentError(f"the name of an arm must be a string, not {shown(name)}", field="vectors", value=name)
    try:
        spec = schema.vector(arm.field)
    except SchemaError as error:
        what = f"arm {name!r}: {error.message}; write {name!r}: Arm(field, query)"
        raise SchemaError(what, field=name, value=arm.field) from None
    if arm.limit is not None:
        check_count(f"limit of arm {name!r}", arm.limit)
    if arm.weight is not None and not 0.0 <= checked_number(arm.weight) <= MAX_NUMBER:
        what = f"the weight of arm {name!r} must be a number from 0 to {MAX_NUMBER:g}, not {shown(arm.weight)}"
        raise InvalidArgumentError(what, field=name, value=arm.weight)
    if isinstance(arm.filter, (list, tuple)):
        what = f"the filter of arm {name!r} must be one filter, not {shown(arm.filter)}; filter=[…] of search_batch is a filter a query"
        raise FilterError(what, field=name, value=arm.filter)
    return spec


def _queries(name: str, arm: Arm, spec: VectorField, batch: bool) -> tuple[list | None, list[str] | None]:
    """(checked query vectors, None), or (None, texts)."""
    query = arm.query
    several = batch and isinstance(query, (list, tuple)) and bool(query) and all(isinstance(each, str) for each in query)
    if isinstance(query, str) or several:
        if spec.encoder is None and not (spec.derived is not None and spec.derived.words):  # the source of words has an encoder
            what = f"arm {name!r} has a text, but vector field {arm.field!r} has no encoder; give a vector: Arm({arm.field!r}, …)"
            raise InvalidArgumentError(what, field=name, value=query)
        try:
            return None, query_texts(query, batch)
        except InvalidArgumentError as error:
            raise _of_arm(name, error) from None
    try:
        return query_vectors(arm.field, spec, query) if batch else [query_vector(arm.field, spec, query)], None
    except VectorDBError as error:
        raise _of_arm(name, error) from None


def _of_arm(name: str, error: VectorDBError) -> VectorDBError:
    return type(error)(f"arm {name!r}: {error.message}", field=name, value=error.value)


def check_arms(arms: Sequence[Any], fusion: Any) -> None:
    """Check arms (with name, limit, weight) against the fusion of their stage. Raises InvalidArgumentError."""
    for arm in arms:
        if arm.weight is not None and arm.name in fusion.weights:
            what = f"arm {arm.name!r} has a weight both in Arm(…) and in the fusion; give one of them"
            raise InvalidArgumentError(what, field=arm.name, value=arm.weight)
        if arm.limit is not None and fusion.all_points and len(arms) > 1:
            what = f"arm {arm.name!r} has a limit, but {fusion.name} fusion adds up the scores of all points; leave it out"
            raise InvalidArgumentError(what, field=arm.name, value=arm.limit)
