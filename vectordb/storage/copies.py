"""Copies of data.mdb as a transaction shows it, without free pages."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb
from vectordb_client.errors import StorageError

from . import modes

if TYPE_CHECKING:
    from .lmdb_env import Env

COPY_BYTES = 64 << 20  # copied per transaction


def copy(env: Env, sound: lmdb.Environment | None, txn: lmdb.Transaction, descriptor: int, scratch: Path) -> None:
    """Write the records that a transaction sees to an open file, at its current position. Raises StorageError.

    sound: what LMDB copies. None if the data file is damaged, so that LMDB's own copy fails: each record is copied then.
    scratch: path of a temporary file for a copy of each record. It is removed again.
    """
    try:
        if sound is not None:
            sound.copyfd(descriptor, compact=True, txn=txn)
            return
        try:
            write_anew(txn, scratch, env.room())
            with open(scratch, "rb") as file, open(descriptor, "wb", closefd=False) as target:
                shutil.copyfileobj(file, target)
        finally:
            scratch.unlink(missing_ok=True)
    except lmdb.Error as error:  # of either file
        raise StorageError(f"{env.path}/data.mdb can't be copied: {error}", field="path", value=str(env.path)) from error


def write_anew(txn: lmdb.Transaction, path: Path, room: int) -> None:
    """Copy all records that a transaction sees into a new file, in key order, and sync it. room: size of its map, bytes."""
    path.unlink(missing_ok=True)
    with lmdb.open(os.fsencode(path), subdir=False, lock=False, map_size=room, max_dbs=2, mode=modes.PRIVATE) as copy:
        db = copy.open_db(b"data")
        cursor = txn.cursor()
        more = cursor.first()
        while more:
            items, size = [], 0
            while more and size < COPY_BYTES:
                items.append((bytes(cursor.key()), bytes(cursor.value())))
                size += len(items[-1][1])
                more = cursor.next()
            with copy.begin(write=True, db=db) as writing:
                writing.cursor().putmulti(items, append=True)
        copy.sync(True)
