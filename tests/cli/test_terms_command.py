"""Words of terms on the command line: imported, exported, copied, and files of them that are none."""

import json

import pytest
from vectordb_client.model.schema import Schema, Sparse, Text

import vectordb
from tests.support.command_line import filled, run


@pytest.fixture
def data(tmp_path):
    return filled(tmp_path / "data")


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
