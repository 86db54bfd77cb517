"""Where the words of a text are: their offsets in the text as it was given, before it was normalised."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from . import tokenize
from .tokenize import RULE

_RUN = re.compile(r"\S+|\s+")


class Located(NamedTuple):
    """A word with its offsets in the normalised text, and in the text: both in characters, from ``start`` up to ``end``."""

    word: str
    low: int
    high: int
    start: int
    end: int


def located(text: str, rule: int = RULE) -> list[Located]:
    """The words of a text (``tokenize.words``) with their offsets."""
    if text.isascii():
        return [Located(m[0], *m.span(), *m.span()) for m in tokenize.plain_words(text)]
    folded, starts, ends = _aligned(text)
    matches = [(m[0], *m.span()) for m in tokenize.word_pattern(folded, rule).finditer(folded)]
    return [Located(word, low, high, starts[low], ends[high - 1]) for word, low, high in matches]


def _aligned(text: str) -> tuple[str, list[int], list[int]]:
    """The normalised text, and for each of its characters where the characters that it was made of begin and end in the text."""
    whole, known = tokenize.fold(text), {}
    for pattern in (_clusters(), _RUN):
        parts, starts, ends = [], [], []
        for match in pattern.finditer(text):
            part = match[0]
            folded = known.get(part)
            if folded is None:
                folded = known[part] = tokenize.fold(part)
            parts.append(folded)
            starts += [match.start()] * len(folded)
            ends += [match.end()] * len(folded)
        if "".join(parts) == whole:
            return whole, starts, ends
    return whole, [0] * len(whole), [len(text)] * len(whole)


@cache
def _clusters() -> re.Pattern[str]:
    """A character with those after it that it may be composed with: marks, vowels and finals of Hangul, halfwidth voice marks."""
    return re.compile(f"(?s:.)[{tokenize.marks()}{tokenize.INVISIBLE}\\u1160-\\u11ff\\uff9e\\uff9f]*")
