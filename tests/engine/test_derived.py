"""Derived fields in a directory: made in the background, fitted while others read and write, interrupted, purged, branched, exported."""

from __future__ import annotations

import itertools
import json
import signal
import threading

import numpy as np
import pytest

import vectordb
from tests.support import forked
from tests.support.upkeep import hurry, until
from vectordb import PCA, Dense, Int, Pick, PreconditionError, Prefetch, Prefix, Project, Schema, SchemaError, VectorDBError, cli
from vectordb.cli import load as load_command
from vectordb.common import failpoints
from vectordb.demo import corpus
from vectordb.encoders import load
from vectordb.engine.check import check
from vectordb.engine.deriving import made_of
from vectordb.maintenance import derive
from vectordb.maintenance.derive import STEPS
from vectordb.storage import catalog, format
from vectordb.storage.reader import read_only

DIM = 16
SCHEMA = Schema({"v": Dense(DIM), "main": Dense(5, derived=PCA("v")), "cut": Dense(4, derived=Prefix("v"))}, {"n": Int()})


@pytest.fixture(autouse=True)
def disarmed():
    yield
    failpoints.disarm()


@pytest.fixture
def database(directory):
    """Without work in the background."""
    with vectordb.open(directory, durability="batched", maintenance=False) as opened:
        yield opened


def rows(n, seed=1, turn=0):
    """Vectors whose variance lies in other dimensions for another ``turn``."""
    scale = np.roll(np.linspace(2, 0.2, DIM), turn)
    return (np.random.default_rng(seed).standard_normal((n, DIM)) * scale).astype(np.float32)


def filled(database, n=300, schema=SCHEMA, name="docs"):
    docs = database.create_collection(name, schema)
    docs.upsert(ids=range(n), vectors={"v": rows(n)}, attributes={"n": range(n)})
    return docs


def made(docs, name="main"):
    with docs._snapshots.pin() as view:
        return made_of(view.txn, view.store.collection, view.fields[name])


def agrees(docs, name="main"):
    """Every point has exactly the derived vector that the present fit makes of its source."""
    points = list(docs.iterate(with_vectors=["v", name]))
    basis = made(docs, name).parts["basis"]
    for point in points:
        assert (name in point.vectors) == ("v" in point.vectors)
        np.testing.assert_allclose(point.vectors[name], point.vectors["v"] @ basis, rtol=1e-4, atol=1e-5)
    return len(points)


def test_it_begins_by_itself_while_others_read_and_write(directory, monkeypatch):
    hurry(monkeypatch, SEAL_ROWS=10_000)
    monkeypatch.setattr(derive, "ENOUGH_ROWS", 200)
    monkeypatch.setattr(derive, "BATCH_BYTES", 4 * DIM * 256)
    with vectordb.open(directory, durability="batched") as database:
        docs = filled(database, 150)
        assert docs.report("main")["state"] == "waiting"
        docs.upsert(ids=range(150, 3000), vectors={"v": rows(2850, 2)})
        until(lambda: docs.report("main")["state"] == "ready")
        assert agrees(docs) == 3000
        docs.add_fields(vectors={"random": Dense(7, derived=Project("v"))})
        while docs.report("random")["state"] != "ready":
            docs.upsert(ids=[next(COUNTER)], vectors={"v": rows(1, 7)})
            assert len(docs.search({"main": rows(1)[0]}, limit=5)) == 5
        assert docs.count("HAS_VECTOR(random)") == docs.count()


COUNTER = itertools.count(10_000)


def test_a_search_sees_vectors_of_one_fit_alone(database, monkeypatch):
    """Between any two batches of a fit: the old vectors, whole, and new points among them."""
    monkeypatch.setattr(derive, "BATCH_BYTES", 4 * DIM * 256)
    docs = filled(database, 900)
    docs.fit("main")
    old = made(docs).parts["basis"]
    docs.upsert(ids=range(900), vectors={"v": rows(900, 5, turn=8)})
    seen = []

    def look():
        own = threading.Thread(target=read)  # this one holds a write transaction
        own.start()
        own.join()

    def read():
        with docs._snapshots.pin() as view:
            names = view.snapshot.meta
        assert names.deriving
        hits = docs.search({"main": rows(1, 5, turn=8)[0]}, limit=3, exact=True)
        assert hits[0].id == 0 and hits[0].score == pytest.approx(1.0, abs=1e-5)
        assert made(docs).parts["basis"] is old or np.array_equal(made(docs).parts["basis"], old)
        seen.append(docs.report("main")["state"])

    failpoints.arm("derive.batch", look)
    report = docs.fit("main")
    failpoints.disarm()
    assert len(seen) >= 4 and set(seen) == {"refitting"} and report["version"] == 2
    assert not np.array_equal(made(docs).parts["basis"], old) and agrees(docs) == 900
    assert docs.search({"main": rows(1, 5, turn=8)[0]}, limit=1)[0].id == 0


