"""Rows read and worked on in pieces, so that a build uses its cores and can be cancelled."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..base import Progress, RowSource


def copied(rows: RowSource, dim: int, step: Progress) -> np.ndarray:
    """The vectors of a dense field, float32 ``(n, dim)``. The transaction of their source has ended then."""
    vectors = np.empty((len(rows.docids), dim), np.float32)
    for low, column in rows.blocks():
        vectors[low : low + len(column.values)] = column.values
        step("copy", (low + len(column.values)) / len(vectors))
    rows.release()
    return vectors


def in_pieces(n: int, most: int, threads: int, call: Callable[[int, int], object], done: Callable[[int], object], least: int = 1) -> None:
    """``call(low, high)`` for consecutive ranges that make up n rows, of at most ``most`` rows, on ``threads`` threads; of fewer, if that
    gives each thread some, but not fewer than ``least``.

    done: called in this thread as they end, with the number of rows up to there. What it raises ends the work, like an error of ``call``,
    once the calls that run have ended.
    """
    pieces = max(-(-n // most), min(2 * threads, n // least), 1)
    ranges = [(n * i // pieces, n * (i + 1) // pieces) for i in range(pieces)]
    if threads == 1 or pieces == 1:
        for low, high in ranges:
            call(low, high)
            done(high)
        return
    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(call, *each) for each in ranges]
        try:
            for one, (_, high) in zip(running, ranges, strict=True):
                one.result()
                done(high)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
