"""Makes the golden directories: databases written by released versions, with their expected answers.

``python tests/golden/make.py NAME`` writes ``NAME.tar.xz`` here, with the version of vectordb that is on the path. format-1 was made by
release 0.1.0, which had no indexes and no compaction; format-2 by the first code with everything that format 2 can contain; format-3 by the
first code with a digest of all records; format-4 by the first code whose BM25 fields store term frequencies; format-5 by the first code
with aliases, ends of points (ttl), analyzers, keywords of any length and changes of fields. indexes-1 has index files of every kind, with
graphs although they are small. It was made by the last code whose index files were not bound to their records by their headers, and its
expected.json has exact answers.

The archives are never made again, because later versions must open the bytes that were written then.
"""

from __future__ import annotations

import datetime
import inspect
import io
import json
import sys
import tarfile
import tempfile
import uuid
from pathlib import Path

import numpy as np

import vectordb
from vectordb import Analyzer, Bool, Datetime, Dense, Float, Geo, Int, Keyword, MultiVector, Schema, Sparse, Text, Uuid

HERE = Path(__file__).parent
POINTS = 300
WORDS = ["red", "green", "blue", "quick", "lazy", "fox", "dog", "runs", "sleeps", "über"]
FILTERS = ["n < 40", "tag = 't3'", "body MATCH 'fox'", "flag = true AND x > 0.5", "tags CONTAINS ANY ('a')", "at >= '2024-02-01'"]


def schema(newest: bool) -> Schema:
    binary = {"b": Sparse(binary=True)} if newest else {}
    vectors = {
        "v": Dense(8),
        "h": Dense(4, "l2", "float16"),
        "s": Sparse(),
        "m": MultiVector(4),
        "e": Sparse(encoder="bm25", source="body"),
    }
    attributes = {
        "n": Int(),
        "x": Float(),
        "flag": Bool(),
        "tag": Keyword(),
        "tags": Keyword(array=True),
        "body": Text(),
        "at": Datetime(),
        "key": Uuid(),
        "place": Geo(),
    }
    return Schema(vectors | binary, attributes)


def ident(i: int):
    return [i, f"id {i}", uuid.UUID(int=i + 1)][i % 3]


def points(ids, seed: int, newest: bool) -> list[dict]:
    found = []
    for i in ids:
        rng = np.random.default_rng([i, seed])
        vectors = {"v": rng.standard_normal(8), "s": {int(t): float(t) / 4 for t in rng.integers(1, 30, 4)}}
        if i % 2:
            vectors["h"] = rng.integers(-8, 8, 4) / 4
            vectors["m"] = rng.standard_normal((1 + i % 3, 4))
        if newest:
            vectors["b"] = {int(t): 1.0 for t in rng.integers(1, 30, 3)}
        attributes = {
            "n": i,
            "x": i / POINTS,
            "flag": i % 4 == 0,
            "tag": f"t{i % 7}",
            "tags": ["a", "b", "c"][: i % 4],
            "body": " ".join(rng.choice(WORDS, 5)),
            "at": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(days=i),
            "key": uuid.UUID(int=7_000 + i),
            "place": (i / 10, -i / 10),
        }
        found.append({"id": ident(i), "vectors": vectors, "attributes": attributes, "payload": {"i": i, "seed": seed}})
    return found


def fill(database, newest: bool) -> None:
    collection = database.create_collection("all", schema(newest))
    for low in range(0, POINTS, 60):
        collection.upsert(points(range(low, low + 60), 1, newest))
    collection.upsert(points(range(20, 50), 2, newest))
    collection.update(ids=[ident(60)], attributes={"tag": ["changed"]}, vectors={"v": [np.ones(8)]})
    collection.delete([ident(i) for i in range(100, 130)])
    collection.add_fields(attributes={"late": Int()})
    collection.update(ids=[ident(61)], attributes={"late": [5]})
    if newest:
        collection.optimize()
        collection.upsert(points(range(POINTS, POINTS + 10), 1, newest))
        collection.delete([ident(0)])
    database.create_collection("empty", Schema({"v": Dense(2)}))
    if newest:
        fill_newer(database)


FOLDED = Analyzer(fold_accents=True, synonyms=[["fox", "vixen"]])


def newer_schema() -> Schema:
    """What format 5 added."""
    vectors = {
        "v": Dense(4),
        "gone": Dense(2),
        "parts": Sparse(encoder="trigram", source="body"),
        "both": Sparse(encoder="bm25f", sources={"title": 3, "body": 1}),
    }
    attributes = {
        "title": Text(analyzer=FOLDED),
        "body": Text(analyzer=FOLDED),
        "stemmed": Text(analyzer=Analyzer("english", stopwords=True)),
        "long": Keyword(),
        "how many?": Int(),
        "until": Datetime(),
    }
    return Schema(vectors, attributes, dynamic=True, ttl="until")


def fill_newer(database) -> None:
    collection = database.create_collection("newer", newer_schema())
    rng = np.random.default_rng(3)
    n, ends = 60, datetime.datetime(2999, 1, 1, tzinfo=datetime.UTC)
    collection.upsert(
        ids=list(range(n)),
        vectors={"v": rng.standard_normal((n, 4)), "gone": rng.standard_normal((n, 2))},
        attributes={
            "title": [" ".join(rng.choice(WORDS, 2)) for _ in range(n)],
            "body": [" ".join(rng.choice(WORDS, 5)) for _ in range(n)],
            "stemmed": [str(rng.choice(WORDS)) for _ in range(n)],
            "long": ["x" * 500 + str(i % 5) for i in range(n)],
            "how many?": list(range(n)),
            "until": [ends if i % 2 else None for i in range(n)],
            "undeclared": [i % 3 for i in range(n)],
        },
    )
    collection.optimize()
    collection.rename_fields({"how many?": "number of things"})
    collection.drop_fields(["gone"])
    collection.add_fields(attributes={"after": Int()})
    collection.update(ids=[5], attributes={"after": [1]}, vectors={"v": [np.ones(4)]})
    collection.delete([7])
    database.alias("live", "newer")


