"""Checks every invariant of a directory. Each problem is a line that says where it is. Nothing is changed, and writers may continue.

walker.py the list of problems · catalog.py the catalog and the kinds of keys · collection.py one collection: its records ·
chunks.py each chunk by itself · rows.py rows against what is derived from them · attributes.py values of attributes · ids.py the id map.
Vectors are checked by the field types, which the caller passes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .. import place, segments
from ..lmdb_env import Env
from ..reader import read_only
from .catalog import check_directory
from .walker import IntegrityReport, Lookout, Overtaken, Walker

__all__ = ["IntegrityReport", "Overtaken", "check_closed", "check_open"]


def check_closed(path: str | os.PathLike, types: Mapping[str, Any], untouched: bool = False) -> IntegrityReport:
    """Check a directory that no process has open. It creates no files and makes writers wait.

    types: kind → type, of vector fields (``fields.FIELD_TYPES``). untouched: nobody writes to the directory, so nobody is looked out for.
    Raises Overtaken if a process has or opens the directory; StorageError, CorruptionError or FormatVersionError if it can't be read.
    """
    where = place.resolved(path)
    lookout = None if untouched else Lookout(where)
    if lookout is not None:
        lookout.check()
    with read_only(where, alone=untouched) as (txn, survey):
        return check_directory(Walker(txn, segments.folder(where), lookout), os.fspath(path), survey.problem, types)


def check_open(env: Env, path: str | os.PathLike, types: Mapping[str, Any]) -> IntegrityReport:
    """Check an open directory, as one more LMDB reader."""
    survey = env.survey()  # first of all: damaged trees must not be read
    with env.read() as txn:
        return check_directory(Walker(txn, segments.folder(env.path)), os.fspath(path), survey.problem, types)
