"""The contract of a vector field type in the engine, and the rows of a field as builds of indexes read them.

A field type is one file here and one line in ``FIELD_TYPES``, beside one file and one line in ``vectordb_client/model/fields``. Nothing
else asks of which type a field is. A type knows how vectors lie in chunks, and reads them there: it never writes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from vectordb_client.model.fields import Column

from ..index.exact import Found
from ..storage import chunks, format
from ..storage.check.rows import FieldRows
from ..storage.tables import ChunkTable

if TYPE_CHECKING:
    from ..index.saturation import Saturation

_NORM_TOLERANCE = 1e-5  # relative
Part = tuple[int, int]  # the kind of the chunks of a part, and the bytes of an item


class FieldType(ABC):
    """What the engine does with the vectors of one type. spec: the definition of a field of this type. view: an ``engine.snapshot.View``.

    kind: as in the definition. direct: whether single queries of the field can be searched by ``kernels/direct.py``. aligns: whether
    ``aligned`` tells the parts of a score. search_part: the part whose chunk table a search by an index takes. exact_plan: what
    ``explain`` calls an exact search.
    """

    kind: str
    search_part = format.FORWARD
    exact_plan = "exact scan"
    direct = False
    aligns = False

    # ---- On disk ----

    @abstractmethod
    def parts(self, spec: Any, bm25: bool = False) -> dict[int, Part]:
        """The parts of a field. bm25: whether the field counts words (``Schema.is_bm25``)."""

    def reduced(self, spec: Any, column: Any) -> Any:
        """The column of a write as it is stored, of types that store less than is given. The same for what was reduced before."""
        return column

    @abstractmethod
    def encode(self, spec: Any, column: Any, docids: np.ndarray, bm25: bool = False) -> dict[int, Any]:
        """part → the chunk of the vectors of rows ``docids`` (ascending)."""

    @abstractmethod
    def decode(self, spec: Any, chunk: Any, rows: np.ndarray | None) -> Any:
        """The column of a chunk of the part FORWARD; its arrays are views of the chunk. rows: of the column."""

    def item_bytes(self, spec: Any) -> int:
        """Bytes of an item of the part FORWARD."""
        return self.parts(spec)[format.FORWARD][1]

    def vectors(self, spec: Any, pieces: Iterable[tuple[Any, np.ndarray, np.ndarray]]) -> Any:
        """The column of some rows. pieces: (chunk, indexes of its rows among them, their positions in the chunk), as ``chunks_with`` of
        stores and tables yields. ``rows`` of the column are the indexes. None if there is no piece.
        """
        picked, rows = [], []
        for chunk, indexes, positions in pieces:
            picked.append(chunk.pick(positions))
            rows.append(indexes)  # pick copies, so the column doesn't refer to the memory map
        return self.decode(spec, chunks.joined(picked), np.concatenate(rows).astype(np.int32)) if picked else None

    def sizes(self, spec: Any, table: ChunkTable, docids: np.ndarray) -> np.ndarray:
        """Bytes of the vectors of some rows (int64, ascending), int64; 0 for rows without one."""
        sizes, width = np.zeros(len(docids), np.int64), self.item_bytes(spec)
        for chunk, indexes, positions in table.chunks_with(docids, width):
            sizes[indexes] = np.diff(chunk.offsets)[positions].astype(np.int64) * (width + (chunk.extra is not None) * 4)
        return sizes

    @abstractmethod
    def stored_bytes(self, spec: Any, column: Any, bm25: bool) -> Iterator[bytes]:
        """The bytes of vectors as they lie in chunks, for a search for what a purge left over. Without those that are equal for many
        vectors.
        """

    @abstractmethod
    def check(self, rows: FieldRows, spec: Any) -> None:
        """Check a block of rows for everything that must hold for vectors of this type."""

    def facts(self, view: Any, name: str) -> dict[str, Any]:
        """What ``info`` says of a field of this type alone."""
        return {}

    # ---- Search ----

    def exact_plan_of(self, spec: Any) -> str:
        """What ``explain`` calls an exact search of a field."""
        return self.exact_plan

    def sign(self, spec: Any) -> float:
        """1, or −1 if users see the negated score, as for distances."""
        return 1.0

    @abstractmethod
    def prepare(self, view: Any, name: str, queries: Sequence[Any], cache: Any) -> Any:
        """Checked queries as kernels take them. cache: of filters."""

    def search(self, view: Any, name: str, queries: Sequence[Any], k: int, rows: np.ndarray | None) -> list[Found]:
        """The exact k best rows of each prepared query. rows: the docids to consider (uint32, ascending); None: all."""
        return self.exact(view, name, view.table(view.fields[name], self.search_part), queries, k, rows)

    def score(self, view: Any, name: str, queries: Sequence[Any], rows: np.ndarray) -> list[Found]:
        """The exact scores of given rows (uint32, ascending) for each prepared query, best first. Rows that don't match are left out.

        Raises CorruptionError naming a damaged chunk.
        """
        table = view.chunks(view.fields[name])
        table.verify_rows(rows)
        return self.exact(view, name, table.rows, queries, len(rows), rows)

    def similarities(self, view: Any, name: str, queries: np.ndarray, docids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The scores of rows (int64 docids, ascending) for several vectors at once, of types that pool vectors (``spec.pools``).

        Returns (the docids of those rows that have a vector; their scores, float64 ``(rows, queries)``, higher is better).
        """
        raise NotImplementedError

    def aligned(self, spec: Any, query: np.ndarray, vector: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """The parts of the score of a row's vector, of types that compare several vectors: (rows of the query, rows of ``vector`` that they
        were compared with, int64; what each pair adds to the score, float64). None for other types. query: as ``prepare`` returns it.
        """
        return None

    @abstractmethod
    def exact(self, view: Any, name: str, table: np.ndarray, queries: Any, k: int, rows: np.ndarray | None) -> list[Found]:
        """``search`` in a chunk table of the part ``search_part``."""

    # ---- Builds of indexes ----

    def rows(self, view: Any, name: str, docids: np.ndarray, end: int, release: Callable[[], None] = lambda: None) -> RowSource:
        """The rows ``docids`` (uint32, ascending, below ``end``), for a build. release: ends the transaction of the view."""
        return RowSource(self, view, name, docids, end, release)

    def saturation(self, view: Any, name: str) -> Saturation | None:
        """The BM25 formula of a field with the statistics of this snapshot; None for a field without one."""
        return None


class RowSource:
    """Live rows of a field, read in blocks in one read transaction, for a build of an index.

    docids: uint32 ascending ``(n,)``. end: one past the last docid that was considered. spec: the field's definition. saturation: of a BM25
    field, else None.
    """

    def __init__(self, field_type: FieldType, view: Any, name: str, docids: np.ndarray, end: int, release: Callable[[], None]):
        self.docids, self.end, self.spec = docids, end, view.schema.vectors[name]
        self.saturation = field_type.saturation(view, name)
        self._type, self._table, self._release = field_type, view.chunks(view.fields[name]), release

    def __len__(self) -> int:
        return len(self.docids)

    def blocks(self) -> Iterator[tuple[int, Column]]:
        """(position in ``docids`` of the block's first row, the vectors of the block), in order. A block is what one chunk holds; its
        arrays are copies. Weights of a binary field are ones. Raises CorruptionError naming a damaged chunk.
        """
        for chunk, indexes, positions in self._table.chunks_with(self.docids.astype(np.int64), self._type.item_bytes(self.spec)):
            yield int(indexes[0]), self._type.decode(self.spec, chunk.pick(positions), None)

    def release(self) -> None:
        """End the transaction, once the rows are copied: an open one keeps LMDB from reusing pages. ``blocks`` may not be called then."""
        self._release()


# ---- What several types share ----


def writable(array: np.ndarray) -> np.ndarray:
    """The array, or a copy of one that is read-only or not contiguous, as those in a service's messages are: numba would compile each
    kernel once more for it.
    """
    return array if array.flags.carray else array.copy()


def norms(values: np.ndarray) -> np.ndarray:
    """Euclidean norms of rows, float32. Computed in float64, so that they do not overflow."""
    wide = values.astype(np.float64)
    return np.sqrt(np.einsum("ij,ij->i", wide, wide)).astype(np.float32)


def values_of(spec: Any, chunk: Any) -> np.ndarray:
    """The items of a chunk as ``(items, dim)`` of the field's dtype, a view."""
    return chunk.data.reshape(-1).view(spec.dtype).reshape(-1, spec.dim)


def check_values(rows: FieldRows, spec: Any, chunk: Any) -> None:
    """Check that numbers are finite, and that the norms of a field with a cosine are those of its vectors."""
    values = values_of(spec, chunk)
    rows.expect(np.isfinite(values).all(), "has values that are not finite")
    check_norms(rows, spec, chunk, values)


def check_norms(rows: FieldRows, spec: Any, chunk: Any, values: np.ndarray) -> None:
    """Check that the norms of a field with a cosine are those of its vectors, and that other fields have none."""
    right = (chunk.norms is not None) == (spec.metric == "cosine")
    if rows.expect(right, "has norms though its metric needs none, or lacks them") and chunk.norms is not None:
        same = np.allclose(chunk.norms, norms(values), rtol=_NORM_TOLERANCE, atol=0)
        rows.expect(same, "has norms that differ from the lengths of its vectors")
