"""Helpers for maintenance tests: small thresholds, waiting, and a list of the place of each row."""

from __future__ import annotations

import time

import numpy as np
import pytest

from vectordb.index.dense import kind
from vectordb.maintenance import backoff, policy, runner, scheduler
from vectordb.storage import segments


def hurry(monkeypatch, **constants) -> None:
    """Set thresholds so low that little data causes maintenance at once. ``constants`` override some of them."""
    small = {
        "SEAL_ROWS": 64,
        "SEAL_ALWAYS_ROWS": 100_000,
        "QUIET_SECONDS": 0.03,
        "OPTIMIZE_ROWS": 16,
        "COMPACT_ROWS": 8,
        "SPARE_SECONDS": 0.0,
    }
    small |= {"WAKE_ROWS": 1, "LOOK_SECONDS": 0.02, "STOP_SECONDS": 0.02, "LOCKED_SECONDS": 0.05, "RETRY_SECONDS": 0.05}
    for name, value in (small | constants).items():
        modules = [module for module in (policy, scheduler, runner, backoff, kind) if hasattr(module, name)]
        assert modules, name
        for module in modules:
            monkeypatch.setattr(module, name, value)


def until(condition, seconds: float = 300.0):
    """Wait until ``condition()`` is true, and return its value. Fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"the condition was still false after {seconds:g} s")
        time.sleep(0.01)
    return found


def accounts(collection, name: str = "v") -> tuple[list[tuple[int, int, int]], int]:
    """([(first, end, live rows)] of the segments, number of live rows in the tail). Checks that every live row is in exactly one place and
    that segments contain what was written.
    """
    with collection._snapshots.pin() as view:
        field, snapshot = view.fields[name], view.snapshot
        spec = view.schema.vectors[name]
        opened, tail = snapshot.cover(field)
        ranges = sorted([*((part.first, part.end) for part in opened), *tail])
        assert [low for low, _ in ranges] == [0, *(high for _, high in ranges[:-1])][: len(ranges)]
        assert not ranges or ranges[-1][1] == snapshot.rows
        found, sizes = [], []
        for part in opened:
            docids = np.sort(np.concatenate([part.segment.docids, part.segment.apart]))
            assert len(docids) == part.record.rows == part.segment.covered
            assert part.first <= docids[0] and docids[-1] < part.end
            live = [int(d) for d in docids if int(d) not in snapshot.dead]
            assert len(docids) - len(live) == snapshot.dead_in(part)
            assert part.segment.fits(spec)
            sizes.append((part.first, part.end, len(live)))
            found.extend(live)
        in_tail = [snapshot.live_between(view.store, field, low, high) for low, high in tail]
        for docids in in_tail:
            found.extend(docids.tolist())
        everything = snapshot.live_between(view.store, field, 0, snapshot.rows)
        assert sorted(found) == everything.tolist()
        return sizes, sum(map(len, in_tail))


def index_files(directory) -> set[str]:
    """Names of the index files in the directory, including unfinished ones."""
    folder = segments.folder(directory)
    return {path.name for path in folder.iterdir() if path.name != ".lock"} if folder.is_dir() else set()


def idle(collection) -> bool:
    return collection.info().maintenance["state"] != "running" and not collection._directory.maintainer._changed


def vectors(rng, n: int, dim: int = 4) -> np.ndarray:
    return rng.standard_normal((n, dim)).astype(np.float32)
