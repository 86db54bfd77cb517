"""Authentication, authorisation and limits. Every call is checked twice.

On arrival, from its metadata and before its message is read: who is the caller, and is there room for the call? Then, in a thread and
with its message: may the caller do this, and is it within the limits? ``RULES`` has one entry per method; other methods are reserved to
admins of all collections.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import grpc
from vectordb_client.errors import (
    DeadlineError,
    EncoderError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    SchemaError,
    VectorDBError,
    shown,
)
from vectordb_client.model.schema import check_name
from vectordb_client.rpc import wire
from vectordb_client.rpc.status import status_of
from vectordb_client.v1 import vectordb_pb2 as pb

from ... import encoders
from ...common import deadline
from ...storage.modes import PRIVATE
from .. import memory
from ..connections import Connections, peer_of
from ..receive import Arrival, Overdue, late_words
from ..settings import Settings
from ..telemetry.telemetry import Telemetry
from ..turns import Place, RequestPool, Turn
from . import limits
from .audit import AuditLog
from .keys import ROLES, Key, Keys, file_of
from .tls import check_exposure, is_loopback

log = logging.getLogger("vectordb.server")
_BUSY_SECONDS = 0.25  # suggested retry delay of a call that found no room
_NO_DEADLINE = 1e9  # seconds; gRPC says 9e18 when a call has none
_LEVEL = {role: level for level, role in enumerate(ROLES)}
_OTHER_THREADS, _WAITING_THREADS, _REFUSING_THREADS = 2, 16, 2


@dataclass(frozen=True)
class Rule:
    """What a method needs. role: the minimum. about: the request's field that names the collection; None if it concerns no single one.

    lane: the lane whose threads and queue it uses. audited: always in the audit log (calls that read vectors always are). vectors: it
    always reads vectors. whole: only for keys of all collections.
    """

    role: str
    about: str | None
    lane: str
    audited: bool = False
    vectors: bool = False
    whole: bool = False


RULES = {
    "ServerInfo": Rule("read", None, "other"),
    "CreateCollection": Rule("admin", "name", "write", audited=True),
    "DropCollection": Rule("admin", "name", "write", audited=True),
    "ListCollections": Rule("read", None, "other"),
    "DescribeCollection": Rule("read", "name", "other"),
    "AddFields": Rule("admin", "collection", "write", audited=True),
    "Optimize": Rule("write", "collection", "wait", audited=True),
    "Write": Rule("write", "collection", "write"),
    "Delete": Rule("write", "collection", "write"),
    "Get": Rule("read", "collection", "read"),
    "Search": Rule("read", "collection", "read"),
    "Count": Rule("read", "collection", "read"),
    "Scroll": Rule("read", "collection", "read", audited=True),
    "SetTerms": Rule("write", "collection", "write"),
    "ListTerms": Rule("read", "collection", "read"),
    "Status": Rule("read", None, "other", whole=True),
    "Snapshot": Rule("admin", None, "wait", audited=True, vectors=True, whole=True),
    "Purge": Rule("admin", "collection", "wait", audited=True),
    "Changes": Rule("read", "collection", "stream", audited=True),
}
_UNKNOWN = Rule("admin", None, "other", audited=True, vectors=True, whole=True)
# The caller of all calls when no keys are in use.
_ANYBODY = Key(id="-", hash="", role="admin", vectors=True, created=datetime(1970, 1, 1, tzinfo=UTC))


class Guard:
    """The keys, limits and audit log of one server over an open database.

    Raises InvalidArgumentError if a public address would be served without keys or TLS, StorageError if the key file, the audit log or the
    file of rates can't be used.
    """

    def __init__(self, database: Any, settings: Settings, watch: Telemetry):
        self.settings = settings
        self.database = database
        self.open = deadline.Deadline(within=database.directory.env.deadline)  # of all calls: ended when the service shuts down
        self.memory = memory.pool(settings)
        self.keys = Keys(file_of(database.path, settings.keys_file))
        if settings.keys_file:
            self.keys.require()
        check_exposure(settings, self.keys.wanted)
        self.audit = AuditLog(Path(settings.audit_log), settings.audit_log_bytes, settings.mode or PRIVATE) if settings.audit_log else None
        rates = None if database.read_only is not None else Path(database.path) / limits.RATES_FILE
        self._rates = limits.Rates(rates, settings.requests_per_second)
        self._lanes = {
            "read": RequestPool("read", settings.threads, settings.queue, watch, rests=True, hurried=self._awaited),
            "write": RequestPool("write", settings.write_threads, settings.queue, watch),
            "other": RequestPool("other", _OTHER_THREADS, settings.queue, watch),
            "wait": RequestPool("wait", _WAITING_THREADS, settings.queue, watch),  # these calls only wait, but for minutes
            # Streams stay open as long as their callers like; the extra threads refuse streams above the limit.
            "stream": RequestPool("stream", settings.change_streams + _REFUSING_THREADS, 0, watch),
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

    def arrive(
        self, method: str, metadata: Iterable[tuple[str, Any]], behavior: Callable[[Any, grpc.ServicerContext, AdmittedCall], Any]
    ) -> AdmittedCall:
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
        if call.refusal is not None:
            self._refuse(arrival)
            return
        place, seconds, came = call.place, self.settings.message_seconds, time.monotonic()

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
                place.lane.ready(place, lambda: _run(arrival, call))

        def late() -> None:
            if place.lane.withdraw(place):
                self._turn_away(arrival, DeadlineError(late_words(seconds), field="timeout"))

        place.lane.line_up(place, read)

    def identify(self, metadata: Iterable[tuple[str, Any]]) -> Key:
        """The caller's API key. Raises AuthenticationError, UnavailableError."""
        return self.keys.owner(metadata) or _ANYBODY

    def may_load_models(self, key: Key) -> bool:
        """Whether the caller may name a model folder for the service to load; a model can contain arbitrary code."""
        if key is _ANYBODY:
            return is_loopback(self.settings.host)
        return key.role == "admin" and key.collections is None

    def _take_rate(self, call: AdmittedCall) -> None:
        wait = self._rates.take(call.key.id)
        if wait > 0:
            problem = f"{_called(call.key)}: more than {self.settings.requests_per_second:g} calls per second"
            raise _come_again(problem, "requests_per_second", wait)

    def _place(self, call: AdmittedCall, arrival: Arrival) -> None:
        """Reserve a place for the call: of its caller and in its lane. Raises RateLimitError."""
        settings, lane = self.settings, self._lanes[call.rule.lane]
        caller = call.key.id if call.key is not _ANYBODY else _peer(arrival.peer)
        with self._lock:
            there = self._at_work.get(caller, 0)
            if there >= settings.concurrent_requests:
                whose = _called(call.key) if call.key is not _ANYBODY else "this caller"
                problem = f"{whose} already has {there} running or waiting calls, of at most {settings.concurrent_requests}"
                raise _come_again(problem, "concurrent_requests", _BUSY_SECONDS)
            self._at_work[caller] = there + 1
        call.caller = caller
        full = _come_again(f"the queue is full: {settings.queue} {call.rule.lane} calls are waiting", "queue", _BUSY_SECONDS)
        call.place = lane.enter(caller, lambda: self._turn_away(arrival, full))
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
            call.place.lane.leave(call.place)
            self._left(call)


