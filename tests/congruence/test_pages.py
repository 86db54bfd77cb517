"""Pages of searches and of ordered scrolls: together they are one long ranking, whatever is written between them."""

from __future__ import annotations

import base64

import numpy as np
import pytest

import vectordb
from tests.congruence.filled import N
from vectordb import Dense, Int, InvalidArgumentError, Linear, PreconditionError, Prefetch, Schema, Sparse, Text

D = np.arange(1.0, 9.0)
QUERIES = {
    "dense": {"vectors": {"d": D}},
    "l2": {"vectors": {"far": [0.5, -1, 0, 2]}},
    "float16": {"vectors": {"half": np.ones(4, np.float32)}},
    "sparse": {"vectors": {"s": {3: 1.0, 7: 0.5}}},
    "bm25": {"text": {"words": "quick dog"}},
    "multi": {"vectors": {"m": np.ones((2, 4))}},
    "filtered": {"vectors": {"d": D}, "filter": "n > 20"},
    "few": {"vectors": {"d": D}, "filter": "n IN (30, 31, 33)"},
    "linear": {"vectors": {"d": D, "far": [0.5, -1, 0, 2]}, "fusion": "linear"},
    "rrf": {"vectors": {"d": D, "s": {3: 1.0, 7: 0.5}}, "candidates": N},
    "text and vector": {"text": "dog", "vectors": {"d": D}, "fusion": Linear(missing="renormalise")},
    "staged": {"vectors": {"d": D}, "prefetch": Prefetch({"s": {1: 1.0, 2: 1.0, 3: 0.5}}, limit=40)},
    "bounded": {"vectors": {"d": D}, "min_score": 0.1},
}


def pages(docs, limit, between=lambda: None, **search):
    """All hits, page by page. between: runs after each page."""
    hits = docs.search(limit=limit, **search)
    found = list(hits)
    while hits.next is not None:
        between()
        hits = docs.search(limit=limit, cursor=hits.next, **search)
        found += hits
    return found


@pytest.mark.parametrize("options", [{}, {"exact": True}], ids=str)
@pytest.mark.parametrize("query", QUERIES)
def test_pages_are_one_ranking(same, query, options):
    search = QUERIES[query] | options
    whole = list(same(lambda docs: docs.search(limit=N, **search)))
    assert same(lambda docs: pages(docs, 23, **search)) == whole
    assert list(same(lambda docs: docs.search(limit=9, offset=13, **search))) == whole[13:22]


def test_pages_of_repeated_searches(same):
    """The third time, a search of one dense field is done directly."""

    def repeated(docs):
        for _ in range(3):
            first = docs.search({"d": D}, limit=6)
        return first, docs.search({"d": D}, limit=6, cursor=first.next)

    first, second = same(repeated)
    assert list(first) + list(second) == list(same(lambda docs: docs.search({"d": D}, limit=12)))


def test_a_cursor_after_an_offset(same):
    def call(docs):
        first = docs.search({"d": D}, limit=5, offset=10)
        return docs.search({"d": D}, limit=8, cursor=first.next)  # another limit

    assert list(same(call)) == list(same(lambda docs: docs.search({"d": D}, limit=23)))[15:]


def test_the_last_page_has_no_next(same):
    hits = same(lambda docs: docs.search({"d": D}, limit=N))
    assert len(hits) < N and hits.next is None
    assert same(lambda docs: [hits.next for hits in docs.search_batch({"d": [D, D]}, limit=3)]) == [None, None]
    assert same(lambda docs: docs.search({"d": D}, limit="auto").next) is None


# ---- Writes between pages ----

ROWS = np.random.default_rng(3).standard_normal((130, 8)).astype(np.float32)
TEXTS = [f"{'red ' * (i % 3 + 1)}{'green' if i % 4 else 'blue'} {'long ' * (i % 7)}" for i in range(130)]


@pytest.fixture
def embedded(directory):
    with vectordb.open(directory, durability="batched", maintenance=False) as opened:  # no compaction between pages
        yield opened


@pytest.fixture
def docs(database, embedded):
    fields = {"d": Dense(8), "l": Dense(8, "l2"), "w": Sparse("idf", encoder="bm25", source="body"), "s": Sparse("idf")}
    database.create_collection("docs", Schema(fields, {"n": Int(), "body": Text()}))
    docs = database.collection("docs")
    write(docs, range(50))
    embedded.collection("docs").optimize()  # an index, and a tail
    write(docs, range(50, 100))
    docs.delete([4, 60])
    return docs


