"""Migrations to another encoder in a directory: searched at every step, killed, cancelled, with points that have no text."""

from __future__ import annotations

import signal
import threading

import numpy as np
import pytest

import vectordb
from tests.support import forked, toy_encoders
from tests.support.toy_encoders import DIM, TOYS, Plain, texts
from tests.support.upkeep import hurry, until
from vectordb import (
    PCA,
    Concepts,
    DeadlineError,
    Dense,
    F,
    Int,
    InvalidArgumentError,
    PreconditionError,
    Schema,
    Sparse,
    Text,
    VectorDBError,
    encoders,
)
from vectordb.common import failpoints
from vectordb.engine.check import check
from vectordb.maintenance import migrate, policy
from vectordb.maintenance.migrate import STEPS

INSIDE = ("migrate.begun", "migrate.batch", "migrate.switched")  # steps within a write transaction


def schema(metric="cosine", dtype="float32", encoder="toy"):
    return Schema({"v": Dense(DIM, metric, dtype, encoder=encoder, source="body")}, {"body": Text(), "n": Int()})


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    for name, each in TOYS.items():
        monkeypatch.setitem(encoders.ENCODERS, name, each)
    yield
    failpoints.disarm()


@pytest.fixture
def database(directory):
    """Without work in the background."""
    with vectordb.open(directory, durability="batched", maintenance=False) as opened:
        yield opened


def vectors(n, seed, encoder=Plain):
    return encoder().encode_documents(texts(n, seed)).column.values


def filled(database, n=300, bare=0, given=None, name="docs"):
    """Points with texts 0 … n − 1, and ``bare`` points that have a vector only."""
    docs = database.create_collection(name, given or schema())
    docs.upsert(ids=range(n), attributes={"body": texts(n), "n": range(n)})
    if bare:
        docs.upsert(ids=range(n, n + bare), vectors={"v": vectors(bare, 9)})
    return docs


def answering(docs):
    """The encoder that the collection says to answer."""
    return encoders.load(docs.schema.vectors["v"].encoder)


def oracle(docs, text, limit):
    """The best ids by brute force: the texts of the live points, encoded by the encoder that answers."""
    points = [point for point in docs if "body" in point.attributes]
    encoder, metric = answering(docs), docs.schema.vectors["v"].metric
    rows = encoder.encode_documents([point.attributes["body"] for point in points]).column.values.astype(np.float64)
    (query,) = np.array(encoder.encode_queries([text]), np.float64)
    scores = rows @ query
    if metric == "cosine":
        scores /= np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
    elif metric == "l2":
        scores = np.square(rows - query).sum(axis=1)
    best = np.argsort(scores if metric == "l2" else -scores, kind="stable")[:limit]
    return {points[row].id: scores[row] for row in best}


def assert_right(docs, text, limit=5):
    """A search returns what the encoder that answers says, to rounding."""
    with_text = F("body").is_not_null()
    hits, expected = docs.search(text=text, limit=limit, exact=True, filter=with_text), oracle(docs, text, limit)
    assert len(hits) == len(expected)
    np.testing.assert_allclose([hit.score for hit in hits], list(expected.values()), rtol=2e-3, atol=2e-3)
    found = docs.search(text=text, limit=limit, recall=0.99, filter=with_text)
    assert len(found) == limit and found[0].score == pytest.approx(hits[0].score, rel=2e-3, abs=2e-3)


def apart(work):
    """Run in a thread of its own: this one may hold a transaction. Its error is raised here."""
    errors = []

    def run():
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(300)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


