"""Recall audits: searches that are repeated exactly in the background. They correct the planner and don't disturb searches."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from vectordb_client.errors import InvalidArgumentError
from vectordb_client.model.schema import Dense, Schema

import vectordb
from tests.support.indexed import clustered, held_out
from tests.support.upkeep import until
from vectordb.engine import audits
from vectordb.index.dense.plans import PLANS
from vectordb.index.model import Corrections, settings_of
from vectordb.kernels import planner
from vectordb.query import audit

ROWS, DIM = 3_000, 24


@pytest.fixture
def always(monkeypatch):
    """Every search is audited, one after another."""
    monkeypatch.setattr(audits, "SHARE_OF_CORE", 1e9)
    monkeypatch.setattr(audits, "budget", budget := audits.Budget())
    monkeypatch.setattr("vectordb.query.segments.budget", budget)
    return budget


@pytest.fixture
def database(tmp_path):
    with vectordb.open(tmp_path, maintenance=False, recall_audit=1.0) as database:
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
    setting = int(np.flatnonzero(settings_of(PLANS)[:, planner.PLAN] == plan)[0])
    # Copies: the models lie in the mapped file, whose checksums are looked at in the background.
    segment.models = tuple(replace(model, recalls=model.recalls.copy(), costs=model.costs.copy()) for model in segment.models)
    for model in segment.models:
        model.table[:, setting], model.costs[:, setting] = 1.0, 0.01
    return setting


def rested(budget) -> bool:
    return not budget.busy


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
    monkeypatch.setattr(Corrections, "learn_recall", lambda self, *said: learned.append(said))
    believing(segment_of(docs), planner.CLUSTERS_SCAN)
    for query in held_out(20, DIM):
        found = {hit.id for hit in docs.search({"v": query}, recall=0.9)}
        until(lambda: rested(always))
        truth = {hit.id for hit in docs.search({"v": query}, exact=True)}
        plan, predicted, actual = learned.pop()
        assert (plan, actual) == (planner.CLUSTERS_SCAN, pytest.approx(len(found & truth) / 10)) and predicted >= 0.9
        assert not learned


def test_so_many_searches_are_audited_as_was_asked_for_and_none_while_it_rests(monkeypatch):
    monkeypatch.setattr(audits, "budget", budget := audits.Budget())
    for share, times in ((0.0, 0), (1 / 64, 3), (0.25, 48), (1.0, 192)):
        sample = audits.Audits(share)
        assert [sample.due() for _ in range(192)].count(True) == times
    ran = threading.Event()
    budget.start(ran.set)
    until(lambda: ran.is_set() and rested(budget))
    budget._next = float("inf")
    assert not any(sample.due() for _ in range(192))


def test_each_arm_of_a_search_is_audited(monkeypatch):
    monkeypatch.setattr(audits.budget, "_next", 0.0)
    for share in (1 / 64, 0.1, 0.25, 0.5, 0.9):
        sample = audits.Audits(share)
        by_arm = np.array([[sample.due() for _ in range(2)] for _ in range(2_000)]).sum(axis=0)
        assert by_arm.sum() == pytest.approx(4_000 * share, abs=2) and min(by_arm) > 0.2 * share * 4_000, (share, by_arm)


def test_one_at_a_time():
    budget, started, go, second = audits.Budget(), threading.Event(), threading.Event(), threading.Event()
    budget.start(lambda: (started.set(), go.wait(300)))
    until(started.is_set)
    budget.start(second.set)
    go.set()
    until(lambda: rested(budget))
    assert not second.is_set()


def test_info_tells_what_was_found_by_the_recall_asked_for(docs, always):
    assert docs.info().statistics["v"]["recall"] == []
    believing(segment_of(docs), planner.CLUSTERS_SCAN)
    found = {0.9: [], 0.95: []}
    for number, query in enumerate(held_out(30, DIM)):
        asked = (0.9, 0.95)[number % 2]
        ids = docs.search({"v": query}, recall=asked).ids
        until(lambda: rested(always))
        found[asked].append(np.isin(docs.search({"v": query}, exact=True).ids, ids).mean())
    told = docs.info().statistics["v"]["recall"]
    assert [(kind["asked"], kind["audited"]) for kind in told] == [(0.9, 15), (0.95, 15)]
    for kind in told:
        assert kind["mean"] == pytest.approx(np.mean(found[kind["asked"]]), abs=1e-4)
        assert kind["p5"] == pytest.approx(np.quantile(found[kind["asked"]], 0.05), abs=1e-4)
        assert 0.9 <= kind["predicted"] <= 1.0
    assert min(found[0.9]) < 1.0, "or the means would say nothing"


def test_a_share_that_is_none_is_refused(tmp_path):
    for share in (-0.1, 1.1, float("nan"), "1", True):
        with pytest.raises(InvalidArgumentError, match="recall_audit") as caught:
            vectordb.open(tmp_path / "x", recall_audit=share)
        assert caught.value.field == "recall_audit"
    assert not (tmp_path / "x").exists()


def test_a_collection_that_is_gone_meanwhile_is_no_trouble(database, docs, always, monkeypatch):
    go, failed = threading.Event(), []
    monkeypatch.setattr(threading, "excepthook", lambda args: failed.append(args.exc_value))
    learn = audit.learn

    def later(*arguments):
        go.wait(300)
        learn(*arguments)

    monkeypatch.setattr("vectordb.query.segments.learn", later)
    docs.search({"v": held_out(1, DIM)[0]})
    assert not rested(always)
    database.drop_collection("docs")
    go.set()
    until(lambda: rested(always))
    assert not failed


def test_rows_that_changed_meanwhile_teach_nothing(docs, always, monkeypatch):
    learned, go = [], threading.Event()
    monkeypatch.setattr(Corrections, "learn_recall", lambda self, *said: learned.append(said))
    learn = audit.learn
    monkeypatch.setattr("vectordb.query.segments.learn", lambda *arguments: (go.wait(300), learn(*arguments)))
    docs.search({"v": held_out(1, DIM)[0]})
    docs.delete([1, 2, 3])
    go.set()
    until(lambda: rested(always))
    assert not learned
