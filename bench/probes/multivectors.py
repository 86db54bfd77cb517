"""Probe of what can stand for multi-vectors: fewer rows (``MultiVector(tokens=…)``), encodings (``FDE``) and the mean of the rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .. import metrics
from ..data.tokens import Ragged
from .release import Figures

LIMIT, DEPTHS = 10, (10, 50, 100)
TOKENS = (32, 16, 8, 4)
ENCODINGS = ((20, 3, 8), (20, 4, 8), (20, 5, 8))  # repetitions, bits, projected


def first_stages(worker) -> Figures:
    """Of each: the share of the exact ten best points among its ten, fifty and a hundred best; bytes a point (float32); nDCG@10 of its own
    ranking, if there are judgements. The depth is that of a first stage before MaxSim.
    """
    dataset, queries = worker.dataset, worker.queries
    exact = np.stack([dataset.multi.best(dataset.query(query)) for query in queries])
    best = np.argsort(-exact, axis=1, kind="stable")[:, :LIMIT]
    for name, size, scores in _stages(dataset, queries, exact):
        order = np.argsort(-scores, axis=1, kind="stable")[:, : DEPTHS[-1]]
        for depth in DEPTHS if name != "MaxSim" else ():
            found = [len(np.intersect1d(wanted, row[:depth])) / len(wanted) for wanted, row in zip(best, order, strict=True)]
            yield f"{name}: of the exact {LIMIT} among {depth}", np.mean(found), ""
        if dataset.qrels:
            run = {query: row[:LIMIT].tolist() for query, row in zip(queries, order, strict=True) if query in dataset.qrels}
            judged = {query: dataset.qrels[query] for query in run}
            yield f"{name}: nDCG@{LIMIT}", metrics.rankings(judged, run, LIMIT)[f"nDCG@{LIMIT}"]["mean"], ""
        yield f"{name}: bytes a point", size, "B"


def _stages(dataset, queries: list[int], exact: np.ndarray) -> Iterator[tuple[str, float, np.ndarray]]:
    """(name, bytes a point, scores float32 ``(queries, points)``) of each."""
    from vectordb import FDE
    from vectordb.fields.pooling import pooled

    multi, row = dataset.multi, 4 * dataset.dim
    asked = [dataset.query(query) for query in queries]
    yield "MaxSim", row * len(multi.values) / len(multi), exact
    for tokens in TOKENS:
        fewer = Ragged(*pooled(multi.ends, multi.values, tokens, True))
        yield f"tokens={tokens}", row * len(fewer.values) / len(fewer), np.stack([fewer.best(query) for query in asked])
    means = np.add.reduceat(multi.values, multi.ends[:-1], axis=0) / multi.sizes[:, None]
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    yield "mean", row, np.stack([query.mean(axis=0) for query in asked]) @ means.T
    for options in ENCODINGS:
        fde = FDE(dataset.dim, *options)
        documents = np.concatenate([fde.documents([multi[i]]) for i in range(len(multi))])
        yield f"FDE{options}", 4 * fde.size, fde.queries(asked) @ documents.T
