"""Character trigrams of words as a sparse encoder, which finds misspelt words (after Deiseroth and others, "T-FREE", 2024).

Each word, casefolded, is put between ``<`` and ``>`` and cut into overlapping parts of ``n`` characters: "cat" into ``<ca``, ``cat`` and
``at>``. A typo changes a few of the parts and leaves the others. Parts are counted, and scored by BM25's formula (``encoders.bm25``).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import xxhash
from vectordb_client.errors import EncoderError

from ..common.analyze import Plain
from ..common.tokenize import words
from .base import integer, number
from .bm25 import BM25

BEFORE, AFTER = "<", ">"  # no word contains them
MAX_BUCKETS = 1 << 32


def _buckets(text: str) -> int:
    if not text.isdecimal() or not (int(text) == 0 or 256 <= int(text) <= MAX_BUCKETS):
        raise ValueError(f"0 (each part is a term of its own) or an integer from 256 to {MAX_BUCKETS}")
    return int(text)


class Trigram(BM25):
    """Counts of the parts of words. A term's id is the 64-bit XXH3 hash of the part in UTF-8, modulo ``buckets`` unless that is 0.

    n: characters of a part, 2 … 6. buckets: the number of different terms; 0 for one a part. seed: of the hash. k1, b: as in BM25; many
    parts share a text, so their counts saturate earlier.
    """

    options = {"n": integer(2, 6), "buckets": _buckets, "seed": integer(0, 2**32 - 1), "k1": number(0, 100), "b": number(0, 1)}
    earlier = None
    k1 = 0.4

    def __init__(self, n: int = 3, buckets: int = 0, seed: int = 0, k1: float = k1, b: float = BM25.b):
        self.n, self.buckets, self.seed, self.k1, self.b = n, buckets, seed, k1, b
        self._ids: dict[str, int] = {}
        self._lock = threading.Lock()
        self.identity = f"trigram(n={n}, buckets={buckets}, seed={seed}, k1={k1:g}, b={b:g}, words={self.rule})"

    @classmethod
    def analyzed(cls, analysis: Plain, **options: Any) -> Trigram:
        """The same encoder: it cuts words as they are written, whatever an analyzer makes of them."""
        return cls(**options)

    def term(self, text: str) -> int:
        """The term id of one part, such as "<ca". Raises EncoderError when the text can't be a part of a word."""
        part = text.casefold()
        if part not in self._parts_of(part.removeprefix(BEFORE).removesuffix(AFTER)):
            what = f"term must be a part of a word as the encoder cuts it, such as '<ca', 'cat' or 'at>', not {text!r}"
            raise EncoderError(what, field="term", value=text)
        return self._lookup([part])[0]

    def _pieces(self, text: str) -> list[str]:
        """The parts of all words of a text."""
        return [part for word in words(text, self.rule) for part in self._parts_of(word)]

    def _parts_of(self, word: str) -> list[str]:
        n, marked = self.n, f"{BEFORE}{word}{AFTER}"
        return [marked[at : at + n] for at in range(max(len(marked) - n, 0) + 1)]

    def _hashed(self, pieces: Sequence[str]) -> list[int]:
        hashes = [xxhash.xxh3_64_intdigest(part.encode(), self.seed) for part in pieces]
        return [value % self.buckets for value in hashes] if self.buckets else hashes
