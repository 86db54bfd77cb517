"""API keys: the key file, the permissions of each role in every method, and no information about unreadable collections."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from vectordb_client import (
    AsyncClient,
    AuthenticationError,
    Client,
    Dense,
    InvalidArgumentError,
    LimitError,
    NotFoundError,
    PermissionDeniedError,
    Prefetch,
    Schema,
    Sparse,
    StorageError,
    UnavailableError,
)
from vectordb_client.model.schema import Int, Text
from vectordb_client.rpc.methods import METHODS, SERVICE
from vectordb_client.v1 import vectordb_pb2 as pb

import vectordb
from vectordb.cli import main
from vectordb.server.access import keys
from vectordb.server.main import start

SCHEMA = Schema({"d": Dense(4), "s": Sparse()}, {"n": Int()})
POINT = {"id": 1, "vectors": {"d": [1, 2, 3, 4], "s": {7: 0.5, 8: 0.25}}, "attributes": {"n": 3}}


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
    with vectordb.open(tmp_path / "data") as database:
        for name in ("mine", "theirs"):
            database.create_collection(name, SCHEMA).upsert([POINT])
        keys.create(file, "read")
        server, port = start(database, port=0)
        yield f"127.0.0.1:{port}"
        server.stop(0).wait()


@pytest.fixture
def client(address, file):
    """A client whose key has such rights."""
    opened = []

    def make(role="read", collections=None, **rights):
        token, _ = keys.create(file, role, collections=collections, **rights)
        opened.append(Client(address, api_key=token))
        until(lambda: opened[-1].server_info())
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def until(works, refused=(AuthenticationError,), seconds=300.0):
    """What ``works`` returns, once the service has seen the change."""
    end = time.monotonic() + seconds
    while True:
        try:
            return works()
        except refused:
            assert time.monotonic() < end
            time.sleep(0.02)


def until_refused(work, error):
    end = time.monotonic() + 300
    while True:
        try:
            work()
        except error as caught:
            return caught
        assert time.monotonic() < end
        time.sleep(0.02)


# ---- The file ----


def test_a_key_is_kept_as_a_hash_for_its_owner_only(file):
    token, key = keys.create(file, "write", collections=["b", "a"], vectors=True, note="for the shop")
    assert token.startswith(f"vdb_{key.id}_") and len(token) > 50
    text = file.read_text()
    assert token not in text and token.split("_", 2)[2] not in text
    assert file.stat().st_mode & 0o777 == 0o600
    assert keys.read(file) == (key,) and key.collections == ("a", "b")
    other, _ = keys.create(file, "read")
    assert other != token and len(keys.read(file)) == 2
    keys.revoke(file, key.id)
    assert [each.role for each in keys.read(file)] == ["read"]
    assert os.listdir(file.parent) == ["keys.json"]


def test_keys_made_at_the_same_time_are_all_kept(file):
    threads = [threading.Thread(target=keys.create, args=(file, "read")) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({key.id for key in keys.read(file)}) == 16


def test_what_is_no_key_is_not_made(file):
    with pytest.raises(InvalidArgumentError) as caught:
        keys.create(file, "root")
    assert (caught.value.field, caught.value.value) == ("role", "root")
    with pytest.raises(InvalidArgumentError, match="in the future"):
        keys.create(file, "read", expires=datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(InvalidArgumentError, match="not a name"):
        keys.create(file, "read", collections=["no name"])
    assert not file.exists()
    with pytest.raises(InvalidArgumentError, match="90d"):
        keys.expiry("soon")
    assert keys.expiry("2030-01-31") == datetime(2030, 1, 31, tzinfo=UTC)
    assert timedelta(days=89) < keys.expiry("90d") - datetime.now(UTC) <= timedelta(days=90)


def test_there_is_an_end_to_the_number_of_keys(file, monkeypatch):
    monkeypatch.setattr(keys, "MAX_KEYS", 2)
    for _ in range(2):
        keys.create(file, "read")
    with pytest.raises(LimitError, match="the maximum is 2"):
        keys.create(file, "read")


@pytest.mark.parametrize("text", ["", "{}", '{"version": 2, "keys": []}', '{"version": 1, "keys": [{"id": "a"}]}', "\xff"])
def test_a_file_that_is_no_key_file_stops_the_start(tmp_path, file, text):
    file.parent.mkdir()
    file.write_text(text)
    with vectordb.open(tmp_path / "data") as database, pytest.raises(StorageError, match=r"keys\.json") as caught:
        start(database, port=0)
    assert caught.value.field == "keys_file"


def test_a_file_that_others_may_write_is_refused(file):
    keys.create(file, "read")
    file.chmod(0o622)
    with pytest.raises(StorageError, match="chmod 600"):
        keys.read(file)


def test_the_command_line_makes_lists_and_revokes(tmp_path, file, capsys):
    folder = str(tmp_path / "data")
    wanted = ["--role", "admin", "--collection", "docs", "--vectors", "--expires", "90d"]
    assert main(["keys", "create", "--data", folder, "--create", *wanted]) == 0
    said = capsys.readouterr()
    (token,) = said.out.split()
    assert token not in said.err
    assert main(["keys", "list", "--data", folder, "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["role"], listed["collections"], listed["vectors"]) == ("admin", ["docs"], True) and f"_{listed['id']}_" in token
    assert main(["keys", "list", "--keys-file", str(file)]) == 0
    assert "admin docs, with vectors, expires " in capsys.readouterr().out
    assert main(["keys", "revoke", listed["id"], "--data", folder]) == 0
    assert main(["keys", "revoke", listed["id"], "--data", folder]) == 1
    assert "no key" in capsys.readouterr().err
    assert main(["keys", "list", "--data", folder]) == 0
    assert capsys.readouterr().out == ""


def test_a_key_is_made_where_a_database_is_or_is_to_be(tmp_path, capsys):
    """A misspelt directory is told, not made; an empty one may be a new volume."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("no database")
    for folder in (tmp_path / "typo", other):
        assert main(["keys", "create", "--data", str(folder)]) == 1
        said = capsys.readouterr()
        assert said.out == "" and f"no database in {folder}" in said.err and "--create" in said.err
    assert not (tmp_path / "typo").exists() and not (other / "keys.json").exists()
    (tmp_path / "volume").mkdir()
    for _ in range(2):
        assert main(["keys", "create", "--data", str(tmp_path / "volume")]) == 0
    assert len(keys.read(tmp_path / "volume" / "keys.json")) == 2


