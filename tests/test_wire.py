"""What goes on the wire comes back as it was, and what may not be on the wire is refused by name."""

from __future__ import annotations

import math
import uuid
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectordb_client import answers, calls, errors, wire
from vectordb_client.batch import UNSET, make_batch
from vectordb_client.errors import FilterError, InvalidArgumentError, LimitError, SchemaError, VectorDBError
from vectordb_client.filter import F
from vectordb_client.results import DBSF, RRF, ArmScore, Hit, Hits, Point, Relative
from vectordb_client.schema import Bool, Datetime, Dense, Float, Geo, Int, Keyword, MultiVector, Schema, Sparse, Text, Uuid
from vectordb_client.split import slice_batch, split_batch
from vectordb_client.status import STATUS, error_of, status_of
from vectordb_client.v1 import vectordb_pb2 as pb
from vectordb_client.vectors import DenseColumn, MultiColumn, SparseColumn, point_vector, query_vector

SCHEMA = Schema(
    {
        "d": Dense(4),
        "h": Dense(3, metric="l2", dtype="float16"),
        "s": Sparse(),
        "m": MultiVector(2, metric="dot"),
    },
    {
        "k": Keyword(),
        "i": Int(),
        "f": Float(),
        "b": Bool(),
        "t": Datetime(),
        "x": Text(),
        "u": Uuid(),
        "g": Geo(),
        "ks": Keyword(array=True),
        "ts": Datetime(array=True),
        "us": Uuid(array=True),
        "gs": Geo(array=True),
    },
)

IDS = st.one_of(st.integers(0, 2**64 - 1), st.text(min_size=1, max_size=20), st.uuids())
TEXT = st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
GEO = st.tuples(st.floats(-90, 90), st.floats(-180, 180))
TIMES = st.datetimes(timezones=st.just(UTC)) | st.sampled_from([np.datetime64("12345-06-07T08:09:10.000011"), np.datetime64("-0044-03-15")])
VALUES = {
    "k": TEXT,
    "i": st.integers(-(2**63), 2**63 - 1),
    "f": st.floats(allow_nan=False, allow_infinity=False),
    "b": st.booleans(),
    "t": TIMES,
    "x": TEXT,
    "u": st.uuids(),
    "g": GEO,
    "ks": st.lists(TEXT, max_size=3),
    "ts": st.lists(TIMES, max_size=3),
    "us": st.lists(st.uuids(), max_size=3),
    "gs": st.lists(GEO, max_size=3),
}
NUMBER = st.floats(0.5, 100, width=16)
VECTORS = {
    "d": st.lists(NUMBER, min_size=4, max_size=4),
    "h": st.lists(NUMBER, min_size=3, max_size=3),
    "s": st.dictionaries(st.integers(0, 2**64 - 1), NUMBER, max_size=4),
    "m": st.lists(st.lists(NUMBER, min_size=2, max_size=2), min_size=1, max_size=3),
}


@st.composite
def batches(draw):
    kind = draw(st.sampled_from(["upsert", "update"]))
    ids = draw(st.lists(IDS, unique=True, max_size=6))
    gap = st.sampled_from([None, UNSET]) if kind == "update" else st.none()
    n = len(ids)

    def column(values):
        return draw(st.lists(values | gap, min_size=n, max_size=n))

    vectors = {name: column(VECTORS[name]) for name in draw(st.sets(st.sampled_from(sorted(VECTORS))))}
    attributes = {name: column(VALUES[name]) for name in draw(st.sets(st.sampled_from(sorted(VALUES)), max_size=5))}
    payload = column(JSON) if draw(st.booleans()) else None
    if_version = draw(st.none() | st.lists(st.none() | st.integers(0, 2**63 - 1), min_size=n, max_size=n))
    if_filter = draw(st.sampled_from([None, "i > 1", {"op": "gt", "field": "i", "value": 1}]))
    return make_batch(
        SCHEMA, kind, ids=ids, vectors=vectors, attributes=attributes, payload=payload, if_version=if_version, if_filter=if_filter
    )


