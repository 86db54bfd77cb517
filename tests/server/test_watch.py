"""Observability of a service: metrics, status, slow queries, logs, spans, and the terminal display."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from vectordb_client import AsyncClient, Client
from vectordb_client.errors import InvalidArgumentError, NotFoundError, StorageError, UnavailableError
from vectordb_client.model.ranking import Prefetch
from vectordb_client.model.schema import Dense, Int, Keyword, Schema, Sparse

import vectordb
from tests.support.upkeep import until
from vectordb import cli
from vectordb.cli import top
from vectordb.engine import audits
from vectordb.query import trace as notes
from vectordb.server.main import start
from vectordb.server.telemetry import logs, metrics
from vectordb.server.telemetry.status import quantile

ROWS, DIM = 600, 8
SCHEMA = Schema({"v": Dense(DIM), "s": Sparse()}, {"n": Int(), "word": Keyword()})


def filled(database):
    docs = database.create_collection("docs", SCHEMA)
    vectors = np.random.default_rng(7).standard_normal((ROWS, DIM)).astype(np.float32)
    terms = [{i % 50: 1.0, 50 + i % 7: 0.5} for i in range(ROWS)]
    words = {"n": list(range(ROWS)), "word": [f"marker{i % 3}" for i in range(ROWS)]}
    docs.upsert(ids=list(range(ROWS)), vectors={"v": vectors, "s": terms}, attributes=words)
    docs.optimize()
    return docs


@pytest.fixture
def database(tmp_path):
    with vectordb.open(tmp_path / "data", maintenance=False) as opened:
        filled(opened)
        yield opened


@pytest.fixture
def served(database, tmp_path):
    """(make a client of a service with such settings)"""
    running = []

    def serve(**settings):
        server, port = start(database, port=0, **settings)
        client = Client(f"127.0.0.1:{port}")
        running.append((server, client))
        return client

    yield serve
    for server, client in running:
        client.close()
        server.stop(0).wait()


def query(seed=1, n=None):
    return np.random.default_rng(seed).standard_normal(DIM if n is None else (n, DIM))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def scraped(port):
    """{(sample, labels): value} of what Prometheus would read."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    families = list(text_string_to_metric_families(text))
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


# ---- Notes ----


def noted(search):
    found = notes.begin()
    search()
    notes.end()
    return found


def test_what_is_noted_of_a_search_is_what_explain_says(database):
    docs = database.collection("docs")
    fused = {"v": query(), "s": {1: 1.0, 51: 1.0}}
    cases = [
        ({"vectors": {"v": query()}}, None),
        ({"vectors": {"v": query()}, "filter": "n < 300"}, None),
        ({"vectors": {"s": {1: 1.0}}, "filter": "n < 300"}, None),
        ({"vectors": {"v": query()}, "exact": True, "filter": "n < 300"}, "exact"),
        ({"vectors": {"v": query()}, "filter": "n < 0"}, "exact"),
        ({"vectors": fused, "filter": "n < 300"}, "fusion"),
        ({"vectors": fused, "fusion": "linear"}, "fusion"),
        ({"vectors": {"v": query()}, "prefetch": Prefetch({"s": {1: 1.0}}, limit=20)}, "prefetch"),
    ]
    for wanted, name in cases:
        found = noted(lambda wanted=wanted: docs.search(**wanted))
        plan, explained = found.plan(), docs.search(**wanted, explain=True).plan
        ran = explained["arms"][0]
        expected = name or ran["segments"][0]["plan"]
        assert found.plan_name() == expected
        assert {"live_rows", "filter", "sequence", "queries", "exact"} <= plan.keys()
        linear = wanted.get("fusion") == "linear"  # whose arms are run several times, and told as they ran last
        for key in ("live_rows", "filter", "sequence", "queries"):
            assert plan[key] == explained[key], (wanted, key)
        stages = [(plan, explained)] + ([(plan["prefetch"], explained["prefetch"])] if "prefetch" in wanted else [])
        for mine, theirs in stages:
            for arm, other in zip(mine["arms"], theirs["arms"], strict=True):
                # Of plans that cost the same either may be taken, this time and the next.
                for key in ("field", "kind") if linear else ("field", "kind", "candidates"):
                    assert arm[key] == other[key], (wanted, key)
            assert (mine["fusion"] or {}).get("method") == (theirs["fusion"] or {}).get("method")
        if "prefetch" in wanted:
            assert plan["prefetch"]["hits"] == explained["prefetch"]["hits"] == 12
        assert str(vectordb.Plan(plan)).splitlines()[0].startswith(f"1 query over {ROWS} live rows")


