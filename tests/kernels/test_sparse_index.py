"""The sparse index: scores are exact inner products with every plan, exact plans equal brute force, recall targets are met."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectordb_client.errors import CorruptionError
from vectordb_client.model.schema import Dense

from tests.support.indexed import Trace, places, recall
from tests.support.nightly import cases
from tests.support.paths import ROOT
from tests.support.sparse_indexed import Indexed, columns, large, query_of, saturation_of, small, texts, topics_of
from vectordb.index import exact as flat
from vectordb.index.base import SegmentMask, SegmentTarget, open_file
from vectordb.index.impact import build as sparse_build
from vectordb.index.impact import calibrate
from vectordb.index.impact import search as sparse_search
from vectordb.index.impact.kind import ImpactFile
from vectordb.index.impact.plans import PLANS
from vectordb.index.model import PLAN, Corrections
from vectordb.kernels import impact as kernel
from vectordb.kernels import impact_layout

pytestmark = pytest.mark.usefixtures("full_calibration")

EXACT = tuple(np.flatnonzero(calibrate.SETTINGS[:, PLAN] != kernel.IMPACTS).tolist())
HELD = texts(3, 200)  # queries that ``large`` doesn't hold


def same(found, oracle):
    """The same rows in the same order, with the same scores to the last bit."""
    for (docids, scores), (all_docids, all_scores) in zip(found, oracle, strict=True):
        np.testing.assert_array_equal(docids, all_docids)
        np.testing.assert_array_equal(scores, all_scores)


def short_queries(n: int) -> list:
    return [query_of(HELD, row, 1 / 3) for row in range(n)]


# What comes back


@pytest.mark.parametrize("share", [None, 0.4, 0.05], ids=["all rows", "some", "few"])
@pytest.mark.parametrize("setting", range(len(calibrate.SETTINGS)))
def test_every_setting_returns_enough_rows_in_order_with_exact_scores(setting, share):
    indexed = small()
    rows = None if share is None else indexed.docids[np.random.default_rng(0).random(indexed.count) < share]
    queries = [query_of(texts(4, 8, 300, 15), row, 0.5) for row in range(8)]
    for k in (1, 10, 300):
        found = indexed.search(queries, k, rows, forced=setting)
        for (docids, scores), (all_docids, all_scores) in zip(found, indexed.exact(queries, indexed.count, rows), strict=True):
            assert len(docids) == min(k, len(all_docids))
            at = {docid: i for i, docid in enumerate(all_docids.tolist())}
            order = np.array([at[docid] for docid in docids.tolist()], np.int64)
            assert (np.diff(order) > 0).all()
            np.testing.assert_array_equal(scores, all_scores[order])


@pytest.mark.parametrize("setting", EXACT)
@pytest.mark.parametrize("share", [None, 0.3, 0.01])
def test_exact_plans_find_what_brute_force_finds(setting, share):
    indexed = large()
    rows = None if share is None else indexed.docids[np.random.default_rng(0).random(indexed.count) < share]
    queries = short_queries(40) + [query_of(HELD, row) for row in range(40, 60)]
    for k in (1, 10, 500):
        same(indexed.search(queries, k, rows, forced=setting), indexed.exact(queries, k, rows))


@st.composite
def collections(draw):
    """(rows, queries, docids that may be found): few terms and few different weights, so that many scores are equal."""
    whole = st.dictionaries(st.integers(0, 12) | st.sampled_from([2**40, 2**64 - 1]), st.sampled_from([0.5, 1.0, 1.5, 40.0]), max_size=6)
    if draw(st.booleans()):
        whole = st.dictionaries(st.integers(0, 6), st.sampled_from([0.5, 1.0, -0.5, -1.5, 40.0]), max_size=6)
    rows = draw(st.lists(whole, min_size=1, max_size=150))
    queries = draw(st.lists(whole, min_size=1, max_size=3))
    wanted = draw(st.none() | st.sets(st.integers(0, len(rows) - 1)))
    return rows, queries, None if wanted is None else np.array(sorted(wanted), np.uint32), draw(st.integers(1, 40)), draw(st.booleans())


def _csr(rows):
    return columns([sorted(row) for row in rows], [[row[term] for term in sorted(row)] for row in rows])


@settings(max_examples=cases(15, 60), deadline=None)
@given(collections())
def test_reading_everything_equals_brute_force(case):
    """Empty vectors, unknown terms, one-term and empty queries, negative weights, and ties, which go to the older row; plans that read all
    lose nothing.
    """
    rows, queries, wanted, k, binary = case
    column = _csr(rows)
    if binary:
        column = columns(np.split(column.terms, column.indptr[1:-1]), np.split(np.ones(len(column.terms)), column.indptr[1:-1]))
    indexed = Indexed(column, binary=binary)
    asked = [(column.terms, column.weights) for column in (_csr([query]) for query in queries)]
    oracle = indexed.exact(asked, k, wanted)
    for setting in EXACT:
        same(indexed.search(asked, k, wanted, forced=setting), oracle)


def test_the_order_of_insertion_changes_nothing():
    column = texts(5, 2_000)
    order = np.random.default_rng(0).permutation(len(column))
    parts = np.split(column.terms, column.indptr[1:-1]), np.split(column.weights, column.indptr[1:-1])
    shuffled = columns(*([part[row] for row in order] for part in parts))
    one, other = Indexed(column), Indexed(shuffled)
    for k in (1, 10, 100):
        for mine, its in zip(one.search(short_queries(30), k, target=1.0), other.search(short_queries(30), k, target=1.0), strict=True):
            np.testing.assert_array_equal(mine[1], its[1])
            assert set(mine[0].tolist()) == set(order[its[0]].tolist())


def test_rows_in_the_segment_and_after_it_are_ranked_together():
    indexed = small()
    queries = [query_of(texts(4, 8, 300, 15), row, 0.5) for row in range(8)]
    assert 0 < len(indexed.inside) < indexed.count
    same(indexed.search(queries, 50, target=1.0), indexed.exact(queries, 50))


# Recall


def mean_recall(indexed, queries, k, target, rows_of=lambda query: None) -> float:
    found = []
    for query in queries:
        rows = rows_of(query)
        found.append(recall(indexed.search([query], k, rows, target)[0], indexed.exact([query], k, rows)[0]))
    return float(np.mean(found))


@pytest.mark.parametrize("k", [10, 100])
@pytest.mark.parametrize("target", [0.9, 0.95, 0.99])
def test_recall_is_what_was_asked_for(k, target):
    """Observed of short queries: .941 and more at .9, .966 at .95, .994 at .99. The floor is three standard errors of 150 queries below the
    target, here and below: which of the plans that reach it is taken depends on times that were measured."""
    assert mean_recall(large(), short_queries(150), k, target) >= target - 0.02


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_recall_under_a_filter(share):
    """Observed at .95: .966 and more."""
    indexed = large()
    rows = indexed.docids[np.random.default_rng(0).random(indexed.count) < share]
    assert mean_recall(indexed, short_queries(100), 10, 0.95, lambda query: rows) >= 0.93


@pytest.mark.parametrize("own", [False, True])
def test_recall_under_a_filter_by_topic(own):
    """Only rows of the query's topic, or none of them. Observed at .95: .97 and more of either."""
    indexed, topics, asked = large(), topics_of(1, 6_000), topics_of(3, 200)
    rows = {topic: np.flatnonzero((topics == topic) == own).astype(np.uint32) for topic in range(8)}
    found = []
    for row in range(100):
        query = query_of(HELD, row, 1 / 3)
        wanted = rows[int(asked[row])]
        found.append(recall(indexed.search([query], 10, wanted)[0], indexed.exact([query], 10, wanted)[0]))
    assert np.mean(found) >= 0.93


