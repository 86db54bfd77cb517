"""Freed memory goes back to the system."""

import ctypes
import subprocess
import sys

import pytest

_SCRIPT = """
import numpy as np
from vectordb.common.heap import trim

def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1])

# Pieces below the size from which the allocator maps memory of its own, with one at the end that keeps the heap from shrinking by itself.
pieces = [np.ones(8_000) for _ in range(2_000)]
last = np.ones(8_000)
del pieces
before = resident()
trim()
print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc keeps freed memory")
def test_freed_memory_is_given_back():
    answer = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True).stdout
    assert int(answer) > 100_000  # KiB, of 128,000
