"""Query forms that both this database and qdrant-client's local mode can say give the same hits and scores: random points and queries.

Comments say where the two mean different things. Only qdrant has sampling at random, sums of scores of examples ("sum_scores") and
formulas that add to a score. Only this database has calibrated scores, automatic limits and stable pages.
"""

from __future__ import annotations

import random
from itertools import groupby, pairwise
from types import SimpleNamespace

import numpy as np
import pytest

import vectordb
from vectordb import DBSF, RRF, Dense, Diversity, F, Facet, If, Int, Keyword, MultiVector, Prefetch, Schema, Sparse

qdrant_client = pytest.importorskip("qdrant_client", reason="qdrant-client is not installed (it is an optional dependency of tests)")
from qdrant_client import models  # noqa: E402

POINTS, ROUNDS, TERMS = 160, 8, 30
WORDS = ["red", "green", "blue", "cyan", "pink"]
DENSE = ("cosine", "dot", "l2")
TIE = 2e-5  # scores that differ by less may be in another order: the two add in another order


def vectors(rng):
    """The vectors of a point; some have not all of them."""
    made = {name: [rng.gauss(0, 1) for _ in range(5)] for name in DENSE if rng.random() < 0.95}
    if rng.random() < 0.8:
        made["sparse"] = terms(rng)
    if rng.random() < 0.8:
        made["multi"] = [[rng.gauss(0, 1) for _ in range(4)] for _ in range(rng.randrange(1, 4))]
    return made


def terms(rng):
    return {term: rng.uniform(0.1, 2) for term in rng.sample(range(TERMS), rng.randrange(1, 8))}


def payload(rng):
    made = {"n": rng.randrange(12), "k": rng.choice(WORDS), "tags": rng.sample(WORDS, rng.randrange(4))}
    return {name: value for name, value in made.items() if rng.random() < 0.85}


def theirs_of(made):
    return {name: sparse(value) if name == "sparse" else value for name, value in made.items()}


def sparse(weights):
    return models.SparseVector(indices=[*weights], values=[*weights.values()])


@pytest.fixture(scope="module")
def both():
    """The same points in both, after some were replaced and some deleted."""
    rng = random.Random(21)
    distances = {"cosine": models.Distance.COSINE, "dot": models.Distance.DOT, "l2": models.Distance.EUCLID}
    theirs = qdrant_client.QdrantClient(":memory:")
    config: dict = {name: models.VectorParams(size=5, distance=distance) for name, distance in distances.items()}
    several = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    config["multi"] = models.VectorParams(size=4, distance=models.Distance.COSINE, multivector_config=several)
    theirs.create_collection("c", vectors_config=config, sparse_vectors_config={"sparse": models.SparseVectorParams()})
    fields = {name: Dense(5, metric=name) for name in DENSE} | {"sparse": Sparse(), "multi": MultiVector(4)}
    with vectordb.open(":memory:", maintenance=False) as database:
        ours = database.create_collection("c", Schema(fields, {"n": Int(), "k": Keyword(), "tags": Keyword(array=True)}))
        points: dict = {}
        for ids in (range(POINTS), rng.sample(range(POINTS), 30)):
            made = {i: (vectors(rng), payload(rng)) for i in ids}
            points |= made
            ours.upsert([{"id": i, "vectors": given, "attributes": attributes} for i, (given, attributes) in made.items()])
            theirs.upsert("c", [models.PointStruct(id=i, vector=theirs_of(given), payload=one) for i, (given, one) in made.items()])
        gone = rng.sample(range(POINTS), 20)
        ours.delete(gone)
        theirs.delete("c", gone)
        for i in gone:
            del points[i]
        yield SimpleNamespace(ours=ours, theirs=theirs, points=points)
    theirs.close()


@pytest.fixture
def rng(request):
    return random.Random(request.node.name)


