"""RaBitQ codes of 1 to 8 bits a number (Gao and Long, arXiv 2405.12497; Gao et al., arXiv 2409.09913), and scores by them.

A row is coded relative to the centroid of its list: with r = row − centroid, its code is x̄, a vector of odd multiples of ½ that lies in
nearly the same direction as r. The inner product of r and a query q is then about p·⟨x̄, q⟩, p = ‖r‖² / ⟨x̄, r⟩. A random rotation before
makes the error of this random, with mean 0. With ρ the cosine of x̄ and r, its standard deviation is ‖r‖·‖q‖·√(1−ρ²)/ρ/√(dim − 1). Only
the part of q that a centroid doesn't explain counts: q less a multiple of the centroid, whose product with r is known.

Scores are higher for nearer rows: −distance² for l2, 1 − distance²/2 of unit vectors for cosine, the inner product for dot. A score is
``base + along·add + scale·⟨x̄, q⟩`` with ``add`` and ``scale`` of the row, ``base`` and ``along`` of its list and the query; its standard
deviation is ``error`` of the row times ``spread`` of its list and the query.
"""

from __future__ import annotations

import platform
from typing import NamedTuple

import numpy as np
from llvmlite import binding, ir
from numba import carray, types

from .codes import rotate
from .dense import DOT, L2
from .dots import LINE, dot_one
from .jit import inner, intrinsic, kernel, pointer

BLOCK_ROWS = 64  # rows of a block of one-bit codes
TABLE_TOP = 63  # largest sum of four of a query's numbers in the table for one-bit codes: four of them fit a byte
LOOKED_UP = 512  # bytes of a row's code that are looked up at a time: their sums fit 16 bits
SHUFFLES = bool(binding.get_host_cpu_features().get("avx2")) if platform.machine() in ("x86_64", "AMD64") else False
REFINEMENTS = 6  # passes over the numbers of a code, at most; most codes stop changing after three [chosen]
# Step of a code, relative to the root mean square of the numbers, of the least squared error for normally distributed numbers
# (Max 1960), by bits.
STEPS = (0.0, 1.596, 0.9957, 0.586, 0.3352, 0.1881, 0.1041, 0.0569, 0.0308)


class CodedQuery(NamedTuple):
    """A query for codes. rotated: float32 ``(dim,)``. table: uint8 ``(dim / 4 · 16,)``, for each four of its numbers and each of the 16
    patterns of bits the sum of those where the bit is set, less the least possible sum, in multiples of ``step``; middle: what is added to
    the sum of such sums to have ⟨x̄, q⟩ of one-bit codes. codes: int8, its numbers rounded to multiples of ``byte_step``, zeros past
    ``dim``; byte_total: their sum. For codes of 8 bits, which a query of bytes would blur, ``codes`` is twice as long, and a number is 256
    times the first half's plus the second half's ``fine_step``; fine_total: the sum of these. For others fine_step and fine_total are
    byte_step and byte_total. noise, fine_noise: the variance of a rounding error, of a sum of four numbers and of one number.
    """

    rotated: np.ndarray
    table: np.ndarray
    codes: np.ndarray
    step: np.float32
    middle: np.float32
    noise: np.float32
    byte_step: np.float32
    byte_total: np.int64
    fine_step: np.float32
    fine_total: np.int64
    fine_noise: np.float32


