"""The open directories of this process. All handles of a directory share what it owns: the LMDB environment, the open index files, group
commit, maintenance and audits.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vectordb_client.errors import CorruptionError, NotFoundError, StorageError
from vectordb_client.model.aliases import Durability

from ..storage import catalog, place, segments
from ..storage.change_log import Limits
from ..storage.commit import Committer, Work
from ..storage.lmdb_env import Env
from ..storage.lmdb_errors import in_our_words
from .audits import Audits
from .index_files import Files
from .memory import Keeper

_open: list[Directory] = []
_lock = threading.Lock()


@dataclass(frozen=True)
class Options:
    """How a handle opens a directory. ``vectordb.open`` explains each option and has checked it.

    temporary: the data need not survive a crash of the machine, so nothing is synced. change_log: the limits that are given, by name.
    memory: bytes; None leaves the budget as it is.
    """

    durability: Durability = "commit"
    write_timeout: float = 60.0
    create: bool = True
    maintenance: bool = True
    recall_audit: float | None = None
    salvage: bool = False
    read_only: bool = False
    file_mode: int | None = None
    temporary: bool = False
    change_log: Mapping[str, Any] = field(default_factory=dict)
    memory: int | None = None


class Directory:
    """One open directory.

    Attributes:
        path: absolute, links resolved.
        change_log: limits of the change logs, for the writes of this process.
        write_timeout: seconds that writes of maintenance wait for other processes; the first handle has set it.
        maintainer: the ``maintenance.Maintainer`` of the directory. It belongs to a layer above, so a handle brings it; None before that.
        handles, background: numbers of open handles, and of those that want maintenance without being asked.
        learned: what layers above learned from the searches of this process, each under a key of its own.
        closing: the last handle is being closed. ``closed`` is set when that is done.
    """

    def __init__(self, env: Env, write_timeout: float):
        self.env = env
        self.path = env.path
        self.index_files = Files(segments.folder(env.path))
        self.memory = Keeper(self.index_files)
        self.index_files.on_open = self.memory.opened
        self.committer = Committer(env)
        self.audits = Audits()
        self.change_log = Limits()
        self.write_timeout = write_timeout
        self.handles = self.background = 0
        self.closing = False
        self.closed = threading.Event()
        self.maintainer: Any = None
        self.learned: dict[Any, Any] = {}

    def attach(self, maintainer: Callable[[Directory], Any]) -> None:
        """Make the maintainer, unless there is one."""
        if self.maintainer is None:
            self.maintainer = maintainer(self)
            self.index_files.on_loss = self.maintainer.lost

    def write(self, work: Work, durability: Durability = "commit") -> Any:
        """Commit ``work(txn)`` for maintenance; returns its result."""
        return self.committer.run(work, durability, self.write_timeout)

    def name_of(self, number: int) -> str | None:
        """The name of a collection; None if it was dropped."""
        try:
            with self.env.read() as txn:
                return catalog.read_meta(txn, number).name
        except NotFoundError:
            return None


class Handle:
    """One opening of a directory, with its options. read_only: why it can't write, or None."""

    def __init__(self, directory: Directory, options: Options):
        self.directory = directory
        self.read_only = directory.env.read_only or ("it was opened with read_only=True" if options.read_only else None)
        self._options = options
        self._maintains = options.maintenance and not options.salvage and self.read_only is None
        directory.handles += 1
        directory.background += self._maintains
        directory.change_log = replace(directory.change_log, **options.change_log)
        if options.recall_audit is not None:
            directory.audits.share = options.recall_audit
        if options.memory is not None:
            directory.memory.set(options.memory)

    def check_writable(self) -> None:
        """Raises StorageError, CorruptionError or ClosedError if writes are not possible."""
        self._check_read_only()
        self.directory.env.check_writable()

    def _check_read_only(self) -> None:
        if self.read_only is not None:
            path = str(self.directory.path)
            raise StorageError(f"{path} is read-only: {self.read_only}", field="path", value=path)

    def write(self, work: Work, durability: Durability | None = None) -> Any:
        """Commit ``work(txn)`` and return its result; see ``Committer.run``. durability: None is that of the handle."""
        self._check_read_only()
        options = self._options
        return self.directory.committer.run(work, options.durability if durability is None else durability, options.write_timeout)

    def close(self) -> None:
        """Close the handle; call it once. The last one stops maintenance, syncs all writes and closes the directory."""
        directory = self.directory
        with _lock:
            directory.handles -= 1
            directory.background -= self._maintains
            if directory.handles:
                return
            directory.closing = True
        try:
            if directory.maintainer is not None:
                directory.maintainer.stop()
            directory.memory.stop()
            directory.env.close()
        finally:
            with _lock:
                _open.remove(directory)
            directory.closed.set()


def open_directory(path: str | os.PathLike[str], options: Options, maintainer: Callable[[Directory], Any] | None = None) -> Handle:
    """Open a directory, or share it if this process has it open. maintainer: makes the object that maintains it.

    Raises InvalidArgumentError, or StorageError or one of its subclasses.
    """
    where = place.resolved(path)
    with in_our_words(where):
        read_only = place.why_read_only(where, options.read_only)
    while True:
        with _lock:
            directory = _of_path(where)
            if directory is None:
                directory = Directory(_environment(where, options, read_only), options.write_timeout)
                _open.append(directory)
            elif directory.env.damage and not options.salvage:
                raise CorruptionError(directory.env.damage, field="path", value=str(where))
            elif options.file_mode is not None:
                directory.env.file_mode = options.file_mode
            if not directory.closing:
                if maintainer is not None:
                    directory.attach(maintainer)
                return Handle(directory, options)
        directory.closed.wait()


def is_open(path: Path) -> bool:
    """Whether this process has the database of a directory open."""
    with _lock:
        return any(directory.path == path and _usable(directory) for directory in _open)


def _environment(where: Path, options: Options, read_only: str | None) -> Env:
    env = Env(where, options.create and not options.read_only, options.salvage, options.file_mode, read_only, options.temporary)
    with suppress(RuntimeError):  # no thread can be started: then requests to release data.mdb are only seen when the environment is used
        threading.Thread(target=env.watch, name="vectordb-watch", daemon=True).start()
    return env


def _usable(directory: Directory) -> bool:
    env = directory.env
    return env.pid == os.getpid() and (directory.closing or not (env.closed or env.moved()))


def _of_path(where: Path) -> Directory | None:
    """The open directory of a path, or None.

    Raises StorageError if this process has the same files open under another path, or files that no longer belong to this directory: LMDB
    must not open a file twice in one process.
    """
    directory = next((directory for directory in _open if directory.path == where and _usable(directory)), None)
    if directory is not None:
        return directory
    now = place.files(where)
    for other in (directory.env for directory in _open):
        if not other.closed and other.pid == os.getpid() and other.files.share_with(now):
            raise StorageError(f"{where}: {_conflict(where, other, now)}", field="path", value=str(where))
    return None


def _conflict(where: Path, other: Env, now: place.Files) -> str:
    """Why a path can't be opened: ``other``, an environment of this process, has its files open."""
    if other.path != where:
        return f"this process already has it open as {other.path}. Use that path, or, if the directory was moved, close the database first"
    if now.data == other.files.ids.data:
        rescue = "no acknowledged write will be lost"
    else:
        rescue = "it holds the only copy of the data, so save it with snapshot() first"
    return f"{other.files.problem()}, and that database is still open. Close it first; {rescue}"
