"""Prometheus metrics: values recorded per call, and facts about the database gathered at each scrape.

Several worker processes record into files of one folder, which the supervisor creates by ``prepare()`` before it starts them; any worker
then answers for all. A single process records in memory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import socketserver
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from vectordb_client._version import __version__
from vectordb_client.errors import ClosedError, UnavailableError
from vectordb_client.model.collection_info import CollectionInfo

from ... import process_stats as facts

PREFIX = "vectordb_"
FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own variable; it is read at import, so it must be set before a worker starts
SAMPLE_SECONDS = 1.0  # between two samples of a worker's memory and queue
FACTS_SECONDS = 5.0  # for which facts about collections are cached
SECONDS = (
    0.0001,
    0.0002,
    0.0005,
    0.001,
    0.0015,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.02,
    0.03,
    0.05,
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    30,
)
RECALLS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 0.9999, 1.0)


@dataclass(frozen=True)
class About:
    """A metric: its labels and its description. kind: counter, gauge or histogram; buckets: of a histogram."""

    kind: str
    labels: tuple[str, ...]
    what: str
    buckets: tuple[float, ...] = ()


GROUPED = ("collection", "field", "asked", "attribute", "group")
RECORDED = {
    "call_seconds": About("histogram", ("method",), "duration of a call in seconds, from the start of its thread to the answer", SECONDS),
    "search_seconds": About("histogram", ("plan",), "duration of a search by plan, or exact, several, fusion, prefetch, batch", SECONDS),
    "queue_seconds": About("histogram", (), "seconds that a call waited for a thread", SECONDS),
    "errors": About("counter", ("method", "status", "error"), "failed calls, by gRPC status and error class"),
    "slow_queries": About("counter", ("method",), "reads that took longer than slow_query_ms"),
    "recall_observed": About(
        "histogram", ("collection", "field", "asked"), "measured recall of audited searches; asked: the target", RECALLS
    ),
    "recall_predicted": About("histogram", ("collection", "field", "asked"), "predicted recall of audited searches", RECALLS),
    "recall_group_results": About("counter", GROUPED, "true results of audited searches with recall_floor, by the value of its attribute"),
    "recall_group_found": About("counter", GROUPED, "those of them that the search found"),
    "builds": About("counter", ("kind",), "index files built: seal, merge, purge, rebuild, optimize"),
    "build_rows": About("counter", ("kind",), "rows in the index files built"),
    "build_seconds": About("counter", ("kind",), "seconds spent building index files"),
    "maintenance_failures": About("counter", (), "failed maintenance tasks; each is retried"),
    "kernels_compiled": About("counter", (), "kernels compiled since the start; 0 with a warm cache"),
    "calls_under_way": About("gauge", (), "running calls"),
    "calls_waiting": About("gauge", (), "calls waiting for a thread"),
    "memory_bytes": About(
        "gauge",
        ("kind",),
        "memory of the processes: resident, and own (resident without mapped files); with a budget: budget, and of index files index_kept, "
        "index_mapped, index_resident",
    ),
    "workers": About("gauge", (), "serving processes"),
}
GATHERED = {
    "info": About("gauge", ("version",), "always 1; the label is the running version"),
    "points": About("gauge", ("collection",), "live points"),
    "dead_rows": About("gauge", ("collection",), "rows deleted or replaced but still stored"),
    "sequence": About("gauge", ("collection",), "sequence number of the last write"),
    "collection_bytes": About("gauge", ("collection",), "bytes of the collection's records, vectors and postings"),
    "maintenance_pending": About("gauge", ("collection",), "pending maintenance tasks"),
    "maintenance_running": About("gauge", ("collection",), "1 while the answering process maintains the collection"),
    "segments": About("gauge", ("collection", "field"), "index files in use"),
    "segment_rows": About("gauge", ("collection", "field"), "rows in these index files"),
    "index_bytes": About("gauge", ("collection", "field"), "size of these index files in bytes"),
    "tail_rows": About("gauge", ("collection", "field"), "live rows without an index, which are scanned exactly"),
    "damaged_files": About("gauge", ("collection", "field"), "damaged index files, which are not used"),
    "stale_files": About("gauge", ("collection", "field"), "index files of another version, which are not used until they are rebuilt"),
    "disk_bytes": About("gauge", ("kind",), "bytes on disk: data, indexes, unfinished, other; and free: free space of the file system"),
    "lmdb_readers": About("gauge", (), "LMDB reader slots in use"),
    "lmdb_pages": About("gauge", ("kind",), "LMDB pages: used, free"),
    "lmdb_page_bytes": About("gauge", (), "size of an LMDB page in bytes"),
    "lmdb_map_bytes": About("gauge", (), "size of the LMDB memory map in bytes"),
    "kernel_cache_bytes": About("gauge", (), "size of the compiled kernels on disk in bytes"),
}


def exported() -> dict[str, About]:
    """All metrics by full name, without suffixes such as _bucket."""
    return {PREFIX + name + "_total" * (about.kind == "counter"): about for name, about in (RECORDED | GATHERED).items()}


def table() -> str:
    """The metrics as a Markdown table, which is part of docs/OPERATIONS.md."""
    rows = ["| metric | kind | labels | meaning |", "| --- | --- | --- | --- |"]
    rows += [f"| `{name}` | {about.kind} | {', '.join(about.labels) or '–'} | {about.what} |" for name, about in exported().items()]
    return "\n".join(rows)


# ---- For a supervisor ----


@contextlib.contextmanager
def prepare() -> Iterator[None]:
    """A private folder for the metrics of worker processes started in this block; it is deleted when the block ends."""
    folder = tempfile.mkdtemp(prefix="vectordb-metrics-")  # 0700
    before = os.environ.get(FOLDER)
    os.environ[FOLDER] = folder
    try:
        yield
    finally:
        os.environ.pop(FOLDER)
        if before is not None:
            os.environ[FOLDER] = before
        shutil.rmtree(folder, ignore_errors=True)


def forget(pid: int) -> None:
    """Drop the gauges (memory, queue) of a worker that has ended; its counters stay."""
    mark_process_dead(pid, os.environ[FOLDER])


# ---- For a serving process ----


class Metrics:
    """The metrics of one process, and a view of all processes. Safe to share among threads."""

    def __init__(self, database: Any):
        self.shared = bool(os.environ.get(FOLDER))
        self._database = database
        self._own = CollectorRegistry()
        self._recorded = {name: _made(name, about, self._own) for name, about in RECORDED.items()}
        self._children: dict[tuple[str, ...], Any] = {}
        self._seen: dict[tuple[str, ...], float] = {}  # totals already added to sampled counters
        self._sampling = threading.Lock()
        self._facts: tuple[float, list[CollectionInfo]] = (-FACTS_SECONDS, [])
        self._budget: dict[str, int] = {}
        self._recorded["workers"].set(1)

    def child(self, name: str, *labels: str) -> Any:
        """A recorded metric for these label values."""
        key = (name, *labels)
        metric = self._children.get(key)
        if metric is None:
            metric = self._children[key] = self._recorded[name].labels(*labels) if labels else self._recorded[name]
        return metric

    def sample(self, under_way: int, waiting: int) -> None:
        """Record what isn't recorded per call: memory, the queue and index builds."""
        with self._sampling:
            self.child("calls_under_way").set(under_way)
            self.child("calls_waiting").set(waiting)
            for kind, size in facts.memory().items():
                self.child("memory_bytes", kind).set(size)
            self._budget = dict.fromkeys(self._budget, 0) | facts.budget(self._database)
            for kind, size in self._budget.items():
                self.child("memory_bytes", kind).set(size)
            done = facts.builds(self._database)
            for kind, built in done["built"].items():
                for name, part in (("builds", "builds"), ("build_rows", "rows"), ("build_seconds", "seconds")):
                    self._count(built[part], name, kind)
            self._count(done["failures"], "maintenance_failures")
            self._count(facts.kernels()["compiled"], "kernels_compiled")

    def _count(self, total: float, *key: str) -> None:
        """Raise a counter to a total that only grows."""
        more = total - self._seen.get(key, 0.0)
        if more > 0:
            self.child(*key).inc(more)
            self._seen[key] = total

    def registry(self) -> CollectorRegistry:
        """All metrics of all processes that record together."""
        registry = CollectorRegistry()
        if self.shared:
            MultiProcessCollector(registry, os.environ[FOLDER])
        else:
            registry.register(self._own)
        registry.register(self)
        return registry

    def collect(self) -> Iterator[Metric]:
        """Facts gathered from the database; none once it is closed."""
        families = {name: GaugeMetricFamily(PREFIX + name, about.what, labels=about.labels) for name, about in GATHERED.items()}
        try:
            self._gather(families)
        except ClosedError:
            return
        yield from families.values()

    def _gather(self, families: dict[str, GaugeMetricFamily]) -> None:
        def put(name: str, value: float, *labels: str) -> None:
            families[name].add_metric(labels, value)

        put("info", 1, __version__)
        for info in self.collections():
            name = info.name
            put("points", info.points, name)
            put("dead_rows", info.deleted_rows, name)
            put("sequence", info.sequence, name)
            put("collection_bytes", info.bytes, name)
            put("maintenance_pending", info.maintenance["pending"], name)
            put("maintenance_running", info.maintenance["state"] == "running", name)
            for field, statistics in info.statistics.items():
                if "segments" in statistics:
                    put("segments", len(statistics["segments"]), name, field)
                    put("segment_rows", sum(segment["rows"] for segment in statistics["segments"]), name, field)
                    put("index_bytes", sum(segment["bytes"] for segment in statistics["segments"]), name, field)
                    put("tail_rows", statistics["tail"], name, field)
                    put("damaged_files", len(statistics["damaged"]), name, field)
                    put("stale_files", len(statistics["stale"]), name, field)
        for kind, size in facts.disk(self._database).items():
            put("disk_bytes", size, kind)
        pages = facts.pages(self._database)
        put("lmdb_readers", pages["readers"])
        for kind in ("used", "free"):
            put("lmdb_pages", pages[kind], kind)
        put("lmdb_page_bytes", pages["page_bytes"])
        put("lmdb_map_bytes", pages["map_bytes"])
        put("kernel_cache_bytes", facts.kernels()["cache_bytes"])

    def collections(self) -> list[CollectionInfo]:
        """Facts about the collections, cached for some seconds, because counting a long tail takes time."""
        read_at, collections = self._facts
        if time.monotonic() - read_at >= FACTS_SECONDS:
            collections = facts.collections(self._database)
            self._facts = (time.monotonic(), collections)
        return collections


