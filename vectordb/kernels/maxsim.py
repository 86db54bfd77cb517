"""MaxSim by byte codes: for each query row the best inner product with a row of a document, and the sum of these.

The query rows lie across the lanes of registers: 16 of them, or twice 16. A number of a document's row is copied into all lanes, so
nothing is ever added up across lanes, and the best row is a maximum of registers. A few document rows at a time (a tile) share each load
of the query. All documents have codes of one step, so the maximum is taken of integers.

A query is laid out in lines of 64 bytes, each for 4 dimensions and 16 query rows (``lay_out``). There are two forms of the loop, which
give the same integers: one for processors that multiply bytes in one instruction (``jit.FAST_DOT``), one in plain vector instructions.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types

from .jit import FAST_DOT, inner, intrinsic, kernel, prefetch

LANES = 16  # query rows of a register
DIMS = 4  # dimensions of a line of the query
PREFETCHED = 1_024  # bytes of the next document that are asked for, at most [by times of 400 documents of 47 rows of 128 dimensions]
MOST_GROUPS = 2  # registers of query rows that a tile has

_BYTE, _I16, _I32, _I64 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_SUMS = ir.VectorType(_I32, LANES)
_LINE = LANES * DIMS


def _picked(builder, vector, lanes):
    """The lanes of a vector at ``lanes``."""
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), ir.Constant(ir.VectorType(_I32, len(lanes)), lanes))


class _ByInstruction:
    """By AVX-512 VNNI's ``vpdpbusd``: a line is 16 times the 4 numbers of a query row. tiles: document rows of a tile, by groups."""

    tiles, sums = (8, 6), _SUMS

    @staticmethod
    def spread(builder, codes):
        """4 codes of a document's row (int32) in each lane."""
        return _picked(builder, builder.insert_element(ir.Constant(_SUMS, ir.Undefined), codes, _I32(0)), [0] * LANES)

    @staticmethod
    def line(builder, place):
        return builder.load(builder.inttoptr(place, _SUMS.as_pointer()), align=1)

    @staticmethod
    def add(builder, total, codes, line):
        kind = ir.FunctionType(_SUMS, [_SUMS] * 3)
        multiply = builder.module.declare_intrinsic("llvm.x86.avx512.vpdpbusd.512", fnty=kind)
        return builder.call(multiply, [total, codes, line])


class _Plain:
    """In any processor's vectors: a line is 16 times the first 2 numbers of a query row, then 16 times the other 2. Products of neighbours
    are added first, which is one instruction on x86 (``vpmaddwd``).
    """

    tiles, sums = (4, 2), _SUMS

    @staticmethod
    def spread(builder, codes):
        wide = builder.zext(builder.bitcast(codes, ir.VectorType(_BYTE, DIMS)), ir.VectorType(_I16, DIMS))
        return [_picked(builder, wide, [first, first + 1] * LANES) for first in (0, 2)]

    @staticmethod
    def line(builder, place):
        half = ir.VectorType(_BYTE, 2 * LANES)
        places = (builder.inttoptr(builder.add(place, _I64(start)), half.as_pointer()) for start in (0, 2 * LANES))
        return [builder.sext(builder.load(each, align=1), ir.VectorType(_I16, 2 * LANES)) for each in places]

    @staticmethod
    def add(builder, total, codes, line):
        wide = ir.VectorType(_I32, 2 * LANES)
        for code, number in zip(codes, line, strict=True):
            product = builder.mul(builder.sext(code, wide), builder.sext(number, wide))
            even, odd = (_picked(builder, product, list(range(start, 2 * LANES, 2))) for start in (0, 1))
            total = builder.add(total, builder.add(even, odd))
        return total


