"""gRPC health checks (without an API key) and reflection.

Both have their own threads, so that a busy server still answers health checks. Their use per caller is limited.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from vectordb_client.errors import RateLimitError, VectorDBError
from vectordb_client.rpc.methods import SERVICE

from .access.guard import Guard
from .methods.service import fail
from .receive import MessageFirst, Overdue

WATCHES = 1_000  # concurrent health watches
SENDING_SECONDS = 5.0  # within which a watcher must accept an update
REFLECTIONS = 4  # concurrent reflection streams
REFLECTION_SECONDS = 10.0  # after which a reflection stream is ended; tools need only a few requests


class Health(health.HealthServicer):
    """grpc.health.v1. A watcher that doesn't read can't block other health checks or the service."""

    def __init__(self) -> None:
        super().__init__()
        self._senders = ThreadPoolExecutor(2, "vectordb-health-watch")
        self._unsent = Overdue(SENDING_SECONDS)
        self._watches = threading.BoundedSemaphore(WATCHES)

    def Watch(self, request: Any, context: grpc.ServicerContext, send: Callable[[Any], None]) -> None:
        if not self._watches.acquire(blocking=False):
            context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
            context.set_details(f"all {WATCHES} health watches are in use")
            send(None)
            return
        if not context.add_callback(self._watches.release):
            self._watches.release()
            return
        if request.service not in self._server_status:
            request = health_pb2.HealthCheckRequest(service="?")  # gRPC keeps every requested name forever

        def sent(response: Any) -> None:
            under_way = object()
            self._unsent.expect(under_way, context.cancel)
            try:
                send(response)  # blocks until sent, which the caller can prevent
            finally:
                self._unsent.met(under_way)

        def hand_over(response: Any) -> None:
            if response is not None:  # the call is still open
                self._senders.submit(sent, response)

        super().Watch(request, context, hand_over)


class Reflection(reflection.ReflectionServicer):
    """Reflection for authorised callers. A stream holds a thread, so streams are few and short."""

    def __init__(self, names: tuple[str, ...], guard: Guard):
        super().__init__(names)
        self._guard = guard
        self._places = threading.BoundedSemaphore(REFLECTIONS)
        self._open = Overdue(REFLECTION_SECONDS)

    def ServerReflectionInfo(self, request_iterator: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            self._guard.identify(context.invocation_metadata())
            if not self._places.acquire(blocking=False):
                raise RateLimitError(f"all {REFLECTIONS} reflection streams are in use", field="queue", retry_after=1.0)
        except VectorDBError as error:
            fail(context, error)
        self._open.expect(context, context.cancel)
        try:
            yield from super().ServerReflectionInfo(request_iterator, context)
        finally:
            self._open.met(context)
            self._places.release()

    ServerReflectionInfo.experimental_thread_pool = ThreadPoolExecutor(REFLECTIONS + 1, "vectordb-reflection")


def threads(guard: Guard) -> ThreadPoolExecutor:
    """The server's default threads, used by health checks. A call gets a thread only when its message has arrived."""
    return MessageFirst(1, "vectordb-health", guard.overdue)


def add(server: grpc.Server, guard: Guard) -> health.HealthServicer:
    """Add health and reflection to a server created with ``threads``. Returns the health servicer."""
    servicer = Health()
    servicer.set(SERVICE.full_name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = (SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(Reflection(names, guard), server)
    return servicer
