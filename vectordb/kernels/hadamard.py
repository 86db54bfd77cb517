"""Walsh–Hadamard transforms of float32, in vector registers of 16 numbers.

A transform takes log₂(n) steps; step h replaces each pair of numbers h apart by their sum and their difference. The first four steps stay
inside a register: a shuffle and one addition each. The next four add and subtract whole registers, all of which 256 numbers fit in. Only
longer vectors take more than one pass over memory. The steps are done in the order of any plain implementation, so the numbers are the same
to the last bit. The instructions are those of any processor with vectors.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types

from .jit import inner, intrinsic

LANES, BLOCK = 16, 256  # numbers of a register, and those that one pass transforms

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_REGISTER = ir.VectorType(ir.FloatType(), LANES)


def _within(builder, register):
    """The steps 1, 2, 4 and 8."""
    for h in (1, 2, 4, 8):
        order = ir.Constant(ir.VectorType(_I32, LANES), [lane ^ h for lane in range(LANES)])
        signs = ir.Constant(_REGISTER, [-1.0 if lane & h else 1.0 for lane in range(LANES)])
        swapped = builder.shuffle_vector(register, register, order)
        register = builder.fadd(swapped, builder.fmul(register, signs))
    return register


def _make(registers):
    """The transform of some registers' numbers at an address, each multiplied by ``scale`` at the end, ``count`` (≥ 1) times in a row."""

    @intrinsic
    def blocks(typingctx, address, count, scale):
        def codegen(context, builder, signature, args):
            start, many, factor = args
            before, loop, after = builder.block, builder.append_basic_block("block"), builder.append_basic_block("transformed")
            undefined = ir.Constant(_REGISTER, ir.Undefined)
            factor = builder.insert_element(undefined, factor, _I32(0))
            factor = builder.shuffle_vector(factor, undefined, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))
            builder.branch(loop)
            builder.position_at_end(loop)
            block = builder.phi(_I64)
            block.add_incoming(_I64(0), before)
            at = builder.add(start, builder.mul(block, _I64(4 * LANES * registers)))
            places = [builder.inttoptr(builder.add(at, _I64(4 * LANES * each)), _REGISTER.as_pointer()) for each in range(registers)]
            held = [_within(builder, builder.load(place, align=4)) for place in places]
            h = 1
            while h < registers:
                pairs = [(low, low + h) for low in range(registers) if not low & h]
                for low, high in pairs:
                    left, right = held[low], held[high]
                    held[low], held[high] = builder.fadd(left, right), builder.fsub(left, right)
                h *= 2
            for place, register in zip(places, held, strict=True):
                builder.store(builder.fmul(register, factor), place, align=4)
            following = builder.add(block, _I64(1))
            block.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed("<", following, many), loop, after)
            builder.position_at_end(after)
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, types.float32), codegen

    return blocks


transform_16s, transform_256s = _make(1), _make(BLOCK // LANES)


@inner
def add_and_subtract(values, h, scale):
    """The step h, in place; each number is multiplied by ``scale`` then."""
    for start in range(0, len(values), 2 * h):
        low, high = values[start : start + h], values[start + h : start + 2 * h]
        for j in range(h):
            a, b = low[j], high[j]
            low[j] = (a + b) * scale
            high[j] = (a - b) * scale


@inner
def transform(values):
    """The transform of float32 ``(n,)``, contiguous, n a power of two, in place; scaled to keep the length."""
    n = len(values)
    scale, one = np.float32(1.0 / np.sqrt(n)), np.float32(1)
    h = 1
    if n >= BLOCK:
        transform_256s(values.ctypes.data, n // BLOCK, scale if n == BLOCK else one)
        h = BLOCK
    elif n >= LANES:
        transform_16s(values.ctypes.data, n // LANES, scale if n == LANES else one)
        h = LANES
    while h < n:
        add_and_subtract(values, h, scale if 2 * h == n else one)
        h *= 2