def test_work_that_was_interrupted_goes_on_where_it_ended(database, monkeypatch):
    monkeypatch.setattr(derive, "BATCH_BYTES", 4 * DIM * 256)
    docs, batches = filled(database, 1500), []

    def third():
        batches.append(1)
        if len(batches) == 3:
            raise OSError("no")

    failpoints.arm("derive.batch", third)
    with pytest.raises(VectorDBError):
        docs.fit("main")
    report = docs.report("main")
    assert report["state"] == "deriving" and report["share"] == pytest.approx(512 / 1500, abs=1e-3)
    docs.upsert(ids=range(5), vectors={"v": rows(5, 3)})
    docs.delete([7, 8])
    batches.append(1)
    docs.optimize()
    assert len(batches) == 4 + 4 and docs.report("main")["version"] == 1  # 1505 rows in batches of 256, of which 2 were done
    assert agrees(docs) == 1498


def _fit(path, step):
    with vectordb.open(path, maintenance=False) as database:
        docs = database["docs"]
        failpoints.arm(step, failpoints.kill_at(1))
        docs.fit("main")


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_loses_nothing(directory, step):
    with vectordb.open(directory, maintenance=False) as database:
        docs = filled(database, 300)
        docs.fit("main")
        docs.upsert(ids=range(300), vectors={"v": rows(300, 5, turn=8)})
        before = made(docs).parts["basis"].copy()
    process = forked.context().Process(target=_fit, args=(str(directory), step), daemon=True)
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    assert check(directory).problems == ()
    with vectordb.open(directory, create=False, maintenance=False) as database:
        docs = database["docs"]
        assert np.array_equal(made(docs).parts["basis"], before) == (step != "derive.committed")
        assert agrees(docs) == 300
        docs.optimize()
        assert docs.report("main")["version"] == 2 and agrees(docs) == 300


def test_purged_equals_never_inserted(database):
    """Bit for bit: what is fitted, and every derived vector."""
    schema = Schema({"v": Dense(DIM), "main": Dense(5, derived=PCA("v")), "some": Dense(4, derived=Pick("v"))})
    docs, other = (database.create_collection(name, schema) for name in ("docs", "other"))
    docs.upsert(ids=[*range(500, 520), "secret"], vectors={"v": rows(21, 9, turn=8) * 100})
    docs.upsert(ids=range(200), vectors={"v": rows(200)})
    for name in ("main", "some"):
        docs.fit(name)
    docs.update(ids=[3], vectors={"v": rows(1, 4)})
    docs.delete([*range(500, 520), "secret"])
    other.upsert(ids=[3], vectors={"v": rows(1, 4)})
    other.upsert(ids=[i for i in range(200) if i != 3], vectors={"v": np.delete(rows(200), 3, axis=0)})
    for name in ("main", "some"):
        other.fit(name)
    assert made(docs).record.arrays != made(other).record.arrays
    assert docs.report("main")["deleted_since"] > 0
    assert docs.purge()["proven"]
    for name in ("main", "some"):
        assert made(docs, name).record.arrays == made(other, name).record.arrays
        assert made(docs, name).record.report == made(other, name).record.report
        assert docs.report(name)["deleted_since"] == 0 and docs.report(name)["version"] == 2
        pairs = zip(docs.iterate(with_vectors=True), other.iterate(with_vectors=True), strict=True)
        assert all(one.id == two.id and one.vectors[name].tobytes() == two.vectors[name].tobytes() for one, two in pairs)
    fields = docs.report("main")["version"]
    docs.purge()
    assert docs.report("main")["version"] == fields  # nothing of what it was fitted to was deleted