def condition(rng):
    """(our filter, theirs), often none."""
    word, low = rng.choice(WORDS), rng.randrange(12)
    equal = models.FieldCondition(key="k", match=models.MatchValue(value=word))
    tagged = models.FieldCondition(key="tags", match=models.MatchValue(value=word))
    above = models.FieldCondition(key="n", range=models.Range(gte=low))
    return rng.choice(
        [
            (None, None),
            (F("k") == word, models.Filter(must=[equal])),
            (F("n") >= low, models.Filter(must=[above])),
            ((F("n") >= low) | F("tags").contains_any([word]), models.Filter(should=[above, tagged])),
            (~F("tags").contains_any([word]), models.Filter(must_not=[tagged])),
        ]
    )


def alike(mine, other, change=float, whole=True):
    """Whether two rankings are the same, up to the order of ties. change: their score → ours. whole: nothing follows the last hits, so that
    all of those of a tie are there."""
    assert len(mine) == len(other)
    scores = [hit.score for hit in mine]
    expected = [change(point.score) for point in other]
    assert scores == pytest.approx(expected, rel=1e-4, abs=1e-5)
    number, numbers = 0, [0]
    for one, following in pairwise(expected):
        number += abs(following - one) > TIE
        numbers.append(number)
    runs = [[*run] for _, run in groupby(range(len(mine)), key=numbers.__getitem__)]
    for run in runs if whole else runs[:-1]:
        assert {mine[i].id for i in run} == {other[i].id for i in run}


def dense(rng, size=5):
    return [rng.gauss(0, 1) for _ in range(size)]


def squared(distance):
    """Of l2 fields theirs is the distance, ours its square."""
    return distance * distance


def scale(field):
    return squared if field == "l2" else float


def query(rng, field):
    """(our query of a field, theirs)."""
    if field == "sparse":
        weights = terms(rng)
        return weights, sparse(weights)
    given = [dense(rng, 4) for _ in range(2)] if field == "multi" else dense(rng)
    return given, given


def asked(both, mine, other, field, where, limit, theirs=(), **ours):
    """Search both, and compare."""
    hits = both.ours.search(filter=where[0], limit=limit, exact=True, **mine, **ours)
    found = both.theirs.query_points("c", query=other, using=field, query_filter=where[1], limit=limit, **dict(theirs)).points
    alike(hits, found, scale(field), len(found) < limit)
    return hits


@pytest.mark.parametrize("field", [*DENSE, "sparse", "multi"])
def test_nearest(both, rng, field):
    for _ in range(ROUNDS):
        mine, other = query(rng, field)
        where, limit, offset = condition(rng), rng.choice([5, 40, POINTS]), rng.choice([0, 0, 7])
        asked(both, {"vectors": {field: mine}}, other, field, where, limit, {"offset": offset}, offset=offset)


@pytest.mark.parametrize("field", [*DENSE, "sparse", "multi"])
def test_score_thresholds(both, rng, field):
    for _ in range(ROUNDS):
        mine, other = query(rng, field)
        scores = [point.score for point in both.theirs.query_points("c", query=other, using=field, limit=POINTS).points]
        bound = (scores[3] + scores[4]) / 2 if len(scores) > 4 and abs(scores[3] - scores[4]) > TIE else scores[0] + 1
        ours = {"radius": squared(bound)} if field == "l2" else {"min_score": bound}
        asked(both, {"vectors": {field: mine}}, other, field, condition(rng), POINTS, {"score_threshold": bound}, **ours)


@pytest.mark.parametrize("field", DENSE)
def test_points_like_a_point(both, rng, field):
    having = [i for i, (made, _) in both.points.items() if field in made]
    for _ in range(ROUNDS):
        example = rng.choice(having)
        asked(both, {"like": {field: [example]}}, example, field, condition(rng), 10)


