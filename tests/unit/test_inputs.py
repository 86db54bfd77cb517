"""Accepted input: columns, tables, vectors and scalars of pandas, polars, Arrow, torch, scipy and numpy, and all kinds of null."""

from __future__ import annotations

import asyncio
import uuid
from array import array
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import scipy.sparse
from vectordb_client import AsyncClient, Client, make_batch

import vectordb
from vectordb import (
    Bool,
    Datetime,
    Dense,
    F,
    FilterError,
    Float,
    Int,
    InvalidArgumentError,
    Keyword,
    LimitError,
    MultiVector,
    Schema,
    SchemaError,
    Sparse,
    Text,
    VectorDBError,
)
from vectordb.server.main import start

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
SCHEMA = Schema(
    {"v": Dense(2, metric="l2"), "s": Sparse(), "m": MultiVector(2)},
    {"k": Keyword(), "n": Int(), "x": Float(), "ok": Bool(), "at": Datetime(), "ks": Keyword(array=True), "xs": Float(array=True)},
)
NAN = float("nan")
FIRST = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def database(tmp_path):
    with vectordb.open(tmp_path / "data", durability="batched", maintenance=False) as database:
        database.create_collection("c", SCHEMA)
        yield database


@pytest.fixture
def served(database):
    server, port = start(database, port=0)
    yield f"127.0.0.1:{port}"
    server.stop(1).wait()


def attribute(name, values, n=2):
    return make_batch(SCHEMA, "upsert", ids=list(range(n)), attributes={name: values}).attributes[name]


def vectors(name, value, n=2):
    return make_batch(SCHEMA, "upsert", ids=list(range(n)), vectors={name: value}).vectors[name]


def micros(moment):
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e6


# ---- Nulls ----


@pytest.mark.parametrize("null", [None, pd.NA, pd.NaT, np.datetime64("NaT"), np.ma.masked, pa.scalar(None, pa.int64())], ids=repr)
@pytest.mark.parametrize("name", SCHEMA.attributes)
def test_a_null_of_any_library_is_null_in_any_attribute(database, name, null):
    docs = database.collection("c")
    docs.upsert([{"id": 1, "attributes": {name: null}}, {"id": 2}])
    docs.upsert(ids=[3], attributes={name: [null]})
    assert docs.count(F(name).is_null()) == 3
    assert docs.get([1, 2, 3])[0].attributes == {}


@pytest.mark.parametrize("name", [name for name in SCHEMA.attributes if name != "x"])
def test_nan_is_null_where_it_is_no_value(name):
    assert attribute(name, [NAN, np.float32(NAN)]) == [None, None]


def test_nan_is_null_in_columns_of_tables_and_refused_as_a_float_that_was_given():
    polars = pytest.importorskip("polars")
    for column in (pd.Series([1.5, NAN]), pd.Series([1.5, None], dtype="Float64"), polars.Series([1.5, NAN]), pa.array([1.5, NAN])):
        assert attribute("x", column) == [1.5, None]
    for values in ([1.5, NAN], np.array([1.5, NAN])):
        with pytest.raises(InvalidArgumentError, match="a missing value is None"):
            attribute("x", values)


def test_columns_with_nulls():
    polars = pytest.importorskip("polars")
    names = ["a", None]
    for column in (
        pd.Series(names),
        pd.Series(names, dtype="string"),
        pd.Series(names, dtype="category"),
        pd.Series(names, dtype=object),
        pd.Series(["a", NAN], dtype=object),
        pd.Index(names),
        pd.array(names),
        polars.Series(names),
        pa.array(names),
        pa.chunked_array([["a"], pa.array([None], pa.string())]),
        np.ma.array(["a", "b"], mask=[0, 1]),
        tuple(names),
        (name for name in names),
    ):
        assert attribute("k", column) == names
    for column in (
        pd.Series([1, None]),  # floats 1.0 and NaN
        pd.Series([1, None], dtype="Int64"),
        polars.Series([1, None]),
        pa.array([1, None]),
        np.ma.array([1, 2], mask=[0, 1]),
    ):
        assert attribute("n", column) == [1, None]
        assert type(attribute("n", column)[0]) is int
    for column in (pd.Series([["a"], None]), polars.Series([["a"], None]), pa.array([["a"], None]), [np.array(["a"]), NAN]):
        assert attribute("ks", column) == [["a"], None]
    with pytest.raises(InvalidArgumentError, match=r"n must be an integer, not 1.5"):
        attribute("n", pd.Series([1.5, None]))