def _made(name: str, about: About, registry: CollectorRegistry) -> Any:
    options: dict[str, Any] = {"registry": registry}
    if about.kind == "histogram":
        return Histogram(PREFIX + name, about.what, about.labels, buckets=about.buckets, **options)
    if about.kind == "counter":
        return Counter(PREFIX + name, about.what, about.labels, **options)
    return Gauge(PREFIX + name, about.what, about.labels, multiprocess_mode="livesum", **options)


# ---- Over HTTP ----


class _Handler(WSGIRequestHandler):
    timeout = 10  # seconds that a connection may be idle

    def log_message(self, *_: Any) -> None:
        """No log line per scrape."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # Not HTTPServer's method, which looks up our host name.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]
        self.setup_environ()


class _Shared(_Server):
    allow_reuse_port = True  # each worker answers for all, so the system may pick any


def serve_metrics(telemetry: Any, host: str, port: int) -> WSGIServer:
    """Serve ``GET /metrics`` in its own thread until ``shutdown()`` and ``server_close()``.

    telemetry: a ``Telemetry``. port: 0 picks a free port (``server_port``).

    Raises UnavailableError if the address can't be used.
    """
    prometheus_client.disable_created_metrics()  # creation times of all series would double the output
    kind: Any = type("Server", (_Shared if telemetry.metrics.shared else _Server,), {"address_family": _family(host)})
    try:
        server = kind((host, port), _Handler)
    except OSError as error:
        raise UnavailableError(
            f"can't serve metrics on {host}:{port}: {error.strerror or error}", field="metrics_port", value=port
        ) from None
    server.set_app(lambda environ, start: prometheus_client.make_wsgi_app(telemetry.registry())(environ, start))
    threading.Thread(target=server.serve_forever, name="vectordb-metrics", daemon=True).start()
    return server


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
