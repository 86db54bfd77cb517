"""Encoding several attributes into one field (``Sparse(encoder="bm25f", sources=…)``).

The frequency of a term is the sum over the attributes of weight · frequency, and so is the length of a text (Robertson, Zaragoza and
Taylor, "Simple BM25 extension to multiple weighted fields", 2004). An update may give some of the attributes only; the others are read
inside the transaction that writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from vectordb_client.model.batch import UNSET, Batch
from vectordb_client.model.fields import SparseColumn
from vectordb_client.model.terms import is_word

from ..common import deadline
from ..encoders import Encoder

_NO_TERMS = np.empty(0, np.uint64)


class ManySources:
    """The encoding of one field. known: terms (ascending) whose words are stored."""

    def __init__(self, name: str, sources: Mapping[str, int], encoder: Encoder, known: np.ndarray = _NO_TERMS):
        self.name, self.sources = name, sources
        self._encoder, self._known = encoder, known

    def touched(self, batch: Batch) -> bool:
        """Whether a batch gives any of the attributes."""
        return any(source in batch.attributes for source in self.sources)

    def encode(self, batch: Batch, attributes: Sequence[Mapping[str, Any]]) -> tuple[Batch, dict[int, str]]:
        """The batch with the vectors of rows that it gives a text and no vector, and the words of new terms. A row that has none of the
        texts any more loses its vector. attributes: the whole attributes of each row.
        """
        given = batch.vectors.get(self.name)
        own = set() if given is None else set(given.positions().tolist())
        values = [batch.attributes[source] for source in self.sources if source in batch.attributes]
        rows = [row for row in range(len(batch.ids)) if row not in own and any(column[row] is not UNSET for column in values)]
        texts = {source: [attributes[row].get(source) for row in rows] for source in self.sources}
        silent = [i for i in range(len(rows)) if all(column[i] is None for column in texts.values())]
        kept = np.setdiff1d(np.arange(len(rows)), silent)
        vectors, removed = dict(batch.vectors), dict(batch.removed)
        places, words = np.array(rows, np.int32), {}
        if len(kept):
            column, words = self._encoded({source: [column[i] or "" for i in kept.tolist()] for source, column in texts.items()})
            column = column.with_rows(places[kept])
            vectors[self.name] = column if given is None else given.overlaid(column)
        if batch.kind == "update" and silent:
            removed[self.name] = np.union1d(removed.get(self.name, places[:0]), places[silent]).astype(np.int32)
        return replace(batch, vectors=vectors, removed=removed), words

    def _encoded(self, texts: Mapping[str, Sequence[str]]) -> tuple[SparseColumn, dict[int, str]]:
        rows, terms, weights, words = [], [], [], {}
        n = 0
        for source, weight in self.sources.items():
            deadline.check()
            encoded = self._encoder.encode_documents(texts[source])
            column: Any = encoded.column
            n = len(column)
            rows.append(np.repeat(np.arange(n), np.diff(column.indptr)))
            terms.append(column.terms)
            weights.append(column.weights.astype(np.float64) * weight)
            if encoded.words is not None:
                words = encoded.words(self._known) | words
        row, term, weight = map(np.concatenate, (rows, terms, weights))
        order = np.lexsort((term, row))
        row, term, weight = row[order], term[order], weight[order]
        first = np.flatnonzero(np.append(True, (row[1:] != row[:-1]) | (term[1:] != term[:-1]))[: len(row)])
        sums = np.add.reduceat(weight, first) if len(first) else weight
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row[first], minlength=n))])
        return SparseColumn(indptr, term[first], sums.astype(np.float32)), {term: word for term, word in words.items() if is_word(word)}
