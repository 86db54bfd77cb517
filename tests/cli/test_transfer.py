"""Import and export: every point is restored exactly in every format, bad rows are named, an interrupted import continues."""

import gzip
import json
import math
import uuid
from datetime import UTC, datetime

import numpy as np
import pytest
from vectordb_client.errors import InvalidArgumentError, SchemaError, StorageError
from vectordb_client.model.results import Point
from vectordb_client.model.schema import Bool, Datetime, Dense, Float, Geo, Int, Keyword, MultiVector, Schema, Sparse, Text, Uuid

import vectordb
from vectordb.transfer import Columns, export_points, import_points, infer_schema, state_file
from vectordb.transfer.forms import attribute_cell, cell_id, id_cell, read_cell

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")

KINDS = {"keyword": Keyword, "int": Int, "float": Float, "bool": Bool, "datetime": Datetime, "text": Text, "uuid": Uuid, "geo": Geo}
SCHEMA = Schema(
    vectors={"dense": Dense(5), "half": Dense(3, metric="l2", dtype="float16"), "sparse": Sparse(), "multi": MultiVector(4)},
    attributes={**{kind: make() for kind, make in KINDS.items()}, **{f"{kind}s": make(array=True) for kind, make in KINDS.items()}},
)
IDS = [
    0,
    7,
    2**64 - 1,
    "a",
    "7",
    "007",
    '{"uuid": 1}',
    '"',
    " b ",
    "line\nbreak",
    "ü🦊",
    uuid.UUID(int=5),
    uuid.UUID(int=2**127),
    "\\e",
    "nan",
]
VALUES = {
    "keyword": ["", "a", "\\e", "\\\\e", " x ", 'quo"te,', "null", "1", "é"],
    "int": [0, -(2**63), 2**63 - 1],
    "float": [0.1, -1e300, 5e-324, 3.0, 0.0],
    "bool": [True, False],
    "datetime": [datetime(2024, 2, 29, 12, 30, 1, 7, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)],
    "text": ["", "two\r\nlines\rand\n", "\x00\x1f", "a,b;'\"", "語"],
    "uuid": [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)],
    "geo": [(0.0, 0.0), (-90.0, 180.0), (48.858222, 2.2945)],
}
PAYLOADS = [None, {"a": [1, 2.5, None, {"b": "ü"}]}, "text", 7, [], {}, False, 2**63, {"payload": 1}, -0.5]


def points(seed=0, ids=IDS):
    """Points that have everything, something or nothing, with the awkward values of every kind."""
    rng = np.random.default_rng(seed)
    made = []
    for row, point_id in enumerate(ids):
        vectors = {
            "dense": rng.standard_normal(5).astype(np.float32),
            "half": rng.standard_normal(3).astype(np.float16),
            "sparse": (np.sort(rng.integers(0, 2**64, 4, dtype=np.uint64)), rng.random(4, dtype=np.float32)),
            "multi": rng.standard_normal((1 + row % 3, 4)).astype(np.float32),
        }
        attributes = {}
        for kind, values in VALUES.items():
            attributes[kind] = values[row % len(values)]
            attributes[f"{kind}s"] = [values[i % len(values)] for i in range(row, row + row % 4)]
        if row % 3 == 1:
            vectors = {name: v for i, (name, v) in enumerate(vectors.items()) if (row + i) % 2}
            attributes = {name: v for i, (name, v) in enumerate(attributes.items()) if (row + i) % 2}
        if row % 7 == 6:
            vectors, attributes = {}, {}
        made.append({"id": point_id, "vectors": vectors, "attributes": attributes, "payload": PAYLOADS[row % len(PAYLOADS)]})
    return made


def plain(value):
    """What can be compared with ==, telling 1 from 1.0 and True, and arrays by their bytes."""
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return (type(value).__name__, value)


def content(collection):
    """Everything in a collection, by id; versions are of the database they are in."""
    return {
        plain(p.id): (plain(dict(p.vectors)), plain(dict(p.attributes)), plain(p.payload)) for p in collection.iterate(with_vectors=True)
    }


@pytest.fixture
def database(tmp_path):
    with vectordb.open(tmp_path / "data") as database:
        yield database


