"""What the documents promise: the README's snippets run as they stand, its commands exist, FORMAT.md names every kind of key."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vectordb
from vectordb.cli import parser
from vectordb.server.serve import start
from vectordb.storage import chunks, format

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def run(code, folder):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "client")])}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readmes_python_runs_in_order(tmp_path):
    embedded, served, text, table, hybrid = blocks("python")
    out = run(embedded, tmp_path)
    assert "{'text': (1, " in out and "\nfilter: 2 matches, 66.7 % of the live rows\ndense text: " in out
    with vectordb.open(tmp_path / "data", create=False) as database:
        server, port = start(database, port=0)
        try:
            assert "localhost:7070" in served
            out = run(served.replace("localhost:7070", f"127.0.0.1:{port}"), tmp_path)
        finally:
            server.stop(1).wait()
    assert out.startswith("2 [Point(id=1")
    assert re.search(r"Hits\(\d: 1: \d", run(text, tmp_path))
    pytest.importorskip("pandas")
    assert run(table, tmp_path) == "1 1\n"
    out = run(hybrid, tmp_path)
    assert out.startswith("nDCG@10 of 20 queries") and "\nprefetch: " in out


def test_the_readmes_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    for command in re.findall(r"^make (\S+)", "\n".join(blocks("sh")), re.MULTILINE):
        assert re.search(rf"^{command}:", makefile, re.MULTILINE), command
    for line in re.findall(r"^vectordb .*", "\n".join(blocks("sh")), re.MULTILINE):
        parser().parse_args(line.split()[1:])
    listed = re.search(r"`vectordb ([a-z, ]+)`", README)[1].split(", ")
    for command in listed:
        with pytest.raises(SystemExit) as stop:
            parser().parse_args([command, "--help"])
        assert stop.value.code == 0


def test_the_readmes_filters_mean_the_same_in_both_notations():
    from vectordb import F  # noqa: F401 - the table's expressions use it
    from vectordb.filters import as_filter
    from vectordb.filters.canonical import canonical

    schema = vectordb.Schema(
        {"text": vectordb.Dense(4)},
        {
            "lines": vectordb.Int(),
            "module": vectordb.Keyword(),
            "tags": vectordb.Keyword(array=True),
            "body": vectordb.Text(),
            "place": vectordb.Geo(),
        },
    )
    rows = re.findall(r"^\| [a-z, ]+ \| (`F.*?) \| (`.*?) \|$", README, re.MULTILINE)
    assert len(rows) == 10
    for python, string in rows:
        pairs = list(zip(re.findall("`([^`]+)`", python), re.findall("`([^`]+)`", string), strict=True))
        if len(pairs) == 1 and "`, `" in python:
            raise AssertionError(python)
        for left, right in pairs:
            assert canonical(eval(left), schema) == canonical(as_filter(right), schema), left


def test_the_readme_shows_every_op_of_the_json_notation():
    from vectordb_client.filter import _FORMS

    from vectordb import F
    from vectordb.filters import as_filter

    (example,) = blocks("json")
    tags = F("tags").contains_any(["io", "text"])
    assert as_filter(json.loads(example)) == (F("package") == "numpy") & F("module").isin(["json", "csv"]) & ~tags
    table = re.search(r"^\| op \| keys \|\n\| --- \| --- \|\n((?:\|.*\n)+)", README, re.MULTILINE)[1]
    shown = {}
    for ops, keys in re.findall(r"^\| ([^|]*) \| ([^|]*) \|$", table, re.MULTILINE):
        for some, theirs in zip(ops.split(";"), keys.split(";"), strict=True):
            shown |= {op: set(re.findall("`([a-z_]+)`", theirs)) for op in re.findall("`([^`]+)`", some)}
    assert set(shown) == set(_FORMS)
    for op, (_, keys) in _FORMS.items():
        assert set(keys) <= shown[op], op


def test_the_format_page_names_every_kind_of_key_and_the_header():
    page = (ROOT / "FORMAT.md").read_text()
    names = "META STATE IDS DEAD LOG CHUNK TERMS TERM_COUNT ENCODER TERM_WORD SEGMENT DERIVED NAME NEXT"
    kinds = [getattr(format, name) for name in names.split()]
    for kind in (*kinds, format.FORMAT_KEY[4:]):
        assert f"| `{kind.decode()}` |" in page, kind
    assert f"Format version {format.VERSION}." in page
    assert f"`{chunks.MAGIC:#06x}`" in page and f"header of {chunks.HEADER} bytes" in page
