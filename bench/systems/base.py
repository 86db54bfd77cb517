"""The interface between the harness and a system under test: an adapter is a subclass of ``System``.

At module level an adapter imports only numpy, the standard library and modules of this package. It imports the system's library in methods.
So the class can be read where the library is not installed, and it can run in another interpreter if its requirements conflict with ours.

The worker calls ``create``, ``insert`` (batch by batch) and ``finish``, or ``reopen`` on a folder that was filled before. Then it calls
``set``, ``prepare`` and ``search``; only ``search`` is timed. The id of a point is its row in the data set, counted from 0.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from ..data import Dataset
    from ..filters import Filter

BATCH = 1000
WHOLE = 2**62  # rows per call: all
EFFORTS = (10, 14, 20, 28, 40, 60, 80, 120, 160, 240, 400, 800)


def spread(values: Sequence, suite: str) -> list:
    """All values; for the filtered suite, which has about a hundred cells, every second value and the last."""
    return [value for i, value in enumerate(values) if i % 2 == 0 or i == len(values) - 1] if suite == "filtered" else list(values)


class Unsupported(Exception):
    """The system doesn't support this. The report shows the message, and the run continues."""


class System:
    """An adapter for a vector index or database.

    name: the name on the command line. kind: "ours", "library", "database" or "server". needs: pip requirements. imports: modules that
    must be importable; ``available`` looks for them without importing them. environment: systems of the same name share a virtual
    environment ("small": few dependencies); "" for those that run in vectordb's own.

    does: what the system supports. "dense", "sparse", "hybrid", "multi": searches of these vectors. "filtered": filters. "query":
    ``facets``, ``ordered`` and ``diverse``. "delete": deletes, and upserts of existing ids. "durable": a batch survives a power cut once
    ``insert`` has returned. "reopen": ``reopen``. "serve": ``address`` and ``attach``. "batch": ``search_batch``. "ours": ``collection``
    is vectordb's, for probes of its parts.

    rows_per_call: see ``batch``. effort, efforts: a search setting and the values to measure, least effort first; or several settings,
    separated by spaces, and tuples of their values. exact_setting: see ``exact``. exact_sparse: sparse searches are exact and have no
    settings (then ``create`` sets ``arm``). exact_filters: whether the exact mode supports filters. metrics: supported metrics of dense
    data sets. The data set holds only the vectors that the suite searches, so ``dataset.arm`` says which. texts: ``query`` gets the text
    of a query instead of its vectors.
    """

    name: ClassVar[str] = ""
    kind: ClassVar[str] = "library"
    needs: ClassVar[tuple[str, ...]] = ()
    imports: ClassVar[tuple[str, ...]] = ()
    environment: ClassVar[str] = "small"
    does: ClassVar[frozenset[str]] = frozenset({"dense"})
    rows_per_call: ClassVar[int] = BATCH
    effort: ClassVar[str] = ""
    efforts: ClassVar[Sequence] = EFFORTS
    exact_setting: ClassVar[dict | None] = None
    exact_sparse: ClassVar[bool] = False
    exact_filters: ClassVar[bool] = True
    metrics: ClassVar[frozenset[str]] = frozenset({"cosine", "dot", "l2"})
    texts: ClassVar[bool] = False
    notes: ClassVar[str] = ""  # one line for the report: what its readers must know to judge the figures
    # Set before ``create`` and ``reopen``. synced: a durable system syncs each batch. quiet: nothing may run in the background.
    synced: bool = True
    quiet: bool = False
    setting: Mapping[str, Any] = MappingProxyType({})  # the applied setting
    is_exact: bool = False  # whether it asks for the exact mode, as {"exact": True}
    condition: Callable[[tuple], Any] | None = None  # writes a tree of ``expressions`` in the system's language
    converting: float = 0.0  # seconds that ``insert`` has spent on converting arrays into the system's own form

    def version(self) -> str:
        """Versions of the libraries and of the server, such as "faiss-cpu 1.11". Default: those of the distributions in ``needs``."""
        from importlib.metadata import PackageNotFoundError, version

        versions = []
        for need in self.needs:
            name = need.split(";")[0].split("[")[0].split("=")[0].split("<")[0].split(">")[0].split("~")[0].strip()
            try:
                versions.append(f"{name} {version(name)}")
            except PackageNotFoundError:
                versions.append(f"{name} ?")
        return ", ".join(versions)

    @classmethod
    def unfit(cls) -> str | None:
        """Why the system can't run on this machine, though it is installed. None if it can."""
        return None

    def warm(self) -> None:
        """Compile what is compiled at run time, so that neither the build nor a search pays for it. Timed on its own."""

    # Filling

    def create(self, dataset: Dataset, folder: Path, threads: int) -> dict:
        """Make an empty index in an empty folder. Returns the build settings, which the report shows.

        ``dataset`` is for properties that must be known in advance: dimension, metric, number of rows, kinds of attributes. The rows come
        through ``insert``.
        """
        raise NotImplementedError

    def insert(self, dataset: Dataset, rows: np.ndarray) -> None:
        """Add these rows of ``dataset``, or replace those whose ids exist. Durable on return if the system supports that.

        For changed rows the suite "churn" passes another data set of the same form.
        """
        raise NotImplementedError

    def finish(self) -> None:
        """Do everything that makes searches fast: train, build the graph, optimize, wait for indexing. Part of the build time."""

    def batch(self) -> int:
        """Rows per call of ``insert``. WHOLE passes all rows of the data set in one call and in order, for indexes that can't grow."""
        return self.rows_per_call

    def delete(self, ids: np.ndarray) -> None:
        """Delete these points, at most BATCH at a time."""
        raise Unsupported(f"{self.name} can't delete")

    def reopen(self, dataset: Dataset, folder: Path, threads: int) -> None:
        """Open the files that another process left in the folder after ``close``. Called instead of ``create``."""
        raise Unsupported(f"{self.name} keeps no files that can be reopened")

    def save(self, folder: Path) -> None:
        """Write the files for ``reopen`` and ``disk``, if ``insert`` and ``finish`` don't (libraries). Not part of the build time."""

    def file(self, folder: Path) -> str:
        """A path for ``save``, for indexes of one file."""
        return str(Path(folder, "index"))

    # Searching

    def sweep(self, dataset: Dataset, suite: str) -> list[dict]:
        """Search settings to measure, least effort first, as the system's documentation advises. [{}] if it has no settings. Default:
        ``efforts``; for the filtered suite, which has about a hundred cells, every second of them and the last."""
        if not self.effort or (self.exact_sparse and dataset.arm == "sparse"):
            return [{}]
        values = [value if isinstance(value, tuple) else (value,) for value in spread(self.efforts, suite)]
        return [dict(zip(self.effort.split(), value, strict=True)) for value in values]

    def exact(self) -> dict | None:
        """The setting of the system's exact mode, whose recall must be 1.000. None if it has none."""
        return {} if self.exact_sparse and self.arm == "sparse" else self.exact_setting

    def set(self, setting: dict) -> None:
        """Apply a setting from ``sweep`` or ``exact``. Not timed."""
        self.setting, self.is_exact = dict(setting), bool(setting.get("exact"))

    def prepare(self, queries: Sequence, filters: Sequence[Filter | None]) -> tuple[Sequence, Sequence]:
        """Convert queries and filters to the system's format. Not timed, for any system.

        There is one filter per query. Many queries share a Filter object, so each object is converted once. Default: by ``query`` and
        ``filter``. Raises Unsupported if the system can't express a filter.
        """
        converted: dict[int, Any] = {id(where): where for where in filters}
        converted = {key: None if where is None else self.filter(where) for key, where in converted.items()}
        return [self.query(query) for query in queries], [converted[id(where)] for where in filters]

    def query(self, query: Any) -> Any:
        """Convert a query: a contiguous float32 array (dense), (int32 indices, float32 values) (sparse), a pair of both (hybrid), or its
        text (``texts``)."""
        return query

    def filter(self, where: Filter) -> Any:
        """Convert a filter. It has ``expression`` (a dict in vectordb's JSON notation) and ``mask`` ((n,) bool, computed on first use).
        Default: the ``condition`` of its tree, if the system has a language of filters."""
        from .expressions import tree

        return where if self.condition is None else self.condition(tree(where.expression))

    def search(self, query: Any, k: int, where: Any) -> Any:
        """The best k for one prepared query and filter. THIS CALL IS TIMED. Its result is passed to ``ids``, untimed."""
        raise NotImplementedError

    def search_batch(self, queries: Sequence, k: int) -> Any:
        """The best k for each of these prepared queries, in one call."""
        raise Unsupported(f"{self.name} searches one query at a time")

    def ids(self, hits: Any) -> np.ndarray:
        """The rows in a result of ``search``, best first: at most k, without padding. Not timed. Default: for arrays, padded with -1."""
        rows = np.asarray(hits, dtype=np.int64).reshape(-1)
        return rows[rows != -1]

    # Queries of other forms ("query"); ``where`` is a prepared filter

    def facets(self, name: str, count: int, where: Any) -> Any:
        """The most frequent values of an attribute among the points that match. Timed; ``counts`` reads the result."""
        raise Unsupported(f"{self.name} counts no values")

    def counts(self, facets: Any) -> dict[Any, int]:
        """Value → number of points, of a result of ``facets``. Not timed."""
        raise Unsupported(f"{self.name} counts no values")

    def ordered(self, name: str, k: int, where: Any, after: Any = None) -> tuple[Any, Any]:
        """(the first k points in ascending order of an attribute, what continues behind them as ``after``). Timed."""
        raise Unsupported(f"{self.name} can't order points by an attribute")

    def diverse(self, query: Any, k: int, weight: float, over: int) -> Any:
        """k of the best ``over`` points, chosen by maximal marginal relevance. Timed. query: as the data set has it, a float32 array.
        weight: of the diversity, 0 to 1."""
        raise Unsupported(f"{self.name} has no diversity")

    # A server, and clients in other processes

    def address(self) -> dict:
        """How a client reaches the server: a dict for JSON, which ``attach`` receives."""
        raise Unsupported(f"{self.name} is not a service")

    def attach(self, dataset: Dataset, address: dict) -> None:
        """Connect to a running server, from another process or thread. Then ``prepare``, ``set`` and ``search`` work as usual."""
        raise Unsupported(f"{self.name} is not a service")

    # Facts

    def pids(self) -> list[int]:
        """Ids of the system's processes other than this one and its children. Their memory counts as the system's."""
        return []

    def disk(self, folder: Path) -> int:
        """Bytes on disk: allocated blocks under the folder, so holes of sparse files don't count."""
        total = 0
        for place, _, names in os.walk(folder):
            for name in names:
                try:
                    total += os.lstat(os.path.join(place, name)).st_blocks * 512
                except OSError:
                    pass
        return total

    def close(self) -> None:
        """Stop everything, including servers. The folder is kept."""
