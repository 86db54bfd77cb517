"""Facets and aggregates: equal to counting points one by one, embedded, with a ``Client`` and with an ``AsyncClient``."""

from __future__ import annotations

import collections
import datetime
import itertools
import math
import uuid

import numpy as np
import pytest

from tests.support import filter_model
from vectordb import (
    Dense,
    F,
    Facet,
    FilterError,
    Float,
    Int,
    InvalidArgumentError,
    Keyword,
    Prefetch,
    Range,
    Schema,
    SchemaError,
)

FILTERS = [None, "n >= 2", "NOT (kw = 'a')", "x > 100", "kw IN ('a', 'b') AND ok = true"]


def elements(point, name):
    """The values of a point, as a list; None without one."""
    value = point.attributes.get(name)
    return None if value is None else value if type(value) is list else [value]


def counted(points, name, prefix=None):
    found = collections.Counter()
    for point in points:
        values = elements(point, name) or []
        found.update({each for each in values if prefix is None or each.startswith(prefix)})
    return dict(found)


def ordered(counts):
    key = lambda value: value.encode() if type(value) is str else value.bytes if isinstance(value, uuid.UUID) else value  # noqa: E731
    return sorted(counts.items(), key=lambda item: (-item[1], key(item[0])))


@pytest.mark.parametrize("filter", FILTERS)
def test_facets_of_every_type_equal_counts_one_by_one(same, filter):
    every = list(filter_model.SCHEMA.attributes)
    names = [name for name in every if filter_model.SCHEMA.attributes[name].kind != "text"]
    results = same(lambda docs: docs.facets([Facet(name, limit=1000) for name in names], filter=filter), "every")
    points = same(lambda docs: list(docs.iterate(filter=filter)), "every")
    assert list(results) == names
    for name, result in results.items():
        expected = counted(points, name)
        assert [tuple(each) for each in result] == ordered(expected), name
        assert [type(value) for value, _ in result] == [type(value) for value, _ in ordered(expected)]
        assert (result.points, result.distinct) == (len(points), len(expected))
        assert result.missing == sum(elements(point, name) is None for point in points)
        assert [tuple(each) for each in same(lambda d, n=name: d.facets(Facet(n, limit=2), filter=filter), "every")[name]] == ordered(
            expected
        )[:2]


def test_a_prefix_counts_the_keywords_that_start_with_it(same):
    points = same(lambda docs: list(docs.iterate()), "every")
    for name, prefix in itertools.product(("kw", "kws"), ("a", "", "ab", "[", "zz")):
        result = same(lambda docs, n=name, p=prefix: docs.facets(Facet(n, prefix=p, name="found")), "every")["found"]
        assert [tuple(each) for each in result] == ordered(counted(points, name, prefix)), (name, prefix)


@pytest.mark.parametrize("name", ["n", "x", "at", "ns", "xs", "ats"])
def test_ranges_equal_counts_one_by_one(same, name):
    day = datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC)
    edges = {
        "n": [-4, 0, 2.5, 6, 2**63 - 1, None],
        "x": [None, -1.5, 0, 1e-320, 2.5, 2**53 + 1],
        "a": [None, "2024-01-01T12:30:00+00:00", day, np.datetime64("2025-01-01")],
    }[name[0]]
    points = same(lambda docs: list(docs.iterate(filter=F("ok").is_null() | (F("ok") == True))), "every")  # noqa: E712
    facet = Range(name, edges)
    result = same(lambda docs: docs.facets([facet], filter="ok IS NULL OR ok = true"), "every")[name]
    assert len(result) == result.distinct == len(edges) - 1
    for (low, high), count in result:
        within = lambda v: (low is None or low <= v) and (high is None or v < high)  # noqa: B023, E731
        assert count == sum(any(map(within, elements(point, name) or [])) for point in points), (low, high)
    assert result.missing == sum(elements(point, name) is None for point in points)


def linear(values, percent):
    return np.percentile(np.array(values, np.float64), percent)