@pytest.fixture
def full(database):
    collection = database.create_collection("full", SCHEMA)
    collection.upsert(points())
    return collection


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.csv", "out.csv.gz", "out.parquet", "OUT.NDJSON"])
def test_a_round_trip_reproduces_every_point(database, full, tmp_path, name):
    assert export_points(full, tmp_path / name, with_vectors=True) == len(IDS)
    copy = database.create_collection("copy", SCHEMA)
    result = import_points(copy, tmp_path / name)
    assert (result.written, result.rejected, result.resumed) == (len(IDS), 0, 0)
    assert content(copy) == content(full)


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_integer_ids_stay_integers(database, tmp_path, name):
    source = database.create_collection("source", SCHEMA)
    source.upsert(points(ids=list(range(1200)), seed=3))
    export_points(source, tmp_path / name, with_vectors=True)
    copy = database.create_collection("copy", SCHEMA)
    import_points(copy, tmp_path / name)
    assert content(copy) == content(source)
    if name.endswith("parquet"):
        assert pyarrow.parquet.read_schema(tmp_path / name).field("id").type == pyarrow.uint64()


def test_attributes_called_id_and_payload_have_columns_of_their_own(database, tmp_path):
    schema = Schema({"vector": Dense(2)}, {"id": Keyword(), "payload": Int(), "vectors": Text()})
    source = database.create_collection("source", schema)
    source.upsert([{"id": 1, "vectors": {"vector": [1, 2]}, "attributes": {"id": "x", "payload": 3, "vectors": "y"}, "payload": {"id": 9}}])
    for name in ("out.jsonl", "out.csv", "out.parquet"):
        export_points(source, tmp_path / name, with_vectors=True)
        copy = database.create_collection(name, schema)
        import_points(copy, tmp_path / name)
        assert content(copy) == content(source)


def test_an_export_can_be_filtered_and_leave_vectors_out(full, tmp_path):
    count = export_points(full, tmp_path / "out.jsonl", filter="bool = TRUE")
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert 0 < count == len(records) < len(IDS)
    assert all(r["attributes"]["bool"] is True and "vectors" not in r for r in records)


