"""Import of files with various separators, encodings, arrays, pipes and columns; errors name what is too large or broken."""

import gzip
import io
import json
import subprocess
import sys
import tracemalloc
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pytest
from vectordb_client.errors import InvalidArgumentError, LimitError, SchemaError
from vectordb_client.model.schema import Bool, Datetime, Dense, Float, Int, Keyword, Schema

import vectordb
from vectordb.cli import main
from vectordb.transfer import Source, attribute_type, import_points, infer, infer_schema

ROWS = [{"id": 1, "name": "café", "n": 4}, {"id": 2, "name": "naïve, yes", "n": 5}, {"id": 3, "name": "x", "n": 6}]
POINTS = [(row["id"], {"name": row["name"], "n": row["n"]}, None) for row in ROWS]


def cells(separator: str) -> str:
    quoted = [[str(row["id"]), f'"{row["name"]}"', str(row["n"])] for row in ROWS]
    return "".join(separator.join(row) + "\r\n" for row in [["id", "name", "n"], *quoted])


LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
ARRAY = json.dumps(ROWS, ensure_ascii=False, indent=1)
# name, content, flags
FILES = {
    "commas": ("x.csv", cells(",").encode(), ()),
    "semicolons": ("x.csv", cells(";").encode(), ()),
    "tabs": ("x.csv", cells("\t").encode(), ()),
    "tabs by name": ("x.tsv", cells("\t").encode(), ()),
    "bars": ("x.csv", cells("|").encode(), ()),
    "a separator that is told": ("x.csv", cells("~").encode(), ("--separator", "~")),
    "a byte order mark": ("x.csv", b"\xef\xbb\xbf" + cells(";").encode(), ()),
    "utf-16 with a mark": ("x.csv", cells(";").encode("utf-16"), ()),
    "utf-16 that is told": ("x.csv", cells(",").encode("utf-16-be"), ("--encoding", "utf-16-be")),
    "latin-1 that is told": ("x.csv", cells(";").encode("latin-1"), ("--encoding", "latin-1")),
    "zipped": ("x.csv.gz", gzip.compress(cells(";").encode("utf-16")), ()),
    "zipped by another name": ("x.csv", gzip.compress(cells(",").encode()), ()),
    "lines": ("x.jsonl", LINES.encode(), ()),
    "lines with a mark": ("x.jsonl", b"\xef\xbb\xbf" + LINES.encode(), ()),
    "lines in utf-16": ("x.jsonl", LINES.encode("utf-16"), ()),
    "lines in utf-32": ("x.jsonl", LINES.encode("utf-32"), ()),
    "lines in cp1252": ("x.ndjson", LINES.encode("cp1252"), ("--encoding", "cp1252")),
    "an array": ("x.json", ARRAY.encode(), ()),
    "an array of one line": ("x.json", json.dumps(ROWS).encode(), ()),
    "an array called lines": ("x.jsonl", b" \n" + ARRAY.encode(), ()),
    "an array in utf-16": ("x.json", ARRAY.encode("utf-16"), ()),
    "an array, zipped": ("x.json.gz", gzip.compress(ARRAY.encode()), ()),
    "values one after another": ("x.json", "\n\n".join(json.dumps(row, indent=2) for row in ROWS).encode(), ()),
    "another name": ("x.dat", LINES.encode(), ("--format", "jsonl")),
    "another name, cells": ("x.txt", cells(";").encode(), ("--format", "csv")),
}


def content(path, name="c"):
    with vectordb.open(path, create=False) as database:
        return [(p.id, dict(p.attributes), p.payload) for p in database.collection(name).iterate()]


@pytest.mark.parametrize(("name", "data", "flags"), FILES.values(), ids=FILES)
def test_a_file_gives_its_rows_however_it_is_written(name, data, flags, tmp_path, capsys):
    (tmp_path / name).write_bytes(data)
    assert main(["import", str(tmp_path / "d"), "c", str(tmp_path / name), "--create", *flags]) == 0, capsys.readouterr().err
    assert content(tmp_path / "d") == POINTS