def newer_answers(database) -> dict:
    """Points, exact searches, filters and facets, asked by the alias."""
    collection = database.collection("live")
    found = {"points": [plain([p.id, dict(p.vectors), dict(p.attributes), p.payload, p.version]) for p in collection.iterate()]}
    for name, options in {
        "parts": {"text": {"parts": "qiuck"}},
        "both": {"text": {"both": "lazy vixen"}},
        "v": {"vectors": {"v": [1, 0, 0, 0]}},
    }.items():
        found[name] = plain([[h.id, round(h.score, 4)] for h in collection.search(**options, limit=5, exact=True)])
    filters = [
        "`number of things` < 9",
        "undeclared = 1",
        "body MATCH 'vixen'",
        "stemmed MATCH 'running'",
        "after = 1",
        f"long = '{'x' * 500}3'",
    ]
    found["counts"] = {text: collection.count(text) for text in filters}
    found["facets"] = plain([[each.value, each.count] for each in collection.facets("long")["long"].counts])
    return found


def plain(value):
    """What JSON can hold."""
    if isinstance(value, tuple):
        return [plain(part) for part in value]
    if isinstance(value, np.ndarray):
        return value.astype(float).tolist()
    if isinstance(value, (uuid.UUID, datetime.datetime)):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) else value


def answers(collection) -> dict:
    """Points, exact searches and filters."""
    found = {
        "points": [plain([p.id, dict(p.vectors), dict(p.attributes), p.payload, p.version]) for p in collection.iterate(with_vectors=True)]
    }
    asked = {"v": np.arange(8.0), "h": np.ones(4), "s": dict.fromkeys(range(1, 9), 1.0), "m": np.eye(4)[:2]}
    if "b" in collection.schema.vectors:
        asked["b"] = dict.fromkeys(range(1, 9), 1.0)
    found["searches"] = {
        name: plain([[h.id, round(h.score, 5)] for h in collection.search({name: q}, limit=9, exact=True)]) for name, q in asked.items()
    }
    found["text"] = plain([[h.id, round(h.score, 5)] for h in collection.search(text="quick fox", limit=9, exact=True)])
    found["counts"] = {text: collection.count(text) for text in FILTERS}
    found["sequence"] = collection.info().sequence
    return found


INDEXED = 640  # points of the directory with index files of every kind


def indexed_schema() -> Schema:
    dense = {metric: Dense(12, metric) for metric in ("cosine", "dot", "l2")}
    return Schema(dense | {"half": Dense(12, "l2", "float16"), "s": Sparse(), "b": Sparse(binary=True)})


def indexed_vectors(seed: int, n: int) -> dict:
    rng = np.random.default_rng(seed)
    middles = np.random.default_rng(0).standard_normal((20, 12))
    rows = (middles[rng.integers(0, 20, n)] + 0.5 * rng.standard_normal((n, 12))).astype(np.float32)
    terms = [np.unique(rng.zipf(1.3, 12) % 200).tolist() for _ in range(n)]
    found = dict.fromkeys(("cosine", "dot", "l2", "half"), rows)
    return found | {"s": [{t: 1.0 + t % 5 for t in some} for some in terms], "b": [dict.fromkeys(some, 1.0) for some in terms]}


def fill_indexed(database) -> None:
    from vectordb.index.dense import build

    build.GRAPH_ROWS, build.ROWS_A_CLUSTER = 100, 40
    collection = database.create_collection("indexed", indexed_schema())
    collection.upsert(ids=list(range(INDEXED)), vectors=indexed_vectors(1, INDEXED))
    collection.optimize()


def indexed_answers(collection) -> dict:
    """Exact searches: what an index must find nearly all of."""
    queries = indexed_vectors(2, 12)
    return {
        name: [
            plain([[h.id, round(h.score, 5)] for h in collection.search({name: query}, limit=10, exact=True)]) for query in queries[name]
        ]
        for name in collection.schema.vectors
    }


def main(name: str) -> None:
    if name.startswith("indexes"):
        return packed(name, fill_indexed, lambda database: indexed_answers(database.collection("indexed")))
    newest = "maintenance" in inspect.signature(vectordb.open).parameters

    def ask(database) -> dict:
        return answers(database.collection("all")) | {"newer": newer_answers(database)}

    return packed(name, lambda database: fill(database, newest), ask)


def packed(name: str, write, ask) -> None:
    """NAME.tar.xz with what ``write`` puts into a database and ``ask`` reads from it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data"
        with vectordb.open(path) as database:
            write(database)
            expected = json.dumps(ask(database), ensure_ascii=False).encode()
        with tarfile.open(HERE / f"{name}.tar.xz", "w:xz", preset=9) as tar:
            for file in ["data.mdb", *(f"indexes/{entry.name}" for entry in sorted(path.glob("indexes/*.index")))]:
                add(tar, f"data/{file}", (path / file).read_bytes())
            add(tar, "expected.json", expected)


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    about = tarfile.TarInfo(name)
    about.size = len(data)
    tar.addfile(about, io.BytesIO(data))


if __name__ == "__main__":
    main(sys.argv[1])
