"""``vectordb search``, ``get``, ``count`` and ``drop``: on a directory and on a running service, for people and for scripts."""

import json
import subprocess
import sys
import uuid

import pytest
from vectordb_client.model.schema import Datetime, Dense, Int, Keyword, MultiVector, Schema, Sparse, Text

import vectordb
from vectordb.cli import main
from vectordb.cli.points import id_word, read_id_word
from vectordb.server.main import start

UUID = uuid.UUID(int=5)
BODIES = ["red running shoes", "blue shoes", "green hat " * 30, None, "red hat"]
SCHEMA = Schema(
    {"v": Dense(3), "s": Sparse(), "m": MultiVector(2), "t": Sparse(encoder="bm25", source="body", weighting="idf")},
    {"body": Text(), "n": Int(), "tag": Keyword(), "when": Datetime()},
)


def fill(database):
    collection = database.create_collection("docs", SCHEMA)
    collection.upsert(
        ids=[1, 2, "17", "a b", UUID],
        vectors={"v": [[1, 0, n] for n in range(5)], "s": [{n: 1.0} for n in range(5)], "m": [[[1, n]] for n in range(5)]},
        attributes={"body": BODIES, "n": list(range(5)), "tag": ["a", "b", "a", "b\x1b[31m", "ü"], "when": ["2020-01-01T00:00:00Z"] * 5},
        payload=[{"a": 1}, None, None, None, None],
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("read") / "data"
    with vectordb.open(path) as database:
        fill(database)
    return path


@pytest.fixture(scope="module", params=["directory", "service"])
def place(request, data):
    if request.param == "directory":
        yield [str(data)]
        return
    with vectordb.open(data, maintenance=False) as database:
        server, port = start(database, port=0, slow_query_ms=0)
        try:
            yield ["--target", f"127.0.0.1:{port}"]
        finally:
            server.stop(1).wait()


@pytest.fixture
def run(place, capsys):
    """run(command, words …) → (exit code, stdout, stderr)"""

    def run(command, *words):
        code = main([command, *place, "docs", *words])
        out, said = capsys.readouterr()
        return code, out, "".join(line for line in said.splitlines(True) if "compiling" not in line)

    return run


def hits(run, *words):
    code, out, said = run("search", *words, "--json")
    assert code == 0 and said == ""
    return [json.loads(line) for line in out.splitlines()]


def test_search_by_text_is_the_search_of_the_api(run, data):
    found = hits(run, "red", "shoes")
    with vectordb.open(data, read_only=True, maintenance=False) as database:
        wanted = database.collection("docs").search(text="red shoes")
    assert [hit["id"] for hit in found] == [{"uuid": str(hit.id)} if hit.id == UUID else hit.id for hit in wanted]
    assert found[0]["id"] == 1 and len(found) == 3
    assert [hit["score"] for hit in found] == pytest.approx(wanted.scores.tolist())
    assert found[0]["attributes"] == {"body": "red running shoes", "n": 0, "tag": "a", "when": "2020-01-01T00:00:00+00:00"}
    assert found[0]["payload"] == {"a": 1} and "vectors" not in found[0]


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["--vector", "v=[1, 0, 2]", "--limit", "1"], ["17"]),
        (["--vector", "[1, 0, 2]", "--field", "v", "--limit", "1"], ["17"]),
        (["--vector", '{"1": 2.5}', "--field", "s", "--limit", "1"], [2]),
        (["--vector", 's={"indices": [3], "values": [1]}', "--limit", "1"], ["a b"]),
        (["--vector", "m=[[0, 1]]", "--limit", "1"], [{"uuid": str(UUID)}]),
        (["--vector", "v=[1, 0, 0]", "--vector", 's={"0": 1}', "--limit", "1"], [1]),
        (["hat", "--field", "t", "--filter", "n > 2"], [{"uuid": str(UUID)}]),
        (["--vector", "v=[1, 0, 0]", "--exact", "--recall", "1", "--limit", "2"], [1, 2]),
        (["zebra"], []),
    ],
)
def test_search_by_vectors_fields_and_filters(run, words, first):
    assert [hit["id"] for hit in hits(run, *words)] == first


