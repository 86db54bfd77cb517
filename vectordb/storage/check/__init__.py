"""Checks every invariant of a directory. Each problem is a line that says where it is. Nothing is changed, and writers may continue.

walker.py the list of problems · catalog.py the catalog and the kinds of keys · collection.py one collection: its records ·
chunks.py each chunk by itself · rows.py rows against what is derived from them · attributes.py values of attributes · ids.py the id map.
Vectors are checked by the field types, which the caller passes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import locks, place, segments
from ..env import close_env, is_open, open_env, read_only
from .catalog import check_directory
from .walker import IntegrityReport, Lookout, Overtaken, Walker

__all__ = ["IntegrityReport", "check"]


def check(path: str | os.PathLike, types: Mapping[str, Any], untouched: bool = False) -> IntegrityReport:
    """Check the database of a directory in one read transaction. Writes nothing. types: kind → type, of
    vector fields (``fields.FIELD_TYPES``). untouched: nobody else writes to the directory.

    If a process has the directory open, the check is one more LMDB reader. Otherwise it creates no files and makes writers wait: so
    if a process opens the directory meanwhile, the check starts again as an LMDB reader.
    Raises StorageError, CorruptionError or FormatVersionError if the directory can't be opened at all.
    """
    where = place.resolved(path)
    if untouched:
        return _alone(where, path, types, None)
    if not is_open(where) and not locks.in_use(where):
        with suppress(Overtaken):
            return _alone(where, path, types, Lookout(where))
    env = open_env(where, create=False, salvage=True)
    try:
        survey = env.survey()  # first of all: damaged trees must not be read
        with env.read() as txn:
            return check_directory(Walker(txn, segments.folder(env.path)), os.fspath(path), survey.problem, types)
    finally:
        close_env(env)


def _alone(where: Path, path: str | os.PathLike, types: Mapping[str, Any], lookout: Lookout | None) -> IntegrityReport:
    with read_only(where, alone=lookout is None) as (txn, survey):
        return check_directory(Walker(txn, segments.folder(where), lookout), os.fspath(path), survey.problem, types)
