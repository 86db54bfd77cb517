"""Cursors of searches: what a later page must know to continue where the page before ended. Only this package reads them.

A cursor names its collection, the state that the first page saw, and the search, so that it can't continue another one. It says which rows
were returned in one of two ways. ``last`` is the score and the docid of the last row: enough where the ranking is exact, because it is then
the same each time. ``shown`` lists the rows of pages that an approximate plan found, so that rows which that plan missed come later.
"""

from __future__ import annotations

import zlib
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from vectordb_client.errors import InvalidArgumentError
from vectordb_client.model.page_options import cursor_bytes, not_next

from .examples import Pooled

if TYPE_CHECKING:
    from .request import Arm, Search

VERSION = 1
# Options that may change from page to page.
_FREE = frozenset(("cursor", "offset", "limit", "candidates", "explain", "with_attributes", "with_vectors", "with_payload", "highlight"))
_FREE |= {"filter", "prefetch", "fusion"}  # compared in their canonical form


class Cursor(msgspec.Struct, array_like=True, frozen=True):
    """collection: its number. sequence, rows, live, compactions: of the state of the first page. search: its fingerprint. taken: the number
    of rows that were returned or passed over. candidates: of each arm. shown: docids, uint32 little-endian. last: (score, docid) of the
    last row of an exact page. words: of a search with ``fuzzy`` or ``wildcards``, attribute → the number of words that it had.
    """

    collection: int
    sequence: int
    rows: int
    live: int
    compactions: int
    search: bytes
    taken: int
    candidates: int
    shown: bytes = b""
    last: tuple[float, int] | None = None
    words: dict[str, int] = {}

    def docids(self) -> list[int]:
        """The docids of ``shown``."""
        return np.frombuffer(self.shown, "<u4").tolist()

    def encode(self) -> bytes:
        """The bytes of the cursor: version, content, CRC32."""
        body = bytes([VERSION]) + msgspec.msgpack.encode(self)
        return body + zlib.crc32(body).to_bytes(4, "little")


def decode(text: str) -> Cursor:
    """The cursor of a text. Raises InvalidArgumentError for a text that ``Hits.next`` doesn't return."""
    raw = cursor_bytes(text)
    if len(raw) < 6 or raw[0] != VERSION or zlib.crc32(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
        raise not_next(text)
    try:
        return msgspec.msgpack.decode(raw[1:-4], type=Cursor)
    except msgspec.DecodeError:
        raise not_next(text) from None


def check_of(cursor: Cursor, collection: int, search: bytes) -> None:
    """Check that a cursor continues this search. Raises InvalidArgumentError."""
    if cursor.collection != collection:
        what = "cursor is of another collection, or of one that was dropped and created again: start again without a cursor"
        raise InvalidArgumentError(what, field="cursor", value=cursor.collection)
    if cursor.search != search:
        what = "cursor is of another search: give the query, the filter and the options of the first page; limit may differ"
        raise InvalidArgumentError(what, field="cursor")


def fingerprint(search: Search) -> bytes:
    """Eight bytes that equal searches share, whatever their page and the form in which they were given."""
    return finished(search, [(_identity(arm), arm.queries[0]) for arm in search.arms])


def _identity(arm: Arm) -> str:
    """The name of an arm, and what makes it differ from a field with a query."""
    given = (arm.of, arm.filter, arm.limit, arm.weight)
    return arm.name if given == (None, None, None, None) else repr((arm.name, *given))


def finished(search: Search, queries: list[tuple[str, Any]]) -> bytes:
    """``fingerprint`` with the queries given as field and vector."""
    digest = blake2b(_options_of(search), digest_size=8)
    for name, query in sorted(queries, key=lambda pair: pair[0]):
        digest.update(name.encode())
        if isinstance(query, Pooled):
            query = (repr((query.given.pool, len(query.given.like), len(query.given.unlike))), query.vectors)
        for part in query if isinstance(query, tuple) else (query,):
            digest.update(part.tobytes() if isinstance(part, np.ndarray) else part if isinstance(part, bytes) else repr(part).encode())
    stage = search.prefetch
    if stage is not None:
        digest.update(f"{stage.limit} {stage.candidates}".encode())
        digest.update(fingerprint(stage))
    return digest.digest()


def _options_of(search: Search) -> bytes:
    """What a search asks for besides its queries, kept with its request."""
    known = search.request.__dict__.get("_paged")
    if known is not None and known[0] is search.filter and known[1] is search.fusion:
        return known[2]
    options = {name: value for name, value in sorted(search.request.changed().items()) if name not in _FREE}
    text = repr((search.filter, search.fusion, options)).encode(errors="surrogatepass")
    search.request.__dict__["_paged"] = (search.filter, search.fusion, text)
    return text
