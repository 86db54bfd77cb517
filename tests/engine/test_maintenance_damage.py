"""A missing or damaged index file is detected, answers stay correct, and the index is rebuilt."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import vectordb
from tests.support.upkeep import accounts, hurry, index_files, until, vectors
from vectordb import Dense, Int, Schema
from vectordb.engine.check import check
from vectordb.index.base import open_file
from vectordb.index.file import IndexFile
from vectordb.storage import catalog, format, segments

SCHEMA = Schema({"v": Dense(4), "w": Dense(4, "l2")}, {"n": Int()})
ROWS = 120


@pytest.fixture
def sound(directory):
    """A directory with two segments of "v" and one of "w", and what an exact search says."""
    rng = np.random.default_rng(2)
    with vectordb.open(directory, maintenance=False) as database:
        c = database.create_collection("c", SCHEMA)
        ids = list(range(ROWS))
        c.upsert(ids=ids, vectors={"v": vectors(rng, ROWS), "w": vectors(rng, ROWS)}, attributes={"n": ids})
        with pytest.MonkeyPatch.context() as patch:
            hurry(patch)
            c.optimize()
        right = answers(c)
    return directory, right


def answers(collection) -> list:
    query = np.array([1, -1, 0.5, 2], np.float32)
    return [[(h.id, round(h.score, 5)) for h in collection.search({name: query}, limit=15, exact=True)] for name in ("v", "w")]


def file_of(directory, field: str):
    (name,) = [name for name in index_files(directory) if f"-f{16 if field == 'v' else 17}-" in name]
    return segments.folder(directory) / name


def flip(path, at: float):
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 4
    path.write_bytes(bytes(data))


def swap(path):
    other = next(p for p in path.parent.iterdir() if p.suffix == ".index" and p != path)
    shutil.copy(other, path)


DAMAGE = {
    "removed": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0" * 64),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "another's": swap,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    **{f"flipped at {at}": (lambda path, at=at: flip(path, at)) for at in (0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)},
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_noticed_answers_stay_right_and_the_file_is_built_again(sound, monkeypatch, caplog, name):
    directory, right = sound
    path = file_of(directory, "v")
    before = path.read_bytes()
    DAMAGE[name](path)
    padding = path.is_file() and not reads_differently(before, path)
    hurry(monkeypatch)
    report = check(directory)
    assert report.ok and [path.name in note and "will be rebuilt" in note for note in report.notes] == [True]
    with vectordb.open(directory, maintenance=False) as database:
        c = database.collection("c")
        assert answers(c) == right
        accounts(c)
        files = database.directory.index_files
        until(files.verified)
        if not padding:
            assert list(files.damaged) == [path.name]
            assert accounts(c, "v") == ([], ROWS) and accounts(c, "w") == ([(0, ROWS, ROWS)], 0)
            assert c.info().statistics["v"]["damaged"] == [{"first": 0, "end": ROWS, "file": path.name}]
            assert sum(path.name in message for message in caplog.messages) == 1
        assert answers(c) == right
    if padding:  # no section is touched: what is read is right
        return
    with vectordb.open(directory) as database:
        c = database.collection("c")
        accounts(c)  # opens the files, as a search does
        until(lambda: accounts(c, "v") == ([(0, ROWS, ROWS)], 0) and (path.is_dir() or path.name not in index_files(directory)))
        assert answers(c) == right and c.info().statistics["v"]["damaged"] == []
    assert check(directory).notes == ()


def reads_differently(before: bytes, path) -> bool:
    """Whether the damage touches a section or the header, and not only the padding between."""
    try:
        segment = open_file(path)
        segment.verify()
    except Exception:
        return True
    return segment.file.nbytes != len(before)


def test_optimize_builds_a_missing_file_again(sound, monkeypatch):
    directory, right = sound
    file_of(directory, "w").unlink()
    hurry(monkeypatch)
    with vectordb.open(directory, maintenance=False) as database:
        c = database.collection("c")
        assert c.optimize()["segments_built"] == 1
        assert accounts(c, "w") == ([(0, ROWS, ROWS)], 0) and answers(c) == right


def test_a_file_damaged_while_it_is_open_is_found_by_the_first_reading_through(sound, monkeypatch):
    directory, right = sound
    hurry(monkeypatch)
    with vectordb.open(directory) as database:
        c = database.collection("c")
        verify = IndexFile.verify

        def late(file, *given):
            for at in (0.3, 0.5, 0.7):
                flip(file.path, at)
            verify(file, *given)

        with c._snapshots.pin() as view, pytest.MonkeyPatch.context() as patch:
            patch.setattr(IndexFile, "verify", late)
            snapshot, field = view.snapshot, view.fields["v"]
            assert len(snapshot.segments(field)) == 1
            until(lambda: snapshot.segments(field) == ())  # of the same snapshot
            assert snapshot.tail(field) == [(0, ROWS)]
        until(lambda: accounts(c, "v") == ([(0, ROWS, ROWS)], 0))
        assert answers(c) == right


@pytest.mark.parametrize("value", [b"", b"rubbish that is no record at all", None])
def test_a_damaged_record_is_noted_and_replaced(sound, monkeypatch, value):
    directory, right = sound
    hurry(monkeypatch)
    with vectordb.open(directory, maintenance=False) as database:
        number = database.collection("c")._number
        field = catalog_field(database, number, "v")
        key = format.segment_key(number, field, 0)

        def work(txn):
            if value is None:
                txn.put(key, format.pack_record({"field": field, "first": 0}))
            else:
                txn.put(key, value)

        database.directory.env.write(work, "commit", 10.0)
    report = check(directory)
    assert report.ok and any("index record" in note for note in report.notes)
    with vectordb.open(directory) as database:
        c = database.collection("c")
        assert answers(c) == right
        until(lambda: accounts(c, "v") == ([(0, ROWS, ROWS)], 0))
        until(lambda: len(index_files(directory)) == 2)
        assert answers(c) == right


def catalog_field(database, number, name):
    with database.directory.env.read() as txn:
        return catalog.read_meta(txn, number).fields[name]


def test_records_that_contradict_each_other_are_a_problem(sound):
    directory, _ = sound
    with vectordb.open(directory, maintenance=False) as database:
        number = database.collection("c")._number
        with database.directory.env.read() as txn:
            found, _ = segments.records(txn, number)
        record = found[16][0]
        over = segments.Record(16, 60, 200, 10, 0, record.file, record.bytes, record.checksum, {}, 1)
        with pytest.raises(ValueError, match="overlaps"):
            database.directory.env.write(lambda txn: segments.replace(txn, number, (), over), "commit", 10.0)
        assert not database.directory.env.write(lambda txn: segments.replace(txn, number, (over,), None), "commit", 10.0)
        raw = {name: getattr(over, name) for name in over.__struct_fields__}
        database.directory.env.write(lambda txn: txn.put(format.segment_key(number, 16, 60), format.pack_record(raw)), "commit", 10.0)
    problems = check(directory).problems
    assert any("index of 'v': covers rows 60 … 199" in line for line in problems)
    (directory / "data.mdb").unlink()


def test_a_reader_of_an_older_state_takes_a_replaced_file_for_no_damage(sound, monkeypatch, caplog):
    directory, _ = sound
    hurry(monkeypatch)
    with vectordb.open(directory, maintenance=False) as database:
        c = database.collection("c")
        with c._snapshots.pin() as view:  # nothing of it is open yet
            field = view.fields["v"]
            rows = list(range(20))
            c.delete(rows)
            c.optimize()
            assert view.snapshot.segments(field) == () and view.snapshot.tail(field) == [(0, ROWS)]
        assert accounts(c, "v") == ([(0, ROWS, ROWS - 20)], 0)
        assert database.directory.index_files.damaged == {} and caplog.messages == []
