"""Compaction removes deleted rows from chunks and changes no answer, of concurrent readers either."""

from __future__ import annotations

import threading
import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vectordb
from tests.engine.test_chunks import MAKE, docids_of, rows_of
from tests.support.nightly import cases
from tests.support.upkeep import hurry, vectors
from vectordb import Bool, CorruptionError, Dense, F, Float, Geo, Int, Keyword, MultiVector, Schema, Sparse, Text, Uuid
from vectordb.engine.check import check
from vectordb.maintenance import policy
from vectordb.storage import chunks, compact, format, store

SCHEMA = Schema(
    {"v": Dense(4), "h": Dense(3, "l2", "float16"), "m": MultiVector(2), "s": Sparse(weighting="idf")},
    {"k": Keyword(), "ks": Keyword(array=True), "n": Int(), "xs": Float(array=True), "t": Text(), "ok": Bool(), "u": Uuid(), "g": Geo()},
)
FILTERS = [
    "k = 'k1'",
    "NOT k = 'k1'",
    "n > 100",
    "n IS NULL",
    "t MATCH 'word3'",
    "t MATCH PHRASE 'the word3'",
    F("ks").isin(["a3"]),
    F("xs") > 50,
    F("ok").isin([True]),
    F("u").isin([uuid.UUID(int=7)]),
    F("g").geo_radius(1.0, 1.0, 500_000),
    F.has_vector("h"),
]


def fill(collection, ids, seed=0) -> None:
    ids, rng = list(ids), np.random.default_rng(seed)
    n = len(ids)
    collection.upsert(
        ids=ids,
        vectors={
            "v": vectors(rng, n),
            "h": [None if i % 4 == 0 else rng.standard_normal(3) for i in ids],
            "m": [rng.standard_normal((1 + i % 3, 2)) for i in ids],
            "s": [{i % 11: 1.0, 100 + i: 0.5, 5: -0.25} for i in ids],
        },
        attributes={
            "k": [None if i % 9 == 4 else f"k{i % 3}" for i in ids],
            "ks": [[f"a{i % 5}", f"b{i}"][: i % 3] for i in ids],
            "n": [None if i % 7 == 1 else i for i in ids],
            "xs": [[float(i), -1.0] if i % 2 else [] for i in ids],
            "t": [f"the word{i % 5} is said" for i in ids],
            "ok": [i % 2 == 0 for i in ids],
            "u": [uuid.UUID(int=i) for i in ids],
            "g": [(float(i % 10), float(i % 10)) for i in ids],
        },
        payload=[{"i": i, "seed": seed} for i in ids],
    )


