"""What ``info`` returns: facts about a collection."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import export, info_text
from .schema import Schema


@dataclass(frozen=True)
class CollectionInfo:
    """Facts about a collection. ``print(info)`` shows them as a short text.

    Attributes:
        name: the name of the collection.
        schema: its vector fields and attributes.
        points: the number of live points.
        sequence: the sequence number of the newest write.
        deleted_rows: rows of deleted and replaced points that are still stored until a compaction removes them. The counts in
            ``statistics`` (rows, chunks, nonzeros, dictionary) include them; ``optimize()`` removes them.
        bytes: the size of the stored values. Index files are not included.
        statistics: field → facts. All fields: kind, rows, chunks, bytes. Dense and sparse fields also have:

            * segments: one dict for each index file: first and end (its range of rows), rows, dead (deleted rows among them), bytes; for
              dense fields graph (whether it has a graph) and, if there are any, apart (outliers that every search scores exactly).
            * damaged: index files that are not used because they are damaged. stale: index files that are not used because another
              version wrote them; they are rebuilt.
            * tail: the number of live rows that are not indexed yet.
            * dictionary (sparse): terms, imbalance of their frequencies, postings_a_query (postings that an exact search for the terms of a
              stored row reads), heaviest (term, rows, and word where it is known).
            * recall: one dict for each recall that was asked for: audited (searches that were repeated exactly in the background), mean
              (the recall they reached), predicted, p5 (the 5th percentile), since the answering process opened the directory.
        maintenance: state (running, idle, failed, or off: only on request); task, stage and share (0 to 1) of the work under way; error of
            the last failure; pending: the number of tasks that wait.
        history: of a collection that keeps its history: seconds, for which it is kept; first, the earliest sequence that ``as_of`` can
            read; time, when that was written (ISO text; None if that isn't known). Empty if none is kept.
        branch: of a branch: of (the name of the original), sequence (of the original when the branch was made), made (Unix time, seconds),
            dropped (whether the original was dropped), shared_bytes (size of the values that other collections store for the branch;
            ``bytes`` includes it). None for other collections.
    """

    name: str
    schema: Schema
    points: int
    sequence: int
    deleted_rows: int
    bytes: int
    statistics: Mapping[str, Mapping[str, Any]]
    maintenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    history: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    branch: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return info_text.info_text(self)

    def to_dict(self) -> dict[str, Any]:
        """The facts as plain JSON data."""
        return {
            **{key: getattr(self, key) for key in ("name", "points", "sequence", "deleted_rows", "bytes")},
            "schema": self.schema.to_dict(),
            "statistics": {name: dict(values) for name, values in self.statistics.items()},
            "maintenance": dict(self.maintenance),
            **({"history": dict(self.history)} if self.history else {}),
            **({} if self.branch is None else {"branch": dict(self.branch)}),
        }

    def _repr_html_(self) -> str:
        return export.html_text(str(self))
