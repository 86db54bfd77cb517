"""The three notations of filters give the same tree, and errors in a filter name the place and the reason."""

import copy
import json
import pickle
import uuid
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectordb_client.errors import FilterError, InvalidArgumentError, LimitError
from vectordb_client.model.filter import F, from_dict, to_dict
from vectordb_client.model.filter_extended import MinShould
from vectordb_client.model.filter_nodes import (
    MAX_DEPTH,
    All,
    And,
    Between,
    Compare,
    ContainsAll,
    ContainsAny,
    Count,
    GeoBox,
    GeoRadius,
    Glob,
    HasId,
    HasVector,
    In,
    IsNull,
    Match,
    Not,
    Nothing,
    Or,
    Prefix,
    join,
)

from tests.support.filter_model import filters, leaves, printed
from tests.support.nightly import cases
from vectordb.filters import as_filter
from vectordb.filters.parse import parse

U = uuid.UUID("12345678-1234-5678-1234-567812345678")
DAY = datetime(2024, 5, 6, tzinfo=UTC)

THREE = [
    (F("n") > 20, "n > 20", {"op": "gt", "field": "n", "value": 20}, Compare("n", "gt", 20)),
    (F("n") == 1, "n = 1", {"op": "eq", "field": "n", "value": 1}, Compare("n", "eq", 1)),
    (F("n") == 1, "n == +1", {"op": "eq", "field": "n", "value": 1}, Compare("n", "eq", 1)),
    (F("n") != -1.5, "n != -1.5", {"op": "ne", "field": "n", "value": -1.5}, Compare("n", "ne", -1.5)),
    (F("n") != 2000.0, "n <> 2e3", {"op": "ne", "field": "n", "value": 2000.0}, Compare("n", "ne", 2000.0)),
    (F("n") < 0.5, "n < .5", {"op": "lt", "field": "n", "value": 0.5}, Compare("n", "lt", 0.5)),
    (F("n") <= 1, "n<=1", {"op": "le", "field": "n", "value": 1}, Compare("n", "le", 1)),
    (F("n") >= 1.0, "n >= 1.", {"op": "ge", "field": "n", "value": 1.0}, Compare("n", "ge", 1.0)),
    (F("ok") == True, "ok = true", {"op": "eq", "field": "ok", "value": True}, Compare("ok", "eq", True)),  # noqa: E712
    (
        F("at") >= DAY,
        "at >= datetime '2024-05-06T00:00:00Z'",
        {"op": "ge", "field": "at", "value": {"datetime": "2024-05-06"}},
        Compare("at", "ge", DAY),
    ),
    (F("u") == U, f"u = UUID '{U}'", {"op": "eq", "field": "u", "value": {"uuid": str(U)}}, Compare("u", "eq", U)),
    (F("m").isin(["a", 1]), "m IN ('a', 1)", {"op": "in", "field": "m", "values": ["a", 1]}, In("m", ("a", 1))),
    (F("m").isin([]), "m in()", {"op": "in", "field": "m", "values": []}, In("m", ())),
    (F("m").not_in(["a"]), "m NOT IN ('a')", {"op": "not_in", "field": "m", "values": ["a"]}, Not(In("m", ("a",)))),
    (F("n").between(1, 2), "n BETWEEN 1 AND 2", {"op": "between", "field": "n", "low": 1, "high": 2}, Between("n", 1, 2)),
    (
        ~F("n").between(1, 2),
        "n NOT BETWEEN 1 AND 2",
        {"op": "not", "filter": {"op": "between", "field": "n", "low": 1, "high": 2}},
        Not(Between("n", 1, 2)),
    ),
    (F("n").is_null(), "n IS NULL", {"op": "is_null", "field": "n"}, IsNull("n")),
    (F("n") == None, "n is null", {"op": "is_null", "field": "n"}, IsNull("n")),  # noqa: E711
    (F("n").is_not_null(), "n IS NOT NULL", {"op": "is_not_null", "field": "n"}, Not(IsNull("n"))),
    (F("n") != None, "NOT n IS NULL", {"op": "is_not_null", "field": "n"}, Not(IsNull("n"))),  # noqa: E711
    (F("t").contains("a"), "t CONTAINS 'a'", {"op": "contains", "field": "t", "value": "a"}, ContainsAny("t", ("a",))),
    (
        F("t").contains_any(["a", "b"]),
        "t CONTAINS ANY ('a', 'b')",
        {"op": "contains_any", "field": "t", "values": ["a", "b"]},
        ContainsAny("t", ("a", "b")),
    ),
    (F("t").contains_all(["a"]), "t contains all ('a')", {"op": "contains_all", "field": "t", "values": ["a"]}, ContainsAll("t", ("a",))),
    (F("t").count() >= 2, "COUNT(t) >= 2", {"op": "count", "field": "t", "compare": "ge", "value": 2}, Count("t", "ge", 2)),
    (F("t").count() != 0, "count ( t ) <> 0", {"op": "count", "field": "t", "compare": "ne", "value": 0}, Count("t", "ne", 0)),
    (F("b").match_all("x y"), "b MATCH 'x y'", {"op": "match", "field": "b", "mode": "all", "value": "x y"}, Match("b", "all", "x y")),
    (F("b").match_any("x"), "b MATCH ANY 'x'", {"op": "match", "field": "b", "mode": "any", "value": "x"}, Match("b", "any", "x")),
    (
        F("b").match_phrase("x y"),
        "b MATCH PHRASE 'x y'",
        {"op": "match", "field": "b", "mode": "phrase", "value": "x y"},
        Match("b", "phrase", "x y"),
    ),
    (F("k").startswith("as"), "k STARTSWITH 'as'", {"op": "prefix", "field": "k", "value": "as"}, Prefix("k", "as")),
    (F("k").glob("a*"), "k GLOB 'a*'", {"op": "glob", "field": "k", "value": "a*"}, Glob("k", "a*")),
    (F.has_id([1, "a", U]), f"HAS_ID(1, 'a', UUID '{U}')", {"op": "has_id", "values": [1, "a", {"uuid": str(U)}]}, HasId((1, "a", U))),
    (F.has_vector("v"), "HAS_VECTOR(v)", {"op": "has_vector", "field": "v"}, HasVector("v")),
    (
        F("p").geo_radius(52.5, 13, 100),
        "GEO_RADIUS(p, 52.5, 13, 100)",
        {"op": "geo_radius", "field": "p", "lat": 52.5, "lon": 13, "meters": 100},
        GeoRadius("p", 52.5, 13.0, 100.0),
    ),
    (
        F("p").geo_box(-1, 170, 1, -170),
        "GEO_BOX(p, -1, 170, 1, -170)",
        {"op": "geo_box", "field": "p", "south": -1, "west": 170, "north": 1, "east": -170},
        GeoBox("p", -1, 170, 1, -170),
    ),
    (All(), "TRUE", {"op": "all"}, All()),
    (F.all(), "ALL", {"op": "all"}, All()),
    (
        F.all() & (F("all") == 1),
        "ALL AND all = 1",
        {"op": "and", "filters": [{"op": "all"}, {"op": "eq", "field": "all", "value": 1}]},
        And((All(), Compare("all", "eq", 1))),
    ),
    (Nothing(), "false", {"op": "nothing"}, Nothing()),
]
A, B, C = F("a") == 1, F("b") == 1, F("c") == 1


