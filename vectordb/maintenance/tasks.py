"""The work itself: copy rows, build a file, put it into the registry; compact chunks; remove files that nothing names."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from pyroaring import BitMap

from ..errors import CorruptionError, NotFoundError
from ..index import build as builder
from ..index.build import Cancelled
from ..snapshot import View
from ..storage import catalog, compact, format, segments
from ..storage.commit import Committer
from ..storage.compact import Run
from ..storage.env import Env
from ..storage.segments import Record
from ..types import Dense
from . import policy
from .policy import Build

log = logging.getLogger("vectordb.maintenance")
Progress = Callable[[str, float], None]
Stop = Callable[[], bool]


def rows_to_index(view: View, task: Build, spec: Dense, progress: Progress, stop: Stop) -> tuple[np.ndarray, np.ndarray, int]:
    """(vectors float32 ``(n, dim)``, docids uint32 ascending, end) of the live rows in [first, end), copied.

    ``end`` is lower than the task's when there are more rows than a segment may have and nothing is replaced.
    Raises CorruptionError naming a damaged chunk, and Cancelled.
    """
    table = view.snapshot.table(view.store, task.field, format.FORWARD)
    docids, end = view.snapshot.live_between(view.store, task.field, task.first, task.end), task.end
    limit = policy.most_rows(spec)
    if len(docids) > limit and not task.replaced:
        end = int(docids[limit])
        docids = docids[:limit]
    vectors = np.empty((len(docids), spec.dim), np.float32)
    width, at = spec.dim * np.dtype(spec.dtype).itemsize, 0
    for c, begin, present in table.between(task.first, end):
        if stop():
            raise Cancelled("copy")
        table.verify((c,))
        low, high = np.searchsorted(docids, [present[0], int(present[-1]) + 1])
        values = table.data_of(c, width).view(spec.dtype)[begin : begin + len(present)]
        if high - low < len(present):
            values = values[np.searchsorted(present, docids[low:high])]
        vectors[low:high] = values
        at = int(high)
        progress("copy", at / max(len(docids), 1))
    return vectors, docids, end


def build(env: Env, committer: Committer, number: int, view: View, task: Build, progress: Progress, stop: Stop) -> int:
    """Do a build; returns rows indexed. ``view`` is released when the rows are copied. Raises Cancelled when the plan was overtaken.

    The file is complete and synced under a temporary name, then renamed, then registered: a crash leaves a file without a record.
    """
    with view:
        if view.fields.get(task.name) != task.field:
            raise Cancelled("the field isn't there any more")
        spec, sequence = view.schema.vectors[task.name], view.sequence
        vectors, docids, end = rows_to_index(view, task, spec, progress, stop)
        dead = view.dead.range_cardinality(task.first, end)
    if not len(docids):
        _register(env, committer, number, task, None)
        return 0
    folder = segments.folder(env.path)
    name = segments.new_name(number, task.field, task.first, end)
    temporary = folder / (segments.TEMPORARY + name)
    options = builder.Options(spec.index.graph_builder, spec.index.degree, spec.index.ef_construction)
    try:
        builder.build(temporary, vectors, docids, spec.metric, options, progress, stop)
        del vectors
        progress("register", 0.0)
        size, checksum = temporary.stat().st_size, segments.checksum(temporary)
        os.rename(temporary, folder / name)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(folder)
    record = Record(task.field, task.first, end, len(docids), dead, name, size, checksum, options.kept(), sequence)
    _register(env, committer, number, task, record)
    return len(docids)


def _register(env: Env, committer: Committer, number: int, task: Build, record: Record | None) -> None:
    """Put the record in the place of those it replaces, whose files go. Raises Cancelled when the collection isn't as planned any more."""

    def work(txn) -> bool:
        try:
            meta = catalog.read_meta(txn, number)
        except NotFoundError:
            return False
        return meta.fields.get(task.name) == task.field and segments.replace(txn, number, task.replaced, record)

    folder = segments.folder(env.path)
    if not committer.run(work, "commit"):
        if record is not None:
            (folder / record.file).unlink()
        raise Cancelled("the collection isn't as planned any more")
    for old in task.replaced:
        _discard(folder / old.file)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tidy(env: Env) -> int:
    """Remove index files that no record names: of builds that were cut off, and of dropped collections. Returns how many.

    Only for the holder of the folder's lock: nobody else makes files there.
    """
    folder = segments.folder(env.path)
    there = [entry.name for entry in os.scandir(folder) if segments.is_ours(entry.name)]
    if not there:
        return 0
    with env.read() as txn:
        named = segments.named_files(txn, list(catalog.names(txn).values()))
    gone = [name for name in there if name not in named]
    for name in gone:
        _discard(folder / name)
    return len(gone)


def _discard(path: Path) -> None:
    """Remove a file that isn't needed any more. What can't be removed takes space and does no harm."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s can't be removed: %s", path, error)


def runs_to_compact(view: View, share: float) -> tuple[list[Run], list[CorruptionError]]:
    """Chunks more than ``share`` of whose rows are dead, with their small neighbours; and what is too damaged to look at."""
    dead = np.asarray(view.dead.to_array(), dtype=np.uint32)
    found: list[Run] = []
    damage = []
    for field, part in compact.parts(view.snapshot.meta):
        try:
            found.extend(compact.runs(view.snapshot.table(view.store, field, part), dead, share))
        except CorruptionError as error:
            damage.append(error)
    return found, damage


def in_batches(runs: list[Run]) -> Iterator[list[Run]]:
    """Groups of runs for one transaction each."""
    group: list[Run] = []
    limit = policy.batch_bytes(sum(run.nbytes for run in runs))
    for run in runs:
        if group and sum(r.nbytes for r in group) + run.nbytes > limit:
            yield group
            group = []
        group.append(run)
    if group:
        yield group


def compact_batch(committer: Committer, number: int, group: list[Run], dead: BitMap) -> tuple[int, list[CorruptionError]]:
    """One transaction of compaction; returns (row records dropped, damage found). Nothing is lost when it isn't on disk yet."""
    return committer.run(lambda txn: compact.rewrite(txn, number, group, dead), "batched")
