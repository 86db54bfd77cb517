"""Edge cases of sparse fields, embedded and served, with an index, unindexed and deleted rows, against plain Python sums."""

from __future__ import annotations

import math
import random

import pytest

from tests.support.upkeep import until
from vectordb import Int, Linear, Schema, Sparse

TERMS = [0, 1, 2, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1, 77, 78, 79, 80, 81]
SCHEMA = Schema({"plain": Sparse(), "bits": Sparse(binary=True), "idf": Sparse("idf"), "both": Sparse("idf", binary=True)}, {"n": Int()})


def everywhere(vectors):
    """The same vectors in each field."""
    return dict.fromkeys(SCHEMA.vectors, vectors)


class Model:
    """id → (term → weight), None for a point without vectors, in the order of writing."""

    def __init__(self, docs):
        self.docs, self.points = docs, {}

    def upsert(self, points):
        ids = list(points)
        self.docs.upsert(ids=ids, vectors=everywhere([points[i] for i in ids]), attributes={"n": ids})
        for i in ids:
            self.points.pop(i, None)
            self.points[i] = points[i]

    def delete(self, ids):
        self.docs.delete(ids)
        for i in ids:
            self.points.pop(i, None)

    def weights(self, name, query):
        """What scores are made of: the query's weights, times IDF among living points."""
        there = [p for p in self.points.values() if p is not None]
        asked = dict.fromkeys(query, 1.0) if SCHEMA.vectors[name].binary else query
        if SCHEMA.vectors[name].weighting is None:
            return asked
        rows = {term: sum(term in p for p in there) for term in asked}
        return {term: w * math.log1p((len(there) - rows[term] + 0.5) / (rows[term] + 0.5)) for term, w in asked.items()}

    def scores(self, name, query, below=None):
        """id → score of the points that share a term, older ones first."""
        weights, binary = self.weights(name, query), SCHEMA.vectors[name].binary
        return {
            i: sum(w * (1.0 if binary else p[term]) for term, w in weights.items() if term in p)
            for i, p in self.points.items()
            if p is not None and p.keys() & query.keys() and (below is None or i < below)
        }

    def check(self, query, limit=5, below=None):
        """Each field's hits are the best, ties by age; each score is the inner product; what matched adds up to it."""
        for name, spec in SCHEMA.vectors.items():
            scores = self.scores(name, query, below)
            options = {"limit": limit, "filter": None if below is None else f"n < {below}"}
            hits = self.docs.search({name: query}, exact=True, explain=True, **options)
            assert [hit.score for hit in hits] == pytest.approx([scores[hit.id] for hit in hits], rel=1e-5)
            if spec.weighting is None:  # small multiples of 1/4: no rounding, so ties are ties
                assert [hit.id for hit in hits] == sorted(scores, key=lambda i: -scores[i])[:limit]  # stable: older first
            else:
                best = sorted(scores.values(), reverse=True)[:limit]
                assert [hit.score for hit in hits] == pytest.approx(best, rel=1e-5)
            arm = hits.plan["arms"][0]
            for hit, matched in zip(hits, arm["matched"], strict=False):
                assert math.fsum(part["contribution"] for part in matched) == pytest.approx(hit.score, rel=1e-5)
                assert {part["term"] for part in matched} == self.points[hit.id].keys() & query.keys()
            living = {t: sum(p is not None and t in p for p in self.points.values()) for t in query}
            assert {part["term"]: part["rows"] for part in arm["terms"]} == living
            quick = self.docs.search({name: query}, **options)
            assert len(quick) == min(limit, len(scores))
            assert [hit.score for hit in quick] == pytest.approx([scores[hit.id] for hit in quick], rel=1e-5)


@pytest.fixture
def docs(database):
    return database.create_collection("docs", SCHEMA)


def drawn(draw, most=6):
    if draw.random() < 0.1:
        return None if draw.random() < 0.5 else {}
    return {t: draw.choice([0.25, 0.5, 1.0, 2.0]) for t in draw.sample(TERMS, draw.randrange(1, most))}


def queries(draw, n):
    """Of one term, of several, of terms that nobody has, of none."""
    yield {}
    yield {12345: 1.0}
    for term in (0, 2**63, 2**64 - 1):
        yield {term: 2.0}
    for _ in range(n):
        yield {t: draw.choice([0.25, 1.0, 3.0]) for t in draw.sample([*TERMS, 12345], draw.randrange(1, 8))}


