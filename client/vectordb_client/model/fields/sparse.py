"""Sparse vector fields: terms with weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ...errors import InvalidArgumentError, LimitError, SchemaError, many, shown
from ..arguments import named_class
from ..checks import check_flag
from ..derivations import Derivation, check_derivation
from ..foreign import compressed, csr_row, is_integer, is_sparse, listed, read_with, size_of
from ..norms import MAX_NORM, check_sparse_norms, surely_allowed
from ..of_source import TopTerms
from ..options import check_integer, choice
from .base import (
    Column,
    VectorField,
    array_of,
    cause,
    check_encoder,
    check_index,
    floats,
    pack_counts,
    refusal,
    text_written,
    unpack_counts,
    unreadable,
    wrong_vector,
)
from .source_queries import TopTermsColumn, source_queries, source_query, with_terms

if TYPE_CHECKING:
    from ..values import Id

MAX_TERMS = 65_535
MIN_LEVELS, MAX_LEVELS = 2, 64
MAX_WEIGHT = 1000  # of an attribute that "bm25f" reads
COUNTING = frozenset(("bm25", "bm25f", "trigram"))  # encoders whose vectors are frequencies, weighted by BM25's formula
_SPARSE_FORMS = "{term: weight}, (indices, values) or a list of (term, weight)"


@dataclass(frozen=True)
class SparseColumn(Column):
    """Sparse vectors of n points, in CSR form.

    indptr: int64 ``(n+1,)``. terms: uint64, strictly ascending within a row. weights: float32, finite and not 0. rows: as in ``Column``.
    """

    indptr: np.ndarray
    terms: np.ndarray
    weights: np.ndarray
    rows: np.ndarray | None = None
    message: ClassVar[str] = "sparse"
    names: ClassVar[tuple[str, ...]] = ("terms", "weights")

    @staticmethod
    def unwrapped(value: Any) -> Any:
        if is_sparse(value):
            return value
        values = listed(value)
        return value if values is None else values

    @classmethod
    def read(cls, name: str, spec: Sparse, value: Any, n: int, rows: np.ndarray | None = None, ids: Sequence[Id] | None = None) -> Self:
        """Check a sparse matrix (scipy) or sparse tensor (torch) of n rows, or n sparse vectors in the forms of ``_pair``.

        Zeros are dropped. Repeated entries of a matrix are summed, as scipy does.
        """
        if isinstance(value, SparseColumn):
            indptr, terms, weights = value.indptr, value.terms, value.weights
        elif is_sparse(value):
            indptr, terms, weights = _compressed(name, value)
            if len(indptr) != n + 1:
                raise InvalidArgumentError(
                    f"vectors {name!r} have {len(indptr) - 1} rows for {n} points", field=name, value=len(indptr) - 1
                )
        else:
            if isinstance(value, (str, bytes, Mapping, np.ndarray)) or size_of(value) != n:
                what = f"vectors {name!r} must be a scipy CSR matrix of {many(n, 'row')} or {n} of {_SPARSE_FORMS}, not {shown(value)}"
                if n == 1 and isinstance(value, Mapping):
                    what += f"; write {{{name!r}: [{shown(value)}]}}"
                raise InvalidArgumentError(what, field=name, value=value)
            text = next((vector for vector in value if isinstance(vector, str)), None)
            if text is not None:
                raise text_written(name, spec, text)
            pairs = [_pair(name, vector, ids, row) for row, vector in enumerate(value)]
            indptr = np.concatenate([[0], np.cumsum([len(terms) for terms, _ in pairs])])
            terms = np.concatenate([terms for terms, _ in pairs]) if pairs else np.empty(0, np.uint64)
            weights = np.concatenate([weights for _, weights in pairs]) if pairs else np.empty(0, np.float32)
        indptr, terms, weights = _checked_csr(name, indptr, terms, weights, n, ids)
        if spec.binary:
            return cls(indptr, terms, np.ones(len(terms), np.float32), rows)
        check_sparse_norms(indptr, weights, refusal(name, ids, rows))
        return cls(indptr, terms, weights, rows)

    @classmethod
    def query(cls, name: str, spec: Sparse, value: Any) -> Any:
        """Check a query: (ascending uint64 terms, float32 weights); of a derived field also ``TopTerms``, which the search derives."""
        of_source = source_query(name, spec, value)
        if of_source is not None:
            return of_source
        if spec.derived is not None and spec.derived.words and isinstance(value, Mapping):
            value = with_terms(name, spec.derived.words, value)
        plain = _plain_pair(_arrays_of(value) if type(value) is dict else csr_row(value))
        if plain is None:
            if isinstance(value, (list, tuple)) and value and all(isinstance(query, Mapping) for query in value):
                what = f"query vector {name!r} is a list of sparse vectors; for several queries write search_batch"
                raise InvalidArgumentError(what, field=name, value=value)
            return cls.read(name, spec, value if is_sparse(value) else [value], 1).vector(0)
        return (plain[0], np.ones(len(plain[0]), np.float32)) if spec.binary else plain

    @classmethod
    def queries(cls, name: str, spec: Sparse, value: Any) -> list | None:
        if isinstance(value, TopTerms):
            return source_queries(name, spec, value)
        if not is_sparse(value):
            return None
        indptr, terms, weights = _compressed(name, value)
        return cls.read(name, spec, cls(indptr, terms, weights), len(indptr) - 1).vectors()

    @classmethod
    def of(cls, spec: Sparse, vectors: Sequence[Any], rows: np.ndarray | None = None) -> Self:
        if len(vectors) == 1:
            terms, weights = vectors[0]
            return cls(np.array([0, len(terms)]), terms, weights, rows)
        indptr = np.cumsum([0, *(len(terms) for terms, _ in vectors)])
        terms = np.concatenate([np.empty(0, np.uint64), *(terms for terms, _ in vectors)])
        weights = np.concatenate([np.empty(0, np.float32), *(weights for _, weights in vectors)])
        return cls(indptr, terms, weights, rows)

    def vector(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        low, high = self.indptr[position], self.indptr[position + 1]
        return self.terms[low:high], self.weights[low:high]

    def sums(self) -> np.ndarray:
        """The sum of the weights of each vector, int64. For term frequencies, it is the number of words of a text."""
        ends = np.concatenate([[0], np.cumsum(self.weights, dtype=np.int64)])
        return ends[self.indptr[1:]] - ends[self.indptr[:-1]]

    def pack(self, message: Any) -> None:
        message.counts = pack_counts(self.indptr)
        message.terms = np.ascontiguousarray(self.terms, "<u8").tobytes()
        message.weights = np.ascontiguousarray(self.weights, "<f4").tobytes()

    @classmethod
    def unpack(cls, message: Any, n: int, field: str, rows: np.ndarray | None = None) -> Self:
        indptr = unpack_counts(message.counts, n, field)
        terms, weights = array_of(message.terms, "<u8", field), array_of(message.weights, "<f4", field)
        if not len(terms) == len(weights) == indptr[-1]:
            raise InvalidArgumentError(
                f"vectors {field!r} have {len(terms)} terms and {len(weights)} weights for counts of {indptr[-1]}", field=field
            )
        return cls(indptr, terms, weights, rows)

    @staticmethod
    def to_json(vector: Any) -> Any:
        terms, weights = vector
        return {"indices": np.asarray(terms).tolist(), "values": np.asarray(weights).tolist()}

    @staticmethod
    def from_json(value: Any) -> Any:
        """``{"indices": [...], "values": [...]}`` or ``{"TERM": weight}``. Raises InvalidArgumentError."""
        if not isinstance(value, Mapping):
            return value
        if set(value) == {"indices", "values"}:
            return value["indices"], value["values"]
        try:
            return {int(term): weight for term, weight in value.items()}
        except (TypeError, ValueError):
            what = f'{shown(value)} is not a sparse vector; its terms must be integers, as in {{"17": 0.5}}'
            raise InvalidArgumentError(what, field="vectors", value=value) from None

    @staticmethod
    def arrow_type(pa: Any, spec: Sparse) -> Any:
        return pa.struct([("indices", pa.list_(pa.uint64())), ("values", pa.list_(pa.float32()))])


@named_class
@dataclass(frozen=True)
class ImpactIndex:
    """How a sparse field is indexed: as lists of points in descending order of weight, of which a search reads a part.

    Attributes:
        levels: levels to which weights are rounded, 2 to 64. With more, fewer points need an exact score, and the lists are longer.
    """

    levels: int = 16
    kind: ClassVar[str] = "impact"

    def __post_init__(self):
        check_integer("levels", self.levels, MIN_LEVELS, MAX_LEVELS)


@named_class
@dataclass(frozen=True)
class Sparse(VectorField):
    """A sparse vector field: uint64 terms with float32 weights, scored by inner product.

    A point that shares no term with the query is not a match of this field. Fields and queries with negative weights are searched exactly.

    Attributes:
        weighting: "idf" multiplies each weight of a query by the inverse document frequency of its term among the live points that have the
            field: ``ln(1 + (N − df + ½)/(df + ½))`` (Robertson and Spärck Jones, as in BM25). None doesn't. The encoders "bm25", "bm25f"
            and "trigram" always have "idf"; "none" only exists for fields that an earlier version created without it.
        encoder: the name of an encoder. "bm25" scores by BM25; the vectors of the field are then term frequencies, whole numbers ≥ 1.
            "trigram" does the same with parts of words, which finds misspelt words too. "bm25f" scores several attributes together.
        source: the attribute that the encoder reads; ``upsert`` then encodes it.
        sources: of the encoder "bm25f": the attributes that it reads, each with its weight, a whole number from 1 to 1,000, such as
            ``{"title": 3, "body": 1}``. A word in the title then counts like three in the body.
        derived: how its vectors are made from those of a dense field: ``CSR("v")`` or ``Concepts("v", words=…)``. The database makes them
            in each write, so nobody writes them. A query may be a vector of the field or of "v".
        binary: store only which terms a point has; every weight, also of a query, counts as 1.
        index: how the field is indexed. None: it is never indexed, and every search of it is exact.

    Raises:
        SchemaError: a value is not valid.
    """

    weighting: str | None = None
    encoder: str | None = None
    source: str | None = None
    binary: bool = False
    index: ImpactIndex | None = ImpactIndex()
    sources: Mapping[str, int] | None = None
    derived: Derivation | None = None
    kind: ClassVar[str] = "sparse"
    column: ClassVar[type[Column]] = SparseColumn
    index_options: ClassVar[tuple[Any, ...]] = (ImpactIndex,)
    has_terms: ClassVar[bool] = True

    def __post_init__(self):
        choice("weighting", self.weighting, (None, "idf", "none"))
        check_encoder(self.encoder, self.source)
        object.__setattr__(self, "sources", _checked_sources(self.encoder, self.source, self.sources))
        if self.counts_words:
            object.__setattr__(self, "weighting", self.weighting or "idf")
        elif self.weighting == "none":
            object.__setattr__(self, "weighting", None)
        check_flag("binary", self.binary, SchemaError)
        check_index(self.index, ImpactIndex)
        check_derivation(self.derived, self.encoder, self.source)
        if self.derived is not None and (self.weighting is not None or self.binary):
            option, value = ("weighting", self.weighting) if self.weighting is not None else ("binary", True)
            what = f"a derived field has no {option}: its weights are those that its derivation makes; leave {option} out"
            raise SchemaError(what, field=option, value=value)

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(self.sources) if self.sources is not None else super().reads

    def reading(self, names: Mapping[str, str]) -> VectorField:
        if self.derived is not None:
            return replace(self, derived=self.derived.reading(names))
        if self.sources is None:
            return super().reading(names)
        return replace(self, sources={names.get(name, name): weight for name, weight in self.sources.items()})

    @property
    def source_column(self) -> type[Column] | None:
        return None if self.derived is None else TopTermsColumn

    @property
    def counts_words(self) -> bool:
        """Whether the encoder counts words or parts of them, so that the field is scored by BM25."""
        return _name_of(self.encoder) in COUNTING


class Sources(dict[str, int]):
    """Attributes with their weights; it doesn't change, so it can be hashed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


