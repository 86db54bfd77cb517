"""BM25 as a sparse encoder: a document vector holds the term frequencies of its text.

Frequencies are weighted at query time (``index.saturation``, ``Sparse(weighting="idf")``), with the statistics of the texts that are live
then. Fields made by earlier versions of vectordb hold final weights, fixed at write time; ``FrozenBM25`` encodes them until they are
converted.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np
import xxhash
from vectordb_client.errors import EncoderError
from vectordb_client.model.fields import SparseColumn
from vectordb_client.model.schema import Sparse, VectorField

from ..common import deadline
from ..common.analyze import ENGLISH, Plain
from ..common.tokenize import RULE, words
from .base import Encoded, Encoder, State, boolean, number, unknown, word

_CACHE_WORDS = 1 << 18  # words whose term ids are cached
_INSTALL = "pip install 'PyStemmer>=3.0'"
K1, B = 1.2, 0.75


class BM25(Encoder):
    """Okapi BM25 over Snowball stems. A term's id is the 64-bit XXH3 hash of its stem in UTF-8.

    language: a Snowball language, or "none" for words without stemming. stopwords: drop English stop words, also from the text's length.
    k1: saturation of term frequencies, 0 … 100. b: normalisation by text length, 0 … 1. k1 and b take effect at query time only.
    """

    kind = "sparse"
    name = "bm25"
    rule = RULE  # the version of the rule that splits a text into words
    k1, b = K1, B  # where the options don't say
    options = {"language": word, "stopwords": boolean, "k1": number(0, 100), "b": number(0, 1)}

    def __init__(self, language: str = "english", stopwords: bool = False, k1: float = K1, b: float = B):
        self.k1, self.b = k1, b
        self._stem, version = _stemmer(language)
        if stopwords and language != "english":
            what = f"encoder 'bm25' has stop words for english only, not for {language!r}; leave stopwords out"
            raise EncoderError(what, field="encoder", value=language)
        self._stop = ENGLISH if stopwords else frozenset()
        self._ids: dict[str, int] = {}
        self._lock = threading.Lock()
        self.identity = self._identity(f"language={language}{version}, stopwords={str(stopwords).lower()}, k1={k1:g}, b={b:g}")

    def _identity(self, options: str) -> str:
        return f"{self.name}({options}, words={self.rule})"

    def check(self, spec: VectorField) -> None:
        super().check(spec)
        given = cast(Sparse, spec)  # as its kind says
        if given.weighting != "idf":
            what = f"encoder {spec.encoder!r} needs weighting='idf', the default, not {given.weighting!r}; leave weighting out"
            raise EncoderError(what, field="weighting", value=given.weighting)
        if given.binary:
            what = f"encoder {spec.encoder!r} stores term frequencies, which a field with binary=True can't hold; leave binary out"
            raise EncoderError(what, field="binary", value=True)

    def term(self, text: str) -> int:
        """The term id of one word, in upper or lower case. Raises EncoderError when the text is not exactly one word."""
        tokens = words(text, self.rule)
        if len(tokens) != 1:
            raise EncoderError(f"term must be one word, and {text!r} is {len(tokens)} words", field="term", value=text)
        return self._lookup(tokens)[0]

    @classmethod
    def analyzed(cls, analysis: Plain, **options: Any) -> BM25:
        for option in ("language", "stopwords"):
            if option in options:
                what = f"encoder {cls.name!r} takes its words from the analyzer of the attribute that it reads; leave {option} out"
                raise EncoderError(what, field="encoder", value=options[option])
        return AnalyzedBM25(cls.name, analysis, options.get("k1", cls.k1), options.get("b", cls.b))

    def _pieces(self, text: str) -> list[str]:
        """What is counted in a text: its words, casefolded, without stop words."""
        stop, tokens = self._stop, words(text, self.rule)
        return [w for w in tokens if w not in stop] if stop else tokens

    def _hashed(self, pieces: Sequence[str]) -> list[int]:
        """The term ids of pieces that were not seen before."""
        return [xxhash.xxh3_64_intdigest(stem.encode()) for stem in self._stem(pieces)]

    def terms_of(self, words: Iterable[str]) -> list[int | None]:
        """The term ids of casefolded words; None for stop words."""
        words = list(words)
        return [None if w in self._stop else term for w, term in zip(words, self._lookup(words), strict=True)]

    def _lookup(self, tokens: Sequence[str]) -> list[int]:
        """The term ids of casefolded words. Each distinct word is stemmed once, under a lock: Snowball's objects are not thread-safe."""
        ids = self._ids
        try:
            return [ids[token] for token in tokens]
        except KeyError:
            pass
        with self._lock:
            if len(ids) > _CACHE_WORDS:
                self._ids = ids = {}
            new = [token for token in dict.fromkeys(tokens) if token not in ids]
            ids.update(zip(new, self._hashed(new), strict=True))
            return [ids[token] for token in tokens]

    def _counted(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, _Tokens]:
        """Term frequencies as CSR (indptr, terms, counts), terms ascending within a row; the number of words of each text; the words."""
        per_text = [self._pieces(text) for text in deadline.each(texts, 16)]
        lengths = np.fromiter(map(len, per_text), np.int64, len(per_text))
        tokens = [w for text_words in per_text for w in text_words]
        vocabulary, place = np.unique(np.array(self._lookup(tokens), dtype=np.uint64), return_inverse=True)
        key = np.repeat(np.arange(len(texts)), lengths) * max(len(vocabulary), 1) + place
        pairs, counts = np.unique(key, return_counts=True)
        owner, code = np.divmod(pairs, max(len(vocabulary), 1))
        indptr = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(texts)))]).astype(np.int64)
        return indptr, vocabulary[code], counts, lengths, _Tokens(tokens, vocabulary, place)

    def encode_documents(self, texts: Sequence[str], state: State | None = None) -> Encoded:
        """Term frequencies. The sum of a row is the length of its text.

        The word of a term is its most frequent form in the texts, casefolded.
        """
        indptr, terms, counts, _, tokens = self._counted(texts)
        return Encoded(SparseColumn(indptr, terms, counts.astype(np.float32)), None, tokens.forms)

    def frequencies(self, texts: Sequence[str]) -> SparseColumn:
        """The term frequencies of each text."""
        indptr, terms, counts, _, _ = self._counted(texts)
        return SparseColumn(indptr, terms, counts.astype(np.float32))

    def encode_queries(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """The term frequencies of each query. A query without words becomes an empty vector, which matches nothing."""
        indptr, terms, counts, _, _ = self._counted(texts)
        weights = counts.astype(np.float32)
        return [(terms[low:high], weights[low:high]) for low, high in pairwise(indptr)]

    def words_of(self, text: str, terms: Sequence[int]) -> dict[int, str]:
        """For each term, the first word of the text that has this stem, casefolded."""
        tokens = list(dict.fromkeys(self._pieces(text)))
        word_of = dict(zip(reversed(self._lookup(tokens)), reversed(tokens), strict=True))
        return {term: word_of[term] for term in terms if term in word_of}


class AnalyzedBM25(BM25):
    """BM25 over the words that an analyzer makes. Options as in BM25, without language and stop words, which the analyzer has."""

    def __init__(self, name: str, analysis: Plain, k1: float, b: float):
        self.k1, self.b, self._analysis = k1, b, analysis
        self._stem, self._stop, self._ids = list, frozenset(), {}
        self._lock = threading.Lock()
        self.identity = f"{name}(k1={k1:g}, b={b:g}, {analysis.identity})"

    def term(self, text: str) -> int:
        tokens = self._pieces(text)
        if len(tokens) != 1:
            raise EncoderError(f"term must be one word, and {text!r} is {len(tokens)} words", field="term", value=text)
        return self._lookup(tokens)[0]

    def _pieces(self, text: str) -> list[str]:
        return self._analysis.words(text)


class FrozenBM25(BM25):
    """The BM25 encoder of earlier versions of vectordb: saturated, length-normalised weights that are fixed at write time.

    The mean text length is that of all texts encoded for the field so far, including the current batch; the field's counters hold it.
    """

    rule = 1

    def _identity(self, options: str) -> str:
        return f"bm25({options})"

    def encode_documents(self, texts: Sequence[str], state: State | None = None) -> Encoded:
        """Final weights. The state counts ``documents`` (texts with at least one word) and ``words``."""
        indptr, terms, counts, lengths, tokens = self._counted(texts)
        delta = self.counters(lengths)
        state = state or {}
        documents, total = state.get("documents", 0) + delta["documents"], state.get("words", 0) + delta["words"]
        mean = total / documents if documents else 1.0
        saturation = np.repeat(self.k1 * (1 - self.b + self.b * lengths / mean), np.diff(indptr))
        weights = counts * (self.k1 + 1) / (counts + saturation)
        return Encoded(SparseColumn(indptr, terms, weights.astype(np.float32)), delta, tokens.forms)

    @staticmethod
    def counters(lengths: np.ndarray) -> dict[str, int]:
        """The counters that texts of these lengths (in words) add to the state."""
        return {"documents": int(np.count_nonzero(lengths)), "words": int(lengths.sum())}


BM25.earlier = FrozenBM25


class BM25F(BM25):
    """BM25 over several attributes with weights, which ``engine.many_sources`` adds up."""

    name = "bm25f"
    earlier = None


class _Tokens(NamedTuple):
    """words: all words of the texts in order. terms: their distinct terms, ascending. place: for each word, the index of its term."""

    words: list[str]
    terms: np.ndarray
    place: np.ndarray

    def forms(self, known: np.ndarray) -> dict[int, str]:
        """For each term that is not in ``known``, its most frequent word; of equally frequent words the first."""
        positions = np.flatnonzero(unknown(self.terms, known)[self.place])
        tokens = [self.words[i] for i in positions.tolist()]
        term_of = dict(zip(tokens, self.terms[self.place[positions]].tolist(), strict=True))
        counts = Counter(tokens)
        best: dict[int, str] = {}
        for form in sorted(counts, key=counts.__getitem__, reverse=True):
            best.setdefault(term_of[form], form)
        return best


def _stemmer(language: str):
    """(a function from words to stems, the part of the encoder's identity that names the stemmer's version)."""
    if language == "none":
        return list, ""
    try:
        import Stemmer
    except ImportError as error:
        what = f"encoder 'bm25' needs PyStemmer: {_INSTALL} (or write bm25(language=none), which doesn't stem words)"
        raise EncoderError(what, field="encoder", value="bm25") from error
    if language not in Stemmer.algorithms():
        languages = ", ".join(Stemmer.algorithms())
        what = f"encoder 'bm25' has no language {language!r}; the languages are: none, {languages}"
        raise EncoderError(what, field="encoder", value=language)
    # Snowball changes its rules in minor releases, so stems of two minor releases must not be mixed in one field. Patch releases may be.
    version = ".".join(Stemmer.version().split(".")[:2])
    return Stemmer.Stemmer(language).stemWords, f" snowball {version}"
