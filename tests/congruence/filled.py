"""Collections that tests of answers read: every type of field and attribute, ids of every kind, missing values, deleted rows, an index."""

from __future__ import annotations

import datetime
import uuid

import numpy as np

from tests.support import filter_model
from vectordb import (
    HNSW,
    Bool,
    Datetime,
    Dense,
    Float,
    Geo,
    ImpactIndex,
    Int,
    Keyword,
    MultiVector,
    Schema,
    Sparse,
    Text,
    Uuid,
)

VECTORS = {
    "d": Dense(8),
    "far": Dense(4, "l2"),
    "half": Dense(4, "dot", "float16"),
    "s": Sparse(),
    "bits": Sparse(binary=True),
    "words": Sparse("idf", encoder="bm25", source="body"),
    "m": MultiVector(4),
    "top": MultiVector(3, "dot", "float16", "max"),
}
ATTRIBUTES = {
    "lang": Keyword(),
    "tags": Keyword(array=True),
    "n": Int(),
    "x": Float(),
    "ok": Bool(),
    "at": Datetime(),
    "body": Text(),
    "key": Uuid(),
    "where": Geo(),
}
SCHEMA = Schema(VECTORS, ATTRIBUTES)
BOOKS = Schema(
    {"v": Dense(2), "s": Sparse(), "m": MultiVector(2), "b": Sparse(encoder="bm25", source="body")},
    {"isbn": Keyword(), "tags": Keyword(array=True), "year": Int(), "body": Text()},
)
INDEXED = Schema(
    {
        "d": Dense(8, index=HNSW(degree=8, ef_construction=40)),
        "flat": Dense(8, index=None),
        "s": Sparse(index=ImpactIndex(levels=8)),
        "bits": Sparse(binary=True),
        "plain": Sparse(index=None),
    },
    {"n": Int()},
)
EVERY = filter_model.SCHEMA
BODIES = ["a quick brown fox", "a lazy dog", "the fox and the dog", "nothing of it", "", "Dogs! and foxes"]
N = 90


def points(n: int = N) -> dict:
    """Arguments of ``upsert`` for n points; each third point lacks something."""
    rng = np.random.default_rng(5)

    def some(values: list) -> list:
        return [None if i % 11 == 7 else value for i, value in enumerate(values)]

    terms = [{int(t): float(w) for t, w in zip(rng.integers(0, 20, 4), rng.uniform(0.1, 2, 4), strict=True)} for _ in range(n)]
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    return {
        "ids": [i if i % 3 == 0 else f"id {i}" if i % 3 == 1 else uuid.UUID(int=i) for i in range(n)],
        "vectors": {
            "d": rng.standard_normal((n, 8)),
            "far": some(list(rng.standard_normal((n, 4)))),
            "half": some(list(rng.standard_normal((n, 4)))),
            "s": terms,
            "bits": some([dict.fromkeys(row, 1.0) for row in terms]),
            "m": [rng.standard_normal((1 + i % 3, 4)) for i in range(n)],
            "top": some([rng.standard_normal((1 + i % 2, 3)) for i in range(n)]),
        },
        "attributes": {
            "lang": [("en", "de", None)[i % 3] for i in range(n)],
            "tags": [["a", "b"][: i % 3] for i in range(n)],
            "n": list(range(n)),
            "x": some([i / 7 for i in range(n)]),
            "ok": some([i % 4 == 0 for i in range(n)]),
            "at": [start + datetime.timedelta(hours=i) for i in range(n)],
            "body": some([BODIES[i % len(BODIES)] for i in range(n)]),
            "key": [uuid.UUID(int=1000 + i) for i in range(n)],
            "where": [(i / 2, -i) for i in range(n)],
        },
        "payload": [{"row": i, "page": {"number": i // 9}, "parts": parts_of(i)} if i % 2 else None for i in range(n)],
    }


def parts_of(i: int) -> list[dict]:
    """An array of objects, for payloads."""
    return [{"size": k, "kind": ("wheel", "axle")[(i // 2 + k) % 2]} for k in range(i % 3)]


def every_point() -> list[dict]:
    """Points of "every": the values that the filters of ``filter_model`` ask for, one and several of each attribute, and none."""
    values = {
        "kw": ["", "a", "ab", "b", "[a]"],
        "n": [-4, 0, 2, 6, 2**63 - 1],
        "x": [-1.5, 0.0, 2.5, 2.0**53, 5e-324],
        "ok": [True, False],
        "at": [datetime.datetime(2024, 1, day, 12, 30, 0, micro, datetime.UTC) for day in (1, 2) for micro in (0, 1)],
        "body": ["", "red", "Fox dog-", "the red", "dog- the"],
        "u": [uuid.UUID(int=n) for n in (1, 2, 2**100)],
        "place": [(-90.0, 0.0), (0.0, 13.4), (52.5, 13.4), (0.0, 179.0), (-10.0, -170.0)],
    }
    ids = [*filter_model.IDS, *range(100, 140)]
    made = []
    for i, one in enumerate(ids):
        attributes = {}
        for k, (name, some) in enumerate(values.items()):
            if (i + k) % 5:
                attributes[name] = some[(i + 2 * k) % len(some)]
            if (i + k) % 4:
                attributes[name + "s"] = [some[(i + k + m) % len(some)] for m in range((i + k) % 3)]
        vectors = {name: [1, i, 0, 0] for name in ("vec", "vec2") if (i + len(name)) % 3}
        made.append({"id": one, "vectors": vectors, "attributes": attributes})
    return made


def fill(database) -> None:
    """Make the collections "docs" (all types, no index), "books" (for wrong calls), "every" (for filters), "indexed" (segments, a tail)."""
    docs = database.create_collection("docs", SCHEMA)
    docs.upsert(**points())
    docs.update([{"id": 0, "payload": {"updated": True}}])
    docs.delete([3, "id 4"])
    docs.set_terms("s", {3: "three", 7: "seven"})
    books = database.create_collection("books", BOOKS)
    books.upsert(
        ids=[1, 2, 3],
        vectors={"v": [[1.0, 2.0]] * 3},
        attributes={"body": ["a b", "b", "c"], "isbn": ["a", "b", "c"]},
    )
    database.create_collection("every", EVERY).upsert(every_point())
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((450, 8))
    terms = [{int(t): float(w) for t, w in zip(rng.integers(0, 60, 8), rng.random(8) + 0.1, strict=True)} for _ in rows]
    indexed = database.create_collection("indexed", INDEXED)
    for ids in (range(400), range(400, 450)):
        sparse = [terms[i] for i in ids]
        vectors = {"d": rows[ids], "flat": rows[ids], "s": sparse, "bits": sparse, "plain": sparse}
        indexed.upsert(ids=list(ids), vectors=vectors, attributes={"n": list(ids)})
        if ids.start == 0:
            indexed.delete(list(range(50)))
            indexed.optimize()
    indexed.delete([60, 440])
