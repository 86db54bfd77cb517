"""Files of dense segments that are made from earlier ones: rows, codes, graph and recall, beside a build of the same rows."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

from tests.support.indexed import METRICS, Chunks, Indexed, clustered, held_out, of_low_rank
from vectordb import CorruptionError, Dense
from vectordb.common import failpoints
from vectordb.index import renewal
from vectordb.index.base import Cancelled, SegmentRequest, SegmentTarget, open_file
from vectordb.index.dense import build, calibrate, healing
from vectordb.index.dense.healing import STEPS, heal
from vectordb.index.dense.kind import HNSWFile
from vectordb.index.dense.principal import PrincipalCodes
from vectordb.index.renewal import Unfit
from vectordb.kernels import columns_of_memory

ROWS, DIM, ADDED = 2_500, 24, 250
OPTIONS = build.Options(threads=1)
ALL = np.arange(ROWS + ADDED, dtype=np.uint32)


def none(stage, share) -> None:
    """No progress."""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(build, "GRAPH_ROWS", 1_000)
    yield
    failpoints.disarm()


@pytest.fixture(autouse=True)
def few(monkeypatch):
    for name, value in {"QUERIES": 60, "SELECTIVITIES": (0.3,), "MADE": 12, "MADE_REQUESTS": (6, 4)}.items():
        monkeypatch.setattr(calibrate, name, value)


def rows_of(metric: str) -> np.ndarray:
    return clustered(4, ROWS + ADDED, DIM)


@functools.cache
def earlier(metric: str) -> bytes:
    """The file of the first ROWS rows; of l2, one of them is an outlier."""
    vectors = rows_of(metric)[:ROWS].copy()
    if metric == "l2":
        vectors[17] *= 1e5
    return Indexed(vectors, metric, docids=ALL[:ROWS], options=OPTIONS, GRAPH_ROWS=1_000, ROWS_A_CLUSTER=200).file


def opened(metric: str, folder: Path, name: str = "earlier"):
    (folder / name).write_bytes(earlier(metric))
    return open_file(folder / name)


def stay(seed: int = 0, share: float = 0.9) -> np.ndarray:
    """Some docids of the first ROWS rows, and all that were added."""
    return np.concatenate([np.flatnonzero(np.random.default_rng(seed).random(ROWS) < share), ALL[ROWS:]]).astype(np.uint32)


def renewed(metric: str, folder: Path, docids: np.ndarray, vectors: np.ndarray | None = None, base=None, name="healed", threads=1):
    vectors = rows_of(metric) if vectors is None else vectors
    said = heal(folder / name, vectors[docids].copy(), docids, base or opened(metric, folder), OPTIONS, threads, none)
    return open_file(folder / name), said


def recall(segment, vectors: np.ndarray, docids: np.ndarray, target: float) -> float:
    """Of 200 queries for 10 rows each, by the rows' own scores."""
    queries, norms = held_out(200, DIM), np.linalg.norm(vectors, axis=1).astype(np.float32)
    products = queries @ vectors.T
    if segment.metric == "cosine":
        products = products / norms
    elif segment.metric == "l2":
        products = 2 * products - np.square(norms)
    truth = docids[np.argsort(-products, axis=1)[:, :10]]
    chunks = Chunks(columns_of_memory(vectors, docids, norms))
    request = SegmentRequest(
        [SegmentTarget(segment, segment.all_allowed, True)], [], chunks, queries, Dense(DIM, segment.metric), 10, target
    )
    found, _ = HNSWFile.search(request)
    return float(np.mean([np.isin(right, each[0]).mean() for right, each in zip(truth, found, strict=True)]))


def test_a_healed_file_has_principal_codes_where_the_earlier_one_has(tmp_path):
    vectors, docids = of_low_rank(4, ROWS + ADDED), stay()
    first = Indexed(vectors[:ROWS], "cosine", docids=ALL[:ROWS], options=OPTIONS, GRAPH_ROWS=1_000, ROWS_A_CLUSTER=200)
    segment, said = renewed("cosine", tmp_path, docids, vectors, first.segment)
    assert said.startswith("healed")
    frame, meta = healing._frame_of(first.segment), first.segment.meta
    again = PrincipalCodes(frame, first.segment.sections["axes"], meta["axis_step"], meta["principal_step"], segment.rows)
    again.encode_rows(0, frame.rotated(vectors[segment.docids]))
    # A sum in another order may round to the next code.
    apart = np.abs(segment.sections["principal"].astype(int) - again.codes)
    assert apart.max() <= 1 and apart.mean() < 0.001
    for name in ("axes", "principal_centroids"):
        np.testing.assert_array_equal(segment.sections[name], first.segment.sections[name])


