"""Who may do what, and how much of it: every call passes the guard twice.

When it arrives, by its metadata and before its message is read: whose is it, and is there room for it? Then, in a thread and by its
message: may they do that, and is it within the limits? ``RULES`` has a line for every method of the service; what isn't in it is for
admins of everything.
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
from vectordb_client import wire
from vectordb_client.status import status_of
from vectordb_client.v1 import vectordb_pb2 as pb

from .. import deadline, encoders
from ..errors import DeadlineError, EncoderError, NotFoundError, PermissionDeniedError, RateLimitError, SchemaError, VectorDBError, shown
from ..storage.modes import PRIVATE
from ..types import check_name
from . import limits, memory
from .audit import AuditLog
from .connections import Connections, peer_of
from .keys import ROLES, Key, Keys, file_of
from .receive import Arrival, Overdue, late_words
from .settings import Settings
from .tls import check_exposure, is_loopback
from .turns import Lane, Place, Turn
from .watch import Watch

log = logging.getLogger("vectordb.server")
_BUSY_SECONDS = 0.25  # after which a call that found no room may come again
_NO_DEADLINE = 1e9  # seconds; gRPC says 9e18 when a call has none
_LEVEL = {role: level for level, role in enumerate(ROLES)}
_OTHER_THREADS, _WAITING_THREADS, _REFUSING_THREADS = 2, 16, 2


@dataclass(frozen=True)
class Rule:
    """What a method needs. role: at least. about: the request's field that names the collection; None: it is about none in particular.

    lane: whose threads and queue it takes. audited: always told by the audit log; whatever fetches vectors is. vectors: it fetches them
    unasked. whole: only for keys to all collections.
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
# Whose calls are when no keys are in use.
_ANYBODY = Key(id="-", hash="", role="admin", vectors=True, created=datetime(1970, 1, 1, tzinfo=UTC))


