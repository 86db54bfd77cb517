"""Schemas: the vector fields and attributes of the points of a collection. Frozen values with a JSON form."""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, cast

from ..errors import SchemaError, listing, shown
from .arguments import named_class
from .attributes import ATTRIBUTE_TYPES, AttributeType, Bool, Datetime, Float, Geo, Int, Keyword, Text, Uuid  # noqa: F401
from .checks import check_flag
from .derivations import MAX_PCA_DIM, derivation_of
from .fields import (  # noqa: F401
    HNSW,
    IVF,
    MAX_DIM,
    VECTOR_TYPES,
    Dense,
    ImpactIndex,
    MultiVector,
    Sparse,
    TokenLists,
    VectorField,
)  # fmt: skip

Index, SparseIndex = HNSW, ImpactIndex  # their names in earlier versions
MAX_FIELDS = 4096
MAX_NAME_BYTES = 255  # of the name of an attribute
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


def check_field_names(names: Any) -> list[str]:
    """Names of fields to drop: one, or several. Raises SchemaError."""
    listed = [names] if isinstance(names, str) else names
    if not isinstance(listed, (list, tuple, set, frozenset)) or not listed or not all(isinstance(name, str) for name in listed):
        raise SchemaError(f"names must be the name of a field or a list of names, not {shown(names)}", field="names", value=names)
    return list(dict.fromkeys(listed))


def check_new_names(names: Any) -> dict[str, str]:
    """Old names of fields → new ones. Raises SchemaError."""
    if not isinstance(names, Mapping) or not names or not all(isinstance(name, str) for pair in names.items() for name in pair):
        what = f"names must be a mapping of old names to new ones, not {shown(names)}; write rename_fields({{'old': 'new'}})"
        raise SchemaError(what, field="names", value=names)
    return dict(names)


