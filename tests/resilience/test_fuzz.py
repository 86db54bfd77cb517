"""Fuzzing: seeded mutations of valid input of every kind give an answer or an error of vectordb, in limited time."""

from __future__ import annotations

import copy
import itertools
import logging
import random
import struct
import time
from datetime import UTC, datetime
from typing import NamedTuple

import grpc
import msgspec
import numpy as np
import pytest
import xxhash
from vectordb_client.model.batch import make_batch
from vectordb_client.model.filter import to_dict
from vectordb_client.rpc import answers, wire
from vectordb_client.rpc.methods import SERVICE
from vectordb_client.v1 import vectordb_pb2 as pb

import vectordb
from tests.support.nightly import cases, record
from tests.support.upkeep import hurry
from tests.support.wire_batches import SCHEMA, packed
from vectordb import CorruptionError, Dense, Int, Keyword, Schema, Sparse, Text, VectorDBError
from vectordb.filters import as_filter
from vectordb.filters.canonical import canonical
from vectordb.index import file as index_file
from vectordb.index.base import open_file
from vectordb.server.access.guard import Guard
from vectordb.server.methods.service import Service
from vectordb.server.settings import Settings
from vectordb.server.telemetry.telemetry import Telemetry
from vectordb.storage import chunks, integrity
from vectordb.transfer import import_points

SECONDS, PATIENCE = 5.0, 300.0  # of CPU and of time that one case may take: others may keep the machine busy


def bounded(run, case) -> None:
    """Run a case. Only our errors pass, and only so much time."""
    begin, worked = time.monotonic(), time.thread_time()
    try:
        run(case)
    except VectorDBError:
        pass
    except Exception as error:
        error.add_note(f"of {case!r}"[:2_000])
        raise
    took, worked = time.monotonic() - begin, time.thread_time() - worked
    assert worked < SECONDS and took < PATIENCE, (worked, took, case)


def mutated(rng: random.Random, data: bytes, others: list[bytes] = ()) -> bytes:
    """Some bytes changed, moved, doubled, cut out, or replaced by those of another sound input."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 8])):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice([1, 1, 2, 4, 8, 32]))
        kind = rng.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at:end] = rng.randbytes(end - at)
        elif kind == 2:
            del data[at:end]
        elif kind == 3:
            data[at:at] = data[at:end] * rng.choice([1, 2, 20])
        elif kind == 4:
            data[at:end] = rng.choice([b"\xff" * 8, bytes(8), b"\x7f", b"\x80\x00", b"\xff\xff\xff\xff\x0f"])
        elif kind == 5 and others:
            other = rng.choice(others)
            cut = rng.randrange(len(other) + 1)
            data[at:end] = other[cut : cut + rng.choice([1, 4, 16, 64])]
        elif kind == 6:
            del data[rng.randrange(len(data) + 1) :]
    return bytes(data)


FILTERS = [
    "lines > 20 AND module IN ('json', \"asyncio\") OR NOT (tags CONTAINS ANY ('a', 'b'))",
    "k = 'x' AND (i BETWEEN -5 AND 7 OR f >= 1.5e3) AND b = TRUE",
    "t > DATETIME '2024-01-02T03:04:05Z' AND u = UUID '12345678-1234-5678-1234-567812345678'",
    "x MATCH PHRASE 'the fox' AND NOT x MATCH ALL 'red green' OR k GLOB 'a*[b-d]?'",
    "GEO_RADIUS(g, 10.5, -20.25, 1000) OR GEO_BOX(g, -10, -20, 10, 20)",
    "HAS_ID (1, 'two') AND HAS_VECTOR(d) AND COUNT(ks) >= 2 AND ks CONTAINS ALL ('p', 'q') AND k IS NOT NULL",
    "k STARTSWITH 'ab' AND i != 3 AND i NOT IN (1, 2, 3) AND TRUE OR `k` == 'it''s'",
]
WORDS = r"AND OR NOT TRUE FALSE NULL IN IS BETWEEN ( ) , = < >= ' \" ` \\ -1 1e999 9223372036854775808 k i f b t x u g ks MATCH GLOB"


def test_filters_as_strings():
    rng, n = random.Random(1), cases(3_000, 300_000)
    sound = [text.encode() for text in FILTERS]

    def run(text: str) -> None:
        canonical(as_filter(text), SCHEMA)

    for text in FILTERS[1:]:
        run(text)
    for _ in range(n):
        if rng.random() < 0.3:
            text = " ".join(rng.choices(WORDS.split(), k=rng.randint(1, 12)))
        else:
            text = mutated(rng, rng.choice(sound), sound).decode(errors="replace")
        bounded(run, text)
    for text in ("(" * 100_000, "NOT " * 100_000 + "b = TRUE", "i = 1 AND " * 20_000 + "i = 1", "k GLOB '" + "*a" * 5_000 + "'"):
        bounded(run, text)
    record("fuzz_filters", cases=n)


def test_filters_as_data():
    rng, n = random.Random(2), cases(2_000, 150_000)
    sound = [to_dict(as_filter(text)) for text in FILTERS[1:]]
    leaves = [None, True, -1, 2**70, 1e308, float("nan"), "", "k", [], {}, [[]], b"bytes", datetime(2024, 1, 1, tzinfo=UTC), {"and": []}]

    def run(data) -> None:
        canonical(as_filter(data), SCHEMA)

    def change(node):
        """The node with something in it that doesn't belong."""
        if rng.random() < 0.15 or not isinstance(node, (dict, list)) or not node:
            return rng.choice([*leaves, rng.choice(sound)])
        node = copy.copy(node)
        at = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if isinstance(node, dict) and rng.random() < 0.2:
            node[rng.choice(["and", "not", "field", "value", "op", "k", 7])] = node.pop(at)
        else:
            node[at] = change(node[at])
        return node

    for data in sound:
        run(data)
    for _ in range(n):
        bounded(run, change(rng.choice(sound)))
    record("fuzz_filters_as_data", cases=n)


