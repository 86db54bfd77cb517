"""Words of terms as messages, and back. Pure, no I/O. As in ``wire``, unpacked messages may contain anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..errors import InvalidArgumentError
from ..v1 import vectordb_pb2 as pb
from .wire import array_of

_ROOM = 4096  # bytes for the other parts of a message: the names of collection and field
_EACH = 16  # bytes of a term and of the framing of its word


def pack_words(
    collection: str, field: str, words: Mapping[int, str | None], durability: str | None, limit: int
) -> Iterator[pb.SetTermsRequest]:
    """Checked words as messages of at most ``limit`` bytes each."""
    part: dict[int, str | None] = {}
    size = 0
    for term, word in words.items():
        needed = _EACH + (0 if word is None else len(word.encode()))
        if part and size + needed > limit - _ROOM:
            yield _request(collection, field, part, durability)
            part, size = {}, 0
        part[term] = word
        size += needed
    yield _request(collection, field, part, durability)


def _request(collection: str, field: str, words: Mapping[int, str | None], durability: str | None) -> pb.SetTermsRequest:
    given = {term: word for term, word in words.items() if word is not None}
    return pb.SetTermsRequest(
        collection=collection,
        field=field,
        terms=_pack(given),
        words=given.values(),
        removed=_pack([term for term, word in words.items() if word is None]),
        durability=durability,
    )


def unpack_words(message: pb.SetTermsRequest) -> dict[int, str | None]:
    """The words that a request sets. Raises InvalidArgumentError."""
    words: dict[int, str | None] = _unpack(message.terms, message.words)
    removed = array_of(message.removed, "<u8", "removed").tolist()
    if len(words | dict.fromkeys(removed)) != len(message.words) + len(removed):
        raise InvalidArgumentError("a term is given twice", field="terms")
    return words | dict.fromkeys(removed)


def pack_page(words: Mapping[int, str]) -> pb.ListTermsResponse:
    return pb.ListTermsResponse(terms=_pack(words), words=words.values())


def unpack_page(message: pb.ListTermsResponse) -> dict[int, str]:
    """Raises InvalidArgumentError."""
    return _unpack(message.terms, message.words)


def _pack(terms: Mapping[int, str] | Sequence[int]) -> bytes:
    return np.fromiter(terms, "<u8", len(terms)).tobytes()


def _unpack(terms: bytes, words: Sequence[str]) -> dict:
    numbers = array_of(terms, "<u8", "terms").tolist()
    if len(numbers) != len(words):
        raise InvalidArgumentError(f"the message has {len(words)} words for {len(numbers)} terms", field="terms", value=len(words))
    return dict(zip(numbers, words, strict=True))
