"""Every released format opens and gives the same answers; a newer format is refused and left unchanged."""

from __future__ import annotations

import importlib.util
import json
import struct
import tarfile

import lmdb
import numpy as np
import pytest

import vectordb
from tests.support.paths import GOLDEN
from tests.support.upkeep import hurry, index_files, until, vectors
from vectordb import Dense, FormatVersionError, Schema, Sparse, StorageError
from vectordb.engine.check import check
from vectordb.index import file as index_file
from vectordb.storage import chunks, format, integrity

_spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)


@pytest.fixture(params=sorted(path.name.removesuffix(".tar.xz") for path in GOLDEN.glob("format-*.tar.xz")))
def golden(request, tmp_path):
    """(directory, what it must answer) of a released version."""
    with tarfile.open(GOLDEN / f"{request.param}.tar.xz") as tar:
        tar.extractall(tmp_path, filter="data")
    return request.param, tmp_path / "data", json.loads((tmp_path / "expected.json").read_text())


def same_answers(found: dict, expected: dict) -> None:
    """Scores may differ in the last digits, and the file may know fewer fields than today's."""
    searches, wanted = found.pop("searches") | {"text": found.pop("text")}, expected.pop("searches") | {"text": expected.pop("text")}
    assert found == expected
    assert searches.keys() == wanted.keys()
    for name, hits in wanted.items():
        assert [hit[0] for hit in searches[name]] == [hit[0] for hit in hits], name
        np.testing.assert_allclose([hit[1] for hit in searches[name]], [hit[1] for hit in hits], rtol=1e-4, atol=1e-4)


def files(directory) -> dict[str, bytes]:
    """Name → bytes, but for locks."""
    paths = [path for path in directory.rglob("*") if path.is_file() and not path.name.endswith(".lock") and path.name != "lock.mdb"]
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def test_there_is_a_golden_directory_of_every_format():
    assert {f"format-{version}.tar.xz" for version in range(format.FIRST_VERSION, format.VERSION + 1)} <= {p.name for p in GOLDEN.iterdir()}


def test_a_released_format_opens_answers_and_is_changed_by_writes_alone(golden):
    name, directory, expected = golden
    before = files(directory)
    assert check(directory).problems == () and check(directory).notes == ()
    with vectordb.open(directory, create=False, maintenance=False) as database:
        newer = expected.pop("newer", None)
        assert database.collections() == ["all", "empty", *(["newer"] if newer else [])]
        assert newer is None or json.loads(json.dumps(make.newer_answers(database))) == newer
        collection = database.collection("all")
        same_answers(json.loads(json.dumps(make.answers(collection))), dict(expected))
        segments = {field: facts.get("segments") for field, facts in collection.info().statistics.items()}
        assert bool(segments["v"] and segments["s"]) == (name != "format-1")
        assert len(collection.search({"v": np.ones(8)}, limit=20)) == 20
    assert files(directory) == before


def test_a_released_format_is_written_to_compacted_purged_and_brought_up_to_date(golden):
    _, directory, expected = golden
    with vectordb.open(directory, create=False, maintenance=False) as database:
        collection = database.collection("all")
        at = collection.info().sequence
        extra = make.points([400, 401], 5, False)
        collection.upsert(extra)
        collection.optimize()
        assert [change.ids for change in collection.changes(at)] == [(make.ident(400), make.ident(401))]
        collection.delete([point["id"] for point in extra])
        assert collection.purge()["proven"]
        found = json.loads(json.dumps(make.answers(collection)))
        assert found.pop("sequence") == at + 2
        same_answers(found, {key: value for key, value in expected.items() if key not in ("sequence", "newer")})
        if "newer" in expected:
            database.collection("newer").purge()
            assert json.loads(json.dumps(make.newer_answers(database))) == expected["newer"]
        assert collection.info().statistics["v"]["segments"]
    assert check(directory).problems == ()


def test_ids_deleted_before_the_log_kept_them_are_asked_for_by_name(golden):
    name, directory, _ = golden
    with vectordb.open(directory, create=False, maintenance=False) as database:
        collection = database.collection("all")
        if name == "format-1":
            with pytest.raises(vectordb.NotFoundError, match="a purge removed the ids"):
                list(collection.changes())
        else:
            assert [change.sequence for change in collection.changes()] == list(range(1, collection.info().sequence + 1))


