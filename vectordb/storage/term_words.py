"""The stored words of a sparse field's terms. One record per term, so that a write touches only new terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

from vectordb_client.errors import CorruptionError

from . import format
from .format import Txn


def read(txn: Txn, collection: int, field: int, terms: Iterable[int]) -> dict[int, str]:
    """term → word, for those of the terms that have one. Raises CorruptionError naming the term."""
    values = {term: txn.get(format.term_word_key(collection, field, term)) for term in terms}
    return {term: unpack(value, term) for term, value in values.items() if value is not None}


def page(txn: Txn, collection: int, field: int, after: int | None, limit: int) -> dict[int, str]:
    """term → word for at most ``limit`` terms above ``after``, ascending. Raises CorruptionError naming the term."""
    prefix = format.field_key(collection, format.TERM_WORD, field)
    start = None if after is None else format.term_word_key(collection, field, after) + b"\0"
    terms = ((int.from_bytes(key[len(prefix) :], "big"), value) for key, value in format.walk(txn, prefix, start))
    return {term: unpack(value, term) for term, value in islice(terms, limit)}


def add(txn: Txn, collection: int, field: int, words: Mapping[int, str]) -> None:
    """Store words for terms that have none yet. Others are not rewritten."""
    records = [(format.term_word_key(collection, field, term), pack(word)) for term, word in sorted(words.items())]
    txn.putmulti(records, overwrite=False)


def change(txn: Txn, collection: int, field: int, words: Mapping[int, str | None]) -> int:
    """Set the words of terms; None removes a word. Returns how many terms changed."""
    changed = 0
    for term, word in sorted(words.items()):
        key = format.term_word_key(collection, field, term)
        if word is None:
            changed += txn.delete(key)
        elif (value := pack(word)) != txn.get(key):
            changed += txn.put(key, value)
    return changed


def copy(txn: Txn, collection: int, old: int, new: int) -> None:
    """Copy all words of field number ``old`` to field number ``new``."""
    source, target = (format.field_key(collection, format.TERM_WORD, field) for field in (old, new))
    txn.putmulti([(target + key[len(source) :], bytes(value)) for key, value in format.walk(txn, source)])


def pack(word: str) -> bytes:
    return format.with_checksum(word.encode())


def unpack(value: format.Stored, term: int) -> str:
    """Decode a stored word. Raises CorruptionError naming the term."""
    what = f"the word of term {term}"
    try:
        return format.verify_checksum(value, what).decode()
    except UnicodeDecodeError:
        raise CorruptionError(f"{what} is not valid UTF-8", field=what) from None