def write(docs, ids, shift=0):
    rows = ROWS[[(i + shift) % 130 for i in ids]]
    sparse = [{1: 1.0 + (i + shift) % 5, 2 + i % 3: 1.0} for i in ids]
    attributes = {"n": [(i + shift) % 10 if i % 9 else None for i in ids], "body": [TEXTS[(i + shift) % 130] for i in ids]}
    docs.upsert(ids=list(ids), vectors={"d": rows, "l": rows, "s": sparse}, attributes=attributes)


SEARCHES = {
    "dense": {"vectors": {"d": ROWS[0]}},
    "l2": {"vectors": {"l": ROWS[0]}, "filter": "n < 8"},
    "bm25": {"text": {"w": "red blue long"}},
    "idf": {"vectors": {"s": {1: 1.0, 3: 2.0}}, "filter": "n < 8"},
    "linear": {"vectors": {"d": ROWS[0], "s": {1: 1.0, 3: 2.0}}, "fusion": "linear"},
    "rrf": {"vectors": {"d": ROWS[0], "l": ROWS[1]}, "text": {"w": "red blue"}, "candidates": 130},
    "calibrated": {"vectors": {"d": ROWS[0], "l": ROWS[1]}, "candidates": 130, "score": "calibrated"},
    "staged": {"vectors": {"d": ROWS[0]}, "prefetch": Prefetch({"l": ROWS[1]}, limit=70)},
    "ordered": {"order_by": ["-n"]},
}


@pytest.mark.parametrize("search", SEARCHES)
def test_pages_neither_repeat_nor_skip_while_data_changes(docs, search):
    search = SEARCHES[search]
    exact = {} if "order_by" in search else {"exact": True}
    whole = list(docs.search(limit=100, **search, **exact))
    assert len(whole) > 30
    changes = iter([
        lambda: write(docs, range(100, 115)),  # new points
        lambda: write(docs, range(0, 100, 3), shift=1),  # replaced ones
        lambda: docs.update(ids=[7, 8], attributes={"n": [99, None]}),
        lambda: write(docs, [4, 60]),  # points that were deleted before
    ])  # fmt: skip
    found = pages(docs, 13, lambda: next(changes, lambda: None)(), **search, **exact)
    assert found == whole  # as they were at the first page
    approximate = pages(docs, 13, lambda: next(changes, lambda: None)(), **search)
    assert {hit.id for hit in approximate} == {hit.id for hit in docs.search(limit=130, **search, **exact)}
    assert len(approximate) == len({hit.id for hit in approximate})


@pytest.mark.parametrize("search", SEARCHES)
def test_points_that_were_deleted_are_not_shown(docs, search):
    search = SEARCHES[search]
    whole = [hit.id for hit in docs.search(limit=100, **search)]
    gone = whole[9:60:4]

    def delete_some():
        if gone:
            docs.delete(gone[:5])
            del gone[:5]

    first = docs.search(limit=7, **search)
    deleted = set(gone)
    rest, following = [], first.next
    while following is not None:
        delete_some()
        hits = docs.search(limit=7, cursor=following, **search)
        rest += [hit.id for hit in hits]
        following = hits.next
    left = [i for i in rest if i not in deleted]
    assert left == [i for i in whole[7:] if i not in deleted]
    assert len(rest) == len(set(rest)) and not set(rest) & {hit.id for hit in first}


def test_a_point_that_was_replaced_and_then_deleted_is_not_shown(docs):
    search = SEARCHES["dense"]
    whole = [hit.id for hit in docs.search(limit=100, **search)]
    first = docs.search(limit=5, **search)
    write(docs, whole[5:8], shift=2)
    docs.delete(whole[6:7])
    second = docs.search(limit=5, cursor=first.next, **search)
    assert second.ids.tolist() == [whole[5], *whole[7:11]]


def test_any_process_continues_a_page(docs, embedded, directory):
    first = docs.search({"d": ROWS[0]}, limit=7)
    write(docs, range(0, 100, 2), shift=1)
    expected = docs.search({"d": ROWS[0]}, limit=7, cursor=first.next)
    with vectordb.open(directory, maintenance=False) as other:
        assert other.collection("docs").search({"d": ROWS[0]}, limit=7, cursor=first.next) == expected


