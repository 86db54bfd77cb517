"""Compact codes of dense vectors: a random rotation, one byte and one sign bit a dimension, and their inner products.

A vector is centred and rotated, so that its numbers are of one size and one step serves all of them. A row's bytes hold each number
rounded to a step, plus 128; a query's hold it signed. Rows start on cache lines: ``stride`` is ``dim`` rounded up to 64 bytes.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types

from .dots import LINE
from .hadamard import transform
from .jit import inner, intrinsic, kernel

ROUNDS = 3  # of a rotation: sign flips and a Hadamard transform each [chosen, not measured]
ZERO = 128  # the byte of 0


def stride_of(dim: int) -> int:
    """Bytes of a row of codes."""
    return -(-dim // LINE) * LINE


def u64s_of(dim: int) -> int:
    """u64s of the sign bits of a row."""
    return -(-dim // 64)


@intrinsic
def block_distances(typingctx, block, query, u64s, threshold, out):
    """Hamming distances of a block's 64 rows to a query; returns a bit a row, set where the distance is ≤ ``threshold``.

    block: address of u64 ``(u64s, 64)``, 64-byte aligned; query: address of its sign bits; out: address of 64 uint16.
    """

    def codegen(context, builder, signature, args):
        i16, i32, i64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
        wide, narrow = ir.VectorType(i64, 8), ir.VectorType(i16, 8)
        ones = builder.module.declare_intrinsic("llvm.ctpop.v8i64", fnty=ir.FunctionType(wide, [wide]))
        undefined = ir.Constant(wide, ir.Undefined)
        block_at, query_at, count, limit, out_at = args

        def spread(word):
            first = builder.insert_element(undefined, word, i32(0))
            return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(i32, 8), [0] * 8))

        before = builder.block
        loop, after = builder.append_basic_block("u64s"), builder.append_basic_block("summed")
        builder.branch(loop)
        builder.position_at_end(loop)
        word = builder.phi(i64)
        word.add_incoming(i64(0), before)
        sums = [builder.phi(wide) for _ in range(8)]
        query_bits = spread(builder.load(builder.inttoptr(builder.add(query_at, builder.mul(word, i64(8))), i64.as_pointer())))
        row = builder.add(block_at, builder.mul(word, i64(512)))
        more = []
        for group, total in enumerate(sums):
            total.add_incoming(ir.Constant(wide, [0] * 8), before)
            row_bits = builder.load(builder.inttoptr(builder.add(row, i64(64 * group)), wide.as_pointer()), align=64)
            more.append(builder.add(total, builder.call(ones, [builder.xor(row_bits, query_bits)])))
            total.add_incoming(more[-1], loop)
        following = builder.add(word, i64(1))
        word.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
        builder.position_at_end(after)
        bound, mask = spread(limit), i64(0)
        for group, total in enumerate(more):
            place = builder.inttoptr(builder.add(out_at, i64(16 * group)), narrow.as_pointer())
            builder.store(builder.trunc(total, narrow), place, align=2)
            near = builder.bitcast(builder.icmp_unsigned("<=", total, bound), ir.IntType(8))
            mask = builder.or_(mask, builder.shl(builder.zext(near, i64), i64(8 * group)))
        return mask

    return types.uint64(types.intp, types.intp, types.intp, types.uint64, types.intp), codegen


@intrinsic
def nearer(typingctx, distances, threshold):
    """A bit for each of 64 uint16 distances (at an address), set where it is ≤ ``threshold``."""

    def codegen(context, builder, signature, args):
        i16, i32 = ir.IntType(16), ir.IntType(32)
        wide = ir.VectorType(i16, 64)
        row_distances = builder.load(builder.inttoptr(args[0], wide.as_pointer()), align=2)
        undefined = ir.Constant(wide, ir.Undefined)
        first = builder.insert_element(undefined, builder.trunc(args[1], i16), i32(0))
        bound = builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(i32, 64), [0] * 64))
        return builder.bitcast(builder.icmp_unsigned("<=", row_distances, bound), ir.IntType(64))

    return types.uint64(types.intp, types.uint64), codegen


@kernel
def rotate(values, flips):
    """A random rotation of float32 ``(dim,)`` in place: sign flips (float32 ``(ROUNDS, dim)``, ±1) and Hadamard transforms of both ends,
    which overlap.
    """
    dim = len(values)
    size = 1
    while 2 * size <= dim:
        size *= 2
    for r in range(len(flips)):
        for j in range(dim):
            values[j] *= flips[r, j]
        transform(values[:size])
        if size < dim:
            transform(values[dim - size :])


@kernel
def rotate_rows(vectors, unit, mean, flips, out):
    """Each row brought to unit length if ``unit``, less the mean, rotated; into ``out`` float32 ``(n, dim)``."""
    for i in range(len(vectors)):
        scale = np.float32(1)
        if unit:
            total = 0.0
            for j in range(vectors.shape[1]):
                total += np.float64(vectors[i, j]) * np.float64(vectors[i, j])
            scale = np.float32(1.0 / np.sqrt(total)) if total > 0 else np.float32(0)
        for j in range(vectors.shape[1]):
            out[i, j] = vectors[i, j] * scale - mean[j]
        rotate(out[i], flips)


@kernel
def encode_rows(rotated, step, out):
    """Row codes into uint8 ``(n, stride)``, zeros past ``dim`` (as ``ZERO``: they meet a query's zeros)."""
    for i in range(len(rotated)):
        for j in range(rotated.shape[1]):
            number = np.rint(rotated[i, j] / step)
            out[i, j] = np.uint8(np.int32(min(max(number, np.float32(-127)), np.float32(127))) + ZERO)
        for j in range(rotated.shape[1], out.shape[1]):
            out[i, j] = np.uint8(ZERO)


@kernel
def encode_and_measure(rotated, step, out, lengths, residual_norms):
    """As ``encode_rows``; and the norm of each row into ``lengths`` (float64), of the row less its codes into ``residual_norms``
    (float32).
    """
    encode_rows(rotated, step, out)
    for i in range(len(rotated)):
        square, missing = 0.0, 0.0
        for j in range(rotated.shape[1]):
            number = rotated[i, j]
            gap = np.float64(number - np.float32(np.int32(out[i, j]) - ZERO) * step)
            square += np.float64(number) * np.float64(number)
            missing += gap * gap
        lengths[i] = np.sqrt(square)
        residual_norms[i] = np.float32(np.sqrt(missing))


@kernel
def rounding_error(numbers, step, unit):
    """Mean square of the error of numbers (float32 ``(n, dim)``) that are rounded to codes of a step, in multiples of ``unit``, whose
    square may be out of range.
    """
    total = 0.0
    for i in range(len(numbers)):
        for j in range(numbers.shape[1]):
            number = np.float64(numbers[i, j])
            gap = (number - min(max(np.rint(number / step), -127.0), 127.0) * step) / unit
            total += gap * gap
    return total / numbers.size


@inner
def encode_query(rotated, codes):
    """A query's signed codes (int8 ``(stride,)``, zeros past ``dim``); returns (its step, Σ codes)."""
    largest = np.int32(0)
    for j in range(len(rotated)):  # magnitudes order as their bits do, and a maximum of integers vectorizes
        largest = max(largest, np.float32(rotated[j]).view(np.int32) & np.int32(0x7FFFFFFF))
    step = np.int32(largest).view(np.float32) / np.float32(127) if largest > 0 else np.float32(1)
    inverse = np.float32(1) / step
    total = np.int32(0)
    for j in range(len(rotated)):
        number = np.int32(np.rint(rotated[j] * inverse))
        codes[j] = np.int8(number)
        total += number
    for j in range(len(rotated), len(codes)):
        codes[j] = np.int8(0)
    return step, np.int64(total)


@intrinsic
def positive_of_64(typingctx, address):
    """A bit for each of 64 float32 at an address, set where it is above 0; the first is the lowest."""

    def codegen(context, builder, signature, args):
        wide = ir.VectorType(ir.FloatType(), 64)
        numbers = builder.load(builder.inttoptr(args[0], wide.as_pointer()), align=4)
        return builder.bitcast(builder.fcmp_ordered(">", numbers, ir.Constant(wide, [0.0] * 64)), ir.IntType(64))

    return types.uint64(types.intp), codegen


@intrinsic
def above_of_64(typingctx, address, limit):
    """As ``positive_of_64``, of bytes above a limit."""

    def codegen(context, builder, signature, args):
        i8, i32 = ir.IntType(8), ir.IntType(32)
        wide = ir.VectorType(i8, 64)
        undefined = ir.Constant(wide, ir.Undefined)
        first = builder.insert_element(undefined, args[1], i32(0))
        bound = builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(i32, 64), [0] * 64))
        numbers = builder.load(builder.inttoptr(args[0], wide.as_pointer()), align=1)
        return builder.bitcast(builder.icmp_unsigned(">", numbers, bound), ir.IntType(64))

    return types.uint64(types.intp, types.uint8), codegen


@inner
def sign_bits(rotated, out):
    """Sign bits (1 where positive) of a vector, contiguous, lowest bit first, into uint64 ``(u64s,)``."""
    whole = len(rotated) // 64
    for w in range(whole):
        out[w] = positive_of_64(rotated.ctypes.data + 256 * w)
    for w in range(whole, len(out)):
        word = np.uint64(0)
        for j in range(64 * w, len(rotated)):
            word |= np.uint64(rotated[j] > 0) << np.uint64(j - 64 * w)
        out[w] = word


@kernel
def pack_signs(codes, dim, blocks):
    """Sign bits of rows of codes, uint8 ``(n, stride)``, into their lanes of uint64 ``(blocks, u64s, 64)``: 1 where a byte is above
    ``ZERO``.
    """
    rest = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(-dim & 63)
    last = blocks.shape[1] - 1
    for row in range(len(codes)):
        at = codes[row].ctypes.data
        for w in range(last):
            blocks[row >> 6, w, row & 63] = above_of_64(at + 64 * w, np.uint8(ZERO))
        blocks[row >> 6, last, row & 63] = above_of_64(at + 64 * last, np.uint8(ZERO)) & rest
