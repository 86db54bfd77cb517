"""Vector columns: the checked columnar form of dense, sparse and multi-vectors, for writes and for queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError, LimitError, shown
from .foreign import MaskedError, compressed, is_integer, is_sparse, listed, read_with, size_of, unwrapped
from .info_text import many
from .norms import Refuse, check_norms, check_sparse_norms, surely_allowed
from .schema import Dense, MultiVector, Schema, Sparse, VectorField
from .values import Id, text_of

MAX_TERMS = 65_535
MAX_VECTOR_ROWS = 65_535
_SPARSE_FORMS = "{term: weight}, (indices, values) or a list of (term, weight)"


@dataclass(frozen=True)
class DenseColumn:
    """Dense vectors of n points.

    values: finite float32 or float16 ``(n, dim)``. rows: int32 ``(n,)``, the ascending positions of the points in the batch; None: all.
    """

    values: np.ndarray
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class SparseColumn:
    """Sparse vectors of n points, in CSR form.

    indptr: int64 ``(n+1,)``. terms: uint64, strictly ascending within a row. weights: float32, finite and not 0. rows: as in DenseColumn.
    """

    indptr: np.ndarray
    terms: np.ndarray
    weights: np.ndarray
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.indptr) - 1


@dataclass(frozen=True)
class MultiColumn:
    """Multi-vectors of n points.

    indptr: int64 ``(n+1,)`` into values. values: float32 or float16 ``(total, dim)``; every point has at least one row. rows: as in
    DenseColumn.
    """

    indptr: np.ndarray
    values: np.ndarray
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.indptr) - 1


Column = DenseColumn | SparseColumn | MultiColumn


def point_vector(column: Column, position: int) -> Any:
    """The vector at a position of a column, in the form of ``Point.vectors``."""
    if isinstance(column, DenseColumn):
        return column.values[position]
    low, high = column.indptr[position], column.indptr[position + 1]
    if isinstance(column, SparseColumn):
        return column.terms[low:high], column.weights[low:high]
    return column.values[low:high]


def _invalid(name: str, ids: Sequence[Id] | None, row: int, what: str, value: Any) -> InvalidArgumentError:
    where = f" of point {shown(ids[row])}" if ids is not None else ""
    return InvalidArgumentError(f"vector {name!r}{where} {what}", field=name, value=value)


def _floats(name: str, value: Any, dtype: str) -> np.ndarray:
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
        raise _unreadable(name, value, error) from _cause(error)


def _unreadable(name: str, value: Any, error: Exception) -> InvalidArgumentError:
    """The error for a value that numpy, or the library it comes from, can't turn into numbers."""
    text = _first_text(value)
    what = f"must be numbers of one shape, not {shown(value)}" if text is None else f"must be numbers, not the text {shown(text)}"
    if isinstance(error, MaskedError):
        what = "has masked numbers; give all of a vector's numbers, or no vector for that point"
    return InvalidArgumentError(f"vector {name!r} {what}", field=name, value=value)


def _first_text(value: Any, depth: int = 3) -> str | None:
    """The first text in nested lists."""
    if isinstance(value, str) or depth == 0:
        return value if isinstance(value, str) else None
    inside = value if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype == object and value.ndim) else ()
    return next((text for text in (_first_text(each, depth - 1) for each in inside) if text is not None), None)


def _wrong_number(given: Any, found: float, at: int, dtype: str) -> str:
    """What is wrong with a number of a vector. given: the vector as it was given. found: the number that was made of it."""
    original = given[at] if isinstance(given, (list, tuple)) and at < len(given) else found
    if original is None:
        return f"holds None at position {at}; give all of a vector's numbers, or no vector for that point"
    if isinstance(original, (int, float)) and abs(original) < float("inf"):
        return f"holds {shown(original)} at position {at}, which is too large for {dtype}"
    return f"holds {found} at position {at}; numbers must be finite and fit {dtype}"


def _cause(error: Exception) -> Exception | None:
    return None if isinstance(error, (TypeError, ValueError, OverflowError)) else error


