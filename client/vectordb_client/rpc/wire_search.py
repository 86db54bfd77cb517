"""Searches as messages and back. An option has the field of its name in ``pb.SearchRequest``, or else an entry in ``options`` as JSON."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from ..errors import InvalidArgumentError
from ..model.arms import Arm, GivenArm, any_given, given_arms
from ..model.examples import from_json
from ..model.foreign import is_number
from ..model.page_options import AUTO, AUTO_LIMIT
from ..model.ranking import FUSIONS, MAX_STAGES, MISSING, Prefetch, checked_fusion
from ..model.schema import Schema
from ..model.search_request import OPTIONS, SearchRequest, check_filters, of_query
from ..model.values import text_of
from ..model.vectors import query_texts
from ..v1 import vectordb_pb2 as pb
from . import wire

# ---- The options ----


class _Form(NamedTuple):
    """How a field of a message holds an option. absent: the value where the field isn't set."""

    absent: Any
    pack: Callable[[Any, str, Any], None]  # (message, name of the field, value)
    unpack: Callable[[Any, str], Any]  # (message, name of the field) → value


def pack_fusion(value: Any, field: str = "fusion") -> pb.Fusion | None:
    """A fusion; None for the default."""
    if isinstance(value, str):
        return None if value == "rrf" else pb.Fusion(method=text_of(value, field))
    fusion = checked_fusion(value)
    options = fusion.options
    weights, missing = options.pop("weights"), options.pop("missing")
    if not options.get("attributes", True):  # services of earlier versions don't know it
        del options["attributes"]
    return pb.Fusion(
        method=fusion.name,
        k=options.pop("k") if is_number(options.get("k")) else None,
        weights={text_of(name, field): float(weight) for name, weight in weights.items()},
        missing=None if missing == MISSING[0] else missing,
        options=wire.pack_json(options, field) if options else None,
    )


def unpack_fusion(request: pb.SearchRequest | pb.Prefetch, field: str = "fusion") -> Any:
    if not request.HasField("fusion"):
        return "rrf"
    message = request.fusion
    if message.method not in FUSIONS:
        return message.method  # the query refuses it
    options = wire.unpack_json(message.options, field) if message.options else {}
    if not isinstance(options, dict):
        raise InvalidArgumentError("options of a fusion must be a JSON object", field=field)
    if message.weights:
        options["weights"] = dict(message.weights)
    if message.HasField("k"):
        options["k"] = message.k
    if message.missing:
        options["missing"] = message.missing
    kind = FUSIONS[message.method]
    for name in options.keys() - {each.name for each in dataclasses.fields(kind)}:  # type: ignore[arg-type]
        raise InvalidArgumentError(f"fusion {message.method!r} has no {name}", field=field, value=options[name])
    return kind(**options) if options else message.method


def _optional(request: Any, name: str) -> Any:
    return getattr(request, name) if request.HasField(name) else None


def _submessage(pack: Callable[[Any, str], Any]) -> Callable[[Any, str, Any], None]:
    def packed(message: Any, name: str, value: Any) -> None:
        inner = pack(value, name)
        if inner is not None:
            getattr(message, name).CopyFrom(inner)

    return packed


def _pack_filters(message: Any, name: str, value: Any) -> None:
    """A filter, or a filter for each query."""
    if isinstance(value, tuple):
        for q, each in enumerate(value):
            with of_query(q):
                message.filters.append(wire.pack_filter(each) or pb.Filter())
    else:
        _submessage(wire.pack_filter)(message, name, value)


def _unpack_filters(message: Any, name: str) -> Any:
    if not message.filters:
        return wire.unpack_filter(message, name)
    if message.HasField(name):
        raise InvalidArgumentError("a search has either one filter or a filter for each query", field=name)
    return tuple([wire.form_of(each) for each in message.filters])


_FORMS = {
    "Filter": _Form(None, _pack_filters, _unpack_filters),
    "Fusion": _Form("rrf", _submessage(pack_fusion), unpack_fusion),
    "Selection": _Form(False, _submessage(wire.pack_selection), wire.unpack_selection),
}
_OPTIONAL = _Form(None, setattr, _optional)


def _pack_limit(message: Any, name: str, value: Any) -> None:
    message.limit = AUTO_LIMIT if value == AUTO else value
    message.auto_limit = value == AUTO


def _unpack_limit(message: Any, name: str) -> Any:
    return AUTO if message.auto_limit else message.limit


