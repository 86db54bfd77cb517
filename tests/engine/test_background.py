"""Background work leaves processor cores and the interpreter lock to searches."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest
import xxhash

import vectordb
from tests.support.upkeep import hurry, until
from vectordb import Dense, Schema
from vectordb.common import background, checksums
from vectordb.engine import audits
from vectordb.fields import dense
from vectordb.index import exact as flat
from vectordb.index.dense import build


@pytest.mark.parametrize("size", [0, 1, checksums.AT_ONCE - 1, checksums.AT_ONCE, checksums.AT_ONCE + 1, 5 * checksums.AT_ONCE + 7])
def test_a_checksum_is_the_librarys_and_lets_others_in(size, monkeypatch):
    data, rests = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8), []
    monkeypatch.setattr(time, "sleep", rests.append)
    assert checksums.xxh3(data) == checksums.xxh3(data.tobytes()) == xxhash.xxh3_64_intdigest(data.tobytes())
    assert len(rests) == (0 if size <= checksums.AT_ONCE else 2 * -(-size // checksums.AT_ONCE))


def test_a_thread_takes_the_cores_it_is_given():
    assert background.cores() == background.CORES == os.cpu_count()
    seen = []
    with background.using(1):
        thread = threading.Thread(target=lambda: seen.append(background.cores()))
        thread.start()
        thread.join()
        with background.using(background.CORES):  # never more than was given before
            assert background.cores() == 1
    assert seen == [background.CORES] and background.cores() == background.CORES


def test_an_audit_takes_one_core(database, monkeypatch):
    """A search that is done again exactly, though its vectors are enough for all cores."""
    hurry(monkeypatch)
    monkeypatch.setattr(background, "CORES", 2)
    monkeypatch.setattr(flat, "_PARALLEL_BYTES", 1)
    monkeypatch.setattr(audits.budget, "_next", 0.0)
    collection = database.create_collection("c", Schema({"v": Dense(8)}))
    vectors = np.random.default_rng(0).standard_normal((3_000, 8)).astype(np.float32)
    for low in (0, 1_500):
        collection.upsert(ids=list(range(low, low + 1_500)), vectors={"v": vectors[low : low + 1_500]})
    collection.optimize()
    seen = []
    search = flat.search_dense
    monkeypatch.setattr(
        dense, "search_dense", lambda *args: seen.append((threading.current_thread().name, background.cores())) or search(*args)
    )
    database.directory.audits.share = 1.0
    until(lambda: collection.search({"v": vectors[0]}) and any(name == "vectordb-audit" for name, _ in seen))
    assert {cores for name, cores in seen if name == "vectordb-audit"} == {1}


def test_a_build_in_the_background_leaves_a_core_and_an_optimize_does_not(directory, monkeypatch):
    hurry(monkeypatch)
    monkeypatch.setattr(background, "CORES", 4)
    monkeypatch.setattr(background, "ALL_BUT_ONE", 3)
    seen = []
    centroids = build._centroids
    monkeypatch.setattr(
        build, "_centroids", lambda frame, rows, seed, threads: seen.append(threads) or centroids(frame, rows, seed, threads)
    )
    vectors = np.random.default_rng(0).standard_normal((3_000, 8)).astype(np.float32)
    with vectordb.open(directory, durability="batched", maintenance=False) as database:
        collection = database.create_collection("c", Schema({"v": Dense(8)}))
        collection.upsert(ids=list(range(3_000)), vectors={"v": vectors})
        collection.optimize()
    assert seen == [4]
    with vectordb.open(directory, durability="batched") as database:
        collection = database.collection("c")
        collection.upsert(ids=list(range(3_000, 6_000)), vectors={"v": vectors})
        until(lambda: collection.info().statistics["v"]["tail"] == 0)
    assert set(seen[1:]) == {3}
