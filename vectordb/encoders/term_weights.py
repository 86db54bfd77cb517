"""Inference-free sparse retrieval: the query's weights stand in a table, and no model runs.

After Geng and others, "Towards Competitive Search Relevance For Inference-Free Learned Sparse Retrievers" (2024).

A query is ``w_j = weight(j)`` for each of its terms j. Documents have weights from elsewhere, given as vectors, or from their texts: term
frequencies, saturated as in BM25. So the table of ``write_term_weights`` scores by BM25 with the statistics of the day when it was made.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import xxhash
from vectordb_client.errors import EncoderError, InvalidArgumentError, shown
from vectordb_client.model.fields import SparseColumn
from vectordb_client.model.norms import MAX_NORM
from vectordb_client.model.schema import Sparse, VectorField

from ..common import deadline
from ..common.tokenize import words
from . import files
from .base import Encoded, Encoder, State, fingerprint, word
from .bm25 import BM25, K1, B

_HEAD = {"language": "none", "stopwords": False, "mean_length": 0.0, "other": 0.0, "k1": K1, "b": B}
_NAME = "term-weights"


class TermWeights(BM25):
    """Query weights from a JSON file: ``{"term": weight}``, or such a dict as ``"terms"`` beside what ``write_term_weights`` says of it.

    model: the file. tokenizer: a ``tokenizer.json``, which cuts texts into the terms, whose ids are then those of its vocabulary; None:
    terms are words, or their stems, with the ids of ``bm25``.
    """

    name = _NAME
    options = {"model": word, "tokenizer": word}
    earlier = None

    def __init__(self, model: str | None = None, tokenizer: str | None = None):
        path = files.needed(self.name, "model", model, "weights.json")
        head, terms = _read(path)
        BM25.__init__(self, head["language"], head["stopwords"], head["k1"], head["b"])
        self._mean, self._other = float(head["mean_length"]), float(head["other"])
        self._tokenizer = None
        if tokenizer is not None:
            place = files.needed(self.name, "tokenizer", tokenizer, "tokenizer.json")
            self._tokenizer = files.tokenizer(self.name, place)
            self._stop, self._encoding = frozenset(), threading.Lock()
        ids = self._identifiers(terms)
        if self._tokenizer is not None and not all(known is not None for known in ids):
            lost = next(term for term, known in zip(terms, ids, strict=True) if known is None)
            raise files.unreadable(self.name, path, f"the tokenizer doesn't know its term {lost!r}")
        self._weights: dict[int, float] = dict(zip(cast("list[int]", ids), terms.values(), strict=True))
        self.identity = (
            f"{self.name}(words={self.rule}) {fingerprint([path] if tokenizer is None else [path, Path(tokenizer).expanduser()])}"
        )

    @classmethod
    def analyzed(cls, analysis: Any, **options: Any) -> BM25:
        """The same encoder: its table says what the words are."""
        return cls(**options)

    def check(self, spec: VectorField) -> None:
        Encoder.check(self, spec)
        given = cast(Sparse, spec)  # as its kind says
        if given.weighting is not None or given.binary:
            option = "weighting" if given.weighting is not None else "binary"
            what = f"encoder {spec.encoder!r} takes the weights from its table; leave {option} out"
            raise EncoderError(what, field=option, value=getattr(given, option))

    def encode_documents(self, texts: Sequence[str], state: State | None = None) -> Encoded:
        """Saturated term frequencies of the terms that have a weight in the table."""
        indptr, terms, counts, lengths, tokens = self._counted(texts)
        owner = np.repeat(np.arange(len(texts)), np.diff(indptr))
        kept = self._of(terms) > 0
        part = lengths[owner] / self._mean if self._mean else np.ones(len(owner))
        weights = counts * (self.k1 + 1) / (counts + self.k1 * (1 - self.b + self.b * part))
        indptr = np.concatenate([[0], np.cumsum(np.bincount(owner[kept], minlength=len(texts)))]).astype(np.int64)
        column = SparseColumn(indptr, terms[kept], weights[kept].astype(np.float32))

        def forms(known: np.ndarray) -> dict[int, str]:
            found = tokens.forms(known)
            return {term: form for term, form in found.items() if self._weights.get(term, self._other) > 0}

        return Encoded(column, None, forms)

    def encode_queries(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """The weight of each term of a text, however often it says it. A text without such terms becomes an empty vector."""
        out = []
        for text in texts:
            weights, other = self._weights, self._other
            found = [(term, weight) for term in sorted({*self._lookup(self._pieces(text))}) if (weight := weights.get(term, other)) > 0]
            out.append((np.array([term for term, _ in found], np.uint64), np.array([weight for _, weight in found], np.float32)))
        return out

    def _of(self, terms: np.ndarray) -> np.ndarray:
        """The weight of each term, float64."""
        weights, other = self._weights, self._other
        distinct, place = np.unique(terms, return_inverse=True)
        return np.array([weights.get(term, other) for term in distinct.tolist()], np.float64)[place]

    def _identifiers(self, terms: Iterable[str]) -> list[int | None]:
        """The ids of the terms of a table, which are stems already."""
        if self._tokenizer is not None:
            return [self._tokenizer.token_to_id(term) for term in terms]
        return [xxhash.xxh3_64_intdigest(term.encode()) for term in terms]

    def _pieces(self, text: str) -> list[str]:
        if self._tokenizer is None:
            return super()._pieces(text)
        with self._encoding:
            return self._tokenizer.encode(text, add_special_tokens=False).tokens

    def _hashed(self, pieces: Sequence[str]) -> list[int]:
        return super()._hashed(pieces) if self._tokenizer is None else [self._tokenizer.token_to_id(piece) for piece in pieces]


def write_term_weights(
    path: str | os.PathLike[str],
    texts: Iterable[str],
    *,
    language: str = "english",
    stopwords: bool = False,
    tokenizer: str | None = None,
    k1: float = K1,
    b: float = B,
) -> int:
    """Write a table for the encoder "term-weights": inverse document frequencies of the terms of texts, and the texts' mean length.

    Args:
        path: the JSON file, which is replaced.
        texts: the texts of a collection, such as ``(point.attributes["body"] for point in docs)``, or a sample of them.
        language, stopwords, k1, b: as for "bm25".
        tokenizer: a ``tokenizer.json``, which cuts texts into terms in place of ``language``; the encoder needs it too.

    Returns:
        The number of terms.

    Raises:
        InvalidArgumentError: there are no texts, or one is no text.
        EncoderError: the language is unknown, or the tokenizer can't be read.
    """
    if isinstance(texts, (str, bytes)):
        raise InvalidArgumentError(f"texts must be several texts, not {shown(texts)}", field="texts", value=texts)
    read = None if tokenizer is None else files.tokenizer(_NAME, Path(tokenizer).expanduser())
    counter = BM25("none" if read is not None else language, stopwords and read is None, k1, b)
    frequency: Counter[str] = Counter()
    documents = total = 0
    for text in texts:
        if not isinstance(text, str):
            raise InvalidArgumentError(f"texts must hold texts, not {shown(text)}", field="texts", value=text)
        deadline.check()
        if read is not None:
            terms = read.encode(text, add_special_tokens=False).tokens
        else:
            terms = counter._stem([each for each in words(text, counter.rule) if each not in counter._stop])
        documents, total = documents + bool(terms), total + len(terms)
        frequency.update({*terms})
    if not documents:
        raise InvalidArgumentError("texts has no text with a word; a table is made of at least one", field="texts")

    def idf(df: int) -> float:
        return round(math.log1p((documents - df + 0.5) / (df + 0.5)), 6)

    head = {"language": "none" if read is not None else language, "stopwords": stopwords and read is None, "k1": k1, "b": b}
    table = {**head, "mean_length": total / documents, "other": idf(0), "terms": {term: idf(df) for term, df in sorted(frequency.items())}}
    target, new = Path(path), Path(f"{os.fspath(path)}.new")
    new.write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")
    new.replace(target)
    return len(frequency)


def _read(path: Path) -> tuple[dict[str, Any], Mapping[str, float]]:
    """What a table says of itself, and its weights. Raises EncoderError."""
    table = files.read_json(_NAME, path)
    head = dict(_HEAD)
    if isinstance(table.get("terms"), dict):
        head |= {key: value for key, value in table.items() if key != "terms"}
        table = table["terms"]
    for key, value in head.items():
        usual = _HEAD.get(key)
        right = isinstance(value, type(usual)) if isinstance(usual, (str, bool)) else usual is not None and _is_weight(value)
        if not right:
            raise files.unreadable(_NAME, path, f"its {key!r} is {shown(value)}; the parts are: terms, {', '.join(_HEAD)}")
    if not table:
        raise files.unreadable(_NAME, path, "it has no terms")
    for term, weight in table.items():
        if not _is_weight(weight):
            raise files.unreadable(
                _NAME, path, f"the weight of {term!r} must be a number from 0 to {MAX_NORM / 1e6:g}, not {shown(weight)}"
            )
    return head, table


def _is_weight(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MAX_NORM / 1e6
