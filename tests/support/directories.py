"""Directories of databases for tests of paths and files: a small indexed database, and everything about its files."""

from __future__ import annotations

import os

import numpy as np

import vectordb
from vectordb import Dense, Int, Schema

SCHEMA = Schema({"v": Dense(4)}, {"n": Int()})


def put(collection, first: int, count: int = 1) -> list[int]:
    ids = list(range(first, first + count))
    collection.upsert(ids=ids, vectors={"v": np.ones((count, 4))}, attributes={"n": ids})
    return ids


def filled(path, count: int = 300) -> None:
    with vectordb.open(path, maintenance=False) as database:
        c = database.create_collection("c", SCHEMA)
        put(c, 0, count)
        c.optimize()


def looks(folder) -> dict:
    """Everything about the files of a folder that reading leaves alone."""
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        about = os.stat(path)
        content = path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = (about.st_ino, about.st_mode, about.st_size, about.st_mtime_ns, about.st_ctime_ns, content)
    return found
