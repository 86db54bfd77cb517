"""Points, hits and infos as dicts, JSON, data frames, HTML and text; formats that can be read back are lossless."""

from __future__ import annotations

import datetime
import json
import uuid

import numpy as np
import pandas
import polars
import pytest

import vectordb
from vectordb import (
    Bool,
    Datetime,
    Dense,
    Float,
    Geo,
    Hit,
    Hits,
    Int,
    InvalidArgumentError,
    Keyword,
    MultiVector,
    Page,
    Point,
    Schema,
    Sparse,
    Text,
    Uuid,
)

SCHEMA = Schema(
    vectors={"v": Dense(3), "h": Dense(2, "l2", dtype="float16"), "s": Sparse(), "m": MultiVector(2)},
    attributes={
        "k": Keyword(),
        "n": Int(),
        "x": Float(),
        "b": Bool(),
        "at": Datetime(),
        "body": Text(),
        "u": Uuid(),
        "place": Geo(),
        "tags": Keyword(array=True),
        "dates": Datetime(array=True),
        "score": Float(),
    },
)
KEY, OTHER = uuid.UUID(int=7), uuid.UUID(int=8)
NOON = datetime.datetime(2021, 5, 1, 12, 30, 0, 125, tzinfo=datetime.UTC)


@pytest.fixture
def docs(database):
    docs = database.create_collection("docs", SCHEMA)
    docs.upsert(
        ids=[1, "<b>a</b>", KEY],
        vectors={
            "v": np.array([[0.1, 0.2, 0.3], [1, 0, 0], [0, 1, 0]], np.float32),
            "h": [[0.1, 2], None, [1, 1]],
            "s": [{7: 1.5, 2**63: 0.1}, None, {3: -2.0}],
            "m": [[[1, 2], [3, 4]], None, [[0.1, 0.2]]],
        },
        attributes={
            "k": ["<script>alert(1)</script>", None, "c"],
            "n": [-(2**63), None, 2**63 - 1],
            "x": [0.1, None, -0.0],
            "b": [True, None, False],
            "at": [NOON, None, "+12345-01-01"],
            "body": ["x" * 500, None, ""],
            "u": [OTHER, None, KEY],
            "place": [(1.5, -2.25), None, (0, 0)],
            "tags": [["a", "ä"], None, []],
            "dates": [[NOON, NOON], None, []],
            "score": [1.0, None, 2.0],
        },
        payload=[{"a": [1, None, {"b": "ü"}]}, None, [1, 2.5, "x"]],
    )
    return docs


def same(one, other):
    """Points with equal ids, vectors (dtypes included), attributes and payloads."""

    def form(point):
        vectors = {name: _arrays(vector) for name, vector in point.vectors.items()}
        return point.id, type(point.id), vectors, dict(point.attributes), point.payload

    return [form(point) for point in one] == [form(point) for point in other]


def _arrays(vector):
    parts = vector if isinstance(vector, tuple) else (vector,)
    return [(part.dtype.str, part.shape, part.tolist()) for part in parts]


def test_points_are_written_again_from_dicts_and_from_json(docs, database):
    page = docs.scroll(with_vectors=True)
    for number, points in enumerate((page.to_dicts(), json.loads(page.to_json()), json.loads(page.to_json(indent=2)))):
        again = database.create_collection(f"again{number}", SCHEMA)
        again.upsert(points)
        assert same(again.scroll(with_vectors=True), page)
    single = database.create_collection("single", SCHEMA)
    single.upsert([json.loads(docs.get(KEY, with_vectors=True).to_json())])
    assert same(single, [docs.get(KEY)]) and KEY in single


def test_points_are_written_again_from_a_data_frame(docs, database):
    docs.delete([KEY])
    page = docs.scroll(with_vectors=True)
    again = database.create_collection("again", SCHEMA)
    again.upsert(page.to_pandas())
    assert same(again.scroll(with_vectors=True), page)


