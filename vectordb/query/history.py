"""Reads of earlier states: ``as_of``. A state consists of the rows that were live then, which compaction spares while history is kept.

The change log says which rows died since, and thereby which rows below the number of rows then were live. Rows never change, so vectors,
attributes and payloads are those of then; the id map is of the present, so ids of rows that died are read from the rows.
"""

from __future__ import annotations

import heapq
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import InvalidArgumentError, NotFoundError, PreconditionError
from vectordb_client.model.fields import VectorField
from vectordb_client.model.history import as_text, moment_of
from vectordb_client.model.values import Id

from ..common import clock, deadline
from ..engine.registry import OpenSegment, Registry
from ..engine.snapshot import Snapshot, View
from ..filters.cache import FilterCache
from ..storage import change_log, expiry, format, history
from ..storage.store import Store, Texts
from . import cursor as cursors
from .past import bm25_numbers, earlier, texts_of

# Constants: unit and meaning. Chosen, not measured.
STATES = 64  # states of a collection whose dead rows are remembered
MOMENTS = 4  # states whose snapshots and filters are kept
FILTER_BYTES = 16 << 20  # of the filters of each
AHEAD_SECONDS = 60.0  # by which the clock of a caller may be ahead


@dataclass(eq=False)
class _State:
    """What never changes of a state. rows: their number. dead: those that were dead, without those that had ended (ttl). at: Unix time of
    its commit in milliseconds; 0 if the log doesn't tell. texts: field → counters, of the fields that were needed.
    """

    sequence: int
    rows: int
    dead: BitMap
    at: int
    texts: dict[int, Texts] = field(default_factory=dict)


class _Moment:
    """A state as it was at a moment, for views of one snapshot. old: rows that were live, and are dead now. files: the snapshot's."""

    def __init__(self, snapshot: Snapshot, old: BitMap, files: _IndexFiles):
        self.snapshot, self.old, self.files = snapshot, old, files
        self._ids: dict[Id, int] | None = None

    def ids(self, view: View) -> dict[Id, int]:
        """id → docid of the old rows, in the order of ids."""
        if self._ids is None:  # two threads may make it at the same time
            docids = np.asarray(self.old.to_array(), np.int64)
            ids = view.ids(docids) if len(docids) else []
            pairs = zip(ids.tolist() if isinstance(ids, np.ndarray) else ids, docids.tolist(), strict=True)
            self._ids = dict(sorted(pairs, key=lambda pair: format.id_key(0, pair[0])))
        return self._ids


class _IndexFiles:
    """The index files that have all rows of a state: those made before it, and those of whose rows none has died since."""

    def __init__(self, registry: Registry, sequence: int, died: BitMap):
        self.records, self.problems = registry.records, registry.problems
        self._registry, self._sequence, self._died = registry, sequence, died
        self._chosen: dict[int, tuple[tuple[OpenSegment, ...], tuple[OpenSegment, ...]]] = {}

    def segments(self, field: int, specs: Mapping[int, VectorField], txn_id: int) -> tuple[OpenSegment, ...]:
        opened = self._registry.segments(field, specs, txn_id)
        known = self._chosen.get(field)
        if known is None or known[0] is not opened:
            known = self._chosen[field] = opened, tuple([part for part in opened if self._whole(part)])
        return known[1]

    def counts(self, specs: Mapping[int, VectorField], txn_id: int) -> tuple[int, int]:
        """(files that are used, files that lack rows of the state)."""
        used = sum(len(self.segments(field, specs, txn_id)) for field in specs)
        return used, sum(len(self._registry.segments(field, specs, txn_id)) for field in specs) - used

    def _whole(self, part: OpenSegment) -> bool:
        return part.record.sequence <= self._sequence or not self._died.range_cardinality(part.first, part.end)


