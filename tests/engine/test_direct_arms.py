"""Direct searches of several arms give what the long way gives, to the last bit; what is unusual goes the long way."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from vectordb_client import Client
from vectordb_client.model.search_request import SearchRequest

import vectordb
from tests.support.direct import IDS, check_same
from tests.support.indexed import clustered, held_out
from tests.support.places import serving
from tests.support.sparse_indexed import texts
from vectordb import DBSF, RRF, Dense, F, Int, Relative, Schema, Sparse
from vectordb.engine import audits
from vectordb.index.dense import kind as dense_kind
from vectordb.index.impact import direct as impact_direct
from vectordb.index.impact import kind as impact_kind
from vectordb.index.impact import search as impact_search
from vectordb.index.impact.model import Choice
from vectordb.index.model import Corrections
from vectordb.kernels.impact import IMPACTS, POSTINGS, SAFE, SCAN
from vectordb.query import direct, direct_arm_blocks, direct_arms, execute, segments
from vectordb.query.fusion import depths, lists

ROWS, DIM = 1_200, 16
FUSIONS = ["rrf", "relative", "dbsf", RRF(5.0, {"v": 2.0}), Relative({"s": 0.3}), DBSF({"v": 0.0})]
FILTERS = [None, "n < 700", F("n") >= 1_150, "n = 7", "n = -1"]


@pytest.fixture(autouse=True)
def learn_cost(monkeypatch):
    """Searches learn nothing about costs from their times, which would let the plan change between two searches that are compared."""
    learn = Corrections.learn_cost
    monkeypatch.setattr(Corrections, "learn_cost", lambda *given: None)
    return learn


@pytest.fixture
def database(tmp_path):
    with vectordb.open(tmp_path / "data", maintenance=False, recall_audit=0, durability="batched") as database:
        yield database


def fill(database, fields=None, ids="integers", rows=ROWS, indexed=ROWS, lacking=()):
    """A collection of which the first ``indexed`` rows are indexed. lacking: field → rows without a vector there."""
    fields = fields or {"v": Dense(DIM), "s": Sparse()}
    docs = database.create_collection("docs", Schema(fields, {"n": Int()}))
    column, names = texts(3, rows, 400, 20), IDS[ids](rows)
    vectors = {
        name: [*clustered(1 + i, rows, DIM)] if spec.kind == "dense" else [*column.vectors()]
        for i, (name, spec) in enumerate(fields.items())
    }
    for name, some in dict(lacking).items():
        for row in some:
            vectors[name][row] = None
    for low, high in ((0, indexed), (indexed, rows)):
        if low < high:
            part = {name: every[low:high] for name, every in vectors.items()}
            payload = [{"i": i} for i in range(low, high)]
            docs.upsert(ids=names[low:high], vectors=part, attributes={"n": list(range(low, high))}, payload=payload)
        if indexed and high == indexed:
            docs.optimize()
    return docs


def queries(n=3, fields=("v", "s")):
    column = texts(9, n, 400, 8)
    found = []
    for i, query in enumerate(held_out(n, DIM)):
        found.append({name: query if name in "vw" else column.vector(i) for name in fields})
    return found


def ways(docs, query, **options):
    """The hits of a direct search, None if it isn't done directly, and those of the long way."""
    request = SearchRequest.of(options)
    for _ in range(2):  # a block is made when a search is seen for the second time
        docs.pieces.search_anything(request, query, None, False, execute.page)
    hits = docs._direct(request, query)
    (long,) = docs.pieces.search_anything(request, query, None, False, execute.page)
    return hits, long