# What is newer


@pytest.fixture
def filled(directory):
    with vectordb.open(directory, maintenance=False) as database:
        collection = database.create_collection("c", Schema({"v": Dense(4), "s": Sparse()}))
        rows = {"v": vectors(np.random.default_rng(0), 300), "s": [{i % 9: 1.0 + i} for i in range(300)]}
        collection.upsert(ids=list(range(300)), vectors=rows)
        collection.optimize()
    return directory


def rewritten(directory, key: bytes, change) -> None:
    """Change a value as another version of the database would, which keeps the digest of all records."""
    with lmdb.open(str(directory), max_dbs=2) as env:
        db = env.open_db(b"data", create=False)
        with env.begin(write=True, db=db, buffers=True) as txn:
            counted = integrity.WriteTransaction(txn)
            counted.put(key, change(bytes(txn.get(key))))
            counted.seal(format.unpack_digest(txn.get(format.DIGEST_KEY)))


def test_a_newer_format_is_refused_and_left_untouched(filled):
    rewritten(filled, format.FORMAT_KEY, lambda _: format.pack_record({"format": format.VERSION + 1}))
    before = files(filled)
    for look in (vectordb.open, check, lambda path: vectordb.open(path, create=False), lambda path: check(path, untouched=True)):
        with pytest.raises(FormatVersionError, match=f"has format {format.VERSION + 1}; this version of vectordb reads"):
            look(filled)
    assert files(filled) == before
    rewritten(filled, format.FORMAT_KEY, lambda _: format.pack_record({"format": format.VERSION}))  # ``directory`` is checked


def test_a_newer_chunk_is_refused_by_name_and_left_untouched(filled):
    key = format.chunk_key(1, format.FIRST_FIELD, format.FORWARD, 0)
    kept = []

    def newer(value: bytes) -> bytes:
        kept.append(value)
        changed = bytearray(value)
        changed[2] = chunks.CHUNK_VERSION + 1
        return bytes(changed)

    rewritten(filled, key, newer)
    before = files(filled)
    with vectordb.open(filled, create=False, maintenance=False) as database:
        collection = database.collection("c")
        with pytest.raises(StorageError, match="rows 0"):
            collection.get(1, with_vectors=True)
        with pytest.raises(StorageError, match="rows 0"):
            collection.search({"v": np.ones(4)}, exact=True)
        assert collection.get(1).id == 1  # the rest can be read
    assert check(filled).problems
    assert files(filled) == before
    rewritten(filled, key, lambda _: kept[0])


def looked_through(collection) -> None:
    """Answers are right whatever becomes of index files."""
    queries = vectors(np.random.default_rng(4), 3)
    for query in queries:
        found = collection.search({"v": query}, limit=5)
        assert found.ids.tolist() == collection.search({"v": query}, limit=5, exact=True).ids.tolist()
    assert collection.search({"s": {3: 1.0}}, limit=3).ids.tolist() == [291, 282, 273]


@pytest.mark.parametrize("maintained", [False, True])
def test_an_index_file_of_a_newer_version_is_left_out_and_built_again_only_by_maintenance(filled, monkeypatch, maintained):
    hurry(monkeypatch)
    for name in index_files(filled):
        path = filled / "indexes" / name
        data = bytearray(path.read_bytes())
        data[8:12] = struct.pack("<I", index_file.VERSION + 1)
        path.write_bytes(data)
    before = files(filled)
    with vectordb.open(filled, create=False, maintenance=maintained) as database:
        collection = database.collection("c")
        looked_through(collection)
        if not maintained:
            for facts in collection.info().statistics.values():
                assert (len(facts["stale"]), facts["damaged"], facts["segments"], facts["tail"]) == (1, [], [], 300)
        if maintained:
            until(lambda: not index_files(filled) & {name.removeprefix("indexes/") for name in before})
            looked_through(collection)
    if not maintained:
        assert files(filled) == before
    else:
        assert check(filled).notes == ()
