"""Files of lists that are made from earlier ones: rows, codes, lists and recall, beside a build of the same rows."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.support.indexed import METRICS, Chunks, clustered
from vectordb import IVF, CorruptionError, Dense
from vectordb.common import failpoints
from vectordb.index import renewal
from vectordb.index.base import Cancelled, SegmentRequest, SegmentTarget, open_file
from vectordb.index.lists import build, calibrate, healing, segment
from vectordb.index.lists.clusters import ROWS_A_LIST, TOO_LONG, nearest_of
from vectordb.index.lists.codecs import LONGER, Coding, OneBit
from vectordb.index.lists.frame import Frame
from vectordb.index.lists.healing import STEPS, heal
from vectordb.index.lists.kind import ListsFile
from vectordb.index.renewal import Unfit
from vectordb.kernels import columns_of_memory

pytestmark = pytest.mark.usefixtures("full_calibration")

ROWS, DIM, ADDED = 2_000, 16, 550
OPTIONS = build.Options(threads=1)
ALL = np.arange(ROWS + ADDED, dtype=np.uint32)


def none(stage, share) -> None:
    """No progress."""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(segment, "LEAST", 500)
    monkeypatch.setattr(calibrate, "FILTERED", 8)
    monkeypatch.setattr(calibrate, "SELECTIVITIES", (0.3,))
    yield
    failpoints.disarm()


@functools.cache
def vectors_of(together: bool = False) -> np.ndarray:
    """together: all rows that are added are near one another."""
    vectors = clustered(4, ROWS + ADDED, DIM)
    if together:
        vectors[ROWS:] = vectors[0] + 0.5 * np.random.default_rng(3).standard_normal((ADDED, DIM)).astype(np.float32)
    return vectors


@functools.cache
def earlier(metric: str, outlier: bool = False) -> bytes:
    vectors = vectors_of()[:ROWS].copy()
    if outlier:
        vectors[17] *= 1e8
    with tempfile.TemporaryDirectory() as folder:
        build.build(Path(folder) / "f", vectors, ALL[:ROWS], metric, OPTIONS)
        return (Path(folder) / "f").read_bytes()


def opened(metric: str, folder: Path, outlier: bool = False):
    (folder / "earlier").write_bytes(earlier(metric, outlier))
    return open_file(folder / "earlier")


def stay(share: float = 0.9) -> np.ndarray:
    """Some docids of the first ROWS rows, and all that were added."""
    return np.concatenate([np.flatnonzero(np.random.default_rng(0).random(ROWS) < share), ALL[ROWS:]]).astype(np.uint32)


def recall(file, vectors: np.ndarray, docids: np.ndarray, target: float) -> float:
    """Of 200 queries for 10 rows each."""
    queries, norms = clustered(5, 200, DIM), np.linalg.norm(vectors, axis=1).astype(np.float32)
    products = queries @ vectors.T
    if file.metric == "cosine":
        products = products / norms
    elif file.metric == "l2":
        products = 2 * products - np.square(norms)
    truth = docids[np.argsort(-products, axis=1)[:, :10]]
    spec, targets = Dense(DIM, file.metric, index=IVF()), [SegmentTarget(file, file.all_allowed, True)]
    chunks = Chunks(columns_of_memory(vectors, docids, norms))
    found, _ = ListsFile.search(SegmentRequest(targets, [], chunks, queries, spec, 10, target))
    return float(np.mean([np.isin(right, each[0]).mean() for right, each in zip(truth, found, strict=True)]))


def coded_anew(file, vectors: np.ndarray):
    """(codec's codes and factors of all rows of a file, coded at once) for both codecs. vectors: in the order of the file."""
    sections = file.sections
    frame = Frame(file.metric, file.meta["scale"], sections["mean"].copy(), sections["flips"].copy())
    lists = np.repeat(np.arange(file.lists, dtype=np.int32), np.diff(file.offsets))
    for codec in (OneBit, LONGER[OPTIONS.bits]):
        made = codec.train(Coding(frame, sections["centroids"].copy(), lists), len(lists))
        made.encode_rows(0, frame.rotated(vectors))
        yield codec, made


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("metric", METRICS)
def test_a_healed_file_is_as_if_coded_at_once_for_its_lists(metric, together, tmp_path):
    docids, vectors, base = stay(), vectors_of(together), opened(metric, tmp_path)
    said = heal(tmp_path / "healed", vectors[docids], docids, base, OPTIONS, 1, none)
    file = open_file(tmp_path / "healed")
    gone = ROWS - int((docids < ROWS).sum())
    assert said.startswith(f"healed: {ADDED} rows added, {gone} removed") and file.facts()["healed"] == 1
    assert np.array_equal(np.sort(file.docids), docids)
    for codec, made in coded_anew(file, vectors[file.docids]):
        codes, factors, lost = codec.held(file.sections, file.meta, file.rows)
        np.testing.assert_array_equal(codes, made.codes)
        kept = 3 if codec is OneBit else 2
        np.testing.assert_array_equal(factors[:kept], made.factors[:kept])
        assert lost == pytest.approx(made.lost, rel=0.01)  # the mean of the rows that stay is that of all rows before
    sizes = np.diff(file.offsets)
    assert sizes.min() > 0 and sizes.max() <= TOO_LONG * ROWS_A_LIST + ADDED * (not together)
    if together:
        assert file.lists > base.lists
    # Observed at .9 and .99: at least .937 and .990.
    assert recall(file, vectors[docids], docids, 0.9) >= 0.9 and recall(file, vectors[docids], docids, 0.99) >= 0.98


def test_rows_move_where_a_new_centroid_is_nearer_and_short_lists_end(tmp_path, monkeypatch):
    docids, vectors, base = stay(), vectors_of(True), opened("l2", tmp_path)
    sections = base.sections
    frame = Frame("l2", base.meta["scale"], sections["mean"].copy(), sections["flips"].copy())
    own = np.full(len(docids), -1, np.int32)
    at = {int(docid): i for i, docid in enumerate(docids)}
    for list_, (low, high) in enumerate(zip(base.offsets[:-1], base.offsets[1:], strict=True)):
        for docid in base.docids[low:high]:
            if int(docid) in at:
                own[at[int(docid)]] = list_
    lists = healing.Lists(frame, vectors[docids], sections["centroids"].copy(), own, 0, 1, none)
    rotated = frame.rotated(vectors[docids])
    best = nearest_of(rotated, lists.centroids, np.einsum("ij,ij->i", lists.centroids, lists.centroids) / 2)
    fresh = np.flatnonzero(lists._numbers < 0)
    assert len(fresh) >= 2
    assert (lists.assigned[np.isin(best, fresh)] == best[np.isin(best, fresh)]).all()
    assert (lists.assigned[own < 0] == best[own < 0]).mean() > 0.9
    changed = lists.changed(own)
    assert changed[own < 0].all() and changed.mean() < 0.5
    # A list that keeps a few rows only: they go to others.
    few = own.copy()
    rows = np.flatnonzero(own == 0)
    rest = np.setdiff1d(np.arange(len(docids)), rows[5:])
    lists = healing.Lists(frame, vectors[docids][rest], sections["centroids"].copy(), few[rest], 0, 1, none)
    assert 0 not in lists._numbers.tolist() and lists.changed(few[rest])[few[rest] == 0].all()


def test_any_number_of_threads_makes_the_same_file(tmp_path):
    docids, vectors, base = stay(), vectors_of(True), opened("cosine", tmp_path)
    for threads in (1, 2):
        heal(tmp_path / f"of {threads}", vectors[docids], docids, base, OPTIONS, threads, none)
    one, two = (open_file(tmp_path / f"of {threads}") for threads in (1, 2))
    for name in one.sections.keys() - {"recalls", "costs", "scan"}:
        np.testing.assert_array_equal(one.sections[name], two.sections[name])
    assert one.meta == two.meta


def test_outliers_stay_apart(tmp_path):
    docids, vectors = np.union1d(stay(), [17]).astype(np.uint32), vectors_of().copy()
    vectors[17] *= 1e8
    vectors[ROWS + 3] *= 1e8
    heal(tmp_path / "healed", vectors[docids], docids, opened("l2", tmp_path, outlier=True), OPTIONS, 1, none)
    file = open_file(tmp_path / "healed")
    assert file.apart.tolist() == [17, ROWS + 3] and file.covered == len(docids)
    assert np.array_equal(np.sort(np.concatenate([file.docids, file.apart])), docids)


def test_a_calibration_is_measured_again_or_the_file_is_built_where_less_is_found(tmp_path, monkeypatch):
    docids, vectors, base = stay(), vectors_of(), opened("cosine", tmp_path)
    heal(tmp_path / "kept", vectors[docids], docids, base, OPTIONS, 1, none)
    for name in healing.CALIBRATION:
        np.testing.assert_array_equal(open_file(tmp_path / "kept").sections[name], base.sections[name])
    monkeypatch.setattr(renewal, "TOLERANCE", -1.0)
    assert heal(tmp_path / "again", vectors[docids], docids, base, OPTIONS, 1, none).endswith(", calibrated anew")
    monkeypatch.setattr(renewal, "WORSE", -1.0)
    with pytest.raises(Unfit, match="less"):
        heal(tmp_path / "worse", vectors[docids], docids, base, OPTIONS, 1, none)
    assert not (tmp_path / "worse").exists()


def test_other_options_too_many_changes_and_damage_are_told(tmp_path):
    vectors, base = vectors_of(), opened("cosine", tmp_path)
    for docids, options, why in ((stay(), build.Options(8), "another form"), (ALL[: ROWS // 3], OPTIONS, "rows stay")):
        with pytest.raises(Unfit, match=why):
            heal(tmp_path / "healed", vectors[docids], docids, base, options, 1, none)
    whole = bytearray(earlier("cosine"))
    whole[base.file._start + base.file._places["codes"][0] + 100] ^= 1
    (tmp_path / "damaged").write_bytes(whole)
    with pytest.raises(CorruptionError, match="codes"):
        heal(tmp_path / "healed", vectors[stay()], stay(), open_file(tmp_path / "damaged"), OPTIONS, 1, none)


def test_it_can_be_cancelled_at_each_stage_and_fail_at_each_step(tmp_path):
    seen: list[str] = []
    base, docids = opened("cosine", tmp_path), stay()
    vectors = vectors_of(True)[docids]
    heal(tmp_path / "a", vectors, docids, base, OPTIONS, 1, lambda stage, share: seen.append(stage))
    assert set(seen) == {"lists", "clusters", "codes", "calibration"}

    def stop_at(asked):
        def step(stage, share):
            if stage == asked:
                raise Cancelled(stage)

        return step

    for stage in dict.fromkeys(seen):
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
