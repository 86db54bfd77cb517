"""Fixed-dimensional encodings of multi-vectors: by a second implementation, and what the paper says of them."""

import numpy as np
import pytest
from vectordb_client.model.fde import _matrices

import vectordb
from vectordb import FDE, Dense, InvalidArgumentError, MultiVector, Prefetch, Schema, SchemaError


def matrices(rng, n, dim, rows=6):
    return [rng.standard_normal((size, dim)).astype(np.float32) for size in rng.integers(1, rows + 1, n)]


def maxsim(query, rows, cosine=True):
    if cosine:
        query, rows = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (query, rows))
    return float((query @ rows.T).max(axis=1).sum())


def one_by_one(fde, rows, means):
    """An encoding region by region, in Python."""
    planes, signs = _matrices(fde.dim, fde.repetitions, fde.bits, fde.projected, fde.seed)
    rows = rows.astype(float)
    if fde.metric == "cosine":
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    width, out = fde.projected or fde.dim, []
    for r in range(fde.repetitions):
        own = planes[r * fde.bits : (r + 1) * fde.bits]
        codes = [[bool(plane @ row > 0) for plane in own] for row in rows]
        short = [row if signs is None else signs[r * width : (r + 1) * width] @ row for row in rows]
        for region in range(1 << fde.bits):
            wanted = [bool(region >> bit & 1) for bit in range(fde.bits)]
            inside = [short[i] for i, code in enumerate(codes) if code == wanted]
            if inside:
                block = np.sum(inside, axis=0) / (len(inside) if means else 1)
            elif means:
                apart = [sum(a != b for a, b in zip(code, wanted, strict=True)) for code in codes]
                block = short[apart.index(min(apart))]
            else:
                block = np.zeros(width)
            out.extend(block / np.sqrt(fde.repetitions))
    return np.array(out)


@pytest.mark.parametrize(
    "fde",
    [FDE(7, 3, 2, 4), FDE(7, 2, 3, None, "dot"), FDE(7, 2, 0, 3), FDE(5, 1, 5, 5, seed=9)],
    ids=["usual", "whole", "one region", "seed"],
)
def test_blocks_are_sums_and_means_of_regions(fde):
    rng = np.random.default_rng(1)
    given = matrices(rng, 5, fde.dim)
    assert fde.size == len(one_by_one(fde, given[0], True))
    for means, found in ((True, fde.documents(given)), (False, fde.queries(given))):
        assert found.dtype == np.float32 and found.shape == (5, fde.size)
        assert found == pytest.approx(np.array([one_by_one(fde, rows, means) for rows in given]), abs=1e-5)
    assert np.array_equal(fde.query(given[2]), fde.queries(given)[2])


def test_of_points_of_one_row_it_estimates_maxsim_without_bias():
    """With one row a mean is that row, and MaxSim is a sum of products: the projection alone makes an error, which falls as 1 ÷ √R."""
    rng = np.random.default_rng(2)
    queries, points = matrices(rng, 12, 16), matrices(rng, 12, 16, 1)
    exact = np.array([[maxsim(query, rows) for rows in points] for query in queries])
    whole = FDE(16, 2, 3, None)
    assert whole.queries(queries) @ whole.documents(points).T == pytest.approx(exact, abs=1e-4)
    errors = {}
    for repetitions in (5, 500):
        fde = FDE(16, repetitions, 2, 4)
        errors[repetitions] = fde.queries(queries) @ fde.documents(points).T - exact
    assert errors[500].std() < 0.2 * errors[5].std()  # observed .09; 1 ÷ √100 is .1
    assert abs(errors[500].mean()) < 0.02  # observed .001


def test_more_regions_come_nearer_to_maxsim_from_below():
    """Rows that have a near one among those of the point: a mean of fewer rows is nearer to the best."""
    rng = np.random.default_rng(3)
    points = [rng.standard_normal((12, 24)) for _ in range(15)]
    queries = [rows[:4] + 0.1 * rng.standard_normal((4, 24)) for rows in points]
    exact = np.array([maxsim(query, rows) for query, rows in zip(queries, points, strict=True)])
    found = {}
    for bits in (0, 2, 4, 6):
        fde = FDE(24, 20, bits, None)
        found[bits] = np.einsum("ij,ij->i", fde.queries(queries), fde.documents(points)) / exact
        assert (found[bits] <= 1 + 1e-5).all()
    shares = [found[bits].mean() for bits in (0, 2, 4, 6)]
    assert shares == sorted(shares) and shares[-1] > 0.8, shares  # observed .09, .34, .67, .88


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_reranking_all_candidates_is_exact_and_a_few_find_most(metric):
    rng = np.random.default_rng(4)
    points = matrices(rng, 120, 16)
    fde = FDE(16, 20, 3, 8, metric)
    with vectordb.open(":memory:", maintenance=False) as database:
        docs = database.create_collection("docs", Schema({"tokens": MultiVector(16, metric), "first": Dense(fde.size, "dot")}))
        docs.upsert(ids=range(120), vectors={"tokens": points, "first": fde.documents(points)})
        found = []
        for query in matrices(rng, 10, 16):
            exact = docs.search({"tokens": query}, limit=5)
            whole = docs.search({"tokens": query}, prefetch=Prefetch({"first": fde.query(query)}, limit=120), limit=5)
            assert whole.ids.tolist() == exact.ids.tolist() and [hit.score for hit in whole] == [hit.score for hit in exact]
            few = docs.search({"tokens": query}, prefetch=Prefetch({"first": fde.query(query)}, limit=40), limit=5)
            found.append(len(set(few.ids.tolist()) & set(exact.ids.tolist())) / 5)
    assert np.mean(found) >= 0.7  # observed .84 (cosine), .88 (dot); by chance .33


def test_the_same_options_give_the_same_encodings_everywhere():
    planes, signs = _matrices(3, 2, 2, 2, 5)
    assert planes[0] == pytest.approx([-0.604392, 0.644523, 0.921594], abs=1e-6)
    assert np.sign(signs[0]).tolist() == [1.0, 1.0, -1.0]
    assert not np.array_equal(FDE(3, 2, 2, 2).query([[1, 2, 3]]), FDE(3, 2, 2, 2, seed=1).query([[1, 2, 3]]))
    assert 0.9 < _matrices(50, 20, 4, 8, 0)[0].std() < 1.1


def test_wrong_options_and_matrices_are_refused():
    for options, text in (
        ({"repetitions": 0}, "repetitions"),
        ({"bits": 11}, "bits"),
        ({"projected": 5}, "projected"),
        ({"metric": "l2"}, "metric"),
        ({"seed": -1}, "seed"),
        ({"repetitions": 500, "bits": 10}, r"2,048,000 dimensions \(500 repetitions × 1024 regions × 4 dimensions\).*65,536"),
    ):
        with pytest.raises(SchemaError, match=text):
            FDE(**({"dim": 4, "projected": 4} | options))
    fde = FDE(3, projected=None)
    for given, text in (
        ([[1, 2, 3]], r"matrix 0 must have shape \(rows, 3\) with at least one row, not \(3,\)"),
        ([np.ones((2, 3)), np.ones((2, 4))], r"matrix 1 must have shape .*not \(2, 4\)"),
        ([np.empty((0, 3))], "at least one row"),
        ([[[np.nan, 1, 1]]], "not finite"),
        ([np.zeros((1, 3))], "row of zeros"),
        ("text", "list of matrices"),
        (None, "list of matrices"),
    ):
        with pytest.raises(InvalidArgumentError, match=text):
            fde.documents(given)
