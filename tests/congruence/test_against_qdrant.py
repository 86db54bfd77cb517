"""Filters that both this database and qdrant-client's local mode can say select the same points: random points, payloads and filters."""

from __future__ import annotations

import random

import pytest

import vectordb
from vectordb import Dense, F, Schema

qdrant_client = pytest.importorskip("qdrant_client", reason="qdrant-client is not installed (it is an optional dependency of tests)")
from qdrant_client import models  # noqa: E402

POINTS, FILTERS = 150, 300
WORDS = ["red", "green", "blue", "Red"]


def payload(rng):
    made = {}
    if rng.random() < 0.8:
        made["n"] = rng.choice([rng.randrange(6), rng.randrange(12) / 2, None])
    if rng.random() < 0.8:
        made["k"] = rng.choice([*WORDS, None])
    if rng.random() < 0.8:
        made["tags"] = rng.sample(WORDS, rng.randrange(4))
    if rng.random() < 0.8:
        made["ok"] = rng.random() < 0.5
    if rng.random() < 0.8:
        made["deep"] = {"n": rng.randrange(5), "k": rng.choice(WORDS)}
    if rng.random() < 0.8:
        made["items"] = [{"size": rng.randrange(3), "color": rng.choice(WORDS)} for _ in range(rng.randrange(4))]
    if rng.random() < 0.8:
        made["place"] = {"lat": rng.uniform(-60, 60), "lon": rng.uniform(-170, 170)}
    return made


def match(key, value):
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def leaf(rng, inside=False):
    """(our filter, theirs). inside: of an item."""
    if inside:
        size, color = rng.randrange(3), rng.choice(WORDS)
        ours, theirs = rng.choice(
            [
                (F("size") == size, match("size", size)),
                (F("size") >= size, models.FieldCondition(key="size", range=models.Range(gte=size))),
                (F("color") == color, match("color", color)),
            ]
        )
        return ours, theirs
    kind, word, number = rng.randrange(12), rng.choice(WORDS), rng.randrange(6)
    some = rng.sample(WORDS, 2)
    path, key = rng.choice([("k", "k"), ("tags", "tags"), ("deep.k", "deep.k"), ("items.color", "items[].color")])
    if kind == 0:
        return F(path) == word, match(key, word)
    if kind == 1:
        return F(path).isin(some), models.FieldCondition(key=key, match=models.MatchAny(any=some))
    if kind == 2:
        return F("k").some_not_in(some), models.FieldCondition(key="k", match=models.MatchExcept(**{"except": some}))
    if kind == 3:
        path, key = rng.choice([("n", "n"), ("deep.n", "deep.n"), ("items.size", "items[].size")])
        low, high = sorted((rng.randrange(6), rng.randrange(6)))
        return F(path).between(low, high), models.FieldCondition(key=key, range=models.Range(gte=low, lte=high))
    if kind == 4:
        bounds = {"gt": F("n") > number, "lt": F("n") < number, "gte": F("n") >= number, "lte": F("n") <= number}
        op = rng.choice([*bounds])
        return bounds[op], models.FieldCondition(key="n", range=models.Range(**{op: number}))
    if kind == 5:
        return F("ok") == (number > 2), match("ok", number > 2)
    if kind == 6:
        key = rng.choice(["n", "k"])
        return F(key).is_null() & ~F(key).is_missing(), models.IsNullCondition(is_null=models.PayloadField(key=key))
    if kind == 7:
        return F("tags").count() == 0, models.IsEmptyCondition(is_empty=models.PayloadField(key="tags"))
    if kind == 8:
        ours = (F("tags").count() >= 1) & (F("tags").count() <= 2)
        return ours, models.FieldCondition(key="tags", values_count=models.ValuesCount(gte=1, lte=2))
    if kind == 9:
        lat, lon, meters = rng.uniform(-60, 60), rng.uniform(-170, 170), rng.uniform(1e5, 6e6)
        area = models.GeoRadius(center=models.GeoPoint(lat=lat, lon=lon), radius=meters)
        return F("place").geo_radius(lat, lon, meters), models.FieldCondition(key="place", geo_radius=area)
    if kind == 10:
        corners = [(-40.0 + rng.random(), -80.0), (50.0, -70.0 + rng.random()), (rng.uniform(-10, 10), 90.0)]  # sides below 180 degrees
        ring = [models.GeoPoint(lat=lat, lon=lon) for lat, lon in [*corners, corners[0]]]
        area = models.GeoPolygon(exterior=models.GeoLineString(points=ring))
        return F("place").geo_polygon(corners), models.FieldCondition(key="place", geo_polygon=area)
    ours, theirs = tree(rng, 1, True)
    return F("items").any(ours), models.NestedCondition(nested=models.Nested(key="items", filter=theirs))


