"""The gRPC methods: decode the request, call the embedded database, encode the answer.

Methods take and return bytes, so that an undecodable request or an oversized answer is reported like any other error.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from vectordb_client import errors
from vectordb_client._version import __version__
from vectordb_client.errors import ClosedError, DeadlineError, InvalidArgumentError, NotFoundError, UnavailableError, VectorDBError, shown
from vectordb_client.model.batch import check_each_id
from vectordb_client.model.ranking import MAX_STAGES, Prefetch
from vectordb_client.model.schema import Schema
from vectordb_client.rpc import answers, wire, wire_terms
from vectordb_client.rpc.packing import Room
from vectordb_client.rpc.retry import RETRY_AFTER_KEY
from vectordb_client.rpc.status import DETAIL_KEY, status_of
from vectordb_client.v1 import vectordb_pb2 as pb

from ...common import memory
from ...query.execute import Answers
from ...query.read import encode_cursor
from ..access.guard import AdmittedCall, Guard
from ..telemetry.telemetry import Telemetry
from .backup import BackupMethods

log = logging.getLogger("vectordb.server")
SERVICE = pb.DESCRIPTOR.services_by_name["VectorDB"]
_ANSWER_SECONDS = 0.1
_FRESH_SECONDS, _FRESH_POLL_SECONDS = 1.0, 0.002  # how long a read waits for its caller's own write to become visible
_READ_BYTES, _VALUE_BYTES = 3, 8  # bytes of memory per byte of a request, and additionally per byte of JSON
_NO_DEADLINE = 1e9  # seconds; gRPC says 9e18 when a call has none


class Service(BackupMethods):
    """The methods of proto/vectordb/v1/vectordb.proto over an open database. stopping: set when the service shuts down."""

    def __init__(self, database: Any, guard: Guard, watch: Telemetry, stopping: threading.Event | None = None):
        self._database = database
        self._guard = guard
        self._watch = watch
        self._max_message_bytes = guard.settings.max_message_bytes
        self._keep(guard.settings, stopping)
        self._collections: dict[str, Any] = {}
        self._forms: dict[str, tuple[Schema, pb.AttributeForms | None]] = {}

    def handler(self) -> grpc.GenericRpcHandler:
        """The handler to register with a grpc.Server."""
        behaviors = {
            method.name: (self._stream_behavior if method.server_streaming else self._behavior)(
                method.name, GetMessageClass(method.input_type), getattr(self, f"_{_snake(method.name)}")
            )
            for method in SERVICE.methods
        }
        return RpcRouter(self._guard, behaviors, frozenset(method.name for method in SERVICE.methods if method.server_streaming))

    def _behavior(
        self, name: str, request_class: Any, method: Callable[[Any, grpc.ServicerContext], Any]
    ) -> Callable[[bytes, grpc.ServicerContext, AdmittedCall], bytes]:
        def behavior(data: bytes, context: grpc.ServicerContext, call: AdmittedCall) -> bytes:
            watched = self._watch.begin(name, context)
            try:
                with call.admitted(context):
                    request = _admissible(call, watched, request_class, data, context)
                    answer = self._packed(call.cleared(method(request, context)))
                watched.end()
                return answer
            except Exception as raised:
                error = _told(request_class, raised)
            watched.end(error)
            return fail(context, error)

        return behavior

    def _stream_behavior(
        self, name: str, request_class: Any, method: Callable[[Any, grpc.ServicerContext], Iterator[bytes]]
    ) -> Callable[[bytes, grpc.ServicerContext, AdmittedCall], Iterator[bytes]]:
        def behavior(data: bytes, context: grpc.ServicerContext, call: AdmittedCall) -> Iterator[bytes]:
            watched = self._watch.begin(name, context)
            try:
                with call.admitted(context):
                    request = _admissible(call, watched, request_class, data, context)
                    yield from method(request, context)
                watched.end()
                return
            except GeneratorExit:  # the caller is gone
                watched.end()
                raise
            except Exception as raised:
                error = _told(request_class, raised)
            watched.end(error)
            fail(context, error)

        return behavior

    def _packed(self, answer: Any) -> bytes:
        """The encoded answer. Raises LimitError if it is too large."""
        data = answer.SerializeToString()
        if len(data) > self._max_message_bytes:
            room = self._room()
            room.taken = len(data)
            raise room.refusal()
        return data

    def _room(self) -> Room:
        """Counts the size of an answer while it is built."""
        return Room(self._max_message_bytes, memory.hold)

    # ---- The service and its collections ----

    def _status(self, request: pb.StatusRequest, context: grpc.ServicerContext) -> pb.StatusResponse:
        return pb.StatusResponse(status=wire.pack_json(self._watch.status(), "status"))

    def _server_info(self, request: pb.ServerInfoRequest, context: grpc.ServicerContext) -> pb.ServerInfoResponse:
        most = self._guard.settings.max_points
        return pb.ServerInfoResponse(version=__version__, max_message_bytes=self._max_message_bytes, max_batch=most)

    def _create_collection(self, request: pb.CreateCollectionRequest, context: grpc.ServicerContext) -> pb.CreateCollectionResponse:
        collection = self._database.create_collection(request.name, answers.unpack_schema(request.schema), exist_ok=request.exist_ok)
        return pb.CreateCollectionResponse(
            schema=answers.pack_schema(collection.schema), collection_number=collection.number, revision=collection.revision
        )

    def _drop_collection(self, request: pb.DropCollectionRequest, context: grpc.ServicerContext) -> pb.DropCollectionResponse:
        self._database.drop_collection(request.name)
        self._collections.pop(request.name, None)
        self._forms.pop(request.name, None)
        return pb.DropCollectionResponse()

    def _list_collections(self, request: pb.ListCollectionsRequest, context: grpc.ServicerContext) -> pb.ListCollectionsResponse:
        return pb.ListCollectionsResponse(names=self._database.collections())

    def _describe_collection(self, request: pb.DescribeCollectionRequest, context: grpc.ServicerContext) -> pb.DescribeCollectionResponse:
        collection, _ = self._find_fresh(request, context)
        revision = collection.revision  # read before the schema, so that a change in between is noticed
        response = pb.DescribeCollectionResponse(collection_number=collection.number, revision=revision)
        if not request.info:
            response.schema = answers.pack_schema(collection.schema)
            return response
        info = collection.info()
        response.schema = answers.pack_schema(info.schema)
        response.info.CopyFrom(answers.pack_info(info))
        return response

    def _add_fields(self, request: pb.AddFieldsRequest, context: grpc.ServicerContext) -> pb.AddFieldsResponse:
        collection, schema = self._find(request)
        given = wire.unpack_json(request.fields, "fields")
        if not isinstance(given, dict) or not all(isinstance(section, dict) for section in given.values()):
            raise InvalidArgumentError("fields must be a JSON object of 'vectors' and 'attributes'", field="fields")
        # Parsed together with the existing schema: a new vector field may name an existing source.
        whole = schema.to_dict()
        schema = Schema.from_dict({**given, **{part: whole[part] | given.get(part, {}) for part in whole}})
        collection.add_fields(
            vectors={name: schema.vectors[name] for name in given.get("vectors", {})},
            attributes={name: schema.attributes[name] for name in given.get("attributes", {})},
            exist_ok=request.exist_ok,
        )
        revision = collection.revision
        return pb.AddFieldsResponse(schema=answers.pack_schema(collection.schema), collection_number=collection.number, revision=revision)

    def _optimize(self, request: pb.OptimizeRequest, context: grpc.ServicerContext) -> pb.OptimizeResponse:
        collection, _ = self._find(request)
        wait = request.wait if request.HasField("wait") else True
        result = collection.optimize(wait=wait, timeout=_patience(_optional(request, "timeout"), context.time_remaining()))
        return answers.pack_optimized(result)

    # ---- Writes ----

    def _write(self, request: pb.WriteRequest, context: grpc.ServicerContext) -> pb.WriteResponse:
        collection, schema = self._find(request)
        values = [request.batch.payload, *request.batch.attributes]
        memory.hold(_VALUE_BYTES * sum(len(column.json) for column in values), "the attributes and payloads")
        batch = wire.unpack_batch(request.batch, schema)
        check_deadline(context)
        result = collection.apply_batch(batch, durability=_optional(request, "durability"))
        return pb.WriteResponse(sequence=int(result), count=result.count, collection=collection.number, revision=collection.revision)

    def _delete(self, request: pb.DeleteRequest, context: grpc.ServicerContext) -> pb.DeleteResponse:
        collection, _ = self._find(request)
        ids = wire.unpack_ids(request.ids) if request.HasField("ids") else None
        result = collection.delete(
            ids,
            filter=wire.unpack_filter(request),
            if_version=wire.unpack_versions(request.if_version, len(ids or ())),
            if_filter=wire.unpack_filter(request, "if_filter"),
            durability=_optional(request, "durability"),
        )
        return pb.DeleteResponse(sequence=int(result), count=result.count, collection=collection.number, revision=collection.revision)

    # ---- Words of terms ----

    def _set_terms(self, request: pb.SetTermsRequest, context: grpc.ServicerContext) -> pb.SetTermsResponse:
        collection, _ = self._find(request)
        words = wire_terms.unpack_words(request)
        return pb.SetTermsResponse(changed=collection.set_terms(request.field, words, durability=_optional(request, "durability")))

    def _list_terms(self, request: pb.ListTermsRequest, context: grpc.ServicerContext) -> pb.ListTermsResponse:
        collection, _ = self._find(request)
        limit = request.limit
        while True:
            response = wire_terms.pack_page(collection.terms(request.field, after=_optional(request, "after"), limit=limit))
            if response.ByteSize() <= self._max_message_bytes:
                return response
            limit = min(limit, len(response.words)) // 2

    # ---- Reads ----

    def _get(self, request: pb.GetRequest, context: grpc.ServicerContext) -> pb.GetResponse:
        collection, schema = self._find_fresh(request, context)
        forms = self._attribute_forms(request.collection, schema)
        response = collection._get_pieces(
            check_each_id(wire.unpack_ids(request.ids)),
            lambda there, pieces: answers.pack_get(there, pieces, schema, forms, self._room()),
            with_vectors=wire.unpack_selection(request, "with_vectors"),
            with_attributes=wire.unpack_selection(request, "with_attributes"),
        )
        response.revision = collection.revision
        return response

    def _search(self, request: pb.SearchRequest, context: grpc.ServicerContext) -> pb.SearchResponse:
        collection, schema = self._find_fresh(request, context)
        n = request.queries
        if n != 1 and not request.batch:
            raise InvalidArgumentError(f"'queries' is {n}; without 'batch' it must be 1", field="queries", value=n)
        stage = _stage(request, n, schema, request.batch)
        asked = {
            "vectors": stage.vectors,
            "text": stage.text,
            "filter": wire.unpack_filter(request),
            "limit": stage.limit,
            "recall": _optional(request, "recall"),
            "exact": request.exact,
            "fusion": stage.fusion,
            "candidates": stage.candidates,
            "prefetch": stage.prefetch,
            "with_attributes": wire.unpack_selection(request, "with_attributes"),
            "with_vectors": wire.unpack_selection(request, "with_vectors"),
            "explain": request.explain,
        }
        forms = self._attribute_forms(request.collection, schema) if request.HasField("with_attributes") else None

        def take(found: Answers) -> pb.SearchResponse:
            response, room = pb.SearchResponse(forms=forms), self._room()
            for hits in found:
                answers.pack_hits(response.results.add(), hits, schema, room)
            plan = found.plan
            if plan is not None:
                packed = answers.pack_plan(plan)
                for result in response.results:
                    room.take(len(packed))
                    result.plan = packed
            return response

        response = collection._search_pieces(request.batch, take, asked)
        response.revision = collection.revision
        return response

    def _count(self, request: pb.CountRequest, context: grpc.ServicerContext) -> pb.CountResponse:
        collection, _ = self._find_fresh(request, context)
        return pb.CountResponse(count=collection.count(wire.unpack_filter(request)), revision=collection.revision)

    def _scroll(self, request: pb.ScrollRequest, context: grpc.ServicerContext) -> pb.ScrollResponse:
        collection, schema = self._find_fresh(request, context)
        forms = self._attribute_forms(request.collection, schema)
        response = collection._scroll_pieces(
            lambda pieces, more: answers.pack_page(pieces, more, encode_cursor, schema, forms, self._room()),
            wire.unpack_filter(request),
            request.limit,
            _optional(request, "cursor"),
            with_vectors=wire.unpack_selection(request, "with_vectors"),
            with_attributes=wire.unpack_selection(request, "with_attributes"),
        )
        response.revision = collection.revision
        return response

    def _find(self, request: Any) -> tuple[Any, Schema]:
        """The collection of a request, and its schema. Raises NotFoundError, also if it was dropped and created again."""
        name = request.name if isinstance(request, pb.DescribeCollectionRequest) else request.collection
        collection, schema = self._find_named(name)
        if request.collection_number not in (0, collection.number):
            raise NotFoundError(
                f"collection {shown(name)} was dropped and created again; get a new handle with client.collection()",
                field="collection",
                value=name,
            )
        return collection, schema

    def _find_named(self, name: str) -> tuple[Any, Schema]:
        """The collection by name. Handles are cached until reading the schema shows that the collection was dropped."""
        known = self._collections.get(name)
        if known is not None:
            try:
                return known, known.schema
            except NotFoundError:
                pass
        found = self._database.collection(name)
        schema = found.schema
        self._collections[name] = found
        return found, schema

    def _find_fresh(self, request: Any, context: grpc.ServicerContext) -> tuple[Any, Schema]:
        """``_find`` for a read: waits until the caller's own writes are visible. Raises UnavailableError if that takes too long."""
        found = self._find(request)
        if not request.HasField("seen"):
            return found
        seen, end = request.seen, time.monotonic() + min(_FRESH_SECONDS, _patience(None, context.time_remaining()) or _FRESH_SECONDS)
        while not (found[0].number > seen.collection or (found[0].number == seen.collection and found[0].reached(seen.sequence))):
            if time.monotonic() >= end:
                raise UnavailableError(
                    f"this client's write of sequence {seen.sequence} isn't visible here yet; "
                    "if the service was restored from an older snapshot, create a new client",
                    field="seen",
                    value=seen.sequence,
                )
            time.sleep(_FRESH_POLL_SECONDS)
            check_deadline(context)
            found = self._find(request)
        return found

    def _attribute_forms(self, name: str, schema: Schema) -> pb.AttributeForms | None:
        known = self._forms.get(name)
        if known is None or known[0] is not schema:
            known = self._forms[name] = (schema, answers.forms_of(schema))
        return known[1]