def _name_of(encoder: str | None) -> str | None:
    return None if encoder is None else encoder.partition("(")[0].strip()


def _checked_sources(encoder: str | None, source: str | None, sources: Any) -> Sources | None:
    """Check the option ``sources`` beside ``encoder`` and ``source``. Raises SchemaError."""
    such = "sources={'title': 3, 'body': 1}"
    if _name_of(encoder) != "bm25f":
        if sources is None:
            return None
        raise SchemaError(f"sources is for the encoder 'bm25f', not for {shown(encoder)}; write source=…", field="sources", value=sources)
    if source is not None:
        raise SchemaError(f"encoder 'bm25f' reads several attributes; write {such} in place of source", field="source", value=source)
    if not isinstance(sources, Mapping) or not sources:
        what = f"encoder 'bm25f' needs the attributes that it reads, with their weights, such as {such}, not {shown(sources)}"
        raise SchemaError(what, field="sources", value=sources)
    for name, weight in sources.items():
        if not isinstance(name, str) or not is_integer(weight) or not 1 <= weight <= MAX_WEIGHT:
            what = f"sources must give each attribute a whole number from 1 to {MAX_WEIGHT}, such as {such}"
            what += f", not {shown(name)}: {shown(weight)}"
            raise SchemaError(what, field="sources", value=weight)
    return Sources({name: int(weight) for name, weight in sources.items()})