@named_class
@dataclass(frozen=True)
class Schema:
    """The vector fields and attributes of a collection.

    Attributes:
        vectors: name → ``Dense(…)``, ``Sparse(…)`` or ``MultiVector(…)``.
        attributes: name → ``Keyword()``, ``Int()``, ``Float()``, ``Bool()``, ``Datetime()``, ``Text()``, ``Uuid()`` or ``Geo()``. A name is
            any string of 1 to 255 UTF-8 bytes; in the string notation of filters unusual ones stand in backticks.
        dynamic: a write may have attributes that aren't declared. They become keys of the payload, where filters find them. The points of
            a list may also hold their attributes and vectors directly: ``{"id": 1, "color": "red"}``.
        ttl: the name of a ``Datetime()`` attribute that says when a point ends. From that moment on no read shows the point, and a write
            takes its id for a free one; the next write or ``optimize`` deletes it. A point without a value never ends.
        tenant: the name of the attribute ``Keyword(tenant=True)``, None if there is none. It follows from the attributes.
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
    dynamic: bool = dataclasses.field(default=False, kw_only=True)
    ttl: str | None = dataclasses.field(default=None, kw_only=True)
    tenant: str | None = dataclasses.field(default=None, init=False, compare=False, repr=False)
    earlier: frozenset[str] = dataclasses.field(default=frozenset(), init=False, compare=False, repr=False)

    def __post_init__(self):
        check_flag("dynamic", self.dynamic, SchemaError)
        for what, fields, kinds in (
            ("vector field", self.vectors, tuple(VECTOR_TYPES.values())),
            ("attribute", self.attributes, tuple(ATTRIBUTE_TYPES.values())),
        ):
            _check_mapping(what, fields)
            for name, spec in fields.items():
                check_attribute_name(name) if what == "attribute" else check_name(name, what)
                if not isinstance(spec, kinds):
                    requirement = f"must be a definition such as {_such(what, spec)}, not {shown(spec)}"
                    raise SchemaError(f"{what} {name!r} {requirement}", field=name, value=spec)
        both = set(self.vectors) & set(self.attributes)
        if both:
            name = min(both)
            raise SchemaError(f"{name!r} is both a vector field and an attribute", field=name)
        if len(self.vectors) + len(self.attributes) > MAX_FIELDS:
            n = len(self.vectors) + len(self.attributes)
            raise SchemaError(f"a schema has at most {MAX_FIELDS} fields in all, not {n}", field="schema", value=n)
        for name, spec in self.vectors.items():
            for source in spec.reads:
                option = "source" if spec.source is not None else "sources"
                if source not in self.attributes:
                    raise SchemaError(
                        f"{option} of vector field {name!r} is {source!r}, which is not an attribute", field=name, value=source
                    )
                attribute = self.attributes[source]
                if not isinstance(attribute, (Text, Keyword)) or attribute.array:
                    raise SchemaError(f"{option} of vector field {name!r} must be a Text or Keyword attribute", field=name, value=source)
                if attribute.analyzer != self.attributes[spec.reads[0]].analyzer:
                    both = f"{spec.reads[0]!r} and {source!r}"
                    what = f"sources of vector field {name!r} must have the same analyzer, which {both} don't have; declare both with one"
                    raise SchemaError(what, field=name, value=source)
        for name, spec in self.vectors.items():
            if spec.derived is not None:
                _check_derived(self.vectors, self.attributes, name, spec)
        if self.ttl is not None:
            spec = self.attributes.get(self.ttl) if isinstance(self.ttl, str) else None
            if not isinstance(spec, Datetime) or spec.array:
                what = "it" if spec is None else spelled(spec)
                problem = f"{what} is not an attribute" if spec is None else f"it is {what}"
                raise SchemaError(
                    f"ttl must name an attribute Datetime(), which says when a point ends, not {shown(self.ttl)}: {problem}",
                    field="ttl",
                    value=self.ttl,
                )
        tenants = [name for name, spec in self.attributes.items() if spec.tenant]
        if len(tenants) > 1:
            what = f"{tenants[0]!r} and {tenants[1]!r} are both the tenant; a collection has at most one attribute Keyword(tenant=True)"
            raise SchemaError(what, field=tenants[1], value=tenants)
        object.__setattr__(self, "tenant", tenants[0] if tenants else None)
        object.__setattr__(self, "vectors", {name: self._sourced(self._analyzed(spec)) for name, spec in self.vectors.items()})
        object.__setattr__(self, "attributes", dict(self.attributes))

    def _analyzed(self, spec: VectorField) -> VectorField:
        """The definition of a vector field, with the analyzer of the attribute whose words it counts."""
        analyzer = self.attributes[spec.reads[0]].analyzer if spec.reads and spec.counts_words else None
        if analyzer is spec.analyzer:
            return spec
        copy = dataclasses.replace(cast(Any, spec))  # the caller may use the definition in another schema
        object.__setattr__(copy, "analyzer", analyzer)
        return copy

    def _sourced(self, spec: VectorField) -> VectorField:
        """The definition of a vector field, with the dimensions of the field that it is derived from."""
        if spec.derived is not None and spec.derived.of_attributes:
            types = {read: self.attributes[read] for read in spec.derived.sources}
            if types != spec.attribute_types:
                spec = dataclasses.replace(cast(Any, spec))
                object.__setattr__(spec, "attribute_types", types)
            return spec
        source = None if spec.derived is None else cast(Any, self.vectors[spec.derived.source])
        dim, metric = (None, None) if source is None else (source.dim, source.metric)
        if (dim, metric) == (spec.source_dim, spec.source_metric):
            return spec
        copy = dataclasses.replace(cast(Any, spec))
        object.__setattr__(copy, "source_dim", dim)
        object.__setattr__(copy, "source_metric", metric)
        return copy

    def encoding(self, name: Any) -> str | None:
        """The field whose encoder encodes texts for a vector field: itself, or the source of a derived one; None without an encoder."""
        spec = self.vector(name)
        if spec.derived is not None and spec.derived.of_attributes:
            return None
        field = name if spec.derived is None else spec.derived.source
        return field if self.vectors[field].encoder is not None else None

    def written(self, name: Any) -> VectorField:
        """The definition of a vector field that users write. Raises SchemaError, also for a derived one."""
        spec = self.vector(name)
        if spec.derived is not None:
            read = " and ".join(map(repr, spec.derived.sources))
            what = f"vectors of field {name!r} are derived from {read} and can't be written; leave them out"
            raise SchemaError(f"{what}, and write {'' if spec.derived.of_attributes else 'those of '}{read}", field=name, value=name)
        return spec

    def vector(self, name: Any) -> VectorField:
        """The definition of a vector field. Raises SchemaError, which lists the fields that exist."""
        if isinstance(name, str) and name in self.vectors:
            return self.vectors[name]
        hint = ""
        if isinstance(name, str) and name in self.attributes:
            reading = [field for field, spec in self.vectors.items() if name in spec.reads]
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
        return spec is not None and spec.counts_words and name not in self.earlier

    def same_as(self, other: Schema) -> bool:
        """Whether both are equal, except for BM25 fields that an earlier version created without weighting."""
        if (self.attributes, self.dynamic, self.ttl) != (other.attributes, other.dynamic, other.ttl):
            return False
        if self.vectors.keys() != other.vectors.keys():
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
        existing = {**self.vectors, **self.attributes}
        for name, spec in {**(vectors or {}), **(attributes or {})}.items():
            if name not in existing:
                continue
            if type(existing[name]) is not type(spec) or not _takes(existing[name], spec):
                other = spelled(spec) if isinstance(spec, (*VECTOR_TYPES.values(), *ATTRIBUTE_TYPES.values())) else shown(spec)
                raise SchemaError(f"field {name!r} exists already, as {spelled(existing[name])}, not {other}", field=name, value=spec)
            if not exist_ok:
                raise SchemaError(f"field {name!r} exists already; exist_ok=True leaves it as it is", field=name)
        fields = {**self.vectors, **(vectors or {})}, {**self.attributes, **(attributes or {})}
        return Schema(*fields, dynamic=self.dynamic, ttl=self.ttl)

    def to_dict(self) -> dict:
        """The schema as plain JSON data. ``from_dict`` reads it back."""
        fields = {
            "vectors": {name: _spec_dict(spec) for name, spec in self.vectors.items()},
            "attributes": {name: _spec_dict(spec) for name, spec in self.attributes.items()},
            **({} if self.ttl is None else {"ttl": self.ttl}),
        }
        return fields | {"dynamic": True} if self.dynamic else fields

    @classmethod
    def from_dict(cls, data: Mapping) -> Schema:
        """The schema in the form of ``to_dict``. Raises SchemaError for unknown kinds, options or sections."""
        if not isinstance(data, Mapping) or set(data) - {"vectors", "attributes", "dynamic", "ttl"}:
            raise SchemaError(f"a schema has 'vectors', 'attributes', 'dynamic' and 'ttl', not {shown(data)}", field="schema", value=data)
        return cls(
            _specs(data.get("vectors", {}), VECTOR_TYPES, "vector field"),
            _specs(data.get("attributes", {}), ATTRIBUTE_TYPES, "attribute"),
            dynamic=data.get("dynamic", False),
            ttl=data.get("ttl"),
        )


def _check_derived(vectors: Mapping[str, Any], attributes: Mapping[str, Any], name: str, spec: Any) -> None:
    """Check a derived field against its source. Raises SchemaError."""
    given = spec.derived
    if given.of_attributes:
        if given.makes != spec.kind:
            what = f"vector field {name!r} is {spec.kind}, but {type(given).__name__} makes {given.makes} vectors"
            raise SchemaError(f"{what}; write Dense(…, derived={given!r})", field=name, value=given.name)
        return given.check_attributes(name, spec.dim, attributes)
    source = vectors.get(given.source)
    dense = [field for field, each in vectors.items() if each.kind == "dense" and each.derived is None]
    there_are = f"; the fields that it can be derived from: {listing(dense)}"
    if source is None:
        what = f"vector field {name!r} is derived from {given.source!r}, which is not a vector field{there_are}"
        raise SchemaError(what, field=name, value=given.source)
    if given.source != name and source.kind != "dense":
        what = f"vector field {name!r} is derived from {given.source!r}, which is {source.kind}, not dense{there_are}"
        raise SchemaError(what, field=name, value=given.source)
    if given.makes != spec.kind:
        such = f"Dense(…, derived={given!r})" if given.makes == "dense" else f"Sparse(derived={given!r})"
        what = f"vector field {name!r} is {spec.kind}, but {type(given).__name__} makes {given.makes} vectors; write {such}"
        raise SchemaError(what, field=name, value=given.name)
    if given.source == name:
        raise SchemaError(f"vector field {name!r} is derived from itself{there_are}", field=name, value=name)
    if source.derived is not None:
        what = f"vector field {name!r} is derived from {given.source!r}, which is itself derived"
        what += "" if source.derived.of_attributes else f"; derive it from {source.derived.source!r}"
        raise SchemaError(what, field=name, value=given.source)
    if spec.kind != "dense":
        return _check_codes(name, given, source)
    if spec.dim >= source.dim:
        what = f"vector field {name!r} has {spec.dim} dimensions, but its source {given.source!r} has {source.dim}"
        raise SchemaError(f"{what}; a derived field needs fewer, such as Dense({max(source.dim // 2, 1)}, …)", field=name, value=spec.dim)
    if spec.metric != source.metric:
        what = f"vector field {name!r} has the metric {spec.metric!r}, but its source {given.source!r} has {source.metric!r}"
        raise SchemaError(f"{what}; write metric={source.metric!r}", field=name, value=spec.metric)
    if given.name == "pca" and source.dim > MAX_PCA_DIM:
        what = f"PCA takes a source of at most {MAX_PCA_DIM} dimensions, and {given.source!r} has {source.dim}"
        raise SchemaError(f"vector field {name!r}: {what}; write Prefix, Pick or Project", field=name, value=source.dim)


def _check_codes(name: str, given: Any, source: Any) -> None:
    """Check a derived sparse field against its source. Raises SchemaError."""
    called, options = type(given).__name__, given.source
    if given.words:
        if source.encoder is None:
            what = f"vector field {name!r}: {called} needs an encoder for its words, and {options!r} has none"
            raise SchemaError(f"{what}; declare {options!r} with encoder=…", field=name, value=options)
        return
    if source.metric == "l2":
        what = f"vector field {name!r}: {called} takes a source with the metric 'cosine' or 'dot', and {options!r} has 'l2'"
        raise SchemaError(what, field=name, value=source.metric)
    if source.dim > MAX_PCA_DIM:
        what = f"vector field {name!r}: {called} takes a source of at most {MAX_PCA_DIM} dimensions, and {options!r} has {source.dim}"
        raise SchemaError(what, field=name, value=source.dim)
    width = given.width(source.dim)
    if given.k >= width:
        what = f"vector field {name!r}: k of {called} must be less than hidden, {width}, not {given.k}"
        raise SchemaError(what, field=name, value=given.k)
    if given.sample < 2 * width:
        what = f"vector field {name!r}: sample of {called} must be at least twice hidden, {2 * width}, not {given.sample}"
        raise SchemaError(f"{what}; write sample={2 * width}", field=name, value=given.sample)


def check_attribute_name(name: Any) -> None:
    """Raises SchemaError."""
    try:
        fits = isinstance(name, str) and 0 < len(name.encode()) <= MAX_NAME_BYTES
    except UnicodeEncodeError:
        fits = False
    if not fits:
        what = f"attribute {shown(name)} is not a name: a string of 1 to {MAX_NAME_BYTES} UTF-8 bytes"
        raise SchemaError(what, field="attribute", value=name)


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


def _takes(existing: Any, new: Any) -> bool:
    """Whether both definitions are equal in the sense of ``Schema.same_as``."""
    frozen = getattr(existing, "weighting", None) == "none"
    return existing == new or (frozen and dataclasses.replace(existing, weighting=None) == new)


def stored_alike(one: VectorField | AttributeType, other: VectorField | AttributeType) -> bool:
    """Whether checked values of one field can be written to the other: their definitions differ at most in index and weighting."""
    return type(one) is type(other) and all(
        getattr(one, f.name) == getattr(other, f.name) for f in dataclasses.fields(cast(Any, one)) if f.name not in ("index", "weighting")
    )


def _spec_dict(spec: VectorField | AttributeType) -> dict:
    options = changed_options(spec)
    if options.get("index") is not None:
        index = options["index"]
        named = {} if type(index) is cast(Any, spec).index_options[0] else {"kind": index.kind}
        options["index"] = named | changed_options(index)
    if options.get("analyzer") is not None:
        options["analyzer"] = options["analyzer"].to_dict()
    if options.get("sources") is not None:
        options["sources"] = dict(options["sources"])
    if options.get("derived") is not None:
        options["derived"] = options["derived"].to_dict()
    return {"kind": spec.kind, **options}


def changed_options(spec: Any) -> dict:
    """The options that don't have their default."""
    return {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec) if getattr(spec, f.name) != f.default}


