"""The compiled entry points of kernels that are called for every search.

A dispatcher looks at the types of all arguments at each call. The function that it then calls can be called without that, in a third of the
time. numba doesn't publish it, so where it isn't found the dispatcher is called; tests/kernels/test_direct.py fails in that case. An entry
point checks nothing: arrays must have the types that the kernel was compiled for, except that it takes read-only ones as well.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from . import direct, direct_arms, internals
from .impact import search_impacts
from .lists import search_lists
from .segment import search_segment


def of(kernel: Any, *examples: Any) -> Callable[..., Any] | None:
    """The entry point of a kernel for arguments of the types of ``examples``. The kernel is called with these. None if there is none."""
    kernel(*examples)
    compiled = [each for each in getattr(kernel, "overloads", {}).values() if len(each.signature.args) == len(examples)]
    entry = getattr(compiled[0], "entry_point", None) if len(compiled) == 1 else None
    return entry if callable(entry) else None


@functools.cache
def search() -> Callable[[int, int, np.ndarray, np.ndarray], int]:
    """``direct.search_direct``, compiled."""
    head, lane = np.zeros(direct.HEAD_WIDTH, np.int64), np.zeros(direct.LANE_WIDTH, np.int64)
    query = np.zeros(1, np.float32)  # of another length than the block says: nothing is done
    entry = of(direct.search_direct, head.ctypes.data, lane.ctypes.data, query, np.empty(1, np.int64))
    return entry or (lambda block, lane, query, out: direct.search_direct(block, lane, np.array(query), out))


@functools.cache
def segment_search() -> int:
    """The address of ``segment.search_segment`` for ``direct.SEARCH``; 0 with a numba that doesn't tell it."""
    return internals.address_of(search_segment, direct.SEGMENT_ARGUMENTS) if internals.supported() else 0


@functools.cache
def lists_search() -> int:
    """The address of ``lists.search_lists`` for ``direct.LISTS``; 0 with a numba that doesn't tell it."""
    return internals.address_of(search_lists, direct.LISTS_ARGUMENTS) if internals.supported() else 0


@functools.cache
def narrow() -> Callable[[np.ndarray, np.ndarray], None]:
    """``direct.narrow``, compiled."""
    entry = of(direct.narrow, np.zeros(1), np.empty(1, np.float32))
    return entry or (lambda query, out: direct.narrow(np.array(query), out))


@functools.cache
def dense_list() -> Callable[[int, int, int, np.ndarray], int]:
    """``direct_arms.list_dense``, compiled."""
    head, lane = np.zeros(direct.HEAD_WIDTH, np.int64), np.zeros(direct.LANE_WIDTH, np.int64)
    entry = of(direct_arms.list_dense, head.ctypes.data, lane.ctypes.data, 0, np.zeros(1, np.float32))  # of another length, as above
    return entry or (lambda block, lane, lists, query: direct_arms.list_dense(block, lane, lists, np.array(query)))


@functools.cache
def sparse_list() -> Callable[[int, int, int, np.ndarray, np.ndarray, np.ndarray], int]:
    """``direct_arms.list_sparse``, compiled."""
    head, lane = np.zeros(direct_arms.HEAD_WIDTH, np.int64), np.zeros(direct_arms.SPARSE_LANE_WIDTH, np.int64)
    given = head.ctypes.data, lane.ctypes.data, 0, np.empty(0, np.uint64), np.empty(0, np.float32), np.empty(0, np.int64)
    entry = of(direct_arms.list_sparse, *given)  # without terms: nothing is done
    return entry or (
        lambda block, lane, lists, terms, weights, more: direct_arms.list_sparse(
            block, lane, lists, np.array(terms), np.array(weights), more
        )
    )


@functools.cache
def merge_arms() -> Callable[[int, int, np.ndarray], int]:
    """``direct_arms.merge_arms``, compiled."""
    block, lists = np.zeros(direct_arms.FUSION_WIDTH, np.int64), np.zeros(direct_arms.LISTS_WIDTH, np.int64)
    starts = np.zeros(1, np.int64)
    lists[direct_arms.STARTS] = starts.ctypes.data
    entry = of(direct_arms.merge_arms, block.ctypes.data, lists.ctypes.data, np.empty(0, np.int64))  # no lists
    return entry or direct_arms.merge_arms


@functools.cache
def list_reader() -> Callable[[int, int, np.ndarray], int]:
    """``direct_arms.read_list``, compiled."""
    block, lists = np.zeros(direct_arms.FUSION_WIDTH, np.int64), np.zeros(direct_arms.LISTS_WIDTH, np.int64)
    starts = np.zeros(1, np.int64)
    lists[direct_arms.STARTS] = starts.ctypes.data
    entry = of(direct_arms.read_list, block.ctypes.data, lists.ctypes.data, np.empty(0, np.int64))  # an empty list
    return entry or direct_arms.read_list


@functools.cache
def impact_search() -> int:
    """The address of ``impact.search_impacts`` for ``direct_arms.SEARCH``; 0 with a numba that doesn't tell it."""
    return internals.address_of(search_impacts, direct_arms.IMPACT_ARGUMENTS) if internals.supported() else 0
