"""The contract of a vector field type: the definition of a field, and the column that holds its vectors.

A field type is one file in this package and one line in ``VECTOR_TYPES``. Code that handles vectors asks the definition
(``spec.column``, ``spec.has_terms``) or the column, and never which type it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self, cast

import numpy as np

from ...errors import InvalidArgumentError, SchemaError, shown
from ..foreign import MaskedError, unwrapped
from ..norms import Refuse, check_norms
from ..of_source import TopTerms

MAX_DIM = 65_536
# Numbers of the enum ``DType`` of the protocol.
_DTYPES = {1: np.dtype("<f4"), 2: np.dtype("<f2")}


class VectorField:
    """Base class of the definitions of vector fields.

    kind: the name of the type, in JSON and in ``VECTOR_TYPES``. column: the class of its columns. index_options: the classes that ``index``
    may have, the usual one first; none: such a field can't have an index. has_terms: whether its vectors consist of terms, which may have
    words. pools: whether vectors can be averaged and projected, as ``Like`` and ``without`` do. analyzer: that of the attribute that an
    encoder which counts words reads; its schema sets it. derived: the derivation that makes its vectors from those of another field, or
    None. source_dim, source_metric: of a derived field, the dimensions and the metric of its source; its schema sets them.
    attribute_types: of a field that is derived from attributes, their types by name; its schema sets them.
    """

    kind: ClassVar[str]
    column: ClassVar[type[Column]]
    index_options: ClassVar[tuple[Any, ...]] = ()
    has_terms: ClassVar[bool] = False
    pools: ClassVar[bool] = False
    analyzer: ClassVar[Any] = None
    derived: Any = None
    attribute_types: Any = None
    source_dim: int | None = None
    source_metric: str | None = None
    encoder: str | None
    source: str | None
    index: Any = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The attributes that the encoder reads."""
        return () if self.source is None else (self.source,)

    def reading(self, names: Mapping[str, str]) -> VectorField:
        """The same definition where attributes have new names (old → new)."""
        return self if self.source is None else replace(cast(Any, self), source=names.get(self.source, self.source))

    @property
    def source_column(self) -> type[Column] | None:
        """The class of columns of queries that are vectors of the source, where these differ from those of the field."""
        return None

    @property
    def counts_words(self) -> bool:
        """Whether the encoder counts words or parts of them, so that the field is scored by BM25."""
        return False


def check_encoder(encoder: Any, source: Any) -> None:
    """Check the options ``encoder`` and ``source`` of a field. Raises SchemaError."""
    for field, value in (("encoder", encoder), ("source", source)):
        if value is not None and (not isinstance(value, str) or not value):
            what = f"{field} must be a non-empty string, not {shown(value)}"
            if field == "encoder" and callable(value):
                what += "; give a function to vectordb.open(path, encoders={'mine': function}) and write encoder='mine'"
            raise SchemaError(what, field=field, value=value)
    if source is not None and encoder is None:
        raise SchemaError(f"source {shown(source)} needs an encoder", field="source", value=source)


def check_index(index: Any, *options: type) -> None:
    """Check the option ``index`` of a field: None or options of one of these classes. Raises SchemaError."""
    if index is not None and not isinstance(index, options):
        hint = f" (did you mean {index.__name__}()?)" if isinstance(index, type) and index in options else ""
        names = ", ".join(f"{'an' if each.__name__[0] in 'AEIOUH' else 'a'} {each.__name__}" for each in options)
        raise SchemaError(f"index must be {names} or None, not {shown(index)}{hint}", field="index", value=index)