@pytest.mark.parametrize("metric", METRICS)
def test_a_healed_file_has_the_rows_codes_and_recall_of_a_built_one(metric, tmp_path):
    docids, vectors = stay(), rows_of(metric)
    if metric == "l2":
        vectors[17] *= 1e5
    base = opened(metric, tmp_path)
    segment, said = renewed(metric, tmp_path, docids, vectors)
    gone = ROWS - (docids < ROWS).sum()
    assert said.startswith(f"healed: {ADDED} rows added, {gone} removed")
    assert np.array_equal(np.sort(np.concatenate([segment.docids, segment.apart])), docids) and segment.covered == len(docids)
    assert (
        segment.healed["times"] == 1
        and segment.facts()["healed"] == 1
        and (segment.healed["added"], segment.healed["removed"]) == (ADDED, gone)
    )
    if metric == "l2":
        assert segment.apart.tolist() == ([17] if 17 in docids else [])
    # Codes of rows that stay are the earlier ones, and those of the others are made like them: all are as if encoded at once.
    frame = healing._frame_of(base)
    rotated = frame.rotated(vectors[segment.docids])
    again = build.ByteCodes.train(frame, len(rotated))
    again.encode_rows(0, rotated)
    np.testing.assert_array_equal(segment.sections["codes"], again.codes)
    np.testing.assert_array_equal(segment.sections["lacking"], again.residual_norms)
    if metric == "l2":
        np.testing.assert_array_equal(segment.sections["bias"], -np.square(again.lengths).astype(np.float32))
    # Each row is in one cluster, that of the earlier file if it has one; the medoids are among their clusters' rows.
    offsets, place = segment.offsets, {int(docid): row for row, docid in enumerate(segment.docids)}
    assert offsets[-1] == segment.rows and len(offsets) == len(base.offsets)
    for row in range(0, base.rows, 37):
        docid = int(base.docids[row])
        if docid in place:
            cluster = np.searchsorted(base.offsets, row, "right")
            assert np.searchsorted(offsets, place[docid], "right") == cluster
    medoids = segment.sections["medoids"]
    inside = medoids >= 0
    assert (medoids[inside] >= offsets[:-1][inside]).all() and (medoids[inside] < offsets[1:][inside]).all()
    # Every row is linked, to rows of the file, none twice, and none to itself.
    graph = segment.sections["graph"]
    assert graph.shape[0] == segment.rows and graph.max() < segment.rows
    counts = (graph >= 0).sum(axis=1)
    assert counts.min() > 0 and len(np.unique(graph[graph >= 0])) == segment.rows
    for row, links in enumerate(graph):
        own = links[: counts[row]]
        assert (own >= 0).all() and len(np.unique(own)) == len(own) and row not in own
    # Observed at .9 and .99: cosine .967 and .988, dot .950 and 1.0, l2 .969 and .998.
    kept = np.sort(segment.docids)
    assert recall(segment, vectors[kept], kept, 0.9) >= 0.9 and recall(segment, vectors[kept], kept, 0.99) >= 0.98


def test_any_number_of_threads_makes_the_same_file(tmp_path):
    files = [renewed("cosine", tmp_path, stay(), name=f"of {threads}", threads=threads)[0] for threads in (1, 3)]
    measured = {"recalls", "lows", "costs", "far_recalls", "far_costs", "distances"}
    for name in files[0].sections.keys() - measured:
        np.testing.assert_array_equal(files[0].sections[name], files[1].sections[name])
    assert {**files[0].meta, "cold": 0} == {**files[1].meta, "cold": 0}


def test_a_file_is_healed_again_and_again_until_no_row_of_the_first_is_left(tmp_path):
    """What is told of it adds up; recall stays. Two files take turns."""
    vectors = clustered(4, 3 * ROWS, DIM)
    vectors[: len(ALL)] = rows_of("cosine")
    base, rng, docids = opened("cosine", tmp_path), np.random.default_rng(1), ALL[:ROWS]
    for turn in range(5):
        first = rng.permutation(docids[docids < ROWS])[:500] if turn < 4 else docids[docids < ROWS]
        added = np.arange(ROWS + 500 * turn, ROWS + 500 * (turn + 1))
        docids = np.sort(np.concatenate([np.setdiff1d(docids, first), added])).astype(np.uint32)
        base, _ = renewed("cosine", tmp_path, docids, vectors, base, f"turn {turn}")
    assert (base.docids >= ROWS).all() and base.healed["times"] == 5
    assert base.healed["added"] == 2_500 and base.healed["removed"] == ROWS and base.healed["built"] == ROWS
    assert recall(base, vectors[docids], docids, 0.95) >= 0.95  # observed: .996