def test_a_batch_is_noted_by_its_first_query_and_finds_what_it_would(database):
    docs, queries = database.collection("docs"), query(3, 32)
    sparse = [{int(i): 1.0, 50 + int(i) % 7: 1.0} for i in range(32)]
    for vectors in ({"v": queries}, {"s": sparse}):
        plain = docs.search_batch(vectors, filter="n < 400")
        kept = []
        found = noted(lambda vectors=vectors, kept=kept: kept.append(docs.search_batch(vectors, filter="n < 400")))
        assert kept[0] == plain
        assert (found.plan_name(), found.plan()["queries"]) == ("batch", 32)
        assert found.plan()["arms"][0]["segments"][0]["matches"] == 400


def test_nobody_watches_unless_asked_and_each_thread_for_itself(database):
    docs, seen = database.collection("docs"), []
    found = notes.begin()
    thread = threading.Thread(target=lambda: seen.append(notes.current()))
    thread.start()
    thread.join()
    notes.end()
    docs.search({"v": query()})
    assert seen == [None] and notes.current() is None
    assert found.plan_name() is None and found.plan() is None


# ---- Metrics and status ----


def use(client):
    """Calls of several kinds; returns how many of each."""
    docs = client.collection("docs")
    for seed in range(5):
        docs.search({"v": query(seed)})
    docs.search({"v": query(), "s": {1: 1.0}})
    docs.search_batch({"v": query(2, 4)})
    docs.count("n > 3")
    with pytest.raises(InvalidArgumentError):
        docs.search({"v": query()}, with_attributes=["nope"])
    with pytest.raises(NotFoundError):
        client.collection("none")
    docs.upsert(ids=[ROWS], vectors={"v": [query(9)]})
    docs.delete([0, 1])
    return {"Search": 8, "Count": 1, "DescribeCollection": 2, "Write": 1, "Delete": 1, "ServerInfo": 1}


def test_metrics_count_what_was_done_and_are_those_of_the_table(served):
    port = free_port()
    client = served(metrics_port=port)
    done = use(client)
    seen = scraped(port)
    for method, count in done.items():
        assert seen["vectordb_call_seconds_count", (("method", method),)] == count, method
    plans = {dict(labels)["plan"]: value for (name, labels), value in seen.items() if name == "vectordb_search_seconds_count"}
    assert plans.pop("fusion") == 1 and plans.pop("batch") == 1 and sum(plans.values()) == 5
    errors = {labels: value for (name, labels), value in seen.items() if name == "vectordb_errors_total"}
    assert errors == {
        (("error", "InvalidArgumentError"), ("method", "Search"), ("status", "INVALID_ARGUMENT")): 1,
        (("error", "NotFoundError"), ("method", "DescribeCollection"), ("status", "NOT_FOUND")): 1,
    }
    docs, v = (("collection", "docs"),), (("collection", "docs"), ("field", "v"))
    assert seen["vectordb_points", docs] == ROWS - 1 and seen["vectordb_dead_rows", docs] == 2
    assert (seen["vectordb_segments", v], seen["vectordb_segment_rows", v], seen["vectordb_tail_rows", v]) == (1, ROWS, 1)
    assert seen["vectordb_builds_total", (("kind", "optimize"),)] == 2
    assert seen["vectordb_queue_seconds_count", ()] >= sum(done.values())
    assert (seen["vectordb_calls_waiting", ()], seen["vectordb_workers", ()]) == (0, 1)
    assert seen["vectordb_disk_bytes", (("kind", "data"),)] > seen["vectordb_lmdb_page_bytes", ()] > 0
    if os.path.exists("/proc/self/status"):
        assert seen["vectordb_memory_bytes", (("kind", "resident"),)] > seen["vectordb_memory_bytes", (("kind", "own"),)] > 1 << 20
    table, seen_names = metrics.exported(), set()
    for name, labels in seen:
        base = name if name in table else re.sub(r"_(bucket|sum|count)$", "", name)
        assert base in table, name
        assert {label for label, _ in labels} - {"le"} == set(table[base].labels), name
        seen_names.add(base)
    # Histograms and counters with labels appear when something happens.
    assert seen_names >= {name for name, about in table.items() if about.kind == "gauge" or not about.labels}


