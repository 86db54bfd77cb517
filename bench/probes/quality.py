"""Probe of ranking quality: nDCG@10 of hybrid search on judged queries, exact and through the indexes.

The data set is a folder in BEIR's layout (``data.files.folder``): texts, queries, judgements, and dense and sparse vectors of both.
vectordb computes BM25. Linear fusion has weights that were learned on other queries.
"""

from __future__ import annotations

import tempfile

import numpy as np

from .. import metrics
from ..systems import Unsupported
from .release import Figures

LIMIT = 10
ARMS = (("bm25",), ("dense",), ("sparse",), ("bm25", "dense"), ("sparse", "dense"), ("bm25", "dense", "sparse"))


def judged(worker) -> Figures:
    """nDCG@10 of each arm, of rank fusion and of linear fusion of several."""
    import vectordb
    from vectordb import Dense, Schema, Sparse, Text

    dataset = worker.dataset
    if dataset.qrels is None or dataset.texts is None or dataset.query_texts is None:
        raise Unsupported(f"the data set {dataset.name} has no texts with judged queries")
    queries = sorted(dataset.qrels)
    columns = {"dense": dataset.queries[queries], "sparse": dataset.sparse_queries[queries]}
    texts = [dataset.query_texts[query] for query in queries]
    fields = {"bm25": Sparse("idf", encoder="bm25", source="body"), "dense": Dense(dataset.dim, metric=dataset.metric), "sparse": Sparse()}
    folder = tempfile.TemporaryDirectory(dir=worker.folder)
    with folder, vectordb.open(folder.name, durability="batched", maintenance=False) as database:
        docs = database.create_collection("docs", Schema(fields, {"body": Text()}))
        for low in range(0, len(dataset), 1000):
            rows = np.arange(low, min(low + 1000, len(dataset)))
            vectors = {"dense": dataset.vectors[rows], "sparse": dataset.sparse[rows]}
            docs.upsert(ids=rows, vectors=vectors, attributes={"body": [dataset.texts[row] for row in rows.tolist()]})
        docs.optimize()
        for arms in ARMS:
            vectors = {arm: columns[arm] for arm in arms if arm in columns}
            request = {"vectors": vectors or None, "text": {"bm25": texts} if "bm25" in arms else None}

            def ndcg(request: dict = request, **options) -> float:
                hits = docs.search_batch(**request, limit=LIMIT, with_attributes=False, **options)
                run = {query: answer.ids.tolist() for query, answer in zip(queries, hits, strict=True)}
                return metrics.rankings(dataset.qrels, run, LIMIT)[f"nDCG@{LIMIT}"]["mean"]

            name = " + ".join(arms)
            label = f"nDCG@{LIMIT}, {name if len(arms) == 1 else f'RRF({name})'}"
            yield f"{label}, exact", ndcg(exact=True), ""
            yield f"{label}, indexed", ndcg(), ""
            if len(arms) == 1:
                continue
            qrels = [dataset.qrels[query] for query in queries]
            exact, indexed = docs.tune_fusion(**request, qrels=qrels), docs.tune_fusion(**request, qrels=qrels, recall=0.95)
            label = f"nDCG@{LIMIT}, linear({name})"
            yield f"{label}, learned on other queries, exact", exact.ndcg["linear"], ""
            yield f"{label}, learned on other queries, indexed", indexed.ndcg["linear"], ""
            yield f"{label}, weights of all queries, exact", ndcg(fusion=exact.fusion), ""
            yield f"{label}, weights of all queries, indexed", ndcg(fusion=exact.fusion, recall=0.95), ""