@pytest.mark.parametrize("target", [0.9, 0.95, 0.99])
def test_recall_under_filters_that_leave_out_the_best_rows_of_the_query(target):
    """Which of the settings that reach the target is taken depends on the clock. Observed in four builds for 10, 100 and 600 rows left out:
    .99, .93 (once .87) and 1.0 at .9; .99, .96 and 1.0 at .95; .998, .99 and .996 at .99.
    """
    indexed, found = large(), []
    for out in (10, 100, 600):

        def rows_of(query, out=out):
            return np.setdiff1d(indexed.docids, indexed.exact([query], out)[0][0]).astype(np.uint32)

        found.append(mean_recall(indexed, short_queries(100), 10, target, rows_of))
    assert np.mean(found) >= target - 0.02 and min(found) >= target - 0.1, found


def test_recall_of_whole_documents_and_of_a_few_words():
    """Observed at .95: .96 and more of either."""
    words = [query_of(HELD, row, 0.1) for row in range(100)]
    whole = [query_of(HELD, row) for row in range(100)]
    for queries in (words, whole):
        assert mean_recall(large(), queries, 10, 0.95) >= 0.93


def matching(segment: ImpactFile, rows: int, free: bool = False) -> SegmentTarget:
    """The segment with so many of its rows."""
    return SegmentTarget(segment, SegmentMask(segment, segment.docids[:rows]), free)