def examples(both, rng, field, count):
    """Ids, and vectors, of a field. Those of the cosine have length 1: ours scales them before it takes their mean, theirs doesn't."""
    having = [i for i, (made, _) in both.points.items() if field in made]
    given = [dense(rng) for _ in range(count)]
    if field == "cosine":
        given = [(np.array(vector) / np.linalg.norm(vector)).tolist() for vector in given]
    return [rng.choice([rng.choice(having), vector]) for vector in given]


@pytest.mark.parametrize("field", DENSE)
@pytest.mark.parametrize("pool, strategy", [("mean", "average_vector"), ("max", "best_score")])
def test_recommendations(both, rng, field, pool, strategy):
    for _ in range(ROUNDS):
        like, unlike = examples(both, rng, field, rng.randrange(1, 4)), examples(both, rng, field, rng.randrange(3))
        query = models.RecommendQuery(recommend=models.RecommendInput(positive=like, negative=unlike, strategy=strategy))
        where = condition(rng)
        hits = both.ours.search(
            like={field: like}, unlike={field: unlike} if unlike else None, pool=pool, filter=where[0], limit=10, exact=True
        )
        found = both.theirs.query_points("c", query=query, using=field, query_filter=where[1], limit=10).points
        alike(hits, found, scale(field) if pool == "mean" else float, len(found) < 10)


@pytest.mark.parametrize("field", DENSE)
def test_discovery(both, rng, field):
    for _ in range(ROUNDS):
        (target,), pairs = examples(both, rng, field, 1), [tuple(examples(both, rng, field, 2)) for _ in range(rng.randrange(1, 4))]
        listed = [models.ContextPair(positive=positive, negative=negative) for positive, negative in pairs]
        query = models.DiscoverQuery(discover=models.DiscoverInput(target=target, context=listed))
        where = condition(rng)
        hits = both.ours.search(like={field: [target]}, context={field: pairs}, filter=where[0], limit=10)
        found = both.theirs.query_points("c", query=query, using=field, query_filter=where[1], limit=10).points
        alike(hits, found, float, len(found) < 10)


@pytest.mark.parametrize("field", DENSE)
def test_contexts(both, rng, field):
    """Ours is the sum of min(s(positive) − s(negative), 0). Theirs passes each of the summands through x ÷ (1 + |x|), which keeps their
    order for one pair, and not for the sum of several. Of several, the points on the right side of all pairs are the same."""

    def straight(score):
        return score / (1 + score)  # the x ≤ 0 whose x ÷ (1 + |x|) is the score

    for _ in range(ROUNDS):
        pairs = [tuple(examples(both, rng, field, 2)) for _ in range(rng.choice([1, 3]))]
        listed = [models.ContextPair(positive=positive, negative=negative) for positive, negative in pairs]
        where = condition(rng)
        hits = both.ours.search(context={field: pairs}, filter=where[0], limit=POINTS)
        found = both.theirs.query_points(
            "c", query=models.ContextQuery(context=listed), using=field, query_filter=where[1], limit=POINTS
        ).points
        assert {hit.id for hit in hits} == {point.id for point in found}
        assert {hit.id for hit in hits if hit.score > -TIE} == {point.id for point in found if point.score > -TIE}
        if len(pairs) == 1:
            theirs = {point.id: straight(point.score) for point in found}
            assert [theirs[hit.id] for hit in hits] == pytest.approx([hit.score for hit in hits], rel=1e-3, abs=1e-4)


def arms(rng, names, limit, where):
    """(queries of some fields, the same as prefetches)."""
    pairs = {name: query(rng, name) for name in names}
    listed = [models.Prefetch(query=other, using=name, limit=limit, filter=where[1]) for name, (_, other) in pairs.items()]
    return {name: mine for name, (mine, _) in pairs.items()}, listed


