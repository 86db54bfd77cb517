"""What calls every kernel with the types that the package calls it with: a first search, a first index, and the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import vectordb
from vectordb import IVF, SAE, Dense, F, Float, Geo, Int, Keyword, Linear, MultiVector, Prefetch, Project, Schema, Sparse, Text, TokenLists
from vectordb.engine.check import check

ROWS = 1_500


def search(folder: Path) -> None:
    """A first collection, and a search of each kind of field."""
    schema = Schema(
        {"d": Dense(8), "s": Sparse(weighting="idf"), "m": MultiVector(4), "b": Sparse(encoder="bm25", source="t")},
        {"i": Int(), "x": Float(), "k": Keyword(), "a": Keyword(array=True), "t": Text()},
    )
    with vectordb.open(folder / "search") as database:
        docs = database.create_collection("docs", schema)
        vectors = {"d": np.eye(8)[:3], "s": [{7: 1.5, 9: 0.5}, {9: 2.0}, {7: 0.25}], "m": [np.ones((2, 4))] * 3}
        attributes = {"i": [1, 2, None], "x": [0.5, 1, 2], "k": ["a", "b", "c"], "a": [["p"], [], ["q"]], "t": ["a cat", "a dog", "a cow"]}
        docs.upsert(ids=[1, "a", 3], vectors=vectors, attributes=attributes)
        docs.upsert(ids=[4], vectors={"d": np.eye(8)[3:4]})  # without the other fields, so fusions look up which rows have them
        first = np.eye(8)[0]
        for condition in (
            None,
            (F("i") > 1) & (F("k") == "b"),
            F("x") < 1,
            F("a").isin(["p", "q"]),
            F("t").match_any("cat"),
            F("i").is_null(),
        ):
            docs.count(condition)
            docs.search({"d": first}, filter=condition, recall=0.99, explain=True)
            docs.search({"d": first, "s": {9: 1.0}}, filter=condition)
            docs.search({"s": {9: 1.0}}, filter=condition)
            docs.search({"m": np.ones((1, 4))}, filter=condition)
            docs.search(text="cat", filter=condition)
        docs.search({"d": first}, exact=True)
        for _ in range(3):  # the third is a direct search
            docs.search({"d": first})
            docs.search({"d": first, "s": {9: 1.0}})
            docs.search({"s": {9: 1.0}})
        docs.search_batch({"d": np.eye(8)[:3]})
        docs.get([1, "a"])
        list(docs.iterate(page=2))


def index(folder: Path) -> None:
    """A first index of dense and sparse fields, and searches of it."""
    rng = np.random.default_rng(0)
    terms = [{int(term): 1.0 for term in row} for row in rng.integers(0, 300, (ROWS, 8))]
    words = np.array([f"w{i}" for i in range(200)])
    texts = [" ".join(row) for row in words[np.minimum(rng.geometric(0.03, (ROWS, 10)) - 1, 199)]]
    schema = Schema(
        {"d": Dense(16), "e": Dense(16, "l2"), "s": Sparse(), "b": Sparse(encoder="bm25", source="t")}, {"i": Int(), "t": Text()}
    )
    with vectordb.open(folder / "index", durability="batched", maintenance=False) as database:
        docs = database.create_collection("docs", schema)
        vectors = {"d": rng.standard_normal((ROWS, 16)), "e": rng.standard_normal((ROWS, 16)), "s": terms}
        docs.upsert(ids=range(ROWS), vectors=vectors, attributes={"i": range(ROWS), "t": texts})
        docs.optimize()
        for condition in (None, F("i") < ROWS // 2, F("i") < 50):
            for target in (0.9, 0.99, 1.0):
                for vectors in ({"d": np.ones(16)}, {"e": np.ones(16)}, {"s": {1: 1.0, 2: 0.5}}, {"d": np.ones(16), "s": {1: 1.0}}):
                    docs.search(vectors, filter=condition, recall=target, explain=True)
                docs.search(text="w1 w5", filter=condition, recall=target)
            docs.search({"d": np.ones(16), "e": np.ones(16), "s": {1: 1.0}}, filter=condition, fusion=Linear())
        docs.search_batch({"d": rng.standard_normal((5, 16))})


def tail(folder: Path) -> None:
    """A search of so many rows without an index that they get codes."""
    rng = np.random.default_rng(0)
    with vectordb.open(folder / "tail", durability="batched", maintenance=False) as database:
        docs = database.create_collection("docs", Schema({"d": Dense(1024)}))
        docs.upsert(ids=range(300), vectors={"d": rng.standard_normal((300, 1024))})
        docs.optimize()
        docs.upsert(ids=range(300, 600), vectors={"d": rng.standard_normal((300, 1024))})
        docs.search({"d": np.ones(1024)})


def multi(folder: Path) -> None:
    """A first index of a multi-vector field, and searches of it."""
    rng = np.random.default_rng(0)
    schema = Schema({"m": MultiVector(8, index=TokenLists(centroids=32))}, {"i": Int()})
    with vectordb.open(folder / "multi", durability="batched", maintenance=False) as database:
        docs = database.create_collection("docs", schema)
        docs.upsert(ids=range(500), vectors={"m": list(rng.standard_normal((500, 4, 8)))}, attributes={"i": range(500)})
        docs.optimize()
        for condition in (None, F("i") < 250):
            for target in (0.5, 0.99):
                for rows in (4, 20):
                    docs.search({"m": rng.standard_normal((rows, 8))}, filter=condition, recall=target)


def more(folder: Path) -> None:
    """Fields of other types, filters seldom used, and upkeep."""
    schema = Schema(
        {
            "d": Dense(4, "dot", "float16"),
            "n": Dense(4, "l2"),
            "s": Sparse(),
            "m": MultiVector(4),
            "c": MultiVector(4, keep="codes"),
            "p": Dense(2, "l2", derived=Project("n")),
        },
        {"i": Int(array=True), "f": Float(array=True), "k": Keyword(array=True), "t": Text(), "g": Geo()},
    )
    with vectordb.open(folder / "more") as database:
        docs = database.create_collection("docs", schema)
        vectors = {"d": np.ones((3, 4)), "n": np.ones((3, 4)), "s": [{1: 1.0}, {1: -2.0}, {2: 1.0}], "m": [np.ones((2, 4))] * 3}
        vectors["c"] = vectors["m"]
        attributes = {"i": [[1], [2], []], "f": [[0.5], [], [2]], "k": [["a"], ["b"], []], "t": ["a b", "b c", "a b c"], "g": [(0, 0)] * 3}
        docs.upsert(ids=[1, 2, 3], vectors=vectors, attributes=attributes)
        near, inside = F("g").geo_radius(0, 0, 1), F("g").geo_box(-1, -1, 1, 1)
        texts = F("t").match_phrase("a b"), F("t").match_all("a b")
        for condition in (F("i") > 1, F("i").isin([1, 5]), F("f") > 1, F("f").isin([0.5]), ~F("k").isin(["a", "b"]), near, inside, *texts):
            docs.count(condition)
            docs.search({"n": np.ones(4)}, filter=condition)
        for arms in ({"d": np.ones(4)}, {"n": np.ones(4)}, {"s": {1: -1.0}}, {"m": np.ones((1, 4))}, {"c": np.ones((1, 4))}):
            docs.search(arms)
            docs.search(arms, prefetch=Prefetch({"d": np.ones(4)}))
        docs.search({"n": np.ones(4), "s": {1: 1.0}, "m": np.ones((2, 4))}, fusion=Linear(missing="renormalise"))
        docs.search({"n": np.ones(4), "s": {1: 1.0}}, fusion="dbsf")
        docs.delete([2])
        docs.search({"s": {1: 1.0}})
        docs.optimize()
        docs.purge()
        coded = database.create_collection("coded", Schema({"d": Dense(4), "c": Sparse(derived=SAE("d", hidden=16, k=2))}))
        coded.upsert(ids=range(40), vectors={"d": np.random.default_rng(0).standard_normal((40, 4))})
        coded.fit("c")
        coded.count(F.concept("c", 1) >= 0.1)
        database.snapshot(folder / "copy")
    if check(folder / "more").problems:
        raise AssertionError("the database that was to call kernels is damaged")
    with vectordb.open(folder / "copy", read_only=True) as database:
        database.collection("docs").count()


def lists(folder: Path) -> None:
    """A first index of lists, and searches of it."""
    rng = np.random.default_rng(0)
    schema = Schema({"d": Dense(16, index=IVF()), "e": Dense(16, "l2", "float16", index=IVF())}, {"i": Int()})
    with vectordb.open(folder / "lists", durability="batched", maintenance=False) as database:
        docs = database.create_collection("docs", schema)
        vectors = {"d": rng.standard_normal((ROWS, 16)), "e": rng.standard_normal((ROWS, 16))}
        docs.upsert(ids=range(ROWS), vectors=vectors, attributes={"i": range(ROWS)})
        docs.optimize()
        for condition in (None, F("i") < ROWS // 2, F("i") < 50):
            for field in ("d", "e"):
                docs.search({field: np.ones(16)}, filter=condition, explain=True)
        docs.search_batch({"d": rng.standard_normal((5, 16))})


TASKS = {"search": search, "index": index, "lists": lists, "multi": multi, "tail": tail, "more": more}
# What depends on how much data there is, so that it would take long to call it here, or on the plan: (task, kernel, types).
ALSO = [
    ("search", "topk.unpack", "int64[1A], int64[1C], float32[1C]"),
    ("index", "topk.pack", "int64[1C], float32[1C], int64[1C]"),
    ("search", "columns.integer_ids", "int64[2C], int64[1C], uint8[1C], uint64[1C]"),
    ("index", "impact_build.count_postings", "int64[1C], uint32[1C], int64, int64, int64[1C]"),
    ("index", "impact_build.fill_lists", "int64[1C], uint32[1C], uint8[1C], int64, int64, int64[1C], uint16[1C], uint8[1C]"),
    ("index", "impact_build.places_of", "uint64[1C], uint64[1C], int32[1C], uint32[1C]"),
    ("index", "planner.kth_score", "float32[1A], bool, uint64[1C], int64"),
    ("index", "planner.kth_score", "float32[1C], bool, uint64[1C], int64"),
    ("index", "bitset.filter_by_score", "float32[1A], float32, float64, float64, float64, uint16[1C], int64, uint64[1C]"),
    ("index", "bitset.filter_by_score", "float32[1C], float32, float64, float64, float64, uint16[1C], int64, uint64[1C]"),
    ("index", "planner.log_correlation", "float64, float64"),
    ("graph", "linking.code_norms", "uint8[2C], int32[1C], int32[1C]"),
    (
        "graph",
        "linking.link_back",
        "uint8[2C], int32[1C], int32[1C], float32[1C], int32[2C], int32[1C], int64[1C], int32[1C], int64, int64, int64, float32",
    ),
    (
        "graph",
        "linking.links_by_hops",
        "uint8[2C], int32[1C], int32[1C], float32[1C], int32[2C], int32[1C], int64, int64, int64, int64, float32, int32[2C]",
    ),
    (
        "graph",
        "linking.links_by_search",
        "uint8[2C], int32[1C], int32[1C], float32[1C], int32[2C], int32[2C], int32[1C], int32[1C], "
        "int64, int64, int64, int64, float32, bool, int32[2C]",
    ),
    ("graph", "linking.nearest_rows", "uint8[2C], int32[1C], int32[1C], float32[1C], int64, int64, int64[1C]"),
    (
        "graph",
        "mending.mend",
        "uint8[2C], int32[1C], int32[1C], float32[1C], int32[2C], uint8[1C], int32[1C], int64, int64, int64, float32",
    ),
    ("more", "columns.rows_in_set", "int64[2C], float64[1C], bool, int64, uint32[1C]"),
    ("more", "columns.rows_in_set", "int64[2C], int64[1C], bool, int64, uint32[1C]"),
]