class PastView(View):
    """A view of an earlier state."""

    def __init__(self, view: View, moment: _Moment, as_of: int | str):
        super().__init__(view.directory, view.txn, moment.snapshot, view.store.collection, view.again)
        self._moment, self.as_of, self._newest = moment, as_of, view.sequence

    @property
    def told(self) -> Mapping[str, Any]:
        used, left_out = self._moment.files.counts(self.snapshot.indexable, self.snapshot.txn_id)
        facts = {"sequence": self.sequence, "newest": self._newest, "old_rows": len(self._moment.old)}
        return {"as_of": facts | {"index_files": {"used": used, "left_out": left_out}}}

    def entries(self, ids: Iterable[Id]) -> list[tuple[int, int | None] | None]:
        asked, dead = list(ids), self.snapshot.dead
        entries: list[tuple[int, int | None] | None] = []
        for value, entry in zip(asked, self.store.entries(asked), strict=True):
            if entry is not None and entry[0] not in dead:
                entries.append(entry)
            else:
                docid = self._moment.ids(self).get(value)
                entries.append(None if docid is None else (docid, _written(self.store, docid, self.sequence)))
        return self.known_entries(entries)

    def ids_after(self, after: Id | None) -> Iterator[tuple[Id, int]]:
        dead, bound = self.snapshot.dead, b"" if after is None else format.id_key(0, after)
        old = ((format.id_key(0, value), value, docid) for value, docid in self._moment.ids(self).items())
        kept = ((format.id_key(0, value), value, docid) for value, docid in self.store.ids_after(after) if docid not in dead)
        merged = heapq.merge(kept, (each for each in old if each[0] > bound), key=lambda each: each[0])
        return ((value, docid) for _, value, docid in merged)


class Histories:
    """The earlier states of one collection that were read. filters: of the present state."""

    def __init__(self, filters: FilterCache):
        self._present = filters
        self._lock = threading.Lock()
        self._states: OrderedDict[int, _State] = OrderedDict()
        self._cached: OrderedDict[tuple[int, int | None], FilterCache] = OrderedDict()
        # By the present snapshot: an old one would keep index files open that were removed.
        self._moments: WeakKeyDictionary[Snapshot, dict[tuple[int, int | None], _Moment]] = WeakKeyDictionary()

    def at(self, view: View, as_of: int | str | None, cursor: str | None = None) -> tuple[View, FilterCache]:
        """(a view of the state that ``as_of`` asks for, the cache of its filters). view: of the present. cursor: of a page of that state.

        Raises PreconditionError if the collection keeps no history, NotFoundError for a state that is older, InvalidArgumentError for one
        in the future.
        """
        if as_of is None:
            return view, self._present
        first = _first(view)
        sequence = _sequence(view, as_of, first)
        if cursor is not None:  # its first page has found the sequence of a moment
            given = cursors.decode(cursor)
            if given.collection == view.store.collection and first <= given.sequence <= view.sequence:
                sequence = given.sequence
        with self._lock:
            state = self._state(view, sequence)
            ends = view.schema.ttl is not None
            moment = None if not ends else moment_of(as_of) if isinstance(as_of, str) else 1000 * state.at
            key = sequence, moment
            filters = self._cached[key] = self._cached.pop(key, None) or FilterCache(FILTER_BYTES)
            while len(self._cached) > MOMENTS:
                self._moments.get(view.snapshot, {}).pop(self._cached.popitem(last=False)[0], None)
            moments = self._moments.setdefault(view.snapshot, {})
            if key not in moments:
                moments[key] = _moment(view, state, moment)
            past = PastView(view, moments[key], as_of)
            past.within = view.within and view.within.elsewhere(filters)
            return past, filters

    def _state(self, view: View, sequence: int) -> _State:
        state = self._states.get(sequence)
        if state is None:
            later = min((each for each in self._states if sequence < each <= view.sequence), default=None)
            if later is None:
                state = _found(view.store, sequence, view.sequence, view.rows, view.snapshot.stored_dead)
            else:
                state = _found(view.store, sequence, later, self._states[later].rows, self._states[later].dead)
            self._states[sequence] = state
        self._states.move_to_end(sequence)
        while len(self._states) > STATES:
            self._states.popitem(last=False)
        return state


def facts(view: View) -> dict[str, Any]:
    """What ``info`` says about the history: seconds, the earliest sequence that can be read, and its time as ISO text (None: not known)."""
    meta = view.snapshot.meta
    if not meta.history:
        return {}
    first = history.first_of(view.txn, view.store.collection, meta)
    at = _at(view.store, first)
    return {"seconds": meta.history, "first": first, "time": as_text(1000 * at) if at else None}


def _first(view: View) -> int:
    """The earliest sequence that can be read. Raises PreconditionError if no history is kept."""
    meta = view.snapshot.meta
    if not meta.history:
        what = (
            'as_of needs a collection that keeps its history; keep_history("7d") keeps it from now on, '
            'create_collection(…, history="7d") from the beginning'
        )
        raise PreconditionError(what, field="as_of")
    return history.first_of(view.txn, view.store.collection, meta)