_LIMIT = _Form(0, _pack_limit, _unpack_limit)  # of a search; that of a prefetch is a number


def _forms(message: Any) -> dict[str, _Form]:
    """Option → its form in a message that has a field for it. ``prefetch`` is a message of its own."""
    fields = {name: field for name, field in message.DESCRIPTOR.fields_by_name.items() if name in OPTIONS and name != "prefetch"}
    scalar = {name: _OPTIONAL if field.has_presence else _Form(field.default_value, setattr, getattr) for name, field in fields.items()}
    return {name: _FORMS[field.message_type.name] if field.message_type else scalar[name] for name, field in fields.items()}


_FIELDS = {pb.SearchRequest: {**_forms(pb.SearchRequest), "limit": _LIMIT}, pb.Prefetch: _forms(pb.Prefetch)}
_NAMES = frozenset(pb.SearchRequest.DESCRIPTOR.fields_by_name)  # of the options that have a field; others travel in `options`


# ---- Arms with names of their own ----


def pack_arm(message: pb.Arm, arm: GivenArm) -> None:
    """Fill a message with a checked arm."""
    message.name = text_of(arm.name, "vectors")
    if arm.examples is not None:
        message.examples.field = arm.field
        message.examples.json.extend([wire.pack_json(each.to_json(), "like") for each in arm.examples])
    elif arm.texts is None:
        wire.pack_queries(message.vectors, arm.field, arm.spec, arm.queries or [])
    else:
        message.text.CopyFrom(pb.TextQuery(field=arm.field, texts=arm.texts))
    if arm.filter is not None:
        message.filter.CopyFrom(cast(pb.Filter, wire.pack_filter(arm.filter)))
    if arm.limit is not None:
        message.limit = arm.limit
    if arm.weight is not None:
        message.weight = arm.weight


def unpack_arm(message: pb.Arm, n: int, schema: Schema, batch: bool) -> Arm:
    """The arm of a message. Raises InvalidArgumentError or SchemaError."""
    form = message.WhichOneof("query")
    if form is None:
        raise InvalidArgumentError(f"arm {message.name!r} has no query", field="arms", value=message.name)
    query: Any
    if form == "text":
        field, query = message.text.field, list(message.text.texts)
        if len(query) != n:
            raise InvalidArgumentError(f"arm {message.name!r} has {len(query)} texts for {n} queries", field="arms", value=len(query))
        query = query if batch else query[0]
    elif form == "examples":
        field, query = message.examples.field, [from_json(wire.unpack_json(data, "like")) for data in message.examples.json]
        if len(query) != n:
            raise InvalidArgumentError(f"arm {message.name!r} has {len(query)} Like for {n} queries", field="arms", value=len(query))
        query = query if batch else query[0]
    else:
        field = message.vectors.field
        column = wire.query_columns([message.vectors], n, schema)[field]
        query = column.vectors() if batch else column.vector(0)
    return Arm(field, query, wire.unpack_filter(message, "filter"), _optional(message, "limit"), _optional(message, "weight"))


# ---- Requests to a service ----


def pack_search(collection: str, schema: Schema, request: SearchRequest, vectors: Any, text: Any, batch: bool) -> pb.SearchRequest:
    """The message of one query, or of many. Raises the errors of the embedded search."""
    message = pb.SearchRequest(collection=collection, batch=batch)
    sizes: list[int] = []
    _pack_stage(message, schema, request, vectors, text, batch, sizes)
    for next_size, size in itertools.pairwise(sizes):
        if size != next_size:
            what = f"all stages of a search must have the same number of queries, but a prefetch has {size} and the next {next_size}"
            raise InvalidArgumentError(what, field="vectors", value=size)
    message.queries = next(iter(sizes), 0 if batch else 1)
    check_filters(request.filter, batch, message.queries)
    for name, option in OPTIONS.items():
        if name not in _NAMES:
            value = getattr(request, name)
            if not option.is_default(value):
                message.options[name] = wire.pack_json(option.to_json(value), name)
    return message


