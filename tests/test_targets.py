"""Addresses of a client: an invalid ``host:port`` is refused with advice, and a failed connection names what to check."""

import subprocess
from pathlib import Path

import pytest
from vectordb_client import AsyncClient, Client, InvalidArgumentError, UnavailableError
from vectordb_client.channel import check_target

import vectordb
from vectordb.cli import main
from vectordb.server.serve import start

ROOT = Path(__file__).parents[1]


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
        ("", "'host:port'"),
        (7070, "'host:port'"),
    ],
)
def test_what_is_no_target_is_refused_with_what_to_write(target, write):
    for client in (Client, AsyncClient):
        with pytest.raises(InvalidArgumentError) as refused:
            client(target)
        assert write in str(refused.value) and refused.value.field == "target" and refused.value.value == target


def test_the_command_line_says_the_same(capsys):
    for command in ("top", "health", "info"):
        assert main([command, "--target", "https://localhost"]) == 1
        said = capsys.readouterr().err
        assert "write 'localhost:7070', and tls=True" in said and said.count("\n") == 1


def test_a_connection_that_speaks_tls_on_one_side_only_says_so(tmp_path, capsys):
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
                assert says in str(refused.value)
            assert main(["health", "--target", f"localhost:{port}", "--timeout", "30"]) == 1
            assert "--tls or --tls-ca" in capsys.readouterr().err
        finally:
            secure.stop(0).wait()
            plain.stop(0).wait()
