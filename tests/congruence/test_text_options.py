"""Fuzzy words and highlights beside pages, groups, named arms and filters of single queries."""

from __future__ import annotations

import random

import pytest

from vectordb import Arm, Dense, F, FilterError, If, InvalidArgumentError, Keyword, Prefetch, Schema, Sparse, Text

CHANCE = random.Random(3)
SOME = ["connects", "harbor", "sea", "ship", "quay"]
BODIES = [" ".join(CHANCE.choices(SOME, k=CHANCE.randrange(3, 9))) for _ in range(30)]
QUERY = "conect habror"  # of "connects" and "harbor", two letters and one swap away


@pytest.fixture
def docs(database):
    schema = Schema(
        {"w": Sparse(encoder="bm25", source="body"), "v": Dense(2)},
        {"body": Text(), "kind": Keyword()},
    )
    docs = database.create_collection("docs", schema)
    docs.upsert(
        ids=list(range(len(BODIES))),
        vectors={"v": [[1.0, i] for i in range(len(BODIES))]},
        attributes={"body": BODIES, "kind": ["even" if i % 2 == 0 else "odd" for i in range(len(BODIES))]},
        payload=[{"title": f"ship {i}"} for i in range(len(BODIES))],
    )
    return docs


def places(body, *wanted):
    """Where words are, in a text in which one space separates words."""
    found, at = [], 0
    for word in body.split(" "):
        if word in wanted:
            found.append((at, at + len(word)))
        at += len(word) + 1
    return found


@pytest.mark.parametrize("exact", [False, True])
def test_pages_of_fuzzy_words_go_on_as_they_began_while_nearer_words_are_written(docs, exact):
    options = {"text": QUERY, "fuzzy": 2, "exact": exact}
    whole = [(hit.id, hit.score) for hit in docs.search(limit=30, **options)]
    page = docs.search(limit=5, **options)
    read = [(hit.id, hit.score) for hit in page]
    for later in range(100, 110):  # "connect" has the stem of "connects" and is nearer to the query
        docs.upsert(ids=[later], vectors={"v": [[0.0, 1.0]]}, attributes={"body": ["connect harbor habro"], "kind": ["new"]})
        if page.next is None:
            break
        page = docs.search(limit=5, cursor=page.next, **options)
        read += [(hit.id, hit.score) for hit in page]
    assert [each for each, _ in read] == [each for each, _ in whole]
    assert [score for _, score in read] == pytest.approx([score for _, score in whole])


def test_pages_of_patterns_go_on_as_they_began(docs):
    whole = list(docs.search(text="h* s*", wildcards=True, limit=30).ids)
    page = docs.search(text="h* s*", wildcards=True, limit=4)
    read = list(page.ids)
    docs.upsert(ids=[100], vectors={"v": [[0.0, 1.0]]}, attributes={"body": ["harbors ships seas"]})
    while page.next is not None:
        page = docs.search(text="h* s*", wildcards=True, limit=4, cursor=page.next)
        read += list(page.ids)
    assert read == whole


def test_a_cursor_of_fuzzy_words_is_not_one_of_exact_words_but_highlights_may_come_and_go(docs):
    page = docs.search(text=QUERY, fuzzy=2, limit=3)
    for other in ({}, {"fuzzy": 1}, {"fuzzy": 2, "wildcards": True}):
        with pytest.raises(InvalidArgumentError, match="cursor is of another search"):
            docs.search(text=QUERY, limit=3, cursor=page.next, **other)
    later = docs.search(text=QUERY, fuzzy=2, limit=3, cursor=page.next, highlight=["body"])
    plain = docs.search(text=QUERY, fuzzy=2, limit=3, cursor=page.next, with_payload=False)
    assert list(later.ids) == list(plain.ids) and not set(later.ids) & set(page.ids)
    assert [hit.highlights for hit in later] == [{"body": places(BODIES[hit.id], "connects", "harbor")} for hit in later]


def test_named_arms_mark_the_words_of_their_own_texts(docs):
    hits = docs.search({"sea": ("w", "sea"), "harbor": Arm("w", "habror", filter=F("kind") == "odd")}, fuzzy=1, highlight="body", limit=30)
    assert len(hits)
    for hit in hits:
        assert hit.highlights == {"body": places(BODIES[hit.id], "sea", "harbor")}


def test_each_query_of_a_batch_with_filters_marks_its_own_words(docs):
    filters = [F("kind") == "even", F("kind") == "odd", F("kind") == "even", None]
    texts = ["sea", "harbor", "quay", "ship"]
    answers = docs.search_batch(text=texts, filter=filters, highlight=["body"], limit=30, with_attributes=False)
    for hits, text, kind in zip(answers, texts, ("even", "odd", "even", None), strict=True):
        assert {hit.id for hit in hits} == {i for i, body in enumerate(BODIES) if text in body and kind != ("even", "odd")[1 - i % 2]}
        assert all(hit.highlights == {"body": places(BODIES[hit.id], text)} and not hit.attributes for hit in hits)


@pytest.mark.parametrize("options", [{}, {"with_attributes": False}, {"with_attributes": False, "with_payload": True}, {"explain": True}])
def test_groups_and_boosted_stages_have_highlights(docs, options):
    for hits in (
        docs.search(text="sea ship", group_by="kind", group_size=3, groups=2, highlight=["body"], **options),
        docs.search({"v": [1.0, 1.0]}, prefetch=Prefetch(text="sea ship", limit=20), highlight=["body"], **options),
        docs.search(text="sea ship", boost=If(F("kind") == "odd", 2), highlight=["body"], **options),
    ):
        assert all(hit.highlights == {"body": places(BODIES[hit.id], "sea", "ship")} for hit in hits)


@pytest.mark.parametrize("option", [{"fuzzy": 1}, {"wildcards": True}, {"highlight": ["body"]}])
def test_an_ordered_search_has_no_words(docs, option):
    (name,) = option
    with pytest.raises(InvalidArgumentError, match=f"order_by and {name} can't be given together"):
        docs.search(order_by="kind", **option)


def test_fuzzy_words_of_the_payload_are_refused(docs):
    with pytest.raises(FilterError, match="'title' is a path of the payload, whose words are in no index; declare it"):
        docs.count(filter=F("title").match_any("shib", fuzzy=1))
    assert docs.count(filter=F("title").match_any("ship 3")) == 30
