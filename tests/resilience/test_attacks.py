"""Files removed, moved or replaced while processes have them open: acknowledged writes are always in an existing directory."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections import Counter

import numpy as np
import pytest

import vectordb
from tests.support.nightly import cases, record
from tests.support.worker import Worker
from vectordb import Dense, Schema, VectorDBError
from vectordb.engine.check import check

BEFORE = 50
ROUNDS = cases(1, 25)


def write(collection, ids) -> list[int]:
    """Those that were acknowledged, one by one."""
    done = []
    for i in ids:
        try:
            collection.upsert(ids=[i], vectors={"v": [[1.0, float(i)]]})
        except VectorDBError:
            continue
        done.append(i)
    return done


def elsewhere(path, ids) -> list[int]:
    """The same by another process that opens the directory for it; [] when it can't."""
    try:
        with vectordb.open(path, create=False, maintenance=False) as database:
            return write(database.collection("c"), ids)
    except VectorDBError:
        return []


def remove(*names):
    def attack(path, spare) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path / name)

    return attack


def moved(path, spare) -> None:
    os.rename(path, spare / "moved")


def removed(path, spare) -> None:
    shutil.rmtree(path)


def replaced(path, spare) -> None:
    shutil.rmtree(path)
    shutil.copytree(spare / "copy", path)


def data_replaced(path, spare) -> None:
    shutil.copy(spare / "copy" / "data.mdb", path / "new")
    os.replace(path / "new", path / "data.mdb")


def restored(path, spare) -> None:
    shutil.rmtree(path)
    vectordb.restore(spare / "snapshot", path)


ATTACKS = {
    "lock.mdb removed": remove("lock.mdb"),
    "all lock files removed": remove("lock.mdb", "write.lock", "open.lock", "swap.lock"),
    "other lock files removed": remove("write.lock", "open.lock", "swap.lock"),
    "data.mdb removed": remove("data.mdb"),
    "data.mdb replaced": data_replaced,
    "directory moved": moved,
    "directory removed": removed,
    "directory replaced": replaced,
    "directory restored": restored,
}


@pytest.fixture(scope="module")
def other():
    with Worker() as worker:
        yield worker


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_was_acknowledged_is_there_whatever_happened_to_the_files(tmp_path, other, attack):
    counts: Counter[str] = Counter()
    for seed in range(ROUNDS):
        rng, root = random.Random(f"{attack} {seed}"), tmp_path / str(seed)
        path, spare = root / "data", root / "spare"
        spare.mkdir(parents=True)
        with vectordb.open(path, maintenance=False) as database:
            collection = database.create_collection("c", Schema({"v": Dense(2)}))
            collection.upsert(ids=list(range(BEFORE)), vectors={"v": np.ones((BEFORE, 2))})
            database.snapshot(spare / "snapshot")
        shutil.copytree(path, spare / "copy")
        with vectordb.open(path, maintenance=False) as database:
            collection = database.collection("c")
            done = write(collection, range(100, 100 + rng.randrange(4)))
            early = set(done)
            ATTACKS[attack](path, spare)
            done += other.call(elsewhere, path, range(200, 200 + rng.randrange(8)))
            done += write(collection, range(300, 300 + rng.randrange(8)))
            done += other.call(elsewhere, path, range(400, 400 + rng.randrange(8)))
            done += write(collection, range(500, 500 + rng.randrange(8)))
        late = set(done) - early
        found = set()
        for place in (path, spare / "moved"):
            if (place / "data.mdb").exists():
                assert check(place).problems == ()
                with vectordb.open(place, maintenance=False) as database:
                    found |= {point.id for point in database.collection("c").iterate()}
        assert late <= found, (attack, seed)
        if attack in ("lock.mdb removed", "all lock files removed", "other lock files removed", "directory moved"):
            assert early | set(range(BEFORE)) <= found, (attack, seed)  # nobody took these away
        counts["writes acknowledged after it"] += len(late)
    record(f"files {attack}".replace(".", " "), rounds=ROUNDS, **counts)
