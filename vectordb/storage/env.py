"""The LMDB environment of a directory: one a process, one writer at a time, a map that grows, errors with names.

Readers run inside ``read()``: their transaction keeps every page they see from being reused. The map may only move while no
transaction of this process is open, so growing waits for them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from ..deadline import Patience
from ..errors import ClosedError, CorruptionError, FormatVersionError, InvalidArgumentError, LockedError, StorageError, VectorDBError, shown
from ..failpoints import reach
from . import format, integrity

INITIAL_MAP = 1 << 34  # address space, not disk
REWRITTEN = "tmp-data.mdb"  # what is to take the place of data.mdb, while it is written
OPEN_SECONDS = 60.0  # to wait for another process that is changing data.mdb for a new file
WATCH_SECONDS = 0.5  # between two looks whether another process waits for data.mdb to be let go
STILL_SECONDS = 0.5  # that new transactions are kept waiting for old ones to end, before data.mdb is let go
REWRITE_BYTES = 64 << 20  # of a transaction that copies
MAX_READERS = 1022  # LMDB keeps a page-sized table of reader slots; these fill 16 pages
FORKED = "opened before a fork, and LMDB can't follow; start child processes with 'spawn', or open it in the child only"
_open: dict[str, Env] = {}
_open_lock = threading.Lock()


class _BusyError(Exception):
    """A transaction of this process hasn't ended in time."""


