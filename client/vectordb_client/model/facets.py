"""Facets: how many points have each value of an attribute, or a value in each of some ranges."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import InvalidArgumentError, SchemaError, VectorDBError, listing, shown
from .arguments import named_class
from .attributes import ATTRIBUTE_TYPES, AttributeType
from .attributes.base import utf8
from .checks import check_count
from .schema import Schema

MAX_FACETS = 64  # facets of a call
MAX_EDGES = 10_000  # of a ``Range``
_NUMBERS = ("int64", "float64")  # stored forms whose values are numbers


@named_class
@dataclass(frozen=True)
class Facet:
    """The most frequent values of an attribute. In a list of facets its name alone means ``Facet(name)``.

    Attributes:
        attribute: an attribute of any type but Text. Of an array, a point counts once for each of its distinct elements.
        limit: how many values are listed, the most frequent first. Values that are equally frequent are in ascending order.
        prefix: count only keywords that start with it; None counts all values.
        name: the name of the result; None is the name of the attribute.
    """

    attribute: str
    limit: int = 10
    prefix: str | None = None
    name: str | None = None

    @property
    def key(self) -> str:
        """The name of the result."""
        return self.attribute if self.name is None else self.name

    def to_json(self) -> Any:
        """The JSON form, which ``facet_of`` reads."""
        options = {"limit": self.limit, "prefix": self.prefix, "name": self.name}
        return {"facet": self.attribute} | {name: value for name, value in options.items() if value not in (None, _FACET_LIMIT)}


_FACET_LIMIT = 10


@named_class
@dataclass(frozen=True)
class Range:
    """The number of points with a value in each range between neighbouring edges: ``Range("price", [0, 10, 100])`` counts 0 ≤ price < 10
    and 10 ≤ price < 100.

    Attributes:
        attribute: an Int, Float or Datetime attribute. Of an array, a point counts once for each range that holds some of its elements.
        edges: at least two values in ascending order. None as the first or last one leaves that range open.
        name: the name of the result; None is the name of the attribute.
    """

    attribute: str
    edges: Sequence[Any]
    name: str | None = None

    def __post_init__(self):
        if isinstance(self.edges, Sequence) and not isinstance(self.edges, str):  # ``check_facets`` refuses others
            object.__setattr__(self, "edges", tuple(self.edges))

    @property
    def key(self) -> str:
        """The name of the result."""
        return self.attribute if self.name is None else self.name

    def to_json(self) -> Any:
        """The JSON form, which ``facet_of`` reads."""
        edges = [edge.isoformat() if hasattr(edge, "isoformat") else edge.item() if hasattr(edge, "item") else edge for edge in self.edges]
        edges = [edge if edge is None or isinstance(edge, (int, float, str)) else str(edge) for edge in edges]
        return {"range": self.attribute, "edges": edges} | ({} if self.name is None else {"name": self.name})


AnyFacet = Facet | Range
FacetLike = str | Facet | Range | Sequence[str | Facet | Range]


class FacetCount(NamedTuple):
    """A value of an attribute and how many points have it.

    Attributes:
        value: in the form of ``Hit.attributes``. Of a ``Range`` the pair (low, high), low included and high not; None is open.
        count: the number of points.
    """

    value: Any
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]  # of a tuple; nobody counts in a pair


@dataclass(frozen=True)
class FacetResult:
    """What a facet counted. Iterating yields ``FacetCount(value, count)``.

    Attributes:
        counts: of a ``Facet`` the most frequent values, the most frequent first; of a ``Range`` each range in the order of its edges.
        points: the number of points that match the filter.
        missing: those of them that have no value in the attribute.
        distinct: how many distinct values the points have, listed or not (with ``prefix`` those that start with it); of a ``Range`` the
            number of ranges.
    """

    counts: tuple[FacetCount, ...]
    points: int
    missing: int
    distinct: int

    def __iter__(self) -> Iterator[FacetCount]:
        return iter(self.counts)

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, value: Any) -> int:
        """The count of a listed value. Raises KeyError."""
        for each in self.counts:
            if each.value == value and type(each.value) is type(value):
                return each.count
        raise KeyError(value)

    def to_dict(self) -> dict[Any, int]:
        """Value → count."""
        return {(tuple(value) if isinstance(value, list) else value): count for value, count in self.counts}


# ---- Checks ----


def check_facets(name: str, value: Any) -> tuple[AnyFacet, ...]:
    """Check facets: names, ``Facet`` and ``Range``, one or a list, or their JSON forms. Raises InvalidArgumentError."""
    given = [value] if isinstance(value, (str, Facet, Range)) else value
    if not isinstance(given, Sequence) or isinstance(given, (bytes, bytearray, memoryview)):
        what = f'{name} must be attributes, Facet(…) or Range(…), as in {name}=["brand", Range("price", [0, 10, 100])], not {shown(value)}'
        raise InvalidArgumentError(what, field=name, value=value)
    given = list(itertools.islice(given, MAX_FACETS + 1))
    if not 1 <= len(given) <= MAX_FACETS:
        raise InvalidArgumentError(f"{name} must have 1 to {MAX_FACETS} facets, not {len(given) or 'none'}", field=name, value=len(given))
    checked = tuple([_checked(name, facet_of(name, each)) for each in given])
    keys = [each.key for each in checked]
    for each in checked:
        if keys.count(each.key) > 1:
            what = f"{name} has two results called {each.key!r}; give one another name, as in {type(each).__name__}(…, name='other')"
            raise InvalidArgumentError(what, field=name, value=each.key)
    return checked


def facet_of(name: str, value: Any) -> AnyFacet:
    """A facet as it was given: a name, a ``Facet``, a ``Range``, or the JSON form of one. Raises InvalidArgumentError."""
    if isinstance(value, (Facet, Range)):
        return value
    if isinstance(value, str):
        return Facet(value)
    if isinstance(value, Mapping):
        options = dict(value)
        for kind, form, known in ((Facet, "facet", {"limit", "prefix", "name"}), (Range, "range", {"edges", "name"})):
            if form in options and options.keys() - {form} <= known and (kind is Facet or "edges" in options):
                return kind(options.pop(form), **options)
    what = f"{name} must have names of attributes, Facet(…) or Range(…), not {shown(value)} ({type(value).__name__})"
    raise InvalidArgumentError(what, field=name, value=value)


def _checked(name: str, facet: AnyFacet) -> AnyFacet:
    for part, text in (("attribute", facet.attribute), ("name", facet.name)):
        if not isinstance(text, str) and not (part == "name" and text is None):
            raise InvalidArgumentError(f"{part} of a facet must be a string, not {shown(text)}", field=name, value=text)
        if text is not None:
            utf8(text, f"{part} of a facet")
    if isinstance(facet, Facet):
        limit = check_count("limit of a facet", facet.limit)
        if facet.prefix is not None and not isinstance(facet.prefix, str):
            what = f"prefix of a facet must be a string, not {shown(facet.prefix)}"
            raise InvalidArgumentError(what, field=name, value=facet.prefix)
        if facet.prefix is not None:
            utf8(facet.prefix, "prefix of a facet")
        return facet if limit is facet.limit else Facet(facet.attribute, limit, facet.prefix, facet.name)
    if not isinstance(facet.edges, tuple) or not 2 <= len(facet.edges) <= MAX_EDGES:
        what = f"edges of Range({facet.attribute!r}, …) must be a list of 2 to {MAX_EDGES:,} values, such as [0, 10, 100]"
        raise InvalidArgumentError(f"{what}, not {shown(facet.edges)}", field=name, value=facet.edges)
    if None in facet.edges[1:-1] or facet.edges in ((None, None), (None,)):
        what = f"only the first or the last edge of Range({facet.attribute!r}, …) can be None, not {shown(facet.edges)}"
        raise InvalidArgumentError(what, field=name, value=facet.edges)
    return facet


def facets_json(facets: Sequence[AnyFacet]) -> list[Any]:
    """The JSON form of facets, which ``check_facets`` reads."""
    return [each.to_json() for each in facets]


def attribute_of(schema: Schema, name: str, what: str) -> AttributeType:
    """An attribute by name. Raises SchemaError."""
    spec = schema.attributes.get(name)
    if spec is None:
        hint = "a vector field has no values to count" if name in schema.vectors else f"the attributes are: {listing(schema.attributes)}"
        raise SchemaError(f"{what}: no attribute {shown(name)}; {hint}", field=name, value=name)
    return spec


def check_against(schema: Schema, facets: Sequence[AnyFacet]) -> None:
    """Check facets against a schema. Raises SchemaError or InvalidArgumentError."""
    for facet in facets:
        spec = attribute_of(schema, facet.attribute, "facets")
        if spec.stored == "text":
            what = f"facets can't count {facet.attribute!r}: Text is stored as words; store the values in a Keyword attribute as well"
            raise SchemaError(what, field=facet.attribute, value=facet.attribute)
        if isinstance(facet, Range):
            ordered_edges(facet, spec)
        elif facet.prefix is not None and spec.stored != "string":
            what = f"prefix needs a Keyword attribute, and {facet.attribute!r} is {type(spec).__name__}; count its ranges with Range(…)"
            raise SchemaError(what, field=facet.attribute, value=facet.prefix)


def ordered_edges(facet: Range, spec: AttributeType) -> list[Any]:
    """The edges as numbers to compare stored values with. Raises SchemaError or InvalidArgumentError."""
    if spec.stored not in _NUMBERS:
        what = f"Range needs an Int, Float or Datetime attribute, and {facet.attribute!r} is {type(spec).__name__}; count its values"
        raise SchemaError(f"{what}: facets=[{facet.attribute!r}]", field=facet.attribute, value=facet.attribute)
    try:
        edges = [None if edge is None else spec.filter_bound(facet.attribute, edge, True)[1] for edge in facet.edges]
    except VectorDBError:
        raise
    except (ValueError, OverflowError):  # NaN and infinities, which have no floor
        what = f"edges of Range({facet.attribute!r}, …) must be finite, not {shown(facet.edges)}; None leaves a range open"
        raise InvalidArgumentError(what, field=facet.attribute, value=facet.edges) from None
    inner = [edge for edge in edges if edge is not None]
    for i, (edge, following) in enumerate(itertools.pairwise(inner)):
        if not edge < following:
            given = [edge for edge in facet.edges if edge is not None]
            what = f"edges of Range({facet.attribute!r}, …) must ascend, but {shown(given[i])} comes before {shown(given[i + 1])}"
            raise InvalidArgumentError(what, field=facet.attribute, value=facet.edges)
    return edges


def user_edges(facet: Range, spec: AttributeType) -> list[Any]:
    """The edges in the user's form."""
    return [None if e is None else e if spec.plain else spec.restore_one(e) for e in ordered_edges(facet, spec)]


