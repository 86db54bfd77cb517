"""Inverted lists, the second kind of index of dense fields: equal to exact search where they must be, and as good as asked elsewhere."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import vectordb
from tests.support.toys import checked
from tests.support.upkeep import hurry, until
from vectordb import HNSW, IVF, Dense, F, Int, Linear, Schema, SchemaError
from vectordb.index import INDEX_KINDS
from vectordb.index.base import Cancelled, open_file
from vectordb.index.file import IndexFile
from vectordb.index.lists import build as lists_build
from vectordb.index.lists import calibrate
from vectordb.index.lists import kind as lists_kind
from vectordb.index.lists.clusters import ROWS_A_LIST, TOO_LONG

DIM, ROWS = 24, 2_500
CENTRES = np.random.default_rng(9).standard_normal((12, DIM)) * 1.2


@pytest.fixture(autouse=True)
def fewer_queries(monkeypatch):
    for name, few in (("QUERIES", 48), ("FILTERED", 24)):
        monkeypatch.setattr(calibrate, name, few)


def rows_of(seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (CENTRES[rng.integers(0, len(CENTRES), n)] + rng.standard_normal((n, DIM))).astype(np.float32)


def filled(database, spec, n=ROWS, name="docs", vectors=None):
    docs = database.create_collection(name, Schema({"v": spec}, {"n": Int()}))
    docs.upsert(ids=range(n), vectors={"v": rows_of(0, n) if vectors is None else vectors}, attributes={"n": range(n)})
    docs.optimize()
    return docs


def ids(hits) -> list:
    return [hit.id for hit in hits]


def pairs(hits) -> list:
    return [(hit.id, hit.score) for hit in hits]


def kinds(docs) -> list:
    return [segment.get("kind", "dense") for segment in docs.info().statistics["v"]["segments"]]


def share_found(docs, queries, **options) -> float:
    """Mean recall. Each search must find as many rows as the exact one, and a row that both find has the same score."""
    shares = []
    for query in queries:
        truth = pairs(docs.search({"v": query}, **{**options, "recall": 0.95}, exact=True))
        found = pairs(docs.search({"v": query}, **options))
        assert len(found) == len(truth)
        assert {point for point, _ in found} & {point for point, _ in truth} == {point for point, _ in set(found) & set(truth)}
        shares.append(len(set(found) & set(truth)) / len(truth) if truth else 1.0)
    return float(np.mean(shares))


@pytest.mark.parametrize(
    "metric, dtype, bits",
    [("cosine", "float32", 4), ("dot", "float16", 8), ("l2", "float32", 2), ("l2", "float16", 4), ("dot", "float32", 4)],
)
def test_searches_with_filters_deletions_and_a_tail(database, metric, dtype, bits):
    """Observed: .985 or more in each case."""
    docs = filled(database, Dense(DIM, metric, dtype, index=IVF(bits=bits)))
    assert kinds(docs) == ["lists"]
    docs.delete(range(0, ROWS, 9))
    docs.upsert(ids=range(ROWS, ROWS + 30), vectors={"v": rows_of(1, 30)}, attributes={"n": range(ROWS, ROWS + 30)})
    queries = rows_of(2, 8)
    for condition in (None, F("n") < 1_700, F("n") < 60, F("n") >= ROWS - 2, F("n") > ROWS + 27, F("n") > 10 * ROWS):
        assert share_found(docs, queries, filter=condition, recall=0.95) >= 0.93
    alone = [pairs(docs.search({"v": query})) for query in queries]
    assert [pairs(hits) for hits in docs.search_batch({"v": queries})] == alone
    assert len(docs.search({"v": queries[0]}, limit=ROWS)) == docs.count()


@pytest.mark.parametrize("target, floor", [(0.8, 0.8), (0.9, 0.9), (0.95, 0.95), (0.99, 0.985), (1.0, 1.0)])
def test_the_recall_that_was_asked_for_is_reached(embedded_lists, target, floor):
    """Queries that were no rows. Observed: .92, .96, .98, .998, 1."""
    assert share_found(embedded_lists, rows_of(3, 40), recall=target) >= floor


@pytest.fixture(scope="module")
def embedded_lists(tmp_path_factory):
    with vectordb.open(tmp_path_factory.mktemp("lists") / "data", durability="batched", maintenance=False) as database:
        yield filled(database, Dense(DIM, index=IVF()), 6_000)


def test_it_is_explained_and_described(embedded_lists):
    docs = embedded_lists
    plan = docs.search({"v": rows_of(4, 1)[0]}, filter=F("n") < 4_000, recall=0.9, explain=True).plan
    (shown,) = plan["arms"][0]["segments"]
    assert shown["rows"] == 6_000 and shown["matches"] == 4_000 and 0 < shown["local_selectivity"] <= 1
    assert {row["plan"] for row in shown["considered"]} == {"exact scan", "lists"} and shown["predicted"]["recall"] >= 0.9
    assert all(set(row["parameters"]) == {"rows", "deviations"} for row in shown["considered"] if row["plan"] == "lists")
    (facts,) = docs.info().statistics["v"]["segments"]
    assert (facts["kind"], facts["bits"], facts["rows"]) == ("lists", [1, 4], 6_000) and 15 <= facts["lists"] <= 40
    assert "IVF()" in str(docs.info()) and "1 segment (1 of lists, 6,000 rows" in str(docs.info())
    plan = docs.search({"v": rows_of(4, 1)[0]}, filter=F("n") < 40, explain=True).plan
    assert (plan["arms"][0]["segments"][0]["plan"], plan["arms"][0]["segments"][0]["rows_scored"]) == ("exact scan", 40)


def test_files_of_both_kinds_serve_one_field(database, monkeypatch):
    """A segment of more rows than a graph should have is one of lists; a smaller one beside it is a graph's."""
    hurry(monkeypatch)
    monkeypatch.setattr(lists_kind, "GRAPH_MOST", 1_000)
    docs = database.create_collection("docs", Schema({"v": Dense(DIM, "dot")}, {"n": Int()}))
    for low, high, files in ((0, 1_500, 1), (1_500, 1_800, 2)):
        docs.upsert(ids=range(low, high), vectors={"v": rows_of(low, high - low)}, attributes={"n": range(low, high)})
        until(lambda files=files: len(kinds(docs)) == files)
    assert kinds(docs) == ["lists", "dense"]
    assert share_found(docs, rows_of(5, 8), recall=0.99) >= 0.97  # observed: 1.0
    assert share_found(docs, rows_of(5, 8), recall=0.95, filter=F("n") > 1_000) >= 0.95  # observed: 1.0
    plan = docs.search({"v": rows_of(5, 1)[0]}, recall=0.8, explain=True).plan
    assert [segment["rows"] for segment in plan["arms"][0]["segments"]] == [1_500, 300]
    docs.optimize()
    assert kinds(docs) == ["lists"]


