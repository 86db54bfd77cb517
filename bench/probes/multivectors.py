"""Probes of multi-vectors: what can stand for them (bytes, fewer rows, encodings, the mean of the rows), and the plans of a search, one of
them being one that isn't built: a scan of pooled rows.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from .. import metrics
from ..data.tokens import Ragged
from .release import Figures

LIMIT, DEPTHS = 10, (10, 50, 100)
TOKENS = (32, 16, 8, 4)
TERMS, VOCABULARY, SAMPLED = 20, 4_096, 20  # terms of a token; of all; vectors for each that they are learned from
POOLED, POOLED_CANDIDATES = (8, 16), (50, 100, 200, 400)
REACHED = (0.95, 0.98, 0.99)
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
            rows = zip(queries, order, exact, strict=True)
            again = {query: row[np.argsort(-own[row], kind="stable")][:LIMIT].tolist() for query, row, own in rows if query in judged}
            ranked = metrics.rankings(judged, again, LIMIT)[f"nDCG@{LIMIT}"]["mean"]
            yield f"{name}: nDCG@{LIMIT} of its best {DEPTHS[-1]} by MaxSim", ranked, ""
        yield f"{name}: bytes a point", size, "B"


def _stages(dataset, queries: list[int], exact: np.ndarray) -> Iterator[tuple[str, float, np.ndarray]]:
    """(name, bytes a point, scores float32 ``(queries, points)``) of each."""
    from vectordb import FDE
    from vectordb.fields import row_codes
    from vectordb.fields.pooling import pooled

    multi, row = dataset.multi, 4 * dataset.dim
    asked = [dataset.query(query) for query in queries]
    yield "MaxSim", row * len(multi.values) / len(multi), exact
    rounded = Ragged(multi.ends, row_codes.decoded(*row_codes.encoded(multi.values)))
    yield 'keep="codes"', (dataset.dim + 8) * len(multi.values) / len(multi), np.stack([rounded.best(query) for query in asked])
    for tokens in TOKENS:
        fewer = Ragged(*pooled(multi.ends, multi.values, tokens, True))
        yield f"tokens={tokens}", row * len(fewer.values) / len(fewer), np.stack([fewer.best(query) for query in asked])
    means = np.add.reduceat(multi.values, multi.ends[:-1], axis=0) / multi.sizes[:, None]
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    yield "mean", row, np.stack([query.mean(axis=0) for query in asked]) @ means.T
    yield f"{TERMS} terms of a token", *_slim(multi, asked)
    for options in ENCODINGS:
        fde = FDE(dataset.dim, *options)
        documents = np.concatenate([fde.documents([multi[i]]) for i in range(len(multi))])
        yield f"FDE{options}", 4 * fde.size, fde.queries(asked) @ documents.T


def _slim(multi: Ragged, asked: list[np.ndarray]) -> tuple[float, np.ndarray]:
    """Sparse vectors of tokens (SLIM), made without a language model's head: (bytes a point, scores float32 ``(queries, points)``).

    The vocabulary is that of directions among which the tokens are, by k-means. A token has the nearest of them as terms, with what each is
    nearer than the next one. A point has of each term .99 of the sum and .01 of the highest weight of its tokens, a query the sum.
    """
    import faiss
    import scipy.sparse

    drawn = np.random.default_rng(0).permutation(len(multi.values))[: SAMPLED * VOCABULARY]
    words = min(VOCABULARY, max(len(drawn) // SAMPLED, TERMS + 1))
    means = faiss.Kmeans(multi.dim, words, niter=5, seed=1, spherical=True, min_points_per_centroid=1, max_points_per_centroid=SAMPLED)
    means.train(np.ascontiguousarray(multi.values[np.sort(drawn)], np.float32))

    def summed(rows: np.ndarray, highest: float) -> scipy.sparse.csr_matrix:
        products = rows @ means.centroids.T
        near = np.argpartition(-products, TERMS, axis=1)[:, : TERMS + 1]
        values = np.take_along_axis(products, near, axis=1)
        weights = values - values.min(axis=1, keepdims=True)
        terms, place = np.unique(near, return_inverse=True)
        place = place.ravel()
        sums, tops = np.bincount(place, weights.ravel()), np.zeros(len(terms))
        np.maximum.at(tops, place, weights.ravel())
        total = (1 - highest) * sums + highest * tops
        return scipy.sparse.csr_matrix((total, (np.zeros(len(terms), np.int64), terms)), shape=(1, words))

    points = scipy.sparse.vstack([summed(multi[i], 0.01) for i in range(len(multi))])
    questions = scipy.sparse.vstack([summed(query, 0.0) for query in asked])
    points.eliminate_zeros()
    return 8 * points.nnz / len(multi), (questions @ points.T).toarray().astype(np.float32)


def plans(worker) -> Figures:
    """Processor time of a search by the plans of the index, each with its cheapest setting that reaches a recall, and by the best rows of a
    scan of pooled rows, of which the best are then scored by byte codes and exactly.
    """
    from vectordb.index.base import SegmentMask, SegmentRequest, SegmentTarget
    from vectordb.index.multi import plans as of_index
    from vectordb.index.multi import search

    dataset, queries = worker.dataset, worker.queries
    exact = np.stack([dataset.multi.best(dataset.query(query)) for query in queries])
    best = np.argsort(-exact, axis=1, kind="stable")[:, :LIMIT]
    with worker.system.collection._snapshots.pin() as view:
        (name,) = view.fields
        table, opened = view.chunks(view.fields[name]), view.snapshot.segments(view.fields[name])
        if len(opened) != 1 or not opened[0].segment.has_lists:
            return
        segment, spec = opened[0].segment, view.schema.vectors[name]
        first, target = int(segment.docids[0]), SegmentTarget(segment, SegmentMask(segment, None), True)
        settings = segment.model(LIMIT).settings

        def forced(setting: int) -> Callable[[np.ndarray], np.ndarray]:
            def ask(query: np.ndarray) -> np.ndarray:
                request = SegmentRequest([target], [], table, [query], spec, LIMIT, 1.0, None, setting, True, True)
                return segment.search(request)[0][0][0]

            return ask

        def measured(ask: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
            """(mean milliseconds of this thread, recall)."""
            shares, spent = [], []
            for again in (False, True):  # the first time reads what isn't in memory
                for query, wanted in zip(queries, best, strict=True):
                    asked = dataset.query(query)
                    started = time.thread_time_ns()
                    found = ask(asked)
                    if again:
                        spent.append((time.thread_time_ns() - started) / 1e6)
                        shares.append(len(np.intersect1d(found - first, wanted)) / len(wanted))
            return float(np.mean(spent)), float(np.mean(shares))

        named = [(of_index.PLANS[int(row[0])].name, forced(i)) for i, row in enumerate(settings) if row[0] != of_index.EXACT]
        results = [(name, *measured(ask)) for name, ask in named]
        for tokens in POOLED:
            with _pooled_segment(dataset, tokens, spec) as pooled:
                for count in sorted({min(each, len(dataset)) for each in POOLED_CANDIDATES}):

                    def ask(query: np.ndarray, pooled=pooled, count=count) -> np.ndarray:
                        rows = search.best_rows(search.by_codes(pooled, pooled.coded(query), pooled.every), pooled.every, count)
                        scores = search.by_codes(segment, segment.coded(query), rows)
                        rows = np.sort(search.best_rows(scores, rows, min(2 * LIMIT, count)))
                        request = SegmentRequest([target], [], table, [query], spec, LIMIT, 1.0)
                        return search.exact.unpacked(search.rescored(request, segment, query, rows, LIMIT))[0]

                    results.append((f"pooled scan of {tokens} rows", *measured(ask)))
    for name in dict.fromkeys(name for name, _, _ in results):
        for target_recall in REACHED:
            reaching = [(spent, recall) for each, spent, recall in results if each == name and recall >= target_recall]
            if reaching:
                spent, recall = min(reaching)
                yield f"{name}: recall of at least {target_recall}", spent, "ms"
                yield f"{name}: recall of at least {target_recall}, observed", recall, ""


class _Matrices:
    """Matrices as the rows of a build."""

    saturation = None

    def __init__(self, matrices: Ragged):
        self._matrices, self.docids = matrices, np.arange(1, len(matrices) + 1, dtype=np.uint32)

    def blocks(self):
        from vectordb_client.model.fields import MultiColumn

        yield 0, MultiColumn(self._matrices.ends, np.ascontiguousarray(self._matrices.values, np.float32), None)

    def release(self) -> None:
        pass


@contextlib.contextmanager
def _pooled_segment(dataset, tokens: int, spec):
    """A segment of the points' rows, pooled to so many."""
    from vectordb.fields.pooling import pooled
    from vectordb.index.base import open_file
    from vectordb.index.multi import build

    fewer = Ragged(*pooled(dataset.multi.ends, dataset.multi.values, tokens, True))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pooled.index"
        build.build(path, _Matrices(fewer), spec, build.Options(threads=1))
        yield open_file(path)
