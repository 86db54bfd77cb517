"""A gRPC server over a database: built, announced, and drained when a signal comes. Several processes of them: ``workers``."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1.health import HealthServicer

from ..errors import InvalidArgumentError, NotFoundError, StorageError, UnavailableError, VectorDBError
from ..storage.place import DATA, MEMORY
from . import ending, logs, probes
from .guard import Guard
from .keys import Keys, file_of
from .service import Service
from .settings import Settings
from .tls import check_exposure, server_credentials
from .watch import Watch
from .workers import SIGNAL_SECONDS

log = logging.getLogger("vectordb.server")
_SWITCH_SECONDS = 0.0005  # for which a thread keeps Python from others that wait: a small call passes through several threads
_GARBAGE = (10_000, 10, 50)  # gc.set_threshold
_STREAMS = 1_024  # calls under way on one connection
_CONNECTION_AGE_MS = 300_000  # give or take a tenth, as gRPC does; calls under way end as they would


def start(database: Any, settings: Settings | None = None, **given: Any) -> tuple[grpc.Server, int]:
    """A running server over an open database, and its port (port 0 takes a free one). ``server.stop(grace).wait()`` ends it.

    given: settings by name, when there is no ``settings``. The database stays the caller's to close.
    Raises InvalidArgumentError for a wrong setting, StorageError when the key file, a certificate or the audit log can't be used,
    UnavailableError when the address can't be had.
    """
    server, _, bound = _start(database, settings or Settings(**given))
    return server, bound


def serve(path: str | os.PathLike[str], settings: Settings) -> int:
    """Serves a directory until SIGINT or SIGTERM; returns the exit status. To be called in the main thread.

    Prints one line once it takes calls. On a signal it reports NOT_SERVING, takes no more calls, gives those under way
    ``grace`` seconds, tells those that still work to end, closes the database and returns 0; what doesn't end within another second and a
    half is cut off: a warning, and the process exits with 0. A second signal ends the process at once. When the directory or the address
    can't be had it says so in one line on stderr and returns 1. With several workers ``workers.supervise`` does all that.
    """
    try:
        check(path, settings)
        new = not (Path(path) / DATA).exists()  # which may be a misspelt name
        if settings.workers > 1:
            if os.fspath(path) == MEMORY:
                raise InvalidArgumentError(
                    "a database in memory is one process's: workers must be 1", field="workers", value=settings.workers
                )
            from .workers import supervise

            return supervise(path, settings, new)
        stop = threading.Event()
        before = {}

        def ready(address: str) -> None:
            before.update({number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)})
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
    """Raises what is wrong with the settings, before anything is opened, made, compiled or bound.

    InvalidArgumentError when others could call without being asked for a key, StorageError for a file that can't be used,
    NotFoundError when the folder that the directory is to be in isn't there, UnavailableError for an address that can't be had.
    """
    keys = Keys(file_of(path, settings.keys_file))
    if settings.keys_file:
        keys.require()
    check_exposure(settings, keys.wanted)
    server_credentials(settings)
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise NotFoundError(f"there is no folder {folder} to make the directory of a database in", field="data", value=os.fspath(path))
    for field in ("audit_log", "slow_query_log"):
        folder = Path(getattr(settings, field) or ".").absolute().parent
        if not folder.is_dir():
            raise StorageError(f"{field} is to be in {folder}, which isn't there", field=field, value=getattr(settings, field))
    if settings.tracing:
        from . import tracing  # noqa: F401
    if settings.metrics_port and settings.metrics_port == settings.port:
        problem = f"metrics_port and port are both {settings.port}; take two that differ"
        raise InvalidArgumentError(problem, field="metrics_port", value=settings.port)
    for host, port in ((settings.host, settings.port), (settings.metrics_host, settings.metrics_port)):
        if port:
            check_free(host, port)


def run(
    path: str | os.PathLike[str],
    settings: Settings,
    stop: threading.Event,
    ready: Callable[[str], None],
    stopping: Callable[[], None] = lambda: None,
    shared: bool = False,
) -> None:
    """Serves a directory in this process until ``stop``, then drains. ready: called with the address once calls are taken.

    shared: other processes that say so too may listen on the same port. Where calls can't be stopped it ends the process, with status 0.
    Raises what opening raises, and UnavailableError.
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
        )
        try:
            warm()  # a caller's deadline must not pay for compiling
            _share_python()
            server, health_servicer, bound, guard = _made(database, settings, shared, stop)
            address = address_of(settings.host, bound)
            ready(address)
            log.info("serving", extra={"address": address, "threads": settings.threads})
            if database._read_only is not None:
                log.warning("%s can't be written to: writes are refused", database.path)
            while not stop.wait(SIGNAL_SECONDS):
                pass
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
    """Have a call that makes very many objects keep Python from the others for milliseconds, where it would be for a third of a second:
    what was imported and compiled isn't looked through again for garbage, and the rest less often.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE)


def announce(path: str | os.PathLike[str], address: str, settings: Settings, new: bool) -> None:
    """The line that says that calls are taken. new: there was no database in the directory."""
    facts = ["a new database"] if new else []
    workers = f"{settings.workers} workers with " if settings.workers > 1 else ""
    facts += [f"{workers}{settings.threads} threads", f"messages up to {settings.max_message_bytes / (1 << 20):g} MiB"]
    print(f"vectordb serving {os.fspath(path)} on {address} ({', '.join(facts + _protection(path, settings))})", flush=True)


def _start(
    database: Any, settings: Settings, shared: bool = False, stopping: threading.Event | None = None
) -> tuple[grpc.Server, HealthServicer, int]:
    return _made(database, settings, shared, stopping)[:3]


def _made(
    database: Any, settings: Settings, shared: bool, stopping: threading.Event | None
) -> tuple[grpc.Server, HealthServicer, int, Guard]:
    """A running server, what answers for its health, its port, and who lets its calls in."""
    options = [
        ("grpc.so_reuseport", int(shared)),  # else a second server on the port is a mistake, not a share of the calls
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", -1),  # the service itself refuses answers that are too large, and says so
        ("grpc.max_concurrent_streams", _STREAMS),  # clients wait with more, without an error
    ]
    if shared:  # a connection stays with its worker: closed in turn and made again, they spread over those that were replaced too
        options.append(("grpc.max_connection_age_ms", _CONNECTION_AGE_MS))
    watch = Watch(database, settings)
    guard = Guard(database, settings, watch)
    server = grpc.server(probes.threads(guard), options=options + guard.connections.options())  # methods of ours have their lanes' threads
    server.add_generic_rpc_handlers((Service(database, guard, watch, stopping).handler(),))
    servicer = probes.add(server, guard)
    address = address_of(settings.host, settings.port)
    credentials = server_credentials(settings)
    try:
        bound = server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
    except RuntimeError:
        bound = 0
    if not bound:
        raise UnavailableError(f"can't listen on {address}", field="port", value=settings.port)
    watch.follow(server)
    server.start()
    guard.connections.follow(server, bound)
    return server, servicer, bound, guard


def _protection(path: str | os.PathLike[str], settings: Settings) -> list[str]:
    """How calls are protected, in words."""
    tls = ("mutual TLS" if settings.tls_client_ca else "TLS") if settings.tls_cert else "no TLS"
    return ["API keys" if file_of(path, settings.keys_file).exists() else "no API keys", tls]


def address_of(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_free(host: str, port: int) -> int:
    """The port, or with 0 one that is free now. Raises UnavailableError when somebody listens there, or the address isn't ours."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            return probe.getsockname()[1]
    except OSError as error:
        raise UnavailableError(f"can't listen on {address_of(host, port)}: {error.strerror or error}", field="port", value=port) from None
