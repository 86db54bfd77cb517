"""Work on rows in pieces, on several threads, so that a build uses its cores and can be cancelled."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


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