def test_search_takes_a_vector_from_a_file(run, tmp_path):
    (tmp_path / "q.json").write_text("[1, 0, 2]\n")
    assert hits(run, "--vector", f"v=@{tmp_path}/q.json", "--limit", "1")[0]["id"] == "17"
    code, _, said = run("search", "--vector", f"v=@{tmp_path}/none.json")
    assert code == 1 and said.startswith("vectordb: can't read") and said.count("\n") == 1


def test_search_shows_the_columns_vectors_and_plan_that_are_asked_for(run):
    *found, plan = hits(run, "red", "--columns", "n,tag", "--with-vectors", "--explain")
    assert found[0]["attributes"] == {"n": 4, "tag": "ü"} and found[0]["vectors"]["v"] == [1.0, 0.0, 4.0]
    assert set(found[0]["vectors"]["t"]) == {"indices", "values"}
    assert set(plan) == {"plan"} and plan["plan"]["arms"][0]["field"] == "t"


def test_search_reads_pages_orders_and_bounds(run):
    vector = ["--vector", "v=[1, 0, 2]"]
    whole = [hit["id"] for hit in hits(run, *vector)]
    *first, following = hits(run, *vector, "--limit", "2", "--next")
    code, out, _ = run("search", *vector, "--limit", "2", "--next")
    assert code == 0 and out.splitlines()[-1] == following["next"]
    second = hits(run, *vector, "--limit", "3", "--cursor", following["next"], "--next")
    assert [hit["id"] for hit in first + second[:3]] == whole and "next" in second[3]
    assert [hit["id"] for hit in hits(run, *vector, "--offset", "3")] == whole[3:]
    assert [hit["id"] for hit in hits(run, "--order-by=-tag,n")] == [{"uuid": str(UUID)}, "a b", 2, 1, "17"]
    assert [hit["id"] for hit in hits(run, *vector, "--min-score", "0.9")] == whole[:4]
    assert [hit["score"] for hit in hits(run, *vector, "--score", "calibrated")] == [0.8, 0.6, 0.4, 0.2, 0.0]
    assert hits(run, *vector, "--limit", "auto")[0]["id"] == "17"
    for words in (["--offset", "-1"], ["--min-score", "high"], ["--limit", "0"]):
        with pytest.raises(SystemExit):
            run("search", *vector, *words)


def test_search_prints_a_table_that_drives_no_terminal(run):
    code, out, said = run("search", "--vector", "v=[1,0,3]", "--explain", "--columns", "body,tag")
    table, plan = out.split("\n\n", 1)
    lines = table.splitlines()
    assert code == 0 and said == "" and plan.startswith("1 query over 5 live rows")
    assert lines[0].split() == ["id", "score", "body", "tag", "payload"] and len(lines) == 6
    assert any(line.startswith(f"uuid:{UUID}") for line in lines) and any(line.startswith('"17"') for line in lines)
    assert "\x1b" not in out and "b\\x1b[31m" in out and "green hat green hat" in out and "…" in out
    code, out, said = run("search", "zebra")
    assert (code, out, said) == (0, "", "no hits\n")


