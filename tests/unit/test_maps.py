"""Maps between the vectors of two encoders, against what they should find."""

from __future__ import annotations

import numpy as np
import pytest

from vectordb import Dense
from vectordb.derivations import maps

OLD = np.random.default_rng(1).standard_normal((400, 12)).astype(np.float32)
TURN = np.linalg.qr(np.random.default_rng(2).standard_normal((12, 12)))[0]


def fit(metric, after, before=OLD):
    old, new = Dense(before.shape[1], metric), Dense(after.shape[1], metric)
    made = maps.fit(old, new, before, after.astype(np.float32))
    return made, maps.mapped(old, made.parts, before)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_a_rotation_is_found(metric):
    made, mapped = fit(metric, OLD @ TURN)
    assert made.facts == {"map": "orthogonal", "recall_at_10": 1.0, "cosine": 1.0}
    np.testing.assert_allclose(made.parts["matrix"], TURN, atol=1e-5)
    expected = OLD @ TURN
    if metric == "cosine":
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(mapped, expected, atol=1e-4)


def test_a_moved_and_scaled_space_is_found():
    made, mapped = fit("l2", 3 * OLD @ TURN + 7)
    assert made.facts["map"] == "orthogonal" and made.facts["recall_at_10"] == 1.0
    np.testing.assert_allclose(mapped, 3 * OLD @ TURN + 7, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_a_stretched_space_needs_a_regression(metric):
    stretched = OLD @ TURN @ np.diag(np.linspace(0.2, 3, 12))
    made, mapped = fit(metric, stretched)
    assert made.facts["map"] == "ridge" and made.facts["recall_at_10"] >= 0.9  # observed 0.94 (cosine), 1.0, 1.0
    if metric == "dot":
        sizes = np.linalg.norm(mapped, axis=1).mean(), np.linalg.norm(stretched, axis=1).mean()
        assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


def test_other_dimensions_are_mapped_both_ways():
    wide = np.pad(OLD, ((0, 0), (0, 6))) @ np.linalg.qr(np.random.default_rng(3).standard_normal((18, 18)))[0]
    assert fit("cosine", wide)[0].facts == {"map": "ridge", "recall_at_10": 1.0, "cosine": 1.0}
    assert fit("cosine", OLD, wide.astype(np.float32))[0].facts["recall_at_10"] == 1.0


def test_the_report_is_of_vectors_that_the_map_was_not_fitted_to():
    """Noise can be learned by heart, and is of no use for others."""
    noise = np.random.default_rng(4).standard_normal((60, 40)).astype(np.float32)
    made, _ = fit("cosine", noise, np.random.default_rng(5).standard_normal((60, 40)).astype(np.float32))
    assert made.facts["cosine"] < 0.3
    assert maps.held_out(60) == 15 and maps.held_out(100_000) == maps.HELD_OUT


def test_equal_vectors_give_equal_bits():
    one, other = (fit("cosine", OLD @ TURN)[0].parts for _ in range(2))
    assert one["matrix"].tobytes() == other["matrix"].tobytes() and one["shift"].tobytes() == other["shift"].tobytes()


@pytest.mark.parametrize("n", [20, 40])
def test_a_map_to_noise_finds_little_of_few_vectors(n):
    made, _ = fit("cosine", np.random.default_rng(3).standard_normal((n, 12)), OLD[:n])
    assert made.facts["recall_at_10"] <= 0.6  # 1.0 if all the others are looked for
