"""The systems by name. Each module is imported on first use. ``base.System`` is the interface of an adapter."""

from __future__ import annotations

import importlib.util
import sys
from importlib import import_module
from pathlib import Path

from .base import System, Unsupported

__all__ = ["BETTER", "SYSTEMS", "System", "Unsupported", "available", "load", "missing", "python_of", "usual"]

SYSTEMS = {
    "vectordb": "vectordb:Embedded",
    "vectordb-service": "vectordb:Service",
    "exact": "exact:Exact",
    "hnswlib": "hnswlib:Hnswlib",
    "faiss-hnsw": "faiss:FaissHNSW",
    "faiss-ivf": "faiss:FaissIVF",
    "faiss-ivfpq": "faiss:FaissIVFPQ",
    "usearch": "usearch:USearch",
    "usearch-bf16": "usearch:USearchBF16",
    "svs": "svs:SVS",
    "svs-lvq": "svs:SVSLVQ",
    "seismic": "seismic:Seismic",
    "kannolo": "kannolo:Kannolo",
    "rabitqlib": "rabitqlib:RaBitQLib",
    "rabitqlib-ivf": "rabitqlib:RaBitQIVF",
    "pyvsag": "vsag:VSAG",
    "ngt": "ngt:NGT",
    "turbovec": "turbovec:TurboVec",
    "hannoy": "hannoy:Hannoy",
    "kannolo-sparse": "kannolo:KannoloSparse",
    "bm25s": "bm25s:BM25S",
    "tantivy": "tantivy:Tantivy",
    "scipy-sparse": "scipy_sparse:ScipySparse",
    "qdrant-edge": "qdrant_edge:QdrantEdge",
    "qdrant-edge-int8": "qdrant_edge:QdrantEdgeInt8",
    "zvec": "zvec:Zvec",
    "zvec-int8": "zvec:ZvecInt8",
    "lancedb": "lancedb:LanceDB",
    "chromadb": "chromadb:Chroma",
    "milvus-lite": "milvus:MilvusLite",
    "milvus": "milvus:MilvusServer",
    "sqlite-vec": "sqlite_vec:SqliteVec",
    "pgvector": "pgvector:PgVector",
    "redis": "redis:Redis",
}

# A peer takes part by default at its best documented setting only: a system on the left is left out where that on the right can run.
BETTER = {
    "qdrant-edge": "qdrant-edge-int8",
    "zvec": "zvec-int8",
    "svs": "svs-lvq",
    "usearch": "usearch-bf16",
    "faiss-hnsw": "faiss-ivfpq",
    "faiss-ivf": "faiss-ivfpq",
    "rabitqlib-ivf": "rabitqlib",
}


def load(name: str) -> type[System]:
    """The adapter class of a system. Raises KeyError for an unknown name and ImportError when the adapter can't be imported.

    ``vectordb@FOLDER`` is vectordb as it stands in that folder, see ``checkout_of``. ``path/of/mine.py:MySystem`` loads an adapter of your
    own, written like those here (``from .base import System``).
    """
    if is_file(name):
        path, _, class_name = name.rpartition(":")
        spec = importlib.util.spec_from_file_location(f"{__name__}.own_{Path(path).stem}", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return getattr(module, class_name)
    module, _, class_name = SYSTEMS[name if checkout_of(name) is None else name.partition("@")[0]].partition(":")
    return getattr(import_module(f".{module}", __name__), class_name)


def is_file(name: str) -> bool:
    return name not in SYSTEMS and name.rpartition(":")[0].endswith(".py")


def checkout_of(name: str) -> Path | None:
    """The folder of ``vectordb@FOLDER``, a checkout of another version that a worker imports instead of this one. None for other names."""
    base, separator, folder = name.partition("@")
    return Path(folder).resolve() if separator and base in ("vectordb", "vectordb-service") else None


def python_of(name: str, envs: Path | None = None) -> str:
    """The Python interpreter for a system: that of the environment ``vectordb bench install`` made, else the current one."""
    from ..data import cache_folder

    own = (envs or cache_folder() / "venvs") / name / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def usual(needs: frozenset[str]) -> list[str]:
    """The systems that take part in a suite by default: every installed one that supports what it needs, each at its best setting, and
    without brute force. A system that can't run on this machine is listed too, so that the report says why it is missing."""
    there = [name for name in SYSTEMS if name != "exact" and missing(name) is None and needs <= load(name).does]
    return [name for name in there if BETTER.get(name) not in there or load(BETTER[name]).unfit() is not None]


def available(name: str) -> str | None:
    """None if the system can run here, else the reason why it can't. Imports only the adapter, not the system's library."""
    reason = missing(name)
    return load(name).unfit() if reason is None else reason


def missing(name: str) -> str | None:
    """None if the system is installed, else what is missing."""
    checkout = checkout_of(name)
    if checkout is not None and not (checkout / "vectordb" / "__init__.py").exists():
        return f"{checkout} is no checkout of vectordb"
    if name not in SYSTEMS and not is_file(name) and checkout is None:
        return f"unknown system {name!r}"
    try:
        kind = load(name)
    except (ImportError, AttributeError, OSError) as error:
        return f"its adapter can't be loaded: {error}"
    if python_of(name) != sys.executable:
        return None
    missing = [module for module in kind.imports if importlib.util.find_spec(module.split(".")[0]) is None]
    if missing:
        return f"{', '.join(missing)} not installed: run vectordb bench install {name}, or pip install {' '.join(map(repr, kind.needs))}"
    return None
