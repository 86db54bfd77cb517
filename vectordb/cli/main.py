"""The list of commands, the parser, exit codes, and one-line errors.

Exit codes: 0 success; 1 an error, or problems found; 2 a wrong command line; 130 interrupted. Results go to stdout, progress and messages
to stderr. An error is one line on stderr that says what to write instead.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence

from vectordb_client._version import __version__
from vectordb_client.errors import VectorDBError

from ..interrupt import STATUS, ends_soon, exits_soon
from .options import Command

# command → (module, usage or None if it has subcommands, what it does)
COMMANDS = {
    "serve": ("serve", "DIR", "serve a directory over gRPC until Ctrl-C"),
    "demo": ("demo", "[DIR]", "search the docstrings of Python's standard library, embedded and served"),
    "import": ("load", "DIR COLLECTION FILE", "import a JSON-lines, JSON, CSV, Parquet or Arrow file into a collection"),
    "export": ("export", "DIR COLLECTION FILE", "export a collection to a JSON-lines, CSV or Parquet file"),
    "search": ("search", "(DIR | --target HOST:PORT) COLLECTION [TEXT]", "search a collection by text or vectors"),
    "get": ("get", "(DIR | --target HOST:PORT) COLLECTION ID…", "show points by id; exit code 1 if one is missing"),
    "count": ("count", "(DIR | --target HOST:PORT) COLLECTION", "count the points of a collection, or those that match a filter"),
    "aggregate": (
        "aggregate",
        "(DIR | --target HOST:PORT) COLLECTION ATTRIBUTE[=FUNCTION,…]…",
        "compute numbers of the values of attributes",
    ),
    "facets": ("facets", "(DIR | --target HOST:PORT) COLLECTION ATTRIBUTE…", "count the points that have each value of attributes"),
    "inspect": ("inspect", "(DIR | --target HOST:PORT) COLLECTION", "show what the vectors of a dense field are like"),
    "duplicates": ("duplicates", "(DIR | --target HOST:PORT) COLLECTION", "find pairs of points whose vectors are alike"),
    "info": ("info", "(DIR | --target HOST:PORT) [COLLECTION]", "show the collections of a directory or of a running service"),
    "optimize": ("optimize", "DIR [COLLECTION]", "update the indexes of a directory, remove deleted rows, and wait until done"),
    "fit": ("fit", "(DIR | --target HOST:PORT) COLLECTION --field NAME", "fit a derived field to the points, or report how well it does"),
    "migrate": (
        "migrate",
        "(DIR | --target HOST:PORT) COLLECTION FIELD --encoder NAME",
        "bring a dense field to another encoder while searches and writes go on",
    ),
    "drop": ("drop", "(DIR | --target HOST:PORT) COLLECTION", "delete a collection and all its points"),
    "rename": ("rename", "(DIR | --target HOST:PORT) COLLECTION NEW", "give a collection another name"),
    "alias": ("alias", "(DIR | --target HOST:PORT) [COLLECTION ALIAS]", "list aliases of collections, make one, switch it, or drop it"),
    "history": ("history", "(DIR | --target HOST:PORT) COLLECTION [TIME]", "show or set for how long earlier states can be read"),
    "branch": ("branch", "(DIR | --target HOST:PORT) COLLECTION NAME", "make a branch: a copy of a collection that shares its data"),
    "diff": ("diff", "(DIR | --target HOST:PORT) BRANCH", "show which points changed on a branch"),
    "merge": ("merge", "(DIR | --target HOST:PORT) BRANCH", "write what changed on a branch into its original"),
    "terms": (
        "terms",
        "DIR COLLECTION FIELD (--import FILE | --export FILE)",
        "import or export the words that the terms of a sparse field stand for",
    ),
    "check": ("check", "DIR", "verify the checksums and invariants of a directory; exit code 1 if there are problems"),
    "snapshot": ("snapshot", "DIR TO", "take a consistent copy of a directory, also while it is in use"),
    "restore": ("restore", "FROM DIR", "restore a snapshot to a new directory, verifying every checksum and invariant"),
    "purge": ("purge", "DIR [COLLECTION]", "erase deleted and replaced data from every file, and scan the files for leftovers"),
    "keys": ("keys", None, "create, list and revoke the API keys of a service"),
    "top": ("watch", "--target HOST:PORT", "show the live activity of a running service, until Ctrl-C"),
    "health": ("health", "--target HOST:PORT", "check that a running service accepts calls; exit code 1 if it does not"),
    "bench": ("bench", None, "measure recall and speed, against other systems or on your own collection"),
    "completion": ("completion", "(bash | zsh | fish)", "print a completion script for bash, zsh or fish"),
    "warm": ("warm", "", "compile the search kernels ahead of the first search, where they were not installed compiled"),
    "version": ("version", "", "show the versions of vectordb and its dependencies"),
}
_OWN_ENDS = tuple(f"{__package__}.{name}" for name in ("serve", "demo"))  # these handle an interrupt themselves
_EXCERPT = re.compile(r"\n  [^\n]*\n *\^$")  # two lines that show a place in a filter: the "^" would point nowhere in one line
_EPILOG = """\
The database's directory comes first: vectordb COMMAND DIR …; the flag --data DIR means the same. Each command has its own --help;
vectordb help COMMAND shows the same.
Exit codes: 0 success, 1 an error or problems found, 2 a wrong command line, 130 interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # a character that the terminal cannot show must not raise
        words = [*(sys.argv[1:] if argv is None else argv)]
        if not words:
            parser().print_help(sys.stderr)
            return 2
        if words[0] == "help":  # a command's own --help, or the list of commands
            words = [*words[1:], "--help"]
        arguments = parser().parse_args(words)
        with contextlib.nullcontext() if arguments.run.__module__ in _OWN_ENDS else ends_soon():
            code = arguments.run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except VectorDBError as error:
        return _failed(str(error))
    except BrokenPipeError:  # the reader of our output closed the pipe
        _drop_stdout()
        return 1
    except OSError as error:
        if error.filename is None:  # stdout may be on a full disk
            _drop_stdout()
        return _failed(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error))
    except MemoryError:
        return _failed("out of memory")
    except KeyboardInterrupt:
        if argv is None:  # called as the program
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            exits_soon()
        return _failed("interrupted", STATUS, "\n")


