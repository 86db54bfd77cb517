"""What every encoder offers, and how the text of an option becomes its value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import xxhash

from ..errors import EncoderError
from ..types import DenseColumn, SparseColumn, VectorField

State = Mapping[str, int]


class Encoded(NamedTuple):
    """What documents became: a column, the counters to add to the field's state (None: the encoder keeps none), and where its terms stand
    for something ``words(known)``: the words of the documents' terms, but for those that are known (uint64, ascending).
    """

    column: DenseColumn | SparseColumn
    counters: State | None = None
    words: Callable[[np.ndarray], dict[int, str]] | None = None


class Encoder:
    """Text → vectors of one kind.

    identity: what decides the output (encoder, model, options): vectors of two identities don't belong in one field.
    kind: "dense" or "sparse". dim: the length of a dense vector, None for sparse ones. Safe to use from several threads.
    """

    options: ClassVar[Mapping[str, Callable[[str], Any]]] = {}
    earlier: ClassVar[type[Encoder] | None] = None  # what fields of earlier versions go on being encoded by
    identity: str
    kind: str
    dim: int | None = None

    def encode_documents(self, texts: Sequence[str], state: State | None = None) -> Encoded:
        """A column over ``texts``, the counters to add to the field's ``state``, and the words of its terms.

        A text with nothing to encode has no row in a dense column (``rows`` tells which are there) and an empty row in a sparse one.
        """
        raise NotImplementedError

    def encode_queries(self, texts: Sequence[str]) -> list:
        """One query vector a text: ``(dim,)`` float32, or (uint64 terms ascending, float32 weights), which may be empty."""
        raise NotImplementedError

    def words_of(self, text: str, terms: Sequence[int]) -> dict[int, str]:
        """What the term ids of a text's query vector stand for, as far as it is known; explain prints it."""
        return {}

    def check(self, spec: VectorField) -> None:
        """Raises EncoderError unless a field of this definition can hold what the encoder makes."""
        if spec.kind != self.kind:
            raise EncoderError(f"{spec.encoder!r} makes {self.kind} vectors, the field is {spec.kind}", field="encoder", value=spec.encoder)
        if self.dim is not None and spec.dim != self.dim:
            raise EncoderError(f"{spec.encoder!r} makes {self.dim} dimensions, the field has {spec.dim}", field="dim", value=spec.dim)

    def __repr__(self) -> str:
        return self.identity


def choice(*allowed: Any) -> Callable[[str], Any]:
    """An option that is one of a few values."""
    by_text = {str(value): value for value in allowed}

    def read(text: str) -> Any:
        if text not in by_text:
            raise ValueError(f"one of {', '.join(by_text)}")
        return by_text[text]

    return read


def boolean(text: str) -> bool:
    """An option that is true or false."""
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower() == "true"


def number(low: float, high: float) -> Callable[[str], float]:
    """An option that is a number within limits."""

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
    """An option that is a whole number within limits."""

    def read(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return read


def word(text: str) -> str:
    """An option that is a piece of text and not empty."""
    if not text:
        raise ValueError("given a value")
    return text


def fingerprint(files: Sequence[Path]) -> str:
    """16 hexadecimal digits over the content of files: the same model has the same wherever it is installed."""
    state = xxhash.xxh3_64()
    for path in files:
        state.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                state.update(block)
    return state.hexdigest()


def unknown(terms: np.ndarray, known: np.ndarray) -> np.ndarray:
    """bool: which of the terms (uint64, ascending) aren't among the known ones (uint64, ascending)."""
    if not len(known):
        return np.ones(len(terms), np.bool_)
    return known[np.minimum(np.searchsorted(known, terms), len(known) - 1)] != terms


def dense_column(values: np.ndarray, there: np.ndarray) -> DenseColumn:
    """Rows ``values[there]`` with the places they come from; ``there`` is a mask."""
    if there.all():
        return DenseColumn(values)
    return DenseColumn(np.ascontiguousarray(values[there]), np.flatnonzero(there).astype(np.int32))
