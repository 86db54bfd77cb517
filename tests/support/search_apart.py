"""Searches in another process: over damaged files, which may crash it, and with kernels chosen by the environment.

search_apart.py damaged FOLDER SECTION…   overwrites each section with garbage, searches, and prints the section's name
search_apart.py sparse FOLDER SECTION…    the same for the index of a sparse field
search_apart.py hits METRIC FILE          prints the hits of every setting as JSON, for ``indexed.small(METRIC)`` with that index file
search_apart.py dots                      prints some inner products of codes as JSON
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np

from tests.support import sparse_indexed
from tests.support.indexed import Indexed, held_out, low_rank, places, random_bytes, small, small_rows
from tests.support.nightly import cases
from vectordb.index.base import IndexKind, SegmentMask, SegmentRequest, SegmentTarget, open_file
from vectordb.index.impact import calibrate as sparse_calibrate
from vectordb.index.impact.kind import ImpactFile
from vectordb.index.scratch import aligned
from vectordb.kernels import dots, jit, planner

RNG_SEEDS = range(cases(1, 3))


def damaged(folder: Path, section: str) -> None:
    """Search with every setting while a section holds random bytes, only zeros or only ones. Raises AssertionError."""
    indexed = low_rank("l2") if section == "principal" else small("l2")
    start, end = places(indexed.file)[section]
    fills = [random_bytes(indexed.file, start, end, seed) for seed in RNG_SEEDS]
    fills += [indexed.file[:start] + bytes([byte]) * (end - start) + indexed.file[end:] for byte in (0, 255, 127)]
    for number, file in enumerate(fills):
        path = folder / f"{section}-{number}"
        path.write_bytes(file)
        search_all(indexed, open_file(path))


def search_all(indexed: Indexed, opened: IndexKind) -> None:
    queries, numbers_of_hits = held_out(3, indexed.vectors.shape[1]), itertools.cycle((5, 100))  # a plan's settings take turns
    for wanted in (None, indexed.every(3), indexed.docids[:40]):
        parts = [SegmentTarget(opened, opened.all_allowed if wanted is None else SegmentMask(opened, wanted))]
        matches = indexed.docids if wanted is None else wanted
        for forced, plan in [(-1, -1), (-1, -1), *enumerate(opened.models[0].settings[:, planner.PLAN])]:
            if wanted is None and plan == planner.ACORN:
                continue
            k = next(numbers_of_hits)
            for docids, _ in indexed.search(queries, k, forced=forced, parts=parts):
                assert np.isin(docids, matches).all() and len(np.unique(docids)) == len(docids), (forced, k)
                assert forced >= 0 or len(docids) == min(k, len(matches))


def damaged_sparse(folder: Path, section: str) -> None:
    indexed = sparse_indexed.small()
    path = sparse_indexed.earlier(indexed.path, folder / "earlier") if section == "lists" else indexed.path
    file = path.read_bytes()
    start, end = places(file)[section]
    fills = [random_bytes(file, start, end, seed) for seed in RNG_SEEDS]
    fills += [file[:start] + bytes([byte]) * (end - start) + file[end:] for byte in (0, 255, 127)]
    queries = [sparse_indexed.query_of(sparse_indexed.texts(4, 8, 300, 15), row, 0.5) for row in range(3)]
    for number, damage in enumerate(fills):
        path = folder / f"{section}-{number}"
        path.write_bytes(damage)
        opened = open_file(path)
        for wanted in (None, indexed.docids[::3].copy()):
            part = SegmentTarget(opened, SegmentMask(opened, wanted))
            matches = indexed.inside if wanted is None else wanted
            for forced, k in zip([-1, *range(-1, len(sparse_calibrate.SETTINGS))], itertools.cycle((5, 100))):
                request = SegmentRequest([part], [], indexed.chunks, queries, indexed.spec, k, 0.95, forced=forced)
                for docids, _ in ImpactFile.search(request)[0]:
                    assert np.isin(docids, matches).all() and len(np.unique(docids)) == len(docids), (forced, k)


def hits(metric: str, file: Path) -> dict:
    """Docids and scores of every setting."""
    rows, docids = small_rows(24)
    indexed = Indexed(rows, metric, docids=docids, file=file.read_bytes())
    queries, wanted = held_out(3, 24), indexed.every(3)
    found = {}
    for forced in range(len(indexed.segment.models[0].settings)):
        answers = indexed.search(queries, 10, wanted, forced=forced)
        found[str(forced)] = [[docids.tolist(), scores.tolist()] for docids, scores in answers]
    return {"fast": bool(jit.FAST_DOT), "hits": found}


def products() -> dict:
    """Inner products of codes, of one row at a time and of several."""
    rng = np.random.default_rng(0)
    codes, query = aligned((20, 192), np.uint8), aligned((192,), np.int8)
    codes[:], query[:] = rng.integers(0, 256, codes.shape, np.uint8), rng.integers(-127, 128, 192)
    one = [int(dots.code_dot(row.ctypes.data, query.ctypes.data, 3)) for row in codes]
    several = np.zeros(20, np.int32)
    dots.dot_rows(codes.ctypes.data, 192, query.ctypes.data, np.arange(20), 20, several)
    return {"fast": bool(jit.FAST_DOT), "one": one, "several": several.tolist()}


if __name__ == "__main__":
    if sys.argv[1] in ("damaged", "sparse"):
        for name in sys.argv[3:]:
            (damaged if sys.argv[1] == "damaged" else damaged_sparse)(Path(sys.argv[2]), name)
            print(name, flush=True)
    elif sys.argv[1] == "dots":
        print(json.dumps(products()))
    else:
        print(json.dumps(hits(sys.argv[2], Path(sys.argv[3]))))
