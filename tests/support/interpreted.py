"""Runs a compiled kernel and the same code interpreted, and chunk tables of our own memory to run them on.

``kernel.py_func`` would still call other compiled kernels. So every kernel of a module is replaced by its Python function, and the
intrinsics by Python. Sums are compared with a relative tolerance of 1e-5, everything else exactly.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools

import numba
import numpy as np
from numba.core.registry import CPUDispatcher
from vectordb_client.model.fields import SparseColumn
from vectordb_client.model.schema import Sparse as SparseField

from tests.support.nightly import cases
from vectordb.fields import FIELD_TYPES
from vectordb.kernels import (
    TABLE_WIDTH,
    beam,
    binary_scan,
    bitset,
    bounded,
    clusters,
    coded_rows,
    codes,
    columns,
    conditions,
    dense,
    dots,
    few,
    fusion,
    graph,
    hadamard,
    impact,
    impact_build,
    impact_lists,
    impact_rows,
    impact_runs,
    impact_windows,
    jit,
    maxsim,
    planner,
    projection,
    query_codes,
    rescore,
    scoring,
    segment,
    sorted_keys,
    sparse,
    token_lists,
    topk,
)
from vectordb.storage import chunks, format

MODULES = (
    topk,
    bitset,
    dense,
    sparse,
    columns,
    codes,
    dots,
    hadamard,
    scoring,
    sorted_keys,
    beam,
    binary_scan,
    clusters,
    graph,
    planner,
    projection,
    query_codes,
    rescore,
    segment,
    bounded,
    conditions,
    few,
    impact_lists,
    impact_runs,
    impact_windows,
    impact_rows,
    impact_build,
    impact,
    fusion,
    coded_rows,
    maxsim,
    token_lists,
)


BY_NAME = {module.__name__.rsplit(".", 1)[1]: module for module in MODULES}
KERNELS = {
    f"{place}.{name}": kernel
    for place, module in BY_NAME.items()
    for name, kernel in vars(module).items()
    if isinstance(kernel, CPUDispatcher) and kernel.py_func.__module__ == module.__name__
}


SEEDS = range(cases(3, 6))


def forward_chunk(spec, column, docids):
    return FIELD_TYPES[spec.kind].encode(spec, column, docids)[format.FORWARD]


def at_address(address: int, shape, dtype) -> np.ndarray:
    """``carray``; of a section that isn't there, nothing."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if not address or not size:
        return np.empty(0, dtype)
    return np.frombuffer((ctypes.c_char * size).from_address(int(address)), dtype).reshape(shape)


def dot_of_codes(row: int, query: int, lines: int) -> np.int32:
    """``dots.dot_one``."""
    a, b = at_address(row, lines * codes.LINE, np.uint8), at_address(query, lines * codes.LINE, np.int8)
    return np.int32(a.astype(np.int32) @ b.astype(np.int32))


def four_dots_of_codes(row0: int, row1: int, row2: int, row3: int, query: int, lines: int, out: int) -> None:
    """``dots.dot_four``."""
    at_address(out, 4, np.int32)[:] = [dot_of_codes(row, query, lines) for row in (row0, row1, row2, row3)]


def ones(words: np.ndarray) -> np.ndarray:
    """Set bits of each word."""
    return np.bitwise_count(words).astype(np.int64)


def mask_of(near: np.ndarray) -> np.uint64:
    """64 bools as bits, the first lowest."""
    return np.packbits(near, bitorder="little").view(np.uint64)[0]


def high_of(address: int, least) -> np.uint64:
    """``as_high``."""
    return mask_of(at_address(address, 64, type(least)) >= least)


def distances_of_block(block: int, query: int, words: int, threshold, out: int) -> np.uint64:
    """``block_distances``."""
    rows, wanted = at_address(block, (words, 64), np.uint64), at_address(query, words, np.uint64)
    found = ones(rows ^ wanted[:, None]).sum(axis=0)
    at_address(out, 64, np.uint16)[:] = found
    return mask_of(found <= int(threshold))


FOUR = np.zeros(4, np.int32)