def test_columns_of_moments():
    polars = pytest.importorskip("polars")
    stored = [int(micros(FIRST)), None]
    for column in (
        pd.Series(pd.to_datetime(["2020-01-01", None])),
        pd.Series(pd.to_datetime(["2020-01-01", None], utc=True)).dt.tz_convert("Asia/Tokyo"),
        [pd.Timestamp("2020-01-01"), pd.NaT],
        np.array(["2020-01-01", "NaT"], "M8[ns]"),
        np.ma.array(np.array(["2020-01-01", "2021-01-01"], "M8[D]"), mask=[0, 1]),
        polars.Series([FIRST, None]),
        pa.array([FIRST, None]),
        pa.array([int(micros(FIRST)) * 1000, None], pa.timestamp("ns", "Europe/Berlin")),
        pa.array([date(2020, 1, 1), None]),
        [date(2020, 1, 1), None],
        ["2020-01-01", None],
        [pa.scalar(FIRST), None],
    ):
        assert attribute("at", column) == stored, column
    in_tokyo = datetime(2020, 1, 1, tzinfo=ZoneInfo("Asia/Tokyo"))
    assert attribute("at", [in_tokyo, pd.Timestamp(in_tokyo)]) == [stored[0] - 9 * 3600 * 10**6] * 2


def test_nanoseconds_are_cut_alike_wherever_they_come_from():
    late = "2020-01-01T00:00:00.000001999"
    values = [np.datetime64(late), pd.Timestamp(late), *pd.Series([np.datetime64(late)]), *pa.array(np.array([late], "M8[ns]"))]
    assert attribute("at", values, len(values)) == [int(micros(FIRST)) + 1] * len(values)
    before = np.datetime64("1969-12-31T23:59:59.999999999")
    assert attribute("at", [before, pd.Timestamp(before)]) == [-1, -1]


def test_an_array_has_no_null_elements():
    for name, value in (("ks", ["a", None]), ("ks", np.ma.array(["a", "b"], mask=[0, 1])), ("ks", ["a", pd.NA]), ("xs", [1.0, None])):
        with pytest.raises(InvalidArgumentError, match="has a null element; leave it out"):
            attribute(name, [value, None])
    with pytest.raises(InvalidArgumentError, match="finite"):
        attribute("xs", [[1.0, NAN], None])


def test_payloads_take_nulls_and_numbers_of_libraries_but_no_nan():
    batch = make_batch(SCHEMA, "upsert", ids=[1, 2], payload=[{"a": pd.NA, "b": [pd.NaT, np.int64(3), np.float32(0.5)]}, pd.NaT])
    assert batch.payload == [{"a": None, "b": [None, 3, 0.5]}, None]
    assert make_batch(SCHEMA, "upsert", ids=[1, 2], payload=pd.Series([{"a": 1}, NAN])).payload == [{"a": 1}, None]
    with pytest.raises(InvalidArgumentError, match="a missing value is None"):
        make_batch(SCHEMA, "upsert", ids=[1], payload=[{"a": NAN}])


# ---- Ids ----