def test_a_higher_target_never_chooses_a_setting_expected_to_find_less():
    segment = large().segment
    for k, matches in ((10, 6_000), (10, 600), (100, 6_000)):
        chosen = [segment.model(k).choose(matching(segment, matches), k, target) for target in (0.5, 0.9, 0.95, 0.99, 1.0)]
        assert all(choice.recall >= target for choice, target in zip(chosen, (0.5, 0.9, 0.95, 0.99, 1.0), strict=True))
        assert chosen[-1].setting in EXACT


def test_a_filter_of_nearly_all_rows_is_trusted_less_than_none():
    segment = large().segment
    free, filtered = (segment.model(10).predictions(matching(segment, 5_990, free), -1, 10)[1] for free in (True, False))
    assert filtered[2:].mean() < free[2:].mean()
    np.testing.assert_array_equal(filtered[list(EXACT)], 1.0)


def test_few_matches_are_scored_one_by_one():
    segment = large().segment
    assert segment.model(10).choose(matching(segment, 20), 10, 0.95).setting == calibrate.SCAN


def test_what_is_learned_moves_the_choice(monkeypatch):
    segment = large().segment
    doubtful = Corrections(segment.corrections.table.copy())
    doubtful.table[0, kernel.IMPACTS] = -0.2
    monkeypatch.setattr(segment, "corrections", doubtful)
    assert segment.model(10).choose(matching(segment, 6_000), 10, 0.95).setting in EXACT


# Binary codes, wide vocabularies, what the index can't do


def test_binary_vectors_score_by_shared_terms_and_take_half_the_space():
    column = texts(6, 3_000)
    ones = columns(np.split(column.terms, column.indptr[1:-1]), np.split(np.ones(len(column.terms)), column.indptr[1:-1]))
    binary, valued = Indexed(ones, binary=True), Indexed(column)
    terms, _ = query_of(HELD, 0)
    ((docids, scores),) = binary.search([(terms, np.ones(len(terms), np.float32))], 50, target=1.0)
    shared = [len(np.intersect1d(terms, column.terms[column.indptr[row] : column.indptr[row + 1]])) for row in range(len(column))]
    order = np.lexsort((np.arange(len(column)), -np.array(shared)))[:50]
    np.testing.assert_array_equal(docids, order)
    np.testing.assert_array_equal(scores, np.array(shared)[order])
    sizes = [sum(len(chunk) for chunk in indexed.values) + indexed.segment.file.nbytes for indexed in (binary, valued)]
    assert sizes[0] <= 0.5 * sizes[1]  # 0.47


@pytest.mark.parametrize("weight", [0.3, 2.5])
def test_weights_that_are_all_alike_take_half_the_space_in_the_index(weight):
    """Of a field that isn't declared binary. Scores are the exact ones to the last bit."""
    column = texts(6, 3_000)
    alike = Indexed(dataclasses.replace(column, weights=np.full_like(column.weights, weight)))
    assert "row_weights" not in alike.segment.sections
    queries = short_queries(20)
    for setting in EXACT:
        same(alike.search(queries, 10, forced=setting), alike.exact(queries, 10))
    assert alike.segment.file.nbytes <= 0.5 * Indexed(column).segment.file.nbytes  # 0.45