@pytest.mark.parametrize(("encoder", "kind", "least"), [("turned", "orthogonal", 0.99), ("wide", "ridge", 0.99), ("other", None, 0)])
def test_a_report_says_how_good_the_map_is(database, encoder, kind, least):
    """Observed: recall 1.0 for the rotation and for the wider space, 0.03 for the unrelated one."""
    docs = filled(database, 600)
    before = docs.info().sequence
    report = docs.migrate("v", encoder, anchors=400, dry_run=True)
    assert (report["anchors"], report["held_out"], report["rows"], report["rows_with_text"]) == (300, 100, 600, 600)
    assert (report["from"], report["to"], report["state"]) == ("toy 1", f"{encoder} 1", "planned")
    if kind is None:
        assert report["recall_at_10"] < 0.3 and report["cosine"] < 0.3
    else:
        assert report["map"] == kind and report["recall_at_10"] >= least and report["cosine"] >= 0.99
    assert report == docs.migrate("v", encoder, anchors=400, dry_run=True)  # to the last bit
    assert docs.info().sequence == before and docs.migration("v") == {"field": "v", "state": "none", "answers": "toy 1", "mapped": 0}


@pytest.mark.parametrize(
    ("metric", "dtype", "encoder"), [("cosine", "float32", "wide"), ("l2", "float32", "turned"), ("dot", "float16", "other")]
)
def test_searches_and_writes_at_every_step(directory, monkeypatch, metric, dtype, encoder):
    """A searcher at each step, and a writer wherever no transaction is open. Every answer is one of a single encoder."""
    hurry(monkeypatch, SEAL_ROWS=128)
    monkeypatch.setattr(migrate, "BATCH_ROWS", 150)
    monkeypatch.setattr(policy, "QUIET_SECONDS", 1e9)  # what is written meanwhile isn't indexed by another job
    seen, turn = [], iter(range(1000, 9000))
    with vectordb.open(directory, durability="batched", maintenance=False) as database:
        docs = filled(database, 400, given=schema(metric, dtype))
        docs.delete(range(20, 40))
        docs.optimize()

        def look():
            assert_right(docs, texts(60)[50])
            seen.append((docs.schema.vectors["v"].encoder, docs.migration("v")["state"]))

        def write_and_look():
            n = next(turn)
            docs.upsert(ids=[n, n + 5000], attributes={"body": texts(2, n), "n": [n, n]})
            docs.update(ids=[50 + n % 7], attributes={"body": texts(1, n + 1)})
            docs.update(ids=[70 + n % 7], attributes={"n": [n]})
            docs.delete([90 + n % 50])
            look()

        for step in STEPS:
            failpoints.arm(step, lambda step=step: apart(look if step in INSIDE else write_and_look))
        report = docs.migrate("v", encoder)
        for step in STEPS:
            failpoints.arm(step, lambda: None)
        assert report["state"] == "none" and report["mapped"] == 0
        states = [state for _, state in seen]
        assert {"encoding", "indexing"} <= set(states) and len(seen) > 10
        names = [name for name, _ in seen]
        assert names == sorted(names, key=("toy", encoder).index) and set(names) == {"toy", encoder}  # one exchange, and no way back
        assert docs.schema.vectors["v"] == Dense(TOYS[encoder].dim, metric, dtype, encoder=encoder, source="body")
        assert docs.info().statistics["v"]["segments"][0]["rows"] >= 300  # the index was there before the exchange
        look()
        plain = docs.search(text=texts(60)[50], limit=3, explain=True).plan["arms"][0]
        assert "migration" not in plain
    assert check(directory).problems == ()


def test_explain_and_info_say_which_encoder_answers(database, monkeypatch):
    monkeypatch.setattr(migrate, "BATCH_ROWS", 100)
    docs, seen = filled(database, 300, bare=30), []

    def look():
        plan = docs.search(text=texts(1)[0], limit=1, explain=True).plan
        seen.append((plan["arms"][0]["migration"], docs.info().statistics["v"]["migration"]))
        text = str(plan)
        assert "vectors of toy 1; those of wide 1 are being made" in text, text
        assert "migrating from toy 1, which answers, to wide 1: encoding" in str(docs.info())

    failpoints.arm("migrate.encoded", lambda: apart(look))
    docs.migrate("v", "wide")
    explained, facts = seen[2]
    assert explained == {"encoder": "toy 1", "mapped": 0, "migrating": "wide 1", "share": pytest.approx(200 / 330, abs=1e-3)}
    assert (facts["rows_encoded"], facts["rows_mapped"], facts["rows"], facts["dim"]) == (200, 0, 330, DIM + 8)
    plan = docs.search(text=texts(1)[0], limit=1, explain=True).plan
    assert plan["arms"][0]["migration"] == {"encoder": "wide 1", "mapped": 30}
    assert "30 of its vectors are mapped from another encoder" in str(docs.info())