def test_get_shows_points_by_ids_of_every_type(run):
    code, out, said = run("get", "1", '"17"', "a b", f"uuid:{UUID}", "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and said == "" and [record["id"] for record in records] == [1, "17", "a b", {"uuid": str(UUID)}]
    code, out, said = run("get", "1", "--columns", "n")
    assert code == 0 and [line.split() for line in out.split("\n\n")[0].splitlines()] == [
        ["id", "1"],
        ["version", "1"],
        ["n", "0"],
        ["payload", '{"a":1}'],
    ]
    code, out, said = run("get", "2", "--with-vectors")
    assert code == 0 and "[1.0,0.0,1.0]" in out


def test_get_says_which_points_are_missing(run):
    code, out, said = run("get", "2", "99", "none", "--json")
    assert code == 1 and json.loads(out)["id"] == 2 and said == "vectordb: collection 'docs' has no points 99, none\n"
    code, out, said = run("get", "17")
    assert code == 1 and out == "" and "the string '17' exists: write '\"17\"'" in said
    code, out, said = run("get", "uuid:5")
    assert code == 1 and out == "" and "'uuid:5' is not a UUID" in said and said.count("\n") == 1


def test_count_prints_a_number(run):
    assert run("count") == (0, "5\n", "")
    assert run("count", "--filter", "n >= 3") == (0, "2\n", "")
    code, out, _ = run("count", "--filter", "tag = 'a'", "--json")
    assert code == 0 and json.loads(out) == {"collection": "docs", "filter": "tag = 'a'", "count": 2}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("search|--vector|[1, 2, 3]", "write --vector FIELD=VECTOR; vector fields: v, s, m, t"),
        ("search|--vector|1, 2, 3", "FIELD=VECTOR"),
        ("search|--vector|v=[1, 2", "not JSON"),
        ("search|--vector|x=[1, 2]", "'x'"),
        ("search|--vector|v=[1, 2]", "v"),
        ("search|--vector|v=[1, 2, 3]|--vector|v=[1, 2, 3]", "twice"),
        ("search|red|--field|nope", "'nope'"),
        ("search|red|--columns|nope", "'nope'"),
        ("search|red|--filter|id = 1", "HAS_ID"),
        ("count|--filter|n >", "vectordb: filter, column 4: expected a value, but the filter ends here\n"),
        ("count|--filter|n > 1\nAND n <", "vectordb: filter, line 2, column 8: expected a value, but the filter ends here\n"),
        ("search|red|--filter|n = 978-0", "found '-0'; a string needs quotes\n"),
        ('search|--vector|s={"a": 1}', 'its terms must be integers, as in {"17": 0.5}'),
    ],
)
def test_what_is_wrong_is_one_line_and_1(run, words, says):
    code, out, said = run(*words.split("|"))
    assert code == 1 and out == "" and said.startswith("vectordb: ") and says in said and said.count("\n") == 1


def test_reading_commands_work_while_another_process_writes(data, run):
    code = f"import vectordb; d = vectordb.open({str(data)!r}); d.collection('docs'); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "open\n"
        assert run("count")[:2] == (0, "5\n") and run("get", "1")[0] == 0 and len(hits(run, "shoes")) == 2
        writer.communicate("\n")


def test_drop_on_a_service(tmp_path, capsys):
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        fill(database)
        server, port = start(database, port=0, slow_query_ms=0)
        try:
            assert main(["drop", "--target", f"127.0.0.1:{port}", "docs"]) == 0
        finally:
            server.stop(1).wait()
        assert "dropped collection 'docs' with 5 points" in capsys.readouterr().err
        assert database.collections() == []


def test_facets_count_values(run):
    code, out, _ = run("facets", "tag", "n", "--filter", "n < 4", "--limit", "2")
    assert code == 0 and out.splitlines()[1:5] == ["tag", "  2  a", "  1  b", "  1 more, 0 of 4 points without a value"]
    code, out, _ = run("facets", "tag", "--prefix", "b")
    assert "1  b\\x1b[31m" in out and "\x1b" not in out
    code, out, _ = run("facets", "tag", "--prefix", "b", "--json")
    counts = [{"value": "b", "count": 1}, {"value": "b\x1b[31m", "count": 1}]
    assert json.loads(out) == {"facet": "tag", "counts": counts, "points": 5, "missing": 0, "distinct": 2}
    code, out, _ = run("search", "shoes", "--facets", "tag,n", "--limit", "1", "--json")
    assert [json.loads(line).get("facet") for line in out.splitlines()] == [None, "tag", "n"]
    assert "2  a" in run("search", "shoes", "--facets", "tag")[1]


def test_facets_refuse_what_is_not_an_attribute(run):
    code, _, error = run("facets", "tga")
    assert code == 1 and "ATTRIBUTE: no attribute 'tga'; did you mean tag?" in error


@pytest.mark.parametrize("point_id", [0, 17, 2**64 - 1, "17", "017", "a b", " a", "uuid:x", '"a"', '{"uuid": 1}', "é", "a\nb", UUID])
def test_an_id_that_is_shown_can_be_written(point_id):
    word = id_word(point_id)
    back = read_id_word(word)
    assert back == point_id and type(back) is type(point_id) and word.isprintable()


