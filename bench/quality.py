"""Ranking quality of hybrid search on judged queries: ``python -m bench.quality FOLDER``.

The folder has BEIR's layout (see ``data.files.folder``): texts, queries, judgements, and dense and sparse vectors of both. vectordb
computes BM25. Prints nDCG@10 of each arm, of their rank fusion (RRF), and of linear fusion with weights learned on other queries. Each is
searched exactly and through the indexes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import vectordb
from vectordb import Dense, Schema, Sparse, Text

from . import metrics
from .data import Dataset, files

LIMIT = 10
ARMS = (("bm25",), ("dense",), ("sparse",), ("bm25", "dense"), ("sparse", "dense"), ("bm25", "dense", "sparse"))


def filled(folder: str, dataset: Dataset) -> vectordb.Collection:
    """A new collection with the data set's documents, fully indexed."""
    fields = {
        "bm25": Sparse("idf", encoder="bm25", source="body"),
        "dense": Dense(dataset.dim, metric=dataset.metric),
        "sparse": Sparse(),
    }
    docs = vectordb.open(folder, durability="batched", maintenance=False).create_collection("docs", Schema(fields, {"body": Text()}))
    for low in range(0, len(dataset), 1000):
        rows = np.arange(low, min(low + 1000, len(dataset)))
        texts = [dataset.texts[row] for row in rows.tolist()]
        docs.upsert(ids=rows, vectors={"dense": dataset.vectors[rows], "sparse": dataset.sparse[rows]}, attributes={"body": texts})
    docs.optimize()
    return docs


class Quality:
    """The judged queries of a data set, and searches of its collection with them."""

    def __init__(self, docs: vectordb.Collection, dataset: Dataset):
        self.docs, self.dataset, self.judged = docs, dataset, sorted(dataset.qrels)

    def asked(self, arms: tuple[str, ...]) -> dict:
        """The queries of these arms, as arguments of ``search_batch`` and ``tune_fusion``."""
        columns = {"dense": self.dataset.queries, "sparse": self.dataset.sparse_queries}
        vectors = {arm: columns[arm][self.judged] for arm in arms if arm in columns}
        texts = [self.dataset.query_texts[query] for query in self.judged]
        return {"vectors": vectors or None, "text": {"bm25": texts} if "bm25" in arms else None}

    def ndcg(self, arms: tuple[str, ...], **options) -> float:
        """nDCG@10, the mean over all judged queries. options: of ``search_batch``."""
        found = self.docs.search_batch(**self.asked(arms), limit=LIMIT, with_attributes=False, **options)
        run = {query: hits.ids.tolist() for query, hits in zip(self.judged, found, strict=True)}
        return metrics.rankings(self.dataset.qrels, run, LIMIT)[f"nDCG@{LIMIT}"]["mean"]

    def tuned(self, arms: tuple[str, ...], **options) -> vectordb.FusionTuning:
        return self.docs.tune_fusion(**self.asked(arms), qrels=[self.dataset.qrels[query] for query in self.judged], **options)


def figures(quality: Quality) -> Mapping[str, tuple[float, float]]:
    """Row of the printed table → (nDCG@10 of exact search, nDCG@10 through the indexes)."""
    found = {}
    for arms in ARMS:
        name = " + ".join(arms)
        found[name if len(arms) == 1 else f"RRF({name})"] = (quality.ndcg(arms, exact=True), quality.ndcg(arms))
        if len(arms) > 1:
            exact, indexed = quality.tuned(arms), quality.tuned(arms, recall=0.95)
            print(f"{name}\n{exact}\n")
            found[f"linear({name}), learned on other queries"] = (exact.ndcg["linear"], indexed.ndcg["linear"])
            same = exact.fusion
            found[f"linear({name}), weights of all queries"] = (
                quality.ndcg(arms, fusion=same),
                quality.ndcg(arms, fusion=same, recall=0.95),
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a folder with texts, queries and judgements, as BEIR has it")
    dataset = files.load(parser.parse_args().folder)
    with tempfile.TemporaryDirectory(prefix="vectordb-quality-") as folder:
        made = figures(Quality(filled(folder, dataset), dataset))
    print(f"nDCG@{LIMIT}, {len(dataset.qrels)} judged queries, {len(dataset):,} documents".ljust(64) + "   exact  indexed")
    for name, (exact, indexed) in made.items():
        print(f"{name:64}{exact:8.4f} {indexed:8.4f}")


if __name__ == "__main__":
    main()
