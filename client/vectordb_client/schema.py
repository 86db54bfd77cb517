"""Schemas: which vector fields and attributes the points of a collection have. Frozen values, JSON in and out."""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, ClassVar

import numpy as np

from .errors import AlreadyExistsError, SchemaError, listing, shown

MAX_DIM = 65_536
MAX_FIELDS = 4096
GRAPH_BUILDERS = ("faiss", "hnswlib")
MIN_DEGREE, MAX_DEGREE = 4, 64
MAX_EF_CONSTRUCTION = 2000
MIN_LEVELS, MAX_LEVELS = 2, 64
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}")


def check_name(name: Any, what: str) -> str:
    """A collection or field name: 1-64 characters, letters, digits, ``_ . -``, not starting with a digit."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SchemaError(
            f"{what} {shown(name)} is not a name: 1-64 of letters, digits, '_', '.', '-', starting with a letter or '_'",
            field=what,
            value=name,
        )
    return name


# What the same thing is called elsewhere → what it is called here.
_ALIASES = {
    **dict.fromkeys(("cos", "cosine_similarity", "angular"), "cosine"),
    **dict.fromkeys(("ip", "inner", "inner_product", "dot_product", "dotproduct", "max_inner_product"), "dot"),
    **dict.fromkeys(("euclid", "euclidean", "l2_squared", "sqeuclidean", "squared_l2", "euclidean_squared"), "l2"),
    **dict.fromkeys(("f32", "float", "single", "fp32"), "float32"),
    **dict.fromkeys(("f16", "half", "fp16"), "float16"),
}


def _choice(field: str, value: Any, choices: tuple) -> None:
    if value is None or isinstance(value, str):
        if value in choices:
            return
        meant = str(value).lower()
        meant = _ALIASES.get(meant, meant)
    else:
        meant = getattr(value, "__name__", str(value) if isinstance(value, np.dtype) else "")  # np.float32 and the like
    hint = ""
    if meant in choices:
        hint = f"; write {meant!r}" + (", whose scores are squared distances" if meant == "l2" else "")
    what = f"{field} must be one of {', '.join(map(repr, choices))}, not {shown(value)}{hint}"
    raise SchemaError(what, field=field, value=value)


def _check_integer(field: str, value: Any, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise SchemaError(f"{field} must be an integer from {low} to {high}, not {shown(value)}", field=field, value=value)


def _check_encoder(encoder: Any, source: Any) -> None:
    for field, value in (("encoder", encoder), ("source", source)):
        if value is not None and (not isinstance(value, str) or not value):
            raise SchemaError(f"{field} must be a non-empty string, not {shown(value)}", field=field, value=value)
    if source is not None and encoder is None:
        raise SchemaError(f"source {shown(source)} needs an encoder", field="source", value=source)


def _check_index(index: Any, kind: type) -> None:
    if index is not None and not isinstance(index, kind):
        article = "an" if kind is Index else "a"
        hint = f" (did you mean {kind.__name__}()?)" if index is kind else ""
        raise SchemaError(f"index must be {article} {kind.__name__} or None, not {shown(index)}{hint}", field="index", value=index)


@dataclass(frozen=True)
class Index:
    """How the graph of a dense field's index is built. It is searched with whatever effort the recall asked for needs.

    graph_builder: "faiss", or "hnswlib" where that is installed. degree: neighbours of a node, 4 to 64; the lowest layer has twice as
    many. ef_construction: candidates looked at while a node is linked, from ``degree`` to 2000. More of either is a better graph
    (fewer rows touched for the same recall) that takes longer to build; a higher degree takes more memory too.
    """

    graph_builder: str = "faiss"
    degree: int = 16
    ef_construction: int = 80

    def __post_init__(self):
        _choice("graph_builder", self.graph_builder, GRAPH_BUILDERS)
        _check_integer("degree", self.degree, MIN_DEGREE, MAX_DEGREE)
        _check_integer("ef_construction", self.ef_construction, self.degree, MAX_EF_CONSTRUCTION)


@dataclass(frozen=True)
class Dense:
    """A dense vector field: ``dim`` numbers a point, float32 or float16.

    metric: "cosine" (score is the cosine, higher is closer), "dot" (inner product, higher is closer) or
    "l2" (score is the *squared* Euclidean distance, lower is closer).
    encoder, source: the encoder's name and the attribute it reads; then upsert and ``search(text=…)`` embed by themselves.
    index: how the field is indexed; None: never, then every search of it is exact.
    """

    dim: int
    metric: str = "cosine"
    dtype: str = "float32"
    encoder: str | None = None
    source: str | None = None
    index: Index | None = Index()
    kind: ClassVar[str] = "dense"

    def __post_init__(self):
        _check_integer("dim", self.dim, 1, MAX_DIM)
        _choice("metric", self.metric, ("cosine", "dot", "l2"))
        _choice("dtype", self.dtype, ("float32", "float16"))
        _check_encoder(self.encoder, self.source)
        _check_index(self.index, Index)


@dataclass(frozen=True)
class SparseIndex:
    """How a sparse field is indexed: lists of points by falling weight, which a search reads as far as the recall asked for needs.

    levels: to how many a list's weights are rounded, 2 to 64. With more, fewer points need an exact score, and lists are longer.
    """

    levels: int = 16

    def __post_init__(self):
        _check_integer("levels", self.levels, MIN_LEVELS, MAX_LEVELS)


@dataclass(frozen=True)
class Sparse:
    """A sparse vector field: u64 term ids with float32 weights, scored by inner product.

    weighting="idf" multiplies each query weight by the term's inverse document frequency over the live
    points that have the field: ``ln(1 + (N − df + ½)/(df + ½))`` (Robertson and Spärck Jones, as in BM25).
    A point that shares no term with the query is not a match of this field.
    encoder="bm25" makes the field score by BM25: weighting may be left out and is "idf". Such a field's vectors are term frequencies, whole
    numbers from 1 on. weighting="none" is what fields of that encoder have that were made without it by an earlier version; new ones can't.
    binary=True keeps only which terms a point has (ultra-high-dimensional binary codes): every weight, a query's too, counts as 1.
    index: how the field is indexed; None: never, then every search of it is exact. Fields or queries with negative weights are searched
    exactly, too.
    """

    weighting: str | None = None
    encoder: str | None = None
    source: str | None = None
    binary: bool = False
    index: SparseIndex | None = SparseIndex()
    kind: ClassVar[str] = "sparse"

    def __post_init__(self):
        _choice("weighting", self.weighting, (None, "idf", "none"))
        _check_encoder(self.encoder, self.source)
        if self.counts_words:
            object.__setattr__(self, "weighting", self.weighting or "idf")
        elif self.weighting == "none":
            object.__setattr__(self, "weighting", None)
        if not isinstance(self.binary, bool):
            raise SchemaError(f"binary must be True or False, not {shown(self.binary)}", field="binary", value=self.binary)
        _check_index(self.index, SparseIndex)

    @property
    def counts_words(self) -> bool:
        """Whether its encoder is BM25."""
        return self.encoder is not None and self.encoder.partition("(")[0].strip() == "bm25"


@dataclass(frozen=True)
class MultiVector:
    """Several vectors a point (token or passage embeddings), ``rows × dim``, searched with a ``rows × dim`` query.

    aggregation: "maxsim" (sum over query rows of the best document row; ColBERT's late interaction) or
    "max" (the best pair; ME-BERT). metric: "cosine" or "dot".
    """

    dim: int
    metric: str = "cosine"
    dtype: str = "float32"
    aggregation: str = "maxsim"
    encoder: str | None = None
    source: str | None = None
    kind: ClassVar[str] = "multi"

    def __post_init__(self):
        _check_integer("dim", self.dim, 1, MAX_DIM)
        _choice("metric", self.metric, ("cosine", "dot"))
        _choice("dtype", self.dtype, ("float32", "float16"))
        _choice("aggregation", self.aggregation, ("maxsim", "max"))
        _check_encoder(self.encoder, self.source)


@dataclass(frozen=True)
class _Attribute:
    """array=True: a list of such values a point; a predicate then holds when any element satisfies it."""

    array: bool = False
    kind: ClassVar[str] = ""

    def __post_init__(self):
        if not isinstance(self.array, bool):
            raise SchemaError(f"array must be True or False, not {shown(self.array)}", field="array", value=self.array)


class Keyword(_Attribute):
    """Exact strings of at most 480 UTF-8 bytes: equality, IN, prefix, glob."""

    kind = "keyword"


class Int(_Attribute):
    """Signed 64-bit integers."""

    kind = "int"


class Float(_Attribute):
    """64-bit floats, finite."""

    kind = "float"


class Bool(_Attribute):
    """True or False."""

    kind = "bool"


class Datetime(_Attribute):
    """``datetime``, ``date`` (its midnight) or an ISO-8601 string, kept as UTC microseconds; a value without a zone is taken as UTC.

    Nanoseconds, of numpy, pandas and Arrow, are cut off.
    """

    kind = "datetime"


class Text(_Attribute):
    """Text of any length, tokenized into casefolded Unicode words for match any / all / phrase."""

    kind = "text"


class Uuid(_Attribute):
    """``uuid.UUID`` or its string form."""

    kind = "uuid"


class Geo(_Attribute):
    """A point on Earth: ``(lat, lon)`` in degrees, or ``{"lat": …, "lon": …}``."""

    kind = "geo"


VectorField = Dense | Sparse | MultiVector
Attribute = Keyword | Int | Float | Bool | Datetime | Text | Uuid | Geo
_INDEXES: dict[type, type] = {Dense: Index, Sparse: SparseIndex}
VECTOR_KINDS = {c.kind: c for c in (Dense, Sparse, MultiVector)}
ATTRIBUTE_KINDS = {c.kind: c for c in (Keyword, Int, Float, Bool, Datetime, Text, Uuid, Geo)}


@dataclass(frozen=True)
class Schema:
    """The fields of a collection. ``vectors`` and ``attributes`` map names to field definitions.

    earlier: names of fields that an earlier version made and that keep its rules until they are converted: BM25 fields with weights fixed
    at the write, Text attributes with its words. The database sets it; it is no part of what is compared, sent or stored.
    """

    vectors: Mapping[str, VectorField] = dataclasses.field(default_factory=dict)
    attributes: Mapping[str, Attribute] = dataclasses.field(default_factory=dict)
    earlier: frozenset[str] = dataclasses.field(default=frozenset(), init=False, compare=False, repr=False)

    def __post_init__(self):
        for what, fields, kinds in (
            ("vector field", self.vectors, tuple(VECTOR_KINDS.values())),
            ("attribute", self.attributes, tuple(ATTRIBUTE_KINDS.values())),
        ):
            if not isinstance(fields, Mapping):
                raise SchemaError(f"{what}s must be a mapping of names to definitions, not {shown(fields)}", field=what, value=fields)
            for name, spec in fields.items():
                check_name(name, what)
                if not isinstance(spec, kinds):
                    wanted = f"must be a definition such as {_such(what, spec)}, not {shown(spec)}"
                    raise SchemaError(f"{what} {name!r} {wanted}", field=name, value=spec)
        both = set(self.vectors) & set(self.attributes)
        if both:
            name = min(both)
            raise SchemaError(f"{name!r} is both a vector field and an attribute", field=name)
        if len(self.vectors) + len(self.attributes) > MAX_FIELDS:
            n = len(self.vectors) + len(self.attributes)
            raise SchemaError(f"a schema has at most {MAX_FIELDS} fields in all, not {n}", field="schema", value=n)
        for name, spec in self.vectors.items():
            if spec.source is None:
                continue
            if spec.source not in self.attributes:
                raise SchemaError(
                    f"source of vector field {name!r} is {spec.source!r}, which is not an attribute", field=name, value=spec.source
                )
            source = self.attributes[spec.source]
            if not isinstance(source, (Text, Keyword)) or source.array:
                raise SchemaError(f"source of vector field {name!r} must be a Text or Keyword attribute", field=name, value=spec.source)
        object.__setattr__(self, "vectors", dict(self.vectors))
        object.__setattr__(self, "attributes", dict(self.attributes))

    def vector(self, name: Any) -> VectorField:
        """The definition of a vector field. Raises SchemaError naming the fields there are."""
        if isinstance(name, str) and name in self.vectors:
            return self.vectors[name]
        raise SchemaError(f"no vector field {shown(name)}; there are: {listing(self.vectors)}", field="vectors", value=name)

    def attribute(self, name: Any) -> Attribute:
        """The definition of an attribute. Raises SchemaError naming the attributes there are."""
        if isinstance(name, str) and name in self.attributes:
            return self.attributes[name]
        raise SchemaError(f"no attribute {shown(name)}; there are: {listing(self.attributes)}", field="attributes", value=name)

    def is_bm25(self, name: str) -> bool:
        """Whether a vector field holds term frequencies, which BM25 scores when it is asked."""
        spec = self.vectors.get(name)
        return isinstance(spec, Sparse) and spec.counts_words and name not in self.earlier

    def same_as(self, other: Schema) -> bool:
        """Whether who asks for the other can take this one: equal, but for BM25 fields that were made without weighting by an earlier
        version.
        """
        if self.attributes != other.attributes or self.vectors.keys() != other.vectors.keys():
            return False
        return all(_takes(spec, other.vectors[name]) for name, spec in self.vectors.items())

    def with_fields(
        self,
        vectors: Mapping[str, VectorField] | None = None,
        attributes: Mapping[str, Attribute] | None = None,
        *,
        exist_ok: bool = False,
    ) -> Schema:
        """This schema with more fields. exist_ok: a field that is there with the same definition is left as it is.

        Raises SchemaError when a name is taken.
        """
        for what, fields in (("vector field", vectors), ("attribute", attributes)):
            if fields is not None and not isinstance(fields, Mapping):
                raise SchemaError(f"{what}s must be a mapping of names to definitions, not {shown(fields)}", field=what, value=fields)
        there = {**self.vectors, **self.attributes}
        for name, spec in {**(vectors or {}), **(attributes or {})}.items():
            if name not in there:
                continue
            if type(there[name]) is not type(spec) or not _takes(there[name], spec):
                raise SchemaError(f"field {name!r} exists already, as {there[name]}, not {shown(spec)}", field=name, value=spec)
            if not exist_ok:
                raise SchemaError(f"field {name!r} exists already; exist_ok=True leaves it as it is", field=name)
        return Schema({**self.vectors, **(vectors or {})}, {**self.attributes, **(attributes or {})})

    def to_dict(self) -> dict:
        """Plain JSON data; ``from_dict`` reads it back."""
        return {
            "vectors": {name: _spec_dict(spec) for name, spec in self.vectors.items()},
            "attributes": {name: _spec_dict(spec) for name, spec in self.attributes.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping) -> Schema:
        """Read ``to_dict``'s form. Raises SchemaError on unknown kinds, options or sections."""
        if not isinstance(data, Mapping) or set(data) - {"vectors", "attributes"}:
            raise SchemaError(f"a schema has 'vectors' and 'attributes', not {shown(data)}", field="schema", value=data)
        return cls(
            _specs(data.get("vectors", {}), VECTOR_KINDS, "vector field"),
            _specs(data.get("attributes", {}), ATTRIBUTE_KINDS, "attribute"),
        )


def _such(what: str, given: Any) -> str:
    """An example of a definition, the one that is meant where that can be told."""
    if what == "vector field":
        if type(given) is int and 1 <= given <= MAX_DIM:
            return f"Dense({given})"
        return "Sparse()" if given is Sparse or (isinstance(given, str) and given == "sparse") else "Dense(384)"
    if isinstance(given, type):
        return f"{(given if issubclass(given, _Attribute) else _PYTHON_TYPES.get(given, Keyword)).__name__}()"
    kind = ATTRIBUTE_KINDS.get(given.lower()) if isinstance(given, str) else None
    return f"{(kind or Keyword).__name__}()"


_PYTHON_TYPES = {int: Int, float: Float, bool: Bool, datetime: Datetime, date: Datetime, uuid.UUID: Uuid}


def differences(wanted: Schema, found: Schema) -> str:
    """In a few words, how a collection's schema is another than the one wanted; empty when they are equal."""
    parts = []
    for what, ours, theirs in (
        ("vector field", wanted.vectors, found.vectors),
        ("attribute", wanted.attributes, found.attributes),
    ):
        for name in dict.fromkeys((*ours, *theirs)):
            if name not in theirs:
                parts.append(f"it has no {what} {name!r}")
            elif name not in ours:
                parts.append(f"it also has the {what} {name!r}")
            elif ours[name] != theirs[name]:
                parts.append(f"{what} {name!r} is {_spelled(theirs[name])}, not {_spelled(ours[name])}")
    return "; ".join(parts[:5]) + (f"; and {len(parts) - 5} more" if len(parts) > 5 else "")


def _spelled(spec: VectorField | Attribute) -> str:
    """The definition as one would write it: options that aren't the default, and the dimensions."""
    options = {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec)}
    return f"{type(spec).__name__}({', '.join(f'{name}={value!r}' for name, value in options.items() if name in ('dim', *_changed(spec)))})"


