"""The maintenance thread of an open directory: it builds indexes and compacts chunks. A file lock decides which process does the work."""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from vectordb_client.errors import (
    ClosedError,
    CorruptionError,
    DeadlineError,
    InvalidArgumentError,
    LockedError,
    NotFoundError,
    StorageError,
    VectorDBError,
    shown,
)
from vectordb_client.model.values import check_wait

from ..common import background, deadline
from ..engine.index_files import files_of
from ..engine.snapshot import Snapshots, View
from ..index.base import Cancelled, Unbuildable, kinds_of
from ..storage import catalog, locks, modes, segments
from ..storage.commit import Committer
from ..storage.env import Env
from ..storage.store import Store
from . import convert, policy
from . import jobs as tasks
from .policy import Build
from .purge import Purge

log = logging.getLogger("vectordb.maintenance")
WAKE_ROWS = 1_024  # rows written since opening before the thread is started: fewer never need maintenance
LOOK_SECONDS = 0.25  # between two checks of collections that were written to
LOCKED_SECONDS = 2.0  # between two attempts to take the lock while another process has it
REQUEST_SECONDS = 0.05  # the same, if a caller waits
BREATH_SECONDS = 0.025  # pause after each transaction of compaction, so that other writers get their turn
RETRY_SECONDS = 1.0  # before a failed job is tried again; doubled each time up to RETRY_SECONDS_MOST
RETRY_SECONDS_MOST = 600.0
PATIENCE_SECONDS = 10.0  # for other processes to release data.mdb before it is replaced
WAIT_SECONDS = 0.1  # between two checks whether the caller still waits
JOIN_SECONDS = 30.0  # for the thread to end after the database was closed
_maintainers: dict[Env, Maintainer] = {}
_lock = threading.Lock()


def attach(env: Env, timeout: float, background: bool) -> Maintainer:
    """The maintainer of an environment. Call ``release`` once for each call. background: do maintenance without being asked."""
    with _lock:
        found = _maintainers.get(env)
        if found is None:
            found = _maintainers[env] = Maintainer(env, timeout)
        found.users += 1
        found.background += background
        return found


class _Request:
    """A call of ``optimize``, or of ``purge`` for some collections."""

    def __init__(self, number: int | None, purged: Sequence[int] = (), patience: float = PATIENCE_SECONDS):
        self.name = "purge" if number is None else "optimize"
        self.number = number
        self.purged = purged
        self.patience = patience
        self.begun = time.monotonic()
        self.started = False  # the lock was taken and the work has begun
        self.done = threading.Event()
        self.result: dict[str, Any] = {}
        self.error: BaseException | None = None

    def finish(self, error: BaseException | None) -> None:
        self.error = error
        self.done.set()


class _Failure:
    """The last failure of a kind of job, and when it is tried again. final_at: the collection's sequence, if the job will fail again until
    the collection changes.
    """

    def __init__(self, message: str, times: int, final_at: int | None = None):
        self.message = message
        self.times = times
        self.final_at = final_at
        self.retry_at = time.monotonic() + min(RETRY_SECONDS * 2 ** (times - 1), RETRY_SECONDS_MOST)


