"""xxh3-64 of large data, in small steps: the library holds the GIL during each call, which would block other threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import xxhash

AT_ONCE = 1 << 18  # bytes per call: about 30 microseconds


DONE_EACH = 16  # steps between two calls of ``done``


def xxh3(data: Any, done: Callable[[int], object] | None = None) -> int:
    """xxh3-64 of an object with a contiguous buffer. done: called now and then with the number of bytes that have been read."""
    view = memoryview(data).cast("B") if not isinstance(data, bytes) else memoryview(data)
    if len(view) <= AT_ONCE:
        return xxhash.xxh3_64_intdigest(view)
    digest = xxhash.xxh3_64()
    for start in range(0, len(view), AT_ONCE):
        digest.update(view[start : start + AT_ONCE])
        if done is not None and start // AT_ONCE % DONE_EACH == DONE_EACH - 1:
            done(start + AT_ONCE)
        time.sleep(0)  # lets another thread take the GIL
    return digest.intdigest()