class Column:
    """Checked vectors of n points in one field. The subclasses are frozen dataclasses of arrays. It is no ABC, whose isinstance is slow.

    message: the part of ``VectorColumn`` that holds it. names: of the arrays with an element for each item (a dense vector, a row of a
    multi-vector, a term). ragged: whether vectors have different numbers of items; ``indptr``, int64 ``(n + 1,)``, then says which are
    whose. rows: int32 ``(n,)``, the ascending positions of the points in their batch; None: every point has a vector.
    ``read``, ``query`` and ``queries`` check what users give; they raise InvalidArgumentError, which names the field, the value, and in a
    write the point.
    """

    message: ClassVar[str]
    names: ClassVar[tuple[str, ...]]
    ragged: ClassVar[bool] = True
    rows: np.ndarray | None

    def __len__(self) -> int:
        return len(self.indptr) - 1 if self.ragged else len(self.arrays()[0])  # type: ignore[attr-defined]

    # ---- Input ----

    @staticmethod
    def unwrapped(value: Any) -> Any:
        """Vectors of another library as an array, a sparse matrix, or a list."""
        return unwrapped(value)

    @classmethod
    def read(cls, name: str, spec: Any, value: Any, n: int, rows: np.ndarray | None = None, ids: Sequence[Any] | None = None) -> Self:
        """Check n vectors to be written. rows: of the column. ids: of the n points, for errors."""
        raise NotImplementedError

    @classmethod
    def query(cls, name: str, spec: Any, value: Any) -> Any:
        """Check one query."""
        raise NotImplementedError

    @classmethod
    def queries(cls, name: str, spec: Any, value: Any) -> list | None:
        """Check several queries that are one array or matrix. None: they must be a list, each of which ``query`` checks."""
        return None

    @classmethod
    def of(cls, spec: Any, vectors: Sequence[Any], rows: np.ndarray | None = None) -> Self:
        """The column of checked vectors, each in the form of ``vector``."""
        raise NotImplementedError

    # ---- Rows ----

    def vector(self, position: int) -> Any:
        """The vector at a position, in the form of ``Point.vectors``."""
        raise NotImplementedError

    def vectors(self) -> Any:
        """The vectors of all points, in order: a list or an array."""
        return [self.vector(position) for position in range(len(self))]

    def arrays(self) -> list[np.ndarray]:
        return [getattr(self, name) for name in self.names]

    @classmethod
    def _made(cls, indptr: np.ndarray | None, arrays: Iterable[np.ndarray], rows: np.ndarray | None) -> Self:
        return cls(indptr, *arrays, rows) if cls.ragged else cls(*arrays, rows)  # type: ignore[call-arg]

    @property
    def nbytes(self) -> int:
        """The approximate size in a message."""
        return sum(array.nbytes for array in self.arrays())

    def positions(self) -> np.ndarray:
        """``rows``; if it is None, the positions of all points."""
        return np.arange(len(self), dtype=np.int32) if self.rows is None else self.rows

    def with_rows(self, rows: np.ndarray | None) -> Self:
        """The same vectors with other ``rows``."""
        return replace(self, rows=rows)  # type: ignore[type-var]

    def copied(self) -> Self:
        """The column with writable copies of its arrays."""
        return self._made(getattr(self, "indptr", None), (array.copy() for array in self.arrays()), self.rows)

    def slice(self, low: int, high: int, rows: np.ndarray | None = None) -> Self:
        """The vectors at positions [low, high), as views. rows: of the new column."""
        indptr = None
        if self.ragged:
            indptr = self.indptr[low : high + 1]  # type: ignore[attr-defined]
            low, high, indptr = indptr[0], indptr[-1], indptr - indptr[0]
        return self._made(indptr, (array[low:high] for array in self.arrays()), rows)

    def take(self, positions: np.ndarray, rows: np.ndarray | None = None) -> Self:
        """Copies of the vectors at some positions (int). rows: of the new column."""
        indptr = None
        if self.ragged:
            starts, sizes = self.indptr[positions], np.diff(self.indptr)[positions]  # type: ignore[attr-defined]
            indptr = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
            positions = np.arange(int(indptr[-1])) + np.repeat(starts - indptr[:-1], sizes)
        return self._made(indptr, (array[positions] for array in self.arrays()), rows)

    @classmethod
    def join(cls, columns: Sequence[Any], rows: np.ndarray | None = None) -> Self:
        """One column of at least one. rows: of the new column."""
        indptr = None
        if cls.ragged:
            indptr = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(column.indptr) for column in columns]))])
        return cls._made(indptr, map(np.concatenate, zip(*(column.arrays() for column in columns), strict=True)), rows)

    def without(self, rows: np.ndarray) -> Self | None:
        """The column without some rows; None if nothing is left."""
        own = self.positions()
        keep = np.flatnonzero(~np.isin(own, rows))
        if len(keep) == len(own):
            return self
        return self.take(keep, own[keep]) if len(keep) else None

    def overlaid(self, other: Self | None) -> Self:
        """This column and one with other rows, in the order of the rows. Both have ``rows``."""
        if other is None:
            return self
        rows = np.concatenate([self.positions(), other.positions()])
        order = np.argsort(rows)
        return self.join([self, other]).take(order, rows[order].astype(np.int32))

    # ---- Messages and files ----

    def pack(self, message: Any) -> None:
        """Fill the message ``message``."""
        raise NotImplementedError

    @classmethod
    def unpack(cls, message: Any, n: int, field: str, rows: np.ndarray | None = None) -> Self:
        """The column of n points in a message; its arrays are read-only. Raises InvalidArgumentError if its parts don't agree."""
        raise NotImplementedError

    @staticmethod
    def to_json(vector: Any) -> Any:
        """A vector as JSON data. A float32 is written with all digits of a double, so reading it gives the same float32."""
        return np.asarray(vector).tolist()

    @staticmethod
    def from_json(value: Any) -> Any:
        """The vector in JSON data, in a form that ``read`` accepts."""
        return value

    @staticmethod
    def arrow_type(pa: Any, spec: Any) -> Any:
        """The type of the vectors in a Parquet file. pa: pyarrow. float16 is widened to float32: lossless, and more programs read it."""
        raise NotImplementedError


