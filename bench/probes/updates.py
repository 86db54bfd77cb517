"""Probe of data that never stops changing: a day of which each hour replaces a share of the points, with the merges of the background.

Time is made to pass at once: after an hour's writes, every build and compaction that is due is run. Processor time is that of the builds.
"""

from __future__ import annotations

import gc
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from .release import Figures

K, TARGET = 10, 0.95
KEPT = 0.8  # share of the data set that the collection holds; the rest is what points become
ROWS = 50_000  # points of the data set that are used, at most
BATCH = 2_000


def churn(worker, hours: int = 24, share: float = 0.01) -> Figures:
    """Recall of the held-out queries, bytes on disk and processor time of merges, beside a collection that is built of the same points at
    the end; for both indexes of dense fields.
    """
    from vectordb import HNSW, IVF

    for name, index in (("graph", HNSW()), ("lists", IVF())):
        for what, value, unit in _day(worker, index, hours, share):
            yield f"{name}: {what}", value, unit


def _day(worker, index: Any, hours: int, share: float) -> Figures:
    import vectordb
    from vectordb import Dense, Schema

    dataset = worker.dataset
    rng = np.random.default_rng(0)
    vectors = np.ascontiguousarray(dataset.vectors[rng.permutation(len(dataset))[:ROWS]], np.float32)
    count = int(KEPT * len(vectors))
    own, spare = np.arange(count), np.arange(count, len(vectors)).tolist()
    schema = Schema({"v": Dense(dataset.dim, metric=dataset.metric, index=index)})
    queries = np.ascontiguousarray(dataset.queries[worker.queries], np.float32)

    def write(collection, ids: np.ndarray) -> None:
        for low in range(0, len(ids), BATCH):
            some = ids[low : low + BATCH]
            collection.upsert(ids=some, vectors={"v": vectors[own[some]]})

    def recall(collection) -> float:
        right = collection.search_batch({"v": queries}, limit=K, exact=True)
        found = collection.search_batch({"v": queries}, limit=K, recall=TARGET)
        return float(np.mean([np.isin(one.ids, other.ids).sum() / len(one.ids) for one, other in zip(right, found, strict=True)]))

    with tempfile.TemporaryDirectory(dir=worker.folder) as folder:
        with vectordb.open(f"{folder}/churn", durability="batched", maintenance=False) as database:
            collection = database.create_collection("docs", schema)
            write(collection, np.arange(count))
            collection.optimize()
            begun, before = _bytes(Path(folder)), recall(collection)
            worst, largest, spent, built = before, begun, 0.0, 0
            for _ in range(hours):
                ids = rng.choice(count, max(int(share * count), 1), replace=False)
                fresh, spare = spare[: len(ids)], spare[len(ids) :] + own[ids].tolist()
                own[ids] = fresh
                write(collection, ids)
                taken, builds = _upkeep(database, collection)
                spent, built = spent + taken, built + builds
                largest = max(largest, _bytes(Path(folder)))
                worst = min(worst, recall(collection))
            after = recall(collection)
            taken_in, times = _healed(collection)
        gc.collect()
        with vectordb.open(f"{folder}/anew", durability="batched", maintenance=False) as database:
            collection = database.create_collection("docs", schema)
            write(collection, np.arange(count))
            started = time.process_time()
            collection.optimize()
            whole, rebuilt = time.process_time() - started, recall(collection)
    yield "recall before", before, ""
    yield f"recall after {hours} hours", after, ""
    yield "recall, lowest of all hours", worst, ""
    yield "recall of a new build", rebuilt, ""
    yield "recall lost beside a new build", max(rebuilt - after, 0.0), ""
    yield "builds in the background", built, ""
    yield "merges that healed a file", times, ""
    yield "rows that they replaced", taken_in / count, "of all"
    yield "processor time of builds", spent, "s"
    yield "processor time of a new build", whole, "s"
    if taken_in:
        yield "processor time for 10 % replaced ÷ a new build", spent / whole / (10 * taken_in / count), "×"
    yield "most bytes on disk ÷ those at the beginning", largest / begun, "×"


def _upkeep(database, collection) -> tuple[float, int]:
    """Run what is due in the background; returns (seconds of processor time of builds, their number)."""
    from vectordb.maintenance import policy

    runner, number = database.directory.maintainer._runner, collection._number
    spent, builds = 0.0, 0
    while True:
        with runner.pin(number) as view:
            [(name, field, spec)] = policy.indexed(view)
            best = policy.next_build(name, field, spec, policy.survey(view, field), True)
            dead = policy.worth_compacting(view, None, True)
        if best is None:
            if dead is not None:
                runner.compact(number, policy.CHUNK_DEAD_SHARE)
            runner.release_snapshots()
            return spent, builds
        started = time.process_time()
        runner.build(number, best[1])
        spent, builds = spent + time.process_time() - started, builds + 1


def _healed(collection) -> tuple[int, int]:
    """(rows added by merges that healed a file, how many there were)."""
    with collection._snapshots.pin() as view:
        told = [part.segment.healed for part in view.snapshot.segments(view.fields["v"])]
    return sum(each.get("added", 0) for each in told), sum(each.get("times", 0) for each in told)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
