"""The limit of calls per second of each API key."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import threading
import time
import weakref
from functools import lru_cache
from pathlib import Path

from vectordb_client.errors import StorageError

FILE_NAME = "rates.bin"
_SLOTS = 4_096
_PROBED = 16
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
            offset = self._slot(tag) * _SLOT.size
            self._lock_slot(fcntl.LOCK_EX, offset)
            try:
                now = time.monotonic()
                left = self._left(tag, offset, now)
                taken = left >= 1.0
                _SLOT.pack_into(self._map, offset, tag, left - taken, now)
            finally:
                self._lock_slot(fcntl.LOCK_UN, offset)
        return 0.0 if taken else (1.0 - left) / self.a_second

    def _lock_slot(self, operation: int, offset: int) -> None:
        if self._file is not None:
            fcntl.lockf(self._file, operation, _SLOT.size, offset)

    def _left(self, tag: int, offset: int, now: float) -> float:
        whose, left, since = _SLOT.unpack_from(self._map, offset)
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