@pytest.mark.parametrize(("built", "text", "data", "node"), THREE, ids=[text for _, text, _, _ in THREE])
def test_three_notations_make_one_tree(built, text, data, node):
    assert built == parse(text) == from_dict(data) == node
    assert hash(built) == hash(parse(text)) == hash(from_dict(data))
    assert from_dict(to_dict(node)) == node
    assert as_filter(node) == as_filter(text) == as_filter(data)


def test_not_binds_tighter_than_and_and_and_tighter_than_or():
    assert parse("NOT a = 1 AND b = 1 OR c = 1") == ~A & B | C == Or((And((Not(A), B)), C))
    assert parse("a = 1 OR b = 1 AND c = 1") == A | B & C
    assert parse("(a = 1 OR b = 1) AND c = 1") == (A | B) & C
    assert parse("NOT (a = 1 OR b = 1)") == ~(A | B)
    assert parse("NOT NOT a = 1") == ~~A


def test_members_of_the_same_kind_stand_side_by_side():
    three = And((A, B, C))
    assert (
        (A & B) & C
        == A & (B & C)
        == parse("a = 1 AND b = 1 AND c = 1")
        == parse("(a = 1 AND b = 1) AND c = 1")
        == join(And, [A, B & C])
        == three
    )
    assert ((A & B) & C).size == three.size == 4