def test_ids_of_every_kind():
    polars = pytest.importorskip("polars")
    for ids in (
        pd.Series([1, 2]),
        pd.Series([1.0, 2.0]),
        pd.Index([1, 2]),
        polars.Series([1, 2]),
        pa.array([1, 2]),
        pa.chunked_array([[1], [2]]),
        np.array([1, 2], np.int8),
        range(1, 3),
        (i for i in (1, 2)),
        {1: None, 2: None}.keys(),
        array("q", [1, 2]),
        [pa.scalar(1), np.uint64(2)],
    ):
        found = make_batch(SCHEMA, "upsert", ids=ids).ids
        assert found == [1, 2]
        assert set(map(type, found)) == {int}
    u = uuid.UUID(int=1)
    assert make_batch(SCHEMA, "upsert", ids=[np.str_("a"), pa.scalar("b"), u]).ids == ["a", "b", u]
    assert make_batch(SCHEMA, "upsert", ids=np.array(["a", "b"])).ids == ["a", "b"]


@pytest.mark.parametrize("null", [None, NAN, pd.NA, pd.NaT])
def test_an_id_that_is_null_is_named_by_its_row(null):
    for ids in ([1, null], pd.Series([1, null], dtype=object), (i for i in (1, null))):
        with pytest.raises(InvalidArgumentError, match="row 1: id is null") as caught:
            make_batch(SCHEMA, "upsert", ids=ids)
        assert caught.value.field == "id"
    with pytest.raises(InvalidArgumentError, match="row 2: id is null"):
        make_batch(SCHEMA, "upsert", ids=pd.Series([1, 2, None]))


def test_a_set_of_ids_has_no_order():
    with pytest.raises(InvalidArgumentError, match="a set has no order; pass a list"):
        make_batch(SCHEMA, "upsert", ids={1, 2})


def test_reading_and_deleting_by_ids_of_libraries(database, served):
    docs = database.collection("c")
    with Client(served) as client:
        for collection in (docs, client.collection("c")):
            docs.upsert(ids=[1, 2, 3, "1"])
            for ids in (pd.Series([1, 2]), pa.array([1, 2]), (i for i in (1, 2)), np.array([1, 2]), range(1, 3)):
                assert [point.id for point in collection.get(ids)] == [1, 2]
            assert collection.get(pa.scalar(1)).id == collection.get(np.int64(1)).id == 1
            assert collection.get("2") is None
            assert collection.count(F.has_id(pd.Series([1, 2]))) == 2
            assert collection.delete(i for i in (1, "1")).count == 2
            assert collection.delete(pd.Index([2])).count == collection.delete(np.int64(3)).count == 1


# ---- Vectors ----

NUMBERS = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)


def columns_of_vectors():
    yield NUMBERS
    yield NUMBERS.tolist()
    yield list(NUMBERS)
    yield pd.Series(list(NUMBERS))
    yield pd.Series(NUMBERS.tolist(), index=[7, 5])
    yield pd.DataFrame(NUMBERS)
    yield np.array([*NUMBERS, None], dtype=object)[:2]
    yield pa.array(NUMBERS.tolist())
    yield pa.array(NUMBERS.tolist(), pa.list_(pa.float32(), 2))
    yield pa.array([row.astype(np.float16) for row in NUMBERS], pa.list_(pa.float16()))
    yield pa.chunked_array([pa.array(NUMBERS[:1].tolist()), pa.array(NUMBERS[1:].tolist())])
    yield memoryview(NUMBERS)
    yield [array("d", row) for row in NUMBERS]
    yield (row for row in NUMBERS)
    yield np.ma.array(NUMBERS)
    yield np.matrix(NUMBERS)
    yield [pa.array(row) for row in NUMBERS]
    yield [pd.Series(row) for row in NUMBERS]


@pytest.mark.parametrize("value", list(columns_of_vectors()), ids=lambda value: type(value).__name__)
def test_dense_vectors_of_every_kind(value):
    assert np.array_equal(vectors("v", value).values, NUMBERS)


