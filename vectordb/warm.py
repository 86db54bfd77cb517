"""Compile or load every search kernel now, so that the first caller doesn't wait for it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .kernels import ahead, jit, signatures, store


@dataclass(frozen=True)
class Warmed:
    """What ``warm`` did.

    kernels: number of kernels. compiled: number of those that were compiled now. seconds: duration. folder: where the kernels compiled on
    this machine are kept; None if nothing is kept there. shipped: a sentence about the kernels that came with the installation.
    """

    kernels: int
    compiled: int
    seconds: float
    folder: str | None
    shipped: str


def warm() -> Warmed:
    """Load every kernel that the package calls: from the installation, else from this machine's folder, else compile it.

    Several processes compile, with progress on stderr. That took 18 seconds on two cores; loading takes less than a second.
    """
    started, before = time.perf_counter(), jit.watch.compiled
    every = list(signatures.recorded().values())
    ahead.compile_missing(every)
    for one in every:
        one.dispatcher().compile(one.arguments())
    archive, shipped = store.shipped()
    inside = archive is not None and all(one.name() in archive for one in every)
    folder = None if inside else store.local()
    kept = None if folder is None or ahead.missing(every) else str(folder.path)
    compiled = min(jit.watch.compiled - before, len(every))
    return Warmed(len(every), compiled, time.perf_counter() - started, kept, shipped)