def _flat(node):
    """As & and | build it: And and Or have at least two members, none of their own kind."""
    if isinstance(node, (And, Or)):
        return join(type(node), map(_flat, node.children)) if node.children else All() if isinstance(node, And) else Nothing()
    if isinstance(node, MinShould):
        return MinShould(tuple(map(_flat, node.children)), node.n)
    return Not(_flat(node.child)) if isinstance(node, Not) else node


@settings(max_examples=cases(75, 400), deadline=None)
@given(filters)
def test_filters_survive_json_and_printing(node):
    assert from_dict(json.loads(json.dumps(to_dict(node)))) == node
    assert parse(printed(_flat(node))) == _flat(node)


@settings(max_examples=cases(40, 200), deadline=None)
@given(leaves, leaves)
def test_operators_make_what_the_notation_makes(a, b):
    assert parse(f"({printed(a)}) AND NOT ({printed(b)})") == a & ~b
    assert parse(f"({printed(a)}) OR ({printed(b)})") == a | b


LANGUAGE = """AND OR NOT ( ) , = == != < <= IN IS NULL BETWEEN CONTAINS ANY ALL COUNT MATCH PHRASE STARTSWITH GLOB LIKE HAS_ID HAS_VECTOR
GEO_RADIUS GEO_BOX GEO_POLYGON MIN_SHOULD SOME IEQ MISSING TRUE FALSE DATETIME UUID a b `c` 'x' "y" ' ` 1 -2 3.5 1e9 1e999 \\ é ²"""
words_of_the_language = st.sampled_from([*LANGUAGE.split(), "\n", ""])


@settings(max_examples=cases(125, 1000), deadline=None)
@given(st.text() | st.lists(words_of_the_language).map(" ".join) | st.lists(words_of_the_language).map("".join))
def test_any_text_is_a_filter_or_a_filter_error(text):
    try:
        node = parse(text)
    except (FilterError, LimitError) as error:
        complaint = str(error)
    else:
        assert from_dict(to_dict(node)) == node
        return
    if not text.strip():
        assert complaint == "the filter is empty; leave filter out, or write ALL for all points"
        return
    assert "column" in complaint
    assert complaint.endswith("^")


KEYS = ["op", "field", "value", "values", "filter", "filters", "low", "high", "mode", "compare", "datetime", "uuid", "lat", "x"]
scraps = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["eq", "in", "and", "not", "match", "n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
)


@settings(max_examples=cases(75, 500), deadline=None)
@given(scraps)
def test_any_json_is_a_filter_or_a_filter_error(data):
    try:
        node = from_dict(data)
    except (FilterError, LimitError):
        return
    assert from_dict(to_dict(node)) == node


def test_names():
    assert parse("a-1 = 2") == (F("a-1") == 2)
    assert parse("a>-1") == (F("a") > -1)
    assert parse("a.b-c_d = 1") == (F("a.b-c_d") == 1)
    assert parse("`my ``field` = 1") == (F("my `field") == 1)
    assert parse("`and` = 1 AND count = 2 AND match MATCH 'x' AND any = 1") == (
        (F("and") == 1) & (F("count") == 2) & F("match").match_all("x") & (F("any") == 1)
    )