def test_status_says_the_same_and_both_clients_ask_for_it(served):
    client = served()
    done = use(client)
    told = client.status()
    assert {method: facts["count"] for method, facts in told["calls"].items() if method != "Status"} == done
    search = told["calls"]["Search"]
    assert 0 < search["p50"] <= search["p99"] and search["buckets"][-1] == [None, 8] and search["seconds"] > 0
    assert {(e["method"], e["error"], e["count"]) for e in told["errors"]} == {
        ("Search", "InvalidArgumentError", 1),
        ("DescribeCollection", "NotFoundError", 1),
    }
    docs = told["collections"]["docs"]
    assert (docs["points"], docs["dead_rows"], docs["fields"]["v"]["tail_rows"], docs["running"]) == (ROWS - 1, 2, 1, 0)
    assert told["version"] == vectordb.__version__ and told["workers"] == 1 and told["uptime_seconds"] >= 0
    assert told["builds"]["optimize"]["rows"] == 2 * ROWS and told["lmdb"]["used_pages"] > 0
    # It counts itself, and is under way while it does.
    assert client.status()["calls"]["Status"]["count"] == 1 and told["queue"]["under_way"] == 1

    async def ask():
        async with AsyncClient(client.target) as other:
            return await other.status()

    assert asyncio.run(ask()).keys() == told.keys()


def test_calls_that_wait_for_a_thread_are_counted_and_timed(database, served, monkeypatch):
    go, begun = threading.Event(), threading.Event()
    docs = database.collection("docs")
    monkeypatch.setattr(docs, "count", lambda node=None: (begun.set(), go.wait(300), 0)[2])
    port = free_port()
    client = served(threads=1, metrics_port=port)
    asked = client.collection("docs")
    before = scraped(port)["vectordb_queue_seconds_count", ()]
    callers = [threading.Thread(target=asked.count) for _ in range(3)]
    callers[0].start()
    assert begun.wait(300)
    for caller in callers[1:]:
        caller.start()
    monkeypatch.setattr(metrics.facts, "collections", lambda database: [])
    until(lambda: scraped(port)["vectordb_calls_waiting", ()] == 2)
    assert scraped(port)["vectordb_calls_under_way", ()] == 1
    go.set()
    for caller in callers:
        caller.join()
    seen = scraped(port)
    assert (seen["vectordb_calls_waiting", ()], seen["vectordb_calls_under_way", ()]) == (0, 0)
    assert seen["vectordb_queue_seconds_count", ()] == before + 3


def test_audits_are_metrics_and_a_fact_that_clients_read(database, served, monkeypatch):
    monkeypatch.setattr(audits, "SHARE_OF_CORE", 1e9)
    monkeypatch.setattr(audits, "budget", budget := audits.Budget())
    monkeypatch.setattr("vectordb.query.segments.budget", budget)
    client = served(recall_audit=1.0)
    docs = client.collection("docs")
    for seed in range(6):
        docs.search({"v": query(seed)}, recall=0.9)
        until(lambda: not budget.busy)
    (told,) = client.status()["recall"]
    (kind,) = docs.info().statistics["v"]["recall"]
    assert (told["collection"], told["field"], told["asked"], told["audited"]) == ("docs", "v", 0.9, 6)
    assert (kind["asked"], kind["audited"], kind["mean"]) == (0.9, 6, told["mean"])
    assert 0.5 < told["mean"] <= 1 and told["predicted"] == pytest.approx(kind["predicted"], abs=1e-3)
    assert database.directory.audits.share == 1.0


WORKER = """
import sys, vectordb
from vectordb_client import Client
from vectordb.server.main import start
from vectordb.server.telemetry.telemetry import Telemetry
import numpy as np
with vectordb.open(sys.argv[1], maintenance=False) as database:
    server, port = start(database, port=0, metrics_port=int(sys.argv[2]))
    with Client(f"127.0.0.1:{port}") as client:
        docs = client.collection("docs")
        for _ in range(int(sys.argv[3])):
            docs.search({"v": np.ones(8)})
    print("did", flush=True)
    sys.stdin.readline()
    server.stop(0).wait()
"""