def exists_already(name: str, wanted: Schema, found: Schema, exist_ok: bool) -> AlreadyExistsError:
    """What is raised where a collection can't be made because there is one of that name."""
    other = differences(wanted, found)
    if not other:
        what = f"collection {name!r} exists already; exist_ok=True takes it as it is"
    elif exist_ok:
        what = f"collection {name!r} exists with another schema: {other}"
    else:
        what = f"collection {name!r} exists already, with another schema: {other}. collection({name!r}) opens it as it is"
    return AlreadyExistsError(what, field="collection", value=name)


def _takes(there: VectorField | Attribute, asked: VectorField | Attribute) -> bool:
    """Whether who asks for a field can take this one: see ``Schema.same_as``."""
    frozen = isinstance(there, Sparse) and there.weighting == "none"
    return there == asked or (frozen and dataclasses.replace(there, weighting=None) == asked)


def _spec_dict(spec: VectorField | Attribute) -> dict:
    options = _changed(spec)
    if isinstance(options.get("index"), (Index, SparseIndex)):
        options["index"] = _changed(options["index"])
    return {"kind": spec.kind, **options}


def _changed(spec: Any) -> dict:
    """The options that aren't the default."""
    return {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec) if getattr(spec, f.name) != f.default}


def _specs(section: Any, kinds: Mapping[str, type], what: str) -> dict:
    if not isinstance(section, Mapping):
        raise SchemaError(f"{what}s must be a mapping, not {shown(section)}", field=what, value=section)
    specs = {}
    for name, data in section.items():
        options = dict(data) if isinstance(data, Mapping) else {"kind": data}
        kind = options.pop("kind", None)
        if not isinstance(kind, str) or kind not in kinds:
            raise SchemaError(f"kind of {what} {name!r} must be one of {', '.join(kinds)}, not {shown(kind)}", field=name, value=kind)
        if kinds[kind] in _INDEXES and isinstance(options.get("index"), Mapping):
            options["index"] = _built(_INDEXES[kinds[kind]], options["index"], f"index of {what} {name!r}", name)
        specs[name] = _built(kinds[kind], options, f"{what} {name!r}", name)
    return specs


def _built(cls: type, options: Mapping, what: str, field: str) -> Any:
    """``cls(**options)``. Raises SchemaError naming an option that there isn't."""
    known = {f.name for f in dataclasses.fields(cls)}
    for option in options:
        if option not in known:
            raise SchemaError(f"{what} has no option {shown(option)}; there are: {', '.join(sorted(known))}", field=field, value=option)
    try:
        return cls(**options)
    except TypeError as error:
        raise SchemaError(f"{what}: {error}", field=field, value=dict(options)) from None
