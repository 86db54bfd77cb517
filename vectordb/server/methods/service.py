"""Connects the methods to gRPC: admits each call, decodes its request, runs its method, encodes the answer or the error.

Methods take and return bytes for gRPC, so that an undecodable request or an oversized answer is reported like any other error.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from vectordb_client.errors import ClosedError, InvalidArgumentError, StorageError, UnavailableError, VectorDBError
from vectordb_client.rpc.methods import METHODS, Method
from vectordb_client.rpc.retry import RETRY_AFTER_KEY
from vectordb_client.rpc.status import DETAIL_KEY, status_of

from ...common import memory
from ..access.call import AdmittedCall, Behavior
from ..access.guard import Guard
from ..deadlines import check_deadline
from ..telemetry.telemetry import CallSpan, Telemetry
from .backup import BackupMethods
from .collections import CollectionMethods
from .explore import ExploreMethods
from .reads import ReadMethods
from .served import Served
from .terms import TermMethods
from .writes import WriteMethods

log = logging.getLogger("vectordb.server")
TOPICS = (CollectionMethods, WriteMethods, ReadMethods, ExploreMethods, TermMethods, BackupMethods)
_READ_BYTES = 3  # bytes of memory per byte of a request


class Service:
    """The methods of proto/vectordb/v1/vectordb.proto over an open database. stopping: set when the service shuts down."""

    def __init__(self, database: Any, guard: Guard, telemetry: Telemetry, stopping: threading.Event | None = None):
        self._guard = guard
        self._telemetry = telemetry
        self._served = Served(database, guard.settings, telemetry, stopping or threading.Event())

    def handler(self) -> grpc.GenericRpcHandler:
        """The handler to register with a grpc.Server."""
        topics = [topic(self._served) for topic in TOPICS]
        behaviors = {}
        for method in METHODS.values():
            (handle,) = (getattr(topic, _snake(method.name)) for topic in topics if hasattr(topic, _snake(method.name)))
            behaviors[method.path] = method, (self._stream_behavior if method.streams else self._behavior)(method, handle)
        return RpcRouter(self._guard, behaviors)

    def _behavior(self, method: Method, handle: Callable[[Any, grpc.ServicerContext], Any]) -> Behavior:
        def behavior(data: bytes, context: grpc.ServicerContext, call: AdmittedCall) -> bytes:
            span = self._telemetry.begin(method, context)
            try:
                with call.admitted(context):
                    request = _admissible(call, span, data, context)
                    answer = self._packed(call.visible(handle(request, context)))
                span.end()
                return answer
            except Exception as raised:
                error = to_client_error(method, raised)
            span.end(error)
            return fail(context, error)

        return behavior

    def _stream_behavior(self, method: Method, handle: Callable[[Any, grpc.ServicerContext], Iterator[bytes]]) -> Behavior:
        def behavior(data: bytes, context: grpc.ServicerContext, call: AdmittedCall) -> Iterator[bytes]:
            span = self._telemetry.begin(method, context)
            try:
                with call.admitted(context):
                    request = _admissible(call, span, data, context)
                    yield from handle(request, context)
                span.end()
                return
            except GeneratorExit:  # the caller is gone
                span.end()
                raise
            except Exception as raised:
                error = to_client_error(method, raised)
            span.end(error)
            fail(context, error)

        return behavior

    def _packed(self, answer: Any) -> bytes:
        """The encoded answer. Raises LimitError if it is too large."""
        data = answer.SerializeToString()
        if len(data) > self._served.max_message_bytes:
            room = self._served.room()
            room.taken = len(data)
            raise room.refusal()
        return data


class RpcRouter(grpc.GenericRpcHandler):
    """Passes each new call to the guard. behaviors: path → (method, its behavior)."""

    def __init__(self, guard: Guard, behaviors: dict[str, tuple[Method, Behavior]]):
        self._guard = guard
        self._behaviors = behaviors

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        entry = self._behaviors.get(details.method)
        if entry is None:
            return None
        method, behavior = entry
        call = self._guard.arrive(method, details.invocation_metadata, behavior)
        return (grpc.unary_stream_rpc_method_handler if method.streams else grpc.unary_unary_rpc_method_handler)(call)


def _admissible(call: AdmittedCall, span: CallSpan, data: bytes, context: grpc.ServicerContext) -> Any:
    """Decode the request and check the key and limits. Raises the error to refuse the call with."""
    check_deadline(context)
    memory.hold(_READ_BYTES * len(data), "the request")
    try:
        request = span.request = call.method.request.FromString(data)
    except DecodeError:
        raise InvalidArgumentError("the request can't be decoded", field="request") from None
    call.check(request)
    return request


def to_client_error(method: Method, raised: Exception) -> VectorDBError:
    """The error to send to the caller."""
    if isinstance(raised, ClosedError):
        return UnavailableError("the service is shutting down")
    if isinstance(raised, VectorDBError):
        return raised
    # The message may contain user data, so only the class and the traceback are logged.
    place = "".join(traceback.format_tb(raised.__traceback__))
    log.error("%s failed: %s\n%s", method.request.__name__, type(raised).__qualname__, place)
    if isinstance(raised, OSError) and raised.errno:  # such as too many open files or no space
        return StorageError(f"the service's files can't be used: {os.strerror(raised.errno)}")
    return VectorDBError("the service failed unexpectedly; see its log")


def fail(context: grpc.ServicerContext, error: VectorDBError) -> bytes:
    """End the call with the error's status and detail."""
    status, details, detail = status_of(error)
    seconds = getattr(error, "retry_after", None)
    retry = () if seconds is None else ((RETRY_AFTER_KEY, f"{seconds:g}"),)
    context.set_trailing_metadata(((DETAIL_KEY, detail), *retry))
    context.abort(grpc.StatusCode[status], details)
    raise AssertionError  # abort raises


@functools.cache
def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
