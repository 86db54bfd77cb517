"""The change stream: what each batch did, in order, from a sequence on. It keeps replicas and caches up to date.

The log says which docids a batch wrote and which ids it deleted; the points are read from the rows. A row that a later batch replaced or
deleted appears only in that batch. So the cost depends on the number of live points, not on how often they were written, and applying all
changes gives the present state of the collection.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import ClosedError, DeadlineError, InvalidArgumentError, NotFoundError
from vectordb_client.model.checks import check_flag, check_names, check_selection, check_since, check_timeout
from vectordb_client.model.results import Change

from ..engine.snapshot import Snapshots, View
from ..filters.cache import FilterCache
from ..storage.lmdb_env import Env
from . import read
from .tenants import pinned

LOOK_SECONDS = 0.02  # between two checks for new changes
_ROWS = 1_000  # rows (approximately) and batches that are read per transaction
_BATCHES, _POINT_BATCHES = 256, 16  # most batches per transaction; most of them with points


def changes(snapshots: Snapshots, **arguments: Any) -> Iterator[Change]:
    """See ``Collection.changes``; all its arguments."""
    return _whole(pieces(snapshots, **arguments))


def pieces(
    snapshots: Snapshots,
    *,
    since: Any,
    follow: Any,
    with_vectors: Any,
    with_attributes: Any,
    timeout: Any,
    own: tuple[str, FilterCache] | None = None,
) -> Iterator[tuple[Change, bool]]:
    """(change, whether the next one continues the same batch). Like ``changes``, but large batches are split into several changes.

    own: (a tenant, the cache of filters), to leave out the points of others. Their batches are there, without ids.
    """
    since, timeout = check_since(since), check_timeout(timeout)
    check_flag("follow", follow)
    with snapshots.pin() as view:
        attributes = check_selection("with_attributes", with_attributes, view.schema.attributes)
        vectors = check_names("with_vectors", with_vectors, view.schema.vectors)
        if since > view.sequence:
            raise InvalidArgumentError(f"since is {since}, but the newest sequence is {view.sequence}", field="since", value=since)
        _check_kept(view, since)
    # Names are looked up for each change, because "all" includes fields that are added meanwhile.
    wanted = (with_attributes if with_attributes is True else attributes, True if with_vectors is True else vectors)
    deadline = None if timeout is None else time.monotonic() + timeout
    return _stream(snapshots, since, follow, wanted, deadline, own)


def _whole(pieces: Iterator[tuple[Change, bool]]) -> Iterator[Change]:
    parts: list[Change] = []
    for part, more in pieces:
        parts.append(part)
        if not more:
            yield part if len(parts) == 1 else _joined(parts)
            parts = []


def _joined(parts: list[Change]) -> Change:
    """Join the parts of a batch into one change."""
    ids = tuple(value for part in parts for value in part.ids)
    return Change(parts[0].sequence, "write", ids, tuple(point for part in parts for point in part.points or ()))


def _stream(
    snapshots: Snapshots,
    sequence: int,
    follow: bool,
    wanted: tuple[Any, Any],
    deadline: float | None,
    own: tuple[str, FilterCache] | None,
) -> Iterator[tuple[Change, bool]]:
    env = snapshots.directory.env
    row = 0  # where the next part of the batch after ``sequence`` begins
    while True:
        try:
            newest = _newest(env)
            with snapshots.pin() if own is None else pinned(snapshots, *own) as view:
                batches = _after(view, sequence, row, *wanted, None if own is None else own[0])
        except ClosedError:
            if follow:
                return
            raise
        for change, row in batches:
            yield change, row > 0
            sequence = sequence if row else change.sequence
        late = not row and deadline is not None and time.monotonic() >= deadline  # a batch that was begun is completed
        if late and not follow:
            raise DeadlineError(f"the timeout passed before the changes after sequence {sequence} were read", field="timeout")
        if late or not (batches or follow):
            return
        if not batches and not _waited(env, newest, deadline):
            return


def _newest(env: Env) -> tuple[int, int]:
    """What changes with every commit. The number of the newest transaction is not enough: a purge replaces data.mdb, and the new file
    counts anew, so it can be at the same number.
    """
    return env.newest_transaction(), env.map_moves


def _waited(env: Env, newest: tuple[int, int], deadline: float | None) -> bool:
    """Wait for a commit after ``newest``. False if the deadline passed or the database was closed."""
    try:
        while _newest(env) == newest:
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(LOOK_SECONDS)
    except ClosedError:
        return False
    return True


def _check_kept(view: View, since: int) -> None:
    """Raises NotFoundError if the batch after ``since`` was dropped from the log."""
    if since < view.sequence and view.store.log(since + 1) is None:
        oldest = view.store.oldest_log()
        raise NotFoundError(
            f"since is {since}, but the oldest change in the log is {oldest}; read the whole collection, then continue from its sequence",
            field="since",
            value=since,
        )


def _after(
    view: View, since: int, row: int, attributes: bool | Sequence[str], vectors: bool | Sequence[str], tenant: str | None
) -> list[tuple[Change, int]]:
    """The next changes after ``since``; at least one, if there are any. The first starts at row ``row`` of its batch.

    Each comes with the row where its next part begins, or 0 if it is complete; only the last one can be incomplete.
    """
    _check_kept(view, since)
    names = check_names("with_vectors", vectors, view.schema.vectors)
    batches: list[tuple[Change, int]] = []
    rows = with_points = 0
    for sequence in range(since + 1, min(view.sequence, since + _BATCHES) + 1):
        entry = view.store.log(sequence)
        assert entry is not None  # the oldest of them is kept, so all are
        change, row = _change(view, sequence, entry, row, attributes, names, tenant)
        batches.append((change, row))
        rows += len(change.ids)
        with_points += change.points is not None
        if rows >= _ROWS or row or with_points == _POINT_BATCHES:
            break
    return batches


def _change(
    view: View, sequence: int, entry: dict, row: int, attributes: bool | Sequence[str], vectors: Sequence[str], tenant: str | None
) -> tuple[Change, int]:
    """(part of a change from row ``row`` on, the row where its next part begins, or 0 if this is the last part)."""
    if entry["op"] == "schema":
        return Change(sequence, "schema", schema=view.schema), 0
    if entry["op"] == "delete":
        if "ids" not in entry:
            raise NotFoundError(
                f"since is less than {sequence}, but a purge removed the ids that were deleted there; read the whole collection, then "
                "continue from its sequence",
                field="since",
                value=sequence,
            )
        ids = entry["ids"]
        if tenant is not None:  # a batch that was written before the collection had tenants names none
            ids = [value for value, owner in zip(ids, entry.get("tenants", ()), strict=False) if owner == tenant]
        return Change(sequence, "delete", tuple(uuid.UUID(bytes=value) if type(value) is bytes else value for value in ids)), 0
    low, high = entry["first"], entry["first"] + entry["rows"]
    shown = BitMap(range(low + row, high)) - view.dead
    docids = np.asarray((shown if view.within is None else shown & view.within.rows(view)).to_array(), dtype=np.int64)
    if attributes is False and not vectors:
        return Change(sequence, "write", tuple(_plain(view.ids(docids)))), 0
    if not len(docids):
        return Change(sequence, "write", (), ()), 0
    some = docids[: read.PIECE_ROWS]
    entries, ids = [(docid, sequence) for docid in some.tolist()], _plain(view.ids(some))
    points = next(read.points(view, ids, entries, attributes, vectors))
    more = len(points) < len(docids)
    return Change(sequence, "write", tuple(ids[: len(points)]), tuple(points)), int(docids[len(points)]) - low if more else 0


def _plain(ids: Any) -> list:
    return [value.item() if isinstance(value, np.generic) else value for value in ids]
