"""Limits of a service: calls per second, and the size of one request. (``turns`` limits running and waiting calls.)

Every refusal names the limit, the value and the setting. A refusal that is temporary says after how many seconds to retry.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import threading
import time
import weakref
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from vectordb_client.errors import LimitError, StorageError
from vectordb_client.model.batch import MAX_BATCH
from vectordb_client.model.checks import MAX_LIMIT
from vectordb_client.model.ranking import default_candidates
from vectordb_client.rpc import wire
from vectordb_client.v1 import vectordb_pb2 as pb

from ...common import memory
from ...filters import as_filter
from ...filters.nodes import weight
from ..settings import Settings

RATES_FILE = "rates.bin"
_SLOTS = 4_096
_PROBED = 16
_HELD = {"max_filter_nodes": "nodes and values", "max_query_rows": "rows"}  # setting → the unit that it counts
_WORDS_OF_A_CHARACTER = 4  # upper bound: one ligature character can stand for several words
_FILTER_BYTES = 24  # bytes of memory per byte of a filter once parsed: "{}," becomes a dict
_SLOT = struct.Struct("<Qdd")  # owner's tag (0: free slot), calls left, time of that count (seconds, monotonic)


class Rates:
    """One token bucket per API key, in a file that all workers of a directory map. The burst is one second's worth of calls.

    A slot is guarded by a file lock on its bytes, which the system releases if the process dies. path: None keeps the buckets in the memory
    of each worker, for directories where no file can be created.
    """

    def __init__(self, path: Path | None, a_second: float):
        self.a_second = a_second
        self._burst = max(a_second, 1.0)
        self._lock = threading.Lock()  # file locks only exclude other processes
        if path is None:
            self._file, self._map = None, mmap.mmap(-1, _SLOTS * _SLOT.size)
            return
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            weakref.finalize(self, os.close, self._file)
            if os.fstat(self._file).st_size < _SLOTS * _SLOT.size:
                os.ftruncate(self._file, _SLOTS * _SLOT.size)
            self._map = mmap.mmap(self._file, _SLOTS * _SLOT.size)
        except OSError as error:
            raise StorageError(f"{path} can't be used: {error.strerror}", field="path", value=str(path)) from error

    def take(self, owner: str) -> float:
        """Take one call from the owner's bucket. Returns 0.0, or the seconds until a call is available."""
        tag = _tag(owner)
        with self._lock:
            at = self._slot(tag) * _SLOT.size
            self._hold(fcntl.LOCK_EX, at)
            try:
                now = time.monotonic()
                left = self._left(tag, at, now)
                taken = left >= 1.0
                _SLOT.pack_into(self._map, at, tag, left - taken, now)
            finally:
                self._hold(fcntl.LOCK_UN, at)
        return 0.0 if taken else (1.0 - left) / self.a_second

    def _hold(self, how: int, at: int) -> None:
        if self._file is not None:
            fcntl.lockf(self._file, how, _SLOT.size, at)

    def _left(self, tag: int, at: int, now: float) -> float:
        whose, left, since = _SLOT.unpack_from(self._map, at)
        if whose != tag or not since <= now or not left >= 0.0:  # another owner's, from before a restart of the machine, or damaged
            return self._burst
        return min(left + (now - since) * self.a_second, self._burst)

    def _slot(self, tag: int) -> int:
        """The owner's slot, else a free one, else the least recently used one."""
        first = tag % _SLOTS
        oldest, best = float("inf"), first
        for i in range(first, first + _PROBED):
            whose, _, since = _SLOT.unpack_from(self._map, i % _SLOTS * _SLOT.size)
            if whose == tag:
                return i % _SLOTS
            if whose == 0:
                since = -1.0
            if since < oldest:
                oldest, best = since, i % _SLOTS
        return best


@lru_cache(maxsize=2_048)
def _tag(owner: str) -> int:
    """A 64-bit hash of the owner's name, never 0."""
    return int.from_bytes(hashlib.blake2b(owner.encode(), digest_size=8).digest(), "little") or 1