class Guard:
    """The keys, limits and records of one server over an open database.

    Raises InvalidArgumentError when others could call without being asked for a key, StorageError when the key file, the audit log or the
    file of rates can't be used.
    """

    def __init__(self, database: Any, settings: Settings, watch: Watch):
        self.settings = settings
        self.database = database
        self.open = deadline.Patience(within=database._env.patience)  # of all calls: until the service has no more time for them
        self.memory = memory.pool(settings)
        self.keys = Keys(file_of(database.path, settings.keys_file))
        if settings.keys_file:
            self.keys.require()
        check_exposure(settings, self.keys.wanted)
        self.audit = AuditLog(Path(settings.audit_log), settings.audit_log_bytes, settings.mode or PRIVATE) if settings.audit_log else None
        rates = None if database._read_only is not None else Path(database.path) / limits.RATES_FILE
        self._rates = limits.Rates(rates, settings.requests_per_second)
        self._lanes = {
            "read": Lane("read", settings.threads, settings.queue, watch, rests=True, hurried=self._awaited),
            "write": Lane("write", settings.write_threads, settings.queue, watch),
            "other": Lane("other", _OTHER_THREADS, settings.queue, watch),
            "wait": Lane("wait", _WAITING_THREADS, settings.queue, watch),  # they only wait, but for minutes
            # Streams stay open as long as their callers like; a few threads more, to say that there are no more.
            "stream": Lane("stream", settings.change_streams + _REFUSING_THREADS, 0, watch),
        }
        self._refusals = ThreadPoolExecutor(_REFUSING_THREADS, "vectordb-refuse")
        self.connections = Connections(settings)
        self.overdue = Overdue(settings.message_seconds)
        self.entrance = _Entrance(self)
        self._lock = threading.Lock()
        self._at_work: dict[str, int] = {}

    def _awaited(self) -> bool:
        """Whether somebody waits for what calls at work hold."""
        return self.database._env.awaited or self.memory.awaited

    def arrive(self, method: str, metadata: Iterable[tuple[str, Any]], behavior: Callable[[Any, grpc.ServicerContext, Call], Any]) -> Call:
        """A call of a method, with its owner or with the error that it is to be refused with. Runs ``behavior`` when called."""
        call = Call(self, method, behavior)
        with _refusing(call):
            call.key = self.identify(metadata)
            self._take_rate(call)
        return call

    def enter(self, arrival: Arrival) -> None:
        """Gives a call that has arrived a place, reads its message, and has a thread run it when its turn comes; or refuses it, without
        reading the message.
        """
        call: Call = arrival.behavior
        if call.refusal is None:
            self.connections.called(arrival.peer)
            with _refusing(call):
                self._place(call, arrival)
        if call.refusal is not None:
            self._refuse(arrival)
            return
        place, seconds, came = call.place, self.settings.message_seconds, time.monotonic()

        def read() -> None:
            if arrival.readable:  # what was sent meanwhile is there at once
                self.overdue.expect(place, late, max(came + seconds, time.monotonic() + seconds / 4))
            arrival.read(received)

        def received() -> None:
            self.overdue.met(place)
            if arrival.readable and arrival.request is None:  # ended without a message, or its caller has gone
                arrival.abort()
                call.ended()
            else:
                place.lane.ready(place, lambda: _run(arrival, call))

        def late() -> None:
            if place.lane.withdraw(place):
                self._turn_away(arrival, DeadlineError(late_words(seconds), field="timeout"))

        place.lane.line_up(place, read)

    def identify(self, metadata: Iterable[tuple[str, Any]]) -> Key:
        """Whose call it is. Raises AuthenticationError, UnavailableError."""
        return self.keys.owner(metadata) or _ANYBODY

    def may_load_models(self, key: Key) -> bool:
        """Whether the owner may name a folder from which the service loads a model, which may be any code."""
        if key is _ANYBODY:
            return is_loopback(self.settings.host)
        return key.role == "admin" and key.collections is None

    def _take_rate(self, call: Call) -> None:
        wait = self._rates.take(call.key.id)
        if wait > 0:
            problem = f"{_called(call.key)} calls more than {self.settings.requests_per_second:g} times a second"
            raise _come_again(problem, "requests_per_second", wait)

    def _place(self, call: Call, arrival: Arrival) -> None:
        """Room for one more call of its caller, now and in its lane. Raises RateLimitError."""
        settings, lane = self.settings, self._lanes[call.rule.lane]
        caller = call.key.id if call.key is not _ANYBODY else _peer(arrival.peer)
        with self._lock:
            there = self._at_work.get(caller, 0)
            if there >= settings.concurrent_requests:
                whose = _called(call.key) if call.key is not _ANYBODY else "this caller"
                problem = f"{whose} has {there} calls waiting or at work, at most {settings.concurrent_requests} are taken"
                raise _come_again(problem, "concurrent_requests", _BUSY_SECONDS)
            self._at_work[caller] = there + 1
        call.caller = caller
        full = _come_again(f"{settings.queue} {call.rule.lane} calls are waiting, no more are taken", "queue", _BUSY_SECONDS)
        call.place = lane.enter(caller, lambda: self._turn_away(arrival, full))
        if call.place is None:
            self._left(call)
            raise full

    def _turn_away(self, arrival: Arrival, error: VectorDBError) -> None:
        """Refuse a call that had a place, and has it no more."""
        self.overdue.met(arrival.behavior.place)
        self._left(arrival.behavior)
        arrival.behavior.refuse(error)
        self._refuse(arrival)

    def _refuse(self, arrival: Arrival) -> None:
        self._refusals.submit(arrival.run, b"")

    def _left(self, call: Call) -> None:
        with self._lock:
            caller, call.caller = call.caller, None
            if caller is not None:
                self._at_work[caller] -= 1
                if not self._at_work[caller]:
                    del self._at_work[caller]

    @property
    def at_work(self) -> int:
        """Calls that have a place: at work, or waiting for a thread."""
        with self._lock:
            return sum(self._at_work.values())

    def leave(self, call: Call) -> None:
        """Its place is free again. Leaving twice is fine."""
        if call.place is not None:
            call.place.lane.leave(call.place)
            self._left(call)