@pytest.mark.parametrize("filter", FILTERS)
def test_aggregates_equal_python(same, filter):
    points = same(lambda docs: list(docs.iterate(filter=filter)), "every")
    plain = ["count", "distinct", "min", "max"]
    numbers = [*plain, "sum", "mean", "p0", "p50", "p99.9", "p100"]
    asked = dict.fromkeys(("n", "ns", "x", "xs"), numbers) | dict.fromkeys(("kw", "kws", "u", "us", "ok", "oks"), plain)
    asked |= {
        "at": [*plain, "mean", "p50"],
        "ats": "max",
        "place": ["count", "distinct"],
        "places": "count",
        "body": "count",
        "bodys": ["count"],
    }
    asked = {name: functions for name, functions in asked.items() if name in filter_model.SCHEMA.attributes}
    results = same(lambda docs: docs.aggregate(asked, filter=filter), "every")
    for name, found in results.items():
        held = [elements(point, name) for point in points]
        values = [value for each in held if each for value in each]
        assert found["count"] == sum(each is not None for each in held) if "count" in found else True
        if "distinct" in found:
            assert found["distinct"] == len(set(values)), name
        if "min" in found:
            key = (lambda v: v.bytes) if values and isinstance(values[0], uuid.UUID) else None
            assert found["min"] == min(values, default=None, key=key) and found["max"] == max(values, default=None, key=key), name
        if "sum" in found:
            total = sum(values) if name in ("n", "ns") else math.fsum(values)
            assert found["sum"] == total and type(found["sum"]) is type(total if values else total + (0 if name[0] == "n" else 0.0))
            assert found["mean"] == (total / len(values) if values else None)
            for function in ("p0", "p50", "p99.9", "p100"):
                expected = linear(values, float(function[1:])) if values else None
                assert found[function] == (None if expected is None else pytest.approx(expected, rel=1e-12, abs=1e-300)), (name, function)
        if name == "at" and values:
            assert min(values) <= found["mean"] <= max(values) and min(values) <= found["p50"] <= max(values)


def test_sums_are_exact_and_do_not_overflow(database):
    schema = Schema({"v": Dense(2)}, {"i": Int(), "f": Float(), "g": Float(), "is": Int(array=True)})
    docs = database.create_collection("sums", schema)
    n = 100
    values = {"i": [2**63 - 1] * n, "f": [1e308] * n, "g": [1e16, 1.0] * 49 + [-1e16 * 49, None], "is": [[-(2**63), 5, 5]] * n}
    docs.upsert(ids=list(range(n)), vectors={"v": [[1.0, 0.0]] * n}, attributes=values)
    found = docs.aggregate({"i": ["sum", "mean"], "f": ["sum", "mean"], "g": "sum", "is": ["sum", "distinct"]})
    assert found["i"]["sum"] == n * (2**63 - 1) and found["is"] == {"sum": n * (10 - 2**63), "distinct": 2}
    assert found["f"] == {"sum": None, "mean": 1e308} and found["g"]["sum"] == 49.0
    assert docs.aggregate({"i": ["sum", "min", "mean", "p50"], "f": "sum"}, filter="i < 0") == {
        "i": {"sum": 0, "min": None, "mean": None, "p50": None},
        "f": {"sum": 0.0},
    }


def test_counts_follow_writes_deletes_and_compactions(database):
    schema = Schema({"v": Dense(2)}, {"brand": Keyword(), "tags": Keyword(array=True), "price": Int(), "marks": Int(array=True)})
    docs = database.create_collection("shop", schema)
    rng, held = np.random.default_rng(2), {}
    for step in range(8):
        ids = rng.choice(60, 15, replace=False).tolist()
        if step % 4 == 3:
            docs.delete(ids)
            for each in ids:
                held.pop(each, None)
        else:
            rows = []
            for each in ids:
                marks = rng.integers(0, 5 + step, 3).tolist()
                held[each] = {
                    "brand": f"b{rng.integers(0, 3 + step)}",
                    "tags": [f"t{m}" for m in marks],
                    "price": int(rng.integers(-step, 9)),
                    "marks": marks,
                }
                if each % 5 == 0:
                    del held[each]["price"]
                rows.append({"id": each, "vectors": {"v": [1.0, 0.0]}, "attributes": held[each]})
            docs.upsert(rows)
        if step == 5:
            docs.optimize()
        results = docs.facets(
            [Facet(name, limit=100) for name in ("brand", "tags", "price", "marks")] + [Range("price", [0, 4, 9], name="ranges")]
        )
        for name in ("brand", "tags", "price", "marks"):
            expected = collections.Counter()
            for row in held.values():
                value = row.get(name)
                expected.update(set(value) if type(value) is list else [] if value is None else [value])
            assert results[name].to_dict() == dict(ordered(expected)) and list(results[name].to_dict()) == [v for v, _ in ordered(expected)]
            assert results[name].points == len(held)
        prices = [row["price"] for row in held.values() if "price" in row]
        assert results["ranges"].to_dict() == {(0, 4): sum(0 <= p < 4 for p in prices), (4, 9): sum(4 <= p < 9 for p in prices)}
        assert results["ranges"].missing == len(held) - len(prices)


