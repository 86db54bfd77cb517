"""Metrics, status, health and the terminal of a service that is watched."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading

import pytest
from vectordb_client import AsyncClient
from vectordb_client.errors import InvalidArgumentError, NotFoundError, UnavailableError

import vectordb
from tests.support.upkeep import until
from tests.support.watched import ROWS, filled, free_port, query, scraped, serving
from vectordb import cli
from vectordb.cli import top
from vectordb.engine import audits
from vectordb.server.main import start
from vectordb.server.telemetry import metrics
from vectordb.server.telemetry.status import quantile


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
    monkeypatch.setattr(docs, "count", lambda node=None, **state: (begun.set(), go.wait(300), 0)[2])
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
