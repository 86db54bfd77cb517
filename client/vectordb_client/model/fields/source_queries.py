"""Checks queries of derived sparse fields that are vectors of the source, and puts them into messages."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from ...errors import InvalidArgumentError, listing, shown
from ..foreign import is_sparse, size_of
from ..norms import MAX_NORM
from ..of_source import MAX_TOP_TERMS, TopTerms
from .base import Column, array_of, floats, pack_matrix, unpack_matrix


@dataclass(frozen=True)
class TopTermsColumn(Column):
    """Queries that are vectors of the source. values: float32 ``(n, source_dim)``. keep: uint32 ``(n,)``, terms that each keeps; 0: all."""

    values: np.ndarray
    keep: np.ndarray
    rows: np.ndarray | None = None
    message: ClassVar[str] = "dense"
    names: ClassVar[tuple[str, ...]] = ("values", "keep")
    ragged: ClassVar[bool] = False

    @classmethod
    def of(cls, spec: Any, vectors: Sequence[TopTerms], rows: np.ndarray | None = None) -> Self:
        return cls(np.stack([each.vector for each in vectors]), np.array([each.k or 0 for each in vectors], np.uint32), rows)

    def vector(self, position: int) -> TopTerms:
        return TopTerms(self.values[position], int(self.keep[position]) or None)

    def pack(self, message: Any) -> None:
        pack_matrix(message, self.values)
        if self.keep.any():
            message.keep = self.keep.astype("<u4").tobytes()

    @classmethod
    def unpack(cls, message: Any, n: int, field: str, rows: np.ndarray | None = None) -> Self:
        values = unpack_matrix(message, n, field)
        keep = array_of(message.keep, "<u4", field) if message.keep else np.zeros(n, np.uint32)
        if len(keep) != n:
            raise InvalidArgumentError(f"query vectors {field!r} have {len(keep)} numbers of terms for {n} queries", field=field)
        if keep.max(initial=0) > MAX_TOP_TERMS:
            what = f"query vectors {field!r} keep {int(keep.max())} terms, at most {MAX_TOP_TERMS} are possible"
            raise InvalidArgumentError(what, field=field, value=int(keep.max()))
        return cls(values, keep, rows)


def source_query(name: str, spec: Any, value: Any) -> TopTerms | None:
    """Check a query that is a vector of the source; None for one in terms. Raises InvalidArgumentError."""
    top = value if isinstance(value, TopTerms) else None
    if spec.derived is None:
        if top is not None:
            what = f"query vector {name!r} is a TopTerms, which is for derived sparse fields; pass terms and weights: {{17: 0.5}}"
            raise InvalidArgumentError(what, field=name, value=type(value).__name__)
        return None
    if top is None and not _is_vector(value):
        return None
    given = value if top is None else top.vector
    if top is not None and (isinstance(given, TopTerms) or not (_is_vector(given) or isinstance(given, (list, tuple, str)))):
        what = f"query vector {name!r} is a TopTerms of {shown(given)}; it takes a vector of {spec.derived.source!r}, ({spec.source_dim},)"
        raise InvalidArgumentError(f"{what}, and terms with weights are passed without it: {{17: 0.5}}", field=name, value=given)
    array = floats(name, given, "float32")
    if array.shape == (1, spec.source_dim):
        array = array[0]
    if array.shape != (spec.source_dim,):
        hint = "; for several queries write search_batch" if array.ndim == 2 and array.shape[1] == spec.source_dim else ""
        what = f"query vector {name!r} has shape {array.shape}; a vector of {spec.derived.source!r} has shape ({spec.source_dim},)"
        raise InvalidArgumentError(f"{what}{hint or ', and one of the field is {term: weight}'}", field=name, value=array.shape)
    length = float(np.linalg.norm(array.astype(np.float64)))
    if not np.isfinite(array).all() or length > MAX_NORM:
        raise InvalidArgumentError(f"query vector {name!r} holds numbers that are not finite or too large", field=name, value=length)
    if length == 0:
        raise InvalidArgumentError(f"query vector {name!r} is all zeros, which has no terms", field=name, value=0.0)
    return TopTerms(array, None if top is None else top.k)


def source_queries(name: str, spec: Any, value: TopTerms) -> list[TopTerms]:
    """Check several queries that are one ``TopTerms`` of a matrix. Raises InvalidArgumentError."""
    if size_of(value.vector) is None:
        what = f"query vectors {name!r} must be TopTerms of an (n, {spec.source_dim}) array, not of {shown(value.vector)}"
        raise InvalidArgumentError(what, field=name, value=value.vector)
    checked = [source_query(name, spec, TopTerms(vector, value.k)) for vector in value.vector]
    return [each for each in checked if each is not None]


def with_terms(name: str, words: Sequence[str], query: Mapping[Any, Any]) -> Any:
    """A query of a field whose terms are words, {word or term: weight}, as pairs of term and weight. One without words is returned as it
    is. Raises InvalidArgumentError, which names a word that the field doesn't have.
    """
    if set(query) == {"indices", "values"} or not query:
        return query
    pairs, terms = [], None
    for key, weight in query.items():
        term = key
        if isinstance(key, str):
            terms = terms or {word: position for position, word in enumerate(words)}
            if key not in terms:
                near = difflib.get_close_matches(key, words, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"its words: {listing(words)}"
                raise InvalidArgumentError(f"query vector {name!r}: the field has no word {shown(key)}; {hint}", field=name, value=key)
            term = terms[key]
        pairs.append((term, weight))
    if terms is None:
        return query
    twice = next((term for term, n in Counter(term for term, _ in pairs).items() if n > 1), None)
    if twice is not None:
        what = f"query vector {name!r} gives a weight to term {twice} and to its word {words[twice]!r}; give one of them"
        raise InvalidArgumentError(what, field=name, value=twice)
    return dict(pairs)


def _is_vector(value: Any) -> bool:
    """Whether a value is one dense vector, not a sparse one in any of its forms."""
    if isinstance(value, (Mapping, str, bytes)) or is_sparse(value):
        return False
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(each, (int, float, np.number)) and not isinstance(each, bool) for each in value)
    return hasattr(value, "__array__") or hasattr(value, "shape")