def _pack_stage(
    message: pb.SearchRequest | pb.Prefetch, schema: Schema, stage: Any, vectors: Any, text: Any, batch: bool, sizes: list[int]
) -> None:
    """Fill in a search, or a stage before it, and the stages before that. sizes: gets the number of queries of each stage that has some."""
    counts: dict[str, int] = {}
    named, given = any_given(vectors), set()
    for arm in given_arms(schema, vectors, batch):
        if named:
            pack_arm(message.arms.add(), arm)
        else:
            wire.pack_queries(message.vectors.add(), arm.field, arm.spec, arm.queries or [])
        counts[arm.name] = arm.size
        given |= {arm.name, arm.field}
    for field, texts in _texts_by_field(schema, text, batch).items():
        message.texts.append(pb.TextQuery(field=field, texts=texts))
        encoded = [name for name, spec in schema.vectors.items() if spec.encoder is not None and name not in given]
        counts |= dict.fromkeys([field] if field else encoded, len(texts))
    if len(set(counts.values())) > 1:
        raise InvalidArgumentError(f"all fields must have the same number of queries, not {counts}", field="vectors", value=counts)
    sizes += list(counts.values())[:1]
    for name, form in _FIELDS[type(message)].items():
        value = getattr(stage, name)
        if value is not form.absent:
            form.pack(message, name, value)
    if stage.prefetch is not None:
        before = stage.prefetch
        _pack_stage(message.prefetch, schema, before, before.vectors, before.text, batch, sizes)


def _texts_by_field(schema: Schema, text: Any, batch: bool) -> dict[str, list[str]]:
    """Field → its query texts; of a text for every field with an encoder the field is empty."""
    if text is None:
        return {}
    if isinstance(text, Mapping):
        for field in text:
            schema.vector(field)
    return {field: query_texts(value, batch) for field, value in (text if isinstance(text, Mapping) else {"": text}).items()}


# ---- Requests to read ----


def unpack_search(message: pb.SearchRequest, schema: Schema) -> tuple[SearchRequest, Any, Any]:
    """(request, vectors, text) of a message. With ``batch`` vectors and text are those of many queries. Raises InvalidArgumentError."""
    n = message.queries
    if n != 1 and not message.batch:
        raise InvalidArgumentError(f"'queries' is {n}; without 'batch' it must be 1", field="queries", value=n)
    vectors, text, options = _unpack_stage(message, n, schema, message.batch, 0)
    if message.options:
        for name, data in message.options.items():
            if name in options:
                raise InvalidArgumentError(f"option {name!r} has a field of its own in a search", field=name)
            options[name] = wire.unpack_json(data, name)
    given = {name: value for name, value in options.items() if value is not (OPTIONS[name].default if name in OPTIONS else None)}
    return SearchRequest.of(given), vectors, text


def _unpack_stage(message: pb.SearchRequest | pb.Prefetch, n: int, schema: Schema, batch: bool, depth: int) -> tuple[Any, Any, dict]:
    """(vectors, text, options) of a search, or of a stage before it. depth: the number of stages after it."""
    if depth > MAX_STAGES:
        raise InvalidArgumentError(f"a search has at most {MAX_STAGES} prefetch stages", field="prefetch", value=depth)
    columns = wire.query_columns(message.vectors, n, schema)
    vectors = {name: column.vectors() if batch else column.vector(0) for name, column in columns.items()} or None
    text = _unpack_texts(message, n)
    if not batch and text is not None:
        text = {field: texts[0] for field, texts in text.items()} if isinstance(text, dict) else text[0]
    options = {name: form.unpack(message, name) for name, form in _FIELDS[type(message)].items()}
    options["prefetch"] = None
    for arm in message.arms:
        vectors = {} if vectors is None else vectors
        if arm.name in vectors:
            raise InvalidArgumentError(f"arm {arm.name!r} is given twice", field="arms", value=arm.name)
        vectors[arm.name] = unpack_arm(arm, n, schema, batch)
    if message.HasField("prefetch"):
        before, its_text, its_options = _unpack_stage(message.prefetch, n, schema, batch, depth + 1)
        options["prefetch"] = Prefetch(before, its_text, **its_options)
    return vectors, text, options


def _unpack_texts(message: pb.SearchRequest | pb.Prefetch, n: int) -> dict[str, list[str]] | list[str] | None:
    """One list of texts for all fields with an encoder, or field → list of texts."""
    texts: dict[str, list[str]] = {}
    for query in message.texts:
        if query.field in texts or (texts and not (query.field and "" not in texts)):
            raise InvalidArgumentError(f"texts for field {query.field!r} are given twice", field="text")
        if len(query.texts) != n:
            raise InvalidArgumentError(f"there are {len(query.texts)} texts for {n} queries", field="text", value=len(query.texts))
        texts[query.field] = list(query.texts)
    return texts.get("", texts) if texts else None
