"""Transactions of the service: rights for every collection that is named, limits of every step, the audit log, broken messages."""

from __future__ import annotations

import json

import pytest
from vectordb_client import AsyncClient, Client, InvalidArgumentError, LimitError, PermissionDeniedError, Schema
from vectordb_client.model.access import AwaitForgottenError
from vectordb_client.model.schema import Int
from vectordb_client.v1 import vectordb_pb2 as pb

import vectordb
from tests.support.places import serving
from vectordb.server.access import keys

SCHEMA = Schema({}, {"n": Int()})


@pytest.fixture
def service(tmp_path):
    """(function that makes a client with rights, the database, what the audit log says)."""
    file, log, clients = tmp_path / "data" / "keys.json", tmp_path / "audit.log", []
    with vectordb.open(tmp_path / "data") as database:
        for name in ("a", "b"):
            database.create_collection(name, SCHEMA)
        tokens = {
            "writer": keys.create(file, "write")[0],
            "reader": keys.create(file, "read")[0],
            "of a": keys.create(file, "write", collections=["a"])[0],
        }
        with serving(database, audit_log=str(log), max_points=3, max_filter_nodes=40) as address:

            def client(name):
                clients.append(Client(address, api_key=tokens[name]))
                return clients[-1]

            yield client, database, lambda: [json.loads(line) for line in log.read_text().splitlines()]
            for each in clients:
                each.close()


def both(client):
    with client.transaction() as t:
        t["a"].upsert(ids=[1, 2], attributes={"n": [1, 2]})
        t["b"].upsert(ids=[1], attributes={"n": [1]})


def test_a_key_needs_every_collection_that_a_transaction_names(service):
    client, database, audited = service
    for name in ("reader", "of a"):
        limited = client(name)
        with pytest.raises(PermissionDeniedError):
            both(limited)
        request = pb.TransactRequest()
        for collection in ("a", "b"):
            request.steps.add().write.collection = collection
        with pytest.raises(PermissionDeniedError):
            limited._call("Transact", request, None)
    assert database.collection("a").count() == 0
    both(client("writer"))
    assert database.collection("a").count() == 2
    lines = [(line["collections"], line["points"], line["outcome"]) for line in audited() if line["method"] == "Transact"]
    assert lines == [(["a", "b"], 0, "PERMISSION_DENIED")] * 3 + [(["a", "b"], 3, "OK")]


def test_the_limits_hold_for_each_step(service):
    client = service[0]("writer")
    with pytest.raises(LimitError, match="max_points"), client.transaction() as t:
        t["a"].upsert(ids=[1])
        t["b"].upsert(ids=[1, 2, 3, 4])
    with pytest.raises(LimitError, match="max_filter_nodes"), client.transaction() as t:
        t["a"].delete(filter=" OR ".join(f"n = {i}" for i in range(50)))
    with pytest.raises(LimitError, match="isn't split"), client.transaction() as t:
        for i in range(3):
            t["a"].upsert(ids=[i], payload=["x" * (client.server_info()["max_message_bytes"] // 2)])
    assert service[1].collection("a").count() == 0


def test_messages_that_mean_nothing_are_refused(service):
    client = service[0]("writer")
    for step in (pb.TransactStep(), pb.TransactStep(delete=pb.DeleteRequest(collection="a", durability="commit"))):
        with pytest.raises(InvalidArgumentError):
            client._call("Transact", pb.TransactRequest(steps=[step]), None)


async def _forgets(address, token):
    async with AsyncClient(address, api_key=token) as client:
        with pytest.raises(AwaitForgottenError, match="nothing was written"):
            async with client.transaction() as t:
                await t["a"].upsert(ids=[1])
                t["b"].upsert(ids=[1]).close()
        return await (await client.collection("a")).count()


def test_a_write_of_asyncio_that_is_not_awaited_is_an_error(service):
    import asyncio

    client, database, _ = service
    known = client("writer")
    token = dict(known._metadata)["authorization"].split()[1]
    assert asyncio.run(_forgets(known.target, token)) == 0
    assert database.collection("b").count() == 0