def spelled(spec: Any) -> str:
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
        index_options = getattr(kinds[kind], "index_options", ())
        if index_options and isinstance(options.get("index"), Mapping):
            options["index"] = _index(index_options, options["index"], f"index of {what} {name!r}", name)
        if "derived" in options:
            options["derived"] = derivation_of(options["derived"], name)
        specs[name] = _built(kinds[kind], options, f"{what} {name!r}", name)
    return specs


def _index(classes: Sequence[Any], data: Mapping, what: str, field: str) -> Any:
    """The ``index`` option of a field. classes: those that it may have, by their ``kind``; without one it is the first."""
    given = dict(data)
    kind = given.pop("kind", classes[0].kind)
    for each in classes:
        if each.kind == kind:
            return _built(each, given, what, field)
    names = ", ".join(repr(each.kind) for each in classes)
    raise SchemaError(f"kind of {what} must be one of {names}, not {shown(kind)}", field=field, value=kind)


def _built(cls: type, options: Mapping, what: str, field: str) -> Any:
    """``cls(**options)``. Raises SchemaError for an unknown option."""
    names = {f.name for f in dataclasses.fields(cls)}
    for option in options:
        if option not in names:
            raise SchemaError(f"{what} has no option {shown(option)}; there are: {', '.join(sorted(names))}", field=field, value=option)
    try:
        return cls(**options)
    except TypeError as error:
        raise SchemaError(f"{what}: {error}", field=field, value=dict(options)) from None
