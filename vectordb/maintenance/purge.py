"""Purge: removes deleted and replaced points from every file, then scans all files for leftovers.

Index files with dead rows are built again, all dead rows are compacted away, the ids of deleted points are removed from the change log,
and then all records are written into a new data.mdb (``Env.rewrite``), because LMDB's pages keep old bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import StorageError

from .. import fields
from ..common.failpoints import reach
from ..engine.directory import Directory
from ..engine.snapshot import View
from ..fields import FIELD_TYPES
from ..storage import branches, change_log, compact, erasure_scan, format
from ..storage.erasure_scan import Patterns, Search
from . import convert, policy
from .policy import Build

STEPS = (
    "purge.begun",
    "purge.indexed",
    "purge.compacted",
    "purge.forgotten",
    "purge.rewritten",
    "purge.alone",
    "purge.swapped",
    "purge.scanned",
)
_ROUNDS = 20  # of compaction, because writers may create new chunks with dead rows meanwhile


@dataclass(frozen=True)
class Purge:
    """One purge of some collections. pin, build, compact: functions of the ``Runner`` that take a collection number."""

    directory: Directory
    pin: Callable[[int], View]
    build: Callable[[int, Build], int]
    compact: Callable[[int], dict[str, int]]

    def run(self, numbers: Sequence[int], patience: float) -> dict[str, Any]:
        """Run the purge; the result is that of ``Collection.purge``. patience: seconds for other processes to release the old data.mdb.

        Branches of a collection, and its original, are purged with it: they may store its deleted rows.

        Raises LockedError, StorageError or CorruptionError. Steps finished before stay done.
        """
        before, patterns, erased = _bytes(self.directory.path), Patterns(), {}
        done = {"rows_dropped": 0, "segments_built": 0}
        with self.directory.env.read() as txn:
            numbers = branches.with_families(txn, numbers)
        for number in numbers:
            with self.pin(number) as view:
                erased[number] = _collect(view, number, patterns)
        reach("purge.begun")
        for number in numbers:
            done["segments_built"] += self._index_anew(number, erased[number])
        reach("purge.indexed")
        for number in numbers:
            done["rows_dropped"] += self._compact_all(number, erased[number])
        reach("purge.compacted")
        for number in numbers:
            self.directory.write(lambda txn, number=number: change_log.forget_deleted_ids(txn, number))
            self.directory.write(lambda txn, number=number: convert.recount(txn, number))
            self.directory.write(lambda txn, number=number: branches.forget(txn, number))
        reach("purge.forgotten")
        self.directory.env.rewrite(self.directory.write_timeout, patience)
        after = _bytes(self.directory.path)
        scan = self._scan(patterns)
        reach("purge.scanned")
        sizes = {"bytes_before": before, "bytes_after": after, "bytes_reclaimed": max(before - after, 0)}
        counts = {"ids": patterns.ids, "rows": patterns.rows, "vectors": patterns.vectors, "vague": patterns.vague}
        return done | sizes | counts | scan

    def _index_anew(self, number: int, erased: BitMap) -> int:
        built = 0
        while (task := self._next_build(number, erased)) is not None:
            self.build(number, task)
            built += 1
        return built

    def _next_build(self, number: int, erased: BitMap) -> Build | None:
        """A build that replaces a segment whose file can't be read, contains an erased row, or was made from one that had a row which is
        gone: what such a file has learned may show that row. None if there is none.
        """
        with self.pin(number) as view:
            for name, field, _ in policy.indexed(view):
                opened = {part.file: part for part in view.snapshot.segments(field)}
                for record in view.snapshot.records.get(field, ()):
                    part = opened.get(record.file)
                    if part is None or part.segment.healed.get("removed") or erased.intersect(BitMap(part.segment.docids)):
                        return Build("purge", name, field, record.first, record.end, (record,), anew=True)
        return None

    def _compact_all(self, number: int, erased: BitMap) -> int:
        dropped = 0
        for _ in range(_ROUNDS):
            dropped += self.compact(number)["rows_dropped"]
            with self.pin(number) as view:
                if not _still_stored(view, erased):
                    return dropped
        raise StorageError(
            "deleted rows are still stored, because other writers kept adding new ones; run purge again when there are fewer writes"
        )

    def _scan(self, patterns: Patterns) -> dict[str, Any]:
        """The result of the scan of all files. alike: how many of the searched byte strings also occur in live points."""
        hits = erasure_scan.in_files(Search(patterns.all), self.directory.path)
        alike: set[bytes] = set()
        if hits:
            with self.directory.env.read() as txn:
                alike = erasure_scan.in_records(Search(hits), txn)
        left = sorted({file for pattern, files in hits.items() if pattern not in alike for file in files})
        return {"alike": len(alike), "proven": not left, "residue": left}


def _bytes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size * path.is_file()
        except FileNotFoundError:
            continue
    return total


def _still_stored(view: View, erased: BitMap) -> bool:
    docids = np.asarray(erased.to_array(), dtype=np.uint32)
    return any(
        True
        for field, part in compact.parts(view.snapshot.meta)
        for _ in compact.units(view.snapshot.table(view.store, field, part), docids, 0.0)
    )


def _collect(view: View, number: int, patterns: Patterns) -> BitMap:
    """Add the bytes of dead rows that are still stored to the patterns. Returns all dead rows."""
    table = view.snapshot.table(view.store, format.ROWS_FIELD, format.FORWARD)
    stored = BitMap()
    for _, _, docids in table.between(0, view.rows):
        stored |= BitMap(docids)
    docids = np.asarray((stored & view.dead).to_array(), dtype=np.int64)
    for record in table.records(docids.tolist()):
        patterns.rows += patterns.add(bytes(record))
    ids = set(format.unpack_ids(table.records(docids.tolist())))
    for value, entry in zip(ids, view.store.entries(list(ids)), strict=True):
        if entry is None:
            patterns.ids += patterns.add(erasure_scan.id_pattern(format.id_key(number, value)))
    for name, spec in view.schema.vectors.items():
        column = fields.read(view.store, view.fields[name], spec, docids)
        for vector in FIELD_TYPES[spec.kind].stored_bytes(spec, column, view.schema.is_bm25(name)) if column is not None else ():
            patterns.vectors += patterns.add(vector)
    return view.dead.copy()