def test_a_key_to_a_collection_that_is_not_there_is_made_with_a_warning(tmp_path, capsys):
    with vectordb.open(tmp_path / "data") as database:
        database.create_collection("docs", Schema({"d": Dense(2)}))
        for names, missing in ((["docs"], []), (["docs", "dcos"], ["dcos"])):
            named = [part for name in names for part in ("--collection", name)]
            assert main(["keys", "create", "--data", str(tmp_path / "data"), *named]) == 0
            said = capsys.readouterr()
            assert said.out.startswith("vdb_")
            assert [name for name in names if f"collection '{name}' does not exist" in said.err] == missing


# ---- Who is let in ----


def test_without_a_valid_key_nobody_is_let_in(address, file):
    token, key = keys.create(file, "admin", vectors=True)
    with Client(address, api_key=token) as client:
        until(client.server_info)
    secret = token.split("_", 2)[2]  # it may contain "_" too
    wrong = [
        None, token[:-1], token + "x", f"vdb_{key.id}_", f"vdb__{secret}", secret, key.hash, f"vdb_{key.id}_{key.hash}",
        f"VDB_{key.id}_{secret}", "x",
    ]  # fmt: skip
    for given in wrong:
        with Client(address, api_key=given) as client, pytest.raises(AuthenticationError, match="API key") as caught:
            client.server_info()
        assert caught.value.field == "api_key" and caught.value.value is None
        assert secret not in str(caught.value)
    headers = [
        [("authorization", token)],
        [("authorization", f"Basic {token}")],
        [("authorization", f"Bearer {token}"), ("authorization", f"Bearer {token}")],
        [("api-key", f"Bearer {token}")],
        [("authorization-bin", f"Bearer {token}".encode())],
    ]
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(METHODS["ServerInfo"].path)
        for metadata in headers:
            with pytest.raises(grpc.RpcError) as caught:
                method(b"", metadata=metadata, timeout=10)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, metadata
        assert method(b"", metadata=[("authorization", f"bearer {token}")], timeout=10)


def test_every_method_wants_a_key_before_it_reads_the_message(address):
    with grpc.insecure_channel(address) as channel:
        for path in [method.path for method in METHODS.values()]:
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(path)(b"\xff\xff not a message", timeout=10)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, path


def test_callers_without_a_key_take_no_thread_of_the_others(address, client):
    """They open calls and never send the message: more than there are threads."""
    never = threading.Event()

    def messages():
        never.wait(60)
        yield b""

    reader = client()
    with grpc.insecure_channel(address) as channel:
        open_calls = [channel.stream_unary(METHODS["Count"].path).future(messages(), timeout=60) for _ in range(12)]
        for call in open_calls:
            assert call.code() is grpc.StatusCode.UNAUTHENTICATED
        assert reader.collection("mine").count() == 1
        never.set()


def test_health_is_open_and_reflection_is_not(address, file):
    token, _ = keys.create(file, "read", collections=["mine"])
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status == health_pb2.HealthCheckResponse.SERVING
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
        with pytest.raises(grpc.RpcError) as caught:
            list(reflect(iter(asked), timeout=5))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        metadata = [("authorization", f"Bearer {token}")]
        (answer,) = until(lambda: list(reflect(iter(asked), timeout=5, metadata=metadata)), grpc.RpcError)
        assert SERVICE.full_name in {each.name for each in answer.list_services_response.service}