def test_with_too_few_points_left_a_purge_takes_away_what_was_learned(database, directory):
    docs = filled(database, 60)
    docs.fit("main")
    docs.delete(range(50))
    basis = made(docs).record.arrays["basis"][2]
    assert docs.purge()["proven"]
    assert docs.report("main")["state"] == "waiting" and docs.count("HAS_VECTOR(main)") == 0
    with pytest.raises(PreconditionError, match="not fitted"):
        docs.search({"main": rows(1)[0]})
    database.flush()
    assert all(basis[:64] not in path.read_bytes() for path in directory.rglob("*") if path.is_file())
    docs.upsert(ids=range(100, 150), vectors={"v": rows(50, 6)})
    assert docs.fit("main")["version"] == 1 and agrees(docs) == 60


def test_a_branch_keeps_its_own_fit_and_merged_points_get_that_of_the_original(database):
    docs = filled(database, 200)
    docs.fit("main")
    branch = database.branch("docs", "trial")
    assert agrees(branch) == 200
    branch.upsert(ids=range(200, 260), vectors={"v": rows(60, 5, turn=8)})
    branch.fit("main")
    branch.add_fields(vectors={"more": Dense(3, derived=Project("v"))})
    branch.optimize()
    assert not np.array_equal(made(branch).parts["basis"], made(docs).parts["basis"]) and agrees(docs) == 200 and agrees(branch) == 260
    database.merge("trial")
    assert agrees(docs) == 260 and docs.report("more")["state"] == "deriving"
    docs.optimize()
    assert docs.count("HAS_VECTOR(more)") == 260


def test_a_branch_that_begins_while_vectors_are_made_goes_on_with_them(database, directory, monkeypatch):
    monkeypatch.setattr(derive, "BATCH_BYTES", 4 * DIM * 256)
    docs, batches = filled(database, 1500), []

    def fourth():
        batches.append(1)
        if len(batches) == 4:
            raise OSError("no")

    failpoints.arm("derive.batch", fourth)
    with pytest.raises(VectorDBError):
        docs.fit("main")
    failpoints.disarm()
    branch = database.branch("docs", "trial")
    assert check(directory).problems == () and branch.report("main")["share"] == docs.report("main")["share"] > 0.5
    branch.delete([1, 2, 3])
    branch.optimize()
    assert branch.report("main")["state"] == "ready" and docs.report("main")["state"] == "deriving" and agrees(branch) == 1497
    assert docs.purge()["proven"] and agrees(docs) == 1500
    database.drop_collection("docs")
    assert check(directory).problems == () and agrees(branch) == 1497


def test_earlier_states_are_searched_by_the_present_fit_and_cursors_of_another_one_end(database):
    docs = database.create_collection("docs", SCHEMA, history="1d")
    docs.upsert(ids=range(300), vectors={"v": rows(300)})
    docs.fit("main")
    then = docs.info().sequence
    query = made(docs).parts["basis"][0].copy()
    hits, of_source = docs.search({"main": query}, limit=5), docs.search({"main": rows(1)[0]}, limit=5)
    assert docs.search({"main": query}, limit=5, cursor=hits.next)
    assert docs.search({"main": rows(1)[0]}, limit=5, cursor=of_source.next)
    docs.delete(range(0, 300, 2))
    docs.fit("main")
    past = docs.search({"main": rows(1)[0]}, limit=300, as_of=then, exact=True)
    assert len(past) == 300 and past[0].id == 0 and len(docs.search({"main": rows(1)[0]}, limit=300)) == 150
    for asked, found in ((query, hits), (rows(1)[0], of_source)):
        with pytest.raises(PreconditionError, match="vectors of field 'main' were derived anew; start again without a cursor"):
            docs.search({"main": asked}, limit=5, cursor=found.next)


def test_exported_vectors_are_made_again_by_an_import(database, tmp_path):
    docs = filled(database, 120)
    docs.fit("main")
    for suffix in ("jsonl", "csv", "parquet"):
        file, described = tmp_path / f"points.{suffix}", tmp_path / "schema.json"
        export = ["export", str(database.path), "docs", str(file), "--with-vectors", "--schema", str(described), "--force"]
        assert cli.main(export) == 0
        new = str(tmp_path / f"new {suffix}")
        assert cli.main(["import", new, "docs", str(file), "--schema", str(described), "--create"]) == 0
        with vectordb.open(new, maintenance=False) as other:
            there = other["docs"]
            assert there.schema == docs.schema and there.report("main")["state"] == "waiting"
            cuts = [[point.vectors["cut"].tolist() for point in each.iterate(with_vectors=["cut"])] for each in (docs, there)]
            assert cuts[0] == cuts[1]
            there.fit("main")
            assert made(there).record.arrays == made(docs).record.arrays


