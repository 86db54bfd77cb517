"""The jobs of maintenance: copy rows, build an index file and register it; compact chunks; remove files that no record names."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import CorruptionError, NotFoundError
from vectordb_client.model.fields import VectorField

from ..common import heap
from ..common.failpoints import reach
from ..engine import migrating
from ..engine.directory import Directory
from ..engine.snapshot import View
from ..fields import FIELD_TYPES
from ..index.base import Cancelled, IndexKind, kind_for
from ..index.file import header_of
from ..storage import branches, catalog, compact, history, modes, segments
from ..storage.compact import CompactionUnit
from ..storage.format import Txn
from ..storage.lmdb_env import Env
from ..storage.segments import Record
from . import policy
from .policy import Build
from .status import Progress

log = logging.getLogger("vectordb.maintenance")
Stop = Callable[[], bool]


def rows_to_index(view: View, task: Build, spec: VectorField) -> tuple[np.ndarray, int]:
    """(the live rows in [first, end) of a task, uint32 ascending; one past the last docid that was considered). The latter is below the
    task's end if there are more rows than a segment may have and no record is replaced.
    """
    docids, limit = view.snapshot.live_between(view.store, task.field, task.first, task.end), policy.most_rows(spec)
    if len(docids) > limit and not task.replaced:
        return docids[:limit], int(docids[limit])
    return docids, task.end


def earlier_file(view: View, task: Build, kind: type[IndexKind]) -> IndexKind | None:
    """The largest of the files that a build replaces, if the new file can be made from it; else None."""
    if task.anew:
        return None
    replaced = {record.file for record in task.replaced}
    opened = [part.segment for part in view.snapshot.segments(task.field) if part.file in replaced]
    largest = max(opened, key=lambda segment: segment.rows, default=None)
    return largest if largest is not None and largest.renewable and isinstance(largest, kind) else None


def build(directory: Directory, number: int, view: View, task: Build, progress: Progress, stop: Stop) -> tuple[int, str]:
    """Run a build; returns (the number of rows indexed, how the file was made). Releases ``view`` once rows are copied. Raises Cancelled if
    the plan is outdated, and CorruptionError naming a damaged chunk.

    The file is completed and synced under a temporary name, then renamed, then registered. A crash leaves at most a file without a record.
    """
    with ExitStack() as pinned:
        pinned.enter_context(view)
        if not view.snapshot.meta.writes(task.name, task.field):
            raise Cancelled("the field was removed")
        if view.fields[task.name] != task.field:
            view = migrating.ahead(view, task.name)
        spec, sequence = view.schema.vectors[task.name], view.sequence
        docids, end = rows_to_index(view, task, spec)
        dead = view.dead.range_cardinality(task.first, end)

        def release() -> None:
            pinned.close()
            reach("index.copied")

        if not len(docids):
            release()
            _register(directory, number, task, None)
            return 0, "empty"
        room = directory.memory.room(record.file for record in task.replaced)
        env, folder, kind = directory.env, segments.folder(directory.path), kind_for(spec, len(docids), room)
        usual = kind_for(spec, len(docids))
        chosen = None if room is None or kind is usual else directory.memory.reason(usual.needs(spec, len(docids)), room)
        name = segments.new_name(number, task.field, task.first, end)
        temporary = folder / (segments.TEMPORARY + name)
        rows = FIELD_TYPES[spec.kind].rows(view, task.name, docids, end, release)
        try:
            modes.create(temporary, "xb", env.file_mode).close()
            earlier = earlier_file(view, task, kind)
            if earlier is None:
                kind.build(temporary, rows, spec, progress, stop)
                how = "built"
            else:
                how = kind.renew(temporary, rows, spec, earlier, progress, stop)
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
    options = kind.build_options(spec) | ({} if chosen is None else {"chosen": chosen})
    record = Record(task.field, task.first, end, len(docids), dead, name, size, checksum, options, sequence, header)
    _register(directory, number, task, record)
    heap.trim()
    return len(docids), how


def _register(directory: Directory, number: int, task: Build, record: Record | None) -> None:
    """Register a record in place of those it replaces, and remove their files. Raises Cancelled if the collection changed meanwhile."""

    def work(txn) -> bool:
        try:
            meta = catalog.read_meta(txn, number)
        except NotFoundError:
            return False
        replaced = meta.writes(task.name, task.field) and segments.replace(txn, number, task.replaced, record)
        reach("index.recorded")
        return replaced

    folder = segments.folder(directory.path)
    if not directory.write(work):
        if record is not None:
            (folder / record.file).unlink()
        raise Cancelled("the collection has changed since the build was planned")
    reach("index.registered")
    discard_unnamed(directory, number, [old.file for old in task.replaced])


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


def discard_unnamed(directory: Directory, number: int, files: Collection[str]) -> None:
    """Remove index files that a collection no longer needs, unless a branch or its original needs them."""
    with directory.env.read() as txn:
        unneeded = branches.unnamed_files(txn, number, files)
    for file in unneeded:
        discard(segments.folder(directory.path) / file)
        reach("index.replaced")


def discard(path: Path) -> None:
    """Remove a file that is no longer needed. If that fails, it only takes up space, so the error is logged."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s can't be removed: %s", path, error)


def dead_before(view: View, milliseconds: int) -> tuple[BitMap, int]:
    """(the rows that were dead at a Unix time in milliseconds, as far as the change log tells; the sequence of that state). Rows that ended
    since (ttl) are among them.
    """
    dead, since = view.dead, BitMap()
    for sequence in range(view.sequence, 0, -1):
        entry = view.store.log(sequence)
        if entry is None or entry.get("at", 0) <= milliseconds:
            return dead - since, sequence
        since.update(entry.get("dead", ()))
    return dead - since, 0


def units_to_compact(view: View, dead: BitMap, share: float) -> tuple[list[CompactionUnit], list[CorruptionError]]:
    """(chunks of whose rows more than ``share`` are in ``dead``, joined with small neighbours; errors of damaged chunks)."""
    rows = np.asarray(dead.to_array(), dtype=np.uint32)
    units: list[CompactionUnit] = []
    damage = []
    for field, part in compact.parts(view.snapshot.meta):
        try:
            units.extend(compact.units(view.snapshot.table(view.store, field, part), rows, share))
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


def compact_batch(
    directory: Directory, number: int, group: list[CompactionUnit], dead: BitMap, sequence: int
) -> tuple[int, list[CorruptionError]]:
    """Run one transaction of compaction; returns (row records dropped, errors of damaged chunks). It isn't synced. sequence: of a state in
    which all rows of ``dead`` were dead.
    """

    def work(txn: Txn) -> tuple[int, list[CorruptionError]]:
        history.begin_later(txn, number, sequence)
        return compact.rewrite(txn, number, group, dead)

    done = directory.write(work, "batched")
    reach("compact.committed")
    return done
