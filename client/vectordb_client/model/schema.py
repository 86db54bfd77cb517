"""Schemas: the vector fields and attributes of the points of a collection. Frozen values with a JSON form."""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, ClassVar

from ..errors import SchemaError, listing, shown
from .arguments import named_class
from .attributes import ATTRIBUTE_TYPES, AttributeType, Bool, Datetime, Float, Int, Keyword, Text, Uuid
from .attributes import Geo as Geo
from .options import check_integer, choice

MAX_DIM = 65_536
MAX_FIELDS = 4096
GRAPH_BUILDERS = ("faiss", "hnswlib")
MIN_DEGREE, MAX_DEGREE, MAX_EF_CONSTRUCTION = 4, 64, 2000
MIN_LEVELS, MAX_LEVELS = 2, 64
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}")


def check_schema(schema: Any) -> None:
    """Raise SchemaError if this is not a Schema."""
    if isinstance(schema, Schema):
        return
    hint = ""
    if isinstance(schema, Mapping):
        hint = "; write Schema(vectors={'v': Dense(384)}, attributes={'year': Int()}), or Schema.from_dict(…) for its JSON form"
    raise SchemaError(f"schema must be a Schema, not {shown(schema)}{hint}", field="schema", value=schema)


def check_name(name: Any, what: str) -> str:
    """Check the name of a collection or field: 1 to 64 letters, digits, ``_ . -``, starting with a letter or ``_``. Raises SchemaError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SchemaError(
            f"{what} {shown(name)} is not a name: 1-64 of letters, digits, '_', '.', '-', starting with a letter or '_'",
            field=what,
            value=name,
        )
    return name


def _check_encoder(encoder: Any, source: Any) -> None:
    for field, value in (("encoder", encoder), ("source", source)):
        if value is not None and (not isinstance(value, str) or not value):
            what = f"{field} must be a non-empty string, not {shown(value)}"
            if field == "encoder" and callable(value):
                what += "; a function can't be stored: call it yourself and pass its vectors to upsert and search"
            raise SchemaError(what, field=field, value=value)
    if source is not None and encoder is None:
        raise SchemaError(f"source {shown(source)} needs an encoder", field="source", value=source)


def _check_index(index: Any, kind: type) -> None:
    if index is not None and not isinstance(index, kind):
        article = "an" if kind is Index else "a"
        hint = f" (did you mean {kind.__name__}()?)" if index is kind else ""
        raise SchemaError(f"index must be {article} {kind.__name__} or None, not {shown(index)}{hint}", field="index", value=index)


@named_class
@dataclass(frozen=True)
class Index:
    """How the index of a dense field is built. It doesn't limit the recall that a search can ask for.

    A higher degree or ef_construction gives a better graph, which takes longer to build. A higher degree also takes more memory.

    Attributes:
        graph_builder: "faiss", or "hnswlib" where that is installed.
        degree: neighbours of a node, 4 to 64. The lowest layer has twice as many.
        ef_construction: candidates that are considered when a node is linked, from ``degree`` to 2000.
    """

    graph_builder: str = "faiss"
    degree: int = 16
    ef_construction: int = 80

    def __post_init__(self):
        choice("graph_builder", self.graph_builder, GRAPH_BUILDERS)
        check_integer("degree", self.degree, MIN_DEGREE, MAX_DEGREE)
        check_integer("ef_construction", self.ef_construction, self.degree, MAX_EF_CONSTRUCTION)


@named_class
@dataclass(frozen=True)
class Dense:
    """A dense vector field: ``dim`` numbers for each point.

    Attributes:
        dim: the number of dimensions, 1 to 65,536.
        metric: "cosine": the score is the cosine, higher is closer. "dot": the inner product, higher is closer. "l2": the *squared*
            Euclidean distance, lower is closer.
        dtype: "float32" or "float16", in which vectors are stored.
        encoder: the name of an encoder, such as "wordllama(dim=256)". ``search(text=…)`` then encodes texts.
        source: the attribute that the encoder reads; ``upsert`` then encodes it.
        index: how the field is indexed. None: it is never indexed, and every search of it is exact.

    Raises:
        SchemaError: a value is not valid.
    """

    dim: int
    metric: str = "cosine"
    dtype: str = "float32"
    encoder: str | None = None
    source: str | None = None
    index: Index | None = Index()
    kind: ClassVar[str] = "dense"

    def __post_init__(self):
        check_integer("dim", self.dim, 1, MAX_DIM)
        choice("metric", self.metric, ("cosine", "dot", "l2"))
        choice("dtype", self.dtype, ("float32", "float16"))
        _check_encoder(self.encoder, self.source)
        _check_index(self.index, Index)


@named_class
@dataclass(frozen=True)
class SparseIndex:
    """How a sparse field is indexed: as lists of points in descending order of weight, of which a search reads a part.

    Attributes:
        levels: levels to which weights are rounded, 2 to 64. With more, fewer points need an exact score, and the lists are longer.
    """

    levels: int = 16

    def __post_init__(self):
        check_integer("levels", self.levels, MIN_LEVELS, MAX_LEVELS)


@named_class
@dataclass(frozen=True)
class Sparse:
    """A sparse vector field: uint64 terms with float32 weights, scored by inner product.

    A point that shares no term with the query is not a match of this field. Fields and queries with negative weights are searched exactly.

    Attributes:
        weighting: "idf" multiplies each weight of a query by the inverse document frequency of its term among the live points that have the
            field: ``ln(1 + (N − df + ½)/(df + ½))`` (Robertson and Spärck Jones, as in BM25). None doesn't. The encoder "bm25" always has
            "idf"; "none" only exists for fields that an earlier version created without it.
        encoder: the name of an encoder. "bm25" scores by BM25; the vectors of the field are then term frequencies, whole numbers ≥ 1.
        source: the attribute that the encoder reads; ``upsert`` then encodes it.
        binary: store only which terms a point has; every weight, also of a query, counts as 1.
        index: how the field is indexed. None: it is never indexed, and every search of it is exact.

    Raises:
        SchemaError: a value is not valid.
    """

    weighting: str | None = None
    encoder: str | None = None
    source: str | None = None
    binary: bool = False
    index: SparseIndex | None = SparseIndex()
    kind: ClassVar[str] = "sparse"

    def __post_init__(self):
        choice("weighting", self.weighting, (None, "idf", "none"))
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
        """Whether the encoder is BM25."""
        return self.encoder is not None and self.encoder.partition("(")[0].strip() == "bm25"


@named_class
@dataclass(frozen=True)
class MultiVector:
    """A multi-vector field: several vectors for each point (token or passage embeddings), searched with several query vectors.

    Multi-vector fields have no index; every search of them is exact.

    Attributes:
        dim: the number of dimensions of each vector, 1 to 65,536.
        metric: "cosine" or "dot".
        dtype: "float32" or "float16", in which vectors are stored.
        aggregation: "maxsim": the sum over the query vectors of the score of the best vector of the point (late interaction, ColBERT).
            "max": the score of the best pair (ME-BERT).
        encoder: the name of an encoder. ``search(text=…)`` then encodes texts.
        source: the attribute that the encoder reads; ``upsert`` then encodes it.

    Raises:
        SchemaError: a value is not valid.
    """

    dim: int
    metric: str = "cosine"
    dtype: str = "float32"
    aggregation: str = "maxsim"
    encoder: str | None = None
    source: str | None = None
    kind: ClassVar[str] = "multi"

    def __post_init__(self):
        check_integer("dim", self.dim, 1, MAX_DIM)
        choice("metric", self.metric, ("cosine", "dot"))
        choice("dtype", self.dtype, ("float32", "float16"))
        choice("aggregation", self.aggregation, ("maxsim", "max"))
        _check_encoder(self.encoder, self.source)


VectorField = Dense | Sparse | MultiVector
_INDEXES: dict[type, type] = {Dense: Index, Sparse: SparseIndex}
VECTOR_KINDS = {c.kind: c for c in (Dense, Sparse, MultiVector)}


@named_class
@dataclass(frozen=True)
class Schema:
    """The vector fields and attributes of a collection.

    Attributes:
        vectors: name → ``Dense(…)``, ``Sparse(…)`` or ``MultiVector(…)``.
        attributes: name → ``Keyword()``, ``Int()``, ``Float()``, ``Bool()``, ``Datetime()``, ``Text()``, ``Uuid()`` or ``Geo()``.
        earlier: names of fields that an earlier version of vectordb created and that still follow its rules: BM25 fields with weights fixed
            at the write, Text attributes with its words. The database sets it; it is not compared, sent or stored.

    Raises:
        SchemaError: a name or a definition is not valid. The error says what to write instead.

    Example:
        ```python
        Schema(
            vectors={"v": Dense(384), "terms": Sparse(encoder="bm25", source="body")},
            attributes={"body": Text(), "year": Int(), "tags": Keyword(array=True)},
        )
        ```
    """

    vectors: Mapping[str, VectorField] = dataclasses.field(default_factory=dict)
    attributes: Mapping[str, AttributeType] = dataclasses.field(default_factory=dict)
    earlier: frozenset[str] = dataclasses.field(default=frozenset(), init=False, compare=False, repr=False)

    def __post_init__(self):
        for what, fields, kinds in (
            ("vector field", self.vectors, tuple(VECTOR_KINDS.values())),
            ("attribute", self.attributes, tuple(ATTRIBUTE_TYPES.values())),
        ):
            _check_mapping(what, fields)
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
        """The definition of a vector field. Raises SchemaError, which lists the fields that exist."""
        if isinstance(name, str) and name in self.vectors:
            return self.vectors[name]
        hint = ""
        if isinstance(name, str) and name in self.attributes:
            reading = [field for field, spec in self.vectors.items() if spec.source == name]
            write = f", which {' and '.join(map(repr, reading))} reads; write {reading[0]!r}" if reading else ""
            hint = f" ({name!r} is an attribute{write})"
        raise SchemaError(f"no vector field {shown(name)}; there are: {listing(self.vectors)}{hint}", field="vectors", value=name)

    def attribute(self, name: Any) -> AttributeType:
        """The definition of an attribute. Raises SchemaError, which lists the attributes that exist."""
        if isinstance(name, str) and name in self.attributes:
            return self.attributes[name]
        raise SchemaError(f"no attribute {shown(name)}; there are: {listing(self.attributes)}", field="attributes", value=name)

    def is_bm25(self, name: str) -> bool:
        """Whether a vector field holds term frequencies, which BM25 weighs at query time."""
        spec = self.vectors.get(name)
        return isinstance(spec, Sparse) and spec.counts_words and name not in self.earlier

    def same_as(self, other: Schema) -> bool:
        """Whether both are equal, except for BM25 fields that an earlier version created without weighting."""
        if self.attributes != other.attributes or self.vectors.keys() != other.vectors.keys():
            return False
        return all(_takes(spec, other.vectors[name]) for name, spec in self.vectors.items())

    def with_fields(
        self,
        vectors: Mapping[str, VectorField] | None = None,
        attributes: Mapping[str, AttributeType] | None = None,
        *,
        exist_ok: bool = False,
    ) -> Schema:
        """This schema with more fields.

        Args:
            vectors: name → definition.
            attributes: name → definition.
            exist_ok: accept a field that exists with the same definition.

        Raises:
            SchemaError: a name is taken, or a definition is not valid.
        """
        for what, fields in (("vector field", vectors), ("attribute", attributes)):
            _check_mapping(what, {} if fields is None else fields)
        there = {**self.vectors, **self.attributes}
        for name, spec in {**(vectors or {}), **(attributes or {})}.items():
            if name not in there:
                continue
            if type(there[name]) is not type(spec) or not _takes(there[name], spec):
                asked = spelled(spec) if isinstance(spec, (*VECTOR_KINDS.values(), *ATTRIBUTE_TYPES.values())) else shown(spec)
                raise SchemaError(f"field {name!r} exists already, as {spelled(there[name])}, not {asked}", field=name, value=spec)
            if not exist_ok:
                raise SchemaError(f"field {name!r} exists already; exist_ok=True leaves it as it is", field=name)
        return Schema({**self.vectors, **(vectors or {})}, {**self.attributes, **(attributes or {})})

    def to_dict(self) -> dict:
        """The schema as plain JSON data. ``from_dict`` reads it back."""
        return {
            "vectors": {name: _spec_dict(spec) for name, spec in self.vectors.items()},
            "attributes": {name: _spec_dict(spec) for name, spec in self.attributes.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping) -> Schema:
        """The schema in the form of ``to_dict``. Raises SchemaError for unknown kinds, options or sections."""
        if not isinstance(data, Mapping) or set(data) - {"vectors", "attributes"}:
            raise SchemaError(f"a schema has 'vectors' and 'attributes', not {shown(data)}", field="schema", value=data)
        return cls(
            _specs(data.get("vectors", {}), VECTOR_KINDS, "vector field"),
            _specs(data.get("attributes", {}), ATTRIBUTE_TYPES, "attribute"),
        )


def _check_mapping(what: str, fields: Any) -> None:
    if not isinstance(fields, Mapping):
        raise SchemaError(f"{what}s must be a mapping of names to definitions, not {shown(fields)}", field=what, value=fields)


def _such(what: str, given: Any) -> str:
    """An example of a definition: if possible, what the caller meant."""
    if what == "vector field":
        if type(given) is int and 1 <= given <= MAX_DIM:
            return f"Dense({given})"
        return "Sparse()" if given is Sparse or (isinstance(given, str) and given == "sparse") else "Dense(384)"
    if isinstance(given, type):
        return f"{(given if issubclass(given, AttributeType) else _PYTHON_TYPES.get(given, Keyword)).__name__}()"
    kind = ATTRIBUTE_TYPES.get(given.lower()) if isinstance(given, str) else None
    return f"{(kind or Keyword).__name__}()"


_PYTHON_TYPES = {int: Int, float: Float, bool: Bool, datetime: Datetime, date: Datetime, uuid.UUID: Uuid}


def _takes(there: VectorField | AttributeType, asked: VectorField | AttributeType) -> bool:
    """Whether both definitions are equal in the sense of ``Schema.same_as``."""
    frozen = isinstance(there, Sparse) and there.weighting == "none"
    return there == asked or (frozen and dataclasses.replace(there, weighting=None) == asked)


def _spec_dict(spec: VectorField | AttributeType) -> dict:
    options = changed_options(spec)
    if isinstance(options.get("index"), (Index, SparseIndex)):
        options["index"] = changed_options(options["index"])
    return {"kind": spec.kind, **options}


def changed_options(spec: Any) -> dict:
    """The options that don't have their default."""
    return {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec) if getattr(spec, f.name) != f.default}


def spelled(spec: VectorField | AttributeType) -> str:
    """The definition as Python would write it, without options that have their default."""
    shown = ("dim", *changed_options(spec))
    options = {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec)}
    return f"{type(spec).__name__}({', '.join(f'{name}={value!r}' for name, value in options.items() if name in shown)})"


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
    """``cls(**options)``. Raises SchemaError for an unknown option."""
    known = {f.name for f in dataclasses.fields(cls)}
    for option in options:
        if option not in known:
            raise SchemaError(f"{what} has no option {shown(option)}; there are: {', '.join(sorted(known))}", field=field, value=option)
    try:
        return cls(**options)
    except TypeError as error:
        raise SchemaError(f"{what}: {error}", field=field, value=dict(options)) from None
