"""Observes the calls of a service: metrics, spans, the slow-query log, and at the debug level a log line per call.

``Service`` reports the start and end of each call. The cost is a few microseconds per call.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from typing import Any

import grpc
from prometheus_client import CollectorRegistry
from vectordb_client.errors import VectorDBError
from vectordb_client.model.plan import Plan
from vectordb_client.rpc import wire
from vectordb_client.rpc.methods import Method
from vectordb_client.rpc.status import status_of

from ...engine import audits, floors
from ...filters import as_filter
from ...filters.canonical import canonical
from ...filters.text import to_string
from ...query import trace
from ...storage.modes import PRIVATE
from ..settings import Settings
from . import metrics, status
from .slow import SlowLog

log = logging.getLogger("vectordb.server.calls")
KEPT_SLOW = 20
MOST_GROUPS = 200  # groups with metrics of their own; the results of others are counted as "others"
_here = threading.local()


class CallSpan:
    """One call, from the start of its thread to its answer."""

    __slots__ = ("_begun", "_method", "_span", "_telemetry", "_trace", "_waited", "request")

    def __init__(self, telemetry: Telemetry, method: Method, context: grpc.ServicerContext):
        self.request: Any = None  # the decoded request, once known
        self._telemetry, self._method = telemetry, method
        self._waited = getattr(_here, "waited", 0.0)
        self._span = None if telemetry.tracing is None else telemetry.tracing.begin(method.name, context.invocation_metadata())
        self._trace = trace.begin() if method.traced else None
        telemetry.under_way[id(self)] = method.name
        self._begun = time.perf_counter()

    def end(self, error: VectorDBError | None = None) -> None:
        """The call has its answer, or fails with ``error``."""
        seconds = time.perf_counter() - self._begun
        telemetry, method = self._telemetry, self._method.name
        telemetry.under_way.pop(id(self), None)
        telemetry.metrics.child("call_seconds", method).observe(seconds)
        plan = None
        if self._trace is not None:
            trace.end()
            plan = self._trace.plan_name()
            if plan is not None:
                telemetry.metrics.child("search_seconds", plan).observe(seconds)
        state, kind = ("OK", None) if error is None else (status_of(error)[0], type(error).__name__)
        if kind is not None:
            telemetry.metrics.child("errors", method, state, kind).inc()
        if self._span is not None:
            k = getattr(self.request, "limit", None)
            telemetry.tracing.end(self._span, {"collection": _collection(self.request), "plan": plan, "k": k}, kind)
        if log.isEnabledFor(logging.DEBUG):
            facts = {"method": method, "status": state, "error": kind, "plan": plan, "milliseconds": round(1000 * seconds, 3)}
            log.debug("call", extra={name: value for name, value in facts.items() if value is not None})
        if telemetry.slow is not None and seconds >= telemetry.slow.seconds and self._method.slow_logged:
            try:
                telemetry.was_slow(method, self.request, state, seconds, self._waited, self._trace)
            except Exception:  # the call succeeded: an error in logging must not fail it
                log.exception("a slow query can't be logged")


class Telemetry:
    """The metrics, slow-query log and spans of one service in one process."""

    def __init__(self, database: Any, settings: Settings):
        self.database = database
        self.settings = settings
        self.metrics = metrics.Metrics(database)
        self.slow = (
            SlowLog(settings.slow_query_log, settings.slow_query_ms / 1000, settings.mode or PRIVATE) if settings.slow_query_ms else None
        )
        self.slowest: deque[dict[str, Any]] = deque(maxlen=KEPT_SLOW)
        self.tracing: Any = None
        self.under_way: dict[int, str] = {}
        self.waiting = 0  # calls waiting for a thread
        self._counting = threading.Lock()
        self._waited = self.metrics.child("queue_seconds").observe
        self.begun = time.time()
        self._http: Any = None
        self._closed = threading.Event()
        if settings.tracing:
            from .tracing import Tracing

            self.tracing = Tracing()
        self._audits = database.directory.audits
        self._audits.share = settings.recall_audit
        self._audits.listener, self._audits.floors.listener = self._audited, self._grouped
        self._groups: set[tuple[Any, ...]] = set()
        self._names: dict[int, str | None] = {}

    def begin(self, method: Method, context: grpc.ServicerContext) -> CallSpan:
        """A call starts in this thread. The caller sets its ``request`` and calls ``end``."""
        return CallSpan(self, method, context)

    def arrived(self) -> float:
        """A call starts to wait for a thread. Returns a time to pass to ``began``."""
        with self._counting:
            self.waiting += 1
        return time.perf_counter()

    def began(self, arrived: float) -> None:
        """The call stops waiting. Called in its thread."""
        with self._counting:
            self.waiting -= 1
        _here.waited = time.perf_counter() - arrived
        self._waited(_here.waited)

    def registry(self) -> CollectorRegistry:
        """The current metrics of all processes that record together."""
        self.metrics.sample(len(self.under_way), self.waiting)
        return self.metrics.registry()

    def status(self) -> dict[str, Any]:
        """The metrics as plain data, with the newest slow queries of this process."""
        return status.of(self.registry(), self.begun) | {"slow_queries": list(self.slowest)}

    def follow(self, server: grpc.Server) -> None:
        """Serve and sample the metrics while a server runs. Raises UnavailableError if their address can't be used."""
        if self.settings.metrics_port:
            self._http = metrics.serve_metrics(self, self.settings.metrics_host, self.settings.metrics_port)
        if self._http is not None or self.tracing is not None or self.metrics.shared:
            threading.Thread(target=self._end_with, args=(server,), name="vectordb-watch-end", daemon=True).start()
        if self.metrics.shared:  # other processes read the last sample of this one
            self.metrics.sample(0, 0)
            threading.Thread(target=self._sample, name="vectordb-watch", daemon=True).start()

    def close(self) -> None:
        """Stop what ``follow`` started, and send the last spans. May be called twice."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
        if self.tracing is not None:
            self.tracing.close()

    def was_slow(self, method: str, request: Any, state: str, seconds: float, waited: float, searched: trace.SearchTrace | None) -> None:
        """Log a slow read."""
        self.metrics.child("slow_queries", method).inc()
        facts = {"method": method, "collection": _collection(request), "status": state, "seconds": round(seconds, 6)}
        facts["milliseconds"] = {"queue": round(1000 * waited, 3)}
        if request is not None:
            facts |= {name: getattr(request, name) for name in ("queries", "limit", "exact") if hasattr(request, name)}
            facts["filter"] = self._filter(request)
        if searched is not None and searched.search is not None:
            facts["request"] = searched.search.request.shown()
        if searched is not None and searched.clock is not None:
            facts["milliseconds"] |= searched.clock.milliseconds
            plan = searched.plan()
            facts["plan"] = None if plan is None else str(Plan(plan)).splitlines()
        facts["milliseconds"]["rest"] = round(1000 * (seconds + waited) - sum(facts["milliseconds"].values()), 3)
        facts = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **{k: v for k, v in facts.items() if v is not None}}
        self.slowest.append(facts)
        if self.slow is not None:
            self.slow.write(facts)

    def _filter(self, request: Any) -> str | None:
        """A request's filter in canonical form, which is the form that was evaluated."""
        try:
            given = wire.unpack_filter(request) if hasattr(request, "filter") else None
            if given is None:
                return None
            schema = self.database.collection(request.collection).schema
            return to_string(canonical(as_filter(given), schema), self.settings.slow_query_values)
        except VectorDBError:
            return "not valid"

    def _audited(self, key: audits.Key, predicted: float | None, observed: float) -> None:
        number, field, target = key
        name = self._name(number)
        if name is None:
            return
        self.metrics.child("recall_observed", name, field, f"{target:g}").observe(observed)
        if predicted is not None:
            self.metrics.child("recall_predicted", name, field, f"{target:g}").observe(predicted)

    def _grouped(self, key: floors.Key, results: list[tuple[Any, bool]]) -> None:
        number, field, target, attribute = key
        name = self._name(number)
        if name is None:
            return
        for group, found in results:
            labels = (name, field, f"{floors.rounded(target):g}", attribute, str(group))
            if labels not in self._groups and len(self._groups) >= MOST_GROUPS:
                labels = (*labels[:4], "others")
            self._groups.add(labels)
            self.metrics.child("recall_group_results", *labels).inc()
            if found:
                self.metrics.child("recall_group_found", *labels).inc()

    def _name(self, number: int) -> str | None:
        """The name of the collection with this number; None if it was dropped."""
        if number not in self._names:
            self._names[number] = self.database.directory.name_of(number)
        return self._names[number]

    def _sample(self) -> None:
        while not self._closed.wait(metrics.SAMPLE_SECONDS):
            try:
                self.metrics.sample(len(self.under_way), self.waiting)
            except OSError as error:  # the metrics folder is gone or full; recording calls raises the details
                log.warning("metrics can't be recorded: %s", os.strerror(error.errno or 0))

    def _end_with(self, server: grpc.Server) -> None:
        server.wait_for_termination()
        self.close()


def _collection(request: Any) -> str | None:
    """The collection that a request names."""
    return getattr(request, "collection", None) or getattr(request, "name", None)
