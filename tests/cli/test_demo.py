"""The demo: what it shows, what it does with directories, ports and signals, and which answers it calls wrong."""

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import tempfile

import pytest
from vectordb_client.errors import AlreadyExistsError, EncoderError, InvalidArgumentError, UnavailableError
from vectordb_client.model.schema import Dense, Schema

import vectordb
from tests.support.upkeep import until
from vectordb import demo
from vectordb.demo import queries, service, show
from vectordb.server import main as serve

LIMIT = 600  # docstrings: enough for an index


@pytest.fixture
def in_process(monkeypatch):
    """The demo's service is a server in this process: a second one needs seconds to start. Searches are timed once."""
    monkeypatch.setattr(demo, "_REPEATS", 1)

    @contextlib.contextmanager
    def served(folder, port, waiting):
        waiting(1.0, "a message")
        with vectordb.open(folder, maintenance=False) as database:
            server, bound = serve.start(database, port=port)
            try:
                yield f"127.0.0.1:{bound}"
            finally:
                server.stop(0).wait()

    monkeypatch.setattr(service, "served", served)


@pytest.fixture
def words_only(monkeypatch):
    def load(spec):
        raise EncoderError("encoder 'wordllama' needs the wordllama package")

    monkeypatch.setattr(demo, "load", load)


