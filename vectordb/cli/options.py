"""Shared by the commands: the parser class, common arguments, and opening the database or service that they name.

Every command on a directory reads ``vectordb COMMAND DIR [COLLECTION] …``; ``--data DIR`` and ``--collection NAME`` mean the same.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vectordb_client.errors import InvalidArgumentError, NotFoundError
from vectordb_client.model.history import check_as_of, check_history

if TYPE_CHECKING:
    from rich.console import Console
    from vectordb_client import Client
    from vectordb_client.model.schema import Schema

    from ..database import Database

KEY_VARIABLE = "VECTORDB_API_KEY"  # not a flag: every user of a machine can see command lines
DIR_HELP = "the database's directory"


class Command(argparse.ArgumentParser):
    """The parser of one command.

    fill: adds the arguments when they are first needed. checks: functions that validate and complete the parsed namespace; they raise
    ArgumentTypeError. Words and flags may be mixed. A wrong command line gives a one-line error and exit code 2.
    """

    def __init__(self, *, about: str = "", fill: Callable[[Command], None] | None = None, **options: Any):
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        if about:
            options.setdefault("description", f"{about[0].upper()}{about[1:]}.")
        super().__init__(**options)
        self._fill, self._mixing = fill, False
        self._given: list[str] = []
        self.checks: list[Callable[[argparse.Namespace], Any]] = []

    def filled(self) -> Command:
        """This parser with all its arguments added."""
        if self._fill is not None:
            fill, self._fill = self._fill, None
            fill(self)
        return self

    def parse_known_args(self, args=None, namespace=None):
        self.filled()
        if self._mixing or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._mixing, self._given = True, [*(sys.argv[1:] if args is None else args)]
        try:
            namespace, rest = self.parse_known_intermixed_args(args, namespace)
            if rest:
                self.error(self._unknown(rest))
            for check in self.checks:
                check(namespace)
        except argparse.ArgumentTypeError as error:
            self.error(str(error))
        finally:
            self._mixing = False
        return namespace, rest

    def too_few(self) -> str:
        """The error text when words are missing."""
        return f"too few arguments: write {self._form()}"

    def _form(self) -> str:
        return (self.usage or self.prog).removesuffix(" [options]") % {"prog": self.prog}

    def _unknown(self, rest: Sequence[str]) -> str:
        for word in rest:
            if word.startswith("-"):
                flag = word.partition("=")[0]
                return f"unknown option {flag}{did_you_mean(flag, self._option_string_actions)}"
        return f"too many arguments: {' '.join(rest)}"

    def error(self, message: str):
        if match := re.match(r"argument (COMMAND|ACTION): invalid choice: '(.*?)'", message):
            kind, word = match[1].lower(), match[2]
            names = [name for action in self._subparsers._group_actions for name in action.choices]  # type: ignore[union-attr]
            message = f"no {kind} {word!r}{did_you_mean(word, names) or ';'} {self.prog} --help lists the {kind}s"
        elif match := re.fullmatch(r"the following arguments are required: (.*)", message):
            address = next(filter(is_address, self._given), "HOST:PORT")
            if self._subparsers is not None:
                message = f"no {match[1].lower()}; {self.prog} --help lists the {match[1].lower()}s"
            elif match[1] == "--target":
                message = f"too few arguments: write {self.prog} --target {address}"
            elif "-" not in match[1]:
                message = self.too_few()
        self.exit(2, f"{self.prog}: {message} ({' '.join(self.format_usage().split())})\n")


def add_word(
    parser: Command, word: str, form: str, flag: str, about: str, required: bool, name: str | None = None, type: Callable[[str], Any] = str
) -> None:
    """A word that a flag may give instead: ``arguments.FLAG`` is its value (None if not required and not given).

    form, name: what the usage line shows for the word and for the flag's value. about: the help.
    """
    parser.add_argument(word, metavar=form, type=type, nargs="?", help=about)
    parser.add_argument(f"--{flag}", metavar=name or form, type=type, help=f"same as {form}")

    def check(arguments: argparse.Namespace) -> None:
        first, second = getattr(arguments, word), getattr(arguments, flag)
        if first is not None and second is not None and first != second:
            raise argparse.ArgumentTypeError(f"{form} is {str(first)!r}, but --{flag} is {str(second)!r}: give only one of them")
        if required and first is None and second is None:
            raise argparse.ArgumentTypeError(parser.too_few())
        setattr(arguments, flag, second if first is None else first)

    parser.checks.append(check)


def add_directory(parser: Command, required: bool = True, about: str = DIR_HELP) -> None:
    """DIR, or ``--data DIR``: ``arguments.data`` is its path (None if not required and not given)."""
    add_word(parser, "directory", "DIR", "data", about, required, type=Path)


def add_collection(parser: Command, required: bool = False, about: str | None = None, ask: bool = True) -> None:
    """COLLECTION, or ``--collection NAME``: ``arguments.collection`` is its name (None if not required and not given).

    ask: check here that a required collection is given.
    """
    about = about or ("the collection" if required else "only this collection (default: all)")
    add_word(parser, "named", "COLLECTION", "collection", about, required and ask, name="NAME")


def add_order(parser: Command, *words: tuple[str, str], rest: str | None = None) -> None:
    """Words fill in order what no flag has set: with ``--data D`` (or ``--target``) the first word is what follows DIR.

    words: (word, flag), by their names in the namespace. rest: a list that takes all further words.
    """

    parser.checks.append(lambda arguments: _reorder(arguments, words, rest))


def _reorder(arguments: argparse.Namespace, words: Sequence[tuple[str, str]], rest: str | None) -> None:
    given = [str(value) for word, _ in words if (value := getattr(arguments, word)) is not None]
    values = {flag: getattr(arguments, flag) for _, flag in words}
    if getattr(arguments, "target", None) is not None:
        values["data"] = values["data"] or arguments.target
    free = [word for word, flag in words if values[flag] is None]
    if rest is not None:
        given += getattr(arguments, rest)
    else:
        for value in values.values():  # a word that repeats what a flag says
            if len(given) > len(free) and str(value) in given:
                given.remove(str(value))
        if len(free) == len(words) or len(given) > len(free):
            return
    taken = dict(zip(free, given, strict=False))
    for word, _ in words:
        value = taken.get(word)
        setattr(arguments, word, Path(value) if value is not None and word == "directory" else value)
    if rest is not None:
        setattr(arguments, rest, given[len(free) :])


def add_service(parser: Command, required: bool = True) -> None:
    """``--target HOST:PORT`` and the TLS flags."""
    about = f"address of a running service; its API key is read from ${KEY_VARIABLE}"
    parser.add_argument("--target", metavar="HOST:PORT", required=required, help=about)
    parser.add_argument("--tls", action="store_true", help="use TLS, with the system's certificate authorities")
    parser.add_argument("--tls-ca", metavar="FILE", type=Path, help="use TLS; PEM file of the certificate authority to trust")
    parser.add_argument("--tls-cert", metavar="FILE", type=Path, help="PEM file of the client certificate, for mutual TLS")
    parser.add_argument("--tls-key", metavar="FILE", type=Path, help="PEM file of the client certificate's key")


def add_place(parser: Command, required: bool = True, rest: tuple[str, str, str] | None = None) -> None:
    """``DIR COLLECTION``, or ``--target HOST:PORT COLLECTION``: a collection of a directory or of a running service.

    ``opened`` opens what was named. required: whether COLLECTION is. rest: a list of further words: (name in the namespace, form, help).
    """
    order = (("directory", "data"), ("named", "collection"))
    if required:
        add_order(parser, *order, rest=rest and rest[0])
    else:  # a single word with --data DIR may be DIR again
        parser.checks.append(lambda arguments: arguments.target is not None and _reorder(arguments, order, None))
    add_directory(parser, required=False)
    add_collection(parser, required=required, ask=False)
    if rest is not None:
        parser.add_argument(rest[0], metavar=rest[1], nargs="*", help=rest[2])
    add_service(parser, required=False)
    form = "COLLECTION" if required else "[COLLECTION]"
    form = f"{form} {rest[1]}…" if rest else form

    def check(arguments: argparse.Namespace) -> None:
        if (arguments.data is None) == (arguments.target is None) or (required and arguments.collection is None):
            few = "" if arguments.data is not None and arguments.target is not None else "too few arguments: "
            raise argparse.ArgumentTypeError(f"{few}write {parser.prog} DIR {form}, or {parser.prog} --target HOST:PORT {form}")

    parser.checks.append(check)


@contextmanager
def opened(arguments: argparse.Namespace, read_only: bool = True) -> Iterator[Database | Client]:
    """The database that ``add_place`` named: a directory, opened without maintenance, or a connection to a service."""
    if arguments.target is None and not arguments.data.exists() and is_address(str(arguments.data)):
        what = f"{arguments.data} is the address of a service, not a directory: write --target {arguments.data}"
        raise NotFoundError(what, field="data", value=str(arguments.data))
    with open_directory(arguments.data, read_only=read_only) if arguments.target is None else connect(arguments) as database:
        yield database


def tls(arguments: argparse.Namespace) -> dict[str, Any]:
    """The TLS arguments of ``Client``."""
    return {"tls": arguments.tls_ca or arguments.tls, "tls_cert": arguments.tls_cert, "tls_key": arguments.tls_key}


def connect(arguments: argparse.Namespace) -> Client:
    """A client of the service that ``--target`` names."""
    from vectordb_client import Client

    return Client(arguments.target, api_key=os.environ.get(KEY_VARIABLE), **tls(arguments))


def open_directory(path: Path, create: bool = False, read_only: bool = False, **more: Any) -> Database:
    """Open a database without background maintenance. more: further arguments of ``vectordb.open``."""
    if not create:
        require_directory(path)
    from ..database import open as open_database

    given: dict[str, Any] = {"maintenance": False, **more}
    return open_database(path, create=create, read_only=read_only, **given)


def add_file_mode(parser: Command) -> None:
    """``--file-mode``: the mode of files that a command creates in a database's directory."""
    parser.add_argument("--file-mode", metavar="MODE", type=_mode, help="mode of new files, octal, minus the umask (default: 600)")