def test_points_without_a_text_are_mapped_counted_and_found(database):
    docs = filled(database, 300, bare=50)
    assert docs.migrate("v", "turned")["mapped"] == 50
    for row, query in enumerate(vectors(50, 9, toy_encoders.Turned)):
        hit = docs.search({"v": query}, limit=1, exact=True)[0]
        assert hit.id == 300 + row and hit.score == pytest.approx(1, abs=1e-4)
    docs.update(ids=[300], attributes={"n": [1]})  # takes the mapped vector over
    assert docs.migration("v")["mapped"] == 50
    docs.update(ids=[301], vectors={"v": vectors(1, 5)})
    docs.update(ids=[302], attributes={"body": ["w1 w2"]})
    docs.upsert(ids=[303], attributes={"body": ["w1 w2"]})
    docs.delete([304])
    assert docs.migration("v") == {
        "field": "v",
        "state": "none",
        "answers": "turned 1",
        "mapped": 46,
        "map": "orthogonal",
        "recall_at_10": 1.0,
        "cosine": 1.0,
    }
    assert docs.migrate("v", "turned")["mapped"] == 46  # nothing to do: these have no text
    assert docs.migrate("v", "toy")["mapped"] == 47  # back again; point 301 has a vector of its own now, but no text
    np.testing.assert_allclose(docs.get(310, with_vectors=True).vectors["v"], _unit(vectors(50, 9)[10]), atol=1e-4)


def _unit(row):
    return row / np.linalg.norm(row)


def test_mapped_vectors_are_encoded_by_a_later_call(database):
    docs = filled(database, 300, bare=40)
    Plain.encoded = 0
    report = docs.migrate("v", "turned", encode=False, anchors=100)
    assert Plain.encoded == 100 and report["mapped"] == 340 and report["state"] == "none"
    docs.update(ids=[7], attributes={"n": [1]})
    docs.upsert(ids=[8], attributes={"body": ["w8 w9"]})
    Plain.encoded = 0
    report = docs.migrate("v", "turned")
    assert Plain.encoded == 299 and report["mapped"] == 40 and report["anchors"] == 0
    assert_right(docs, texts(60)[50])


@pytest.mark.parametrize("step", ["migrate.begun", "migrate.encoded", "migrate.batch", "migrate.filled"])
def test_a_cancelled_migration_leaves_the_field_as_it_was(directory, monkeypatch, step):
    hurry(monkeypatch, SEAL_ROWS=128)
    with vectordb.open(directory, durability="batched", maintenance=False) as database:
        docs = filled(database, 400, bare=20)
        before = {point.id: point.vectors["v"].tobytes() for point in docs.iterate(with_vectors=["v"])}
        docs.upsert(ids=[1000], attributes={"body": ["w1 w2 w3"]})
        cancelled, threads = [], []

        def cancel():
            thread = threading.Thread(target=lambda: cancelled.append(docs.cancel_migration("v")))
            thread.start()
            threads.append(thread)
            if step not in INSIDE:
                thread.join()
            failpoints.arm(step, lambda: None)

        failpoints.arm(step, cancel)
        with pytest.raises(PreconditionError, match=r"the migration of vector field 'v' was cancelled"):
            docs.migrate("v", "wide")
        threads[0].join()
        assert cancelled == [True] and docs.cancel_migration("v") is False
        assert docs.migration("v")["state"] == "none" and answering(docs).identity == "toy 1"
        points = docs.iterate(with_vectors=["v"])
        assert {point.id: point.vectors["v"].tobytes() for point in points if point.id < 1000} == before
        assert_right(docs, texts(60)[50])
        assert docs.migrate("v", "wide")["mapped"] == 20
        assert_right(docs, texts(60)[50])
    assert check(directory).problems == ()