class RpcRouter(grpc.GenericRpcHandler):
    """Passes each new call to the guard."""

    def __init__(self, guard: Guard, behaviors: dict[str, Callable], streams: frozenset[str]):
        self._guard = guard
        self._streams = streams
        self._behaviors = {f"/{SERVICE.full_name}/{name}": (name, behavior) for name, behavior in behaviors.items()}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        found = self._behaviors.get(details.method)
        if found is None:
            return None
        name, behavior = found
        call = self._guard.arrive(name, details.invocation_metadata, behavior)
        return (grpc.unary_stream_rpc_method_handler if name in self._streams else grpc.unary_unary_rpc_method_handler)(call)


def _admissible(call: AdmittedCall, watched: Any, request_class: Any, data: bytes, context: grpc.ServicerContext) -> Any:
    """Decode the request and check the key and limits. Raises the error to refuse the call with."""
    check_deadline(context)
    memory.hold(_READ_BYTES * len(data), "the request")
    try:
        request = watched.request = request_class.FromString(data)
    except DecodeError:
        raise InvalidArgumentError("the request can't be decoded", field="request") from None
    call.check(request)
    return request


def _told(request_class: Any, raised: Exception) -> VectorDBError:
    """The error to send to the caller."""
    if isinstance(raised, ClosedError):
        return UnavailableError("the service is shutting down")
    if isinstance(raised, VectorDBError):
        return raised
    # The message may contain user data, so only the class and the traceback are logged.
    place = "".join(traceback.format_tb(raised.__traceback__))
    log.error("%s failed: %s\n%s", request_class.__name__, type(raised).__qualname__, place)
    if isinstance(raised, OSError) and raised.errno:  # such as too many open files or no space
        return errors.StorageError(f"the service's files can't be used: {os.strerror(raised.errno)}")
    return VectorDBError("the service failed unexpectedly; see its log")


