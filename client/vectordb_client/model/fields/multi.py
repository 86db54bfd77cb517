"""Multi-vector fields: several vectors for each point, such as one for each token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from ...errors import InvalidArgumentError, SchemaError, many, shown
from ..arguments import named_class
from ..foreign import size_of
from ..options import check_integer, choice
from .base import (
    MAX_DIM,
    Column,
    VectorField,
    check_encoder,
    check_index,
    check_query,
    check_rows,
    floats,
    pack_counts,
    pack_matrix,
    text_written,
    unpack_counts,
    unpack_matrix,
    wrong_vector,
)

MAX_VECTOR_ROWS = 65_535
MIN_CENTROIDS, MAX_CENTROIDS = 16, 1 << 20
MAX_TOKENS = 1024
CODES = "codes"


@dataclass(frozen=True)
class MultiColumn(Column):
    """Multi-vectors of n points.

    indptr: int64 ``(n+1,)`` into values. values: float32 or float16 ``(total, dim)``; every point has at least one row. rows: as in
    ``Column``.
    """

    indptr: np.ndarray
    values: np.ndarray
    rows: np.ndarray | None = None
    message: ClassVar[str] = "multi"
    names: ClassVar[tuple[str, ...]] = ("values",)

    @classmethod
    def read(
        cls, name: str, spec: MultiVector, value: Any, n: int, rows: np.ndarray | None = None, ids: Sequence[Any] | None = None
    ) -> Self:
        """Check n ``(rows, dim)`` matrices."""
        if isinstance(value, MultiColumn):
            indptr, values = np.ascontiguousarray(value.indptr, dtype=np.int64), floats(name, value.values, spec.dtype)
            if len(indptr) != n + 1 or indptr[0] != 0 or (np.diff(indptr) < 1).any() or indptr[-1] != len(values):
                raise InvalidArgumentError(
                    f"vectors {name!r} don't hold at least one row for each of {n} points", field=name, value=len(indptr) - 1
                )
            if values.ndim != 2 or values.shape[1] != spec.dim:
                raise InvalidArgumentError(
                    f"vectors {name!r} must have {spec.dim} dimensions, not shape {values.shape}", field=name, value=values.shape
                )
            check_rows(name, spec, values, ids, np.repeat(np.arange(n), np.diff(indptr)), rows)
            return cls(indptr, values, rows)
        if isinstance(value, (str, bytes, Mapping)) or size_of(value) != n:
            hint = f"; for one point write {{{name!r}: [matrix]}}" if n == 1 else ""
            what = f"vectors {name!r} must be a list of {many(n, 'matrix', 'matrices')} of shape (rows, {spec.dim}){hint}"
            raise InvalidArgumentError(what, field=name, value=value)
        matrices = []
        for row, matrix in enumerate(value):
            if isinstance(matrix, str):
                raise text_written(name, spec, matrix)
            matrix = floats(name, matrix, spec.dtype)
            if matrix.ndim != 2 or matrix.shape[1] != spec.dim or not 1 <= len(matrix) <= MAX_VECTOR_ROWS:
                what = f"must have shape (rows, {spec.dim}) with 1 to {MAX_VECTOR_ROWS} rows, not {matrix.shape}"
                raise wrong_vector(name, ids, row, what + _one_row(spec, matrix), matrix.shape)
            matrices.append(matrix)
        values = np.concatenate(matrices) if matrices else np.empty((0, spec.dim), spec.dtype)
        sizes = np.array([len(m) for m in matrices], dtype=np.int64)
        check_rows(name, spec, values, ids, np.repeat(np.arange(n), sizes), rows, value)
        return cls(np.concatenate([[0], np.cumsum(sizes)]), values, rows)

    @classmethod
    def query(cls, name: str, spec: MultiVector, value: Any) -> np.ndarray:
        """Check a query: ``(rows, dim)`` float32."""
        array = floats(name, value, "float32")
        if array.ndim != 2 or array.shape[1] != spec.dim or not 1 <= len(array) <= MAX_VECTOR_ROWS:
            several = array.ndim == 3 and array.shape[2] == spec.dim
            hint = "; for several queries write search_batch" if several else _one_row(spec, array)
            what = f"query vector {name!r} has shape {array.shape}, not (rows, {spec.dim}){hint}"
            raise InvalidArgumentError(what, field=name, value=array.shape)
        return check_query(name, spec, array, value)

    @classmethod
    def of(cls, spec: MultiVector, vectors: Sequence[Any], rows: np.ndarray | None = None) -> Self:
        values = np.concatenate(vectors) if vectors else np.empty((0, spec.dim), np.float32)
        return cls(np.cumsum([0, *map(len, vectors)]), values, rows)

    def vector(self, position: int) -> np.ndarray:
        return self.values[self.indptr[position] : self.indptr[position + 1]]

    def pack(self, message: Any) -> None:
        message.counts = pack_counts(self.indptr)
        pack_matrix(message, self.values)

    @classmethod
    def unpack(cls, message: Any, n: int, field: str, rows: np.ndarray | None = None) -> Self:
        indptr = unpack_counts(message.counts, n, field)
        return cls(indptr, unpack_matrix(message, int(indptr[-1]), field), rows)

    @staticmethod
    def arrow_type(pa: Any, spec: MultiVector) -> Any:
        return pa.list_(pa.list_(pa.float32()))


@named_class
@dataclass(frozen=True)
class TokenLists:
    """How a multi-vector field is indexed: as byte codes of all vectors, and lists of points by centroids of their vectors.

    Attributes:
        centroids: the number of centroids of an index file, 16 to 1,048,576; where a file has too few vectors for so many, it has fewer.
            None: about 8·√vectors, and no lists where a scan of the byte codes is as fast.
    """

    centroids: int | None = None
    kind: ClassVar[str] = "token_lists"

    def __post_init__(self):
        if self.centroids is not None:
            check_integer("centroids", self.centroids, MIN_CENTROIDS, MAX_CENTROIDS)


@named_class
@dataclass(frozen=True)
class MultiVector(VectorField):
    """A multi-vector field: several vectors for each point (token or passage embeddings), searched with several query vectors.

    Attributes:
        dim: the number of dimensions of each vector, 1 to 65,536.
        metric: "cosine" or "dot".
        dtype: "float32" or "float16", in which vectors are stored.
        aggregation: "maxsim": the sum over the query vectors of the score of the best vector of the point (late interaction, ColBERT).
            "max": the score of the best pair (ME-BERT).
        encoder: the name of an encoder. ``search(text=…)`` then encodes texts.
        source: the attribute that the encoder reads; ``upsert`` then encodes it.
        index: how the field is indexed. None: it is never indexed, and every search of it is exact.
        tokens: the most rows that are stored of a point, 1 to 1,024; None: all. The rows of a point with more are clustered when it is
            written, and the direction of each cluster is stored instead of its rows, which are not kept: ``with_vectors`` returns what
            is stored. Fewer rows cost fewer bytes and less time, and some quality of the ranking.
        keep: what is stored of each number. "raw": the number. "codes": a byte, with one step for each vector, its largest number ÷ 127;
            numbers are rounded to steps when a point is written and returned as float32. This takes about a quarter of the bytes. Every
            search, also ``exact=True``, compares these vectors: nothing else is stored, and it can't be changed later.

    Raises:
        SchemaError: a value is not valid.
    """

    dim: int
    metric: str = "cosine"
    dtype: str = "float32"
    aggregation: str = "maxsim"
    encoder: str | None = None
    source: str | None = None
    index: TokenLists | None = TokenLists()
    tokens: int | None = None
    keep: str = "raw"
    kind: ClassVar[str] = "multi"
    column: ClassVar[type[Column]] = MultiColumn
    index_options: ClassVar[tuple[Any, ...]] = (TokenLists,)

    def __post_init__(self):
        check_integer("dim", self.dim, 1, MAX_DIM)
        choice("metric", self.metric, ("cosine", "dot"))
        choice("dtype", self.dtype, ("float32", "float16"))
        choice("aggregation", self.aggregation, ("maxsim", "max"))
        check_encoder(self.encoder, self.source)
        check_index(self.index, TokenLists)
        if self.tokens is not None:
            check_integer("tokens", self.tokens, 1, MAX_TOKENS)
        choice("keep", self.keep, ("raw", CODES))
        if self.keep == CODES and self.dtype != "float32":
            what = f"keep={CODES!r} stores bytes, not dtype={self.dtype!r}, and returns float32; leave dtype out"
            raise SchemaError(what, field="dtype", value=self.dtype)

    @property
    def stored(self) -> str:
        """What numbers are stored as: "codes", or ``dtype``."""
        return CODES if self.keep == CODES else self.dtype


def _one_row(spec: MultiVector, matrix: np.ndarray) -> str:
    """What to write instead of a single vector in place of a matrix."""
    return f"; write {shown([matrix.tolist()])}, a list of vectors" if matrix.shape == (spec.dim,) else ""