def parser() -> Command:
    """The parser of the whole command line. A command's own arguments are added when that command is parsed; see ``parsers``."""
    top = Command(
        prog="vectordb", description="A vector database in a directory: dense, sparse and text search with filters.", epilog=_EPILOG
    )
    top.add_argument("--version", action="version", version=f"vectordb {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (module, form, about) in COMMANDS.items():
        usage = None if form is None else f"vectordb {name} {f'{form} [options]'.strip()}"
        commands.add_parser(name, usage=usage, help=about, about=about, fill=_filler(module))
    return top


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Every command's parser with all its arguments, for tools that describe the command line (reference, shell completion).

    Keys are the commands as written: "info", "keys create". A command with subcommands ("keys") comes before them. A command whose
    package is not installed (``bench``) has no arguments.
    """
    commands: dict[str, argparse.ArgumentParser] = {}

    def add(name: str, command: argparse.ArgumentParser) -> None:
        commands[name] = command
        if isinstance(command, Command):
            with contextlib.suppress(VectorDBError, ImportError):
                command.filled()
        for action in command._actions:
            if isinstance(action, argparse._SubParsersAction):
                for inner, nested in action.choices.items():
                    add(f"{name} {inner}", nested)

    for action in parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                add(name, command)
    return commands


def _filler(module: str) -> Callable[[Command], None]:
    def fill(command: Command) -> None:
        module_ = importlib.import_module(f"{__package__}.{module}")
        if hasattr(module_, "run"):  # else it has subcommands
            command.set_defaults(run=module_.run)
        module_.add_arguments(command)

    return fill


def _failed(message: str, code: int = 1, before: str = "") -> int:
    """Print the error on one line, without the excerpt of a filter; returns the exit code."""
    with contextlib.suppress(OSError):
        message, of_filter = _EXCERPT.subn("", message)
        print(f"{before}vectordb: {'filter, ' * of_filter}{' '.join(message.splitlines())}", file=sys.stderr)
    return code


def _drop_stdout() -> None:
    """Redirect stdout to /dev/null: Python flushes it at exit and would raise again."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