def check(settings: Settings, request: Any) -> None:
    """Raises LimitError when a request exceeds the settings. Other errors are left to the method itself."""
    kind = type(request)
    if kind is pb.SearchRequest:
        _check_search(settings, request)
    elif kind is pb.ScrollRequest:
        _within("limit", request.limit, "max_limit", settings.max_limit, MAX_LIMIT)
    elif kind is pb.WriteRequest:
        _within("ids", _count(request.batch.ids), "max_points", settings.max_points, MAX_BATCH)
    elif kind in (pb.GetRequest, pb.DeleteRequest):
        _within("ids", _count(request.ids), "max_ids", settings.max_ids)
    _check_filters(settings, request.batch if kind is pb.WriteRequest else request)


def check_schema(settings: Settings, fields: Any, there: Any = None) -> None:
    """Raises LimitError when a schema (as a JSON dict), combined with the existing schema ``there``, has too many fields."""
    for part, setting in (("vectors", "max_vector_fields"), ("attributes", "max_attributes")):
        given = fields.get(part) if isinstance(fields, dict) else None
        names = set(given) if isinstance(given, dict) else set()
        known = set() if there is None else set(getattr(there, part))
        if names - known:
            _within(part, len(names | known), setting, getattr(settings, setting))


def check_collections(settings: Settings, names: list[str], name: str) -> None:
    """Raises LimitError when one more collection would exceed the maximum."""
    if name not in names:
        _within("collection", len(names) + 1, "max_collections", settings.max_collections)


def _check_search(settings: Settings, request: pb.SearchRequest) -> None:
    queries = request.queries
    _within("queries", queries, "max_queries", settings.max_queries)
    longest = 1
    for stage in _stages(request):
        field = "limit" if stage is request else "prefetch.limit"
        _within(field, stage.limit, "max_limit", settings.max_limit, MAX_LIMIT)
        longest = max(longest, stage.limit)
        if stage.HasField("candidates"):
            _within("candidates", stage.candidates, "max_limit", settings.max_limit, MAX_LIMIT)
        for column in stage.vectors:
            if column.WhichOneof("vectors") == "multi":
                _within("the query", _most_rows(column.multi.counts), "max_query_rows", settings.max_query_rows)
        if len(stage.vectors) + len(stage.texts) > 1:  # with several arms, each arm lists its candidates
            longest = max(longest, stage.candidates if stage.HasField("candidates") else default_candidates(stage.limit))
    if queries > 1:
        _within("queries × hits", queries * longest, "max_batch_hits", settings.max_batch_hits)


def _stages(request: pb.SearchRequest) -> Iterator[Any]:
    stage: Any = request
    while True:
        yield stage
        if not stage.HasField("prefetch"):
            return
        stage = stage.prefetch


def _count(ids: pb.Ids) -> int:
    return len(ids.integers) // 8 + len(ids.strings) + len(ids.uuids) // 16


def _most_rows(counts: bytes) -> int:
    """The rows of the largest of several multi-vectors; 0 for counts that can't be decoded, which unpacking refuses."""
    return 0 if not counts or len(counts) % 4 else int(np.frombuffer(counts, "<u4").max())


def _check_filters(settings: Settings, holder: Any) -> None:
    for field in ("filter", "if_filter"):
        if field in holder.DESCRIPTOR.fields_by_name and holder.HasField(field):
            given = getattr(holder, field)
            size = len(given.text) + len(given.json)
            memory.hold(_FILTER_BYTES * size, "the filter")
            if size * _WORDS_OF_A_CHARACTER <= settings.max_filter_nodes:  # so most filters need not be parsed twice
                continue
            _within(field, weight(as_filter(wire.unpack_filter(holder, field))), "max_filter_nodes", settings.max_filter_nodes)


def _within(field: str, value: int, setting: str, most: int, ours: int | None = None) -> None:
    """Raises LimitError above ``most``. ours: the library's own limit; values above it are left to the library's error."""
    if value > most and (ours is None or value <= ours):
        held = f"has {value} {_HELD[setting]}" if setting in _HELD else f"is {value}"
        raise LimitError(f"{field} {held}, but this service allows at most {most} (setting {setting})", field=field, value=value)
