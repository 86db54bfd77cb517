"""A corpus every machine with Python has: the docstrings of its standard library.

Source files are parsed, never imported, so collecting runs no code and has no side effects. The few modules compiled into the
interpreter have no source; the best known of them are asked for their docstrings, for ``str.split`` is what people look for.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

# Not the library: its tests, installed packages, build files. Encodings' and pydoc's tables are data written as Python.
_SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib-dynload", "ensurepip", "pydoc_data"}
# Compiled modules → the name they are known by. Importing these has no effect beyond having them.
_COMPILED = {
    **{name: name for name in ("builtins", "array", "cmath", "gc", "itertools", "math", "select", "sys", "time", "unicodedata", "zlib")},
    **{f"_{name}": name for name in ("bz2", "collections", "csv", "datetime", "decimal", "functools", "hashlib", "io", "lzma", "pickle")},
    **{f"_{name}": name for name in ("queue", "random", "socket", "sqlite3", "ssl", "struct", "thread")},
    "posix": "os",
    "nt": "os",
}


@dataclass(frozen=True)
class Entry:
    """One documented thing. ``id`` is its dotted name; a name defined again in the module gets ``@line``."""

    id: str
    module: str
    package: str
    kind: str
    name: str
    doc: str
    signature: str
    parameters: tuple[str, ...]
    lines: int | None
    file: str | None

    @property
    def body(self) -> str:
        """The text that is searched: what it is called, then what it does."""
        return f"{self.module}.{self.name}: {self.doc}" if self.kind != "module" else f"{self.module}: {self.doc}"


def collect(root: Path | None = None, limit: int | None = None) -> Iterator[Entry]:
    """Everything documented in the standard library of this interpreter (or in the sources under ``root``), in a fixed order."""
    seen: set[str] = set()
    count = 0
    for entry in _all(root):
        if count == limit:
            return
        if entry.id in seen:
            continue
        seen.add(entry.id)
        count += 1
        yield entry


def _all(root: Path | None) -> Iterator[Entry]:
    if root is None:
        for compiled, name in _COMPILED.items():
            try:
                module = importlib.import_module(compiled)
            except ImportError:
                continue  # not on this platform, or built without it
            yield from compiled_entries(module, name)
        root = Path(sysconfig.get_path("stdlib"))
    for path in source_files(root):
        yield from source_entries(path, root)


def source_files(root: Path) -> Iterator[Path]:
    """Python files under a folder, sorted, without tests and installed packages."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in _SKIPPED and not f.startswith("config-"))
        for name in sorted(files):
            if name.endswith(".py"):
                yield Path(folder, name)


def source_entries(path: Path, root: Path) -> Iterator[Entry]:
    """The documented things of one source file; none when it isn't Python of this version."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return
    parts = list(path.relative_to(root).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    module = ".".join(parts)
    if not module:
        return
    package, file = parts[0], str(path.relative_to(root))
    used: set[str] = set()

    def entry(node, kind: str, name: str, arguments: ast.arguments | None, lines: int) -> Entry | None:
        doc = ast.get_docstring(node)
        if not doc or not doc.strip():
            return None
        full = module if kind == "module" else f"{module}.{name}"
        key = full if full not in used else f"{full}@{node.lineno}"
        used.add(full)
        signature, parameters = _signature(node, kind, name, arguments)
        return Entry(key, module, package, kind, name, doc, signature, parameters, lines, file)

    def walk(parent, prefix: str, inside_class: bool) -> Iterator[Entry]:
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.ClassDef):
                init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
                collected = entry(node, "class", prefix + node.name, init.args if init else None, node.end_lineno - node.lineno + 1)
                if collected:
                    yield collected
                yield from walk(node, f"{prefix}{node.name}.", True)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                kind = "method" if inside_class else "function"
                collected = entry(node, kind, prefix + node.name, node.args, node.end_lineno - node.lineno + 1)
                if collected:
                    yield collected
                yield from walk(node, f"{prefix}{node.name}.", False)
            elif isinstance(node, (ast.If, ast.Try, ast.With, ast.ExceptHandler)):
                yield from walk(node, prefix, inside_class)

    collected = entry(tree, "module", parts[-1], None, max((n.end_lineno or 0 for n in tree.body), default=0))
    if collected:
        yield collected
    yield from walk(tree, "", False)


def _signature(node, kind: str, name: str, arguments: ast.arguments | None) -> tuple[str, tuple[str, ...]]:
    """The call as one writes it, without self, and the names of its parameters."""
    if arguments is None:
        return "", ()
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    text = ast.unparse(arguments)
    if names and names[0] in ("self", "cls") and (kind == "class" or "." in name):
        text = re.sub(rf"^{names[0]}(: [^,]+)?(, /)?(, )?", "", text)
        names = names[1:]
    names += [a.arg for a in (arguments.vararg, arguments.kwarg) if a]
    result = f" -> {ast.unparse(node.returns)}" if getattr(node, "returns", None) else ""
    call = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    return f"{call}{name}({text}){result}", tuple(dict.fromkeys(names))


def compiled_entries(module: ModuleType, name: str) -> Iterator[Entry]:
    """The documented things of a module that has no source, such as ``builtins``; ``name`` is what the module is known by."""
    if module.__doc__ and module.__name__ == name:
        yield Entry(name, name, name, "module", name, inspect.cleandoc(module.__doc__), "", (), None, None)
    for key, value in sorted(vars(module).items()):
        if key.startswith("_") or (not isinstance(value, type) and not inspect.isbuiltin(value)):
            continue
        if isinstance(value, type) and value.__name__ != key:
            continue  # EnvironmentError and IOError are other names of OSError
        kind = "class" if isinstance(value, type) else "function"
        yield from _compiled_entry(name, kind, key, value)
        if kind == "class":
            for attribute in sorted(vars(value)):
                if not attribute.startswith("_") and callable(getattr(value, attribute, None)):
                    yield from _compiled_entry(name, "method", f"{key}.{attribute}", getattr(value, attribute))


def _compiled_entry(module: str, kind: str, name: str, value) -> Iterator[Entry]:
    doc = inspect.getdoc(value)
    if not doc:
        return
    try:
        signature = inspect.signature(value)
    except Exception:  # it evaluates the defaults of compiled functions, and some name what can't be found
        signature = None
    names = tuple(p for p in signature.parameters if p != "self") if signature else ()
    text = f"{name}{signature}" if signature else ""
    text = re.sub(r"\(self(, /)?(, )?", "(", text)
    yield Entry(f"{module}.{name}", module, module, kind, name, doc, text, names, None, None)
