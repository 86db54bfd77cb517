"""Decides which maintenance is due. The functions only read, and decide from counts and sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vectordb_client.model.fields import VectorField

from ..engine.snapshot import OpenSegment, View
from ..index.base import kinds_of
from ..storage.segments import Record

# Constants: unit and meaning. Chosen, not measured.
SEAL_ROWS = 8_192  # with fewer rows an exact scan of the tail costs no more than a segment
SEAL_ALWAYS_ROWS = 131_072  # a tail of this size is indexed even during writes, so a bulk load ends in a few large segments
QUIET_SECONDS = 0.5  # without writes to the collection, before it counts as quiet
MERGE_SEGMENTS = 4  # this many neighbours of one size tier are merged
TIER_FACTOR = 4  # ratio of the sizes of two tiers
DEAD_SHARE = 0.25  # of a segment's rows: above it the segment is built again without its dead rows
HEAL_SHARE = 0.10  # of a segment's rows that were added beside it or died: then they are merged, if its file can be healed
HEAL_MOST = 0.5  # the most rows that are added then, relative to its own: with more the file would be built anew
SPARE_SECONDS = 60.0  # after which a dead row may be removed in the background; until then cursors of searches find it
HISTORY_LOOKS = 32  # times in the span of a history that a look for rows which it needs no longer is repeated
CHUNK_DEAD_SHARE = 0.15  # of a chunk's rows: above it the chunk is written again without its dead rows
COMPACT_ROWS = 1_024  # stored dead rows before chunks are examined
COMPACT_SHARE = 0.05  # of the stored rows, likewise
COMPACT_BUSY_SHARE = 0.25  # share of dead rows above which chunks are compacted even during writes
COMPACT_BYTES = 32 << 20  # bytes of chunks per transaction, so that a writer waits at most about 0.1 s
COMPACT_FRACTION = 32  # a transaction rewrites at most 1/32 of the total: the file grows by about two transactions
MEAN_DRIFT = 1.5  # factor by which the mean text length changed since a segment was built: above it, it is built again
OPTIMIZED_DRIFT = 1.1  # the same for optimize()
OPTIMIZE_ROWS = 256  # optimize() leaves a smaller tail without an index


@dataclass(frozen=True)
class Span:
    """Docids [first, end) of a field: the range of an index record, or with ``record`` None a range that no record covers.

    rows: live rows with the field. dead: rows of the file that died since it was built. lost: the file can't be used. drift: factor, at
    least 1, by which the mean text length of a BM25 field has changed since. The larger it is, the worse is the order of its posting lists.
    renewable: whether a merge can be made from its file, instead of a build.
    """

    first: int
    end: int
    rows: int
    dead: int = 0
    record: Record | None = None
    lost: bool = False
    drift: float = 1.0
    renewable: bool = False


@dataclass(frozen=True)
class Build:
    """A job: index docids [first, end) of a field in one file, which replaces some records. kind: the reason. anew: of the rows alone, not
    from an earlier file, so that nothing is left of rows which that had.
    """

    kind: str
    name: str
    field: int
    first: int
    end: int
    replaced: tuple[Record, ...] = ()
    anew: bool = False


def indexed(view: View) -> Iterator[tuple[str, int, VectorField]]:
    """(name, number, spec) of the fields whose definitions ask for an index."""
    for name, spec in view.schema.vectors.items():
        if kinds_of(spec):
            yield name, view.fields[name], spec


def most_rows(spec: VectorField) -> int:
    """The largest number of rows that a segment of the field may have."""
    return max(kind.max_rows(spec) for kind in kinds_of(spec))


def seal_rows(spec: VectorField) -> int:
    """The rows of a tail of the field from which it is indexed."""
    return min([SEAL_ROWS, *(kind.seal_rows for kind in kinds_of(spec) if kind.seal_rows is not None)])


def survey(view: View, field: int) -> list[Span]:
    """All docids of the collection as consecutive ranges: index records, and gaps between them."""
    snapshot = view.snapshot
    opened = {part.file: part for part in snapshot.segments(field)}
    pieces = [_piece(view, record, opened.get(record.file)) for record in snapshot.records.get(field, ())]
    low = 0
    for piece in [*pieces, Span(view.rows, view.rows, 0)]:
        if low < piece.first:
            pieces.append(Span(low, piece.first, len(snapshot.live_between(view.store, field, low, piece.first))))
        low = max(low, piece.end)
    return sorted(pieces, key=lambda piece: piece.first)


def _piece(view: View, record: Record, part: OpenSegment | None) -> Span:
    if part is None:
        return Span(record.first, record.end, record.rows, 0, record, lost=True)
    dead = view.snapshot.dead_in(part)
    drift = part.segment.drift(view.store.texts(record.field))
    return Span(record.first, record.end, record.rows - dead, dead, record, drift=drift, renewable=part.segment.renewable)


def next_build(name: str, field: int, spec: VectorField, pieces: Sequence[Span], quiet: bool) -> tuple[int, Build] | None:
    """(rank, build) of the most useful build for the background; a lower rank is more useful. None if no build is due."""
    limit, tail = most_rows(spec), seal_rows(spec) if quiet else SEAL_ALWAYS_ROWS
    kinds = (
        ("rebuild", _lost(pieces)),
        ("merge", _healings(pieces, limit, tail, quiet)),
        ("seal", _tails(pieces, tail)),
        ("merge", _tiers(pieces, limit)),
        ("purge", _dead(pieces, limit)),
        ("refresh", _drifted(pieces)),
    )
    for rank, (kind, groups) in enumerate(kinds):
        for group in groups:
            return rank, _build(kind, name, field, group)
    return None


def next_optimization(name: str, field: int, spec: VectorField, pieces: Sequence[Span], rows: int, sequence: int) -> Build | None:
    """The next build that ``optimize`` needs to reach as few segments as possible, without dead rows. None if there is none.

    rows, sequence: of the collection when optimize() was called. Later writes and deletions are ignored, so that it ends.
    """
    limit = most_rows(spec)
    group: list[Span] = []
    for piece in [*(piece for piece in pieces if piece.first < rows), None]:
        if piece is not None and (not group or sum(p.rows for p in group) + piece.rows <= limit):
            group.append(piece)
            continue
        if group and _improvable(group, sequence):
            return _build("optimize", name, field, group)
        group = [] if piece is None else [piece]
    return None


def _improvable(group: Sequence[Span], sequence: int) -> bool:
    segments = [(piece, piece.record.sequence < sequence) for piece in group if piece.record is not None]
    if any(piece.drift > OPTIMIZED_DRIFT and older for piece, older in segments):
        return True
    if len(segments) > 1 or any(piece.lost or (piece.dead and older) for piece, older in segments):
        return True
    return sum(piece.rows for piece in group if piece.record is None) >= OPTIMIZE_ROWS


def _build(kind: str, name: str, field: int, group: Sequence[Span]) -> Build:
    replaced = tuple(piece.record for piece in group if piece.record is not None)
    return Build(kind, name, field, group[0].first, group[-1].end, replaced)


def _lost(pieces: Sequence[Span]) -> Iterator[list[Span]]:
    return ([piece] for piece in pieces if piece.lost)


def _drifted(pieces: Sequence[Span]) -> Iterator[list[Span]]:
    return ([piece] for piece in pieces if piece.drift > MEAN_DRIFT)


def _tails(pieces: Sequence[Span], enough: int) -> Iterator[list[Span]]:
    return ([piece] for piece in pieces if piece.record is None and piece.rows >= enough)


def _tiers(pieces: Sequence[Span], limit: int) -> Iterator[list[Span]]:
    """Groups of neighbours to merge: ``MERGE_SEGMENTS`` of one size tier, and smaller ones between them. The lowest tier comes first."""
    for tier in sorted({_tier(piece) for piece in pieces if piece.record is not None}):
        group: list[Span] = []
        for piece in [*pieces, None]:
            joins = bool(group) or (piece is not None and piece.record is not None)  # a segment begins a group
            if piece is not None and joins and _tier(piece) <= tier and sum(p.rows for p in group) + piece.rows <= limit:
                group.append(piece)
                continue
            if sum(p.record is not None and _tier(p) == tier for p in group) >= MERGE_SEGMENTS:
                yield group
            group = [piece] if piece is not None and piece.record is not None and _tier(piece) <= tier else []


def _healings(pieces: Sequence[Span], limit: int, tail: int, quiet: bool) -> Iterator[list[Span]]:
    """Groups of a segment whose file can be healed and its smaller neighbours, once enough rows were added or died. tail: rows from which a
    range without an index counts. While writes go on, a shorter one is left alone, and dead rows don't count (``_dead``).
    """
    for at, piece in enumerate(pieces):
        if not piece.renewable:
            continue
        group, added, counted = [piece], 0, 0
        for side in (pieces[at + 1 :], pieces[:at][::-1]):
            for near in side:
                fits = added + near.rows <= min(HEAL_MOST * piece.rows, limit - piece.rows)
                if near.lost or not fits or (near.record is None and not quiet and near.rows < tail):
                    break
                group.append(near)
                added += near.rows
                counted += near.rows if near.record is not None or near.rows >= tail else 0
        if max(counted, piece.dead if quiet else 0) >= max(HEAL_SHARE * (piece.rows + piece.dead), 1):
            yield sorted(group, key=lambda each: each.first)


def _tier(piece: Span) -> int:
    return int(math.log(max(piece.rows / SEAL_ROWS, 1), TIER_FACTOR))


def _dead(pieces: Sequence[Span], limit: int) -> Iterator[list[Span]]:
    """Groups of neighbouring segments with many dead rows."""
    group: list[Span] = []
    for piece in [*pieces, None]:
        heavy = piece if piece is not None and piece.record is not None and piece.dead > DEAD_SHARE * (piece.rows + piece.dead) else None
        if heavy is not None and sum(p.rows for p in group) + heavy.rows <= limit:
            group.append(heavy)
            continue
        if group:
            yield group
        group = [] if heavy is None else [heavy]


def pending(view: View) -> int:
    """Number of jobs that are due if nobody writes. While history is kept, dead rows aren't a sign of one."""
    builds = [next_build(name, field, spec, survey(view, field), True) for name, field, spec in indexed(view)]
    compact = not view.snapshot.meta.history and worth_compacting(view, None, True) is not None
    return sum(build is not None for build in builds) + compact + bool(view.snapshot.record_problems)


def batch_bytes(total: int) -> int:
    """Bytes of chunks to write again per transaction, if there are ``total`` bytes."""
    return min(COMPACT_BYTES, max(COMPACT_BYTES // 8, total // COMPACT_FRACTION))


def worth_compacting(view: View, before: int | None, quiet: bool) -> int | None:
    """Number of stored dead rows if it is worth looking for chunks to compact, else None. before: their number when a look found none."""
    stored = view.snapshot.stored_rows(view.store)
    dead = stored - view.snapshot.live
    step = max(COMPACT_ROWS, COMPACT_SHARE * stored)
    if dead < step or (before is not None and dead < before + step):
        return None
    return dead if quiet or dead > COMPACT_BUSY_SHARE * stored else None
