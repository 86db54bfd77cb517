"""The interface of encoders, and the parsers of their options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import xxhash
from vectordb_client.errors import EncoderError, InvalidArgumentError, shown
from vectordb_client.model.fields import DenseColumn, MultiColumn, SparseColumn
from vectordb_client.model.schema import Dense, VectorField

from ..common.analyze import Plain

State = Mapping[str, int]


class Encoded(NamedTuple):
    """Encoded documents.

    column: their vectors. counters: to be added to the field's state; None if the encoder keeps no state. words: a function that returns
    the word of each term of the documents, except the terms in its argument (uint64, ascending); None if terms have no words.
    """

    column: DenseColumn | SparseColumn | MultiColumn
    counters: State | None = None
    words: Callable[[np.ndarray], dict[int, str]] | None = None


class Piece(NamedTuple):
    """What one row of a text's multi-vector stands for: the word or part of a word, and its place [start, end) in the text. What a model
    adds to the text has an empty place.
    """

    word: str
    start: int
    end: int


# Kind of vectors → (what they are called, the type of field that holds them).
_KINDS = {"dense": ("dense vectors", "Dense"), "sparse": ("sparse vectors", "Sparse"), "multi": ("multi-vectors", "MultiVector")}


class Encoder:
    """Converts text to vectors. Safe to use from several threads.

    identity: everything that decides the output: encoder, model and options. A field holds vectors of one identity only. kind: "dense",
    "sparse" or "multi". dim: the length of a dense vector, or of the rows of a multi-vector; None for sparse vectors. options: name →
    parser of its value, which raises ValueError with the form expected. earlier: the encoder that fields made by earlier versions of
    vectordb keep using.
    """

    options: ClassVar[Mapping[str, Callable[[str], Any]]] = {}
    earlier: ClassVar[type[Encoder] | None] = None
    identity: str
    kind: str
    dim: int | None = None

    @classmethod
    def analyzed(cls, analysis: Plain, **options: Any) -> Encoder:
        """The encoder with these options for texts whose words an analyzer makes. Raises EncoderError if both say the same thing."""
        return cls(**options)

    def encode_documents(self, texts: Sequence[str], state: State | None = None) -> Encoded:
        """Encode documents. state: the field's counters.

        A text with nothing to encode has no vector in a dense or multi column (``column.rows`` lists the texts that have one) and an empty
        one in a sparse column.
        """
        raise NotImplementedError

    def encode_queries(self, texts: Sequence[str]) -> list:
        """One query vector for each text: float32 ``(dim,)``, (uint64 terms ascending, float32 weights), which may be empty, or float32
        ``(rows, dim)``.
        """
        raise NotImplementedError

    def words_of(self, text: str, terms: Sequence[int]) -> dict[int, str]:
        """The words behind the term ids of a text's query vector, as far as they are known. ``explain`` prints them."""
        return {}

    def pieces(self, text: str, query: bool = False) -> list[Piece]:
        """What each row of a text's multi-vector stands for; [] if it isn't known. ``explain`` and ``highlight`` show it."""
        return []

    def check(self, spec: VectorField) -> None:
        """Check that a field can hold the vectors of this encoder. Raises EncoderError if it can't."""
        if spec.kind != self.kind:
            made, use = _KINDS[self.kind]
            what = f"encoder {spec.encoder!r} makes {made}, but the field is {spec.kind}; use a {use} field"
            raise EncoderError(what, field="encoder", value=spec.encoder)
        if self.dim is not None and (given := cast(Dense, spec).dim) != self.dim:
            use = f"{type(spec).__name__}({self.dim}, …)"
            what = f"encoder {spec.encoder!r} makes {self.dim} dimensions, but the field has {given}; write {use}"
            raise EncoderError(what, field="dim", value=given)

    def __repr__(self) -> str:
        return self.identity


class OneVector(Encoder):
    """An encoder that makes one dense vector of a text, or none. It keeps no state."""

    kind = "dense"

    def vectors(self, texts: Sequence[str], query: bool) -> tuple[np.ndarray, np.ndarray]:
        """Vectors float32 ``(n, dim)``, and bool ``(n,)``: which texts have one."""
        raise NotImplementedError

    def encode_documents(self, texts: Sequence[str], state: State | None = None) -> Encoded:
        """One vector a text. A text with nothing to encode has no row."""
        return Encoded(dense_column(*self.vectors(texts, query=False)))

    def encode_queries(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One vector a text. Raises InvalidArgumentError on a text with nothing to encode."""
        values, present = self.vectors(texts, query=True)
        if not present.all():
            text = texts[int(np.flatnonzero(~present)[0])]
            raise InvalidArgumentError(f"text {shown(text)} has nothing to encode; give at least one word", field="text", value=text)
        return list(values)


def choice(*allowed: Any) -> Callable[[str], Any]:
    """A parser of an option that has one of a few values."""
    by_text = {str(value): value for value in allowed}

    def read(text: str) -> Any:
        if text not in by_text:
            raise ValueError(f"one of {', '.join(by_text)}")
        return by_text[text]

    return read


def boolean(text: str) -> bool:
    """The value of an option that is true or false. Raises ValueError."""
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower() == "true"


def number(low: float, high: float) -> Callable[[str], float]:
    """A parser of an option that is a number within limits, both included."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return value

    return read


def integer(low: int, high: int) -> Callable[[str], int]:
    """A parser of an option that is an integer within limits, both included."""

    def read(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise ValueError(f"an integer from {low} to {high}")
        return int(text)

    return read


def word(text: str) -> str:
    """The value of an option that is a text. Raises ValueError when it is empty."""
    if not text:
        raise ValueError("a text of at least one character")
    return text


def fingerprint(files: Sequence[Path]) -> str:
    """A checksum of the contents of files, as 16 hexadecimal digits. It doesn't depend on where a model is installed."""
    state = xxhash.xxh3_64()
    for path in files:
        state.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                state.update(block)
    return state.hexdigest()


def unknown(terms: np.ndarray, known: np.ndarray) -> np.ndarray:
    """bool: which terms (uint64, ascending) are not in ``known`` (uint64, ascending)."""
    if not len(known):
        return np.ones(len(terms), np.bool_)
    return known[np.minimum(np.searchsorted(known, terms), len(known) - 1)] != terms


def dense_column(values: np.ndarray, present: np.ndarray) -> DenseColumn:
    """A column of the rows of ``values`` (float32 ``(n, dim)``) where the mask ``present`` (bool ``(n,)``) is set."""
    if present.all():
        return DenseColumn(values)
    return DenseColumn(np.ascontiguousarray(values[present]), np.flatnonzero(present).astype(np.int32))