def test_term_frequencies_take_a_byte():
    """Up to 255; none where all are 1."""
    column = texts(6, 3_000)
    sizes = {}
    for most in (1, 255, 256):
        tf = np.minimum(np.ceil(column.weights), most) if most == 1 else np.where(np.arange(len(column.weights)) % 100, 1, most)
        given = dataclasses.replace(column, weights=tf.astype(np.float32))
        counted = Indexed(given, saturation=saturation_of(given, 1.0))
        sizes[most] = counted.segment.sections.get("row_weights", np.empty(0)).nbytes / len(tf)
        saturation = saturation_of(given, 1.3, counted.lengths)
        queries = [(terms, np.ones_like(weights)) for terms, weights in short_queries(10)]
        for setting in EXACT:
            same(counted.search(queries, 10, forced=setting, saturation=saturation), counted.exact(queries, 10, saturation=saturation))
    assert sizes == {1: 0, 255: 1, 256: 4}


def test_more_terms_than_16_bits_number():
    rng = np.random.default_rng(0)
    rows = [np.unique(rng.integers(0, 2**64, 60, dtype=np.uint64)) for _ in range(1_500)]
    shared = rng.integers(0, 2**64, 40, dtype=np.uint64)
    rows = [np.unique(np.append(row, rng.choice(shared, 8))) for row in rows]
    indexed = Indexed(columns(rows, [rng.random(len(row)) + 0.1 for row in rows]))
    assert indexed.segment.vocabulary > 65_536
    queries = [(np.unique(np.append(shared[:20], rows[i][:5])), None) for i in range(20)]
    queries = [(terms, rng.random(len(terms)).astype(np.float32) + np.float32(0.1)) for terms, _ in queries]
    for setting in EXACT:
        same(indexed.search(queries, 10, forced=setting), indexed.exact(queries, 10))


def test_what_sums_can_not_be_cut_short_for_is_not_searched_through_the_index():
    def usable(segments, queries, k):
        return ImpactFile.usable(segments, queries, k, False, None)

    segments = [large().segment]
    one, two = np.array([1, 2], np.uint64), np.array([0.5, 2], np.float32)
    assert usable(segments, [(one, two)], 10)
    assert usable(segments, [(one[:0], two[:0])], 10)
    assert not usable(segments, [(one, two), (one, -two)], 10)
    assert usable(segments, [(one, two * np.array([1, -1], np.float32))], 10)
    assert not usable(segments, [(one, two * np.float32(1e-30))], 10)
    assert not usable(segments, [(one, two * np.float32(1e30))], 10)
    assert not usable(segments, [(one, two)], sparse_search.MAX_DEPTH + 1)
    many = np.arange(5_000, dtype=np.uint64)
    assert not usable(segments, [(many, np.ones(5_000, np.float32))], 10)
    signed = Indexed(columns([[1], [1, 2]], [[1.0], [-1.0, 2.0]]))
    assert signed.segment.signed and usable([signed.segment], [(one, -two)], 10)


def test_too_many_postings_are_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(sparse_build, "MAX_POSTINGS", 3)
    column = columns([[1, 2], [3, 4]], [[1, 1], [1, 1]])
    with pytest.raises(ValueError, match="at most 3 postings, not 4"):
        docids = np.arange(2, dtype=np.uint32)
        sparse_build.build(tmp_path / "x", column.indptr, column.terms, column.weights, docids, False, sparse_build.Options())
    assert not list(tmp_path.iterdir())


# Files


