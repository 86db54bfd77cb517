"""Addresses of a client: an invalid ``host:port`` is refused with advice, and a failed connection names what to check."""

import contextlib
import os
import socket
import subprocess
import sys
import threading

import pytest
from vectordb_client import AsyncClient, Client, InvalidArgumentError, UnavailableError
from vectordb_client.rpc import channel
from vectordb_client.rpc.channel import check_target

import vectordb
from tests.support.paths import ROOT
from vectordb.cli import main
from vectordb.server.main import start
from vectordb.server.telemetry import health


@pytest.mark.parametrize("target", ["localhost:7070", "db.example:1", "127.0.0.1:65535", "[::1]:7070", "unix:/run/db", "dns:///db:70"])
def test_what_names_a_host_and_a_port_is_taken(target):
    assert check_target(target) == target


@pytest.mark.parametrize(
    ("target", "write"),
    [
        ("localhost", "'localhost:7070'"),
        ("::1", "'[::1]:7070'"),
        ("[::1]", "'[::1]:7070'"),
        (":7070", "'localhost:7070'"),
        ("https://db.example:443", "'db.example:443', and tls=True"),
        ("http://db.example/v1", "'db.example:7070'"),
        ("grpc://db.example:9", "'db.example:9'"),
        ("localhost:", "'localhost:7070'"),
        ("localhost:0", "'localhost:7070'"),
        ("localhost:70700", "'localhost:7070'"),
        ("localhost:http", "'localhost:7070'"),
        ("7171", "'localhost:7171'"),
        ("./data", "vectordb.open('./data')"),
        ("/srv/data", "vectordb.open('/srv/data')"),
        ("~/data", "vectordb.open('~/data')"),
        ("../data", "vectordb.open('../data')"),
        ("", "'host:port'"),
        (7070, "'host:port'"),
    ],
)
def test_what_is_no_target_is_refused_with_what_to_write(target, write):
    for client in (Client, AsyncClient):
        with pytest.raises(InvalidArgumentError) as refused:
            client(target)
        assert write in str(refused.value) and refused.value.field == "target" and refused.value.value == target


def test_a_client_without_a_target_or_with_a_wrong_argument_says_what_to_write():
    for client in (Client, AsyncClient):
        name = client.__name__
        with pytest.raises(InvalidArgumentError, match=rf"{name}\(\) needs target; write {name}\('localhost:7070'\)"):
            client()
        with pytest.raises(InvalidArgumentError, match=rf"{name}\(\) has no argument 'key'; write api_key=…"):
            client("localhost:7070", key="x")


def test_a_port_where_nobody_listens_asks_whether_the_service_runs():
    with socket.socket() as taken:  # bound, not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        with Client(f"127.0.0.1:{taken.getsockname()[1]}", retries=0, timeout=60) as client, pytest.raises(UnavailableError) as refused:
            client.collections()
    assert str(refused.value).endswith("can't be reached: connection refused; is `vectordb serve` running there?")


def test_grpc_writes_nothing_unless_it_is_asked():
    code = "import os, vectordb_client; vectordb_client.Client; print(os.environ['GRPC_VERBOSITY'])"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "client")])
    for given, found in ({}, "NONE"), ({"GRPC_VERBOSITY": "INFO"}, "INFO"):
        environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"} | {"PYTHONPATH": paths} | given
        ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert ran.stdout.strip() == found


def test_the_command_line_says_the_same(capsys):
    for command in ("top", "health", "info"):
        assert main([command, "--target", "https://localhost"]) == 1
        said = capsys.readouterr().err
        assert "write 'localhost:7070', and tls=True" in said and said.count("\n") == 1


def test_a_connection_that_speaks_tls_on_one_side_only_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(health, "_PAUSE_SECONDS", 60.0)  # more than the time there is: ``vectordb health`` asks once
    if subprocess.run(["sh", "-c", "command -v openssl"], capture_output=True).returncode:
        pytest.skip("no openssl here")
    subprocess.run(["sh", str(ROOT / "deploy" / "certificates.sh"), str(tmp_path / "tls"), "localhost"], check=True, capture_output=True)
    tls = {"tls_cert": str(tmp_path / "tls" / "server.pem"), "tls_key": str(tmp_path / "tls" / "server-key.pem")}
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        (secure, port), (plain, other) = start(database, port=0, **tls), start(database, port=0)
        try:
            for address, options, says in (
                (f"localhost:{port}", {}, "does it use TLS? pass tls=True"),
                (f"localhost:{other}", {"tls": True}, "leave tls out"),
                (f"localhost:{port}", {"tls": True}, "pass tls='ca.pem'"),
            ):
                with Client(address, retries=0, timeout=30, **options) as client, pytest.raises(UnavailableError) as refused:
                    client.collections()
                assert says in str(refused.value) and "OPENSSL" not in str(refused.value)
            assert main(["health", "--target", f"localhost:{port}", "--timeout", "30"]) == 1
            assert "--tls or --tls-ca" in capsys.readouterr().err
        finally:
            secure.stop(0).wait()
            plain.stop(0).wait()


def test_a_fork_during_a_call_concerns_the_child_only(monkeypatch):
    monkeypatch.setattr(channel, "_inside_grpc", lambda frame: True)
    more = threading.Event()
    thread = threading.Thread(target=more.wait)
    thread.start()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            channel.check_fork()
            os._exit(1)
        os._exit(0)
    more.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    channel.check_fork()
