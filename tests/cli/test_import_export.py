"""Import and export on the command line: by hand, filtered, to standard output, bad rows, killed and interrupted."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from vectordb_client.model.schema import Int, Text

import vectordb
from tests.support.command_line import filled, lines, run


@pytest.fixture
def data(tmp_path):
    return filled(tmp_path / "data")


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


def test_a_killed_import_goes_on(tmp_path, capsys):
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
    code, _, said = run(capsys, *command[3:])
    assert code == 0, said
    written, done = (int(n.replace(",", "")) for n in re.search(r"([\d,]+) rows?.*resumed after the ([\d,]+) rows", said, re.S).groups())
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