def test_several_processes_record_together_and_each_answers_for_all(database, tmp_path):
    port, folder = free_port(), os.environ.get(metrics.FOLDER)
    path = str(tmp_path / "data")
    with metrics.prepare():
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, path, str(port), str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for count in (3, 4)
        ]
        try:
            for worker in workers:
                assert worker.stdout.readline() == "did\n"
            search, resident = ("vectordb_call_seconds_count", (("method", "Search"),)), ("vectordb_memory_bytes", (("kind", "resident"),))
            both = until(lambda: (seen := scraped(port)) and seen["vectordb_workers", ()] == 2 and seen)
            assert both[search] == 7 and both["vectordb_points", (("collection", "docs"),)] == ROWS
            workers[0].kill()
            workers[0].wait()
            metrics.forget(workers[0].pid)
            alone = until(lambda: (seen := scraped(port)) and seen["vectordb_workers", ()] == 1 and seen)
            assert alone[search] == 7, "what it counted stays"
            assert 0 < alone[resident] < both[resident], "its memory doesn't"
        finally:
            for worker in workers:
                worker.kill()
                worker.communicate()
        assert os.path.isdir(os.environ[metrics.FOLDER])
        made = os.environ[metrics.FOLDER]
    assert os.environ.get(metrics.FOLDER) == folder and not os.path.exists(made)


def test_a_metrics_port_that_is_taken_is_said(database):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError, match=str(port)) as caught:
            start(database, port=0, metrics_port=port)
    assert caught.value.field == "metrics_port"


def test_quantiles_lie_within_their_bucket():
    buckets = [[0.1, 0], [0.2, 50], [0.4, 100], [None, 100]]
    assert (
        quantile(buckets, 0.5) == 0.2 and quantile(buckets, 0.75) == pytest.approx(0.3) and quantile(buckets, 0.99) == pytest.approx(0.396)
    )
    assert quantile([[0.1, 0], [None, 3]], 0.5) == 0.1 and quantile([], 0.5) is None and quantile([[1, 0], [None, 0]], 0.5) is None


# ---- Slow queries ----


def test_a_slow_read_is_a_line_with_its_plan_and_without_its_values(served, tmp_path):
    log = tmp_path / "slow.jsonl"
    client = served(slow_query_ms=1e-6, slow_query_log=str(log))
    docs = client.collection("docs")
    docs.search({"v": query()}, filter="word = 'marker1' and n < 417", limit=7)
    docs.search_batch({"v": query(1, 3)})
    docs.count("n >= 583")
    docs.scroll(limit=5)
    with pytest.raises(vectordb.FilterError):
        docs.search({"v": query()}, filter="marker1 ===")
    client.collections()
    docs.upsert(ids=[1], vectors={"v": [query()]})
    text = log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["method"], line["status"]) for line in lines] == [
        ("Search", "OK"),
        ("Search", "OK"),
        ("Count", "OK"),
        ("Scroll", "OK"),
        ("Search", "INVALID_ARGUMENT"),
    ]
    first = lines[0]
    assert (first["collection"], first["limit"], first["queries"]) == ("docs", 7, 1)
    assert first["filter"] == "word in (1 value) and n <= ?" and lines[2]["filter"] == "n >= ?" and lines[4]["filter"] == "not valid"
    assert any(line.startswith("dense v: segments") for line in first["plan"]) and first["plan"][1].startswith("filter: 139 matches")
    assert {"queue", "filter", "arm v", "fetch", "rest"} == set(first["milliseconds"])
    assert sum(first["milliseconds"].values()) == pytest.approx(1000 * first["seconds"] + first["milliseconds"]["queue"], abs=0.01)
    assert first["milliseconds"]["rest"] > 0
    assert "marker1" not in text
    told = client.status()
    assert told["slow"] == {"Search": 3, "Count": 1, "Scroll": 1} and told["slow_queries"] == lines


def test_values_are_told_where_that_is_asked_for_and_what_is_quick_is_not_told(served, tmp_path, capfd):
    client = served(slow_query_ms=1e-6, slow_query_values=True)
    client.collection("docs").count("word = 'marker1'")
    line = until(lambda: capfd.readouterr().err)
    assert json.loads(line)["filter"] == "word in ('marker1')"
    log = tmp_path / "none.jsonl"
    quick, off = served(slow_query_ms=1e9, slow_query_log=str(log)), served(slow_query_ms=0)
    for client in (quick, off):
        client.collection("docs").count("n > 1")
        assert client.status()["slow"] == {}
    assert log.read_text() == "" and capfd.readouterr().err == ""


