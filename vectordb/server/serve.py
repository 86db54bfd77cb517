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

from ..errors import InvalidArgumentError, UnavailableError, VectorDBError, shown
from .service import SERVICE, Service

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 7070
DEFAULT_THREADS = 4
MAX_MESSAGE_BYTES = 64 << 20
_LEAST_MESSAGE_BYTES, _MOST_MESSAGE_BYTES = 64 << 10, (1 << 31) - 1


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


def start(
    database: Any,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    *,
    threads: int = DEFAULT_THREADS,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> tuple[grpc.Server, int]:
    """A running server over an open database, and its port (port 0 takes a free one). ``server.stop(grace).wait()`` ends it.

    The database stays the caller's to close. Raises UnavailableError when the address can't be had.
    """
    server, _, bound = _start(database, host, port, threads, max_message_bytes)
    return server, bound


def serve(
    path: str | os.PathLike[str],
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    *,
    threads: int = DEFAULT_THREADS,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    durability: str = "commit",
    maintenance: bool = True,
    grace: float = 10.0,
) -> int:
    """Serves a directory until SIGINT or SIGTERM; returns the exit status. To be called in the main thread.

    durability, maintenance: see ``vectordb.open``.
    Prints one line once it takes calls. On a signal it reports NOT_SERVING, takes no more calls, gives those under way
    ``grace`` seconds, closes the database and returns 0. A second signal ends the process at once. When the directory or the
    address can't be had it says so in one line on stderr and returns 1.
    """
    from ..database import open as open_database
    from ..warm import warm

    try:
        _check_options(host, port, threads, max_message_bytes, grace)
        if port:
            _check_free(host, port)  # before an open that may take a while
        database = open_database(path, durability=durability, maintenance=maintenance)
        try:
            warm()  # a caller's deadline must not pay for compiling
            stop = threading.Event()
            server, health_servicer, bound = _start(database, host, port, threads, max_message_bytes)
            before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
            size = f"{max_message_bytes / (1 << 20):g} MiB"
            print(f"vectordb serving {os.fspath(path)} on {_address(host, bound)} ({threads} threads, messages up to {size})", flush=True)
            stop.wait()
            for number, handler in before.items():
                signal.signal(number, handler)
            health_servicer.enter_graceful_shutdown()
            server.stop(grace).wait()
        finally:
            database.close()
    except VectorDBError as error:
        print(f"vectordb: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _start(database: Any, host: str, port: int, threads: int, max_message_bytes: int) -> tuple[grpc.Server, _Health, int]:
    _check_options(host, port, threads, max_message_bytes, 0)
    server = grpc.server(
        ThreadPoolExecutor(threads, "vectordb-server"),
        options=(
            ("grpc.so_reuseport", 0),  # a second server on the port is a mistake, not a share of the calls
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", -1),  # the service itself refuses answers that are too large, and says so
        ),
    )
    server.add_generic_rpc_handlers((Service(database, max_message_bytes).handler(),))
    servicer = _Health()
    servicer.set(SERVICE.full_name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = (SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(_Reflection(names), server)
    try:
        bound = server.add_insecure_port(_address(host, port))
    except RuntimeError:
        bound = 0
    if not bound:
        raise UnavailableError(f"can't listen on {_address(host, port)}", field="port", value=port)
    server.start()
    return server, servicer, bound


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_free(host: str, port: int) -> None:
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise UnavailableError(f"can't listen on {_address(host, port)}: {error.strerror or error}", field="port", value=port) from None


def _check_options(host: Any, port: Any, threads: Any, max_message_bytes: Any, grace: Any) -> None:
    if not isinstance(host, str) or not host:
        raise InvalidArgumentError(f"host must be a name or address, not {shown(host)}", field="host", value=host)
    for field, value, low, high in (
        ("port", port, 0, 65_535),
        ("threads", threads, 1, 1024),
        ("max_message_bytes", max_message_bytes, _LEAST_MESSAGE_BYTES, _MOST_MESSAGE_BYTES),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InvalidArgumentError(f"{field} must be an integer from {low} to {high}, not {shown(value)}", field=field, value=value)
    if not isinstance(grace, (int, float)) or isinstance(grace, bool) or not 0 <= grace < float("inf"):
        raise InvalidArgumentError(f"grace must be seconds, 0 or more, not {shown(grace)}", field="grace", value=grace)
