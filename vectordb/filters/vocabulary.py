"""The words of a Text attribute that any row ever had, to find those near the words of a query."""

from __future__ import annotations

from vectordb_client.errors import LimitError

from ..common import deadline
from ..common.near import NearWord, Vocabulary
from ..storage import format
from .cache import FilterCache, Reader

MAX_FOUND = 10_000  # words that one word of a query may stand for


def number_of_words(reader: Reader, name: str) -> int:
    """How many words the rows of an attribute ever had. Words are numbered in the order in which they came."""
    store, field = reader.store, reader.fields[name]
    stored = store.txn.get(format.field_key(store.collection, format.TERM_COUNT, field))
    return int.from_bytes(stored, "little") if stored else 0


def vocabulary(reader: Reader, name: str, cache: FilterCache | None) -> Vocabulary:
    """The words of an attribute, sorted. They are read once, and again when there are more: a dictionary only grows."""
    store, field, count = reader.store, reader.fields[name], number_of_words(reader, name)
    cached = cache.get(("words", field)) if cache is not None else None
    if cached is not None and cached[0] >= count:
        return cached[1]
    root = format.field_key(store.collection, format.TERMS, field)
    words = Vocabulary([key[len(root) :].decode() for key, _ in deadline.each(format.walk(store.txn, root), 1024)])
    if cache is not None:
        cache.put(("words", field), count, words, words.nbytes)
    return words


def expanded(words: Vocabulary, word: NearWord, name: str) -> list[tuple[str, int]]:
    """The words near one of a query, with their distances. name: of the attribute. Raises LimitError if they are too many."""
    found = words.find(word)
    if len(found) > MAX_FOUND:
        what = f"{word.words[0]!r} stands for {len(found)} words of {name!r}, at most {MAX_FOUND} are allowed; write more letters"
        raise LimitError(what, field=name, value=word.words[0])
    return found
