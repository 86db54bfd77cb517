"""Virtual environments for peers: which share one, and how they are made.

Each lives in the cache folder under ``venvs/_GROUP``; a link ``venvs/SYSTEM`` to it says that the system was installed there and could be
imported, and is what ``python_of`` looks for. Requirements are pinned in the adapters (``System.needs``).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from . import SYSTEMS, load

BASE = ("numpy==2.4.6", "scipy==1.17.1")  # what the worker itself needs
GROUPS = {
    "small": (  # libraries and extensions without dependencies worth a word
        "hnswlib",
        "faiss-hnsw",
        "faiss-ivf",
        "faiss-ivfpq",
        "usearch",
        "usearch-bf16",
        "svs",
        "svs-lvq",
        "seismic",
        "kannolo",
        "kannolo-sparse",
        "bm25s",
        "scipy-sparse",
        "qdrant-edge",
        "qdrant-edge-int8",
        "zvec",
        "zvec-int8",
        "sqlite-vec",
        "pgvector",
    ),
    "arrow": ("lancedb", "milvus-lite"),
    "chromadb": ("chromadb",),  # brings onnxruntime, kubernetes, OpenTelemetry: 400 MB
    "redis": ("redis",),  # OpenSSL 1.1 comes with a wheel that pins an old protobuf
    "milvus": ("milvus",),  # pymilvus pins its own grpcio and protobuf
}
SECONDS = 1800


def group_of(name: str) -> str:
    """The environment a system shares. KeyError: there is no such system, or it runs in our own interpreter."""
    for group, names in GROUPS.items():
        if name in names:
            return group
    raise KeyError(f"{name!r} runs in vectordb's own interpreter" if name in SYSTEMS else f"no system is called {name!r}")


def root() -> Path:
    from ..data import cache_folder

    return cache_folder() / "venvs"


def install(names: Iterable[str], where: Path | None = None, say: Callable[[str], None] = print) -> dict[str, str | None]:
    """Make the systems' environments; None for each that can run now, else why not. What is there already is kept and checked.

    One that can't be installed (hnswlib without a compiler) doesn't keep the others of its group from working.
    """
    where = where or root()
    where.mkdir(parents=True, exist_ok=True)
    result = {}
    for name in names:
        say(f"{name}: installing into {where}/_{group_of(name)}")
        result[name] = _install(name, where)
        say(f"{name}: {result[name] or 'ready'}")
    return result


def _install(name: str, where: Path) -> str | None:
    folder, link, needs = where / f"_{group_of(name)}", where / name, load(name).needs
    python = folder / "bin" / "python"
    if link.is_symlink():
        link.unlink()
    if not python.exists():
        reason = _run([sys.executable, "-m", "venv", str(folder)], folder.with_suffix(".log"))
        if reason is not None:
            return f"no virtual environment: {reason}"
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *BASE, *needs]
    reason = _run(pip, folder.with_suffix(".log"))
    if reason is None:
        modules = ", ".join(module for module in load(name).imports)
        reason = _run([str(python), "-c", f"import {modules}"], folder.with_suffix(".log"))
    if reason is None:
        os.symlink(folder.name, link)
    return reason


def _run(command: list[str], log: Path) -> str | None:
    """None, or the last words of what failed; all of it is in the log."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        made = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(command)}\n{made.stdout}{made.stderr}\n")
    if not made.returncode:
        return None
    lines = [line.strip() for line in (made.stdout + made.stderr).splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["it failed"])[-1][:300]