def test_dense_vectors_of_polars_and_torch():
    polars, torch = pytest.importorskip("polars"), pytest.importorskip("torch")
    tensor = torch.tensor(NUMBERS)
    for value in (
        polars.Series(NUMBERS.tolist()),
        polars.Series(NUMBERS.tolist(), dtype=polars.Array(polars.Float32, 2)),
        polars.DataFrame(NUMBERS),
        tensor,
        tensor.requires_grad_(),
        tensor.half(),
        tensor.to(torch.bfloat16),
        tensor.T.contiguous().T,
        list(tensor),
        [[torch.tensor(1.0), torch.tensor(2.0)], [3.0, 4.0]],
        torch.tensor([[1, 2], [3, 4]]),
    ):
        assert np.array_equal(vectors("v", value).values, NUMBERS)
    for value in (torch.ones(2, 2, dtype=torch.complex64), torch.ones(2, 2, dtype=torch.bool), torch.eye(2).to_sparse()):
        with pytest.raises(InvalidArgumentError, match="numbers of one shape"):
            vectors("v", value)
    assert np.array_equal(vectors("m", [tensor, tensor[:1]]).values, np.vstack([NUMBERS, NUMBERS[:1]]))


def test_a_null_among_vectors_is_a_point_without_one():
    polars = pytest.importorskip("polars")
    row = [1.0, 2.0]
    for value in (
        [row, None],
        [row, NAN],
        pd.Series([row, None]),
        pd.Series([row, pd.NA], dtype=object),
        polars.Series([row, None]),
        polars.Series([row, None], dtype=polars.Array(polars.Float32, 2)),
        pa.array([row, None]),
        pa.array([row, None], pa.list_(pa.float32(), 2)),
        np.array([row, None], dtype=object),
    ):
        column = vectors("v", value)
        assert column.values.tolist() == [row]
        assert column.rows.tolist() == [0]


@pytest.mark.filterwarnings("ignore:Warning. converting a masked element")
def test_masked_and_missing_numbers_of_a_vector_are_refused():
    masked = np.ma.array([[1, 1e20], [3, 4]], mask=[[0, 1], [0, 0]])
    for value in (masked, list(masked), [masked[0], [3, 4]]):
        with pytest.raises(InvalidArgumentError, match="masked"):
            vectors("v", value)
    with pytest.raises(InvalidArgumentError, match="masked"):
        vectors("m", [masked, masked])
    for value in (pa.array([[1.0, None], [3.0, 4.0]]), [[1.0, None], [3, 4]], [[1.0, np.ma.masked], [3, 4]]):
        with pytest.raises(InvalidArgumentError, match=r"finite|holds None at position 1; give all of a vector's numbers"):
            vectors("v", value)


@pytest.mark.parametrize("value", [[["1", "2"], ["3", "4"]], np.array([["1", "2"], ["3", "4"]], dtype=object), [[1, "2"], [3, 4]]])
def test_numbers_as_texts_are_refused(value):
    with pytest.raises(InvalidArgumentError, match=r"must be numbers, not the text '[12]'"):
        vectors("v", value)


def test_sparse_vectors_of_every_kind():
    wanted = [([1, 7], [2.0, 3.0]), ([7], [1.5])]
    matrix = scipy.sparse.csr_array(([2.0, 3.0, 1.5], ([0, 0, 1], [1, 7, 7])), shape=(2, 9))
    for value in (
        [{1: 2.0, 7: 3.0}, {7: 1.5}],
        [([1, 7], [2.0, 3.0]), ([7], [1.5])],
        [(np.array([1, 7]), np.array([2.0, 3.0])), (pa.array([7]), pd.Series([1.5]))],
        [[(1, 2.0), (7, 3.0)], [(7, 1.5)]],
        [[[7, 3.0], [1, 2.0]], {7: 1.5}],
        pd.Series([{1: 2.0, 7: 3.0}, {7: 1.5}]),
        pa.array([[(1, 2.0), (7, 3.0)], [(7, 1.5)]], pa.map_(pa.uint64(), pa.float32())),
        matrix,
        matrix.tocoo(),
        [matrix[[0]], matrix[[1]]],
        ({t: w} | ({7: 3.0} if t == 1 else {}) for t, w in ((1, 2.0), (7, 1.5))),
    ):
        column = vectors("s", value)
        found = [(column.terms[a:b].tolist(), column.weights[a:b].tolist()) for a, b in zip(column.indptr, column.indptr[1:], strict=False)]
        assert found == wanted, value


