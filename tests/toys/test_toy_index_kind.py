"""A kind of index from outside: flat files of int8 numbers for few rows of a dense field, beside files with a graph for many.

One class, and one line in ``INDEX_KINDS``.
"""

from __future__ import annotations

import numpy as np
import pytest
from vectordb_client.model.fields import HNSW

import vectordb
from tests.support.toys import checked
from tests.support.upkeep import hurry, until
from vectordb import Dense, F, Int, Schema
from vectordb.index import INDEX_KINDS, exact
from vectordb.index.base import IndexKind, Plan, Report, Run, inverse_of, rows_of_bits, stepper
from vectordb.index.file import write
from vectordb.index.model import Corrections, PlanModel

pytestmark = pytest.mark.usefixtures("full_calibration")

FEW = 300  # rows; files of more are of another kind
DIM, MANY, MORE = 12, 600, 100
SCAN = Plan(200, "int8 scan", [(4, 0)], terminates=True, describe=lambda setting, k, depth: {"rescored": int(setting[0] * k)})


class Flat(IndexKind):
    """Every number of a vector as an int8 of one scale; the best rows are scored again at full precision."""

    name = "int8"
    field = "dense"
    options = HNSW
    plans = {SCAN.id: SCAN}
    large = frozenset({"codes"})
    own_sections = frozenset({"codes", "docids", "inverse"})

    def __init__(self, meta, sections, file=None):
        super().__init__(meta, sections, file)
        self.rows_as_stored = sections["codes"] * np.float32(meta["scale"])
        self.corrections = Corrections.of(self.plans)

    @classmethod
    def suits(cls, spec, rows):
        return rows <= FEW

    @classmethod
    def max_rows(cls, spec):
        return FEW

    @staticmethod
    def build(path, rows, spec, progress, cancelled):
        step, docids = stepper(progress, cancelled), rows.docids
        vectors = np.empty((len(docids), spec.dim), np.float32)
        for low, column in rows.blocks():
            vectors[low : low + len(column.values)] = column.values
            step("copy", low / len(docids))
        rows.release()
        scale = float(np.abs(vectors).max()) / 127
        meta = {"kind": "int8", "rows": len(docids), "first": int(docids[0]), "dim": spec.dim, "scale": scale}
        codes = np.rint(vectors / scale).astype(np.int8)
        write(path, meta, {"docids": docids, "inverse": inverse_of(docids), "codes": codes})

    @staticmethod
    def search(request):
        n, k, chunks, spec = len(request.queries), request.k, request.chunks, request.spec
        heaps, sizes = np.empty((n, k), np.int64), np.zeros(n, np.int64)
        report = Report(request.targets, k) if request.recorded else None
        given = spec.dtype == "float16", exact.METRICS[spec.metric]
        for target in request.targets:
            segment, mask = target.segment, target.allowed
            rows = np.flatnonzero(rows_of_bits(mask.bits[0], segment.rows)) if mask.filtered else np.arange(segment.rows)
            for q in range(n):
                some = slice(q, q + 1)
                best = np.argsort(-(segment.rows_as_stored[rows] @ request.queries[q]))[: 4 * k]
                docids = np.sort(segment.docids[rows[best]])
                exact.score_dense(chunks.rows, chunks.verified, request.queries[some], *given, docids, heaps[some], sizes[some])
            if report is not None:
                report.runs.append(Run(0, -1, len(rows), segment.model(k).costs[0], 0.99, False))
        chunks.confirm()
        exact.scan_tail(chunks.rows, request.queries, spec, request.tail, heaps, sizes)
        return [exact.unpacked(heaps[q, : sizes[q]]) for q in range(n)], report

    def model(self, k):
        settings = np.array([[SCAN.id, *SCAN.settings[0]]], np.float64)
        return PlanModel(10, self.plans, settings, np.array([0.99]), np.array([0.01 * self.rows]))

    def fits(self, spec):
        return super().fits(spec) and self.meta["dim"] == spec.dim


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    hurry(monkeypatch)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(INDEX_KINDS, Flat.name, Flat)


def kinds(docs) -> list[str]:
    """The kinds of the open files, by their first rows."""
    return [segment.get("kind", "dense") for segment in docs.info().statistics["v"]["segments"]]


