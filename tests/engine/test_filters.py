"""Filter bitmaps against the row-by-row evaluation of ``filter_model``, during inserts, updates and deletes.

The same database is queried repeatedly, so that cached bitmaps are extended by newer rows, cut for older snapshots, and cleared of deleted
rows.
"""

from __future__ import annotations

import math
import random
import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectordb_client.model import filter_nodes as f
from vectordb_client.model.filter import to_dict

import vectordb
from tests.support import filter_model
from tests.support.nightly import cases
from vectordb import Dense, F, Geo, Keyword, Schema, Text
from vectordb.collection import Collection
from vectordb.filters.cache import FilterCache

NAMES = list(filter_model.SCHEMA.attributes)
VALUES = {
    "kw": ["", "a", "ab", "abc", "b", "a*c", "[a]", "é'\"`\\"],
    "n": [*range(-4, 7), -(2**63), 2**63 - 1],
    "x": [-1.5, 0.0, 1.0, 2.5, math.nextafter(2.5, 3), math.nextafter(2.5, 2), 5e-324, 1.7976931348623157e308],
    "ok": [True, False],
    "at": [datetime(2024, 1, day, 12, 30, 0, micro, UTC) for day in (1, 2) for micro in (0, 1)],
    "body": ["", "red", "Fox", "the red dog-fox", "fox red the the", "red the"],
    "u": [uuid.UUID(int=n) for n in (1, 2, 2**100)],
    "place": [(lat, lon) for lat in (-90.0, -10.0, 0.0, 52.5) for lon in (-180.0, -170.0, 0.0, 13.4, 179.0)],
}


class Rows:
    """A collection of all attributes, and the same rows as ``filter_model`` reads them."""

    def __init__(self, collection):
        self.collection = collection
        self.rows: dict = {}
        self.rng = random.Random(1)

    def write(self, ids):
        rng, points = self.rng, []
        for i in ids:
            attributes = {}
            for name in NAMES:
                pool = VALUES[name.removesuffix("s") if filter_model.SCHEMA.attributes[name].array else name]
                if rng.random() < 0.75:
                    array = filter_model.SCHEMA.attributes[name].array
                    attributes[name] = [rng.choice(pool) for _ in range(rng.randrange(4))] if array else rng.choice(pool)
            vectors = {name: [1, 2, 3, 4] for name in ("vec", "vec2") if rng.random() < 0.6}
            points.append({"id": i, "attributes": attributes, "vectors": vectors})
            stored = {name: filter_model.SCHEMA.attributes[name].coerce(name, value) for name, value in attributes.items()}
            self.rows[i] = {"id": i, "vectors": set(vectors), **dict.fromkeys(NAMES), **stored}
        self.collection.upsert(points)

    def delete(self, ids):
        self.collection.delete(ids)
        for i in ids:
            self.rows.pop(i, None)

    def matching(self, node) -> set:
        return {i for i, row in self.rows.items() if filter_model.holds(node, row)}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    with vectordb.open(tmp_path_factory.mktemp("filters"), durability="batched") as database:
        rows = Rows(database.create_collection("c", filter_model.SCHEMA))
        rows.write(filter_model.IDS)
        yield rows


def found(collection, node) -> set:
    return {point.id for point in collection.iterate(filter=node, with_attributes=False)}


@settings(max_examples=cases(50, 250))
@given(filter_model.filters, st.integers(0, 9))
def test_a_filter_matches_the_rows_it_says_while_rows_come_and_go(filled, node, change):
    if change == 0:
        filled.write(filled.rng.sample(range(1000, 1400), 25))
    elif change == 1 and len(filled.rows) > 20:
        filled.delete(filled.rng.sample(list(filled.rows), 5))
    expected = filled.matching(node)
    assert filled.collection.count(node) == len(expected)
    assert found(filled.collection, node) == expected
    assert filled.collection.count(to_dict(node)) == len(expected)
    hits = filled.collection.search({"vec": [1, 1, 1, 1]}, filter=node, limit=2000)
    assert {hit.id for hit in hits} == {i for i in expected if "vec" in filled.rows[i]["vectors"]}


@settings(max_examples=cases(30, 150))
@given(filter_model.leaves)
def test_each_leaf_alone_and_its_complement(filled, node):
    expected = filled.matching(node)
    assert found(filled.collection, node) == expected
    assert found(filled.collection, f.Not(node)) == set(filled.rows) - expected


