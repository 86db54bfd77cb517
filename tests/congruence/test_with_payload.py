"""``with_payload``: the payload, a part of it or none, whatever is selected of the attributes."""

from __future__ import annotations

import pytest

from vectordb import InvalidArgumentError

PART = ["page.number", "parts.size"]
QUERY = {"d": [1] * 8}


def part_of(payload):
    """What PART selects, worked out in another way."""
    if payload is None or "page" not in payload:
        return None
    sizes = [{"size": one["size"]} for one in payload["parts"]]
    return {"page": {"number": payload["page"]["number"]}, **({"parts": sizes} if sizes else {})}


def test_a_part_of_the_payload_keeps_its_structure(same):
    whole = {point.id: point for point in same(lambda docs: docs.iterate())}
    some = [1, "id 7", 9, "nobody"]
    for points in (
        same(lambda docs: docs.iterate(with_payload=PART)),
        same(lambda docs: list(docs.scroll(limit=20, with_payload=PART))),
        same(lambda docs: [point for point in docs.get(some, with_payload=PART) if point]),
        same(lambda docs: docs.search(QUERY, limit=20, with_payload=PART)),
        same(lambda docs: docs.search_batch({"d": [[1] * 8]}, limit=20, with_payload=PART)[0]),
        same(lambda docs: docs.prepare(limit=20, with_payload=PART)(QUERY)),
    ):
        assert len(points)
        for point in points:
            assert point.attributes == whole[point.id].attributes
            assert point.payload == part_of(whole[point.id].payload)


@pytest.mark.parametrize(
    ("attributes", "payload"), [(True, False), (False, True), (["n"], None), (False, None), (["n"], []), (False, PART)]
)
def test_it_is_apart_from_attributes(same, attributes, payload):
    whole = {point.id: point for point in same(lambda docs: docs.iterate())}
    selected = {"with_attributes": attributes, "with_payload": payload}
    for points in (
        same(lambda docs: docs.iterate(**selected)),
        same(lambda docs: docs.search(QUERY, limit=12, **selected)),
        same(lambda docs: [docs.search(QUERY, limit=12, **selected) for _ in range(4)][-1]),
        same(lambda docs: docs.search(QUERY, limit=12, filter="n > 5", explain=True, **selected)),
    ):
        for point in points:
            names = whole[point.id].attributes if attributes is True else attributes or ()
            assert point.attributes == {name: whole[point.id].attributes[name] for name in names}
            stored = whole[point.id].payload
            wanted = attributes is not False if payload is None else payload
            assert point.payload == (part_of(stored) if wanted == PART else stored if wanted else None)


def test_a_plan_shows_it(same):
    plan = same(lambda docs: docs.search(QUERY, with_payload=PART, explain=True).plan["request"])
    assert plan == {"with_payload": PART}


@pytest.mark.parametrize(
    ("wrong", "text"), [("page", "a list of paths such as"), (3, "a list of paths"), ([1], "a list of paths"), ([""], "empty path")]
)
def test_wrong_selections_are_refused(same, wrong, text):
    def refused(call):
        with pytest.raises(InvalidArgumentError, match=text) as error:
            call()
        return error.value.field

    for read in (
        lambda docs: docs.get(1, with_payload=wrong),
        lambda docs: list(docs.scroll(with_payload=wrong)),
        lambda docs: docs.search(QUERY, with_payload=wrong),
    ):
        assert same(lambda docs, read=read: refused(lambda: read(docs))) == "with_payload"