def check(docs, query, **options):
    hits, long = ways(docs, query, **options)
    assert hits is not None, options
    check_same(hits, long)
    assert hits.next == long.next
    return hits


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
@pytest.mark.parametrize("shape", ["scan", "segment", "tail", "segments"])
def test_every_form_of_a_collection(database, monkeypatch, shape, metric):
    if shape == "segments":
        for kind in (dense_kind, impact_kind):
            monkeypatch.setattr(kind, "MAX_ROWS", 500)
    docs = fill(database, {"v": Dense(DIM, metric), "s": Sparse()}, indexed={"scan": 0, "tail": 900}.get(shape, ROWS))
    assert (len(docs.info().statistics["s"]["segments"]) > 1) == (shape == "segments")
    for condition in FILTERS:
        for options in ({}, {"limit": 1, "recall": 0.8}, {"limit": 70, "with_attributes": False, "candidates": 90}):
            for query in queries(2):
                hits = check(docs, query, filter=condition, **options) if condition != "n = -1" else ways(docs, query, filter=condition)[1]
                assert bool(len(hits)) == (condition != "n = -1")


@pytest.mark.parametrize("fusion", FUSIONS, ids=repr)
def test_every_fusion(database, fusion):
    docs = fill(database, rows=500, indexed=400)
    for query in queries():
        for options in ({}, {"with_attributes": False, "limit": 130}):
            check(docs, query, fusion=fusion, **options)


@pytest.mark.parametrize("ids", IDS)
def test_every_form_of_an_id(database, ids):
    docs = fill(database, ids=ids, rows=400, indexed=300)
    for query in queries(2):
        check(docs, query)
        check(docs, query, with_attributes=False, limit=60)
        check(docs, query, with_attributes=["n"], filter="n < 90")


def test_several_arms_of_a_kind_and_fields_with_options(database):
    fields = {
        "v": Dense(DIM, "l2"), "w": Dense(DIM, "dot", "float16"), "s": Sparse(weighting="idf"), "b": Sparse(binary=True)
    }  # fmt: skip
    docs = fill(database, fields, rows=500, indexed=400)
    for names in (("v", "w"), ("s", "b"), ("b", "v"), ("v", "w", "s"), tuple(fields)):
        for query in queries(2, names):
            check(docs, query)
            check(docs, query, fusion="dbsf", limit=3)


def test_exact_lists_give_the_best_rows(database):
    """The lists of a recall of nearly 1 are exact here, so the fused list is that of brute force."""
    docs = fill(database)
    for query in queries(5):
        hits = check(docs, query, recall=0.9999, with_attributes=False)
        assert hits.ids.tolist() == docs.search(query, exact=True).ids.tolist()


def test_rows_without_a_vector(database):
    docs = fill(database, rows=400, indexed=300, lacking={"v": range(0, 400, 3), "s": range(1, 400, 4)})
    for query in queries():
        hits = check(docs, query, limit=40)
        assert any(score.missing for hit in hits for score in hit.arms.values())
        assert ways(docs, query, fusion=RRF(missing="renormalise"))[0] is None
    docs = database.create_collection("whole", docs.schema)
    docs.upsert(ids=range(300), vectors={"v": clustered(1, 300, DIM), "s": texts(3, 300, 400, 20)}, attributes={"n": list(range(300))})
    docs.optimize()
    check(docs, queries(1)[0], fusion=RRF(missing="renormalise"))


def test_after_writes_and_deletes(database):
    docs = fill(database, indexed=1_000)
    (query,) = queries(1)
    first = check(docs, query).ids.tolist()
    docs.delete(first[:3])
    assert docs._direct(SearchRequest.of({}), query) is None  # the snapshot is another
    assert not set(first[:3]) & set(check(docs, query).ids.tolist())
    docs.upsert(ids=[10**6], vectors={"v": query["v"][None], "s": [query["s"]]}, attributes={"n": [5]})
    assert check(docs, query).ids[0] == 10**6
    docs.delete(filter="n >= 100 AND n < 900")
    check(docs, query)
    docs.optimize()
    check(docs, query, filter="n < 50")
    env = database.directory.env
    env._resize(2 * env._lmdb.info()["map_size"], env.map_moves)
    assert docs._direct(SearchRequest.of({}), query) is None
    check(docs, query)