def test_standard_input_and_pipes_are_taken_and_an_export_comes_back(tmp_path, capsys, monkeypatch):
    for place, data, flags in (("a", LINES, ()), ("c", cells(";"), ("--format", "csv"))):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data.encode())))
        assert main(["import", str(tmp_path / place), "c", "-", "--create", *flags]) == 0, capsys.readouterr().err
    shell = f"""set -o pipefail; vectordb() {{ '{sys.executable}' -m vectordb "$@"; }}
        vectordb export '{tmp_path}/a' c - | vectordb import '{tmp_path}/b' c - --create && cat '{tmp_path}/b.json' |
        vectordb import '{tmp_path}/e' c <(cat) --create --format json"""
    (tmp_path / "b.json").write_text(ARRAY, encoding="utf-8")
    subprocess.run(["bash", "-c", shell], check=True, capture_output=True, timeout=300)
    assert [content(tmp_path / place) for place in "abce"] == [POINTS] * 4
    assert not list(tmp_path.glob("*/imports/*"))


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("x.csv", cells(";").encode("latin-1"), ("row 1: not UTF-8 (byte 0xe9)", "--encoding", "latin-1")),
        ("x.csv", b"id,caf\xe9\n1,2\n", ("the header is not UTF-8 (byte 0xe9)", "--encoding")),
        ("x.jsonl", LINES.encode("latin-1"), ("row 1: not UTF-8 (byte 0xe9 at byte ", "--encoding")),
        ("x.json", ARRAY.encode("latin-1"), ("row 1: not UTF-8 (byte 0xe9)", "--encoding")),
        ("x.csv", cells(",").encode("utf-16-le"), ("zero bytes", "--encoding utf-16")),
        ("x.jsonl", LINES.encode("utf-16-le"), ("row 1: ", "zero bytes", "--encoding utf-16")),
        ("x.json", ARRAY.encode("utf-16-le"), ("row 1: not JSON", "--encoding utf-16")),
        ("x.json", b'[{"id": 1}, {"id": 2,}]', ("row 2: not JSON",)),
        ("x.json", b'[{"id": 1} {"id": 2}]', ("row 1 is followed by '{'",)),
        ("x.json", b'[{"id": 1, "n": 1}', ("is not closed",)),
        ("x.json", b'[{"id": 1, "n": 1}] x', ("more text after the array",)),
        ("x.json", b'[{"id": NaN}]', ("NaN",)),
        ("x.json", b"[" * 100_000, ("row 1: ",)),
        ("x.json", b"[3]", ("row 1: a row must be an object, not 3",)),
        ("x.jsonl", b"", ("has no rows",)),
        ("x.csv", b"id,n\n", ("has no rows",)),
        ("x.csv", b"id,id\n1,2\n", ("a column twice: 'id'",)),
        ("x.csv", b"key~n\n1~2\n", ("no column 'id'", "key~n", "--separator")),
        ("x.csv", b"key,n\n1,2\n", ("no column 'id'; columns: key, n", "--id-field")),
        ("x.csv", b'id,n\n"1,2', ("not CSV at line",)),
        ("x.csv", b"id,n\n1,2,3\n", ("row 1: 3 cells under 2 column names", "--separator")),
        ("x.dat", b"", (".jsonl", "--format")),
        ("x.parquet", b"PAR?", ("not a Parquet file",)),
        ("x.arrow", b"ARROW?", ("not an Arrow file",)),
        ("x.jsonl", b'{"id": 1, "o": {"a": 1}}', ("column o: 1 object", "--attribute", "--schema")),
    ],
)
def test_a_file_that_can_not_be_read_says_why_and_makes_nothing(name, data, says, tmp_path, capsys):
    (tmp_path / name).write_bytes(data)
    assert main(["import", str(tmp_path / "d"), "c", str(tmp_path / name), "--create"]) == 1
    said = capsys.readouterr().err
    assert all(words in said for words in says), said
    assert not (tmp_path / "d").exists()


# ---- Size ----


def rows_of(path, **how):
    return list(Source(path, **how).rows())


