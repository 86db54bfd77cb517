"""Permissions of new files and folders, and syncing of folders. The umask is subtracted; existing files keep their permissions."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from vectordb_client.errors import InvalidArgumentError, shown

PRIVATE = 0o600  # only the owner may read and write


def check_mode(mode: Any, field: str = "file_mode") -> int:
    """Check permissions for new files, such as 0o640, and return them. Raises InvalidArgumentError."""
    if isinstance(mode, bool) or not isinstance(mode, int) or mode & ~0o666 or mode & 0o600 != 0o600:
        text = oct(mode) if isinstance(mode, int) and not isinstance(mode, bool) else shown(mode)
        raise InvalidArgumentError(
            f"{field} must be between 0o600 and 0o666 and let the owner read and write, such as 0o600 or 0o640, not {text}",
            field=field,
            value=mode,
        )
    return mode


def parse_mode(text: str, field: str = "file_mode") -> int:
    """Permissions from an octal number as text, such as "640". Raises InvalidArgumentError."""
    try:
        return check_mode(int(text, 8), field)
    except ValueError as error:
        if isinstance(error, InvalidArgumentError):
            raise
        raise InvalidArgumentError(
            f"{field} must be an octal number, such as 600 or 640, not {shown(text)}", field=field, value=text
        ) from None


def folder_mode(mode: int) -> int:
    """Permissions of a folder for files with these permissions: whoever may read the files may enter the folder."""
    return mode | (mode & 0o444) >> 2


def opener(mode: int = PRIVATE) -> Callable[[str, int], int]:
    """An ``opener`` for the builtin ``open`` that creates files with these permissions."""
    return lambda path, flags: os.open(path, flags, mode)


def create(path: str | os.PathLike, how: str, mode: int = PRIVATE, **options: Any) -> IO[Any]:
    """The builtin ``open``, with permissions for a file that does not exist yet."""
    return open(path, how, opener=opener(mode), **options)


def make_folder(path: Path, mode: int = PRIVATE) -> None:
    """Create a folder for files with these permissions, and its missing parents. An existing one is left as it is."""
    missing = []
    above = path
    while not above.exists() and above != above.parent:
        missing.append(above)
        above = above.parent
    for folder in reversed(missing):
        folder.mkdir(folder_mode(mode), exist_ok=True)
    if not path.is_dir():
        path.mkdir()  # raises the error that says what is wrong


def mode_of(path: str | os.PathLike) -> int | None:
    """Permissions of a file without the execute bits; None if it does not exist."""
    try:
        return os.stat(path).st_mode & 0o666
    except OSError:
        return None


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that created, renamed and removed files survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
