"""kill −9 in the middle of writes: what was acknowledged is there, and nothing is there by half.

Step k of the writer is drawn from the number k, so the state after any step can be computed. Half of the processes are killed by a
failpoint inside a batch (after the n-th chunk was encoded), half at a random moment.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest

import vectordb
from vectordb import Dense, Int, Keyword, Schema, Sparse, Text
from vectordb.storage import chunks
from vectordb.storage.check import check

KILLS = int(os.environ.get("VECTORDB_CRASH_KILLS", "20"))
IDS = 300
SCHEMA = Schema({"v": Dense(8), "s": Sparse()}, {"step": Int(), "tag": Keyword(), "body": Text()})
WORDS = ["red", "green", "blue", "fox", "dog"]


def step(k: int, points: dict) -> tuple[str, dict]:
    """What step k does to the points there are: the method and its arguments. ``points`` (id → step, tag) is brought up to date."""
    rng = random.Random(k)
    kind = rng.choice(["upsert", "upsert", "update", "delete", "delete by filter"])
    if kind in ("update", "delete") and not points:
        kind = "upsert"
    if kind == "delete by filter":
        tag = f"t{rng.randrange(40)}"
        gone = [i for i, point in points.items() if point[1] == tag]
        for i in gone:
            del points[i]
        return "delete", {"filter": f"tag = '{tag}'"} if gone else {"ids": []}
    if kind == "delete":
        ids = rng.sample(sorted(points), min(len(points), rng.randint(1, 10)))
        for i in ids:
            del points[i]
        return "delete", {"ids": ids}
    ids = rng.sample(sorted(points), min(len(points), 20)) if kind == "update" else rng.sample(range(IDS), rng.choice([1, 5, 60]))
    if kind == "update":
        for i in ids:
            points[i] = (k, points[i][1])
        return "update", {"ids": ids, "vectors": {"v": dense(ids, k)}, "attributes": {"step": [k] * len(ids)}}
    tags = [f"t{rng.randrange(40)}" for _ in ids]
    points.update(zip(ids, ((k, tag) for tag in tags), strict=True))
    attributes = {"step": [k] * len(ids), "tag": tags, "body": [f"{WORDS[i % 5]} {WORDS[k % 5]} w{i}" for i in ids]}
    return "upsert", {"ids": ids, "vectors": {"v": dense(ids, k), "s": [{i: 1.0, IDS: 2.0} for i in ids]}, "attributes": attributes}


def dense(ids, k):
    """Vectors that tell by which step they were written."""
    return np.array([[i + 1, k, *[1] * 6] for i in ids], np.float32)


def write_on(path: str, done: int, points: dict, connection, failpoint: int | None, durability: str) -> None:
    """Go on after step ``done``, telling of every step that returned. Runs in a process that is killed."""
    if failpoint is not None:
        encode, left = chunks.encode, failpoint

        def encode_or_die(chunk):
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return encode(chunk)

        chunks.encode = encode_or_die
    collection = vectordb.open(path, durability=durability).collection("c")
    connection.send(done)
    while True:
        done += 1
        method, arguments = step(done, points)
        getattr(collection, method)(**arguments)
        connection.send(done)


def effective(until: int) -> tuple[dict, int]:
    """(points, sequence) after a step: steps that change nothing take no place in the sequence."""
    points, sequence = {}, 0
    for k in range(1, until + 1):
        _, arguments = step(k, points)
        sequence += arguments.get("ids") != []
    return points, sequence


def state_of(collection) -> dict:
    found = {}
    for point in collection.iterate(with_vectors=True):
        assert point.vectors["v"].tolist() == dense([point.id], point.attributes["step"])[0].tolist()
        found[point.id] = (point.attributes["step"], point.attributes["tag"])
    return found


@pytest.mark.parametrize("durability", ["commit", "batched"])
def test_an_acknowledged_batch_survives_a_kill_and_no_batch_is_there_by_half(directory, durability):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_crash"])
    with vectordb.open(directory) as database:
        database.create_collection("c", SCHEMA)
    rng = random.Random(durability)
    done, unacknowledged = 0, 0
    for kill in range(KILLS // 2):
        points, _ = effective(done)
        ours, theirs = context.Pipe(duplex=False)
        failpoint = rng.randrange(60) if kill % 2 else None
        process = context.Process(target=write_on, args=(str(directory), done, points, theirs, failpoint, durability), daemon=True)
        process.start()
        theirs.close()
        assert ours.poll(60)
        if failpoint is None:
            time.sleep(rng.uniform(0.0, 0.08))
            process.kill()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        acknowledged = done
        try:
            while True:
                acknowledged = ours.recv()
        except EOFError:
            pass
        assert acknowledged >= done
        with vectordb.open(directory, create=False) as database:
            collection = database.collection("c")
            sequence = collection.info().sequence
            found = state_of(collection)
            # The step that was running may be there, whole; nothing after it can be.
            after = [(done, *effective(done)) for done in (acknowledged, acknowledged + 1)]
            assert (found, sequence) in [(points, number) for _, points, number in after]
            done = max(k for k, points, number in after if (points, number) == (found, sequence))
            unacknowledged += done > acknowledged
            assert collection.count("body MATCH 'fox'") <= collection.count()
            for tag in {tag for _, tag in found.values()}:
                assert collection.count(f"tag = '{tag}'") == sum(point[1] == tag for point in found.values())
        assert check(directory).problems == ()
    assert done > KILLS  # they did get to write
