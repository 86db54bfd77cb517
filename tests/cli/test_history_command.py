"""``vectordb history``, and ``--as-of`` of the commands that read."""

import json

import pytest

import vectordb
from vectordb import Dense, Int, Keyword, Schema, Sparse, Text
from vectordb.cli import main
from vectordb.server.main import start

SCHEMA = Schema({"d": Dense(2), "t": Sparse(encoder="bm25", source="body")}, {"body": Text(), "n": Int(), "k": Keyword()})


@pytest.fixture(params=["directory", "service"])
def run(request, tmp_path, capsys):
    """run(command, words …) → (exit code, stdout, stderr)"""
    path = tmp_path / "data"
    with vectordb.open(path, maintenance=False) as database:
        docs = database.create_collection("docs", SCHEMA)
        docs.keep_history("12h")
        docs.upsert([{"id": i, "attributes": {"body": f"red w{i}", "n": i, "k": "ab"[i % 2]}} for i in range(4)])
        docs.delete([1, 2])

    def run(command, *words):
        code = main([command, *place, "docs", *words])
        return code, *capsys.readouterr()

    if request.param == "directory":
        place = [str(path)]
        yield run
        return
    with vectordb.open(path, maintenance=False) as database:
        server, port = start(database, port=0)
        place = ["--target", f"127.0.0.1:{port}"]
        try:
            yield run
        finally:
            server.stop(1).wait()


def test_commands_read_earlier_states(run, tmp_path):
    assert run("count")[1] == "2\n" and run("count", "--as-of", "1")[1] == "4\n" and run("count", "--as-of", "0")[1] == "0\n"
    assert run("count", "--as-of", "1", "--filter", "k = 'b'")[1] == "2\n"
    assert json.loads(run("get", "1", "--as-of", "1", "--json")[1])["attributes"]["n"] == 1 and run("get", "1")[0] == 1
    ids = [json.loads(line)["id"] for line in run("search", "red", "--as-of", "1", "--json")[1].splitlines()]
    assert ids == [0, 1, 2, 3]
    assert "  2  a" in run("facets", "k", "--as-of", "1")[1]
    assert run("count", "--as-of", "1h")[1] == "0\n" == run("count", "--as-of=-1h")[1]
    assert run("count", "--as-of", "2000-01-01T00:00:00Z")[1] == "0\n"
    code, out, error = run("count", "--as-of", "9")
    assert (code, out) == (1, "") and "as_of is 9, but the newest sequence is 2" in error
    with pytest.raises(SystemExit):
        run("count", "--as-of", "yesterday")


def test_the_history_is_shown_and_set(run):
    assert run("history")[:2] == (0, "history of 12 hours, from sequence 0\n")
    assert "history of 12 hours" in run("info")[1]
    assert run("history", "7d")[:2] == (0, "history of 7 days, from sequence 0\n")
    assert json.loads(run("history", "--json")[1])["history"]["seconds"] == 604_800
    assert run("history", "off")[:2] == (0, "no history is kept\n")
    assert "as_of needs a collection that keeps its history" in run("count", "--as-of", "1")[2]
    assert run("history", "soon")[0] == 1


def test_an_export_can_be_of_an_earlier_state(run, tmp_path, capsys):
    if (tmp_path / "data").exists():
        out = tmp_path / "points.jsonl"
        assert main(["export", str(tmp_path / "data"), "docs", str(out), "--as-of", "1"]) == 0
        assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == [0, 1, 2, 3]
