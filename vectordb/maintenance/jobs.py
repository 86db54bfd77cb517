"""The jobs of maintenance: copy rows, build an index file and register it; compact chunks; remove files that no record names."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import CorruptionError, NotFoundError
from vectordb_client.model.schema import Dense, Sparse

from ..common.failpoints import reach
from ..engine.directory import Directory
from ..engine.snapshot import View
from ..index.dense import build as dense_build
from ..index.dense.build import Cancelled
from ..index.file import header_of
from ..index.impact import build as sparse_build
from ..query.arms import saturation_of
from ..storage import catalog, compact, format, modes, segments
from ..storage.compact import CompactionUnit
from ..storage.lmdb_env import Env
from ..storage.segments import Record
from . import policy
from .policy import Build
from .status import Progress

log = logging.getLogger("vectordb.maintenance")
Stop = Callable[[], bool]


@dataclass(frozen=True)
class Rows:
    """Live rows of a field, copied from a view. docids: uint32 ascending. end: one past the last docid that was considered. write: builds
    the index file from the rows.
    """

    docids: np.ndarray
    end: int
    write: Callable[[Path, Progress, Stop], None]
    options: dict


def rows_to_index(view: View, task: Build, spec: Dense | Sparse, progress: Progress, stop: Stop) -> Rows:
    """The live rows in [first, end) of a task.

    ``end`` is below the task's end if there are more rows than a segment may have and no record is replaced.
    Raises CorruptionError naming a damaged chunk, or Cancelled.
    """
    docids, end = view.snapshot.live_between(view.store, task.field, task.first, task.end), task.end
    limit = policy.most_rows(spec)
    if len(docids) > limit and not task.replaced:
        end = int(docids[limit])
        docids = docids[:limit]
    return (_dense_rows if isinstance(spec, Dense) else _sparse_rows)(view, task, spec, docids, end, progress, stop)


def _chunks(view: View, task: Build, docids: np.ndarray, end: int, progress: Progress, stop: Stop) -> Iterator[tuple]:
    """(chunk number, chunk table, positions of its rows that are among docids, index of the first of them in docids), chunks verified."""
    table = view.snapshot.table(view.store, task.field, format.FORWARD)
    for c, begin, present in table.between(task.first, end):
        if stop():
            raise Cancelled("copy")
        table.verify((c,))
        low, high = np.searchsorted(docids, [present[0], int(present[-1]) + 1])
        yield c, table, begin + np.searchsorted(present, docids[low:high]), int(low)
        progress("copy", int(high) / max(len(docids), 1))


def _dense_rows(view: View, task: Build, spec: Dense, docids: np.ndarray, end: int, progress: Progress, stop: Stop) -> Rows:
    vectors = np.empty((len(docids), spec.dim), np.float32)
    width = spec.dim * np.dtype(spec.dtype).itemsize
    for c, table, positions, low in _chunks(view, task, docids, end, progress, stop):
        vectors[low : low + len(positions)] = table.data_of(c, width).view(spec.dtype)[positions]
    options = dense_build.Options(spec.index.graph_builder, spec.index.degree, spec.index.ef_construction)

    def write(path: Path, progress: Progress, stop: Stop) -> None:
        dense_build.build(path, vectors, docids, spec.metric, options, progress, stop)

    return Rows(docids, end, write, options.kept())


def _sparse_rows(view: View, task: Build, spec: Sparse, docids: np.ndarray, end: int, progress: Progress, stop: Stop) -> Rows:
    sizes = np.zeros(len(docids), np.int64)
    pieces: list[np.ndarray] = []
    weighed: list[np.ndarray] = []
    for c, table, positions, low in _chunks(view, task, docids, end, progress, stop):
        offsets, data, extra = table.items_of(c, 8)
        keep = np.zeros(len(offsets) - 1, np.bool_)
        keep[positions] = True
        counts = np.diff(offsets.astype(np.int64))
        sizes[low : low + len(positions)] = counts[positions]
        items = np.repeat(keep, counts)
        pieces.append(data.reshape(-1).view(np.uint64)[items])
        if not spec.binary:
            weighed.append(extra.reshape(-1).view(np.float32)[items])
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    terms = np.concatenate(pieces or [np.empty(0, np.uint64)])
    weights = None if spec.binary else np.concatenate(weighed or [np.empty(0, np.float32)])
    options, saturation = sparse_build.Options(spec.index.levels), saturation_of(view, task.name)

    def write(path: Path, progress: Progress, stop: Stop) -> None:
        sparse_build.build(path, indptr, terms, weights, docids, spec.weighting == "idf", options, progress, stop, saturation)

    return Rows(docids, end, write, options.kept())


def build(directory: Directory, number: int, view: View, task: Build, progress: Progress, stop: Stop) -> int:
    """Run a build; returns the number of rows indexed. Releases ``view`` once rows are copied. Raises Cancelled if the plan is outdated.

    The file is completed and synced under a temporary name, then renamed, then registered. A crash leaves at most a file without a record.
    """
    with view:
        if view.fields.get(task.name) != task.field:
            raise Cancelled("the field was removed")
        spec, sequence = view.schema.vectors[task.name], view.sequence
        rows = rows_to_index(view, task, spec, progress, stop)
        dead = view.dead.range_cardinality(task.first, rows.end)
    reach("index.copied")
    end, count = rows.end, len(rows.docids)
    if not count:
        _register(directory, number, task, None)
        return 0
    env, folder = directory.env, segments.folder(directory.path)
    name = segments.new_name(number, task.field, task.first, end)
    temporary = folder / (segments.TEMPORARY + name)
    options = rows.options
    modes.create(temporary, "xb", env.file_mode).close()
    try:
        rows.write(temporary, progress, stop)
        del rows
        reach("index.written")
        progress("register", 0.0)
        env.check_in_place()
        size, checksum, header = temporary.stat().st_size, segments.checksum(temporary), header_of(temporary)
        os.rename(temporary, folder / name)
    finally:
        temporary.unlink(missing_ok=True)
    reach("index.renamed")
    modes.sync_folder(folder)
    reach("index.folder_synced")
    record = Record(task.field, task.first, end, count, dead, name, size, checksum, options, sequence, header)
    _register(directory, number, task, record)
    return count


def _register(directory: Directory, number: int, task: Build, record: Record | None) -> None:
    """Register a record in place of those it replaces, and remove their files. Raises Cancelled if the collection changed meanwhile."""

    def work(txn) -> bool:
        try:
            meta = catalog.read_meta(txn, number)
        except NotFoundError:
            return False
        replaced = meta.fields.get(task.name) == task.field and segments.replace(txn, number, task.replaced, record)
        reach("index.recorded")
        return replaced

    folder = segments.folder(directory.path)
    if not directory.write(work):
        if record is not None:
            (folder / record.file).unlink()
        raise Cancelled("the collection has changed since the build was planned")
    reach("index.registered")
    for old in task.replaced:
        discard(folder / old.file)
        reach("index.replaced")


def tidy(env: Env) -> int:
    """Remove index files that no record names, from interrupted builds and dropped collections. Returns how many.

    Call it only with the maintenance lock, so that no other process creates files there.
    """
    folder = segments.folder(env.path)
    files = [entry.name for entry in os.scandir(folder) if segments.is_ours(entry.name)]
    if not files:
        return 0
    with env.read() as txn:
        named = segments.named_files(txn, list(catalog.names(txn).values()))
    leftovers = [name for name in files if name not in named]
    for name in leftovers:
        discard(folder / name)
        reach("tidy.removed")
    return len(leftovers)


def discard(path: Path) -> None:
    """Remove a file that is no longer needed. If that fails, it only takes up space, so the error is logged."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s can't be removed: %s", path, error)


