"""An encoder for tests that knows a few words: a text has the mean of their vectors, which is fast and needs no model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vectordb import InvalidArgumentError
from vectordb.encoders.base import Encoded, Encoder, State, dense_column

DIM = 12
KNOWN = ("red", "green", "blue", "pink", "gold", "grey", "black", "white")
VECTORS = np.random.default_rng(3).standard_normal((len(KNOWN), DIM)).astype(np.float32)


class Colours(Encoder):
    """The sum of the vectors of the known words. A text without any can't be encoded; "nothing" has a vector of zeros as a query."""

    kind = "dense"
    dim = DIM
    identity = "colours 1"

    def vector(self, text: str) -> np.ndarray:
        return VECTORS[[KNOWN.index(word) for word in text.split() if word in KNOWN]].sum(axis=0, dtype=np.float32)

    def encode_documents(self, texts: Sequence[str], state: State | None = None) -> Encoded:
        values = np.stack([self.vector(text) for text in texts])
        return Encoded(dense_column(values, values.any(axis=1)))

    def encode_queries(self, texts: Sequence[str]) -> list[np.ndarray]:
        made = [self.vector(text) for text in texts]
        for text, vector in zip(texts, made, strict=True):
            if not vector.any() and text != "nothing":
                raise InvalidArgumentError(f"text {text!r} has nothing to encode", field="text", value=text)
        return made