@pytest.mark.parametrize("database", ["embedded", "served"], indirect=True)
def test_answers_are_plain_sums_before_and_right_after_compaction(docs, embedded):
    draw, model = random.Random(4), Model(docs)
    model.upsert({i: drawn(draw) for i in range(400)})
    docs.optimize()
    assert all(docs.info().statistics[name]["segments"] for name in SCHEMA.vectors)
    until(lambda: embedded.directory.index_files.verified())  # so that exact searches go through the index too
    for _ in range(2):
        model.upsert({i: drawn(draw) for i in draw.sample(range(500), 60)})
        model.delete(draw.sample(range(500), 80))
        asked = list(queries(draw, 6))
        for query in asked:
            model.check(query)
            model.check(query, limit=500, below=200)
        docs.optimize()
        assert docs.info().deleted_rows == 0
        for query in asked:
            model.check(query)
            model.check(query, limit=500, below=200)


def test_vectors_come_back_as_they_were_given(docs):
    docs.upsert(ids=[1, 2, 3], vectors=everywhere([{2**64 - 1: 0.5, 2**63: 2.0, 0: 1.0}, {}, None]))
    for name, spec in SCHEMA.vectors.items():
        full, empty, none = docs.get([1, 2, 3], with_vectors=True)
        terms, weights = full.vectors[name]
        assert terms.tolist() == [0, 2**63, 2**64 - 1]
        assert weights.tolist() == ([1.0] * 3 if spec.binary else [1.0, 2.0, 0.5])
        assert [len(part) for part in empty.vectors[name]] == [0, 0] and name not in none.vectors
        assert docs.count(f"HAS_VECTOR({name})") == 2
        assert [hit.id for hit in docs.search({name: {2**63: 1.0}})] == [1]


def test_ties_go_to_the_older_row_in_the_index_and_behind_it(docs, embedded):
    docs.upsert(ids=list(range(300)), vectors={"plain": [{2**63: 1.0, 5: 0.5}] * 300, "bits": [{1: 1.0}] * 300})
    docs.optimize()
    docs.upsert(ids=[7, 500], vectors={"plain": [{2**63: 1.0, 5: 0.5}] * 2, "bits": [{1: 1.0}] * 2})
    until(lambda: embedded.directory.index_files.verified())
    order = [*(i for i in range(300) if i != 7), 7, 500]
    for options in ({}, {"exact": True}):
        for query in ({"plain": {2**63: 1.0}}, {"plain": {5: 2.0, 2**63: 1.0, 9: 1.0}}, {"bits": {1: 3.0}}):
            for limit in (1, 10, 299, 300, 500):
                assert docs.search(query, limit=limit, **options).ids.tolist() == order[:limit]


@pytest.mark.parametrize("weighting", [None, "idf"])
@pytest.mark.parametrize("binary", [False, True])
def test_the_order_of_insertion_changes_no_score(embedded, weighting, binary):
    """In one batch or many, with an index and a tail: the same points with the same scores to the last bit."""
    draw = random.Random(9)
    points = {i: drawn(draw, 12) for i in range(600)}
    schema = Schema({"s": Sparse(weighting, binary=binary)}, {"n": Int()})
    made = []
    for number in range(3):
        docs = embedded.create_collection(f"c{number}", schema)
        ids = draw.sample(range(600), 600) if number else list(range(600))
        for low in range(0, 600, 600 if number == 0 else 150):
            part = ids[low : low + (600 if number == 0 else 150)]
            docs.upsert(ids=part, vectors={"s": [points[i] for i in part]}, attributes={"n": part})
            if low == 300:
                docs.optimize()
        made.append(docs)
    made[0].optimize()
    until(lambda: embedded.directory.index_files.verified())
    for query in queries(draw, 10):
        for condition in (None, "n < 100"):
            whole = [{hit.id: hit.score for hit in docs.search({"s": query}, limit=600, exact=True, filter=condition)} for docs in made]
            assert whole[0] == whole[1] == whole[2]
            best = [[hit.score for hit in docs.search({"s": query}, limit=7, exact=True, filter=condition)] for docs in made]
            assert best[0] == best[1] == best[2]


def test_both_arms_add_up(docs):
    draw, model = random.Random(2), Model(docs)
    model.upsert({i: drawn(draw) for i in range(300)})
    docs.optimize()
    model.delete(draw.sample(range(300), 50))
    for query in list(queries(draw, 8))[2:]:
        weights = {"plain": draw.choice([0.0, 1.0, 64.0]), "bits": draw.choice([0.0, 0.5])}
        hits = docs.search({"plain": query, "bits": query}, fusion=Linear(weights), limit=20)
        plain, bits = model.scores("plain", query), model.scores("bits", query)
        sums = {i: weights["plain"] * plain[i] + weights["bits"] * bits[i] for i in plain}
        assert [(hit.id, hit.score) for hit in hits] == sorted(sums.items(), key=lambda pair: -pair[1])[:20]
        for hit in hits:
            assert sum(arm.contribution for arm in hit.arms.values()) == hit.score
