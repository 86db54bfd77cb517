"""Chroma, embedded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .base import System, Unsupported
from .common import Attributes, each
from .expressions import negation, tree

MOST_VALUES = 32_000  # each value is a variable of one SQL statement, and SQLite allows 32,766


class Chroma(System):
    """Chroma with its defaults: max_neighbors 16, ef_construction 100, and the index written to disk every 1,000 rows."""

    name = "chromadb"
    kind = "database"
    needs = ("chromadb==1.5.9",)
    imports = ("chromadb",)
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
        self.path = Path(folder, "chroma")
        self._open()
        self.attributes = Attributes(dataset)

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
        for low in range(0, len(ids), 1000):
            self.collection.delete(ids=[str(row) for row in ids[low : low + 1000].tolist()])

    def reopen(self, dataset, folder, threads):
        self._begin(dataset, folder)
        self.collection = self.client.get_collection("points", embedding_function=None)

    def set(self, setting):
        self.collection.modify(configuration={"hnsw": {"ef_search": setting["ef_search"], "num_threads": 1}})
        self.client.close()  # an index in memory keeps the ef_search that it was loaded with
        self._open()
        self.collection = self.client.get_collection("points", embedding_function=None)

    def prepare(self, queries, filters):
        queries = [np.ascontiguousarray(query, np.float32)[None] for query in queries]
        return queries, each(filters, lambda where: self.condition(tree(where.expression)))

    def condition(self, node) -> dict:
        kind, field = node[0], node[1]
        if kind in ("and", "or"):
            parts = [self.condition(child) for child in field]
            return parts[0] if len(parts) == 1 else {f"${kind}": parts}
        if kind == "not":
            return self.negated(field)
        if kind == "null":
            raise Unsupported("its filters can't ask for a missing value")
        if kind == "range":
            _, _, low, high, low_open, high_open = node
            sides = [] if low is None else [{field: {"$gt" if low_open else "$gte": low}}]
            sides += [] if high is None else [{field: {"$lt" if high_open else "$lte": high}}]
            return sides[0] if len(sides) == 1 else {"$and": sides}
        if field in self.attributes.arrays:
            parts = [{field: {"$contains": value}} for value in node[2]]
            return parts[0] if len(parts) == 1 else {"$and" if kind == "all" else "$or": parts}
        if len(node[2]) > MOST_VALUES:
            raise Unsupported(f"it supports at most about {MOST_VALUES:,} values in a filter")
        return {field: {"$eq": node[2][0]}} if len(node[2]) == 1 else {field: {"$in": node[2]}}

    def negated(self, node) -> dict:
        kind, field = node[0], node[1]
        if kind in ("and", "or", "not"):
            return self.condition(negation(node))
        if kind == "null":
            raise Unsupported("its filters can't ask for a missing value")
        if kind == "range":
            if field in self.attributes.nullable:
                raise Unsupported("its filters can't match rows without a value")
            _, _, low, high, low_open, high_open = node
            sides = [] if low is None else [{field: {"$lte" if low_open else "$lt": low}}]
            sides += [] if high is None else [{field: {"$gte" if high_open else "$gt": high}}]
            return sides[0] if len(sides) == 1 else {"$or": sides}
        if field in self.attributes.arrays:
            parts = [{field: {"$not_contains": value}} for value in node[2]]
            return parts[0] if len(parts) == 1 else {"$or" if kind == "all" else "$and": parts}
        return {field: {"$ne": node[2][0]}} if len(node[2]) == 1 else {field: {"$nin": node[2]}}

    def search(self, query, k, where):
        return self.collection.query(query_embeddings=query, n_results=k, where=where, include=[])

    def ids(self, found):
        return np.array([int(name) for name in found["ids"][0]], dtype=np.int64)

    def close(self):
        self.client.close()