class _Floats:
    """float32 instead of bytes: a line is one number of 16 query rows."""

    tiles, sums = (8 if FAST_DOT else 4,), ir.VectorType(ir.FloatType(), LANES)

    @classmethod
    def spread(cls, builder, number):
        first = builder.insert_element(ir.Constant(cls.sums, ir.Undefined), builder.bitcast(number, ir.FloatType()), _I32(0))
        return _picked(builder, first, [0] * LANES)

    @classmethod
    def line(cls, builder, place):
        return builder.load(builder.inttoptr(place, cls.sums.as_pointer()), align=4)

    @classmethod
    def add(cls, builder, total, number, line):
        kind = ir.FunctionType(cls.sums, [cls.sums] * 3)
        multiply = builder.module.declare_intrinsic("llvm.fmuladd.v16f32", fnty=kind)
        return builder.call(multiply, [number, line, total])


def _products(builder, way, rows, query, steps, groups):
    """The products of some rows (addresses) with the query, a register for each row and group. Leaves the builder behind the loop."""
    before, loop, after = builder.block, builder.append_basic_block("dims"), builder.append_basic_block("multiplied")
    builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(_I64)
    totals = [[builder.phi(way.sums) for _ in range(groups)] for _ in rows]
    start = builder.add(query, builder.mul(step, _I64(_LINE * groups)))
    lines = [way.line(builder, builder.add(start, _I64(_LINE * group))) for group in range(groups)]
    offset, sums = builder.mul(step, _I64(DIMS)), []
    for row, own in zip(rows, totals, strict=True):
        place = builder.inttoptr(builder.add(row, offset), _I32.as_pointer())
        codes = way.spread(builder, builder.load(place, align=1))
        sums.append([way.add(builder, total, codes, line) for total, line in zip(own, lines, strict=True)])
    following = builder.add(step, _I64(1))
    step.add_incoming(_I64(0), before)
    step.add_incoming(following, loop)
    for own, grown in zip(totals, sums, strict=True):
        for total, more in zip(own, grown, strict=True):
            total.add_incoming(ir.Constant(way.sums, [0] * LANES), before)
            total.add_incoming(more, loop)
    builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
    builder.position_at_end(after)
    return sums


def _make(way, groups, whole):
    """A function of kernels: (address of the first row, rows ≥ 1, bytes of a row, address of the query's lines, dimensions / 4, address of
    the result). The result: for each lane the highest product of any row, int32; with ``whole``, the products of each row, one row after
    the other.
    """
    size, register = way.tiles[groups - 1], way.sums.as_pointer()

    @intrinsic
    def run(typingctx, first, rows, stride, query, steps, out):
        def codegen(context, builder, signature, args):
            first, rows, stride, query, steps, out = args
            before, loop, after = builder.block, builder.append_basic_block("tile"), builder.append_basic_block("tiled")
            builder.branch(loop)
            builder.position_at_end(loop)
            begin = builder.phi(_I64)
            best = [builder.phi(_SUMS) for _ in range(0 if whole else groups)]
            last = builder.sub(rows, _I64(1))
            numbers = [builder.add(begin, _I64(each)) for each in range(size)]
            # Rows past the end are the last one again, which changes neither a maximum nor what is written for the last row.
            numbers = [builder.select(builder.icmp_signed("<", each, last), each, last) for each in numbers]
            places = [builder.add(first, builder.mul(each, stride)) for each in numbers]
            sums = _products(builder, way, places, query, steps, groups)
            if whole:
                for number, own in zip(numbers, sums, strict=True):
                    for group, total in enumerate(own):
                        place = builder.add(builder.mul(number, _I64(4 * LANES * groups)), _I64(4 * LANES * group))
                        builder.store(total, builder.inttoptr(builder.add(out, place), register), align=4)
            highest = list(best)
            for own in sums if not whole else ():
                for group, total in enumerate(own):
                    above = builder.icmp_signed(">", total, highest[group])
                    highest[group] = builder.select(above, total, highest[group])
            following = builder.add(begin, _I64(size))
            begin.add_incoming(_I64(0), before)
            begin.add_incoming(following, builder.block)
            for old, new in zip(best, highest, strict=True):
                old.add_incoming(ir.Constant(_SUMS, [-(2**31)] * LANES), before)
                old.add_incoming(new, builder.block)
            builder.cbranch(builder.icmp_signed("<", following, rows), loop, after)
            builder.position_at_end(after)
            if not whole:
                for group, total in enumerate(highest):
                    place = builder.inttoptr(builder.add(out, _I64(4 * LANES * group)), register)
                    builder.store(total, place, align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), codegen

    return run


