"""The words of a text by the analyzer of its attribute, or by the rules for words alone.

Each step maps one word to one word or to none, so a text's words keep their order, and a phrase is found by its words.
"""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import xxhash
from vectordb_client.errors import EncoderError, SchemaError, shown
from vectordb_client.model.analyzer import Analyzer

from .spans import Located, located
from .tokenize import MAX_WORD, RULE, joined, words

# Lucene's list of English stop words.
_ENGLISH = """a an and are as at be but by for if in into is it no not of on or such
that the their then there these they this to was will with"""
ENGLISH = frozenset(_ENGLISH.split())
INSTALL = "pip install 'stop-words==2025.11.4'"
_CACHE_WORDS = 1 << 18  # words whose forms are cached
# Latin letters that Unicode doesn't compose of a letter and a mark.
_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h", "ŧ": "t", "ŋ": "n", "ƒ": "f", "ĸ": "k"}
)
_FIRST_MARK, _LAST_MARK = "\u0300", "\u036f"  # the accents of Latin, Greek and Cyrillic


class Span(NamedTuple):
    """A word with where it is in the text: from character ``start`` up to ``end``."""

    word: str
    start: int
    end: int


class Plain:
    """The words of a text by the rules for words alone. rule: their version. identity: what decides the words."""

    identity = ""

    def __init__(self, rule: int):
        self.rule = rule

    def words(self, text: str) -> list[str]:
        """The words of a text, in order."""
        return words(text, self.rule)

    def spans(self, text: str) -> list[Span]:
        """``words`` with their places."""
        return [Span(each.word, each.start, each.end) for each in located(text, self.rule)]

    def forms(self, tokens: Iterable[str]) -> list[str | None]:
        """For each casefolded word what it becomes, None if it is left out."""
        return list(tokens)

    def folded(self, token: str) -> str:
        """A casefolded word, or a part of one, before it is stemmed."""
        return token


class Analyzed(Plain):
    """The words of a text by an analyzer. Safe to use from several threads.

    Raises SchemaError if the analyzer names a language or a list of stop words that isn't there.
    """

    def __init__(self, analyzer: Analyzer):
        super().__init__(RULE)
        self._fold, self._bigrams = analyzer.fold_accents, analyzer.bigrams
        self._stem, version = stemmer(analyzer.language)
        self._stop = frozenset(token for word in stop_words(analyzer) for token in self._one(word))
        self._same: dict[str, str] = {}
        self._forms: dict[str, str | None] = {}
        self._lock = threading.Lock()
        self._same = self._synonyms(analyzer.synonyms)
        self._forms = {}
        self.identity = (
            f"analyzer(language={analyzer.language}{version}, stopwords={_digest(sorted(self._stop))}, "
            f"fold_accents={str(self._fold).lower()}, bigrams={str(self._bigrams).lower()}, "
            f"synonyms={_digest([word for pair in sorted(self._same.items()) for word in pair])}, words={RULE})"
        )

    def words(self, text: str) -> list[str]:
        if self._bigrams and not text.isascii():
            return [span.word for span in self.spans(text)]
        return [form for form in self.forms(words(text)) if form is not None]

    def spans(self, text: str) -> list[Span]:
        found = located(text)
        spans = [
            None if form is None else Span(form, at.start, at.end)
            for form, at in zip(self.forms([f.word for f in found]), found, strict=True)
        ]
        if self._bigrams and not text.isascii():
            spans = self._with_pairs(found, spans)
        return [span for span in spans if span is not None]

    @staticmethod
    def _with_pairs(found: list[Located], spans: list[Span | None]) -> list[Span | None]:
        """The words, and after each piece that has another right behind it, both as one word. So the words of any part of a run of pieces
        follow one another in those of the whole run.
        """
        joins, pairs = joined(), []
        pieces = [joins.match(each.word) is not None for each in found]
        for i, (one, other) in enumerate(pairwise(found)):
            pairs.append(spans[i])
            if pieces[i] and pieces[i + 1] and one.high == other.low:
                pairs.append(Span((one.word + other.word)[:MAX_WORD], one.start, other.end))
        return pairs + spans[-1:]

    def folded(self, token: str) -> str:
        return fold_accents(token) if self._fold else token

    def forms(self, tokens: Iterable[str]) -> list[str | None]:
        known, tokens = self._forms, list(tokens)
        try:
            return [known[token] for token in tokens]
        except KeyError:
            pass
        with self._lock:  # Snowball's objects are not thread-safe
            if len(known) > _CACHE_WORDS:
                self._forms = known = {}
            new = [token for token in dict.fromkeys(tokens) if token not in known]
            folded = [self.folded(token) for token in new]
            stems = self._stem(folded)
            for token, plain, stem in zip(new, folded, stems, strict=True):
                known[token] = None if plain in self._stop else self._same.get(stem, stem)
            return [known[token] for token in tokens]

    def _one(self, word: str) -> list[str]:
        """A word of a list, casefolded and without accents; nothing if the rules split it."""
        tokens = words(word)
        return [self.folded(tokens[0])] if len(tokens) == 1 else []

    def _synonyms(self, groups: Iterable[Iterable[str]]) -> dict[str, str]:
        """Stem → the stem that stands for its group. Groups that share a word become one."""
        chief: dict[str, str] = {}

        def find(stem: str) -> str:
            while chief.setdefault(stem, stem) != stem:
                stem = chief[stem]
            return stem

        for group in groups:
            stems = []
            for word in group:
                token = self._one(word)
                if not token:
                    what = f"synonyms of an analyzer are single words, not {shown(word)}"
                    raise SchemaError(what, field="synonyms", value=word)
                stems.append(self._stem(token)[0])
            for stem in stems[1:]:
                chief[find(stem)] = find(stems[0])
        return {stem: find(stem) for stem in list(chief) if find(stem) != stem}


