"""Fields that are derived from attributes, in a directory: made in the background, killed, checked, purged, exported and branched."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from msgspec import structs

import vectordb
from tests.support import forked
from vectordb import Attributes, Cyclic, Dense, Float, Int, Keyword, Schema, Series, cli
from vectordb.common import failpoints
from vectordb.engine.check import check
from vectordb.maintenance import derive
from vectordb.maintenance.derive import STEPS
from vectordb.storage import derived

GIVEN = Attributes("price", Cyclic("weekday", 7), "brand")
TYPES = {"price": Float(), "weekday": Int(), "brand": Keyword(), "readings": Float(array=True)}
FIELDS = {"profile": Dense(40, derived=GIVEN), "curve": Dense(24, "l2", derived=Series("readings", window=16))}


@pytest.fixture(autouse=True)
def disarmed():
    yield
    failpoints.disarm()


def filled(database, n=700, vectors=None, name="docs"):
    docs = database.create_collection(name, Schema(FIELDS if vectors is None else vectors, TYPES))
    docs.upsert(ids=range(n), attributes=values(range(n)))
    return docs


def values(ids):
    return {
        "price": [10.0 ** (i % 60 / 10 - 2) for i in ids],
        "weekday": [i % 7 for i in ids],
        "brand": [f"brand {i % 9}" for i in ids],
        "readings": [np.cos(np.arange(16) * (1 + i % 8) / 9).tolist() for i in ids],
    }


def vectors(docs):
    return {point.id: point.vectors for point in docs.iterate(with_vectors=True)}


def same(one, other):
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[i][name], other[i][name]) for i in one for name in {**one[i], **other[i]})


def _add(path, step):
    with vectordb.open(path, maintenance=False) as database:
        failpoints.arm(step, failpoints.kill_at(1))
        database["docs"].add_fields(vectors=FIELDS)
        database["docs"].optimize()


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_of_the_background_loses_nothing(directory, step):
    with vectordb.open(directory, maintenance=False) as database:
        expected = vectors(filled(database, 300, name="whole"))
        docs = filled(database, 300, {"v": Dense(2)})
        docs.delete([7])
    process = forked.context().Process(target=_add, args=(str(directory), step), daemon=True)
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL and check(directory).problems == ()
    with vectordb.open(directory, create=False, maintenance=False) as database:
        database["docs"].optimize()
        del expected[7]
        same(vectors(database["docs"]), expected)
    assert check(directory).problems == ()


def test_rows_without_records_are_passed_over(directory, monkeypatch):
    """Rows that were compacted away, between others, in batches of 256."""
    monkeypatch.setattr(derive, "BATCH_BYTES", 1)
    with vectordb.open(directory, maintenance=False) as database:
        docs = filled(database, vectors={"v": Dense(2)})
        docs.delete([*range(100, 400), 650])
        docs.purge()
        docs.add_fields(vectors=FIELDS)
        docs.optimize()
        assert docs.report("profile")["rows"] == 399


def test_they_are_indexed_and_reach_the_recall(directory):
    with vectordb.open(directory, durability="batched", maintenance=False) as database:
        docs = filled(database, 3_000)
        docs.optimize()
        facts = docs.info().statistics["profile"]
        assert facts["segments"] and facts["derived"]["state"] == "ready"
        found = []
        for i in range(0, 300, 10):
            query = {"price": 10.0 ** (i % 60 / 10 - 2) * 1.1, "weekday": (i + 1) % 7, "brand": f"brand {i % 9}"}
            exact, hits = (docs.search({"profile": query}, limit=10, exact=each) for each in (True, False))
            found.append(np.mean(hits.scores >= exact.scores[-1] - 1e-5))  # many points have equal vectors
        assert np.mean(found) >= 0.95  # observed 1.0
    assert check(directory).problems == ()


def test_purged_equals_never_inserted(directory):
    with vectordb.open(directory, durability="batched", maintenance=False) as database:
        docs, other = filled(database, 200), filled(database, 200, name="other")
        docs.upsert(ids=["secret"], attributes={"price": [123.0], "brand": ["secret"]})
        docs.delete(["secret"])
        docs.purge()
        same(vectors(docs), vectors(other))
        hits = [each.search({"profile": {"brand": "secret"}}, limit=5) for each in (docs, other)]
        assert hits[0].ids.tolist() == hits[1].ids.tolist()


def test_check_finds_a_record_unlike_the_schema(tmp_path):
    directory = tmp_path / "damaged"
    with vectordb.open(directory, maintenance=False) as database:
        docs = filled(database, 20)
        docs.rename_fields({"price": "cost"})
        assert check(directory).problems == ()  # a rename is no damage
        with docs._snapshots.pin() as view:
            number = view.fields["profile"]

        def damage(txn):
            record = derived.read(txn, docs.number, number)
            derived.write(txn, docs.number, number, structs.replace(record, by={**record.by, "attributes": ["cost", "brand"]}))

        database.directory.env.write(damage, "batched", 10)
    assert any("derivation of field" in problem for problem in check(directory).problems)


def test_export_import_and_branch(directory, tmp_path, capsys):
    with vectordb.open(directory, maintenance=False) as database:
        expected = vectors(filled(database, 60))
    file, described = tmp_path / "docs.jsonl", tmp_path / "schema.json"
    assert cli.main(["export", str(directory), "docs", str(file), "--with-vectors", "--schema", str(described)]) == 0
    new = str(tmp_path / "new")
    assert cli.main(["import", new, "docs", str(file), "--schema", str(described), "--create"]) == 0
    assert cli.main(["fit", new, "docs", "profile", "--report"]) == 0
    assert "profile: 40 dimensions by attributes, ready; 60 points have a vector" in capsys.readouterr().out
    with vectordb.open(new, maintenance=False) as database:
        same(vectors(database["docs"]), expected)
        database.branch("docs", "copy")
        database["copy"].update(ids=[5], attributes={"price": [1e3]})
        database["copy"].add_fields(vectors={"late": Dense(16, derived=Attributes("price"))})
        database["copy"].optimize()
        database.merge("copy")
        database["docs"].optimize()
        assert database["docs"].search({"late": {"price": 1e3}}, limit=1)[0].id in (5, 50)
        same({5: vectors(database["docs"])[5]}, {5: vectors(database["copy"])[5]})
