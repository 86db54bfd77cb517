"""One decorator compiles every kernel: no GIL, fast math, a disk cache of our own, and a word to the user on a cold start.

A kernel stays a plain Python function (``kernel.py_func``), which is the oracle of its test.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, overload

import numba
import xxhash
from llvmlite import binding, ir
from numba import types
from numba.core import config, event
from numba.extending import intrinsic


def cache_dir() -> str | None:
    """Where compiled kernels are kept: $VECTORDB_CACHE_DIR, else the user's cache folder, else a folder in tmp.

    None: nothing can be written anywhere, so each process compiles them for itself.
    """
    for folder in _candidates():
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # What is in there is run: a folder that somebody else made in tmp won't do.
            if os.access(folder, os.W_OK) and (folder.stat().st_uid in (os.getuid(), 0) or "VECTORDB_CACHE_DIR" in os.environ):
                return str(folder)
    with contextlib.suppress(OSError):
        return tempfile.mkdtemp(prefix="vectordb-kernels-")
    return None


def _candidates() -> Iterator[Path]:
    chosen = os.environ.get("VECTORDB_CACHE_DIR")
    if chosen:
        yield Path(os.path.abspath(chosen)) / "kernels"
        return
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(cache) and os.environ.get("HOME") != "":  # else nobody knows where home is
        yield Path(cache) / "vectordb" / "kernels"
    with contextlib.suppress(OSError):
        yield Path(tempfile.gettempdir()) / f"vectordb-{os.getuid()}" / "kernels"


def _fast_dot() -> bool:
    """Whether the CPU multiplies bytes in one instruction. $VECTORDB_PLAIN_KERNELS=1 says no: the path of all other CPUs, to be tested."""
    if os.environ.get("VECTORDB_PLAIN_KERNELS") == "1":
        return False
    features = binding.get_host_cpu_features()
    return bool(features.get("avx512vnni") and features.get("avx512f"))


FAST_DOT = _fast_dot()


def _version() -> str:
    """Of all kernels together. Numba's cache looks at the file of a kernel alone; what it calls of other files is compiled into it."""
    digest = xxhash.xxh3_64(b"fast" if FAST_DOT else b"plain")
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


_FOLDER = cache_dir()
_CACHE = None if _FOLDER is None else os.path.join(_FOLDER, _version())


def _forget_old_versions() -> None:
    """Remove what other versions compiled and nothing has been added to for a month."""
    if _FOLDER is None:
        return
    with contextlib.suppress(OSError):
        for entry in os.scandir(_FOLDER):
            if entry.path != _CACHE and entry.is_dir(follow_symlinks=False) and time.time() - entry.stat().st_mtime > 30 * 86_400:
                shutil.rmtree(entry.path, ignore_errors=True)


# Type checkers see Any: numba compiles for the types of each call, which the annotations of the plain function don't cover.
@overload
def kernel(function: Callable) -> Any: ...
@overload
def kernel(function: None = None, *, nogil: bool = True) -> Callable[[Callable], Any]: ...
def kernel(function=None, *, nogil: bool = True):
    """Compile with numba on the first call; numba's cache key holds the CPU's name and features, so a shared folder is safe.

    nogil: False for what takes less time than to hand the GIL over and get it back.
    """
    if function is None:
        return functools.partial(kernel, nogil=nogil)
    return _compiled(function, nogil, {"reassoc", "contract", "nsz", "arcp"})


def ordered_kernel(function: Callable) -> Any:
    """A kernel whose floats are rounded after each operation, in the order written: two that add the same numbers up get the same sum."""
    return _compiled(function, True, False)


def _compiled(function, nogil, fastmath) -> Any:
    before = config.CACHE_DIR
    config.CACHE_DIR = _CACHE or before  # read while decorating only: other users of numba in this process keep their own folder
    try:
        return numba.njit(function, nogil=nogil, cache=_CACHE is not None, fastmath=fastmath, error_model="numpy")
    finally:
        config.CACHE_DIR = before


class _Announce(event.Listener):
    """Numba's compile events fire only when no cached code fits, so this speaks once a machine."""

    def __init__(self):
        self.said = False
        self.compiled = 0

    def on_start(self, event):
        dispatcher = event.data.get("dispatcher")
        if not self.said and getattr(dispatcher, "__module__", "").startswith("vectordb.kernels"):
            self.said = True
            _forget_old_versions()
            kept = f"once (kept in {_CACHE})" if _CACHE is not None else "for this process alone (there is no folder to keep them)"
            print(f"vectordb: compiling search kernels for this CPU, {kept} …", file=sys.stderr, flush=True)

    def on_end(self, event):
        if getattr(event.data.get("dispatcher"), "__module__", "").startswith("vectordb.kernels"):
            self.compiled += 1


announce = _Announce()
event.register("numba:compile", announce)


def cache_bytes() -> int:
    """Bytes of the compiled kernels of this version on disk."""
    total = 0
    for folder, _, names in os.walk(_CACHE) if _CACHE is not None else ():
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(folder, name)).st_size
    return total


@intrinsic
def pointer(typingctx, address):
    """An integer address as a pointer, for ``carray``."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.intp), codegen


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