def analysis(analyzer: Analyzer | None, rule: int = RULE) -> Plain:
    """How the words of an attribute are made. rule: the version of the rules, without an analyzer.

    Raises SchemaError as ``Analyzed``, and EncoderError if the words that are stored were made in another way.
    """
    if analyzer is None:
        return _plain(rule)
    made = _analyzed(analyzer)
    name, identity = analyzer.built or ("", None)
    if identity not in (None, made.identity):
        what = f"the words of attribute {name!r} were made by {identity}, but {made.identity} is installed: their words can't be compared"
        raise EncoderError(what, field=name, value=made.identity)
    return made


_plain = lru_cache(8)(Plain)
_analyzed = lru_cache(256)(Analyzed)


def fold_accents(word: str) -> str:
    """A casefolded word without the accents of its Latin, Greek and Cyrillic letters."""
    if word.isascii():
        return word
    apart = unicodedata.normalize("NFD", word)
    bare = "".join([c for c in apart if not _FIRST_MARK <= c <= _LAST_MARK])
    return unicodedata.normalize("NFC", bare).translate(_LETTERS)


def stemmer(language: str):
    """(a function from a list of words to their stems, the part of an identity that names the stemmer's version). Raises SchemaError."""
    if language == "none":
        return list, ""
    import Stemmer

    if language not in Stemmer.algorithms():
        known = ", ".join(Stemmer.algorithms())
        what = f"an analyzer has no language {shown(language)}; the languages are: none, {known}"
        raise SchemaError(what, field="language", value=language)
    # Snowball changes its rules in minor releases, so stems of two minor releases must not be mixed in one field. Patch releases may be.
    version = ".".join(Stemmer.version().split(".")[:2])
    return Stemmer.Stemmer(language).stemWords, f" snowball {version}"


def stop_words(analyzer: Analyzer) -> Iterable[str]:
    """The stop words of an analyzer. Raises SchemaError if its language has no list, or the package of the lists is not installed."""
    if not isinstance(analyzer.stopwords, bool):
        return analyzer.stopwords
    if not analyzer.stopwords:
        return ()
    language = analyzer.language
    if language == "english":
        return ENGLISH
    try:
        from stop_words import AVAILABLE_LANGUAGES, get_stop_words
    except ImportError as error:
        what = f"the stop words of {shown(language)} are in a package of their own: {INSTALL}, or give a list of words"
        raise SchemaError(what, field="stopwords", value=True) from error
    if language not in AVAILABLE_LANGUAGES:
        known = ", ".join(sorted({"english", *AVAILABLE_LANGUAGES}))
        what = f"there is no list of stop words for language {shown(language)}; give a list of words, or one of the languages {known}"
        raise SchemaError(what, field="stopwords", value=True)
    return get_stop_words(language)


def _digest(items: Sequence[str]) -> str:
    return xxhash.xxh3_64_hexdigest("\n".join(items).encode()) if items else "none"
