"""Concepts that an autoencoder finds: trained, labelled, kept by later fits, purged, and steered by."""

from __future__ import annotations

import numpy as np
import pytest

import vectordb
from vectordb import SAE, Dense, F, Keyword, PreconditionError, Schema, Sparse, Text
from vectordb.derivations import DERIVATIONS, sae, sparse
from vectordb.engine.check import check
from vectordb.engine.deriving import made_of
from vectordb.kernels.concepts import rows_with_weight
from vectordb.storage import format

DIM, PLANTED = 24, 20
DIRECTIONS = np.random.default_rng(0).standard_normal((PLANTED, DIM))
DIRECTIONS = (DIRECTIONS / np.linalg.norm(DIRECTIONS, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def database(directory):
    with vectordb.open(directory, durability="batched", maintenance=False) as opened:
        yield opened


@pytest.fixture(autouse=True)
def short_fits(monkeypatch):
    monkeypatch.setattr(sparse, "STEPS", 150)


def rows(n, seed=2):
    """(vectors of two or three planted directions each, the strongest of them)."""
    rng = np.random.default_rng(seed)
    parts = np.argsort(rng.random((n, PLANTED)), axis=1)[:, :3]
    weights = np.sort(rng.random((n, 3)), axis=1)[:, ::-1] + [[0.6, 0.2, 0.0]]
    vectors = (DIRECTIONS[parts] * weights[:, :, None]).sum(axis=1) + 0.02 * rng.standard_normal((n, DIM))
    return vectors.astype(np.float32), parts[:, 0]


def filled(database, name="docs", n=1_200, **options):
    spec = SAE("v", **{"hidden": 32, "k": 3} | options)
    schema = Schema({"v": Dense(DIM), "c": Sparse(derived=spec)}, {"kind": Keyword(), "body": Text()})
    docs = database.create_collection(name, schema)
    vectors, strongest = rows(n)
    attributes = {"kind": [f"kind-{each}" for each in strongest], "body": [f"Some text about subject{each % 7}." for each in strongest]}
    docs.upsert(ids=range(n), vectors={"v": vectors}, attributes=attributes)
    return docs, vectors


def made(docs):
    with docs._snapshots.pin() as view:
        return made_of(view.txn, view.store.collection, view.fields["c"])


def codes(docs, n=1_200, hidden=32):
    whole = np.zeros((n, hidden), np.float32)
    for point in docs.iterate(with_vectors=["c"]):
        if point.id < n and "c" in point.vectors:
            terms, weights = point.vectors["c"]
            whole[point.id, terms.astype(int)] = weights
    return whole


@pytest.mark.parametrize("signed", [False, True])
def test_planted_directions_are_found_and_their_rows_label_them(database, signed):
    docs, _ = filled(database, signed=signed)
    report = docs.fit("c")
    parts = made(docs).parts
    np.testing.assert_allclose(np.linalg.norm(parts["decoder"], axis=1), 1, rtol=1e-5)
    found = np.abs(DIRECTIONS @ parts["decoder"].T).max(axis=1)
    assert (found >= 0.8).mean() >= 0.8  # observed .90, with signs .85
    report = docs.report("c")
    assert report["residual"] < 0.2 and report["dead"] <= 0.05 and len(report["concepts"]) == 32
    whole = codes(docs)
    for term, facts in report["concepts"].items():
        assert facts["frequency"] == pytest.approx((whole[:, int(term)] != 0).mean(), abs=0.03) and not facts["named"]
    nearest = {int(np.argmax(np.abs(DIRECTIONS @ row))): term for term, row in enumerate(parts["decoder"])}
    if not signed:
        labelled = sum(f"kind-{planted}" in report["concepts"][str(term)]["label"] for planted, term in nearest.items())
        assert labelled >= 0.8 * len(nearest)
    else:
        assert (whole < 0).any()


def test_steering_raises_a_concept_in_the_results(database):
    """Asked: in at least 95 % of searches the mean weight of a concept among ten hits rises when it is raised in the query."""
    docs, vectors = filled(database)
    docs.fit("c")
    whole, rng, raised = codes(docs), np.random.default_rng(3), 0
    for _ in range(100):
        query, term = vectors[rng.integers(1_200)], int(rng.choice(np.flatnonzero((whole > 0).sum(axis=0) >= 20)))
        plain = docs.search({"v": query}, limit=10)
        steered = docs.search({"v": query}, limit=10, steer={term: 2.0})
        raised += whole[steered.ids, term].mean() > whole[plain.ids, term].mean()
    assert raised >= 95  # observed 100 of 100


def test_names_keep_their_concepts_through_fits_and_lost_ones_are_told(database):
    docs, _ = filled(database)
    docs.fit("c")
    whole, parts = codes(docs), made(docs).parts
    often = np.argsort(-(whole > 0).sum(axis=0))[:8].tolist()
    docs.set_terms("c", {term: f"name of {term}" for term in often})
    more, _ = rows(600, 9)
    docs.upsert(ids=range(1_200, 1_800), vectors={"v": more})
    docs.fit("c")
    report = docs.report("c")
    new = made(docs).parts
    kept = {term for term, word in docs.terms("c").items() if word == f"name of {term}"}
    lost = report["lost"]
    assert kept | {int(term) for term in lost} == set(often) and len(kept) >= 6  # observed 8 of 8
    for term in kept:
        assert parts["decoder"][term] @ new["decoder"][term] >= sae.ALIKE
    assert all(
        docs.report("c")["concepts"][str(term)] | {"frequency": 0} == {"label": f"name of {term}", "named": True, "frequency": 0}
        for term in kept
    )
    # Other directions altogether: none is alike, and all names are lost.
    docs.upsert(ids=range(1_800), vectors={"v": np.random.default_rng(4).standard_normal((1_800, DIM))})
    docs.delete(range(1_200, 1_800))
    report = docs.fit("c")
    left = {word for word in docs.terms("c").values() if word.startswith("name of")}
    assert {f"name of {term}" for term in kept} == left | set(report["lost"].values())


def test_matches_are_greedy_and_renumbering_changes_no_code(database):
    rng = np.random.default_rng(5)
    old = rng.standard_normal((6, 5)).astype(np.float32)
    old /= np.linalg.norm(old, axis=1, keepdims=True)
    order = np.array([3, 0, 5, 1, 4, 2])
    new = old[order] * np.array([1, -1, 1, 1, 1, 1], np.float32)[:, None]
    pairs = {match.old: match.new for match in sae.matched(old, new, [0, 1, 5], True)}
    assert pairs == {0: 1, 1: 3, 5: 2}
    assert 0 not in {match.old for match in sae.matched(old, new, [0, 1, 5], False)} or old[0] @ new[0] >= sae.ALIKE
    parts = {"encoder": rng.standard_normal((5, 6)).astype(np.float32), "bias": np.zeros(6, np.float32), "decoder": new}
    parts |= {"centre": np.zeros(5, np.float32), "frequency": np.arange(6, dtype=np.float32)}
    moved = sae.renumbered(parts, sae.matched(old, new, [0, 1, 5], True))
    assert sorted(moved["frequency"].tolist()) == [0, 1, 2, 3, 4, 5] and [moved["frequency"][i] for i in (0, 1, 5)] == [1, 3, 2]
    np.testing.assert_allclose(moved["decoder"][[0, 1, 5]], old[[0, 1, 5]])
    given = SAE("v", hidden=16, k=2, signed=True)
    query = rng.standard_normal((1, 5)).astype(np.float32)
    ((_, one),), ((_, other),) = (list(sparse.activations(each, query, 2, True)) for each in (parts, moved))
    np.testing.assert_allclose(one @ parts["decoder"], other @ moved["decoder"], rtol=1e-5, atol=1e-6)
    assert DERIVATIONS["sae"].size(given, Schema({"v": Dense(5), "c": Sparse(derived=given)}).vectors["c"]) == 16


def test_families_are_connected_by_near_directions():
    base = np.eye(6, dtype=np.float32)
    near = base[0] * 0.8 + base[1] * 0.6
    decoder = np.stack([base[0], base[2], near, -base[2], base[4], base[1] * 0.8 + near * 0.6])
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    assert sae.families(decoder) == [[0, 2, 5], [1, 3]]


def test_purged_equals_never_inserted(database, directory, monkeypatch):
    monkeypatch.setattr(sparse, "STEPS", 12)
    docs, other = (filled(database, name, 200)[0] for name in ("docs", "other"))
    docs.upsert(ids=range(500, 540), vectors={"v": -rows(40, 7)[0]}, attributes={"kind": ["secret"] * 40})
    docs.fit("c")
    docs.delete(range(500, 540))
    other.fit("c")
    assert made(docs).record.arrays != made(other).record.arrays and docs.report("c")["deleted_since"] > 0
    assert docs.purge()["proven"]
    one, two = made(docs).record, made(other).record
    assert one.arrays == two.arrays and one.report == two.report and one.labels == two.labels and any(one.labels)
    assert docs.terms("c") == other.terms("c") and not any("secret" in word for word in docs.terms("c").values())
    assert codes(docs, 200).tobytes() == codes(other, 200).tobytes()
    docs.delete(range(180))
    assert docs.purge()["proven"] and docs.report("c")["state"] == "waiting"
    with pytest.raises(PreconditionError, match="not fitted"):
        docs.count(F.concept("c", 3) > 0)
    with pytest.raises(PreconditionError, match="not fitted"):
        docs.search({"v": np.ones(DIM)}, steer={3: 1.0})
    assert check(directory).problems == ()


def test_the_kernel_finds_rows_by_weight(database, monkeypatch):
    monkeypatch.setattr(sparse, "STEPS", 12)
    docs, _ = filled(database, n=120, signed=True)
    docs.fit("c")
    whole = codes(docs, 120)
    with docs._snapshots.pin() as view:
        table = view.table(view.fields["c"], format.POSTINGS)
        for term in (0, 5, 31, 40):
            for low, high, inside, start in ((0.1, np.inf, True, 0), (-0.2, 0.2, False, 0), (-np.inf, -0.05, True, 50)):
                asked = table, np.uint64(term), np.float32(low), np.float32(high), inside, start
                out = np.zeros(121, np.uint32)
                n = rows_with_weight(*asked, out)
                column = whole[:, term] if term < 32 else np.zeros(120)
                within = (column >= np.float32(low)) & (column <= np.float32(high))
                true = np.flatnonzero((within == inside) & (column != 0))
                assert out[:n].tolist() == true[true >= start].tolist()
