"""Canonical filters are equivalent to the given filter, and equivalent filters have the same canonical form."""

import math
import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectordb_client.errors import FilterError
from vectordb_client.model.filter import F
from vectordb_client.model.filter_extended import Fold, GeoPolygon
from vectordb_client.model.filter_nodes import (
    MAX_DEPTH,
    All,
    And,
    Between,
    Compare,
    Count,
    GeoBox,
    GeoRadius,
    Glob,
    HasId,
    HasVector,
    In,
    IsNull,
    Not,
    Nothing,
    Or,
    Prefix,
)
from vectordb_client.model.schema import Keyword, Schema

from tests.support.filter_model import SCHEMA, combined, filters, holds, holds_canonical, leaves, rows
from tests.support.nightly import cases
from vectordb.filters.canonical import canonical
from vectordb.filters.nodes import AtLeast, CountRange, MatchWords, Part, Range, TermRange, TermsOutside
from vectordb.filters.parse import parse


def form(given):
    return canonical(parse(given) if isinstance(given, str) else given, SCHEMA)


def same(*given):
    forms = [form(each) for each in given]
    assert all(each == forms[0] for each in forms), forms


@settings(max_examples=cases(75, 500), deadline=None)
@given(filters, st.lists(rows, min_size=1, max_size=8))
def test_canonical_filter_holds_where_the_given_one_does(node, sample):
    found = form(node)
    for row in sample:
        assert holds_canonical(found, row) == holds(node, row)


@settings(max_examples=cases(50, 300), deadline=None)
@given(leaves, st.lists(rows, min_size=1, max_size=20))
def test_each_leaf_alone_holds_where_it_should(node, sample):
    for given_node in (node, ~node):
        found = form(given_node)
        for row in sample:
            assert holds_canonical(found, row) == holds(given_node, row)


@settings(max_examples=cases(50, 250), deadline=None)
@given(filters, filters, filters)
def test_boolean_laws(a, b, c):
    same(a, Not(Not(a)), And((a,)), Or((a,)), And((a, a)), Or((a, a)), And((a, All())), Or((a, Nothing())))
    same(Not(And((a, b))), Or((Not(a), Not(b))))
    same(And((a, And((b, c)))), And((And((a, b)), c)), And((c, b, a)))
    same(Or((a, Or((b, c)))), Or((Or((a, b)), c)), Or((c, b, a)))
    assert form(And((a, Nothing()))) == Nothing()
    assert form(Or((a, All()))) == All()


@settings(max_examples=cases(75, 400), deadline=None)
@given(filters)
def test_a_filter_and_its_complement_exclude_each_other_and_cover_all(a):
    assert form(And((a, Not(a)))) == Nothing()
    assert form(Or((Not(a), a))) == All()