class _Entrance(ThreadPoolExecutor):
    """What gRPC takes for the threads of our methods: hands each call to the guard. It has no threads."""

    def __init__(self, guard: Guard):
        super().__init__(1)
        self._guard = guard

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> None:
        self._guard.enter(Arrival(work, arguments, named))


def _run(arrival: Arrival, call: Call) -> None:
    try:
        arrival.run()
    finally:
        call.ended()  # even if gRPC didn't begin its work, because nobody waited any more


@contextmanager
def _refusing(call: Call) -> Iterator[None]:
    """What goes wrong is what the call is refused with."""
    try:
        yield
    except VectorDBError as error:
        call.refuse(error)
    except Exception as error:  # gRPC would log its text
        log.error("%s can't be let in: %s", call.method, type(error).__qualname__)
        call.refuse(VectorDBError("the service failed unexpectedly; its log says where"))


@lru_cache(maxsize=4_096)
def _peer(address: str) -> str:
    """Who calls without a key: a machine; on this machine, a connection, for all programs here have one address."""
    host, port = peer_of(address)
    return f"{host}:{port}" if is_loopback(host) else host


class Call:
    """One call, from its arrival to its end; to gRPC it is the method's behavior, with the threads that are to run it."""

    __slots__ = (
        "_allowance", "_behavior", "_bulk", "_context", "_count", "_explained", "_guard",
        "_under", "caller", "collection", "experimental_thread_pool", "key", "method", "place", "refusal", "rule",
    )  # fmt: skip

    def __init__(self, guard: Guard, method: str, behavior: Callable[[Any, grpc.ServicerContext, Call], Any]):
        self._guard, self.method, self._behavior = guard, method, behavior
        self.rule = RULES.get(method, _UNKNOWN)
        self.key = _ANYBODY
        self.caller: str | None = None  # while it counts as the caller's
        self.place: Place | None = None
        self.refusal: VectorDBError | None = None
        self.experimental_thread_pool = guard.entrance  # the name is gRPC's
        self.collection: str | None = None
        self._bulk = self._explained = False
        self._count = 0

    def __call__(self, data: Any, context: grpc.ServicerContext) -> Any:
        return self._behavior(data, context, self)

    def refuse(self, error: VectorDBError) -> None:
        """Let it be answered with this error, without its message being read."""
        self.refusal = error

    def ended(self) -> None:
        """Its work is done, or nobody waits for it any more. Ending twice is fine."""
        self._guard.leave(self)

    def admitted(self, context: grpc.ServicerContext) -> Call:
        """``with call.admitted(context):`` around the work: raises what the call is refused with, stops the work when nobody waits any
        more, and has it told by the audit log.
        """
        self._context = context
        return self

    def __enter__(self) -> Call:
        if self.refusal is not None:
            raise self.refusal
        left = self._context.time_remaining()
        seconds = None if left is None or left >= _NO_DEADLINE else left
        self._allowance = self._guard.memory.allowance()
        patience = Turn(seconds, self.place, self._guard.open, self._allowance)
        if not self._context.add_callback(patience.leave):
            patience.leave()
        self._under = deadline.under(patience)
        self._under.__enter__()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._under.__exit__(None, None, None)
        self._allowance.close()
        self.ended()  # before the answer is sent: who has it may call again at once
        audit = self._guard.audit
        if audit is not None and (self.rule.audited or self._bulk):
            audit.write(**self._facts(error))
        if self.key.collections is not None and isinstance(error, NotFoundError) and error.field == "collection":
            # The database names those there are; not to somebody who may not know of them.
            raise NotFoundError(f"no collection {shown(error.value)}", field="collection", value=error.value) from None

    def check(self, request: Any) -> None:
        """Raises PermissionDeniedError when the key doesn't allow it, LimitError when it is too much. Whether a collection exists plays
        no part in it.
        """
        rule, key = self.rule, self.key
        self.collection = getattr(request, rule.about) if rule.about else None
        if _LEVEL[key.role] < _LEVEL[rule.role]:
            raise self._denied(f"the role {rule.role}", "role", rule.role)
        if key.collections is not None and (rule.whole or (rule.about and self.collection not in key.collections)):
            raise self._denied("a key to all collections" if rule.whole else "a key to that collection", "collection", self.collection)
        self._bulk = rule.vectors or _asks_for_vectors(request)
        if self._bulk and not key.vectors:
            raise self._denied("the right to fetch vectors", "with_vectors", None)
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
        """The answer, without what the key may not know."""
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
            raise self._denied("the role admin of all collections to name an encoder's model", "encoder", None)

    def _denied(self, what: str, field: str, value: Any) -> PermissionDeniedError:
        about = f" of collection {shown(self.collection)}" if self.collection is not None else ""
        return PermissionDeniedError(f"{self.method}{about} needs {what}, which API key {self.key.id} is without", field=field, value=value)

    def _facts(self, error: BaseException | None) -> dict[str, Any]:
        outcome = "OK" if error is None else status_of(error)[0] if isinstance(error, VectorDBError) else "INTERNAL"
        identities = self._context.peer_identities()
        facts = {"key": self.key.id, "peer": self._context.peer(), "method": self.method, "collection": _name(self.collection)}
        if identities:
            facts["certificate"] = [identity.decode("utf-8", "replace") for identity in identities]
        return facts | {"points": self._count, "vectors": self._bulk, "outcome": outcome}


