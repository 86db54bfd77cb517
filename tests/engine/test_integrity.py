"""The digest of all records and the check of every page: what they detect, and directories without a digest."""

from __future__ import annotations

import random
import shutil

import lmdb
import numpy as np
import pytest

import vectordb
from tests.support.worker import Worker
from vectordb import CorruptionError, Dense, FormatVersionError, Int, Keyword, Schema
from vectordb.engine.check import check
from vectordb.kernels import pages
from vectordb.storage import format, integrity

SCHEMA = Schema({"v": Dense(4)}, {"n": Int(), "k": Keyword()})


def write(collection, ids) -> None:
    ids = list(ids)
    collection.upsert(ids=ids, vectors={"v": np.ones((len(ids), 4))}, attributes={"n": ids, "k": [f"k{i}" for i in ids]})


def records(database) -> list[tuple[bytes, bytes]]:
    with database.directory.env.read() as txn:
        return [(bytes(key), bytes(value)) for key, value in txn.cursor() if bytes(key) != format.DIGEST_KEY]


def as_format(path, version: int) -> None:
    """Take a directory back to what an older version would have written."""
    with vectordb.open(path) as database:

        def work(txn):
            txn._txn.delete(format.DIGEST_KEY)
            txn._txn.put(format.FORMAT_KEY, format.pack_record({"format": version}))

        database.directory.env.write(work, "commit", 10.0)


def test_the_digest_is_that_of_all_records_whatever_was_done(directory):
    rng = random.Random(0)
    with vectordb.open(directory, maintenance=False, durability="batched") as database:
        c = database.create_collection("c", SCHEMA)
        for turn in range(30):
            write(c, rng.sample(range(100), 10))
            c.delete(rng.sample(range(100), 5))
            if turn % 10 == 5:
                c.add_fields(attributes={f"a{turn}": Int()})
                database.create_collection(f"x{turn}", SCHEMA)
                write(database.collection(f"x{turn}"), range(5))
            if turn % 10 == 8:
                database.drop_collection(f"x{turn - 3}")
                c.optimize()
            with pytest.raises(vectordb.NotFoundError):
                c.update(ids=[10**6], attributes={"n": [1]})
            survey = database.directory.env.survey()
            assert survey.stored == survey.counted == integrity.digest_of(records(database))


def test_a_hash_tells_where_the_key_ends_and_every_byte_that_it_covers():
    key, value = b"key of a record", bytes(range(60))
    whole = integrity.digest_of([(key, value)])
    others = [(key[:-1], key[-1:] + value), (key, value[:-1]), (key, value[:40]), (key + b"\0", value), (key, value + b"\0")]
    others += [(key[:i] + bytes([key[i] ^ 1]) + key[i + 1 :], value) for i in range(len(key))]
    others += [(key, value[:i] + bytes([value[i] ^ 128]) + value[i + 1 :]) for i in range(pages.HEAD)]
    assert len({whole, *(integrity.digest_of([other]) for other in others)}) == len(others) + 1
    assert integrity.digest_of([(key, value), (b"a", b"b")]) == integrity.digest_of([(b"a", b"b"), (key, value)])


def test_the_walk_interpreted_sees_what_it_sees_compiled(directory, monkeypatch):
    with vectordb.open(directory, maintenance=False) as database:
        write(database.create_collection("c", SCHEMA), range(300))
        compiled = database.directory.env.survey()
        for name in ("number", "mixed", "record_hash", "before", "take", "page_problem", "value_problem", "free_problem", "walk"):
            monkeypatch.setattr(pages, name, getattr(pages, name).py_func)
        with np.errstate(over="ignore"):
            assert database.directory.env.survey() == compiled
        monkeypatch.undo()


