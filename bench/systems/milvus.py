"""Two systems: the Milvus server from its last wheel, and Milvus Lite, which is embedded and implemented in Python over faiss."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from .base import System, Unsupported
from .common import Attributes, sparse_rows, weights_of
from .expressions import Sql, double_quoted, fields_of, negation, tree
from .servers import ServerSystem

MAX_LENGTH, MAX_ELEMENTS = 512, 1024
TYPES = {"int": "INT64", "float": "DOUBLE", "bool": "BOOL", "keyword": "VARCHAR"}


class Expression(Sql):
    equals = " == "
    literal = staticmethod(double_quoted)

    def is_in(self, field, values):
        return super().is_in(field, values) if len(values) == 1 else f"{field} in [{self.values(values)}]"

    def contains_any(self, field, values):
        return f"array_contains_any({field}, [{self.values(values)}])"

    def contains_all(self, field, values):
        return f"array_contains_all({field}, [{self.values(values)}])"

    def negated_or_null(self, node):
        if node[0] in ("and", "or", "not"):  # Milvus has no three-valued logic, so negation is pushed down to the conditions
            return self(negation(node))
        return f"(not ({self(node)}) or {self.null(node[1])})"


def attribute_fields(attributes: Attributes, types: Any) -> dict[str, dict]:
    """The options of each attribute's field. types: the enumeration DataType of the library."""
    fields = {}
    for name, kind in attributes.kinds.items():
        options = {"datatype": getattr(types, TYPES[kind])}
        if name in attributes.arrays:
            options = {"datatype": types.ARRAY, "element_type": options["datatype"], "max_capacity": MAX_ELEMENTS}
        fields[name] = options | ({"max_length": MAX_LENGTH} if kind == "keyword" else {})
    return fields


class MilvusLite(System):
    """Milvus Lite through its embedded interface, without the gRPC server that pymilvus starts. Defaults: M 16, efConstruction 200."""

    name = "milvus-lite"
    kind = "database"
    needs = ("milvus-lite==3.2.2",)
    imports = ("milvus_lite",)
    environment = "arrow"
    does = frozenset({"dense", "sparse", "filtered", "delete", "reopen"})
    effort = "ef"
    exact_sparse = True
    notes = "Python over faiss, each search loops over all rows in Python; embedded interface; exact sparse search; its log is not synced"
    M, EF_CONSTRUCTION = 16, 200

    def create(self, dataset, folder, threads):
        from milvus_lite import CollectionSchema, DataType, FieldSchema

        self._begin(dataset, folder, threads)
        fields = [FieldSchema("id", DataType.INT64, is_primary=True)]
        if self.arm == "dense":
            fields.append(FieldSchema("v", DataType.FLOAT_VECTOR, dim=dataset.dim))
        else:
            fields.append(FieldSchema("v", DataType.SPARSE_FLOAT_VECTOR))
        for name, options in attribute_fields(self.attributes, DataType).items():
            nulls = name in self.attributes.nullable
            fields.append(FieldSchema(name, options.pop("datatype"), nullable=nulls, **options))
        self.collection = self.database.create_collection("points", CollectionSchema(fields=fields))
        return {**self.index(), "scalar index": "INVERTED"}

    def _begin(self, dataset, folder, threads):
        import faiss
        from milvus_lite import MilvusLite as Database

        faiss.omp_set_num_threads(threads)
        self.arm, self.attributes = dataset.arm, Attributes(dataset)
        self.metric = "L2" if dataset.metric == "l2" and dataset.arm == "dense" else "IP"  # vectors have unit length for cosine
        self.condition = Expression(self.attributes.arrays, self.attributes.nullable)
        self.database = Database(str(Path(folder, "milvus")))

    def index(self) -> dict:
        if self.arm == "sparse":
            return {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "IP"}
        return {"index_type": "HNSW", "metric_type": self.metric, "params": {"M": self.M, "efConstruction": self.EF_CONSTRUCTION}}

    def insert(self, dataset, rows):
        self.collection.upsert(self._records(dataset, rows))

    def _records(self, dataset, rows) -> list[dict]:
        if self.arm == "dense":
            vectors = dataset.vectors[rows].tolist()
        else:
            vectors = [dict(zip(terms, weights, strict=True)) for terms, weights in sparse_rows(dataset.sparse[rows])]
        columns, rows = self.attributes.columns(dataset), rows.tolist()
        return [{"id": row, "v": v, **{n: values[row] for n, values in columns.items()}} for row, v in zip(rows, vectors, strict=True)]

    def delete(self, ids):
        self.collection.delete(ids.tolist())

    def finish(self):
        self.collection.flush()
        if not self.collection.has_index("v"):
            self.collection.create_index("v", self.index())
            for name in self.attributes.scalars:  # Milvus Lite has no index for arrays
                self.collection.create_index(name, {"index_type": "INVERTED"})
        self._load()

    def _load(self):
        import faiss

        self.collection.load()
        faiss.omp_set_num_threads(1)

    def reopen(self, dataset, folder, threads):
        self._begin(dataset, folder, threads)
        self.collection = self.database.get_collection("points")
        self._load()

    def query(self, query):
        return [query if self.arm == "dense" else weights_of(query)]

    def search(self, query, k, where):
        return self.collection.search(
            query, top_k=k, metric_type=self.metric, expr=where, output_fields=[], anns_field="v", search_params=self.setting
        )

    def ids(self, hits):
        return np.array([hit["id"] for hit in hits[0]], dtype=np.int64)

    def close(self):
        self.database.close()


