"""The list of commands, and what they have in common: one parser, exit codes, errors of one line.

Exit codes: 0 well; 1 an error, or problems that were found; 2 a wrong command line; 130 interrupted. Answers go to stdout, progress and
messages to stderr. An error is one line on stderr that says what to write instead.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence

from vectordb_client._version import __version__

from ..errors import VectorDBError
from ..interrupt import STATUS, ends_soon, exits_soon
from .options import Command

# command → (its module, its form or None where it has commands of its own, what it does)
COMMANDS = {
    "serve": ("serve", "DIR", "serve a directory over gRPC until Ctrl-C"),
    "demo": ("demo", "[DIR]", "search the docstrings of Python's standard library, embedded and served"),
    "import": ("load", "DIR COLLECTION FILE", "import a file of JSON lines, JSON, CSV, Parquet or Arrow into a collection"),
    "export": ("export", "DIR COLLECTION FILE", "export a collection to a JSON-lines, CSV or Parquet file"),
    "terms": ("terms", "DIR COLLECTION FIELD (--import FILE | --export FILE)", "say what terms of a sparse field stand for, or export it"),
    "info": ("info", "(DIR | --target HOST:PORT) [COLLECTION]", "show the collections of a directory, or of a running service"),
    "optimize": ("optimize", "DIR [COLLECTION]", "bring the indexes of a directory up to date and take deleted rows out, and wait for it"),
    "check": ("check", "DIR", "verify checksums and invariants of a directory; exit code 1 when something is wrong"),
    "drop": ("drop", "DIR COLLECTION", "delete a collection with all its points"),
    "top": ("watch", "--target HOST:PORT", "show what a running service does, until Ctrl-C"),
    "health": ("health", "--target HOST:PORT", "ask a running service whether it takes calls; exit code 1 when it doesn't"),
    "snapshot": ("snapshot", "DIR TO", "copy a directory that is in use, as it is now"),
    "restore": ("restore", "FROM DIR", "bring a snapshot back as a directory, every checksum and invariant verified"),
    "purge": ("purge", "DIR [COLLECTION]", "take what was deleted or replaced out of every file, and search all files for it"),
    "warm": ("warm", "", "compile the search kernels now, where they didn't come compiled, instead of at the first search"),
    "version": ("version", "", "show the versions of what is installed"),
    "bench": ("bench", None, "measure recall and speed, beside other systems or on your own collection"),
    "keys": ("keys", None, "make, list and revoke the API keys of a service"),
}
_OWN_ENDS = tuple(f"{__package__}.{name}" for name in ("serve", "demo"))  # how these end when they are interrupted is their own affair
_EPILOG = """\
A command names the database's directory first: vectordb COMMAND DIR …; the flag --data DIR says the same.
Exit codes: 0 well, 1 an error or problems found, 2 a wrong command line, 130 interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter must not end a command
        arguments = parser().parse_args(argv)
        with contextlib.nullcontext() if arguments.run.__module__ in _OWN_ENDS else ends_soon():
            code = arguments.run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except VectorDBError as error:
        return _failed(str(error))
    except BrokenPipeError:  # whoever read our output has seen enough
        _drop_stdout()
        return 1
    except OSError as error:
        if error.filename is None:  # perhaps stdout is on a full disk
            _drop_stdout()
        return _failed(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error))
    except MemoryError:
        return _failed("this machine hasn't enough memory for it")
    except KeyboardInterrupt:
        if argv is None:  # the process is ours
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            exits_soon()
        return _failed("interrupted", STATUS, "\n")


def parser() -> Command:
    """The whole command line. The part of a command is made when that command is parsed."""
    made = Command(
        prog="vectordb", description="A vector database in a directory: dense, sparse and text search with filters.", epilog=_EPILOG
    )
    made.add_argument("--version", action="version", version=f"vectordb {__version__}")
    commands = made.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (module, form, about) in COMMANDS.items():
        usage = None if form is None else f"vectordb {name} {f'{form} [options]'.strip()}"
        commands.add_parser(name, usage=usage, help=about, about=about, fill=_filler(module))
    return made


def _filler(module: str) -> Callable[[Command], None]:
    def fill(command: Command) -> None:
        found = importlib.import_module(f"{__package__}.{module}")
        if hasattr(found, "run"):  # else it has commands of its own
            command.set_defaults(run=found.run)
        found.add_arguments(command)

    return fill


def _failed(message: str, code: int = 1, before: str = "") -> int:
    """Say what is wrong on one line."""
    with contextlib.suppress(OSError):
        print(f"{before}vectordb: {' '.join(message.splitlines())}", file=sys.stderr)
    return code


def _drop_stdout() -> None:
    """Python flushes stdout once more when it exits, and would complain again."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