def test_every_form_of_a_query(database):
    docs = fill(database, rows=400, indexed=300)
    (query,) = queries(1)
    terms, weights = query["s"]
    locked = weights.copy()
    locked.setflags(write=False)
    hits = check(docs, query)
    matrix = scipy.sparse.csr_matrix((weights, (np.zeros(len(terms), np.int64), terms.astype(np.int64))), (1, 400))
    forms = [
        (terms.astype(np.int32), weights), (terms, locked), (terms, weights.astype(np.float64)),
        dict(zip(terms.tolist(), weights.tolist(), strict=True)),
        (terms[::-1], weights[::-1]), (terms.tolist(), weights.tolist()), matrix,
    ]  # fmt: skip
    for sparse in forms:
        direct_one = docs._direct(SearchRequest.of({}), {"v": query["v"].astype(np.float64), "s": sparse})
        assert direct_one is None or direct_one == hits, sparse
        assert docs.search({"v": query["v"].tolist(), "s": sparse}) == hits
    assert docs._direct(SearchRequest.of({}), {"v": query["v"], "s": forms[0]}) == hits


@pytest.mark.parametrize(
    "terms, weights",
    [
        ([3, 2], [1, 1]), ([2, 2], [1, 1]), ([2, 3], [1, 0]), ([2, 3], [1, np.nan]), ([2, 3], [1e20, 1]), ([-5], [1]),
        ([2, 3], [-1, -1]), ([2**63], [1]), ([2], [1e-25]), ([], []), ([2], [1, 1]), ([[2]], [[1.0]]),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_wrong_or_rare_in_a_query_is_left_to_the_long_way(database, monkeypatch, terms, weights):
    docs = fill(database, rows=300, indexed=300)
    (query,) = queries(1)
    check(docs, query)
    terms = np.array(terms) if terms != [2**63] else np.array(terms, np.uint64)
    given = {"v": query["v"], "s": (terms, np.array(weights, np.float32))}
    said = []
    for run in (docs.search, lambda given: docs.pieces.search_anything(SearchRequest.of({}), given, None, False, execute.page)[0]):
        try:
            said.append(run(given).ids.tolist())
        except vectordb.VectorDBError as error:
            said.append((type(error), error.message, error.field))
    assert said[0] == said[1]
    monkeypatch.setattr(direct_arm_blocks.SparseArm, "_checked", lambda self: False)
    assert docs._direct(SearchRequest.of({}), given) is None  # though arrays are checked by the kernel alone


def test_what_is_not_the_usual_is_not_done_directly(database):
    docs = fill(database, rows=400, indexed=300)
    (query,) = queries(1)
    for options in ({"exact": True}, {"recall": 1.0}, {"explain": True}, {"with_vectors": True}, {"fusion": "linear"}, {"offset": 2}):
        hits, long = ways(docs, query, **options)
        assert hits is None and len(long) > 0
    assert check(docs, query) != ways(docs, {"v": vectordb.Arm("v", query["v"], weight=3.0), "s": query["s"]})[1]
    assert docs._direct(SearchRequest.of({}), {"v": query["v"], "n": query["s"]}) is None


def test_a_recorded_search_tells_its_plan(database):
    docs = fill(database, indexed=1_000)
    (query,) = queries(1)
    check(docs, query, filter="n >= 100")
    explained = docs.search(query, filter="n >= 100", explain=True).plan
    trace = direct.trace.begin()
    try:
        hits = docs._direct(SearchRequest.of({"filter": "n >= 100"}), query)
    finally:
        direct.trace.end()
    plan = trace.plan()
    assert hits is not None and trace.plan_name() == "fusion" and plan["filter"] == explained["filter"]
    assert list(trace.clock.stages) == ["arm v", "arm s", "fusion"]
    for told, arm in zip(plan["arms"], explained["arms"], strict=True):
        assert told["candidates"] == arm["candidates"] and told["tail"]["rows"] == arm["tail"]["rows"] == 200
        assert told["segments"][0]["plan"] == arm["segments"][0]["plan"] and told["recall"] == arm["recall"]
        assert told["segments"][0]["rows_scored"] == arm["segments"][0]["rows_scored"]


def test_searches_that_are_due_for_an_audit_or_a_measurement_go_the_long_way(tmp_path, monkeypatch):
    audited, measured = [], []
    monkeypatch.setattr(segments, "_audit", lambda *given: audited.append(given))
    monkeypatch.setattr(lists, "_measure_later", lambda *given: measured.append(given))
    for module in (audits, depths, lists):
        monkeypatch.setattr(module, "budget", audits.Budget())
    monkeypatch.setattr(depths, "FIRST", 0)
    monkeypatch.setattr(depths, "EVERY", 16)
    with vectordb.open(tmp_path, maintenance=False, recall_audit=1 / 8) as database:
        docs = fill(database, rows=600, indexed=600)
        (query,) = queries(1)
        for _ in range(64):
            docs.search(query)
        assert len(audited) == 16 and len(measured) == 4  # of both arms of 64 searches; of each 16th search


def test_other_points_are_taken_once_they_are_chosen(database):
    docs = fill(database)
    (query,) = queries(1)
    check(docs, query)
    (block,) = [each for each in docs._snapshots.newest.direct.values() if each]
    assert [arm.k for arm in block.arms] == [100, 100]
    points = depths.Point(30, 0.9), depths.Point(50, 0.8)
    block.recalls._choices[block.recall] = depths.Choice(points, 0.96, 100)
    assert docs._direct(SearchRequest.of({}), query) is None
    check(docs, query)
    (block,) = [each for each in docs._snapshots.newest.direct.values() if each]
    assert [arm.k for arm in block.arms] == [30, 50]


def test_costs_are_learned(database, monkeypatch, learn_cost):
    monkeypatch.setattr(Corrections, "learn_cost", learn_cost)
    docs = fill(database)
    (query,) = queries(1)
    check(docs, query)
    before = {segment: segment.corrections.table[1].copy() for segment in database.directory.index_files._open.values()}
    for _ in range(64):
        docs._direct(SearchRequest.of({}), query)
    assert len(before) == 2 and all((segment.corrections.table[1] != table).any() for segment, table in before.items())


@pytest.mark.parametrize("before, after", [(SAFE, POSTINGS), (POSTINGS, IMPACTS), (SCAN, SAFE)])
def test_every_plan_of_a_sparse_segment_and_a_change_of_plan(database, monkeypatch, before, after):
    docs = fill(database, rows=400, indexed=300)
    (query,) = queries(1)
    plan = [before]

    def chosen(target, k, recall):
        settings = target.segment.model(k).settings
        return Choice(int(np.flatnonzero(settings[:, 0] == plan[0])[-1]), 1.0, 1.0)

    for module in (impact_direct, impact_search):
        monkeypatch.setattr(module, "chosen", chosen)
    monkeypatch.setattr(direct_arm_blocks, "MEASURED_EVERY", 2)
    first = check(docs, query)
    plan[0] = after
    asked = [docs._direct(SearchRequest.of({}), query) for _ in range(4)]
    if POSTINGS in (before, after):  # another way of searching needs another block
        assert asked[-1] is None
    else:
        assert asked == [first] * 4
    assert docs.search(query) == first == check(docs, query)


def test_searches_of_the_service_are_direct(database, monkeypatch):
    docs, direct_ones, search = fill(database, ids="all kinds", rows=600, indexed=500), [], direct_arms.DirectArms.search

    def watched(self, *given):
        hits = search(self, *given)
        direct_ones.append(hits is not None)
        return hits

    monkeypatch.setattr(direct_arms.DirectArms, "search", watched)
    monkeypatch.setattr(depths, "FIRST", 0)  # no search is due to be measured
    (query,) = queries(1)
    with serving(database) as address, Client(address) as client:
        served = client.collection("docs")
        for options in ({}, {"with_attributes": False, "filter": F("n") < 300, "limit": 5}):
            del direct_ones[:]
            answers = [served.search(query, **options) for _ in range(4)]
            assert direct_ones == [False, False, True, True]
            assert all(list(hits) == list(docs.search(query, **options)) for hits in answers)


def test_hits_outlive_what_they_were_found_in(database):
    docs = fill(database, ids="texts", rows=400, indexed=300)
    (query,) = queries(1)
    found = [ways(docs, query, **options) for options in ({}, {"with_attributes": False}, {"fusion": "relative"})]
    docs.delete(filter="ALL")
    database.close()
    for hits, long in found:
        check_same(hits, long)