def test_a_failed_export_leaves_no_file(full, tmp_path):
    with pytest.raises(Exception, match="HAS_ID"):
        export_points(full, tmp_path / "out.csv", filter="id = 1")
    with pytest.raises(StorageError):
        export_points(full, tmp_path / "missing" / "out.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("name", ["x.txt", "x", "x.parquet.gz", "x.json"])
def test_a_format_that_is_not_known_is_refused(full, tmp_path, name):
    with pytest.raises(InvalidArgumentError, match="must end in"):
        export_points(full, tmp_path / name)


@pytest.mark.parametrize("value", IDS)
def test_an_id_survives_its_cell(value):
    assert plain(cell_id(id_cell(value))) == plain(value)


@pytest.mark.parametrize("kind", VALUES)
def test_a_value_survives_its_cell(kind):
    spec = KINDS[kind]()
    for value in VALUES[kind]:
        cell = attribute_cell(spec, value)
        assert plain(spec.coerce("x", read_cell("x", spec, cell))) == plain(spec.coerce("x", value))
    assert read_cell("x", spec, attribute_cell(spec, None)) is None


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_flat_rows_are_mapped_by_the_schema(database, tmp_path):
    collection = database.create_collection("c", Schema({"v": Dense(2), "s": Sparse()}, {"name": Keyword(), "n": Int(), "at": Datetime()}))
    row = {"key": "k1", "emb": [1, 2], "s": {"3": 0.5}, "name": "x", "n": 4, "at": "2024-01-01", "more": {"x": 1}, "other": "y"}
    import_points(collection, write(tmp_path / "in.jsonl", json.dumps(row)), columns=Columns("key", {"v": "emb"}))
    point = collection.get("k1", with_vectors=True)
    assert point.vectors["v"].tolist() == [1, 2] and point.vectors["s"][0].tolist() == [3]
    assert point.attributes["n"] == 4 and point.attributes["at"] == datetime(2024, 1, 1, tzinfo=UTC)
    assert point.payload == {"more": {"x": 1}, "other": "y"}


def test_cells_are_read_as_the_schema_says(database, tmp_path):
    schema = Schema({"v": Dense(2)}, {"n": Int(), "f": Float(), "b": Bool(), "g": Geo(), "tags": Keyword(array=True), "k": Keyword()})
    collection = database.create_collection("c", schema)
    text = 'id,n,f,b,g,tags,k,v,extra\n5,  7,1e3,Yes,"48.5, 2.25","[""a"",""b""]",7,"[1, 0.5]",e\nx,,,,,,,,\n'
    import_points(collection, write(tmp_path / "in.csv", text))
    first = collection.get(5, with_vectors=True)
    assert dict(first.attributes) == {"n": 7, "f": 1000.0, "b": True, "g": (48.5, 2.25), "tags": ["a", "b"], "k": "7"}
    assert first.vectors["v"].tolist() == [1, 0.5] and first.payload == {"extra": "e"}
    second = collection.get("x", with_vectors=True)
    assert not any(v is not None for v in second.attributes.values()) and not second.vectors


def test_rows_can_be_numbered(database, tmp_path):
    collection = database.create_collection("c", Schema({}, {"n": Int()}))
    import_points(collection, write(tmp_path / "in.csv", "n\n5\n6\n"), columns=Columns("#"))
    assert [(p.id, p.attributes["n"]) for p in collection.iterate()] == [(0, 5), (1, 6)]


def test_the_later_of_two_rows_with_one_id_wins(database, tmp_path):
    collection = database.create_collection("c", Schema({}, {"n": Int()}))
    rows = [{"id": i % 3, "n": i} for i in range(8)]
    result = import_points(collection, write(tmp_path / "in.jsonl", "\n".join(map(json.dumps, rows))))
    assert result.written == 8 and [p.attributes["n"] for p in collection.iterate()] == [6, 7, 5]


BAD = [
    ("{", "not JSON"),
    ('{"id": 1, "n": NaN}', "not JSON"),
    ("[1]", "must be an object"),
    ('{"n": 1}', "no id"),
    ('{"id": -1}', "not in 0"),
    ('{"id": [1]}', "an id is"),
    ('{"id": {"uuid": "x"}}', "uuid"),
    ('{"id": 2, "n": "many"}', "n must be an integer"),
    ('{"id": 2, "v": [1, 2, 3]}', "3 dimensions, not 2"),
    ('{"id": 2, "v": [0, 0]}', "all zeros"),
    ('{"id": 2, "vectors": {"w": [1, 2]}}', "no vector field 'w'"),
    ('{"id": 2, "payload": 5, "x": 1}', "not an object"),
]


@pytest.mark.parametrize(("line", "reason"), BAD)
def test_a_bad_row_stops_the_import_and_is_named(database, tmp_path, line, reason):
    collection = database.create_collection("c", Schema({"v": Dense(2)}, {"n": Int()}))
    source = write(tmp_path / "in.jsonl", f'{{"id": 1, "n": 1}}\n\n{line}\n')
    with pytest.raises(InvalidArgumentError, match=f"row 3: .*{reason}.*--rejects"):
        import_points(collection, source)


def test_bad_rows_are_set_aside_with_their_reasons(database, tmp_path):
    collection = database.create_collection("c", Schema({"v": Dense(2)}, {"n": Int()}))
    lines = []
    for i, (line, _) in enumerate(BAD):
        lines += [json.dumps({"id": 100 + i, "n": i, "v": [1, i]}), line]
    result = import_points(collection, write(tmp_path / "in.jsonl", "\n".join(lines)), rejects=tmp_path / "bad.jsonl")
    assert (result.written, result.rejected) == (len(BAD), len(BAD)) and collection.count() == len(BAD)
    rejects = sorted((json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()), key=lambda r: r["row"])
    assert [r["row"] for r in rejects] == [2 * i + 2 for i in range(len(BAD))]
    for reject, (line, reason) in zip(rejects, BAD, strict=True):
        assert reason in reject["error"]
        assert reject["record"] == (line if reason == "not JSON" else json.loads(line))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("id,n\n1,2,3\n", "3 cells under 2"),
        ("id,n\n1,x\n", "n must be an integer"),
        ("id,n\n,1\n", "no id"),
        ("id,v\n1,[1\n", "v is not JSON"),
    ],
)
def test_bad_csv_rows_are_named(database, tmp_path, text, reason):
    collection = database.create_collection("c", Schema({"v": Dense(2)}, {"n": Int()}))
    with pytest.raises(InvalidArgumentError, match=f"row 1: {reason}"):
        import_points(collection, write(tmp_path / "in.csv", text))


