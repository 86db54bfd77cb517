"""Accepted input in each place: tables, ids, queries and filters of pandas, polars, Arrow, torch and numpy, and all kinds of null."""

from __future__ import annotations

from array import array
from datetime import UTC, date, datetime

import numpy as np
import pytest

from tests.unit.test_inputs import FIRST, NUMBERS, SCHEMA
from vectordb import AlreadyExistsError, Dense, F, FilterError, Int, InvalidArgumentError, Schema, SchemaError, Sparse, Text

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")


@pytest.fixture
def docs(database):
    return database.create_collection("c", SCHEMA)


def frame():
    return pd.DataFrame(
        {
            "id": [1, 2, 3],
            "v": [[1.0, 2.0], None, [3.0, 4.0]],
            "k": ["a", None, "c"],
            "n": [1, None, 3],
            "at": pd.to_datetime(["2020-01-01", None, "2020-01-03"]),
            "ks": [["x", "y"], None, []],
        }
    )


def tables():
    plain = frame()
    yield "pandas", plain
    yield "an index named id", plain.set_index("id")
    yield "another order of rows", plain.iloc[::-1].set_index(pd.Index([5, 6, 7]))
    yield "Arrow", pa.Table.from_pandas(plain, preserve_index=False)
    yield "a record batch", pa.Table.from_pandas(plain, preserve_index=False).to_batches()[0]
    yield "a reader", pa.Table.from_pandas(plain, preserve_index=False).to_reader()
    polars = pytest.importorskip("polars")
    yield "polars", polars.from_pandas(plain)


def expected(docs):
    first, second, third = docs.get([1, 2, 3], with_vectors=True)
    assert first.vectors["v"].tolist() == [1.0, 2.0]
    assert third.vectors["v"].tolist() == [3.0, 4.0]
    assert first.attributes == {"k": "a", "n": 1, "at": FIRST, "ks": ["x", "y"]}
    assert second.vectors == second.attributes == {}
    assert third.attributes == {"k": "c", "n": 3, "at": datetime(2020, 1, 3, tzinfo=UTC), "ks": []}


@pytest.mark.parametrize("null", [None, pd.NA, pd.NaT, np.datetime64("NaT"), np.ma.masked, pa.scalar(None, pa.int64())], ids=repr)
def test_a_null_of_any_library_is_null_in_any_attribute(docs, null):
    docs.upsert([{"id": 1, "attributes": dict.fromkeys(SCHEMA.attributes, null)}, {"id": 2}])
    docs.upsert(ids=[3], attributes={name: [null] for name in SCHEMA.attributes})
    assert [point.attributes for point in docs.get([1, 2, 3])] == [{}] * 3
    for name in SCHEMA.attributes:
        assert docs.count(F(name).is_null()) == 3


def test_reading_and_deleting_by_ids_of_libraries(docs):
    docs.upsert(ids=[1, 2, 3, "1"])
    for ids in (pd.Series([1, 2]), pa.array([1, 2]), (i for i in (1, 2)), np.array([1, 2]), range(1, 3)):
        assert [point.id for point in docs.get(ids)] == [1, 2]
    assert docs.get(pa.scalar(1)).id == docs.get(np.int64(1)).id == 1
    assert docs.get("2") is None
    assert docs.count(F.has_id(pd.Series([1, 2]))) == 2
    assert docs.delete(i for i in (1, "1")).count == 2
    assert docs.delete(pd.Index([2])).count == docs.delete(np.int64(3)).count == 1


@pytest.mark.parametrize("name", [name for name, _ in tables()])
def test_a_table_is_points(docs, name):
    assert docs.upsert(dict(tables())[name]).count == 3
    expected(docs)
    docs.delete(filter="ALL")
    done = docs.bulk(dict(tables())[name], chunk=2, parallel=2)
    assert (done.count, done.failed) == (3, ())
    expected(docs)


def test_a_table_updates_the_columns_it_has(docs):
    docs.upsert(frame())
    docs.update(pd.DataFrame({"id": [1, 3], "k": ["z", None]}))
    first, third = docs.get([1, 3], with_vectors=True)
    assert first.attributes["k"] == "z"
    assert first.attributes["n"] == 1
    assert "k" not in third.attributes
    assert third.vectors["v"].tolist() == [3.0, 4.0]