def check_deadline(context: grpc.ServicerContext) -> None:
    """Raises DeadlineError if the deadline has passed or the call was cancelled."""
    left = context.time_remaining()
    if (left is not None and left <= 0) or not context.is_active():
        raise DeadlineError("the deadline passed, or the call was cancelled, before the work was done", field="timeout")


def _patience(timeout: float | None, left: float) -> float | None:
    """Seconds to wait for work: ``timeout``, but short enough to answer before the call's deadline (in ``left`` seconds).

    An invalid ``timeout`` is returned unchanged, for ``optimize`` to refuse.
    """
    if left >= _NO_DEADLINE or (timeout is not None and not left <= timeout < _NO_DEADLINE):
        return timeout
    return max(left - _ANSWER_SECONDS, 0.0)


def fail(context: grpc.ServicerContext, error: VectorDBError) -> bytes:
    """End the call with the error's status and detail."""
    status, details, detail = status_of(error)
    retry = () if getattr(error, "retry_after", None) is None else ((RETRY_AFTER_KEY, f"{error.retry_after:g}"),)
    context.set_trailing_metadata(((DETAIL_KEY, detail), *retry))
    context.abort(grpc.StatusCode[status], details)
    raise AssertionError  # abort raises


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def _optional(request: Any, field: str) -> Any:
    return getattr(request, field) if request.HasField(field) else None


