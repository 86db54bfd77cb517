"""Codes of CSR against numpy: the largest numbers, the slopes of the loss, bits that depend on nothing else, and wrong definitions."""

from __future__ import annotations

import numpy as np
import pytest

from vectordb import CSR, PCA, Dense, InvalidArgumentError, MultiVector, Schema, SchemaError, Sparse, TopTerms
from vectordb.derivations import DERIVATIONS, pieces, sample, sparse

CENTRES = np.random.default_rng(0).standard_normal((24, 16))


def rows(n=400, seed=1):
    rng = np.random.default_rng(seed)
    return (CENTRES[rng.integers(0, 24, n)] + 0.3 * rng.standard_normal((n, 16))).astype(np.float32)


def spec_of(given, metric="cosine"):
    return Schema({"v": Dense(16, metric), "codes": Sparse(derived=given)}).vectors["codes"]


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(sparse, "STEPS", 20)


def test_the_strongest_are_kept_and_of_equal_ones_the_first():
    values = np.array([[3, 1, 2, -5], [1, 1, 1, 1], [-1, -2, 0, -3], [0, 4, 0, 4]], np.float32)
    assert sparse.strongest(values, 2).tolist() == [[3, 0, 2, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 4, 0, 4]]
    assert sparse.strongest(values, 9).tolist() == np.maximum(values, 0).tolist()
    random = np.random.default_rng(2).standard_normal((50, 30)).astype(np.float32)
    for code, row in zip(sparse.strongest(random, 5), random, strict=True):
        assert np.flatnonzero(code).tolist() == sorted(np.argsort(-row)[:5].tolist())


@pytest.mark.parametrize("signed", [False, True])
def test_slopes_are_those_of_the_loss(signed):
    """Against differences of the loss, written out again in float64."""
    rng, k = np.random.default_rng(3), 3
    x = rng.standard_normal((6, 5)).astype(np.float32)
    values = [rng.standard_normal(shape).astype(np.float32) for shape in ((20, 5), (20, 5), 20, 5)]
    spread = 2.5
    slopes, _, lost = sparse._slopes(x, values, k, spread, np.zeros(20, bool), signed)

    def loss(encoder, decoder, bias, centre):
        moved = x.astype(np.float64) - centre
        before, total = moved @ encoder.T + bias, 0.0
        for most, weight in ((k, 1.0), (4 * k, 1 / 8)):
            sizes, kept = (np.abs(before), before) if signed else (before, np.maximum(before, 0))
            code = np.where(np.argsort(np.argsort(-sizes, axis=1), axis=1) < most, kept, 0)
            total += weight * np.square(code @ decoder - moved).sum() / (len(x) * spread)
        return total

    wide = [value.astype(np.float64) for value in values]
    for part, slope in enumerate(slopes):
        for place in rng.integers(0, slope.size, 6):
            moved = []
            for step in (1e-6, -1e-6):
                changed = [value.copy() for value in wide]
                changed[part].flat[place] += step
                moved.append(loss(*changed))
            assert slope.flat[place] == pytest.approx((moved[0] - moved[1]) / 2e-6, rel=1e-2, abs=1e-4)
    assert lost > 0


def test_products_in_pieces_are_those_of_numpy(monkeypatch):
    rng, sizes = np.random.default_rng(5), []
    real = np.matmul

    def counted(left, right, out):
        sizes.append(left.size * right.shape[1])
        return real(left, right, out=out)

    monkeypatch.setattr(pieces.np, "matmul", counted)
    for m, k, n in ((5, 4, 3), (512, 16, 64), (64, 512, 16), (70, 3_000, 90), (3, 90_000, 7), (1_000, 3, 2_000)):
        left, right = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((n, k)).astype(np.float32).T
        for one, other in ((left, right), (np.asfortranarray(left), np.ascontiguousarray(right))):
            np.testing.assert_allclose(pieces.multiplied(one, other), np.dot(left, right), rtol=1e-4, atol=1e-3)
    assert sizes and max(sizes) <= pieces.ONE_THREAD


def test_a_latent_that_no_row_has_is_helped():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((6, 5)).astype(np.float32)
    values = [rng.standard_normal(shape).astype(np.float32) for shape in ((20, 5), (20, 5), 20, 5)]
    idle = np.zeros(20, bool)
    idle[7], values[2][7] = True, -5.0
    values[0][7] *= 0.01
    assert not sparse._slopes(x, values, 2, 1.0, ~idle)[0][2][7]
    values[2][7] = 0.01
    alone, helped = (sparse._slopes(x, values, 2, 1.0, each)[0] for each in (np.zeros(20, bool), idle))
    assert np.abs(helped[1][7] - alone[1][7]).max() > 0 and np.array_equal(np.delete(helped[1], 7, 0), np.delete(alone[1], 7, 0))


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_a_row_has_the_same_code_whatever_stands_beside_it(metric, short):
    given = CSR("v", hidden=64, k=6)
    spec, method, values = spec_of(given, metric), DERIVATIONS["csr"], rows()
    parts, facts = method.fit(given, spec, values)
    again, _ = method.fit(given, spec, values)
    assert all(parts[name].tobytes() == again[name].tobytes() for name in parts) and facts["explained"] < 1
    assert method.fit(CSR("v", hidden=64, k=6, seed=1), spec, values)[0]["bias"].tobytes() != parts["bias"].tobytes()
    whole = method.derive(given, spec, parts, values)
    assert np.diff(whole.indptr).max() <= 6 and (whole.weights > 0).all()
    for low, high in ((0, 1), (7, 8), (3, 140)):
        part = method.derive(given, spec, parts, values[low:high])
        for i in range(high - low):
            assert [each.tobytes() for each in part.vector(i)] == [each.tobytes() for each in whole.vector(low + i)]
    unit = values.astype(np.float64) / np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True)
    by_hand = sparse.strongest((unit @ parts["encoder"] + parts["bias"]).astype(np.float32), 6)
    same = [np.flatnonzero(code).tolist() == whole.vector(i)[0].tolist() for i, code in enumerate(by_hand)]
    assert np.mean(same) > 0.99  # sums in another order may turn two nearly equal numbers round
    assert len(method.derive(given, spec, parts, np.zeros((2, 16), np.float32)).terms) <= 12
    assert len(method.derive(given, spec, parts, values[:0])) == 0