def test_files_that_are_not_what_they_are_called_are_refused(database, tmp_path):
    collection = database.create_collection("c", Schema({}, {"n": Int()}))
    for name, content_ in [("a.parquet", b"PAR?"), ("b.csv", b'id,n\n"1,2'), ("c.jsonl.gz", b"plain")]:
        (tmp_path / name).write_bytes(content_)
        with pytest.raises((InvalidArgumentError, StorageError)):
            import_points(collection, tmp_path / name)
    (tmp_path / "d.csv").write_bytes(b"id,n\n1,\xff\n")
    with pytest.raises(InvalidArgumentError, match="row 1: not UTF-8"):
        import_points(collection, tmp_path / "d.csv")


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("name", ["in.jsonl", "in.csv", "in.parquet"])
def test_an_interrupted_import_goes_on_where_it_was(database, tmp_path, monkeypatch, name):
    schema = Schema({}, {"n": Int()})
    rows = [{"id": i, "n": i} for i in range(4500)]
    source = tmp_path / name
    if name.endswith("jsonl"):
        lines = [json.dumps(r) for r in rows]
        lines[2200:2200] = ["bad"]
        lines[100:100] = ["bad"]
        write(source, "\n".join(lines))
    elif name.endswith("csv"):
        write(source, "id,n\n" + "".join("x\n" * (i in (100, 2200)) + f"{i},{i}\n" for i in range(4500)))
    else:
        table = [{"id": i, "n": None if i in (100, 2200) else i, "v": "x" if i in (100, 2200) else None} for i in range(4500)]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), source)
        schema = Schema({"v": Dense(1)}, {"n": Int()})
    collection = database.create_collection("c", schema)
    state, rejects = state_file(tmp_path / "data", "c", source), tmp_path / "bad.jsonl"
    upsert, calls = collection.upsert, []

    def failing(batch):
        calls.append(len(batch))
        if len(calls) > 3:
            raise Interrupted
        return upsert(batch)

    monkeypatch.setattr(collection, "upsert", failing)
    with pytest.raises(Interrupted):
        import_points(collection, source, state=state, rejects=rejects)
    assert state.exists() and 2900 < collection.count() < 3100
    monkeypatch.setattr(collection, "upsert", upsert)
    result = import_points(collection, source, state=state, rejects=rejects)
    assert result.resumed >= 2900 and result.written < 1600 and result.rejected == 2
    assert not state.exists()
    assert {p.id for p in collection.iterate()} >= set(range(4500)) - {100, 2200}
    assert len(rejects.read_text().splitlines()) == 2


def test_a_changed_file_is_imported_from_its_beginning(database, tmp_path):
    collection = database.create_collection("c", Schema({}, {"n": Int()}))
    source = write(tmp_path / "in.jsonl", "".join(json.dumps({"id": i, "n": i}) + "\n" for i in range(2500)) + "bad\n")
    state = state_file(tmp_path / "data", "c", source)
    with pytest.raises(InvalidArgumentError):
        import_points(collection, source, state=state)
    assert json.loads(state.read_text())["row"] == 2000
    write(source, source.read_text().removesuffix("bad\n") + '{"id": 9999, "n": 1}\n')
    assert import_points(collection, source, state=state).resumed == 0
    assert collection.count() == 2501


def test_a_damaged_state_file_starts_over(database, tmp_path):
    collection = database.create_collection("c", Schema({}, {"n": Int()}))
    source = write(tmp_path / "in.jsonl", '{"id": 1}')
    state = tmp_path / "state.json"
    state.write_text('{"about":')
    assert import_points(collection, source, state=state).written == 1


def test_a_schema_is_inferred_from_rows(tmp_path):
    rows = [
        {
            "id": i,
            "vec": [0.1] * 16,
            "sp": {"indices": [1], "values": [0.5]},
            "mv": [[0.5] * 8] * 2,
            "n": i,
            "f": i if i else 0.5,
            "b": True,
            "at": "2024-05-06T07:08:09+00:00",
            "day": "2024-05-06",
            "u": str(uuid.UUID(int=i)),
            "word": "blue",
            "prose": "many words " * 20,
            "tags": ["a"],
            "pair": [1.5, 2],
            "mixed": 1 if i else "one",
            "object": {"x": 1},
            "not a name": 1,
            "never": None,
        }
        for i in range(3)
    ]
    schema = infer_schema(write(tmp_path / "in.jsonl", "\n".join(map(json.dumps, rows))))
    assert schema.vectors == {"vec": Dense(16), "sp": Sparse(), "mv": MultiVector(8)}
    assert schema.attributes == {
        "n": Int(),
        "f": Float(),
        "b": Bool(),
        "at": Datetime(),
        "day": Datetime(),
        "u": Uuid(),
        "word": Keyword(),
        "prose": Text(),
        "tags": Keyword(array=True),
        "pair": Float(array=True),
    }