def test_dicts_of_hits_have_arms_and_vectors_only_where_there_are_some(docs):
    hits = docs.search({"v": [1, 0, 0]}, limit=1, with_attributes=["k"])
    assert hits.to_dicts() == [{"id": "<b>a</b>", "score": pytest.approx(1.0), "attributes": {}, "payload": None}]
    assert hits.to_dicts()[0] == hits[0].to_dict()
    several = docs.search({"v": [1, 0, 0], "s": {7: 1.0}}, with_vectors=["v"]).to_dicts()
    first = next(hit for hit in several if hit["id"] == 1)
    assert first["arms"]["s"]["rank"] == 1 and first["vectors"]["v"].dtype == np.float32


def test_json_of_hits_is_json(docs):
    hits = docs.search({"v": [1, 0, 0], "s": {7: 1.0}}, with_vectors=True)
    data = {json.dumps(hit["id"]): hit for hit in json.loads(hits.to_json())}
    assert set(data) == {"1", '"<b>a</b>"', json.dumps({"uuid": str(KEY)})}
    first = data["1"]
    assert first["attributes"]["at"] == "2021-05-01T12:30:00.000125+00:00" and first["attributes"]["u"] == str(OTHER)
    assert first["attributes"]["place"] == [1.5, -2.25] and first["vectors"]["m"] == [[1, 2], [3, 4]]
    assert first["vectors"]["s"] == {"indices": [7, 2**63], "values": [1.5, float(np.float32(0.1))]}
    assert json.loads(hits[0].to_json()) == json.loads(hits.to_json())[0]


def test_points_that_a_user_made_have_json_too():
    points = (Point(1, {"s": {3: 0.5}, "t": ([1], [2.0]), "v": [1, 2]}, {"d": datetime.date(2021, 1, 2)}, b"\x00\xff"), Point("a"))
    data = json.loads(Page(points, None).to_json())
    assert data[0]["vectors"] == {"s": {"indices": [3], "values": [0.5]}, "t": {"indices": [1], "values": [2.0]}, "v": [1, 2]}
    assert data[0]["payload"] == {"base64": "AP8="} and data[0]["attributes"] == {"d": "2021-01-02"}
    assert data[1] == {"id": "a", "vectors": {}, "attributes": {}, "payload": None, "version": None}
    for wrong in (Point(1, attributes={"x": float("nan")}), Point(1, payload=object()), Point(1, vectors={"v": object()})):
        with pytest.raises(InvalidArgumentError, match="JSON form"):
            wrong.to_json()


def test_frames_have_a_column_for_each_attribute_and_vector_field(docs):
    hits = docs.search({"v": [1, 0, 0]}, with_vectors=True)
    frame = hits.to_pandas()
    assert isinstance(frame, pandas.DataFrame) and list(frame.columns[:2]) == ["id", "score"]
    assert {"k", "attributes.score", "v", "s", "payload"} <= set(frame.columns) and len(frame) == 3
    at = frame["id"].tolist().index(1)
    assert frame["v"][at].tolist() == docs.get(1, with_vectors=True).vectors["v"].tolist() and frame["payload"][at] == {
        "a": [1, None, {"b": "ü"}]
    }
    table = hits.to_arrow()
    types = {name: str(table.schema.field(name).type) for name in ("id", "at", "u", "payload", "dates")}
    assert types == {
        "id": "string",
        "at": "timestamp[us, tz=UTC]",
        "u": "string",
        "payload": "string",
        "dates": "list<item: timestamp[us, tz=UTC]>",
    }
    rows = {row["id"]: row for row in table.drop_columns(["at"]).to_pylist()}  # Python has no datetime in the year 12345
    assert rows["1"]["s"] == {"indices": [7, 2**63], "values": [1.5, float(np.float32(0.1))]} and rows["1"]["m"] == [[1, 2], [3, 4]]
    assert json.loads(rows["1"]["payload"]) == {"a": [1, None, {"b": "ü"}]}
    same_table = hits.to_polars()
    assert isinstance(same_table, polars.DataFrame) and same_table.columns == table.column_names


