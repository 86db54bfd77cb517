"""Filters as text for logs: with their values, or the shape without values."""

from __future__ import annotations

import datetime
import uuid

import pytest
from vectordb_client.model.schema import Dense

from vectordb import Bool, Datetime, F, Float, Geo, Int, Keyword, Schema, Text, Uuid
from vectordb.filters.canonical import canonical
from vectordb.filters.text import SHOWN_CHARACTERS, to_string

SCHEMA = Schema(
    {"v": Dense(2)},
    {
        "n": Int(),
        "f": Float(),
        "tags": Keyword(array=True),
        "k": Keyword(),
        "body": Text(),
        "at": Datetime(),
        "b": Bool(),
        "u": Uuid(),
        "g": Geo(),
    },
)
CASES = [
    (F("n") > 41, "n >= ?", "n >= 42"),
    (F("n").isin([71, 83, 97]), "n in (3 values)", "n in (71, 83, 97)"),
    (F("f").between(1.25, 2.75), "f between ? and ?", "f between 1.25 and 2.75"),
    (F("k") == "marker", "k in (1 value)", "k in ('marker')"),
    (F("k").startswith("marker"), "k startswith ?", "k startswith 'marker'"),
    (F("k").glob("m*rker?"), "k glob ?", "k glob 'm*rker?'"),
    (F("body").match_phrase("marker phrase"), "body match phrase (2 words)", "body match phrase ('marker', 'phrase')"),
    (F("tags").count() > 7, "count(tags) >= ?", "count(tags) >= 8"),
    (F.has_id([71, "marker"]), "has_id (2 ids)", None),
    (F.has_vector("v"), "has_vector(v)", "has_vector(v)"),
    (F("g").geo_radius(71.5, 8.25, 97.0), "g within radius (?)", "g within radius (71.5, 8.25, 97.0)"),
    (F("g").geo_box(1.5, 2.5, 3.5, 4.5), "g within box (?)", "g within box (1.5, 2.5, 3.5, 4.5)"),
    ((F("n") > 41) & (F("k") == "marker"), "k in (1 value) and n >= ?", None),
    ((F("n") > 41) | ((F("k") == "marker") & (F("f") > 0.5)), None, None),
    (~F("tags").contains("marker"), "not (tags in (1 value))", None),
    (F("body").is_null(), "body is null", "body is null"),
    (F("n").isin([1]) & F("n").isin([2]), "nothing", "nothing"),
    (F("n") >= -(2**63), None, None),
    (F("at") > datetime.datetime(2071, 8, 3), "at >= ?", None),
    (F("u") == uuid.UUID(int=7183), "u in (1 value)", None),
]


@pytest.mark.parametrize(("given", "shape", "values"), CASES)
def test_a_filter_is_told_with_or_without_its_values(given, shape, values):
    node = canonical(given, SCHEMA)
    assert shape is None or to_string(node) == shape
    assert values is None or to_string(node, True) == values
    for secret in ("marker", "m*rker", "71", "83", "97", "41", "42", "0.5", "1.25", "2.75", "8.25"):
        assert secret not in to_string(node)


def test_and_and_or_keep_their_brackets_and_a_long_one_is_cut():
    node = canonical((F("n") > 1) & ((F("k") == "a") | (F("f") > 0.5)), SCHEMA)
    assert sorted(to_string(node).replace("(1 value)", "()").split(" and ")) == ["(k in () or f >= ?)", "n >= ?"]
    many = canonical(F("n").isin(range(0, 1000, 2)), SCHEMA)
    assert to_string(many) == "n in (500 values)" and to_string(many, True).endswith("18, …)")
    long = canonical(F("k").isin(["x" * 400 + str(i) for i in range(20)]), SCHEMA)
    assert len(to_string(long, True)) == SHOWN_CHARACTERS