def test_what_is_given_beside_a_table_joins_it(docs):
    docs.upsert(frame()[["k"]], ids=["x", "y", "z"], vectors={"v": np.ones((3, 2))}, payload=[1, 2, 3])
    point = docs.get("z", with_vectors=True)
    assert (point.attributes, point.payload, point.vectors["v"].tolist()) == ({"k": "c"}, 3, [1.0, 1.0])
    docs.bulk(frame()[["k"]], ids=pd.Series(["x", "y", "z"]), payload=pd.Series([4, 5, 6], index=[9, 8, 7]), chunk=2)
    assert [point.payload for point in docs.get(["x", "y", "z"])] == [4, 5, 6]
    docs.upsert(pd.DataFrame({"id": [1], "payload": [{"a": 1}]}))
    assert docs.get(1).payload == {"a": 1}


def test_a_table_says_what_is_wrong_with_its_columns(docs):
    for write in (docs.upsert, docs.update, docs.bulk):
        with pytest.raises(SchemaError, match=r"not fields of the collection: 'colour', 'size'; leave them out, add the fields") as caught:
            write(frame().assign(colour="red", size=1))
        assert caught.value.value == ["colour", "size"]
        with pytest.raises(InvalidArgumentError, match="has no column 'id'"):
            write(frame().drop(columns="id"))
        twice = pd.concat([frame(), frame()[["k"]]], axis=1)
        with pytest.raises(InvalidArgumentError, match="two columns are named 'k'"):
            write(twice)
        with pytest.raises(InvalidArgumentError, match="'k' is given twice"):
            write(frame(), attributes={"k": ["a", "b", "c"]})
    for points in (frame()["k"], pa.array([1, 2]), {"id": [1, 2]}, {"id": 1}):
        with pytest.raises(InvalidArgumentError):
            docs.upsert(points)
    with pytest.raises(InvalidArgumentError, match="collect"):
        docs.upsert(pytest.importorskip("polars").LazyFrame({"id": [1]}))
    assert docs.count() == 0


def test_a_row_of_a_table_that_is_no_point_is_told_by_bulk(docs):
    done = docs.bulk(frame().assign(k=["a", 5, "c"]), chunk=3)
    assert done.count == 2
    assert [(failed.position, failed.id, failed.error.field) for failed in done.failed] == [(1, 2, "k")]


def test_bulk_takes_columns_that_only_slice_by_position(docs):
    torch = pytest.importorskip("torch")
    columns = {"v": torch.ones(5, 2), "s": torch.eye(5).to_sparse()}
    names = pd.Series(list("abcde"), index=[3, 3, 1, 0, 9])
    done = docs.bulk(ids=pd.Series(range(5), index=range(5, 10)), vectors=columns, attributes={"k": names}, chunk=2)
    assert (done.count, done.failed) == (5, ())
    assert [point.attributes["k"] for point in docs.get(range(5))] == list("abcde")
    assert docs.bulk(ids=(i for i in range(5)), vectors={"v": (np.ones(2) for _ in range(5))}, chunk=2).count == 5


