"""The LMDB environment of a directory: one per process, one writer at a time, a memory map that grows.

Readers run inside ``read()``: LMDB does not reuse a page while a transaction may read it. The map may only move while no transaction of
this process is open, so growing it waits for them to end. ``place`` checks that the path still leads to the opened files, ``locks`` has the
locks between processes, and ``rewrite`` replaces data.mdb by a new file.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import lmdb
from vectordb_client.errors import ClosedError, CorruptionError, FormatVersionError, LockedError, StorageError, VectorDBError
from vectordb_client.model.checks import check_durability

from ..common.deadline import Deadline
from ..common.failpoints import reach
from . import format, integrity, locks, modes, place
from .change_log import Limits
from .gate import Gate
from .lmdb_errors import FORKED, MAX_READERS, in_our_words, translated
from .rewrite import Rewrite, write_anew

log = logging.getLogger("vectordb.storage")
INITIAL_MAP = 1 << 34  # address space, not disk
OPEN_SECONDS = 60.0  # waiting for another process that is replacing data.mdb
MAKE_SECONDS = 2.0  # waiting for another process that has opened an empty directory and is about to create LMDB's files
WATCH_SECONDS = 0.5  # between two checks whether another process asks for data.mdb to be released

_UNSET: Any = None  # the value of attributes before ``_open`` sets them


class Env:
    """One open directory. All handles of it in one process share it, because LMDB allows one environment per file and process."""

    def __init__(
        self,
        path: Path,
        create: bool = True,
        salvage: bool = False,
        file_mode: int | None = None,
        read_only: str | None = None,
        temporary: bool = False,
    ):
        self.path = path  # absolute, links resolved
        self.read_only = read_only  # why nothing can be written; None: writes are possible
        self.file_mode = file_mode or modes.PRIVATE  # permissions of new files
        self.damage: str | None = None  # what is wrong with the records; only set if opened with ``salvage``
        self._temporary = temporary  # never synced
        self.change_log = Limits()  # the limits that this process's writes apply
        self.users = 0
        self._told = False  # whether the log already says that the files were moved or replaced
        self.pid = os.getpid()
        self.patience = Deadline()  # the deadline of reads that have none of their own: it ends when the directory is closed
        self.folder = -1  # the directory's descriptor
        self._broken: str | None = None
        self._write_lock = threading.Lock()
        self._seen = -1  # the newest transaction that was checked for a request to release data.mdb
        self._ended = threading.Event()
        self._reading = locks.WhileReading(path) if read_only else None
        self.gate = Gate(self._check_usable, self._reading)
        self._lmdb: lmdb.Environment = _UNSET
        self._lock_file: IO[Any] = _UNSET  # stays so if the directory is read-only
        self._open_file: IO[Any] | None = None
        self._rewrite = Rewrite(self)
        try:
            with in_our_words(path):
                self._open(create and not read_only, salvage, file_mode)
        except BaseException:
            self._close_files()
            raise

    def _open(self, create: bool, salvage: bool, file_mode: int | None) -> None:
        path = self.path
        if place.is_empty(path):  # checked before anything is created
            place.check_may_begin(path, create)
        if create:
            try:
                modes.make_folder(path, self.file_mode)
            except FileNotFoundError as error:  # a file system that takes no new folders, such as /proc
                what = f"{path} can't be created: {path.parent} takes no new folders; choose another path"
                raise StorageError(what, field="path", value=str(path)) from error
        self.file_mode = file_mode or modes.mode_of(path / place.DATA) or modes.PRIVATE
        self.folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._home = place.identity(path)
        self._open_file = locks.open_file(path / locks.OPEN, self.file_mode, self.read_only is not None)
        self._share_open_lock()
        if place.is_empty(path):
            place.check_may_begin(path, create)
        with self._kept_from_writers():
            self._map()
            survey = integrity.survey(self._lmdb, path / place.DATA)  # before LMDB follows any page number
            self._db = self._lmdb.open_db(b"data", create=False) if survey is not None else None
        if self.read_only is None:
            self._lock_file = locks.open_file(path / locks.WRITE, self.file_mode)  # open as long as the environment is
        if self._db is None:
            place.check_may_begin(path, create)
            with self.file_lock(60.0):
                self._initialise()
        self._check_records(survey, salvage)
        if self.read_only is None:
            self.share()
            self._rewrite.remove_leftover()

    def _share_open_lock(self) -> None:
        """Take the shared lock that is held while data.mdb is open, or the exclusive one while LMDB's files are still to be created."""
        file, deadline = self._open_file, time.monotonic() + MAKE_SECONDS
        if file is None:  # the directory is read-only and has no lock file, so no process can have opened it for writing
            return
        while True:
            locks.take(file, locks.SHARED, OPEN_SECONDS, f"another process has been rewriting {self.path}", self.path)
            missing = place.DATA if place.is_empty(self.path) else None if (self.path / place.LOCK).exists() else place.LOCK
            if missing is None or self.read_only is not None:
                return
            locks.release(file)  # or two processes that open at the same time would wait for each other
            if locks.attempt(file, locks.ALONE):
                return
            if time.monotonic() >= deadline:
                raise StorageError(
                    f"{self.path}: {missing} was removed or emptied while the database was open, and this or another process still has "
                    "it open. Close it there first; no acknowledged write will be lost",
                    field="path",
                    value=str(self.path),
                )
            time.sleep(0.005)

    def _map(self) -> None:
        data = self.path / place.DATA
        integrity.check_header(data)
        writable = self.read_only is None
        self._lmdb = lmdb.open(
            os.fsencode(self.path),
            create=writable,
            subdir=True,
            map_size=max(INITIAL_MAP, _rounded(2 * data.stat().st_size) if data.exists() else 0),
            max_dbs=2,
            max_readers=MAX_READERS,
            mode=self.file_mode,
            metasync=False,  # commit() syncs the meta page itself when the write asked for it
            sync=not self._temporary,
            readahead=True,
            readonly=not writable,
            lock=writable,
        )
        found = place.files(self.path)
        self._files = found if writable else found._replace(lock=None)

    def _check_records(self, survey: integrity.IntegrityReport | None, salvage: bool) -> None:
        data = self.path / place.DATA
        with self.read() as txn:
            version = check_version(self.path, txn.get(format.FORMAT_KEY))
        if survey is not None:  # checked after the version, because a newer version may compute another digest
            problem = replace(survey, digested=version >= format.DIGEST_VERSION).problem
            if problem is not None:
                self._refuse(f"{data} is damaged: {problem}; run `vectordb check` for details", salvage)

    def _refuse(self, what: str, salvage: bool) -> None:
        """Some records are missing or changed, but every page can be read: raise CorruptionError, or with ``salvage`` note the damage."""
        if not salvage:
            raise CorruptionError(f"{what}; open with salvage=True to read what is left", field="path", value=str(self.path))
        self.damage = what

    @property
    def closed(self) -> bool:
        return self.gate.closed

    @property
    def awaited(self) -> bool:
        """Whether a thread waits for all transactions of this process to end. Long reads should end theirs soon."""
        return self.gate.moving or self.gate.closed

    @property
    def map_moves(self) -> int:
        """How often the map has moved. Addresses from before a move are invalid."""
        return self.gate.moves

    def _has_data(self) -> bool:
        with self._lmdb.begin() as txn:
            return txn.get(b"data") is not None

    def _initialise(self) -> None:
        if self._has_data():  # another process created it in the meantime
            self._db = self._lmdb.open_db(b"data", create=False)
            return
        with self._lmdb.begin(write=True) as txn:
            self._db = self._lmdb.open_db(b"data", txn=txn)
            record = format.FORMAT_KEY, format.CURRENT
            txn.put(*record, db=self._db)
            txn.put(format.DIGEST_KEY, format.pack_digest(integrity.digest_of([record])), db=self._db)
        self._lmdb.sync(True)

    # Are the files still there?

    def check_in_place(self) -> None:
        """Raises StorageError unless the path still leads to the opened files. Call it before changing anything in the directory."""
        with self.gate.entered():
            self._check_in_place()

    def _check_in_place(self) -> None:
        """Costs two calls of stat. Call it within ``gate.entered``, so that data.mdb is not being replaced at the same time."""
        problem = place.problem(self.path, self._files)
        if problem is not None:
            raise self._out_of_place(problem)

    def _out_of_place(self, problem: str) -> StorageError:
        there = place.identity(self.path / place.DATA) == self._files.data
        if there:
            rescue = "close the database and open it again; no acknowledged write is lost"
        else:
            rescue = (
                "if it was moved, open it at its new path; if it was removed or replaced, this open database is the only copy of "
                "the acknowledged writes, so save it with snapshot() before you close it"
            )
        if not self._told:
            self._told = True
            log.error("%s: %s. Writes are refused; %s", self.path, problem, rescue)
        return StorageError(f"{self.path}: {problem}. Writes are refused: {rescue}", field="path", value=str(self.path))

    def moved(self) -> bool:
        """Whether the path no longer leads to the opened files."""
        return place.problem(self.path, self._files) is not None

    def shares_files(self, others: place.Files) -> bool:
        """Whether this environment has one of these files open. LMDB must not open a file twice in one process."""
        return any(file is not None and file in self._files for file in others)

    def _watch_lock_file(self) -> None:
        """Refuse all reads once lock.mdb was replaced: processes that use the new one don't see our readers and may reuse their pages."""
        with self.gate.entered():
            now = place.files(self.path)
            if now.data == self._files.data and now.lock != self._files.lock:
                self.gate.void = self._out_of_place(place.problem(self.path, self._files) or f"{place.LOCK} was replaced").message

    # Transactions

    @contextmanager
    def read(self, nested: bool = False) -> Iterator[lmdb.Transaction]:
        """A read transaction whose values are buffers over the map. They neither change nor move until it ends.

        nested: the caller already has a transaction open. The map can't move before that one ends, so this one does not wait for a pending
        move; it raises StorageError if nothing can be read without the move.
        """
        txn = self.begin_read(nested)
        try:
            yield txn
        except lmdb.Error as error:
            raise self.translated(error) from error
        finally:
            self.end_read(txn)

    def begin_read(self, nested: bool = False) -> lmdb.Transaction:
        """``read()`` without the context manager, for the query path. Call ``end_read`` afterwards."""
        while True:
            moves = self.gate.enter(nested)
            try:
                txn = self._lmdb.begin(db=self._db, buffers=True)
                if txn.id() != self._seen and self._reading is None:
                    self._seen = txn.id()
                    self._rewrite.look(txn)
                return txn
            except lmdb.MapResizedError as error:  # another process made the file larger than our map
                self.gate.leave()
                if nested:
                    raise translated(error, self.path) from error
            except lmdb.Error as error:
                self.gate.leave()
                raise translated(error, self.path) from error
            self._resize(0, moves)

    def end_read(self, txn: lmdb.Transaction) -> None:
        txn.abort()
        self.gate.leave()

    def translated(self, error: lmdb.Error) -> VectorDBError:
        """The VectorDBError that stands for an error of LMDB."""
        return translated(error, self.path)

    def _resize(self, size: int, moves: int) -> None:
        """Grow the map to ``size`` bytes, once all transactions of this process have ended. 0: to the size that another process chose.

        Does nothing if another thread has moved the map since ``map_moves`` was ``moves``.
        """
        if not self.gate.hold_still(unless=moves):
            return
        try:
            self._lmdb.set_mapsize(size)
        except lmdb.Error as error:
            raise translated(error, self.path) from error
        finally:
            self.gate.go_on()

    def write(self, work, durability: str, timeout: float):
        """Run ``work(txn)`` in a write transaction, commit it and return the result. Any error undoes all of it.

        durability: "commit" returns once everything is on disk. "batched" leaves the last page to the next sync: a power loss, but not a
        crash of the process, may undo the last writes. Each write is undone as a whole or kept as a whole.
        Raises LockedError if other writers hold the directory for ``timeout`` seconds.
        """
        check_durability(durability)
        with self.writing(timeout):
            return self._write_growing(work, durability)

    @contextmanager
    def writing(self, timeout: float) -> Iterator[None]:
        """Hold the write lock against all threads and processes. Raises LockedError, and whatever ``check_writable`` raises."""
        self.check_writable()
        if not self._write_lock.acquire(timeout=timeout):
            raise LockedError(f"another thread has been writing to {self.path} for {timeout:g} s", field="path", value=str(self.path))
        try:
            with self.file_lock(timeout):
                self.check_writable()
                yield
        finally:
            self._write_lock.release()

    def _write_growing(self, work, durability: str):
        while True:
            moves = self.gate.enter()
            try:
                return self._written(work, durability)
            except lmdb.MapResizedError:
                size = 0
            except lmdb.MapFullError:
                size = 2 * self._lmdb.info()["map_size"]
            except lmdb.Error as error:
                raise translated(error, self.path) from error
            finally:
                self.gate.leave()
            self._resize(size, moves)

    def _written(self, work, durability: str):
        self._check_in_place()
        txn = self._lmdb.begin(db=self._db, write=True, buffers=True)
        try:
            reach("commit.begun")
            counted = integrity.WriteTransaction(txn)
            result = work(counted)
            reach("commit.changed")
            if counted.changed:
                self._seal(counted)
            reach("commit.digested")
        except BaseException:
            txn.abort()
            raise
        try:
            txn.commit()
            reach("commit.unsynced")
            if durability == "commit":
                self._lmdb.sync(True)
                reach("commit.synced")
        except lmdb.MapFullError:
            raise
        except lmdb.Error as error:
            # After a failed sync it is unknown what is on disk, so all further writes are refused.
            self._broken = str(error)
            raise
        return result

    def _seal(self, txn: integrity.WriteTransaction) -> None:
        """Update the digest of all records. The first write to a directory of an older format also creates the digest and raises the format
        to the newest version.
        """
        stored = txn.get(format.DIGEST_KEY)
        # No digest yet: compute it from all committed records. We hold the write lock, so they do not change.
        counted = integrity.survey(self._lmdb, self.path / place.DATA).counted if stored is None else format.unpack_digest(stored)
        written = bytes(txn.get(format.FORMAT_KEY))
        if written != format.CURRENT and format.unpack_record(written, "format")["format"] < format.VERSION:
            txn.put(format.FORMAT_KEY, format.CURRENT)
        txn.seal(counted)

    def survey(self) -> integrity.IntegrityReport:
        """Walk every page of the data file again. Raises CorruptionError naming the first damaged one."""
        with self.gate.entered(), in_our_words(self.path):
            self._check_in_place()  # the survey opens the file by its path
            return integrity.survey(self._lmdb, self.path / place.DATA)

    # Locks between processes

    def file_lock(self, timeout: float):
        """Context manager that holds the write lock between processes. Raises LockedError after ``timeout`` seconds."""
        return locks.writing(self._lock_file, timeout, self.path)

    def alone(self) -> bool:
        """Try to take the exclusive lock on data.mdb; False if another process has it open. The shared lock is lost either way."""
        return locks.attempt(self._open_file, locks.ALONE)

    def share(self) -> None:
        """Take the shared lock that shows that this process has data.mdb open."""
        if self._open_file is not None:
            locks.wait(self._open_file, locks.SHARED)

    def release(self) -> None:
        """Give up this process's lock on data.mdb."""
        if self._open_file is not None:
            locks.release(self._open_file)

    @contextmanager
    def _kept_from_writers(self) -> Iterator[None]:
        if self._reading is not None:
            self._reading.take()
        try:
            yield
        finally:
            if self._reading is not None:
                self._reading.release()

    # Replacing data.mdb

    def rewrite(self, timeout: float, patience: float) -> None:
        """Copy all records into a new file and replace data.mdb by it. The new file holds nothing that was deleted.

        Writers wait all the time (LockedError after ``timeout`` seconds), readers only during the replacement.
        Every other process is asked to close the old file, which it does at its next transaction or within ``WATCH_SECONDS``. If some have
        not done so after ``patience`` seconds, nothing is changed and LockedError is raised. A crash at any point leaves either the old
        or the new file, complete.
        """
        self._rewrite.run(timeout, patience)

    def room(self) -> int:
        """Size of the map for a copy of all records, bytes."""
        return _rounded(INITIAL_MAP + 2 * self.size())

    def commit(self, work: Callable[[integrity.WriteTransaction], Any], durability: str) -> Any:
        """``write`` for a caller that already holds the write lock."""
        return self._write_growing(work, durability)

    @contextmanager
    def let_go(self) -> Iterator[None]:
        """Close data.mdb for the duration of the block, and open it again afterwards. Call ``gate.hold_still`` first.

        If it can't be opened again, the environment is closed for good.
        """
        self._lmdb.close()
        try:
            yield
        finally:
            self._map_again()

    def _map_again(self) -> None:
        lock = self._files.lock
        try:
            with in_our_words(self.path), self._kept_from_writers():
                if place.identity(self.path) != self._home:
                    raise self._out_of_place("the directory was moved or replaced while data.mdb was being rewritten")
                self._map()
                if self._files.lock != lock:
                    raise self._out_of_place(f"{place.LOCK} was replaced while data.mdb was being rewritten")
                self._db = self._lmdb.open_db(b"data", create=False)
                self._seen = -1
        except BaseException as error:
            self.gate.closed, self.gate.void = True, str(error)
            self._lmdb.close()
            raise

    def watch(self) -> None:
        """Body of a thread: check every ``WATCH_SECONDS`` whether another process asks for data.mdb, even if this one is idle."""
        while not self._ended.wait(WATCH_SECONDS):
            try:
                if self.read_only is not None:
                    self._rewrite.look_at_lock()
                    continue
                self._watch_lock_file()
                if self.newest_transaction() != self._seen:
                    with self.read():  # begin_read checks for a request
                        pass
            except VectorDBError:
                if self.closed:
                    return

    def newest_transaction(self) -> int:
        """``last_transaction`` for a caller without an open transaction."""
        with self.gate.entered():
            return self.last_transaction()

    def copy(self, txn: lmdb.Transaction, descriptor: int, scratch: Path) -> None:
        """Write data.mdb as ``txn`` shows it, without free pages, to an open file at its current position. Raises StorageError.

        scratch: path of a temporary file, used if the data file is damaged so that LMDB's own copy fails. It is removed again.
        """
        try:
            if self.damage is None:
                self._lmdb.copyfd(descriptor, compact=True, txn=txn)
                return
            try:
                write_anew(txn, scratch, self.room())
                with open(scratch, "rb") as file, open(descriptor, "wb", closefd=False) as target:
                    shutil.copyfileobj(file, target)
            finally:
                scratch.unlink(missing_ok=True)
        except lmdb.Error as error:  # of either file
            raise StorageError(f"{self.path}/data.mdb can't be copied: {error}", field="path", value=str(self.path)) from error

    def last_transaction(self) -> int:
        """The number of the newest transaction that any process committed."""
        return self._lmdb.info()["last_txnid"]

    def sync(self) -> None:
        """Make all committed writes durable. Raises StorageError, also if the files were moved or replaced."""
        if self.read_only is not None:
            return
        with self.gate.entered():
            self._check_in_place()
            try:
                self._lmdb.sync(True)
            except lmdb.Error as error:
                self._broken = str(error)
                raise translated(error, self.path) from error

    def size(self) -> int:
        """Bytes of the data file."""
        try:
            return (self.path / place.DATA).stat().st_size
        except OSError:  # the file was moved: ask LMDB, which has it open
            with self.gate.entered():
                return (self._lmdb.info()["last_pgno"] + 1) * self._lmdb.stat()["psize"]

    def facts(self) -> dict[str, int]:
        """readers: reader slots in use, by all processes. used, free: pages of page_bytes bytes. map_bytes: size of the map."""
        with self.read() as txn:
            shape, info = txn.stat(self._db), self._lmdb.info()
        used = shape["branch_pages"] + shape["leaf_pages"] + shape["overflow_pages"]
        free = max(info["last_pgno"] + 1 - used, 0)
        return {
            "readers": info["num_readers"],
            "used": used,
            "free": free,
            "page_bytes": shape["psize"],
            "map_bytes": info["map_size"],
        }

    def _check_usable(self) -> None:
        if self.gate.void is not None:
            raise StorageError(self.gate.void, field="path", value=str(self.path))
        if self.closed:
            raise self._was_closed()
        if self.pid != os.getpid():
            raise ClosedError(f"{self.path} was {FORKED}", field="path", value=str(self.path))

    def _was_closed(self) -> ClosedError:
        return ClosedError(f"{self.path} was closed", field="path", value=str(self.path))

    def check_writable(self) -> None:
        """Raises ClosedError, CorruptionError or StorageError if writes are not possible."""
        self._check_usable()
        if self.read_only is not None:
            raise StorageError(f"{self.path} is read-only: {self.read_only}", field="path", value=str(self.path))
        if self.damage:
            raise CorruptionError(f"{self.path} is damaged, so writes are refused: {self.damage}", field="path", value=str(self.path))
        if self._broken:
            raise StorageError(
                f"{self.path} refuses writes until it is closed and opened again, because a write or sync failed: {self._broken}",
                field="path",
                value=str(self.path),
            )

    def close(self) -> None:
        """Sync and unmap, once the open transactions have ended. Running reads end with ClosedError at their next ``deadline.check()``."""
        again = self._ended.is_set()
        self._ended.set()
        if self.pid != os.getpid():  # opened by the parent process: its locks may be held by threads that don't exist after a fork
            self.gate.closed = True
            return
        if again:
            return
        self.patience.leave(self._was_closed())
        alive = self.gate.close()
        with self._write_lock:
            try:
                if alive and self.read_only is None:
                    self._lmdb.sync(True)
            finally:
                self.release()  # explicitly: a forked child may keep the same file open, and with it the lock
                self._close_files()

    def _close_files(self) -> None:
        for opened in (self._lmdb, self._lock_file, self._open_file, self._reading):
            if opened is not None:
                opened.close()
        if self.folder >= 0:
            os.close(self.folder)
            self.folder = -1


def check_version(path: Path, record: format.Stored | None) -> int:
    if record is None:
        raise FormatVersionError(f"{path} holds an LMDB environment that isn't a vectordb directory", field="path", value=str(path))
    version = format.unpack_record(record, "format").get("format")
    if version not in range(format.FIRST_VERSION, format.VERSION + 1):
        readable = f"formats {format.FIRST_VERSION} to {format.VERSION}"
        raise FormatVersionError(f"{path} has format {version}; this version of vectordb reads {readable}", field="format", value=version)
    return version


def _rounded(size: int) -> int:
    return -(-size // (1 << 20)) * (1 << 20)