# ---- Checks that several types share ----


def wrong_vector(name: str, ids: Sequence[Any] | None, row: int, what: str, value: Any) -> InvalidArgumentError:
    """The error for the vector of one point."""
    where = f" of point {shown(ids[row])}" if ids is not None else ""
    return InvalidArgumentError(f"vector {name!r}{where} {what}", field=name, value=value)


def floats(name: str, value: Any, dtype: str) -> np.ndarray:
    """Numbers as a contiguous array. Raises InvalidArgumentError."""
    if type(value) is np.ndarray and value.dtype == dtype and value.flags.c_contiguous:
        return value
    try:
        array = np.asarray(unwrapped(value))
        if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
            if array.dtype.kind != "O" or any(isinstance(number, (str, bytes)) for number in array.flat):
                raise TypeError
            array = array.astype(np.float64)
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(array, dtype=dtype)
    except Exception as error:
        raise unreadable(name, value, error) from cause(error)


def unreadable(name: str, value: Any, error: Exception) -> InvalidArgumentError:
    """The error for a value that numpy, or the library it comes from, can't turn into numbers."""
    text = _first_text(value)
    what = f"must be numbers of one shape, not {shown(value)}" if text is None else f"must be numbers, not the text {shown(text)}"
    given = value if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(each, TopTerms) for each in given):
        what = "is a TopTerms, which is for queries of derived sparse fields; pass the numbers alone"
    if isinstance(error, MaskedError):
        what = "has masked numbers; give all of a vector's numbers, or no vector for that point"
    return InvalidArgumentError(f"vector {name!r} {what}", field=name, value=value)


def cause(error: Exception) -> Exception | None:
    """The error as the cause of ``unreadable``; None if it says nothing more."""
    return None if isinstance(error, (TypeError, ValueError, OverflowError)) else error


def _first_text(value: Any, depth: int = 3) -> str | None:
    """The first text in nested lists."""
    if isinstance(value, str) or depth == 0:
        return value if isinstance(value, str) else None
    inside = value if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype == object and value.ndim) else ()
    return next((text for text in (_first_text(each, depth - 1) for each in inside) if text is not None), None)


def text_given(name: str, text: str, advice: str | None) -> InvalidArgumentError:
    """The error for a text in place of a vector."""
    advice = advice or "pass the vector of the text: the field has no encoder"
    return InvalidArgumentError(f"vector {name!r} can't be the text {shown(text)}; {advice}", field=name, value=text)


def text_written(name: str, spec: VectorField, text: str) -> InvalidArgumentError:
    """The error for a text in place of a vector in a write."""
    advice = f"write it as the attribute {' or '.join(map(repr, spec.reads))}, which the database encodes" if spec.reads else None
    return text_given(name, text, advice)


def wrong_number(given: Any, number: float, position: int, dtype: str) -> str:
    """What is wrong with a number of a vector. given: the vector as it was given. number: what was made of it."""
    original = given[position] if isinstance(given, (list, tuple)) and position < len(given) else number
    if original is None:
        return f"holds None at position {position}; give all of a vector's numbers, or no vector for that point"
    if isinstance(original, (int, float)) and abs(original) < float("inf"):
        return f"holds {shown(original)} at position {position}, which is too large for {dtype}"
    return f"holds {number} at position {position}; numbers must be finite and fit {dtype}"


def check_rows(
    name: str,
    spec: Any,
    values: np.ndarray,
    ids: Sequence[Any] | None,
    owner: np.ndarray | None = None,
    rows: np.ndarray | None = None,
    given: Any = None,
) -> None:
    """Check that numbers are finite (in the dtype of the field) and norms allowed. owner: row → position of its point in ``ids``.

    given: the vectors as they were given, for the text of an error.
    """
    # A sum is finite only if every number is. This one cheap pass usually replaces the exact one.
    if not np.isfinite(values.sum(dtype=np.float64) if values.dtype == np.float32 else values.astype(np.float32).sum(dtype=np.float64)):
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            row = int(bad[0]) if owner is None else int(owner[bad[0]])
            position = int(np.flatnonzero(~np.isfinite(values[bad[0]]))[0])
            number = float(values[bad[0], position])
            vector = given[row] if isinstance(given, (list, tuple)) else None
            if owner is not None and isinstance(vector, (list, tuple)):
                vector = vector[int(bad[0]) - int(np.searchsorted(owner, row))]
            raise wrong_vector(name, ids, row, wrong_number(vector, number, position, spec.dtype), number)
    check_norms(spec, values, refusal(name, ids, rows, owner))