def test_sparse_tensors(recwarn):
    torch = pytest.importorskip("torch")
    tensor = torch.tensor([[0, 2.0, 3.0], [0, 0, 1.5]]).to_sparse()
    column = vectors("s", tensor)
    assert (column.indptr.tolist(), column.terms.tolist(), column.weights.tolist()) == ([0, 2, 3], [1, 2, 2], [2.0, 3.0, 1.5])
    assert vectors("s", [tensor[0], tensor[1]]).terms.tolist() == [1, 2, 2]
    assert not recwarn.list


@pytest.mark.parametrize("value", [[(1, 2), (7, 3)], [[1, 2], [7, 3]], ((1, 2), (7, 3)), [(1, np.int64(2)), (7, 3)]])
def test_a_sparse_vector_that_could_be_two_is_refused(value):
    with pytest.raises(InvalidArgumentError, match=r"could be .*write \{term: weight\}"):
        vectors("s", [value, {}])


def test_what_is_no_sparse_vector_is_told_the_forms():
    for value in ([1, 2, 3], [(1, 2.0, 3.0)], 5, np.ones(2), scipy.sparse.eye(2, format="csr"), [(1, 2.0), 3]):
        with pytest.raises(InvalidArgumentError, match="'s'"):
            vectors("s", [value, {}])
    with pytest.raises(InvalidArgumentError, match="2 terms and 1 weights"):
        vectors("s", [([1, 2], 3.0), {}])


# ---- Tables ----


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


@pytest.mark.parametrize("name", [name for name, _ in tables()])
def test_a_table_is_points(database, served, name):
    docs = database.collection("c")
    assert docs.upsert(dict(tables())[name]).count == 3
    expected(docs)
    with Client(served) as client:
        remote = client.collection("c")
        docs.delete(filter="ALL")
        assert remote.upsert(dict(tables())[name]).count == 3
        expected(remote)
        for collection in (docs, remote):
            docs.delete(filter=F.all())
            done = collection.bulk(dict(tables())[name], chunk=2, parallel=2)
            assert (done.count, done.failed) == (3, ())
            expected(collection)

    async def written():
        docs.delete(filter={"op": "all"})
        async with AsyncClient(served) as client:
            remote = await client.collection("c")
            assert (await remote.upsert(dict(tables())[name])).count == 3
            expected(docs)
            docs.delete(filter="ALL")
            assert (await remote.bulk(dict(tables())[name], chunk=2)).count == 3
            expected(docs)

    asyncio.run(written())


def test_a_table_updates_the_columns_it_has(database):
    docs = database.collection("c")
    docs.upsert(frame())
    docs.update(pd.DataFrame({"id": [1, 3], "k": ["z", None]}))
    first, third = docs.get([1, 3], with_vectors=True)
    assert first.attributes["k"] == "z"
    assert first.attributes["n"] == 1
    assert "k" not in third.attributes
    assert third.vectors["v"].tolist() == [3.0, 4.0]


def test_what_is_given_beside_a_table_joins_it(database):
    docs = database.collection("c")
    docs.upsert(frame()[["k"]], ids=["x", "y", "z"], vectors={"v": np.ones((3, 2))}, payload=[1, 2, 3])
    point = docs.get("z", with_vectors=True)
    assert (point.attributes, point.payload, point.vectors["v"].tolist()) == ({"k": "c"}, 3, [1.0, 1.0])
    docs.bulk(frame()[["k"]], ids=pd.Series(["x", "y", "z"]), payload=pd.Series([4, 5, 6], index=[9, 8, 7]), chunk=2)
    assert [point.payload for point in docs.get(["x", "y", "z"])] == [4, 5, 6]
    docs.upsert(pd.DataFrame({"id": [1], "payload": [{"a": 1}]}))
    assert docs.get(1).payload == {"a": 1}


def test_a_table_says_what_is_wrong_with_its_columns(database, served):
    docs = database.collection("c")
    with Client(served) as client:
        remote = client.collection("c")
        for write in (docs.upsert, docs.update, docs.bulk, remote.upsert, remote.bulk):
            with pytest.raises(
                SchemaError, match=r"not fields of the collection: 'colour', 'size'; leave them out, add the fields"
            ) as caught:
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