def test_remembered_bitmaps_follow_every_change(database):
    """The same questions after each write; each answer also by a second handle that remembers nothing."""
    rows = Rows(database.create_collection("c", filter_model.SCHEMA))
    questions = [
        f.Compare("kw", "eq", "a"),
        f.Not(f.Compare("kw", "eq", "zz")),
        f.Compare("n", "gt", 0),
        f.IsNull("xs"),
        f.Match("bodys", "all", "red fox"),
        f.Match("body", "phrase", "red dog"),
        f.Count("kws", "ge", 2),
        f.Prefix("kw", "a"),
        f.Glob("kws", "*b*"),
        f.HasId([1, 5, 30]),
        f.HasVector("vec2"),
        f.GeoBox("places", -20, 170, 60, -170),
        f.And((f.Compare("ok", "eq", True), f.Or((f.Compare("n", "lt", 3), f.In("us", [uuid.UUID(int=1)]))))),
    ]
    rng = random.Random(3)
    for step in range(40):
        if step % 4 == 3:
            rows.delete(rng.sample(sorted(rows.rows), min(len(rows.rows), 4)))
        else:
            rows.write(rng.sample(range(60), rng.choice([1, 3, 12])))
        fresh = Collection("c", rows.collection._number, database._handle)
        for node in rng.sample(questions, 8):
            expected = rows.matching(node)
            assert found(rows.collection, node) == expected
            assert fresh.count(node) == rows.collection.count(node) == len(expected)


def test_a_small_cache_forgets_and_answers_the_same(filled):
    small = vectordb.open(filled.collection._directory.env.path)
    collection = small.collection("c")
    collection._filters = FilterCache(2_000)
    for low in range(-4, 6):
        for _ in range(2):
            node = f.And((f.Compare("n", "ge", low), f.Compare("kw", "ne", "a")))
            assert collection.count(node) == len(filled.matching(node))
    small.close()


def test_notations_agree(filled):
    node = (F("n") > 2) & ~F("kws").contains_any(["a", "b"]) | F("at").between(datetime(2024, 1, 1, tzinfo=UTC), "2024-01-01T23:00:00Z")
    text = "(n > 2 AND NOT kws CONTAINS ANY ('a', 'b')) OR at BETWEEN '2024-01-01' AND '2024-01-01T23:00:00Z'"
    answers = {filled.collection.count(form) for form in (node, text, to_dict(node))}
    assert answers == {len(filled.matching(node))}


def test_prefixes_and_globs_walk_the_dictionary(database):
    collection = database.create_collection("c", Schema({}, {"k": Keyword(), "ks": Keyword(array=True)}))
    words = [f"{a}{b}{c}" for a in "abé" for b in ("", "x", "*", "\U0010ffff") for c in ("", "1", "22")]
    collection.upsert(ids=range(len(words)), attributes={"k": words, "ks": [[word, "other"] for word in words]})
    for field in ("k", "ks"):
        for prefix in ("a", "ax", "b\U0010ffff", "é", "\U0010ffff", "a" * 480):
            expected = {i for i, word in enumerate(words) if word.startswith(prefix)}
            assert found(collection, F(field).startswith(prefix)) == expected
        for pattern, expected in (
            ("a*", {i for i, word in enumerate(words) if word[0] == "a"}),
            ("?x*", {i for i, word in enumerate(words) if word[1:2] == "x"}),
            ("a[*]*", {i for i, word in enumerate(words) if word.startswith("a*")}),
            ("[!a]*2", {i for i, word in enumerate(words) if word[0] != "a" and word.endswith("2")}),
            ("a" * 600 + "*b", set()),
        ):
            assert found(collection, F(field).glob(pattern)) == expected, pattern