# ---- JSON of results ----


def results_to_json(results: Mapping[str, FacetResult], schema: Schema, facets: Sequence[AnyFacet]) -> dict[str, Any]:
    """Results as JSON data."""
    made = {}
    for facet in facets:
        result, spec = results[facet.key], schema.attributes[facet.attribute]
        ranged = isinstance(facet, Range)
        values = [[value_to_json(spec, v) for v in value] if ranged else value_to_json(spec, value) for value, _ in result.counts]
        made[facet.key] = {
            "kind": spec.kind,
            "ranges": ranged,
            "values": values,
            "counts": [count for _, count in result.counts],
            "points": result.points,
            "missing": result.missing,
            "distinct": result.distinct,
        }
    return made


def results_from_json(data: Mapping[str, Any]) -> dict[str, FacetResult]:
    """Results of their JSON data."""
    made = {}
    for name, each in data.items():
        spec = ATTRIBUTE_TYPES[each["kind"]]()
        values = [
            tuple(value_from_json(spec, v) for v in value) if each["ranges"] else value_from_json(spec, value) for value in each["values"]
        ]
        counts = tuple(map(FacetCount, values, each["counts"]))
        made[name] = FacetResult(counts, each["points"], each["missing"], each["distinct"])
    return made


def value_to_json(spec: AttributeType, value: Any) -> Any:
    """The JSON form of a value in the user's form."""
    return None if value is None else spec.to_json(value)


def value_from_json(spec: AttributeType, value: Any) -> Any:
    """The user's form of a value in its JSON form."""
    return None if value is None else tuple(value) if isinstance(value, list) else spec.from_json(value)