def said(collection) -> dict:
    """Everything that the collection says."""
    rng = np.random.default_rng(5)
    queries = [
        {"v": rng.standard_normal(4)},
        {"h": rng.standard_normal(3)},
        {"m": rng.standard_normal((2, 2))},
        {"s": {5: 1.0, 3: 2.0, 107: 1.0}},
    ]

    def hits(found):
        return [(hit.id, hit.score, hit.attributes, hit.payload) for hit in found]

    return {
        "points": [
            (
                p.id,
                p.version,
                p.attributes,
                p.payload,
                {k: np.asarray(v, object).tolist() if k == "s" else v.tolist() for k, v in p.vectors.items()},
            )
            for p in collection.iterate(with_vectors=["v", "h", "m"])
        ],
        "sparse": [[part.tolist() for part in p.vectors["s"]] for p in collection.iterate(with_vectors=["s"])],
        "counts": [collection.count(condition) for condition in FILTERS],
        "searches": [hits(collection.search(query, limit=40, exact=True)) for query in queries],
        "filtered": [hits(collection.search(q, limit=9, exact=True, filter=condition)) for q in queries for condition in FILTERS[:3]],
    }


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of a few rows, so that there are many."""
    monkeypatch.setattr(store, "CHUNK_BYTES", 2_000)
    monkeypatch.setattr(store, "POSTINGS_BYTES", 2_000)
    monkeypatch.setattr(compact, "CHUNK_BYTES", 2_000)
    monkeypatch.setattr(compact, "POSTINGS_BYTES", 2_000)


@pytest.fixture
def database(directory):
    """Nothing is done in the background."""
    with vectordb.open(directory, durability="batched", maintenance=False) as opened:
        yield opened


@pytest.fixture
def filled(database, monkeypatch, small_chunks):
    hurry(monkeypatch)
    collection = database.create_collection("c", SCHEMA)
    for first in range(0, 300, 60):
        fill(collection, range(first, first + 60))
    return collection


def stored(collection) -> dict[tuple[int, int], list[int]]:
    """(field, part) → docids of its chunks, in order."""
    with collection._snapshots.pin() as view:
        found = {}
        for place in compact.parts(view.snapshot.meta):
            table = view.snapshot.table(view.store, *place)
            found[place] = [docid for c in range(len(table)) for docid in table.docids_of(c).tolist()]
        return found


def test_every_answer_stays_and_no_dead_row_is_stored(filled):
    fill(filled, range(40, 90), seed=1)
    filled.delete([*range(100, 180), 250, 252, 254])
    filled.update(ids=[3, 200], attributes={"n": [-1, None]})
    before = said(filled)
    assert filled.info().deleted_rows == 50 + 83 + 2
    result = filled.optimize()
    assert result["rows_dropped"] == 135
    assert said(filled) == before
    assert filled.info().deleted_rows == 0
    with filled._snapshots.pin() as view:
        dead = set(view.dead.to_array().tolist())
    for place, docids in stored(filled).items():
        assert docids == sorted(set(docids) - dead), place
    again = filled.optimize()
    assert (again["rows_dropped"], again["bytes_rewritten"]) == (0, 0)


def test_rows_written_after_a_compaction_join_the_chunks_that_it_left(filled):
    filled.delete(list(range(0, 300, 2)))
    filled.optimize()
    for i in range(300, 330):
        fill(filled, [i])
    fill(filled, range(1, 60, 2), seed=2)
    before = said(filled)
    filled.optimize()
    assert said(filled) == before and filled.count() == 180


def test_small_neighbours_are_joined(filled):
    with filled._snapshots.pin() as view:
        full = len(view.snapshot.table(view.store, format.ROWS_FIELD, format.FORWARD))
    filled.delete([i for i in range(300) if i % 10])
    filled.optimize()
    with filled._snapshots.pin() as view:
        table = view.snapshot.table(view.store, format.ROWS_FIELD, format.FORWARD)
        assert len(table) <= full / 5 and table.present == 30
        assert (table.sizes <= 2_000).all()
        for number in view.fields.values():
            for part in compact.PARTS:
                rows = view.snapshot.table(view.store, number, part).rows
                assert (rows[:, 1] - rows[:, 0] < chunks.BLOCK_ROWS).all()


def test_everything_may_die(filled):
    filled.delete(filter="n >= 0 OR n IS NULL")
    assert filled.count() == 0
    filled.optimize()
    assert not any(stored(filled).values()) and filled.info().deleted_rows == 0
    fill(filled, range(10))
    assert filled.count() == 10 and len(filled.search({"v": np.ones(4)}, limit=20)) == 10


def test_only_chunks_with_many_dead_rows_are_touched_by_themselves(filled):
    with filled._snapshots.pin() as view:
        table = view.snapshot.table(view.store, view.fields["v"], format.FORWARD)
        docids = [table.docids_of(c).tolist() for c in range(len(table))]
        big = next(c for c in range(len(table)) if len(docids[c]) >= 10 and table.sizes[c] > 1_000)
        one = docids[big][:1]
        many = docids[big][: len(docids[big]) // 2]
    filled.delete(one)
    with filled._snapshots.pin() as view:
        table, dead = view.snapshot.table(view.store, view.fields["v"], format.FORWARD), np.array(one, np.uint32)
        assert list(compact.units(table, dead, policy.CHUNK_DEAD_SHARE)) == []
        (run,) = compact.units(table, dead, 0.0)
        assert table.firsts[big] in run.firsts
        (run,) = compact.units(table, np.array(many, np.uint32), policy.CHUNK_DEAD_SHARE)
        assert table.firsts[big] in run.firsts and run.nbytes >= table.sizes[big]


def test_what_a_reader_has_pinned_stays_as_it_was(filled):
    queries = {"v": np.ones(4)}
    alone = filled.search(queries, limit=300, exact=True)
    with filled._snapshots.pin() as view:
        tables = [view.table(view.fields[name]).copy() for name in ("v", "m")]
        record = view.records(list(range(300)))
        filled.delete(list(range(150)))
        filled.optimize()
        fill(filled, range(400, 700), seed=3)  # would take free pages
        assert view.records(list(range(300))) == record
        for name, table in zip(("v", "m"), tables, strict=True):
            np.testing.assert_array_equal(view.table(view.fields[name]), table)
            loaded = view.snapshot.table(view.store, view.fields[name], format.FORWARD)
            loaded.verified[:] = 0
            loaded.verify(range(len(loaded)))
    assert len(alone) == 300


def compact_elsewhere(path, ids):
    with vectordb.open(path, maintenance=False) as database:
        collection = database.collection("c")
        if ids:
            collection.delete(ids)
        return collection.optimize()["rows_dropped"]


def test_a_process_that_knows_the_old_chunks_reads_the_new_ones(filled, database, worker):
    everything = said(filled)
    assert worker.call(compact_elsewhere, database.path, list(range(20, 120))) == 100  # in the middle: what is newer stays in place
    found = said(filled)
    assert found["points"] == [point for point in everything["points"] if not 20 <= point[0] < 120]
    with vectordb.open(database.path) as another:
        assert said(another.collection("c")) == found
    worker.call(compact_elsewhere, database.path, [299, 0])
    assert said(filled)["points"] == found["points"][1:-1]


def test_transactions_are_small_and_writers_come_between(filled, monkeypatch):
    monkeypatch.setattr(policy, "COMPACT_BYTES", 10_000)
    groups, sizes = [], []
    rewrite = compact.rewrite

    def watch(txn, collection, group, dead):
        groups.append(group)
        sizes.append(sum(run.nbytes for run in group))
        return rewrite(txn, collection, group, dead)

    monkeypatch.setattr(compact, "rewrite", watch)
    filled.delete(list(range(0, 300, 2)))
    written = []
    stop = threading.Event()

    def write():
        i = 1000
        while not stop.is_set():
            fill(filled, [i])
            written.append((i, len(groups)))
            i += 1

    writer = threading.Thread(target=write)
    writer.start()
    filled.optimize()
    stop.set()
    writer.join()
    assert len(groups) > 5 and max(sizes) <= 10_000
    assert groups[-1][-1].field == format.ROWS_FIELD  # last, so that dead records tell that something is left to do
    assert len({at for _, at in written} - {0, len(groups)}) > 2
    assert filled.count() == 150 + len(written)


def test_a_damaged_chunk_is_left_named_and_never_copied(filled, database, directory, monkeypatch):
    with filled._snapshots.pin() as view:
        field = view.fields["v"]
        table = view.snapshot.table(view.store, field, format.FORWARD)
        first = table.firsts[1]
        key = format.chunk_key(filled._number, field, format.FORWARD, first)
        damaged = bytearray(view.txn.get(key))
    damaged[-1] ^= 1
    database.directory.env.write(lambda txn: txn.put(key, bytes(damaged)), "batched", 10.0)
    filled.delete(list(range(0, 300, 2)))
    with pytest.raises(CorruptionError, match=f"field {field} part 0 rows {first}"):
        filled.optimize()
    with filled._snapshots.pin() as view:
        assert bytes(view.txn.get(key)) == bytes(damaged)
    assert filled.count() == 150 and filled.info().deleted_rows == 0
    with pytest.raises(CorruptionError):
        filled.search({"v": np.ones(4)}, exact=True)
    assert any(f"field {field} part 0 rows {first}" in line for line in check(directory).problems)
    database.close()
    (directory / "data.mdb").unlink()


def test_checksums_of_large_parts_are_checked_when_they_are_first_read(filled):
    with filled._snapshots.pin() as view:
        number = view.fields["v"]
        table = view.snapshot.table(view.store, number, format.FORWARD)
        records = view.snapshot.table(view.store, format.ROWS_FIELD, format.FORWARD)
        other = view.snapshot.table(view.store, view.fields["n"], format.FORWARD)
        assert len(table) > 2 and not table.verified.any() and other.verified.all()
        table.verify([1])
        assert table.verified.tolist() == [0, 1] + [0] * (len(table) - 2)
        for name in ("m", "s"):  # rows of them may be looked up one by one
            looked_up = view.chunks(view.fields[name])
            assert not looked_up.verified.any()
            looked_up.verify_rows(np.array([looked_up.firsts[1], looked_up.firsts[1] + 1]))
            assert looked_up.verified.nonzero()[0].tolist() == [1]
        view.table(number)
        assert table.verified.all()
        view.records([records.firsts[2]])
        assert records.verified.nonzero()[0].tolist() == [2]
    fill(filled, [900])
    with filled._snapshots.pin() as view:
        kept = view.snapshot.table(view.store, number, format.FORWARD)
        assert kept is not table and kept.verified[:-2].all() and not kept.verified[-1]


@settings(max_examples=cases(15, 60))
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 400), st.sampled_from(sorted(MAKE)), st.integers(0, 2**20))
def test_kept_rows_say_what_they_said(seed, rows, gap, kind, pattern):
    rng = np.random.default_rng(seed)
    chunk = MAKE[kind](rng, docids_of(rng, rows, gap))
    keep = np.array([pattern >> (i % 20) & 1 or i == rows - 1 for i in range(rows)], np.bool_)
    some = chunk.keep(keep)
    expected = rows_of(chunk)
    assert rows_of(some) == {docid: expected[docid] for docid in chunk.docids[keep].tolist()}
    assert rows_of(chunks.decode(bytes(chunks.encode(some)), "kept")) == rows_of(some)