def test_a_row_of_a_table_that_is_no_point_is_told_by_bulk(database):
    docs = database.collection("c")
    done = docs.bulk(frame().assign(k=["a", 5, "c"]), chunk=3)
    assert done.count == 2
    assert [(failed.position, failed.id, failed.error.field) for failed in done.failed] == [(1, 2, "k")]


def test_bulk_takes_columns_that_only_slice_by_position(database):
    torch = pytest.importorskip("torch")
    docs = database.collection("c")
    columns = {"v": torch.ones(5, 2), "s": torch.eye(5).to_sparse()}
    names = pd.Series(list("abcde"), index=[3, 3, 1, 0, 9])
    done = docs.bulk(ids=pd.Series(range(5), index=range(5, 10)), vectors=columns, attributes={"k": names}, chunk=2)
    assert (done.count, done.failed) == (5, ())
    assert [point.attributes["k"] for point in docs.get(range(5))] == list("abcde")
    assert docs.bulk(ids=(i for i in range(5)), vectors={"v": (np.ones(2) for _ in range(5))}, chunk=2).count == 5


# ---- Queries ----


def test_queries_of_every_kind(database, served):
    torch, polars = pytest.importorskip("torch"), pytest.importorskip("polars")
    docs = database.collection("c")
    docs.upsert(ids=[1, 2], vectors={"v": NUMBERS, "s": [{1: 1.0}, {2: 1.0}]})
    row = NUMBERS[1]
    with Client(served) as client:
        for collection in (docs, client.collection("c")):
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
                assert collection.search({"v": query}, limit=1).ids.tolist() == [2]
            for queries in (torch.tensor(NUMBERS), pd.Series(list(NUMBERS)), polars.Series(NUMBERS.tolist()), pa.array(NUMBERS.tolist())):
                assert [hits.ids[0] for hits in collection.search_batch({"v": queries}, limit=1)] == [1, 2]
            assert collection.search({"s": [(2, 1.0)]}).ids.tolist() == [2]
            assert [hits.ids[0] for hits in collection.search_batch({"s": torch.eye(3)[1:].to_sparse()})] == [1, 2]
            for query, message in (
                (NUMBERS, "search_batch"),
                (np.ma.array(row, mask=[0, 1]), "masked"),
                ("hello", "pass the vector of the text"),
                ([(1, 2), (2, 3)], "write {term: weight}"),
            ):
                with pytest.raises(InvalidArgumentError, match=message):
                    collection.search({"s" if "term" in message else "v": query})
            for vectors, message in (("hello", r"search\(text="), (NUMBERS[0], r"write \{'v': …\}")):
                with pytest.raises(InvalidArgumentError, match=message):
                    collection.search(vectors)


def test_a_text_where_a_vector_is_wanted_says_where_texts_go(tmp_path):
    schema = Schema({"terms": Sparse(encoder="bm25", source="body"), "v": Dense(2)}, {"body": Text()})
    with vectordb.open(tmp_path, maintenance=False) as database:
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


# ---- Filters ----


def test_dates_in_filters(database, served):
    docs = database.collection("c")
    moments = [datetime(year, month, 1, 12, tzinfo=UTC) for year in (2020, 2021) for month in (1, 6)]
    docs.upsert(ids=range(4), attributes={"at": moments})
    with Client(served) as client:
        for collection in (docs, client.collection("c")):
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
                assert collection.count(condition) == n, condition
            for condition, message in (
                ("at = '2021'", "whole period"),
                ("at IN ('2021-05')", "whole period"),
                ("at > '2021-13'", "such as '2021-05-01'"),
                ("at > 'yesterday'", "a datetime, a date, or a string such as"),
                ("at > 2021", "a datetime, a date, or a string such as"),
            ):
                with pytest.raises(FilterError, match=message):
                    collection.count(condition)