def test_strings():
    assert parse(r"""k = 'it''s' """).value == parse(r"""k = 'it\'s'""").value == parse(r'''k = "it's"''').value == "it's"
    assert parse(r"""k = "say ""hi"" \"" """).value == 'say "hi" "'
    assert parse(r"k = 'C:\dir\\x'").value == r"C:\dir\x"
    assert parse("k = 'a\nb' AND n = 1").children[0].value == "a\nb"


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("(", 2, "but the filter ends here"),
        ("n", 2, "expected a comparison"),
        ("n >", 4, "expected a value"),
        ("n > 1 n", 7, "expected AND, OR or the end of the filter, found 'n'"),
        ("(n > 1", 7, "expected AND, OR or ')'"),
        ("n > 1)", 6, "expected AND, OR or the end"),
        ("3 < n", 1, "write the field first"),
        ("n = abc", 5, "write a string in quotes: 'abc'"),
        ("n = NULL", 5, "write IS NULL"),
        ("n != NULL", 6, "write IS NOT NULL"),
        ("n IN (1, NULL)", 10, "IS NULL"),
        ("n IN 1", 6, "a list of values in parentheses"),
        ("n IN (1 2)", 9, "',' or ')'"),
        ("n IN (1,)", 9, "expected a value"),
        ("n BETWEEN 1, 2", 12, "AND and the upper bound"),
        ("n IS 3", 6, "NULL, MISSING, NOT NULL or NOT MISSING"),
        ("k LIKE 'a%'", 3, "write GLOB"),
        ("k NOT LIKE 'a%'", 7, "write GLOB"),
        ("k ENDSWITH 'a'", 3, "'ENDSWITH' is not an operator; write GLOB"),
        ("k HAS 'a'", 3, "write CONTAINS"),
        ("k = ('a', 'b')", 5, "field IN (…)"),
        ("k = 'a', 'b'", 8, "field IN (…)"),
        ("k = 'it's'", 9, "write a quote inside a string twice"),
        ("{'n': 1}", 1, "as a dict"),
        ("n = 1 + 1", 7, "no arithmetic"),
        ("n = ?", 5, "no parameters"),
        ("k NOT = 'a'", 7, "expected IN, BETWEEN"),
        ("k GLOB a", 8, "a pattern in quotes"),
        ("b MATCH 3", 9, "one string of words"),
        ("n ~ 3", 3, "unexpected '~'; write MATCH"),
        ("n = 'abc", 5, "no closing '"),
        ("`abc = 3", 1, "no closing `"),
        ("`` = 3", 1, "name is empty"),
        ("n = 3abc", 5, "a number is followed by letters"),
        ("n = 1e999", 1, "must be finite"),
        ("n = " + "9" * 5000, 5, "too many digits"),
        ("and = 3", 1, "in backticks"),
        ("a = 1 AND AND b = 1", 11, "expected a field"),
        ("at > DATETIME '2024-13-01'", 6, "is not a date and time such as"),
        ("u = UUID 'x'", 5, "is not a UUID"),
        ("COUNT(t)", 9, "expected a comparison"),
        ("COUNT(t) > 'a'", 1, "compared with an integer"),
        ("COUNT(t) > 1.5", 1, "compared with an integer"),
        ("HAS_ID(-1)", 1, "not in 0"),
        ("GEO_RADIUS(p, 91, 0, 1)", 1, "lat of 'p' must be a number from -90 to 90, not 91"),
        ("GEO_RADIUS(p, 1, 0)", 19, "',' and meters"),
        ("GEO_RADIUS(p, 1, 0, 'a')", 21, "a number for meters"),
        ("GEO_BOX(p, 5, 0, 1, 0)", 1, "must not exceed north"),
        ("\tn =\x01 ~", 5, "unexpected '\\x01'"),
    ],
)
def test_parse_errors_say_where_and_what_was_expected(text, column, message):
    with pytest.raises(FilterError) as error:
        parse(text)
    first, excerpt, caret = str(error.value).split("\n")
    assert first.startswith(f"column {column}: ")
    assert message in first
    assert caret.index("^") == min(column - 1, 61) + 2
    assert excerpt[caret.index("^") :][:1] == text[column - 1 : column].replace("\x01", " ")


def test_errors_of_longer_texts_show_the_line_and_what_is_around():
    with pytest.raises(FilterError, match=r"^line 2, column 9: .*\n    AND b ~ 3\n          \^$"):
        parse("a = 1\n  AND b ~ 3\nAND c = 2")
    with pytest.raises(FilterError) as error:
        parse("a = 1 AND " * 100 + "~" + " OR a = 1" * 100)
    assert max(map(len, str(error.value).split("\n"))) < 140