def test_a_revoked_and_an_expired_key_end_by_itself_while_the_service_runs(address, file):
    token, key = keys.create(file, "read", expires=datetime.now(UTC) + timedelta(hours=1))
    with Client(address, api_key=token) as client:
        until(client.server_info)
        past = file.read_text().replace(json.dumps(key.expires.isoformat().replace("+00:00", "Z")), '"2020-01-01T00:00:00Z"')
        file.write_text(past)
        assert "expired" in str(until_refused(client.server_info, AuthenticationError))
        keys.revoke(file, key.id)
        end = time.monotonic() + 300
        while "not valid" not in str(until_refused(client.server_info, AuthenticationError)):
            assert time.monotonic() < end
            time.sleep(0.02)


def test_a_key_file_that_is_gone_or_damaged_lets_nobody_in(address, file, client, caplog):
    reader = client()
    whole = file.read_bytes()
    file.write_bytes(b"{}")
    assert "key" in str(until_refused(reader.server_info, UnavailableError))
    assert "keys.json" in caplog.text
    file.write_bytes(whole)
    until(reader.server_info, UnavailableError)
    file.unlink()
    until_refused(reader.server_info, UnavailableError)
    with Client(reader.target) as stranger, pytest.raises((AuthenticationError, UnavailableError)):
        stranger.server_info()


def test_keys_made_while_the_service_runs_are_wanted_from_then_on(tmp_path):
    with vectordb.open(tmp_path / "data") as database:
        server, port = start(database, port=0)
        with Client(f"127.0.0.1:{port}") as client:
            assert client.collections() == []
            keys.create(tmp_path / "data" / "keys.json", "read")
            until_refused(client.collections, AuthenticationError)
        server.stop(0).wait()


def test_another_key_file_can_be_named_and_must_be_there(tmp_path):
    with vectordb.open(tmp_path / "data") as database:
        with pytest.raises(StorageError, match="vectordb keys create"):
            start(database, port=0, keys_file=str(tmp_path / "secret" / "keys"))
        token, _ = keys.create(tmp_path / "secret" / "keys", "read")
        server, port = start(database, port=0, keys_file=str(tmp_path / "secret" / "keys"))
        with Client(f"127.0.0.1:{port}", api_key=token) as client, Client(f"127.0.0.1:{port}") as stranger:
            assert client.collections() == []
            with pytest.raises(AuthenticationError):
                stranger.collections()
        server.stop(0).wait()


async def _names(address, **arguments):
    async with AsyncClient(address, **arguments) as client:
        return await client.collections()


def test_the_async_client_carries_its_key(address, file):
    import asyncio

    token, _ = keys.create(file, "read", collections=["mine"])
    assert until(lambda: asyncio.run(_names(address, api_key=token))) == ["mine"]
    with pytest.raises(AuthenticationError):
        asyncio.run(_names(address))


@pytest.mark.parametrize("given", ["", "a b", "ä", "a\n", 7, b"abc", "x" * 2000])
def test_what_cannot_be_a_key_is_refused_without_being_shown(given):
    for kind in (Client, AsyncClient):
        with pytest.raises(InvalidArgumentError) as caught:
            kind("127.0.0.1:1", api_key=given)
        assert caught.value.field == "api_key" and caught.value.value is None


# ---- What they may do ----

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
    "ListTerms": "read",
    "Status": "read",
    "Snapshot": "admin",
    "Purge": "admin",
    "Changes": "read",
    "Transact": "write",
    "RenameCollection": "admin",
    "SetAlias": "admin",
    "DropFields": "admin",
    "RenameFields": "admin",
    "DropAlias": "admin",
    "ListAliases": "read",
    "Branch": "admin",
    "Diff": "read",
    "Merge": "write",
    "Facets": "read",
    "Aggregate": "read",
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
    assert scoped.create_collection("later", Schema({"b": Sparse(encoder="bm25", source="t")}, {"t": Text()})).count() == 0


def test_a_service_open_to_others_without_keys_loads_no_models(tmp_path):
    with vectordb.open(tmp_path / "data") as database:
        server, port = start(database, host="0.0.0.0", port=0, insecure=True)
        with Client(f"127.0.0.1:{port}") as client, pytest.raises(PermissionDeniedError, match="model"):
            client.create_collection("c", Schema({"e": Dense(4, encoder="sentence-transformers(model=/tmp)", source="t")}, {"t": Text()}))
        server.stop(0).wait()


def test_a_service_notices_by_itself_what_another_process_does_to_its_keys(tmp_path):
    """Made by another process, as the command line does."""
    with vectordb.open(tmp_path / "data") as database:
        keys.create(tmp_path / "data" / "keys.json", "read")
        server, port = start(database, port=0)
        command = [sys.executable, "-m", "vectordb", "keys", "create", "--data", str(tmp_path / "data"), "--role", "admin"]
        token = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        with Client(f"127.0.0.1:{port}", api_key=token) as client:
            assert until(client.collections) == []
        server.stop(0).wait()
