"""A codec from outside: −1, 0 or 1 for each number of a dense vector, and the plan that searches by it.

Two classes or values, and one line in ``CODECS`` and in ``PLANS``.
"""

from __future__ import annotations

import numpy as np
import pytest

import vectordb
from tests.support.toys import checked
from vectordb import Dense, F, Int, Schema
from vectordb.index.base import Codec, Plan, rows_of_bits
from vectordb.index.dense.codecs import CODECS
from vectordb.index.dense.plans import PLANS

pytestmark = pytest.mark.usefixtures("full_calibration")

DIM, ROWS = 16, 500


class Ternary(Codec):
    """The sign of each rotated number, or 0 if it is smaller than half the mean size."""

    name = "ternary"
    sections = frozenset({"ternary"})
    large = sections

    def __init__(self, rows, dim):
        self.codes = np.empty((rows, dim), np.int8)

    @classmethod
    def train(cls, frame, rows):
        return cls(rows, len(frame.mean))

    def encode_rows(self, low, rotated):
        least = 0.5 * np.abs(rotated).mean()
        self.codes[low : low + len(rotated)] = np.sign(rotated) * (np.abs(rotated) >= least)

    def arranged(self, order, sections):
        return {"ternary": self.codes[order]}, {"least": 0.5}

    @staticmethod
    def encode_query(segment, query):
        """(the rotated query, no bound: all rows that the plan returns are scored again)."""
        from vectordb.kernels.codes import rotate_rows

        rotated = np.empty((1, len(query)), np.float32)
        rotate_rows(query[None], False, np.zeros_like(query), segment.sections["flips"], rotated)
        return rotated[0], np.inf

    @staticmethod
    def score(segment, state, rows):
        return segment.sections["ternary"][rows] @ state


def scan(segment, bits, query, setting, wanted):
    """The kernel of the plan: the best of all matching rows by ternary codes."""
    rows = np.arange(segment.rows) if bits is None else np.flatnonzero(rows_of_bits(bits, segment.rows))
    state, _ = Ternary.encode_query(segment, query)
    kept = int(setting[0] * wanted)
    return rows[np.argsort(-Ternary.score(segment, state, rows), kind="stable")[:kept]], len(rows)


PLAN = Plan(
    100,
    "ternary scan",
    [(1, 0), (2, 0), (4, 0)],
    frozenset({Ternary.name}),
    kernel=scan,
    describe=lambda setting, k, depth: {"kept": setting[0]},
)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(CODECS, Ternary.name, Ternary)
    monkeypatch.setitem(PLANS, PLAN.id, PLAN)


def filled(database):
    rng = np.random.default_rng(0)
    docs = database.create_collection("docs", Schema({"v": Dense(DIM)}, {"n": Int()}))
    docs.upsert(ids=range(ROWS), vectors={"v": rng.standard_normal((ROWS, DIM))}, attributes={"n": range(ROWS)})
    docs.optimize()
    return docs


def segment_of(database):
    docs = database["docs"]
    with docs._snapshots.pin() as view:
        (opened,) = view.snapshot.segments(view.fields["v"])
        return opened.segment


def prefer(segment) -> None:
    """Let the planner believe that the plan costs next to nothing."""
    segment.corrections.table[1] = 1_000.0
    segment.corrections.table[1, PLAN.id] = 1e-6


def queries() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((6, DIM)).astype(np.float32)


def pairs(hits) -> list:
    return [(hit.id, hit.score) for hit in hits]


def share_found(docs, condition=None, **options) -> float:
    shares = []
    for query in queries():
        truth = pairs(docs.search({"v": query}, filter=condition, exact=True))
        hits = pairs(docs.search({"v": query}, filter=condition, **options))
        assert len(hits) == len(truth) and set(hits) <= set(pairs(docs.search({"v": query}, filter=condition, exact=True, limit=ROWS)))
        shares.append(len(set(hits) & set(truth)) / max(len(truth), 1))
    return float(np.mean(shares))


def test_it_is_used_by_a_build_and_by_searches_in_each_place(registered, database, embedded):
    docs = filled(database)
    segment = segment_of(embedded)
    assert segment.meta["codecs"] == ["byte", "sign", "ternary"]
    assert segment.sections["ternary"].shape == (ROWS, DIM) and set(np.unique(segment.sections["ternary"])) == {-1, 0, 1}
    prefer(segment)
    hits = docs.search({"v": queries()[0]}, recall=0.8, explain=True)
    (shown,) = hits.plan["arms"][0]["segments"]
    assert shown["plan"] == "ternary scan" and shown["rows_scored"] == ROWS and not shown["fallback"]
    for condition in (None, F("n") < 400):
        assert share_found(docs, condition, recall=0.8) >= 0.8  # observed: 1.0
    alone = [pairs(docs.search({"v": query}, recall=0.8)) for query in queries()]
    assert [pairs(hits) for hits in docs.search_batch({"v": queries()}, recall=0.8)] == alone


def test_it_is_calibrated_and_explained(registered, database):
    docs = filled(database)
    hits = docs.search({"v": queries()[0]}, explain=True)
    (shown,) = hits.plan["arms"][0]["segments"]
    rows = [row for row in shown["considered"] if row["plan"] == "ternary scan"]
    assert sorted(row["parameters"]["kept"] for row in rows) == [1.0, 2.0, 4.0]
    assert all(0.3 < row["recall"] <= 1 and row["microseconds"] > 0 for row in rows)
    assert "ternary scan" in str(hits.plan)


def test_too_few_rows_make_an_exact_scan_take_over(registered, database, embedded, monkeypatch):
    docs = filled(database)
    few = Plan(PLAN.id, PLAN.name, PLAN.settings, PLAN.needs, kernel=lambda *given: (scan(*given)[0][:3], 3), describe=PLAN.describe)
    monkeypatch.setitem(PLANS, PLAN.id, few)
    prefer(segment_of(embedded))
    assert share_found(docs, recall=0.8) == 1.0
    (shown,) = docs.search({"v": queries()[0]}, recall=0.8, explain=True).plan["arms"][0]["segments"]
    assert shown["fallback"] and shown["rows_scored"] == 3 + ROWS


def test_a_file_without_its_codes_is_used_as_before(database, embedded, monkeypatch):
    docs = filled(database)
    monkeypatch.setitem(CODECS, Ternary.name, Ternary)
    monkeypatch.setitem(PLANS, PLAN.id, PLAN)
    assert segment_of(embedded).meta["codecs"] == ["byte", "sign"]
    assert share_found(docs, recall=0.99) >= 0.95  # of 60 hits; which plan finds them depends on times that were measured


def test_without_it_the_file_is_stale_and_built_again(embedded, directory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CODECS, Ternary.name, Ternary)
        patch.setitem(PLANS, PLAN.id, PLAN)
        filled(embedded)
        embedded.close()
    checked(directory)
    with vectordb.open(directory, maintenance=False) as database:
        docs = database["docs"]
        assert share_found(docs) == 1.0
        facts = docs.info().statistics["v"]
        assert facts["segments"] == facts["damaged"] == [] and [file["end"] for file in facts["stale"]] == [ROWS]
        docs.optimize()
        facts = docs.info().statistics["v"]
        assert len(facts["segments"]) == 1 and facts["stale"] == []
        assert share_found(docs, recall=0.99) >= 0.95
    checked(directory)