def test_json_errors_name_the_op_or_key():
    for data, field, message in [
        ({"op": "gte", "field": "n", "value": 1}, "op", "unknown filter op 'gte'; write 'ge'"),
        ({"op": "near", "field": "n", "value": 1}, "op", "unknown filter op 'near'; the ops: in,"),
        ({"field": "n"}, "op", "a filter needs an 'op'"),
        ({"op": ["eq"]}, "op", "unknown filter op"),
        ({"op": "eq", "field": "n", "values": [1]}, "'values'", "'eq' has no key 'values'; it has: field, value"),
        ({"op": "eq", "field": "n"}, "value", "needs the key 'value'"),
        ({"op": "and", "filters": A}, "filters", "must be a list"),
        ({"op": "in", "field": "n", "values": "abc"}, "values", "must be a list"),
        ({"op": "not", "filter": [1]}, "filter", "an object with an 'op'"),
        ({"op": "eq", "field": "n", "value": {"date": "2024-01-01"}}, "value", "a typed value is"),
        ({"op": "eq", "field": "n", "value": {"datetime": "x"}}, "datetime", "is not a datetime"),
        ({"op": "eq", "field": "n", "value": None}, "n", "is_null"),
        ({"op": "eq", "field": 3, "value": 1}, "field", "non-empty string"),
        ({"op": "count", "field": "n", "compare": "x", "value": 1}, "n", "one of eq, ne"),
        ({"op": "match", "field": "n", "mode": "x", "value": "a"}, "n", "one of any, all, phrase"),
    ]:
        with pytest.raises(FilterError) as error:
            from_dict(data)
        assert error.value.field == field
        assert message in str(error.value)


def test_a_filter_has_no_truth_value():
    for use in (
        lambda: A and B,
        lambda: not A,
        lambda: 1 < F("n") < 5,
        lambda: F("n") > 1 & F("m") < 2,
        lambda: (F("n") > 1) & F("m") == 2,
        lambda: F("n") and A,
        lambda: ~F("n"),
        lambda: A & True,
        lambda: {} | A,
        lambda: Not("n = 1"),
        lambda: And((A, None)),
        lambda: bool(F("t").count()),
    ):
        with pytest.raises(FilterError, match="& "):
            use()


def test_builder_refuses_what_cannot_be_meant():
    for use, message in [
        (lambda: F("n").isin("abc"), "needs a list of values"),
        (lambda: F("n").isin(3), "needs a list of values"),
        (lambda: F("n").isin({"a": 1}), "needs a list of values"),
        (lambda: F("n").isin([1, None]), "is_null"),
        (lambda: F("n") > None, "is_null"),
        (lambda: F("n") == [1, 2], "contains_any"),
        (lambda: F("p") == (1.0, 2.0), "geo_radius"),
        (lambda: F("n") == F("m"), "can be compared with a value"),
        (lambda: F("n") == float("nan"), "finite"),
        (lambda: F("n").isin([1.0, float("inf")]), "finite"),
        (lambda: F("n") == object(), "give a string, number"),
        (lambda: F("n") == b"x", "give a string, number"),
        (lambda: F("at") == pandas.NaT, "is_null"),
        (lambda: F("at") == np.datetime64("NaT"), "null"),
        (lambda: F("n") == np.timedelta64(1, "ns"), "give a string, number"),
        (lambda: F("t").count() == 1.0, "integer"),
        (lambda: F("t").count() == True, "integer"),  # noqa: E712
        (lambda: F("k").startswith(3), "needs a string"),
        (lambda: F("b").match_any(None), "null"),
        (lambda: F("p").geo_radius(0, 0, -1), "at least 0"),
        (lambda: F("p").geo_radius(0, 0, 10**400), "64-bit"),
        (lambda: F("p").geo_box(0, -181, 1, 0), "west"),
        (lambda: F.has_id([True]), "has_id"),
        (lambda: F.has_id([""]), "empty string"),
        (lambda: F(""), "non-empty string"),
        (lambda: F(3), "non-empty string"),
        (lambda: Compare("n", "like", 3), "one of eq, ne"),
    ]:
        with pytest.raises(FilterError, match=message):
            use()
    assert issubclass(FilterError, (InvalidArgumentError, ValueError))


