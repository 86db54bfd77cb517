"""Checks of the terms of sparse fields and their words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidArgumentError, LimitError, SchemaError, shown
from .foreign import is_integer
from .schema import Schema

MAX_TERM = 2**64 - 1
MAX_TERM_WORD_BYTES = 480
MAX_TERMS_PAGE = 100_000
Words = Mapping[int, str | None]


def check_sparse(schema: Schema, field: Any) -> str:
    """Check the name of a sparse field. Raises SchemaError."""
    spec = schema.vector(field)
    if not spec.has_terms:
        raise SchemaError(f"vector field {field!r} is {spec.kind}; only a sparse field has terms", field="field", value=field)
    return field


def check_term(value: Any, name: str = "terms") -> int:
    """Check a term. Raises InvalidArgumentError."""
    if not is_integer(value) or not 0 <= value <= MAX_TERM:
        raise InvalidArgumentError(f"{name}: {shown(value)} is not a term; terms are integers from 0 to 2^64−1", field=name, value=value)
    return int(value)


def is_word(value: Any) -> bool:
    """Whether this can be the word of a term: printable, in one line (no control characters), and at most 480 bytes."""
    return isinstance(value, str) and value.isprintable() and 0 < len(value.encode()) <= MAX_TERM_WORD_BYTES


def check_words(words: Any) -> dict[int, str | None]:
    """Check term → word; None removes the word. Raises InvalidArgumentError or LimitError, which name the term."""
    if not isinstance(words, Mapping):
        raise InvalidArgumentError(f"terms must be a mapping from term to word, not {shown(words)}", field="terms", value=words)
    return {check_term(term): None if word is None else _word(term, word) for term, word in words.items()}


def check_derived_words(schema: Schema, field: str, words: Words) -> None:
    """Check that a derived field has the terms that are named. Raises InvalidArgumentError."""
    spec = schema.vector(field)
    if spec.derived is None:
        return
    width = spec.derived.width(spec.source_dim)
    for term in words:
        if term >= width:
            what = f"terms: {field!r} is derived by {spec.derived.name} and has the terms 0 to {width - 1}, not {term}"
            raise InvalidArgumentError(what, field="terms", value=term)


def _word(term: Any, word: Any) -> str:
    if is_word(word):
        return str(word)
    if isinstance(word, str) and word.isprintable() and word:
        size = len(word.encode())
        what = f"the word of term {term} has {size} UTF-8 bytes, at most {MAX_TERM_WORD_BYTES} are allowed: {shown(word)}"
        raise LimitError(what, field="terms", value=word)
    what = f"the word of term {term} must be a non-empty string of printable characters, not {shown(word)}"
    raise InvalidArgumentError(what, field="terms", value=word)


def check_page(after: Any, limit: Any) -> tuple[int | None, int]:
    """Check ``after`` and ``limit`` of a page of words. Raises InvalidArgumentError."""
    if not is_integer(limit) or not 1 <= limit <= MAX_TERMS_PAGE:
        raise InvalidArgumentError(f"limit must be from 1 to {MAX_TERMS_PAGE}, not {shown(limit)}", field="limit", value=limit)
    return None if after is None else check_term(after, "after"), int(limit)