def _compressed(name: str, value: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        return compressed(value)
    except Exception as error:
        raise unreadable(name, value, error) from cause(error)


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
            raise wrong_vector(name, ids, row, f"must be one row of a sparse matrix, not {len(indptr) - 1}", len(indptr) - 1)
    elif isinstance(vector, list) and _are_pairs(vector):
        if len(vector) == 2 and all(_is_term(number) for pair in vector for number in pair):
            what = f"could be (term, weight) twice or (indices, values): {shown(vector)}; write {{term: weight}}"
            raise wrong_vector(name, ids, row, what, vector)
        terms, weights = [term for term, _ in vector], [weight for _, weight in vector]
    elif isinstance(vector, (tuple, list)) and len(vector) == 2:
        if _are_pairs(vector) and all(type(pair) is tuple and _is_term(pair[1]) for pair in vector) and _is_term(vector[1][0]):
            what = f"could be (term, weight) twice or (indices, values): {shown(vector)}; write {{term: weight}}"
            raise wrong_vector(name, ids, row, what, vector)
        terms, weights = vector
    else:
        raise wrong_vector(name, ids, row, f"must be {_SPARSE_FORMS}, not {shown(vector)}", vector)
    if type(terms) is not np.ndarray:
        listed_terms = read_with(name, terms, listed)
        if listed_terms is None:
            raise wrong_vector(name, ids, row, f"must be {_SPARSE_FORMS}, not {shown(vector)}", vector)
        for term in listed_terms:
            if not _is_term(term):
                raise wrong_vector(name, ids, row, f"has term {shown(term)}; terms are integers from 0 to 2^64−1", term)
        terms = np.array([int(t) for t in listed_terms], dtype=np.uint64)
    weights = floats(name, weights, "float32")
    if terms.shape != weights.shape or terms.ndim != 1:
        raise wrong_vector(name, ids, row, f"has {terms.size} terms and {weights.size} weights", weights.size)
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
    weights = floats(name, weights, "float32")
    if len(indptr) != n + 1 or indptr[0] != 0 or (np.diff(indptr) < 0).any() or indptr[-1] != len(terms) or len(terms) != len(weights):
        raise InvalidArgumentError(f"vectors {name!r} are not a CSR matrix of {n} rows", field=name, value=len(indptr) - 1)
    sizes = np.diff(indptr)
    owner = np.repeat(np.arange(n), sizes)
    bad = np.flatnonzero(~np.isfinite(weights))
    if len(bad):
        raise wrong_vector(
            name, ids, int(owner[bad[0]]), f"gives term {terms[bad[0]]} the weight {weights[bad[0]]}", float(weights[bad[0]])
        )
    same = owner[1:] == owner[:-1]
    if (same & (terms[1:] <= terms[:-1])).any():
        order = np.lexsort((terms, owner))
        terms, weights = terms[order], weights[order]
        twice = np.flatnonzero(same & (terms[1:] == terms[:-1]))
        if len(twice):
            raise wrong_vector(name, ids, int(owner[twice[0]]), f"has term {terms[twice[0]]} twice", int(terms[twice[0]]))
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


def _arrays_of(value: dict) -> Any:
    """The query {integer: float} as ascending terms and weights; a query with anything else in it as it is."""
    if not value or set(map(type, value)) != {int} or set(map(type, value.values())) != {float}:
        return value
    try:
        terms = np.fromiter(value, np.uint64, len(value))
    except OverflowError:
        return value
    if not (min(value.values()) > -MAX_NORM and max(value.values()) < MAX_NORM):  # these can be cast without a warning
        return value
    weights, order = np.fromiter(value.values(), np.float64, len(value)), terms.argsort()
    return terms[order], weights[order].astype(np.float32)


def _plain_pair(value: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """A query of two valid arrays, which is the usual case; None if it needs the full check."""
    if not isinstance(value, tuple) or len(value) != 2:
        return None
    terms, weights = value
    if not (type(terms) is type(weights) is np.ndarray) or not terms.ndim == weights.ndim == 1:
        return None
    if len(terms) != len(weights) or not 0 < len(terms) <= MAX_TERMS or terms.dtype.kind not in "iu":
        return None
    if not (terms[1:] > terms[:-1]).all() or terms[0] < 0:  # they ascend, so the first is the lowest
        return None
    with np.errstate(over="ignore"):
        if weights.dtype != np.float32:
            if weights.dtype != np.float64:
                return None
            weights = weights.astype(np.float32)  # what is too large becomes infinite, and what is too small 0
        if not surely_allowed(weights.dot(weights)) or not weights.all():
            return None
    return terms.astype(np.uint64, copy=False), np.ascontiguousarray(weights)
