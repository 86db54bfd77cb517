"""Derivations against numpy: what they make, that a row's bits don't depend on its neighbours, and which sample they are fitted to."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from vectordb import PCA, Dense, Pick, Prefix, Project, Schema, SchemaError, Sparse
from vectordb.derivations import DERIVATIONS, sample
from vectordb.derivations.fixed import projection

ROWS = (np.random.default_rng(3).standard_normal((300, 24)) * np.linspace(2, 0.2, 24) + 0.3).astype(np.float32)


def derive(given, rows, dim=6, metric="cosine"):
    spec, method = Dense(dim, metric, derived=given), DERIVATIONS[given.name]
    parts = method.fit(given, spec, ROWS)[0] if given.learned else {}
    return method.derive(given, spec, parts, rows)


def test_a_prefix_keeps_the_direction_of_its_dimensions_and_the_length_of_the_whole():
    made = derive(Prefix("v"), ROWS)
    cut = ROWS[:, :6].astype(np.float64)
    expected = cut / np.linalg.norm(cut, axis=1, keepdims=True) * np.linalg.norm(ROWS.astype(np.float64), axis=1, keepdims=True)
    np.testing.assert_allclose(made, expected, rtol=1e-6)
    assert not derive(Prefix("v"), np.zeros((1, 24), np.float32)).any()


def test_a_projection_is_sparse_and_keeps_squared_lengths_on_average():
    matrix = projection(400, 100, 3, 7)
    assert set(np.round(np.unique(matrix) * np.sqrt(100 / 3), 5)) == {-1.0, 0.0, 1.0}
    shares = [np.mean(matrix < 0), np.mean(matrix == 0), np.mean(matrix > 0)]
    np.testing.assert_allclose(shares, [1 / 6, 2 / 3, 1 / 6], atol=0.01)
    rows = np.random.default_rng(1).standard_normal((200, 400)).astype(np.float32)
    made = DERIVATIONS["project"].derive(Project("v", seed=7), Dense(100), {}, rows)
    np.testing.assert_allclose(made, rows @ matrix, rtol=1e-4, atol=1e-4)
    assert np.mean(np.sum(made**2, axis=1) / np.sum(rows**2, axis=1)) == pytest.approx(1.0, abs=0.03)
    assert not np.array_equal(matrix, projection(400, 100, 3, 8))
    assert projection(3, 2, 3, 0).tolist() == projection(3, 2, 3, 0).tolist()  # kept
    assert projection.__wrapped__(24, 6, 5, 1).tolist() == projection(24, 6, 5, 1).tolist()


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_what_is_learned_is_what_numpy_says(metric):
    wide = ROWS.astype(np.float64)
    if metric == "cosine":
        wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    if metric == "l2":
        wide -= wide.mean(axis=0)
    basis = DERIVATIONS["pca"].fit(PCA("v"), Dense(6, metric, derived=PCA("v")), ROWS)[0]["basis"]
    best = np.linalg.svd(wide, full_matrices=False)[2][:6].T
    np.testing.assert_allclose(np.abs(basis.T @ best), np.eye(6), atol=1e-4)
    assert (basis[np.abs(basis).argmax(axis=0), np.arange(6)] > 0).all()
    picked = DERIVATIONS["pick"].fit(Pick("v"), Dense(6, metric, derived=Pick("v")), ROWS)[0]["dimensions"]
    assert picked.tolist() == sorted(np.argsort(-np.square(wide).sum(axis=0))[:6].tolist())
    np.testing.assert_array_equal(derive(Pick("v"), ROWS, metric=metric), ROWS[:, picked])


@pytest.mark.parametrize("given", [Prefix("v"), Project("v"), PCA("v"), Pick("v")], ids=lambda given: given.name)
def test_a_row_has_the_same_bits_whatever_stands_beside_it(given):
    whole = derive(given, ROWS)
    for low, high in ((0, 1), (7, 8), (3, 140), (250, 300)):
        assert derive(given, ROWS[low:high]).tobytes() == whole[low:high].tobytes()
    order = np.random.default_rng(5).permutation(len(ROWS))
    assert derive(given, ROWS[order]).tobytes() == whole[order].tobytes()
    assert derive(given, ROWS).dtype == np.float32


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_a_recall_of_other_metrics(metric):
    derived = derive(Pick("v"), ROWS, metric=metric)
    found, expected = sample.recall(Dense(6, metric), Dense(24, metric), ROWS, derived, 30), []
    for q in range(270, 300):
        near = []
        for rows in (ROWS.astype(np.float64), derived.astype(np.float64)):
            scores = rows[:270] @ rows[q] / (np.linalg.norm(rows[:270], axis=1) if metric == "cosine" else 1)
            near.append(set(np.argsort(-scores)[:10].tolist()))
        expected.append(len(near[0] & near[1]) / 10)
    assert found == pytest.approx(np.mean(expected), abs=1e-4)


def test_the_sample_depends_on_ids_and_seed_alone():
    ids = np.arange(1000, dtype=np.uint64)
    order = sample.order_of(ids, 4)
    assert sorted(order.tolist()) == ids.tolist() and order.tolist() != ids.tolist()
    assert sample.order_of(ids.tolist(), 4).tolist() == order.tolist()
    assert sample.order_of(ids, 5).tolist() != order.tolist()
    mixed = [*ids.tolist(), "a", uuid.UUID(int=9)]
    without = [place for place in sample.order_of(mixed, 4).tolist() if place < 1000]
    assert without == order.tolist()  # other points change nothing in the order of these
    turned = sample.order_of(ids[::-1].copy(), 4)
    assert (ids[::-1][turned]).tolist() == ids[order].tolist()


def test_the_recall_of_a_report_is_that_of_brute_force():
    derived = derive(PCA("v"), ROWS, metric="l2")
    found = sample.recall(Dense(6, "l2"), Dense(24, "l2"), ROWS, derived, 30)
    expected = []
    for q in range(270, 300):
        near = [set(np.argsort(((rows[:270] - rows[q]) ** 2).sum(axis=1))[:10].tolist()) for rows in (ROWS, derived)]
        expected.append(len(near[0] & near[1]) / 10)
    assert found == pytest.approx(np.mean(expected), abs=1e-4)
    assert sample.recall(Dense(24), Dense(24), ROWS, ROWS, 30) == 1.0


WRONG = [
    (lambda: Prefix(""), "source must be the name"),
    (lambda: PCA(7), "source must be the name"),
    (lambda: Project("v", s=0), "s must be"),
    (lambda: PCA("v", sample=5), "sample must be"),
    (lambda: Pick("v", seed=-1), "seed must be"),
    (lambda: Dense(4, derived="pca"), r"such as Prefix\('v'\), not 'pca'"),
    (lambda: Dense(4, derived=PCA), r"such as PCA\('v'\)"),
    (lambda: Dense(4, encoder="bm25", derived=Prefix("v")), "neither encoder nor source"),
    (lambda: Schema({"d": Dense(4, derived=Prefix("v"))}), "which is not a vector field"),
    (lambda: Schema({"v": Sparse(), "d": Dense(4, derived=Prefix("v"))}), "which is sparse, not dense"),
    (lambda: Schema({"v": Dense(4), "d": Dense(4, derived=Prefix("v"))}), r"needs fewer, such as Dense\(2, …\)"),
    (lambda: Schema({"v": Dense(8, "l2"), "d": Dense(4, derived=Prefix("v"))}), "write metric='l2'"),
    (
        lambda: Schema({"v": Dense(8), "d": Dense(4, derived=Prefix("d"))}),
        "'d' is derived from itself; the fields .*: v",
    ),
    (lambda: Schema({"v": Dense(5000), "d": Dense(4, derived=PCA("v"))}), "at most 4096 dimensions"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "dense", "dim": 4, "derived": {"by": "svd", "source": "w"}}}}), "this version"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "dense", "dim": 4, "derived": {"by": "pca"}}}}), "names no source"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "dense", "dim": 4, "derived": {"by": "pca", "source": "w", "k": 1}}}}), "'k'"),
]


@pytest.mark.parametrize(("make", "words"), WRONG)
def test_wrong_definitions_are_refused(make, words):
    with pytest.raises(SchemaError, match=words):
        make()


def test_a_schema_with_derived_fields_has_a_json_form():
    given = Schema({"v": Dense(8), "a": Dense(4, derived=PCA("v", seed=3)), "b": Dense(2, "cosine", "float16", derived=Project("v", s=9))})
    data = given.to_dict()
    assert data["vectors"]["a"] == {"kind": "dense", "dim": 4, "derived": {"by": "pca", "source": "v", "seed": 3}}
    assert Schema.from_dict(data) == given and given.vectors["a"].source_dim == 8
    assert Schema({"v": Dense(8), "a": given.vectors["a"]}).vectors["a"].derived == PCA("v", seed=3)
