"""Runs the jobs of maintenance: builds, compaction, repair and conversion, and with these ``optimize`` and ``purge``."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection
from typing import Any

from vectordb_client.errors import ClosedError, InvalidArgumentError, NotFoundError, PreconditionError, StorageError, VectorDBError

from ..common import background, clock
from ..engine.apply import Transaction, expire
from ..engine.directory import Directory
from ..engine.snapshot import Snapshots, View
from ..index.base import Cancelled
from ..storage import branches, change_log, expiry, segments
from ..storage.store import Store
from . import convert, derive, jobs, migrate, policy
from .backoff import Failures
from .policy import Build
from .purge import Purge
from .requests import Request, Requests
from .status import Progress, Status

log = logging.getLogger("vectordb.maintenance")
STOP_SECONDS = 0.25  # between two checks whether a build is still wanted
BREATH_SECONDS = 0.025  # pause after each transaction of compaction, so that other writers get their turn
NOTHING_DONE = {"segments_built": 0, "rows_indexed": 0, "rows_dropped": 0, "bytes_rewritten": 0}


class Runner:
    """Runs jobs in the maintenance thread of a directory. stopping: says whether the directory is being closed."""

    def __init__(self, directory: Directory, requests: Requests, failures: Failures, stopping: Callable[[], bool]):
        self.status = Status()
        # Collection → (dead rows stored when no chunk was worth compacting, the monotonic time until which that holds).
        self._not_worth: dict[int, tuple[int, float]] = {}
        self._directory = directory
        self._requests = requests
        self._failures = failures
        self._stopping = stopping
        self._snapshots: dict[int, Snapshots] = {}

    def pin(self, number: int) -> View:
        """A view of a collection."""
        if number not in self._snapshots:
            self._snapshots[number] = Snapshots(self._directory, number, ages=False)
        return self._snapshots[number].pin()

    def release_snapshots(self) -> None:
        """Forget all snapshots. They keep files open that may have been removed."""
        self._snapshots.clear()

    def forget(self, number: int) -> None:
        """A collection was dropped."""
        self._snapshots.pop(number, None)
        self._not_worth.pop(number, None)

    # Jobs

    def build(self, number: int, task: Build, gives_way: bool = False) -> int:
        """Run a build; returns how many rows were indexed. gives_way: cancel it if a waiting ``optimize`` would replace its result."""
        name, begun = f"{task.kind} {task.name} rows {task.first} … {task.end - 1}", time.monotonic()
        with self.status.running(number, name) as progress:
            stop = self._stop_of(number, task if gives_way else None)
            with background.using(background.ALL_BUT_ONE if gives_way else background.CORES):
                rows, how = jobs.build(self._directory, number, self.pin(number), task, progress, stop)
        seconds = time.monotonic() - begun
        self.status.add_build(task.kind, rows, seconds)
        log.info("%s of collection %d: %d rows in %.1f s, %s", name, number, rows, seconds, how)
        return rows

    def _stop_of(self, number: int, gives_way: Build | None) -> jobs.Stop:
        """A function that says whether to cancel: the database is closing, the collection was dropped, or a queued ``optimize`` needs a
        different build. The last two are checked every ``STOP_SECONDS``.
        """
        checked = time.monotonic()

        def stop() -> bool:
            nonlocal checked
            if self._stopping():
                return True
            if time.monotonic() - checked < STOP_SECONDS:
                return False
            checked = time.monotonic()
            try:
                with self._directory.env.read(nested=True) as txn:  # nested, because a build keeps a view open
                    dropped = Store(txn, number).state() is None
                return dropped or (gives_way is not None and self._in_the_way(number, gives_way))
            except (ClosedError, NotFoundError):
                return True
            except StorageError:  # can't tell now: continue
                return False

        return stop

    def _in_the_way(self, number: int, task: Build) -> bool:
        """Whether the next request needs something other than this build."""
        request = self._requests.first()
        if request is None:
            return False
        if request.number != number:
            return True
        best = self._next_optimization(number)
        return best is None or (best.field, best.first, best.end) != (task.field, task.first, task.end)

    def expire(self, number: int) -> int:
        """Delete the points whose moment has come; returns how many."""
        with self.pin(number) as view:
            if view.schema.ttl is None or not expiry.due(view.txn, number, clock.now())[0]:
                return 0
        directory, at = self._directory, change_log.now()
        return directory.write(lambda txn: expire(Transaction(txn, number, directory, None), at))

    def derive(self, number: int, name: str, anew: bool = False) -> None:
        """Derive the vectors of a field. anew: fit it first."""
        with self.status.running(number, f"derive {name}") as progress:
            self._deriver(number, progress).run(name, anew)

    def _derive_due(self, number: int) -> None:
        """Derive the vectors of all fields that have work."""
        with self.pin(number) as view:
            names = derive.due(view)
        for name in names:
            self.derive(number, name)

    def _deriver(self, number: int, progress: Progress) -> derive.Derive:
        return derive.Derive(self._directory, number, lambda: self.pin(number), progress, self._stop_of(number, None))

    def fit(self, number: int, name: str) -> dict[str, Any]:
        """Fit a derived field; returns its report."""
        with self.pin(number) as view:
            derive.check_fitted(view.schema, name, learned=True)
        self.derive(number, name, anew=True)
        with self.pin(number) as view:
            return derive.report(view, name)

    def migrate(self, number: int, name: str) -> bool:
        """Go on with the migration of a field for a while. Returns whether it is finished, or was cancelled."""
        stop, directory = self._stop_of(number, None), self._directory
        with self.status.running(number, f"migrate {name}") as progress:

            def build(task: Build) -> None:
                with background.using(background.ALL_BUT_ONE):
                    jobs.build(directory, number, self.pin(number), task, progress, stop)

            return migrate.Migrate(directory, number, lambda: self.pin(number), build, progress, stop).run(name)

    def _forget_erased(self, number: int) -> None:
        """Fit the fields again that were fitted to rows that are dead now. With too few points left, they lose what they have learned."""
        with self.pin(number) as view:
            names = derive.holding(view)
        for name in names:
            with self.status.running(number, f"derive {name}") as progress:
                deriver = self._deriver(number, progress)
                try:
                    deriver.run(name, anew=True)
                except InvalidArgumentError:  # too few points
                    deriver.forget(name)

    def repair(self, number: int) -> None:
        """Remove damaged records from the registry of index files."""
        self._directory.write(lambda txn: segments.remove_damaged(txn, number))

    def compact(self, number: int, share: float, spare: float = 0.0, erase: bool = False) -> dict[str, int]:
        """Compact chunks with a share of dead rows above ``share``. Returns rows_dropped, bytes_rewritten and spared. spare: rows that died
        in the last so many seconds are kept, because cursors of searches may still need them. Rows that the history of the collection
        needs are kept, too, unless ``erase``.

        Raises CorruptionError naming the first damaged chunk, after all others were compacted.
        """
        done = {"rows_dropped": 0, "bytes_rewritten": 0, "spared": 0}
        with self.pin(number) as view:
            spare = spare if erase else max(spare, view.snapshot.meta.history)
            since = int(change_log.now() - 1000 * spare)
            dead, sequence = jobs.dead_before(view, since) if spare else (view.dead, view.sequence)
            done["spared"] = len(view.dead) - len(dead)
            units, damage = jobs.units_to_compact(view, dead, share)
        if units:
            total = sum(unit.nbytes for unit in units)
            with self.status.running(number, "compact") as progress:
                for group in jobs.in_batches(units):
                    if self._stopping():
                        raise Cancelled("compact")
                    dropped, damaged = jobs.compact_batch(self._directory, number, group, dead, sequence)
                    damage += damaged
                    done["rows_dropped"] += dropped
                    done["bytes_rewritten"] += sum(unit.nbytes for unit in group)
                    progress("chunks", done["bytes_rewritten"] / total)
                    time.sleep(BREATH_SECONDS)
        if damage:
            raise damage[0]
        return done

    def compact_or_remember(self, number: int, dead: int) -> None:
        """Compact in the background. dead: stored dead rows, remembered if no chunk is worth it."""
        done = self.compact(number, policy.CHUNK_DEAD_SHARE, policy.SPARE_SECONDS)
        if not done["bytes_rewritten"]:
            with self.pin(number) as view:
                wait = max(policy.SPARE_SECONDS, view.snapshot.meta.history / policy.HISTORY_LOOKS)
            self._not_worth[number] = dead, time.monotonic() + wait if done["spared"] else math.inf

    def not_worth(self, number: int) -> tuple[int | None, bool]:
        """(the dead rows stored when a look found no chunk worth compacting, None if that doesn't hold any more; whether to look later)."""
        dead, end = self._not_worth.get(number, (None, 0.0))
        return (dead if time.monotonic() < end else None), math.isfinite(end) and dead is not None

    def _prepare(self, number: int) -> tuple[int, int]:
        """Remove damaged records and convert fields of earlier versions. Returns (rows, sequence) from before."""
        self.expire(number)
        with self.pin(number) as view:
            state, damaged = (view.rows, view.sequence), bool(view.snapshot.record_problems)
        if damaged:
            self.repair(number)
        with self.status.running(number, "convert"):
            convert.convert(self._directory, number, self.pin, self._stopping)
        self._derive_due(number)
        return state

    # Requests

    def run(self, request: Request) -> dict[str, Any]:
        """Run a request; returns the result for its caller, or raises the error."""
        try:
            if request.number is None:
                done = self._purge(request)
            elif request.migrate is not None:
                done = {"finished": self.migrate(request.number, request.migrate)}
                self._failures.clear((request.number, "migrate", request.migrate))
            else:
                done = self._optimize(request.number) if request.fit is None else self.fit(request.number, request.fit)
        except Cancelled:
            raise self.closed() if self._stopping() else NotFoundError("the collection was dropped", field="collection") from None
        return {"seconds": round(time.monotonic() - request.begun, 3), **done}

    def _purge(self, request: Request) -> dict[str, Any]:
        with self._directory.env.read() as txn:
            numbers = branches.with_families(txn, request.purged)
        self._check_migrations(numbers)
        for number in request.purged:
            self._prepare(number)
        for number in numbers:
            if number not in request.purged:
                self._derive_due(number)
            self._forget_erased(number)
        purge = Purge(self._directory, self.pin, self.build, lambda number: self.compact(number, 0.0, erase=True))
        return purge.run(request.purged, request.patience)

    def _check_migrations(self, numbers: Collection[int]) -> None:
        """Raise PreconditionError if a field is being migrated: the map between its encoders may be fitted to what is to be erased."""
        for number in numbers:
            with self.pin(number) as view:
                names = migrate.due(view)
            if names:
                what = f"vector field {names[0]!r} of {self._directory.name_of(number)!r} is being migrated to another encoder"
                raise PreconditionError(f"{what}; wait for it, or call cancel_migration({names[0]!r}), then purge", field=names[0])

    def _optimize(self, number: int) -> dict[str, Any]:
        done, errors, failed = dict(NOTHING_DONE), [], set()
        state = self._prepare(number)
        while (task := self._next_optimization(number, failed, state)) is not None:
            try:
                done["rows_indexed"] += self.build(number, task)
                done["segments_built"] += 1
                self._failures.clear_field(number, task.name)  # try again even if it failed before
            except (StorageError, OSError, MemoryError, RuntimeError) as error:  # go on with the other fields
                errors.append(error)
                failed.add(task.field)
        try:
            compacted = self.compact(number, 0.0)
            done |= {name: compacted[name] for name in ("rows_dropped", "bytes_rewritten")}
            self._not_worth.pop(number, None)
        except (VectorDBError, OSError) as error:
            errors.append(error)
        if errors:
            raise errors[0]
        return done

    def _next_optimization(self, number: int, failed: Collection[int] = (), state: tuple[int, int] | None = None) -> Build | None:
        """The next build of ``optimize``. failed: fields (by number) whose build failed, which are left out. state: (rows, sequence) when
        ``optimize`` began; None: now.
        """
        with self.pin(number) as view:
            rows, sequence = state or (view.rows, view.sequence)
            for name, field, spec in policy.indexed(view):
                if field not in failed:
                    task = policy.next_optimization(name, field, spec, policy.survey(view, field), rows, sequence)
                    if task is not None:
                        return task
        return None

    def closed(self) -> ClosedError:
        """The error of calls that come, or still wait, when the directory is closed."""
        path = str(self._directory.path)
        return ClosedError(f"{path} was closed", field="path", value=path)

    def to_user_error(self, error: BaseException) -> VectorDBError:
        """The error to raise in the caller: a VectorDBError, whatever the cause."""
        if isinstance(error, VectorDBError):
            return error
        try:
            self._directory.env.check_in_place()  # a missing file may mean that the directory was moved
        except VectorDBError as problem:
            return problem
        path = str(self._directory.path)
        what = error if isinstance(error, OSError) else f"maintenance failed: {type(error).__name__}: {error}"
        translated = StorageError(f"{path}: {what}", field="path", value=path)
        translated.__cause__ = error
        return translated