def _migrate(path, step):
    toy_encoders.register()
    migrate.BATCH_ROWS, migrate.CATCH_UP_ROWS, policy.SEAL_ROWS = 100, 0, 128
    with vectordb.open(path, maintenance=False) as database:
        failpoints.arm(step, failpoints.kill_at(1 if step not in ("migrate.encoded", "migrate.batch") else 2))
        database["docs"].migrate("v", "wide")


@pytest.mark.parametrize("step", [*STEPS, "index.renamed"])
def test_a_kill_at_any_step_loses_nothing(directory, monkeypatch, step):
    monkeypatch.setattr(migrate, "CATCH_UP_ROWS", 0)
    with vectordb.open(directory, maintenance=False) as database:
        filled(database, 250, bare=10)
    process = forked.context().Process(target=_migrate, args=(str(directory), step), daemon=True)
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    assert check(directory).problems == ()
    with vectordb.open(directory, create=False, maintenance=False) as database:
        docs = database["docs"]
        begun, done = step != "migrate.begun", step == "migrate.committed"
        assert answering(docs).identity == ("wide 1" if done else "toy 1")
        assert (docs.migration("v")["state"] != "none") == (begun and not done)
        assert_right(docs, texts(60)[50])
        docs.upsert(ids=[77], attributes={"body": ["w5 w6 w7"]})
        Plain.encoded = 0
        docs.migrate("v", "wide")
        # 250 texts; after the second batch was encoded, 100 were stored; after it was stored, none until the transaction ended.
        least = {"migrate.begun": 250, "migrate.encoded": 150, "migrate.batch": 150}.get(step, 0)
        assert least <= Plain.encoded <= max(2 * least, 10)
        assert docs.migration("v")["mapped"] == 10 and answering(docs).identity == "wide 1"
        assert_right(docs, texts(60)[50])
        assert_right(docs, "w5 w6 w7")
    assert check(directory).problems == ()


def test_it_goes_on_by_itself_in_the_background(directory, monkeypatch):
    hurry(monkeypatch, SEAL_ROWS=10_000)
    with vectordb.open(directory, durability="batched", maintenance=False) as database:
        docs = filled(database, 300)
        failpoints.arm("migrate.encoded", lambda: 1 / 0)
        with pytest.raises(VectorDBError, match="ZeroDivisionError"):
            docs.migrate("v", "wide")
        failpoints.disarm()
        assert docs.migrate("v", "wide", dry_run=True)["state"] == "planned"
    with vectordb.open(directory, durability="batched") as database:
        docs = database["docs"]
        docs.count()
        until(lambda: docs.migration("v")["state"] == "none")
        assert answering(docs).identity == "wide 1"
        assert docs.migrate("v", "turned", wait=False)["state"] in ("encoding", "indexing", "none")
        until(lambda: docs.migration("v")["answers"] == "turned 1")
        assert_right(docs, texts(60)[50])


def test_a_timeout_ends_the_wait_and_the_same_call_goes_on(database, monkeypatch):
    monkeypatch.setattr(migrate, "SLICE_SECONDS", 0.0)
    docs = filled(database, 300)
    with pytest.raises(DeadlineError, match="'v' isn't done after 0 s; it goes on in the background, and the same call waits for it again"):
        docs.migrate("v", "wide", timeout=0)
    assert docs.migration("v")["state"] == "encoding"
    with pytest.raises(PreconditionError, match=r"'v' is being migrated to 'wide'; wait for it, or call cancel_migration\('v'\) first"):
        docs.migrate("v", "turned")
    with pytest.raises(PreconditionError, match=r"with encode=True"):
        docs.migrate("v", "wide", encode=False)
    assert docs.migrate("v", "wide")["state"] == "none"
    assert docs.migrate("v", "wide") == {"field": "v", "state": "none", "answers": "wide 1", "mapped": 0, "encoder": "wide"}


