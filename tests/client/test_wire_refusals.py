"""Malformed messages are refused with the field's name, large batches are split, and errors keep their classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectordb_client import errors
from vectordb_client.errors import InvalidArgumentError, LimitError, SchemaError, VectorDBError
from vectordb_client.model.batch import make_batch
from vectordb_client.rpc import answers, wire
from vectordb_client.rpc.split import split_batch
from vectordb_client.rpc.status import STATUS, error_of, status_of
from vectordb_client.v1 import vectordb_pb2 as pb

from tests.support.nightly import cases
from tests.support.wire_batches import SCHEMA, batches, packed

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
@settings(max_examples=cases(100, 300), deadline=None)
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
