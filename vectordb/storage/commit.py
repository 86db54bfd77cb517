"""Group commit: writers that would wait for each other share one transaction and its sync."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import lmdb
from vectordb_client.errors import ClosedError, DeadlineError, StorageError

from ..common import deadline
from .env import Env, check_durability

Work = Callable[[lmdb.Transaction], Any]


class _Item:
    __slots__ = ("_patience", "_work", "done", "durability", "error", "result")

    def __init__(self, work: Work, durability: str):
        self._work = work
        self._patience = deadline.current()
        self.durability = durability
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None

    def work(self, txn: lmdb.Transaction) -> Any:
        """Run the work under the deadline of its caller. The thread that runs it may belong to another writer."""
        with deadline.scope(self._patience):
            return self._work(txn)

    def given_up(self) -> bool:
        """Whether the caller no longer waits. Then the item is finished with an error, and the others of its group continue without it."""
        try:
            with deadline.scope(self._patience):
                deadline.check()
        except DeadlineError as error:
            self.error, self.done = error, True
        return self.done


class Committer:
    """Runs the work of writers in write transactions. The thread whose turn it is commits for all that wait.

    read_only: why writes are refused; None if they are allowed.
    """

    def __init__(self, env: Env, timeout: float, read_only: str | None = None):
        self._env = env
        self._read_only = read_only
        self._timeout = timeout
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._waiting: list[_Item] = []

    def check_writable(self) -> None:
        """Raises StorageError, CorruptionError or ClosedError if writes are not possible."""
        if self._read_only is not None:
            raise StorageError(f"{self._env.path} is read-only: {self._read_only}", field="path", value=str(self._env.path))
        self._env.check_writable()

    def run(self, work: Work, durability: str) -> Any:
        """Run ``work(txn)``, commit it, and return its result. ``work`` may run more than once, so it must only read and write ``txn``.

        durability: see ``Env.write``. A group is committed with the strongest one of its members.
        """
        check_durability(durability)
        self.check_writable()
        item = _Item(work, durability)
        with self._lock:
            self._waiting.append(item)
        with self._turn:
            if not item.done:
                with self._lock:
                    group, self._waiting = self._waiting, []
                group = [each for each in group if not each.given_up()]
                if group:
                    self._commit(group)
        if item.error is not None:
            raise item.error
        return item.result

    def _commit(self, group: list[_Item]) -> None:
        durability = "commit" if any(item.durability == "commit" for item in group) else "batched"
        try:
            results = self._env.write(lambda txn: [item.work(txn) for item in group], durability, self._timeout)
        except BaseException as error:
            if isinstance(error, (StorageError, ClosedError)):  # not caused by one item, so all of them fail
                for item in group:
                    item.error, item.done = error, True
                return
            if len(group) > 1:  # the transaction was undone: commit each item alone, so that only the faulty one fails
                for item in group:
                    self._commit([item])
                return
            group[0].error, group[0].done = error, True
            return
        for item, result in zip(group, results, strict=True):
            item.result, item.done = result, True