def test_today_s_fields_keep_their_graphs():
    kind_for = vectordb.index.base.kind_for
    assert kind_for(Dense(8), 2_000_000).name == "dense" and kind_for(Dense(8, index=HNSW()), 1).name == "dense"
    assert kind_for(Dense(8), 2_000_001).name == "lists" and kind_for(Dense(8, index=IVF()), 1).name == "lists"


def test_several_arms(database):
    docs = database.create_collection("docs", Schema({"v": Dense(DIM, index=IVF()), "w": Dense(DIM, "l2")}))
    docs.upsert(ids=range(1_200), vectors={"v": rows_of(0, 1_200), "w": rows_of(1, 1_200)})
    docs.optimize()
    for fusion in ("rrf", Linear()):
        shares = []
        for query in rows_of(6, 6):
            asked = {"v": query, "w": query}
            truth, found = (ids(docs.search(asked, fusion=fusion, **how)) for how in ({"exact": True}, {"recall": 0.99}))
            assert len(found) == len(truth) == 10
            shares.append(len(set(found) & set(truth)) / 10)
        assert np.mean(shares) >= 0.9  # observed: 1.0


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
@pytest.mark.parametrize("shape", ["alike", "zeros", "tiny", "huge", "mixed", "far", "one"])
def test_unusual_vectors(database, metric, shape):
    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((400, 6)).astype(np.float32)
    vectors = {
        "alike": np.ones((400, 6), np.float32),
        "zeros": np.concatenate([np.zeros((200, 6), np.float32), vectors[:200]]),
        "tiny": vectors * np.float32(1e-12),
        "huge": vectors * np.float32(1e12),
        "mixed": np.concatenate([vectors[:395], vectors[395:] * np.float32(1e11)]),
        "far": vectors + np.float32(1e4),
        "one": vectors[:1],
    }[shape]
    if metric == "cosine":
        vectors[np.linalg.norm(vectors, axis=1) == 0] = 1
    docs = filled(database, Dense(6, metric, index=IVF()), len(vectors), vectors=vectors)
    for query in (vectors[0], vectors[-1], rng.standard_normal(6).astype(np.float32)):
        truth = docs.search({"v": query}, exact=True)
        for target in (0.9, 1.0):
            found = docs.search({"v": query}, recall=target)
            assert len(found) == len(truth) == min(10, len(vectors))
            if target == 1.0:
                assert pairs(found) == pairs(truth)


def test_lists_are_of_similar_length(tmp_path):
    """A third of the rows in one place, which k-means alone would give one list."""
    rng = np.random.default_rng(8)
    vectors = np.concatenate([rows_of(0, 4_000), 0.05 * rng.standard_normal((2_000, DIM)).astype(np.float32)])
    lists_build.build(tmp_path / "f", vectors, np.arange(6_000, dtype=np.uint32), "l2", lists_build.Options(threads=1))
    sizes = np.diff(open_file(tmp_path / "f").offsets)
    assert sizes.min() > 0 and sizes.max() <= 2 * TOO_LONG * ROWS_A_LIST  # observed: 561


