"""The check of a directory with the field types of this version."""

from __future__ import annotations

import os
from contextlib import suppress

from ..fields import FIELD_TYPES
from ..storage import place
from ..storage.check import IntegrityReport, Overtaken, check_closed, check_open
from .directory import Options, is_open, open_directory


def check(path: str | os.PathLike, untouched: bool = False) -> IntegrityReport:
    """Check every invariant of a directory in one read transaction. Writes nothing. untouched: nobody else writes to the directory.

    If a process has the directory open, the check is one more LMDB reader. Otherwise it creates no files and makes writers wait: so
    if a process opens the directory meanwhile, the check starts again as an LMDB reader.
    Raises StorageError, CorruptionError or FormatVersionError if the directory can't be opened at all.
    """
    where = place.resolved(path)
    if untouched or not is_open(where):
        with suppress(Overtaken):
            return check_closed(path, FIELD_TYPES, untouched)
    handle = open_directory(where, Options(create=False, salvage=True))
    try:
        return check_open(handle.directory.env, path, FIELD_TYPES)
    finally:
        handle.close()
