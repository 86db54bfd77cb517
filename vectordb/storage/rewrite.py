"""Replaces data.mdb by a new file while processes have it open: the process that asks, those that release it, and how each reopens it.

LMDB leaves bytes of deleted records in free pages, in gaps of used pages and as separator keys of branch pages. Only a newly written file
is free of them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import lmdb
from vectordb_client.errors import LockedError, StorageError, VectorDBError

from ..common.failpoints import reach
from . import format, integrity, locks, modes, place
from .copies import write_anew
from .lmdb_errors import in_our_words

if TYPE_CHECKING:
    from .lmdb_env import Env

REWRITTEN = "tmp-data.mdb"  # the new file while it is being written
STILL_SECONDS = 0.5  # that new transactions wait for old ones to end, before data.mdb is released


class _BusyError(Exception):
    """A transaction of this process did not end in time."""


class Rewrite:
    """The part of an ``Env`` that replaces data.mdb, or releases it when another process asks for that."""

    def __init__(self, env: Env):
        self._env = env
        self._path = env.path
        self._lock = threading.Lock()
        self._request: bytes | None = None  # the last request that was seen or made

    def _check_no_link(self) -> None:
        """Raises StorageError if data.mdb is a link: the new file would replace the link only, and the old file would keep deleted data."""
        data = self._path / place.DATA
        if data.is_symlink():
            what = f"{data} is a link to {os.readlink(data)}, and deleted data would stay there: replace the link by that file first"
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
                os.chmod(new, mode)  # the permissions of the old file
                reach("purge.rewritten")
                locks.take(swap, locks.ALONE, timeout, f"another process has been rewriting {self._path}", self._path)
                self._swap(patience)
            finally:
                with suppress(FileNotFoundError):  # relative to the opened folder, which may have been moved
                    os.unlink(REWRITTEN, dir_fd=env.folder)

    def remove_leftover(self) -> None:
        """Delete the temporary file of a rewrite that crashed."""
        if (self._path / REWRITTEN).exists():
            with suppress(LockedError), self._env.locks.writing(0.0):  # if the lock is held, that process is still running
                (self._path / REWRITTEN).unlink(missing_ok=True)

    def look_at_lock(self) -> None:
        """For a read-only process, which can't read requests while another one writes: release data.mdb if the swap lock is held."""
        if locks.being_swapped(self._path):
            self._let_go(lambda: locks.being_swapped(self._path))

    def look(self, txn: lmdb.Transaction) -> None:
        """Check a newly committed transaction for another process's request to release data.mdb."""
        request = txn.get(format.REQUEST_KEY)
        if request is None:
            return
        request = bytes(request)
        with self._lock:
            if request == self._request:
                return
            self._request = request  # obey each request once, even if the process that made it has died
        try:  # in another thread, because this one may have a transaction open
            is_open = partial(self._asked_by, request)
            threading.Thread(target=self._let_go, args=(is_open,), name="vectordb-swap", daemon=True).start()
        except RuntimeError:  # no thread can be started: try again at the next transaction
            self._request = None

    # In the process that asks

    @contextmanager
    def _swap_lock(self) -> Iterator:
        with locks.open_file(self._path / locks.SWAP, self._env.file_mode) as swap:
            yield swap

    def _swap(self, patience: float) -> None:
        """Replace the file. The caller holds the write lock and the swap lock, so processes that released data.mdb wait for the end."""
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
            env.locks.share()
            if not swapped:
                self._ask(None)

    def _ask(self, request: bytes | None) -> None:
        """Commit a request to release data.mdb; None withdraws it."""
        self._request = request

        def work(txn: integrity.WriteTransaction) -> None:
            txn.delete(format.REQUEST_KEY) if request is None else txn.put(format.REQUEST_KEY, request)

        self._env.commit(work, "batched")

    def _check_patience(self, deadline: float, patience: float, who: str) -> None:
        """Wait a moment. Raises LockedError once ``deadline`` has passed. who: what still has data.mdb open."""
        if time.monotonic() >= deadline:
            raise LockedError(f"{who} has had {self._path} open for {patience:g} s", field="path", value=str(self._path))
        time.sleep(0.005)

    def _alone(self, deadline: float, patience: float) -> None:
        """Wait until no other process has data.mdb open. Our own lock may be lost for a moment meanwhile: nobody takes the exclusive lock
        without the write lock, which we hold.
        """
        while not self._env.locks.alone():
            self._env.locks.share()
            self._check_patience(deadline, patience, "another process")

    # In a process that is asked

    def _let_go(self, is_open: Callable[[], bool]) -> None:
        """Close data.mdb, wait for its replacement, and open the new file. Waits for long reads of this process without blocking new ones.

        is_open: says whether the request is still open.
        """
        env = self._env
        while is_open():
            try:
                with self._still():
                    if env.closed or env.moved():  # files that were moved can't be reopened by their path
                        return
                    with env.let_go():
                        env.locks.release()
                        swap = locks.open_file(self._path / locks.SWAP, env.file_mode, read_only=env.read_only is not None)
                        if swap is not None:
                            with swap:
                                locks.wait(swap, locks.SHARED)  # until the other process has finished or died
                        env.locks.share()
                    return
            except _BusyError:
                time.sleep(STILL_SECONDS)
            except VectorDBError:  # every later use of the environment raises it
                return

    def _asked_by(self, request: bytes) -> bool:
        try:
            with self._env.read() as txn:
                return txn.get(format.REQUEST_KEY) == request
        except VectorDBError:
            return False

    @contextmanager
    def _still(self) -> Iterator[None]:
        """Inside the block no transaction of this process is open, and the map may move. Raises _BusyError if one does not end soon."""
        if not self._env.gate.hold_still(STILL_SECONDS):
            raise _BusyError
        try:
            yield
        finally:
            self._env.gate.go_on()
