"""Statistics of a directory and of this process, read on request: bytes on disk by kind, pages, readers, memory, compiled kernels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vectordb_client.errors import NotFoundError
from vectordb_client.model.collection_info import CollectionInfo

from .database import Database
from .kernels import jit, store
from .storage import segments
from .storage.lmdb_errors import of_files

_STATUS = Path("/proc/self/status")
_MEMORY = {"VmRSS": "resident", "RssAnon": "own"}


def memory() -> dict[str, int]:
    """Memory of this process, bytes: resident, and the part of it that is private. The rest is mapped files, which processes share and the
    system can reclaim. Empty if the system does not tell.
    """
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return {}
    parts = (line.partition(":") for line in lines)
    return {_MEMORY[name]: 1024 * int(value.split()[0]) for name, _, value in parts if name in _MEMORY}


def budget(database: Database) -> dict[str, int]:
    """The memory budget of this process, bytes: budget, and of index files index_kept, index_mapped
    and index_resident. Empty if there is none."""
    facts = database.directory.memory.facts()
    names = {"budget": "budget", "kept": "index_kept", "mapped": "index_mapped", "resident": "index_resident"}
    return {names[name]: size for name, size in facts.items() if name in names}


def disk(database: Database) -> dict[str, int]:
    """Bytes on disk: data (rows, ids, postings), indexes, unfinished (index files being written), other; and free space of the file
    system.
    """
    root = Path(database.path)
    with of_files(root):
        return _disk(root)


def _disk(root: Path) -> dict[str, int]:
    sizes = {"data": 0, "indexes": 0, "unfinished": 0, "other": 0}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            kind = "other"
            if path == root / "data.mdb":
                kind = "data"
            elif path.parent == segments.folder(root) and segments.is_ours(name):
                kind = "unfinished" if name.startswith(segments.TEMPORARY) else "indexes"
            try:
                sizes[kind] += path.stat().st_blocks * 512
            except FileNotFoundError:  # removed meanwhile
                pass
    system = os.statvfs(root)
    return sizes | {"free": system.f_bavail * system.f_frsize}


def pages(database: Database) -> dict[str, int]:
    """Of data.mdb: readers (reader slots in use), used and free pages, page_bytes and map_bytes."""
    return database.directory.env.facts()


def kernels() -> dict[str, int]:
    """compiled: number of kernels that this process had to compile. cache_bytes: size of this version's compiled kernels on disk."""
    folder = store.local()
    return {"compiled": jit.watch.compiled, "cache_bytes": 0 if folder is None else folder.size()}


def collections(database: Database) -> list[CollectionInfo]:
    """``info()`` of every collection."""
    infos = []
    for name in database.collections():
        try:
            infos.append(database.collection(name).info())
        except NotFoundError:  # dropped meanwhile
            pass
    return infos


def builds(database: Database) -> dict[str, Any]:
    """Index builds of this process by kind, {kind: {"builds", "rows", "seconds"}}, and the number of failures."""
    maintainer = database.directory.maintainer
    return {"built": {kind: dict(done) for kind, done in list(maintainer.built.items())}, "failures": maintainer.failures}
