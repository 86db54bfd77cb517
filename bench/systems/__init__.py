"""The systems by name. A module is imported when its system is asked for; see ``base.System`` for what a class must offer."""

from __future__ import annotations

import importlib.util
import sys
from importlib import import_module
from pathlib import Path

from .base import System, Unsupported

__all__ = ["SYSTEMS", "System", "Unsupported", "available", "load", "python_of"]

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
    "kannolo-sparse": "kannolo:KannoloSparse",
    "bm25s": "bm25s:BM25S",
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


def load(name: str) -> type[System]:
    """The class of a system. KeyError: no such name; ImportError: its adapter is not in this copy.

    ``path/of/mine.py:MySystem`` is an adapter of your own, written like those here (``from .base import System``).
    """
    if is_file(name):
        path, _, wanted = name.rpartition(":")
        spec = importlib.util.spec_from_file_location(f"{__name__}.own_{Path(path).stem}", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return getattr(module, wanted)
    module, _, wanted = SYSTEMS[name].partition(":")
    return getattr(import_module(f".{module}", __name__), wanted)


def is_file(name: str) -> bool:
    return name not in SYSTEMS and name.rpartition(":")[0].endswith(".py")


def python_of(name: str, envs: Path | None = None) -> str:
    """The interpreter a system runs in: its own virtual environment where ``vectordb bench install`` made one, else ours."""
    from ..data import cache_folder

    own = (envs or cache_folder() / "venvs") / name / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def available(name: str) -> str | None:
    """None when the system can be tried here, else why not. Nothing is imported but the adapter."""
    if name not in SYSTEMS and not is_file(name):
        return f"no system is called {name!r}"
    try:
        kind = load(name)
    except (ImportError, AttributeError, OSError) as error:
        return f"its adapter can't be loaded: {error}"
    if python_of(name) != sys.executable:
        return None
    missing = [module for module in kind.imports if importlib.util.find_spec(module.split(".")[0]) is None]
    if missing:
        return f"{', '.join(missing)} not installed: pip install {' '.join(map(repr, kind.needs))}, or vectordb bench install {name}"
    return None