def test_queries_of_every_kind(docs):
    torch, polars = pytest.importorskip("torch"), pytest.importorskip("polars")
    docs.upsert(ids=[1, 2], vectors={"v": NUMBERS, "s": [{1: 1.0}, {2: 1.0}]})
    row = NUMBERS[1]
    for query in (
        torch.tensor(row).requires_grad_(),
        [torch.tensor(3.0), torch.tensor(4.0)],
        pd.Series(row),
        pa.array(row),
        polars.Series(row),
        memoryview(row),
        array("d", row),
        (number for number in row.tolist()),
    ):
        assert docs.search({"v": query}, limit=1).ids.tolist() == [2]
    for queries in (torch.tensor(NUMBERS), pd.Series(list(NUMBERS)), polars.Series(NUMBERS.tolist()), pa.array(NUMBERS.tolist())):
        assert [hits.ids[0] for hits in docs.search_batch({"v": queries}, limit=1)] == [1, 2]
    assert docs.search({"s": [(2, 1.0)]}).ids.tolist() == [2]
    assert [hits.ids[0] for hits in docs.search_batch({"s": torch.eye(3)[1:].to_sparse()})] == [1, 2]
    for query, message in (
        (NUMBERS, "search_batch"),
        (np.ma.array(row, mask=[0, 1]), "masked"),
        ("hello", "pass the vector of the text"),
        ([(1, 2), (2, 3)], "write {term: weight}"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            docs.search({"s" if "term" in message else "v": query})
    for vectors, message in (("hello", r"search\(text="), (NUMBERS[0], r"write \{'v': …\}")):
        with pytest.raises(InvalidArgumentError, match=message):
            docs.search(vectors)


def test_a_text_where_a_vector_is_wanted_says_where_texts_go(database):
    schema = Schema({"terms": Sparse(encoder="bm25", source="body"), "v": Dense(2)}, {"body": Text()})
    docs = database.create_collection("docs", schema)
    with pytest.raises(InvalidArgumentError, match=r"search\(text="):
        docs.search({"terms": "hello"})
    for value in ("hello", ["hello"]):
        with pytest.raises(InvalidArgumentError, match="write it as the attribute 'body'"):
            docs.upsert(ids=[1], vectors={"terms": value})
        with pytest.raises(InvalidArgumentError, match="pass the vector of the text"):
            docs.upsert(ids=[1], vectors={"v": value})
    docs.upsert(ids=[1], attributes={"body": pd.Series(["hello world"])})
    assert [list(hits.ids) for hits in docs.search_batch(text=pd.Series(["hello", "world"]))] == [[1], [1]]


def test_dates_in_filters(docs):
    moments = [datetime(year, month, 1, 12, tzinfo=UTC) for year in (2020, 2021) for month in (1, 6)]
    docs.upsert(ids=range(4), attributes={"at": moments})
    for condition, n in (
        ("at > '2021'", 2),
        ("at >= '2020-06'", 3),
        ("at < '2020-06'", 1),
        ("at BETWEEN '2020-02' AND '2021-05-31'", 2),
        ("at > '2021-01-01'", 2),
        ("at = '2021-01-01T12:00:00Z'", 1),
        (F("at") > "2021", 2),
        (F("at") > date(2021, 1, 1), 2),
        (F("at") == date(2021, 1, 1), 0),
        (F("at") >= pd.Timestamp("2021-01-01 12:00"), 2),
        (F("at").isin(pd.Series(pd.to_datetime(moments[:2]))), 2),
        (F("at").isin(pa.array(moments)), 4),
        (F("at") == pa.scalar(moments[0]), 1),
        ({"op": "gt", "field": "at", "value": "2021"}, 2),
    ):
        assert docs.count(condition) == n, condition
    for condition, message in (
        ("at = '2021'", "whole period"),
        ("at IN ('2021-05')", "whole period"),
        ("at > '2021-13'", "such as '2021-05-01'"),
        ("at > 'yesterday'", "a datetime, a date, or a string such as"),
        ("at > 2021", "a datetime, a date, or a string such as"),
    ):
        with pytest.raises(FilterError, match=message):
            docs.count(condition)


def test_contains_is_for_arrays(docs):
    docs.add_fields(attributes={"body": Text()})
    docs.upsert(ids=[1], attributes={"k": ["numpy/core"], "ks": [["numpy"]], "body": ["numpy core"]})
    assert docs.count("ks CONTAINS 'numpy'") == docs.count(F("ks").contains("numpy")) == 1
    assert docs.count({"op": "contains", "field": "ks", "value": "numpy"}) == 1
    for condition, message in (
        ("n CONTAINS 3", "write = or IN"),
        ("ks CONTAINS ALL ()", "must not be empty"),
        ({"op": "contains_any", "field": "ks", "values": []}, "must not be empty"),
    ):
        with pytest.raises(FilterError, match=message):
            docs.count(condition)
    for make in (lambda: F("ks").contains_all([]), lambda: F("ks").contains_any(pd.Series([], dtype=object))):
        with pytest.raises(FilterError, match="must not be empty"):
            make()


def test_filters_of_other_databases_are_told_ours(docs):
    for condition, message in (
        ({"k": "numpy"}, '{"op": "eq", "field": "k", "value": "numpy"}'),
        ({"n": {"$gte": 3}}, '{"op": "ge", "field": "n", "value": 3}'),
        ({"n": {"$in": [1, 2]}}, '{"op": "in", "field": "n", "values": [1, 2]}'),
        ({"$and": [{"n": 1}]}, '{"op": "eq", "field": "package", "value": "numpy"}'),
        ({"must": [{"key": "k", "match": {"value": "numpy"}}]}, '{"op": "eq", "field": "package", "value": "numpy"}'),
        ({}, '{"op": "all"}'),
        ("k = 'a' && n = 1", "write AND"),
        ("k = 'a' || n = 1", "write OR"),
        ("ok", "write ok = true"),
        ("ok AND n = 1", "write ok = true"),
        ("k IN ['a']", "write a list in (…)"),
        ("id = 'x'", "write HAS_ID('x')"),
        ("id = 1", "write HAS_ID(1)"),
        ("id IN (1, 2)", "write HAS_ID(1)"),
        ("id IS NULL", "write HAS_ID('…')"),
        ("k ILIKE '%a%'", "write IEQ, ISTARTSWITH or ICONTAINS"),
        (F("ok"), "F('ok') == True"),
    ):
        with pytest.raises(FilterError) as caught:
            docs.count(condition)
        assert message in str(caught.value)
    for make, message in (
        (lambda: F.n, "F('n')"),
        (lambda: F("n").in_([1]), ".isin(["),
        (lambda: F("n").like("a"), ".glob("),
        (lambda: F("n").nonsense, "its methods: isin"),
        (lambda: F("ok") & (F("n") == 1), "F('ok') == True"),
    ):
        with pytest.raises(FilterError) as caught:
            make()
        assert message in str(caught.value)
    assert not hasattr(F("n"), "nonsense")
    assert isinstance(np.int64(3) < F("n"), type(F("n") > 3))


def test_all_points_can_be_said_in_every_notation(docs):
    for condition in ("ALL", "all", "TRUE", F.all(), {"op": "all"}):
        docs.upsert(ids=[1, 2])
        assert docs.delete(filter=condition).count == 2
    docs.add_fields(attributes={"all": Int()})
    docs.upsert(ids=[1, 2], attributes={"all": [1, 2]})
    assert docs.count("all = 1 AND ALL") == docs.count("(ALL) AND NOT all = 2") == 1


def test_a_collection_that_exists_says_how_it_differs(database, docs):
    other = Schema({"v": Dense(3), "w": Sparse()}, {"k": Int()})
    with pytest.raises(AlreadyExistsError, match="exist_ok=True opens it"):
        database.create_collection("c", SCHEMA)
    for exist_ok in (False, True):
        with pytest.raises(AlreadyExistsError) as caught:
            database.create_collection("c", other, exist_ok=exist_ok)
        message = str(caught.value)
        assert "vector field 'v' is Dense(dim=2, metric='l2'), not Dense(dim=3)" in message
        assert "it has no vector field 'w'" in message
        assert "it also has the vector field 's'" in message
        assert "attribute 'k' is Keyword(), not Int()" in message
    assert database.create_collection("c", SCHEMA, exist_ok=True).schema == SCHEMA


def test_a_misspelt_attribute_is_told_and_not_taken_for_a_key_of_the_payload(database):
    """NOT would match every point."""
    docs = database.create_collection("texts", Schema({"v": Dense(2)}, {"body": Text()}))
    docs.upsert(ids=[1], attributes={"body": ["x"]}, payload=[{"known": 1}])
    for condition in ("body MATCH 'x' OR bdoy = 1", "NOT (bodi = 1)", F("bodyy").is_null()):
        for call in (lambda c: docs.count(c), lambda c: docs.delete(filter=c), lambda c: docs.count(c)):
            with pytest.raises(FilterError, match="did you mean 'body'"):
                call(condition)
    assert docs.count("unheard_of = 1") == 0 and docs.count() == 1
