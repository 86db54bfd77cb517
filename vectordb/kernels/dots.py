"""Inner products of byte codes: unsigned bytes of rows and signed ones of a query, one row or four at a time.

Four rows share each load of the query, and their four sums are added up together: with one row at a time, adding up the 16 numbers of a
register takes as long as multiplying some 300 bytes. Both forms give the same integers: one for processors that multiply bytes in one
instruction (``jit.FAST_DOT``), one in plain vector instructions for all others.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .jit import FAST_DOT, inner, intrinsic

LINE = 64  # bytes of a cache line

_BYTE, _I16, _I32, _I64 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)


def _pick(builder, left, right, lanes):
    """The lanes of two vectors, numbered one after the other, at ``lanes``."""
    return builder.shuffle_vector(left, right, ir.Constant(ir.VectorType(_I32, len(lanes)), lanes))


def _halves_added(builder, left, right, group):
    """Each group of that many lanes becomes half as many: its lower lanes plus its upper ones."""
    lanes = range(2 * left.type.count)
    low, high = ([lane for lane in lanes if (lane % group < group // 2) is first] for first in (True, False))
    return builder.add(_pick(builder, left, right, low), _pick(builder, left, right, high))


def _sums_of_four(builder, vectors):
    """Four vectors of equal length to one with the sum of each."""
    lanes = vectors[0].type.count
    left, right = _halves_added(builder, *vectors[:2], lanes), _halves_added(builder, *vectors[2:], lanes)
    folded, group = _halves_added(builder, left, right, lanes // 2), lanes // 4
    while group > 1:
        folded, group = _halves_added_alone(builder, folded, group), group // 2
    return folded


def _halves_added_alone(builder, vector, group):
    """As ``_halves_added``, of one vector."""
    lanes = range(vector.type.count)
    low, high = ([lane for lane in lanes if (lane % group < group // 2) is first] for first in (True, False))
    return builder.add(_pick(builder, vector, vector, low), _pick(builder, vector, vector, high))


class _ByInstruction:
    """64 bytes by AVX-512 VNNI's ``vpdpbusd``: 16 sums."""

    sums = ir.VectorType(_I32, 16)

    @classmethod
    def add(cls, builder, total, row, query):
        kind = ir.FunctionType(cls.sums, [cls.sums] * 3)
        multiply = builder.module.declare_intrinsic("llvm.x86.avx512.vpdpbusd.512", fnty=kind)
        row, query = (builder.load(builder.inttoptr(each, cls.sums.as_pointer()), align=1) for each in (row, query))
        return builder.call(multiply, [total, row, query])


class _Plain:
    """64 bytes in any processor's vectors, 16 at a time. Products of neighbours are added first, which is one instruction on x86
    (``vpmaddwd``): 8 sums.
    """

    sums = ir.VectorType(_I32, 8)

    @classmethod
    def add(cls, builder, total, row, query):
        piece, wide = ir.VectorType(_BYTE, 16), ir.VectorType(_I32, 16)
        for start in range(0, LINE, 16):
            places = (builder.inttoptr(builder.add(each, _I64(start)), piece.as_pointer()) for each in (row, query))
            unsigned, signed = (builder.load(place, align=1) for place in places)
            product = builder.mul(builder.zext(unsigned, wide), builder.sext(signed, wide))
            total = builder.add(total, _halves_added_alone(builder, product, 2))
        return total


def _sums(builder, way, rows, query, lines):
    """A vector of sums for each row, of which the row's inner product is the sum. Leaves the builder behind the loop over the lines."""
    before, loop, after = builder.block, builder.append_basic_block("line"), builder.append_basic_block("added")
    builder.branch(loop)
    builder.position_at_end(loop)
    line = builder.phi(_I64)
    totals = [builder.phi(way.sums) for _ in rows]
    offset = builder.mul(line, _I64(LINE))
    query_line = builder.add(query, offset)
    more = [way.add(builder, total, builder.add(row, offset), query_line) for total, row in zip(totals, rows, strict=True)]
    following = builder.add(line, _I64(1))
    line.add_incoming(_I64(0), before)
    line.add_incoming(following, loop)
    for total, grown in zip(totals, more, strict=True):
        total.add_incoming(ir.Constant(way.sums, [0] * way.sums.count), before)
        total.add_incoming(grown, loop)
    builder.cbranch(builder.icmp_signed("<", following, lines), loop, after)
    builder.position_at_end(after)
    return more


def _make(way):
    @intrinsic
    def one(typingctx, row, query, lines):
        """Σ row·query of a row of unsigned bytes and a query of signed ones at two addresses, ``lines`` times 64 of them (at least once),
        int32.
        """

        def codegen(context, builder, signature, args):
            (total,) = _sums(builder, way, args[:1], *args[1:])
            kind = ir.FunctionType(_I32, [way.sums])
            add = builder.module.declare_intrinsic(f"llvm.vector.reduce.add.v{way.sums.count}i32", fnty=kind)
            return builder.call(add, [total])

        return types.int32(*[types.intp] * 3), codegen

    @intrinsic
    def four(typingctx, row0, row1, row2, row3, query, lines, out):
        """As ``one``, of four rows, into four int32 at the address ``out``."""

        def codegen(context, builder, signature, args):
            totals = _sums(builder, way, args[:4], *args[4:6])
            builder.store(_sums_of_four(builder, totals), builder.inttoptr(args[6], ir.VectorType(_I32, 4).as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 7), codegen

    return one, four


plain_one, plain_four = _make(_Plain)
dot_one, dot_four = _make(_ByInstruction) if FAST_DOT else (plain_one, plain_four)


@inner
def code_dot(row, query, lines):
    """``dot_one``, which Python can call too."""
    return dot_one(row, query, lines)


@inner
def dot_rows(codes, stride, query, rows, n, out):
    """Σ row·query of the codes of rows[:n] into out[:n] (int32). codes, query: addresses; stride: bytes of a row, a multiple of 64."""
    lines, out_at, fours = stride // LINE, out.ctypes.data, n - n % 4
    for i in range(0, fours, 4):
        dot_four(
            codes + np.int64(rows[i]) * stride,
            codes + np.int64(rows[i + 1]) * stride,
            codes + np.int64(rows[i + 2]) * stride,
            codes + np.int64(rows[i + 3]) * stride,
            query,
            lines,
            out_at + 4 * i,
        )
    for i in range(fours, n):
        out[i] = dot_one(codes + np.int64(rows[i]) * stride, query, lines)


@intrinsic
def room_for_four(typingctx):
    """The address of four int32 on the stack of the function that asks."""

    def codegen(context, builder, signature, args):
        place = cgutils.alloca_once(builder, ir.ArrayType(_I32, 4), name="four")
        return builder.ptrtoint(place, _I64)

    return types.intp(), codegen