def test_pages_after_a_compaction(docs, embedded):
    search = SEARCHES["dense"]
    whole = [hit.id for hit in docs.search(limit=100, exact=True, **search)]
    first = docs.search(limit=7, **search)
    docs.delete(whole[3:12])
    embedded.collection("docs").optimize()
    second = docs.search(limit=7, cursor=first.next, **search)
    assert second.ids.tolist() == whole[12:19]  # deleted rows are not needed
    text = docs.search(limit=7, **SEARCHES["bm25"])
    write(docs, whole[40:60], shift=1)
    embedded.collection("docs").optimize()
    for following, other in ((second.next, search), (text.next, SEARCHES["bm25"])):
        with pytest.raises(PreconditionError, match="were removed by a compaction; start again without a cursor"):
            docs.search(limit=7, cursor=following, **other)


# ---- Order ----


def in_order(points, names):
    """The brute-force order of points: null and NaN last, equal ones as they are."""
    for name in reversed(names):
        field = name.removeprefix("-")
        value = [point.attributes.get(field) for point in points]
        some = [p for p, v in zip(points, value, strict=True) if v is not None and v == v]
        none = [p for p, v in zip(points, value, strict=True) if v is None or v != v]
        some.sort(key=lambda p: p.attributes[field], reverse=name[0] == "-")
        points = some + none
    return points


ORDERS = [["n"], ["-n"], ["lang", "-n"], ["-lang", "x"], ["ok", "-at"], ["-x", "lang"], ["key"], ["-ok", "-lang", "n"]]


@pytest.mark.parametrize("names", ORDERS, ids=",".join)
@pytest.mark.parametrize("condition", [None, "n > 20"])
def test_points_in_the_order_of_attributes(same, filled, names, condition):
    everything = list(filled["embedded"].collection("docs").iterate(filter=condition))
    rows = {point.id: i for i, point in enumerate(everything)}
    ordered = same(lambda docs: docs.search(order_by=names, filter=condition, limit=N))
    assert [hit.id for hit in ordered] == [p.id for p in in_order(sorted(everything, key=lambda p: age(p.id)), names)]
    assert all(hit.score == 0.0 and not hit.arms for hit in ordered)
    assert same(lambda docs: pages(docs, 19, order_by=names, filter=condition)) == list(ordered)

    def scrolled(docs):
        page = docs.scroll(order_by=names, filter=condition, limit=31)
        points = list(page)
        while page.cursor is not None:
            page = docs.scroll(order_by=names, filter=condition, limit=31, cursor=page.cursor)
            points += page
        return points

    points = same(scrolled)
    assert [point.id for point in points] == [hit.id for hit in ordered]
    assert sorted(points, key=lambda p: rows[p.id]) == everything


def age(value):
    """The order in which ``filled`` writes its points."""
    return value if isinstance(value, int) else int(value.removeprefix("id ")) if isinstance(value, str) else value.int


def test_an_ordered_search_in_detail(same):
    hits = same(lambda docs: docs.search(order_by="-n", limit=3, with_vectors=["d"], with_attributes=["n"], explain=True, filter="n > 2"))
    assert [hit.attributes["n"] for hit in hits] == sorted([hit.attributes["n"] for hit in hits], reverse=True)
    assert hits[0].vectors["d"].shape == (8,) and hits.plan["request"] == {"filter": "n >= 3", "limit": 3, "order_by": ["-n"]} | {
        "with_attributes": ["n"], "with_vectors": ["d"],
    }  # fmt: skip
    assert hits.plan["exact"] is True and "order_by=['-n']" in str(hits.plan)


def test_all_points_are_read_in_an_order(docs):
    for order in (["-n"], "n", None):
        expected, cursor = [], None
        while True:
            page = docs.scroll(filter="n > 1", order_by=order, limit=50, cursor=cursor)
            expected, cursor = [*expected, *page.points], page.cursor
            if cursor is None:
                break
        assert list(docs.iterate(filter="n > 1", order_by=order, page=7)) == expected
    with pytest.raises(vectordb.SchemaError):
        list(docs.iterate(order_by="nothing"))


def test_an_ordered_scroll_while_data_changes(docs):
    whole = [point.id for point in docs.scroll(order_by="n", limit=200)]
    page = docs.scroll(order_by="n", limit=30)
    found = [point.id for point in page]
    write(docs, range(0, 130, 2), shift=5)
    docs.delete([whole[40]])
    while page.cursor is not None:
        page = docs.scroll(order_by="n", limit=30, cursor=page.cursor)
        found += [point.id for point in page]
    assert found == [i for i in whole if i != whole[40]]


