"""The benchmark's ground truth and judging against a second brute force, and its filter evaluator against plain Python."""

import numpy as np
import pytest

from bench import data, filters, truth
from bench.data import Dataset, synthetic, tokens


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VECTORDB_BENCH_CACHE", str(tmp_path / "cache"))


def made(metric="cosine", n=300, dim=12, q=7, seed=0):
    rng = np.random.default_rng(seed)
    vectors, queries = (rng.standard_normal((rows, dim)).astype(np.float32) for rows in (n, q))
    if metric == "cosine":
        vectors, queries = data.unit(vectors), data.unit(queries)
    return Dataset("made", metric, vectors, queries, hash=f"{metric}{seed}")


def brute(dataset, query, rows):
    """(score, row), best first, one row at a time in Python floats."""
    asked = dataset.queries[query].astype(float)
    scores = []
    for row in rows:
        vector = dataset.vectors[row].astype(float)
        if dataset.metric == "l2":
            score = -float(((vector - asked) ** 2).sum())
        else:
            score = float(vector @ asked)
            score /= float(np.linalg.norm(vector) * np.linalg.norm(asked)) if dataset.metric == "cosine" else 1
        scores.append((score, row))
    return sorted(scores, key=lambda pair: (-pair[0], pair[1]))


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_dense_truth_is_brute_force(metric):
    dataset = made(metric)
    found = truth.exact(dataset, range(7), 10)
    for query in range(7):
        best = brute(dataset, query, range(300))[:10]
        assert found.ids[query].tolist() == [row for _, row in best]
        assert found.scores[query] == pytest.approx([score for score, _ in best])
    assert (found.matches == 300).all()


def test_the_truth_of_multi_vectors_is_brute_force():
    dataset = tokens.multi_topic(n=120, dim=6, queries=5, topics=20)
    found = truth.exact(dataset, range(5), 10)
    for query in range(5):
        asked = dataset.query(query).astype(float)
        scores = [sum(max(float(a @ b) for b in dataset.multi[row].astype(float)) for a in asked) for row in range(120)]
        best = sorted(range(120), key=lambda row: (-scores[row], row))[:10]
        assert found.ids[query].tolist() == best and found.scores[query] == pytest.approx([scores[row] for row in best])
        assert truth.judge(found, dataset, query, query, np.array(best), 10).good == 10
        assert truth.judge(found, dataset, query, query, np.array([*best[:9], int(np.argmin(scores))]), 10).good == 9


def test_large_values_lose_nothing_to_float32():
    """Squared distances of 8-bit images are in the millions, where float32 can't tell neighbours apart."""
    rng = np.random.default_rng(1)
    vectors = rng.integers(0, 256, (500, 784)).astype(np.float32)
    vectors[1:] = vectors[0]
    vectors[np.arange(1, 500), rng.integers(0, 784, 499)] += rng.integers(0, 3, 499)
    dataset = Dataset("images", "l2", vectors, vectors[:1], hash="images")
    found = truth.exact(dataset, [0], 20)
    assert found.scores[0] == pytest.approx([score for score, _ in brute(dataset, 0, range(500))[:20]])


def test_a_filter_and_deletions_leave_only_what_may_be_found():
    dataset = made()
    columns = filters.Columns({"n": np.arange(300)}, 300)
    even = filters.Filter({"op": "between", "field": "n", "low": 100, "high": 104}, columns)
    alive = np.ones(300, dtype=bool)
    alive[[101, 103]] = False
    found = truth.exact(dataset, [0, 1], 10, [even, None], alive)
    assert sorted(found.ids[0][:3].tolist()) == [100, 102, 104]
    assert found.ids[0][3:].tolist() == [-1] * 7
    assert found.matches.tolist() == [3, 298] and found.expected(10).tolist() == [3, 10]


def test_sparse_truth_knows_only_rows_that_share_a_term():
    import scipy.sparse

    rows = scipy.sparse.csr_matrix(np.array([[1, 0, 2], [0, 3, 0], [0, 0, 1], [0.5, 0, 0]], dtype=np.float32))
    asked = scipy.sparse.csr_matrix(np.array([[1, 0, 1]], dtype=np.float32))
    dataset = Dataset("s", "dot", sparse=rows, sparse_queries=asked, hash="s")
    found = truth.exact(dataset, [0], 3)
    assert found.ids[0].tolist() == [0, 2, 3] and found.scores[0].tolist() == [3, 1, 0.5]
    assert found.matches.tolist() == [3]
    judged = truth.judge(found, dataset, 0, 0, np.array([0, 2, 1]), 3)
    assert (judged.good, judged.wrong) == (2, 0)


