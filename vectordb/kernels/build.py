"""Make archives of compiled kernels, to be shipped in a wheel. Nothing that is compiled is run, so any x86-64 machine makes any tier's."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import ahead, internals, signatures, store, tiers
from .progress import Progress


@dataclass(frozen=True)
class Built:
    """path: of the archive; kernels: how many it holds; size: in bytes; seconds: that it took; cpu_seconds: of compiling, by kernel."""

    path: Path
    kernels: int
    size: int
    seconds: float
    cpu_seconds: dict[str, float]


class BuildError(Exception):
    """An archive can't be made; the text says why."""


def build(tier: str, into: Path, chosen: Sequence[signatures.Signature] | None = None) -> Built:
    """Compile the recorded signatures (or ``chosen``) for a tier, in several processes, into an archive in the folder ``into``.

    Raises BuildError.
    """
    if tier not in tiers.TIERS:
        raise BuildError(f"no tier {tier!r}; take one of {', '.join(tiers.TIERS)}")
    if not internals.supported():
        raise BuildError(f"this numba lacks what archives need: {internals.missing() or 'NUMBA_DISABLE_JIT is set'}")
    started, chosen = time.perf_counter(), list(signatures.recorded().values()) if chosen is None else list(chosen)
    with tempfile.TemporaryDirectory(prefix="vectordb-kernels-") as folder:
        try:
            outcome = ahead.run(ahead.Job(chosen, Path(folder), tier), Progress())
        except OSError as error:
            raise BuildError(f"{sys.executable} can't be started: {error}") from error
        if outcome.problems:
            raise BuildError("; ".join(outcome.problems))
        kept = store.Folder(Path(folder))
        pieces = {each.name(): kept.get(each.name()) for each in chosen}
    lacking = [name for name, piece in pieces.items() if piece is None]
    if lacking:
        raise BuildError(f"not compiled: {', '.join(lacking)}")
    into.mkdir(parents=True, exist_ok=True)
    path = into / store.archive_name(tier)
    store.write_archive(path, tiers.key_of_tier(tier), pieces)
    return Built(path, len(pieces), path.stat().st_size, time.perf_counter() - started, outcome.seconds)


def tiers_named(text: str) -> list[str]:
    """The tiers of a list with commas: ``host`` is the best of this machine, ``all`` is each, ``none`` is none. Raises BuildError."""
    names: list[str] = []
    for name in filter(None, (each.strip() for each in text.split(","))):
        if name == "all":
            names += tiers.TIERS
        elif name == "host":
            names += tiers.tiers_of_host()[:1]
        elif name in tiers.TIERS:
            names.append(name)
        elif name != "none":
            raise BuildError(f"no tier {name!r}; take host, all, none, or some of {', '.join(tiers.TIERS)}")
    return list(dict.fromkeys(names))