float_products = _make(_Floats, 1, True)  # dimensions instead of dimensions / 4; float32
plain_max_1, plain_max_2 = _make(_Plain, 1, False), _make(_Plain, 2, False)
plain_products_1, plain_products_2 = _make(_Plain, 1, True), _make(_Plain, 2, True)
if FAST_DOT:
    max_1, max_2 = _make(_ByInstruction, 1, False), _make(_ByInstruction, 2, False)
    products_1, products_2 = _make(_ByInstruction, 1, True), _make(_ByInstruction, 2, True)
else:
    max_1, max_2, products_1, products_2 = plain_max_1, plain_max_2, plain_products_1, plain_products_2


def width_of(dim: int) -> int:
    """Bytes of a row of byte codes: the dimensions, made up to a multiple of ``DIMS``."""
    return -(-dim // DIMS) * DIMS


def lay_out(codes: np.ndarray, groups: int, fast: bool = FAST_DOT) -> np.ndarray:
    """Query codes in lines: int8 ``(rows, width)`` to ``(parts, width / 4, groups, 64)``. rows: a multiple of 16·groups, width of 4. fast:
    for the form with the instruction.
    """
    rows, width = codes.shape
    parts, steps = rows // (LANES * groups), width // DIMS
    split = codes.reshape(parts, groups, LANES, steps, *((DIMS,) if fast else (2, DIMS // 2)))
    order = (0, 3, 1, 2, 4) if fast else (0, 3, 1, 4, 2, 5)
    return np.ascontiguousarray(split.transpose(order)).reshape(parts, steps, groups, _LINE)


@inner
def prefetch_document(place, size):
    """Ask for the first lines of a document's rows, ``size`` bytes at an address."""
    for line in range(0, min(size, PREFETCHED), 64):
        prefetch(place + line)


@kernel
def add_maxsim(codes, starts, documents, query, zeros, scales, best, scores):
    """Adds the MaxSim of some documents to ``scores`` (float32); with ``best``, raises them to the score of the best pair of rows.

    codes: uint8 ``(rows, width)``. starts: int64, the first row of each document, and the end. documents: int32. query: as ``lay_out``
    makes it. zeros: int32 ``(parts, 16·groups)``, the product of each query row with a code of zeros; scales: float32, the score of one
    unit of a product. A score of a query row is (product − zero)·scale. Rows of scale 0 only fill a register up.
    """
    parts, steps, groups = query.shape[0], query.shape[1], query.shape[2]
    stride = codes.strides[0]
    highest = np.empty(LANES * groups, np.int32)
    out = highest.ctypes.data
    for i in range(len(documents)):
        document = np.int64(documents[i])
        first, rows = starts[document], starts[document + 1] - starts[document]
        if rows < 1:
            continue
        if i + 1 < len(documents):
            following = np.int64(documents[i + 1])
            prefetch_document(codes.ctypes.data + starts[following] * stride, (starts[following + 1] - starts[following]) * stride)
        total = scores[i]
        place = codes.ctypes.data + first * stride
        for p in range(parts):
            lines = query.ctypes.data + p * query.strides[0]
            if groups == 1:
                max_1(place, rows, stride, lines, steps, out)
            else:
                max_2(place, rows, stride, lines, steps, out)
            if best:
                for lane in range(LANES * groups):
                    if scales[p, lane] > 0:
                        total = max(total, np.float32(np.int64(highest[lane]) - zeros[p, lane]) * scales[p, lane])
            else:
                for lane in range(LANES * groups):
                    total += np.float32(highest[lane] - zeros[p, lane]) * scales[p, lane]
        scores[i] = total