class Maintainer:
    """Maintains one environment. Failed jobs are logged, shown by ``status`` and tried again. They never make a read or write fail."""

    def __init__(self, env: Env, timeout: float):
        self.users = 0
        self.background = 0  # number of users that want background maintenance
        self.built: dict[str, dict[str, float]] = {}  # kind of build → builds, rows and seconds since opening
        self.failures = 0
        self._env = env
        self._committer = Committer(env, timeout)
        self._timeout = timeout
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._requests: deque[_Request] = deque()
        self._changed: set[int] = set()  # collections to check for work
        self._written: dict[int, int] = {}  # collection → rows written since it was last checked
        self._look_at = 0.0
        self._untidy = False  # there may be files that no record names
        self._tidied = False  # whether such files were removed since opening
        self._holding = False  # whether this process holds the maintenance lock
        # Used only by the thread:
        self._snapshots: dict[int, Snapshots] = {}
        self._quiet_since: dict[int, tuple[int, float]] = {}  # collection → (sequence, monotonic time when it was first seen)
        self._not_worth: dict[int, int] = {}  # collection → dead rows stored when no chunk was worth compacting
        self._failures: dict[tuple, _Failure] = {}
        self._now: tuple[int, dict[str, Any]] | None = None  # (collection, the current job)
        files_of(env).on_loss = self.lost

    # Events

    def wrote(self, number: int, rows: int) -> None:
        """Rows of a collection were written or deleted."""
        if not self.background or number in self._changed:
            return
        if self._thread is None:
            total = self._written[number] = self._written.get(number, 0) + rows
            if total < WAKE_ROWS:
                return
        self._look(number)

    def opened(self, number: int) -> None:
        """A collection was opened: check it if many rows have no index or many dead rows are stored."""
        if not self.background:
            return
        try:
            with self._env.read() as txn:
                _, rows, live = Store(txn, number).state() or (0, 0, 0)
                records, problems = segments.records(txn, number)
                schema = catalog.schema_of(catalog.read_meta(txn, number))
        except (CorruptionError, NotFoundError):  # the next read of the collection raises it
            return
        covered = {field: sum(record.end - record.first for record in group) for field, group in records.items()}
        wanted = sum(bool(kinds_of(spec)) for spec in schema.vectors.values())
        least = min(covered.values(), default=0) if len(covered) == wanted else 0
        folder = segments.folder(self._env.path)
        behind = bool(wanted) and rows - least >= policy.SEAL_ROWS
        lost = any(not (folder / record.file).exists() for group in records.values() for record in group)
        if behind or lost or problems or rows - live >= max(policy.COMPACT_ROWS, policy.CHUNK_DEAD_SHARE * rows):
            self._look(number)

    def dropped(self) -> None:
        """A collection was dropped, so its index files can be removed."""
        if self.background and segments.folder(self._env.path).is_dir():
            self._untidy = True
            self._look(None)

    def lost(self, file: str) -> None:
        """An index file was found to be damaged or stale."""
        number = segments.collection_of(file)
        if self.background and not self._stopping and number is not None:
            self._look(number)

    def _look(self, number: int | None) -> None:
        with self._condition:
            if number is not None:
                self._changed.add(number)
            try:
                self._started()
            except RuntimeError as error:  # no thread can be started: that must not fail a write
                log.warning("maintenance of %s can't start: %s", self._env.path, error)
                self._changed.clear()  # the next write tries again
            self._condition.notify_all()

    def _started(self) -> None:
        if self._thread is None and not self._stopping:
            thread = threading.Thread(target=self._run, name="vectordb-maintenance", daemon=True)
            thread.start()
            self._thread = thread
            atexit.register(self._stop)

    # Calls of users

    def optimize(self, number: int, wait: bool, timeout: float | None) -> dict[str, Any]:
        """See ``Collection.optimize``."""
        if not isinstance(wait, bool):
            raise InvalidArgumentError(f"wait must be True or False, not {shown(wait)}", field="wait", value=wait)
        check_wait(timeout)
        request = self._asked(_Request(number))
        if not wait:
            return {"done": False, **_nothing_done()}
        return self._answer(request, timeout)

    def purge(self, numbers: Sequence[int], timeout: float | None) -> dict[str, Any]:
        """See ``Collection.purge``."""
        check_wait(timeout)
        patience = PATIENCE_SECONDS if timeout is None else min(timeout, PATIENCE_SECONDS)
        return self._answer(self._asked(_Request(None, tuple(numbers), patience)), timeout)

    def _asked(self, request: _Request) -> _Request:
        self._check_usable()
        self._env.check_writable()
        self._env.check_in_place()
        with self._condition:
            self._check_usable()
            try:
                self._started()
            except RuntimeError as error:
                raise StorageError(f"maintenance can't start: {error}", field="path", value=str(self._env.path)) from error
            self._requests.append(request)
            self._condition.notify_all()
        return request

    def _answer(self, request: _Request, timeout: float | None) -> dict[str, Any]:
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not request.done.wait(min(max(end - time.monotonic(), 0.0), WAIT_SECONDS)):
            if time.monotonic() >= end:
                self._give_up(request, timeout)
            try:
                deadline.check()
            except VectorDBError:
                self._withdraw(request)
                raise
        if request.error is not None:
            raise request.error
        return {"done": True, **request.result}

    def _withdraw(self, request: _Request) -> bool:
        """Cancel a request whose caller no longer waits, unless it has begun. Returns whether it was cancelled."""
        with self._condition:
            if request.done.is_set() or request.started:
                return False
            self._requests.remove(request)
            return True

    def _give_up(self, request: _Request, timeout: float) -> None:
        """Raise the error of a timeout, unless the request has been finished in the meantime."""
        if not self._withdraw(request):
            if request.done.is_set():
                return
            raise DeadlineError(
                f"{request.name} isn't done after {timeout:g} s; it continues in the background", field="timeout", value=timeout
            )
        where = self._env.path
        if self._holding:
            raise DeadlineError(
                f"{request.name} has not started after {timeout:g} s, because other maintenance is running", field="timeout", value=timeout
            )
        raise LockedError(f"another process has been maintaining {where} for {timeout:g} s", field="path", value=str(where))

    def status(self, number: int) -> dict[str, Any]:
        """state (running, idle, failed, or off: no background maintenance), task, stage, share done (0 … 1), and the last error."""
        now = self._now
        failures = [failure.message for key, failure in list(self._failures.items()) if key[0] in (number, None)]
        error = failures[-1] if failures else None
        if now is not None and now[0] == number:
            return {"state": "running", **now[1], "error": error}
        state = "failed" if error else "idle" if self.background else "off"
        return {"state": state, "task": None, "stage": None, "share": None, "error": error}

    def pending(self, view: View) -> int:
        """Number of background jobs that a collection still needs."""
        return policy.pending(view)

    def release(self, background: bool) -> None:
        """Undo one ``attach``. After the last one the thread ends and a running build is cancelled."""
        if self._env.pid != os.getpid():  # after a fork the thread does not exist here, and locks may never be released
            return
        with _lock:
            self.users -= 1
            self.background -= background
            if self.users:
                return
            _maintainers.pop(self._env, None)
        self._stop()

    def _stop(self) -> None:
        if self._env.pid != os.getpid():
            return
        with self._condition:
            self._stopping = True
            thread = self._thread
            self._condition.notify_all()
        atexit.unregister(self._stop)
        if thread is not None and thread is not threading.current_thread():
            thread.join(JOIN_SECONDS)
        while self._requests:
            self._requests.popleft().finish(self._closed())

    def _check_usable(self) -> None:
        if self._stopping or self._env.pid != os.getpid():
            raise self._closed()

    def _closed(self) -> ClosedError:
        return ClosedError(f"{self._env.path} was closed", field="path", value=str(self._env.path))

    # The thread

    def _run(self) -> None:
        while self._waited():
            try:
                self._work()
            except ClosedError:
                return
            except Exception as error:
                self._failed((None, "maintenance"), error)
                self._look_at = self._failures[None, "maintenance"].retry_at
                while self._requests:
                    self._requests.popleft().finish(self._told(error))

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
            if not locks.attempt(lock, locks.ALONE):  # another process does the work
                with self._condition:
                    pause = REQUEST_SECONDS if self._requests else LOCKED_SECONDS
                    self._look_at = time.monotonic() + pause
                    if self._requests:
                        self._condition.wait_for(lambda: self._stopping, pause)
                return
            self._holding = True
            try:
                if self._untidy or not self._tidied or self._requests:
                    self._untidy, self._tidied = False, True
                    tasks.tidy(self._env)
                while not self._stopping:
                    request = self._next_request()
                    if request is not None:
                        self._serve(request)
                    elif not self._background_step():
                        break
            finally:
                self._holding = False
                if not self._changed:
                    self._snapshots.clear()  # they keep files open that may have been removed
        self._failures.pop((None, "maintenance"), None)

    def _next_request(self) -> _Request | None:
        with self._condition:
            if not self._requests:
                return None
            request = self._requests.popleft()
            request.started = True
            return request

    def _pinned(self, number: int) -> View:
        if number not in self._snapshots:
            self._snapshots[number] = Snapshots(self._env, number)
        return self._snapshots[number].pin()

    # Background work

    def _background_step(self) -> bool:
        """Do the most useful job for the collections that changed. False if there is none."""
        found = []
        for number in list(self._changed) if self.background else ():
            self._changed.discard(number)  # first, so that a later write marks the collection again
            try:
                step, again = self._next_step(number)
            except NotFoundError:
                self._forget(number)
                continue
            if step is not None:
                found.append((*step, number))
            if step is not None or again:
                self._changed.add(number)
        if not found:
            return False
        _, kind, work, number = min(found, key=lambda step: step[0])
        self._attempt(number, kind, work)
        return True

    def _next_step(self, number: int) -> tuple[tuple[int, tuple, Callable] | None, bool]:
        """(job as (rank, kind, work) or None, whether to check again soon)."""
        waiting, found = False, []
        with self._pinned(number) as view:
            quiet = self._quiet(number, view.sequence)
            if view.snapshot.record_problems:
                found.append((-1, ("repair",), lambda: self._repair(number)))
            for name, field, spec in policy.indexed(view):
                best = policy.next_build(name, field, spec, policy.survey(view, field), quiet)
                if best is not None:
                    rank, task = best
                    found.append((rank, (task.kind, name), lambda task=task: self._build(number, task, gives_way=True)))
            dead = policy.worth_compacting(view, self._not_worth.get(number), quiet)
            if dead is not None:
                found.append((9, ("compact",), lambda: self._compact_or_remember(number, dead)))
        ready = []
        for step in found:
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
        known = self._quiet_since.get(number)
        if known is None or known[0] != sequence:
            self._quiet_since[number] = (sequence, now)
            return policy.QUIET_SECONDS <= 0
        return now - known[1] >= policy.QUIET_SECONDS

    def _attempt(self, number: int, kind: tuple, work: Callable[[], Any]) -> None:
        key = (number, *kind)
        try:
            work()
        except ClosedError:
            raise
        except Exception as error:
            gave_way = isinstance(error, Cancelled) and self._requests
            if not self._stopping and not gave_way:
                self._failed(key, error)
            return
        self._failures.pop(key, None)

    def _failed(self, key: tuple, error: Exception) -> None:
        before = self._failures.get(key)
        message = f"{' '.join(map(str, key[1:]))}: {error}"
        final = isinstance(error, Unbuildable)  # it would fail again with the same rows
        at, _ = self._quiet_since.get(key[0], (None, None))
        self._failures[key] = _Failure(message, 1 if before is None else before.times + 1, at if final else None)
        known = final and before is not None and before.message == message  # already reported
        if not known and not isinstance(error, (Cancelled, NotFoundError)):  # these mean that the collection was dropped meanwhile
            self.failures += 1
            if before is not None and before.message == message and self._env.moved():
                return  # already reported, and it stays so until the database is closed
            log.warning("maintenance of %s failed, collection %s: %s", self._env.path, key[0], message, exc_info=error)
        self._untidy = True

    def _forget(self, number: int) -> None:
        """Forget a collection that was dropped."""
        self._changed.discard(number)
        for known in (self._snapshots, self._quiet_since, self._not_worth, self._written):
            known.pop(number, None)
        for key in [key for key in self._failures if key[0] == number]:
            del self._failures[key]

    # Jobs

    def _build(self, number: int, task: Build, gives_way: bool = False) -> int:
        """Run a build; returns how many rows were indexed. gives_way: cancel it if a waiting ``optimize`` would replace its result."""
        words = f"{task.kind} {task.name} rows {task.first} … {task.end - 1}"
        progress, begun = self._begin(number, words), time.monotonic()
        try:
            stop = self._stop_of(number, task if gives_way else None)
            with background.using(background.ALL_BUT_ONE if gives_way else background.CORES):
                rows = tasks.build(self._env, self._committer, number, self._pinned(number), task, progress, stop)
        finally:
            self._now = None
        done = self.built.setdefault(task.kind, {"builds": 0, "rows": 0, "seconds": 0.0})
        done["builds"], done["rows"], done["seconds"] = done["builds"] + 1, done["rows"] + rows, done["seconds"] + time.monotonic() - begun
        log.info("%s of collection %d: %d rows in %.1f s", words, number, rows, time.monotonic() - begun)
        return rows

    def _begin(self, number: int, task: str) -> tasks.Progress:
        said = {"task": task, "stage": "begin", "share": 0.0}
        self._now = (number, said)

        def progress(stage: str, share: float) -> None:
            self._now = (number, {"task": task, "stage": stage, "share": round(float(share), 4)})

        return progress

    def _stop_of(self, number: int, gives_way: Build | None) -> tasks.Stop:
        """A function that says whether to cancel: the database is closing, the collection was dropped, or a queued ``optimize`` needs a
        different build. The last two are checked every ``LOOK_SECONDS``.
        """
        looked = [time.monotonic()]

        def stop() -> bool:
            if self._stopping:
                return True
            if time.monotonic() - looked[0] < LOOK_SECONDS:
                return False
            looked[0] = time.monotonic()
            try:
                with self._env.read(nested=True) as txn:  # nested, because a build keeps a view open
                    gone = Store(txn, number).state() is None
                return gone or (gives_way is not None and self._in_the_way(number, gives_way))
            except (ClosedError, NotFoundError):
                return True
            except StorageError:  # can't tell now: continue
                return False

        return stop

    def _in_the_way(self, number: int, task: Build) -> bool:
        """Whether the next request needs something other than this build."""
        with self._condition:
            request = self._requests[0] if self._requests else None
        if request is None:
            return False
        if request.number != number:
            return True
        with self._pinned(number) as view:
            wanted = self._next_optimization(view, set(), view.rows, view.sequence)
        return wanted is None or (wanted.field, wanted.first, wanted.end) != (task.field, task.first, task.end)

    def _repair(self, number: int) -> None:
        self._committer.run(lambda txn: segments.remove_damaged(txn, number), "commit")

    def _convert(self, number: int) -> None:
        """Convert fields of earlier versions."""
        self._begin(number, "convert")
        try:
            folder = segments.folder(self._env.path)
            convert.convert(self._committer, number, self._pinned, folder, lambda: self._stopping)
        finally:
            self._now = None

    def _compact_or_remember(self, number: int, dead: int) -> None:
        if not self._compact(number, policy.CHUNK_DEAD_SHARE)["bytes_rewritten"]:
            self._not_worth[number] = dead

    def _compact(self, number: int, share: float) -> dict[str, int]:
        """Compact chunks. Raises CorruptionError naming the first damaged chunk, after all others were compacted."""
        done = {"rows_dropped": 0, "bytes_rewritten": 0}
        with self._pinned(number) as view:
            dead = view.dead
            runs, damage = tasks.runs_to_compact(view, share)
        total = sum(run.nbytes for run in runs)
        try:
            progress = self._begin(number, "compact") if runs else None
            for group in tasks.in_batches(runs):
                if self._stopping:
                    raise Cancelled("compact")
                dropped, damaged = tasks.compact_batch(self._committer, number, group, dead)
                damage += damaged
                done["rows_dropped"] += dropped
                done["bytes_rewritten"] += sum(run.nbytes for run in group)
                progress("chunks", done["bytes_rewritten"] / total)
                time.sleep(BREATH_SECONDS)
        finally:
            self._now = None
        if damage:
            raise damage[0]
        return done

    # Requests

    def _serve(self, request: _Request) -> None:
        if request.number is None:
            self._serve_purge(request)
        else:
            self._serve_optimize(request)

    def _serve_purge(self, request: _Request) -> None:
        purge = Purge(self._env, self._committer, self._pinned, self._build, lambda number: self._compact(number, 0.0))
        try:
            for number in request.purged:
                self._prepared(number)
                self._convert(number)
            done = purge.run(request.purged, self._timeout, request.patience)
            request.result = {"seconds": round(time.monotonic() - request.begun, 3), **done}
        except Cancelled:
            request.finish(self._closed() if self._stopping else NotFoundError("the collection was dropped", field="collection"))
        except Exception as error:
            request.finish(self._told(error))
        else:
            request.finish(None)

    def _serve_optimize(self, request: _Request) -> None:
        done, errors = _nothing_done(), []
        try:
            rows, sequence = self._prepared(request.number)
            self._convert(request.number)
            while (task := self._planned(request.number, {error[0] for error in errors}, rows, sequence)) is not None:
                try:
                    done["rows_indexed"] += self._build(request.number, task)
                    done["segments_built"] += 1
                    for key in [key for key in self._failures if (key[0], key[2:]) == (request.number, (task.name,))]:
                        del self._failures[key]  # try again even if it failed before
                except (StorageError, OSError, MemoryError, RuntimeError) as error:  # go on with the other fields
                    errors.append((task.field, error))
            compacted = self._compact(request.number, 0.0)
            done.update(compacted)
            self._not_worth.pop(request.number, None)
        except Cancelled:
            errors.append((None, self._closed() if self._stopping else NotFoundError("the collection was dropped", field="collection")))
        except Exception as error:
            errors.append((None, error))
        done["seconds"] = round(time.monotonic() - request.begun, 3)
        request.result = done
        request.finish(self._told(errors[0][1]) if errors else None)
        if errors and not isinstance(errors[0][1], (ClosedError, NotFoundError)):
            self._failed((request.number, "optimize"), errors[0][1])
        else:
            self._failures.pop((request.number, "optimize"), None)

    def _told(self, error: BaseException) -> VectorDBError:
        """The error to raise in the caller: a VectorDBError, whatever the cause."""
        if isinstance(error, VectorDBError):
            return error
        try:
            self._env.check_in_place()  # a missing file may mean that the directory was moved
        except VectorDBError as problem:
            return problem
        where = self._env.path
        what = error if isinstance(error, OSError) else f"maintenance failed: {type(error).__name__}: {error}"
        told = StorageError(f"{where}: {what}", field="path", value=str(where))
        told.__cause__ = error
        return told

    def _prepared(self, number: int) -> tuple[int, int]:
        """(rows, sequence) now, after damaged records were removed from the registry."""
        with self._pinned(number) as view:
            found, damaged = (view.rows, view.sequence), bool(view.snapshot.record_problems)
        if damaged:
            self._repair(number)
        return found

    def _planned(self, number: int, failed: set[int], rows: int, sequence: int) -> Build | None:
        with self._pinned(number) as view:
            return self._next_optimization(view, failed, rows, sequence)

    @staticmethod
    def _next_optimization(view: View, failed: set[int], rows: int, sequence: int) -> Build | None:
        for name, field, spec in policy.indexed(view):
            if field not in failed:
                task = policy.next_optimization(name, field, spec, policy.survey(view, field), rows, sequence)
                if task is not None:
                    return task
        return None


def _nothing_done() -> dict[str, Any]:
    return {"seconds": 0.0, "segments_built": 0, "rows_indexed": 0, "rows_dropped": 0, "bytes_rewritten": 0}