@pytest.mark.parametrize("version", [1, 2])
def test_a_directory_of_an_older_format_is_read_and_gets_its_digest_with_the_first_write(directory, version):
    with vectordb.open(directory) as database:
        write(database.create_collection("c", SCHEMA), range(50))
    as_format(directory, version)
    before = (directory / "data.mdb").read_bytes()
    with vectordb.open(directory, maintenance=False) as database:
        c = database.collection("c")
        assert c.count("k = 'k7'") == 1 and database.directory.env.survey().stored is None
        c.delete([10**6])  # changes nothing
    assert (directory / "data.mdb").read_bytes() == before
    assert check(directory).ok
    with vectordb.open(directory, maintenance=False) as database:
        write(database.collection("c"), [50])
        survey = database.directory.env.survey()
        assert survey.stored == survey.counted == integrity.digest_of(records(database))
        with database.directory.env.read() as txn:
            assert format.unpack_record(txn.get(format.FORMAT_KEY), "format") == {"format": format.VERSION}


def test_a_newer_format_is_refused_and_left_alone(directory):
    with vectordb.open(directory) as database:
        database.create_collection("c", SCHEMA)
        database.directory.env.write(
            lambda txn: txn.put(format.FORMAT_KEY, format.pack_record({"format": format.VERSION + 1})), "commit", 10.0
        )
    before = (directory / "data.mdb").read_bytes()
    with pytest.raises(FormatVersionError, match=f"format {format.VERSION + 1}"):
        vectordb.open(directory)
    assert (directory / "data.mdb").read_bytes() == before
    (directory / "data.mdb").unlink()


def test_an_environment_of_somebody_else_is_refused_and_left_alone(tmp_path):
    with lmdb.open(str(tmp_path), max_dbs=3) as other, other.begin(write=True) as txn:
        txn.put(b"key", b"value", db=other.open_db(b"theirs", txn=txn))
    before = (tmp_path / "data.mdb").read_bytes()
    with pytest.raises(FormatVersionError, match="isn't a vectordb directory"):
        vectordb.open(tmp_path)
    assert (tmp_path / "data.mdb").read_bytes() == before


def test_damage_is_found_on_the_page_where_it_is(directory, tmp_path):
    with vectordb.open(directory, maintenance=False) as database:
        write(database.create_collection("c", SCHEMA), range(3_000))
    data = (directory / "data.mdb").read_bytes()
    damaged, found = tmp_path / "damaged", 0
    shutil.copytree(directory, damaged)
    for page in range(2, len(data) // 4096):
        at = page * 4096
        if data[at + 10] != 2:
            continue
        (damaged / "data.mdb").write_bytes(data[: at + 16] + bytes([data[at + 16] ^ 1]) + data[at + 17 :])  # where its first record is
        try:
            vectordb.open(damaged).close()
        except CorruptionError as error:
            found += 1
            assert f"page {page} has" in str(error) and error.field == "path"
            with pytest.raises(CorruptionError, match=f"page {page} "):
                vectordb.open(damaged, salvage=True)  # nothing can be read past it
            with pytest.raises(CorruptionError, match=f"page {page} "):
                check(damaged)
    assert found > 3  # the other pages are of older states


def opened_and_closed(path: str, times: int) -> int:
    for _ in range(times):
        with vectordb.open(path, maintenance=False) as database:
            database.collection("c").count()
    return times


def test_a_directory_can_be_opened_while_others_write(directory):
    with vectordb.open(directory, durability="batched", maintenance=False) as database, Worker() as other:
        c = database.create_collection("c", SCHEMA)
        write(c, range(10))
        other.call(opened_and_closed, str(directory), 1)
        other.send(opened_and_closed, str(directory), 100)
        turn = 0
        while not other._connection.poll(0):
            write(c, [turn % 200])
            turn += 1
        assert other.receive() == 100 and turn > 0


@pytest.mark.parametrize("compact", [False, True])
def test_a_copy_that_lmdb_makes_is_whole(directory, tmp_path, compact):
    with vectordb.open(directory, maintenance=False) as database:
        c = database.create_collection("c", SCHEMA)
        for turn in range(5):
            write(c, range(20 * turn, 20 * turn + 50))
        (tmp_path / "copy").mkdir()
        database.directory.env._lmdb.copy(str(tmp_path / "copy"), compact=compact)
        digest = database.directory.env.survey().stored
    with vectordb.open(tmp_path / "copy", maintenance=False) as database:
        assert database.directory.env.survey().counted == digest
        write(database.collection("c"), [1_000])
    assert check(tmp_path / "copy").ok
