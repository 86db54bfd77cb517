"""BM25 queries whose words need not be spelt exactly (the options ``fuzzy`` and ``wildcards``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from vectordb_client.errors import InvalidArgumentError, LimitError
from vectordb_client.model.fields.sparse import MAX_TERMS
from vectordb_client.model.schema import VectorField
from vectordb_client.model.search_request import SearchRequest

from ..common.analyze import analysis
from ..common.near import Vocabulary, near_words
from ..common.tokenize import RULE
from ..encoders.bm25 import BM25
from ..engine.snapshot import View
from ..filters.cache import FilterCache
from ..filters.docids import numbers_of
from ..filters.vocabulary import expanded, number_of_words, vocabulary
from .cursor import decode

Query = tuple[np.ndarray, np.ndarray]


def wants_near(request: SearchRequest) -> bool:
    """Whether a search asks for words near those of its texts."""
    return bool(request.fuzzy or request.wildcards)


def can_be_near(spec: VectorField) -> bool:
    """Whether the encoder of a vector field counts whole words."""
    return spec.counts_words and (spec.encoder or "").partition("(")[0].strip() != "trigram"


class NearQueries:
    """Makes the queries of the BM25 fields of one search.

    counts: attribute → the number of its words that are looked through. A later page of a search looks through those of the first one:
    words that were written since could change the weights of others.
    """

    def __init__(self, view: View, request: SearchRequest, filters: FilterCache):
        self.counts: dict[str, int] = {} if request.cursor is None else decode(request.cursor).words
        self._view, self._request, self._filters, self._used = view, request, filters, False
        self._wish = f"fuzzy={request.fuzzy}" if request.fuzzy else "wildcards=True"

    def check_used(self) -> None:
        """Raise InvalidArgumentError if the search has no text for a BM25 field."""
        if not self._used:
            option = "fuzzy" if self._request.fuzzy else "wildcards"
            what = f"{self._wish} is about the words of text=… in BM25 fields, and this search has none; leave {option} out"
            raise InvalidArgumentError(what, field=option, value=getattr(self._request, option))

    def of(self, name: str, encoder: BM25, texts: Sequence[str]) -> tuple[list[Query], Callable[[Sequence[int]], dict[int, str]]]:
        """The queries of a field, and a function from the terms of the first to their words. A word found at a distance d counts
        1 / (1 + d) of an exact one; of several words with the same stem, the nearest counts.

        Raises InvalidArgumentError if the field doesn't read a Text attribute, whose words are known.
        """
        self._used, view = True, self._view
        sources = self._sources(name)
        known = [(source, vocabulary(view, source, self._filters)) for source in sources]
        words_of = analysis(view.schema.attributes[sources[0]].analyzer, 1 if sources[0] in view.schema.earlier else RULE)
        queries: list[Query] = []
        names: dict[int, str] = {}
        for q, text in enumerate(texts):
            weights: dict[int, float] = {}
            for word in near_words(words_of, text, self._request.fuzzy, self._request.wildcards):
                found: dict[str, int] = {}
                for source, words in known:
                    for each, distance in self._early(source, words, expanded(words, word, source)):
                        found[each] = min(distance, found.get(each, distance))
                nearest: dict[int, tuple[int, str]] = {}
                for (each, distance), term in zip(found.items(), encoder.terms_of(found), strict=True):
                    if term is not None:
                        nearest[term] = min((distance, each), nearest.get(term, (distance, each)))
                for term, (distance, each) in nearest.items():
                    weights[term] = weights.get(term, 0) + 1 / (1 + distance)
                    if q == 0:
                        names.setdefault(term, each)
            if len(weights) > MAX_TERMS:
                what = f"text stands for {len(weights)} words of field {name!r}, at most {MAX_TERMS} are allowed; write more letters"
                raise LimitError(what, field="text", value=text)
            terms = np.array(sorted(weights), np.uint64)
            queries.append((terms, np.array([weights[term] for term in terms.tolist()], np.float32)))
        return queries, lambda terms: {term: names[term] for term in terms if term in names}

    def _early(self, source: str, words: Vocabulary, found: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """Those of some words, with their distances, that are among the first ``counts`` of an attribute."""
        count = self.counts.setdefault(source, number_of_words(self._view, source))
        if len(words.words) <= count:
            return found
        numbers = numbers_of(self._view, self._view.fields[source], [each.encode() for each, _ in found])
        return [(each, distance) for each, distance in found if numbers.get(each.encode(), count) < count]

    def _sources(self, name: str) -> Sequence[str]:
        reads = self._view.schema.vectors[name].reads
        for source in reads:
            if self._view.schema.attributes[source].stored != "text":
                what = f"{self._wish} needs the words of a Text attribute, but {name!r} reads {source!r}, a Keyword; declare it as Text()"
                raise InvalidArgumentError(what, field=name, value=source)
        if not reads:
            what = f"{self._wish} needs the words of a Text attribute, but field {name!r} has no source; create it with source=…"
            raise InvalidArgumentError(what, field=name)
        return reads