def test_a_calibration_that_no_longer_holds_is_measured_again(tmp_path, monkeypatch):
    asked: list[int] = []
    calibrated = calibrate.calibrate
    monkeypatch.setattr(calibrate, "calibrate", lambda *given: asked.append(1) or calibrated(*given))
    base = opened("cosine", tmp_path)
    kept = renewed("cosine", tmp_path, stay())[0]
    assert not asked
    for name in healing.CALIBRATION:
        np.testing.assert_array_equal(kept.sections[name], base.sections[name])
    monkeypatch.setattr(renewal, "TOLERANCE", -1.0)
    segment, said = renewed("cosine", tmp_path, stay(), name="other")
    assert asked and said.endswith(", calibrated anew") and segment.healed["calibrated"] == segment.rows and segment.healed["changed"] == 0
    monkeypatch.undo()


def test_a_graph_that_finds_much_less_is_not_kept(tmp_path, monkeypatch):
    def torn(self, lifts, unlinked, rows):
        graph = np.full((rows, 64), -1, np.int32)
        graph[:, 0] = (np.arange(rows) + 1) % rows
        return graph

    monkeypatch.setattr(healing._Healing, "_mended", torn)
    monkeypatch.setattr(healing, "STARVED", 0)
    with pytest.raises(Unfit, match=r"find 0\..* less"):
        renewed("cosine", tmp_path, stay())
    assert not (tmp_path / "healed").exists()


