"""Values of other libraries as plain Python and numpy: columns, tables and vectors of pandas, polars, Arrow, torch and scipy.

None of these libraries is imported; their classes are recognised by their methods. Callers have to catch what their code raises.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from ..errors import InvalidArgumentError, VectorDBError, shown

NO_COLUMN = (str, bytes, bytearray, Mapping, set, frozenset)  # not columns, although they have a length; a set has no order
_NUMBERS = (float, int, np.float64, np.float32)
_EXACT = 2**53  # float64 represents every integer up to this one


class MaskedError(ValueError):
    """A vector has masked numbers."""


# ---- Single values ----


def is_null(value: Any) -> bool:
    """Whether this is null: None, NaT, ``pandas.NA``, a masked value, a null of Arrow. NaN is a float, see ``is_nan``."""
    if value is None or value is np.ma.masked:
        return True
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(value))
    kind = type(value)
    if kind.__name__ in ("NaTType", "NAType"):
        return kind.__module__.startswith("pandas")
    return getattr(value, "is_valid", True) is False and hasattr(value, "as_py")


def is_nan(value: Any) -> bool:
    """Whether this is a float that is not a number."""
    return isinstance(value, (float, np.floating)) and value != value


def is_integer(value: Any) -> bool:
    """Whether this is an integer of Python or numpy. Bools and durations are not."""
    return type(value) is int or (isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64)))


def is_number(value: Any) -> bool:
    """Whether this is an integer or a float of Python or numpy."""
    return isinstance(value, (float, np.floating)) or is_integer(value)


def plain(value: Any) -> Any:
    """The Python value of an Arrow scalar, or of an array or tensor without dimensions. Anything else is returned unchanged."""
    if hasattr(value, "as_py"):
        return value.as_py()
    if hasattr(value, "detach") or isinstance(value, np.ndarray):
        return value.item() if value.ndim == 0 else value
    return value


# ---- Columns ----


def frame_column(values: Any) -> list | None:
    """The values of a column of pandas, polars or Arrow, with None for null and NaN. None if this is not such a column."""
    if hasattr(values, "to_pylist") and hasattr(values, "type"):
        # Arrow converts nanoseconds to Python values only if pandas is installed.
        elements = list(values.to_numpy(zero_copy_only=False)) if str(values.type).startswith("timestamp") else values.to_pylist()
    elif not hasattr(values, "dtype") or getattr(values, "ndim", 1) != 1:
        return None
    elif hasattr(values, "isna") and hasattr(values, "tolist"):
        elements = values.tolist()
    elif hasattr(values, "is_null") and hasattr(values, "to_list"):
        elements = values.to_list()
    else:
        return None
    return [None if value is None or is_nan(value) or (type(value) not in _NUMBERS and is_null(value)) else value for value in elements]


def whole(values: list) -> list:
    """Whole floats as integers. In pandas a column of integers with a null is a column of floats."""
    return [int(value) if type(value) is float and value.is_integer() and abs(value) <= _EXACT else value for value in values]


def listed(values: Any) -> Sequence | None:
    """The values of a column of any kind, with None for masked ones. None if this is not a column: text, mapping, set, scalar, table."""
    if isinstance(values, (list, tuple)) or (isinstance(values, range) and len(values) >= 0):
        return values  # len() of a range too long for a list raises
    if isinstance(values, NO_COLUMN):
        return None
    if isinstance(values, np.ndarray):
        if values.ndim == 0:
            return None
        if isinstance(values, np.ma.MaskedArray) and values.ndim == 1:
            masked = np.ma.getmaskarray(values).tolist()
            return [None if hidden else value for value, hidden in zip(listed(values.data) or (), masked, strict=True)]
        return list(values) if values.ndim > 1 or values.dtype.kind in "Mm" else values.tolist()
    if hasattr(values, "columns") or hasattr(values, "column_names"):
        return None  # a table
    elements = frame_column(values)
    if elements is None and hasattr(values, "tolist"):  # tensors, array.array, memoryview
        elements = cast(Any, values).tolist()
    elif elements is None and isinstance(values, Iterable):
        elements = list(values)
    return elements if isinstance(elements, list) else None


def read_with(name: str, values: Any, read: Callable[[Any], Any]) -> Any:
    """``read(values)`` for an object of any library. Whatever the object raises becomes an InvalidArgumentError."""
    if hasattr(values, "__next__"):
        return read(values)  # errors of the caller's own iterator reach the caller unchanged
    try:
        return read(values)
    except VectorDBError:
        raise
    except Exception as error:
        raise InvalidArgumentError(f"{name} can't be read: {error}", field=name, value=values) from error


def size_of(value: Any) -> int | None:
    """The length, or None if there is none."""
    try:
        return len(value)
    except Exception:  # it has no length, or its method fails
        return None


def sliced(column: Any, low: int, high: int) -> Any:
    """Rows ``low`` to ``high − 1`` of a column."""
    return column.iloc[low:high] if hasattr(column, "iloc") else column[low:high]


def repeatable(value: Any) -> Any:
    """An iterator, or one inside a mapping, as a list or a ``Table`` that can be read again. Anything else is returned unchanged."""
    if isinstance(value, Mapping):
        return {name: repeatable(column) for name, column in value.items()}
    if not hasattr(value, "__next__"):
        return value
    return as_table(value) if hasattr(value, "__arrow_c_stream__") else list(value)


# ---- Tables ----


class Table:
    """Columns by name, all with the same number of rows."""

    def __init__(self, columns: Mapping[str, Any], rows: int):
        self.columns = columns
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, part: slice) -> Table:
        low, high, _ = part.indices(self.rows)
        return Table({name: sliced(column, low, high) for name, column in self.columns.items()}, high - low)


def as_table(value: Any) -> Table | None:
    """A DataFrame of pandas or polars, an Arrow table or record batch, a structured array, or any object with ``__arrow_c_stream__``.

    Returns None if this is not a table. Raises InvalidArgumentError if two columns have the same name.
    """
    if isinstance(value, Table):
        return value
    if isinstance(value, np.ndarray):
        names = value.dtype.names if value.ndim == 1 else None
        return None if names is None else Table({name: value[name] for name in names}, len(value))
    if hasattr(value, "collect_schema") and not hasattr(value, "get_columns"):
        raise InvalidArgumentError(f"points are a {type(value).__name__} of polars; call collect() on it first", field="columns")
    if hasattr(value, "iloc") and hasattr(value, "columns"):
        columns = {} if value.index.name is None or value.index.name in value.columns else {value.index.name: value.index}
        return _named([*columns, *value.columns], [*columns.values(), *(value.iloc[:, c] for c in range(value.shape[1]))], len(value))
    if hasattr(value, "get_columns") and hasattr(value, "height"):
        return _named(value.columns, value.get_columns(), value.height)
    if hasattr(value, "column_names") and hasattr(value, "num_rows"):
        return _named(value.column_names, list(value.columns), value.num_rows)
    if hasattr(value, "__arrow_c_stream__"):
        try:
            import pyarrow

            return as_table(pyarrow.table(value))
        except Exception as error:  # pyarrow is not installed, or the object is not a table
            what = f"points can't be read as an Arrow table: {error}"
            raise InvalidArgumentError(what, field="columns", value=value) from error
    return None


def _named(names: Sequence, columns: Sequence, rows: int) -> Table:
    by_name: dict[Any, Any] = {}
    for name, column in zip(names, columns, strict=True):
        if name in by_name:
            raise InvalidArgumentError(f"two columns are named {shown(name)}", field="columns", value=name)
        by_name[name] = column
    return Table(by_name, rows)


# ---- Vectors ----


def unwrapped(value: Any) -> Any:
    """Numbers of another library as numpy arrays, or lists of arrays with None for null rows. Anything else is returned unchanged.

    Raises MaskedError, and what the code of the library raises.
    """
    kind = type(value)
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.is_masked(value):
            raise MaskedError
        return value.data
    if isinstance(value, np.ndarray):
        return unwrapped(value.tolist()) if value.dtype == object and value.ndim == 1 else value
    if kind is list or kind is tuple:
        if value and type(value[0]) in _NUMBERS:
            return value  # one vector; numpy checks its numbers
        rows = [None if is_null(row) else unwrapped(row) for row in value]
        return tuple(rows) if kind is tuple else rows
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        tensor = value.detach().cpu()
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    if hasattr(value, "to_pylist"):
        return unwrapped(value.to_numpy(zero_copy_only=False))
    if hasattr(value, "as_py"):
        return unwrapped(value.as_py())
    if hasattr(value, "to_numpy"):
        if hasattr(value, "null_count") and hasattr(value, "to_list") and value.null_count():
            return unwrapped(value.to_list())  # to_numpy() would turn nulls into NaN
        return unwrapped(value.to_numpy())
    if hasattr(value, "__array__") or isinstance(value, (memoryview, array)):
        return np.asarray(value)
    return list(value) if hasattr(value, "__next__") else value


def is_sparse(value: Any) -> bool:
    """Whether this is a sparse matrix of scipy or a sparse tensor of torch."""
    return hasattr(value, "tocsr") or (hasattr(value, "to_sparse_csr") and str(value.layout) != "torch.strided")


def csr_row(value: Any) -> Any:
    """(terms, weights) of a scipy matrix of one row in CSR form, as they are stored; anything else as it is."""
    if getattr(value, "format", None) != "csr" or not hasattr(value, "tocsr") or len(value.indptr) != 2:
        return value
    terms, weights = value.indices, value.data
    return (terms, weights) if value.indptr[0] == 0 and value.indptr[1] == len(terms) == len(weights) else value


def sparse_rows(value: Any) -> Any:
    """A sparse matrix or tensor as an object that can be sliced by rows."""
    if hasattr(value, "tocsr"):
        return value.tocsr()
    indptr, terms, weights = compressed(value)
    return [(terms[low:high], weights[low:high]) for low, high in itertools.pairwise(indptr)]


def compressed(value: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """indptr, terms and weights of a sparse matrix or tensor; a vector is a matrix of one row. Repeated entries are summed."""
    if hasattr(value, "tocsr"):
        matrix = value.tocsr()
        if not matrix.has_canonical_format:
            matrix = matrix.copy()
            matrix.sum_duplicates()
        return matrix.indptr, matrix.indices, matrix.data
    tensor = value.detach().cpu().to_sparse()
    tensor = (tensor.unsqueeze(0) if tensor.ndim == 1 else tensor).coalesce()
    owner, terms = tensor.indices().numpy()
    sizes = np.bincount(owner, minlength=tensor.shape[0])
    return np.concatenate([[0], np.cumsum(sizes)]), terms, unwrapped(tensor.values())