def _called(key: Key) -> str:
    return "everybody together (no API keys are in use)" if key is _ANYBODY else f"API key {key.id}"


def _come_again(problem: str, setting: str, seconds: float) -> RateLimitError:
    seconds = max(round(seconds, 3), 0.001)
    return RateLimitError(f"{problem} (the service's setting {setting}); try again in {seconds:g} s", field=setting, retry_after=seconds)


def _asks_for_vectors(request: Any) -> bool:
    if type(request) not in _SELECTING or not request.HasField("with_vectors"):
        return False
    return request.with_vectors.all or bool(request.with_vectors.names)


_SELECTING = (pb.GetRequest, pb.SearchRequest, pb.ScrollRequest, pb.ChangesRequest)


def _names_a_model(fields: Any) -> bool:
    """Whether some encoder of a schema (as JSON's dict) is told where its model is."""
    vectors = fields.get("vectors") if isinstance(fields, dict) else None
    for spec in vectors.values() if isinstance(vectors, dict) else ():
        encoder = spec.get("encoder") if isinstance(spec, dict) else None
        try:
            if encoder is not None and "model" in encoders.parse(encoder)[1]:
                return True
        except EncoderError:
            pass  # the work says what is wrong with it
    return False


def _without_weights(plan: Any) -> Any:
    """A plan without what each term of the best rows contributed: from that their stored weights could be computed."""
    if isinstance(plan, dict):
        return {name: [] if name == "matched" else _without_weights(part) for name, part in plan.items()}
    return [_without_weights(part) for part in plan] if isinstance(plan, list) else plan


def _points_in(answer: Any) -> int:
    kind = type(answer)
    if kind in (pb.GetResponse, pb.ScrollResponse):
        return len(answer.points.versions) // 8
    return sum(len(hits.scores) // 8 for hits in answer.results) if kind is pb.SearchResponse else 0


def _name(collection: str | None) -> str | None:
    """A collection's name; None for what can't be one, which may be anything."""
    try:
        return None if collection is None else check_name(collection, "collection")
    except SchemaError:
        return None
