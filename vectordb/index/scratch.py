"""A thread's working memory for searching segments. Each thread keeps its own for each kind, and grows it on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from operator import le
from typing import Any, ClassVar, Self

import numpy as np


def aligned(shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> np.ndarray:
    """An uninitialised array that starts on a cache line."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def aligned_copy(array: np.ndarray) -> np.ndarray:
    """A copy of an array that starts on a cache line."""
    copy = aligned(array.shape, array.dtype)
    copy[...] = array
    return copy


class _OfThread(threading.local):
    scratch: Any = None


class Scratch:
    """Arrays for segments of up to some sizes. work: int64, their addresses, for kernels.

    A subclass says what the sizes are (``arrays``), and how many columns ``work`` has (``width``).
    """

    width: ClassVar[int]
    arrays: ClassVar[Callable[..., dict[int, np.ndarray]]]  # column of ``work`` → array
    _local: ClassVar[_OfThread]

    def __init_subclass__(cls) -> None:
        cls._local = _OfThread()

    def __init__(self, *sizes: int):
        self.sizes = sizes
        self._arrays = self.arrays(*sizes)  # keeps the arrays alive whose addresses are in ``work``
        self.work = np.zeros(self.width, np.int64)
        for column, array in self._arrays.items():
            self.work[column] = array.ctypes.data

    @classmethod
    def of_thread(cls, *sizes: int) -> Self:
        """This thread's scratch space, grown to at least these sizes."""
        scratch = cls._local.scratch
        if scratch is None or (sizes != scratch.sizes and not all(map(le, sizes, scratch.sizes))):
            scratch = cls._local.scratch = cls(*(sizes if scratch is None else map(max, sizes, scratch.sizes)))
        return scratch
