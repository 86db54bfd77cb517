"""Kernels of filters, compiled and interpreted: ranges, sets, several conditions, areas, words, and ids read out of records."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.support.interpreted import SEEDS, Table, both, sparse_table, table_of, wanted_of
from vectordb.kernels import columns, conditions, sparse
from vectordb.storage import chunks, format


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("dtype", "ragged"), list(itertools.product([np.int64, np.float64], [False, True])))
def test_numeric_predicates(seed, dtype, ragged):
    rng = np.random.default_rng(seed)

    def make(docids):
        sizes = rng.integers(0, 4, len(docids)) if ragged else np.ones(len(docids), np.int64)
        values = rng.integers(-5, 6, int(sizes.sum())).astype(dtype)
        return chunks.ragged(docids, np.concatenate([[0], np.cumsum(sizes)]), values) if ragged else chunks.fixed(docids, values)

    table = table_of(rng, make)
    start, out = int(rng.integers(0, 8)), np.zeros(int(table.docids[-1]) + 2, np.uint32)
    low, high = np.sort(rng.integers(-6, 7, 2)).astype(dtype)
    for name, values in (
        ("columns.rows_in_range", (np.array([low]), np.array([high]))),
        ("columns.rows_in_set", (np.unique(rng.integers(-6, 7, 4)).astype(dtype),)),
        ("columns.rows_in_set", (np.empty(0, dtype),)),
    ):
        (n, one), (m, other) = both(name, table.rows, *values, ragged, start, out)
        np.testing.assert_array_equal(one[-1][:n], other[-1][:m])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("dtype", "ragged"), list(itertools.product([np.int64, np.float64], [False, True])))
def test_conditions(seed, dtype, ragged):
    """Terms and ranges, in order or not, alone and together, some negated, against NumPy."""
    rng = np.random.default_rng(seed)
    drawn: dict[int, np.ndarray] = {}

    def make(docids):
        sizes = rng.integers(0, 4, len(docids)) if ragged else np.ones(len(docids), np.int64)
        values = rng.integers(-5, 6, int(sizes.sum())).astype(dtype) * dtype(-1 if dtype is np.float64 else 1)  # −0.0 too
        drawn.update(zip(docids.tolist(), np.split(values, np.cumsum(sizes)[:-1]), strict=True))
        return chunks.ragged(docids, np.concatenate([[0], np.cumsum(sizes)]), values) if ragged else chunks.fixed(docids, values)

    numbers, (postings, pool) = table_of(rng, make), sparse_table(rng, False, highest=2**32)
    terms_of: dict[int, set[int]] = {}
    for c in range(len(postings.rows)):
        for term in pool.tolist():
            out = np.zeros(int(postings.docids[-1]) + 2, np.uint32)
            n = sparse.postings_union(postings.rows[c : c + 1], np.array([term], np.uint64), 0, np.zeros(1024, np.uint64), out)
            for docid in out[:n].tolist():
                terms_of.setdefault(docid, set()).add(term)
    rows = int(max(numbers.docids[-1], postings.docids[-1])) + 1
    floats = dtype is np.float64
    count = sum(map(len, drawn.values()))
    keys, owners = np.zeros(count, np.int64), np.zeros(count, np.uint32)
    (n, one), (m, other) = both("conditions.column_keys", numbers.rows, floats, ragged, keys, owners)
    assert n == m == count
    for mine, theirs in zip(one[-2:], other[-2:], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    covered = int(rng.integers(0, rows + 1))
    order = np.argsort(one[-2], kind="stable")
    order = order[one[-1][order] < covered]
    keys, owners = one[-2][order].copy(), one[-1][order].copy()
    for _ in range(12):
        described, expected = [], set(range(rows))
        for place in range(int(rng.integers(1, 4))):
            negated = bool(place and rng.random() < 0.4)
            if rng.random() < 0.5:
                wanted = np.unique(rng.choice(pool, int(rng.integers(1, 4)))).tolist()
                described.append(((conditions.TERMS, negated, postings.rows.ctypes.data, len(postings.rows)), wanted, (0,) * 6))
                met = {docid for docid, terms in terms_of.items() if terms.intersection(wanted)}
            else:
                cuts = np.unique(rng.integers(-6, 7, 4))[: 2 * int(rng.integers(1, 3))]
                cuts = cuts[: len(cuts) // 2 * 2].astype(dtype)
                if not len(cuts):
                    continue
                as_keys = [int(conditions.ordered_key(int((cut + 0.0 if floats else cut).view(np.int64)), floats)) for cut in cuts]
                ready = (keys.ctypes.data, owners.ctypes.data, len(keys), covered) if rng.random() < 0.8 else (0, 0, 0, 0)
                described.append(
                    ((conditions.RANGES, negated, numbers.rows.ctypes.data, len(numbers.rows)), as_keys, (*ready, floats, ragged))
                )
                pairs = cuts.reshape(-1, 2)
                met = {docid for docid, some in drawn.items() if any(low <= value <= high for value in some for low, high in pairs)}
            expected = expected - met if negated else expected & met
        flat, listed = [], []
        base = len(described) * conditions.CONDITION_WIDTH
        for head, own, tail in described:
            flat += [*head, base + len(listed), len(own), *tail]
            listed += own
        most = 2 * (count + len(pool) * len(terms_of)) + rows
        out = np.zeros(most + 1, np.uint32)
        given = np.array(flat + listed, np.int64), len(described), rows, most, out, out.copy()
        (n, one), (m, other) = both("conditions.rows_that_meet", *given)
        assert n == m
        looked_up = [head[0] == conditions.TERMS or tail[2] > 0 for head, _, tail in described if not head[1]]
        if n == conditions.MANY:
            assert not any(looked_up)
            continue
        np.testing.assert_array_equal(one[-2][:n], other[-2][:m])
        assert one[-2][:n].tolist() == sorted(expected)
        (few_rows, _), _ = both("conditions.rows_that_meet", *given[:3], 0, *given[4:])
        assert few_rows == conditions.MANY or few_rows == 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("radial", "ragged"), list(itertools.product([False, True], repeat=2)))
def test_areas(seed, radial, ragged):
    rng = np.random.default_rng(seed)

    def make(docids):
        sizes = rng.integers(0, 4, len(docids)) if ragged else np.ones(len(docids), np.int64)
        places = rng.uniform((-90, -180), (90, 180), (int(sizes.sum()), 2))
        return chunks.ragged(docids, np.concatenate([[0], np.cumsum(sizes)]), places) if ragged else chunks.fixed(docids, places)

    table = table_of(rng, make)
    numbers = (10.0, 20.0, 0.0, 0.0, 7e6) if radial else (-40.0, float(rng.choice([-90, 90])), 60.0, 0.0, 0.0)
    out = np.zeros(int(table.docids[-1]) + 2, np.uint32)
    (n, one), (m, other) = both("columns.rows_in_area", table.rows, radial, *numbers, ragged, 1, out)
    np.testing.assert_array_equal(one[-1][:n], other[-1][:m])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("phrase", [False, True])
def test_tokens(seed, phrase):
    rng = np.random.default_rng(seed)

    def make(docids):
        sizes = rng.integers(0, 7, len(docids))
        tokens = rng.choice(np.array([0, 1, 2, columns.ELEMENT_END], np.uint32), int(sizes.sum()))
        return chunks.ragged(docids, np.concatenate([[0], np.cumsum(sizes)]), tokens)

    table = table_of(rng, make)
    rows = wanted_of(rng, table.docids)
    for tokens in ([0, 1], [2, 0, 1], [1, 1] if phrase else [1, 2]):
        arguments = (table.rows, np.array(tokens, np.uint32), phrase, rows, np.zeros(len(rows) + 1, np.uint32))
        (n, one), (m, other) = both("columns.rows_with_tokens", *arguments)
        np.testing.assert_array_equal(one[-1][:n], other[-1][:m])


@pytest.mark.parametrize("gap", [1, 3])
def test_ids_of_integer_points_are_read_out_of_their_records(gap):
    ids = [0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**64 - 1]
    docids = 5 + gap * np.arange(len(ids) + 1)
    records = [format.pack_row(format.row_of(value, {"a": 1}, None)) for value in [*ids, "a string"]]
    offsets = np.concatenate([[0], np.cumsum([len(record) for record in records])])
    table = Table([chunks.ragged(docids, offsets, np.frombuffer(b"".join(records), np.uint8))])
    wanted = docids[:-1][::-1].copy()

    def ran(rows, verified=1):
        found = []
        for result, given in both("columns.integer_ids", table.rows, rows, np.full(1, verified, np.uint8), np.zeros(len(rows), np.uint64)):
            found.append((bool(result), given[-1].tolist() if result else None))
        assert found[0] == found[1]
        return found[0]

    assert ran(wanted) == (True, ids[::-1])
    assert ran(docids) == (False, None)  # a string among them
    assert ran(wanted, verified=0) == (False, None)
    assert ran(np.array([4])) == (False, None)
