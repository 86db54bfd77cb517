"""The LMDB environment of a directory: one a process, one writer at a time, a map that grows, errors with names.

Readers run inside ``read()``: their transaction keeps every page they see from being reused. The map may only move while no
transaction of this process is open, so growing waits for them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb

from ..errors import ClosedError, CorruptionError, FormatVersionError, InvalidArgumentError, LockedError, StorageError, VectorDBError, shown
from ..failpoints import reach
from . import format, integrity

INITIAL_MAP = 1 << 34  # address space, not disk
MAX_READERS = 1022  # LMDB keeps a page-sized table of reader slots; these fill 16 pages
FORKED = "opened before a fork, and LMDB can't follow; start child processes with 'spawn', or open it in the child only"
_open: dict[str, Env] = {}
_open_lock = threading.Lock()


class Env:
    """One open directory. Handles of the same directory in one process share it (LMDB allows one environment a process)."""

    def __init__(self, path: Path, create: bool, salvage: bool = False):
        self.path = path
        self.damage: str | None = None  # what is wrong with the records; only ever set with ``salvage``
        self.users = 0
        self.pid = os.getpid()
        self.map_moves = 0  # addresses taken before a move are void
        self._gate = threading.Condition()
        self._inside = 0  # transactions
        self._growing = False
        self._closed = False
        self._broken: str | None = None
        self._write_lock = threading.Lock()
        self._lmdb = self._lock_file = None
        try:
            self._open(create, salvage)
        except BaseException as error:
            for opened in (self._lmdb, self._lock_file):
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
        integrity.check_header(data)
        self._lmdb = lmdb.open(
            str(path),
            create=create,
            subdir=True,
            map_size=max(INITIAL_MAP, _rounded(2 * data.stat().st_size) if data.exists() else 0),
            max_dbs=2,
            max_readers=MAX_READERS,
            metasync=False,  # commit() syncs the meta page itself when the write asked for it
            readahead=True,
        )
        self._lock_file = open(path / "write.lock", "ab")  # lives as long as the environment
        survey = integrity.survey(self._lmdb, data)  # nothing of the trees is read before
        if survey is not None and not survey.good:
            self._refuse(f"{data} is damaged: its records aren't those that were written; `vectordb check` says more", salvage)
        self._db = self._lmdb.open_db(b"data", create=False) if survey is not None else None
        if self._db is None:
            with self._file_lock(60.0):
                self._initialise()
        with self.read() as txn:
            version = self._check_version(txn.get(format.FORMAT_KEY))
            if version >= format.DIGEST_VERSION and txn.get(format.DIGEST_KEY) is None:
                self._refuse(f"{data} is damaged: the digest of its records is missing", salvage)

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

    def _check_version(self, record: bytes | None) -> int:
        if record is None:
            raise FormatVersionError(
                f"{self.path} holds an LMDB environment that isn't a vectordb directory", field="path", value=str(self.path)
            )
        version = format.unpack_record(record, "format").get("format")
        if version not in range(format.FIRST_VERSION, format.VERSION + 1):
            readable = f"formats {format.FIRST_VERSION} to {format.VERSION}"
            raise FormatVersionError(
                f"{self.path} has format {version}; this version of vectordb reads {readable}", field="format", value=version
            )
        return version

    @contextmanager
    def read(self) -> Iterator[lmdb.Transaction]:
        """A read transaction over buffers; nothing that it shows changes or moves until it ends."""
        txn = self.begin_read()
        try:
            yield txn
        except lmdb.Error as error:
            raise self.translated(error) from error
        finally:
            self.end_read(txn)

    def begin_read(self) -> lmdb.Transaction:
        """``read()`` without the context manager, for the query path. Pair it with ``end_read``."""
        while True:
            moves = self._enter()
            try:
                return self._lmdb.begin(db=self._db, buffers=True)
            except lmdb.MapResizedError:  # another process grew the file past our map
                self._leave()
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

    def _enter(self) -> int:
        """Begin a transaction: from here on the map stays where it is. Returns ``map_moves``."""
        if self.pid != os.getpid():
            self._check_usable()
        with self._gate:
            while self._growing:
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
                if self.damage:
                    raise CorruptionError(f"{self.path} takes no writes: {self.damage}", field="path", value=str(self.path))
                if self._broken:
                    raise StorageError(
                        f"{self.path} refuses writes until it is reopened: {self._broken}", field="path", value=str(self.path)
                    )
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
        self._check_usable()
        return integrity.survey(self._lmdb, self.path / "data.mdb")

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

    def last_transaction(self) -> int:
        """The newest committed transaction, by any process."""
        return self._lmdb.info()["last_txnid"]

    def sync(self) -> None:
        """Make every committed write durable."""
        self._check_usable()
        try:
            self._lmdb.sync(True)
        except lmdb.Error as error:
            self._broken = str(error)
            raise _translated(error, self.path) from error

    def size(self) -> int:
        """Bytes of the data file."""
        return (self.path / "data.mdb").stat().st_size

    def _check_usable(self) -> None:
        if self._closed:
            raise ClosedError(f"{self.path} was closed", field="path", value=str(self.path))
        if self.pid != os.getpid():
            raise ClosedError(f"{self.path} was {FORKED}", field="path", value=str(self.path))

    def close(self) -> None:
        """Sync and unmap once the open transactions have ended."""
        if self.pid != os.getpid():  # the parent's: its locks may be held by threads that don't exist here
            self._closed = True
            return
        with self._gate:
            if self._closed:
                return
            self._closed = True
            while self._inside:
                self._gate.wait()
        with self._write_lock:
            self._lmdb.sync(True)
            self._lmdb.close()
        self._lock_file.close()


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
