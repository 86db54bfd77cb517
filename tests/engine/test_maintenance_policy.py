"""Which segments are sealed, merged, rebuilt or purged next: the policy alone."""

from __future__ import annotations

import dataclasses

from vectordb import (
    Dense,
)
from vectordb.index.dense import kind
from vectordb.maintenance import policy
from vectordb.maintenance.policy import Span
from vectordb.storage.segments import Record


def piece(first, end, rows=None, dead=0, segment=True, lost=False):
    record = Record(16, first, end, end - first, 0, "f", 1, 1, {}, 1) if segment else None
    return Span(first, end, end - first if rows is None else rows, dead, record, lost)


def plan(*pieces, quiet=True, limit=10**9):
    spec = Dense(4)
    return policy.next_build("v", 16, spec, pieces, quiet)


def shape(found):
    return None if found is None else (found[1].kind, found[1].first, found[1].end, len(found[1].replaced))


def test_the_most_useful_work_comes_first():
    k = policy.SEAL_ROWS
    lost, tail = piece(0, k, lost=True), piece(6 * k, 7 * k + 1, segment=False)
    merged = [piece(i * k, (i + 1) * k) for i in range(1, 5)]
    heavy = piece(5 * k, 6 * k, rows=k // 2, dead=k // 2)
    assert shape(plan(lost, *merged, heavy, tail)) == ("rebuild", 0, k, 1)
    assert shape(plan(piece(0, 9 * k), *merged, heavy, tail)) == ("seal", 6 * k, 7 * k + 1, 0)
    assert shape(plan(piece(0, 99 * k), *(piece(i * k, i * k + k) for i in range(99, 103)), tail, quiet=False))[0] == "merge"
    assert shape(plan(piece(0, 9 * k), heavy)) == ("purge", 5 * k, 6 * k, 1)
    assert plan(piece(0, 9 * k), piece(9 * k, 10 * k - 1, segment=False)) is None


def test_small_segments_between_large_ones_are_merged_with_them_in_the_end():
    k = policy.SEAL_ROWS
    pieces, at = [], 0
    for _ in range(4):
        for size in (k, k, k, 16 * k):
            pieces.append(piece(at, at + size))
            at += size
    assert shape(plan(*pieces)) == ("merge", 0, at, 16)
    assert plan(*pieces[:-1]) is None  # three large ones: not yet


def test_what_lies_between_merged_segments_comes_with_them_and_the_limit_holds(monkeypatch):
    k = policy.SEAL_ROWS
    gap = piece(2 * k, 2 * k + 10, segment=False)
    four = [piece(0, k), piece(k, 2 * k), gap, piece(2 * k + 10, 3 * k), piece(3 * k, 4 * k)]
    assert shape(plan(*four, quiet=False)) == ("merge", 0, 4 * k, 4)
    monkeypatch.setattr(kind, "MAX_ROWS", 3 * k)
    assert plan(*four, quiet=False) is None


def test_dead_heavy_neighbours_are_built_as_one():
    k = policy.SEAL_ROWS
    heavy = [piece(i * k, (i + 1) * k, rows=k // 2, dead=k // 2) for i in range(2)]
    assert shape(plan(*heavy, piece(2 * k, 9 * k))) == ("purge", 0, 2 * k, 2)
    assert plan(piece(0, k, rows=k - k // 4, dead=k // 4)) is None  # a quarter isn't more than a quarter


def healable(first, end, dead=0):
    return dataclasses.replace(piece(first, end, rows=end - first - dead, dead=dead), renewable=True)


def test_a_segment_that_can_be_healed_takes_in_smaller_neighbours_once_a_tenth_has_changed():
    k = policy.SEAL_ROWS
    large = healable(0, 40 * k)
    assert plan(large, *(piece(i * k, i * k + k) for i in range(40, 43))) is None
    assert shape(plan(large, *(piece(i * k, i * k + k) for i in range(40, 44)))) == ("merge", 0, 44 * k, 5)
    assert shape(plan(*(piece(i * k, i * k + k) for i in range(3)), healable(3 * k, 25 * k))) == ("merge", 0, 25 * k, 4)  # before it, too
    assert shape(plan(healable(0, 40 * k, dead=4 * k))) == ("merge", 0, 40 * k, 1)
    assert plan(healable(0, 40 * k, dead=4 * k - 1)) is None
    short = piece(40 * k, 41 * k - 1, segment=False)
    assert shape(plan(healable(0, 40 * k, dead=4 * k), short)) == ("merge", 0, 41 * k - 1, 1)  # the tail comes with it
    assert plan(healable(0, 40 * k, dead=4 * k), short, quiet=False) is None
    assert plan(healable(0, 5 * k), piece(5 * k, 6 * k - 1, segment=False)) is None  # a tail too short to be sealed
    assert shape(plan(healable(0, 5 * k), piece(5 * k, 6 * k, segment=False))) == ("merge", 0, 6 * k, 1)


def test_what_is_too_large_or_lost_ends_the_group_of_a_healing(monkeypatch):
    k = policy.SEAL_ROWS
    large, more = healable(0, 40 * k), piece(40 * k, 45 * k)
    assert shape(plan(large, more, piece(45 * k, 61 * k))) == ("merge", 0, 45 * k, 2)
    assert shape(plan(large, piece(40 * k, 61 * k))) is None
    assert shape(plan(large, more, piece(45 * k, 46 * k, lost=True))) == ("rebuild", 45 * k, 46 * k, 1)
    monkeypatch.setattr(kind, "MAX_ROWS", 44 * k)
    assert plan(large, more) is None
