"""The key file, and who is let in: keys made, revoked, expired and damaged while the service runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import grpc
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
    Schema,
    StorageError,
    UnavailableError,
)
from vectordb_client.rpc.methods import METHODS, SERVICE

import vectordb
from tests.support.keyed import clients, serving, until, until_refused
from vectordb.cli import main
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