@pytest.mark.parametrize("null", [None, pd.NaT, pd.NA, np.datetime64("NaT"), NAN, np.ma.masked, pa.scalar(None, pa.int64())], ids=repr)
def test_a_null_in_a_filter_says_is_null(null):
    for make in (lambda: F("at") > null, lambda: F("at").isin([null]), lambda: F("at").between(null, null)):
        with pytest.raises(FilterError, match="is_null"):
            make()


def test_contains_is_for_arrays(database, served):
    docs = database.collection("c")
    docs.add_fields(attributes={"body": Text()})
    docs.upsert(ids=[1], attributes={"k": ["numpy/core"], "ks": [["numpy"]], "body": ["numpy core"]})
    with Client(served) as client:
        for collection in (docs, client.collection("c")):
            assert collection.count("ks CONTAINS 'numpy'") == collection.count(F("ks").contains("numpy")) == 1
            assert collection.count({"op": "contains", "field": "ks", "value": "numpy"}) == 1
            for condition, message in (
                ("k CONTAINS 'numpy'", r"GLOB '\*numpy\*'"),
                ("k CONTAINS ANY ('numpy')", r"GLOB '\*numpy\*'"),
                (F("k").contains_all(["numpy"]), r"GLOB '\*numpy\*'"),
                ("body CONTAINS 'numpy'", "MATCH 'numpy'"),
                ("n CONTAINS 3", "write = or IN"),
                ("ks CONTAINS ALL ()", "must not be empty"),
                ({"op": "contains_any", "field": "ks", "values": []}, "must not be empty"),
            ):
                with pytest.raises(FilterError, match=message):
                    collection.count(condition)
    for make in (lambda: F("ks").contains_all([]), lambda: F("ks").contains_any(pd.Series([], dtype=object))):
        with pytest.raises(FilterError, match="must not be empty"):
            make()


def test_filters_of_other_databases_are_told_ours(database):
    docs = database.collection("c")
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
        ("k ILIKE '%a%'", "GLOB is case-sensitive"),
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


def test_all_points_can_be_said_in_every_notation(database):
    docs = database.collection("c")
    for condition in ("ALL", "all", "TRUE", F.all(), {"op": "all"}):
        docs.upsert(ids=[1, 2])
        assert docs.delete(filter=condition).count == 2
    docs.add_fields(attributes={"all": Int()})
    docs.upsert(ids=[1, 2], attributes={"all": [1, 2]})
    assert docs.count("all = 1 AND ALL") == docs.count("(ALL) AND NOT all = 2") == 1


# ---- Schemas ----


