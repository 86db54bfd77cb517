"""A new file in the place of data.mdb, while processes have it open: who asks for it, who lets go, and how each comes back.

LMDB leaves the bytes of deleted records in free pages, in the gaps of used ones and as separators of its branches, so only a file that
was written anew is free of them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb

from ..errors import LockedError, StorageError, VectorDBError
from ..failpoints import reach
from . import format, integrity, locks, modes, place
from .lmdb_errors import in_our_words

if TYPE_CHECKING:
    from .env import Env

REWRITTEN = "tmp-data.mdb"  # what is to take the place of data.mdb, while it is written
REWRITE_BYTES = 64 << 20  # of a transaction that copies
STILL_SECONDS = 0.5  # that new transactions are kept waiting for old ones to end, before data.mdb is let go


class _BusyError(Exception):
    """A transaction of this process hasn't ended in time."""


class Rewrite:
    """Part of one ``Env``: its share in changing data.mdb for a new file, as the one who asks and as one who is asked."""

    def __init__(self, env: Env):
        self._env = env
        self._path = env.path
        self._lock = threading.Lock()
        self._request: bytes | None = None  # the last one that was seen, or made

    def _check_no_link(self) -> None:
        """Raises StorageError where data.mdb is a link: a new file would take the link's place, and the old one would keep all it holds."""
        data = self._path / place.DATA
        if data.is_symlink():
            what = f"{data} is a link to {os.readlink(data)}, where what was deleted would stay: move that file here, in the link's place"
            raise StorageError(what, field="path", value=str(self._path))

    def run(self, timeout: float, patience: float) -> None:
        """See ``Env.rewrite``."""
        env = self._env
        new = self._path / REWRITTEN
        with env.writing(timeout), in_our_words(self._path), self._swap_lock() as swap:
            env.check_in_place()
            self._check_no_link()
            try:
                mode = modes.mode_of(self._path / place.DATA) or modes.PRIVATE
                with env.read() as txn:
                    write_anew(txn, new, env.room())
                os.chmod(new, mode)  # that of the file whose place it takes
                reach("purge.rewritten")
                locks.take(swap, locks.ALONE, timeout, f"another process has been rewriting {self._path}", self._path)
                self._swap(patience)
            finally:
                with suppress(FileNotFoundError):  # in the folder that was opened, wherever that is now
                    os.unlink(REWRITTEN, dir_fd=env.folder)

    def remove_leftover(self) -> None:
        """Of a process that died while it wrote everything anew."""
        if (self._path / REWRITTEN).exists():
            with suppress(LockedError), self._env.file_lock(0.0):  # else it is alive
                (self._path / REWRITTEN).unlink(missing_ok=True)

    def look_at_lock(self) -> None:
        """For who can't read a request while another process writes: it lets data.mdb go as soon as that one holds the swap lock."""
        if locks.being_swapped(self._path):
            self._let_go(lambda: locks.being_swapped(self._path))

    def look(self, txn: lmdb.Transaction) -> None:
        """Something was committed. It may be the request of another process to let data.mdb go."""
        request = txn.get(format.REQUEST_KEY)
        if request is None:
            return
        request = bytes(request)
        with self._lock:
            if request == self._request:
                return
            self._request = request  # done once, even if the one who asked is dead
        try:  # not here: this thread may have another transaction open
            asked = partial(self._asked_by, request)
            threading.Thread(target=self._let_go, args=(asked,), name="vectordb-swap", daemon=True).start()
        except RuntimeError:  # no more threads: it is looked at again
            self._request = None

    # As the one who asks

    @contextmanager
    def _swap_lock(self) -> Iterator:
        with locks.open_file(self._path / locks.SWAP, self._env.file_mode) as swap:
            yield swap

    def _swap(self, patience: float) -> None:
        """With the write lock and the swap lock: who lets go can't come back before this is over."""
        env = self._env
        deadline = time.monotonic() + patience
        self._ask(os.urandom(16))
        swapped = False
        try:
            self._alone(deadline, patience)
            reach("purge.alone")
            while not swapped:
                try:
                    with self._still(), env.let_go():
                        os.replace(REWRITTEN, place.DATA, src_dir_fd=env.folder, dst_dir_fd=env.folder)
                        swapped = True
                        reach("purge.swapped")
                        os.fsync(env.folder)
                except _BusyError:
                    self._check_patience(deadline, patience, "a read of this process")
        finally:
            env.share()
            if not swapped:
                self._ask(None)

    def _ask(self, request: bytes | None) -> None:
        """Tell the other processes to let data.mdb go, or take that back."""
        self._request = request

        def work(txn: integrity.WriteTransaction) -> None:
            txn.delete(format.REQUEST_KEY) if request is None else txn.put(format.REQUEST_KEY, request)

        self._env.commit(work, "batched")

    def _check_patience(self, deadline: float, patience: float, who: str) -> None:
        """Wait a little; LockedError when that has been enough."""
        if time.monotonic() >= deadline:
            raise LockedError(f"{who} has had {self._path} open for {patience:g} s", field="path", value=str(self._path))
        time.sleep(0.005)

    def _alone(self, deadline: float, patience: float) -> None:
        """Wait until no other process has data.mdb open. Nobody else asks for this lock without the write lock, so that ours may be given
        up for a moment.
        """
        while not self._env.alone():
            self._env.share()
            self._check_patience(deadline, patience, "another process")

    # As one who is asked

    def _let_go(self, asked: Callable[[], bool]) -> None:
        """Close data.mdb and open what is there then. A long read of this process is waited for, but others aren't kept waiting for it.

        asked: whether the request still stands.
        """
        env = self._env
        while asked():
            try:
                with self._still():
                    if env.closed or env.moved():  # files that were moved aren't found again
                        return
                    with env.let_go():
                        env.release()
                        swap = locks.open_file(self._path / locks.SWAP, env.file_mode, read_only=env.read_only is not None)
                        if swap is not None:
                            with swap:
                                locks.wait(swap, locks.SHARED)  # until the other one is done, or dead
                        env.share()
                    return
            except _BusyError:
                time.sleep(STILL_SECONDS)
            except VectorDBError:  # the environment says so to whoever uses it
                return

    def _asked_by(self, request: bytes) -> bool:
        try:
            with self._env.read() as txn:
                return txn.get(format.REQUEST_KEY) == request
        except VectorDBError:
            return False

    @contextmanager
    def _still(self) -> Iterator[None]:
        """No transaction of this process is open inside; the map may move. Raises _BusyError when one doesn't end soon."""
        if not self._env.gate.hold_still(STILL_SECONDS):
            raise _BusyError
        try:
            yield
        finally:
            self._env.gate.go_on()


def write_anew(txn: lmdb.Transaction, path: Path, room: int) -> None:
    """Write all records that a transaction shows into a new file, in order, and sync it. room: address space for it, bytes."""
    path.unlink(missing_ok=True)
    with lmdb.open(os.fsencode(path), subdir=False, lock=False, map_size=room, max_dbs=2, mode=modes.PRIVATE) as made:
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