def packed(batch) -> pb.Batch:
    message = pb.Batch()
    wire.pack_batch(message, batch, SCHEMA)
    return message


def carried(batch):
    """Through bytes and back."""
    return wire.unpack_batch(pb.Batch.FromString(packed(batch).SerializeToString()), SCHEMA)


def plain(batch) -> dict:
    """Everything a batch says, comparable."""

    def rows(column):
        return range(len(column)) if column.rows is None else column.rows.tolist()

    vectors = {
        name: {row: [np.asarray(part).tolist() for part in np.atleast_1d(point_vector(column, at))] for at, row in enumerate(rows(column))}
        if not isinstance(column, SparseColumn)
        else {row: tuple(part.tolist() for part in point_vector(column, at)) for at, row in enumerate(rows(column))}
        for name, column in batch.vectors.items()
    }
    return {
        "kind": batch.kind,
        "ids": [(type(i), i) for i in batch.ids],
        "vectors": vectors,
        "dtypes": {name: column.values.dtype for name, column in batch.vectors.items() if not isinstance(column, SparseColumn)},
        "attributes": {name: [(type(v), v) for v in values] for name, values in batch.attributes.items()},
        "payload": batch.payload,
        "removed": {name: rows.tolist() for name, rows in batch.removed.items() if len(rows)},
        "if_version": batch.if_version or None,
        "if_filter": batch.if_filter,
    }


# ---- Round trips ----


@given(batches())
@settings(max_examples=300, deadline=None)
def test_a_batch_comes_back_as_it_was(batch):
    assert plain(carried(batch)) == plain(batch)


@given(st.lists(IDS, max_size=20))
@settings(deadline=None)
def test_ids_keep_their_kind_and_order(ids):
    found = wire.unpack_ids(pb.Ids.FromString(wire.pack_ids(ids).SerializeToString()))
    assert [(type(i), i) for i in found] == [(type(i), i) for i in ids]


def test_a_hundred_thousand_integer_ids_take_eight_bytes_each():
    ids = list(range(100_000))
    message = wire.pack_ids(ids)
    assert message.ByteSize() < 800_010
    assert wire.unpack_ids(message) == ids


@given(batches(), st.data())
@settings(max_examples=100, deadline=None)
def test_slices_of_a_batch_are_the_batch(batch, data):
    n = len(batch.ids)
    cut = data.draw(st.integers(0, n))
    parts = [plain(slice_batch(batch, 0, cut)), plain(slice_batch(batch, cut, n))]
    whole = plain(batch)
    assert parts[0]["ids"] + parts[1]["ids"] == whole["ids"]
    for name, values in whole["attributes"].items():
        assert parts[0]["attributes"][name] + parts[1]["attributes"][name] == values
    for name, by_row in whole["vectors"].items():
        joined = dict(parts[0]["vectors"].get(name, {})) | {row + cut: v for row, v in parts[1]["vectors"].get(name, {}).items()}
        assert joined == by_row
    for name, rows in whole["removed"].items():
        assert parts[0]["removed"].get(name, []) + [row + cut for row in parts[1]["removed"].get(name, [])] == rows


def sample_hits() -> Hits:
    arms = {"d": ArmScore(1, 0.1 + 0.2, 1.0, 2.0, 0.5), "s": ArmScore(None, None, None, 1.0, 0.0)}
    attributes = {
        "t": datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=UTC),
        "u": uuid.UUID(int=7),
        "g": (1.5, -2.25),
        "gs": [(0.0, 1.0), (2.0, 3.0)],
        "ts": [],
        "k": None,
        "us": [uuid.UUID(int=8)],
    }
    vectors = {
        "d": np.arange(4, dtype=np.float32),
        "s": (np.array([3, 2**63], np.uint64), np.array([1, 2], np.float32)),
        "m": np.ones((2, 2), np.float32),
        "h": np.ones(3, np.float16),
    }
    return Hits(
        [Hit(1, 1 / 3, attributes, {"a": [1]}, arms, vectors), Hit("two", -0.0, {"t": None}, None, {"d": arms["d"]}, {})], {"op": "scan"}
    )


