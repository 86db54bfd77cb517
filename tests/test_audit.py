"""Searches that are done again exactly in the background: what they teach, and that nobody notices."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from indexed import clustered, held_out
from upkeep import until

import vectordb
from vectordb.index import calibrate
from vectordb.kernels import planner
from vectordb.query import audit
from vectordb.types import Dense, Schema

ROWS, DIM = 3_000, 24


@pytest.fixture
def always(monkeypatch):
    """Every search is audited, one after another."""
    monkeypatch.setattr(audit, "EVERY", 1)
    monkeypatch.setattr(audit, "SHARE", 1e9)
    monkeypatch.setattr(audit, "audits", audits := audit.Audits())
    monkeypatch.setattr("vectordb.query.arms.audits", audits)
    return audits


@pytest.fixture
def database(tmp_path):
    with vectordb.open(tmp_path, maintenance=False) as database:
        yield database


@pytest.fixture
def docs(database):
    collection = database.create_collection("docs", Schema({"v": Dense(DIM, "l2")}))
    collection.upsert(ids=list(range(ROWS)), vectors={"v": clustered(1, ROWS, DIM)})
    collection.optimize()
    return collection


def segment_of(collection):
    with collection._snapshots.pin() as view:
        (opened,) = view.snapshot.segments(view.fields["v"])
        return opened.segment


def believing(segment, plan: int) -> int:
    """Make the least setting of a plan look perfect and free; returns it."""
    setting = int(np.flatnonzero(calibrate.SETTINGS[:, planner.PLAN] == plan)[0])
    # Copies: the models lie in the mapped file, whose checksums are looked at in the background.
    segment.models = tuple(replace(model, recalls=model.recalls.copy(), costs=model.costs.copy()) for model in segment.models)
    for model in segment.models:
        model.recalls[:, setting], model.costs[:, setting] = 1.0, 0.01
    return setting


def rested(audits) -> bool:
    return not audits._busy.locked()


def test_a_plan_that_finds_less_than_was_predicted_loses_trust(docs, always):
    segment, queries = segment_of(docs), held_out(60, DIM)
    believing(segment, planner.CLUSTERS_SCAN)
    for query in queries:
        hits = docs.search({"v": query}, recall=0.5)  # so little that it is never given up for a plan that would be judged as well
        until(lambda: rested(always))
        assert len(hits) == 10
    offset = segment.corrections.table[0]
    assert offset[planner.CLUSTERS_SCAN] < 0 and (np.delete(offset, planner.CLUSTERS_SCAN) == 0).all()


def test_what_is_learned_is_the_recall_of_that_search(docs, always, monkeypatch):
    learned = []
    monkeypatch.setattr(calibrate.Corrections, "learn_recall", lambda self, *said: learned.append(said))
    believing(segment_of(docs), planner.CLUSTERS_SCAN)
    for query in held_out(20, DIM):
        found = {hit.id for hit in docs.search({"v": query}, recall=0.9)}
        until(lambda: rested(always))
        truth = {hit.id for hit in docs.search({"v": query}, exact=True)}
        plan, predicted, actual = learned.pop()
        assert (plan, actual) == (planner.CLUSTERS_SCAN, pytest.approx(len(found & truth) / 10)) and predicted >= 0.9
        assert not learned


def test_one_search_in_many_is_audited_and_not_while_it_rests():
    audits = audit.Audits()
    assert [audits.due() for _ in range(3 * audit.EVERY)].count(True) == 3
    ran = threading.Event()
    audits.start(ran.set)
    until(lambda: ran.is_set() and rested(audits))
    audits._next = float("inf")
    assert not any(audits.due() for _ in range(3 * audit.EVERY))


def test_one_at_a_time():
    audits, started, go, second = audit.Audits(), threading.Event(), threading.Event(), threading.Event()
    audits.start(lambda: (started.set(), go.wait(30)))
    until(started.is_set)
    audits.start(second.set)
    go.set()
    until(lambda: rested(audits))
    assert not second.is_set()


def test_a_collection_that_is_gone_meanwhile_is_no_trouble(database, docs, always, monkeypatch):
    go, failed = threading.Event(), []
    monkeypatch.setattr(threading, "excepthook", lambda args: failed.append(args.exc_value))
    learn = audit.learn

    def later(*arguments):
        go.wait(30)
        learn(*arguments)

    monkeypatch.setattr("vectordb.query.arms.learn", later)
    docs.search({"v": held_out(1, DIM)[0]})
    assert not rested(always)
    database.drop_collection("docs")
    go.set()
    until(lambda: rested(always))
    assert not failed


def test_rows_that_changed_meanwhile_teach_nothing(docs, always, monkeypatch):
    learned, go = [], threading.Event()
    monkeypatch.setattr(calibrate.Corrections, "learn_recall", lambda self, *said: learned.append(said))
    learn = audit.learn
    monkeypatch.setattr("vectordb.query.arms.learn", lambda *arguments: (go.wait(30), learn(*arguments)))
    docs.search({"v": held_out(1, DIM)[0]})
    docs.delete([1, 2, 3])
    go.set()
    until(lambda: rested(always))
    assert not learned