@pytest.mark.parametrize("names", [("cosine", "sparse"), ("dot", "sparse", "multi"), ("cosine", "dot", "l2")], ids=",".join)
def test_reciprocal_rank_fusion(both, rng, names):
    """A rank counts from 1 in ours and from 0 in theirs, so k is one less. A weight w multiplies 1 ÷ (k + rank) in ours; in theirs it
    divides the rank, so weights are not compared."""
    for _ in range(ROUNDS):
        k, where = rng.choice([2, 10, 60]), condition(rng)
        mine, listed = arms(rng, names, POINTS, where)
        hits = both.ours.search(mine, fusion=RRF(k), candidates=POINTS, filter=where[0], limit=12, exact=True)
        fused = models.RrfQuery(rrf=models.Rrf(k=k + 1))
        alike(hits, both.theirs.query_points("c", prefetch=listed, query=fused, limit=12).points, float, False)


@pytest.mark.parametrize("names", [("cosine", "sparse"), ("dot", "sparse", "multi")], ids=",".join)
def test_distribution_based_fusion(both, rng, names):
    """Not of l2 fields: theirs adds up distances there, so that the farthest points come first."""
    for _ in range(ROUNDS):
        where, limit = condition(rng), rng.choice([10, 50])
        mine, listed = arms(rng, names, limit, where)
        hits = both.ours.search(mine, fusion=DBSF(), candidates=limit, filter=where[0], limit=10, exact=True)
        fused = models.FusionQuery(fusion=models.Fusion.DBSF)
        alike(hits, both.theirs.query_points("c", prefetch=listed, query=fused, limit=10).points, float, False)


@pytest.mark.parametrize("first, then", [("cosine", "multi"), ("sparse", "cosine"), ("l2", "sparse")])
def test_stages(both, rng, first, then):
    for _ in range(ROUNDS):
        where = condition(rng)
        mine, listed = arms(rng, [first], 25, where)
        last, other = query(rng, then)
        hits = both.ours.search({then: last}, prefetch=Prefetch(mine, limit=25), filter=where[0], limit=8, exact=True)
        found = both.theirs.query_points("c", prefetch=listed, query=other, using=then, limit=8).points
        alike(hits, found, scale(then), len(found) < 8)


@pytest.mark.parametrize("by", ["k", "n", "tags"])
def test_groups(both, rng, by):
    for _ in range(ROUNDS):
        field = rng.choice(["cosine", "dot", "sparse"])
        (mine, other), where, size, groups = query(rng, field), condition(rng), rng.randrange(1, 4), rng.randrange(1, 7)
        hits = both.ours.search({field: mine}, filter=where[0], group_by=by, group_size=size, groups=groups, exact=True)
        found = both.theirs.query_points_groups(
            "c", by, query=other, using=field, query_filter=where[1], limit=groups, group_size=size
        ).groups
        if by == "tags":  # values whose best hits are the same points may come in another order
            best = {group.id: [point.id for point in group.hits] for group in found}
            assert [[hit.id for hit in group.hits][:1] for group in hits.groups] == [points[:1] for points in best.values()]
            assert all(best.get(group.value, group.hits.ids.tolist()) == group.hits.ids.tolist() for group in hits.groups)
            continue
        assert [group.value for group in hits.groups] == [group.id for group in found]
        for group, expected in zip(hits.groups, found, strict=True):
            alike(group.hits, expected.hits, float, False)


@pytest.mark.parametrize("name", ["k", "tags", "n"])
def test_facets(both, rng, name):
    for _ in range(ROUNDS):
        where, limit = condition(rng), rng.choice([2, 20])
        counted = both.ours.facets(Facet(name, limit=limit), filter=where[0])[name]
        found = both.theirs.facet("c", key=name, facet_filter=where[1], limit=limit, exact=True).hits
        assert [(one.value, one.count) for one in counted] == [(hit.value, hit.count) for hit in found]


