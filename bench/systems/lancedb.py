"""LanceDB, embedded: columnar files, IVF and HNSW over scalar-quantized vectors."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np

from .base import System
from .common import Attributes
from .expressions import Sql


class DataFusion(Sql):
    def contains_any(self, field, values):
        return f"array_has_any({field}, [{self.values(values)}])"

    def contains_all(self, field, values):
        return f"array_has_all({field}, [{self.values(values)}])"


class LanceDB(System):
    """LanceDB's index for low latency, IVF_HNSW_SQ, with one partition ("works well for most tables") and the defaults m 20 and
    ef_construction 300. The best hits are rescored from float vectors (refine_factor). Scalar indexes: BTREE, BITMAP for few distinct
    values, LABEL_LIST for arrays.
    """

    name = "lancedb"
    kind = "database"
    needs = ("lancedb==0.40.0", "pyarrow>=17")
    imports = ("lancedb", "pyarrow")
    environment = "arrow"
    does = frozenset({"dense", "filtered", "delete", "reopen"})
    rows_per_call = 10_000  # every call writes a file; LanceDB advises large ones
    effort = "ef refine_factor"
    efforts = ((10, 1), (20, 2), (40, 2), (60, 3), (80, 4), (120, 4), (160, 8), (240, 8), (400, 16), (800, 16))
    exact_setting = {"bypass_vector_index": True}
    notes = "files are written but not synced; prefiltering; searched through the asynchronous interface, which is faster"
    M, EF_CONSTRUCTION = 20, 300

    def create(self, dataset, folder, threads):
        import pyarrow as pa

        self._begin(dataset, folder)
        types = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "keyword": pa.string()}
        fields = [pa.field("id", pa.int64()), pa.field("v", pa.list_(pa.float32(), dataset.dim))]
        for name, kind in self.attributes.kinds.items():
            fields.append(pa.field(name, pa.list_(types[kind]) if name in self.attributes.arrays else types[kind]))
        self.schema = pa.schema(fields)
        self.table = self.database.create_table("points", schema=self.schema)
        self.present, self.indexed = np.zeros(len(dataset), bool), False
        columns = self.attributes.columns(dataset)
        self.few = {name: len(set(columns[name])) <= 1000 for name in self.attributes.scalars}
        graph = {"num_partitions": 1, "m": self.M, "ef_construction": self.EF_CONSTRUCTION}
        return {"index": "IVF_HNSW_SQ", **graph, "distance": self.distance}

    def _begin(self, dataset, folder):
        import lancedb

        self.path, self.loop = Path(folder, "lance"), None
        self.database = lancedb.connect(str(self.path))
        self.distance = "l2" if dataset.metric == "l2" else "dot"  # vectors have unit length for cosine
        self.attributes = Attributes(dataset)
        self.condition = DataFusion(self.attributes.arrays, self.attributes.nullable)
        self.setting, self.stale = {"ef": 100, "refine_factor": 4}, True

    def insert(self, dataset, rows):
        import pyarrow as pa

        flat = pa.array(np.ascontiguousarray(dataset.vectors[rows], np.float32).ravel())
        arrays = [pa.array(rows), pa.FixedSizeListArray.from_arrays(flat, dataset.dim)]
        listed = rows.tolist()
        for name, values in self.attributes.columns(dataset).items():
            arrays.append(pa.array([values[row] for row in listed], type=self.table.schema.field(name).type))
        records = pa.Table.from_arrays(arrays, schema=self.table.schema)
        if self.present[rows].any():
            self.table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(records)
        else:
            self.table.add(records)
        self.present[rows], self.stale = True, True

    def delete(self, ids):
        self.table.delete(f"id in ({', '.join(map(str, ids.tolist()))})")
        self.stale = True

    def finish(self):
        self.table.optimize()
        self.stale = True
        if self.indexed:
            return
        from lancedb.index import HnswSq

        config = HnswSq(distance_type=self.distance, num_partitions=1, m=self.M, ef_construction=self.EF_CONSTRUCTION)
        self.table.create_index("v", config=config)
        self.table.create_scalar_index("id", index_type="BTREE")
        for name in self.attributes.kinds:
            kind = "LABEL_LIST" if name in self.attributes.arrays else "BITMAP" if self.few[name] else "BTREE"
            self.table.create_scalar_index(name, index_type=kind)
        self.indexed = True

    def reopen(self, dataset, folder, threads):
        self._begin(dataset, folder)
        self.table = self.database.open_table("points")
        self.present, self.indexed = np.ones(len(dataset), bool), True

    def _read(self) -> None:
        """Open the current version of the table for searches."""
        if self.loop is None:
            import lancedb

            self.loop = asyncio.new_event_loop()
            self.connection = self.loop.run_until_complete(lancedb.connect_async(str(self.path)))
        self.reader, self.stale = self.loop.run_until_complete(self.connection.open_table("points")), False

    def prepare(self, queries, filters):
        if self.stale:
            self._read()
        return super().prepare(queries, filters)

    def search(self, query, k, where):
        if self.stale:
            self._read()
        request = self.reader.query().nearest_to(query).distance_type(self.distance).limit(k).select(["id", "_distance"])
        if where is not None:
            request = request.where(where)
        if "ef" in self.setting:
            refined = self.setting["refine_factor"]
            request = request.nprobes(1).ef(max(self.setting["ef"], k * refined)).refine_factor(refined)  # LanceDB refuses a smaller ef
        else:
            request = request.bypass_vector_index()
        return self.loop.run_until_complete(request.to_arrow())

    def ids(self, hits):
        return hits["id"].to_numpy()

    def close(self):
        if self.loop is not None:
            self.loop.close()
        self.table = self.database = self.loop = None