class Env:
    """One open directory. Handles of the same directory in one process share it (LMDB allows one environment a process)."""

    def __init__(self, path: Path, create: bool, salvage: bool = False):
        self.path = path
        self.damage: str | None = None  # what is wrong with the records; only ever set with ``salvage``
        self.users = 0
        self.pid = os.getpid()
        self.patience = Patience()  # of who reads without one of their own: until the directory is closed
        self.map_moves = 0  # addresses taken before a move are void
        self._gate = threading.Condition()
        self._inside = 0  # transactions
        self._growing = False
        self._closed = False
        self._broken: str | None = None
        self._write_lock = threading.Lock()
        self._seen = -1  # the newest transaction that was looked at for a request to let go
        self._request: bytes | None = None  # the last such request
        self._ended = threading.Event()
        self._lmdb = self._lock_file = self._open_file = None
        try:
            self._open(create, salvage)
        except BaseException as error:
            for opened in (self._lmdb, self._lock_file, self._open_file):
                if opened is not None:
                    opened.close()
            if isinstance(error, (lmdb.Error, OSError)):
                raise _translated(error, path) from error
            raise

    def _open(self, create: bool, salvage: bool) -> None:
        path, data = self.path, self.path / "data.mdb"
        if create:
            path.mkdir(parents=True, exist_ok=True)
        elif path.is_dir() and not data.exists():  # LMDB would make one
            raise FileNotFoundError(data)
        self._open_file = open(path / "open.lock", "ab")
        _flock(self._open_file, fcntl.LOCK_SH, OPEN_SECONDS, path)  # held as long as data.mdb is open
        self._map(create)
        self._lock_file = open(path / "write.lock", "ab")  # lives as long as the environment
        survey = integrity.survey(self._lmdb, data)  # nothing of the trees is read before
        self._db = self._lmdb.open_db(b"data", create=False) if survey is not None else None
        if self._db is None:
            with self._file_lock(60.0):
                self._initialise()
        with self.read() as txn:
            version = _check_version(path, txn.get(format.FORMAT_KEY))
            if version >= format.DIGEST_VERSION and txn.get(format.DIGEST_KEY) is None:
                self._refuse(f"{data} is damaged: the digest of its records is missing", salvage)
        if survey is not None and not survey.good:  # after the version: a newer one may make another digest
            self._refuse(f"{data} is damaged: its records aren't those that were written; `vectordb check` says more", salvage)
        self._remove_leftover()

    def _map(self, create: bool) -> None:
        data = self.path / "data.mdb"
        integrity.check_header(data)
        self._lmdb = lmdb.open(
            str(self.path),
            create=create,
            subdir=True,
            map_size=max(INITIAL_MAP, _rounded(2 * data.stat().st_size) if data.exists() else 0),
            max_dbs=2,
            max_readers=MAX_READERS,
            metasync=False,  # commit() syncs the meta page itself when the write asked for it
            readahead=True,
        )

    def _remove_leftover(self) -> None:
        """Of a process that died while it wrote everything anew."""
        if (self.path / REWRITTEN).exists():
            try:
                with self._file_lock(0.0):
                    (self.path / REWRITTEN).unlink(missing_ok=True)
            except LockedError:  # it is alive
                pass

    def _refuse(self, what: str, salvage: bool) -> None:
        """Records are missing or changed, though every page can be read."""
        if not salvage:
            raise CorruptionError(what, field="path", value=str(self.path))
        self.damage = what

    def _has_data(self) -> bool:
        with self._lmdb.begin() as txn:
            return txn.get(b"data") is not None

    def _initialise(self) -> None:
        if self._has_data():  # another process was first
            self._db = self._lmdb.open_db(b"data", create=False)
            return
        with self._lmdb.begin(write=True) as txn:
            self._db = self._lmdb.open_db(b"data", txn=txn)
            record = format.FORMAT_KEY, format.pack_record({"format": format.VERSION})
            txn.put(*record, db=self._db)
            txn.put(format.DIGEST_KEY, format.pack_digest(integrity.digest_of([record])), db=self._db)
        self._lmdb.sync(True)

    @contextmanager
    def read(self, nested: bool = False) -> Iterator[lmdb.Transaction]:
        """A read transaction over buffers; nothing that it shows changes or moves until it ends.

        nested: whoever waits for this has another one open, so that a map which waits to move mustn't be waited for; StorageError where
        nothing can be read before it has.
        """
        txn = self.begin_read(nested)
        try:
            yield txn
        except lmdb.Error as error:
            raise self.translated(error) from error
        finally:
            self.end_read(txn)

    def begin_read(self, nested: bool = False) -> lmdb.Transaction:
        """``read()`` without the context manager, for the query path. Pair it with ``end_read``."""
        while True:
            moves = self._enter(nested)
            try:
                txn = self._lmdb.begin(db=self._db, buffers=True)
                if txn.id() != self._seen:
                    self._look(txn)
                return txn
            except lmdb.MapResizedError as error:  # another process grew the file past our map
                self._leave()
                if nested:
                    raise _translated(error, self.path) from error
            except lmdb.Error as error:
                self._leave()
                raise _translated(error, self.path) from error
            self._resize(0, moves)

    def end_read(self, txn: lmdb.Transaction) -> None:
        txn.abort()
        self._leave()

    def translated(self, error: lmdb.Error) -> VectorDBError:
        """An error of LMDB in our words."""
        return _translated(error, self.path)

    def _enter(self, nested: bool = False) -> int:
        """Begin a transaction: from here on the map stays where it is. Returns ``map_moves``. nested: as for ``read``."""
        if self.pid != os.getpid():
            self._check_usable()
        with self._gate:
            while self._growing and not (nested and self._inside):  # it doesn't move before they have ended
                self._gate.wait()
            if self._closed:
                self._check_usable()
            self._inside += 1
            return self.map_moves

    def _leave(self) -> None:
        with self._gate:
            self._inside -= 1
            if not self._inside and (self._growing or self._closed):
                self._gate.notify_all()

    def _resize(self, size: int, moves: int) -> None:
        """Grow the map to ``size`` (0: to what another process made it) once this process's transactions have ended.

        Does nothing when somebody else did it since ``map_moves`` was ``moves``.
        """
        with self._gate:
            while self._growing:
                self._gate.wait()
            if self.map_moves != moves:
                return
            self._growing = True
            try:
                while self._inside:
                    self._gate.wait()
                self._lmdb.set_mapsize(size)
                self.map_moves += 1
            except lmdb.Error as error:
                raise _translated(error, self.path) from error
            finally:
                self._growing = False
                self._gate.notify_all()

    def write(self, work, durability: str, timeout: float):
        """Run ``work(txn)`` in a write transaction and commit it; on any error nothing of it is kept. Returns its result.

        durability: "commit" returns after everything is on disk; "batched" leaves the final page to the next sync, so a power loss
        (not a crash of the process) may undo the last writes, never tear them.
        Raises LockedError when another writer holds the directory for ``timeout`` seconds.
        """
        check_durability(durability)
        self._check_usable()
        if not self._write_lock.acquire(timeout=timeout):
            raise LockedError(f"another thread has been writing to {self.path} for {timeout:g} s", field="path", value=str(self.path))
        try:
            with self._file_lock(timeout):
                self._check_usable()
                self._check_whole()
                return self._write_growing(work, durability)
        finally:
            self._write_lock.release()

    def _write_growing(self, work, durability: str):
        while True:
            moves = self._enter()
            try:
                return self._written(work, durability)
            except lmdb.MapResizedError:
                size = 0
            except lmdb.MapFullError:
                size = 2 * self._lmdb.info()["map_size"]
            except lmdb.Error as error:
                raise _translated(error, self.path) from error
            finally:
                self._leave()
            self._resize(size, moves)

    def _written(self, work, durability: str):
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
            # After a failed sync nobody knows what is on disk: refuse to build on it.
            self._broken = str(error)
            raise
        return result

    def _seal(self, txn: integrity.WriteTransaction) -> None:
        """Bring the digest of all records up to date; the first write to a directory of an older format begins it."""
        stored = txn.get(format.DIGEST_KEY)
        if stored is not None:
            before = format.unpack_digest(stored)
        else:
            before = integrity.survey(self._lmdb, self.path / "data.mdb").counted  # what was committed: nobody else writes now
            txn.put(format.FORMAT_KEY, format.pack_record({"format": format.VERSION}))
        txn.seal(before)

    def survey(self) -> integrity.Survey:
        """Walk every page of the data file again. Raises CorruptionError naming the first damaged one."""
        self._enter()  # the file stays where it is
        try:
            return integrity.survey(self._lmdb, self.path / "data.mdb")
        finally:
            self._leave()

    @contextmanager
    def _file_lock(self, timeout: float) -> Iterator[None]:
        """The write lock between processes; unlike LMDB's own it can time out, and it goes with its process."""
        deadline = time.monotonic() + timeout
        pause = 0.0005
        while True:
            try:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise LockedError(
                        f"another process has been writing to {self.path} for {timeout:g} s", field="path", value=str(self.path)
                    ) from None
                time.sleep(pause)
                pause = min(2 * pause, 0.02)
        try:
            yield
        finally:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    # A new file in the place of data.mdb

    def rewrite(self, timeout: float, patience: float) -> None:
        """Write all that there is into a new file and put it in the place of data.mdb: nothing that was deleted is in it.

        LMDB leaves the bytes of deleted records in free pages, in the gaps of used ones and as separators of its branches, so nothing
        less will do. Writers wait all the while (LockedError after ``timeout`` seconds), readers only while the files change places.
        Every other process must let the old file go: it is asked to, and does so at its next transaction or within ``WATCH_SECONDS``.
        LockedError when not all have after ``patience`` seconds, with everything as it was. Killed at any point it leaves the old file
        or the new one, whole.
        """
        self._check_usable()
        if not self._write_lock.acquire(timeout=timeout):
            raise LockedError(f"another thread has been writing to {self.path} for {timeout:g} s", field="path", value=str(self.path))
        new = self.path / REWRITTEN
        try:
            with self._file_lock(timeout), open(self.path / "swap.lock", "ab") as swap:
                self._check_usable()
                self._check_whole()
                try:
                    self._ask(None)  # what somebody who died has asked for isn't written anew
                    self._write_anew(new)
                    reach("purge.rewritten")
                    _flock(swap, fcntl.LOCK_EX, timeout, self.path)
                    self._swap(new, patience)
                finally:
                    new.unlink(missing_ok=True)
        except (lmdb.Error, OSError) as error:
            raise _translated(error, self.path) from error
        finally:
            self._write_lock.release()

    def _write_anew(self, new: Path) -> None:
        new.unlink(missing_ok=True)
        size = _rounded(INITIAL_MAP + 2 * self.size())
        with self.read() as txn, lmdb.open(str(new), subdir=False, lock=False, map_size=size, max_dbs=2) as made:
            db = made.open_db(b"data")
            cursor = txn.cursor()
            more = cursor.first()
            while more:
                items, size = [], 0
                while more and size < REWRITE_BYTES:
                    items.append((bytes(cursor.key()), bytes(cursor.value())))
                    size += len(items[-1][1])
                    more = cursor.next()
                with made.begin(write=True, db=db) as writing:
                    writing.cursor().putmulti(items, append=True)
            made.sync(True)
        shutil.copymode(self.path / "data.mdb", new)

    def _swap(self, new: Path, patience: float) -> None:
        """With the write lock and the swap lock: who lets go can't come back before this is over."""
        deadline = time.monotonic() + patience
        self._ask(os.urandom(16))
        swapped = False
        try:
            self._alone(deadline, patience)
            reach("purge.alone")
            while not swapped:
                try:
                    with self._still():
                        self._lmdb.close()
                        try:
                            os.replace(new, self.path / "data.mdb")
                            swapped = True
                            reach("purge.swapped")
                            sync_folder(self.path)
                        finally:
                            self._map_again()
                except _BusyError:
                    self._check_patience(deadline, patience, "a read of this process")
        finally:
            fcntl.flock(self._open_file, fcntl.LOCK_SH)
            if not swapped:
                self._ask(None)

    def _ask(self, request: bytes | None) -> None:
        """Tell the other processes to let data.mdb go, or take that back."""
        self._request = request
        self._enter()
        try:
            with self._lmdb.begin(db=self._db, write=True, buffers=True) as txn:
                counted = integrity.WriteTransaction(txn)
                counted.delete(format.REQUEST_KEY) if request is None else counted.put(format.REQUEST_KEY, request)
                if counted.changed:
                    self._seal(counted)
        finally:
            self._leave()

    def _check_patience(self, deadline: float, patience: float, who: str) -> None:
        """Wait a little; LockedError when that has been enough."""
        if time.monotonic() >= deadline:
            raise LockedError(f"{who} has had {self.path} open for {patience:g} s", field="path", value=str(self.path))
        time.sleep(0.005)

    def _alone(self, deadline: float, patience: float) -> None:
        """Wait until no other process has data.mdb open. Nobody else asks for this lock without the write lock, so that ours may be given
        up for a moment.
        """
        while True:
            try:
                fcntl.flock(self._open_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                fcntl.flock(self._open_file, fcntl.LOCK_SH)
            self._check_patience(deadline, patience, "another process")

    def watch(self) -> None:
        """Look now and then whether another process waits for data.mdb to be let go, also while this one does nothing else."""
        while not self._ended.wait(WATCH_SECONDS):
            try:
                if self.newest_transaction() != self._seen:
                    with self.read():  # looks
                        pass
            except VectorDBError:
                if self._closed:
                    return

    def newest_transaction(self) -> int:
        """``last_transaction``, for who has no transaction open."""
        self._enter()
        try:
            return self.last_transaction()
        finally:
            self._leave()

    def _look(self, txn: lmdb.Transaction) -> None:
        """Something was committed. It may be the request of another process to let data.mdb go."""
        self._seen = txn.id()
        request = txn.get(format.REQUEST_KEY)
        if request is None:
            return
        request = bytes(request)
        with self._gate:
            if request == self._request:
                return
            self._request = request  # done once, even if the one who asked is dead
        # Not here: this thread may have another transaction open.
        threading.Thread(target=self._let_go, args=(request,), name="vectordb-swap", daemon=True).start()

    def _let_go(self, request: bytes) -> None:
        """Close data.mdb and open what is there then. A long read of this process is waited for, but others aren't kept waiting for it."""
        while self._asked_by(request):
            try:
                with self._still():
                    if self._closed:
                        return
                    self._lmdb.close()
                    fcntl.flock(self._open_file, fcntl.LOCK_UN)
                    with open(self.path / "swap.lock", "ab") as swap:
                        fcntl.flock(swap, fcntl.LOCK_SH)  # until the other one is done, or dead
                    fcntl.flock(self._open_file, fcntl.LOCK_SH)
                    self._map_again()
                    return
            except _BusyError:
                time.sleep(STILL_SECONDS)

    def _asked_by(self, request: bytes) -> bool:
        """Whether the request still stands."""
        try:
            with self.read() as txn:
                return txn.get(format.REQUEST_KEY) == request
        except VectorDBError:
            return False

    def _map_again(self) -> None:
        """Open data.mdb once more. When that fails nothing can be done here any more."""
        try:
            self._map(create=False)
            self._db = self._lmdb.open_db(b"data", create=False)
            self._seen = -1
        except BaseException as error:
            self._closed = True
            if isinstance(error, (lmdb.Error, OSError)):
                raise _translated(error, self.path) from error
            raise

    @contextmanager
    def _still(self) -> Iterator[None]:
        """No transaction of this process is open inside; the map may move. Raises _BusyError when one doesn't end soon."""
        with self._gate:
            while self._growing:
                self._gate.wait()
            self._growing = True
            if not self._gate.wait_for(lambda: not self._inside, STILL_SECONDS):
                self._growing = False
                self._gate.notify_all()
                raise _BusyError
        try:
            yield
        finally:
            with self._gate:
                self.map_moves += 1
                self._growing = False
                self._gate.notify_all()

    def copy(self, txn: lmdb.Transaction, descriptor: int) -> None:
        """Write data.mdb as ``txn`` shows it, without free pages, to a file from where it is. Raises StorageError."""
        try:
            self._lmdb.copyfd(descriptor, compact=True, txn=txn)
        except lmdb.Error as error:  # of either file
            raise StorageError(f"{self.path}/data.mdb can't be copied: {error}", field="path", value=str(self.path)) from error

    def last_transaction(self) -> int:
        """The newest committed transaction, by any process."""
        return self._lmdb.info()["last_txnid"]

    def sync(self) -> None:
        """Make every committed write durable."""
        self._enter()
        try:
            self._lmdb.sync(True)
        except lmdb.Error as error:
            self._broken = str(error)
            raise _translated(error, self.path) from error
        finally:
            self._leave()

    def size(self) -> int:
        """Bytes of the data file."""
        return (self.path / "data.mdb").stat().st_size

    def facts(self) -> dict[str, int]:
        """readers: slots taken, by any process; used and free pages of page_bytes each; map_bytes: address space."""
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
        if self._closed:
            raise ClosedError(f"{self.path} was closed", field="path", value=str(self.path))
        if self.pid != os.getpid():
            raise ClosedError(f"{self.path} was {FORKED}", field="path", value=str(self.path))

    def _check_whole(self) -> None:
        if self.damage:
            raise CorruptionError(f"{self.path} takes no writes: {self.damage}", field="path", value=str(self.path))
        if self._broken:
            raise StorageError(f"{self.path} refuses writes until it is reopened: {self._broken}", field="path", value=str(self.path))

    def close(self) -> None:
        """Sync and unmap once the open transactions have ended; reads are told to, and do at their next ``deadline.check()``."""
        self._ended.set()
        if self.pid != os.getpid():  # the parent's: its locks may be held by threads that don't exist here
            self._closed = True
            return
        with self._gate:
            if self._closed:
                return
            self._closed = True
            self.patience.leave(ClosedError(f"{self.path} was closed", field="path", value=str(self.path)))
            while self._inside or self._growing:
                self._gate.wait()
        with self._write_lock:
            self._lmdb.sync(True)
            self._lmdb.close()
        self._lock_file.close()
        fcntl.flock(self._open_file, fcntl.LOCK_UN)  # a child of a fork may hold the same file
        self._open_file.close()


def open_env(path: str | os.PathLike, create: bool = True, salvage: bool = False) -> Env:
    """The process's environment of a directory; call ``close_env`` once for each.

    salvage: open it although records are missing or changed; ``damage`` then says so, and nothing can be written.
    Raises StorageError and its kin.
    """
    path = Path(path)
    name = str(path.resolve())
    with _open_lock:
        env = _open.get(name)
        if env is None or env._closed or env.pid != os.getpid():
            env = _open[name] = Env(path, create, salvage)
            try:
                threading.Thread(target=env.watch, name="vectordb-watch", daemon=True).start()
            except RuntimeError:  # no more threads: then it lets go when it is used
                pass
        elif env.damage and not salvage:
            raise CorruptionError(env.damage, field="path", value=str(path))
        env.users += 1
        return env


def close_env(env: Env) -> None:
    with _open_lock:
        env.users -= 1
        if env.users:
            return
        name = str(env.path.resolve())
        if _open.get(name) is env:
            del _open[name]
    env.close()


@contextmanager
def read_only(path: Path) -> Iterator[tuple[lmdb.Transaction, integrity.Survey]]:
    """A read transaction over a directory that nobody writes to, such as a snapshot's, and whether its records are those that were written:
    makes no file there and changes none.
    """
    opened, data = None, path / "data.mdb"
    try:
        integrity.check_header(data)
        opened = lmdb.open(str(path), create=False, readonly=True, lock=False, max_dbs=2)
        survey = integrity.survey(opened, data)
        if survey is None:
            _check_version(path, None)
        db = opened.open_db(b"data", create=False)
        with opened.begin(db=db, buffers=True) as txn:
            _check_version(path, txn.get(format.FORMAT_KEY))
            yield txn, survey
    except lmdb.Error as error:
        raise _translated(error, path) from error
    finally:
        if opened is not None:
            opened.close()


def sync_folder(folder: Path) -> None:
    """Make new, renamed and removed files of a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flock(file, kind: int, timeout: float, path: Path) -> None:
    """Lock a file, or raise LockedError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise LockedError(f"another process has been rewriting {path} for {timeout:g} s", field="path", value=str(path)) from None
        time.sleep(0.005)


def _check_version(path: Path, record: bytes | None) -> int:
    if record is None:
        raise FormatVersionError(f"{path} holds an LMDB environment that isn't a vectordb directory", field="path", value=str(path))
    version = format.unpack_record(record, "format").get("format")
    if version not in range(format.FIRST_VERSION, format.VERSION + 1):
        readable = f"formats {format.FIRST_VERSION} to {format.VERSION}"
        raise FormatVersionError(f"{path} has format {version}; this version of vectordb reads {readable}", field="format", value=version)
    return version


def check_durability(durability: str) -> None:
    if durability not in ("commit", "batched"):
        raise InvalidArgumentError(
            f"durability must be 'commit' or 'batched', not {shown(durability)}", field="durability", value=durability
        )


def _rounded(size: int) -> int:
    return -(-size // (1 << 20)) * (1 << 20)


def _full(path: Path) -> bool:
    """LMDB reports a short write, which is what a full disk gives, as an I/O error."""
    try:
        return os.statvfs(path).f_bavail * os.statvfs(path).f_frsize < 1 << 20
    except OSError:
        return False


def _translated(error: Exception, path: Path) -> VectorDBError:
    """LMDB's and the system's errors in our words."""
    where = {"field": "path", "value": str(path)}
    code = getattr(error, "errno", None)
    if isinstance(error, lmdb.DiskError) or code in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"no space left on the disk of {path}", **where)
    if isinstance(error, (lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError)):
        return CorruptionError(f"{path}/data.mdb is damaged or not an LMDB file: {error}", **where)
    if isinstance(error, lmdb.VersionMismatchError):
        return FormatVersionError(f"{path}/data.mdb was written by another version of LMDB: {error}", **where)
    if isinstance(error, lmdb.ReadersFullError):
        return StorageError(f"{path} has more than {MAX_READERS} readers", **where)
    if isinstance(error, FileNotFoundError) or (isinstance(error, lmdb.Error) and "No such file" in str(error)):
        return StorageError(f"{path} doesn't hold a database", **where)
    text = str(error)
    if "already open in this process" in text:
        return ClosedError(f"{path} was {FORKED}", **where)
    if "No space left" in text or (code in (None, errno.EIO) and "Input/output error" in text and _full(path)):
        return StorageError(f"no space left on the disk of {path}", **where)
    return StorageError(f"{path}: {text}", **where)
