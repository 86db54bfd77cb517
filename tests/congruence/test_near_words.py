"""Fuzzy words and wildcards in filters and BM25 queries: by brute force over all words of all texts."""

from __future__ import annotations

import fnmatch
import math
import random
from collections import Counter
from functools import cache

import pytest

import vectordb
from vectordb import Analyzer, Dense, F, FilterError, InvalidArgumentError, Keyword, LimitError, Schema, Sparse, Text
from vectordb.common import near
from vectordb.common.analyze import analysis
from vectordb.common.near import NearWord, Vocabulary, near_words
from vectordb.common.tokenize import words

CHANCE = random.Random(5)
LETTERS = "abcé"
WORDS = sorted({"".join(CHANCE.choice(LETTERS) for _ in range(CHANCE.randrange(1, 9))) for _ in range(150)})
TEXTS = {row: " ".join(CHANCE.choices(WORDS, k=12)) for row in range(40)}
TEXTS[40] = ""


def distance(one, other):
    """The optimal string alignment distance, cell by cell."""
    table = [[i + j if not i or not j else 0 for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (one[i - 1] != other[j - 1]))
            if i > 1 and j > 1 and one[i - 1] == other[j - 2] and one[i - 2] == other[j - 1]:
                table[i][j] = min(table[i][j], table[i - 2][j - 2] + 1)
    return table[-1][-1]


@cache
def stands_for(query, fuzzy, wildcards):
    return list(_stands_for(query, fuzzy, wildcards))


def _stands_for(query, fuzzy, wildcards):
    """For each word of a query, word of a text → distance, of all words of texts."""
    vocabulary = {word for text in TEXTS.values() for word in words(text)}
    for word in query.split() if wildcards else words(query):
        if wildcards and ("*" in word or "?" in word):
            yield {each: 0 for each in vocabulary if fnmatch.fnmatchcase(each, word)}
        else:
            most = min(fuzzy, 0 if len(word) < 3 else 1 if len(word) < 6 else 2)
            yield {each: far for each in vocabulary if (far := distance(word, each)) <= most}


@pytest.fixture
def docs(database):
    schema = Schema(
        {"w": Sparse(encoder="bm25(language=none)", source="body"), "v": Dense(2), "t": Sparse(encoder="trigram", source="body")},
        {"body": Text(), "tags": Text(array=True)},
    )
    docs = database.create_collection("docs", schema)
    some = [row for row in TEXTS if row % 2]
    rest = [row for row in TEXTS if not row % 2]
    for rows in (some, rest):  # the words are read again when there are more
        docs.upsert(
            ids=rows,
            attributes={"body": [TEXTS[row] for row in rows], "tags": [TEXTS[row].split() for row in rows]},
            vectors={"v": [[1.0, row] for row in rows]},
        )
        docs.count(F("body").match_any("abc", fuzzy=1))
    return docs


QUERIES = [
    ("abcab", 1, False),
    ("abcabc", 2, False),
    ("ab bca caab", 1, False),
    ("zz ccé", 2, False),
    ("abc*", 0, True),
    ("*b?c a", 0, True),
    ("é*a abcb", 2, True),
    (" ".join(WORDS[::30]), 2, False),
]


@pytest.mark.parametrize(("query", "fuzzy", "wildcards"), QUERIES)
def test_filters_match_as_brute_force_does(docs, query, fuzzy, wildcards):
    groups = stands_for(query, fuzzy, wildcards)
    has = {row: [any(word in group for word in words(text)) for group in groups] for row, text in TEXTS.items()}
    options = {"fuzzy": fuzzy, "wildcards": wildcards}
    notation = f"FUZZY {fuzzy} " * bool(fuzzy) + "WILDCARDS " * wildcards
    for mode, holds in (("any", any), ("all", all)):
        expected = [row for row, found in has.items() if holds(found)]
        condition = getattr(F("body"), f"match_{mode}")(query, **options)
        as_json = {"op": "match_near", "field": "body", "mode": mode, "value": query, **options}
        for given in (condition, f"body MATCH {mode} {notation}'{query}'", as_json):
            assert [point.id for point in docs.iterate(filter=given)] == expected
        assert [point.id for point in docs.iterate(filter=~condition)] == [row for row in TEXTS if row not in expected]
    tagged = F("tags").match_any(query, **options)
    assert [point.id for point in docs.iterate(filter=tagged)] == [row for row, found in has.items() if any(found)]


@pytest.mark.parametrize(("query", "fuzzy", "wildcards"), QUERIES)
def test_scores_are_those_of_brute_force(docs, query, fuzzy, wildcards):
    docs.delete(ids=[3])
    live = {row: Counter(words(text)) for row, text in TEXTS.items() if row != 3}
    mean = sum(count.total() for count in live.values()) / len(live)
    expected = {}
    for row, count in live.items():
        score = 0.0
        for group in stands_for(query, fuzzy, wildcards):
            for word, far in group.items():
                if count[word]:
                    df = sum(word in other for other in live.values())
                    idf = math.log(1 + (len(live) - df + 0.5) / (df + 0.5))
                    saturated = count[word] * 2.2 / (count[word] + 1.2 * (0.25 + 0.75 * count.total() / mean))
                    score += idf * saturated / (1 + far)
        if score:
            expected[row] = score
    options = {"fuzzy": fuzzy, "wildcards": wildcards, "limit": 100}
    hits = docs.search(text={"w": query}, **options)
    assert dict(zip(hits.ids.tolist(), hits.scores.tolist(), strict=True)) == pytest.approx(expected, rel=1e-4)
    batch = docs.search_batch(text={"w": ["abc", query]}, **options)
    assert batch[1] == hits and docs.prepare(**options)(text={"w": query}) == hits
    condition = F("body").match_any(query, fuzzy=fuzzy, wildcards=wildcards)
    assert docs.search(text={"w": query}, filter=condition, **options) == hits
    assert not len(docs.search(text={"w": query}, filter=~condition, **options))


def test_the_whole_dictionary_is_searched_as_word_by_word():
    vocabulary = Vocabulary(WORDS)
    for word in [*WORDS[::7], "zzz", "abcabcabc", "é"]:
        for most in (0, 1, 2):
            assert vocabulary.near(word, most) == [(each, far) for each in WORDS if (far := distance(word, each)) <= most]
    assert Vocabulary([]).near("abc", 2) == [] == Vocabulary([]).matching("a*")
    assert vocabulary.find(NearWord(("abc", "ab"), 1, False)) == sorted(
        (each, far) for each in WORDS if (far := min(distance("abc", each), distance("ab", each))) <= 1
    )


def test_words_and_patterns_of_a_query_are_folded_as_texts_are():
    plain, folded = analysis(None), analysis(Analyzer("german", fold_accents=True))
    assert near_words(plain, "STRAS* foo-b?r _x*y", 0, True) == [
        NearWord(("stras*",), 0, True),
        NearWord(("foo",), 0, False),
        NearWord(("b?r",), 0, True),
        NearWord(("x*y",), 0, True),
    ]
    assert near_words(plain, "* ?? ab", 1, True) == [NearWord(("ab",), 0, False)]
    assert near_words(folded, "Hä*", 0, True) == [NearWord(("ha*",), 0, True)]
    assert near_words(folded, "Häuser", 2, False) == [NearWord(("hauser", "haus"), 2, False)]


def test_stems_are_found_highlighted_and_explained(database):
    docs = database.create_collection("docs", Schema({"w": Sparse(encoder="bm25", source="body")}, {"body": Text()}))
    docs.upsert(ids=[1, 2], attributes={"body": ["the harbours of the sea", "a harbour"]})
    hits = docs.search(text="harbuor*", fuzzy=1, limit=5)
    assert hits.ids.tolist() == [2, 1]
    marked = docs.search(text="harbuor", fuzzy=1, highlight=["body"], explain=True)
    assert {hit.id: hit.highlights["body"] for hit in marked} == {1: [(4, 12)], 2: [(2, 9)]}
    assert marked.plan["request"] == {"fuzzy": 1, "highlight": ["body"]} and "harbour" in str(marked.plan)
    assert docs.search(text="se? harb*", wildcards=True, highlight="body")[0].highlights["body"] == [(4, 12), (20, 23)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fuzzy": 3}, "fuzzy must be 0, 1 or 2 letters, not 3"),
        ({"fuzzy": True}, "fuzzy must be 0, 1 or 2 letters, not True"),
        ({"wildcards": 1}, "wildcards must be True or False, not 1"),
    ],
)
def test_wrong_values_are_refused(docs, options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        docs.search(text={"w": "abc"}, **options)
    with pytest.raises((FilterError, InvalidArgumentError), match=message.split()[0]):
        docs.count({"op": "match_near", "field": "body", "mode": "any", "value": "a", "fuzzy": 0, "wildcards": False, **options})


def test_combinations_that_make_no_sense_are_refused(docs):
    for _ in range(3):
        with pytest.raises(InvalidArgumentError, match="fuzzy=1 is about the words of text=… in BM25 fields, and this search has none"):
            docs.search({"v": [1.0, 0.0]}, fuzzy=1)
        docs.search({"v": [1.0, 0.0]})
    with pytest.raises(InvalidArgumentError, match="wildcards=True is about the words"):
        docs.search(text={"t": "abc*"}, wildcards=True)
    with pytest.raises(FilterError, match="mode of 'body' with fuzzy words or wildcards must be any or all, not 'phrase'"):
        docs.count("body MATCH PHRASE FUZZY 'abc'")
    with pytest.raises(FilterError, match=r"'tags' is an array, where fuzzy words .* write match_any"):
        docs.count(F("tags").match_all("abc bca", fuzzy=1))
    assert docs.count(F("tags").match_all("abc", fuzzy=1)) == docs.count(F("body").match_all("abc", fuzzy=1))
    docs.add_fields(vectors={"k": Sparse(encoder="bm25", source="key")}, attributes={"key": Keyword()})
    with pytest.raises(InvalidArgumentError, match="fuzzy=2 needs the words of a Text attribute, but 'k' reads 'key', a Keyword"):
        docs.search(text={"k": "abc"}, fuzzy=2)


def test_a_word_that_stands_for_too_many_is_refused(directory, monkeypatch):
    monkeypatch.setattr(vectordb.filters.vocabulary, "MAX_FOUND", 20)
    with vectordb.open(directory) as database:
        docs = database.create_collection("docs", Schema({}, {"body": Text()}))
        docs.upsert(ids=[1], attributes={"body": [" ".join(WORDS)]})
        with pytest.raises(LimitError, match=r"'a\*' stands for .* words of 'body', at most 20 are allowed; write more letters"):
            docs.count(F("body").match_any("a*", wildcards=True))
    assert near.SHORT == 3
