"""A late-interaction encoder without a model: a row for each word, and one for a mark that it puts before the text."""

from __future__ import annotations

import re
import zlib

import numpy as np
from vectordb_client.model.fields import MultiColumn

from vectordb.encoders.base import Encoded, Encoder, Piece

DIM = 16


class WordRows(Encoder):
    """Words have the same direction if their first four letters are equal, and nearly none in common otherwise."""

    kind = "multi"
    dim = DIM
    identity = "word-rows() 1"

    def _rows(self, text: str) -> np.ndarray:
        seeds = [zlib.crc32(piece.word.lower()[:4].encode()) for piece in self.pieces(text)]
        return np.array([np.random.default_rng(seed).standard_normal(DIM) for seed in seeds], np.float32).reshape(-1, DIM)

    def encode_documents(self, texts, state=None):
        found = {i: self._rows(text) for i, text in enumerate(texts) if text.strip()}
        values = np.concatenate([np.empty((0, DIM), np.float32), *found.values()])
        rows = None if len(found) == len(texts) else np.array(list(found), np.int32)
        return Encoded(MultiColumn(np.cumsum([0, *map(len, found.values())]), values, rows))

    def encode_queries(self, texts):
        return [self._rows(text) for text in texts]

    def pieces(self, text, query=False):
        return [Piece("[S]", 0, 0), *(Piece(match[0], match.start(), match.end()) for match in re.finditer(r"\w+|[^\w\s]", text))]