int_leaves = st.one_of(
    st.builds(Compare, st.just("n"), st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"]), st.integers(-3, 5) | st.just(2.5)),
    st.builds(Between, st.just("n"), st.integers(-3, 5), st.integers(-3, 5)),
    st.builds(In, st.just("n"), st.lists(st.integers(-3, 5), max_size=4)),
    st.builds(IsNull, st.just("n")),
    st.builds(Count, st.just("n"), st.sampled_from(["eq", "ge"]), st.integers(0, 2)),
)
int_rows = [{"n": n} for n in (None, *range(-6, 8), -(2**63), 2**63 - 1)]


@settings(max_examples=cases(75, 500), deadline=None)
@given(combined(int_leaves), combined(int_leaves))
def test_filters_on_one_number_have_one_form_exactly_when_they_hold_for_the_same_values(a, b):
    assert (form(a) == form(b)) == all(holds(a, row) == holds(b, row) for row in int_rows)


LEAVES = (In, Range, IsNull, CountRange, MatchWords, Prefix, Glob, HasId, HasVector, GeoRadius, GeoBox)
LEAVES += (TermRange, TermsOutside, Part, Fold, GeoPolygon, AtLeast)


@settings(max_examples=cases(75, 500), deadline=None)
@given(filters)
def test_shape(node):
    def walk(node, parent=None):
        kind = type(node)
        if kind is And or kind is Or:
            assert parent not in (kind, Not)
            assert len(node.children) == len(set(node.children)) > 1
            for child in node.children:
                walk(child, kind)
        elif kind is Not:
            assert parent is not Not
            walk(node.child, Not)
        elif parent is None and kind in (All, Nothing):
            return
        else:
            assert kind in LEAVES
        if kind is In:
            assert len(node.values) > 0
            assert list(node.values) == sorted(set(node.values))
        if kind in (Range, CountRange):
            assert (node.low, node.high) != (None, None)

    walk(form(node))


def test_ranges_and_lists_of_integers_meet():
    same("n BETWEEN 1 AND 3", "n IN (1, 2, 3)", "n IN (3, 2, 1, 2)", "n >= 1 AND n < 4", "n = 1 OR n = 2 OR n = 3", "n > 0.5 AND n <= 3.9")
    assert form("n IN (1, 2, 3)") == Range("n", 1, 3)
    assert form("n BETWEEN 4 AND 4") == In("n", (4,))
    assert form("n IN (1, 2, 3, 7)") == form("n BETWEEN 1 AND 3 OR n = 7") == In("n", (1, 2, 3, 7))
    assert form("n BETWEEN 1 AND 63 OR n = 100") == In("n", (*range(1, 64), 100))
    assert form("n BETWEEN 1 AND 64 OR n = 100") == Or((In("n", (100,)), Range("n", 1, 64)))
    assert form(F("n").isin([*range(1, 65), 100])) == Or((In("n", (100,)), Range("n", 1, 64)))
    assert form("n <= 3 OR n >= 4") == Not(IsNull("n"))
    assert form("n <= 3 OR n >= 5") == form("n != 4 AND n IS NOT NULL") == And((Not(IsNull("n")), Not(In("n", (4,)))))


def test_integers_are_compared_with_any_number():
    assert form("n > 3") == form("n >= 3.5") == form("n > 3.5") == Range("n", 4, None)
    assert form("n < 3.5") == Range("n", None, 3)
    assert form("n = 3.5") == form("n IN (3.5, 1e300)") == form(F("n") > 2**63) == form(F("n") == 2**63) == Nothing()
    assert form("n = 3.0") == In("n", (3,))
    assert type(form("n = 3.0").values[0]) is int
    assert form("n < 1e300") == form(F("n") >= -(2**63)) == form("n IS NOT NULL")


def test_floats_have_neighbours():
    assert form("x < 3") == Range("x", None, math.nextafter(3, 0))
    assert form("x > 3") == Range("x", math.nextafter(3, 4), None)
    assert form("x < 3 OR x >= 3") == form("x IS NOT NULL")
    assert form("x < 3 AND x >= 3") == Nothing()
    assert form(F("x") == -0.0) == form(F("x") == 0)
    assert math.copysign(1, form("x > -5e-324").low) == 1


def test_null_is_in_every_complement():
    same("n != 3", "n NOT IN (3)", "NOT n = 3", "n < 3 OR n > 3 OR n IS NULL")
    assert form("n != 3") == Not(In("n", (3,)))
    assert form("NOT n > 3") == Not(Range("n", 4, None))
    assert form("n = 3 OR n IS NULL") == Or((IsNull("n"), In("n", (3,))))
    assert form("n = 3 AND n IS NULL") == Nothing()
    assert form("kw != 'a' OR kw IS NOT NULL") == All()
    same("kw IN ('a', 'b') AND kw != 'a'", "kw = 'b'")
    same("ok != TRUE", "ok = FALSE OR ok IS NULL")
    same("ok = TRUE OR ok = FALSE", "ok IS NOT NULL")


def test_arrays_only_obey_or():
    same("ns = 1 OR ns = 2", "ns IN (1, 2)", "ns CONTAINS ANY (1, 2)", "ns BETWEEN 1 AND 2")
    same("ns = 1 AND ns = 5", "ns CONTAINS ALL (5, 1)")
    assert form("ns = 1 AND ns = 5") == And((In("ns", (1,)), In("ns", (5,))))
    assert form("ns >= 1 AND ns <= 5") == And((Range("ns", None, 5), Range("ns", 1, None)))
    assert form("ns BETWEEN 1 AND 5") == Range("ns", 1, 5)
    same("ns != 1 AND ns != 5", "ns NOT IN (1, 5)")
    same("NOT ns <= 3 AND NOT ns > 3", "COUNT(ns) = 0")
    same("ns <= 3 OR ns > 3", "COUNT(ns) > 0", "COUNT(ns) != 0", "NOT COUNT(ns) <= 0")
    same("ns CONTAINS 1", "ns = 1")


def test_counts():
    assert form("COUNT(kws) >= 2") == CountRange("kws", 2, None)
    assert form("COUNT(kws) >= 2 AND COUNT(kws) < 2") == form("COUNT(kws) < 0") == Nothing()
    assert form("COUNT(kws) >= 0") == form("COUNT(kws) < 2 OR COUNT(kws) > 1") == All()
    assert form("NOT COUNT(kws) >= 2") == CountRange("kws", None, 1)
    assert form("COUNT(kws) != 2") == Not(CountRange("kws", 2, 2))
    assert form("COUNT(kw) = 0") == form("COUNT(kw) < 1") == IsNull("kw")
    assert form("COUNT(kw) >= 1") == form("COUNT(kw) != 0") == Not(IsNull("kw"))
    assert form("COUNT(kw) = 2") == Nothing()


def test_empty_conditions_hold_nowhere():
    for text in (
        "n IN ()",
        "n BETWEEN 3 AND 1",
        "body MATCH ''",
        "body MATCH PHRASE '...'",
        "body MATCH ANY '-'",
        "HAS_ID()",
    ):
        assert form(text) == Nothing(), text


def test_words():
    assert (
        form("body MATCH 'Fox'") == form("body MATCH ANY 'fox!'") == form("body MATCH PHRASE 'FOX'") == MatchWords("body", "all", ("fox",))
    )
    same("body MATCH 'red fox'", "body MATCH 'fox' AND body MATCH 'red'", "body MATCH ALL 'Red, red fox'")
    same("body MATCH ANY 'red fox'", "body MATCH 'fox' OR body MATCH 'red'")
    assert form("body MATCH PHRASE 'the red the'") == MatchWords("body", "phrase", ("the", "red", "the"))
    assert form("bodys MATCH 'red fox red'") == MatchWords("bodys", "all", ("fox", "red"))


def test_patterns():
    same("kw GLOB 'abc'", "kw = 'abc'", "kw GLOB '[a]bc'")
    same("kw GLOB 'abc*'", "kw STARTSWITH 'abc'", "kw GLOB 'abc**'")
    same("kw GLOB '*'", "kw STARTSWITH ''", "kw IS NOT NULL")
    same("kws GLOB '*'", "COUNT(kws) > 0")
    same("kw GLOB 'a*?'", "kw GLOB 'a?*'", "kw GLOB 'a**?'")
    same("kw GLOB '[*]'", "kw = '*'")
    same("kw GLOB '[x'", "kw = '[x'")


def test_ids_are_one_set():
    same("HAS_ID(2, 1, 'a', 1)", "HAS_ID('a') OR HAS_ID(1, 2)")
    assert form("HAS_ID(1, 'a') AND NOT HAS_ID(1)").ids == ("a",)
    assert form("HAS_ID('b', 10, 'a', 9, UUID '00000000-0000-0000-0000-000000000001')").ids[:4] == (9, 10, "a", "b")
    assert form("HAS_ID(1) AND HAS_ID(2)") == Nothing()
    assert form("HAS_ID(1) OR NOT HAS_ID(1)") == All()


def test_absorption_and_contradiction():
    same("n = 1 AND (n = 1 OR kw = 'a')", "n = 1")
    same("kws = 'a' AND (NOT kws = 'a' OR ok = TRUE)", "kws = 'a' AND ok = TRUE")
    assert form("(n = 1 OR kws = 'a') AND n != 1 AND NOT kws = 'a'") == Nothing()
    same("n > 3 AND (n < 2 OR ok = TRUE)", "n > 3 AND ok = TRUE")
    same("n > 3 AND (n > 1 OR ok = TRUE)", "n > 3")
    same("kw = 'a' OR (kw = '' OR (HAS_VECTOR(vec) AND kw = ''))", "kw IN ('a', '')")
    assert form("kws = 'a' AND NOT kws IN ('a', 'b')") == Nothing()
    assert form("COUNT(kws) = 0 AND kws = 'a'") == Nothing()
    same("COUNT(kws) > 0 OR (kws = 'a' AND ok = TRUE)", "COUNT(kws) > 0")
    same("COUNT(kws) > 0 OR kws = 'a'", "COUNT(kws) > 0")
    same("COUNT(kws) = 0 AND kws != 'a'", "COUNT(kws) = 0")
    # a null that both conditions admit, and an array that lacks one element but may have others, decide nothing
    assert form("(n = 1 OR n IS NULL) AND (n = 2 OR n IS NULL OR ok = TRUE)") != form("(n = 1 OR n IS NULL) AND ok = TRUE")
    assert form("NOT kws = 'a' AND (COUNT(kws) > 0 OR ok = TRUE)") != form("NOT kws = 'a'")


def test_large_filters_take_seconds_at_most():
    tag = [F("kws") == f"k{i}" for i in range(5_000)]
    deep = F("n") == 1
    for i in range(48):
        deep = Or((And([deep, *tag[i * 100 : (i + 1) * 100]]), F("x") > i))
    for node in (
        deep,
        And([tag[0], *(Or((~tag[i], tag[i + 1])) for i in range(2_400))]),
        And([*(Or((tag[i], F("n") == i)) for i in range(3_000)), F("kws").contains_all([f"x{i}" for i in range(2_000)])]),
    ):
        start = time.process_time()
        form(node)
        assert time.process_time() - start < 10


def test_datetimes_and_uuids_take_strings():
    same("at = '2024-01-01'", "at = DATETIME '2024-01-01T00:00:00+00:00'", "at = '2024-01-01T02:00+02:00'")
    assert form("at > '1970-01-01T00:00:01'") == Range("at", 1_000_001, None)
    same("u = '00000000-0000-0000-0000-000000000001'", "u = UUID '00000000000000000000000000000001'")


def test_form_does_not_depend_on_hash_seeds():
    code = (
        "from tests.support.filter_model import SCHEMA; from vectordb.filters.canonical import canonical;"
        "from vectordb.filters.parse import parse;"
        "text = \"(kw = 'b' OR n > 3 OR kws = 'x') AND (ok = TRUE OR kws IN ('q','a','z') OR HAS_ID('a',1)) AND NOT kw = 'c'\";"
        "print(canonical(parse(text), SCHEMA))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(printed) == 1


@pytest.mark.parametrize(
    ("text", "field", "value", "message"),
    [
        ("kw = 5", "kw", 5, "'kw' is Keyword: kw must be a string, not 5"),
        ("n = 'a'", "n", "a", "'n' is Int: n must be an integer"),
        ("n > TRUE", "n", True, "'n' is Int"),
        ("n IN (1, 'a')", "n", "a", "'n' is Int"),
        ("ok = 1", "ok", 1, "'ok' is Bool"),
        ("x = 'a'", "x", "a", "'x' is Float"),
        ("at > 5", "at", 5, "'at' is Datetime"),
        ("u = 'zz'", "u", "zz", "'u' is Uuid"),
        ("kw > 5", "kw", 5, "'kw' is Keyword: kw must be a string, not 5"),
        ("u BETWEEN 'a' AND 'b'", "u", "a", "'u' is Uuid, which supports only =, != and IN; use an Int"),
        ("ok < TRUE", "ok", True, "attribute for <"),
        ("body = 'x'", "body", "x", "supports only MATCH (match_all, match_any, match_phrase), CONTAINS and"),
        ("body IN ()", "body", None, "use a Keyword attribute for IN"),
        ("body < 'x'", "body", "x", "use an Int, Float, Datetime or Keyword attribute for <"),
        ("place = 1", "place", 1, "GEO_RADIUS"),
        ("place < 1", "place", 1, "GEO_RADIUS"),
        ("kw MATCH 'a'", "kw", "a", "use a Text attribute for MATCH"),
        ("body STARTSWITH 'a'", "body", "a", "use a Keyword attribute for STARTSWITH"),
        ("n GLOB 'a*'", "n", "a*", "use a Keyword attribute for GLOB"),
        ("n = 1 AND GEO_RADIUS(kw, 1, 1, 1)", "kw", None, "use a Geo attribute for GEO_RADIUS"),
        ("id = 1", "id", None, "no attribute 'id'; write HAS_ID(1)"),
        ("nope > true", "nope", True, "can't be ordered against True"),
        ("nope BETWEEN 1 AND 'a'", "nope", "a", "must both be numbers or both be strings"),
        ("nope = DATETIME '2021-05-01'", "nope", datetime(2021, 5, 1, tzinfo=UTC), "JSON and has no datetime"),
        ("nope ANY (HAS_ID(1))", "filter", HasId((1,)), "about points"),
        ("kw ANY (size = 1)", "kw", None, "for arrays of objects in the payload"),
        ("n CONTAINS 1", "n", 1, "not an array; write = or IN"),
        ("body CONTAINS 1", "body", 1, "looks for a part of it, a string"),
        ("n ICONTAINS 'a'", "n", "a", "use a Text or Keyword attribute for ICONTAINS"),
        ("body SOME NOT IN ('a')", "body", "a", "use a Keyword attribute for SOME NOT IN"),
        ("GEO_POLYGON(kw, 1, 1, 1, 2, 2, 2)", "kw", None, "use a Geo attribute for GEO_POLYGON"),
        ("vec = 1", "vec", None, "vector field, not an attribute; write HAS_VECTOR(vec)"),
        ("HAS_VECTOR(n)", "n", None, "is an attribute"),
        ("HAS_VECTOR(nope)", "nope", None, "no vector field 'nope'; the vector fields are: vec, vec2"),
        (F("kw").isin(["a", "\ud800"]), "kw", "\ud800", "lone surrogate"),
    ],
)
def test_errors_name_the_field_and_what_it_supports(text, field, value, message):
    with pytest.raises(FilterError) as error:
        form(text)
    assert (error.value.field, error.value.value) == (field, value)
    assert message in str(error.value)


def test_wrong_conditions_are_refused_wherever_they_stand():
    for text in ("FALSE AND vec = 1", "TRUE OR kw = 5", "NOT (n = 'a')", "MIN_SHOULD(0, kw = 5)"):
        with pytest.raises(FilterError):
            form(text)


def test_schema_without_fields_says_none():
    with pytest.raises(FilterError, match="the vector fields are: none"):
        canonical(F.has_vector("x"), Schema())
    assert canonical(All(), Schema({}, {"kw": Keyword()})) == All()


def test_long_lists_are_quick_and_exact():
    rng = random.Random(1)
    numbers = [rng.randrange(-(10**9), 10**9) for _ in range(100_000)]
    start = time.process_time()
    found = form(F("n").isin(numbers))
    assert time.process_time() - start < 10
    assert found == In("n", tuple(sorted(set(numbers))))
    assert form(F("n").not_in(numbers)) == Not(found)
    assert form(F("n").isin(range(100_000))) == Range("n", 0, 99_999)
    assert form(F("x").isin(numbers)).values == tuple(float(n) for n in sorted(set(numbers)))
    strings = [f"k{n}" for n in numbers]
    assert form(F("kw").isin(strings)) == In("kw", tuple(sorted(set(strings))))
    assert form(F("ns").isin(numbers)) == In("ns", found.values)


def test_thousands_of_conditions_on_one_field_become_one():
    node = Or([F("n") == i for i in range(0, 9_000, 2)])
    assert form(node) == In("n", tuple(range(0, 9_000, 2)))
    assert form(Not(node)) == Not(In("n", tuple(range(0, 9_000, 2))))
    assert form(And([F("n") != i for i in range(0, 9_000, 2)])) == form(Not(node))


def test_deepest_filters_are_bound():
    node = F("n") == 1
    for i in range(100):
        if node.depth == MAX_DEPTH - 1:
            break
        node = Not(node) if i % 3 == 2 else And((node, F("x") > i)) if i % 3 else Or((node, F("kw") == str(i)))
    assert type(form(Not(node))) in (And, Or)