@pytest.mark.parametrize("zipped", [False, True])
def test_a_row_too_large_is_set_aside_before_it_is_parsed(zipped, tmp_path):
    path = tmp_path / ("x.jsonl.gz" if zipped else "x.jsonl")
    large = b'{"id": 2, "numbers": [' + b"0.5, " * 4_000_000 + b"1]}"  # 20 MB
    data = b'{"id": 1}\n' + large + b'\n{"id": 3}\n' + large
    path.write_bytes(gzip.compress(data, 1) if zipped else data)
    del data, large
    tracemalloc.start()
    found = rows_of(path, max_row_bytes=100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [row.number for row in found] == [0, 1, 2, 3] and [row.record for row in found] == [{"id": 1}, None, {"id": 3}, None]
    assert found[1].error.startswith("has 20,000,026 bytes, more than --max-row-bytes (100,000); ")
    assert found[3].text.startswith('{"id": 2') and len(found[3].text) < 300
    assert peak < 5_000_000


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.json", b'[{"id": 1, "t": "' + b"x" * 5_000_000 + b'"}]'),
        ("x.json", b'[{"id": 1, "t": [' + b"1," * 2_500_000 + b"1]}]"),
        ("x.csv", b"id,t\n1," + b"x" * 5_000_000 + b"\n"),
        ("x.csv", b'id,t\n1,"' + b"x\n" * 2_500_000 + b'"\n'),
        ("x.csv", b"id,t\n1" + b"," * 5_000_000 + b"\n"),
    ],
)
def test_a_row_too_large_ends_files_in_which_the_next_one_can_not_be_found(name, data, tmp_path):
    (tmp_path / name).write_bytes(data)
    del data
    tracemalloc.start()
    with pytest.raises(LimitError, match=r"row 1: has more bytes than --max-row-bytes \(100,000\)"):
        rows_of(tmp_path / name, max_row_bytes=100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_row_of_just_the_size_is_taken(tmp_path):
    line = b'{"id": 1}'
    (tmp_path / "x.jsonl").write_bytes(line + b"\n" + line)
    assert [row.error for row in rows_of(tmp_path / "x.jsonl", max_row_bytes=len(line))] == [None, None]
    assert rows_of(tmp_path / "x.jsonl", max_row_bytes=len(line) - 1)[0].error is not None


def test_the_command_refuses_a_row_by_size_or_sets_it_aside(tmp_path, capsys):
    (tmp_path / "x.jsonl").write_bytes(b'{"id": 1, "n": 1}\n{"id": 2, "n": "' + b"x" * 5000 + b'"}\n{"id": 3, "n": 3}\n')
    words = ["import", str(tmp_path / "d"), "c", str(tmp_path / "x.jsonl"), "--create", "--max-row-bytes", "1000"]
    assert main(words) == 1
    assert "row 2: has 5,019 bytes, more than --max-row-bytes (1,000)" in capsys.readouterr().err
    assert main([*words, "--rejects", str(tmp_path / "r.jsonl")]) == 0
    assert [point[0] for point in content(tmp_path / "d")] == [1, 3]


def test_large_rows_make_small_batches(tmp_path, monkeypatch):
    from vectordb.transfer import load

    monkeypatch.setattr(load, "_BATCH_BYTES", 10_000)
    rows = [{"id": i, "t": "x" * 3000} for i in range(20)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with vectordb.open(tmp_path / "d") as database:
        collection = database.create_collection("c", Schema({}, {"n": Int()}))
        import_points(collection, tmp_path / "x.jsonl")
        assert collection.count() == 20 and collection.info().sequence == 5


# ---- What becomes of a column ----


def lines(tmp_path, rows, **options):
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    found = infer(tmp_path / "x.jsonl", **options)
    return {column.name: str(column) for column in found.columns}, found.schema


def test_a_line_a_column_says_what_it_holds_and_what_becomes_of_it(tmp_path):
    rows = [
        {
            "id": i,
            "price": "n/a" if i == 5 else i + 0.5,
            "size": 12.5 if i == 7 else i,
            "added": "yesterday" if i == 9 else "2024-05-06",
            "tags": "a" if i == 11 else ["a"],
            "unit price": i,
            "word": "x",
            "emb": [0.5] * (15 if i == 13 else 16),
            "vec": [0.5] * 16,
            "ragged": [0.5] * (i % 20),
            "deep": {"a": i},
            "never": None,
            "big": 2**64,
            "late": True if i == 299 else None,
        }
        for i in range(300)
    ]
    said, schema = lines(tmp_path, rows)
    assert said["price"].startswith('price: 299 float, 1 text ("n/a", row 6) → payload') and "--attribute price=float" in said["price"]
    assert said["size"] == "size: 299 int, 1 float (12.5, row 8) → float"
    assert said["added"].startswith('added: 299 datetime, 1 text ("yesterday", row 10) → keyword')
    assert (
        said["tags"].startswith('tags: 299 list of text, 1 text ("a", row 12) → payload') and "--attribute tags=keyword[]" in said["tags"]
    )
    assert said["unit price"].startswith("unit price: 300 int → payload (not a valid attribute name")
    assert said["word"] == "word: 300 text → keyword" and said["vec"] == "vec: 300 vector of 16 → dense of 16"
    assert "1 vector of 15" in said["emb"] and "→ payload" in said["emb"] and "--vector-field emb=emb" in said["emb"]
    assert said["ragged"].endswith("→ float[]") and said["deep"] == "deep: 300 object → payload" and said["never"].endswith("→ payload")
    assert said["big"] == "big: 300 big int → payload" and said["late"] == "late: 1 bool → bool"
    assert set(said) == set(rows[0]) - {"id"}, "no column is lost without a word"
    ragged = {"ragged": Float(array=True)}
    assert schema == Schema({"vec": Dense(16)}, {"size": Float(), "added": Keyword(), "word": Keyword(), "late": Bool()} | ragged)


def test_a_value_far_behind_counts_as_much_as_the_first(tmp_path):
    said, schema = lines(tmp_path, [{"id": i, "n": i if i < 19_999 else "last"} for i in range(20_000)] + [{"id": -1, "w": "x"}])
    assert said["n"].startswith('n: 19,999 int, 1 text ("last", row 20,000) → payload') and list(schema.attributes) == ["w"]


def test_keys_that_are_data_fill_neither_the_schema_nor_the_memory(tmp_path):
    from vectordb_client.model.schema import MAX_FIELDS

    rows = [{"id": i, **{f"k{i * 10 + j}": j for j in range(10)}, "body": "words"} for i in range(400)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = infer(tmp_path / "x.jsonl", text=["body"])
    assert len(found.schema.attributes) == len(found.columns) == 2000 < MAX_FIELDS and found.more == 2001


def test_a_type_that_is_told_decides(tmp_path, capsys):
    rows = [{"id": i, "price": "n/a" if i == 5 else i + 0.5, "code": str(i), "note": "x"} for i in range(30)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["import", str(tmp_path / "d"), "c", str(tmp_path / "x.jsonl"), "--create"]
    types = ["--attribute", "price=float", "--attribute", "code=text", "--attribute", "note=payload"]
    assert main([*words, *types]) == 1
    said = capsys.readouterr().err
    assert 'price: 29 float, 1 text ("n/a", row 6) → float, as requested' in said
    assert "row 6: price must be a number, not 'n/a'" in said and "--rejects" in said
    assert main([*words, *types, "--rejects", str(tmp_path / "r.jsonl")]) == 0
    reject = json.loads((tmp_path / "r.jsonl").read_text())
    assert reject["row"] == 6 and "price must be a number" in reject["error"] and reject["record"] == rows[5]
    with vectordb.open(tmp_path / "d") as database:
        collection = database.collection("c")
        assert {name: spec.kind for name, spec in collection.schema.attributes.items()} == {"price": "float", "code": "text"}
        assert collection.count("price < 4") == 4 and collection.get(0).payload == {"note": "x"}
    assert main([*words, "--attribute", "price=int"]) == 1
    assert "there it is float" in capsys.readouterr().err
    for text in ("number", "float[", "payload[]"):
        with pytest.raises(InvalidArgumentError, match="keyword, text, int"):
            attribute_type(text)
    assert attribute_type("keyword[]") == Keyword(array=True) and attribute_type("payload") is None
    with pytest.raises(SchemaError, match="no column 'prize' for attribute 'prize'; columns: price, code, note"):
        infer_schema(tmp_path / "x.jsonl", attributes={"prize": Float()})


def test_an_attribute_of_no_one_type_in_full_records_is_named(tmp_path):
    rows = [{"id": i, "attributes": {"price": 1.5 if i else "n/a", "never": None, "n": i}} for i in range(3)]
    with pytest.raises(SchemaError, match=r"'price'.*2 float, 1 text \(\"n/a\", row 1\).*--attribute price="):
        lines(tmp_path, rows)
    rows[0]["attributes"]["price"] = 2.5
    _, schema = lines(tmp_path, rows)
    assert schema.attributes == {"price": Float(), "n": Int()}
    with vectordb.open(tmp_path / "d") as database:
        collection = database.create_collection("c", schema)
        assert import_points(collection, tmp_path / "x.jsonl").written == 3


# ---- Parquet and Arrow ----


def table():
    pa = pytest.importorskip("pyarrow")
    return pa.table(
        {
            "id": ["a", "b", "c"],
            "vec": pa.array([[0.5] * 8, [1.0] * 8, None], pa.list_(pa.float32())),
            "fixed": pa.array([[0.5] * 9, [1.0] * 9, [2.0] * 9], pa.list_(pa.float16(), 9)),
            "price": pa.array([Decimal("1.50"), None, Decimal("2")], pa.decimal128(10, 2)),
            "missing": pa.array([1.5, float("nan"), None]),
            "day": pa.array([date(2024, 1, 2), None, None]),
            "at": pa.array([datetime(2024, 1, 2, 3), None, None], pa.timestamp("ns")),
            "word": pa.array(["x", None, "y"]).dictionary_encode(),
            "nested": pa.array([{"a": {"b": 1}}, None, {"a": None}]),
            "structs": pa.array([[{"a": 1}], [], None]),
            "raw": pa.array([b"\x00", None, b"y"]),
            "n": pa.array([1, None, 3], pa.uint8()),
        }
    )


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.feather", "stream.arrow"])
def test_columns_of_other_programs_are_taken(name, tmp_path, capsys):
    made, path = table(), tmp_path / name
    import pyarrow as pa
    import pyarrow.feather
    import pyarrow.parquet

    if name.endswith("parquet"):
        pyarrow.parquet.write_table(made, path)
    elif name.endswith("feather"):
        pyarrow.feather.write_feather(made, path)
    else:
        with (pa.ipc.new_stream if name.startswith("stream") else pa.ipc.new_file)(path, made.schema) as writer:
            writer.write_table(made)
    assert main(["import", str(tmp_path / "d"), "c", str(path), "--create"]) == 0
    said = capsys.readouterr().err
    assert "nested: 2 object → payload" in said and "raw: 2 bytes → payload" in said and "vec: 2 vector of 8 → dense of 8" in said
    with vectordb.open(tmp_path / "d") as database:
        collection = database.collection("c")
        kinds = {"price": Float(), "missing": Float(), "day": Datetime(), "at": Datetime(), "word": Keyword(), "n": Int()}
        assert collection.schema == Schema({"vec": Dense(8), "fixed": Dense(9)}, kinds)
        first, second = collection.get(["a", "b"], with_vectors=True)
        assert first.attributes["price"] == 1.5 and first.attributes["at"] == datetime(2024, 1, 2, 3, tzinfo=UTC)
        assert all(value is None for value in second.attributes.values()) and first.payload["nested"] == {"a": {"b": 1}}
        assert np.array_equal(second.vectors["vec"], np.ones(8)) or np.allclose(second.vectors["vec"], 1 / np.sqrt(8))


def test_a_source_says_what_it_can_not_take(tmp_path):
    for how, says in (({"format": "xml"}, "jsonl, json, csv"), ({"encoding": "hex"}, "latin-1"), ({"separator": "ab"}, "one character")):
        with pytest.raises(InvalidArgumentError, match=says):
            Source(tmp_path / "x.csv", **how)
    assert Source(tmp_path / "x.csv", separator="tab").separator == "\t"
    assert [row.record for row in Source(tmp_path, "jsonl", stream=spooled(b'{"id": 1}')).rows()] == [{"id": 1}]


def spooled(data):
    import tempfile

    stream = tempfile.TemporaryFile()
    io.BufferedWriter.write(stream, data) if isinstance(stream, io.BufferedWriter) else stream.write(data)
    stream.flush()
    return stream