QUERY = {"d": [1.0, 0, 0, 1, 0, 0, 0, 1]}
ASKED = ["lang", Range("x", [0, 5, None], name="xs"), Facet("tags", limit=1)]


@pytest.mark.parametrize("options", [{}, {"filter": "n < 40"}, {"filter": "n < 0"}, {"with_attributes": False}, {"explain": True}])
def test_a_search_counts_all_that_match_and_finds_the_same(same, options):
    hits = same(lambda docs: docs.search(QUERY, limit=3, facets=ASKED, **options))
    plain = same(lambda docs: docs.search(QUERY, limit=3, **options))
    counts = same(lambda docs: docs.facets(ASKED, filter=options.get("filter")))
    for docs_hits in [hits, *same(lambda docs: docs.search_batch({"d": [QUERY["d"]] * 2}, limit=3, facets=ASKED, **options))]:
        assert docs_hits == plain and docs_hits.facets == counts and list(docs_hits.facets) == ["lang", "xs", "tags"]
    assert not plain.facets
    if options.get("explain"):
        assert hits.plan["request"]["facets"] == [
            {"facet": "lang"},
            {"range": "x", "edges": [0, 5, None], "name": "xs"},
            {"facet": "tags", "limit": 1},
        ]
        assert hits.plan["milliseconds"]["facets"] >= 0


def test_other_searches_count_too(same):
    counts = same(lambda docs: docs.facets("lang", filter="n < 40"))
    options = {"filter": "n < 40", "facets": "lang"}
    for call in (
        lambda docs: docs.search(QUERY | {"far": [1, 0, 0, 0]}, **options),
        lambda docs: docs.search(QUERY, text={"words": "fox"}, fusion="linear", **options),
        lambda docs: docs.search(QUERY, prefetch=Prefetch({"far": [1, 0, 0, 0]}, limit=5), **options),
        lambda docs: docs.prepare(**options)(QUERY),
        lambda docs: docs.prepare(**options).batch({"d": [QUERY["d"]]})[0],
    ):
        assert same(call).facets == counts
    for _ in range(4):  # also where the same search without facets is done directly
        assert same(lambda docs: docs.search({"d": QUERY["d"]}, facets=["n"]), "indexed").facets["n"].points == 398
        assert not same(lambda docs: docs.search({"d": QUERY["d"]}), "indexed").facets


