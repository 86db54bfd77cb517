"""Who may read what is made here: modes of new files and folders. The umask is taken off on top; files that are there keep theirs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ..errors import InvalidArgumentError, shown

PRIVATE = 0o600  # nobody but the owner


def check_mode(mode: Any, field: str = "file_mode") -> int:
    """A mode of new files, such as 0o640. Raises InvalidArgumentError."""
    if isinstance(mode, bool) or not isinstance(mode, int) or mode & ~0o666 or mode & 0o600 != 0o600:
        said = oct(mode) if isinstance(mode, int) and not isinstance(mode, bool) else shown(mode)
        raise InvalidArgumentError(
            f"{field} must be a mode from 0o600 to 0o666 that lets the owner read and write, such as 0o600 or 0o640, not {said}",
            field=field,
            value=mode,
        )
    return mode


def parse_mode(text: str, field: str = "file_mode") -> int:
    """A mode written in octal, such as "640". Raises InvalidArgumentError."""
    try:
        return check_mode(int(text, 8), field)
    except ValueError as error:
        if isinstance(error, InvalidArgumentError):
            raise
        raise InvalidArgumentError(
            f"{field} must be a mode in octal, such as 600 or 640, not {shown(text)}", field=field, value=text
        ) from None


def folder_mode(mode: int) -> int:
    """The mode of a folder for files of that mode: who may read them may enter it."""
    return mode | (mode & 0o444) >> 2


def opener(mode: int = PRIVATE) -> Callable[[str, int], int]:
    """For ``open(…, opener=…)``: a file that it makes has this mode."""
    return lambda path, flags: os.open(path, flags, mode)


def create(path: str | os.PathLike, how: str, mode: int = PRIVATE, **options: Any) -> IO[Any]:
    """``open``, with a mode for a file that isn't there yet."""
    return open(path, how, opener=opener(mode), **options)


def make_folder(path: Path, mode: int = PRIVATE) -> None:
    """Make a folder for files of that mode, and the missing ones above it, unless it is there."""
    missing = []
    above = path
    while not above.exists() and above != above.parent:
        missing.append(above)
        above = above.parent
    for folder in reversed(missing):
        folder.mkdir(folder_mode(mode), exist_ok=True)
    if not path.is_dir():
        path.mkdir()  # raises what is the matter


def mode_of(path: str | os.PathLike) -> int | None:
    """The mode of a file that is there, without the right to run it."""
    try:
        return os.stat(path).st_mode & 0o666
    except OSError:
        return None
