"""The forms in which attribute values are stored. A type of attributes names one of them (``AttributeType.stored``).

Numbers are columns, by row. Other values are numbered terms with lists of the rows that have them (postings); a dictionary has the number
of each term. Arrays also have postings of their lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from vectordb_client.errors import shown
from vectordb_client.model.attributes import AttributeType

from ..common.analyze import analysis
from ..kernels.columns import ELEMENT_END
from . import chunks, format
from .chunks import Chunk

Ordinals = dict[bytes, int]
Number = Callable[[Iterable[bytes]], Ordinals]  # numbers terms


class Values(NamedTuple):
    """The values of an attribute that some rows have. docids: int64, ascending, of the rows.

    elements: the values, those of arrays one after another. offsets: int64 ``(rows + 1,)``, where the elements of each row begin.
    split: how the words of a text are made.
    """

    docids: np.ndarray
    elements: Sequence[Any]
    offsets: np.ndarray
    array: bool
    split: Callable[[str], list[str]]


class Column:
    """Numbers by row. width: how many of them a value is."""

    main = format.FORWARD  # the part from which to read which rows have a scalar; all parts list them
    has_terms = follows_rule = False

    def __init__(self, dtype: Any, width: int = 1):
        self.dtype, self.width = dtype, width

    def parts(self, array: bool) -> dict[int, tuple[int, int]]:
        """part → (kind of its chunks, bytes of a value or item)."""
        return {format.FORWARD: (chunks.RAGGED if array else chunks.FIXED, np.dtype(self.dtype).itemsize * self.width)}

    def encode(self, values: Values, number: Number) -> dict[int, Chunk]:
        """part → chunk. number: numbers terms."""
        items = np.array(values.elements, dtype=self.dtype)
        chunk = chunks.ragged(values.docids, values.offsets, items) if values.array else chunks.fixed(values.docids, items)
        return {format.FORWARD: chunk}


class Flags:
    """True and False: postings without a dictionary."""

    main = format.POSTINGS
    dtype = None
    has_terms = follows_rule = False

    def parts(self, array: bool) -> dict[int, tuple[int, int]]:
        return {format.POSTINGS: (chunks.POSTINGS, 0)}

    def encode(self, values: Values, number: Number) -> dict[int, Chunk]:
        numbers = np.array(self.numbers(values.elements, number), np.uint64)
        return {format.POSTINGS: _postings(values.docids, values.offsets, numbers, values.array)}

    def numbers(self, values: Sequence[Any], number: Number) -> list[int]:
        """The number of each value in the postings. What ``number`` leaves out is left out."""
        return [*map(int, values)]


MAX_TERM_BYTES = 480  # of a term in a dictionary, because a key has at most 511
_KEPT, _MARK = MAX_TERM_BYTES - 17, b"\xff"  # the beginning of a longer string, in bytes; a byte that UTF-8 never has


def keyword_term(value: str) -> bytes:
    """The term of a string: its UTF-8 bytes. Of more than 480 bytes: the first 463, 0xFF, and 16 bytes of BLAKE2b of all."""
    term = value.encode()
    if len(term) <= MAX_TERM_BYTES:
        return term
    return term[:_KEPT] + _MARK + blake2b(term, digest_size=16).digest()


def is_hashed(term: bytes) -> bool:
    """Whether a term of a keyword stands for a longer string, of which it has only the beginning."""
    return len(term) == MAX_TERM_BYTES and term[_KEPT] == _MARK[0]


def beginning(value: bytes) -> bytes:
    """What the terms of all strings that begin with some bytes begin with."""
    return value[:_KEPT]


class Terms(Flags):
    """Values that are compared as a whole: postings with a dictionary. size: bytes of each term, None if they are strings."""

    has_terms = True

    def __init__(self, to_bytes: Callable[[Any], bytes] = keyword_term, size: int | None = None):
        self.to_bytes, self.size = to_bytes, size

    def numbers(self, values: Sequence[Any], number: Number) -> list[int]:
        terms = {value: self.to_bytes(value) for value in dict.fromkeys(values)}
        numbered = number(terms.values())
        by_value = {value: numbered[term] for value, term in terms.items() if term in numbered}
        return [by_value[value] for value in values if value in by_value]

    def fault(self, term: bytes) -> str | None:
        """What is wrong with a term of the dictionary, None if nothing is. Raises UnicodeDecodeError."""
        if self.size is None:
            if not is_hashed(term):
                term.decode()
        elif len(term) != self.size:
            return f"contains {shown(term)}, which is not a UUID"
        return None


class Words(Terms):
    """Text: postings of its words with a dictionary, and a column of the words in order, for phrases."""

    main = format.FORWARD
    follows_rule = True

    def parts(self, array: bool) -> dict[int, tuple[int, int]]:
        return {**super().parts(array), format.FORWARD: (chunks.RAGGED, 4)}

    def encode(self, values: Values, number: Number) -> dict[int, Chunk]:
        texts = [*map(values.split, values.elements)]
        numbers = np.array(self.numbers([word for text in texts for word in text], number), np.uint32)
        ends = np.cumsum([0, *map(len, texts)])
        offsets = ends[values.offsets]
        parts = {format.POSTINGS: _postings(values.docids, offsets, numbers.astype(np.uint64), True)}
        if values.array:  # a mark between the elements of a row prevents matches across them
            later = np.ones(len(texts) + 1, np.bool_)
            later[values.offsets] = False
            later = np.flatnonzero(later)  # all but the first element of each row
            numbers = np.insert(numbers, ends[later], ELEMENT_END)
            offsets = offsets + np.searchsorted(later, values.offsets)
        return {**parts, format.FORWARD: chunks.ragged(values.docids, offsets, numbers)}


def _postings(docids: np.ndarray, offsets: np.ndarray, numbers: np.ndarray, repeat: bool) -> Chunk:
    """The postings of the terms of rows, uint64. repeat: the same term may occur several times in a row."""
    owners = np.repeat(docids, np.diff(offsets))
    if repeat:
        pairs = np.sort(owners.astype(np.uint64) << np.uint64(32) | numbers)
        pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])[: len(pairs)]]  # np.unique hashes, which takes ten times as long
        owners, numbers = (pairs >> np.uint64(32)).astype(np.int64), pairs & np.uint64(2**32 - 1)
    return chunks.postings(docids, numbers, owners)


FORMS: dict[str, Any] = {
    "int64": Column(np.int64),
    "float64": Column(np.float64),
    "place": Column(np.float64, 2),
    "flag": Flags(),
    "string": Terms(),
    "uuid": Terms(bytes, 16),
    "text": Words(),
}


def parts_of(spec: AttributeType) -> dict[int, tuple[int, int]]:
    """part → (kind of its chunks, bytes of a value or item)."""
    counts = {format.COUNTS: (chunks.POSTINGS, 0)} if spec.array else {}
    return counts | FORMS[spec.stored].parts(spec.array)


def main_part(spec: AttributeType) -> int:
    """The part from which to read which rows have the attribute."""
    return format.COUNTS if spec.array else FORMS[spec.stored].main


def encode(spec: AttributeType, values: Sequence, docids: np.ndarray, rule: int, number: Number) -> dict[int, Chunk]:
    """part → chunk for values of rows, in stored form. docids: ascending, one per value. None values are left out.

    rule: the version of the word rules, for Text. number: numbers the terms of the dictionary.
    """
    split = analysis(spec.analyzer, rule).words
    present = [row for row, value in enumerate(values) if value is not None]
    if not present:
        return {}
    docids = np.asarray(docids, np.int64)[present]
    values = [values[row] for row in present]
    if not spec.array:
        return FORMS[spec.stored].encode(Values(docids, values, np.arange(len(docids) + 1), False, split), number)
    sizes = np.array([len(value) for value in values], dtype=np.int64)
    elements, offsets = [element for value in values for element in value], np.concatenate([[0], np.cumsum(sizes)])
    counts = {format.COUNTS: chunks.postings(docids, sizes.astype(np.uint64), docids)}
    return counts | FORMS[spec.stored].encode(Values(docids, elements, offsets, True, split), number)


def write(
    txn: format.Txn,
    collection: int,
    field: int,
    spec: AttributeType,
    values: Sequence,
    docids: np.ndarray,
    numbers: Ordinals,
    rule: int,
) -> tuple[dict[int, Chunk], Ordinals]:
    """(part → chunk, term → number used) for one attribute: ``encode``, with the dictionary of the field, to which it adds new terms."""
    used: Ordinals = {}

    def number(terms: Iterable[bytes]) -> Ordinals:
        used.update(ordinals(txn, collection, field, terms, numbers))
        return used

    return encode(spec, values, docids, rule, number), used


def ordinals(txn: format.Txn, collection: int, field: int, terms: Iterable[bytes], committed: Ordinals) -> Ordinals:
    """term → number; unknown terms get new numbers. committed: stored numbers, which save look-ups; not changed."""
    numbers: Ordinals = {}
    prefix = format.field_key(collection, format.TERMS, field)
    count_key = format.field_key(collection, format.TERM_COUNT, field)
    following = None
    added = []
    for term in terms:
        ordinal = committed.get(term)
        if ordinal is None:
            stored = txn.get(prefix + term)
            if stored is None:
                if following is None:
                    count = txn.get(count_key)
                    following = int.from_bytes(count, "little") if count else 0
                ordinal = following
                following += 1
                added.append((prefix + term, ordinal.to_bytes(4, "little")))
            else:
                ordinal = int.from_bytes(stored, "little")
        numbers[term] = ordinal
    if following is not None:
        txn.putmulti(added)
        txn.put(count_key, following.to_bytes(4, "little"))
    return numbers