def test_a_log_that_cannot_be_written_is_said_at_the_start_and_fails_no_query_later(database, served, tmp_path):
    with pytest.raises(StorageError) as caught:
        start(database, port=0, slow_query_log=str(tmp_path / "no" / "slow.jsonl"))
    assert caught.value.field == "slow_query_log"
    log = tmp_path / "slow.jsonl"
    client = served(slow_query_ms=1e-6, slow_query_log=str(log))
    log.unlink()
    log.mkdir()
    assert client.collection("docs").count() == ROWS


def test_a_slow_query_that_cannot_be_told_is_answered_all_the_same(served, monkeypatch):
    client = served(slow_query_ms=1e-6)
    told = []

    def broken(self):
        told.append(self)
        raise ValueError

    monkeypatch.setattr(notes.SearchTrace, "plan", broken)
    assert len(client.collection("docs").search({"v": query()}, limit=3)) == 3 and told
    assert client.status()["errors"] == []


# ---- The log ----


def lines_of(style, level, work):
    """What is logged on stderr."""
    held, sys.stderr = sys.stderr, io.StringIO()
    handler = logs.configure(style, level)
    try:
        work()
        return sys.stderr.getvalue().splitlines()
    finally:
        logs.restore(handler)
        sys.stderr = held


def test_the_debug_log_has_a_line_a_call_without_contents(served):
    client = served()

    def work():
        docs = client.collection("docs")
        docs.search({"v": query()}, filter="word = 'marker1'")
        with pytest.raises(vectordb.FilterError):
            docs.count("word = 'marker1' and")

    found = [json.loads(line) for line in lines_of("json", "debug", work)]
    calls = [line for line in found if line["logger"] == "vectordb.server.calls"]
    assert [(line["method"], line["status"], line.get("error")) for line in calls] == [
        ("DescribeCollection", "OK", None),
        ("Search", "OK", None),
        ("Count", "INVALID_ARGUMENT", "FilterError"),
    ]
    assert calls[1]["plan"] and all(line["milliseconds"] > 0 and line["level"] == "debug" for line in calls)
    assert "marker1" not in json.dumps(found)
    text = lines_of("text", "debug", lambda: client.collections())
    assert re.fullmatch(r"\S+Z debug vectordb\.server\.calls: call method=ListCollections status=OK milliseconds=[\d.]+", text[0])
    assert lines_of("json", "info", lambda: client.collections()) == []


def test_of_an_exception_the_place_is_logged_and_not_its_words():
    stored = "a marker that somebody stored"

    def work():
        try:
            raise ValueError(stored)
        except ValueError:
            logging.getLogger("vectordb.server").exception("it failed")

    for style in ("json", "text"):
        said = "\n".join(lines_of(style, "info", work))
        assert "it failed" in said and "in work" in said and "ValueError" in said and stored not in said


# ---- Spans ----


def test_a_call_is_a_span_under_its_callers(served, database, monkeypatch):
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from vectordb.server.telemetry import tracing

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_provider", lambda: provider)
    client = served(tracing=True)
    docs = client.collection("docs")
    docs.search({"v": query()}, limit=7, filter="word = 'marker1'")
    with pytest.raises(InvalidArgumentError):
        docs.search({"v": query()}, with_attributes=["nope"])
    caller = f"00-{'a' * 31}1-{'b' * 15}2-01"
    client._channel.unary_unary("/vectordb.v1.VectorDB/ListCollections")(b"", metadata=(("traceparent", caller),))
    spans = until(lambda: len(found := exporter.get_finished_spans()) == 4 and found)
    names = [span.name.rsplit("/")[-1] for span in spans]
    assert names == ["DescribeCollection", "Search", "Search", "ListCollections"]
    search, failed, child = spans[1:]
    assert {**search.attributes} | {"vectordb.collection": "docs", "vectordb.k": 7, "vectordb.method": "Search"} == {**search.attributes}
    assert search.attributes["vectordb.plan"] and search.status.is_ok and search.parent is None
    assert failed.attributes["error.type"] == "InvalidArgumentError" and not failed.status.is_ok
    assert f"{child.context.trace_id:032x}" == "a" * 31 + "1" and f"{child.parent.span_id:016x}" == "b" * 15 + "2"
    assert "marker1" not in str([dict(span.attributes) for span in spans])


