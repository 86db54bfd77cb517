"""Dense vector fields: ``dim`` numbers for each point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from ...errors import InvalidArgumentError, SchemaError, many, shown
from ..arguments import named_class
from ..attribute_derivations import query_of
from ..derivations import Derivation, check_derivation
from ..foreign import size_of
from ..norms import surely_allowed
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
    pack_matrix,
    text_written,
    unpack_matrix,
    wrong_vector,
)

GRAPH_BUILDERS = ("vamana", "faiss", "hnswlib")
USUAL_DEGREE, USUAL_EF_CONSTRUCTION = 16, 80  # where an index leaves one of them open
IVF_BITS, USUAL_BITS = (2, 4, 8), 4
MIN_DEGREE, MAX_DEGREE, MAX_EF_CONSTRUCTION = 4, 64, 2000


@dataclass(frozen=True)
class DenseColumn(Column):
    """Dense vectors of n points. values: finite float32 or float16 ``(n, dim)``. rows: as in ``Column``."""

    values: np.ndarray
    rows: np.ndarray | None = None
    message: ClassVar[str] = "dense"
    names: ClassVar[tuple[str, ...]] = ("values",)
    ragged: ClassVar[bool] = False

    @classmethod
    def read(cls, name: str, spec: Dense, value: Any, n: int, rows: np.ndarray | None = None, ids: Sequence[Any] | None = None) -> Self:
        """Check an ``(n, dim)`` array or n vectors."""
        if isinstance(value, DenseColumn):
            value = value.values
        if isinstance(value, (list, tuple)):
            for row, vector in enumerate(value):
                if isinstance(vector, str):
                    raise text_written(name, spec, vector)
                size = size_of(vector)
                if size is not None and size != spec.dim:
                    of = ids if ids is not None and row < len(ids) else None
                    raise wrong_vector(name, of, row, f"has {many(size, 'dimension')}, not {spec.dim}", size)
        values = floats(name, value, spec.dtype)
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
        check_rows(name, spec, values, ids, rows=rows, given=value)
        return cls(values, rows)

    @classmethod
    def query(cls, name: str, spec: Dense, value: Any) -> np.ndarray:
        """Check a query: ``(dim,)`` float32; of a derived field also a vector of its source, which the search derives."""
        if isinstance(value, Mapping) and spec.derived is not None and spec.derived.of_attributes:
            return query_of(name, spec, value)
        array = floats(name, value, "float32")
        if spec.source_dim is not None and array.shape[-1:] == (spec.source_dim,) and array.size == spec.source_dim:
            return check_query(name, spec, array.reshape(-1), value)
        if array.shape != (spec.dim,):
            if array.shape != (1, spec.dim):
                hint = "; for several queries write search_batch" if array.ndim == 2 and array.shape[1] == spec.dim else ""
                if spec.source_dim is not None and spec.derived is not None:
                    hint = hint or f"; a vector of {spec.derived.source!r} has shape ({spec.source_dim},) and is derived"
                what = f"query vector {name!r} has shape {array.shape}, not ({spec.dim},){hint}"
                raise InvalidArgumentError(what, field=name, value=array.shape)
            array = array[0]
        with np.errstate(over="ignore", invalid="ignore"):
            if surely_allowed(array.dot(array)):
                return array  # one product shows that it is finite and of an allowed norm
        return check_query(name, spec, array, value)

    @classmethod
    def queries(cls, name: str, spec: Dense, value: Any) -> list | None:
        if isinstance(value, np.ndarray) and value.ndim != 2:
            what = f"query vectors {name!r} have shape {value.shape}, not (n, {spec.dim})"
            raise InvalidArgumentError(what, field=name, value=value.shape)
        return None

    @classmethod
    def of(cls, spec: Dense, vectors: Sequence[Any], rows: np.ndarray | None = None) -> Self:
        if len(vectors) == 1:
            return cls(np.asarray(vectors[0]).reshape(1, -1), rows)
        return cls(np.stack(vectors) if vectors else np.empty((0, spec.dim), np.float32), rows)

    def vector(self, position: int) -> np.ndarray:
        return self.values[position]

    def vectors(self) -> np.ndarray:
        return self.values

    def pack(self, message: Any) -> None:
        pack_matrix(message, self.values)

    @classmethod
    def unpack(cls, message: Any, n: int, field: str, rows: np.ndarray | None = None) -> Self:
        return cls(unpack_matrix(message, n, field), rows)

    @staticmethod
    def arrow_type(pa: Any, spec: Dense) -> Any:
        return pa.list_(pa.float32(), spec.dim)


@named_class
@dataclass(frozen=True)
class HNSW:
    """How the index of a dense field is built. It doesn't limit the recall that a search can ask for.

    A higher degree or ef_construction gives a better graph, which takes longer to build. A higher degree also takes more memory. If both
    are None, the build chooses: it measures how many of the nearest rows searches find, and improves the graph where these are too few. If
    one is None, it is 16 or 80.

    Attributes:
        graph_builder: "vamana", "faiss", or "hnswlib" where that is installed. "vamana" builds over compressed vectors, which is fastest.
            Only it can choose; the others take 16 and 80.
        degree: neighbours of a node, 4 to 64. The lowest layer has twice as many.
        ef_construction: candidates that are considered when a node is linked, from ``degree`` to 2000.
    """

    graph_builder: str = "vamana"
    degree: int | None = None
    ef_construction: int | None = None
    kind: ClassVar[str] = "hnsw"

    def __post_init__(self):
        choice("graph_builder", self.graph_builder, GRAPH_BUILDERS)
        if self.degree is not None:
            check_integer("degree", self.degree, MIN_DEGREE, MAX_DEGREE)
        if self.ef_construction is not None:
            check_integer("ef_construction", self.ef_construction, self.degree or USUAL_DEGREE, MAX_EF_CONSTRUCTION)


@named_class
@dataclass(frozen=True)
class IVF:
    """How a dense field is indexed as inverted lists: each point is in the list of the nearest of many centroids, with a code of one bit a
    number and a longer one. A search reads the lists near the query.

    It is built several times as fast as a graph and takes less memory; most searches take longer. It doesn't limit the recall that a search
    can ask for.

    Attributes:
        bits: bits a number of the longer code: 2, 4 or 8. With more, fewer full-precision vectors are read, and the index is larger.
    """

    bits: int = USUAL_BITS
    kind: ClassVar[str] = "ivf"

    def __post_init__(self):
        if type(self.bits) is not int or self.bits not in IVF_BITS:
            what = f"bits must be one of {', '.join(map(str, IVF_BITS))}, not {shown(self.bits)}"
            raise SchemaError(what, field="bits", value=self.bits)


@named_class
@dataclass(frozen=True)
class Dense(VectorField):
    """A dense vector field: ``dim`` numbers for each point.

    Attributes:
        dim: the number of dimensions, 1 to 65,536.
        metric: "cosine": the score is the cosine, higher is closer. "dot": the inner product, higher is closer. "l2": the *squared*
            Euclidean distance, lower is closer.
        dtype: "float32" or "float16", in which vectors are stored.
        encoder: the name of an encoder, such as "wordllama(dim=256)". ``search(text=…)`` then encodes texts.
        source: the attribute that the encoder reads; ``upsert`` then encodes it.
        index: how the field is indexed: HNSW() or IVF(). None: it is never indexed, and every search of it is exact.
        derived: how its vectors are made from those of another dense field: ``Prefix("v")``, ``Project("v")``, ``PCA("v")`` or
            ``Pick("v")``; or from attributes: ``Attributes("price", "brand")``, ``Series("readings")``. The database makes them in each
            write, so nobody writes them. A query may be a vector of the field or of "v", or a mapping of attributes to values.

    Raises:
        SchemaError: a value is not valid.
    """

    dim: int
    metric: str = "cosine"
    dtype: str = "float32"
    encoder: str | None = None
    source: str | None = None
    index: HNSW | IVF | None = HNSW()
    derived: Derivation | None = None
    kind: ClassVar[str] = "dense"
    column: ClassVar[type[Column]] = DenseColumn
    index_options: ClassVar[tuple[Any, ...]] = (HNSW, IVF)
    pools: ClassVar[bool] = True

    def __post_init__(self):
        check_integer("dim", self.dim, 1, MAX_DIM)
        choice("metric", self.metric, ("cosine", "dot", "l2"))
        choice("dtype", self.dtype, ("float32", "float16"))
        check_encoder(self.encoder, self.source)
        check_index(self.index, HNSW, IVF)
        check_derivation(self.derived, self.encoder, self.source)

    def reading(self, names: Mapping[str, str]) -> VectorField:
        if self.derived is None:
            return super().reading(names)
        return replace(self, derived=self.derived.reading(names))
