"""Group commit: writers that would wait for each other share one transaction and its sync."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from vectordb_client.errors import ClosedError, CorruptionError, DeadlineError, StorageError
from vectordb_client.model.checks import check_durability

from ..common import deadline
from .format import Txn
from .lmdb_env import Env

Work = Callable[[Txn], Any]


class _Item:
    __slots__ = ("_deadline", "_work", "done", "durability", "error", "result", "timeout")

    def __init__(self, work: Work, durability: str, timeout: float):
        self._work = work
        self._deadline = deadline.current()
        self.durability = durability
        self.timeout = timeout
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None

    def work(self, txn: Txn) -> Any:
        """Run the work under the deadline of its caller. The thread that runs it may belong to another writer."""
        with deadline.scope(self._deadline):
            return self._work(txn)

    def given_up(self) -> bool:
        """Whether the caller no longer waits. Then the item is finished with an error, and the others of its group continue without it."""
        try:
            with deadline.scope(self._deadline):
                deadline.check()
        except DeadlineError as error:
            self.error, self.done = error, True
        return self.done


class Committer:
    """Runs the work of the writers of a directory in write transactions. The thread whose turn it is commits for all that wait."""

    def __init__(self, env: Env):
        self._env = env
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._waiting: list[_Item] = []

    def run(self, work: Work, durability: str, timeout: float) -> Any:
        """Run ``work(txn)``, commit it, and return its result. ``work`` may run more than once, so it must only read and write ``txn``.

        durability: see ``Env.write``. A group is committed with the strongest one of its members.
        timeout: seconds to wait while another process writes; writers with the same timeout form a group.
        """
        check_durability(durability)
        self._env.check_writable()
        item = _Item(work, durability, timeout)
        with self._lock:
            self._waiting.append(item)
        with self._turn:
            if not item.done:
                with self._lock:
                    group = [each for each in self._waiting if each.timeout == timeout]
                    self._waiting = [each for each in self._waiting if each.timeout != timeout]
                group = [each for each in group if not each.given_up()]
                if group:
                    self._commit(group)
        if item.error is not None:
            raise item.error
        return item.result

    def _commit(self, group: list[_Item]) -> None:
        durability = "commit" if any(item.durability == "commit" for item in group) else "batched"
        try:
            results = self._env.write(lambda txn: [item.work(txn) for item in group], durability, group[0].timeout)
        except BaseException as error:
            if isinstance(error, (StorageError, ClosedError)) and not isinstance(error, CorruptionError):  # not caused by one item
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
