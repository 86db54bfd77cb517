"""Ranges of memory-mapped files: read them into memory, keep them there, release them, and count what is there.

Works on Linux. Elsewhere ranges are read by touching them, and nothing is released or counted (``SUPPORTED`` is False).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys

import numpy as np

SUPPORTED = sys.platform == "linux"
PAGE = mmap.PAGESIZE
_READ_AT_ONCE = 8 << 20  # bytes
_NORMAL, _RANDOM, _WILLNEED, _DONTNEED, _POPULATE_READ = 0, 1, 3, 4, 22  # of madvise(2)
_LOCK_ONFAULT = 1  # of mlock2(2): plain mlock would write to each page of a private mapping, so that it is copied
_libc = ctypes.CDLL(None, use_errno=True) if SUPPORTED else None


def within(address: int, nbytes: int) -> tuple[int, int]:
    """(address, bytes) of the whole pages inside a range; 0 bytes if there is none."""
    low, high = -(-address // PAGE) * PAGE, (address + nbytes) // PAGE * PAGE
    return low, max(high - low, 0)


def read(array: np.ndarray) -> None:
    """Read a range of a mapped file (uint8 ``(n,)``) into memory. Other threads run meanwhile."""
    address = array.ctypes.data
    for low in range(0, len(array), _READ_AT_ONCE):
        start = (address + low) // PAGE * PAGE
        size = min(address + low + _READ_AT_ONCE, address + len(array)) - start
        if not _advise(start, size, _POPULATE_READ):  # before Linux 5.14
            int(array[low : low + _READ_AT_ONCE : PAGE].max(initial=0))


def ask(addresses: np.ndarray, sizes: np.ndarray) -> None:
    """Ask the system to read some ranges (int64) of mapped files, by rising addresses, without waiting for it."""
    order = np.argsort(addresses, kind="stable")
    low = addresses[order] // PAGE * PAGE
    high = -(-(addresses + sizes)[order] // PAGE) * PAGE
    if not len(low):
        return
    apart = np.flatnonzero(np.concatenate([[True], low[1:] > np.maximum.accumulate(high)[:-1]]))  # where a new stretch begins
    for start, end in zip(low[apart].tolist(), np.maximum.reduceat(high, apart).tolist(), strict=True):
        _advise(start, end - start, _WILLNEED)


def lock(address: int, nbytes: int) -> bool:
    """Keep the pages of a range in memory once they have been read; False if the system refuses (RLIMIT_MEMLOCK)."""
    start, size = within(address, nbytes)
    call = getattr(_libc, "mlock2", None)
    return bool(size) and call is not None and call(ctypes.c_void_p(start), ctypes.c_size_t(size), _LOCK_ONFAULT) == 0


def unlock(address: int, nbytes: int) -> None:
    """Undo ``lock``."""
    start, size = within(address, nbytes)
    if _libc is not None and size:
        _libc.munlock(ctypes.c_void_p(start), ctypes.c_size_t(size))


def scattered(address: int, nbytes: int, yes: bool) -> None:
    """Say whether a range is read in random order; then the system reads no neighbours of a page that is missing."""
    _advise(*within(address, nbytes), _RANDOM if yes else _NORMAL)


def release(address: int, nbytes: int) -> None:
    """Take the whole pages of a range out of this process. They stay in the system's cache, and are mapped again when they are read. Only
    for mappings of files that nobody has written to.
    """
    _advise(*within(address, nbytes), _DONTNEED)


def present(address: int, nbytes: int) -> np.ndarray:
    """bool: which of the whole pages inside a range this process has in memory. All, if the system doesn't say."""
    start, size = within(address, nbytes)
    pages = size // PAGE
    try:
        file = os.open("/proc/self/pagemap", os.O_RDONLY)
    except OSError:
        return np.ones(pages, np.bool_)
    try:
        data = os.pread(file, 8 * pages, start // PAGE * 8)
    except OSError:
        return np.ones(pages, np.bool_)
    finally:
        os.close(file)
    found = np.frombuffer(data, np.uint64)
    return (found >> np.uint64(63)).astype(np.bool_) if len(found) == pages else np.ones(pages, np.bool_)


def file_bytes() -> int:
    """Bytes of mapped files that this process has in memory; a cheap call (some microseconds). 0 if the system doesn't say."""
    try:
        file = os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        return 0
    try:
        return int(os.read(file, 200).split()[2]) * PAGE
    finally:
        os.close(file)


def _advise(address: int, nbytes: int, advice: int) -> bool:
    if _libc is None or not nbytes:
        return False
    return _libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(nbytes), advice) == 0