def refusal(name: str, ids: Sequence[Any] | None, rows: np.ndarray | None, owner: np.ndarray | None = None) -> Refuse:
    """Makes the error for a row whose norm isn't allowed. It names the point, its row in the batch, and the vector of a multi-vector."""

    def refuse(row: int, what: str, norm: float) -> InvalidArgumentError:
        point = row if owner is None else int(owner[row])
        place = f"(row {point if rows is None else int(rows[point])}"
        if owner is not None:
            place += f", its vector {row - int(np.searchsorted(owner, point))}"
        return wrong_vector(name, ids, point, f"{place}) {what}", norm)

    return refuse


def check_query(name: str, spec: Any, array: np.ndarray, value: Any) -> np.ndarray:
    """Check the numbers and norms of a query, ``(dim,)`` or ``(rows, dim)``. value: the query as it was given, for errors."""
    if not np.isfinite(array).all():
        *row, position = map(int, np.argwhere(~np.isfinite(array))[0])
        number = float(array[(*row, position)])
        given = value[row[0]] if row and isinstance(value, (list, tuple)) else value
        if isinstance(given, (list, tuple)) and len(given) == 1 and isinstance(given[0], (list, tuple)):
            given = given[0]  # a list of one dense query
        what = f"query vector {name!r} {wrong_number(given, number, position, 'float32')}"
        raise InvalidArgumentError(what, field=name, value=number)
    if spec.metric == "cosine":  # the search normalizes a query in float64, so its length doesn't matter
        kept = array.any(axis=-1)
        if not kept.all():
            place = f" (row {int(np.argmin(kept))})" if array.ndim == 2 else ""
            raise InvalidArgumentError(f"query vector {name!r}{place} is all zeros, which has no cosine", field=name, value=0.0)
        return array

    def refuse(row: int, what: str, norm: float) -> InvalidArgumentError:
        place = f" (row {row})" if array.ndim == 2 else ""
        return InvalidArgumentError(f"query vector {name!r}{place} {what}", field=name, value=norm)

    check_norms(spec, np.atleast_2d(array), refuse)
    return array


# ---- Numbers in messages ----


def array_of(data: bytes, dtype: Any, field: str) -> np.ndarray:
    """A read-only array over the bytes of a message. Raises InvalidArgumentError."""
    dtype = np.dtype(dtype)
    if len(data) % dtype.itemsize:
        raise InvalidArgumentError(f"{field} has {len(data)} bytes, not a multiple of {dtype.itemsize}", field=field, value=len(data))
    return np.frombuffer(data, dtype)


def pack_matrix(message: Any, values: np.ndarray) -> None:
    """Put float16 or float32 ``(n, dim)`` into the fields ``data``, ``dtype`` and ``dim`` of a message."""
    number = 2 if values.dtype == np.float16 else 1
    message.data, message.dtype, message.dim = np.ascontiguousarray(values, _DTYPES[number]).tobytes(), number, values.shape[1]


def unpack_matrix(message: Any, n: int, field: str) -> np.ndarray:
    """``(n, dim)`` of a message of ``pack_matrix``. Raises InvalidArgumentError."""
    dtype = _DTYPES.get(message.dtype)
    if dtype is None:
        raise InvalidArgumentError(
            f"vectors {field!r} have dtype {message.dtype}, not FLOAT32 or FLOAT16", field=field, value=message.dtype
        )
    dim, data = message.dim, message.data
    if not 1 <= dim <= MAX_DIM:
        raise InvalidArgumentError(f"vectors {field!r} have {dim} dimensions; 1 to {MAX_DIM} are possible", field=field, value=dim)
    if len(data) != n * dim * dtype.itemsize:
        raise InvalidArgumentError(
            f"vectors {field!r} have {len(data)} bytes, not {n} × {dim} × {dtype.itemsize}", field=field, value=len(data)
        )
    return np.frombuffer(data, dtype).reshape(n, dim)


def pack_counts(indptr: np.ndarray) -> bytes:
    """The number of items of each vector."""
    return np.diff(indptr).astype("<u4").tobytes()


def unpack_counts(data: bytes, n: int, field: str) -> np.ndarray:
    """``indptr`` of n vectors from the number of items of each. Raises InvalidArgumentError."""
    counts = array_of(data, "<u4", field)
    if len(counts) != n:
        raise InvalidArgumentError(f"vectors {field!r} have {len(counts)} counts for {n} points", field=field, value=len(counts))
    indptr = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(counts, dtype=np.int64, out=indptr[1:])
    return indptr