def test_ids_of_bare_hits_are_integers_in_frames():
    hits = Hits.bare(np.array([2**64 - 1, 3], np.uint64), np.array([1.5, 0.5], np.float32))
    assert str(hits.to_arrow().schema.field("id").type) == "uint64" and hits.to_arrow().column("id").to_pylist() == [2**64 - 1, 3]
    assert hits.to_pandas()["score"].tolist() == [1.5, 0.5] and json.loads(hits.to_json())[0]["id"] == 2**64 - 1


def test_empty_results_have_every_form(docs):
    for empty in (docs.search({"v": [1, 0, 0]}, filter="n = 5"), docs.scroll(filter="n = 5")):
        assert empty.to_dicts() == [] and empty.to_json() == "[]" and len(empty.to_pandas()) == 0 and empty.to_arrow().num_rows == 0
        assert "<table>" in empty._repr_html_() and empty.to_polars().height == 0


def test_html_is_escaped_and_bounded(docs):
    for shown in (docs.scroll(with_vectors=True), docs.search({"v": [1, 0, 0]}, with_vectors=True)):
        html = shown._repr_html_()
        assert "<script" not in html and "<b>" not in html and "&lt;script&gt;" in html and "x" * 81 not in html
        assert html.count("<th>") == 8 and "more columns" in html
    names = {f"<i>{n}" * 40: "<u>" * 100 for n in range(30)}
    many = Hits([Hit(n, 0.5, names, {"<p>": 1}, {}, {}) for n in range(1000)])
    html = many._repr_html_()
    assert html.count("<tr>") == 21 and "980 more rows" in html and "<i>" not in html and "<u>" not in html
    assert len(html) < 40_000
    assert "<script" not in docs.info()._repr_html_()


def test_an_index_out_of_range_says_how_many_there_are(docs):
    for found, text in (
        (docs.search({"v": [1, 0, 0]}, limit=1), "there is no hit 5: the search found 1 hit"),
        (docs.scroll(), "there is no point 5: the page has 3 points"),
    ):
        with pytest.raises(IndexError, match=text):
            found[5]


def test_a_point_is_a_table_in_a_notebook(docs):
    html = docs.get("<b>a</b>")._repr_html_()
    assert html.startswith("<p>1 point</p><table>") and "<b>a</b>" not in html and "&lt;b&gt;a&lt;/b&gt;" in html


def test_facts_print_as_aligned_lines(docs):
    info = docs.info()
    lines = str(info).split("\n")
    assert lines[0].startswith("docs: 3 points, ") and lines[0].endswith("sequence 1")
    fields = [line for line in lines if line.startswith("  ")]
    assert len(fields) == len(SCHEMA.vectors) + len(SCHEMA.attributes)
    assert len({line.index(line.split()[1]) for line in fields}) == 1  # the kinds stand below one another
    assert all(len(line) < 140 for line in lines)
    assert "\n" not in repr(info)
    assert json.loads(json.dumps(info.to_dict()))["schema"] == SCHEMA.to_dict()


def test_counts_that_include_deleted_rows_say_so_until_optimize(tmp_path, capsys):
    from vectordb.cli import main

    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        made = database.create_collection("c", Schema({"words": Sparse(encoder="bm25", source="body")}, {"body": Text()}))
        made.upsert(ids=list(range(300)), attributes={"body": ["for"] * 300})
        assert "delet" not in str(made.info())
        made.delete(list(range(3, 300)))
        said = str(made.info())
        assert "c: 3 points" in said and "297 deleted rows not yet removed (the counts below include them, until optimize())" in said
        assert "most frequent (including deleted rows, until optimize()): for (300 rows)" in said and "300 rows" in said
    assert main(["info", str(tmp_path / "data")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "(the counts below include them, until optimize())" in shown and "most frequent (including deleted rows, until" in shown
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        database["c"].optimize()
        said = str(database["c"].info())
        assert "including" not in said and "most frequent: for (3 rows)" in said and "300" not in said


def test_reprs_are_one_line(docs):
    hits = docs.search({"v": [1, 0, 0]})
    for value in (hits, docs.scroll(), docs, docs.get(1), hits[0]):
        assert "\n" not in repr(value)
    assert repr(hits).startswith("Hits(3: '<b>a</b>': 1, ")
