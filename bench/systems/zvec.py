"""zvec, Alibaba's embedded vector database."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from .base import System, spread
from .common import Attributes, sparse_rows, weights_of
from .expressions import Sql, negation, outside

DEPTH = 100
MOST = 1024  # largest number of documents per call
LONGEST = 20_000  # largest number of values in a list of a filter
TYPES = {"int": "INT64", "float": "DOUBLE", "bool": "BOOL", "keyword": "STRING"}


def backslashed(value) -> str:
    return "'" + value.replace("'", "\\'") + "'" if isinstance(value, str) else str(value)


class ZvecSql(Sql):
    """zvec's dialect: negation only at the leaves, and parentheses around conditions that are joined by and / or."""

    literal = staticmethod(backslashed)

    def __call__(self, node):
        return self(negation(node[1])) if node[0] == "not" and node[1][0] in ("and", "or", "not") else super().__call__(node)

    def negated(self, node):
        kind, field = node[0], node[1]
        if kind == "null":
            return self.not_null(field)
        if kind == "range":
            sides = list(map(self, outside(node)))
        elif kind == "all":
            sides = [f"{field} not contain_all ({self.values(node[2])})"]
        elif field in self.arrays:
            sides = [f"{field} not contain_any ({self.values(node[2])})"]
        else:
            return self._lists(field, node[2], "not in", "and")
        if field in self.nullable:
            sides.append(self.null(field))
        return sides[0] if len(sides) == 1 else f"({' or '.join(sides)})"

    def is_in(self, field, values):
        return super().is_in(field, values) if len(values) == 1 else self._lists(field, values, "in", "or")

    def _lists(self, field, values, how, joined):
        parts = [f"{field} {how} ({self.values(values[low : low + LONGEST])})" for low in range(0, len(values), LONGEST)]
        text = parts[0] if len(parts) == 1 else f"({f' {joined} '.join(parts)})"
        return f"({text} or {self.null(field)})" if how == "not in" and field in self.nullable else text

    def contains_any(self, field, values):
        return f"{field} contain_any ({self.values(values)})"

    def contains_all(self, field, values):
        return f"{field} contain_all ({self.values(values)})"


