"""Qdrant's engine inside the process (qdrant-edge-py)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from .base import System
from .common import Attributes, sparse_rows

RRF_K = 60
DEPTH = 100


class QdrantEdge(System):
    """qdrant-edge with one segment (its advice for low latency), the defaults m 16 and ef_construct 100, and an index on every attribute.

    Attribute indexes are made before the rows are inserted. The log and the segments are memory-mapped, so a batch survives a power cut
    only after ``flush``, which is part of every insert.
    """

    name = "qdrant-edge"
    kind = "database"
    needs = ("qdrant-edge-py==0.9.0",)
    imports = ("qdrant_edge",)
    does = frozenset({"dense", "sparse", "hybrid", "filtered", "delete", "durable", "reopen", "query", "multi"})
    effort = "hnsw_ef"
    efforts = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)
    exact_setting = {"exact": True}
    exact_sparse = True
    notes = "exact sparse search; the graph is built by optimize, which counts as finish"
    M, EF_CONSTRUCT = 16, 100
    ABOUT: ClassVar[dict] = {}

    def create(self, dataset, folder, threads):
        q = self._begin(dataset)
        params, sparse = None, None
        if dataset.vectors is not None:
            distance = {"cosine": q.Distance.Cosine, "dot": q.Distance.Dot, "l2": q.Distance.Euclid}[dataset.metric]
            params = q.EdgeVectorParams(dataset.dim, distance)
        if dataset.multi is not None:
            late = q.MultiVectorConfig(q.MultiVectorComparator.MaxSim)
            params = q.EdgeVectorParams(dataset.dim, q.Distance.Cosine, multivector_config=late)
        if dataset.sparse is not None:
            sparse = {"sparse": q.EdgeSparseVectorParams()}
        hnsw = q.HnswIndexConfig(m=self.M, ef_construct=self.EF_CONSTRUCT, full_scan_threshold=10_000, max_indexing_threads=threads)
        config = q.EdgeConfig(
            vectors=params,
            sparse_vectors=sparse,
            hnsw_config=hnsw,
            quantization_config=self.quantization(),
            optimizers=q.EdgeOptimizersConfig(default_segment_number=1, max_segment_size=1 << 30),
            max_search_threads=1,
        )
        self.shard = q.EdgeShard.create(str(folder), config)
        schema = q.PayloadSchemaType
        kinds = {"int": schema.Integer, "float": schema.Float, "keyword": schema.Keyword, "bool": schema.Bool}
        for name, kind in self.attributes.kinds.items():
            self.shard.update(q.UpdateOperation.create_field_index(name, kinds[kind]))
        return {"m": self.M, "ef_construct": self.EF_CONSTRUCT, "full_scan_threshold": 10_000, "segments": 1, **self.ABOUT}

    def _begin(self, dataset):
        import qdrant_edge

        self.api, self.arm, self.attributes = qdrant_edge, dataset.arm, Attributes(dataset)
        self.fusion = qdrant_edge.Fusion.Rrf(k=RRF_K + 1)  # Qdrant counts ranks from 0
        self.set({"hnsw_ef": 100} if self.arm != "sparse" else {})
        return qdrant_edge

    def quantization(self):
        return None

    def insert(self, dataset, rows):
        listed = rows.tolist()
        start = time.perf_counter()
        points = list(map(self.api.Point, listed, self._vectors(dataset, rows), self.attributes.records(dataset, listed)))
        self.converting += time.perf_counter() - start
        self.shard.update(self.api.UpdateOperation.upsert_points(points))
        if self.synced:
            self.shard.flush()

    def _vectors(self, dataset, rows) -> Iterable:
        if dataset.multi is not None:
            return [dataset.multi[row].tolist() for row in rows.tolist()]
        dense = dataset.vectors[rows].tolist() if dataset.vectors is not None else None
        if dataset.sparse is None:
            return dense
        sparse = [self.api.SparseVector(terms, weights) for terms, weights in sparse_rows(dataset.sparse[rows])]
        return [{"sparse": s} for s in sparse] if dense is None else [{"": d, "sparse": s} for d, s in zip(dense, sparse, strict=True)]

    def finish(self):
        self.shard.optimize()
        self.shard.flush()

    def delete(self, ids):
        self.shard.update(self.api.UpdateOperation.delete_points(ids.tolist()))
        self.shard.flush()

    def reopen(self, dataset, folder, threads):
        self._begin(dataset)
        self.shard = self.api.EdgeShard.load(str(folder))  # the folder contains the configuration

    def set(self, setting):
        options = setting if setting.get("exact") else {"hnsw_ef": setting.get("hnsw_ef"), **self.search_options(setting)}
        self.params = self.api.SearchParams(**options)

    def search_options(self, setting) -> dict:
        return {}

    def query(self, query):
        if self.arm == "hybrid":
            return tuple(map(self._nearest, query))
        return self._nearest(query)

    def _nearest(self, query):
        nearest = self.api.Query.Nearest
        if not isinstance(query, tuple):
            return nearest(query)
        return nearest(self.api.SparseVector(*(part.tolist() for part in query)), using="sparse")

    def filter(self, where):
        return self.api.Filter(must=[super().filter(where)])

    def condition(self, node):
        q, kind = self.api, node[0]
        if kind in ("and", "or"):
            children = [self.condition(child) for child in node[1]]
            return q.Filter(must=children) if kind == "and" else q.Filter(should=children)
        if kind == "not":
            return q.Filter(must_not=[self.condition(node[1])])
        if kind == "null":
            return q.IsEmptyCondition(node[1])  # matches a missing value, null and an empty array
        if kind == "range":
            _, field, low, high, low_open, high_open = node
            bounds = {"gt" if low_open else "gte": low, "lt" if high_open else "lte": high}
            return q.FieldCondition(field, range=q.RangeFloat(**bounds))
        if kind == "all":
            return q.Filter(must=[q.FieldCondition(node[1], match=q.MatchValue(value)) for value in node[2]])
        values = node[2]
        return q.FieldCondition(node[1], match=q.MatchValue(values[0]) if len(values) == 1 else q.MatchAny(values))

    def search(self, query, k, where):
        q = self.api
        if self.arm != "hybrid":
            return self.shard.query(q.QueryRequest(limit=k, query=query, filter=where, params=self.params))
        depth = max(DEPTH, 4 * k)
        arms = [q.Prefetch(limit=depth, query=arm, filter=where, params=self.params) for arm in query]
        return self.shard.query(q.QueryRequest(limit=k, query=self.fusion, prefetches=arms))

    def facets(self, name, count, where):
        return self.shard.facet(self.api.FacetRequest(name, count, True, where))

    def counts(self, facets):
        return {hit.value: hit.count for hit in facets}

    def ordered(self, name, k, where, after=None):
        """The next page begins at the last value of a page, as Qdrant's documentation has it, so it repeats the points of that value."""
        q = self.api
        order = q.OrderBy(name, q.Direction.Asc, after)
        found, _ = self.shard.scroll(q.ScrollRequest(limit=k, filter=where, with_payload=False, with_vector=False, order_by=order))
        return found, found[-1].order_value if found else None

    def diverse(self, query, k, weight, over):
        q = self.api
        return self.shard.query(q.QueryRequest(limit=k, query=q.Mmr(query, 1 - weight, over), params=self.params))

    def ids(self, hits):
        return np.array([point.id for point in hits], dtype=np.int64)

    def close(self):
        self.shard.close()


class QdrantEdgeInt8(QdrantEdge):
    """The same with scalar quantization in memory and rescoring, as Qdrant's documentation advises for speed."""

    name = "qdrant-edge-int8"
    does = QdrantEdge.does - {"sparse"}
    effort = "hnsw_ef oversampling"
    efforts = tuple(zip(QdrantEdge.efforts, (1.0, 1.0, 1.0, 1.0, 1.5, 1.5, 2.0, 2.0, 2.0, 3.0, 4.0), strict=True))
    ABOUT = {"quantization": "int8, quantile 0.99, rescored"}

    def quantization(self):
        return self.api.ScalarQuantizationConfig(self.api.ScalarType.Int8, quantile=0.99, always_ram=True)

    def search_options(self, setting):
        return {"quantization": self.api.QuantizationSearchParams(rescore=True, oversampling=setting.get("oversampling", 1.0))}
