"""The command line: exit codes, one-line errors, what info, check, optimize, snapshot, restore and purge say, and the settings of serve."""

import dataclasses
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from vectordb_client.model.schema import HNSW, Dense, Schema

import vectordb
from tests.support.command_line import filled, run
from vectordb.cli import options as shared
from vectordb.server.settings import Settings


@pytest.fixture
def data(tmp_path):
    return filled(tmp_path / "data")


def test_help_and_version_need_no_database(capsys):
    code, out, _ = run(capsys, "--help")
    names = ("serve", "demo", "import", "export", "terms", "info", "optimize", "check", "snapshot", "restore", "purge", "version")
    assert code == 0 and all(name in out for name in names)
    assert run(capsys, "--version")[:2] == (0, f"vectordb {vectordb.__version__}\n")
    code, out, _ = run(capsys, "version")
    assert code == 0 and out.startswith(f"vectordb {vectordb.__version__}\n") and "numpy" in out


def test_help_imports_neither_the_service_nor_the_printing():
    script = (
        "import sys; from vectordb.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('grpc', 'rich', 'pyarrow', 'wordllama') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nope"],
        ["info"],
        ["import", "x.csv", "--data", "d"],
        ["import", "x.csv", "--data", "d", "--collection", "c", "--vector-field", "v"],
        ["demo", "--limit-points", "0"],
        ["serve", "--data", "d", "--port", "many"],
        ["optimize"],
        ["optimize", "d", "--timeout", "0"],
        ["optimize", "d", "--timeout", "nan"],
        ["optimize", "d", "--timeout", "soon"],
    ],
)
def test_a_wrong_command_line_is_2_and_says_how_it_goes(capsys, arguments):
    code, _, err = run(capsys, *arguments)
    assert code == 2 and "usage: vectordb" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "--data", "missing"], "no database at missing"),
        (["check", "--data", "missing"], "no database at missing"),
        (["optimize", "missing"], "no database at missing"),
        (["export", "--data", "missing", "--collection", "c", "--out", "x.csv"], "no database at missing"),
        (["import", "missing.csv", "--data", "d", "--collection", "c"], "file missing.csv does not exist"),
    ],
)
def test_an_error_is_one_line_and_1(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (1, "") and err.startswith(f"vectordb: {message}") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [], "a mistyped path must not make a database"


def test_errors_of_the_database_are_one_line_too(capsys, data, tmp_path):
    for extra in (["--filter", "id = 1"], ["--collection", "other"]):
        code, _, err = run(capsys, "export", "--data", data, "--collection", "docs", "--out", tmp_path / "x.csv", *extra)
        assert code == 1 and err.startswith("vectordb: ") and err.count("\n") == 1


def test_info_shows_fields_and_counts(capsys, data):
    code, out, _ = run(capsys, "info", "--data", data)
    assert code == 0 and "docs" in out and "10 points" in out and "dim=2" in out and "\x1b" not in out
    code, out, _ = run(capsys, "info", "--data", data, "--collection", "docs", "--json")
    (info,) = json.loads(out)["collections"]
    assert (info["name"], info["points"]) == ("docs", 10) and Schema.from_dict(info["schema"]).vectors["v"] == Dense(2)
    assert run(capsys, "info", "--data", data, "--collection", "nope")[0] == 1


def test_info_shows_how_a_field_is_indexed_when_it_was_said(capsys, data, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with vectordb.open(data) as database:
        fields = {"usual": Dense(2), "never": Dense(2, index=None), "better": Dense(2, index=HNSW(degree=32, ef_construction=200))}
        database.collection("docs").add_fields(vectors=fields)
    _, out, _ = run(capsys, "info", "--data", data)
    assert "index of v: none yet; 10 rows not indexed" in out.splitlines() and "index of never" not in out and "index of usual" not in out
    shown = {line.split()[0]: " ".join(line.split()[2:]) for line in out.splitlines()[2:] if line.strip()}
    assert shown["usual"].startswith("dim=2 0 rows") and shown["never"].startswith("dim=2, index=None 0 rows")
    assert shown["better"].startswith("dim=2, index=HNSW(degree=32, ef_construction=200) 0 rows")


SEGMENTS = [
    {"first": 0, "end": 9, "rows": 8, "bytes": 2048, "dead": 1, "graph": True},
    {"first": 9, "end": 12, "rows": 3, "bytes": 1024, "dead": 0, "graph": False},
]


@pytest.mark.parametrize(
    ("maintenance", "line"),
    [
        ({"state": "idle", "task": None, "stage": None, "share": None, "error": None}, None),
        ({"state": "off"}, None),
        ({"state": "running", "task": "seal v", "stage": "graph", "share": 0.254}, "maintenance running: seal v, graph 25 %"),
        ({"state": "failed", "task": "merge v", "error": "disk full"}, "maintenance failed: merge v (failed: disk full)"),
    ],
)
def test_info_shows_the_index_and_what_is_done_in_the_background(capsys, data, monkeypatch, maintenance, line):
    true = vectordb.Collection.info

    def info(self):
        facts = true(self)
        statistics = facts.statistics | {"v": {"kind": "dense", "rows": 12, "segments": SEGMENTS, "damaged": [{"file": "x"}], "tail": 1}}
        return dataclasses.replace(facts, statistics=statistics, maintenance=maintenance)

    monkeypatch.setattr(vectordb.Collection, "info", info)
    code, out, _ = run(capsys, "info", "--data", data)
    assert code == 0 and [shown for shown in out.splitlines() if shown.startswith("maintenance")] == ([line] if line else [])
    index = "2 segments (1 with a graph, 11 rows, 1 deleted, 3.0 KiB); 1 row not indexed; 1 damaged file, will be rebuilt"
    assert f"index of v: {index}" in out.splitlines()
    (shown,) = json.loads(run(capsys, "info", "--data", data, "--json")[1])["collections"]
    assert shown["maintenance"] == maintenance and shown["statistics"]["v"]["segments"] == SEGMENTS


def test_optimize_passes_what_is_left_of_the_time_and_its_errors_on(capsys, data, monkeypatch):
    with vectordb.open(data) as database:
        database.create_collection("more", Schema({"v": Dense(2)}))
    asked = []

    def optimize(self, wait=True, timeout=None):
        asked.append((self.name, wait, timeout))
        if timeout is not None and timeout < 0.5:
            raise vectordb.DeadlineError("optimize isn't done after 0.4 s; it goes on", field="timeout", value=timeout)
        if timeout is not None and timeout < 5:
            raise vectordb.LockedError("another process maintains the directory", field="timeout", value=timeout)
        time.sleep(0.3)
        return {}

    monkeypatch.setattr(vectordb.Collection, "optimize", optimize, raising=False)
    code, out, err = run(capsys, "optimize", data)
    assert (code, out) == (0, "") and err.splitlines()[0] == "docs: 10 points, 0 deleted rows left"
    assert asked == [("docs", True, None), ("more", True, None)]
    assert run(capsys, "optimize", data, "more", "--timeout", "60")[0] == 0
    assert asked[2][:2] == ("more", True) and 59 < asked[2][2] <= 60
    code, _, err = run(capsys, "optimize", data, "--timeout", "1")
    assert (code, err) == (1, "vectordb: another process maintains the directory\n")
    code, _, err = run(capsys, "optimize", data, "--timeout", "0.4")  # this process ends, so nothing goes on
    assert (code, err) == (1, "vectordb: 'docs' is not done after 0.4 s; finished work is kept, run the same command to continue\n")
    assert run(capsys, "optimize", data, "nope")[0] == 1


def test_optimize_indexes_what_is_there_and_can_be_run_again(capsys, tmp_path):
    rng = np.random.default_rng(0)
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        docs = database.create_collection("docs", Schema({"v": Dense(16)}))
        docs.upsert(ids=list(range(2000)), vectors={"v": rng.standard_normal((2000, 16))})
        docs.delete(list(range(500)))
    for _ in range(2):
        code, out, err = run(capsys, "optimize", tmp_path / "data", "docs")
        first, second = err.splitlines()
        assert (code, out) == (0, "") and first == "docs: 1,500 points, 0 deleted rows left"
        assert second.startswith("  index of v: 1 segment (") and second.endswith("; all rows indexed")
        assert "1,500 rows, 0 deleted" in second
    _, out, _ = run(capsys, "info", "--data", tmp_path / "data")
    assert second.strip() in out.splitlines()
    assert run(capsys, "check", "--data", tmp_path / "data")[0] == 0


def test_ctrl_c_ends_an_optimize(tmp_path):
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        docs = database.create_collection("docs", Schema({"v": Dense(64)}))
        vectors = np.random.default_rng(0).standard_normal((40_000, 64)).astype(np.float32)
        docs.upsert(ids=list(range(40_000)), vectors={"v": vectors})
    command = [sys.executable, "-m", "vectordb", "optimize", str(tmp_path / "data")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not (tmp_path / "data" / "indexes").is_dir() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.3)  # in the midst of it
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130 and "interrupted" in err and "Traceback" not in err
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        assert database.collection("docs").count() == 40_000


def test_optimize_says_on_a_terminal_how_far_it_is(capsys, data, monkeypatch):
    from rich.console import Console

    true = vectordb.Collection.info
    doing = {"state": "running", "task": "seal [v]", "stage": "graph", "share": 0.5}
    monkeypatch.setattr(vectordb.Collection, "info", lambda self: dataclasses.replace(true(self), maintenance=doing))
    monkeypatch.setattr(vectordb.Collection, "optimize", lambda self, wait=True, timeout=None: time.sleep(0.7) or {}, raising=False)
    monkeypatch.setattr(shared, "console", lambda stderr=False: Console(stderr=True, force_terminal=True, width=100))
    code, _, err = run(capsys, "optimize", data)
    assert code == 0 and "docs: seal [v], graph" in err and "50%" in err


def test_check_finds_a_sound_directory_sound(capsys, data):
    pytest.importorskip("vectordb.storage.check")
    code, out, _ = run(capsys, "check", "--data", data)
    assert code == 0 and "no problems" in out
    assert json.loads(run(capsys, "check", "--data", data, "--json")[1])["problems"] == []


def test_check_notes_an_index_file_that_is_gone(capsys, tmp_path):
    with vectordb.open(tmp_path / "data", maintenance=False) as db:
        docs = db.create_collection("docs", vectordb.Schema({"v": vectordb.Dense(4)}))
        docs.upsert(ids=list(range(300)), vectors={"v": np.random.default_rng(0).standard_normal((300, 4))})
        docs.optimize()
    (file,) = (tmp_path / "data" / "indexes").glob("*.index")
    assert run(capsys, "check", "--data", tmp_path / "data")[1].count("note: ") == 0
    file.unlink()
    code, out, _ = run(capsys, "check", "--data", tmp_path / "data")
    assert code == 0 and "no problems" in out and "note: " in out and file.name in out
    assert file.name in json.loads(run(capsys, "check", "--data", tmp_path / "data", "--json")[1])["notes"][0]


def test_serve_is_told_by_flags_environment_and_file(capsys, monkeypatch, tmp_path):
    serving = pytest.importorskip("vectordb.server.main", reason="grpc is not installed")
    calls = []
    monkeypatch.setattr(serving, "serve", lambda path, settings: calls.append((path, settings)) or 0)
    assert run(capsys, "serve", "--data", tmp_path)[0] == 0
    assert run(capsys, "serve", "--data", tmp_path, "--port", "0", "--host", "::1", "--durability", "batched", "--grace", "1.5")[0] == 0
    assert run(capsys, "serve", "--data", tmp_path, "--no-maintenance")[0] == 0
    (tmp_path / "vectordb.toml").write_text("port = 1\nthreads = 2\ngrace = 3\n")
    monkeypatch.setenv("VECTORDB_SERVE_PORT", "4")
    monkeypatch.setenv("VECTORDB_SERVE_THREADS", "5")
    assert run(capsys, "serve", "--data", tmp_path, "--port", "6", "--config", tmp_path / "vectordb.toml")[0] == 0
    assert calls == [
        (tmp_path, Settings()),
        (tmp_path, Settings(port=0, host="::1", durability="batched", grace=1.5)),
        (tmp_path, Settings(maintenance=False)),
        (tmp_path, Settings(port=6, threads=5, grace=3.0)),
    ]


@pytest.mark.parametrize("archive", [[], ["--archive"]])
def test_a_snapshot_is_made_checked_and_restored(capsys, data, tmp_path, archive):
    code, _, err = run(capsys, "snapshot", "--data", data, tmp_path / "snap", *archive)
    assert code == 0 and err.startswith(f"snapshot {tmp_path / 'snap'}: 1 collection, 10 points, ")
    assert run(capsys, "check", "--data", tmp_path / "snap")[0] == 0
    code, _, err = run(capsys, "restore", tmp_path / "snap", tmp_path / "back")
    assert code == 0 and str(tmp_path / "back") in err
    assert run(capsys, "check", "--data", tmp_path / "back")[0] == 0
    with vectordb.open(tmp_path / "back", create=False) as database:
        assert database.collection("docs").count() == 10
    for command in (("snapshot", "--data", data, tmp_path / "snap"), ("restore", tmp_path / "snap", tmp_path / "back")):
        code, _, err = run(capsys, *command)
        assert code == 1 and "already exists" in err
    path = tmp_path / "snap" if archive else tmp_path / "snap" / "data.mdb"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    code, out, err = run(capsys, "check", "--data", tmp_path / "snap")
    assert code == 1 and "data.mdb fails its checksum" in out
    code, _, err = run(capsys, "restore", tmp_path / "snap", tmp_path / "again")
    assert code == 1 and "data.mdb fails its checksum" in err and not (tmp_path / "again").exists()


def test_a_purge_says_what_it_did_and_fails_when_something_is_left(capsys, data):
    with vectordb.open(data) as database:
        database.collection("docs").upsert(ids=["a secret id of somebody"], payload=["a secret of somebody"])
        database.collection("docs").delete("a secret id of somebody")
    kept = data / "kept.txt"
    kept.write_bytes((data / "data.mdb").read_bytes())
    code, out, _ = run(capsys, "purge", "--data", data)
    assert code == 1 and f"leftovers in {kept}" in out and out.startswith("1 rows dropped")
    kept.unlink()
    with vectordb.open(data) as database:
        database.collection("docs").delete(3)
    code, out, _ = run(capsys, "purge", "--data", data, "--collection", "docs")
    assert code == 0 and "1 ids" in out and out.endswith("no deleted data is left in any file\n")
    assert json.loads(run(capsys, "purge", "--data", data, "--json")[1])["proven"] is True
    assert b"a secret" not in (data / "data.mdb").read_bytes()