def same_vectors(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(
        all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(v, b[k], strict=True))
        if isinstance(v, tuple)
        else np.array_equal(v, b[k]) and v.dtype == b[k].dtype
        for k, v in a.items()
    )


def test_hits_come_back_as_the_very_numbers():
    hits, message = sample_hits(), pb.Hits()
    answers.pack_hits(message, hits, SCHEMA)
    found = answers.unpack_hits(pb.Hits.FromString(message.SerializeToString()), answers.forms_of(SCHEMA))
    assert found.plan == {"op": "scan"}
    for a, b in zip(hits, found, strict=True):
        assert a[:5] == b[:5]
        assert same_vectors(a.vectors, b.vectors)
    found[0].vectors["d"][0] = 5  # a user's own array


def test_no_hits_come_back_as_no_hits():
    message = pb.Hits()
    answers.pack_hits(message, Hits([]), SCHEMA)
    assert answers.unpack_hits(message, pb.AttributeForms()) == Hits([])


def test_points_and_gaps_come_back():
    hit = sample_hits()[0]
    points = [None, Point(5, hit.vectors, hit.attributes, {"p": 1}, 9), None, Point("x", {}, {}, None, 3)]
    message = pb.GetResponse.FromString(answers.pack_found(points, SCHEMA, answers.forms_of(SCHEMA)).SerializeToString())
    found = answers.unpack_found(message, 4)
    assert found[0] is found[2] is None
    assert (found[1].attributes, found[1].payload, found[1].version) == (hit.attributes, {"p": 1}, 9)
    assert same_vectors(found[1].vectors, hit.vectors)
    assert found[3] == points[3]


def test_a_year_beyond_datetime_comes_back_as_numpy():
    far = np.datetime64("12345-06-07T08:09:10.000011")
    message = answers.pack_points([Point(1, {}, {"t": far}, None, 1)], SCHEMA, answers.forms_of(SCHEMA))
    assert answers.unpack_points(message)[0].attributes["t"] == far


@pytest.mark.parametrize("fusion", ["rrf", "relative", "nonsense", RRF(k=10.0, weights={"d": 2.0}), Relative({"d": 0.5}), DBSF({"s": 0.0})])
def test_a_fusion_comes_back(fusion):
    request = pb.SearchRequest()
    if (message := wire.pack_fusion(fusion)) is not None:
        request.fusion.CopyFrom(message)
    assert wire.unpack_fusion(request) == fusion


@pytest.mark.parametrize("value", [True, False, ["a", "b"], []])
def test_a_selection_comes_back(value):
    request = pb.GetRequest()
    if (message := wire.pack_selection(value, "with_vectors")) is not None:
        request.with_vectors.CopyFrom(message)
    assert wire.unpack_selection(request, "with_vectors") == value


def test_filters_travel_as_text_or_as_their_tree():
    for given_filter, form in (("i > 1", "text"), (F("i") > 1, "json"), ({"op": "gt", "field": "i", "value": 1}, "json")):
        request = pb.CountRequest(filter=wire.pack_filter(given_filter))
        assert request.filter.WhichOneof("form") == form
        expected = given_filter if isinstance(given_filter, (str, dict)) else {"op": "gt", "field": "i", "value": 1}
        assert wire.unpack_filter(request) == expected


@pytest.mark.parametrize("bad", [5, [1], object(), {"op": object()}])
def test_what_is_no_filter_is_refused_before_it_is_sent(bad):
    with pytest.raises(FilterError):
        wire.pack_filter(bad)


WANTED = calls.Wanted(None, 10, False, "rrf", None, True, False, False)