@pytest.mark.parametrize("descending", [False, True])
def test_orders(both, rng, descending):
    """Points without a value come last in ours and are left out in theirs. Those of equal values are in the order of writing in ours."""
    order = models.OrderBy(key="n", direction=models.Direction.DESC if descending else models.Direction.ASC)
    for _ in range(ROUNDS):
        where, limit = condition(rng), rng.choice([7, POINTS])
        found, _ = both.theirs.scroll("c", scroll_filter=where[1], order_by=order, limit=limit, with_payload=["n"])
        hits = both.ours.search(order_by=["-n" if descending else "n"], filter=where[0], limit=limit)
        valued = [hit for hit in hits if hit.attributes.get("n") is not None]
        values = [point.payload["n"] for point in found]
        assert [hit.attributes["n"] for hit in valued] == values
        if limit == POINTS:
            runs = [{point.id for point in run} for _, run in groupby(found, key=lambda point: point.payload["n"])]
            assert [{hit.id for hit in run} for _, run in groupby(valued, key=lambda hit: hit.attributes["n"])] == runs
            assert len(hits) == both.theirs.count("c", count_filter=where[1]).count


def test_counts_and_scrolls(both, rng):
    """A scroll is in the order of writing in ours, and of ids in theirs."""
    for _ in range(ROUNDS * 3):
        where = condition(rng)
        expected = both.theirs.scroll("c", scroll_filter=where[1], limit=POINTS)[0]
        assert both.ours.count(where[0]) == len(expected) == both.theirs.count("c", count_filter=where[1]).count
        pages, cursor = [], None
        while not pages or cursor is not None:
            page = both.ours.scroll(filter=where[0], limit=13, cursor=cursor)
            pages, cursor = [*pages, *page], page.cursor
        given = {point.id: {name: value for name, value in point.attributes.items() if value is not None} for point in pages}
        assert given == {point.id: point.payload for point in expected}


@pytest.mark.parametrize("weight", [0, 1])
def test_diverse_hits(both, rng, weight):
    """Relevance is scaled to 0 … 1 over the candidates in ours, and is the score itself in theirs, so only the two ends of the weight mean
    the same."""
    for _ in range(ROUNDS):
        given, where = dense(rng), condition(rng)
        hits = both.ours.search({"cosine": given}, filter=where[0], limit=6, diversity=Diversity(weight, over=30), exact=True)
        mmr = models.NearestQuery(nearest=given, mmr=models.Mmr(diversity=float(weight), candidates_limit=30))
        found = both.theirs.query_points("c", query=mmr, using="cosine", query_filter=where[1], limit=6).points
        assert [hit.id for hit in hits] == [point.id for point in found]


def test_boosts_by_a_filter(both, rng):
    """If(filter, 1.5) is the formula score × (1 + 0.5 × condition), where no score is negative: ours divides those."""
    for _ in range(ROUNDS):
        word, (mine, other) = rng.choice(WORDS), query(rng, "sparse")
        holds = models.FieldCondition(key="k", match=models.MatchValue(value=word))
        factor = models.SumExpression(sum=[1.0, models.MultExpression(mult=[0.5, holds])])
        formula = models.FormulaQuery(formula=models.MultExpression(mult=["$score", factor]))
        every = models.Prefetch(query=other, using="sparse", limit=POINTS)
        hits = both.ours.search({"sparse": mine}, boost=If(F("k") == word, 1.5), limit=10, exact=True)
        alike(hits, both.theirs.query_points("c", prefetch=[every], query=formula, limit=10).points, float, False)


def test_vectors_and_parts_of_points_are_the_same(both):
    """Of cosine fields theirs returns vectors of length 1, ours as they were given."""
    ids = sorted(both.points)
    found = both.theirs.retrieve("c", ids=ids, with_vectors=True)
    for mine, other in zip(both.ours.get(ids, with_vectors=True), found, strict=True):
        assert set(mine.vectors) == set(other.vector)
        for name in ("dot", "l2"):
            if name in other.vector:
                assert np.allclose(mine.vectors[name], other.vector[name], atol=1e-6)