def _mode(text: str) -> int:
    from ..storage.modes import parse_mode

    try:
        return parse_mode(text)
    except InvalidArgumentError as error:
        raise argparse.ArgumentTypeError(error.message) from None


def require_directory(path: Path) -> None:
    """Raises NotFoundError if the directory does not exist: a mistyped path must not become a new database."""
    if not path.is_dir():
        raise no_database(path)


def no_database(path: Path) -> NotFoundError:
    """The error of a path where no database is."""
    if path.exists():
        why = f"{path} is a file; a database is a directory"
    elif is_address(str(path)):
        why = "this is the address of a service, but the command works on a directory"
    else:
        why = "check the path; vectordb serve and vectordb import --create make a new one"
    return NotFoundError(f"no database at {path}: {why}", field="data", value=str(path))


def is_address(text: str) -> bool:
    """Whether a word looks like HOST:PORT."""
    return re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[\w.-]+):\d{1,5}", text) is not None


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """ "; did you mean …?" if one of the names is similar to the word, else nothing."""
    near = difflib.get_close_matches(word, list(names), 1)
    return f"; did you mean {near[0]}?" if near else ""


def check_columns(schema: Schema, columns: Sequence[str] | None, flag: str = "--columns") -> None:
    """Raises InvalidArgumentError if ``--columns``, or another flag, names what isn't an attribute."""
    for name in columns or ():
        if name not in schema.attributes:
            near = did_you_mean(name, schema.attributes)
            columns = ", ".join(schema.attributes) or "none"
            what = f"{flag}: no attribute {name!r}{near or '.'} Attributes: {columns}"
            raise InvalidArgumentError(what, field=flag.strip("-").lower(), value=name)