def test_places(database):
    """Against the haversine formula in float64, everywhere on Earth, also over the antimeridian and at the poles."""
    rng = np.random.default_rng(0)
    collection = database.create_collection("c", Schema({}, {"g": Geo(), "gs": Geo(array=True)}))
    places = np.stack([np.degrees(np.arcsin(rng.uniform(-1, 1, 3_000))), rng.uniform(-180, 180, 3_000)], axis=1)
    collection.upsert(ids=range(3_000), attributes={"g": places.tolist(), "gs": [[p, (0.0, 0.0)] for p in places.tolist()]})
    lat, lon = np.radians(places).T
    for south, west in ((0.0, 0.0), (52.5, 13.4), (-89.9, 100.0), (10.0, 179.9)):
        a = np.sin((lat - math.radians(south)) / 2) ** 2
        a += np.cos(lat) * math.cos(math.radians(south)) * np.sin((lon - math.radians(west)) / 2) ** 2
        meters = 2 * 6_371_008.8 * np.arcsin(np.sqrt(a))
        for radius in (0, 1e5, 3e6, 1.9e7, 3e7):
            assert collection.count(F("g").geo_radius(south, west, radius)) == int((meters <= radius).sum())
    for south, west, north, east in ((-10, -20, 30, 40), (-90, 170, 90, -170), (0, -180, 0.5, 180)):
        inside = (places[:, 0] >= south) & (places[:, 0] <= north)
        inside &= (places[:, 1] >= west) & (places[:, 1] <= east) if west <= east else (places[:, 1] >= west) | (places[:, 1] <= east)
        assert collection.count(F("g").geo_box(south, west, north, east)) == int(inside.sum())
        assert collection.count(F("gs").geo_box(south, west, north, east)) >= int(inside.sum())


def test_words_and_phrases_stay_inside_one_element(database):
    collection = database.create_collection("c", Schema({}, {"t": Text(), "ts": Text(array=True)}))
    texts = ["The quick brown fox", "quick fox", "brown the quick", "", "quick quick brown", "Straße STRASSE", "日本語", "e\u0301tude"]
    collection.upsert(ids=range(len(texts)), attributes={"t": texts, "ts": [[text, "fox"] for text in texts]})
    collection.upsert(ids=["split"], attributes={"ts": [["quick", "brown", ""]]})
    for query, expected in {
        "MATCH ANY 'fox brown'": {0, 1, 2, 4},
        "MATCH ALL 'quick brown'": {0, 2, 4},
        "MATCH PHRASE 'quick brown'": {0, 4},
        "MATCH PHRASE 'quick quick'": {4},
        "MATCH PHRASE 'brown fox quick'": set(),
        "MATCH ALL 'strasse'": {5},
        "MATCH PHRASE '本語'": {6},
        "MATCH ALL 'ÉTUDE'": {7},
        "MATCH ALL 'never said'": set(),
        "MATCH ALL ''": set(),
    }.items():
        assert found(collection, f"t {query}") == expected, query
    assert found(collection, "ts MATCH ALL 'quick brown'") == {0, 2, 4}  # not "split"
    assert found(collection, "ts MATCH PHRASE 'brown fox'") == {0}
    assert "split" in found(collection, "ts MATCH ANY 'brown'")


def test_long_lists_of_values_and_ids(database):
    collection = database.create_collection("c", Schema({"v": Dense(2)}, {"k": Keyword(), "n": vectordb.Int()}))
    ids = [*range(3_000), *(f"s{i}" for i in range(3_000))]
    collection.upsert(ids=ids, attributes={"k": [f"k{i}" for i in range(6_000)], "n": range(6_000)})
    wanted = range(1, 200_000, 3)
    assert collection.count(F("n").isin(wanted)) == 2_000
    assert collection.count(F("k").isin([f"k{i}" for i in wanted])) == 2_000
    assert collection.count(F("k").not_in([f"k{i}" for i in wanted])) == 4_000
    assert collection.count(F.has_id([*range(0, 9_000, 2), *(f"s{i}" for i in range(0, 9_000, 2))])) == 3_000
    assert collection.delete(filter=F("n").isin(wanted)).count == 2_000
    assert collection.count(F("n").isin(wanted)) == collection.count(F("k").isin([f"k{i}" for i in wanted])) == 0


def test_moments_are_compared_in_utc(database):
    collection = database.create_collection("c", Schema({}, {"at": vectordb.Datetime()}))
    base = datetime(2024, 3, 1, 12, tzinfo=UTC)
    collection.upsert(ids=range(48), attributes={"at": [base + timedelta(hours=i) for i in range(48)]})
    assert collection.count("at >= '2024-03-01T14:00:00+02:00'") == 48
    assert collection.count("at > '2024-03-01T12:00:00'") == 47
    assert collection.count(F("at") < np.datetime64("2024-03-02")) == 12
    assert collection.get(1).attributes["at"] == base + timedelta(hours=1)
    assert collection.get(1).attributes["at"].tzinfo is not None
