"""What we use of numba beyond its public interface: the cache of a dispatcher, and how compiled code becomes bytes and code again.

A numba that lacks one of these names is used without them (``supported``): kernels are then compiled by numba alone, in each process.
tests/kernels/test_kernel_cache.py fails in that case, so that whoever raises numba's version sees it.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import pickle
import secrets
from collections.abc import Callable
from typing import Any, Protocol

from llvmlite import binding
from numba import types
from numba.core import bytecode, codegen, compiler, config, dispatcher, serialize
from numba.core.runtime import rtsys

# The names that must exist, and the parameters of those that we call or replace.
_EXPECTED = {
    "Dispatcher": (dispatcher.Dispatcher, {"compile": 2, "enable_caching": 1}),
    "_DispatcherBase": (dispatcher._DispatcherBase, {"add_overload": 2, "get_call_template": 3, "_compile_for_args": 3}),
    "JITCodeLibrary": (
        getattr(codegen, "JITCodeLibrary", None),
        {
            "__init__": 3,
            "enable_object_caching": 1,
            "_get_compiled_object": 1,
            "_set_compiled_object": 2,
            "_finalize_final_module": 1,
            "_get_module_for_linking": 1,
            "get_pointer_to_function": 2,
        },
    ),
    "CompileResult": (compiler.CompileResult, {"_find_referenced_environments": 1}),
    "rtsys": (rtsys, {"initialize": 1}),
}
_FIELDS = {
    "typing_context", "target_context", "entry_point", "typing_error", "type_annotation", "signature", "objectmode", "lifted", "fndesc",
    "library", "call_helper", "environment", "metadata", "reload_init", "referenced_envs",
}  # fmt: skip


class Cache(Protocol):
    """What a dispatcher asks for code before it compiles. ``load_overload`` returns None where there is none."""

    def load_overload(self, sig: Any, target_context: Any) -> Any: ...

    def save_overload(self, sig: Any, data: Any) -> None: ...


class NotStorable(Exception):
    """This compiled code can't be used by another process."""


@functools.cache
def missing() -> str | None:
    """The first name that this numba lacks or has with other parameters, None when all are as expected."""
    for name, (owner, methods) in _EXPECTED.items():
        for method, count in methods.items():
            function = getattr(owner, method, None)
            if function is None or len(inspect.signature(function).parameters) != count:
                return f"{name}.{method}"
    if set(compiler.CompileResult._fields) != _FIELDS:
        return "CompileResult's fields"
    if not isinstance(getattr(bytecode.FunctionIdentity, "_unique_ids", None), itertools.count):
        return "FunctionIdentity._unique_ids"
    if not hasattr(serialize, "dumps") or not hasattr(codegen, "JitEngine"):
        return "serialize.dumps or codegen.JitEngine"
    if "_cache" not in getattr(inspect.unwrap(dispatcher.Dispatcher.compile), "__code__", missing.__wrapped__.__code__).co_names:
        return "Dispatcher._cache"
    return None


def supported() -> bool:
    """Whether code can be kept and loaded with this numba."""
    return missing() is None and not config.DISABLE_JIT


def number_symbols(start: int | None = None) -> None:
    """Let the running number in the names of compiled functions begin at ``start``, or at a random number of 40 bits.

    Code of several processes is loaded into one: two functions of the same name would be taken for one another.
    """
    bytecode.FunctionIdentity._unique_ids = itertools.count(secrets.randbits(40) + (1 << 40) if start is None else start)


def attach(kernel: Any, cache: Cache) -> None:
    """Have a dispatcher look into ``cache`` before it compiles, and save there what it compiled."""
    kernel._cache = cache


def without_literals(kernel: Any) -> None:
    """Compile a dispatcher for the type of a literal argument of another kernel (int64, bool), not once more for its value."""
    ask = kernel.get_call_template

    def get_call_template(args, kws):
        return ask(tuple(map(types.unliteral, args)), {name: types.unliteral(each) for name, each in kws.items()})

    kernel.get_call_template = get_call_template


def keep_from_python(kernel: Any, twin: Callable[[], Any]) -> None:
    """Have calls from Python go to ``twin()``, another dispatcher: this one's code has no wrapper that Python could call."""

    def add_overload(result):
        kernel.overloads[tuple(result.signature.args)] = result

    kernel.add_overload = add_overload
    kernel._compile_for_args = lambda *args, **kws: twin()


def address_of(kernel: Any, arguments: tuple) -> int:
    """The address of the machine code of a kernel for arguments of these types, in this process."""
    kernel.compile(arguments)
    compiled = kernel.overloads[arguments]
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)


class _Loaded(codegen.JITCodeLibrary):
    """Machine code made earlier. Its bitcode, to be inlined into kernels that are compiled later, is parsed when one asks for it."""

    bitcode: bytes | None = None

    def _get_module_for_linking(self):
        if self._shared_module is None and self.bitcode:
            self._shared_module = binding.parse_bitcode(self.bitcode)
        return super()._get_module_for_linking()


def to_bytes(result: Any, linkable: bool) -> bytes:
    """Compiled code as bytes. linkable: with its bitcode, which another kernel that calls it needs when that is compiled.

    Raises NotStorable.
    """
    library = result.library
    if library.has_dynamic_globals or result.lifted or result.objectmode or result.reload_init:
        raise NotStorable(result.fndesc.qualname)
    final = library._final_module
    every = [each for group in (final.functions, final.global_variables) for each in group]
    defined = [each.name for each in every if not each.is_declaration]
    called = [each.name for each in every if each.is_declaration and not each.name.startswith("llvm.")]
    bitcode = library._get_module_for_linking().as_bitcode() if linkable else None
    result.fndesc.typemap = result.fndesc.calltypes = None  # as numba's own cache does: not needed any more, and large
    return serialize.dumps(
        (
            (library.name, library._get_compiled_object(), bitcode, defined, called),
            result.fndesc,
            result.environment,
            result.signature,
            tuple(result._find_referenced_environments()),
        )
    )


def from_bytes(context: Any, data: bytes) -> Any:
    """What ``to_bytes`` made, as a result of numba's compiler in this process. The bytes must be what we wrote: code in them is run."""
    (name, machine_code, bitcode, defined, called), description, environment, signature, environments = pickle.loads(data)
    generator = context.codegen()
    rtsys.initialize(context)  # numba's functions for memory, which most code calls
    if not all(symbol in generator._engine._defined_symbols or binding.address_of_symbol(symbol) for symbol in called):
        context.refresh()  # all of numba: half a second of imports, and code that calls what isn't there would end the process
    library = _Loaded(generator, name)
    library.enable_object_caching()
    library._set_compiled_object(machine_code)
    library.bitcode = bitcode
    library._finalize_final_module()  # of an empty module: the engine is given our machine code for it
    generator._engine._defined_symbols.update(defined)
    entry = context.get_executable(library, description, environment)
    for each in environments:
        generator.set_env(each.env_name, each)
    values = dict.fromkeys(compiler.CompileResult._fields) | {
        "typing_context": context.typing_context,
        "target_context": context,
        "entry_point": entry,
        "type_annotation": "",
        "signature": signature,
        "objectmode": False,
        "lifted": (),
        "fndesc": description,
        "library": library,
        "environment": environment,
        "reload_init": (),
        "referenced_envs": environments,
    }
    return compiler.CompileResult(**values)