class Zvec(System):
    """zvec with its defaults, m 50 and ef_construction 500 ("works well for most use cases"), and contiguous memory, its advice for
    throughput. Searches use its fastest call, ``query_internal_ids``, which needs a collection that was opened read-only.
    """

    name = "zvec"
    kind = "database"
    needs = ("zvec==0.8.0",)
    imports = ("zvec",)
    does = frozenset({"dense", "sparse", "hybrid", "filtered", "delete", "durable", "reopen"})
    effort = "ef"
    efforts = (10, 16, 24, 32, 48, 64, 96, 128, 192, 300, 600)
    exact_setting = {"is_linear": True}
    notes = "searched through query_internal_ids (row numbers, no documents), opened read-only; hybrid through query; sparse ignores ef"
    M, EF_CONSTRUCTION = 50, 500
    ABOUT: ClassVar[dict] = {}

    def create(self, dataset, folder, threads):
        z = self._begin(dataset, folder, threads)
        inverted = z.InvertIndexParam(enable_range_optimization=True)
        fields = []
        for name, kind in self.attributes.kinds.items():
            kind = ("ARRAY_" if name in self.attributes.arrays else "") + TYPES[kind]
            nulls = name in self.attributes.nullable
            fields.append(z.FieldSchema(name, getattr(z.DataType, kind), nullable=nulls, index_param=inverted))
        vectors = []
        if dataset.vectors is not None:
            metric = z.MetricType.L2 if dataset.metric == "l2" else z.MetricType.IP  # vectors have unit length for cosine
            vectors.append(z.VectorSchema("dense", z.DataType.VECTOR_FP32, dataset.dim, index_param=self.index(metric)))
        if dataset.sparse is not None:
            index = z.HnswIndexParam(metric_type=z.MetricType.IP, m=self.M, ef_construction=self.EF_CONSTRUCTION)
            vectors.append(z.VectorSchema("sparse", z.DataType.SPARSE_VECTOR_FP32, index_param=index))
        schema = z.CollectionSchema(name="points", fields=fields, vectors=vectors)
        option = z.CollectionOption(read_only=False, enable_mmap=True)
        self.collection = z.create_and_open(path=str(self.path), schema=schema, option=option)
        return {"m": self.M, "ef_construction": self.EF_CONSTRUCTION, "use_contiguous_memory": True, **self.ABOUT}

    def _begin(self, dataset, folder, threads):
        import zvec

        try:
            zvec.init(log_level=zvec.LogLevel.ERROR, query_threads=1, optimize_threads=threads)
        except RuntimeError:  # can be called only once per process
            pass
        self.api, self.arm, self.path, self.threads = zvec, dataset.arm, Path(folder) / "zvec", threads
        self.reads, self.prepared = False, []
        self.attributes, self.reranker = Attributes(dataset), zvec.RrfReRanker(rank_constant=60)
        self.condition = ZvecSql(self.attributes.arrays, self.attributes.nullable)
        return zvec

    def index(self, metric, **more):
        options = {"m": self.M, "ef_construction": self.EF_CONSTRUCTION, "use_contiguous_memory": True}
        return self.api.HnswIndexParam(metric_type=metric, **options, **more)

    def _open(self, reads: bool) -> None:
        if self.reads != reads or self.collection is None:
            if self.collection is not None:
                self.collection.close()
            option = self.api.CollectionOption(read_only=reads, enable_mmap=True)
            self.collection, self.reads = self.api.open(str(self.path), option), reads

    def insert(self, dataset, rows):
        self._open(reads=False)
        listed = rows.tolist()
        vectors: list[dict] = [{} for _ in listed]
        if dataset.vectors is not None:
            for one, vector in zip(vectors, dataset.vectors[rows].tolist(), strict=True):
                one["dense"] = vector
        if dataset.sparse is not None:
            for one, (terms, weights) in zip(vectors, sparse_rows(dataset.sparse[rows]), strict=True):
                one["sparse"] = dict(zip(terms, weights, strict=True))
        records = self.attributes.records(dataset, listed)
        docs = [self.api.Doc(id=str(row), vectors=v, fields=f) for row, v, f in zip(listed, vectors, records, strict=True)]
        for low in range(0, len(docs), MOST):
            for status in self.collection.upsert(docs[low : low + MOST]):
                if not status.ok():
                    raise RuntimeError(f"zvec refused a document: {status}")
        self.collection.flush()

    def delete(self, ids):
        self._open(reads=False)
        self.collection.delete(list(map(str, ids.tolist())))
        self.collection.flush()

    def finish(self):
        self._open(reads=False)
        self.collection.optimize(self.api.OptimizeOption(concurrency=self.threads))
        self.collection.flush()

    def reopen(self, dataset, folder, threads):
        self._begin(dataset, folder, threads)
        self.collection = None
        self._open(reads=True)

    def sweep(self, dataset, suite):
        return [{}] if dataset.arm == "sparse" else super().sweep(dataset, suite)  # ef has no effect on sparse searches

    def set(self, setting):
        super().set(setting)
        self._open(reads=True)
        self._make()

    def parameters(self, setting):
        """(query parameters for dense vectors, for sparse vectors)."""
        both = self.api.HnswQueryParam(**setting)
        return both, both

    def _make(self) -> None:
        query = self.api.Query
        dense, sparse = self.parameters(self.setting)
        if self.arm == "dense":
            self.queries = [query("dense", vector=vector, param=dense) for vector in self.prepared]
        elif self.arm == "sparse":
            self.queries = [query("sparse", vector=weights, param=sparse) for weights in self.prepared]
        else:
            self.queries = [[query("dense", vector=d, param=dense), query("sparse", vector=s, param=sparse)] for d, s in self.prepared]

    def prepare(self, queries, filters):
        """zvec's Query objects contain the search parameters, so ``set`` makes them. The prepared queries are indices into their list."""
        self.prepared, filters = super().prepare(queries, filters)
        self._make()
        return range(len(self.prepared)), filters

    def query(self, query):
        if self.arm == "hybrid":
            return query[0], weights_of(query[1])
        return query if self.arm == "dense" else weights_of(query)

    def search(self, query, k, where):
        if self.arm != "hybrid" and self.reads:
            return self.collection.query_internal_ids(self.queries[query], topk=k, filter=where)
        if self.arm != "hybrid":
            return self.collection.query(self.queries[query], topk=k, filter=where, output_fields=[])
        depth = max(DEPTH, 4 * k)
        return self.collection.query(self.queries[query], topk=depth, filter=where, output_fields=[], reranker=self.reranker)[:k]

    def ids(self, hits):
        if isinstance(hits, list):
            return np.array([int(doc.id) for doc in hits], dtype=np.int64)
        return np.array([int(name) for name in self.collection.resolve_internal_ids(hits) if name is not None], dtype=np.int64)

    def disk(self, folder):
        return super().disk(self.path)

    def close(self):
        if self.collection is not None:
            self.collection.close()


class ZvecInt8(Zvec):
    """zvec with 8-bit integers, and the best hits rescored from floats (its refiner), as in its own benchmarks."""

    name = "zvec-int8"
    does = Zvec.does - {"sparse"}
    exact_setting = None  # a linear search of rounded vectors is not exact
    ABOUT = {"quantize_type": "INT8", "refiner": True, "use_flat_contiguous_memory": True}

    def index(self, metric):
        return super().index(metric, quantize_type=self.api.QuantizeType.INT8, use_flat_contiguous_memory=True)

    def sweep(self, dataset, suite):
        rough = [{"ef": ef, "is_using_refiner": False} for ef in (10, 32)]
        return rough + [{"ef": ef, "is_using_refiner": True} for ef in spread(self.efforts, suite)]

    def parameters(self, setting):
        make = self.api.HnswQueryParam
        return make(**setting), make(ef=setting.get("ef", 300))
