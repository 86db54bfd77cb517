"""BM25 as a sparse encoder: a text becomes how often it says each term.

What that counts for is decided when it is asked for (``index.saturation``, ``Sparse(weighting="idf")``), by the live texts of that moment.
Fields of earlier versions hold finished weights, which ``FrozenBM25`` goes on making until they are converted.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import xxhash

from .. import deadline
from ..errors import EncoderError
from ..types import SparseColumn, VectorField
from ..words import RULE, words
from .base import Encoded, Encoder, State, boolean, number, unknown, word

# Lucene's English list: the words that carry grammar and no subject.
_STOPWORDS = """a an and are as at be but by for if in into is it no not of on or such
that the their then there these they this to was will with"""
STOPWORDS = frozenset(_STOPWORDS.split())
_CACHE_WORDS = 1 << 18
_INSTALL = "pip install PyStemmer"
K1, B = 1.2, 0.75


class BM25(Encoder):
    """Okapi BM25 over Snowball stems. language: a Snowball language, or "none" to keep words as they are.

    stopwords: leave out English function words (they are also left out of the length). k1: how fast repetition stops
    counting. b: how much length counts, 0 … 1; both matter to searches only. A term's id is the 64-bit XXH3 of its stem in UTF-8.
    """

    kind = "sparse"
    rule = RULE  # of words
    options = {"language": word, "stopwords": boolean, "k1": number(0, 100), "b": number(0, 1)}

    def __init__(self, language: str = "english", stopwords: bool = False, k1: float = K1, b: float = B):
        self.k1, self.b = k1, b
        self._stem, version = _stemmer(language)
        if stopwords and language != "english":
            raise EncoderError(f"bm25 has stop words for english only, not for {language!r}", field="encoder", value=language)
        self._stop = STOPWORDS if stopwords else frozenset()
        self._ids: dict[str, int] = {}
        self._lock = threading.Lock()
        self.identity = self._identity(f"language={language}{version}, stopwords={str(stopwords).lower()}, k1={k1:g}, b={b:g}")

    def _identity(self, options: str) -> str:
        return f"bm25({options}, words={self.rule})"

    def check(self, spec: VectorField) -> None:
        super().check(spec)
        if spec.weighting != "idf":
            what = f"{spec.encoder!r} scores by BM25, which is weighting='idf': leave weighting out, {spec.weighting!r} is another score"
            raise EncoderError(what, field="weighting", value=spec.weighting)
        if spec.binary:
            what = f"{spec.encoder!r} counts how often a text says a term, binary=True keeps no counts: leave binary out"
            raise EncoderError(what, field="binary", value=True)

    def term(self, text: str) -> int:
        """The term id of one word, given in any case. Raises EncoderError when the text is not one word."""
        found = words(text, self.rule)
        if len(found) != 1:
            raise EncoderError(f"{text!r} is {len(found)} words, not one", field="term", value=text)
        return self._lookup(found)[0]

    def _lookup(self, found: Sequence[str]) -> list[int]:
        """Term ids of casefolded words. Stemming happens once a distinct word; Snowball's objects are not thread-safe."""
        ids = self._ids
        try:
            return [ids[w] for w in found]
        except KeyError:
            pass
        with self._lock:
            if len(ids) > _CACHE_WORDS:
                self._ids = ids = {}
            new = [w for w in dict.fromkeys(found) if w not in ids]
            for w, stem in zip(new, self._stem(new), strict=True):
                ids[w] = xxhash.xxh3_64_intdigest(stem.encode())
            return [ids[w] for w in found]

    def _counted(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, _Said]:
        """CSR (indptr, terms, counts) with terms ascending in a row, the number of words a text, and the words themselves."""
        stop = self._stop
        per_text = [[w for w in words(t, self.rule) if w not in stop] for t in deadline.each(texts, 16)]
        lengths = np.fromiter(map(len, per_text), np.int64, len(per_text))
        said = [w for found in per_text for w in found]
        vocabulary, place = np.unique(np.array(self._lookup(said), dtype=np.uint64), return_inverse=True)
        key = np.repeat(np.arange(len(texts)), lengths) * max(len(vocabulary), 1) + place
        pairs, counts = np.unique(key, return_counts=True)
        owner, code = np.divmod(pairs, max(len(vocabulary), 1))
        indptr = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(texts)))]).astype(np.int64)
        return indptr, vocabulary[code], counts, lengths, _Said(said, vocabulary, place)

    def encode_documents(self, texts: Sequence[str], state: State | None = None) -> Encoded:
        """How often each text says each term; a text's length is the sum of that.

        A term's word is the form in which the texts say it most often, casefolded.
        """
        indptr, terms, counts, _, said = self._counted(texts)
        return Encoded(SparseColumn(indptr, terms, counts.astype(np.float32)), None, said.forms)

    def frequencies(self, texts: Sequence[str]) -> SparseColumn:
        """How often each text says each term."""
        indptr, terms, counts, _, _ = self._counted(texts)
        return SparseColumn(indptr, terms, counts.astype(np.float32))

    def encode_queries(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """How often a query says each term. A query without words is an empty vector, which matches nothing."""
        indptr, terms, counts, _, _ = self._counted(texts)
        weights = counts.astype(np.float32)
        return [(terms[low:high], weights[low:high]) for low, high in pairwise(indptr)]

    def words_of(self, text: str, terms: Sequence[int]) -> dict[int, str]:
        """The first word of the text with each stem, casefolded."""
        found = [w for w in dict.fromkeys(words(text, self.rule)) if w not in self._stop]
        known = dict(zip(reversed(self._lookup(found)), reversed(found), strict=True))
        return {term: known[term] for term in terms if term in known}


class FrozenBM25(BM25):
    """What the encoder was until fields kept term frequencies: saturated, length-normalised weights, fixed at the write.

    The mean length is that of all texts encoded for the field up to and including the batch, which its counters tell.
    """

    rule = 1

    def _identity(self, options: str) -> str:
        return f"bm25({options})"

    def encode_documents(self, texts: Sequence[str], state: State | None = None) -> Encoded:
        """Finished weights; the state counts ``documents`` that have words, and their ``words``."""
        indptr, terms, counts, lengths, said = self._counted(texts)
        delta = self.counters(lengths)
        state = state or {}
        documents, total = state.get("documents", 0) + delta["documents"], state.get("words", 0) + delta["words"]
        mean = total / documents if documents else 1.0
        saturation = np.repeat(self.k1 * (1 - self.b + self.b * lengths / mean), np.diff(indptr))
        weights = counts * (self.k1 + 1) / (counts + saturation)
        return Encoded(SparseColumn(indptr, terms, weights.astype(np.float32)), delta, said.forms)

    @staticmethod
    def counters(lengths: np.ndarray) -> dict[str, int]:
        """What texts of these lengths (words) add to the state."""
        return {"documents": int(np.count_nonzero(lengths)), "words": int(lengths.sum())}


BM25.earlier = FrozenBM25


class _Said(NamedTuple):
    """Words in order, their different terms ascending, and for each word the place of its term among those."""

    words: list[str]
    terms: np.ndarray
    place: np.ndarray

    def forms(self, known: np.ndarray) -> dict[int, str]:
        """For each term that isn't known its commonest word; of equally common ones the first."""
        at = np.flatnonzero(unknown(self.terms, known)[self.place])
        said = [self.words[i] for i in at.tolist()]
        term_of = dict(zip(said, self.terms[self.place[at]].tolist(), strict=True))
        counts = Counter(said)
        best: dict[int, str] = {}
        for form in sorted(counts, key=counts.__getitem__, reverse=True):
            best.setdefault(term_of[form], form)
        return best


def _stemmer(language: str):
    """(function from words to stems, what of its version belongs in the identity)."""
    if language == "none":
        return list, ""
    try:
        import Stemmer
    except ImportError as error:
        raise EncoderError(f"encoder 'bm25' needs PyStemmer: {_INSTALL} (or language=none)", field="encoder", value="bm25") from error
    if language not in Stemmer.algorithms():
        known = ", ".join(Stemmer.algorithms())
        raise EncoderError(f"bm25 knows no language {language!r}; there are: none, {known}", field="encoder", value=language)
    # Snowball changes its rules in minor releases, so two of those must not write to one field; patch releases may.
    version = ".".join(Stemmer.version().split(".")[:2])
    return Stemmer.Stemmer(language).stemWords, f" snowball {version}"
