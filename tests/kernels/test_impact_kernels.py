"""Kernels of sparse segments, compiled and interpreted: their lists as they are built, and searches by every setting."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
import pytest

from tests.support import sparse_indexed
from tests.support.interpreted import SEEDS, both, keys_of, same_ranking
from vectordb.index.impact import calibrate as sparse_calibrate
from vectordb.index.impact.scratch import ImpactScratch
from vectordb.kernels import impact_build, impact_layout


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("spread", ["hashes", "consecutive", "one"])
def test_locate_terms(seed, spread):
    rng = np.random.default_rng(seed)
    pools = {"hashes": rng.integers(0, 2**64, 40, dtype=np.uint64), "consecutive": np.arange(7, 50, dtype=np.uint64), "one": [2**64 - 1]}
    terms = np.unique(np.array(pools[spread], np.uint64))
    asked = np.concatenate([rng.permutation(terms), rng.integers(0, 2**64, 5, dtype=np.uint64), terms[:1] - np.uint64(1)])
    (_, one), (_, other) = both("impact_lists.locate_terms", terms, asked, np.zeros(len(asked), np.int64))
    np.testing.assert_array_equal(one[-1], other[-1])
    at = np.searchsorted(terms, asked)
    known = (at < len(terms)) & (terms[np.minimum(at, len(terms) - 1)] == asked)
    np.testing.assert_array_equal(one[-1], np.where(known, at, -1))


@pytest.mark.parametrize("seed", SEEDS)
def test_impact_ordered_lists_hold_each_posting_once(seed):
    rng = np.random.default_rng(seed)
    rows, vocabulary, levels = int(rng.integers(1, 40)), int(rng.integers(1, 12)), int(rng.integers(1, 6))
    held = rng.random((rows, vocabulary)) < 0.4
    row_at = np.concatenate([[0], np.cumsum(held.sum(axis=1))])
    terms = np.nonzero(held)[1].astype(np.uint16)
    level = rng.integers(0, levels, len(terms)).astype(np.uint8)
    low, high = sorted(rng.integers(0, rows + 1, 2).tolist())
    (_, one), (_, other) = both("impact_build.count_postings", row_at, terms, low, high, np.ones(vocabulary, np.int64))
    np.testing.assert_array_equal(one[-1], other[-1])
    np.testing.assert_array_equal(one[-1], held[low:high].sum(axis=0))
    ends, size = np.cumsum(one[-1]), int(one[-1].sum())
    given = (row_at, terms, level, low, high, ends - one[-1], np.zeros(size, np.uint16), np.zeros(size, np.uint8))
    (_, one), (_, other) = both("impact_build.fill_lists", *given)
    docs, own = one[-2:]
    np.testing.assert_array_equal(docs, other[-2])
    np.testing.assert_array_equal(own, other[-1])
    runs = np.zeros(3 * size, np.uint16)
    (used, one), (also, other) = both("impact_build.write_runs", ends, docs, own, levels, np.zeros(vocabulary + 1, np.uint32), runs)
    assert used == also
    np.testing.assert_array_equal(one[-1], other[-1])
    begins, found = one[-2], set()
    assert begins[-1] == used
    for term in range(vocabulary):
        at, before = int(begins[term]), -1
        while at < begins[term + 1]:
            run_level, count = one[-1][at : at + 2].tolist()
            assert run_level > before and count
            found |= {(term, run_level, low + doc) for doc in one[-1][at + 2 : at + 2 + count].tolist()}
            at, before = at + 2 + count, run_level
    inside = np.arange(row_at[low], row_at[high])
    owners = np.repeat(np.arange(rows), np.diff(row_at))
    assert found == set(zip(terms[inside].tolist(), level[inside].tolist(), owners[inside].tolist(), strict=True))


@pytest.mark.parametrize("seed", SEEDS)
def test_terms_are_numbered_by_a_hash_table(seed):
    rng = np.random.default_rng(seed)
    terms = np.append(rng.choice(rng.integers(0, 2**64, 30, dtype=np.uint64), 80), np.uint64(0))
    vocabulary, slots = np.unique(terms), 32
    keys, held = np.zeros(slots, np.uint64), np.full(slots, impact_build.EMPTY)
    (stopped, one), (also, other) = both("impact_build.note_terms", terms, 3, keys, held, 0)
    assert tuple(stopped) == tuple(also) and stopped[0] < len(terms) and stopped[1] == slots // 2
    np.testing.assert_array_equal(one[3], other[3])
    keys, held = np.zeros(128, np.uint64), np.full(128, impact_build.EMPTY)
    (stopped, one), _ = both("impact_build.note_terms", terms, 0, keys, held, 0)
    assert tuple(stopped) == (len(terms), len(vocabulary))
    keys, held = one[2], one[3]
    np.testing.assert_array_equal(np.sort(keys[held != impact_build.EMPTY]), vocabulary)
    (_, one), (_, other) = both("impact_build.number_terms", vocabulary, keys, held)
    np.testing.assert_array_equal(one[-1], other[-1])
    (_, one), (_, other) = both("impact_build.places_of", terms, keys, one[-1], np.zeros(len(terms), np.uint16))
    np.testing.assert_array_equal(one[-1], np.searchsorted(vocabulary, terms))
    np.testing.assert_array_equal(one[-1], other[-1])


@pytest.mark.parametrize("seed", SEEDS)
def test_lists_of_windows_are_joined_by_term(seed):
    """Each level of a term once, with a run of each window that has it."""
    rng = np.random.default_rng(seed)
    terms, levels, windows = 5, 4, 3
    starts, runs, expected = [], [], {}
    for window in range(windows):
        begins, own = [0], []
        for term in range(terms):
            for level in np.flatnonzero(rng.random(levels) < 0.4).tolist():
                docs = np.flatnonzero(rng.random(20) < 0.3).tolist() or [0]
                own += [level, len(docs), *docs]
                expected.setdefault((term, level), []).extend([window, len(docs), *docs])
            begins.append(len(own))
        starts.append(np.array(begins, np.uint32))
        runs.append(np.array(own, np.uint16))
    addresses = [np.array([array.ctypes.data for array in arrays], np.int64) for arrays in (starts, runs)]
    (_, one), (_, other) = both("impact_build.measure_lists", *addresses, levels, 0, terms, np.zeros(terms, np.int64))
    np.testing.assert_array_equal(one[-1], other[-1])
    list_at = np.append(0, np.cumsum(one[-1]))
    out = np.zeros(int(list_at[-1]), np.uint16)
    (_, one), (_, other) = both("impact_build.join_lists", *addresses, levels, 0, terms, list_at, out)
    np.testing.assert_array_equal(one[-1], other[-1])
    found = {}
    for term in range(terms):
        mine = one[-1][list_at[term] : list_at[term + 1]].tolist()
        at = 1 + 3 * mine[0] if mine else 0
        for level, low, high in zip(mine[1:at:3], mine[2:at:3], mine[3:at:3], strict=True):
            found[term, level] = mine[at : at + low + 65_536 * high]
            at += low + 65_536 * high
        assert at == len(mine)
    assert found == expected and list(found) == sorted(found)


def test_all_sums_are_above_scores():
    indexed = sparse_segment("valued")
    searched = indexed.segment
    space = ImpactScratch(searched.rows, searched.vocabulary)
    terms, weights = sparse_indexed.query_of(sparse_indexed.texts(4, 8, 60, 8), 0)
    out = np.ones(impact_layout.BLOCK_ROWS, np.uint16)
    (_, one), (_, other) = both("impact.all_sums", searched.description, space.work, terms, weights, out)
    np.testing.assert_array_equal(one[-1], other[-1])
    ((docids, scores),) = indexed.exact([(terms, weights)], searched.rows)
    sums = one[-1].astype(np.float64)
    assert not sums[searched.rows :].any() and np.count_nonzero(sums) == len(docids)
    assert (sums[docids] / sums[docids].max() >= 0.5 * scores / scores.max()).all()


@functools.cache
def sparse_segment(kind: str) -> sparse_indexed.Indexed:
    column = sparse_indexed.texts(2, 150, 60, 8)
    if kind == "wide":
        more = np.random.default_rng(0).integers(2**40, 2**64, 66_000, dtype=np.uint64)
        column = sparse_indexed.columns([column.terms[:8], np.unique(more)[:65_530]], [column.weights[:8], np.ones(65_530)])
    if kind == "binary":
        column = dataclasses.replace(column, weights=np.ones_like(column.weights))
    if kind == "signed":
        signs = np.where(np.random.default_rng(1).random(len(column.weights)) < 0.3, -1, 1)
        column = dataclasses.replace(column, weights=(column.weights * signs).astype(np.float32))
    if kind == "counted":
        column = dataclasses.replace(column, weights=np.ceil(4 * column.weights))
        return sparse_indexed.Indexed(column, saturation=sparse_indexed.saturation_of(column, 1.0))
    return sparse_indexed.Indexed(column, binary=kind == "binary")


@pytest.mark.parametrize("kind", ["valued", "binary", "wide", "counted", "signed"])
@pytest.mark.parametrize("setting", range(0, len(sparse_calibrate.SETTINGS), 3))
def test_search_impacts(kind, setting):
    if kind == "wide" and setting:
        pytest.skip("65,536 terms take long, and differ in how a row is read only")
    indexed = sparse_segment(kind)
    searched = indexed.segment
    plan, share, misses = sparse_calibrate.SETTINGS[setting].tolist()
    space = ImpactScratch(searched.rows, searched.vocabulary)
    seeds, counts = ((0,), (3,)) if kind == "wide" else (range(2), (3, 20))
    for seed, k, filtered in itertools.product(seeds, counts, (True, False)):
        rng = np.random.default_rng(seed)
        terms = np.unique(rng.choice(searched.sections["terms"][:60], 5))
        weights = (rng.random(len(terms)) + 0.1).astype(np.float32)
        weights[: kind == "signed"] *= -1
        bits = searched.every_bit & (rng.integers(0, 2**64, len(searched.every_bit), dtype=np.uint64) if filtered else ~np.uint64(0))
        heap, report = np.zeros(k, np.int64), np.zeros(impact_layout.REPORT_WIDTH, np.int64)
        given = (int(plan), share, misses, k, int(np.bitwise_count(bits).sum()), bits, terms, weights, heap, report)
        (size, one), (also, other) = both("impact.search_impacts", searched.description, space.work, searched.saturation, *given)
        assert size == also
        np.testing.assert_array_equal(one[-1], other[-1])
        same_ranking(keys_of([one[-2]], [size], 5.0), keys_of([other[-2]], [also], 5.0))
        assert not space._arrays[impact_layout.QUERY].any()  # left clean for the next query