class _Entrance(ThreadPoolExecutor):
    """Passed to gRPC as the thread pool of our methods. It has no threads: it hands each call to the guard."""

    def __init__(self, guard: Guard):
        super().__init__(1)
        self._guard = guard

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> None:
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
        log.error("%s can't be admitted: %s", call.method, type(error).__qualname__)
        call.refuse(VectorDBError("the service failed unexpectedly; see its log"))


@lru_cache(maxsize=4_096)
def _peer(address: str) -> str:
    """The caller of a call without a key: its machine; on this machine, its connection, because all programs share one address."""
    host, port = peer_of(address)
    return f"{host}:{port}" if is_loopback(host) else host


class AdmittedCall:
    """One call, from its arrival to its end. gRPC sees it as the method's behavior, with the thread pool to run it."""

    __slots__ = (
        "_allowance", "_behavior", "_bulk", "_context", "_count", "_explained", "_guard",
        "_under", "caller", "collection", "experimental_thread_pool", "key", "method", "place", "refusal", "rule",
    )  # fmt: skip

    def __init__(self, guard: Guard, method: str, behavior: Callable[[Any, grpc.ServicerContext, AdmittedCall], Any]):
        self._guard, self.method, self._behavior = guard, method, behavior
        self.rule = RULES.get(method, _UNKNOWN)
        self.key = _ANYBODY
        self.caller: str | None = None  # set while the call counts towards its caller's limit
        self.place: Place | None = None
        self.refusal: VectorDBError | None = None
        self.experimental_thread_pool = guard.entrance  # the name is gRPC's
        self.collection: str | None = None
        self._bulk = self._explained = False
        self._count = 0

    def __call__(self, data: Any, context: grpc.ServicerContext) -> Any:
        return self._behavior(data, context, self)

    def refuse(self, error: VectorDBError) -> None:
        """Answer the call with this error, without reading its message."""
        self.refusal = error

    def ended(self) -> None:
        """The work is done, or the caller is gone. May be called twice."""
        self._guard.leave(self)

    def admitted(self, context: grpc.ServicerContext) -> AdmittedCall:
        """``with call.admitted(context):`` around the work raises the error of a refused call, stops the work when the caller is gone, and
        writes the audit log.
        """
        self._context = context
        return self

    def __enter__(self) -> AdmittedCall:
        if self.refusal is not None:
            raise self.refusal
        left = self._context.time_remaining()
        seconds = None if left is None or left >= _NO_DEADLINE else left
        self._allowance = self._guard.memory.allowance()
        patience = Turn(seconds, self.place, self._guard.open, self._allowance)
        if not self._context.add_callback(patience.leave):
            patience.leave()
        self._under = deadline.scope(patience)
        self._under.__enter__()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._under.__exit__(None, None, None)
        self._allowance.close()
        self.ended()  # before the answer is sent: the caller may call again at once
        audit = self._guard.audit
        if audit is not None and (self.rule.audited or self._bulk):
            audit.write(**self._facts(error))
        if self.key.collections is not None and isinstance(error, NotFoundError) and error.field == "collection":
            # The database's error lists all collections, which this key may not know.
            raise NotFoundError(f"no collection {shown(error.value)}", field="collection", value=error.value) from None

    def check(self, request: Any) -> None:
        """Raises PermissionDeniedError if the key doesn't allow the request, LimitError if it exceeds a limit. Does not depend on whether
        the collection exists.
        """
        rule, key = self.rule, self.key
        self.collection = getattr(request, rule.about) if rule.about else None
        if _LEVEL[key.role] < _LEVEL[rule.role]:
            raise self._denied(f"the role {rule.role}", "role", rule.role)
        if key.collections is not None and (rule.whole or (rule.about and self.collection not in key.collections)):
            raise self._denied("a key for all collections" if rule.whole else "a key for that collection", "collection", self.collection)
        self._bulk = rule.vectors or _asks_for_vectors(request)
        if self._bulk and not key.vectors:
            raise self._denied("the right to read vectors (keys create --vectors)", "with_vectors", None)
        kind = type(request)
        if kind is pb.SearchRequest:
            self._explained = request.explain
        elif kind is pb.CreateCollectionRequest:
            self._check_fields(request.schema, None)
            limits.check_collections(self._guard.settings, self._guard.database.collections(), request.name)
        elif kind is pb.AddFieldsRequest:
            self._check_fields(request.fields, self._guard.database.collection(request.collection).schema)
        limits.check(self._guard.settings, request)

    def cleared(self, answer: Any) -> Any:
        """The answer, without what the key may not see."""
        kind = type(answer)
        if kind is pb.ListCollectionsResponse and self.key.collections is not None:
            return pb.ListCollectionsResponse(names=[name for name in answer.names if name in self.key.collections])
        if kind is pb.SearchResponse and self._explained and not self.key.vectors:
            for hits in answer.results:
                hits.plan = json.dumps(_without_weights(json.loads(hits.plan))).encode()
        if self.rule.audited or self._bulk:
            self._count = _points_in(answer)
        return answer

    def _check_fields(self, data: bytes, there: Any) -> None:
        fields = wire.unpack_json(data, "schema")
        limits.check_schema(self._guard.settings, fields, there)
        if not self._guard.may_load_models(self.key) and _names_a_model(fields):
            raise self._denied("the role admin for all collections to name a model", "encoder", None)

    def _denied(self, what: str, field: str, value: Any) -> PermissionDeniedError:
        about = f" of collection {shown(self.collection)}" if self.collection is not None else ""
        return PermissionDeniedError(
            f"{self.method}{about} needs {what}, which API key {self.key.id} does not have", field=field, value=value
        )

    def _facts(self, error: BaseException | None) -> dict[str, Any]:
        outcome = "OK" if error is None else status_of(error)[0] if isinstance(error, VectorDBError) else "INTERNAL"
        identities = self._context.peer_identities()
        facts = {"key": self.key.id, "peer": self._context.peer(), "method": self.method, "collection": _name(self.collection)}
        if identities:
            facts["certificate"] = [identity.decode("utf-8", "replace") for identity in identities]
        return facts | {"points": self._count, "vectors": self._bulk, "outcome": outcome}


