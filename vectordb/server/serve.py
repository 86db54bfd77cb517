"""A gRPC server over a database: built, announced, and drained when a signal comes."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from ..errors import UnavailableError, VectorDBError
from .service import SERVICE, Service
from .settings import Settings


class _Health(health.HealthServicer):
    """grpc.health.v1, on a thread of its own: a busy server is not a dead one."""

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        return super().Check(request, context)

    Check.experimental_thread_pool = ThreadPoolExecutor(1, "vectordb-health")


class _Reflection(reflection.ReflectionServicer):
    """Reflection, on threads of its own: its streams stay open as long as the caller likes."""

    def ServerReflectionInfo(self, request_iterator: Any, context: grpc.ServicerContext) -> Any:
        return super().ServerReflectionInfo(request_iterator, context)

    ServerReflectionInfo.experimental_thread_pool = ThreadPoolExecutor(2, "vectordb-reflection")


def start(database: Any, settings: Settings | None = None, **given: Any) -> tuple[grpc.Server, int]:
    """A running server over an open database, and its port (port 0 takes a free one). ``server.stop(grace).wait()`` ends it.

    given: settings by name, when there is no ``settings``. The database stays the caller's to close.
    Raises InvalidArgumentError for a wrong setting, UnavailableError when the address can't be had.
    """
    server, _, bound = _start(database, settings or Settings(**given))
    return server, bound


def serve(path: str | os.PathLike[str], settings: Settings) -> int:
    """Serves a directory until SIGINT or SIGTERM; returns the exit status. To be called in the main thread.

    Prints one line once it takes calls. On a signal it reports NOT_SERVING, takes no more calls, gives those under way
    ``grace`` seconds, closes the database and returns 0. A second signal ends the process at once. When the directory or the
    address can't be had it says so in one line on stderr and returns 1.
    """
    from ..database import open as open_database
    from ..warm import warm

    try:
        if settings.port:
            _check_free(settings.host, settings.port)  # before an open that may take a while
        database = open_database(path, durability=settings.durability, maintenance=settings.maintenance)
        try:
            warm()  # a caller's deadline must not pay for compiling
            stop = threading.Event()
            server, health_servicer, bound = _start(database, settings, stop)
            before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
            size = f"{settings.max_message_bytes / (1 << 20):g} MiB"
            address = _address(settings.host, bound)
            print(f"vectordb serving {os.fspath(path)} on {address} ({settings.threads} threads, messages up to {size})", flush=True)
            stop.wait()
            for number, handler in before.items():
                signal.signal(number, handler)
            health_servicer.enter_graceful_shutdown()
            server.stop(settings.grace).wait()
        finally:
            database.close()
    except VectorDBError as error:
        print(f"vectordb: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _start(database: Any, settings: Settings, stopping: threading.Event | None = None) -> tuple[grpc.Server, _Health, int]:
    server = grpc.server(
        ThreadPoolExecutor(settings.threads, "vectordb-server"),
        options=(
            ("grpc.so_reuseport", 0),  # a second server on the port is a mistake, not a share of the calls
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_send_message_length", -1),  # the service itself refuses answers that are too large, and says so
        ),
    )
    server.add_generic_rpc_handlers((Service(database, settings, stopping).handler(),))
    servicer = _Health()
    servicer.set(SERVICE.full_name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = (SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(_Reflection(names), server)
    address = _address(settings.host, settings.port)
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise UnavailableError(f"can't listen on {address}", field="port", value=settings.port)
    server.start()
    return server, servicer, bound


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_free(host: str, port: int) -> None:
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise UnavailableError(f"can't listen on {_address(host, port)}: {error.strerror or error}", field="port", value=port) from None