def test_definitions_say_what_to_write_instead():
    for make, message in (
        (lambda: Dense(3, metric="Cosine"), "write 'cosine'"),
        (lambda: Dense(3, metric="L2"), "write 'l2', whose scores are squared distances"),
        (lambda: Dense(3, metric="euclidean"), "write 'l2'"),
        (lambda: Dense(3, metric="ip"), "write 'dot'"),
        (lambda: MultiVector(3, metric="inner_product"), "write 'dot'"),
        (lambda: Dense(3, dtype=np.float32), "write 'float32'"),
        (lambda: Dense(3, dtype=np.dtype("float16")), "write 'float16'"),
        (lambda: Schema({}, {"a": "keyword"}), "attribute 'a' must be a definition such as Keyword()"),
        (lambda: Schema({}, {"a": "int"}), "such as Int()"),
        (lambda: Schema({}, {"a": float}), "such as Float()"),
        (lambda: Schema({}, {"a": Keyword}), "such as Keyword()"),
        (lambda: Schema({"v": 768}), "such as Dense(768)"),
        (lambda: Schema({"v": Sparse}), "such as Sparse()"),
        (lambda: Dense(), "Dense() needs dim; write Dense(384)"),
        (lambda: MultiVector(metric="dot"), "MultiVector() needs dim; write MultiVector(384)"),
        (lambda: Dense(dims=3), "Dense() has no argument 'dims'; write dim=…"),
        (lambda: Dense(3, distance="dot"), "write metric=…"),
        (lambda: Keyword(multiple=True), "Keyword() has no argument 'multiple'; write array=…"),
        (lambda: Schema(fields={}), "Schema() has no argument 'fields'; write vectors=… or attributes=…"),
        (lambda: Schema({}, {}, {}), "Schema() takes vectors, attributes by position"),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            make()
        assert message in str(caught.value)


def test_a_collection_that_exists_says_how_it_differs(database, served):
    other = Schema({"v": Dense(3), "w": Sparse()}, {"k": Int()})
    with Client(served) as client:
        for holder in (database, client):
            with pytest.raises(vectordb.AlreadyExistsError, match="exist_ok=True opens it"):
                holder.create_collection("c", SCHEMA)
            for exist_ok in (False, True):
                with pytest.raises(vectordb.AlreadyExistsError) as caught:
                    holder.create_collection("c", other, exist_ok=exist_ok)
                message = str(caught.value)
                assert "vector field 'v' is Dense(dim=2, metric='l2'), not Dense(dim=3)" in message
                assert "it has no vector field 'w'" in message
                assert "it also has the vector field 's'" in message
                assert "attribute 'k' is Keyword(), not Int()" in message
            assert holder.create_collection("c", SCHEMA, exist_ok=True).schema == SCHEMA


def test_a_schema_of_as_many_fields_as_the_settings_allow(tmp_path):
    schema = Schema({f"v{i}": Dense(2) for i in range(64)}, {f"a{i}": Int() for i in range(1_000)})
    with vectordb.open(tmp_path, maintenance=False) as database:
        server, port = start(database, port=0)
        try:
            with Client(f"127.0.0.1:{port}") as client:
                docs = client.create_collection("wide", schema)
                docs.upsert(ids=[1, 2], vectors={"v63": np.eye(2)}, attributes={f"a{i}": [i, None] for i in range(1_000)})
                assert docs.count("a999 = 999") == docs.count("a0 = 0") == 1
                with pytest.raises(FilterError, match=r"\(1000 in all\)") as caught:
                    docs.count("nope = 1")
                assert len(str(caught.value)) < 600
                with pytest.raises(LimitError, match="max_attributes"):
                    docs.add_fields(attributes={"one_more": Int()})
        finally:
            server.stop(1).wait()
        docs = database.collection("wide")
        docs.add_fields(attributes={f"b{i}": Int() for i in range(4_096 - 1_064)})
        docs.upsert(ids=[3], attributes={"b3031": [7]})
        with pytest.raises(SchemaError, match="at most 4096 fields in all"):
            docs.add_fields(attributes={"one_more": Int()})
    with vectordb.open(tmp_path, maintenance=False) as database:
        docs = database.collection("wide")
        assert docs.count("b3031 = 7") == docs.count("a999 = 999") == 1
        assert docs.search({"v63": [1, 0]}, limit=1).ids.tolist() == [1]


def test_a_star_import_hides_no_builtin():
    import builtins

    import vectordb_client

    for module in (vectordb, vectordb_client):
        assert not set(module.__all__) & set(dir(builtins))
    names: dict = {}
    exec("from vectordb import *\nfrom vectordb_client import *", names)
    assert "open" not in names
    assert issubclass(names["InvalidArgumentError"], VectorDBError)


def test_a_wrong_value_names_its_point_and_row():
    """Of a hundred thousand rows the one that is wrong is told."""
    with vectordb.open(":memory:") as database:
        docs = database.create_collection("rows", Schema({}, {"f": vectordb.Float(), "i": vectordb.Int()}))
        for attributes, payload in (({"f": [1.0, 2.0, float("nan")]}, None), ({"i": [1, 2, 1.5]}, None), ({}, [1, 2, object()])):
            with pytest.raises(InvalidArgumentError, match=r"\(point 12, row 2\)"):
                docs.upsert(ids=[10, 11, 12], attributes=attributes, payload=payload)
        with pytest.raises(InvalidArgumentError, match=r"\(point 7\)"):
            docs.upsert([{"id": 7, "attributes": {"i": "x"}}])
        assert docs.count() == 0