def test_writers_that_never_rest_cannot_keep_it_from_ending(database, monkeypatch):
    monkeypatch.setattr(migrate, "CATCH_UP_ROWS", 1)
    docs, turn = filled(database, 100), iter(range(1000, 9000))

    def write():
        docs.upsert(ids=[next(turn) for _ in range(5)], attributes={"body": texts(5, 3)})

    failpoints.arm("migrate.encoded", write)
    docs.migrate("v", "wide")
    assert next(turn) == 1015  # after three attempts five rows are few
    assert_right(docs, texts(60)[50])


def test_fields_are_renamed_and_dropped_while_they_are_migrated(database, directory):
    docs, seen = filled(database, 200, bare=5), []
    failpoints.arm("migrate.encoded", lambda: seen or (seen.append(1), docs.rename_fields({"v": "w", "body": "text"})))
    with pytest.raises(VectorDBError):  # the call waits for a field that has another name
        docs.migrate("v", "wide")
    failpoints.disarm()
    assert docs.migration("w")["state"] == "encoding"
    assert docs.migrate("w", "wide")["mapped"] == 5
    docs.add_fields(attributes={"more": Int()})
    docs.migrate("w", "toy", wait=False)
    docs.add_fields(vectors={"x": Dense(3)})
    docs.drop_fields("w")
    assert list(docs.schema.vectors) == ["x"]
    docs.add_fields(vectors={"w": Dense(DIM, encoder="toy", source="text")})
    assert docs.migration("w") == {"field": "w", "state": "none", "answers": "toy 1", "mapped": 0}
    docs.optimize()
    assert check(directory).problems == ()


def test_purge_waits_and_erased_points_leave_nothing(database, directory):
    docs = filled(database, 200, bare=5)
    docs.delete(range(50, 60))
    docs.migrate("v", "wide", wait=False)
    with pytest.raises(
        PreconditionError, match=r"'v' of 'docs' is being migrated to another encoder; wait for it, or call cancel_migration"
    ):
        docs.purge()
    docs.delete([0, 203])
    docs.optimize()  # compacts while new vectors are being made
    assert docs.migrate("v", "wide")["mapped"] == 4
    assert docs.purge()["proven"]
    assert_right(docs, texts(60)[45])
    assert check(directory).problems == ()


def test_branches_are_migrated_apart(database, directory):
    docs = filled(database, 200, bare=5)
    docs.migrate("v", "wide", wait=False)
    branch = database.branch("docs", "trial")
    assert docs.migrate("v", "wide")["mapped"] == 5
    assert branch.migration("v")["state"] == "encoding" and branch.schema.vectors["v"].encoder == "toy"
    assert_right(branch, texts(60)[50])
    assert branch.cancel_migration("v")
    assert_right(docs, texts(60)[50])
    assert_right(branch, texts(60)[50])
    assert check(directory).problems == ()


