"""What is asked of a service beside its own methods: its health, without a key, and by reflection what its methods are.

Both have threads of their own: a busy server is not a dead one. Nobody holds these by asking without end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from ..errors import RateLimitError, VectorDBError
from .guard import Guard
from .receive import MessageFirst, Overdue
from .service import SERVICE, fail

WATCHES = 1_000  # of the service's health, at a time
SENDING_SECONDS = 5.0  # that a watcher has to take what changed
REFLECTIONS = 4  # streams of reflection at a time
REFLECTION_SECONDS = 10.0  # after which a stream of reflection is ended: a tool asks a few times and is done


class Health(health.HealthServicer):
    """grpc.health.v1. Who watches and doesn't read holds up neither those who ask nor the service."""

    def __init__(self) -> None:
        super().__init__()
        self._senders = ThreadPoolExecutor(2, "vectordb-health-watch")
        self._unsent = Overdue(SENDING_SECONDS)
        self._watches = threading.BoundedSemaphore(WATCHES)

    def Watch(self, request: Any, context: grpc.ServicerContext, send: Callable[[Any], None]) -> None:
        if not self._watches.acquire(blocking=False):
            context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
            context.set_details(f"{WATCHES} calls watch the health, no more are taken")
            send(None)
            return
        if not context.add_callback(self._watches.release):
            self._watches.release()
            return
        if request.service not in self._server_status:
            request = health_pb2.HealthCheckRequest(service="?")  # names that are asked for are kept for ever

        def sent(response: Any) -> None:
            under_way = object()
            self._unsent.expect(under_way, context.cancel)
            try:
                send(response)  # waits until it is on its way, which the caller may prevent
            finally:
                self._unsent.met(under_way)

        def hand_over(response: Any) -> None:
            if response is not None:  # the call hasn't ended
                self._senders.submit(sent, response)

        super().Watch(request, context, hand_over)


class Reflection(reflection.ReflectionServicer):
    """Reflection, for who may call. A stream holds a thread, so there are few, and none stays."""

    def __init__(self, names: tuple[str, ...], guard: Guard):
        super().__init__(names)
        self._guard = guard
        self._places = threading.BoundedSemaphore(REFLECTIONS)
        self._open = Overdue(REFLECTION_SECONDS)

    def ServerReflectionInfo(self, request_iterator: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            self._guard.identify(context.invocation_metadata())
            if not self._places.acquire(blocking=False):
                raise RateLimitError(f"{REFLECTIONS} streams of reflection are open, no more are taken", field="queue", retry_after=1.0)
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
    """Those of all methods that don't name others: of health checks. A call has one only once its message is there."""
    return MessageFirst(1, "vectordb-health", guard.overdue)


def add(server: grpc.Server, guard: Guard) -> health.HealthServicer:
    """Add health and reflection to a server that was made with ``threads``. Returns what says whether it takes calls."""
    servicer = Health()
    servicer.set(SERVICE.full_name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = (SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(Reflection(names, guard), server)
    return servicer
