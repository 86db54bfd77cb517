"""What a system under test offers the harness: one small class each.

A module of this package imports nothing but numpy, the standard library and its siblings at the top: the system's own library is
imported in methods, so that the class can be asked what it needs where it isn't installed, and run by another interpreter where its pins
clash with ours.

The worker calls, in this order: ``create``, ``insert`` (batch by batch), ``finish`` — or ``reopen`` on a folder that was filled before —
then ``prepare``, ``set`` and, timed, ``search``. Rows of the data set are numbered from 0, and these numbers are the ids everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from ..data import Dataset
    from ..filters import Filter

BATCH = 1000


class Unsupported(Exception):
    """The system can't do this; the report says so, and the rest goes on."""


class System:
    """A vector index or database.

    name: as on the command line. kind: "ours", "library", "database" or "server" (how the report groups them).
    needs: pip requirements. imports: module names that must be importable (what ``available`` looks for; no import happens).
    does: of "dense", "sparse", "hybrid" (what it searches), "filtered" (with a filter), "delete" (and upsert over an id), "durable"
    (``insert`` returns when the batch survives a power cut), "reopen" (``reopen`` works), "serve" (``address`` and ``attach`` work).
    exact_filters: whether its exact mode takes filters.
    metrics: of dense data sets it takes. Which arm is meant follows from the data set: it holds only what the suite searches.
    """

    name: ClassVar[str] = ""
    kind: ClassVar[str] = "library"
    needs: ClassVar[tuple[str, ...]] = ()
    imports: ClassVar[tuple[str, ...]] = ()
    does: ClassVar[frozenset[str]] = frozenset({"dense"})
    exact_filters: ClassVar[bool] = True
    metrics: ClassVar[frozenset[str]] = frozenset({"cosine", "dot", "l2"})
    notes: ClassVar[str] = ""  # what a reader of the report must know to judge the figures, in a sentence

    def version(self) -> str:
        """Versions of the libraries and the server, such as "faiss-cpu 1.11"; those of the distributions in ``needs`` unless overridden."""
        from importlib.metadata import PackageNotFoundError, version

        found = []
        for need in self.needs:
            name = need.split(";")[0].split("[")[0].split("=")[0].split("<")[0].split(">")[0].split("~")[0].strip()
            try:
                found.append(f"{name} {version(name)}")
            except PackageNotFoundError:
                found.append(f"{name} ?")
        return ", ".join(found)

    # Filling

    def create(self, dataset: Dataset, folder: Path, threads: int) -> dict:
        """Make an empty index for data of this form in an empty folder; returns the build settings, which the report prints.

        What must know everything before the first row is added (dim, metric, row count, attribute kinds) is in ``dataset``, but rows come
        through ``insert``.
        """
        raise NotImplementedError

    def insert(self, dataset: Dataset, rows: np.ndarray) -> None:
        """Add (or, for ids that are there, replace) these rows of ``dataset``; durable on return where the system can be.

        The suite "churn" passes another data set of the same form for rows that changed.
        """
        raise NotImplementedError

    def finish(self) -> None:
        """Everything that must happen before searches are as fast as they get: train, build the graph, optimize, wait for indexing."""

    def batch(self) -> int:
        """Rows a call of ``insert`` when filling; the whole data set (``2**62``) where an index is made in one go."""
        return BATCH

    def delete(self, ids: np.ndarray) -> None:
        raise Unsupported(f"{self.name} can't delete")

    def reopen(self, dataset: Dataset, folder: Path, threads: int) -> None:
        """Open what another process left in the folder (after ``close``). Called instead of ``create``."""
        raise Unsupported(f"{self.name} has no files to open again")

    def save(self, folder: Path) -> None:
        """Write files for ``reopen`` and ``disk`` where ``insert`` and ``finish`` don't (libraries). Not part of the build's time."""

    # Searching

    def sweep(self, dataset: Dataset, suite: str) -> list[dict]:
        """Settings of a search to try, least effort first: its documentation's advice. Empty dict: it has no knob."""
        return [{}]

    def exact(self) -> dict | None:
        """The setting of its own exact mode (must read recall 1.000), None when it has none."""
        return None

    def set(self, setting: dict) -> None:
        """Take a setting out of ``sweep`` or ``exact``. Not timed."""

    def prepare(self, queries: Sequence, filters: Sequence[Filter | None]) -> tuple[Sequence, Sequence]:
        """Queries and filters in the system's own form, made before the clock starts; the same is done for every system.

        A query comes as a float32 array (dense), as (int32 indices, float32 values) (sparse) or as a pair of both (hybrid). One filter a
        query: None or a ``Filter`` with ``.expression`` (a dict in vectordb's JSON notation) and ``.mask`` (bool, a row each; lazily made).
        Raises Unsupported for a filter that the system can't express. Many queries share a Filter object: translate each once.
        """
        return queries, filters

    def search(self, query: Any, k: int, where: Any) -> Any:
        """The best k for one prepared query and filter: THIS CALL IS TIMED. What it returns goes to ``ids``, untimed."""
        raise NotImplementedError

    def ids(self, found: Any) -> np.ndarray:
        """Row numbers, best first, of what ``search`` returned: at most k, fewer where fewer were found, no padding. Not timed."""
        return np.asarray(found, dtype=np.int64)

    # A server, and clients in other processes

    def address(self) -> dict:
        """What ``attach`` needs, as JSON."""
        raise Unsupported(f"{self.name} is not a service")

    def attach(self, dataset: Dataset, address: dict) -> None:
        """Become a client of a running server, in another process or thread; then ``prepare``, ``set``, ``search`` as usual."""
        raise Unsupported(f"{self.name} is not a service")

    # Facts

    def pids(self) -> list[int]:
        """Processes, besides this one and its children, whose memory is the system's."""
        return []

    def disk(self, folder: Path) -> int:
        """Bytes on disk: blocks in use under the folder (files with holes count what they hold)."""
        total = 0
        for place, _, names in os.walk(folder):
            for name in names:
                try:
                    total += os.lstat(os.path.join(place, name)).st_blocks * 512
                except OSError:
                    pass
        return total

    def close(self) -> None:
        """Stop everything, servers too; the folder is kept."""
