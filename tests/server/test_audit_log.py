"""The audit log records calls, and no log contains a vector, text, payload or API key."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from vectordb_client import Client, Dense, Schema, Sparse, VectorDBError
from vectordb_client.model.schema import Int, Keyword, Text
from vectordb_client.rpc.methods import METHODS
from vectordb_client.v1 import vectordb_pb2 as pb

import vectordb
from tests.support import forked
from tests.support.paths import ROOT
from vectordb.server.access import keys
from vectordb.server.access.audit import KEPT, AuditLog
from vectordb.server.main import start

SCHEMA = Schema({"d": Dense(4), "s": Sparse(encoder="bm25", source="body")}, {"n": Int(), "body": Text(), "tag": Keyword()})
MARK = "mArKeR8"
NUMBER = 918273645.5


@pytest.fixture
def audited(tmp_path):
    """(client for each of three keys, what the log has been told)."""
    file = tmp_path / "data" / "keys.json"
    with vectordb.open(tmp_path / "data") as database:
        rights = {"admin": {"vectors": True}, "write": {}, "read": {"collections": ["docs"], "vectors": True}}
        made = {role: keys.create(file, role, **more) for role, more in rights.items()}
        server, port = start(database, port=0, audit_log=str(tmp_path / "audit.log"))
        clients = {role: Client(f"127.0.0.1:{port}", api_key=token) for role, (token, _) in made.items()}
        ids = {key.id: role for role, (_, key) in made.items()}

        def told():
            lines = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
            facts = ("method", "collection", "points", "vectors", "outcome")
            return [(ids[line["key"]], *(line[fact] for fact in facts)) for line in lines]

        yield clients, told
        for client in clients.values():
            client.close()
        server.stop(0).wait()


def refused(work):
    with pytest.raises(VectorDBError):
        work()


def test_admin_calls_and_bulk_reads_are_told_and_other_calls_are_not(audited, tmp_path):
    clients, told = audited
    docs = clients["admin"].create_collection("docs", SCHEMA)
    docs.upsert(ids=range(5), vectors={"d": [[1, 2, 3, 4]] * 5})
    refused(lambda: clients["write"].create_collection("more", SCHEMA))
    reader = clients["read"].collection("docs")
    assert len(reader.search({"d": [1, 2, 3, 4]}, limit=2)) == reader.count() - 3 == 2
    reader.get([1, 2, 99], with_vectors=True)
    reader.get([1])
    reader.search({"d": [1, 2, 3, 4]}, limit=3, with_vectors=["d"])
    assert len(list(reader.iterate(page=3))) == 5
    refused(lambda: clients["write"].collection("docs").scroll(with_vectors=True))
    refused(lambda: clients["read"].drop_collection("docs"))
    docs.add_fields(attributes={"m": Int()})
    docs.optimize()
    clients["admin"].drop_collection("docs")
    refused(lambda: clients["admin"].drop_collection("docs"))
    assert told() == [
        ("admin", "CreateCollection", "docs", 0, False, "OK"),
        ("write", "CreateCollection", "more", 0, False, "PERMISSION_DENIED"),
        ("read", "Get", "docs", 2, True, "OK"),
        ("read", "Search", "docs", 3, True, "OK"),
        ("read", "Scroll", "docs", 3, False, "OK"),
        ("read", "Scroll", "docs", 2, False, "OK"),
        ("write", "Scroll", "docs", 0, True, "PERMISSION_DENIED"),
        ("read", "DropCollection", "docs", 0, False, "PERMISSION_DENIED"),
        ("admin", "AddFields", "docs", 0, False, "OK"),
        ("admin", "Optimize", "docs", 0, False, "OK"),
        ("admin", "DropCollection", "docs", 0, False, "OK"),
        ("admin", "DropCollection", "docs", 0, False, "NOT_FOUND"),
    ]
    line = json.loads((tmp_path / "audit.log").read_text().splitlines()[0])
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:.]+Z", line["time"]) and re.fullmatch(r"ipv4:127\.0\.0\.1:\d+", line["peer"])
    assert (tmp_path / "audit.log").stat().st_mode & 0o777 == 0o600


def test_a_log_that_cannot_be_written_stops_the_start_and_no_call(tmp_path, monkeypatch, caplog):
    with vectordb.open(tmp_path / "data") as database:
        with pytest.raises(vectordb.StorageError, match="audit"):
            start(database, port=0, audit_log=str(tmp_path / "none" / "audit.log"))
        server, port = start(database, port=0, audit_log=str(tmp_path / "audit.log"))

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(AuditLog, "_follow", full)
        with Client(f"127.0.0.1:{port}") as client:
            client.create_collection("docs", SCHEMA)
            client.drop_collection("docs")
        server.stop(0).wait()
    assert caplog.text.count("No space left on device") == 1


def _write(path: Path, worker: int, lines: int) -> None:
    log = AuditLog(path, 20_000)
    for i in range(lines):
        log.write(worker=worker, i=i, text="x" * 40)


def test_processes_share_a_log_that_is_put_aside_when_full(tmp_path):
    path = tmp_path / "audit.log"
    context = forked.context()
    workers = [context.Process(target=_write, args=(path, worker, 300)) for worker in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
        assert worker.exitcode == 0
    files = sorted(tmp_path.iterdir())
    assert len(files) == KEPT + 1
    assert all(file.stat().st_size < 20_000 + 3 * 200 for file in files)
    seen = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    last = [(line["worker"], line["i"]) for line in seen]
    # What is still there is whole, and each worker's newest lines are among it.
    assert len(set(last)) == len(last) and {(worker, 299) for worker in range(3)} <= set(last)


def _calls(address: str, token: str) -> None:
    """Well-formed, refused and damaged calls that have the marker wherever something can be."""
    with Client(address, api_key=token, timeout=300) as client:
        docs = client.create_collection("docs", SCHEMA)
        point = {
            "id": MARK,
            "vectors": {"d": [NUMBER, 1, 2, 3]},
            "attributes": {"body": MARK, "tag": MARK, "n": 918273645},
            "payload": {MARK: [MARK]},
        }
        docs.upsert([point])
        docs.search({"d": [NUMBER, 1, 2, 3]}, text={"s": MARK}, filter=f"tag = '{MARK}'", explain=True, with_vectors=True)
        docs.get([MARK], with_vectors=True)
        docs.scroll(filter={"op": "eq", "field": "tag", "value": MARK}, with_vectors=True)
        docs.update([{"id": MARK, "payload": MARK}])
        odd = [
            lambda: docs.search({MARK: [NUMBER]}),
            lambda: docs.search({"d": [NUMBER] * 3}),
            lambda: docs.search({"d": [NUMBER] * 4}, filter=f"{MARK} === '{MARK}"),
            lambda: docs.search({"d": [NUMBER] * 4}, filter=f"n = '{MARK}'"),
            lambda: docs.search(text=MARK, limit=10**7),
            lambda: docs.scroll(cursor=MARK),
            lambda: docs.upsert([point | {"id": "x" * 5000}]),
            lambda: docs.update([{"id": MARK + "2", "payload": MARK}]),
            lambda: docs.upsert([point], if_version=7),
            lambda: docs.add_fields(vectors={MARK + "!": Dense(4)}),
            lambda: client.create_collection(MARK + " " + MARK, SCHEMA),
            lambda: client.create_collection(
                "enc", Schema({"s": Sparse(encoder=f"bm25(language={MARK})", source="body")}, {"body": Text()})
            ),
            lambda: client.create_collection("enc", Schema({"d": Dense(4, encoder=f"sentence-transformers(model=/{MARK})")}, {})),
        ]
        for call in odd:
            with pytest.raises(VectorDBError):
                call()
        docs.optimize()
        docs.delete([MARK])
    write = pb.WriteRequest(collection="other", batch=pb.Batch(kind=1, if_version=MARK.encode()))
    right = [("authorization", f"Bearer {token}"), (MARK.lower(), MARK)]
    with grpc.insecure_channel(address) as channel:
        for metadata in (right, [("authorization", f"Bearer {MARK}")], [("authorization", token)]):
            for method in METHODS.values():
                for data in (b"\xff" + MARK.encode(), write.SerializeToString()):
                    with contextlib.suppress(grpc.RpcError):
                        channel.unary_unary(method.path)(data, metadata=metadata, timeout=20)


def test_no_vector_text_payload_or_key_is_in_any_log(tmp_path):
    """A service whose loggers all say everything, down to gRPC's."""
    folder, log = tmp_path / "data", tmp_path / "audit.log"
    token, key = keys.create(folder / "keys.json", "admin", vectors=True)
    code = (
        "import logging, sys; logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)\n"
        "from vectordb.server.methods.reads import ReadMethods\n"
        "def fails(self, request, context): raise RuntimeError(repr(request))\n"
        "ReadMethods.count = fails\n"
        "from vectordb.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "client")]), "GRPC_VERBOSITY": "DEBUG"}
    command = [sys.executable, "-c", code, "serve", "--data", str(folder), "--port", "0", "--audit-log", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as service:
        try:
            address = re.search(r" on (\S+) \(", service.stdout.readline())[1]
            _calls(address, token)
            with Client(address, api_key=token) as client, pytest.raises(VectorDBError, match="unexpectedly"):
                client.collection("docs").count(filter=f"tag = '{MARK}'")
        finally:
            service.send_signal(signal.SIGTERM)
        out, err = service.communicate(timeout=300)
    assert service.returncode == 0
    assert "CountRequest failed: RuntimeError" in err  # it does log
    audit = log.read_text()
    assert key.id in audit and "INVALID_ARGUMENT" in audit
    said = out + err + audit
    for secret in (MARK, MARK.lower(), str(NUMBER), "918273645", token, token.split("_", 2)[2], key.hash):
        assert secret not in said, secret
