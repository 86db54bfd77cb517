"""Read a directory without opening its database, and without changing a file in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import lmdb

from . import format, integrity, locks, place
from .format import Txn
from .lmdb_errors import in_our_words


@contextmanager
def read_only(path: Path, alone: bool = True) -> Iterator[tuple[Txn, integrity.PageReport]]:
    """A read transaction over a directory, and the survey of its data file. Creates and changes no file.

    alone: nobody else writes to the directory, for example a snapshot. Otherwise writers of other processes wait until the end.
    Raises StorageError or one of its subclasses.
    """
    opened, data, reading = None, path / place.DATA, None if alone else locks.WhileReading(path)
    with in_our_words(path):
        if place.is_empty(path):
            place.check_may_begin(path, create=False)
        try:
            if reading is not None:
                reading.take()
            integrity.check_header(data)
            opened = lmdb.open(os.fsencode(path), create=False, readonly=True, lock=False, max_dbs=2)
            survey = integrity.survey(opened, data)
            if survey is None:
                format.check_version(path, None)
            db = opened.open_db(b"data", create=False)
            with opened.begin(db=db, buffers=True) as txn:
                version = format.check_version(path, txn.get(format.FORMAT_KEY))
                yield txn, replace(survey, digested=version >= format.DIGEST_VERSION)
        finally:
            for each in (opened, reading):
                if each is not None:
                    each.close()