def units_to_compact(view: View, share: float) -> tuple[list[CompactionUnit], list[CorruptionError]]:
    """(chunks with a share of dead rows above ``share``, joined with small neighbours; errors of damaged chunks)."""
    dead = np.asarray(view.dead.to_array(), dtype=np.uint32)
    units: list[CompactionUnit] = []
    damage = []
    for field, part in compact.parts(view.snapshot.meta):
        try:
            units.extend(compact.units(view.snapshot.table(view.store, field, part), dead, share))
        except CorruptionError as error:
            damage.append(error)
    reach("compact.planned")
    return units, damage


def in_batches(units: list[CompactionUnit]) -> Iterator[list[CompactionUnit]]:
    """Group units into batches of one transaction each."""
    group: list[CompactionUnit] = []
    limit = policy.batch_bytes(sum(unit.nbytes for unit in units))
    for unit in units:
        if group and sum(each.nbytes for each in group) + unit.nbytes > limit:
            yield group
            group = []
        group.append(unit)
    if group:
        yield group


def compact_batch(directory: Directory, number: int, group: list[CompactionUnit], dead: BitMap) -> tuple[int, list[CorruptionError]]:
    """Run one transaction of compaction; returns (row records dropped, errors of damaged chunks). It isn't synced."""
    done = directory.write(lambda txn: compact.rewrite(txn, number, group, dead), "batched")
    reach("compact.committed")
    return done