def test_the_demo_runs_from_nothing_to_the_service(tmp_path, capsys):
    pytest.importorskip("wordllama")
    command = [sys.executable, "-m", "vectordb", "demo", str(tmp_path / "data"), "--limit-points", str(LIMIT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    out = done.stdout
    assert f"{LIMIT} docstrings" in out and "builtins.str.split" in out and "it answers on 127.0.0.1:" in out
    assert f"{LIMIT} docstrings indexed" in out and "settings of" in out and "  >  " in out and "mean of all questions" in out
    assert out.count("same") >= 2 * len(queries.QUERIES) and "DIFFERENT" not in out and "Done" in out
    assert "\x1b" not in out and max(map(len, out.splitlines())) <= show.WIDTH


def test_a_second_run_keeps_what_is_there_and_adds_what_is_missing(tmp_path, capsys, in_process, words_only):
    assert demo.run(tmp_path, limit=300) == 0
    assert "300 docstrings indexed; the searches above" in capsys.readouterr().out
    with vectordb.open(tmp_path) as database:
        docs = database.collection(queries.COLLECTION)
        changed, gone = docs.scroll(limit=2).points
        docs.update([{"id": changed.id, "attributes": {"body": "another text"}}])
        docs.delete([gone.id])
    assert demo.run(tmp_path, limit=200) == 0
    out = capsys.readouterr().out
    assert "100 more docstrings from an earlier run" in out and "in the database already" in out
    assert demo.run(tmp_path, limit=300) == 0
    assert "up to date from an earlier run" in capsys.readouterr().out
    with vectordb.open(tmp_path) as database:
        docs = database.collection(queries.COLLECTION)
        assert (
            docs.count() == 300
            and docs.get(changed.id).attributes == changed.attributes
            and docs.get(gone.id).attributes == gone.attributes
        )


def test_without_the_dense_encoder_words_are_searched(tmp_path, capsys, in_process, words_only):
    assert demo.run(tmp_path, limit=300) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "embeddings add search by meaning: encoder 'wordllama' needs the wordllama package" in out
    assert "builtins.bytes.partition" in out and "fusion=" not in out and 'text={"terms":' in out and "DIFFERENT" not in out


def test_few_docstrings_are_not_indexed_and_it_says_so(tmp_path, capsys, in_process, words_only):
    assert demo.run(tmp_path, limit=1) == 0
    out = capsys.readouterr().out
    assert "1 docstrings are too few for an index" in out and "nothing matches" in out


def test_another_collection_of_that_name_is_left_alone(tmp_path):
    with vectordb.open(tmp_path) as database:
        database.create_collection(queries.COLLECTION, Schema({"v": Dense(2)})).upsert(ids=[1], vectors={"v": [[1, 2]]})
    with pytest.raises(AlreadyExistsError, match=r"isn't the demo's; name another directory.* vectordb drop .* docstrings"):
        demo.run(tmp_path)
    with vectordb.open(tmp_path) as database:
        assert database.collection(queries.COLLECTION).count() == 1


@pytest.mark.parametrize("change", ["ids", "scores"])
def test_an_answer_that_differs_through_the_service_fails_the_demo(tmp_path, capsys, in_process, words_only, monkeypatch, change):
    search = demo._search

    def wrong(collection, query, **options):
        found = search(collection, query, **options)
        if isinstance(collection, vectordb.Collection) or query.text != queries.QUERIES[0].text:
            return found
        first = found[0]._replace(id="another") if change == "ids" else found[0]._replace(score=found[0].score * 1.001)
        return type(found)([first, *found[1:]])

    monkeypatch.setattr(demo, "_search", wrong)
    assert demo.run(tmp_path, limit=300) == 1
    out = capsys.readouterr().out
    assert out.count("DIFFERENT") == 1 and "Some answers are wrong" in out


def test_an_index_that_finds_little_fails_the_demo(tmp_path, capsys, in_process, words_only, monkeypatch):
    search = vectordb.Collection.search

    def blind(self, *args, **options):
        found = search(self, *args, **options)
        return found[:4] if options.get("recall") and not options.get("explain") else found

    monkeypatch.setattr(vectordb.Collection, "search", blind)
    assert demo.run(tmp_path, limit=300) == 1
    assert "Some answers are wrong" in capsys.readouterr().out


def test_a_wrong_port_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"port must be 0 .* to 65535, not 70000"):
        demo.run(tmp_path / "data", port=70_000)
    with socket.create_server((service.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError, match=rf"can't listen on 127.0.0.1:{port}.*leave --port out"):
            demo.run(tmp_path / "data", port=port)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demo_leaves_no_process_and_no_directory(tmp_path, number, status):
    """The signal comes while the service starts; it goes to the demo alone, so only the demo can end the service."""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-u", "-m", "vectordb", "demo", "--limit-points", "20"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    for line in running.stdout:
        if "vectordb serve" in line:
            break
    running.send_signal(number)
    _, said = running.communicate()
    assert running.returncode == status, said
    assert "Traceback" not in said
    assert list(tmp_path.glob("vectordb-demo-*")) == []
    until(lambda: not lives(running.pid))  # whoever inherits an ended process may take a moment to reap it


def lives(group):
    """Whether a process of this group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def pretended(script):
    """(a process that runs a shell script in place of the service, the file of its stderr)."""
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, stderr=messages)
        try:
            yield process, messages
        finally:
            service._stop(process)


def test_a_slow_service_is_waited_for(monkeypatch):
    monkeypatch.setattr(service, "_LOOK_SECONDS", 0.01)
    seen = []

    def waiting(seconds, message):
        seen.append(message)
        if message == "compiling" and seen.count(message) == 5:
            process.stdin.close()  # now it gets ready

    with tempfile.TemporaryFile() as messages:
        script = "echo compiling >&2; read line; echo a line; echo 'vectordb serving d on 127.0.0.1:7071 (4 threads)'; sleep 60"
        process = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=messages)
        assert service._address(process, messages, waiting) == "127.0.0.1:7071"
        process.kill()
        process.wait()
        process.stdout.close()
    assert seen.count("compiling") == 5


def test_a_service_that_ends_is_not_waited_for():
    with (
        pretended("echo first >&2; echo 'vectordb: no room' >&2; exit 3") as (process, messages),
        pytest.raises(UnavailableError, match=r"^the service didn't start: no room$"),
    ):
        service._address(process, messages, lambda *_: None)
    with pretended("exit 3") as (process, messages), pytest.raises(UnavailableError, match="didn't start: exit code 3"):
        service._address(process, messages, lambda *_: None)


def test_a_service_that_never_gets_ready_ends_the_demo(monkeypatch):
    monkeypatch.setattr(service, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(service, "START_SECONDS", 0.0)
    with (
        pretended("echo stuck >&2; exec sleep 600") as (process, messages),
        pytest.raises(UnavailableError, match="isn't ready after 0 minutes"),
    ):
        service._address(process, messages, lambda *_: None)
    assert process.returncode is not None


def test_a_log_without_a_terminal_says_once_that_it_waits(capsys):
    with demo._waiting(show.console()) as waiting:
        for seconds in (1, demo._STILL_SECONDS + 1, demo._STILL_SECONDS + 2):
            waiting(seconds, "compiling")
        waiting(0, "")
    assert capsys.readouterr().out.count("still starting") == 1


def test_the_best_setting_of_a_plan_is_the_cheapest_that_reaches_the_target():
    considered = [
        {"plan": "a", "microseconds": 9.0, "recall": 0.99},
        {"plan": "a", "microseconds": 5.0, "recall": 0.95},
        {"plan": "a", "microseconds": 1.0, "recall": 0.90},
        {"plan": "b", "microseconds": 2.0, "recall": 0.80},
        {"plan": "b", "microseconds": 1.5, "recall": 0.70},
    ]
    assert show.best_settings(considered, 0.95) == [considered[3], considered[1]]


def test_the_demo_has_words_for_every_plan():
    from vectordb.index import INDEX_KINDS

    for name, kind in INDEX_KINDS.items():
        assert set(show.PLANS[name]) == {plan.name for plan in kind.plans.values()}


def test_searches_of_words_only_have_no_fusion():
    for query in queries.QUERIES:
        plain = query.with_terms_only()
        assert plain.fusion == "rrf" and not any("fusion" in line for line in plain.code)
        assert dataclasses.replace(plain, fusion=query.fusion, code=query.code) == query