@pytest.mark.parametrize("also", [False, True])  # whether points of the original have mapped vectors, too
def test_a_merge_brings_mapped_vectors_as_mapped_ones(database, directory, also):
    """A later call encodes the texts of what was merged, as of all other points with a mapped vector."""
    docs = filled(database, 100)
    docs.upsert(ids=[500], vectors={"v": vectors(1, 3)})
    branch = database.branch("docs", "trial")
    branch.migrate("v", "other", encode=False)
    docs.migrate("v", "other", encode=not also)
    docs.upsert(ids=[500], attributes={"body": texts(601)[600:]})  # the last one without a text
    branch.update(ids=[5, 6], attributes={"n": [1, 2]})
    branch.upsert(ids=[700], attributes={"body": texts(701)[700:]})
    assert branch.migration("v")["mapped"] == 101 and docs.migration("v")["mapped"] == (100 if also else 0)
    database.merge("trial")
    assert docs.migration("v")["mapped"] == (100 if also else 2)
    assert check(directory).problems == ()
    assert docs.migrate("v", "other")["mapped"] == 0
    (expected,) = toy_encoders.Other().encode_documents([texts(6)[5]]).column.values
    found = docs.get(5, with_vectors=["v"]).vectors["v"]
    np.testing.assert_allclose(found / np.linalg.norm(found), expected / np.linalg.norm(expected), atol=1e-5)
    assert_right(docs, texts(60)[5])


def test_earlier_states_and_pages_are_searched_with_the_new_vectors(database):
    docs = filled(database, 200)
    docs.keep_history("1d")
    before = docs.info().sequence
    docs.delete([10])
    hits = docs.search(text=texts(60)[50], limit=5)
    docs.migrate("v", "turned")
    found = docs.search(text=texts(11)[10], limit=3, as_of=before, exact=True)
    assert found[0].id == 10 and found[0].score == pytest.approx(1, abs=1e-3)  # a deleted row has a mapped vector
    assert hits.next is None or len(hits.next) > 0


def test_nothing_is_derived_from_a_field_while_it_is_migrated(database, monkeypatch):
    """A field that was derived from the old vectors would be asked by vectors of the new encoder, and find anything."""
    docs = filled(database, 200)
    docs.migrate("v", "turned", wait=False)
    before = docs.info().sequence
    for derived in ({"small": Dense(8, derived=PCA("v"))}, {"about": Sparse(derived=Concepts("v", words=["red", "blue"]))}):
        with pytest.raises(PreconditionError, match=r"can't be derived from 'v' while .* cancel_migration\('v'\) first"):
            docs.add_fields(vectors=derived)
    assert docs.info().sequence == before and list(docs.schema.vectors) == ["v"]
    docs.migrate("v", "turned")
    plan = migrate.plan

    def planned_before_another_call(*given):
        result = plan(*given)
        docs.add_fields(vectors={"small": Dense(8, derived=PCA("v"))})
        return result

    monkeypatch.setattr(migrate, "plan", planned_before_another_call)
    with pytest.raises(InvalidArgumentError, match="'v' is the source of small"):
        docs.migrate("v", "toy")
    assert docs.migration("v")["state"] == "none"


def test_a_read_only_database_can_be_measured_but_not_migrated(directory):
    with vectordb.open(directory) as database:
        filled(database, 200)
    with vectordb.open(directory, read_only=True) as database:
        docs = database["docs"]
        assert docs.migrate("v", "turned", dry_run=True)["recall_at_10"] >= 0.99  # observed 1.0
        for call in (lambda: docs.migrate("v", "turned"), lambda: docs.cancel_migration("v")):
            with pytest.raises(VectorDBError, match="read-only"):
                call()


def test_small_collections_need_no_map_and_empty_ones_no_work(database):
    empty = database.create_collection("empty", schema())
    assert empty.migrate("v", "wide")["state"] == "none" and empty.schema.vectors["v"].dim == DIM + 8
    docs = filled(database, 5)
    report = docs.migrate("v", "wide")
    assert (report["map"], report["anchors"], report["mapped"]) == (None, 0, 0)
    assert_right(docs, texts(5)[3], limit=3)
    docs.migrate("v", "turned", wait=False)
    docs.upsert(ids=[9], vectors={"v": vectors(1, 1, toy_encoders.Wide)})
    with pytest.raises(PreconditionError, match=r"has no text, and there is no map; cancel_migration\('v'\)"):
        docs.migrate("v", "turned")
