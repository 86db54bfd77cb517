"""The cache of one collection's filters, and what evaluating a filter needs of a snapshot."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from pyroaring import BitMap
from vectordb_client.model.filter_nodes import Filter
from vectordb_client.model.schema import Schema
from vectordb_client.model.values import Id

from ..storage.attribute_forms import Ordinals
from ..storage.store import Store
from ..storage.tables import ChunkTable
from . import as_filter
from .canonical import canonical
from .nodes import weight

CACHE_BYTES = 64 << 20
CACHE_FILTERS = 1024
LONG_TEXT, LONG_FILTER = 1 << 14, 1_000  # characters of a text, values of a filter: above these the canonical form is not cached
VALUE_BYTES = 80  # estimated memory of each value of a cached filter


class Reader(Protocol):
    """The part of a pinned snapshot that evaluating a filter needs."""

    store: Store

    @property
    def rows(self) -> int: ...
    @property
    def schema(self) -> Schema: ...
    @property
    def fields(self) -> dict[str, int]: ...
    @property
    def known(self) -> dict[int, Ordinals]: ...
    @property
    def dead(self) -> BitMap: ...
    @property
    def sequence(self) -> int: ...
    @property
    def sources(self) -> dict[str, Any]: ...
    def table(self, field: int, part: int) -> np.ndarray: ...
    def chunks(self, field: int, part: int) -> ChunkTable: ...
    def stored(self, docids: Sequence[int]) -> list[memoryview]: ...
    def entries(self, ids: Sequence[Id]) -> list[tuple[int, int | None] | None]: ...


class FilterCache:
    """The cache of one collection's filters.

    It holds the canonical form of each filter given, the bitmap of each leaf (with the number of rows it covers), the rows of each whole
    filter (with the sequence they are valid for), attributes in the order of their values (``docids.Ordered``) and the values at paths of
    the payload (``path_index.py``). The least recently used
    entry is evicted first. capacity: in bytes.

    scans: number of an attribute's field → the ranges of it that were looked for in all its values, since these were last put in order;
    key of a path → the questions for it.
    """

    def __init__(self, capacity: int = CACHE_BYTES):
        self.capacity = capacity
        self.scans: dict[Any, int] = {}
        self._lock = threading.Lock()
        self._bytes = 0
        self._entries: OrderedDict[tuple, tuple[Any, Any, int]] = OrderedDict()
        self._bound: dict[str | Filter, tuple[Schema, Filter]] = {}

    def bind(self, given: Any, schema: Schema) -> Filter | None:
        """The canonical form of a filter as the user gave it. Raises FilterError or LimitError."""
        if given is None:
            return None
        cacheable = isinstance(given, Filter) or (isinstance(given, str) and len(given) <= LONG_TEXT)
        if cacheable:
            cached = self._bound.get(given)
            if cached is not None and cached[0] is schema:
                return cached[1]
        node = canonical(as_filter(given), schema)
        if cacheable and weight(node) <= LONG_FILTER:
            if len(self._bound) >= CACHE_FILTERS:
                self._bound.clear()
            self._bound[given] = (schema, node)
        return node

    def get(self, key: tuple) -> tuple[Any, Any] | None:
        """The (mark, value) stored by ``put``; None if there is none, or it was evicted."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0], entry[1]

    def put(self, key: tuple, mark: Any, value: Any, size: int | None = None) -> None:
        """Store a value under a key. mark: what the value is valid for, such as a sequence. size: in bytes; None: the value is a bitmap."""
        if size is None:
            statistics = value.get_statistics()
            nbytes = int(statistics["n_bytes_array_containers"] + statistics["n_bytes_bitset_containers"]) + 512
        else:
            nbytes = size
        if isinstance(key[1], Filter):  # the key takes memory too
            nbytes += VALUE_BYTES * weight(key[1])
        with self._lock:
            old = self._entries.pop(key, None)
            if old is not None:
                self._bytes -= old[2]
            self._entries[key] = (mark, value, nbytes)
            self._bytes += nbytes
            while self._bytes > self.capacity and self._entries:
                self._bytes -= self._entries.popitem(last=False)[1][2]

    def resize(self, capacity: int) -> None:
        """Change the capacity, in bytes; entries that exceed it are evicted."""
        with self._lock:
            self.capacity = capacity
            while self._bytes > self.capacity and self._entries:
                self._bytes -= self._entries.popitem(last=False)[1][2]

    def forget(self, key: tuple) -> None:
        """Remove an entry, if there is one."""
        with self._lock:
            old = self._entries.pop(key, None)
            if old is not None:
                self._bytes -= old[2]