def test_a_graph_whose_rows_lost_nearly_all_links_is_linked_again(tmp_path, monkeypatch):
    """All rows of a third of the clusters are gone, and most links are to rows of one's own cluster."""
    base = opened("cosine", tmp_path)
    gone = base.docids[: base.offsets[len(base.offsets) // 3]]
    docids = np.setdiff1d(ALL, gone).astype(np.uint32)
    segment, _ = renewed("cosine", tmp_path, docids)
    assert recall(segment, rows_of("cosine")[docids], docids, 0.95) >= 0.95  # observed: .9905


def elsewhere(vectors):
    vectors[ROWS:] += 8 * np.abs(vectors[:ROWS]).max()


def coarser(vectors):
    vectors[ROWS:] = 2.2 * np.sign(vectors[ROWS:]) * np.abs(vectors[:ROWS]).max() * np.random.default_rng(0).random((ADDED, DIM)) ** 3


def together(vectors):
    vectors[ROWS:] = vectors[0] + 1e-3 * vectors[ROWS:]


@pytest.mark.parametrize(("change", "why"), [(elsewhere, "outliers"), (coarser, "don't fit|outliers"), (together, "near one another")])
def test_added_rows_of_another_kind_ask_for_a_build(change, why, tmp_path, monkeypatch):
    monkeypatch.setattr(healing, "LONGER", 0.9)
    vectors = rows_of("l2")
    change(vectors)
    with pytest.raises(Unfit, match=why):
        renewed("l2", tmp_path, stay(), vectors)


def test_a_dimension_that_was_the_same_in_all_rows_asks_for_a_build(tmp_path):
    vectors = rows_of("l2")
    vectors[:ROWS, 3] = 0.5
    (tmp_path / "constant").write_bytes(Indexed(vectors[:ROWS], "l2", docids=ALL[:ROWS], options=OPTIONS, GRAPH_ROWS=1_000).file)
    with pytest.raises(Unfit, match="dimension"):
        renewed("l2", tmp_path, stay(), vectors, open_file(tmp_path / "constant"))


def test_too_many_changes_and_other_options_ask_for_a_build(tmp_path):
    base, vectors = opened("cosine", tmp_path), rows_of("cosine")
    some = ALL[: ROWS // 3]
    for docids, options, why in (
        (some, OPTIONS, "rows stay"),
        (np.concatenate([ALL[:1_500], ALL[ROWS:], np.arange(5_000, 6_000)]).astype(np.uint32), OPTIONS, "are added to"),
        (stay(), build.Options(degree=20), "another form"),
        (stay(), build.Options("faiss"), "another form"),
    ):
        given = np.resize(vectors, (len(docids), DIM)).copy()
        with pytest.raises(Unfit, match=why):
            heal(tmp_path / "healed", given, docids, base, options, 1, none)
    assert not (tmp_path / "healed").exists()


def test_a_damaged_file_is_not_healed(tmp_path):
    path = tmp_path / "earlier"
    whole = bytearray(earlier("cosine"))
    (tmp_path / "plain").write_bytes(whole)
    file = open_file(tmp_path / "plain").file
    at = file._start + file._places["graph"][0] + 4_000
    whole[at] ^= 1
    path.write_bytes(whole)
    with pytest.raises(CorruptionError, match="graph"):
        renewed("cosine", tmp_path, stay(), base=open_file(path))
    path.write_bytes(whole)

    class Source:
        docids = stay()
        saturation = None

        def blocks(self):
            yield 0, type("Column", (), {"values": rows_of("cosine")[self.docids]})

        def release(self):
            pass

    said = HNSWFile.renew(tmp_path / "new", Source(), Dense(DIM, "cosine"), open_file(path), none, lambda: False)
    assert said.startswith("built anew, because index file") and not open_file(tmp_path / "new").healed


def test_it_can_be_cancelled_at_each_stage_and_fail_at_each_step(tmp_path):
    seen: list[str] = []
    base, docids = opened("cosine", tmp_path), stay()
    vectors = rows_of("cosine")[docids]
    heal(tmp_path / "a", vectors, docids, base, OPTIONS, 1, lambda stage, share: seen.append(stage))
    stages = list(dict.fromkeys(seen))
    assert stages == ["codes", "graph", "calibration"]

    def stop_at(asked):
        def step(stage, share):
            if stage == asked:
                raise Cancelled(stage)

        return step

    for stage in stages:
        with pytest.raises(Cancelled):
            heal(tmp_path / "b", vectors, docids, base, OPTIONS, 1, stop_at(stage))
    for name in STEPS:

        def fail(name=name):
            raise OSError(name)

        failpoints.arm(name, fail)
        with pytest.raises(OSError, match=name):
            heal(tmp_path / "b", vectors, docids, base, OPTIONS, 1, none)
        failpoints.disarm()
    assert not (tmp_path / "b").exists()


def test_filtered_searches_of_a_healed_file_find_all_that_match(tmp_path):
    docids, vectors = stay(), rows_of("cosine")
    segment, _ = renewed("cosine", tmp_path, docids)
    part = Indexed(vectors, "cosine", docids=ALL, file=(tmp_path / "healed").read_bytes())
    for step in (3, 50, 700):
        wanted = docids[::step].copy()
        found = part.search(held_out(5, DIM), 10, wanted, target=1.0)
        exact = part.exact(held_out(5, DIM), 10, wanted)
        for (some, _), (right, _) in zip(found, exact, strict=True):
            assert set(some.tolist()) == set(right.tolist())
    assert segment.rows == len(docids)


def drifted(count: int) -> np.ndarray:
    """The rows, of which the last ``count`` have moved away from all others."""
    vectors = rows_of("l2")
    vectors[len(vectors) - count :] += np.float32(1.5 * vectors[:ROWS].std())
    return vectors


def test_rows_far_from_all_clusters_ask_for_a_build_when_they_are_many(tmp_path, monkeypatch):
    monkeypatch.setattr(healing, "COARSER", 9.0)
    with pytest.raises(Unfit, match=r"\d% of the rows are far from all clusters"):
        renewed("l2", tmp_path, stay(), drifted(ADDED))
    segment, said = renewed("l2", tmp_path, stay(), drifted(ADDED // 10))
    assert said.startswith(f"healed: {ADDED} rows added") and segment.healed["usual"] > 0


def test_strays_are_counted_by_what_was_usual_after_the_build(tmp_path, monkeypatch):
    """Strays of earlier merges count, too: many small merges are as one large."""
    monkeypatch.setattr(healing, "COARSER", 9.0)
    first = np.setdiff1d(stay(), ALL[-ADDED // 2 :]).astype(np.uint32)
    few = np.concatenate([first, ALL[-20:]]).astype(np.uint32)
    vectors = drifted(ADDED // 2)
    segment, _ = renewed("l2", tmp_path, few, vectors)
    again, _ = renewed("l2", tmp_path, np.concatenate([first, ALL[-40:]]).astype(np.uint32), vectors, segment, "again")
    assert again.healed["usual"] == segment.healed["usual"] and again.healed["times"] == 2
    with pytest.raises(Unfit, match="far from all clusters"):
        renewed("l2", tmp_path, np.concatenate([first, ALL[-ADDED // 2 :]]).astype(np.uint32), vectors, again, "third")