def _text_given(name: str, spec: VectorField, text: str, advice: str | None) -> InvalidArgumentError:
    """The error for a text in place of a vector."""
    advice = advice or "pass the vector of the text: the field has no encoder"
    return InvalidArgumentError(f"vector {name!r} can't be the text {shown(text)}; {advice}", field=name, value=text)


def _text_written(name: str, spec: VectorField, text: str) -> InvalidArgumentError:
    return _text_given(
        name, spec, text, None if spec.source is None else f"write it as the attribute {spec.source!r}, which the database encodes"
    )


def opened(name: str, spec: VectorField, value: Any) -> Any:
    """A column of vectors as an array, a sparse matrix, or a list with None for points without a vector. Raises InvalidArgumentError."""
    if isinstance(value, Column):
        return value
    if isinstance(value, str):
        raise _text_written(name, spec, value)
    try:
        if not isinstance(spec, Sparse):
            return unwrapped(value)
        found = None if is_sparse(value) else listed(value)
        return value if found is None else found
    except Exception as error:
        raise _unreadable(name, value, error) from _cause(error)


def _check_rows(
    name: str,
    spec: Dense | MultiVector,
    values: np.ndarray,
    ids: Sequence[Id] | None,
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
            at = int(np.flatnonzero(~np.isfinite(values[bad[0]]))[0])
            value = float(values[bad[0], at])
            vector = given[row] if isinstance(given, (list, tuple)) else None
            if owner is not None and isinstance(vector, (list, tuple)):
                vector = vector[int(bad[0]) - int(np.searchsorted(owner, row))]
            raise _invalid(name, ids, row, _wrong_number(vector, value, at, spec.dtype), value)
    check_norms(spec, values, _refusal(name, ids, rows, owner))


def _refusal(name: str, ids: Sequence[Id] | None, rows: np.ndarray | None, owner: np.ndarray | None = None) -> Refuse:
    """Makes the error for a row whose norm isn't allowed. It names the point, its row in the batch, and the vector of a multi-vector."""

    def refuse(at: int, what: str, norm: float) -> InvalidArgumentError:
        point = at if owner is None else int(owner[at])
        place = f"(row {point if rows is None else int(rows[point])}"
        if owner is not None:
            place += f", its vector {at - int(np.searchsorted(owner, point))}"
        return _invalid(name, ids, point, f"{place}) {what}", norm)

    return refuse


def dense_column(
    name: str, spec: Dense, value: Any, n: int, rows: np.ndarray | None = None, ids: Sequence[Id] | None = None
) -> DenseColumn:
    """Check an ``(n, dim)`` array or n vectors. Raises InvalidArgumentError, which names field, point and value."""
    if isinstance(value, DenseColumn):
        value = value.values
    if isinstance(value, (list, tuple)):
        for row, vector in enumerate(value):
            if isinstance(vector, str):
                raise _text_written(name, spec, vector)
            size = size_of(vector)
            if size is not None and size != spec.dim:
                of = ids if ids is not None and row < len(ids) else None
                raise _invalid(name, of, row, f"has {many(size, 'dimension')}, not {spec.dim}", size)
    values = _floats(name, value, spec.dtype)
    if values.ndim != 2 or values.shape[0] != n:
        hint = ""
        if values.shape == (spec.dim,):
            hint = f"; write {{{name!r}: [vector]}}, a list of one vector" if n == 1 else f"; write a list of {n} vectors"
        what = f"vectors {name!r} must have shape ({n}, {spec.dim}), not {values.shape}{hint}"
        raise InvalidArgumentError(what, field=name, value=values.shape)
    if values.shape[1] != spec.dim:
        raise InvalidArgumentError(
            f"vectors {name!r} have {many(values.shape[1], 'dimension')}, not {spec.dim}", field=name, value=values.shape[1]
        )
    _check_rows(name, spec, values, ids, rows=rows, given=value)
    return DenseColumn(values, rows)


def multi_column(
    name: str, spec: MultiVector, value: Any, n: int, rows: np.ndarray | None = None, ids: Sequence[Id] | None = None
) -> MultiColumn:
    """Check n ``(rows, dim)`` matrices. Raises InvalidArgumentError, which names field, point and value."""
    if isinstance(value, MultiColumn):
        indptr, values = np.ascontiguousarray(value.indptr, dtype=np.int64), _floats(name, value.values, spec.dtype)
        if len(indptr) != n + 1 or indptr[0] != 0 or (np.diff(indptr) < 1).any() or indptr[-1] != len(values):
            raise InvalidArgumentError(
                f"vectors {name!r} don't hold at least one row for each of {n} points", field=name, value=len(indptr) - 1
            )
        if values.ndim != 2 or values.shape[1] != spec.dim:
            raise InvalidArgumentError(
                f"vectors {name!r} must have {spec.dim} dimensions, not shape {values.shape}", field=name, value=values.shape
            )
        _check_rows(name, spec, values, ids, np.repeat(np.arange(n), np.diff(indptr)), rows)
        return MultiColumn(indptr, values, rows)
    if isinstance(value, (str, bytes, Mapping)) or size_of(value) != n:
        hint = f"; for one point write {{{name!r}: [matrix]}}" if n == 1 else ""
        what = f"vectors {name!r} must be a list of {many(n, 'matrix', 'matrices')} of shape (rows, {spec.dim}){hint}"
        raise InvalidArgumentError(what, field=name, value=value)
    matrices = []
    for row, matrix in enumerate(value):
        if isinstance(matrix, str):
            raise _text_written(name, spec, matrix)
        matrix = _floats(name, matrix, spec.dtype)
        if matrix.ndim != 2 or matrix.shape[1] != spec.dim or not 1 <= len(matrix) <= MAX_VECTOR_ROWS:
            what = f"must have shape (rows, {spec.dim}) with 1 to {MAX_VECTOR_ROWS} rows, not {matrix.shape}"
            raise _invalid(name, ids, row, what + _one_row(spec, matrix), matrix.shape)
        matrices.append(matrix)
    values = np.concatenate(matrices) if matrices else np.empty((0, spec.dim), spec.dtype)
    sizes = np.array([len(m) for m in matrices], dtype=np.int64)
    _check_rows(name, spec, values, ids, np.repeat(np.arange(n), sizes), rows, value)
    return MultiColumn(np.concatenate([[0], np.cumsum(sizes)]), values, rows)


def _one_row(spec: MultiVector, matrix: np.ndarray) -> str:
    """What to write instead of a single vector in place of a matrix."""
    return f"; write {shown([matrix.tolist()])}, a list of vectors" if matrix.shape == (spec.dim,) else ""


def sparse_column(
    name: str, spec: Sparse, value: Any, n: int, rows: np.ndarray | None = None, ids: Sequence[Id] | None = None
) -> SparseColumn:
    """Check a sparse matrix (scipy) or sparse tensor (torch) of n rows, or n sparse vectors in the forms of ``_pair``.

    Zeros are dropped. Repeated entries of a matrix are summed, as scipy does. Raises InvalidArgumentError, which names field, point and
    value.
    """
    if isinstance(value, SparseColumn):
        indptr, terms, weights = value.indptr, value.terms, value.weights
    elif is_sparse(value):
        indptr, terms, weights = _compressed(name, value)
        if len(indptr) != n + 1:
            raise InvalidArgumentError(f"vectors {name!r} have {len(indptr) - 1} rows for {n} points", field=name, value=len(indptr) - 1)
    else:
        if isinstance(value, (str, bytes, Mapping, np.ndarray)) or size_of(value) != n:
            what = f"vectors {name!r} must be a scipy CSR matrix of {many(n, 'row')} or {n} of {_SPARSE_FORMS}, not {shown(value)}"
            if n == 1 and isinstance(value, Mapping):
                what += f"; write {{{name!r}: [{shown(value)}]}}"
            raise InvalidArgumentError(what, field=name, value=value)
        text = next((vector for vector in value if isinstance(vector, str)), None)
        if text is not None:
            raise _text_written(name, spec, text)
        pairs = [_pair(name, vector, ids, row) for row, vector in enumerate(value)]
        indptr = np.concatenate([[0], np.cumsum([len(terms) for terms, _ in pairs])])
        terms = np.concatenate([terms for terms, _ in pairs]) if pairs else np.empty(0, np.uint64)
        weights = np.concatenate([weights for _, weights in pairs]) if pairs else np.empty(0, np.float32)
    indptr, terms, weights = _checked_csr(name, indptr, terms, weights, n, ids)
    if spec.binary:
        return SparseColumn(indptr, terms, np.ones(len(terms), np.float32), rows)
    check_sparse_norms(indptr, weights, _refusal(name, ids, rows))
    return SparseColumn(indptr, terms, weights, rows)


def _compressed(name: str, value: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        return compressed(value)
    except Exception as error:
        raise _unreadable(name, value, error) from _cause(error)


def _pair(name: str, vector: Any, ids: Sequence[Id] | None, row: int) -> tuple[np.ndarray, np.ndarray]:
    """One sparse vector as (uint64 terms, float32 weights), in the given order.

    It may be ``{term: weight}``, ``(indices, values)``, ``{"indices": …, "values": …}``, a list of ``(term, weight)``, or a sparse matrix
    of one row. A list of two pairs of integers is ambiguous and is refused.
    """
    if isinstance(vector, Mapping) and set(vector) == {"indices", "values"}:
        terms, weights = vector["indices"], vector["values"]
    elif isinstance(vector, Mapping):
        terms, weights = list(vector.keys()), list(vector.values())
    elif is_sparse(vector):
        indptr, terms, weights = _compressed(name, vector)
        if len(indptr) != 2:
            raise _invalid(name, ids, row, f"must be one row of a sparse matrix, not {len(indptr) - 1}", len(indptr) - 1)
    elif isinstance(vector, list) and _are_pairs(vector):
        if len(vector) == 2 and all(_is_term(number) for pair in vector for number in pair):
            what = f"could be (term, weight) twice or (indices, values): {shown(vector)}; write {{term: weight}}"
            raise _invalid(name, ids, row, what, vector)
        terms, weights = [term for term, _ in vector], [weight for _, weight in vector]
    elif isinstance(vector, (tuple, list)) and len(vector) == 2:
        if _are_pairs(vector) and all(type(pair) is tuple and _is_term(pair[1]) for pair in vector) and _is_term(vector[1][0]):
            what = f"could be (term, weight) twice or (indices, values): {shown(vector)}; write {{term: weight}}"
            raise _invalid(name, ids, row, what, vector)
        terms, weights = vector
    else:
        raise _invalid(name, ids, row, f"must be {_SPARSE_FORMS}, not {shown(vector)}", vector)
    if type(terms) is not np.ndarray:
        given = read_with(name, terms, listed)
        if given is None:
            raise _invalid(name, ids, row, f"must be {_SPARSE_FORMS}, not {shown(vector)}", vector)
        for term in given:
            if not _is_term(term):
                raise _invalid(name, ids, row, f"has term {shown(term)}; terms are integers from 0 to 2^64−1", term)
        terms = np.array([int(t) for t in given], dtype=np.uint64)
    weights = _floats(name, weights, "float32")
    if terms.shape != weights.shape or terms.ndim != 1:
        raise _invalid(name, ids, row, f"has {terms.size} terms and {weights.size} weights", weights.size)
    return _terms(name, terms), weights


def _is_term(value: Any) -> bool:
    return is_integer(value) and 0 <= value < 2**64


def _are_pairs(vector: Sequence) -> bool:
    """Whether this can be read as a list of (term, weight)."""
    return all(isinstance(pair, (tuple, list)) and len(pair) == 2 and _is_term(pair[0]) for pair in vector)


def _terms(name: str, terms: np.ndarray) -> np.ndarray:
    if terms.dtype.kind not in "iu" and len(terms):
        raise InvalidArgumentError(f"terms of vector {name!r} must be integers, not {terms.dtype}", field=name, value=str(terms.dtype))
    if terms.dtype.kind == "i" and len(terms) and terms.min() < 0:
        raise InvalidArgumentError(
            f"vector {name!r} has term {terms.min()}; terms are integers from 0 to 2^64−1", field=name, value=int(terms.min())
        )
    return terms.astype(np.uint64, copy=False)


def _checked_csr(name, indptr, terms, weights, n, ids) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    indptr, terms = np.ascontiguousarray(indptr, dtype=np.int64), _terms(name, np.ascontiguousarray(terms))
    weights = _floats(name, weights, "float32")
    if len(indptr) != n + 1 or indptr[0] != 0 or (np.diff(indptr) < 0).any() or indptr[-1] != len(terms) or len(terms) != len(weights):
        raise InvalidArgumentError(f"vectors {name!r} are not a CSR matrix of {n} rows", field=name, value=len(indptr) - 1)
    sizes = np.diff(indptr)
    owner = np.repeat(np.arange(n), sizes)
    bad = np.flatnonzero(~np.isfinite(weights))
    if len(bad):
        raise _invalid(name, ids, int(owner[bad[0]]), f"gives term {terms[bad[0]]} the weight {weights[bad[0]]}", float(weights[bad[0]]))
    same = owner[1:] == owner[:-1]
    if (same & (terms[1:] <= terms[:-1])).any():
        order = np.lexsort((terms, owner))
        terms, weights = terms[order], weights[order]
        twice = np.flatnonzero(same & (terms[1:] == terms[:-1]))
        if len(twice):
            raise _invalid(name, ids, int(owner[twice[0]]), f"has term {terms[twice[0]]} twice", int(terms[twice[0]]))
    if not weights.all():
        keep = weights != 0
        terms, weights = terms[keep], weights[keep]
        sizes = np.bincount(owner[keep], minlength=n)
        indptr = np.concatenate([[0], np.cumsum(sizes)])
    if n and sizes.max() > MAX_TERMS:
        row = int(sizes.argmax())
        raise LimitError(
            f"vector {name!r} of row {row} has {sizes[row]} terms, at most {MAX_TERMS} are allowed", field=name, value=int(sizes[row])
        )
    return indptr, terms, weights


def query_vector(name: str, spec: VectorField, value: Any) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Check one query: ``(dim,)`` float32, ``(rows, dim)`` float32, or (ascending uint64 terms, float32 weights).

    Raises InvalidArgumentError, also for a norm that isn't allowed (``norms``).
    """
    if isinstance(value, str):
        raise _text_given(name, spec, value, None if spec.encoder is None else "write search(text=…)")
    if isinstance(spec, Sparse):
        plain = _plain_pair(value)
        if plain is None:
            if isinstance(value, (list, tuple)) and value and all(isinstance(query, Mapping) for query in value):
                what = f"query vector {name!r} is a list of sparse vectors; for several queries write search_batch"
                raise InvalidArgumentError(what, field=name, value=value)
            column = sparse_column(name, spec, value if is_sparse(value) else [value], 1)
            return column.terms, column.weights
        return (plain[0], np.ones(len(plain[0]), np.float32)) if spec.binary else plain
    array = _floats(name, value, "float32")
    if isinstance(spec, Dense):
        if array.shape != (spec.dim,):
            if array.shape != (1, spec.dim):
                hint = "; for several queries write search_batch" if array.ndim == 2 and array.shape[1] == spec.dim else ""
                what = f"query vector {name!r} has shape {array.shape}, not ({spec.dim},){hint}"
                raise InvalidArgumentError(what, field=name, value=array.shape)
            array = array[0]
    elif array.ndim != 2 or array.shape[1] != spec.dim or not 1 <= len(array) <= MAX_VECTOR_ROWS:
        several = array.ndim == 3 and array.shape[2] == spec.dim
        hint = "; for several queries write search_batch" if several else _one_row(spec, array)
        what = f"query vector {name!r} has shape {array.shape}, not (rows, {spec.dim}){hint}"
        raise InvalidArgumentError(what, field=name, value=array.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        if array.ndim == 1 and surely_allowed(array.dot(array)):
            return array  # one product shows that it is finite and of an allowed norm
    if not np.isfinite(array).all():
        *row, at = map(int, np.argwhere(~np.isfinite(array))[0])
        found = float(array[(*row, at)])
        given = value[row[0]] if row and isinstance(value, (list, tuple)) else value
        if isinstance(given, (list, tuple)) and len(given) == 1 and isinstance(given[0], (list, tuple)):
            given = given[0]  # a list of one dense query
        raise InvalidArgumentError(f"query vector {name!r} {_wrong_number(given, found, at, 'float32')}", field=name, value=found)

    if spec.metric == "cosine":  # the search normalizes a query in float64, so its length doesn't matter
        if not array.any(axis=-1).all():
            raise InvalidArgumentError(f"query vector {name!r} is all zeros, which has no cosine", field=name, value=0.0)
        return array

    def refuse(row: int, what: str, norm: float) -> InvalidArgumentError:
        place = f" (row {row})" if array.ndim == 2 else ""
        return InvalidArgumentError(f"query vector {name!r}{place} {what}", field=name, value=norm)

    check_norms(spec, np.atleast_2d(array), refuse)
    return array


def _plain_pair(value: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """A query of two valid arrays, which is the usual case; None if it needs the full check."""
    if not isinstance(value, tuple) or len(value) != 2:
        return None
    terms, weights = value
    if not (type(terms) is type(weights) is np.ndarray) or weights.dtype != np.float32 or not terms.ndim == weights.ndim == 1:
        return None
    if len(terms) != len(weights) or not 0 < len(terms) <= MAX_TERMS or terms.dtype.kind not in "iu":
        return None
    if not (terms[1:] > terms[:-1]).all() or terms[0] < 0:  # they ascend, so the first is the lowest
        return None
    with np.errstate(over="ignore"):
        if not surely_allowed(weights.dot(weights)) or not weights.all():
            return None
    return terms.astype(np.uint64, copy=False), np.ascontiguousarray(weights)


def query_vectors(name: str, spec: VectorField, value: Any) -> list:
    """Check n queries: an ``(n, dim)`` array, a sparse matrix of n rows, or a list of what ``query_vector`` accepts."""
    value = opened(name, spec, value)
    if isinstance(spec, Sparse) and is_sparse(value):
        indptr, terms, weights = _compressed(name, value)
        column = sparse_column(name, spec, SparseColumn(indptr, terms, weights), len(indptr) - 1)
        return [point_vector(column, i) for i in range(len(column))]
    if isinstance(spec, Dense) and isinstance(value, np.ndarray) and value.ndim != 2:
        raise InvalidArgumentError(f"query vectors {name!r} have shape {value.shape}, not (n, {spec.dim})", field=name, value=value.shape)
    if isinstance(value, (str, bytes, Mapping)) or size_of(value) is None:
        raise InvalidArgumentError(f"query vectors {name!r} must be a list or array, not {shown(value)}", field=name, value=value)
    return [query_vector(name, spec, vector) for vector in value]


def query_texts(value: Any, batch: bool) -> list[str]:
    """Check a text, or with ``batch`` a list of texts, one for each query. Raises InvalidArgumentError, which says what to write."""
    texts = read_with("text", value, listed)
    if batch:
        if texts is None or not all(isinstance(text, str) for text in texts):
            hint = "; for one query write search" if isinstance(value, str) else ""
            raise InvalidArgumentError(f"text must be a list of strings, not {shown(value)}{hint}", field="text", value=value)
        return [text_of(text, "text") for text in texts]
    if not isinstance(value, str):
        several = bool(texts) and all(isinstance(text, str) for text in texts or ())
        hint = "; for several queries write search_batch" if several else ""
        raise InvalidArgumentError(f"text must be a string, not {shown(value)}{hint}", field="text", value=value)
    return [text_of(value, "text")]


def query_fields(schema: Schema, vectors: Any) -> Mapping[str, Any]:
    """Check that ``vectors`` of a search maps fields to queries. Raises InvalidArgumentError, which says what to write."""
    if vectors is None:
        return {}
    if isinstance(vectors, Mapping):
        return vectors
    such = next(iter(schema.vectors), "field")
    advice = "for a text write search(text=…)" if isinstance(vectors, str) else f"write {{{such!r}: …}}"
    what = f"vectors must be a mapping of field names to queries, not {shown(vectors)}; {advice}"
    raise InvalidArgumentError(what, field="vectors", value=vectors)
