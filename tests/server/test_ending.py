"""A service stops in time while it computes, and so does an interrupted command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from vectordb_client import Client, Dense, MultiVector, Schema, VectorDBError

import vectordb
from tests.server.test_serve import ready, serving
from tests.server.test_workers import children, until
from tests.support.paths import ROOT
from vectordb.server import ending

SCHEMA = Schema({"m": MultiVector(64)}, {})
HANG = 300.0  # seconds: no machine is so slow


def test_a_signal_that_interrupts_the_wait_itself_is_not_lost():
    stop = ending.Stop()
    with stop._cond:  # where the waiting thread is for a moment: set() would wait for itself
        stop.request(signal.SIGTERM, None)
    stop.wait_for_request()
    assert stop.is_set()


def test_a_service_ends_though_a_long_search_is_under_way(tmp_path):
    """The search would take minutes; after the grace period it is told to end, or cut off where the machine is too slow even for that."""
    process = serving(tmp_path / "data", "--port", "0", "--grace", "0.5", "--max-query-rows", "100000")
    try:
        client = Client(ready(process), timeout=300, retries=0)
        docs = client.create_collection("docs", SCHEMA)
        rng = np.random.default_rng(0)
        for first in range(0, 20_000, 2_000):
            docs.upsert(ids=range(first, first + 2_000), vectors={"m": list(rng.standard_normal((2_000, 20, 64)).astype(np.float32))})
        raised = []

        def search():
            try:
                docs.search({"m": np.ones((20_000, 64))})
            except VectorDBError as error:
                raised.append(error)

        thread = threading.Thread(target=search, daemon=True)
        thread.start()
        until(lambda: client.status()["queue"]["under_way"] > 1, HANG)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=HANG)
        thread.join(HANG)
        assert process.returncode == 0 and "stopped" in errors and len(raised) == 1
    finally:
        process.kill()
        process.communicate()


STUCK = """
    import sys, threading, time
    from vectordb.fields import dense
    from vectordb.server import main, workers
    real = dense.search_dense
    def stuck(table, queries, *rest):
        while queries[0][0] == 7:  # never looks at the deadline
            time.sleep(0.05)
        return real(table, queries, *rest)
    dense.search_dense = stuck
"""


@pytest.mark.parametrize("how", ["alone", "worker"])
def test_a_process_goes_though_a_call_never_ends(tmp_path, how):
    main = """
        from vectordb.server.settings import Settings
        sys.exit(main.serve(sys.argv[1], Settings(port=0, grace=0.3)))
    """
    if how == "worker":
        script = tmp_path / "worker.py"
        script.write_text(textwrap.dedent(STUCK) + "from vectordb.server import worker\nsys.exit(worker.work())\n")
        main = f"""
            from vectordb.server.settings import Settings
            workers.COMMAND = (sys.executable, {str(script)!r})
            sys.exit(main.serve(sys.argv[1], Settings(port=0, grace=0.3, workers=2)))
        """
    program = textwrap.dedent(STUCK) + textwrap.dedent(main)
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "data")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        client = Client(ready(process), timeout=300, retries=0)
        docs = client.create_collection("docs", Schema({"d": Dense(4)}, {}))
        docs.upsert(ids=[1], vectors={"d": np.ones((1, 4))})
        workers = children(process) if how == "worker" else set()
        raised = []

        def search():
            try:
                docs.search({"d": np.full(4, 7.0)}, exact=True)
            except VectorDBError as error:
                raised.append(error)

        thread = threading.Thread(target=search, daemon=True)
        thread.start()
        until(lambda: client.status()["queue"]["under_way"] > 1, HANG)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=HANG)
        thread.join(HANG)
        assert process.returncode == 0, errors
        assert "1 call was cut off" in errors and len(raised) == 1
        assert len(workers) == (2 if how == "worker" else 0)
        with vectordb.open(tmp_path / "data") as database:  # what was acknowledged is there
            assert database.collection("docs").count() == 1
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("polite", [True, False])
def test_ctrl_c_ends_a_command_soon(tmp_path, polite):
    """Also when threads that nothing can interrupt are at work: Python waits for them before it ends."""
    work = "None" if polite else "exact.pool().submit(time.sleep, 1000)"
    program = f"""
        import sys, time
        from vectordb import cli, database
        from vectordb.index import exact
        class Database:
            def __init__(self, *arguments):
                {work}
                print("begun", flush=True)
                time.sleep(1000)
        database.Database = Database
        sys.argv[1:1] = ["optimize"]
        sys.exit(cli.main())
    """
    with vectordb.open(tmp_path / "data"):
        pass
    program = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "data")]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=HANG)
        assert process.returncode == 130 and errors.count("vectordb: interrupted") == 1 and "Traceback" not in errors
    finally:
        process.kill()
        process.communicate()


def test_programs_that_tests_start_end_on_ctrl_c_though_pytest_was_started_to_ignore_it():
    started = "import signal; raise SystemExit(signal.getsignal(signal.SIGINT) is not signal.default_int_handler)"
    code = f"""
        import signal, subprocess, sys
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        import tests.conftest
        signal.raise_signal(signal.SIGINT)  # still ignored here
        raise SystemExit(subprocess.run([sys.executable, "-c", {started!r}]).returncode)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
