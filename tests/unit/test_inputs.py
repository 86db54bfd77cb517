"""Accepted input: columns, tables, vectors and scalars of pandas, polars, Arrow, torch, scipy and numpy, and all kinds of null."""

from __future__ import annotations

import uuid
from array import array
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import scipy.sparse
from vectordb_client import Client, make_batch

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


def attribute(name, values, n=2):
    return make_batch(SCHEMA, "upsert", ids=list(range(n)), attributes={name: values}).attributes[name]


def vectors(name, value, n=2):
    return make_batch(SCHEMA, "upsert", ids=list(range(n)), vectors={name: value}).vectors[name]


def micros(moment):
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e6


# ---- Nulls ----


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


# ---- Queries ----


# ---- Filters ----


@pytest.mark.parametrize("null", [None, pd.NaT, pd.NA, np.datetime64("NaT"), NAN, np.ma.masked, pa.scalar(None, pa.int64())], ids=repr)
def test_a_null_in_a_filter_says_is_null(null):
    for make in (lambda: F("at") > null, lambda: F("at").isin([null]), lambda: F("at").between(null, null)):
        with pytest.raises(FilterError, match="is_null"):
            make()


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


def test_a_schema_of_as_many_fields_as_the_settings_allow(tmp_path):
    schema = Schema({f"v{i}": Dense(2) for i in range(64)}, {f"a{i}": Int() for i in range(1_000)})
    with vectordb.open(tmp_path, maintenance=False) as database:
        server, port = start(database, port=0)
        try:
            with Client(f"127.0.0.1:{port}") as client:
                docs = client.create_collection("wide", schema)
                docs.upsert(ids=[1, 2], vectors={"v63": np.eye(2)}, attributes={f"a{i}": [i, None] for i in range(1_000)})
                assert docs.count("a999 = 999") == docs.count("a0 = 0") == 1
                with pytest.raises(InvalidArgumentError, match=r"\(1000 in all\)") as caught:
                    docs.get(1, with_attributes=["nope"])
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
