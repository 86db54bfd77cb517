"""Authentication, authorisation and limits. Every call is checked twice.

On arrival, from its metadata and before its message is read: who is the caller, and is there room for the call? Then, in a thread and
with its message: may the caller do this, and is it within the limits? The options of the method in the proto file say what it needs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from vectordb_client.errors import DeadlineError, RateLimitError, VectorDBError
from vectordb_client.rpc.methods import Method

from ...common import deadline
from ...storage.modes import PRIVATE
from .. import memory
from ..connections import Connections, peer_of
from ..receive import Arrival, Overdue, late_words
from ..settings import Settings
from ..telemetry.telemetry import Telemetry
from ..turns import RequestPool
from . import rates
from .audit import AuditLog
from .call import AdmittedCall, Behavior
from .keys import ANYBODY, Key, Keys, file_of
from .tls import check_exposure, is_loopback

log = logging.getLogger("vectordb.server")
_BUSY_SECONDS = 0.25  # suggested retry delay of a call that found no room
_OTHER_THREADS, _WAITING_THREADS, _REFUSING_THREADS = 2, 16, 2


class Guard:
    """The keys, limits and audit log of one server over an open database.

    Raises InvalidArgumentError if a public address would be served without keys or TLS, StorageError if the key file, the audit log or the
    file of rates can't be used.
    """

    def __init__(self, database: Any, settings: Settings, telemetry: Telemetry):
        self.settings = settings
        self.database = database
        self.open = deadline.Deadline(within=database.directory.env.deadline)  # of all calls: ended when the service shuts down
        self.memory = memory.pool(settings)
        self.keys = Keys(file_of(database.path, settings.keys_file))
        if settings.keys_file:
            self.keys.require()
        check_exposure(settings, self.keys.required)
        self.audit = AuditLog(Path(settings.audit_log), settings.audit_log_bytes, settings.mode or PRIVATE) if settings.audit_log else None
        rates_file = None if database.read_only is not None else Path(database.path) / rates.FILE_NAME
        self._rates = rates.Rates(rates_file, settings.requests_per_second)
        self._pools = {
            "read": RequestPool("read", settings.threads, settings.queue, telemetry, rests=True, hurried=self._awaited),
            "write": RequestPool("write", settings.write_threads, settings.queue, telemetry),
            "other": RequestPool("other", _OTHER_THREADS, settings.queue, telemetry),
            "wait": RequestPool("wait", _WAITING_THREADS, settings.queue, telemetry),  # these calls only wait, but for minutes
            # Streams stay open as long as their callers like; the extra threads refuse streams above the limit.
            "stream": RequestPool("stream", settings.change_streams + _REFUSING_THREADS, 0, telemetry),
        }
        self._refusals = ThreadPoolExecutor(_REFUSING_THREADS, "vectordb-refuse")
        self.connections = Connections(settings)
        self.overdue = Overdue(settings.message_seconds)
        self.entrance = _Entrance(self)
        self._lock = threading.Lock()
        self._at_work: dict[str, int] = {}

    def _awaited(self) -> bool:
        """Whether another call waits for something that running calls hold."""
        return self.database.directory.env.awaited or self.memory.awaited

    def arrive(self, method: Method, metadata: Iterable[tuple[str, Any]], behavior: Behavior) -> AdmittedCall:
        """A new call of a method, with its API key or with the error to refuse it with. Calling it runs ``behavior``."""
        call = AdmittedCall(self, method, behavior)
        with _refusing(call):
            call.key = self.identify(metadata)
            self._take_rate(call)
        return call

    def enter(self, arrival: Arrival) -> None:
        """Give a new call a place, read its message and run it in a thread when its turn comes; or refuse it with its message unread."""
        call: AdmittedCall = arrival.behavior
        if call.refusal is None:
            self.connections.called(arrival.peer)
            with _refusing(call):
                self._place(call, arrival)
        place, seconds, came = call.place, self.settings.message_seconds, time.monotonic()
        if call.refusal is not None or place is None:
            self._refuse(arrival)
            return

        def read() -> None:
            if arrival.readable:  # a message that was sent meanwhile is read at once
                self.overdue.expect(place, late, max(came + seconds, time.monotonic() + seconds / 4))
            arrival.read(received)

        def received() -> None:
            self.overdue.met(place)
            if arrival.readable and arrival.request is None:  # it ended without a message, or its caller is gone
                arrival.abort()
                call.ended()
            else:
                place.pool.ready(place, lambda: _run(arrival, call))

        def late() -> None:
            if place.pool.withdraw(place):
                self._turn_away(arrival, DeadlineError(late_words(seconds), field="timeout"))

        place.pool.line_up(place, read)

    def identify(self, metadata: Iterable[tuple[str, Any]]) -> Key:
        """The caller's API key. Raises AuthenticationError, UnavailableError."""
        return self.keys.owner(metadata) or ANYBODY

    def may_load_models(self, key: Key) -> bool:
        """Whether the caller may name a model folder for the service to load; a model can contain arbitrary code."""
        if key is ANYBODY:
            return is_loopback(self.settings.host)
        return key.role == "admin" and key.collections is None

    def _take_rate(self, call: AdmittedCall) -> None:
        wait = self._rates.take(call.key.id)
        if wait > 0:
            problem = f"{_caller_name(call.key)}: more than {self.settings.requests_per_second:g} calls per second"
            raise _retry_later(problem, "requests_per_second", wait)

    def _place(self, call: AdmittedCall, arrival: Arrival) -> None:
        """Reserve a place for the call: of its caller and in its pool. Raises RateLimitError."""
        settings, pool = self.settings, self._pools[call.method.pool]
        caller = call.key.id if call.key is not ANYBODY else _peer(arrival.peer)
        with self._lock:
            running = self._at_work.get(caller, 0)
            if running >= settings.concurrent_requests:
                whose = _caller_name(call.key) if call.key is not ANYBODY else "this caller"
                problem = f"{whose} already has {running} running or waiting calls, of at most {settings.concurrent_requests}"
                raise _retry_later(problem, "concurrent_requests", _BUSY_SECONDS)
            self._at_work[caller] = running + 1
        call.caller = caller
        full = _retry_later(f"the queue is full: {settings.queue} {call.method.pool} calls are waiting", "queue", _BUSY_SECONDS)
        call.place = pool.enter(caller, lambda: self._turn_away(arrival, full))
        if call.place is None:
            self._left(call)
            raise full

    def _turn_away(self, arrival: Arrival, error: VectorDBError) -> None:
        """Refuse a call that has lost its place."""
        self.overdue.met(arrival.behavior.place)
        self._left(arrival.behavior)
        arrival.behavior.refuse(error)
        self._refuse(arrival)

    def _refuse(self, arrival: Arrival) -> None:
        self._refusals.submit(arrival.run, b"")

    def _left(self, call: AdmittedCall) -> None:
        with self._lock:
            caller, call.caller = call.caller, None
            if caller is not None:
                self._at_work[caller] -= 1
                if not self._at_work[caller]:
                    del self._at_work[caller]

    @property
    def at_work(self) -> int:
        """Calls that have a place: running or waiting for a thread."""
        with self._lock:
            return sum(self._at_work.values())

    def leave(self, call: AdmittedCall) -> None:
        """Free the call's place. May be called twice."""
        if call.place is not None:
            call.place.pool.leave(call.place)
            self._left(call)


