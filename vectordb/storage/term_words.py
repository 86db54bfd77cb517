"""The stored words of a sparse field's terms. One record per term, so that a write touches only new terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import lmdb
from vectordb_client.errors import CorruptionError

from . import format


def read(txn: lmdb.Transaction, collection: int, field: int, terms: Iterable[int]) -> dict[int, str]:
    """term → word, for those of the terms that have one. Raises CorruptionError naming the term."""
    found = {}
    for term in terms:
        value = txn.get(format.term_word_key(collection, field, term))
        if value is not None:
            found[term] = unpack(value, term)
    return found


def page(txn: lmdb.Transaction, collection: int, field: int, after: int | None, limit: int) -> dict[int, str]:
    """term → word for at most ``limit`` terms above ``after``, ascending. Raises CorruptionError naming the term."""
    prefix, found = format.field_key(collection, format.TERM_WORD, field), {}
    cursor = txn.cursor()
    more = cursor.set_range(prefix if after is None else format.term_word_key(collection, field, after) + b"\0")
    while more and len(found) < limit and (key := bytes(cursor.key())).startswith(prefix):
        term = int.from_bytes(key[len(prefix) :], "big")
        found[term] = unpack(cursor.value(), term)
        more = cursor.next()
    return found


def add(txn: lmdb.Transaction, collection: int, field: int, words: Mapping[int, str]) -> None:
    """Store words for terms that have none yet. Others are not rewritten."""
    records = [(format.term_word_key(collection, field, term), pack(word)) for term, word in sorted(words.items())]
    txn.putmulti(records, overwrite=False)


def change(txn: lmdb.Transaction, collection: int, field: int, words: Mapping[int, str | None]) -> int:
    """Set the words of terms; None removes a word. Returns how many terms changed."""
    changed = 0
    for term, word in sorted(words.items()):
        key = format.term_word_key(collection, field, term)
        if word is None:
            changed += txn.delete(key)
        elif (value := pack(word)) != txn.get(key):
            changed += txn.put(key, value)
    return changed


def copy(txn: lmdb.Transaction, collection: int, old: int, new: int) -> None:
    """Copy all words of field number ``old`` to field number ``new``."""
    prefix = format.field_key(collection, format.TERM_WORD, old)
    cursor, records = txn.cursor(), []
    more = cursor.set_range(prefix)
    while more and (key := bytes(cursor.key())).startswith(prefix):
        records.append((format.field_key(collection, format.TERM_WORD, new) + key[len(prefix) :], bytes(cursor.value())))
        more = cursor.next()
    txn.putmulti(records)


def pack(word: str) -> bytes:
    return format.sealed(word.encode())


def unpack(value: format.Stored, term: int) -> str:
    """Decode a stored word. Raises CorruptionError naming the term."""
    what = f"the word of term {term}"
    try:
        return format.opened(value, what).decode()
    except UnicodeDecodeError:
        raise CorruptionError(f"{what} is not valid UTF-8", field=what) from None