WRONG = [
    (lambda d: d.facets([]), InvalidArgumentError, "facets must have 1 to 64 facets, not none"),
    (lambda d: d.facets(3), InvalidArgumentError, r"facets must be attributes, Facet\(…\) or Range\(…\)"),
    (lambda d: d.facets([3]), InvalidArgumentError, r"names of attributes, Facet\(…\) or Range\(…\), not 3 \(int\)"),
    (lambda d: d.facets("nope"), SchemaError, "no attribute 'nope'; the attributes are: lang"),
    (lambda d: d.facets("far"), SchemaError, "no attribute 'far'; a vector field has no values to count"),
    (lambda d: d.facets("body"), SchemaError, "Text is stored as words; store the values in a Keyword"),
    (lambda d: d.facets(["n", Range("n", [0, 1])]), InvalidArgumentError, "two results called 'n'; give one another name"),
    (
        lambda d: d.facets(Facet("n", prefix="1")),
        SchemaError,
        r"prefix needs a Keyword attribute, and 'n' is Int; count its ranges with Range",
    ),
    (lambda d: d.facets(Facet("lang", prefix=1)), InvalidArgumentError, "prefix of a facet must be a string, not 1"),
    (lambda d: d.facets(Facet("lang", prefix="\udc00")), InvalidArgumentError, "lone surrogate"),
    (lambda d: d.facets(Facet("lang", limit=0)), InvalidArgumentError, "limit of a facet must be an integer from 1"),
    (lambda d: d.facets(Range("lang", [0, 1])), SchemaError, "Range needs an Int, Float or Datetime attribute, and 'lang' is Keyword"),
    (lambda d: d.facets(Range("n", [1])), InvalidArgumentError, r"edges of Range\('n', …\) must be a list of 2 to"),
    (lambda d: d.facets(Range("n", "01")), InvalidArgumentError, r"edges of Range\('n', …\) must be a list of 2 to"),
    (lambda d: d.facets(Range("n", [1, None, 2])), InvalidArgumentError, "only the first or the last edge"),
    (lambda d: d.facets(Range("n", [2, 1])), InvalidArgumentError, "must ascend, but 2 comes before 1"),
    (lambda d: d.facets(Range("n", [0, math.inf])), InvalidArgumentError, "must be finite"),
    (lambda d: d.facets(Range("x", [0, math.nan])), InvalidArgumentError, "finite"),
    (lambda d: d.facets(Range("n", [0, "b"])), InvalidArgumentError, "n must be an integer, not 'b'"),
    (lambda d: d.facets("lang", filter="id = 1"), FilterError, "HAS_ID"),
    (lambda d: d.search(QUERY, facets="nope"), SchemaError, "no attribute 'nope'"),
    (lambda d: d.prepare(facets=["nope"]), SchemaError, "no attribute 'nope'"),
    (lambda d: d.search(QUERY, facets={}), InvalidArgumentError, "facets must be"),
    (lambda d: d.aggregate({}), InvalidArgumentError, r'aggregate needs a dict such as \{"price"'),
    (lambda d: d.aggregate(["n"]), InvalidArgumentError, "aggregate needs a dict"),
    (lambda d: d.aggregate({"n": []}), InvalidArgumentError, "aggregate needs the functions of 'n'"),
    (lambda d: d.aggregate({"n": "median"}), InvalidArgumentError, "no function 'median'; there are: count, distinct, min"),
    (lambda d: d.aggregate({"n": "p101"}), InvalidArgumentError, "no function 'p101'"),
    (lambda d: d.aggregate({"nope": "sum"}), SchemaError, "aggregate: no attribute 'nope'"),
    (
        lambda d: d.aggregate({"at": "sum"}),
        SchemaError,
        "can't take 'sum' of 'at', which is Datetime; possible are: count, distinct, min, max, mean, p50",
    ),
    (lambda d: d.aggregate({"lang": "p50"}), SchemaError, "can't take 'p50' of 'lang', which is Keyword"),
    (lambda d: d.aggregate({"body": "min"}), SchemaError, "possible are: count$"),
]


@pytest.mark.parametrize("case", range(len(WRONG)))
def test_wrong_calls_say_what_to_write(same, case):
    call, error, text = WRONG[case]
    with pytest.raises(error, match=text):
        same(call)


def test_keywords_of_any_length_are_counted_as_they_are(database):
    """Above 480 bytes the dictionary has a hash in the place of the string."""
    docs = database.create_collection("c", Schema({"v": Dense(2)}, {"k": Keyword(), "ks": Keyword(array=True)}))
    one, other = "a" * 600, "a" * 599 + "b"
    docs.upsert(
        ids=[1, 2, 3, 4, 5],
        vectors={"v": [[1, 0], [0, 1], [1, 1], [0.5, 1], [1, 2]]},
        attributes={"k": [one, other, one, "b", other], "ks": [[one, "x"], [other], ["x"], [], [one]]},
    )
    docs.delete([1])
    found = docs.facets(["k", "ks", Facet("k", prefix="a" * 550, name="long")])
    assert [(each.value, each.count) for each in found["k"].counts] == [(other, 2), (one, 1), ("b", 1)]
    assert [(each.value, each.count) for each in found["ks"].counts] == [(one, 1), (other, 1), ("x", 1)]
    assert [(each.value, each.count) for each in found["long"].counts] == [(other, 2), (one, 1)]
    groups = docs.search({"v": [1, 0]}, group_by="k", group_size=2).groups
    assert [(group.value, group.hits.ids.tolist()) for group in groups] == [(one, [3]), ("b", [4]), (other, [5, 2])]
    assert docs.search(order_by=["-k"]).ids.tolist() == [4, 2, 5, 3]