def tree(rng, depth, inside=False):
    """A filter of several conditions: (ours, theirs)."""
    pairs = [tree(rng, depth - 1, inside) if depth > 1 and rng.random() < 0.4 else leaf(rng, inside) for _ in range(rng.randrange(1, 4))]
    ours, theirs = [one for one, _ in pairs], [one for _, one in pairs]
    kind = rng.randrange(4)
    if kind == 0:
        joined = ours[0]
        for one in ours[1:]:
            joined = joined & one
        return joined, models.Filter(must=theirs)
    if kind == 1:
        return F.min_should(1, *ours), models.Filter(should=theirs)
    if kind == 2:
        return ~F.min_should(1, *ours), models.Filter(must_not=theirs)
    n = rng.randrange(1, len(ours) + 1)
    return F.min_should(n, *ours), models.Filter(min_should=models.MinShould(conditions=theirs, min_count=n))


@pytest.fixture(scope="module")
def both():
    rng = random.Random(7)
    payloads = [payload(rng) for _ in range(POINTS)]
    vectors = [[rng.gauss(0, 1) for _ in range(4)] for _ in range(POINTS)]
    theirs = qdrant_client.QdrantClient(":memory:")
    theirs.create_collection("c", vectors_config=models.VectorParams(size=4, distance=models.Distance.COSINE))
    theirs.upsert("c", [models.PointStruct(id=i, vector=vectors[i], payload=payloads[i]) for i in range(POINTS)])
    with vectordb.open(":memory:") as database:
        ours = database.create_collection("c", Schema({"v": Dense(4)}))
        ours.upsert(ids=list(range(POINTS)), vectors={"v": vectors}, payload=payloads)
        yield ours, theirs, payloads
    theirs.close()


def test_random_filters_select_the_same_points(both):
    ours, theirs, _ = both
    rng, selective = random.Random(11), 0
    for _ in range(FILTERS):
        mine, other = tree(rng, 2)
        expected = {point.id for point in theirs.scroll("c", scroll_filter=other, limit=POINTS, with_payload=False)[0]}
        assert {point.id for point in ours.iterate(filter=mine)} == expected, (mine, other)
        selective += 0 < len(expected) < POINTS
    assert selective > FILTERS // 2


def test_searches_with_filters_find_the_same_points(both):
    ours, theirs, _ = both
    rng = random.Random(13)
    for _ in range(25):
        mine, other = tree(rng, 2)
        query = [rng.gauss(0, 1) for _ in range(4)]
        expected = theirs.query_points("c", query=query, query_filter=other, limit=5).points
        hits = ours.search({"v": query}, filter=mine, limit=5, exact=True)
        assert [hit.id for hit in hits] == [point.id for point in expected]
        assert [hit.score for hit in hits] == pytest.approx([point.score for point in expected], abs=1e-5)


def test_parts_of_payloads_are_the_same(both):
    ours, theirs, payloads = both
    for paths in (["n"], ["deep.k"], ["n", "deep"]):
        found = theirs.retrieve("c", ids=list(range(POINTS)), with_payload=paths)
        for point, other in zip(ours.get(list(range(POINTS)), with_payload=paths), found, strict=True):
            assert (point.payload or {}) == other.payload, payloads[point.id]
