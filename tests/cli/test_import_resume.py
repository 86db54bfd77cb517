"""A stopped import continues with the same command. An import that fails at the start leaves nothing behind."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest
from vectordb_client.errors import EncoderError
from vectordb_client.model.schema import Int, Keyword, Schema

import vectordb
from vectordb.cli import main
from vectordb.collection import Collection

ROWS = 3500


@pytest.fixture
def place(tmp_path):
    rows = [{"id": i, "text": f"word{i} of all", "n": i} for i in range(ROWS)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def command(place, *more):
    return ["import", str(place / "d"), "c", str(place / "in.jsonl"), "--create", *map(str, more)]


def stopped_at(monkeypatch, batch, error):
    """The upsert number ``batch`` (from 1) raises the error."""
    true, calls = Collection.upsert, []

    def upsert(self, *arguments, **options):
        calls.append(1)
        if len(calls) == batch:
            raise error
        return true(self, *arguments, **options)

    monkeypatch.setattr(Collection, "upsert", upsert)


def count(place):
    with vectordb.open(place / "d", create=False) as database:
        return database.collection("c").count()


OPTIONS = [(), ("--text", "text"), ("--text", "text", "--encoder", "bm25(k1=2)"), ("--attribute", "n=float"), ("--rejects",)]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["interrupt", "disk"])
def test_the_same_command_goes_on(options, error, place, monkeypatch, capsys):
    if options == ("--rejects",):
        options = ("--rejects", place / "r.jsonl")
    stopped_at(monkeypatch, 3, error)
    assert main(command(place, *options)) == (130 if isinstance(error, KeyboardInterrupt) else 1)
    said = capsys.readouterr().err
    assert "Traceback" not in said and ("run the same command to resume" in said) == isinstance(error, KeyboardInterrupt)
    assert count(place) == 2000
    assert main(command(place, *options)) == 0
    said = capsys.readouterr().err
    assert "imported 1,500 rows into 'c' (resumed after the 2,000 rows" in said and count(place) == ROWS


def test_a_killed_import_with_text_goes_on(place, capsys):
    with (place / "in.jsonl").open("a") as file:
        file.writelines(json.dumps({"id": i, "text": f"word{i}", "n": i}) + "\n" for i in range(ROWS, 20_000))
    words = [sys.executable, "-m", "vectordb", *command(place, "--text", "text")]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(place.glob("d/imports/*.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    code, said = main(words[3:]), capsys.readouterr().err
    assert code == 0, said
    written, before = (int(n.replace(",", "")) for n in re.search(r"([\d,]+) rows?.*after the ([\d,]+) rows?", said).groups())
    assert before >= 1000 and written + before == 20_000 == count(place)


def spoil(place, row, text="{bad"):
    lines = (place / "in.jsonl").read_text().splitlines()
    lines[row] = text
    (place / "in.jsonl").write_text("\n".join(lines))


@pytest.mark.parametrize("row", [0, 10, 2500])
def test_rejects_can_be_added_when_a_row_is_bad(row, place, capsys):
    spoil(place, row)
    assert main(command(place, "--text", "text")) == 1
    said = capsys.readouterr().err
    assert f"row {row + 1}: not JSON" in said and "--rejects" in said
    assert (place / "d").exists() == (row > 1000), "nothing is made before a batch is written"
    assert main(command(place, "--text", "text", "--rejects", place / "r.jsonl")) == 0
    said = capsys.readouterr().err
    assert "1 rejected" in said and ("resumed after the 2,000 rows" in said) == (row > 2000)
    assert count(place) == ROWS - 1 and json.loads((place / "r.jsonl").read_text())["row"] == row + 1


def test_a_forgotten_column_of_ids_leaves_nothing_behind(place, capsys):
    (place / "in.jsonl").write_text("".join(json.dumps({"sku": f"s{i}", "n": i}) + "\n" for i in range(5)))
    assert main(command(place)) == 1
    assert "no column 'id'; columns: sku, n (--id-field names it" in capsys.readouterr().err
    assert main(command(place, "--id-field", "sku")) == 0
    with vectordb.open(place / "d") as database:
        assert database.collection("c").schema == Schema({}, {"n": Int()}) and database.collection("c").count() == 5


@pytest.mark.parametrize("error", [EncoderError("no model"), KeyboardInterrupt()], ids=["encoder", "interrupt"])
def test_a_first_batch_that_fails_takes_the_collection_with_it(error, place, monkeypatch, capsys):
    vectordb.open(place / "d").close()
    stopped_at(monkeypatch, 1, error)
    assert main(command(place)) in (1, 130)
    with vectordb.open(place / "d") as database:
        assert database.collections() == []
    assert main(command(place, "--id-field", "n")) == 0 and count(place) == ROWS


def test_when_every_row_is_rejected_nothing_is_made(place, capsys):
    (place / "in.jsonl").write_text('{"id": 1, "n": "x"}\n{"id": 2, "n": "y"}\n')
    assert main(command(place, "--attribute", "n=int", "--rejects", place / "r.jsonl")) == 1
    assert "all 2 rows were rejected; collection 'c' was not created" in capsys.readouterr().err
    assert not (place / "d").exists() and len((place / "r.jsonl").read_text().splitlines()) == 2


def test_a_place_is_not_that_of_a_collection_made_again_or_of_an_older_copy(place, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        stopped_at(patched, 3, KeyboardInterrupt())
        assert main(command(place)) == 130
    assert main(["drop", str(place / "d"), "c"]) == 0
    assert main(command(place)) == 0
    assert "resumed after" not in capsys.readouterr().err and count(place) == ROWS

    with monkeypatch.context() as patched:
        stopped_at(patched, 3, KeyboardInterrupt())
        assert main(["import", str(place / "e"), "c", str(place / "in.jsonl"), "--create"]) == 130
    with vectordb.open(place / "f") as database:  # the collection of that number, with less in it
        database.create_collection("c", Schema({}, {"n": Int(), "text": Keyword()}))
    (place / "f" / "imports").mkdir()
    for file in (place / "e" / "imports").iterdir():
        (place / "f" / "imports" / file.name).write_bytes(file.read_bytes())
    assert main(["import", str(place / "f"), "c", str(place / "in.jsonl")]) == 0
    assert "resumed after" not in capsys.readouterr().err


def test_a_file_read_in_another_way_starts_over(place, monkeypatch, capsys):
    lines = [f"{i};{i},5\n" for i in range(2500)]
    (place / "in.csv").write_text("id;n\n" + "".join(lines))
    words = ["import", str(place / "d"), "c", str(place / "in.csv"), "--create"]
    with monkeypatch.context() as patched:
        stopped_at(patched, 3, KeyboardInterrupt())
        assert main(words) == 130
    assert main([*words, "--separator", ";"]) == 0
    assert "2,500 rows into 'c';" in capsys.readouterr().err


def test_what_a_collection_that_is_there_is_not_is_said(place, capsys):
    assert main(command(place)) == 0
    for options, says in (
        (("--text", "text"), "there it is keyword, encoded by nothing"),
        (("--attribute", "n=float"), "there it is int"),
        (("--attribute", "new=int"), "the collection has no such field"),
    ):
        capsys.readouterr()
        assert main(command(place, *options)) == 1
        said = capsys.readouterr().err
        assert says in said and "vectordb drop" in said and said.count("\n") == 1
    (place / "schema.json").write_text(json.dumps(Schema({}, {"n": Int(), "m": Int()}).to_dict()))
    assert main(command(place, "--schema", place / "schema.json")) == 1
    assert "they differ in text, m" in capsys.readouterr().err


def test_the_file_itself_is_no_place_for_rejects(place, capsys):
    before = (place / "in.jsonl").read_bytes()
    assert main(command(place, "--rejects", place / "in.jsonl")) == 1
    assert "must be another file" in capsys.readouterr().err and (place / "in.jsonl").read_bytes() == before
