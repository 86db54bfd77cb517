"""Serve a database over gRPC from one process, and drain on a signal. ``workers`` runs several such processes."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1.health import HealthServicer
from vectordb_client.errors import InvalidArgumentError, NotFoundError, StorageError, UnavailableError, VectorDBError

from ..storage.place import DATA, MEMORY, check_outside
from ..storage.place import given as given_path
from . import ending, probes
from .access.guard import Guard
from .access.keys import Keys, file_of
from .access.tls import check_exposure, server_credentials
from .address import address_of, announce, check_free
from .methods.service import Service
from .settings import Settings
from .telemetry import logs
from .telemetry.telemetry import Telemetry
from .workers import supervise

log = logging.getLogger("vectordb.server")
_SWITCH_SECONDS = 0.0005  # the interpreter's switch interval: a small call passes through several threads
_GARBAGE = (10_000, 10, 50)  # gc.set_threshold
_STREAMS = 1_024  # concurrent calls per connection
_CONNECTION_AGE_MS = 300_000  # gRPC varies it by a tenth; running calls are not interrupted


def start(database: Any, settings: Settings | None = None, **given: Any) -> tuple[grpc.Server, int]:
    """Start a server for an open database. Returns it and its port (port 0 picks a free one). ``server.stop(grace).wait()`` ends it.

    given: settings by name, if there is no ``settings``. The caller closes the database.
    Raises InvalidArgumentError for a wrong setting, StorageError if the key file, a certificate or the audit log can't be used,
    UnavailableError if the address can't be used.
    """
    server, _, bound = _start(database, settings or Settings(**given))
    return server, bound


def serve(path: str | os.PathLike[str], settings: Settings) -> int:
    """Serve a directory until SIGINT or SIGTERM; returns the exit status. Must be called in the main thread.

    Prints one line when calls are accepted. On a signal, the service reports NOT_SERVING and accepts no more calls; running calls get
    ``grace`` seconds and are then told to end; the database is closed and 0 is returned. Calls that do not end within another 1.5 seconds
    are cut off: a warning is logged and the process exits with 0. A second signal ends the process at once. If the directory or the address
    can't be used, one line on stderr says so and 1 is returned. With several workers, ``workers.supervise`` does all this.
    """
    try:
        check(path, settings)
        new = not (Path(path) / DATA).exists()  # perhaps a mistyped path: the announcement says so
        if settings.workers > 1:
            if os.fspath(path) == MEMORY:
                raise InvalidArgumentError(
                    "a database in memory can be served by one process only: workers must be 1", field="workers", value=settings.workers
                )
            return supervise(path, settings, new)
        stop = ending.Stop()
        before = {}

        def ready(address: str) -> None:
            before.update({number: signal.signal(number, stop.request) for number in (signal.SIGINT, signal.SIGTERM)})
            announce(path, address, settings, new)

        def stopping() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        run(path, settings, stop, ready, stopping)
    except VectorDBError as error:
        print(f"vectordb: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def check(path: str | os.PathLike[str], settings: Settings) -> None:
    """Check the settings before anything is opened, created, compiled or bound.

    Raises InvalidArgumentError if a public address would be served without keys or TLS, or for a wrong setting, StorageError for a file
    that can't be used, NotFoundError if the directory's parent folder does not exist, UnavailableError for an address that can't be used.
    """
    keys = Keys(file_of(path, settings.keys_file))
    if settings.keys_file:
        keys.require()
    check_exposure(settings, keys.required)
    server_credentials(settings)
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise NotFoundError(
            f"no folder {folder} to create the database's directory in; create it first, or correct the path",
            field="data",
            value=os.fspath(path),
        )
    for field in ("audit_log", "slow_query_log"):
        folder = Path(getattr(settings, field) or ".").absolute().parent
        if not folder.is_dir():
            raise StorageError(f"the folder of {field}, {folder}, does not exist", field=field, value=getattr(settings, field))
    if settings.snapshot_dir:
        check_outside(given_path(settings.snapshot_dir, "snapshot_dir"), "snapshot_dir", Path(path))
    if settings.tracing:
        from .telemetry import tracing  # noqa: F401
    if settings.metrics_port and settings.metrics_port == settings.port:
        problem = f"metrics_port and port are both {settings.port}; they must differ"
        raise InvalidArgumentError(problem, field="metrics_port", value=settings.port)
    for host, port in ((settings.host, settings.port), (settings.metrics_host, settings.metrics_port)):
        if port:
            check_free(host, port)


def run(
    path: str | os.PathLike[str],
    settings: Settings,
    stop: ending.Stop,
    ready: Callable[[str], Any],
    stopping: Callable[[], None] = lambda: None,
    shared: bool = False,
) -> None:
    """Serve a directory in this process until ``stop`` is set, then drain. ready: called with the address when calls are accepted.

    shared: other processes with ``shared`` may listen on the same port. If running calls can't be stopped, the process exits with status 0.
    Raises what ``vectordb.open`` raises, and UnavailableError.
    """
    from ..database import open as open_database
    from ..warm import warm

    to_stderr = logs.configure(settings.log_format, settings.log_level)
    try:
        database = open_database(
            path,
            durability=settings.durability,
            maintenance=settings.maintenance,
            file_mode=settings.mode,
            change_log_batches=settings.change_log_batches,
            change_log_bytes=settings.change_log_bytes,
            change_log_seconds=settings.change_log_seconds,
            memory=settings.budget,
        )
        try:
            warm()  # a caller's deadline must not pay for compiling
            _share_python()
            server, health_servicer, bound, guard = _made(database, settings, shared, stop)
            address = address_of(settings.host, bound)
            ready(address)
            log.info("serving", extra={"address": address, "threads": settings.threads})
            if database.read_only is not None:
                log.warning("%s is read-only: writes are refused", database.path)
            stop.wait_for_request()
            log.info("stopping", extra={"grace": settings.grace})
            stopping()
            health_servicer.enter_graceful_shutdown()
            left = ending.drain(server, guard, settings.grace)
        except BaseException:
            database.close()
            raise
        ending.close(database, left)
    finally:
        logs.restore(to_stderr)


def _share_python() -> None:
    """Tune the interpreter so that a call that creates very many objects blocks others for milliseconds instead of 0.3 seconds.

    Objects of imports and compiled kernels are excluded from garbage collection, and collections run less often.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE)