def test_queries_of_every_kind_arrive_as_they_were():
    queries = {"d": [1, 2, 3, 4], "s": {5: 1.0, 2: 2.0}, "m": [[1, 2], [3, 4]]}
    request = calls.search_request("c", SCHEMA, queries, None, WANTED, False)
    columns = wire.query_columns(pb.SearchRequest.FromString(request.SerializeToString()).vectors, 1, SCHEMA)
    for name, value in queries.items():
        expected = query_vector(name, SCHEMA.vectors[name], value)
        found = point_vector(columns[name], 0)
        for a, b in zip(expected, found, strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("changed", "error", "field"),
    [
        ({"limit": "ten"}, InvalidArgumentError, "limit"),
        ({"exact": 1}, InvalidArgumentError, "exact"),
        ({"candidates": 2.5}, InvalidArgumentError, "candidates"),
        ({"fusion": 3}, InvalidArgumentError, "fusion"),
        ({"fusion": RRF(weights={"d": "heavy"})}, InvalidArgumentError, "fusion"),
        ({"with_vectors": "d"}, InvalidArgumentError, "with_vectors"),
        ({"filter": "\ud800"}, InvalidArgumentError, "filter"),
    ],
)
def test_a_search_that_cannot_be_said_is_refused_by_name(changed, error, field):
    with pytest.raises(error) as caught:
        calls.search_request("c", SCHEMA, {"d": [1, 2, 3, 4]}, None, WANTED._replace(**changed), False)
    assert caught.value.field == field


def test_arms_of_a_batch_must_have_as_many_queries():
    with pytest.raises(InvalidArgumentError, match="different numbers"):
        calls.search_request("c", SCHEMA, {"d": np.ones((2, 4)), "m": [np.ones((1, 2))]}, None, WANTED, True)


# ---- Malformed bytes ----


def batch_with(**fields) -> pb.Batch:
    message = packed(make_batch(SCHEMA, "upsert", ids=[1, 2]))
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(message, name).extend(value)
        else:
            getattr(message, name).CopyFrom(value) if not isinstance(value, (bytes, int)) else setattr(message, name, value)
    return message


def dense(**fields) -> pb.VectorColumn:
    whole = {"data": bytes(32), "dtype": pb.DTYPE_FLOAT32, "dim": 4}
    return pb.VectorColumn(field="d", dense=pb.DenseVectors(**(whole | fields)))


def i4(*values) -> bytes:
    return np.array(values, dtype="<i4").tobytes()


def u4(*values) -> bytes:
    return np.array(values, dtype="<u4").tobytes()


def sparse(counts, terms, weights) -> pb.VectorColumn:
    return pb.VectorColumn(field="s", sparse=pb.SparseVectors(counts=counts, terms=terms, weights=weights))


