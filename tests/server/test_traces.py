"""What is noted of each call: notes of searches, slow queries, the log, and spans."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import threading

import pytest
from vectordb_client.errors import InvalidArgumentError, StorageError
from vectordb_client.model.ranking import Prefetch

import vectordb
from tests.support.upkeep import until
from tests.support.watched import ROWS, filled, query, serving
from vectordb.query import trace as notes
from vectordb.server.main import start
from vectordb.server.telemetry import logs


@pytest.fixture
def database(tmp_path):
    with vectordb.open(tmp_path / "data", maintenance=False) as opened:
        filled(opened)
        yield opened


@pytest.fixture
def served(database):
    """(make a client of a service with such settings)"""
    with serving(database) as serve:
        yield serve


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
