"""Compile or load every search kernel now, so that the first caller doesn't wait for it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .kernels import ahead, jit, signatures, store


@dataclass(frozen=True)
class Warmed:
    """kernels: how many there are; compiled: how many of them were compiled now, the rest had been before; seconds: that it took; folder:
    where those compiled on this machine are kept, None when they are kept nowhere, or none was ever needed; shipped: a sentence on the
    kernels that came with the installation.
    """

    kernels: int
    compiled: int
    seconds: float
    folder: str | None
    shipped: str


def warm() -> Warmed:
    """Have every kernel that the package calls in this process: out of the installation, out of this machine's folder, else compiled.

    Compiling is done in several processes, with progress on stderr, and takes 10 to 30 seconds once on a machine; loading takes half a
    second.
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
