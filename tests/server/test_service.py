"""A service answers whatever is sent: errors keep their class, unexpected ones say nothing, and malformed messages are refused by name."""

from __future__ import annotations

import logging

import grpc
import numpy as np
import pytest
from vectordb_client import Client, ClosedError, Dense, MultiVector, Schema, Sparse, UnavailableError, VectorDBError, errors
from vectordb_client.rpc.methods import METHODS
from vectordb_client.v1 import vectordb_pb2 as pb

from tests.support.places import serving


@pytest.fixture
def address(database):
    with serving(database) as address:
        yield address


@pytest.fixture
def client(address):
    with Client(address) as client:
        yield client


@pytest.fixture
def docs(database):
    docs = database.create_collection("docs", Schema({"d": Dense(8), "s": Sparse(), "m": MultiVector(4)}))
    docs.upsert(ids=[1], vectors={"d": np.ones((1, 8))})


def raw(address, rpc, data, timeout=10.0):
    with grpc.insecure_channel(address) as channel:
        return channel.unary_unary(METHODS[rpc].path)(data, timeout=timeout)


@pytest.mark.parametrize("recall", [0.0, -1.0, 1.5, float("nan"), float("inf")])
def test_a_recall_that_is_none_is_refused_from_any_client(docs, address, recall):
    column = pb.VectorColumn(field="d", dense=pb.DenseVectors(data=np.ones(8, "<f4").tobytes(), dtype=1, dim=8))
    request = pb.SearchRequest(collection="docs", queries=1, limit=1, vectors=[column], recall=recall)
    with pytest.raises(grpc.RpcError) as caught:
        raw(address, "Search", request.SerializeToString())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT and "recall" in caught.value.details()


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_of_the_database_reaches_the_caller(database, client, monkeypatch, name):
    cls = getattr(errors, name)

    def refuse():
        raise cls("for a reason", field="path", value=7)

    monkeypatch.setattr(database, "collections", refuse)
    with pytest.raises(VectorDBError) as caught:
        client.collections()
    if cls is ClosedError:  # of the service's database, not of this client
        assert type(caught.value) is UnavailableError
    else:
        assert (type(caught.value), caught.value.message, caught.value.field, caught.value.value) == (cls, "for a reason", "path", 7)


def test_an_unexpected_error_says_nothing_of_the_inside(database, client, monkeypatch, caplog):
    def fail():
        raise KeyError("a secret text")

    monkeypatch.setattr(database, "collections", fail)
    with caplog.at_level(logging.ERROR), pytest.raises(VectorDBError) as caught:
        client.collections()
    assert type(caught.value) is VectorDBError
    assert "secret" not in str(caught.value)
    assert "KeyError" in caplog.text and "in list_collections" in caplog.text
    assert "secret text" not in caplog.text.replace('raise KeyError("a secret text")', "")


@pytest.mark.parametrize("rpc", sorted(METHODS))
def test_bytes_that_are_no_message_are_an_invalid_argument(address, rpc):
    with pytest.raises(grpc.RpcError) as caught:
        raw(address, rpc, b"\x0a\xff\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("rpc", sorted(METHODS))
def test_an_empty_message_is_answered_or_refused_by_name(docs, address, rpc):
    try:
        raw(address, rpc, b"")
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


@pytest.mark.parametrize(
    "request_",
    [
        pb.SearchRequest(collection="docs", queries=2, limit=1),
        pb.SearchRequest(collection="docs", queries=10_000, batch=True, limit=1),
        pb.SearchRequest(collection="docs", queries=1, limit=1, vectors=[pb.VectorColumn(field="d")]),
        pb.SearchRequest(
            collection="docs",
            queries=1,
            limit=1,
            vectors=[pb.VectorColumn(field="d", rows=b"\0\0\0\0", dense=pb.DenseVectors(data=bytes(32), dtype=1, dim=8))],
        ),
        pb.SearchRequest(collection="docs", queries=1, limit=1, texts=[pb.TextQuery(texts=["a", "b"])]),
        pb.SearchRequest(collection="docs", queries=1, limit=1, texts=[pb.TextQuery(texts=["a"]), pb.TextQuery(field="s", texts=["a"])]),
        pb.SearchRequest(collection="docs", queries=1, limit=1, fusion=pb.Fusion(method="dbsf", k=3)),
    ],
)
def test_a_search_that_contradicts_itself_is_refused(docs, address, request_):
    with pytest.raises(grpc.RpcError) as caught:
        raw(address, "Search", request_.SerializeToString())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