def test_the_recall_of_terms_is_that_of_brute_force(short):
    given = CSR("v", hidden=64, k=8)
    spec, values = spec_of(given), rows()
    method = DERIVATIONS["csr"]
    codes = method.derive(given, spec, method.fit(given, spec, values[:360])[0], values)
    found = sample.recall_of_terms(Dense(16), values, codes, 40, 8)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    dense = np.zeros((400, 64))
    for i in range(400):
        terms, weights = codes.vector(i)
        dense[i, terms.astype(int)] = weights
    for k in (2, 4, 8):
        hits = 0
        for q in range(360, 400):
            query = np.where(np.isin(np.arange(64), np.argsort(-dense[q], kind="stable")[:k]), dense[q], 0)
            near = set(np.argsort(-(unit[:360] @ unit[q]))[:10].tolist())
            scores = dense[:360] @ query
            hits += len(near & {i for i in np.argsort(-scores, kind="stable")[:10].tolist() if scores[i] > 0})
        assert found[k] == pytest.approx(hits / 400, abs=0.006)


WRONG = [
    (lambda: CSR("v", hidden=3), "hidden must be"),
    (lambda: CSR("v", k=0), "k must be"),
    (lambda: CSR("v", sample=3), "sample must be"),
    (lambda: Dense(4, derived=CSR), r"such as CSR\('v'\)"),
    (lambda: Schema({"v": Dense(8), "d": Dense(4, derived=CSR("v"))}), r"CSR makes sparse vectors; write Sparse\(derived=CSR"),
    (lambda: Schema({"v": Dense(8), "s": Sparse(derived=PCA("v"))}), r"PCA makes dense vectors; write Dense\(…, derived=PCA"),
    (lambda: Schema({"v": Dense(8, "l2"), "s": Sparse(derived=CSR("v", k=4))}), "metric 'cosine' or 'dot', and 'v' has 'l2'"),
    (lambda: Schema({"v": Dense(8), "s": Sparse(derived=CSR("v"))}), "k of CSR must be less than hidden, 32, not 32"),
    (lambda: Schema({"v": Dense(8), "s": Sparse(derived=CSR("v", hidden=400, sample=700))}), "write sample=800"),
    (lambda: Schema({"w": Sparse(), "s": Sparse(derived=CSR("w"))}), "which is sparse, not dense"),
    (lambda: Schema({"v": Dense(5000), "s": Sparse(derived=CSR("v"))}), "at most 4096 dimensions"),
    (lambda: Sparse(binary=True, derived=CSR("v")), "has no binary"),
    (lambda: Sparse(weighting="idf", derived=CSR("v")), "has no weighting"),
    (lambda: Sparse(encoder="bm25", source="t", derived=CSR("v")), "neither encoder nor source|has no weighting"),
]


@pytest.mark.parametrize(("make", "words"), WRONG)
def test_wrong_definitions_are_refused(make, words):
    with pytest.raises(SchemaError, match=words):
        make()


def test_a_number_of_terms_is_checked():
    for wrong in (0, -1, 1.5, "8", True):
        with pytest.raises((InvalidArgumentError, SchemaError), match="k must be"):
            TopTerms([1.0], wrong)


@pytest.mark.parametrize("given", [{1: 2.0}, {}, None, TopTerms([1.0] * 16, 2)])
def test_terms_of_something_else_than_a_vector_are_refused(given):
    with pytest.raises(InvalidArgumentError, match=r"query vector 'codes' is a TopTerms of .* it takes a vector of 'v', \(16,\)"):
        spec_of(CSR("v", hidden=64, k=8)).column.query("codes", spec_of(CSR("v", hidden=64, k=8)), TopTerms(given, 2))


@pytest.mark.parametrize("field", [Dense(16), MultiVector(16)])
def test_top_terms_of_other_fields_are_refused(field):
    for given in (TopTerms(np.ones(16), 2), [TopTerms(np.ones(16), 2)]):
        with pytest.raises(InvalidArgumentError, match="vector 'v' is a TopTerms, which is for queries of derived sparse fields"):
            field.column.query("v", field, given)
