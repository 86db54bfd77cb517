"""Decorators that compile kernels: no GIL, fast math, code that came with the package or was compiled before, else compiled now.

A kernel stays a plain Python function (``kernel.py_func``), which its test compares it with.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, overload

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils, event
from numba.extending import intrinsic as _intrinsic

from . import internals, store, tiers

log = logging.getLogger("vectordb.kernels")
FAST_DOT = tiers.fast_dot()
_FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}
intrinsic: Any = _intrinsic  # numba passes the first argument, so a call has one fewer than type checkers would expect
if internals.supported():
    internals.number_symbols()


# Type checkers see Any: numba compiles for the types of each call, which the annotations of the plain function don't cover.
@overload
def kernel(function: Callable) -> Any: ...
@overload
def kernel(function: None = None, *, nogil: bool = True, ordered: bool = False) -> Callable[[Callable], Any]: ...
def kernel(function=None, *, nogil: bool = True, ordered: bool = False):
    """A kernel that Python calls.

    nogil: False for what takes less time than to hand the GIL over and get it back. ordered: floats are rounded after each operation, in
    the order written: two kernels that add the same numbers up get the same sum.
    """
    if function is None:
        return functools.partial(kernel, nogil=nogil, ordered=ordered)
    dispatcher = numba.njit(function, nogil=nogil, fastmath=not ordered and _FAST_MATH, error_model="numpy")
    if internals.supported():
        internals.without_literals(dispatcher)
        internals.attach(dispatcher, Kept(dispatcher))
    return dispatcher


@overload
def inner(function: Callable) -> Any: ...
@overload
def inner(function: None = None, *, ordered: bool = False) -> Callable[[Callable], Any]: ...
def inner(function=None, *, ordered: bool = False):
    """A kernel that only other kernels call: it is compiled without what Python needs to call it. Called from Python, as its test does, it
    is compiled once more. ordered: as for ``kernel``.
    """
    if function is None:
        return functools.partial(inner, ordered=ordered)
    if not internals.supported():
        return kernel(function, ordered=ordered)
    dispatcher = numba.njit(
        function,
        fastmath=not ordered and _FAST_MATH,
        error_model="numpy",
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
    )
    internals.without_literals(dispatcher)
    internals.keep_from_python(dispatcher, functools.cache(lambda: kernel(function, ordered=ordered)))
    internals.attach(dispatcher, Kept(dispatcher))
    return dispatcher


def name_of(kernel: str, args: tuple) -> str:
    """The name of the code of a kernel (``module.function``) for arguments of numba's types. Their texts say layout, alignment and whether
    an array is read-only.
    """
    return f"{kernel}({'; '.join(map(str, args))})"


@functools.cache
def called_by_kernels() -> frozenset:
    """The kernels that others call, of all files: numba takes their bitcode when it compiles the others."""
    named = set()
    for path in Path(__file__).parent.glob("*.py"):
        for one in vars(importlib.import_module(f".{path.stem}", __package__)).values():
            function = getattr(one, "py_func", None)
            if function is not None:
                named.update(function.__globals__.get(name) for name in function.__code__.co_names)
    return frozenset(each for each in named if hasattr(each, "py_func"))


class Kept:
    """What a kernel has as numba's disk cache: the archive that came with the package, then the folder of this machine."""

    def __init__(self, dispatcher: Any):
        self._dispatcher = dispatcher
        self._kernel = f"{dispatcher.__module__.rpartition('.')[2]}.{dispatcher.__qualname__}"
        self._inner = dispatcher.targetoptions.get("no_cpython_wrapper", False)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The code for some argument types, None when it has to be compiled in this process."""
        if not isinstance(sig, tuple):  # a declared return type as well: none of ours has one
            return None
        name = self._name(sig)
        by_python = not watch.depth and not self._inner
        if by_python:
            watch.asked(self._kernel, sig)
        overload = self._load(name, target_context)
        if overload is None and by_python and watch.on_miss(name):
            overload = self._load(name, target_context)
        return overload

    def _load(self, name: str, target_context: Any) -> Any:
        for look in (lambda: store.shipped()[0], store.local):  # the folder only where the archive hasn't it
            try:
                place = look()
                piece = None if place is None else place.get(name)
                if piece is not None:
                    overload = internals.from_bytes(target_context, piece)
                    watch.loaded += 1
                    return overload
            except Exception as error:  # damage, or another numba than it seems: compile it
                log.info("the compiled code of %s can't be used: %r", name, error)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled in the folder of this machine, if there is one."""
        folder = store.local()
        if folder is None or not isinstance(sig, tuple):
            return
        name = self._name(sig)
        try:
            folder.put(name, internals.to_bytes(data, self._dispatcher in called_by_kernels()))
        except Exception as error:  # a full disk, a folder that can't be written to: this process has the code, the next compiles it again
            log.info("the compiled code of %s can't be kept: %r", name, error)

    def _name(self, sig: tuple) -> str:
        return name_of(self._kernel, sig) + (" for kernels" if self._inner else "")


