"""Where the words of a query are in the attributes of a hit (the option ``highlight``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from vectordb_client.errors import InvalidArgumentError, listing, shown
from vectordb_client.model.schema import Schema

from ..common import deadline
from ..common.analyze import Plain, Span, analysis
from ..common.near import Vocabulary, near_words
from ..common.tokenize import RULE
from ..engine.encoding import load_encoder
from ..engine.snapshot import View
from .aligned_words import AlignedWords, compares, merged
from .near_words import can_be_near

Places = list  # of (start, end) of a text; of an array, of one such list an element
Highlighter = Callable[[Mapping[str, Any], int], dict[str, Places]]
_TEXTS = frozenset(("text", "string"))  # stored forms that have words


def check_highlight(names: Sequence[str] | None, schema: Schema) -> None:
    """Check the attributes of the option against a schema. Raises InvalidArgumentError."""
    for name in names or ():
        spec = schema.attributes.get(name)
        if spec is None:
            texts = [each for each, spec in schema.attributes.items() if spec.stored in _TEXTS]
            what = f"highlight: no attribute {shown(name)}; those with text are: {listing(texts)}"
            raise InvalidArgumentError(what, field="highlight", value=name)
        if spec.stored not in _TEXTS:
            what = f"highlight: attribute {name!r} is {type(spec).__name__}; name a Text or Keyword attribute"
            raise InvalidArgumentError(what, field="highlight", value=name)


def highlighter(view: View, search: Any, q: int) -> Highlighter | None:
    """A function from the stored attributes and the docid of a hit of the q-th query to attribute → places; None if the search doesn't ask
    for it. search: a ``request.Search``.

    Raises InvalidArgumentError if the search has no text.
    """
    chosen = search.request.highlight
    if not chosen:
        return None
    arms = [arm for arm in _arms(search) if arm.texts is not None]
    if not arms:
        what = "highlight marks the words of text=…, and this search has vectors only; give text too, or leave highlight out"
        raise InvalidArgumentError(what, field="highlight", value=list(chosen))
    wanted = {}
    for name in chosen:
        words = analysis(view.schema.attributes[name].analyzer, 1 if name in view.schema.earlier else RULE)
        readers = [arm for arm in arms if can_be_near(arm.spec) and name in arm.spec.reads]
        if readers:
            found = [_Searched(view, arm, arm.queries[min(q, len(arm.queries) - 1)][0]) for arm in readers]
        else:
            texts = dict.fromkeys(arm.texts[min(q, len(arm.texts) - 1)] for arm in arms)
            found = [_Wanted(words, texts, search.request)]
        aligned = [AlignedWords(view, arm, min(q, len(arm.queries) - 1)) for arm in arms if arm.spec.source == name and compares(arm)]
        wanted[name] = (words, found, aligned, bool(readers))

    def of(attributes: Mapping[str, Any], docid: int) -> dict[str, Places]:
        deadline.check()
        values = {name: attributes.get(name) for name in wanted}
        found = {}
        for name, value in values.items():
            words, searched, aligned, both = wanted[name]
            known = [places for each in aligned if (places := each.places(value, docid, words)) is not None]
            if known:
                known += [_places(value, words, searched)] if both and isinstance(value, str) else []
                found[name] = merged(known)
            elif value is not None:
                several = isinstance(value, (list, tuple))
                found[name] = [_places(each, words, searched) for each in value] if several else _places(value, words, searched)
        return found

    return of


def _arms(search: Any) -> Iterator[Any]:
    """The arms of all stages."""
    while search is not None:
        yield from search.arms
        search = search.prefetch


class _Searched:
    """The words that a BM25 field was searched for: those with its stems, near the query's where that is asked for."""

    def __init__(self, view: View, arm: Any, terms: np.ndarray):
        self._encoder: Any = load_encoder(arm.field, arm.spec, view.snapshot.meta.encoders[arm.field])
        self._terms = frozenset(terms.tolist())

    def among(self, words: Sequence[str]) -> set[str]:
        """Which of some words are wanted."""
        return {word for word, term in zip(words, self._encoder.terms_of(words), strict=True) if term in self._terms}


class _Wanted:
    """The words of texts, or those near them, in an attribute that no BM25 field of the search reads."""

    def __init__(self, words: Plain, texts: Iterable[str], request: Any):
        near = [each for text in texts for each in near_words(words, text, request.fuzzy, request.wildcards)]
        self._exact = frozenset(each.words[0] for each in near if not each.distance and not each.pattern and len(each.words) == 1)
        self._near = [each for each in near if each.distance or each.pattern or len(each.words) > 1]

    def among(self, words: Sequence[str]) -> frozenset[str]:
        if not self._near:
            return self._exact
        known = Vocabulary(sorted(words))
        return self._exact.union(found for each in self._near for found, _ in known.find(each))


def _places(text: str, words: Plain, wanted: Sequence[_Searched | _Wanted]) -> list[tuple[int, int]]:
    """The places of some words in a text, ascending. Those that touch or overlap are one place."""
    spans = words.spans(text)
    distinct = list(dict.fromkeys(span.word for span in spans))
    chosen = {word for each in wanted for word in each.among(distinct)}
    return _joined([span for span in spans if span.word in chosen])


def _joined(spans: Sequence[Span]) -> list[tuple[int, int]]:
    places: list[tuple[int, int]] = []
    for _, start, end in spans:
        if places and start <= places[-1][1]:
            places[-1] = (places[-1][0], max(end, places[-1][1]))
        else:
            places.append((start, end))
    return places