def _sequence(view: View, as_of: int | str, first: int) -> int:
    """The sequence of the state that is asked for. first: the earliest that can be read."""
    if isinstance(as_of, int):
        if as_of > view.sequence:
            what = f"as_of is {as_of}, but the newest sequence is {view.sequence}"
            raise InvalidArgumentError(what, field="as_of", value=as_of)
        if as_of < first:
            raise _older(view, as_of, first)
        return as_of
    moment = moment_of(as_of)
    if moment > clock.now() + 1_000_000 * AHEAD_SECONDS:
        what = f"as_of is {as_of}, which is in the future; leave it out to read the present state"
        raise InvalidArgumentError(what, field="as_of", value=as_of)
    milliseconds, low, high = moment // 1000, first, view.sequence
    begun = _at(view.store, first)
    if first and not begun and (first == high or milliseconds < _at(view.store, first + 1)):
        what = f"as_of is {as_of}, but the change log doesn't say when sequence {first} was written; give a sequence number"
        raise NotFoundError(what, field="as_of", value=as_of)
    if milliseconds < begun:
        raise _older(view, as_of, first)
    while low < high:  # the last sequence whose time is not later
        middle = (low + high + 1) // 2
        if _at(view.store, middle) <= milliseconds:
            low = middle
        else:
            high = middle - 1
    return low


def _older(view: View, as_of: int | str, first: int) -> NotFoundError:
    at = _at(view.store, first)
    since = f" ({datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec='milliseconds')})" if at else ""
    what = f"as_of is {as_of}, but the history begins at sequence {first}{since}; earlier states were not kept, or a purge removed them"
    return NotFoundError(what, field="as_of", value=as_of)


def _at(store: Store, sequence: int) -> int:
    """Unix time of a sequence in milliseconds; 0 for sequence 0, and if the log doesn't tell."""
    entry = store.log(sequence) if sequence else None
    return 0 if entry is None else entry.get("at", 0)


def _found(store: Store, sequence: int, later: int, rows: int, dead: BitMap) -> _State:
    """The state of a sequence, from a later one with so many rows, of which these are dead."""
    died: list[int] = []
    for number in deadline.each(range(later, sequence, -1)):
        entry = store.log(number)
        assert entry is not None  # of all entries after the first state
        died.extend(entry.get("dead", ()))
        if entry["op"] == "write":
            rows = entry["first"]
    return _State(sequence, rows, (dead - BitMap(died)) & BitMap(range(rows)), _at(store, sequence))


def _moment(view: View, state: _State, moment: int | None) -> _Moment:
    """A state at a moment (Unix time in microseconds; None where points don't end)."""
    now, before = view.snapshot, BitMap(range(state.rows))
    later = BitMap(range(state.rows, now.rows))
    died = (before - state.dead) & now.stored_dead
    for number in bm25_numbers(view):
        if number not in state.texts:
            state.texts[number] = texts_of(view, number, later - now.stored_dead, died)
    ended, old = BitMap(), died
    if moment is not None:
        name = view.schema.ttl
        assert name is not None
        docids = np.asarray(died.to_array(), np.int64)
        moments = [row.attributes.get(name) for row in view.store.rows(docids)] if len(docids) else []
        gone = BitMap([docid for docid, end in zip(docids.tolist(), moments, strict=True) if end is not None and end <= moment])
        ended = ((expiry.due(view.txn, view.store.collection, moment)[0] & before) - state.dead) | gone
        old = died - gone
    dead = state.dead | later
    files = _IndexFiles(now.registry, state.sequence, died)
    snapshot = earlier(
        now,
        state.sequence,
        dead | ended,
        dict(state.texts),
        files,
        expired=ended,
        ends=expiry.NEVER,
        stored_dead=dead,
        stored_live=now.rows - len(dead),
    )
    return _Moment(snapshot, old, files)


def _written(store: Store, docid: int, sequence: int) -> int | None:
    """The sequence that wrote a row of the state of a sequence; None if the log doesn't tell any more."""
    low, high = change_log.oldest(store.txn, store.collection) or 1, sequence
    while low <= high:
        middle = at = (low + high) // 2
        entry = store.log(at)
        while entry is not None and entry["op"] != "write" and at > low:
            at -= 1
            entry = store.log(at)
        if entry is not None and entry["op"] != "write":
            at -= 1
        if at < low or entry is None:
            low = middle + 1
        elif docid < entry["first"]:
            high = at - 1
        elif docid < entry["first"] + entry["rows"]:
            return at
        else:
            low = middle + 1
    return None