def filled(database):
    """A collection with a file of many rows, one of few, and a tail. The maintenance thread builds them."""
    rng = np.random.default_rng(0)
    docs = database.create_collection("docs", Schema({"v": Dense(DIM, "dot")}, {"n": Int()}))
    for low, high, files in ((0, MANY, 1), (MANY, MANY + MORE, 2), (MANY + MORE, MANY + MORE + 20, 2)):
        rows = range(low, high)
        docs.upsert(ids=rows, vectors={"v": rng.standard_normal((len(rows), DIM))}, attributes={"n": rows})
        until(lambda files=files: len(kinds(docs)) == files)
    return docs


def queries() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((5, DIM)).astype(np.float32)


def pairs(hits) -> list:
    return [(hit.id, hit.score) for hit in hits]


def answers_are_exact(docs) -> None:
    for condition in (None, F("n") >= MANY - 10, F("n") < 50):
        expected = [pairs(docs.search({"v": query}, filter=condition, exact=True)) for query in queries()]
        assert [pairs(docs.search({"v": query}, filter=condition, recall=0.999)) for query in queries()] == expected
        assert [pairs(hits) for hits in docs.search_batch({"v": queries()}, filter=condition, recall=0.999)] == expected


def test_files_of_two_kinds_serve_one_field_in_each_place(registered, database):
    docs = filled(database)
    assert kinds(docs) == ["dense", "int8"] and docs.info().statistics["v"]["tail"] == 20
    answers_are_exact(docs)
    docs.delete([MANY + 1, 3])
    docs.upsert(ids=[MANY + 2], vectors={"v": [queries()[0] * 9]}, attributes={"n": [MANY + 2]})
    assert docs.search({"v": queries()[0]})[0].id == MANY + 2
    answers_are_exact(docs)


def test_it_is_explained_and_counted(registered, database):
    docs = filled(database)
    hits = docs.search({"v": queries()[0]}, filter=F("n") >= 10, explain=True)
    (arm,) = hits.plan["arms"]
    many, few = arm["segments"]
    assert (few["plan"], few["parameters"]) == ("int8 scan", {"rescored": 40}) and many["plan"] != "int8 scan"
    assert (few["rows"], few["matches"], few["rows_scored"], few["predicted"]["recall"]) == (MORE, MORE, MORE, 0.99)
    assert (many["rows"], many["matches"]) == (MANY, MANY - 10) and arm["tail"]["rows"] == 20
    assert "segment 2 of 2: 100 rows" in str(hits.plan) and "int8 scan" in str(hits.plan)
    (segment,) = docs.info().statistics["v"]["segments"][1:]
    assert (segment["first"], segment["end"], segment["rows"], segment["dead"]) == (MANY, MANY + MORE, MORE, 0)


def test_it_is_merged_checked_and_in_snapshots(registered, embedded, directory, tmp_path):
    docs = filled(embedded)
    expected = [pairs(docs.search({"v": query})) for query in queries()]
    embedded.snapshot(tmp_path / "copy")
    checked(tmp_path / "copy")
    with vectordb.open(tmp_path / "copy", read_only=True) as copy:
        assert kinds(copy["docs"]) == ["dense", "int8"]
        assert [pairs(copy["docs"].search({"v": query})) for query in queries()] == expected
    docs.optimize()
    assert kinds(docs) == ["dense"]
    checked(directory)


def test_damage_of_it_is_found(registered, embedded, directory):
    docs = filled(embedded)
    embedded.close()
    (path,) = (path for path in (directory / "indexes").glob("*.index") if f"-{MANY}-{MANY + MORE}-" in path.name)
    content = bytearray(path.read_bytes())
    content[-600] ^= 1  # one of the codes
    path.write_bytes(content)
    with vectordb.open(directory, maintenance=False) as database:
        docs = database["docs"]
        docs.search({"v": queries()[0]})
        until(lambda: docs.info().statistics["v"]["damaged"])
        answers_are_exact(docs)


def test_without_it_its_files_are_stale_and_built_again(embedded, directory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(INDEX_KINDS, Flat.name, Flat)
        filled(embedded)
        embedded.close()
    checked(directory)
    with vectordb.open(directory, maintenance=False) as database:
        docs = database["docs"]
        answers_are_exact(docs)
        facts = docs.info().statistics["v"]
        assert kinds(docs) == ["dense"] and facts["damaged"] == [] and facts["tail"] == MORE + 20
        assert [(file["first"], file["end"]) for file in facts["stale"]] == [(MANY, MANY + MORE)]
    with vectordb.open(directory) as database:
        docs = database["docs"]
        until(lambda: kinds(docs) == ["dense", "dense"])
        assert docs.info().statistics["v"]["stale"] == []
        answers_are_exact(docs)
    checked(directory)
