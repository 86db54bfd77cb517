"""What keys may do: roles, collections, vectors, models; and that nothing is told of what a key may not see."""

from __future__ import annotations

import json

import grpc
import numpy as np
import pytest
from vectordb_client import (
    Client,
    Dense,
    NotFoundError,
    PermissionDeniedError,
    Prefetch,
    Schema,
    Sparse,
)
from vectordb_client.model.schema import Text
from vectordb_client.rpc.methods import METHODS
from vectordb_client.v1 import vectordb_pb2 as pb

import vectordb
from tests.support.keyed import POINT, SCHEMA, clients, serving
from vectordb.server.access import keys
from vectordb.server.main import start


@pytest.fixture(autouse=True)
def eager(request, monkeypatch):
    """The key file is looked at with every call, but where the test is about that."""
    if "by_itself" not in request.node.name:
        monkeypatch.setattr(keys, "_LOOK_SECONDS", -1.0)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "data" / "keys.json"


@pytest.fixture
def address(tmp_path, file):
    """A service with two collections and the key ``root`` to everything."""
    with serving(tmp_path / "data", file) as address:
        yield address


@pytest.fixture
def client(address, file):
    """A client whose key has such rights."""
    with clients(address, file) as make:
        yield make


LEAST = {
    "ServerInfo": "read",
    "ListCollections": "read",
    "DescribeCollection": "read",
    "Get": "read",
    "Search": "read",
    "Count": "read",
    "Scroll": "read",
    "Write": "write",
    "Delete": "write",
    "Optimize": "write",
    "CreateCollection": "admin",
    "DropCollection": "admin",
    "AddFields": "admin",
    "SetTerms": "write",
    "SetMemory": "admin",
    "ListTerms": "read",
    "Status": "read",
    "Snapshot": "admin",
    "Purge": "admin",
    "Changes": "read",
    "Transact": "write",
    "RenameCollection": "admin",
    "SetAlias": "admin",
    "Alter": "admin",
    "DropFields": "admin",
    "KeepHistory": "admin",
    "RenameFields": "admin",
    "DropAlias": "admin",
    "ListAliases": "read",
    "Branch": "admin",
    "Diff": "read",
    "Merge": "write",
    "Facets": "read",
    "Aggregate": "read",
    "Explore": "read",
    "Fit": "write",
    "Migrate": "write",
    "CancelMigration": "write",
    "Migration": "read",
    "Report": "read",
}


def test_every_method_of_the_service_names_its_collection():
    assert set(METHODS) == set(LEAST)
    for name, method in METHODS.items():
        fields = method.request.DESCRIPTOR.fields_by_name
        assert ("collection" in fields) <= (method.collection == "collection"), name


def _ask(client, method, collection):
    """A call that is well formed but for a collection that may not be there."""
    about = METHODS[method].collection
    request = pb.__dict__[f"{method}Request"](**({about: collection} if about else {}))
    path = METHODS[method].path
    return client._channel.unary_unary(path)(request.SerializeToString(), metadata=client._metadata, timeout=10)


@pytest.mark.parametrize("role", keys.ROLES)
def test_a_role_may_call_its_methods_and_no_others(client, role):
    holder = client(role, vectors=True)
    for method, least in LEAST.items():
        allowed = keys.ROLES.index(role) >= keys.ROLES.index(least)
        try:
            _ask(holder, method, "none")
            denied = False
        except grpc.RpcError as error:
            denied = error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert denied is not allowed, method


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.collection and not method.all_collections])
def test_whether_another_collection_exists_is_not_told(client, method):
    holder = client("admin", collections=["mine"], vectors=True)
    said = []
    for name in ("theirs", "nobodys", "", "no name"):
        with pytest.raises(grpc.RpcError) as caught:
            _ask(holder, method, name)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        said.append(caught.value.details().replace(repr(name), "NAME"))
    assert len(set(said)) == 1 and method in said[0] and "key for that collection" in said[0]


def test_a_scoped_key_sees_only_its_collections(client):
    holder = client("admin", collections=["mine", "later"])
    assert holder.collections() == ["mine"]
    with pytest.raises(NotFoundError) as caught:
        holder.collection("later")
    assert "theirs" not in str(caught.value) and caught.value.value == "later"
    with pytest.raises(NotFoundError) as caught:
        holder.drop_collection("later")
    assert "theirs" not in str(caught.value)
    assert holder.create_collection("later", SCHEMA).count() == 0
    assert holder.collections() == ["later", "mine"]
    with pytest.raises(PermissionDeniedError, match="'theirs'"):
        holder.drop_collection("theirs")
    assert client().collections() == ["later", "mine", "theirs"]


