"""A sorted buffer of keys (int64, by falling key) and insertion into it.

A new key changes every place in the same way: each key becomes the higher of itself and the lower of the key before it and the new one. So
keys are moved eight at a time, and none is compared with a branch that a processor would have to guess.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types

from .jit import inner, intrinsic

LANES = 8  # keys of a block: 64 bytes

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BLOCK = ir.VectorType(_I64, LANES)
_ONE_ON = ir.Constant(
    ir.VectorType(_I32, LANES), list(range(LANES - 1, 2 * LANES - 1))
)  # the last lane of one block, then all but the last


def _all(number):
    return ir.Constant(_BLOCK, [number] * LANES)


@intrinsic
def insert_key(typingctx, address, size, key):
    """Insert a key into ``size`` sorted keys at an address; returns its place. Whole blocks of LANES keys, counted from the first, are read
    and written.
    """

    def codegen(context, builder, signature, args):
        start, count, one = args
        undefined = ir.Constant(_BLOCK, ir.Undefined)

        def spread(number):
            first = builder.insert_element(undefined, number, _I32(0))
            return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))

        def at(block):
            return builder.inttoptr(builder.add(start, builder.shl(block, _I64(6))), _BLOCK.as_pointer())

        def inserted(held, before):
            """A block with the new key. before: the block before it."""
            before = builder.shuffle_vector(before, held, _ONE_ON)
            lower = builder.select(builder.icmp_signed("<", before, keys), before, keys)
            return builder.select(builder.icmp_signed(">", held, lower), held, lower)

        keys, last = spread(one), builder.lshr(count, _I64(3))
        inside = builder.icmp_signed("<", ir.Constant(_BLOCK, list(range(LANES))), spread(builder.and_(count, _I64(LANES - 1))))
        end = builder.select(inside, builder.load(at(last), align=8), _all(-(2**63)))
        entry = builder.block
        loop, further, first, done = (builder.append_basic_block(name) for name in ("block", "further", "first", "inserted"))
        builder.branch(loop)
        builder.position_at_end(loop)
        block, held = builder.phi(_I64), builder.phi(_BLOCK)
        block.add_incoming(last, entry)
        held.add_incoming(end, entry)
        builder.cbranch(builder.icmp_signed(">", block, _I64(0)), further, first)
        builder.position_at_end(further)
        previous = builder.sub(block, _I64(1))
        before = builder.load(at(previous), align=8)
        builder.store(inserted(held, before), at(block), align=8)
        block.add_incoming(previous, further)
        held.add_incoming(before, further)
        builder.cbranch(builder.icmp_signed(">=", builder.extract_element(before, _I32(LANES - 1)), one), done, loop)
        builder.position_at_end(first)
        builder.store(inserted(held, _all(2**63 - 1)), at(_I64(0)), align=8)
        builder.branch(done)
        builder.position_at_end(done)
        ones = builder.module.declare_intrinsic("llvm.ctpop.i8", fnty=ir.FunctionType(_I8, [_I8]))
        not_less = builder.bitcast(builder.icmp_signed(">=", held, keys), _I8)
        return builder.add(builder.shl(block, _I64(3)), builder.zext(builder.call(ones, [not_less]), _I64))

    return types.int64(types.intp, types.int64, types.int64), codegen


@inner
def insert(buffer, size, most, key):
    """Insert a key into a sorted buffer of at most ``most``; the lowest is dropped where there are more. buffer: int64, as long as the
    whole blocks that ``most`` keys are in; faster where it starts on a cache line. Returns (size, its place; ``most`` where it has none).
    """
    if size == most:
        size -= 1
        if key <= buffer[size]:
            return most, most
    return size + 1, insert_key(buffer.ctypes.data, size, key)
