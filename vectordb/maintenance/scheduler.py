"""The maintenance thread of an open directory: when it works, and what it does next. A file lock decides which process does the work."""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from vectordb_client.errors import ClosedError, CorruptionError, DeadlineError, NotFoundError, StorageError
from vectordb_client.model.checks import check_flag, check_wait

from ..common import clock
from ..engine.directory import Directory
from ..engine.snapshot import View
from ..index.base import Cancelled, kinds_of
from ..storage import catalog, derived, expiry, locks, modes, segments
from ..storage.store import Store
from . import derive, jobs, migrate, policy, requests
from .backoff import Failures
from .requests import Request, Requests
from .runner import NOTHING_DONE, Runner

log = logging.getLogger("vectordb.maintenance")
WAKE_ROWS = 1_024  # rows written since opening before the thread is started: fewer never need maintenance
LOOK_SECONDS = 0.25  # between two checks of collections that were written to
LOCKED_SECONDS = 2.0  # between two attempts to take the lock while another process has it
REQUEST_SECONDS = 0.05  # the same, if a caller waits
JOIN_SECONDS = 30.0  # for the thread to end after the database was closed

Step = tuple[int, tuple[str, ...], Callable[[], Any]]  # (rank, kind of job, work); a lower rank is more useful


class Maintainer:
    """Maintains one directory. Failed jobs are logged, shown by ``status`` and tried again. They never make a read or write fail."""

    def __init__(self, directory: Directory):
        self._directory = directory
        self._env = directory.env
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._requests = Requests(directory.env, self._condition)
        self._changed: set[int] = set()  # collections to check for work
        self._written: dict[int, int] = {}  # collection → rows written since it was last checked
        self._look_at = 0.0
        self._lost: set[str] = set()  # index files that can't be used; branches of their collections may need them, too
        self._untidy = False  # there may be files that no record names
        self._tidied = False  # whether such files were removed since opening
        self._failures = Failures(directory.env)
        # Used only by the thread:
        self._runner = Runner(directory, self._requests, self._failures, lambda: self._stopping)
        self._quiet_since: dict[int, tuple[int, float]] = {}  # collection → (sequence, monotonic time when it was first seen)

    @property
    def built(self) -> dict[str, dict[str, float]]:
        """Kind of build → number of builds, rows and seconds since the directory was opened."""
        return self._runner.status.built

    @property
    def failures(self) -> int:
        """Number of failed jobs since the directory was opened."""
        return self._failures.count

    # Events

    def wrote(self, number: int, rows: int) -> None:
        """Rows of a collection were written or deleted."""
        if not self._directory.background or number in self._changed:
            return
        if self._thread is None:
            total = self._written[number] = self._written.get(number, 0) + rows
            if total < WAKE_ROWS:
                return
        self._look(number)

    def opened(self, number: int) -> None:
        """A collection was opened: check it if many rows have no index or many dead rows are stored."""
        if not self._directory.background:
            return
        try:
            with self._env.read() as txn:
                _, rows, live = Store(txn, number).state() or (0, 0, 0)
                records, problems = segments.records(txn, number)
                meta = catalog.read_meta(txn, number)
                schema = catalog.schema_of(meta)
                underived = any(
                    spec.derived is not None and (not derived.is_made(txn, number, meta.fields[name]) or meta.fields[name] in meta.deriving)
                    for name, spec in schema.vectors.items()
                ) or bool(meta.migrating)
        except (CorruptionError, NotFoundError):  # the next read of the collection raises it
            return
        covered = {field: sum(record.end - record.first for record in group) for field, group in records.items()}
        indexed = [spec for spec in schema.vectors.values() if kinds_of(spec)]
        least = min(covered.values(), default=0) if len(covered) == len(indexed) else 0
        folder = segments.folder(self._env.path)
        behind = bool(indexed) and rows - least >= min(map(policy.seal_rows, indexed))
        lost = any(not (folder / record.file).exists() for group in records.values() for record in group)
        if behind or underived or lost or problems or rows - live >= max(policy.COMPACT_ROWS, policy.CHUNK_DEAD_SHARE * rows):
            self._look(number)

    def changed(self, number: int) -> None:
        """The schema of a collection changed: its derived fields may need vectors. Or the migration of a field has begun."""
        if self._directory.background:
            self._look(number)

    def dropped(self) -> None:
        """A collection was dropped, so its index files can be removed."""
        if self._directory.background and segments.folder(self._env.path).is_dir():
            self._untidy = True
            self._look(None)

    def lost(self, file: str) -> None:
        """An index file was found to be damaged or stale."""
        number = segments.collection_of(file)
        if self._directory.background and not self._stopping and number is not None:
            self._lost.add(file)
            self._look(number)

    def _look(self, number: int | None) -> None:
        with self._condition:
            if number is not None:
                self._changed.add(number)
            try:
                self._start()
            except RuntimeError as error:  # no thread can be started: that must not fail a write
                log.warning("maintenance of %s can't start: %s", self._env.path, error)
                self._changed.clear()  # the next write tries again
            self._condition.notify_all()

    def _start(self) -> None:
        """Start the thread if it isn't running."""
        if self._thread is None and not self._stopping:
            thread = threading.Thread(target=self._run, name="vectordb-maintenance", daemon=True)
            thread.start()
            self._thread = thread
            atexit.register(self.stop)

    # Calls of users

    def optimize(self, number: int, wait: bool, timeout: float | None) -> dict[str, Any]:
        """See ``Collection.optimize``."""
        check_flag("wait", wait)
        check_wait(timeout)
        request = self._ask(Request(number))
        if not wait:
            return {"done": False, "seconds": 0.0, **NOTHING_DONE}
        return self._requests.answer(request, timeout)

    def fit(self, number: int, name: str, timeout: float | None) -> dict[str, Any]:
        """See ``Collection.fit``."""
        check_wait(timeout)
        return self._requests.answer(self._ask(Request(number, fit=name)), timeout)

    def migrate(self, number: int, name: str, timeout: float | None) -> None:
        """Work on the migration of a field until it is finished or cancelled. Others' requests are served between two pieces of work."""
        check_wait(timeout)
        end = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            left = None if timeout is None else max(end - time.monotonic(), 0.0)
            if left == 0.0 and timeout:
                later = "it goes on in the background" if self._directory.background else "call it again to go on"
                raise DeadlineError(f"migrate isn't done after {timeout:g} s; {later}", field="timeout", value=timeout)
            if self._requests.answer(self._ask(Request(number, migrate=name)), left)["finished"]:
                return

    def purge(self, numbers: Sequence[int], timeout: float | None) -> dict[str, Any]:
        """See ``Collection.purge``."""
        check_wait(timeout)
        patience = requests.PATIENCE_SECONDS if timeout is None else min(timeout, requests.PATIENCE_SECONDS)
        return self._requests.answer(self._ask(Request(None, tuple(numbers), patience)), timeout)

    def _ask(self, request: Request) -> Request:
        """Queue a request, with the thread running. Raises ClosedError, CorruptionError or StorageError."""
        self._check_usable()
        self._env.check_writable()
        self._env.check_in_place()
        with self._condition:
            self._check_usable()
            try:
                self._start()
            except RuntimeError as error:
                raise StorageError(f"maintenance can't start: {error}", field="path", value=str(self._env.path)) from error
            self._requests.add(request)
        return request

    def status(self, number: int) -> dict[str, Any]:
        """state (running, idle, failed, or off: no background maintenance), task, stage, share done (0 … 1), and the last error."""
        job, error = self._runner.status.of(number), self._failures.message(number)
        if job is not None:
            return {"state": "running", **job, "error": error}
        state = "failed" if error else "idle" if self._directory.background else "off"
        return {"state": state, "task": None, "stage": None, "share": None, "error": error}

    def pending(self, view: View) -> int:
        """Number of background jobs that a collection still needs."""
        return policy.pending(view) + len(derive.due(view)) + len(migrate.due(view))

    def stop(self) -> None:
        """End the thread, and cancel a running build. After a fork this does nothing in the child, which has no such thread."""
        if self._env.pid != os.getpid():
            return
        with self._condition:
            self._stopping = True
            thread = self._thread
            self._condition.notify_all()
        atexit.unregister(self.stop)
        if thread is not None and thread is not threading.current_thread():
            thread.join(JOIN_SECONDS)
        self._requests.refuse(self._runner.closed())

    def _check_usable(self) -> None:
        if self._stopping or self._env.pid != os.getpid():
            raise self._runner.closed()

    # The thread

    def _run(self) -> None:
        while self._waited():
            try:
                self._work()
            except ClosedError:
                return
            except Exception as error:
                self._failed((None, "maintenance"), error)
                failure = self._failures.get((None, "maintenance"))
                self._look_at = 0.0 if failure is None else failure.retry_at
                self._requests.refuse(self._runner.to_user_error(error))

    def _waited(self) -> bool:
        """Wait until there is something to do. False: the thread must end."""
        with self._condition:
            while not self._stopping and not self._requests:
                left = self._look_at - time.monotonic()
                if (self._changed or self._untidy) and left <= 0:
                    break
                self._condition.wait(left if self._changed or self._untidy else None)
            self._look_at = time.monotonic() + (REQUEST_SECONDS if self._requests else LOOK_SECONDS)
            return not self._stopping

    def _work(self) -> None:
        env = self._env
        env.check_in_place()  # never create or remove files in the folder of another database
        folder = segments.folder(env.path)
        modes.make_folder(folder, env.file_mode)
        with locks.open_file(folder / ".lock", env.file_mode) as lock:
            self._requests.locked_out = not locks.attempt(lock, locks.ALONE)
            if self._requests.locked_out:  # another process does the work
                with self._condition:
                    pause = REQUEST_SECONDS if self._requests else LOCKED_SECONDS
                    self._look_at = time.monotonic() + pause
                    if self._requests:
                        self._condition.wait_for(lambda: self._stopping, pause)
                return
            self._requests.holding = True
            try:
                if self._untidy or not self._tidied or self._requests:
                    self._untidy, self._tidied = False, True
                    jobs.tidy(env)
                while not self._stopping:
                    request = self._requests.take()
                    if request is not None:
                        self._serve(request)
                    elif not self._background_step():
                        break
            finally:
                self._requests.holding = False
                if not self._changed:
                    self._runner.release_snapshots()
        self._failures.clear((None, "maintenance"))

    def _serve(self, request: Request) -> None:
        """Run a request and answer its caller."""
        problem = None
        try:
            request.result = self._runner.run(request)
        except Exception as error:
            problem = error
        if request.name == "optimize":
            if problem is None or isinstance(problem, (ClosedError, NotFoundError)):
                self._failures.clear((request.number, "optimize"))
            else:
                self._failed((request.number, "optimize"), problem)
        request.finish(None if problem is None else self._runner.to_user_error(problem))

    def _background_step(self) -> bool:
        """Do the most useful job for the collections that changed. False if there is none."""
        steps = []
        self._look_where_lost()
        for number in list(self._changed) if self._directory.background else ():
            self._changed.discard(number)  # first, so that a later write marks the collection again
            try:
                step, again = self._next_step(number)
            except NotFoundError:
                self._forget(number)
                continue
            if step is not None:
                steps.append((*step, number))
            if step is not None or again:
                self._changed.add(number)
        if not steps:
            return False
        _, kind, work, number = min(steps, key=lambda step: step[0])
        self._attempt((number, *kind), work)
        return True

    def _look_where_lost(self) -> None:
        """Check the collections that need an index file that was found to be unusable."""
        files, self._lost = self._lost, set()
        if files:
            with self._env.read() as txn:
                numbers = catalog.names(txn).values()
                self._changed.update(number for number in numbers if files & segments.named_files(txn, [number]))

    def _next_step(self, number: int) -> tuple[Step | None, bool]:
        """(the most useful job of a collection or None, whether to check again soon)."""
        runner, waiting, steps = self._runner, False, list[Step]()
        with runner.pin(number) as view:
            quiet = self._quiet(number, view.sequence)
            if view.snapshot.record_problems:
                steps.append((-1, ("repair",), lambda: runner.repair(number)))
            if view.schema.ttl is not None and expiry.due(view.txn, number, clock.now())[0]:
                steps.append((-1, ("expire",), lambda: runner.expire(number)))
            for name in derive.due(view):
                steps.append((-1, ("derive", name), lambda name=name: runner.derive(number, name)))
            for name, field, spec in policy.indexed(view):
                best = policy.next_build(name, field, spec, policy.survey(view, field), quiet)
                if best is not None:
                    rank, task = best
                    steps.append((rank, (task.kind, name), lambda task=task: runner.build(number, task, gives_way=True)))
            for name in migrate.due(view):
                steps.append((8, ("migrate", name), lambda name=name: runner.migrate(number, name)))
            before, waiting = runner.not_worth(number)
            dead = policy.worth_compacting(view, before, quiet)
            if dead is not None:
                steps.append((9, ("compact",), lambda: runner.compact_or_remember(number, dead)))
        ready = []
        for step in steps:
            failure = self._failures.get((number, *step[1]))
            if failure is not None and failure.final_at == view.sequence:
                continue
            if failure is None or failure.retry_at <= time.monotonic():
                ready.append(step)
            else:
                waiting = True
        return min(ready, key=lambda step: step[0], default=None), waiting or not quiet

    def _quiet(self, number: int, sequence: int) -> bool:
        """Whether no process has written to the collection for ``QUIET_SECONDS``."""
        now = time.monotonic()
        last = self._quiet_since.get(number)
        if last is None or last[0] != sequence:
            self._quiet_since[number] = (sequence, now)
            return policy.QUIET_SECONDS <= 0
        return now - last[1] >= policy.QUIET_SECONDS

    def _attempt(self, key: tuple, work: Callable[[], Any]) -> None:
        try:
            work()
        except ClosedError:
            raise
        except Exception as error:
            gave_way = isinstance(error, Cancelled) and self._requests
            if not self._stopping and not gave_way:
                self._failed(key, error)
            return
        self._failures.clear(key)

    def _failed(self, key: tuple, error: Exception) -> None:
        sequence, _ = self._quiet_since.get(key[0], (None, None))
        if self._failures.record(key, error, sequence):
            self._untidy = True

    def _forget(self, number: int) -> None:
        """Forget a collection that was dropped."""
        self._changed.discard(number)
        self._quiet_since.pop(number, None)
        self._written.pop(number, None)
        self._runner.forget(number)
        self._failures.forget(number)