class _Entrance(ThreadPoolExecutor):
    """Passed to gRPC as the thread pool of our methods. It has no threads: it hands each call to the guard."""

    def __init__(self, guard: Guard):
        super().__init__(1)
        self._guard = guard

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        self._guard.enter(Arrival(work, arguments, named))


def _run(arrival: Arrival, call: AdmittedCall) -> None:
    try:
        arrival.run()
    finally:
        call.ended()  # also if gRPC never started its work because the caller was gone


@contextmanager
def _refusing(call: AdmittedCall) -> Iterator[None]:
    """Refuse the call with any error raised in the block."""
    try:
        yield
    except VectorDBError as error:
        call.refuse(error)
    except Exception as error:  # not raised: gRPC would log its text
        log.error("%s can't be admitted: %s", call.method.name, type(error).__qualname__)
        call.refuse(VectorDBError("the service failed unexpectedly; see its log"))


@lru_cache(maxsize=4_096)
def _peer(address: str) -> str:
    """The caller of a call without a key: its machine; on this machine, its connection, because all programs share one address."""
    host, port = peer_of(address)
    return f"{host}:{port}" if is_loopback(host) else host


def _caller_name(key: Key) -> str:
    return "all callers together (no API keys are in use)" if key is ANYBODY else f"API key {key.id}"


def _retry_later(problem: str, setting: str, seconds: float) -> RateLimitError:
    seconds = max(round(seconds, 3), 0.001)
    return RateLimitError(f"{problem} (setting {setting} of the service); retry in {seconds:g} s", field=setting, retry_after=seconds)