def _start(
    database: Any, settings: Settings, shared: bool = False, stopping: threading.Event | None = None
) -> tuple[grpc.Server, HealthServicer, int]:
    return _made(database, settings, shared, stopping)[:3]


def _made(
    database: Any, settings: Settings, shared: bool, stopping: threading.Event | None
) -> tuple[grpc.Server, HealthServicer, int, Guard]:
    """A started server, its health servicer, its port and its guard."""
    options = [
        ("grpc.so_reuseport", int(shared)),  # without workers, a second server on the port is an error
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", -1),  # the service itself refuses answers that are too large, with a clear error
        ("grpc.max_concurrent_streams", _STREAMS),  # clients queue further calls, without an error
    ]
    if shared:  # reconnecting spreads clients over workers that were restarted
        options.append(("grpc.max_connection_age_ms", _CONNECTION_AGE_MS))
    telemetry = Telemetry(database, settings)
    guard = Guard(database, settings, telemetry)
    server = grpc.server(probes.threads(guard), options=options + guard.connections.options())  # our methods use the threads of their pools
    server.add_generic_rpc_handlers((Service(database, guard, telemetry, stopping).handler(),))
    servicer = probes.add(server, guard)
    address = address_of(settings.host, settings.port)
    credentials = server_credentials(settings)
    try:
        bound = server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
    except RuntimeError:
        bound = 0
    if not bound:
        raise UnavailableError(f"can't listen on {address}", field="port", value=settings.port)
    telemetry.follow(server)
    server.start()
    guard.connections.follow(server, bound)
    return server, servicer, bound, guard