def test_an_error_names_method_collection_and_right(client):
    reader = client("read", collections=["mine"])
    with pytest.raises(
        PermissionDeniedError, match=r"^Write of collection 'mine' needs the role write, which API key \w+ does not have$"
    ) as caught:
        reader.collection("mine").upsert([POINT])
    assert (caught.value.field, caught.value.value) == ("role", "write")
    assert reader.collection("mine").count() == 1


# Each a list of points or hits.
ROUTES = {
    "get": lambda docs, which: [docs.get(1, with_vectors=which)],
    "get many": lambda docs, which: docs.get([1, 2], with_vectors=which),
    "search": lambda docs, which: docs.search({"d": [1, 2, 3, 4]}, with_vectors=which),
    "search batch": lambda docs, which: docs.search_batch({"d": np.ones((2, 4))}, with_vectors=which)[1],
    "search stages": lambda docs, which: docs.search({"d": [1, 2, 3, 4]}, prefetch=Prefetch({"s": {7: 1.0}}, limit=1), with_vectors=which),
    "scroll": lambda docs, which: docs.scroll(with_vectors=which),
    "iterate": lambda docs, which: list(docs.iterate(with_vectors=which)),
}


@pytest.mark.parametrize("route", sorted(ROUTES))
def test_vectors_are_fetched_with_their_own_right_only(client, route):
    for role in keys.ROLES:
        docs = client(role).collection("mine")
        for which in (True, ["d"], ["s"], ["none"]):
            with pytest.raises(PermissionDeniedError, match="the right to read vectors") as caught:
                ROUTES[route](docs, which)
            assert caught.value.field == "with_vectors"
        assert [found.vectors for found in ROUTES[route](docs, False) if found] == [{}]
    (there, *_) = ROUTES[route](client("read", vectors=True).collection("mine"), True)
    assert there.vectors["d"].tolist() == [1, 2, 3, 4]


def test_a_plan_does_not_tell_the_weights_of_points(client):
    """What each term contributed, divided by the query's weight, is what is stored."""
    for options in ({}, {"prefetch": Prefetch({"s": {7: 1.0, 8: 1.0}}, limit=5)}):
        plans = [
            client("read", vectors=right).collection("mine").search({"s": {7: 1.0, 8: 1.0}}, explain=True, **options).plan
            for right in (True, False)
        ]
        assert "0.25" in str(_matched(plans[0])) and _matched(plans[1]) in ([[]], [[], []])
        assert plans[1]["arms"][0]["terms"] and "sparse s" in str(plans[1])


def _matched(plan):
    stages = []
    while plan is not None:
        stages += [arm["matched"] for arm in plan["arms"]]
        plan = plan["prefetch"]
    return stages


def test_only_an_admin_of_everything_names_models(client, tmp_path):
    schema = {"vectors": {"e": {"kind": "dense", "dim": 4, "encoder": f"sentence-transformers(model={tmp_path})", "source": "t"}}}
    whole = {"attributes": {"t": {"kind": "text"}}, **schema}
    scoped = client("admin", collections=["mine", "later"])
    for request in (
        pb.CreateCollectionRequest(name="later", schema=json.dumps(whole).encode()),
        pb.AddFieldsRequest(collection="mine", fields=json.dumps(whole).encode()),
    ):
        method = type(request).__name__.removesuffix("Request")
        found = {}
        for holder in (scoped, client("admin")):
            with pytest.raises(grpc.RpcError) as caught:
                holder._channel.unary_unary(METHODS[method].path)(request.SerializeToString(), metadata=holder._metadata, timeout=60)
            found[holder] = caught.value.code()
        # The admin of everything is told what is wrong with the model.
        assert list(found.values()) == [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.FAILED_PRECONDITION]
    with pytest.raises(PermissionDeniedError, match="to name a model"):
        scoped.collection("mine").migrate("v", f"sentence-transformers(model={tmp_path})", dry_run=True)
    assert scoped.create_collection("later", Schema({"b": Sparse(encoder="bm25", source="t")}, {"t": Text()})).count() == 0


def test_a_service_open_to_others_without_keys_loads_no_models(tmp_path):
    with vectordb.open(tmp_path / "data") as database:
        server, port = start(database, host="0.0.0.0", port=0, insecure=True)
        with Client(f"127.0.0.1:{port}") as client, pytest.raises(PermissionDeniedError, match="model"):
            client.create_collection("c", Schema({"e": Dense(4, encoder="sentence-transformers(model=/tmp)", source="t")}, {"t": Text()}))
        server.stop(0).wait()
