"""Queries by examples: points like some and unlike others, points on the right side of pairs, and queries without some directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import InvalidArgumentError, VectorDBError, listing, shown
from .arguments import named_class
from .foreign import read_with, unwrapped
from .schema import Schema, VectorField
from .values import Id, check_id, is_single_id, text_of, to_json
from .vectors import query_fields, query_vector

if TYPE_CHECKING:
    from .aliases import DenseVector

POOLS = ("mean", "max", "attention")
SHOWN = 4  # numbers of a vector in a plan
DEEPEST = 5  # lists and mappings in one another: field → pairs → vectors, with room to spare
MAX_EXAMPLES = 1_000  # of a query
FORGOTTEN = "is a query of search; in search_batch and prepared searches write vectors={field: Like([…])}"


@named_class
@dataclass(frozen=True)
class Like:
    """A query by examples of a dense field, in the place of a vector: ``vectors={field: Like([ids or vectors])}``.

    An example is a vector, or the id of a point, which stands for its vector in this field. Points whose ids are given are left out of the
    hits. s(e) is the score that a point has for the example e alone; for l2 it is the negated squared distance. With σ(x) = ½ + ½ ·
    x ÷ (1 + |x|), the score of a point is:

    - "mean": its score for one vector: the mean of ``like``, or with ``unlike`` 2 · mean(like) − mean(unlike). For a cosine, examples are
      scaled to length 1 first. It is searched by the index.
    - "max": σ(the highest s of ``like``) if that is above the highest s of ``unlike``, else −σ(the highest s of ``unlike``).
    - "attention": Σ weight · s over ``like``, less the same over ``unlike``. The weights of a point add up to 1 in each and grow with s:
      they are the softmax of s ÷ t, where t is 0.1 for a cosine, 0.1 · the mean squared length of the examples for dot, and 0.1 · their
      mean squared distance from their mean for l2 (0.1 if that is 0).
    - ``context`` alone: Σ min(s(positive) − s(negative), 0) over the pairs: 0 for points on the right side of all.
    - ``context`` with ``like``: 1 for each pair on whose right side the point is, −1 on the wrong side, plus σ(its score for ``like``).

    All but "mean" score every point that may be returned, exactly. Points without a vector in the field are not returned.

    Attributes:
        like: ids or vectors ``(dim,)``.
        unlike: ids or vectors.
        pool: "mean", "max" or "attention".
        context: pairs (positive, negative) of ids or vectors.

    Example:
        ```python
        docs.search({"v": Like([1, 2], unlike=[7])})
        docs.search_batch({"v": [Like([1]), Like([2, 3], pool="max")]})
        ```
    """

    like: Sequence[Id | DenseVector] = ()
    unlike: Sequence[Id | DenseVector] = ()
    pool: str = "mean"
    context: Sequence[tuple[Id | DenseVector, Id | DenseVector]] = ()


class Examples(NamedTuple):
    """A checked ``Like``: each example is an id, or float32 ``(dim,)``."""

    like: tuple[Any, ...]
    unlike: tuple[Any, ...]
    pool: str
    context: tuple[tuple[Any, Any], ...]

    @property
    def every(self) -> list[Any]:
        """All examples: like, unlike, then the pairs."""
        return [*self.like, *self.unlike, *(each for pair in self.context for each in pair)]

    def to_json(self) -> dict[str, Any]:
        pairs = [[_as_json(each) for each in pair] for pair in self.context]
        return {"like": [*map(_as_json, self.like)], "unlike": [*map(_as_json, self.unlike)], "pool": self.pool, "context": pairs}


def _as_json(example: Any) -> Any:
    return example.tolist() if isinstance(example, np.ndarray) else to_json(example) if not isinstance(example, (int, str)) else example


def are_examples(value: Any) -> bool:
    """Whether a query of a field is a ``Like``, or a list that begins with one."""
    return isinstance(value, Like) or (isinstance(value, (list, tuple)) and bool(value) and isinstance(value[0], Like))


def check_examples(field: str, spec: VectorField, value: Any, batch: bool) -> list[Examples]:
    """The queries of a field given as one ``Like``, or with ``batch`` as a list of them. Raises InvalidArgumentError."""
    several = isinstance(value, (list, tuple))
    if several != batch:
        hint = "write a list with one for each query" if batch else "for several queries write search_batch"
        raise InvalidArgumentError(f"the query of {field!r} must not be {shown(value)}; {hint}", field=field, value=value)
    queries = value if several else [value]
    for each in queries:
        if not isinstance(each, Like):
            what = f"the queries of {field!r} must be all Like(…) or all vectors, not both: {shown(each)}"
            raise InvalidArgumentError(what, field=field, value=each)
    return [_checked(field, spec, each) for each in queries]


def _checked(field: str, spec: VectorField, value: Like) -> Examples:
    if not spec.pools:
        what = f"Like is for dense fields, and {field!r} is {spec.kind}; give it a query of its own"
        raise InvalidArgumentError(what, field=field, value=value)
    if not isinstance(value.pool, str) or value.pool not in POOLS:
        what = f"pool must be {', '.join(map(repr, POOLS[:-1]))} or {POOLS[-1]!r}, not {shown(value.pool)}"
        raise InvalidArgumentError(what, field="pool", value=value.pool)
    like, unlike, pairs = _listed("like", value.like), _listed("unlike", value.unlike), _listed("context", value.context)
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            what = f"context must be a list of pairs (positive, negative), not of {shown(pair)}"
            raise InvalidArgumentError(what, field="context", value=pair)
    if not like and not pairs and not (unlike and value.pool == "max"):
        what = "unlike needs examples in like (or pool='max')" if unlike else "Like needs examples: Like([ids or vectors])"
        raise InvalidArgumentError(what, field="like", value=())
    if pairs and unlike:
        raise InvalidArgumentError("unlike doesn't go with context; write it as a pair (positive, negative)", field="unlike", value=unlike)
    if pairs and not like and value.pool != "mean":
        raise InvalidArgumentError("pool is for like and unlike; leave it out with context alone", field="pool", value=value.pool)
    size = len(like) + len(unlike) + 2 * len(pairs)
    if size > MAX_EXAMPLES:
        raise InvalidArgumentError(f"a query has at most {MAX_EXAMPLES:,} examples, not {size:,}", field="like", value=size)

    def one(name: str, example: Any) -> Any:
        try:
            attributes = spec.derived is not None and spec.derived.of_attributes
            if is_single_id(example) or (isinstance(example, Mapping) and not attributes):
                return check_id(example)
            return query_vector(field, spec, example)
        except VectorDBError as error:
            raise type(error)(f"{name}: {error.message}", field=name, value=error.value) from None

    checked = [(one("context", positive), one("context", negative)) for positive, negative in pairs]
    return Examples(
        tuple([one("like", each) for each in like]), tuple([one("unlike", each) for each in unlike]), value.pool, tuple(checked)
    )


def _listed(name: str, value: Any) -> Sequence[Any]:
    value = read_with(name, value, unwrapped) if not isinstance(value, (list, tuple, str, Mapping)) else value
    if isinstance(value, np.ndarray) and (value.ndim == 2 or (value.ndim == 1 and value.dtype.kind in "iu")):
        return list(value)
    if not isinstance(value, (list, tuple)):
        what = f"{name} must be a list of {'pairs' if name == 'context' else 'ids or vectors'}, not {shown(value)}"
        raise InvalidArgumentError(f"{what}; write {name}=[…]", field=name, value=value)
    return value


def from_json(value: Any) -> Like:
    """A ``Like`` of the JSON value that ``Examples.to_json`` makes. Raises InvalidArgumentError for another one."""
    if not isinstance(value, dict) or not value.keys() <= {"like", "unlike", "pool", "context"}:
        raise InvalidArgumentError(f"examples must be a JSON object with like, unlike, pool and context, not {shown(value)}", field="like")
    return Like(**value)


# ---- The options ``like``, ``unlike``, ``pool``, ``context`` and ``without`` of a search ----


def check_listed(name: str, value: Any) -> Any:
    """The check of an option that is a list for the only dense field, or a mapping from field to such lists. Its elements are checked
    against the field where the search runs.
    """
    if isinstance(value, Mapping):
        return {text_of(field, name): _elements(name, each) for field, each in value.items()}
    return (value,) if isinstance(value, str) and name == "without" else _elements(name, value)


def _elements(name: str, value: Any) -> tuple[Any, ...]:
    """The elements of a list; pairs as lists, as messages have them."""
    return tuple([list(each) if name == "context" and isinstance(each, tuple) else each for each in _listed(name, value)])


def check_pool(name: str, value: Any) -> str:
    """The check of the option ``pool``."""
    if not isinstance(value, str) or value not in POOLS:
        what = f"{name} must be {', '.join(map(repr, POOLS[:-1]))} or {POOLS[-1]!r}, not {shown(value)}"
        raise InvalidArgumentError(what, field=name, value=value)
    return value


def listed_as_json(value: Any, depth: int = 0) -> Any:
    """The JSON form of such an option, for messages and plans. Raises InvalidArgumentError for lists in lists that can't be examples."""
    if depth > DEEPEST:
        raise InvalidArgumentError("examples are lists of ids, vectors, or pairs of these, not lists in lists in lists", field="like")
    if isinstance(value, Mapping):
        return {name: listed_as_json(each, depth + 1) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [listed_as_json(each, depth + 1) for each in value]
    value = read_with("examples", value, unwrapped)
    if isinstance(value, (list, tuple)):
        return listed_as_json(value, depth)
    if isinstance(value, (np.ndarray, np.generic)):
        return listed_as_json(value.tolist(), depth) if value.dtype == object else value.tolist()
    if isinstance(value, (int, str, float)):
        return value
    try:
        return to_json(value)
    except TypeError:
        what = f"examples are lists of ids, vectors, or pairs of these, and {shown(value)} is none"
        raise InvalidArgumentError(what, field="like", value=value) from None


def listed_shown(value: Any) -> Any:
    """Such an option in plans and logs: of each vector the first numbers."""
    if isinstance(value, Mapping):
        return {name: listed_shown(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)) and len(value) > SHOWN and all(isinstance(each, float) for each in value):
        return [*value[:SHOWN], "…"]
    if isinstance(value, (list, tuple)):
        return [listed_shown(each) for each in value]
    value = listed_as_json(value)
    return listed_shown(value) if isinstance(value, list) else value


def with_likes(schema: Schema, request: Any, vectors: Any, batch: bool) -> Any:
    """The queries of a search with those of its options ``like``, ``unlike``, ``pool`` and ``context``. request: has these options.

    Raises InvalidArgumentError or SchemaError.
    """
    given = {name: getattr(request, name) for name in ("like", "unlike", "context")}
    if all(value is None for value in given.values()):
        if request.pool != "mean":
            what = f"pool={request.pool!r} says how like and unlike are pooled; give like=[ids or vectors]"
            raise InvalidArgumentError(what, field="pool", value=request.pool)
        return vectors
    first = next(name for name, value in given.items() if value is not None)
    if batch:
        raise InvalidArgumentError(f"{first}= {FORGOTTEN}", field=first, value=first)
    by_field: dict[str, dict[str, Any]] = {}
    for name, value in given.items():
        if value is not None:
            for field, each in (value if isinstance(value, Mapping) else {only_field(schema, name, value): value}).items():
                schema.vector(field)
                by_field.setdefault(field, {})[name] = each
    queries = dict(query_fields(schema, vectors))
    for field, parts in by_field.items():
        if field in queries:
            what = f"field {field!r} has both a query and {next(iter(parts))}; name one of them: vectors={{'a': ({field!r}, …)}}"
            raise InvalidArgumentError(what, field=field, value=field)
        queries[field] = Like(**parts, pool=request.pool)
    return queries


def only_field(schema: Schema, name: str, value: Any) -> str:
    """The dense field that an option means that is given as a list; derived ones must be named. Raises InvalidArgumentError unless there is
    exactly one.
    """
    fields = [field for field, spec in schema.vectors.items() if spec.pools and spec.derived is None]
    if len(fields) != 1:
        what = f"{name} needs the name of a dense field: {name}={{field: […]}}; the dense fields are: {listing(fields)}"
        raise InvalidArgumentError(what, field=name, value=value)
    return fields[0]