def _stage(message: pb.SearchRequest | pb.Prefetch, n: int, schema: Schema, batch: bool, depth: int = 0) -> Prefetch:
    """A search or one of its prefetch stages, decoded."""
    if depth > MAX_STAGES:
        raise InvalidArgumentError(f"a search has at most {MAX_STAGES} prefetch stages", field="prefetch", value=depth)
    columns = wire.query_columns(message.vectors, n, schema)
    text = _texts(message, n)
    return Prefetch(
        vectors={name: column.vectors() if batch else column.vector(0) for name, column in columns.items()} or None,
        text=text if batch else _first(text),
        limit=message.limit,
        fusion=wire.unpack_fusion(message),
        candidates=_optional(message, "candidates"),
        prefetch=_stage(message.prefetch, n, schema, batch, depth + 1) if message.HasField("prefetch") else None,
    )


def _texts(request: pb.SearchRequest | pb.Prefetch, n: int) -> dict[str, list[str]] | list[str] | None:
    """One list of texts for all fields with an encoder, or field → list of texts."""
    texts: dict[str, list[str]] = {}
    for query in request.texts:
        if query.field in texts or (texts and not (query.field and "" not in texts)):
            raise InvalidArgumentError(f"texts for field {query.field!r} are given twice", field="text")
        if len(query.texts) != n:
            raise InvalidArgumentError(f"there are {len(query.texts)} texts for {n} queries", field="text", value=len(query.texts))
        texts[query.field] = list(query.texts)
    return texts.get("", texts) if texts else None


def _first(text: Any) -> Any:
    if isinstance(text, dict):
        return {field: values[0] for field, values in text.items()}
    return text[0] if text else None