def test_an_import_fits_to_all_its_rows_what_the_background_fitted_to_the_first(database, monkeypatch):
    docs = filled(database, 120)
    monkeypatch.setattr(derive, "enough_rows", lambda spec: 60)
    docs.fit("main")  # as the background does while rows are read
    docs.upsert(ids=range(500, 540), vectors={"v": rows(40, 5)})
    load_command._fit(docs, load_command._fitted(docs))
    assert docs.report("main")["version"] == 1  # it was fitted before the import
    load_command._fit(docs, ())
    report = docs.report("main")
    assert report["version"] == 2 and report["sample"] + report["held_out"] == 160


def test_a_snapshot_has_what_was_learned(database, tmp_path):
    docs = filled(database, 120)
    docs.fit("main")
    database.snapshot(tmp_path / "copy")
    vectordb.restore(tmp_path / "copy", tmp_path / "restored")
    with vectordb.open(tmp_path / "restored", maintenance=False) as other:
        assert made(other["docs"]).record == made(docs).record and agrees(other["docs"]) == 120


def test_a_version_that_does_not_know_a_derivation_refuses_the_collection(database, directory, monkeypatch):
    filled(database, 30)
    database.close()
    with read_only(directory) as (txn, _):
        stored = catalog.read_meta(txn, 1).schema
    assert stored["vectors"]["main"] == {"kind": "dense", "dim": 5, "derived": {"by": "pca", "source": "v"}}
    monkeypatch.delitem(vectordb.Schema.from_dict.__globals__["derivation_of"].__globals__["DERIVATIONS"], "pca")
    with (
        vectordb.open(directory, maintenance=False) as opened,
        pytest.raises(SchemaError, match="'main' is derived by 'pca', which this version doesn't know; it knows prefix, project, pick"),
    ):
        opened["docs"].count()
    monkeypatch.undo()
    assert format.VERSION == 5


def test_the_shortlist_of_a_derived_field_keeps_the_recall_of_real_embeddings(database):
    """The docstrings of the standard library, static embeddings of 256 dimensions; 100 candidates by 64 of them are scored in full."""
    texts = [entry.body for entry in corpus.collect(limit=2_000)]
    vectors = np.asarray(load("wordllama(dim=256)").encode_documents(texts).column.values, np.float32)
    fields = {"cut": Dense(64, derived=Prefix("v"), index=None), "main": Dense(64, derived=PCA("v"), index=None)}
    docs = database.create_collection("docs", Schema({"v": Dense(256, index=None), **fields}))
    order = np.random.default_rng(1).permutation(len(vectors))
    queries, stored = vectors[order[:200]], vectors[order[200:]]
    docs.upsert(ids=range(len(stored)), vectors={"v": stored})
    docs.fit("main")
    true = [set(hits.ids.tolist()) for hits in docs.search_batch({"v": queries}, limit=10, exact=True)]

    def recall(asked, **options):
        hits = docs.search_batch(asked, limit=10, exact=True, **options)
        return np.mean([len(set(each.ids.tolist()) & wanted) / 10 for each, wanted in zip(hits, true, strict=True)])

    for name, floor in (("cut", 0.95), ("main", 0.97)):  # observed: .990 and .998
        assert recall({"v": queries}, prefetch=Prefetch({name: queries}, limit=100)) >= floor
        assert docs.report(name)["recall_at_10"] == pytest.approx(recall({name: queries}), abs=0.08)
    spec = Dense(256, encoder="wordllama(dim=256)", index=None)
    texted = database.create_collection("texted", Schema({"v": spec, "cut": Dense(64, derived=Prefix("v"))}))
    texted.upsert(ids=range(100), vectors={"v": stored[:100]})
    query = load("wordllama(dim=256)").encode_queries([texts[0]])[0]
    assert list(texted.search(text={"cut": texts[0]}, limit=5)) == list(texted.search({"cut": query}, limit=5))
    assert texted.search(text=texts[0], limit=5, explain=True).plan["arms"][0]["field"] == "v"