class Aborted(Exception):
    pass


class Context:
    """As much of a call's context as methods use."""

    def time_remaining(self):
        return 9e18  # what gRPC says when there is no deadline

    def is_active(self):
        return True

    def add_callback(self, callback):
        return True

    def invocation_metadata(self):
        return ()

    def set_trailing_metadata(self, metadata):
        pass

    def abort(self, code, details):
        assert "unexpectedly" not in details and code not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL), details
        raise Aborted

    def __getattr__(self, name):
        return lambda *_, **__: None


class Details(NamedTuple):
    """What a call comes with."""

    method: str
    invocation_metadata: tuple


def requests() -> dict[str, list]:
    """Sound messages of every method."""
    batch = make_batch(
        SCHEMA,
        "upsert",
        ids=[1, "two"],
        vectors={"d": np.ones((2, 4)), "s": [{1: 1.0, 2**63: -2.0}] * 2, "m": [np.ones((2, 2))] * 2},
        attributes={"k": ["a", "b"], "x": ["red fox"] * 2, "g": [(1.0, 2.0)] * 2, "ks": [["p"], []]},
        payload=[{"a": 1}, None],
    )
    few = make_batch(SCHEMA, "upsert", ids=[1], vectors={"d": np.ones((1, 4)), "s": [{1: 1.0}]})
    many = pb.SearchRequest(collection="c", vectors=packed(batch).vectors[:1], queries=2, batch=True, limit=3)
    one = pb.SearchRequest(collection="c", vectors=packed(few).vectors, queries=1, limit=3, filter=pb.Filter(text=FILTERS[1]))
    return {
        "ServerInfo": [pb.ServerInfoRequest()],
        "CreateCollection": [pb.CreateCollectionRequest(name="c", schema=answers.pack_schema(SCHEMA), exist_ok=True)],
        "DropCollection": [pb.DropCollectionRequest(name="gone")],
        "ListCollections": [pb.ListCollectionsRequest()],
        "DescribeCollection": [pb.DescribeCollectionRequest(name="c", info=True)],
        "AddFields": [pb.AddFieldsRequest(collection="c", fields=b'{"attributes": {"n": {"kind": "int"}}}')],
        "Optimize": [pb.OptimizeRequest(collection="c", wait=False)],
        "Write": [pb.WriteRequest(collection="c", batch=packed(batch))],
        "Delete": [pb.DeleteRequest(collection="c", ids=wire.pack_ids([1, "two"]))],
        "Get": [pb.GetRequest(collection="c", ids=wire.pack_ids([1, "two", 3]))],
        "Search": [one, many],
        "Count": [pb.CountRequest(collection="c")],
        "Scroll": [pb.ScrollRequest(collection="c", limit=5)],
        "SetTerms": [pb.SetTermsRequest(collection="c", field="s", terms=struct.pack("<2Q", 1, 2**63), words=["one", "two"])],
        "ListTerms": [pb.ListTermsRequest(collection="c", field="s", after=3, limit=5)],
        "Changes": [pb.ChangesRequest(collection="c", since=1, with_vectors=pb.Selection(all=True))],
        "Status": [pb.StatusRequest()],
    }