def blocks_transformed(width: int, address: int, count: int, scale: np.float32) -> None:
    """``hadamard.transform_16s`` and ``transform_256s``."""
    blocks, h = at_address(address, (count, width), np.float32), 1
    while h < width:
        pairs = blocks.reshape(count, -1, 2, h)
        blocks[:] = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2).reshape(count, width)
        h *= 2
    blocks *= scale


def tiles(groups: int, whole: bool, first: int, rows: int, stride: int, query: int, steps: int, out: int) -> None:
    """``maxsim.max_1`` and the like."""
    shape = (steps, groups, 16, 4) if jit.FAST_DOT else (steps, groups, 2, 16, 2)
    lines = at_address(query, shape, np.int8).astype(np.int32)
    lines = lines.transpose((1, 2, 0, 3) if jit.FAST_DOT else (1, 3, 0, 2, 4)).reshape(groups * 16, steps * 4)
    held = at_address(first, (rows - 1) * stride + steps * 4, np.uint8)
    products = [lines @ held[row * stride : row * stride + steps * 4] for row in range(rows)]
    found = np.concatenate(products) if whole else np.max(products, axis=0)
    at_address(out, len(found), np.int32)[:] = found


def inserted_key(keys: int, size: int, key: int) -> int:
    """``sorted_keys.insert_key``."""
    held = at_address(keys, size + 1, np.int64)
    place = int((held[:size] >= key).sum())
    held[place:] = np.insert(held[:size], place, key)[place:]
    return place


def above_limits(groups: int, products: int, limits: int) -> np.uint64:
    """``token_lists.above_1`` and ``above_2``."""
    above = np.zeros(64, np.bool_)
    above[: 16 * groups] = at_address(products, 16 * groups, np.int32) > at_address(limits, 16 * groups, np.int32)
    return mask_of(above)


