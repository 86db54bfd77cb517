"""The open directories of this process: one environment each, shared by all who open it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from weakref import WeakSet

import lmdb

from ..errors import CorruptionError, StorageError
from . import format, integrity, locks, place
from .lmdb_env import Env, check_durability, check_version
from .lmdb_errors import in_our_words
from .rewrite import REWRITTEN

__all__ = ["REWRITTEN", "Env", "check_durability", "close_env", "is_open", "open_env", "read_only", "sync_folder"]

_open: dict[Path, Env] = {}
_all: WeakSet[Env] = WeakSet()  # those whose directory was replaced, too
_open_lock = threading.Lock()


def open_env(
    path: str | os.PathLike,
    create: bool = True,
    salvage: bool = False,
    file_mode: int | None = None,
    read_only: bool = False,
    temporary: bool = False,
) -> Env:
    """The process's environment of a directory; call ``close_env`` once for each.

    salvage: open it although records are missing or changed; ``damage`` then says so, and nothing can be written. file_mode: of files that
    are made there; None: as an earlier user said, else that of data.mdb, else 0o600. read_only: nothing is made there.
    temporary: nothing of it needs to outlive a crash of the machine.
    Raises InvalidArgumentError, StorageError and its kin.
    """
    where = place.resolved(path)
    with in_our_words(where):
        reason = _read_only_reason(where, read_only)
    with _open_lock:
        env = _usable(where)
        if env is None:
            env = _open[where] = Env(where, create and not read_only, salvage, file_mode, reason, temporary)
            _all.add(env)
            with suppress(RuntimeError):  # no more threads: then it lets go when it is used
                threading.Thread(target=env.watch, name="vectordb-watch", daemon=True).start()
        elif env.damage and not salvage:
            raise CorruptionError(env.damage, field="path", value=str(where))
        elif file_mode is not None:
            env.file_mode = file_mode
        env.users += 1
        return env


def _usable(where: Path) -> Env | None:
    """The environment that this process has of a directory. Raises StorageError when LMDB has files of it open that are another one's."""
    here = os.getpid()
    env = _open.get(where)
    if env is not None and not env.closed and env.pid == here and not env.moved():
        return env
    now = place.files(where)
    for other in list(_all):
        if other.closed or other.pid != here or not other.shares_files(now):
            continue
        if other.path != where:
            what = f"this process has it open as {other.path}; close that first, if it was moved, or open it by that name"
        else:
            problem = place.problem(where, other._files)
            lost = now.data != other._files.data
            rescue = "it holds the only copy: save that with snapshot() first" if lost else "nothing that it acknowledged is lost then"
            what = f"{problem}, and it is open still. Close it first; {rescue}"
        raise StorageError(f"{where}: {what}", field="path", value=str(where))
    return None


def _read_only_reason(where: Path, read_only: bool) -> str | None:
    """Why nothing can be written to a directory, whoever has it open. Raises StorageError for a snapshot that isn't only to be read."""
    if place.is_snapshot(where):
        if not read_only:
            raise StorageError(
                f"{where} is a snapshot, which must stay as it is: vectordb.restore({str(where)!r}, …) makes a database of it, "
                "open(…, read_only=True) reads it",
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
def read_only(path: Path, alone: bool = True) -> Iterator[tuple[lmdb.Transaction, integrity.Survey]]:
    """A read transaction over a directory, and whether its records are those that were written: makes no file there and changes none.

    alone: nobody writes to it, as to a snapshot; else those who want to are kept waiting. Raises StorageError and its kin.
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
    """Make new, renamed and removed files of a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
