"""The open directories of this process: one LMDB environment per directory, shared by all of its handles."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from weakref import WeakSet

import lmdb
from vectordb_client.errors import CorruptionError, StorageError

from . import format, integrity, locks, place
from .lmdb_env import Env, check_durability, check_version
from .lmdb_errors import in_our_words
from .rewrite import REWRITTEN

__all__ = ["REWRITTEN", "Env", "check_durability", "close_env", "is_open", "open_env", "read_only", "sync_folder"]

_open: dict[Path, Env] = {}
_all: WeakSet[Env] = WeakSet()  # also environments whose directory was replaced since they were opened
_open_lock = threading.Lock()


def open_env(
    path: str | os.PathLike,
    create: bool = True,
    salvage: bool = False,
    file_mode: int | None = None,
    read_only: bool = False,
    temporary: bool = False,
) -> Env:
    """The environment of a directory, opened if this process has not opened it yet. Call ``close_env`` once for each call.

    create: make the directory and an empty database if there is none.
    salvage: open a directory even if records are missing or changed. ``Env.damage`` then describes the damage, and writes are refused.
    file_mode: permissions of new files. None means the mode that an earlier user chose, else that of data.mdb, else 0o600.
    read_only: create and change nothing in the directory.
    temporary: the data need not survive a crash of the machine, so nothing is synced.
    Raises InvalidArgumentError, or StorageError or one of its subclasses.
    """
    where = place.resolved(path)
    with in_our_words(where):
        reason = _read_only_reason(where, read_only)
    with _open_lock:
        env = _usable(where)
        if env is None:
            env = _open[where] = Env(where, create and not read_only, salvage, file_mode, reason, temporary)
            _all.add(env)
            with suppress(
                RuntimeError
            ):  # no thread can be started: then requests to release data.mdb are only seen when the environment is used
                threading.Thread(target=env.watch, name="vectordb-watch", daemon=True).start()
        elif env.damage and not salvage:
            raise CorruptionError(env.damage, field="path", value=str(where))
        elif file_mode is not None:
            env.file_mode = file_mode
        env.users += 1
        return env


def _usable(where: Path) -> Env | None:
    """This process's open environment of a directory, or None.

    Raises StorageError if this process has the same files open under another path, or files that no longer belong to this directory: LMDB
    must not open a file twice in one process.
    """
    here = os.getpid()
    env = _open.get(where)
    if env is not None and not env.closed and env.pid == here and not env.moved():
        return env
    now = place.files(where)
    for other in list(_all):
        if other.closed or other.pid != here or not other.shares_files(now):
            continue
        if other.path != where:
            what = (
                f"this process already has it open as {other.path}. Use that path, or, if the directory was moved, close the database first"
            )
        else:
            problem = place.problem(where, other._files)
            lost = now.data != other._files.data
            rescue = (
                "it holds the only copy of the data, so save it with snapshot() first" if lost else "no acknowledged write will be lost"
            )
            what = f"{problem}, and that database is still open. Close it first; {rescue}"
        raise StorageError(f"{where}: {what}", field="path", value=str(where))
    return None


def _read_only_reason(where: Path, read_only: bool) -> str | None:
    """Why nobody can write to a directory, or None. Raises StorageError for a snapshot unless ``read_only`` is set."""
    if place.is_snapshot(where):
        if not read_only:
            raise StorageError(
                f"{where} is a snapshot, which must not change. To read it, use open(…, read_only=True); to write, make a database "
                f"of it with vectordb.restore({str(where)!r}, …)",
                field="path",
                value=str(where),
            )
        return "it is a snapshot"
    return place.read_only_reason(where)


def close_env(env: Env) -> None:
    with _open_lock:
        env.users -= 1
        if env.users:
            return
        if _open.get(env.path) is env:
            del _open[env.path]
    env.close()


def is_open(path: Path) -> bool:
    """Whether this process has the database of a directory open."""
    with _open_lock:
        env = _open.get(path)
        return env is not None and not env.closed and env.pid == os.getpid() and not env.moved()


@contextmanager
def read_only(path: Path, alone: bool = True) -> Iterator[tuple[lmdb.Transaction, integrity.IntegrityReport]]:
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
                check_version(path, None)
            db = opened.open_db(b"data", create=False)
            with opened.begin(db=db, buffers=True) as txn:
                version = check_version(path, txn.get(format.FORMAT_KEY))
                yield txn, replace(survey, digested=version >= format.DIGEST_VERSION)
        finally:
            for each in (opened, reading):
                if each is not None:
                    each.close()


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that created, renamed and removed files survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