# ---- Errors ----

WRONG = [
    ({"offset": -1}, "offset must be an integer from 0 to 99999, not -1"),
    ({"offset": 1.5}, "offset must be an integer"),
    ({"offset": 99_995, "limit": 10}, r"offset \+ limit must be at most 100000, not 100005; read later hits with hits.next"),
    ({"cursor": 7}, "cursor must be hits.next of an earlier search, or None, not 7"),
    ({"cursor": "abc"}, "cursor must be hits.next of an earlier search"),
    ({"cursor": "Ä"}, "cursor must be hits.next of an earlier search"),
    ({"cursor": base64.urlsafe_b64encode(b"\x01" + bytes(60)).decode()}, "cursor must be hits.next of an earlier search"),
    ({"cursor": "AQ", "offset": 2}, "cursor and offset can't be given together: a cursor continues where the page before ended"),
    ({"limit": "auto", "offset": 2}, "limit='auto' and offset can't be given together: pages need a number"),
    ({"limit": "all"}, "limit must be an integer from 1 to 100000, or 'auto', not 'all'"),
    ({"order_by": ["n"], "score": "calibrated"}, "order_by and score can't be given together: an ordered search has no scores"),
    ({"order_by": ["n"], "fusion": "linear"}, "order_by and fusion can't be given together: an ordered search has no scores to fuse"),
    ({"order_by": ["n"], "recall": 0.9}, "order_by and recall can't be given together: an ordered search is exact"),
    ({"order_by": ["n"], "offset": 3}, "order_by and offset can't be given together: pass hits.next as cursor"),
    ({"order_by": ["n"]}, "order_by lists points without a query: leave vectors and text out"),
    ({"order_by": []}, r"order_by must be a list of attributes such as \['-date', 'price'\], not \[\]"),
    ({"order_by": ["n", "-n"]}, "order_by names 'n' twice"),
    ({"order_by": ["-"]}, "order_by must name attributes"),
    ({"order_by": 3}, "order_by must be a list of attributes"),
]


@pytest.mark.parametrize(("options", "text"), WRONG, ids=str)
def test_wrong_options_are_refused(same, options, text):
    with pytest.raises(InvalidArgumentError, match=text):
        same(lambda docs: docs.search({"d": D}, **options))


def test_attributes_without_order_are_refused(same):
    for name, text in (
        ("no", "order_by: no attribute 'no'; the attributes are: lang"),
        ("tags", "order_by: attribute 'tags' is an array of keyword values, which has no order; attributes with one are: lang"),
        ("body", "order_by: attribute 'body' is text, which has no order"),
        ("where", "order_by: attribute 'where' is geo, which has no order"),
    ):
        for call in (lambda docs, n=name: docs.search(order_by=n), lambda docs, n=name: docs.scroll(order_by=["-" + n])):
            with pytest.raises(vectordb.SchemaError, match=text):
                same(call)


def test_cursors_of_other_searches_are_refused(same, filled):
    docs = filled["embedded"].collection("docs")
    following = docs.search({"d": D}, limit=5).next
    for other in ({"vectors": {"d": D + 1}}, {"vectors": {"d": D}, "filter": "n > 3"}, {"vectors": {"far": [1, 2, 3, 4]}}):
        with pytest.raises(InvalidArgumentError, match="cursor is of another search: give the query, the filter and the options"):
            same(lambda docs, o=other: docs.search(cursor=following, **o))
    with pytest.raises(InvalidArgumentError, match="cursor is of another collection"):
        same(lambda docs: docs.search({"d": D}, cursor=following), "indexed")
    for call in (
        lambda docs: docs.search_batch({"d": [D]}, cursor=following),
        lambda docs: docs.prepare(cursor=following),
        lambda docs: docs.search_batch({"d": [D]}, order_by=["n"]),
        lambda docs: docs.prepare(order_by=["n"]),
    ):
        with pytest.raises(InvalidArgumentError, match="call search, not search_batch or prepare"):
            same(call)
    ordered, plain = docs.scroll(order_by="n", limit=3).cursor, docs.scroll(limit=3).cursor
    for call in (lambda docs: docs.scroll(cursor=ordered), lambda docs: docs.scroll(cursor=plain, order_by="n")):
        with pytest.raises(InvalidArgumentError, match="cursor must be"):
            same(call)
    with pytest.raises(InvalidArgumentError, match="cursor is of another search"):
        same(lambda docs: docs.scroll(cursor=ordered, order_by="-n"))