def _called(key: Key) -> str:
    return "all callers together (no API keys are in use)" if key is _ANYBODY else f"API key {key.id}"


def _come_again(problem: str, setting: str, seconds: float) -> RateLimitError:
    seconds = max(round(seconds, 3), 0.001)
    return RateLimitError(f"{problem} (setting {setting} of the service); retry in {seconds:g} s", field=setting, retry_after=seconds)


def _asks_for_vectors(request: Any) -> bool:
    if type(request) not in _SELECTING or not request.HasField("with_vectors"):
        return False
    return request.with_vectors.all or bool(request.with_vectors.names)


_SELECTING = (pb.GetRequest, pb.SearchRequest, pb.ScrollRequest, pb.ChangesRequest)


def _names_a_model(fields: Any) -> bool:
    """Whether an encoder in a schema (as a JSON dict) names a model."""
    vectors = fields.get("vectors") if isinstance(fields, dict) else None
    for spec in vectors.values() if isinstance(vectors, dict) else ():
        encoder = spec.get("encoder") if isinstance(spec, dict) else None
        try:
            if encoder is not None and "model" in encoders.parse(encoder)[1]:
                return True
        except EncoderError:
            pass  # the method itself raises the error
    return False


def _without_weights(plan: Any) -> Any:
    """A plan without the contributions of terms, from which stored weights could be computed."""
    if isinstance(plan, dict):
        return {name: [] if name == "matched" else _without_weights(part) for name, part in plan.items()}
    return [_without_weights(part) for part in plan] if isinstance(plan, list) else plan


def _points_in(answer: Any) -> int:
    kind = type(answer)
    if kind in (pb.GetResponse, pb.ScrollResponse):
        return len(answer.points.versions) // 8
    return sum(len(hits.scores) // 8 for hits in answer.results) if kind is pb.SearchResponse else 0


def _name(collection: str | None) -> str | None:
    """The name if it is a valid collection name, else None: it may contain anything."""
    try:
        return None if collection is None else check_name(collection, "collection")
    except SchemaError:
        return None
