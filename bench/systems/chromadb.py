"""Chroma, embedded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .base import System, Unsupported
from .common import Attributes
from .expressions import negation, outside

MOST_VALUES = 32_000  # each value is a variable of one SQL statement, and SQLite allows 32,766


class Chroma(System):
    """Chroma with its defaults: max_neighbors 16, ef_construction 100, and the index written to disk every 1,000 rows."""

    name = "chromadb"
    kind = "database"
    needs = ("chromadb==1.5.9",)
    imports = ("chromadb",)
    environment = "chromadb"  # depends on onnxruntime, kubernetes and OpenTelemetry: 400 MB
    does = frozenset({"dense", "filtered", "delete", "durable", "reopen"})
    effort = "ef_search"
    notes = "no filters on null; no exact mode"
    M, EF_CONSTRUCTION = 16, 100

    def create(self, dataset, folder, threads):
        self._begin(dataset, folder)
        space = "l2" if dataset.metric == "l2" else "ip"  # vectors have unit length for cosine
        hnsw = {"space": space, "max_neighbors": self.M, "ef_construction": self.EF_CONSTRUCTION, "ef_search": 100, "num_threads": threads}
        self.collection = self.client.create_collection("points", configuration={"hnsw": hnsw}, embedding_function=None)
        return hnsw

    def _begin(self, dataset, folder):
        self.path, self.attributes = Path(folder, "chroma"), Attributes(dataset)
        self._open()

    def _open(self):
        import chromadb

        self.client = chromadb.PersistentClient(path=str(self.path), settings=chromadb.Settings(anonymized_telemetry=False))

    def insert(self, dataset, rows):
        most = self.client.get_max_batch_size()
        for low in range(0, len(rows), most):
            part = rows[low : low + most]
            records = self.attributes.records(dataset, part.tolist())
            facts = [{name: value for name, value in record.items() if value != []} or None for record in records]
            vectors = np.ascontiguousarray(dataset.vectors[part], np.float32)
            ids = [str(row) for row in part.tolist()]
            self.collection.upsert(ids=ids, embeddings=vectors, metadatas=facts if self.attributes.kinds else None)

    def delete(self, ids):
        self.collection.delete(ids=list(map(str, ids.tolist())))

    def reopen(self, dataset, folder, threads):
        self._begin(dataset, folder)
        self.collection = self.client.get_collection("points", embedding_function=None)

    def set(self, setting):
        self.collection.modify(configuration={"hnsw": {"ef_search": setting["ef_search"], "num_threads": 1}})
        self.client.close()  # an index in memory keeps the ef_search that it was loaded with
        self._open()
        self.collection = self.client.get_collection("points", embedding_function=None)

    def query(self, query):
        return query[None]

    def condition(self, node, negated: bool = False) -> dict:
        """The condition of a tree, or its negation, only of a leaf."""
        kind, field = node[0], node[1]
        if kind == "not":
            return self.condition(negation(field)) if field[0] in ("and", "or", "not") else self.condition(field, True)
        if kind in ("and", "or"):
            return joined(f"${kind}", map(self.condition, field))
        if kind == "null":
            raise Unsupported("its filters can't ask for a missing value")
        if kind == "range" and negated:
            if field in self.attributes.nullable:
                raise Unsupported("its filters can't match rows without a value")
            return joined("$or", map(self.condition, outside(node)))
        if kind == "range":
            _, _, low, high, low_open, high_open = node
            bounds = {"$gt" if low_open else "$gte": low, "$lt" if high_open else "$lte": high}
            return joined("$and", [{field: {op: bound}} for op, bound in bounds.items() if bound is not None])
        equals, is_in, contains = ("$ne", "$nin", "$not_contains") if negated else ("$eq", "$in", "$contains")
        values = node[2]
        if field in self.attributes.arrays:
            return joined("$and" if (kind == "all") != negated else "$or", [{field: {contains: value}} for value in values])
        if len(values) > MOST_VALUES:
            raise Unsupported(f"it supports at most about {MOST_VALUES:,} values in a filter")
        return {field: {equals: values[0]} if len(values) == 1 else {is_in: values}}

    def search(self, query, k, where):
        return self.collection.query(query_embeddings=query, n_results=k, where=where, include=[])

    def ids(self, hits):
        return np.array([int(name) for name in hits["ids"][0]], dtype=np.int64)

    def close(self):
        self.client.close()


def joined(op: str, conditions: Iterable[dict]) -> dict:
    conditions = list(conditions)
    return conditions[0] if len(conditions) == 1 else {op: conditions}
