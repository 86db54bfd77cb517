"""TLS and mutual TLS; serving a network without encryption needs an explicit option."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from vectordb_client import AsyncClient, AuthenticationError, Client, InvalidArgumentError, StorageError, UnavailableError

import vectordb
from tests.support.certificates import Authority
from vectordb.server.access import keys
from vectordb.server.access.tls import check_exposure, is_loopback
from vectordb.server.main import start
from vectordb.server.settings import Settings


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("pki") / "ours")


@pytest.fixture
def serving(tmp_path):
    """From settings to the address of a service that has them."""
    with vectordb.open(tmp_path / "data") as database:
        stop = []

        def make(**settings):
            server, port = start(database, port=0, **{name: str(value) for name, value in settings.items()})
            stop.append(server)
            return f"127.0.0.1:{port}"

        yield make
        for server in stop:
            server.stop(0).wait()


def ask(address, **arguments):
    """The collections, asked by both clients."""

    async def ask_async():
        async with AsyncClient(address, timeout=5, **arguments) as client:
            return await client.collections()

    with Client(address, timeout=5, **arguments) as client:
        found = client.collections()
    assert asyncio.run(ask_async()) == found
    return found


def test_an_encrypted_service_is_found_by_those_who_trust_it(serving, pki, tmp_path):
    certificate, key = pki.certificate("server")
    address = serving(tls_cert=certificate, tls_key=key)
    assert ask(address, tls=pki.ca) == []
    assert ask(address.replace("127.0.0.1", "localhost"), tls=str(pki.ca)) == []
    other = Authority(tmp_path / "others")
    for arguments in ({}, {"tls": True}, {"tls": other.ca}):
        with Client(address, timeout=5, **arguments) as client, pytest.raises(UnavailableError):
            client.collections()


def test_mutual_tls_wants_a_certificate_of_the_client(serving, pki, tmp_path):
    certificate, key = pki.certificate("server")
    address = serving(tls_cert=certificate, tls_key=key, tls_client_ca=pki.ca)
    own = dict(zip(("tls_cert", "tls_key"), pki.certificate("client"), strict=True))
    assert ask(address, tls=pki.ca, **own) == []
    others = dict(zip(("tls_cert", "tls_key"), Authority(tmp_path / "others").certificate("client"), strict=True))
    for arguments in ({}, others):
        with Client(address, timeout=5, tls=pki.ca, **arguments) as client, pytest.raises(UnavailableError):
            client.collections()


def test_keys_travel_over_tls(serving, pki, tmp_path):
    token, _ = keys.create(tmp_path / "data" / "keys.json", "read")
    certificate, key = pki.certificate("server")
    address = serving(tls_cert=certificate, tls_key=key)
    assert ask(address, tls=pki.ca, api_key=token) == []
    with Client(address, tls=pki.ca) as client, pytest.raises(AuthenticationError):
        client.collections()


def test_a_renewed_certificate_is_served_without_a_restart(serving, pki, tmp_path):
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    renewed = Authority(tmp_path / "renewed")
    for source in (pki, renewed):
        found = source.certificate("server")
        key.write_bytes(found[1].read_bytes())
        certificate.write_bytes(found[0].read_bytes())
        if source is pki:
            address = serving(tls_cert=certificate, tls_key=key)
        assert ask(address, tls=source.ca, options={"grpc.use_local_subchannel_pool": 1}) == []


@pytest.mark.parametrize("setting", ["tls_cert", "tls_key", "tls_client_ca"])
def test_a_file_that_is_not_there_or_no_pem_is_named(serving, pki, setting, tmp_path):
    certificate, key = pki.certificate("server")
    good = {"tls_cert": certificate, "tls_key": key, "tls_client_ca": pki.ca}
    (tmp_path / "bad.pem").write_text("hello")
    for file in ("none.pem", "bad.pem"):
        with pytest.raises(StorageError, match=file):
            serving(**good | {setting: tmp_path / file})


def test_settings_and_arguments_that_need_one_another():
    for given in ({"tls_cert": "a"}, {"tls_key": "a"}, {"tls_client_ca": "a"}):
        with pytest.raises(InvalidArgumentError, match="needs"):
            Settings(**given)
    for given in (
        {"tls_cert": "a", "tls_key": "b"},
        {"tls": True, "tls_cert": "a"},
        {"tls": True, "tls_key": "a"},
        {"tls": "none"},
        {"tls": 7.5},
    ):
        for kind in (Client, AsyncClient):
            with pytest.raises(InvalidArgumentError, match="tls"):
                kind("127.0.0.1:1", **given)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "fe80::1", "example.org", "127.0.0.1.example.org", "localhost.evil.org"])
def test_other_machines_are_served_with_keys_and_tls_only(host):
    assert not is_loopback(host)
    bare, tls = {"host": host}, {"host": host, "tls_cert": "a", "tls_key": "b"}
    for settings, with_keys, missing in (
        (bare, False, "API keys.* and TLS"),
        (bare, True, "which requires TLS"),
        (tls, False, "requires API keys"),
    ):
        with pytest.raises(InvalidArgumentError, match=missing) as caught:
            check_exposure(Settings(**settings), with_keys)
        assert (caught.value.field, caught.value.value) == ("host", host) and "--insecure" in str(caught.value)
        check_exposure(Settings(**settings, insecure=True), with_keys)
    check_exposure(Settings(**tls), True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_is_served_without(host):
    assert is_loopback(host)
    check_exposure(Settings(host=host), False)


def test_the_command_refuses_in_one_line(tmp_path):
    command = [sys.executable, "-m", "vectordb", "serve", "--data", str(tmp_path / "data"), "--host", "0.0.0.0", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if "compiling" not in line]
    assert line.startswith("vectordb: 0.0.0.0 is reachable from other machines") and "--insecure" in line
