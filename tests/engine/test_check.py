"""``check`` names every kind of damage, changes nothing, and works beside a writer.

Damage is done below the database: well-formed LMDB writes that break one invariant each.
"""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime

import numpy as np
import pytest
from pyroaring import BitMap

import vectordb
from vectordb import (
    Bool,
    CorruptionError,
    Datetime,
    Dense,
    FormatVersionError,
    Geo,
    Int,
    Keyword,
    MultiVector,
    Schema,
    Sparse,
    StorageError,
    Text,
    Uuid,
)
from vectordb.engine.check import check
from vectordb.storage import catalog, chunks, format

SCHEMA = Schema(
    {"v": Dense(4), "h": Dense(2, "l2", "float16"), "m": MultiVector(3), "s": Sparse()},
    {"k": Keyword(), "ks": Keyword(array=True), "n": Int(), "ns": Int(array=True), "t": Text(), "ok": Bool(), "at": Datetime()}
    | {"u": Uuid(), "g": Geo()},
)
N = 12


@pytest.fixture
def filled(directory):
    """A directory with every kind of record in it."""
    rng = np.random.default_rng(3)
    with vectordb.open(directory) as database:
        c = database.create_collection("c", SCHEMA)
        c.upsert(
            ids=[*range(N - 2), "a", uuid.UUID(int=5)],
            vectors={
                "v": rng.standard_normal((N, 4)),
                "h": [None if i % 3 == 0 else rng.standard_normal(2) for i in range(N)],
                "m": [rng.standard_normal((1 + i % 3, 3)) for i in range(N)],
                "s": [{j: float(j - 3) for j in range(i % 5)} for i in range(N)],
            },
            attributes={
                "k": [None if i == 4 else f"k{i % 3}" for i in range(N)],
                "ks": [["x", "y", "x"][: i % 4] for i in range(N)],
                "n": [None if i % 4 == 1 else i for i in range(N)],
                "ns": [[i] * (i % 3) for i in range(N)],
                "t": [f"the word{i % 2} is said" for i in range(N)],
                "ok": [i % 2 == 0 for i in range(N)],
                "at": [datetime(2024, 1, 1 + i, tzinfo=UTC) for i in range(N)],
                "u": [uuid.UUID(int=i) for i in range(N)],
                "g": [(float(i), -float(i)) for i in range(N)],
            },
            payload=[{"i": i} for i in range(N)],
        )
        c.update(ids=[1, 2], attributes={"n": [7, None]})
        c.delete([3, "a"])
        database.create_collection("empty", Schema({"v": Dense(4)}))
        c.add_fields(attributes={"later": Int()})
    assert check(directory).ok
    return directory


def damage(directory, work):
    """``work(txn, number of the collection, its meta)`` in a committed transaction."""
    with vectordb.open(directory) as database:
        number = database.collection("c")._number
        database.directory.env.write(lambda txn: work(txn, number, catalog.read_meta(txn, number)), "commit", 10.0)


def problems_of(directory) -> list[str]:
    """What check finds; the damage is undone for the fixture's own check."""
    found = check(directory)
    assert found.ok == (not found.problems)
    (directory / "data.mdb").unlink()
    return list(found.problems)


def replace_chunk(field, part, change, at=0):
    """Rewrite a chunk of a field with a right checksum."""

    def work(txn, number, meta):
        key = format.chunk_key(number, field if isinstance(field, int) else meta.fields[field], part, at)
        value = txn.get(key)
        assert value is not None
        chunk = chunks.decode(bytes(value), "test")
        txn.put(key, bytes(chunks.encode(change(chunk))))

    return work


def changed(chunk, **parts):
    return type(chunk)(**{**vars(chunk), **parts})


def put(kind, rest, value):
    return lambda txn, number, meta: txn.put(format.key(number, kind, rest(meta) if callable(rest) else rest), value)


def entry(value, docid, version):
    return lambda txn, number, meta: txn.put(format.id_key(number, value), format.pack_entry(docid, version))


def delete(make_key):
    def work(txn, number, meta):
        assert txn.delete(make_key(number, meta))

    return work


def dead(block, rows):
    return lambda txn, number, meta: txn.put(format.tombstone_key(number, block), format.with_checksum(BitMap(rows).serialize()))


def field_rest(name, rest=b""):
    return lambda meta: meta.fields[name].to_bytes(2, "big") + rest


