"""The LMDB environment of a directory: one per process, one writer at a time, a memory map that grows.

Readers run inside ``read()``: LMDB does not reuse a page while a transaction may read it. The map may only move while no transaction of
this process is open, so growing it waits for them to end. ``place`` checks that the path still leads to the opened files, ``locks`` has the
locks between processes, ``rewrite`` replaces data.mdb by a new file, and ``copies`` copies it.

Only this package imports lmdb. Layers above name its transactions ``Txn``, and get its errors as VectorDBErrors.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lmdb
from vectordb_client.errors import ClosedError, CorruptionError, LockedError, StorageError, VectorDBError
from vectordb_client.model.checks import check_durability

from ..common.deadline import Deadline
from ..common.failpoints import reach
from . import copies, format, integrity, locks, modes, place
from .format import Txn
from .gate import Gate
from .lmdb_errors import FORKED, MAX_READERS, in_our_words, translated
from .rewrite import Rewrite

INITIAL_MAP = 1 << 34  # address space, not disk
SPARE_TRANSACTIONS = 8  # ended read transactions kept to be begun again, which takes a third of the time of a new one
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
        self.pid = os.getpid()
        self.deadline = Deadline()  # of reads that have none of their own: it ends when the directory is closed
        self.folder = -1  # the directory's descriptor
        self._broken: str | None = None
        self._write_lock = threading.Lock()
        self._seen = -1  # the newest transaction that was checked for a request to release data.mdb
        self._ended = threading.Event()
        self.files = place.OpenedFiles(path)
        self.locks = locks.DirectoryLocks(path, read_only is not None)
        self.gate = Gate(self._check_usable, self.locks.reading)
        self._lmdb: lmdb.Environment = _UNSET
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
        self.locks.open_directory(self.file_mode)
        if place.is_empty(path):
            place.check_may_begin(path, create)
        with self.locks.kept_from_writers():
            self._map()
            survey = integrity.survey(self._lmdb, path / place.DATA)  # before LMDB follows any page number
            self._db = self._lmdb.open_db(b"data", create=False) if survey is not None else None
        if self.read_only is None:
            self.locks.open_write_lock(self.file_mode)
        if self._db is None:
            place.check_may_begin(path, create)
            with self.locks.writing(60.0):
                self._initialise()
        self._check_records(survey, salvage)
        if self.read_only is None:
            self.locks.share()
            self._rewrite.remove_leftover()

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
            max_spare_txns=SPARE_TRANSACTIONS,
        )
        self.files.note(with_lock=writable)

    def _check_records(self, survey: integrity.PageReport | None, salvage: bool) -> None:
        data = self.path / place.DATA
        with self.read() as txn:
            version = format.check_version(self.path, txn.get(format.FORMAT_KEY))
        if survey is not None:  # checked after the version, because a newer version may compute another digest
            problem = replace(survey, digested=version >= format.DIGEST_VERSION).problem
            if problem is not None:  # some records are missing or changed, but every page can be read
                self.damage = f"{data} is damaged: {problem}; run `vectordb check` for details"
                if not salvage:
                    what = f"{self.damage}; open with salvage=True to read what is left"
                    raise CorruptionError(what, field="path", value=str(self.path))

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

    def _initialise(self) -> None:
        with self._lmdb.begin() as txn:
            created = txn.get(b"data") is not None
        if created:  # by another process, in the meantime
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
        with self.gate.entered():  # so that data.mdb is not being replaced at the same time
            self.files.check()

    def moved(self) -> bool:
        """Whether the path no longer leads to the opened files."""
        return self.files.problem() is not None

    def _watch_lock_file(self) -> None:
        """Refuse all reads once lock.mdb was replaced: processes that use the new one don't see our readers and may reuse their pages."""
        with self.gate.entered():
            problem = self.files.lock_problem()
            if problem is not None:
                self.gate.end(self.files.error(problem).message)

    # Transactions

    @contextmanager
    def read(self, nested: bool = False) -> Iterator[Txn]:
        """A read transaction whose values are buffers over the map. They neither change nor move until it ends.

        nested: the caller already has a transaction open. The map can't move before that one ends, so this one does not wait for a pending
        move; it raises StorageError if nothing can be read without the move.
        """
        txn = self.begin_read(nested)
        try:
            yield txn
        except BaseException as error:
            self.end_read(txn, error)
            raise
        self.end_read(txn)

    def begin_read(self, nested: bool = False) -> Txn:
        """``read()`` without the context manager, for the query path. Call ``end_read`` afterwards."""
        while True:
            moves = self.gate.enter(nested)
            try:
                txn = self._lmdb.begin(db=self._db, buffers=True)
                if txn.id() != self._seen and self.locks.reading is None:
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

    def begin_direct(self, newest: int) -> Txn | None:
        """A read transaction of a ``Visitor`` of the gate, if ``newest`` is still the newest transaction; else None. Call its ``abort``."""
        try:
            txn = self._lmdb.begin(db=self._db, buffers=True)
        except lmdb.Error:  # begin_read says what it is
            return None
        if txn.id() == newest == self._seen:
            return txn
        txn.abort()
        return None

    def end_read(self, txn: Txn, error: BaseException | None = None) -> None:
        """End a transaction of ``begin_read``. error: what happened in it; an error of LMDB is raised as a VectorDBError."""
        txn.abort()
        self.gate.leave()
        if isinstance(error, lmdb.Error):
            raise translated(error, self.path) from error

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
            return self.commit(work, durability)

    @contextmanager
    def writing(self, timeout: float) -> Iterator[None]:
        """Hold the write lock against all threads and processes. Raises LockedError, and whatever ``check_writable`` raises."""
        self.check_writable()
        if not self._write_lock.acquire(timeout=timeout):
            raise LockedError(f"another thread has been writing to {self.path} for {timeout:g} s", field="path", value=str(self.path))
        try:
            with self.locks.writing(timeout):
                self.check_writable()
                yield
        finally:
            self._write_lock.release()

    def commit(self, work: Callable[[integrity.WriteTransaction], Any], durability: str) -> Any:
        """``write`` for a caller that already holds the write lock."""
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
        self.files.check()
        txn = self._lmdb.begin(db=self._db, write=True, buffers=True)
        try:
            reach("commit.begun")
            counted = integrity.WriteTransaction(txn)
            result = work(counted)
            reach("commit.changed")
            # No digest yet: compute it from all committed records. We hold the write lock, so they do not change.
            counted.seal(lambda: integrity.survey(self._lmdb, self.path / place.DATA).counted)
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

    def survey(self) -> integrity.PageReport:
        """Walk every page of the data file again. Raises CorruptionError naming the first damaged one."""
        with self.gate.entered(), in_our_words(self.path):
            self.files.check()  # the survey opens the file by its path
            return integrity.survey(self._lmdb, self.path / place.DATA)

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
        lock = self.files.ids.lock
        try:
            with in_our_words(self.path), self.locks.kept_from_writers():
                if place.identity(self.path) != self._home:
                    raise self.files.error("the directory was moved or replaced while data.mdb was being rewritten")
                self._map()
                if self.files.ids.lock != lock:
                    raise self.files.error(f"{place.LOCK} was replaced while data.mdb was being rewritten")
                self._db = self._lmdb.open_db(b"data", create=False)
                self._seen = -1
        except BaseException as error:
            self.gate.end(str(error), closed=True)
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

    def copy(self, txn: Txn, descriptor: int, scratch: Path) -> None:
        """Write data.mdb as ``txn`` shows it, without free pages, to an open file; see ``copies.copy``."""
        copies.copy(self, None if self.damage else self._lmdb, txn, descriptor, scratch)

    def last_transaction(self) -> int:
        """The number of the newest transaction that any process committed."""
        return self._lmdb.info()["last_txnid"]

    def sync(self) -> None:
        """Make all committed writes durable. Raises StorageError, also if the files were moved or replaced."""
        if self.read_only is not None:
            return
        with self.gate.entered():
            self.files.check()
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
        pages = {"used": used, "free": free, "page_bytes": shape["psize"]}
        return {"readers": info["num_readers"], **pages, "map_bytes": info["map_size"]}

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
            what = f"{self.path} refuses writes until it is closed and opened again, because a write or sync failed: {self._broken}"
            raise StorageError(what, field="path", value=str(self.path))

    def close(self) -> None:
        """Sync and unmap, once the open transactions have ended. Running reads end with ClosedError at their next ``deadline.check()``."""
        again = self._ended.is_set()
        self._ended.set()
        if self.pid != os.getpid():  # opened by the parent process: its locks may be held by threads that don't exist after a fork
            self.gate.end(closed=True)
            return
        if again:
            return
        self.deadline.leave(self._was_closed())
        alive = self.gate.close()
        with self._write_lock:
            try:
                if alive and self.read_only is None:
                    self._lmdb.sync(True)
            finally:
                self.locks.release()  # explicitly: a forked child may keep the same file open, and with it the lock
                self._close_files()

    def _close_files(self) -> None:
        if self._lmdb is not None:
            self._lmdb.close()
        self.locks.close()
        if self.folder >= 0:
            os.close(self.folder)
            self.folder = -1


def _rounded(size: int) -> int:
    return -(-size // (1 << 20)) * (1 << 20)