def test_requests_as_bytes(directory, caplog):
    caplog.set_level(logging.CRITICAL)
    rng, n = random.Random(3), cases(2_000, 260_000)
    with vectordb.open(directory, durability="batched", maintenance=False) as database:
        database.create_collection("c", SCHEMA)
        settings = Settings(max_message_bytes=1 << 20)
        watch = Telemetry(database, settings)
        door = Service(database, Guard(database, settings, watch), watch).handler()
        sound = {name: [message.SerializeToString() for message in messages] for name, messages in requests().items()}
        everything = [data for group in sound.values() for data in group if data]

        def run(case) -> None:
            name, data = case
            handler = door.service(Details(f"/{SERVICE.full_name}/{name}", ()))
            try:
                if handler.response_streaming:
                    list(itertools.islice(handler.unary_stream(data, Context()), 100))
                else:
                    handler.unary_unary(data, Context())
            except Aborted:
                pass

        heavy = {"Write": 12, "Search": 12, "Get": 6, "Delete": 2, "Count": 4, "Scroll": 4, "AddFields": 0.2, "CreateCollection": 1}
        names = sorted(sound)
        for name in names:
            for data in sound[name]:
                run((name, data))
        for name in rng.choices(names, [heavy.get(name, 0.5) for name in names], k=n):
            bounded(run, (name, mutated(rng, rng.choice(sound[name]), everything)))
    record("fuzz_requests", cases=n)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A directory with index files and chunks of all kinds."""
    path = tmp_path_factory.mktemp("made") / "data"
    schema = Schema({"v": Dense(8), "s": Sparse()}, {"n": Int(), "k": Keyword(), "t": Text()})
    rng = np.random.default_rng(0)
    with vectordb.open(path, maintenance=False) as database, pytest.MonkeyPatch.context() as patch:
        c = database.create_collection("c", schema)
        for first in (0, 200):
            ids = range(first, first + 200)
            attributes = {"n": ids, "k": [f"k{i % 3}" for i in ids], "t": [f"word{i}" for i in ids]}
            c.upsert(ids=ids, vectors={"v": rng.standard_normal((200, 8)), "s": [{i % 9: 1.0} for i in ids]}, attributes=attributes)
        c.delete(list(range(0, 400, 7)))
        hurry(patch)
        c.optimize()
    return path


def test_chunks_whose_checksums_are_right(made):
    rng, n = random.Random(4), cases(3_000, 150_000)
    with vectordb.open(made, maintenance=False) as database, database.directory.env.read() as txn:
        sound = [bytes(value) for key, value in txn.cursor() if key[4:5] == b"c"]
    assert len(sound) >= 8

    def run(data: bytes) -> None:
        chunks.decode(data, "test")
        chunks.table_row(data, "test")

    for _ in range(n):
        data = bytearray(rng.choice(sound))
        start = rng.randrange(chunks.HEADER)
        data[start : start + 4] = mutated(rng, bytes(data[start : start + 4]))[:4].ljust(4, b"\1")
        if rng.random() < 0.2:
            data = data[: rng.randrange(len(data))] or data
        if len(data) >= chunks.HEADER:
            struct.pack_into("<Q", data, 40, chunks._digest(np.frombuffer(bytes(data), np.uint8)))
        bounded(run, bytes(data))
    record("fuzz_chunks", cases=n)


def test_pages_of_the_tree(made, tmp_path):
    """The walk neither leaves the file nor goes round in circles, whatever pages say."""
    rng, n = random.Random(5), cases(2_000, 120_000)
    sound = (made / "data.mdb").read_bytes()
    size = struct.unpack_from("<I", sound, 40)[0]
    tree = [page for page in range(len(sound) // size) if page < 2 or struct.unpack_from("<H", sound, page * size + 10)[0] in (1, 2)]
    places = [page * size + at for page in tree for at in range(0, size, 2)]
    data = bytearray(sound)

    def run(_) -> None:
        array = np.frombuffer(data, np.uint8)
        array.setflags(write=False)
        metas = integrity._metas(tmp_path, bytes(data[: 2 * size]))
        integrity._walk(tmp_path, array, max(metas, key=lambda meta: meta.transaction))

    run(None)
    refused = 0
    for _ in range(n):
        changed = []
        for _ in range(rng.choice([1, 2, 4])):
            at, width = rng.choice(places), rng.choice([1, 2, 4, 8])
            at += rng.choice([0, 0, -(at % size), -(at % size) + rng.randrange(16, 200)])
            changed.append((at, bytes(data[at : at + width])))
            new = rng.choice([rng.randbytes(width), b"\xff" * width, bytes(width), sound[(other := rng.choice(places)) : other + width]])
            data[at : at + width] = new[:width].ljust(width, b"\0")
        before = time.thread_time()
        try:
            run(None)
        except VectorDBError:
            refused += 1
        assert time.thread_time() - before < SECONDS
        for at, old in reversed(changed):
            data[at : at + len(old)] = old
    assert bytes(data) == sound and refused > n // 4
    record("fuzz_pages", cases=n, refused=refused)


def test_headers_of_index_files(made, tmp_path):
    rng, n = random.Random(6), cases(600, 40_000)
    files = sorted((made / "indexes").glob("*.index"))
    path = tmp_path / "x.index"

    def run(data: bytes) -> None:
        path.write_bytes(data)
        try:
            open_file(path)
        except CorruptionError:
            pass

    for _ in range(n):
        data = rng.choice(files).read_bytes()
        length = struct.unpack_from("<I", data, 12)[0]
        head = index_file._head.size
        if rng.random() < 0.5:  # a header that is as it was meant to be, and says something else
            body = mutated(rng, data[head : head + length])
            if rng.random() < 0.5:
                meta = msgspec.msgpack.decode(data[head : head + length])
                target = rng.choice([meta, meta["sections"]])
                target[rng.choice(list(target))] = rng.choice([None, -1, 2**62, "x", [], [0, "<f4", [3], 5], {}, 1.5])
                body = msgspec.msgpack.encode(meta)
            body = body[:length].ljust(length, b"\xc0")
            packed = index_file._head.pack(index_file.MAGIC, index_file.VERSION, len(body), xxhash.xxh3_64_intdigest(body))
            data = packed + body + data[head + length :]
        else:
            data = mutated(rng, data[: head + length]) + data[head + length :]
        bounded(run, data)
    record("fuzz_index_headers", cases=n)


ROWS = [
    b'{"id": 1, "vectors": {"v": [1, 2, 3, 4]}, "attributes": {"n": 1, "k": "a"}, "payload": {"x": [1]}}\n' * 3,
    b'id,v,n,k\n1,"[1,2,3,4]",5,a\n2,"[4,3,2,1]",,"b ""c"""\n',
    b"\xef\xbb\xbfid;n\n1;2\n",
]


def test_import_files(directory, tmp_path):
    rng, n = random.Random(7), cases(300, 12_000)
    with vectordb.open(directory, durability="batched", maintenance=False) as database:
        c = database.create_collection("c", Schema({"v": Dense(4)}, {"n": Int(), "k": Keyword()}))

        def run(case) -> None:
            name, data, rejects = case
            (tmp_path / name).write_bytes(data)
            import_points(c, tmp_path / name, rejects=tmp_path / "rejects" if rejects else None)

        for _ in range(n):
            name = rng.choice(["a.jsonl", "a.csv", "a.jsonl.gz", "a.csv"])
            bounded(run, (name, mutated(rng, rng.choice(ROWS), ROWS), rng.random() < 0.5))
    record("fuzz_imports", cases=n)
