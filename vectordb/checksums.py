"""xxh3-64 of much data, without keeping the interpreter from other threads: the library holds it as long as a call lasts."""

from __future__ import annotations

import time
from typing import Any

import xxhash

AT_ONCE = 1 << 18  # bytes: some 30 microseconds


def xxh3(data: Any) -> int:
    """xxh3-64 of anything with a contiguous buffer."""
    view = memoryview(data).cast("B") if not isinstance(data, bytes) else memoryview(data)
    if len(view) <= AT_ONCE:
        return xxhash.xxh3_64_intdigest(view)
    digest = xxhash.xxh3_64()
    for at in range(0, len(view), AT_ONCE):
        digest.update(view[at : at + AT_ONCE])
        time.sleep(0)  # lets another thread have the interpreter
    return digest.intdigest()
