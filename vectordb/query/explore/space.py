"""The points that an operation on a field reads: those of one pinned state that have a vector and match a filter."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import SchemaError
from vectordb_client.model.explorations import Exploration
from vectordb_client.model.search_request import SearchRequest
from vectordb_client.model.values import Id

from ...common import deadline, memory
from ...engine.snapshot import View
from ...filters.cache import FilterCache
from ...index.exact import Found
from ..arms import search_arm, sign
from ..past import earlier
from ..request import RequestCache
from ..row_filter import RowFilter

T = TypeVar("T")
Steps = Generator[tuple[int, int], None, T]  # yields (work done, all work)
# Chosen, not measured.
BLOCK_BYTES = 8 << 20  # of vectors that are read, or scored, at a time
MATRIX_NUMBERS = 1 << 25  # numbers of a sample that is held as a matrix: 128 MiB
_HASHED = 1 << 16  # ids that are hashed at a time
_WIDENED = 4_096  # rows that are float64 at a time
_MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # the constants of splitmix64


class Pin:
    """The pinned view of an operation. It can be released while nothing is read, and pinned again: an open transaction keeps LMDB from
    reusing pages, and the file from growing.
    """

    def __init__(self, pin: Callable[[], View]):
        self._pin = pin
        self._view: View | None = None

    @property
    def view(self) -> View:
        assert self._view is not None
        return self._view

    def __enter__(self) -> Pin:
        self.again()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        view, self._view = self._view, None
        if view is not None:
            view.__exit__(kind, error, trace)

    def release(self) -> None:
        """End the transaction."""
        self.__exit__(None, None, None)

    def again(self) -> None:
        """Pin the present state."""
        self.release()
        self._view = self._pin().__enter__()


class Space:
    """The points of an operation: those that are live when it begins. docids: int64, ascending. sign: 1, or −1 where users see negated
    scores.
    """

    def __init__(self, pin: Pin, exploration: Exploration, filters: FilterCache):
        self._pin, self._exploration = pin, exploration
        view = self.view = pin.view
        self.field, self.spec, self.options = exploration.field, exploration.spec(view.schema), exploration.options
        self._number, self._state = view.fields[self.field], (view.sequence, view.rows)
        self._bind(filters)
        present = view.snapshot.live_between(view.store, self._number, 0, view.rows)
        memory.hold(len(present) * 12, "the rows of the field")
        self.docids = self._rows.those_of(present).astype(np.int64)

    def _bind(self, filters: FilterCache) -> None:
        self._filters = filters
        self._rows = RowFilter(self.view, filters.bind(self._exploration.filter, self.view.schema), filters)

    # ---- The transaction ----

    def release(self) -> None:
        """End the transaction, for work that reads nothing. The ids of all points are kept."""
        _ = self.all_ids
        self._pin.release()

    def end(self) -> None:
        """End the transaction: nothing more will be read."""
        self._pin.release()

    def resume(self) -> None:
        """Go on reading after ``release``. Points that were written since don't count. Those that were deleted or replaced since may be
        missing among what is read and found. Raises SchemaError if the field was dropped or replaced.
        """
        self._pin.again()
        now = self._pin.view
        sequence, rows = self._state
        if now.fields.get(self.field) != self._number:
            what = f"vector field {self.field!r} was dropped, renamed or replaced meanwhile"
            raise SchemaError(what, field=self.field, value=self.field)
        if now.sequence != sequence:
            dead = now.dead | BitMap(range(rows, now.rows))
            snapshot = earlier(now.snapshot, sequence, dead, {}, now.snapshot.registry)
            then = View(now.directory, now.txn, snapshot, now.store.collection, now.again)
            then.within = now.within and now.within.elsewhere()
            self.view = then
            self._bind(FilterCache())
        else:
            self.view = now
            self._bind(self._filters)
        self.__dict__.pop("_search", None)

    def give_way(self) -> None:
        """Let go of the transaction for a moment if somebody waits for all of them to end. To be called between batches."""
        deadline.check()
        if self.view.directory.env.awaited:
            self.release()
            self.resume()

    @property
    def dim(self) -> int:
        return self.spec.dim  # type: ignore[attr-defined]

    @property
    def metric(self) -> str:
        return self.spec.metric  # type: ignore[attr-defined]

    @cached_property
    def _search(self) -> Any:
        """A search of the field without queries."""
        given = {name: self.options[name] for name in ("recall", "exact") if name in self.options}
        return RequestCache(self._filters).search(self.view, SearchRequest.of(given), {self.field: []}, None, True)

    @property
    def sign(self) -> float:
        return sign(self._search.arms[0])

    def search(self, queries: np.ndarray, k: int) -> list[Found]:
        """The k best of the points for each query, float32 ``(n, dim)``. Scores are internal: higher is better."""
        if not len(queries):
            return []
        arm = self._search.arms[0].with_queries(queries)
        return search_arm(self.view, self._search.with_arms((arm,)), arm, k, self._rows, self._filters)[0]

    def ids(self, docids: np.ndarray) -> list[Id]:
        """The ids of rows, in any order, also repeated."""
        rows, places = np.unique(docids, return_inverse=True)
        found = self.view.ids(rows)
        if isinstance(found, np.ndarray):
            return found[places].tolist()
        return [found[place] for place in places.tolist()]

    @cached_property
    def all_ids(self) -> list[Id]:
        """The ids of ``docids``."""
        return self.ids(self.docids)

    def ids_at(self, positions: np.ndarray) -> list[Id]:
        """The ids of points by their positions in ``docids``."""
        if "all_ids" in self.__dict__:
            return [self.all_ids[place] for place in positions.tolist()]
        return self.ids(self.docids[positions])

    def present(self, docids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(which of some rows have their vectors still, as indexes; these vectors). After ``resume`` some may be gone."""
        column = self.view.vectors(self.field, docids)
        if column is None:
            return np.empty(0, np.int64), np.empty((0, self.dim), np.float32)
        return column.positions().astype(np.int64), np.ascontiguousarray(column.values, np.float32)  # type: ignore[attr-defined]

    def vectors(self, docids: np.ndarray) -> np.ndarray:
        """The vectors of rows (int64, ascending), float32 ``(n, dim)``."""
        return self.present(docids)[1]

    def points(self, docids: np.ndarray) -> np.ndarray:
        """The vectors of rows as places that can be averaged: of length 1 for a cosine, else as they are."""
        return self.placed(self.vectors(docids))

    def placed(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors as such places, float32."""
        if self.metric != "cosine":
            return vectors
        lengths = lengths_of(vectors)
        places = np.empty(vectors.shape, np.float32)
        for low in range(0, len(vectors), _WIDENED):
            some = slice(low, low + _WIDENED)
            places[some] = vectors[some] / np.where(lengths[some] == 0.0, 1.0, lengths[some])[:, None]
        return places

    @property
    def block(self) -> int:
        """The number of rows to read at a time."""
        return max(1, BLOCK_BYTES // (4 * self.dim))

    def blocks(self, docids: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """(position of the first row, rows), in blocks. Checks the deadline before each."""
        for low in range(0, len(docids), self.block):
            deadline.check()
            yield low, docids[low : low + self.block]

    def sample(self) -> np.ndarray:
        """The docids of the sample of ``sample`` points, ascending: those whose ids have the lowest hashes. So it depends on the ids and
        the seed alone. It is smaller where vectors are so long that the matrix would exceed the memory for it.
        """
        most = max(10, min(self.options["sample"], MATRIX_NUMBERS // self.dim))
        if len(self.docids) <= most:
            return self.docids
        best, hashes = np.empty(0, np.int64), np.empty(0, np.uint64)
        for low in range(0, len(self.docids), _HASHED):
            deadline.check()
            some = self.docids[low : low + _HASHED]
            best, hashes = np.concatenate([best, some]), np.concatenate([hashes, hashed(self.view.ids(some), self.options["seed"])])
            if len(best) > most:
                kept = np.lexsort((best, hashes))[:most]
                best, hashes = best[kept], hashes[kept]
        return np.sort(best)

    def matrix(self, docids: np.ndarray) -> np.ndarray:
        """The vectors of a sample, in the order of its docids."""
        memory.hold(2 * 4 * len(docids) * self.dim, "the sample")  # once more where it is put in another order
        matrix = np.empty((len(docids), self.dim), np.float32)
        for low, some in self.blocks(docids):
            matrix[low : low + len(some)] = self.vectors(some)
        return matrix


def lengths_of(vectors: np.ndarray) -> np.ndarray:
    """The lengths of rows, float64, without overflow."""
    lengths = np.empty(len(vectors))
    for low in range(0, len(vectors), _WIDENED):
        wide = vectors[low : low + _WIDENED].astype(np.float64)
        lengths[low : low + _WIDENED] = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    return lengths


def hashed(ids: Any, seed: int) -> np.ndarray:
    """A hash of each id, uint64."""
    if not isinstance(ids, np.ndarray):
        ids = np.array([_number(id) for id in ids], np.uint64)
    with np.errstate(over="ignore"):
        mixed = ids ^ np.uint64(seed * _MIX[0] % 2**64)
        mixed = mixed + np.uint64(_MIX[0])
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(_MIX[1])
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(_MIX[2])
        return mixed ^ (mixed >> np.uint64(31))


def _number(id: Id) -> int:
    if isinstance(id, int):
        return id
    data = id.encode() if isinstance(id, str) else id.bytes
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def by_content(matrix: np.ndarray) -> np.ndarray:
    """The order of rows (float32) by their bytes. Sums in this order don't depend on the order in which rows were written."""
    matrix += matrix.dtype.type(0)  # −0 becomes 0
    return np.argsort(matrix.view(np.dtype((np.void, matrix.shape[1] * 4))).ravel(), kind="stable")


def rank_of(ids: list[Id]) -> list[tuple[int, Any]]:
    """What orders ids of any kind."""
    return [(0, id) if isinstance(id, int) else (1, id) if isinstance(id, str) else (2, id.bytes) for id in ids]