def _compile_ahead(name: str) -> bool:
    from .ahead import on_miss

    return on_miss(name)


class Watch(event.Listener):
    """What was loaded and compiled since this process began, and who wants to know.

    depth: compilations under way, one within the other. on_miss: called with the name of the code that Python asks for and that wasn't kept
    anywhere; returns whether to look again. asked: called with the kernel and the types of each code that Python asks for.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.compiled = 0
        self.loaded = 0
        self.on_miss: Callable[[str], bool] = _compile_ahead
        self.asked: Callable[[str, tuple], None] = lambda kernel, args: None

    def on_start(self, event: Any) -> None:
        self.depth += 1

    def on_end(self, event: Any) -> None:
        self.depth -= 1
        if getattr(event.data.get("dispatcher"), "__module__", "").startswith(__package__):
            self.compiled += 1


watch = Watch()
event.register("numba:compile", watch)


@intrinsic
def pointer(typingctx, address):
    """An integer address as a pointer, for ``carray``."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.intp), codegen


def caller(arguments: tuple, result: Any) -> Any:
    """A function for kernels: from (address, tuple of arguments) to what the compiled kernel at that address returns
    (``internals.address_of``), for numba's types of the arguments and the result. The kernel's code doesn't become a part of the caller's.
    """

    @intrinsic
    def call_at(typingctx, address, given):
        if tuple(map(types.unliteral, given.types)) != arguments:
            raise TypeError(f"the kernel is called with {given}, but takes {arguments}")

        def codegen(context, builder, signature, args):
            convention = context.call_conv
            function = builder.inttoptr(args[0], convention.get_function_type(result, arguments).as_pointer())
            values = [
                context.cast(builder, value, have, want)
                for value, have, want in zip(cgutils.unpack_tuple(builder, args[1]), signature.args[1].types, arguments, strict=True)
            ]
            status, value = convention.call_function(builder, function, result, arguments, values)
            with cgutils.if_unlikely(builder, status.is_error):
                convention.return_status_propagate(builder, status)
            return value

        return result(types.intp, given), codegen

    return call_at


@intrinsic
def prefetch(typingctx, address):
    """Ask for the cache line at an address, to be read soon."""

    def codegen(context, builder, signature, args):
        place = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        i32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, i32, i32, i32])
        builder.call(builder.module.declare_intrinsic("llvm.prefetch.p0", fnty=kind), [place, i32(0), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@intrinsic
def count_trailing_zeros(typingctx, word):
    """Index of the lowest set bit of a nonzero u64."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), codegen


@intrinsic
def prefetch_lines(typingctx, address, lines):
    """Ask for ``lines`` (at most 8) cache lines from an address on."""

    def codegen(context, builder, signature, args):
        i32, i64 = ir.IntType(32), ir.IntType(64)
        place = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [place, i32, i32, i32])
        ask = builder.module.declare_intrinsic("llvm.prefetch.p0", fnty=kind)
        for line in range(8):
            with builder.if_then(builder.icmp_signed(">", args[1], i64(line))):
                builder.call(ask, [builder.inttoptr(builder.add(args[0], i64(64 * line)), place), i32(0), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


@intrinsic
def count_ones(typingctx, word):
    """Set bits of a u64."""

    def codegen(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), codegen


@intrinsic
def as_high(typingctx, address, least):
    """Which of the 64 unsigned numbers at an address, of the type of ``least``, are ``least`` or more, as bits, the first lowest."""

    def codegen(context, builder, signature, args):
        numbers = ir.VectorType(args[1].type, 64)
        held = builder.load(builder.inttoptr(args[0], numbers.as_pointer()), align=least.bitwidth // 8)
        first = builder.insert_element(ir.Constant(numbers, ir.Undefined), args[1], ir.Constant(ir.IntType(32), 0))
        every = ir.Constant(ir.VectorType(ir.IntType(32), 64), [0] * 64)
        spread = builder.shuffle_vector(first, ir.Constant(numbers, ir.Undefined), every)
        return builder.bitcast(builder.icmp_unsigned(">=", held, spread), ir.IntType(64))

    return types.uint64(types.intp, least), codegen
