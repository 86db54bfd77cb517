"""When is what done? Everything here reads, and decides by numbers alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..snapshot import OpenSegment, View
from ..storage.segments import Record
from ..types import Dense, Sparse, VectorField

SEAL_ROWS = 8_192  # below, searching the tail exactly costs no more than a segment would
SEAL_ALWAYS_ROWS = 131_072  # sealed even while writes go on: a bulk load ends in a few large segments
QUIET_SECONDS = 0.5  # without a write to the collection
MERGE_SEGMENTS = 4  # so many neighbours of one size tier become one
TIER_FACTOR = 4
MAX_SEGMENT_ROWS = 4_000_000
MAX_SPARSE_ROWS = 2_000_000
MAX_BUILD_BYTES = 6 << 30  # of vectors, copied for a build
DEAD_SHARE = 0.25  # of a segment's rows: then it is built again without them
CHUNK_DEAD_SHARE = 0.20  # of a chunk's rows: then it is written again without them
COMPACT_ROWS = 1_024  # dead rows stored that are worth a look
COMPACT_SHARE = 0.05
COMPACT_BUSY_SHARE = 0.25  # dead share from which on chunks are compacted even while writes go on
COMPACT_BYTES = 32 << 20  # of chunks in one transaction: a writer waits a tenth of a second for it at most
COMPACT_FRACTION = 32  # of all that is to be written again, when that is less: the file grows by about two transactions
MEAN_DRIFT = 1.5  # times that texts have become longer or shorter on average since a segment was built: then it is built again
OPTIMIZED_DRIFT = 1.1  # the same when the user asks to optimize
OPTIMIZE_ROWS = 256  # a smaller tail stays a tail when the user asks to optimize


@dataclass(frozen=True)
class Piece:
    """A stretch of docids [first, end) of a field: what a record names, or (record None) what none does.

    rows: live rows with the field. dead: rows of the file that died since. lost: the file can't be used. drift: how many times longer or
    shorter the texts of a BM25 field have become on average since it was built, at least 1: lists that were right then lie less well.
    """

    first: int
    end: int
    rows: int
    dead: int = 0
    record: Record | None = None
    lost: bool = False
    drift: float = 1.0


@dataclass(frozen=True)
class Build:
    """Docids [first, end) of a field are to be indexed by one file, in the place of some records. kind: what for."""

    kind: str
    name: str
    field: int
    first: int
    end: int
    replaced: tuple[Record, ...] = ()


def wants_index(spec: VectorField) -> bool:
    """Whether a field is to be indexed."""
    return isinstance(spec, (Dense, Sparse)) and spec.index is not None


def indexed(view: View) -> Iterator[tuple[str, int, Dense | Sparse]]:
    """(name, number, spec) of the fields that want an index."""
    for name, spec in view.schema.vectors.items():
        if wants_index(spec):
            yield name, view.fields[name], spec


def most_rows(spec: Dense | Sparse) -> int:
    """The most rows a segment of a field may have."""
    if isinstance(spec, Sparse):
        return MAX_SPARSE_ROWS
    return max(1, min(MAX_SEGMENT_ROWS, MAX_BUILD_BYTES // (4 * spec.dim)))


def survey(view: View, field: int) -> list[Piece]:
    """The collection's docids in order, by what covers them."""
    snapshot = view.snapshot
    there = {part.file: part for part in snapshot.segments(field)}
    pieces = [_piece(view, record, there.get(record.file)) for record in snapshot.records.get(field, ())]
    low = 0
    for piece in [*pieces, Piece(view.rows, view.rows, 0)]:
        if low < piece.first:
            pieces.append(Piece(low, piece.first, len(snapshot.live_between(view.store, field, low, piece.first))))
        low = max(low, piece.end)
    return sorted(pieces, key=lambda piece: piece.first)


def _piece(view: View, record: Record, part: OpenSegment | None) -> Piece:
    if part is None:
        return Piece(record.first, record.end, record.rows, 0, record, lost=True)
    dead = view.snapshot.dead_in(part)
    return Piece(record.first, record.end, record.rows - dead, dead, record, drift=_drift(view, record.field, part))


def _drift(view: View, field: int, part: OpenSegment) -> float:
    then = part.segment.meta.get("mean")
    texts = view.store.texts(field) if then is not None else None
    if texts is None or not texts.words:
        return 1.0
    now = texts.words / texts.documents
    return max(now / then, then / now)


