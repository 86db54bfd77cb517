"""The registry of a collection's index files, and those of them that this process has opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vectordb_client.model.fields import VectorField

from ..index.base import IndexKind
from ..storage import segments
from ..storage.format import Txn
from ..storage.segments import Record
from .directory import Directory


@dataclass(frozen=True, eq=False)
class OpenSegment:
    """A mapped index file of docids [first, end)."""

    first: int
    end: int
    file: str
    segment: IndexKind
    record: Record


class Registry:
    """The index files of a collection between two changes of the registry; all snapshots of that time share it.

    records: by field number, in the order of docids. problems: a line for each damaged record.
    """

    def __init__(self, txn: Txn, collection: int, replacements: int, previous: Registry | None, directory: Directory):
        self.replacements = replacements  # the number of changes of the registry
        self.records, self.problems = segments.records(txn, collection)
        self._env, self._files = directory.env, directory.index_files
        self._changes = self._files.changes
        self._open: dict[int, tuple[OpenSegment, ...]] = {}
        # The segments of the previous registry, kept until those of this one are open: a file of both is mapped only once.
        self._open_before = {} if previous is None else {**previous._open_before, **previous._open}

    def segments(self, field: int, specs: Mapping[int, VectorField], txn_id: int) -> tuple[OpenSegment, ...]:
        """The usable segments of a field, ordered by first docid. specs: the fields by number. txn_id: the caller's transaction."""
        if self._files.changes != self._changes:  # a file turned out to be unusable
            self._changes, self._open = self._files.changes, {}
        opened = self._open.get(field)
        return self._opened(field, specs, txn_id) if opened is None else opened

    def _opened(self, field: int, specs: Mapping[int, VectorField], txn_id: int) -> tuple[OpenSegment, ...]:
        opened, complete = [], True
        for record in self.records.get(field, ()):
            try:
                segment = self._files.open(record, specs[field])
            except FileNotFoundError:
                if self._env.last_transaction() == txn_id:
                    self._files.missing(record)
                else:  # replaced meanwhile: the next snapshot has the new file
                    complete = False
                continue
            if segment is not None:
                opened.append(OpenSegment(record.first, record.end, record.file, segment, record))
        result = tuple(opened)
        if complete:
            self._open[field] = result
            self._open_before.pop(field, None)
        return result