def counted(number: int, noun: str) -> str:
    """A number and its noun: "1 point", "2,000 points"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def console(stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 1")
    return int(text)


def seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return number


def state(text: str) -> int | str:
    """A state of a collection: a sequence, ISO text of a moment, or a time such as "2h" that has passed since."""
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        passed = check_history("as_of", text.removeprefix("-"))
        return (datetime.now(UTC) - timedelta(seconds=passed)).isoformat()
    except InvalidArgumentError:
        pass
    try:
        found = check_as_of("as_of", text)
        assert found is not None
        return found
    except InvalidArgumentError:
        what = "is not a sequence number, a moment with a time zone such as 2026-11-30T18:00:00Z, or a time ago such as 2h"
        raise argparse.ArgumentTypeError(f"{text!r} {what}") from None


def add_state(parser: Command) -> None:
    """Add --as-of."""
    what = "read the state of this sequence, or of this moment: ISO text, or 2h for two hours ago"
    parser.add_argument("--as-of", metavar="STATE", type=state, help=what)


def names(text: str) -> list[str]:
    """NAME[,NAME…]."""
    columns = [name.strip() for name in text.split(",")]
    if not all(columns):
        raise argparse.ArgumentTypeError(f"{text!r} must read NAME or NAME,NAME")
    return columns


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise argparse.ArgumentTypeError(f"{text!r} must read NAME=VALUE")
    return name, value