def float_tile(first: int, rows: int, stride: int, query: int, dim: int, out: int) -> None:
    """``maxsim.float_products``."""
    held = at_address(first, (rows, stride // 4), np.float32)[:, :dim]
    at_address(out, (rows, 16), np.float32)[:] = held @ at_address(query, (dim, 16), np.float32)


# From a function that kernels call, to the same in Python.
PLAIN = {
    numba.carray: at_address,
    jit.pointer: int,
    jit.prefetch: lambda address: None,
    jit.prefetch_lines: lambda address, lines: None,
    jit.as_high: high_of,
    jit.count_trailing_zeros: lambda word: (int(word) & -int(word)).bit_length() - 1,
    dots.dot_one: dot_of_codes,
    dots.dot_four: four_dots_of_codes,
    sorted_keys.insert_key: inserted_key,
    dots.room_for_four: lambda: FOUR.ctypes.data,
    codes.positive_of_64: lambda numbers: mask_of(at_address(numbers, 64, np.float32) > 0),
    codes.above_of_64: lambda numbers, limit: mask_of(at_address(numbers, 64, np.uint8) > limit),
    maxsim.float_products: float_tile,
    maxsim.max_1: functools.partial(tiles, 1, False),
    maxsim.max_2: functools.partial(tiles, 2, False),
    maxsim.products_1: functools.partial(tiles, 1, True),
    maxsim.products_2: functools.partial(tiles, 2, True),
    token_lists.above_1: functools.partial(above_limits, 1),
    token_lists.above_2: functools.partial(above_limits, 2),
    hadamard.transform_16s: functools.partial(blocks_transformed, 16),
    hadamard.transform_256s: functools.partial(blocks_transformed, 256),
    jit.count_ones: lambda word: np.uint64(int(word).bit_count()),
    codes.block_distances: distances_of_block,
    codes.nearer: lambda distances, threshold: mask_of(at_address(distances, 64, np.uint16) <= int(threshold)),
}


def python_of(value):
    """What stands for a name of a module while kernels are uncompiled; None where it stays."""
    if isinstance(value, CPUDispatcher):
        return value.py_func
    return next((function for compiled, function in PLAIN.items() if value is compiled), None)


# (module, name, compiled, in Python). Found once: a search of all modules would take longer than most kernels.
REPLACED = [
    (module, name, value, python_of(value)) for module in MODULES for name, value in vars(module).items() if python_of(value) is not None
]


@contextlib.contextmanager
def interpreted():
    """All kernels uncompiled."""
    with np.errstate(all="ignore"):
        try:
            for module, name, _, function in REPLACED:
                setattr(module, name, function)
            yield
        finally:
            for module, name, compiled, _ in REPLACED:
                setattr(module, name, compiled)


def both(name: str, *arguments):
    """Run a kernel compiled and interpreted on copies of its arguments; returns [(result, arguments)] of each."""
    module, function = name.split(".")
    ran = []
    for mode in (contextlib.nullcontext(), interpreted()):
        with mode:
            given = [argument.copy() if isinstance(argument, np.ndarray) else argument for argument in arguments]
            result = getattr(BY_NAME[module], function)(*given)
            ran.append((result, given))
    return ran


class Table:
    """A chunk table over chunks of our own memory."""

    def __init__(self, pieces):
        self.values = [np.frombuffer(bytes(chunks.encode(piece)), np.uint8) for piece in pieces]
        rows = [chunks.table_row(value, "test") for value in self.values]
        self.rows = np.array(rows, np.int64).reshape(-1, TABLE_WIDTH)
        self.docids = np.concatenate([piece.docids for piece in pieces]) if pieces else np.empty(0, np.uint32)


def spans(rng, gap):
    """Docids of a few chunks, ascending over all."""
    first, found = int(rng.integers(0, 3)), []
    for _ in range(rng.integers(1, 5)):
        docids = first + np.cumsum(rng.integers(1, gap + 1, rng.integers(1, 12)))
        found.append(docids)
        first = int(docids[-1]) + int(rng.integers(0, 3))
    return found


def table_of(rng, make):
    return Table([make(docids) for docids in spans(rng, int(rng.choice([1, 3])))])


def sparse_table(rng, signed, part=1, highest=2**64):
    pool = np.sort(rng.integers(0, highest, 12, dtype=np.uint64))

    def make(docids):
        sizes = rng.integers(0, 5, len(docids))
        terms = np.concatenate([np.sort(rng.permutation(pool)[:n]) for n in sizes] + [pool[:0]])
        weights = rng.random(len(terms)).astype(np.float32) + 0.1
        weights = weights * rng.choice([-1, 1], len(terms)).astype(np.float32) if signed else weights
        column = SparseColumn(np.concatenate([[0], np.cumsum(sizes)]), terms, weights)
        return FIELD_TYPES["sparse"].encode(SparseField(), column, docids)[part]

    return table_of(rng, make), pool


def wanted_of(rng, docids):
    """Some of the docids, and some that no chunk has."""
    end = int(docids[-1]) + 5
    return np.flatnonzero(rng.random(end) < 0.4).astype(np.uint32)


def keys_of(heaps, sizes, scale):
    """Per query the docids and scores of a heap, best first."""
    found = []
    for heap, size in zip(heaps, sizes, strict=True):
        keys = heap[:size].copy()
        docids, scores = np.empty(size, np.int64), np.empty(size, np.float32)
        topk.unpack(keys, docids, scores)
        found.append((docids, scores, scale))
    return found


def same_ranking(one, other):
    for (docids, scores, scale), (other_docids, other_scores, _) in zip(one, other, strict=True):
        np.testing.assert_allclose(scores, other_scores, rtol=1e-5, atol=1e-5 * scale)
        close = np.abs(np.diff(scores, prepend=np.inf, append=-np.inf)) < 1e-4 * scale  # near ties may stand in either order
        apart = ~(close[:-1] | close[1:])
        np.testing.assert_array_equal(docids[apart], other_docids[apart])
        assert set(docids[:-1]) <= set(other_docids) | set(docids[~apart])


def random_bits(rng, n):
    """(words, which rows)"""
    rows = rng.random(n) < rng.choice([0.02, 0.5, 0.95])
    return np.packbits(np.append(rows, np.zeros(-n % 64, bool)), bitorder="little").view(np.uint64), rows