class MilvusServer(ServerSystem):
    """Milvus 2.3.5, the last server that is available as a wheel.

    M 18 and efConstruction 240 are the values of AUTOINDEX. Attributes have Trie and STL_SORT indexes. Searches don't wait for the newest
    writes (consistency level "Eventually").
    """

    name = "milvus"
    needs = ("milvus==2.3.5", "pymilvus==3.0.2")
    imports = ("milvus", "pymilvus")
    environment = "milvus"  # pymilvus pins its own grpcio and protobuf
    does = frozenset({"dense", "filtered", "delete", "reopen", "serve"})
    effort = "ef"
    notes = "server 2.3.5 of January 2024, the last as a wheel: no nulls, no sparse vectors, no exact mode; gRPC on loopback"
    M, EF_CONSTRUCTION = 18, 240

    def create(self, dataset, folder, threads):
        from pymilvus import DataType

        self.launch(dataset, folder, threads)
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("v", DataType.FLOAT_VECTOR, dim=dataset.dim)
        for name, options in attribute_fields(self.attributes, DataType).items():
            schema.add_field(name, options.pop("datatype"), **options)
        self.client.create_collection("points", schema=schema, consistency_level="Eventually")
        return {"index_type": "HNSW", "M": self.M, "efConstruction": self.EF_CONSTRUCTION, "metric_type": self.metric}

    def start(self, folder, threads):
        import milvus

        if not os.access("/run", os.W_OK) and not os.access("/run/milvus", os.W_OK):
            raise Unsupported("it must write /run/milvus/standalone.pid, but this user has no permission")
        self.server = milvus.MilvusServer(milvus.MilvusServerConfig(data_dir=str(folder / "milvus")))
        try:
            self.server.start()
        except (RuntimeError, TimeoutError, OSError) as error:
            self.server.stop()
            raise Unsupported(f"its server can't be started: {error}") from None
        self.port, self.loaded = self.server.listen_port, False

    def connect(self, dataset, port):
        from pymilvus import MilvusClient

        self.client, self.setting = MilvusClient(f"http://127.0.0.1:{port}"), {"params": {"ef": 100}}
        self.metric = "L2" if dataset.metric == "l2" else "IP"  # vectors have unit length for cosine
        self.attributes = Attributes(dataset)
        self.attributes.without(set(self.attributes.nullable))  # this version has no nulls
        self.condition = Expression(self.attributes.arrays)

    _records = MilvusLite._records
    arm = "dense"

    def insert(self, dataset, rows):
        self.client.upsert("points", self._records(dataset, rows))

    def delete(self, ids):
        self.client.delete("points", ids=ids.tolist())

    def finish(self):
        self.client.flush("points")
        if not self.loaded:
            indexes = self.client.prepare_index_params()
            indexes.add_index("v", index_type="HNSW", metric_type=self.metric, params={"M": self.M, "efConstruction": self.EF_CONSTRUCTION})
            for name in self.attributes.scalars:
                if (kind := self.attributes.kinds[name]) != "bool":
                    indexes.add_index(name, index_type="Trie" if kind == "keyword" else "STL_SORT")
            self.client.create_index("points", indexes)
            self.client.load_collection("points")
            self.loaded = True
        job, deadline = self.client.compact("points"), time.monotonic() + 600
        while self.client.get_compaction_state(job) != "Completed" and time.monotonic() < deadline:
            time.sleep(0.2)
        while self.client.describe_index("points", "v")["pending_index_rows"] and time.monotonic() < deadline:
            time.sleep(0.2)
        self.client.refresh_load("points")
        self.client.query("points", filter="id == 0", output_fields=["id"], consistency_level="Strong")  # waits for every write

    def reopen(self, dataset, folder, threads):
        self.launch(dataset, folder, threads)
        self.client.load_collection("points")
        self.loaded = True

    def set(self, setting):
        self.setting = {"params": dict(setting)}

    def query(self, query):
        return [query]

    def filter(self, where):
        node = tree(where.expression)
        if missing := fields_of(node) - set(self.attributes.kinds):
            raise Unsupported(f"this version has no nulls, but {', '.join(sorted(missing))} has nulls")
        return self.condition(node)

    def search(self, query, k, where):
        setting = self.setting if self.setting["params"]["ef"] >= k else {"params": {"ef": k}}  # ef below k is an error
        return self.client.search("points", query, filter=where or "", limit=k, search_params=setting, anns_field="v")

    ids = MilvusLite.ids

    def pids(self):
        return [self.server.server_proc.pid] if self.server else []

    def disk(self, folder):
        return super().disk(Path(folder, "milvus", "data"))  # without the program, which the wheel unpacks beside it