def test_the_same_rows_and_seed_give_the_same_file(tmp_path):
    made = []
    for name, threads in (("one", 1), ("two", 2)):
        vectors, docids = rows_of(0, 3_000), np.arange(5, 3_005, dtype=np.uint32)
        lists_build.build(tmp_path / name, vectors, docids, "cosine", lists_build.Options(threads=threads))
        made.append(open_file(tmp_path / name).sections)
    measured = {"settings", "levels", "recalls", "costs", "scan"}
    assert made[0].keys() == made[1].keys() > measured
    for name in made[0].keys() - measured:
        assert np.array_equal(made[0][name], made[1][name]), name


def test_a_build_can_be_cancelled_at_each_stage(tmp_path):
    seen: list[str] = []
    given = rows_of(0, 1_500), np.arange(1_500, dtype=np.uint32), "l2", lists_build.Options(threads=1)
    lists_build.build(tmp_path / "f", *given, lambda stage, share: seen.append(stage))
    stages = list(dict.fromkeys(seen))
    assert stages == ["clusters", "lists", "codes", "calibration"]
    for stage in stages:
        asked: list[str] = []

        def note(stage, share, asked=asked):
            asked.append(stage)

        with pytest.raises(Cancelled):
            lists_build.build(tmp_path / "g", *given, note, lambda stage=stage, asked=asked: stage in asked)
        assert asked[-1] == stage and not (tmp_path / "g").exists()


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A directory to copy: building it anew for each section takes a second."""
    path = tmp_path_factory.mktemp("template") / "data"
    with vectordb.open(path, maintenance=False) as database:
        filled(database, Dense(DIM, index=IVF()), 600)
    return path


SECTIONS = sorted(lists_kind.ListsFile.own_sections - {"apart"} | {"signs", "add", "factor", "error", "codes", "long_add", "long_factor"})


@pytest.mark.parametrize("name", SECTIONS)
def test_damage_of_each_section_is_found_and_rebuilt(template, directory, name):
    shutil.copytree(template, directory)
    (path,) = (directory / "indexes").glob("*.index")
    file = IndexFile(path)
    assert sorted(file._places) == SECTIONS
    offset, dtype, shape, _ = file._places[name]
    content = bytearray(path.read_bytes())
    content[file._start + offset + int(np.prod(shape)) * np.dtype(dtype).itemsize // 2] ^= 1
    path.write_bytes(content)
    with vectordb.open(directory, maintenance=False) as database:
        docs = database["docs"]
        truth = [pairs(docs.search({"v": query}, exact=True)) for query in rows_of(2, 3)]
        docs.search({"v": rows_of(2, 1)[0]})
        until(lambda: docs.info().statistics["v"]["damaged"])
        assert [pairs(docs.search({"v": query})) for query in rows_of(2, 3)] == truth
        docs.optimize()
        assert kinds(docs) == ["lists"] and not docs.info().statistics["v"]["damaged"]
    checked(directory)


def test_without_the_kind_its_files_are_stale_and_built_again(directory, monkeypatch):
    with vectordb.open(directory, maintenance=False) as database:
        filled(database, Dense(DIM, index=IVF()), 600)
    with monkeypatch.context() as patch:
        patch.delitem(INDEX_KINDS, "lists")
        with vectordb.open(directory, maintenance=False) as database:
            facts = database["docs"].info().statistics["v"]
            assert facts["segments"] == [] and facts["damaged"] == [] and len(facts["stale"]) == 1
            assert len(database["docs"].search({"v": rows_of(2, 1)[0]})) == 10
    with vectordb.open(directory, maintenance=False) as database:
        assert kinds(database["docs"]) == ["lists"]


def test_wrong_options_name_themselves():
    for bits in (3, 1, 0, True, "4", 4.0, None):
        with pytest.raises(SchemaError, match="bits must be one of 2, 4, 8") as caught:
            IVF(bits=bits)
        assert caught.value.field == "bits" and caught.value.value is bits
    with pytest.raises(SchemaError, match=r"did you mean IVF\(\)"):
        Dense(3, index=IVF)
    with pytest.raises(SchemaError, match="'hnsw', 'ivf', not 'flat'"):
        Schema.from_dict({"vectors": {"v": {"kind": "dense", "dim": 3, "index": {"kind": "flat"}}}})
    with pytest.raises(SchemaError, match="has no option 'degree'"):
        Schema.from_dict({"vectors": {"v": {"kind": "dense", "dim": 3, "index": {"kind": "ivf", "degree": 8}}}})
    for index in (IVF(), IVF(bits=8), HNSW(), HNSW(degree=8), None):
        schema = Schema({"v": Dense(3, index=index)})
        assert Schema.from_dict(schema.to_dict()) == schema
