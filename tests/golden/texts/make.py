"""Makes the golden directory of BM25 fields as written by the last version that fixed term weights at write time.

``python tests/golden/texts/make.py NAME`` writes ``NAME.tar.xz`` here, with the expected answers, by the version of vectordb on the path.
It is never made again, because later versions must open the bytes that were written then.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
import tempfile
from pathlib import Path

import vectordb
from vectordb import Schema, Sparse, Text

HERE = Path(__file__).parent
POINTS = 320
SPOKEN = ["red fox", "quick brown fox jumps over the lazy dog", "ฉันกินข้าวกับปลา", "I ❤️ NY 👍🏽", "dogs chase cats", "", "ខ្ញុំញ៉ាំបាយជាមួយត្រី red"]
QUERIES = ["fox", "the lazy dogs", "cat", "red ปลา", "ฉันกินข้าวกับปลา"]
FILTERS = ["body MATCH 'fox'", "body MATCH 'ปลา'", "body MATCH 'ฉันกินข้าวกับปลา'", "tags MATCH '❤'", "tags MATCH PHRASE 'brown fox'"]
WEIGHED = {"t": Sparse(weighting="idf", encoder="bm25", source="body")}


def body(i: int) -> str:
    return SPOKEN[i % len(SPOKEN)] + " fox cat runs" * (i % 5)


def tags(i: int) -> list[str]:
    return [SPOKEN[i % 4], SPOKEN[(i + 1) % 7]]


def fill(database) -> None:
    collections = {
        "notes": WEIGHED,
        "hand": WEIGHED,
        "plain": {"t": Sparse(encoder="bm25", source="body")},
        "loose": {"t": Sparse(weighting="idf", encoder="bm25")},
    }
    for name, vectors in collections.items():
        collection = database.create_collection(name, Schema(vectors, {"body": Text(), "tags": Text(array=True)}))
        for low in range(0, POINTS, 40):
            ids = range(low, low + 40)
            given = {"t": [{i % 9: 1.5} for i in ids]} if name == "loose" else {}
            collection.upsert(ids=ids, vectors=given, attributes={"body": [body(i) for i in ids], "tags": [tags(i) for i in ids]})
        collection.delete(list(range(30, 50)))
        if name == "hand":
            collection.update(ids=[7], vectors={"t": [{3: 1.5}]})
        else:
            collection.update(ids=[7], attributes={"body": ["changed red"]})
        collection.set_terms("t", {3: "three"})
    database.collection("notes").optimize()
    database.collection("notes").upsert(ids=[1_000], attributes={"body": ["a new fox"], "tags": [["fox"]]})


def answers(collection) -> dict:
    searches = {text: [[hit.id, round(hit.score, 5)] for hit in collection.search(text=text, limit=400, exact=True)] for text in QUERIES}
    return {"searches": searches, "counts": {text: collection.count(text) for text in FILTERS}}


def main(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data"
        with vectordb.open(path, maintenance=False) as database:
            fill(database)
            expected = {each: answers(database.collection(each)) for each in database.collections()}
        with tarfile.open(HERE / f"{name}.tar.xz", "w:xz", preset=9) as tar:
            for file in ["data.mdb", *(f"indexes/{entry.name}" for entry in sorted(path.glob("indexes/*.index")))]:
                add(tar, f"data/{file}", (path / file).read_bytes())
            add(tar, "expected.json", json.dumps(expected, ensure_ascii=False).encode())


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    about = tarfile.TarInfo(name)
    about.size = len(data)
    tar.addfile(about, io.BytesIO(data))


if __name__ == "__main__":
    main(sys.argv[1])