def test_the_command_line_fits_and_reports(database, capsys):
    filled(database, 120)
    path = str(database.path)
    assert cli.main(["fit", path, "docs", "main"]) == 0
    assert "main: 5 of 16 dimensions of v by pca, ready; fit 1; recall@10 0." in capsys.readouterr().out
    assert cli.main(["fit", path, "docs", "cut", "--report", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "ready"
    assert cli.main(["fit", path, "docs", "cut"]) == 1
    assert "'cut' is derived by 'prefix', which learns nothing" in capsys.readouterr().err
    for fields in ([], ["--field", "main", "--field", "cut"], ["main", "--field", "main"]):
        with pytest.raises(SystemExit):
            cli.main(["fit", path, "docs", *fields])
        assert "write vectordb fit DIR COLLECTION --field NAME, with one field" in capsys.readouterr().err
    assert cli.main(["fit", path, "docs", "--field", "main", "--report"]) == 0
    assert "main: 5 of 16 dimensions" in capsys.readouterr().out
    assert cli.main(["info", path]) == 0
    assert "main: derived from v, ready; fit 1 at sequence 1 to" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(vectordb.DeadlineError, match=r"^fit (has not started|isn't done) after 0 s"):
        database["docs"].fit("main", timeout=0)


def test_an_import_leaves_fitted_what_has_enough_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(derive, "ENOUGH_ROWS", 100)
    lines = (json.dumps({"id": i, "v": row.tolist()}) for i, row in enumerate(rows(150)))
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    (tmp_path / "schema.json").write_text(json.dumps(Schema({"v": Dense(DIM), "main": Dense(5, derived=PCA("v"))}).to_dict()))
    made = ["import", str(tmp_path / "data"), "docs", str(tmp_path / "rows.jsonl"), "--create", "--schema", str(tmp_path / "schema.json")]
    assert cli.main(made) == 0
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        assert database["docs"].report("main")["state"] == "ready"


@pytest.mark.parametrize("metric", ["cosine", "l2", "dot"])
def test_it_is_indexed_filtered_and_scanned_behind_its_segments(database, metric):
    schema = Schema({"v": Dense(DIM, metric), "main": Dense(8, metric, derived=PCA("v"))}, {"n": Int()})
    docs = filled(database, 900, schema)
    docs.fit("main")
    docs.optimize()
    docs.upsert(ids=range(900, 1000), vectors={"v": rows(100, 3)}, attributes={"n": range(900, 1000)})
    docs.delete(range(0, 1000, 5))
    facts = docs.info().statistics["main"]
    assert sum(segment["rows"] for segment in facts["segments"]) == 900 and facts["tail"] == 80
    queries, found = rows(40, 8), []
    for condition, matches in ((None, 800), ("n >= 880", 96), ("n IN (1, 2, 950)", 2)):
        for query in queries:
            exact = docs.search({"main": query}, limit=10, filter=condition, exact=True)
            hits = docs.search({"main": query}, limit=10, filter=condition, recall=0.95)
            assert len(hits) == len(exact) == min(10, matches)
            found.append(len(set(hits.ids) & set(exact.ids)) / len(exact))
        both = docs.search_batch({"main": queries}, limit=10, filter=condition, exact=True)
        assert [each.ids.tolist() for each in both] == [
            docs.search({"main": query}, limit=10, filter=condition, exact=True).ids.tolist() for query in queries
        ]
    assert np.mean(found) >= 0.95  # observed 1.0


def test_writes_of_every_kind_derive(database):
    docs = filled(database, 100)
    docs.fit("main")
    with database.transaction() as both:
        both["docs"].upsert(ids=[200], vectors={"v": rows(1, 2)})
        both["docs"].update(ids=[3], vectors={"v": rows(1, 3)})
    docs.bulk([{"id": 300 + i, "vectors": {"v": vector}} for i, vector in enumerate(rows(30, 4))])
    docs.update(filter="n < 10", vectors={"v": rows(1, 5)[0]})
    docs.update(ids=[20], increment={"n": [1]})
    docs.upsert(ids=[20, 400], vectors={"v": rows(2, 6)}, if_absent=True)
    assert agrees(docs) == 132
    zero = np.zeros((1, DIM), np.float32)
    zero[0, 9] = 1
    docs.upsert(ids=[500], vectors={"v": zero})  # its first dimensions have no direction
    assert "cut" not in docs.get(500, with_vectors=True).vectors and docs.count("HAS_VECTOR(main)") == 133
    with pytest.raises(vectordb.InvalidArgumentError, match=r"is all zeros, which has no cosine \(as it is derived\)"):
        docs.search({"cut": zero[0]})
