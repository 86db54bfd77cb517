"""Types of public parameters. Each alias names every form that a parameter accepts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from .boosts import Boost
from .filter_nodes import Filter
from .ranking import Fusion
from .results import Point
from .values import Id


class SupportsArray(Protocol):
    """An array or tensor: of numpy, pandas, polars, Arrow, torch, or any other library with ``__array__``."""

    def __array__(self) -> np.ndarray: ...


class SupportsArrow(Protocol):
    """A table: a DataFrame of pandas or polars, an Arrow table."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


class ScipySparse(Protocol):
    """A sparse matrix of scipy."""

    def tocsr(self) -> Any: ...


class TorchSparse(Protocol):
    """A sparse tensor of torch."""

    def to_sparse_csr(self) -> Any: ...


SparseMatrix: TypeAlias = ScipySparse | TorchSparse

DenseVector: TypeAlias = Sequence[float] | SupportsArray
"""``(dim,)`` numbers."""

MultiVectors: TypeAlias = Sequence[Sequence[float]] | Sequence[SupportsArray] | SupportsArray
"""``(rows, dim)`` numbers."""

SparseVector: TypeAlias = (
    Mapping[int, float] | tuple[Sequence[int] | SupportsArray, Sequence[float] | SupportsArray] | Sequence[tuple[int, float]] | SparseMatrix
)
"""``{term: weight}``, ``(indices, values)``, a list of ``(term, weight)``, or a sparse matrix of one row."""

Vector: TypeAlias = DenseVector | MultiVectors | SparseVector
"""One vector of any kind: a query, or the value of one field of one point."""

VectorColumn: TypeAlias = SupportsArray | SparseMatrix | Iterable[Vector | None]
"""One vector for each of n points or n queries: an ``(n, dim)`` array, a sparse matrix of n rows, or a list. None: no vector."""

Ids: TypeAlias = Id | Iterable[Id] | SupportsArray
"""One id or several: a list, an array, a Series."""

Column: TypeAlias = Iterable[Any] | SupportsArray
"""One value for each of n points: a list, an array, a Series."""


PointsLike: TypeAlias = Iterable[Point | Mapping[str, Any]] | SupportsArrow | np.ndarray
"""``Point`` objects or dicts, or a table: a DataFrame of pandas or polars, an Arrow table, a structured array."""

FilterLike: TypeAlias = Filter | str | Mapping[str, Any]
"""An ``F`` expression, a string such as ``"price < 20"``, or its JSON form such as ``{"op": "lt", "field": "price", "value": 20}``."""

FusionLike: TypeAlias = Literal["rrf", "relative", "dbsf", "linear"] | Fusion
"""The name of a fusion, or ``RRF(…)``, ``Relative(…)``, ``DBSF(…)``, ``Linear(…)`` with options."""

BoostLike: TypeAlias = Boost | Sequence[Boost]
"""A boost or several: ``Decay(…)``, ``Value(…)``, ``If(…)``."""

ExamplesLike: TypeAlias = Sequence[Any] | Mapping[str, Sequence[Any]]
"""Examples (ids or vectors, or pairs of them; texts or vectors) of the only dense field, or field → examples."""

Versions: TypeAlias = int | Sequence[int | None] | Mapping[Any, int]
"""One expected version for all points, a list of one for each, or a mapping from id."""

Durability: TypeAlias = Literal["commit", "batched"]
Selection: TypeAlias = bool | Sequence[str]
"""True: all. False: none. A list: these names."""

AsOf: TypeAlias = int | datetime | str | None
"""A state of a collection: a sequence number, a datetime with a time zone, or ISO text of one. None: the present."""

Span: TypeAlias = str | float | timedelta
"""A time: text such as "7d" or "12h", seconds, or a timedelta."""