def test_hybrid_truth_is_the_reciprocal_ranks_of_exact_arms():
    dataset = synthetic.hybrid(n=400, dim=16, queries=3, centres=8)
    dataset.hash = "hybrid"
    found = truth.exact(dataset, range(3), 10)
    for query in range(3):
        dense = [row for _, row in brute(dataset, query, range(400))[:100]]
        products = np.asarray((dataset.sparse.astype(float) @ dataset.sparse_queries[query].T.astype(float)).todense())[:, 0]
        sparse = sorted(np.flatnonzero(products > 0), key=lambda row: (-products[row], row))[:100]
        fused = {}
        for arm in (dense, sparse):
            for rank, row in enumerate(arm, 1):
                fused[row] = fused.get(row, 0) + 1 / (60 + rank)
        best = sorted(fused.values(), reverse=True)[:10]
        assert found.scores[query][:10] == pytest.approx(best, rel=1e-9)


def test_rows_that_tie_with_the_last_one_are_right():
    vectors = np.array([[1, 0], [0.6, 0.8], [0.6, -0.8], [0.6, 0.8], [0, 1]], dtype=np.float32)
    dataset = Dataset("ties", "cosine", vectors, vectors[:1], hash="ties")
    found = truth.exact(dataset, [0], 2)
    for answer, good in (([0, 1], 2), ([0, 2], 2), ([0, 3], 2), ([0, 4], 1), ([3, 1], 2), ([0], 1)):
        assert truth.judge(found, dataset, 0, 0, np.array(answer), 2).good == good


def test_wrong_rows_are_counted_and_never_right():
    dataset = made()
    found = truth.exact(dataset, [0], 3)
    best = found.ids[0].tolist()
    assert truth.judge(found, dataset, 0, 0, np.array([best[0], best[0], best[1]]), 3) == truth.Judged(2, 3, 1)
    assert truth.judge(found, dataset, 0, 0, np.array([best[0], 300, -1]), 3) == truth.Judged(1, 3, 2)
    allowed = np.ones(300, dtype=bool)
    allowed[best[0]] = False
    assert truth.judge(found, dataset, 0, 0, np.array(best), 3, allowed) == truth.Judged(2, 3, 1)
    assert truth.judge(found, dataset, 0, 0, np.array([*best, 299]), 3).returned == 3


def test_truth_is_cached_by_what_was_asked():
    dataset = made()
    first = truth.exact(dataset, [0, 1], 5)
    dataset.vectors = dataset.vectors[::-1].copy()
    assert truth.exact(dataset, [0, 1], 5).ids.tolist() == first.ids.tolist()
    dataset.hash = "another"
    assert truth.exact(dataset, [0, 1], 5).ids.tolist() != first.ids.tolist()


ATTRIBUTES = {
    "n": np.array([0, 1, 2, 3, 4, 5]),
    "maybe": [None, 1, None, 3, 4, None],
    "kw": ["a", "b", "a", None, "c", "b"],
    "tags": [["x", "y"], [], ["x"], None, ["y", "z", "y"], ["z"]],
}
CASES = [
    ({"op": "eq", "field": "kw", "value": "a"}, [0, 2]),
    ({"op": "eq", "field": "kw", "value": "unknown"}, []),
    ({"op": "ne", "field": "kw", "value": "a"}, [1, 3, 4, 5]),
    ({"op": "in", "field": "kw", "values": ["b", "c", "unknown"]}, [1, 4, 5]),
    ({"op": "not_in", "field": "kw", "values": ["b"]}, [0, 2, 3, 4]),
    ({"op": "in", "field": "n", "values": [1, 5, 99]}, [1, 5]),
    ({"op": "between", "field": "maybe", "low": 0, "high": 3}, [1, 3]),
    ({"op": "lt", "field": "maybe", "value": 4}, [1, 3]),
    ({"op": "ge", "field": "n", "value": 4}, [4, 5]),
    ({"op": "is_null", "field": "maybe"}, [0, 2, 5]),
    ({"op": "is_not_null", "field": "kw"}, [0, 1, 2, 4, 5]),
    ({"op": "contains_any", "field": "tags", "values": ["y", "z"]}, [0, 4, 5]),
    ({"op": "contains_all", "field": "tags", "values": ["y", "z"]}, [4]),
    ({"op": "contains_all", "field": "tags", "values": ["x", "unknown"]}, []),
    ({"op": "eq", "field": "tags", "value": "x"}, [0, 2]),
    ({"op": "not", "filter": {"op": "eq", "field": "kw", "value": "a"}}, [1, 3, 4, 5]),
    ({"op": "and", "filters": [{"op": "ge", "field": "n", "value": 1}, {"op": "eq", "field": "kw", "value": "b"}]}, [1, 5]),
    ({"op": "or", "filters": [{"op": "eq", "field": "n", "value": 0}, {"op": "is_null", "field": "tags"}]}, [0, 3]),
    ({"op": "all"}, [0, 1, 2, 3, 4, 5]),
]


