"""vectordb: embedded, and as a gRPC service in another process."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import numpy as np

from .base import System
from .servers import Server

_NAME = "bench"
_WORKERS = 4 if sys.platform == "linux" else 1  # at most; one per core, as the documentation advises


class Embedded(System):
    """``vectordb.open`` with its defaults: every batch is synced to the disk."""

    name = "vectordb"
    kind = "ours"
    needs = ("vectordb",)
    imports = ("vectordb",)
    environment = ""
    does = frozenset({"dense", "sparse", "hybrid", "filtered", "delete", "durable", "reopen", "batch", "ours", "query", "multi"})
    exact_setting = {"exact": True}
    notes = "its setting is the recall target, not a search effort"

    def version(self) -> str:
        import vectordb

        return f"vectordb {vectordb.__version__}"

    def warm(self) -> None:
        try:
            from vectordb.warm import warm
        except ImportError:  # a checkout of an earlier version compiles as it goes
            return
        warm()

    def create(self, dataset, folder: Path, threads: int) -> dict:
        self._connect(folder)
        self.collection = self.database.create_collection(_NAME, _schema(dataset))
        self._about(dataset)
        return {"durability": "commit", "batch": self.batch()}

    def _connect(self, folder: Path) -> None:
        import vectordb

        still = {"maintenance": False, "recall_audit": 0.0} if self.quiet else {}
        self.database = vectordb.open(folder, durability="commit" if self.synced else "batched", **still)

    def _about(self, dataset) -> None:
        self.arm, self.probe = dataset.arm, dataset.query(0)

    def insert(self, dataset, rows: np.ndarray) -> None:
        vectors = {}
        if dataset.vectors is not None:
            vectors["dense"] = dataset.vectors[rows]
        if dataset.sparse is not None:
            vectors["sparse"] = dataset.sparse[rows]
        if dataset.multi is not None:
            vectors["multi"] = [dataset.multi[row] for row in rows.tolist()]
        columns = dataset.attributes_of(rows).items()
        attributes = {name: column.tolist() if isinstance(column, np.ndarray) else column for name, column in columns}
        self.collection.upsert(ids=rows, vectors=vectors, attributes=attributes)

    def delete(self, ids: np.ndarray) -> None:
        self.collection.delete(ids.tolist())

    def finish(self) -> None:
        """Index everything. The first search is included, because it reads files into memory."""
        self.collection.optimize()
        queries, filters = self.prepare([self.probe], [None])
        self.search(queries[0], 10, filters[0])

    def reopen(self, dataset, folder: Path, threads: int) -> None:
        self._connect(folder)
        self.collection = self.database.collection(_NAME)
        self._about(dataset)

    def sweep(self, dataset, suite: str) -> list[dict]:
        finely = (0.8, 0.85, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 0.999)
        return [{"recall": recall} for recall in ((0.9, 0.95, 0.99) if suite == "filtered" else finely)]

    def query(self, query):
        return dict(zip(("dense", "sparse"), query, strict=True)) if self.arm == "hybrid" else {self.arm: query}

    def filter(self, where):
        """A tree of ``F``, which an application also builds once."""
        try:
            from vectordb_client.model.filter import from_dict
        except ImportError:  # a checkout of version 0.1
            from vectordb_client.filter import from_dict

        return from_dict(where.expression)

    def search(self, query, k: int, where):
        return self.collection.search(query, filter=where, limit=k, with_attributes=False, **self.setting)

    def search_batch(self, queries, k: int):
        joined = list if self.arm == "multi" else np.stack
        columns = {name: joined([query[name] for query in queries]) for name in queries[0]}
        return self.collection.search_batch(columns, limit=k, with_attributes=False, **self.setting)

    def facets(self, name: str, count: int, where):
        from vectordb import Facet

        return self.collection.facets(Facet(name, limit=count), filter=where)

    def counts(self, facets) -> dict:
        (result,) = facets.values()
        return dict(result)

    def ordered(self, name: str, k: int, where, after=None):
        hits = self.collection.search(order_by=[name], limit=k, filter=where, cursor=after, with_attributes=False)
        return hits, hits.next

    def diverse(self, query, k: int, weight: float, over: int):
        from vectordb import Diversity

        return self.collection.search({self.arm: query}, limit=k, diversity=Diversity(weight, over=over), with_attributes=False)

    def ids(self, hits) -> np.ndarray:
        return np.fromiter(hits.ids, dtype=np.int64, count=len(hits))

    def close(self) -> None:
        if getattr(self, "database", None) is not None:
            self.database.close()
            self.database = None


class Service(Embedded):
    """``python -m vectordb serve`` on loopback, searched through ``vectordb_client``."""

    name = "vectordb-service"
    does = Embedded.does - {"ours", "batch", "query"} | {"serve"}
    notes = f"{Embedded.notes}; a worker process per thread, at most {_WORKERS}"
    server: Server | None = None
    workers: int = 1

    def warm(self) -> None:
        """The server loads its kernels when it starts; here they are only compiled, if they have to be."""
        try:
            from vectordb.kernels import ahead, signatures
        except ImportError:  # a checkout of an earlier version
            return
        ahead.compile_missing(list(signatures.recorded().values()))

    def create(self, dataset, folder: Path, threads: int) -> dict:
        self.workers = min(threads, _WORKERS)
        return super().create(dataset, folder, threads) | {"workers": self.workers}

    def reopen(self, dataset, folder: Path, threads: int) -> None:
        self.workers = min(threads, _WORKERS)
        super().reopen(dataset, folder, threads)

    def _connect(self, folder: Path) -> None:
        still = ["--no-maintenance"] if self.quiet else []
        self.server, target = started(folder, "--workers", str(self.workers), *still)
        self._call(target)

    def _call(self, target: str) -> None:
        from vectordb_client import Client

        self.target = target
        self.database = Client(target, timeout=600.0)

    def address(self) -> dict:
        return {"target": self.target}

    def attach(self, dataset, address: dict) -> None:
        self._call(address["target"])
        self.collection = self.database.collection(_NAME)
        self._about(dataset)

    def close(self) -> None:
        super().close()
        if self.server is not None:
            self.server.stop()
            self.server = None


def started(folder: Path, *options: str) -> tuple[Server, str]:
    """Start ``vectordb serve`` on a free port; returns it and its "host:port". Raises Unsupported if it doesn't start."""
    log = Path(tempfile.mkstemp(prefix="serve-", suffix=".log", dir=folder.parent)[1])
    # -P: not the vectordb of the current folder, where the worker imported another.
    command = [sys.executable, "-P", "-m", "vectordb", "serve", "--data", str(folder), "--port", "0", *options]

    def address() -> re.Match | None:
        return re.search(r" on (\S+:\d+)", log.read_text(errors="replace"))

    server = Server(command, log, ready=lambda: address() is not None)
    return server, address()[1]


def _schema(dataset):
    from vectordb_client import Dense, Int, Keyword, MultiVector, Schema, Sparse

    vectors: dict = {}
    if dataset.vectors is not None:
        vectors["dense"] = Dense(dataset.dim, metric=dataset.metric)
    if dataset.sparse is not None:
        vectors["sparse"] = Sparse()
    if dataset.multi is not None:
        vectors["multi"] = MultiVector(dataset.dim, metric=dataset.metric)
    attributes: dict = {}
    for name, values in dataset.attributes.items():
        some = values[0] if isinstance(values, np.ndarray) else next((value for value in values if value is not None), "")
        listed = isinstance(some, (list, tuple))
        kind = Keyword if listed or isinstance(some, str) else Int
        attributes[name] = kind(array=True) if listed else kind()
    return Schema(vectors=vectors, attributes=attributes)