def test_a_schema_is_inferred_from_cells(tmp_path):
    text = 'id,n,f,b,word,emb,empty\n1,1,1,true,x,"[1, 2, 3]",\n2,2,2.5,false,007,"[1, 2, 4]",\n'
    schema = infer_schema(write(tmp_path / "in.csv", text), Columns(vectors={"v": "emb"}))
    assert schema.vectors == {"v": Dense(3)}
    assert schema.attributes == {"n": Int(), "f": Float(), "b": Bool(), "word": Keyword()}


def test_a_full_record_names_its_sections(tmp_path):
    rows = [{"id": 1, "vectors": {"v": [1.0, 2.0]}, "attributes": {"a": 1}, "payload": {"b": 2}}]
    assert infer_schema(write(tmp_path / "in.jsonl", json.dumps(rows[0]))) == Schema({"v": Dense(2)}, {"a": Int()})


def test_a_parquet_export_carries_its_schema(full, tmp_path):
    export_points(full, tmp_path / "out.parquet")
    assert infer_schema(tmp_path / "out.parquet") == SCHEMA


def test_text_columns_get_encoded_fields(tmp_path):
    pytest.importorskip("wordllama")
    source = write(tmp_path / "in.csv", "id,body\n1,hello\n")
    schema = infer_schema(source, None, ["body"], ["bm25(k1=1.5)", "wordllama(dim=64)"])
    assert schema.attributes == {"body": Text()}
    assert schema.vectors == {
        "body_bm25": Sparse(weighting="idf", encoder="bm25(k1=1.5)", source="body"),
        "body_wordllama": Dense(64, encoder="wordllama(dim=64)", source="body"),
    }


def test_columns_that_are_missing_are_named(tmp_path):
    source = write(tmp_path / "in.csv", "id,body\n1,hello\n")
    with pytest.raises(SchemaError, match="no column 'nope'"):
        infer_schema(source, None, ["nope"])
    with pytest.raises(SchemaError, match="no column 'emb' for vector field 'v'"):
        infer_schema(source, Columns(vectors={"v": "emb"}))
    with pytest.raises(SchemaError, match="does not hold vectors"):
        infer_schema(source, Columns(vectors={"v": "body"}))
    with pytest.raises(InvalidArgumentError, match="has no rows"):
        infer_schema(write(tmp_path / "empty.csv", "id,body\n"))


def test_foreign_parquet_columns_are_read(database, tmp_path):
    table = pyarrow.table(
        {
            "id": ["a", "b"],
            "v": pyarrow.array([[1.0, 2.0], None], type=pyarrow.list_(pyarrow.float64())),
            "at": pyarrow.array([datetime(2024, 1, 1, 5), None], type=pyarrow.timestamp("ms")),
            "day": pyarrow.array([datetime(2024, 1, 1).date(), None]),
            "ats": pyarrow.array([[datetime(2024, 1, 1)], []], type=pyarrow.list_(pyarrow.timestamp("us"))),
            "n": pyarrow.array([1, 2], type=pyarrow.int8()),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    columns = Columns(vectors={"v": "v"})
    schema = infer_schema(tmp_path / "in.parquet", columns)
    assert schema == Schema({"v": Dense(2)}, {"at": Datetime(), "day": Datetime(), "ats": Datetime(array=True), "n": Int()})
    collection = database.create_collection("c", schema)
    import_points(collection, tmp_path / "in.parquet", columns=columns)
    point = collection.get("a", with_vectors=True)
    assert point.vectors["v"].tolist() == [1, 2] and point.attributes["at"] == datetime(2024, 1, 1, 5, tzinfo=UTC)
    assert point.attributes["day"] == datetime(2024, 1, 1, tzinfo=UTC) == point.attributes["ats"][0]
    assert "v" not in collection.get("b", with_vectors=True).vectors


def test_memory_holds_a_batch_and_not_the_file(database, tmp_path):
    with gzip.open(tmp_path / "in.jsonl.gz", "wt") as file:
        for i in range(3000):
            file.write(json.dumps({"id": i, "n": i}) + "\n")
    collection = database.create_collection("c", Schema({}, {"n": Int()}))
    seen = []
    import_points(collection, tmp_path / "in.jsonl.gz", progress=lambda done, written, rejected: seen.append((done, written)))
    assert seen[-1] == (1.0, 3000) and 0 < seen[15][1] < 3000
    assert all(math.isfinite(done) and 0 <= done <= 1 for done, _ in seen)


def test_points_can_be_compared():
    assert plain(1) != plain(True) and plain(np.float32([1])) != plain(np.float64([1])) and isinstance(Point(1), Point)