def other_row(chunk):
    """The row records with the id of the first row replaced."""
    first = bytes(chunk.data.reshape(-1)[: chunk.offsets[1]])
    row = format.pack_row(format.Row(777, format.unpack_rows([first])[0].attributes))
    data = np.concatenate([np.frombuffer(row, np.uint8), chunk.data.reshape(-1)[chunk.offsets[1] :]])
    shift = len(row) - int(chunk.offsets[1])
    offsets = np.concatenate([[0], chunk.offsets[1:].astype(np.int64) + shift])
    return chunks.ragged(chunk.docids, offsets, data)


def corrupted(field, part, at=0):
    def work(txn, number, meta):
        key = format.chunk_key(number, meta.fields[field], part, at)
        value = bytearray(txn.get(key))
        value[-1] ^= 1
        txn.put(key, bytes(value))

    return work


def tripled(array):
    array = array.copy()
    array[0] *= 3
    return array


F, P, C = format.FORWARD, format.POSTINGS, format.COUNTS
DAMAGE = {
    "a stranger's key": (lambda txn, n, m: txn.put(b"\0\0\0\x63zzz", b"1"), "belongs to no collection or has an unknown kind"),
    "an unknown kind": (put(b"?", b"", b"1"), "belongs to no collection or has an unknown kind"),
    "an unknown catalog key": (lambda txn, n, m: txn.put(format.key(0, b"?"), b"1"), "belongs to no collection or has an unknown kind"),
    "catalog entry": (lambda txn, n, m: txn.put(format.key(0, format.NAME, b"c"), b"12345678rubbish"), "catalog entry b'c'"),
    "next number": (lambda txn, n, m: txn.put(format.key(0, format.NEXT), format.pack_record(1)), "next free number"),
    "no descriptor": (delete(lambda n, m: format.key(n, format.META)), "collection 'c'"),
    "descriptor of another": (
        lambda txn, n, m: catalog.write_meta(txn, n, catalog.Meta("d", m.schema, m.fields, m.encoders, m.revision)),
        "descriptor: has the name 'd'",
    ),
    "field numbers": (
        lambda txn, n, m: catalog.write_meta(txn, n, catalog.Meta("c", m.schema, m.fields | {"n": 16}, m.encoders, m.revision)),
        "field numbers",
    ),
    "descriptor's schema": (
        lambda txn, n, m: catalog.write_meta(txn, n, catalog.Meta("c", {"vectors": 3}, m.fields, m.encoders, m.revision)),
        "collection 'c'",
    ),
    "no state": (delete(lambda n, m: format.key(n, format.STATE)), "state"),
    "state's checksum": (put(format.STATE, b"", b"1" * 32), "state record fails its checksum"),
    "live count": (put(format.STATE, b"", format.pack_state(4, N + 2, N - 3)), "are live"),
    "rows count": (put(format.STATE, b"", format.pack_state(4, N + 3, N - 2)), "lack a readable record for 1 rows"),
    "sequence": (put(format.STATE, b"", format.pack_state(5, N + 2, N - 2)), "change log: ends at sequence 4, but the newest is 5"),
    "a hole in the log": (delete(lambda n, m: format.log_key(n, 2)), "change log 3: follows sequence 1"),
    "a log record": (lambda txn, n, m: txn.put(format.log_key(n, 2), b"rubbish."), "change log 2"),
    "an id's row": (entry(0, 5, 1), "id 0: points to row 5, which belongs to 5"),
    "an id's row out of range": (entry(0, 5000, 1), "id 0: points to row 5000"),
    "an id's version": (entry(0, 0, 99), "id 0: has version 99"),
    "an id's old row": (entry(1, 1, 1), "dead rows: differ from the rows without an id"),
    "an id too many": (entry(88, 3, 1), "id 88: points to row 3, which belongs to 3"),
    "an id missing": (delete(lambda n, m: format.id_key(n, 0)), "id map"),
    "an id key": (put(format.IDS, b"\x01short", format.pack_entry(0, 1)), "id key"),
    "an id's entry": (lambda txn, n, m: txn.put(format.id_key(n, 0), b"short"), "id 0: has an entry of 5 bytes"),
    "dead rows": (dead(0, [1, 2, 3]), "dead rows"),
    "dead rows' checksum": (lambda txn, n, m: txn.put(format.tombstone_key(n, 0), b"12345678" * 4), "dead rows record fails its checksum"),
    "dead rows' block": (dead(1, [1]), "dead rows block 1"),
    "a row's record": (replace_chunk(format.ROWS_FIELD, F, other_row), "which belongs to 777"),
    "rows' chunk missing": (delete(lambda n, m: format.chunk_key(n, format.ROWS_FIELD, F, 0)), "lack a readable record"),
    "a checksum": (corrupted("v", F), "fails its checksum"),
    "a chunk of an unknown field": (put(format.CHUNK, b"\0\x63\0\0\0\0\0", b"1"), "belongs to no field"),
    "a chunk's place": (
        lambda txn, n, m: txn.put(format.chunk_key(n, m.fields["v"], F, 6), bytes(txn.get(format.chunk_key(n, m.fields["v"], F, 0)))),
        "overlaps the chunk before it",
    ),
    "norms": (replace_chunk("v", F, lambda c: changed(c, norms=tripled(c.norms))), "norms that differ from the lengths of its vectors"),
    "no norms": (replace_chunk("v", F, lambda c: changed(c, norms=None)), "norms though its metric needs none, or lacks them"),
    "multi norms": (replace_chunk("m", F, lambda c: changed(c, norms=tripled(c.norms))), "norms that differ"),
    "width": (replace_chunk("h", F, lambda c: changed(c, data=c.data[:, :2]), at=1), "values of 2 bytes, not 4"),
    "kind of chunk": (replace_chunk("n", F, lambda c: chunks.ragged(c.docids, np.arange(len(c) + 1), c.data)), "has kind 2, not 1"),
    "nan": (
        replace_chunk("h", F, lambda c: changed(c, data=np.full_like(c.data, 255)), at=1),
        "vector 'h' rows 0 … 13: has values that are not finite",
    ),
    "sparse weights by term": (
        replace_chunk("s", P, lambda c: changed(c, weights=tripled(c.weights))),
        "differs between the forward index and the posting lists",
    ),
    "sparse terms by row": (replace_chunk("s", F, lambda c: changed(c, data=c.data[::-1].copy())), "terms out of order"),
    "sparse by row missing": (
        delete(lambda n, m: format.chunk_key(n, m.fields["s"], F, 0)),
        "covers different rows in the forward index and in the posting lists",
    ),
    "an ordinal": (put(format.TERMS, field_rest("k", b"k0"), (5).to_bytes(4, "little")), "dictionary of 'k': has gaps or"),
    "ordinals swapped": (
        lambda txn, n, m: [
            txn.put(format.field_key(n, format.TERMS, m.fields["k"]) + term, number.to_bytes(4, "little"))
            for term, number in ((b"k0", 1), (b"k1", 0))
        ],
        "attribute 'k'",
    ),
    "term count": (put(format.TERM_COUNT, field_rest("t"), (99).to_bytes(4, "little")), "its counter says 99"),
    "a term missing": (delete(lambda n, m: format.field_key(n, format.TERMS, m.fields["ks"]) + b"x"), "dictionary of 'ks'"),
    "a uuid term": (put(format.TERMS, field_rest("u", b"short"), (12).to_bytes(4, "little")), "which is not a UUID"),
    "a dictionary of a number": (put(format.TERMS, field_rest("n", b"x"), b"\0\0\0\0"), "which has no such record"),
    "encoder counters": (put(format.ENCODER, field_rest("s"), b"12345678"), "which has no such record"),
    "an integer": (replace_chunk("n", F, lambda c: changed(c, data=c.data[::-1].copy())), "attribute 'n'"),
    "a moment": (replace_chunk("at", F, lambda c: changed(c, data=c.data[::-1].copy())), "attribute 'at'"),
    "a place": (replace_chunk("g", F, lambda c: changed(c, data=c.data[::-1].copy())), "attribute 'g'"),
    "rows of an attribute": (replace_chunk("n", F, lambda c: c.slice(0, len(c) - 1)), "attribute 'n'"),
    "a keyword's rows": (replace_chunk("k", P, lambda c: chunks.postings(c.docids, [0] * len(c), c.docids)), "attribute 'k'"),
    "a bool's rows": (replace_chunk("ok", P, lambda c: chunks.postings(c.docids, [1] * len(c), c.docids)), "attribute 'ok'"),
    "an array's lengths": (replace_chunk("ns", C, lambda c: chunks.postings(c.docids, [1] * len(c), c.docids)), "attribute 'ns'"),
    "an array's elements": (
        replace_chunk("ns", F, lambda c: changed(c, data=c.data[::-1].copy())),
        "attribute 'ns' rows 0 … 13: part 0 differs",
    ),
    "words in order": (replace_chunk("t", F, lambda c: changed(c, data=c.data[::-1].copy())), "attribute 't' rows 0 … 13: part 0"),
    "words' rows": (replace_chunk("t", P, lambda c: chunks.postings(c.docids, [0] * len(c), c.docids)), "rows 0 … 13: part 1"),
    "postings out of order": (replace_chunk("t", P, lambda c: changed(c, docs=c.docs[::-1].copy())), "has a posting list out of order"),
    "postings of rows not covered": (
        replace_chunk("k", P, lambda c: chunks.postings(c.docids, [0], [4])),
        "has postings of rows that it does not list",
    ),
    "offsets": (replace_chunk("t", F, lambda c: changed(c, offsets=np.minimum(c.offsets[::-1].copy(), c.offsets[-1]))), "part 0"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(filled, name):
    work, expected = DAMAGE[name]
    damage(filled, work)
    found = problems_of(filled)
    assert any(expected in line for line in found), found


def test_every_collection_is_checked_even_after_one_is_damaged(filled):
    damage(filled, put(format.META, b"", b"12345678"))
    with vectordb.open(filled) as database:
        number = database.collection("empty")._number
        database.directory.env.write(lambda txn: txn.put(format.key(number, format.STATE), b"12345678"), "commit", 10.0)
    found = problems_of(filled)
    assert any("'c'" in line for line in found) and any("'empty'" in line for line in found)


def test_a_sound_directory_is_counted_and_left_as_it_is(filled):
    before = hashlib.sha256((filled / "data.mdb").read_bytes()).digest()
    report = check(filled)
    assert report.ok and report.problems == ()
    assert (report.collections, report.points, report.rows) == (2, N - 2, N + 2)
    assert report.chunks > 15 and report.bytes > 2_000
    assert report.path == str(filled)
    assert hashlib.sha256((filled / "data.mdb").read_bytes()).digest() == before


def test_a_writer_may_go_on_meanwhile(filled):
    with vectordb.open(filled) as database:
        collection = database.collection("c")
        for i in range(20):
            collection.upsert(ids=[i], attributes={"k": [f"new{i}"]})
            assert check(filled).ok
        assert collection.count() == N - 2 + 10 + 1  # 3 was deleted, and 10 … 19 are new


def test_a_long_list_of_problems_is_cut(filled, monkeypatch):
    monkeypatch.setattr("vectordb.storage.check.walker.MAX_PROBLEMS", 5)
    damage(filled, lambda txn, n, m: [txn.put(format.key(n, b"?", bytes([i])), b"") for i in range(9)])
    found = problems_of(filled)
    assert len(found) == 6 and "only the first 5" in found[-1]


def test_what_is_no_database_is_refused_with_a_name(tmp_path):
    for name, make, error in (
        ("nothing", lambda path: None, StorageError),
        ("empty", lambda path: path.mkdir(), StorageError),
        ("rubbish", lambda path: (path.mkdir(), (path / "data.mdb").write_bytes(b"rubbish." * 4096)), CorruptionError),
        ("file", lambda path: path.write_bytes(b""), StorageError),
    ):
        path = tmp_path / name
        make(path)
        with pytest.raises(error, match=name):
            check(path)
        assert not path.is_dir() or name == "rubbish" or not list(path.iterdir())


def test_another_format_is_refused_and_left_untouched(filled):
    damage(filled, lambda txn, n, m: txn.put(format.FORMAT_KEY, format.pack_record({"format": 99})))
    before = (filled / "data.mdb").read_bytes()
    for _ in range(2):  # a refused directory isn't left open
        with pytest.raises(FormatVersionError, match="99") as caught:
            check(filled)
        assert (caught.value.field, caught.value.value) == ("format", 99)
    with pytest.raises(FormatVersionError):
        vectordb.open(filled)
    assert (filled / "data.mdb").read_bytes() == before
    (filled / "data.mdb").unlink()