@pytest.mark.parametrize(("expression", "rows"), CASES, ids=lambda value: value["op"] if isinstance(value, dict) else "")
def test_filters_select_the_rows_that_they_say(expression, rows):
    assert np.flatnonzero(filters.Columns(ATTRIBUTES, 6).mask(expression)).tolist() == rows


@pytest.mark.parametrize(("expression", "rows"), CASES, ids=lambda value: value["op"] if isinstance(value, dict) else "")
def test_the_database_selects_the_same_rows(expression, rows, tmp_path):
    """The evaluator shares nothing with the database; where they differ, one of them is wrong."""
    from vectordb_client.model.filter import from_dict

    import vectordb

    with vectordb.open(tmp_path / "db") as database:
        schema = vectordb.Schema(
            vectors={"v": vectordb.Dense(2)},
            attributes={"n": vectordb.Int(), "maybe": vectordb.Int(), "kw": vectordb.Keyword(), "tags": vectordb.Keyword(array=True)},
        )
        points = database.create_collection("c", schema)
        columns = {name: values.tolist() if isinstance(values, np.ndarray) else values for name, values in ATTRIBUTES.items()}
        points.upsert(ids=list(range(6)), vectors={"v": np.ones((6, 2), np.float32)}, attributes=columns)
        assert sorted(point.id for point in points.iterate(filter=from_dict(expression))) == rows


def test_every_cell_of_the_grid_has_its_selectivity_and_correlation():
    dataset = synthetic.clustered(n=4000, dim=24, queries=16, centres=40, intrinsic=8, noise=0.5)
    dataset.hash = "grid"
    near = truth.exact(dataset, range(16), 50)
    own = dataset.attributes["place"][near.ids[:, 0]]
    columns = filters.Columns(dataset.attributes, 4000)
    cells = filters.grid(4000, own, selectivities=(0.5, 0.1, 0.01))
    assert {cell.shape for cell in cells} == set(filters.SHAPES)
    for cell in cells:
        share, correlation = truth.reach(dataset, near, cell.filters(columns))
        assert cell.selectivity * 0.6 < share < cell.selectivity * 1.5, cell.name
        if cell.correlation == "none":
            assert 0.5 < correlation < 1.7, cell.name
        elif cell.correlation == "negative":
            assert correlation < 0.7, cell.name
        elif cell.shape != "or" and cell.selectivity < 0.5:
            assert correlation > 1.5, cell.name


def test_a_cell_lists_exactly_as_many_values_as_it_says():
    for cell in filters.grid(3000, [0, 1500, 2999], shapes=("in-10", "in-1000", "in-100000"), selectivities=(0.5, 0.1, 0.01)):
        for expression in cell.expressions:
            assert len(set(expression["values"])) == int(cell.shape[3:]), cell.name


def test_natural_cells_come_close_to_the_selectivities():
    rng = np.random.default_rng(0)
    attributes = {"kw": [f"k{min(int(v), 50)}" for v in rng.exponential(3, 5000)], "n": rng.integers(0, 100, 5000), "none": [None] * 5000}
    attributes["tags"] = [[f"t{v}"] * (v < 20) for v in rng.integers(0, 100, 5000).tolist()]
    columns = filters.Columns(attributes, 5000)
    cells = filters.natural(attributes, 5000, 3)
    assert {cell.shape for cell in cells} == {"kw equality", "n range", "tags contains"}
    for cell in cells:
        assert cell.selectivity / 2 <= cell.filters(columns)[0].mask.mean() <= cell.selectivity * 2