def test_json_of_get_is_what_import_reads(data, tmp_path, capsys):
    assert main(["get", str(data), "docs", "1", f"uuid:{UUID}", "--json", "--with-vectors"]) == 0
    (tmp_path / "points.jsonl").write_text(capsys.readouterr().out)
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA.to_dict()))
    words = [
        "import",
        str(tmp_path / "copy"),
        "docs",
        str(tmp_path / "points.jsonl"),
        "--create",
        "--schema",
        str(tmp_path / "schema.json"),
    ]
    assert main(words) == 0
    with vectordb.open(data, read_only=True) as one, vectordb.open(tmp_path / "copy") as two:
        for point_id in (1, UUID):
            a, b = (database.collection("docs").get(point_id, with_vectors=["v"]) for database in (one, two))
            assert (a.attributes, a.payload, a.vectors["v"].tolist()) == (b.attributes, b.payload, b.vectors["v"].tolist())


def test_aggregates_of_attributes(run):
    code, out, _ = run("aggregate", "n=min,max,p50", "tag", "--filter", "n < 3")
    assert (code, out) == (0, "n\n  min  0\n  max  2\n  p50  1.0\ntag\n  count     3\n  distinct  2\n  min       a\n  max       b\n")
    code, out, _ = run("aggregate", "n=sum", "when=max", "n=mean", "--json")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"attribute": "n", "sum": 10, "mean": 2.0},
        {"attribute": "when", "max": "2020-01-01T00:00:00+00:00"},
    ]
    assert "  min  -" in run("aggregate", "n=min", "--filter", "n > 90")[1]
    assert "\x1b" not in run("aggregate", "tag=max", "--filter", "n = 3")[1]
    for words, text in ((["nn=min"], "no attribute 'nn'"), (["n=least"], "no function 'least'"), (["tag=sum"], "can't take 'sum'")):
        code, _, error = run("aggregate", *words)
        assert code == 1 and text in error


def test_search_by_examples_and_other_options(run):
    def found(*words):
        code, out, _ = run("search", *words, "--json")
        assert code == 0
        return [json.loads(line)["id"] for line in out.splitlines()]

    assert found("--like", "1,a b", "--unlike", "2", "--pool", "max") == [{"uuid": str(UUID)}, "17"]
    assert found("--vector", "v=[1, 0, 0]", "--diversity", "1", "--limit", "2") != found("--vector", "v=[1, 0, 0]", "--limit", "2")
    fused = "shoes", "--vector", "v=[1, 0, 0]", "--fusion", "relative", "--candidates", "3"
    for path, payload in (("a", {"a": 1}), ("b", None)):
        records = [json.loads(line) for line in run("search", *fused, "--with-payload", path, "--json")[1].splitlines()]
        assert [record.get("payload") for record in records if record["id"] == 1] == [payload]
    assert json.loads(run("get", "1", "--with-payload", "a", "--json")[1])["payload"] == {"a": 1}
    code, _, error = run("search", "shoes", "--vector", "v=[1, 0, 0]", "--fusion", "best")
    assert code == 1 and "best" in error


def test_inspect_shows_what_vectors_are_like(run):
    code, out, _ = run("inspect")
    assert code == 0 and out.startswith("v: 5 of 5 points, 3 dimensions, cosine") and "hubness" in out
    code, out, _ = run("inspect", "--field", "v", "--filter", "n > 1", "--sample", "10", "--json")
    facts = json.loads(out)
    assert code == 0 and facts["points"] == 3 and facts["field"] == "v" and facts["dead"] == [0, 1] and len(facts["hubs"]) == 3
    code, _, error = run("inspect", "--field", "s")
    assert code == 1 and "health is for dense fields, and 's' is sparse" in error


def test_duplicates_prints_pairs_and_groups(run):
    code, out, error = run("duplicates", "--min-score", "0.98", "--exact")
    assert code == 0 and [line.split("\t")[:2] for line in out.splitlines()] == [["a b", f"uuid:{UUID}"], ['"17"', "a b"]] and not error
    code, out, _ = run("duplicates", "--min-score", "0.98", "--groups", "--json")
    assert code == 0 and sorted(map(str, json.loads(out))) == sorted(map(str, ["17", "a b", {"uuid": str(UUID)}]))
    code, out, error = run("duplicates", "--min-score", "0", "--limit", "2", "--json")
    assert code == 0 and len(out.splitlines()) == 2 and json.loads(out.splitlines()[0])["score"] > 0.98
    assert "there are more than 2 pairs" in error
    with pytest.raises(SystemExit):
        run("duplicates")
    assert run("duplicates", "--radius", "1")[0] == 1
