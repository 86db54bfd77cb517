"""The command line: exit codes, one-line errors, import and export, and an import that is killed and continued."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from vectordb_client.model.schema import HNSW, Dense, Int, Keyword, Schema, Sparse, Text

import vectordb
from vectordb import cli
from vectordb.cli import options as shared
from vectordb.server.settings import Settings


def run(capsys, *arguments):
    """(exit code, stdout, stderr) of one command."""
    try:
        code = cli.main([str(a) for a in arguments])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


@pytest.fixture
def data(tmp_path):
    with vectordb.open(tmp_path / "data") as database:
        collection = database.create_collection("docs", Schema({"v": Dense(2), "s": Sparse()}, {"n": Int(), "word": Keyword()}))
        collection.upsert(
            [
                {
                    "id": i,
                    "vectors": {"v": [1, i], "s": {i: 0.5}},
                    "attributes": {"n": i, "word": "even" if i % 2 == 0 else "odd"},
                    "payload": {"i": i},
                }
                for i in range(10)
            ]
        )
    return tmp_path / "data"


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


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


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
def test_export_then_import_by_hand(capsys, data, tmp_path, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    target, schema = tmp_path / name, tmp_path / "schema.json"
    exported = run(capsys, "export", "--data", data, "--collection", "docs", "--out", target, "--with-vectors", "--schema", schema)
    assert exported[0] == 0 and "10 points" in exported[2]
    code, _, err = run(capsys, "import", target, "--data", tmp_path / "new", "--collection", "copy", "--create", "--schema", schema)
    assert code == 0 and "10 rows into 'copy'" in err
    with vectordb.open(data) as old, vectordb.open(tmp_path / "new") as new:
        expected, got = ([*db.collection(name).iterate(with_vectors=True)] for db, name in ((old, "docs"), (new, "copy")))
    assert [(p.id, dict(p.attributes), p.payload) for p in got] == [(p.id, dict(p.attributes), p.payload) for p in expected]
    assert all((a.vectors["v"] == b.vectors["v"]).all() for a, b in zip(got, expected, strict=True))


def test_an_export_can_go_to_stdout_and_be_filtered(data):
    command = [
        sys.executable,
        "-m",
        "vectordb",
        "export",
        "--data",
        str(data),
        "--collection",
        "docs",
        "--out",
        "-",
        "--filter",
        "word = 'odd'",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [1, 3, 5, 7, 9]


def test_an_export_writes_over_a_file_only_when_told(capsys, data, tmp_path):
    (tmp_path / "out.csv").write_text("precious")
    arguments = ["export", "--data", data, "--collection", "docs", "--out", tmp_path / "out.csv"]
    code, _, err = run(capsys, *arguments)
    assert code == 1 and "--force" in err and (tmp_path / "out.csv").read_text() == "precious"
    assert run(capsys, *arguments, "--force")[0] == 0


def test_import_infers_a_schema_and_says_so(capsys, tmp_path):
    (tmp_path / "in.csv").write_text('key,emb,title,year\na,"[1, 2]",A long title,1999\nb,"[3, 4]",Another,2001\n')
    arguments = ["import", tmp_path / "in.csv", "--data", tmp_path / "data", "--collection", "books"]
    options = ["--id-field", "key", "--vector-field", "v=emb", "--text", "title"]
    code, _, err = run(capsys, *arguments, *options)
    assert code == 1 and "no database" in err
    code, _, err = run(capsys, *arguments, *options, "--create")
    assert code == 0 and "v: dense (dim=2)" in err and "title: text" in err and "2 rows into 'books'" in err
    with vectordb.open(tmp_path / "data") as database:
        books = database.collection("books")
        assert books.schema.attributes == {"title": Text(), "year": Int()}
        assert books.search(text={"title_bm25": "long titles"})[0].id == "a"
    code, _, err = run(capsys, *arguments, *options)
    assert code == 1 and "--text and --encoder need --create" in err


def test_import_stops_at_a_bad_row_or_sets_it_aside(capsys, data, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"id": 50, "n": 1}\n{"id": 51, "n": "x"}\n{"id": 52, "n": 3}\n')
    arguments = ["import", tmp_path / "in.jsonl", "--data", data, "--collection", "docs"]
    code, _, err = run(capsys, *arguments)
    assert code == 1 and "row 2: " in err and "--rejects" in err
    code, _, err = run(capsys, *arguments, "--rejects", tmp_path / "bad.jsonl")
    assert code == 0 and "2 points" in err and "1 rejected" in err
    assert lines(tmp_path / "bad.jsonl")[0]["row"] == 2


def test_a_schema_file_that_is_wrong_is_named(capsys, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"id": 1, "n": 1}\n')
    schema = tmp_path / "schema.json"
    arguments = ["import", tmp_path / "in.jsonl", "--data", tmp_path / "data", "--collection", "c", "--create", "--schema", schema]
    for text, message in (
        (None, "can't read"),
        ("{", "is not JSON"),
        ('{"vector": {}}', "a schema has"),
        ('{"attributes": {"n": "number"}}', "kind of"),
    ):
        if text is not None:
            schema.write_text(text)
        code, _, err = run(capsys, *arguments)
        assert code == 1 and message in err and err.count("\n") == 1


def test_a_killed_import_goes_on(tmp_path):
    source, data = tmp_path / "in.jsonl", tmp_path / "data"
    with source.open("w") as file:
        for i in range(20_000):
            file.write(json.dumps({"id": i, "n": i, "word": f"w{i % 100}"}) + "\n")
    command = [sys.executable, "-m", "vectordb", "import", str(source), "--data", str(data), "--collection", "c", "--create"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not list(data.glob("imports/*.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    process.stderr.close()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    written, done = (
        int(n.replace(",", "")) for n in re.search(r"([\d,]+) rows?.*resumed after the ([\d,]+) rows", again.stderr, re.S).groups()
    )
    assert done >= 1000 and written + done == 20_000
    with vectordb.open(data) as database:
        assert database.collection("c").count() == 20_000
    assert not list(data.glob("imports/*.json"))


def test_ctrl_c_is_130_and_says_that_it_can_go_on(tmp_path):
    source, data = tmp_path / "in.jsonl", tmp_path / "data"
    with source.open("w") as file:
        for i in range(20_000):
            file.write(json.dumps({"id": i, "n": i}) + "\n")
    command = [sys.executable, "-m", "vectordb", "import", str(source), "--data", str(data), "--collection", "c", "--create"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not list(data.glob("imports/*.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130 and "run the same command to resume" in err and "Traceback" not in err


def test_a_reader_that_has_seen_enough_ends_an_export_quietly(data):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "vectordb", "info", "--data", str(data)]
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


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


# ---- Words of terms ----


def stored_terms(path, collection="docs", field="s"):
    with vectordb.open(path, maintenance=False) as database:
        return database.collection(collection).terms(field)


def test_words_of_terms_are_imported_and_exported(capsys, data, tmp_path):
    top = 2**64 - 1
    here = ("--data", data, "--collection", "docs", "--field", "s")
    (tmp_path / "in.tsv").write_text(f"3\tthree\r\n\n{top}\tthe last, of all\n", encoding="utf-8")
    assert run(capsys, "terms", *here, "--import", tmp_path / "in.tsv")[2] == "2 terms read, 2 changed\n"
    assert stored_terms(data) == {3: "three", top: "the last, of all"}
    (tmp_path / "in.json").write_text('{"3": "drei", "4": "ü\\"", "5": null}', encoding="utf-8")
    assert run(capsys, "terms", *here, "--import", tmp_path / "in.json")[2] == "3 terms read, 2 changed\n"
    whole = {3: "drei", 4: 'ü"', top: "the last, of all"}
    assert stored_terms(data) == whole
    assert run(capsys, "terms", *here, "--export", "-")[1] == f'3\tdrei\n4\tü"\n{top}\tthe last, of all\n'
    for name in ("out.tsv", "out.json"):
        assert run(capsys, "terms", *here, "--export", tmp_path / name)[::2] == (0, f"exported 3 terms to {tmp_path / name}\n")
        code, _, error = run(capsys, "terms", *here, "--export", tmp_path / name)
        assert code == 1 and "--force" in error
        with vectordb.open(tmp_path / f"of {name}") as database:
            database.create_collection("docs", Schema({"s": Sparse()}))
        assert run(capsys, "terms", "--data", tmp_path / f"of {name}", *here[2:], "--import", tmp_path / name)[0] == 0
        assert stored_terms(tmp_path / f"of {name}") == whole
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == {str(term): word for term, word in whole.items()}
    terms = 'terms of s: 10 distinct terms; most frequent: 0 (1 row), 1 (1 row), 2 (1 row), drei (1 row), ü" (1 row)'
    assert terms in run(capsys, "info", "--data", data)[1]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("x.csv", "1,a", "must be named .tsv or .json"),
        ("x.tsv", "1\ta\n2 b\n", "line 2"),
        ("x.tsv", "1\ta\n1\tb\n", "line 2: term 1 appears twice"),
        ("x.tsv", "01\ta\n", "'01' is not a term"),
        ("x.tsv", "-1\ta\n", "'-1' is not a term"),
        ("x.tsv", f"{2**64}\ta\n", f"{2**64} is not a term"),
        ("x.tsv", "1" * 5_000 + "\ta\n", "is not a term"),
        ("x.tsv", "1\ta\tb\n", "the word of term 1 "),
        ("x.tsv", "1\t\n", "the word of term 1 "),
        ("x.tsv", "1\t" + "x" * 481, "481 UTF-8 bytes"),
        ("x.json", "[1]", "must be an object"),
        ("x.json", "{", "is not JSON"),
        ("x.json", '{"a": "b"}', "'a' is not a term"),
        ("x.json", '{"1": "a", "1": "b"}', "twice"),
        ("x.json", '{"1": 2}', "the word of term 1 "),
    ],
)
def test_a_file_of_terms_that_is_none_is_refused_by_name(capsys, data, tmp_path, name, text, says):
    (tmp_path / name).write_text(text, encoding="utf-8")
    code, out, error = run(capsys, "terms", "--data", data, "--collection", "docs", "--field", "s", "--import", tmp_path / name)
    assert (code, out) == (1, "") and says in error and error.count("\n") == 1
    assert stored_terms(data) == {}


def test_terms_of_what_is_not_there_are_refused(capsys, data, tmp_path):
    (tmp_path / "empty.json").write_text("{}", encoding="utf-8")
    for field in ("v", "nope"):
        for way in (("--import", tmp_path / "empty.json"), ("--export", tmp_path / "new.tsv")):
            code, _, error = run(capsys, "terms", "--data", data, "--collection", "docs", "--field", field, *way)
            assert code == 1 and f"'{field}'" in error
    assert not (tmp_path / "new.tsv").exists()
    code, _, error = run(capsys, "terms", "--data", data, "--collection", "docs", "--field", "s", "--import", tmp_path / "missing.tsv")
    assert code == 1 and "missing.tsv" in error


def test_a_copy_keeps_the_words_that_it_does_not_make_itself(capsys, tmp_path):
    with vectordb.open(tmp_path / "data") as database:
        schema = Schema({"raw": Sparse(), "bm": Sparse("idf", encoder="bm25", source="body")}, {"body": Text()})
        docs = database.create_collection("docs", schema)
        docs.upsert(ids=[1], vectors={"raw": [{1: 1.0}]}, attributes={"body": ["boats"]})
        docs.set_terms("raw", {1: "one", 2: "two"})
        encoded = docs.terms("bm")
    for number, options in enumerate(((), ("--with-vectors",))):
        out, schema = tmp_path / f"{number}.jsonl", tmp_path / f"{number}.json"
        assert (
            run(capsys, "export", "--data", tmp_path / "data", "--collection", "docs", "--out", out, "--schema", schema, *options)[0] == 0
        )
        said = json.loads(schema.read_text(encoding="utf-8"))["terms"]
        assert said["raw"] == {"1": "one", "2": "two"} and ("bm" in said) == bool(options)
        copy = tmp_path / f"copy {number}"
        assert run(capsys, "import", out, "--data", copy, "--collection", "docs", "--create", "--schema", schema)[0] == 0
        assert stored_terms(copy, field="raw") == {1: "one", 2: "two"} and stored_terms(copy, field="bm") == encoded
    schema.write_text(json.dumps({"vectors": {"v": {"kind": "dense", "dim": 2}}, "terms": {"v": {"1": "a"}}}), encoding="utf-8")
    code, _, error = run(capsys, "import", out, "--data", tmp_path / "none", "--collection", "docs", "--create", "--schema", schema)
    assert code == 1 and "'v' is dense" in error


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