def test_equal_values_of_different_types_are_different_filters():
    for one, other in [(1, True), (0, False), (1, 1.0), ("1", 1)]:
        assert (F("x") == one) != (F("x") == other)
        assert F("x").isin([2, one]) != F("x").isin([2, other])
        assert F("x").between(one, 2) != F("x").between(other, 2)
        assert (F("x") == one) & A != (F("x") == other) & A
    assert parse("x = 1") != parse("x = true")
    assert len({F("x") == 1, F("x") == True, F("x") == 1.0, F("x") == 1}) == 3  # noqa: E712
    assert ContainsAny("x", ("a",)) != ContainsAll("x", ("a",)) != In("x", ("a",))


def test_values_come_in_many_types():
    assert (F("n") == np.int64(3)) == (F("n") == 3)
    assert (F("n") == np.float32(0.5)) == (F("n") == np.longdouble(0.5)) == (F("n") == 0.5)
    assert (F("k") == np.str_("a")) == (F("k") == "a")
    assert (F("ok") == np.True_) == (F("ok") == True)  # noqa: E712
    for values in (np.arange(3), range(3), (n for n in range(3)), pandas.Series([0, 1, 2]), [np.int8(0), 1, 2]):
        assert F("n").isin(values) == In("n", (0, 1, 2))
    noon = datetime(2024, 5, 6, 12, tzinfo=UTC)
    for value in (
        noon,
        noon.replace(tzinfo=None),
        noon.astimezone(timezone(timedelta(hours=5))),
        np.datetime64("2024-05-06T12:00:00.000000000"),
        pandas.Timestamp("2024-05-06T12:00Z"),
    ):
        assert (F("at") == value) == Compare("at", "eq", noon)
        assert type((F("at") == value).value) is datetime


def test_filters_are_frozen_and_can_be_pickled_and_copied():
    node = (F("x") == "a") & F("n").isin([1, 2]) | ~F("at").is_null()
    hash(node)
    for other in (pickle.loads(pickle.dumps(node)), copy.deepcopy(node)):
        assert other == node
        assert (other.depth, other.size) == (node.depth, node.size) == (3, 6)
    with pytest.raises(AttributeError):
        node.children = ()
    assert "_hash" not in pickle.dumps(node).decode("latin1")


def test_limits():
    node = A
    for _ in range(MAX_DEPTH - 1):
        node = ~node
    assert node.depth == MAX_DEPTH
    for use in (lambda: ~node, lambda: node & B, lambda: And((node, B)), lambda: Or((node,))):
        with pytest.raises(LimitError, match="100 levels"):
            use()
    for text in ("NOT " * 100_000 + "a = 1", "(" * 100_000 + "a = 1" + ")" * 100_000, "(NOT " * 99 + "(a = 1" + ")" * 100):
        with pytest.raises(LimitError, match=r"column \d+: a filter is at most 100 levels"):
            parse(text)
    assert parse("(" * 99 + "a = 1" + ")" * 99) == A
    data = to_dict(A)
    for _ in range(100_000):
        data = {"op": "not", "filter": data}
    with pytest.raises(LimitError, match="100 levels"):
        from_dict(data)
    for use in (
        lambda: Or([A] * 10_000),
        lambda: from_dict({"op": "or", "filters": [to_dict(A)] * 10_001}),
        lambda: parse(" OR ".join(["a = 1"] * 10_000)),
        lambda: Or((And([A] * 5_000), And([B] * 5_000))),
    ):
        with pytest.raises(LimitError, match=r"at most 10000|most 10,000|conditions"):
            use()
    assert Or([A] * 9_999).size == 10_000
    assert len(F("n").isin(range(1_000_000)).values) == 1_000_000
    for use in (lambda: F("n").isin(range(1_000_001)), lambda: F.has_id(range(1_000_001)), lambda: F("n").contains_all(range(10_001))):
        with pytest.raises(LimitError, match="values"):
            use()


def test_filters_can_be_built_in_a_loop():
    node = A
    for i in range(9_000):
        node = node | (F("n") == i)
    assert (node.depth, node.size) == (2, 9_002)
    with pytest.raises(LimitError):
        node | node


def test_as_filter_takes_every_notation():
    assert as_filter(None) is None
    assert as_filter("a = 1") == as_filter({"op": "eq", "field": "a", "value": 1}) == as_filter(A) == A
    for value in (3, ["a = 1"], F("a"), True):
        with pytest.raises(FilterError, match="filter must be a comparison of F"):
            as_filter(value)
    with pytest.raises(FilterError, match="must be a string"):
        parse(3)