def padded(dim: int) -> int:
    """Dimensions of rotated vectors: a multiple of 64."""
    return -(-dim // 64) * 64


def stride_of(dim: int, bits: int) -> int:
    """Bytes of a row's code; of one that isn't of one bit, whole cache lines. dim: a multiple of 64."""
    return dim // 8 if bits == 1 else -(-dim * bits // 8 // LINE) * LINE


@kernel
def to_frame(vectors, unit, scale, mean, flips, out):
    """Each row, brought to unit length if ``unit``, times ``scale``, less the mean, filled up with zeros, rotated; into float32 ``(n,
    padded dim)``.
    """
    dim = vectors.shape[1]
    for i in range(len(vectors)):
        factor = np.float64(scale)
        if unit:
            total = 0.0
            for j in range(dim):
                total += np.float64(vectors[i, j]) * np.float64(vectors[i, j])
            factor = 1.0 / np.sqrt(total) if total > 0 else 0.0
        for j in range(dim):
            out[i, j] = np.float32(np.float64(vectors[i, j]) * factor) - mean[j]
        for j in range(dim, out.shape[1]):
            out[i, j] = np.float32(0)
        rotate(out[i], flips)


@inner
def quantise(residual, step, bits, levels):
    """Numbers rounded to the nearest odd multiple of half a step, at most the largest that has a code; in halves of a step, int32."""
    half, top = np.int32(1 << (bits - 1)), np.int32((1 << bits) - 1)
    inverse = np.float32(1.0 / step)
    product, square = 0.0, 0.0
    for j in range(len(residual)):
        number = np.floor(residual[j] * inverse)
        number = min(max(number, np.float32(-half)), np.float32(half - 1))
        levels[j] = np.int32(2) * (np.int32(number) + half) - top
    for j in range(len(residual)):
        level = np.float64(levels[j])
        product += level * np.float64(residual[j])
        square += level * level
    return product, square


@inner
def refine(residual, bits, levels, product, square):
    """Moves single numbers of a code by one step, as long as that turns the code towards the row."""
    top = np.int32((1 << bits) - 1)
    for _ in range(REFINEMENTS):
        changed = False
        for j in range(len(residual)):
            level = levels[j]
            move = np.int32(2) if np.float64(residual[j]) * square > np.float64(level) * product else np.int32(-2)
            if abs(level + move) > top:
                continue
            moved = product + np.float64(move) * np.float64(residual[j])
            longer = square + np.float64(move) * np.float64(2 * level + move)
            if moved > 0 and moved * moved * square > product * product * longer:
                levels[j] = level + move
                product, square = moved, longer
                changed = True
        if not changed:
            break
    return product, square


@inner
def pack(levels, bits, code):
    """A code's numbers as bits. Of one bit: number j is bit j, lowest first. Of more: number ``plane·len(code) + t`` is at bit
    ``plane·bits`` of byte t.
    """
    stride, top = len(code), np.int32((1 << bits) - 1)
    for t in range(stride):
        code[t] = np.uint8(0)
    if bits == 1:
        for j in range(len(levels)):
            code[j >> 3] |= np.uint8(np.int32(levels[j] > 0) << (j & 7))
        return
    for plane in range(8 // bits):
        first = plane * stride
        for t in range(min(stride, len(levels) - first)):
            code[t] |= np.uint8(((levels[first + t] + top) >> 1) << (plane * bits))


@kernel
def encode(rotated, centroids, assigned, bits, metric, step, codes, add, scale, error):
    """Codes of rows relative to the centroids of their lists; returns the sum of 1 − ρ² of those that differ from their centroid, and how
    many these are.

    rotated: float32 ``(n, dim)``, dim a multiple of 64; centroids: float32 ``(lists, dim)``; assigned: int32 ``(n,)``. step: of ``STEPS``.
    codes: uint8 ``(n, stride_of(dim, bits))``; add, scale, error: float32 ``(n,)``, as at the top of this file.
    """
    dim = rotated.shape[1]
    residual = np.empty(dim, np.float32)
    levels, others = np.empty(dim, np.int32), np.empty(dim, np.int32)
    lost, count = 0.0, 0
    for i in range(len(rotated)):
        centroid = centroids[assigned[i]]
        square, along = 0.0, 0.0
        largest = np.float32(0)
        for j in range(dim):
            gap = rotated[i, j] - centroid[j]
            residual[j] = gap
            largest = max(largest, abs(gap))
            square += np.float64(gap) * np.float64(gap)
            along += np.float64(gap) * np.float64(centroid[j])
        if not square > 1e-30:
            for j in range(dim):
                levels[j] = np.int32(1)
            pack(levels, bits, codes[i])
            add[i] = scale[i] = error[i] = np.float32(0)
            continue
        rms = np.sqrt(square / dim)
        product, length = quantise(residual, step * rms, bits, levels)
        if bits > 1:
            other = quantise(residual, 2.0 * np.float64(largest) / (1 << bits), bits, others)
            if other[0] * other[0] * length > product * product * other[1]:
                product, length = other
                for j in range(dim):
                    levels[j] = others[j]
            product, length = refine(residual, bits, levels, product, length)
        pack(levels, bits, codes[i])
        explained = 0.0
        for j in range(dim):
            explained += np.float64(levels[j]) * np.float64(centroid[j])
        stretch = 2.0 * square / product
        missing = max(1.0 - product * product / (length * square), 0.0)
        deviation = np.sqrt(square * missing / (1.0 - missing) / (dim - 1))
        if metric == DOT:
            add[i] = np.float32(along - stretch * explained / 2)
        elif metric == L2:
            add[i] = np.float32(-square - stretch * explained)
        else:
            add[i] = np.float32((-square - stretch * explained) / 2)
        doubled = 2.0 if metric == L2 else 1.0
        scale[i] = np.float32(doubled * stretch)
        error[i] = np.float32(doubled * deviation)
        lost += missing
        count += 1
    return lost, count


@inner
def code_query(rotated, width, fine):
    """A ``CodedQuery``. rotated: float32 ``(dim,)``, dim a multiple of 64; width: of its byte codes, at least dim; fine: for codes of 8
    bits.
    """
    dim = len(rotated)
    widest, absolute, largest = np.float32(0), np.float32(0), np.float32(0)
    for j in range(0, dim, 4):
        of_four = np.float32(0)
        for i in range(4):
            number = abs(rotated[j + i])
            of_four += number
            largest = max(largest, number)
        absolute += of_four
        widest = max(widest, of_four)
    step = widest / np.float32(TABLE_TOP) if widest > 0 else np.float32(1)
    inverse = np.float32(1) / step
    table = np.empty(4 * dim, np.uint8)
    sums = np.empty(16, np.float32)
    for j in range(0, dim, 4):
        least, filled = np.float32(0), 1
        sums[0] = np.float32(0)
        for i in range(4):
            number = rotated[j + i]
            least += min(number, np.float32(0))
            for pattern in range(filled):
                sums[filled + pattern] = sums[pattern] + number
            filled *= 2
        for pattern in range(16):
            table[4 * j + pattern] = np.uint8(np.int32((sums[pattern] - least) * inverse + np.float32(0.5)))
    codes = np.empty(2 * width if fine else width, np.int8)
    byte_step = largest / np.float32(127) if largest > 0 else np.float32(1)
    fine_step = byte_step / np.float32(256) if fine else byte_step
    inverse = np.float32(1) / fine_step
    byte_total, fine_total = np.int64(0), np.int64(0)
    for j in range(len(codes)):
        codes[j] = np.int8(0)
    for j in range(dim):
        number = np.int32(np.rint(rotated[j] * inverse))
        fine_total += np.int64(number)
        if fine:
            coarse = (number + np.int32(128)) >> 8
            codes[width + j] = np.int8(number - 256 * coarse)
            number = coarse
        codes[j] = np.int8(number)
        byte_total += np.int64(number)
    twelve = np.float32(12)
    middle = -absolute / np.float32(2)
    noise, fine_noise = step * step / twelve, fine_step * fine_step / twelve
    return CodedQuery(rotated, table, codes, step, middle, noise, byte_step, byte_total, fine_step, fine_total, fine_noise)


@intrinsic
def look_up_block(typingctx, block, table, count, sums):
    """Adds to the 64 int32 at the address ``sums``, for each row of a block of one-bit codes, what the table has for its bits.

    block: address of uint8 ``(count, 64)``, the same byte of 64 rows side by side; table: of uint8 ``(2·count, 16)``, for the lower and the
    upper half of each byte. count: even, at most LOOKED_UP, so that the sums fit 16 bits. A look-up is one instruction for 32 rows (the
    method of FastScan, André et al. 2015).
    """

    def codegen(context, builder, signature, args):
        i8, i32, i64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
        bytes_, sixteen = ir.VectorType(i8, 32), ir.VectorType(ir.IntType(16), 16)
        kind = ir.FunctionType(bytes_, [bytes_, bytes_])
        shuffle = builder.module.declare_intrinsic("llvm.x86.avx2.pshuf.b", fnty=kind)
        block_at, table_at, many, sums_at = args
        low_half = ir.Constant(bytes_, [15] * 32)
        four = ir.Constant(bytes_, [4] * 32)
        twice = ir.Constant(ir.VectorType(i32, 32), [*range(16), *range(16)])

        def load(address, type_, align=1):
            return builder.load(builder.inttoptr(address, type_.as_pointer()), align=align)

        before = builder.block
        loop, after = builder.append_basic_block("bytes"), builder.append_basic_block("looked_up")
        builder.branch(loop)
        builder.position_at_end(loop)
        at = builder.phi(i64)
        at.add_incoming(i64(0), before)
        totals = [builder.phi(sixteen) for _ in range(4)]
        tables = []
        for part in range(4):
            of_part = load(builder.add(table_at, builder.add(builder.mul(at, i64(32)), i64(16 * part))), ir.VectorType(i8, 16))
            tables.append(builder.shuffle_vector(of_part, of_part, twice))
        more = []
        for half in range(2):
            found = None
            for byte in range(2):
                place = builder.add(block_at, builder.add(builder.mul(at, i64(64)), i64(64 * byte + 32 * half)))
                codes = load(place, bytes_)
                for part, numbers in ((2 * byte, builder.and_(codes, low_half)), (2 * byte + 1, builder.lshr(codes, four))):
                    each = builder.call(shuffle, [tables[part], numbers])
                    found = each if found is None else builder.add(found, each)
            pairs = builder.bitcast(found, sixteen)
            more.append(builder.add(totals[2 * half], builder.and_(pairs, ir.Constant(sixteen, [255] * 16))))
            more.append(builder.add(totals[2 * half + 1], builder.lshr(pairs, ir.Constant(sixteen, [8] * 16))))
        for total, grown in zip(totals, more, strict=True):
            total.add_incoming(ir.Constant(sixteen, [0] * 16), before)
            total.add_incoming(grown, loop)
        following = builder.add(at, i64(2))
        at.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, many), loop, after)
        builder.position_at_end(after)
        wide, both = ir.VectorType(i32, 16), ir.VectorType(i32, 32)
        order = ir.Constant(both, [lane for pair in zip(range(16), range(16, 32), strict=True) for lane in pair])
        for half in range(2):
            even, odd = (builder.zext(each, wide) for each in more[2 * half : 2 * half + 2])
            place = builder.inttoptr(builder.add(sums_at, i64(128 * half)), both.as_pointer())
            grown = builder.add(builder.load(place, align=4), builder.shuffle_vector(even, odd, order))
            builder.store(grown, place, align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp), codegen