def next_build(name: str, field: int, spec: Dense | Sparse, pieces: Sequence[Piece], quiet: bool) -> tuple[int, Build] | None:
    """(rank, build) of the most useful thing to do in the background; a lower rank is more useful."""
    limit = most_rows(spec)
    kinds = {
        "rebuild": _lost(pieces),
        "seal": _tails(pieces, quiet),
        "merge": _tiers(pieces, limit),
        "purge": _dead(pieces, limit),
        "refresh": _drifted(pieces),
    }
    for rank, (kind, groups) in enumerate(kinds.items()):
        for group in groups:
            return rank, _build(kind, name, field, group)
    return None


def next_optimization(name: str, field: int, spec: Dense | Sparse, pieces: Sequence[Piece], rows: int, sequence: int) -> Build | None:
    """The next build on the way to as few segments as the limit allows, without dead rows.

    rows, sequence: of the collection when it was asked for; what was written or died later can wait, so that this comes to an end.
    """
    limit = most_rows(spec)
    group: list[Piece] = []
    for piece in [*(piece for piece in pieces if piece.first < rows), None]:
        if piece is not None and (not group or sum(p.rows for p in group) + piece.rows <= limit):
            group.append(piece)
            continue
        if group and _improvable(group, sequence):
            return _build("optimize", name, field, group)
        group = [] if piece is None else [piece]
    return None


def _improvable(group: Sequence[Piece], sequence: int) -> bool:
    segments = [piece for piece in group if piece.record is not None]
    if any(piece.drift > OPTIMIZED_DRIFT and piece.record.sequence < sequence for piece in segments):
        return True
    if len(segments) > 1 or any(piece.lost or (piece.dead and piece.record.sequence < sequence) for piece in segments):
        return True
    return sum(piece.rows for piece in group if piece.record is None) >= OPTIMIZE_ROWS


def _build(kind: str, name: str, field: int, group: Sequence[Piece]) -> Build:
    replaced = tuple(piece.record for piece in group if piece.record is not None)
    return Build(kind, name, field, group[0].first, group[-1].end, replaced)


def _lost(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    return ([piece] for piece in pieces if piece.lost)


def _drifted(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    return ([piece] for piece in pieces if piece.drift > MEAN_DRIFT)


def _tails(pieces: Sequence[Piece], quiet: bool) -> Iterator[list[Piece]]:
    enough = SEAL_ROWS if quiet else SEAL_ALWAYS_ROWS
    return ([piece] for piece in pieces if piece.record is None and piece.rows >= enough)


def _tiers(pieces: Sequence[Piece], limit: int) -> Iterator[list[Piece]]:
    """Neighbours of which enough are of one size tier and the others, between them, smaller: the lowest tier first."""
    for tier in sorted({_tier(piece) for piece in pieces if piece.record is not None}):
        group: list[Piece] = []
        for piece in [*pieces, None]:
            fits = piece is not None and _tier(piece) <= tier and sum(p.rows for p in group) + piece.rows <= limit
            if fits and (group or piece.record is not None):
                group.append(piece)
                continue
            if sum(p.record is not None and _tier(p) == tier for p in group) >= MERGE_SEGMENTS:
                yield group
            group = [piece] if piece is not None and piece.record is not None and _tier(piece) <= tier else []


def _tier(piece: Piece) -> int:
    return int(math.log(max(piece.rows / SEAL_ROWS, 1), TIER_FACTOR))


def _dead(pieces: Sequence[Piece], limit: int) -> Iterator[list[Piece]]:
    """Neighbouring segments with many dead rows."""
    group: list[Piece] = []
    for piece in [*pieces, None]:
        heavy = piece is not None and piece.record is not None and piece.dead > DEAD_SHARE * (piece.rows + piece.dead)
        if heavy and sum(p.rows for p in group) + piece.rows <= limit:
            group.append(piece)
            continue
        if group:
            yield group
        group = [piece] if heavy else []


def pending(view: View) -> int:
    """How many pieces of work there are to do, when nobody writes."""
    builds = [next_build(name, field, spec, survey(view, field), True) for name, field, spec in indexed(view)]
    compact = worth_compacting(view, None, True) is not None
    return sum(build is not None for build in builds) + compact + bool(view.snapshot.record_problems)


def batch_bytes(total: int) -> int:
    """Bytes of chunks in one transaction, when ``total`` are to be written again."""
    return min(COMPACT_BYTES, max(COMPACT_BYTES // 8, total // COMPACT_FRACTION))


def worth_compacting(view: View, before: int | None, quiet: bool) -> int | None:
    """Dead rows stored, when there are enough of them to look for chunks to compact. before: how many there were when a look found none."""
    stored = view.snapshot.stored_rows(view.store)
    dead = stored - view.snapshot.live
    step = max(COMPACT_ROWS, COMPACT_SHARE * stored)
    if dead < step or (before is not None and dead < before + step):
        return None
    return dead if quiet or dead > COMPACT_BUSY_SHARE * stored else None
