"""Filters: each test in its three notations, and random ones, select the same points in each place."""

from __future__ import annotations

import datetime
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from vectordb_client.model import filter_extended, filter_nodes
from vectordb_client.model import filter_nodes as nodes
from vectordb_client.model.filter import to_dict

from tests.congruence.filled import EVERY, N, every_point
from tests.support import filter_model
from tests.support.nightly import cases
from vectordb import F

MOMENT = datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC)
FILTERS = [
    F("n") == 5,
    F("n") != 5,
    F("n") < 5,
    F("n") <= 5,
    F("x") > 2.5,
    F("x") >= 2.5,
    F("at") >= MOMENT,
    F("ok") == True,  # noqa: E712
    F("key") == uuid.UUID(int=1005),
    F("lang").isin(["en", "fr"]),
    F("lang").not_in(["en", "fr"]),
    F("n").between(3, 9),
    F("lang").is_null(),
    F("lang").is_not_null(),
    F("tags").contains("a"),
    F("tags").contains_any(["b", "c"]),
    F("tags").contains_all(["a", "b"]),
    F("tags").count() >= 1,
    F("body").match_any("fox lazy"),
    F("body").match_all("fox dog"),
    F("body").match_phrase("lazy dog"),
    F("lang").startswith("e"),
    F("lang").glob("[de]?"),
    F("where").geo_radius(5.0, -10.0, 300_000),
    F("where").geo_box(0, -20, 10, 0),
    F("where").geo_polygon([(0, -20), (10, -20), (10, 0)]),
    F("lang") < "en",
    F("lang").between("de", "en"),
    F("lang").ieq("EN"),
    F("lang").istartswith("E"),
    F("lang").icontains("N"),
    F("body").contains("azy do"),
    F("tags").some_not_in(["a"]),
    F("lang").is_missing(),
    F("page.number") > 5,
    F("parts").any((F("size") == 1) & (F("kind") == "wheel")),
    F.min_should(2, F("n") > 5, F("lang") == "en", F("tags") == "a"),
    F.has_id([0, "id 7", uuid.UUID(int=8)]),
    F.has_vector("far"),
    F.all(),
    nodes.Nothing(),
    (F("n") > 20) & (F("lang") == "en"),
    (F("n") < 5) | (F("lang") == "en"),
    ~(F("lang") == "en"),
]


@pytest.mark.parametrize("node", FILTERS, ids=filter_model.printed)
def test_a_filter_selects_the_same_points_in_every_notation(same, node):
    ids = [point.id for point in same(lambda docs: docs.iterate(filter=node, with_attributes=False))]
    assert (len(ids) < N - 2) or isinstance(node, nodes.All)
    assert ids or isinstance(node, nodes.Nothing)
    for notation in (node, filter_model.printed(node), to_dict(node)):
        assert same(lambda docs, notation=notation: docs.count(notation)) == len(ids)
        hits = same(lambda docs, notation=notation: docs.search({"d": [1] * 8}, filter=notation, limit=N))
        assert {hit.id for hit in hits} == set(ids)


def test_every_kind_of_filter_is_among_them():
    named = vars(filter_nodes) | vars(filter_extended)
    kinds = {cls for cls in named.values() if isinstance(cls, type) and issubclass(cls, nodes.Filter)}
    assert {type(node) for node in FILTERS} == {cls for cls in kinds if not cls.__subclasses__()}


ROWS = [
    {"id": point["id"], "vectors": set(point["vectors"]), **dict.fromkeys(EVERY.attributes)}
    | {name: EVERY.attributes[name].coerce(name, value) for name, value in point["attributes"].items()}
    for point in every_point()
]


@settings(max_examples=cases(15, 60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(node=filter_model.filters)
def test_random_filters(same, node):
    ids = {point.id for point in same(lambda docs: docs.iterate(filter=node), "every")}
    assert ids == {row["id"] for row in ROWS if filter_model.holds(node, row)}