def test_exporters_are_chosen_by_the_environment(monkeypatch):
    pytest.importorskip("opentelemetry.sdk")
    from vectordb.server.telemetry import tracing

    for kind, protocol, name in (
        ("none", "", "NoneType"),
        ("console", "", "ConsoleSpanExporter"),
        ("", "", "OTLPSpanExporter"),
        ("otlp", "http/protobuf", "OTLPSpanExporter"),
    ):
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", kind)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        exporter = tracing._exporter()
        assert type(exporter).__name__ == name
        if exporter is not None:
            exporter.shutdown()
    for variable, value in (("OTEL_EXPORTER_OTLP_PROTOCOL", "pigeon"), ("OTEL_TRACES_EXPORTER", "pigeon")):
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
        monkeypatch.setenv(variable, value)
        with pytest.raises(InvalidArgumentError, match="pigeon"):
            tracing._exporter()


def test_nothing_of_opentelemetry_is_imported_unless_it_is_wanted(tmp_path):
    code = (
        "import sys, vectordb; from vectordb.server.main import start\n"
        "database = vectordb.open(sys.argv[1]); start(database, port=0)[0].stop(0).wait(); database.close()\n"
        "print(any(name.startswith('opentelemetry') for name in sys.modules))\n"
        "sys.modules['opentelemetry'] = None\n"
        "database = vectordb.open(sys.argv[1])\n"
        "try: start(database, port=0, tracing=True)\n"
        "except vectordb.InvalidArgumentError as error: print(error.field, 'pip install opentelemetry-sdk' in error.message)\n"
        "database.close()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x")], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False", "tracing True"]


# ---- The terminal ----


def test_top_shows_once_as_a_table_or_as_json(served, capsys):
    client = served(slow_query_ms=1e-6, slow_query_log=os.devnull)
    use(client)
    assert cli.main(["top", "--target", client.target, "--once"]) == 0
    shown = capsys.readouterr().out
    for word in ("Search", "plan fusion", "p99", "docs", "resident", f"{ROWS - 1:,}", "slow: "):
        assert word in shown, word
    assert cli.main(["top", "--target", client.target, "--once", "--json"]) == 0
    assert json.loads(capsys.readouterr().out).keys() == client.status().keys()
    assert cli.main(["info", "--target", client.target, "--json"]) == 0
    (info,) = json.loads(capsys.readouterr().out)["collections"]
    assert (info["name"], info["points"]) == ("docs", ROWS - 1)


def test_what_came_between_two_looks_is_told_apart():
    before = {"buckets": [[0.1, 5], [0.2, 5], [None, 5]]}
    now = {"buckets": [[0.1, 5], [0.2, 15], [None, 15]]}
    assert top.difference(now, before) == {"count": 10, "p50": 0.15, "p99": 0.199}
    assert top.difference(now, None)["count"] == 15
    assert top.difference(before, now)["count"] == 5, "the service was restarted"


def test_top_goes_on_until_it_is_ended_and_through_a_restart(served):
    client = served()
    looks, printed = [], io.StringIO()

    class Enough(Exception):
        pass

    class Shaky:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def status(self):
            looks.append(None)
            if len(looks) == 2:
                raise UnavailableError("gone for a moment")
            if len(looks) == 5:
                raise Enough
            return client.status()

    from rich.console import Console

    console = Console(file=printed, width=120)
    with pytest.raises(Enough):
        top.main(0.01, False, False, Shaky, console)
    assert printed.getvalue().count("vectordb 0.") == 2
    looks[:] = [None]
    with pytest.raises(UnavailableError):
        top.main(0.01, True, False, Shaky, console)


def test_health_says_whether_calls_are_taken(served, capsys):
    client = served()
    assert cli.main(["health", "--target", client.target]) == 0
    assert capsys.readouterr().out == "serving\n"
    gone = f"127.0.0.1:{free_port()}"
    assert cli.main(["health", "--target", gone, "--timeout", "5"]) == 1
    assert capsys.readouterr().err.startswith(f"vectordb: {gone} doesn't answer")
    assert cli.main(["health", "--target", gone, "--tls-cert", "x"]) == 1
    assert "tls_cert and tls_key need an encrypted connection" in capsys.readouterr().err
    assert cli.main(["health", "--target", gone, "--tls-ca", "/no/such"]) == 1
    assert "must be a PEM file" in capsys.readouterr().err
