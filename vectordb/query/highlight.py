"""Where the words of a query are in the attributes of a hit (the option ``highlight``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vectordb_client.errors import InvalidArgumentError, listing, shown
from vectordb_client.model.schema import Schema

from ..common import deadline
from ..common.analyze import Plain, Span, analysis
from ..common.tokenize import RULE
from ..engine.snapshot import View

Places = list  # of (start, end) of a text; of an array, of one such list an element
Highlighter = Callable[[Mapping[str, Any]], dict[str, Places]]
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
    """A function from the stored attributes of a hit of the q-th query to attribute → places; None if the search doesn't ask for it.
    search: a ``request.Search``.

    Raises InvalidArgumentError if the search has no text.
    """
    chosen = search.request.highlight
    if not chosen:
        return None
    texts = [text for arm in _arms(search) if arm.texts is not None for text in [arm.texts[q if len(arm.texts) > 1 else 0]]]
    if not texts:
        what = "highlight marks the words of text=…, and this search has vectors only; give text too, or leave highlight out"
        raise InvalidArgumentError(what, field="highlight", value=list(chosen))
    wanted = {}
    for name in chosen:
        words = analysis(view.schema.attributes[name].analyzer, 1 if name in view.schema.earlier else RULE)
        wanted[name] = (words, frozenset(word for text in dict.fromkeys(texts) for word in words.words(text)))

    def of(attributes: Mapping[str, Any]) -> dict[str, Places]:
        deadline.check()
        values = {name: attributes.get(name) for name in wanted}
        return {
            name: [_places(each, *wanted[name]) for each in value] if isinstance(value, (list, tuple)) else _places(value, *wanted[name])
            for name, value in values.items()
            if value is not None
        }

    return of


def _arms(search: Any) -> Iterator[Any]:
    """The arms of all stages."""
    while search is not None:
        yield from search.arms
        search = search.prefetch


def _places(text: str, words: Plain, wanted: frozenset[str]) -> list[tuple[int, int]]:
    """The places of some words in a text, ascending. Those that touch or overlap are one place."""
    return _joined([span for span in words.spans(text) if span.word in wanted]) if wanted else []


def _joined(spans: Sequence[Span]) -> list[tuple[int, int]]:
    places: list[tuple[int, int]] = []
    for _, start, end in spans:
        if places and start <= places[-1][1]:
            places[-1] = (places[-1][0], max(end, places[-1][1]))
        else:
            places.append((start, end))
    return places
