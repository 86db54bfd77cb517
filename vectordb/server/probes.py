"""What is asked of a service beside its own methods: its health, without a key, and by reflection what its methods are.

Both have threads of their own: a busy server is not a dead one. Nobody holds these by asking without end.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from ..errors import RateLimitError, VectorDBError
from .guard import Guard
from .receive import MessageFirst
from .service import SERVICE, fail

REFLECTIONS = 4  # streams of reflection at a time
REFLECTION_SECONDS = 10.0  # after which a stream of reflection is ended: a tool asks a few times and is done


class Reflection(reflection.ReflectionServicer):
    """Reflection, for who may call. A stream holds a thread, so there are few, and none stays."""

    def __init__(self, names: tuple[str, ...], guard: Guard):
        super().__init__(names)
        self._guard = guard
        self._places = threading.BoundedSemaphore(REFLECTIONS)

    def ServerReflectionInfo(self, request_iterator: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            self._guard.identify(context.invocation_metadata())
            if not self._places.acquire(blocking=False):
                raise RateLimitError(f"{REFLECTIONS} streams of reflection are open, no more are taken", field="queue", retry_after=1.0)
        except VectorDBError as error:
            fail(context, error)
        end = threading.Timer(REFLECTION_SECONDS, context.cancel)
        end.daemon = True
        end.start()
        try:
            yield from super().ServerReflectionInfo(request_iterator, context)
        finally:
            end.cancel()
            self._places.release()

    ServerReflectionInfo.experimental_thread_pool = ThreadPoolExecutor(REFLECTIONS + 1, "vectordb-reflection")


def threads(guard: Guard) -> ThreadPoolExecutor:
    """Those of all methods that don't name others: of health checks. A call has one only once its message is there."""
    return MessageFirst(1, "vectordb-health", guard.overdue)


def add(server: grpc.Server, guard: Guard) -> health.HealthServicer:
    """Add health and reflection to a server that was made with ``threads``. Returns what says whether it takes calls."""
    servicer = health.HealthServicer()
    servicer.set(SERVICE.full_name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = (SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(Reflection(names, guard), server)
    return servicer