def test_the_lists_are_the_same_with_any_number_of_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(impact_layout, "BLOCK_ROWS", impact_layout.BLOCK_ROWS)
    column, files = texts(7, 500), []
    for threads in (1, 2):
        path = tmp_path / str(threads)
        docids = np.arange(500, dtype=np.uint32)
        sparse_build.build(path, column.indptr, column.terms, column.weights, docids, False, sparse_build.Options(threads=threads))
        sections = open_file(path).sections
        files.append({name: section.copy() for name, section in sections.items() if name not in ("recalls", "costs", "scan")})
    for name, section in files[0].items():
        np.testing.assert_array_equal(section, files[1][name])


def test_a_file_knows_what_it_is(tmp_path):
    indexed = small()
    assert indexed.segment.fits(indexed.spec)
    assert open_file(indexed.path).name == "sparse" and not indexed.segment.fits(Dense(4))
    indexed.segment.verify()


@pytest.mark.parametrize("name", ["terms", "frequencies", "run_at", "runs", "level_most", "row_at", "row_terms", "row_weights", "docids"])
def test_damage_is_found(tmp_path, name):
    file = bytearray(small().path.read_bytes())
    start, end = places(bytes(file))[name]
    file[(start + end) // 2] ^= 1
    path = tmp_path / "damaged"
    path.write_bytes(file)
    with pytest.raises(CorruptionError, match=name):
        open_file(path).verify()
    if name not in ImpactFile.large:
        with pytest.raises(CorruptionError, match=name):
            open_file(path)


def test_searching_damage_that_is_not_found_yet_is_harmless(tmp_path):
    """In a process of its own, which would be gone."""
    command = [sys.executable, "-m", "tests.support.search_apart", "sparse", tmp_path, *ImpactFile.large]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, (ran.returncode, ran.stdout, ran.stderr[-3000:])
    assert ran.stdout.split() == list(ImpactFile.large)


# What is said of a search


def test_a_trace_tells_what_was_done():
    indexed = large()
    trace = Trace()
    indexed.search(short_queries(1), 10, target=0.95, trace=trace)
    (said,), ((plan, predicted),) = trace.report.explained(), trace.report.judged()
    assert said["plan"] == PLANS[plan].name and 0.95 <= predicted <= 1
    assert said["rows_scored"] >= 10 and said["postings"] > 0 and said["matches"] == 6_000
    assert len(said["considered"]) == len(calibrate.SETTINGS)
    ran = [row for row in said["considered"] if (row["plan"], row["parameters"]) == (said["plan"], said["parameters"])]
    assert len(ran) == 1 and trace.report.runs[0].elapsed > 0


def test_a_request_without_enough_reached_rows_falls_back_to_reading_everything():
    """The largest contributions don't reach every fourth row."""
    column = columns([[1, 2] if row % 4 else [1] for row in range(400)], [[0.01, 5.0] if row % 4 else [0.01] for row in range(400)])
    indexed = Indexed(column)
    query = (np.array([1, 2], np.uint64), np.array([1.0, 1.0], np.float32))
    setting = int(np.flatnonzero(calibrate.SETTINGS[:, PLAN] == kernel.IMPACTS)[0])
    trace = Trace()
    rows = np.arange(0, 400, 2, dtype=np.uint32)
    ((docids, _),) = indexed.search([query], 250, rows, forced=setting, trace=trace)
    assert len(docids) == 200 and trace.report.runs[0].fallback
    assert trace.report.judged() == [None]


def test_nothing_to_find():
    indexed = Indexed(columns([[], []], [[], []]))
    query = (np.array([1], np.uint64), np.array([1.0], np.float32))
    ((docids, scores),) = indexed.search([query], 5)
    assert len(docids) == len(scores) == 0
    ((docids, _),) = small().search([query], 5, np.empty(0, np.uint32))
    assert len(docids) == 0
    assert len(flat.search_sparse(indexed.table, *query, 5, None)[0]) == 0


@functools.cache
def spoken():
    """Term frequencies of texts of very different lengths, many of which say the same of a query's terms."""
    column = texts(5, 4_000, 400, 12)
    longer = np.repeat(np.random.default_rng(5).choice([1, 4, 20], len(column)), np.diff(column.indptr))
    return dataclasses.replace(column, weights=np.ceil(column.weights * longer).astype(np.float32))


@functools.cache
def counted() -> Indexed:
    """These, a fifth of them not in the segment."""
    docids = np.arange(4_000, dtype=np.uint32)
    return Indexed(spoken(), docids, inside=docids[:3_200], idf=True, saturation=saturation_of(spoken(), 1.0), calibrated=True)


def asked_of(rng, most: int) -> tuple:
    """A query of up to so many terms."""
    terms = np.unique(rng.choice(spoken().terms, int(rng.integers(1, most))))
    return terms, (rng.random(len(terms)) + 0.01).astype(np.float32)


@pytest.mark.parametrize("longer", [0.05, 0.5, 1.0, 2.0, 30.0])
@pytest.mark.parametrize("setting", EXACT)
def test_plans_that_lose_nothing_lose_nothing_at_another_mean_length(longer, setting):
    """To the last bit, and ties to the lower docid."""
    indexed, rng = counted(), np.random.default_rng(setting)
    saturation = saturation_of(spoken(), longer, indexed.lengths)
    queries = [asked_of(rng, 9) for _ in range(60)]
    same(indexed.search(queries, 10, forced=setting, saturation=saturation), indexed.exact(queries, 10, saturation=saturation))


@pytest.mark.parametrize("longer", [0.5, 1.0, 2.0])
def test_the_recall_asked_for_is_reached_at_another_mean_length(longer):
    indexed, rng = counted(), np.random.default_rng(9)
    saturation = saturation_of(spoken(), longer, indexed.lengths)
    queries = [asked_of(rng, 6) for _ in range(150)]
    found, true = (search(queries, 10, saturation=saturation) for search in (indexed.search, indexed.exact))
    right = [(scores >= theirs[-1]).mean() for (_, scores), (_, theirs) in zip(found, true, strict=True)]
    assert np.mean(right) >= 0.93


@pytest.mark.parametrize("far", [1, 20])
def test_weights_far_above_all_others_leave_the_other_lists_alone(far):
    """Queries without such a term are answered as cheaply as ever; no plan is taken for cheaper than adding all postings up."""
    column = texts(1, 6_000)
    at = np.random.default_rng(0).choice(len(column.weights), far, replace=False)
    column.weights[at] = 1e6
    one, other = large(), Indexed(column)
    levels = other.segment.sections["level_most"]
    assert levels[0] == 1e6 and levels[1] == pytest.approx(one.segment.sections["level_most"][0], rel=0.7)
    spoilt = set(column.terms[at].tolist())
    asked = [(terms, weights) for terms, weights in short_queries(60) if not spoilt & set(terms.tolist())]
    assert len(asked) >= 5
    safe = calibrate.SAFE
    for query in asked:
        traces = []
        for indexed in (one, other):
            traces.append(Trace())
            ((_docids, scores),) = indexed.search([query], 10, forced=safe, trace=traces[-1])
            ((_right, oracle),) = indexed.exact([query], 10)
            np.testing.assert_array_equal(scores, oracle)
        scored = [trace.report.runs[0].scored for trace in traces]
        assert scored[1] <= 4 * scored[0] + 50
    trace = Trace()
    other.search([(column.terms[at[:1]], np.ones(1, np.float32))], 10, target=0.99, trace=trace)
    (said,) = trace.report.explained()
    costs = {row["plan"]: row["microseconds"] for row in said["considered"]}
    assert "full postings" in costs


@pytest.mark.parametrize("rows", [None, 3])
def test_full_postings_find_what_the_table_finds(rows):
    indexed = small()
    forced = int(np.flatnonzero(calibrate.SETTINGS[:, PLAN] == kernel.POSTINGS)[0])
    wanted = None if rows is None else indexed.docids[::rows].copy()
    for query in short_queries(8):
        for k in (1, 10, 200):
            ((found, scores),) = indexed.search([query], k, wanted, forced=forced)
            ((right, oracle),) = indexed.exact([query], k, wanted)
            np.testing.assert_array_equal(found, right)
            np.testing.assert_array_equal(scores, oracle)