@inner
def look_up_plainly(block, table, count, sums):
    """``look_up_block`` for any processor."""
    codes, values = carray(pointer(block), count * 64, np.uint8), carray(pointer(table), count * 32, np.uint8)
    out = carray(pointer(sums), 64, np.int32)
    for byte in range(count):
        for row in range(64):
            code = codes[64 * byte + row]
            out[row] += np.int32(values[32 * byte + np.int64(code & np.uint8(15))])
            out[row] += np.int32(values[32 * byte + 16 + np.int64(code >> np.uint8(4))])


look_up = look_up_block if SHUFFLES else look_up_plainly


@inner
def weigh_block(block, table, count, sums):
    """For each of a block's 64 one-bit codes the sum of the query's numbers where it has a 1, less the least possible, in steps of the
    query; into int32 ``(64,)``. block, table: addresses, as for ``look_up_block``; count: bytes of a row's code.
    """
    for row in range(64):
        sums[row] = np.int32(0)
    for begin in range(0, count, LOOKED_UP):
        look_up(block + 64 * begin, table + 32 * begin, min(count - begin, LOOKED_UP), sums.ctypes.data)


@inner
def code_product(code, stride, bits, query):
    """⟨x, q⟩ of a code of 2, 4 or 8 bits (x are its numbers as stored, 0 and up) at an address, and of a query's byte codes, in steps of
    the query (``fine_step``). query: their address.
    """
    if bits == 8:
        return 256 * np.int64(dot_one(code, query, stride // LINE)) + np.int64(dot_one(code, query + stride, stride // LINE))
    held = carray(pointer(code), stride, np.uint8)
    total = np.int32(0)
    if bits == 4:
        low, high = carray(pointer(query), stride, np.int8), carray(pointer(query + stride), stride, np.int8)
        for t in range(stride):
            total += np.int32(held[t] & np.uint8(15)) * np.int32(low[t]) + np.int32(held[t] >> np.uint8(4)) * np.int32(high[t])
        return np.int64(total)
    for plane in range(4):
        numbers = carray(pointer(query + plane * stride), stride, np.int8)
        shift = np.uint8(2 * plane)
        for t in range(stride):
            total += np.int32((held[t] >> shift) & np.uint8(3)) * np.int32(numbers[t])
    return np.int64(total)


@inner
def list_terms(metric, rotated, centroid):
    """(base, along, square of what a centroid doesn't explain of the query) of a list and a query."""
    product, square, own = np.float32(0), np.float32(0), np.float32(0)
    for j in range(len(rotated)):
        product += rotated[j] * centroid[j]
        own += centroid[j] * centroid[j]
    along = np.float32(1)
    if metric == DOT:
        along = product / own if own > 0 else np.float32(0)
    for j in range(len(rotated)):
        gap = rotated[j] - along * centroid[j]
        square += gap * gap
    if metric == DOT:
        return product, along, square
    return (-square if metric == L2 else np.float32(1) - square / np.float32(2)), along, square


@kernel
def estimates(rotated, centroid, metric, bits, codes, add, scale, error, lost, scores, deviations):
    """Scores of the rows of one list by their codes and the standard deviations of their errors, as a search has them.

    rotated: a query in the frame, float32 ``(dim,)``. codes: uint8 in one dimension, of one bit that of blocks ``(blocks, dim / 8, 64)``,
    else of rows. lost: the mean of 1 − ρ². scores, deviations: float32 ``(n,)``, n at most 64 times the blocks.
    """
    dim, n = len(rotated), len(scores)
    stride = stride_bytes(dim, bits)
    query = code_query(rotated, dim if bits == 1 else stride * (8 // bits), bits == 8)
    base, along, square = list_terms(metric, rotated, centroid)
    half = np.float32((1 << bits) - 1) / np.float32(2)
    noise = query.noise if bits == 1 else query.fine_noise
    spread = np.sqrt(square + noise * np.float32((dim - 1) / max(lost, 1e-9)))
    sums = np.empty(64, np.int32)
    for row in range(n):
        if bits == 1:
            if row & 63 == 0:
                weigh_block(codes.ctypes.data + (row >> 6) * dim * 8, query.table.ctypes.data, dim // 8, sums)
            product = query.step * np.float32(sums[row & 63]) + query.middle
        else:
            found = code_product(codes.ctypes.data + row * stride, stride, bits, query.codes.ctypes.data)
            product = query.fine_step * np.float32(np.float64(found) - np.float64(half) * np.float64(query.fine_total))
        scores[row] = base + along * add[row] + scale[row] * product
        deviations[row] = error[row] * spread


@inner
def stride_bytes(dim, bits):
    """``stride_of``, for kernels."""
    return dim // 8 if bits == 1 else (dim * bits // 8 + LINE - 1) // LINE * LINE
