"""sqlite-vec: vectors in SQLite, searched by a full scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .base import System
from .common import Attributes
from .expressions import Sql, tree

TYPES = {"int": "integer", "float": "float", "bool": "boolean", "keyword": "text"}


class Sqlite(Sql):
    """SQLite's dialect: conditions on the table ``facts``. Array elements are rows of the table ``elements_NAME``."""

    def contains_any(self, field, values):
        return f"id in (select id from elements_{field} where value in ({self.values(values)}))"

    def contains_all(self, field, values):
        count = len(set(values))
        return f"id in (select id from elements_{field} where value in ({self.values(values)}) group by id having count(*) = {count})"


class SqliteVec(System):
    """sqlite-vec with two plans for filters, both exact. "vec0" scans the vectors and checks metadata columns or row numbers on the way.
    "join" first finds the matching rows through SQLite's indexes and computes only their distances.
    """

    name = "sqlite-vec"
    kind = "database"
    needs = ("sqlite-vec==0.1.9", "apsw>=3.46")
    imports = ("sqlite_vec", "apsw")
    does = frozenset({"dense", "filtered", "delete", "durable", "reopen"})
    exact_setting = {"plan": "vec0"}
    metrics = frozenset({"cosine", "l2"})
    notes = "exact scan; cosine is ranked by the L2 distance of unit vectors, which is faster; through apsw, synchronous = full"

    def create(self, dataset, folder, threads):
        self._open(dataset, folder)
        metadata = "".join(f", {name} {TYPES[kind]}" for name, kind in self.metadata.items())
        self.run(f"create virtual table vectors using vec0(embedding float[{dataset.dim}] distance_metric=l2{metadata})")
        scalar, kinds = self.attributes.scalars, self.attributes.kinds
        self.run(f"create table facts(id integer primary key{''.join(f', {name} {TYPES[kinds[name]]}' for name in scalar)})")
        for name in scalar:
            self.run(f"create index facts_{name} on facts({name})")
        for name in self.attributes.arrays:
            self.run(f"create table elements_{name}(value {TYPES[kinds[name]]}, id integer, primary key(value, id)) without rowid")
            self.run(f"create index elements_{name}_id on elements_{name}(id)")
        return {"distance_metric": "l2", "journal_mode": "wal", "synchronous": "full", "mmap_size": "4 GB"}

    def _open(self, dataset, folder):
        import apsw
        import sqlite_vec

        self.connection = apsw.Connection(str(Path(folder, "vectors.sqlite")))
        self.connection.enable_load_extension(True)
        self.connection.load_extension(sqlite_vec.loadable_path())
        self.run = self.connection.execute
        for pragma in ("journal_mode = wal", "synchronous = full", "mmap_size = 4000000000", "cache_size = -65536"):
            self.run(f"pragma {pragma}").fetchall()
        self.attributes = Attributes(dataset)
        arrays, nullable = self.attributes.arrays, self.attributes.nullable
        # Metadata columns support no nulls and no arrays. Filters on such attributes use row numbers instead.
        self.metadata = {name: kind for name, kind in self.attributes.kinds.items() if name not in arrays | nullable}
        self.sql, self.plan = Sqlite(arrays, nullable), "vec0"

    def insert(self, dataset, rows):
        columns, scalar, rows = self.attributes.columns(dataset), self.attributes.scalars, rows.tolist()
        with self.connection:
            self._delete(rows)
            vectors = np.ascontiguousarray(dataset.vectors[rows], np.float32)
            names = ["rowid", "embedding", *self.metadata]
            records = ((row, vectors[i].tobytes(), *(columns[n][row] for n in self.metadata)) for i, row in enumerate(rows))
            self._many(f"insert into vectors({', '.join(names)}) values ({', '.join('?' * len(names))})", records)
            records = ((row, *(columns[n][row] for n in scalar)) for row in rows)
            self._many(f"insert into facts values ({', '.join('?' * (1 + len(scalar)))})", records)
            for name in self.attributes.arrays:
                records = ((value, row) for row in rows for value in set(columns[name][row] or ()))
                self._many(f"insert into elements_{name} values (?, ?)", records)

    def _many(self, statement, rows):
        self.connection.executemany(statement, rows)

    def _delete(self, rows):
        for table, key in [("vectors", "rowid"), ("facts", "id"), *((f"elements_{name}", "id") for name in self.attributes.arrays)]:
            self._many(f"delete from {table} where {key} = ?", ((row,) for row in rows))

    def delete(self, ids):
        with self.connection:
            self._delete(ids.tolist())

    def finish(self):
        self.run("analyze").fetchall()
        self.run("pragma wal_checkpoint(truncate)").fetchall()

    def reopen(self, dataset, folder, threads):
        self._open(dataset, folder)

    def sweep(self, dataset, suite):
        return [{"plan": "vec0"}, {"plan": "join"}] if suite == "filtered" else [{"plan": "vec0"}]

    def set(self, setting):
        self.plan = setting["plan"]

    def query(self, query):
        return query.tobytes()

    def filter(self, where) -> dict[str, str]:
        """The statements of both plans."""
        node = tree(where.expression)
        condition = self.sql(node)
        inside = condition if self._is_metadata(node) else f"rowid in (select id from facts where {condition})"
        distance = "vec_distance_l2((select embedding from vectors where rowid = facts.id), ?1)"
        return {
            "vec0": f"select rowid from vectors where embedding match ?1 and k = ?2 and {inside}",
            "join": f"select id from facts where {condition} order by {distance} limit ?2",
        }

    def _is_metadata(self, node) -> bool:
        """Whether vec0 can check the filter during its scan: comparisons of metadata columns joined by AND."""
        if node[0] == "and":
            return all(map(self._is_metadata, node[1]))
        kinds = ("int", "keyword") if node[0] == "in" else ("int", "float") if node[0] == "range" else ()
        return self.metadata.get(node[1]) in kinds if kinds else False

    def search(self, query, k, where):
        statement = "select rowid from vectors where embedding match ?1 and k = ?2" if where is None else where[self.plan]
        return self.run(statement, (query, k)).fetchall()

    def version(self):
        import apsw

        return f"{super().version()}, SQLite {apsw.sqlite_lib_version()}"

    def close(self):
        self.connection.close()