F4 = np.ones(4, "<f4").tobytes()
MALFORMED = {
    "ids cut short": {"ids": pb.Ids(integers=b"1234567")},
    "ids of two kinds without kinds": {"ids": pb.Ids(integers=bytes(8), strings=["a"])},
    "kinds that disagree": {"ids": pb.Ids(kinds=b"\0\1", integers=bytes(16))},
    "a kind there isn't": {"ids": pb.Ids(kinds=b"\7", integers=bytes(8))},
    "a uuid cut short": {"ids": pb.Ids(uuids=bytes(17))},
    "an empty string id": {"ids": pb.Ids(strings=["", "b"])},
    "the same id twice": {"ids": pb.Ids(integers=bytes(16))},
    "no kind of write": {"kind": 0},
    "a kind of write there isn't": {"kind": 9},
    "dense cut short": {"vectors": [dense(data=bytes(31))]},
    "dense for too few points": {"vectors": [dense(data=bytes(16))]},
    "dense of no dtype": {"vectors": [dense(dtype=0)]},
    "dense of an unknown dtype": {"vectors": [dense(dtype=12)]},
    "dense of dim 0": {"vectors": [dense(dim=0, data=b"")]},
    "dense of a huge dim": {"vectors": [dense(dim=2**32 - 1)]},
    "dense of another dim": {"vectors": [dense(dim=2, data=bytes(16))]},
    "a zero vector for cosine": {"vectors": [dense()]},
    "dense with NaN": {"vectors": [dense(data=np.full(8, math.nan, "<f4").tobytes())]},
    "rows cut short": {"vectors": [pb.VectorColumn(field="d", rows=b"123", dense=pb.DenseVectors(data=F4, dtype=1, dim=4))]},
    "rows out of range": {"vectors": [pb.VectorColumn(field="d", rows=i4(2), dense=pb.DenseVectors(data=F4, dtype=1, dim=4))]},
    "negative rows": {"vectors": [pb.VectorColumn(field="d", rows=i4(-1), dense=pb.DenseVectors(data=F4, dtype=1, dim=4))]},
    "rows that don't ascend": {"vectors": [pb.VectorColumn(field="d", rows=i4(1, 0), dense=pb.DenseVectors(data=F4 * 2, dtype=1, dim=4))]},
    "rows whose differences overflow": {
        "vectors": [pb.VectorColumn(field="d", rows=i4(0, 2**31 - 1, -(2**31), -1, 1), dense=pb.DenseVectors(data=F4 * 5, dtype=1, dim=4))]
    },
    "counts for too few points": {"vectors": [sparse(u4(1), bytes(8), F4[:4])]},
    "counts cut short": {"vectors": [sparse(b"123", bytes(8), F4[:4])]},
    "counts beyond the terms": {"vectors": [sparse(u4(2**32 - 1, 2**32 - 1), bytes(8), F4[:4])]},
    "terms and weights that disagree": {"vectors": [sparse(u4(1, 1), bytes(16), F4[:4])]},
    "the same term twice": {"vectors": [sparse(u4(2, 0), bytes(16), F4[:8])]},
    "a matrix of no rows": {"vectors": [pb.VectorColumn(field="m", multi=pb.MultiVectors(counts=u4(1, 0), data=F4[:8], dtype=1, dim=2))]},
    "a matrix cut short": {"vectors": [pb.VectorColumn(field="m", multi=pb.MultiVectors(counts=u4(1, 1), data=F4[:8], dtype=1, dim=2))]},
    "dense vectors for a sparse field": {"vectors": [pb.VectorColumn(field="s", dense=dense().dense)]},
    "sparse vectors for a dense field": {"vectors": [pb.VectorColumn(field="d", sparse=pb.SparseVectors(counts=u4(0, 0)))]},
    "a field twice": {"vectors": [pb.VectorColumn(field="d"), pb.VectorColumn(field="d")]},
    "removed in an upsert": {"vectors": [pb.VectorColumn(field="d", removed=i4(0))]},
    "given and removed": {
        "kind": 2,
        "vectors": [pb.VectorColumn(field="d", dense=pb.DenseVectors(data=F4 * 2, dtype=1, dim=4), removed=i4(0))],
    },
    "removed out of range": {"kind": 2, "vectors": [pb.VectorColumn(field="d", removed=i4(2))]},
    "an attribute twice": {"attributes": [pb.JsonColumn(name="i", json=b"[1,2]"), pb.JsonColumn(name="i", json=b"[1,2]")]},
    "too few values": {"attributes": [pb.JsonColumn(name="i", json=b"[1]")]},
    "no list of values": {"attributes": [pb.JsonColumn(name="i", json=b'{"a":1}')]},
    "no JSON": {"attributes": [pb.JsonColumn(name="i", json=b"[1,")]},
    "no text": {"attributes": [pb.JsonColumn(name="i", json=b"\xff\xfe\xfa")]},
    "JSON without end": {"attributes": [pb.JsonColumn(name="i", json=b"[" * 200_000)]},
    "a value of another type": {"attributes": [pb.JsonColumn(name="i", json=b'["a",1]')]},
    "an integer of a million digits": {"attributes": [pb.JsonColumn(name="i", json=b"[1," + b"9" * 10**6 + b"]")]},
    "NaN for a float": {"attributes": [pb.JsonColumn(name="f", json=b"[NaN,1]")]},
    "a year out of numpy's range": {"attributes": [pb.JsonColumn(name="t", json=b'["999999999-01-01",null]')]},
    "unset in an upsert": {"attributes": [pb.JsonColumn(name="i", json=b"[1,null]", unset=b"\2")]},
    "a bitmap of another length": {"kind": 2, "attributes": [pb.JsonColumn(name="i", json=b"[1,null]", unset=b"\2\0")]},
    "too few payloads": {"payload": pb.JsonColumn(json=b"[1]")},
    "no payloads at all": {"payload": pb.JsonColumn()},
    "NaN in a payload": {"payload": pb.JsonColumn(json=b"[NaN,1]")},
    "versions cut short": {"if_version": bytes(8)},
    "a negative version": {"if_version": np.array([-5, 1], "<i8").tobytes()},
    "an empty filter": {"if_filter": pb.Filter()},
    "a filter that isn't JSON": {"if_filter": pb.Filter(json=b"{")},
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_bytes_are_an_invalid_argument_that_names_a_field(case):
    with pytest.raises(InvalidArgumentError) as caught:
        wire.unpack_batch(batch_with(**MALFORMED[case]), SCHEMA)
    assert caught.value.field is not None


@pytest.mark.parametrize("message", [pb.VectorColumn(field="z"), pb.JsonColumn(name="z", json=b"[1,2]")])
def test_an_unknown_field_is_a_schema_error(message):
    section = "vectors" if isinstance(message, pb.VectorColumn) else "attributes"
    with pytest.raises(SchemaError):
        wire.unpack_batch(batch_with(**{section: [message]}), SCHEMA)


@given(batches(), st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_bytes_are_read_or_refused_but_never_crash(batch, data):
    raw = bytearray(packed(batch).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = pb.Batch.FromString(bytes(raw))
    except Exception as error:
        assert type(error).__name__ == "DecodeError"
        return
    try:
        wire.unpack_batch(message, SCHEMA)
    except VectorDBError:
        pass


@pytest.mark.parametrize(
    "message",
    [
        pb.Hits(ids=pb.Ids(integers=bytes(8)), scores=b"123"),
        pb.Hits(ids=pb.Ids(integers=bytes(8)), scores=bytes(8), attributes=b"[1]"),
        pb.Hits(ids=pb.Ids(integers=bytes(8)), scores=bytes(8), attributes=b'[{"t":1}]'),
        pb.Hits(ids=pb.Ids(integers=bytes(8)), scores=bytes(8), attributes=b'[{"g":5}]'),
        pb.Hits(ids=pb.Ids(integers=bytes(8)), scores=bytes(8), arms=[pb.ArmScores(arm="d")]),
        pb.Hits(ids=pb.Ids(integers=bytes(8)), scores=bytes(8), plan=b"{"),
    ],
)
def test_a_malformed_answer_is_refused_too(message):
    with pytest.raises(InvalidArgumentError):
        answers.unpack_hits(message, answers.forms_of(SCHEMA))


# ---- Splitting ----


def split(batch, limit):
    def pack(part):
        request = pb.WriteRequest(collection="c")
        wire.pack_batch(request.batch, part, SCHEMA)
        return request

    return split_batch(batch, limit, pack)


def big(n=100, **more):
    return make_batch(SCHEMA, "upsert", ids=list(range(n)), vectors={"d": np.ones((n, 4))}, payload=["x" * 1000] * n, **more)


def test_a_batch_that_fits_is_one_message():
    assert len(split(big(), 10**6)) == 1


def test_a_larger_batch_is_split_in_order_and_every_message_fits():
    messages = split(big(), 10_000)
    assert len(messages) > 10
    assert all(message.ByteSize() <= 10_000 for message in messages)
    assert [i for message in messages for i in wire.unpack_ids(message.batch.ids)] == list(range(100))


def test_points_of_uneven_size_still_fit():
    payload = ["x" * (9000 if i % 10 == 0 else 10) for i in range(100)]
    batch = make_batch(SCHEMA, "upsert", ids=list(range(100)), payload=payload)
    messages = split(batch, 10_000)
    assert all(message.ByteSize() <= 10_000 for message in messages)
    assert [v for message in messages for v in wire.unpack_batch(message.batch, SCHEMA).payload] == payload


def test_one_point_too_large_is_a_limit_error_that_names_the_size():
    with pytest.raises(LimitError, match="point 0") as caught:
        split(big(2), 900)
    assert caught.value.value > 900


def test_a_conditional_batch_is_not_taken_apart():
    with pytest.raises(LimitError, match="if_version"):
        split(big(if_version=0), 10_000)


# ---- Errors ----


def all_errors() -> list[type[VectorDBError]]:
    return [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("cls", all_errors())
def test_every_error_crosses_as_its_own_class(cls):
    status, details, detail = status_of(cls("what was wrong", field="limit", value=-3))
    found = error_of(status, details, detail)
    assert type(found) is cls
    assert (found.message, found.field, found.value) == ("what was wrong", "limit", -3)


def test_the_table_holds_every_error_and_only_real_statuses():
    import grpc

    assert set(STATUS) == set(all_errors())
    assert set(STATUS.values()) <= {code.name for code in grpc.StatusCode}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, None), ("abc", "abc"), (1.5, 1.5), (True, True), (math.nan, "nan"), ([1, 2], "[1, 2]"), (10**400, None), ("\ud800", "\ud800")],
)
def test_the_value_crosses_as_itself_or_as_shown(value, shown):
    found = error_of(*status_of(InvalidArgumentError("m", value=value)))
    assert found.value == shown if shown is not None or value is None else isinstance(found.value, str)


def test_a_long_message_stays_within_the_metadata_budget():
    status, details, detail = status_of(InvalidArgumentError("ä" * 100_000, field="f" * 10_000, value="v" * 100_000))
    assert len(details.encode()) * 3 + len(detail) * 4 / 3 < 8192 - 500
    assert error_of(status, details, detail).message.endswith("…")


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        ("INVALID_ARGUMENT", errors.InvalidArgumentError),
        ("RESOURCE_EXHAUSTED", errors.LimitError),
        ("FAILED_PRECONDITION", errors.PreconditionError),
        ("UNAVAILABLE", errors.UnavailableError),
        ("DEADLINE_EXCEEDED", errors.DeadlineError),
        ("CANCELLED", errors.UnavailableError),
        ("UNKNOWN", errors.VectorDBError),
        ("INTERNAL", errors.VectorDBError),
    ],
)
@pytest.mark.parametrize("detail", [None, b"\xff\xff", pb.ErrorDetail(class_name="FromTheFuture").SerializeToString()])
def test_a_status_without_a_readable_detail_has_a_meaning(status, cls, detail):
    assert type(error_of(status, "details", detail)) is cls


def test_generated_code_is_what_the_proto_says(tmp_path):
    pytest.importorskip("grpc_tools")
    import os
    import subprocess
    import sys
    from pathlib import Path

    root = Path(__file__).parent.parent
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"--proto_path={root / 'proto'}",
        f"--python_out={tmp_path}",
        "vectordb/v1/vectordb.proto",
    ]
    subprocess.run(command, check=True, env=os.environ)
    made = (tmp_path / "vectordb/v1/vectordb_pb2.py").read_text()
    assert made == (root / "client/vectordb_client/v1/vectordb_pb2.py").read_text()


def test_the_words_alone_import_no_grpc():
    import subprocess
    import sys

    before = "import sys, vectordb_client, vectordb_client.schema; assert 'grpc' not in sys.modules; "
    subprocess.run([sys.executable, "-c", before + "vectordb_client.Client; assert 'grpc' in sys.modules"], check=True)


def test_columns_of_all_kinds_are_named_in_the_tests():
    assert {DenseColumn, SparseColumn, MultiColumn} == set(wire._COLUMNS.values())
