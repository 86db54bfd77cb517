"""Where the words of a query are in the texts of hits: the same in each place, and by brute force over all slices of a text."""

from __future__ import annotations

import json

import pytest

from tests.support.places import plain
from vectordb import Analyzer, Dense, InvalidArgumentError, Keyword, Prefetch, Schema, Sparse, Text
from vectordb.cli import main
from vectordb.common.analyze import analysis

GERMAN = Analyzer("german", stopwords=["und"], fold_accents=True, bigrams=True, synonyms=[["Auto", "Wagen"]])
BODIES = [
    "Die Häuser, und ein HAUS am Meer.",
    "Ein Wagen; viele Autos - Auto",
    "東京都に行く、京都も",
    "e\u0301te\u0301 Caf\u00e9 ﬁn ①② ｶﾞ haus",
    "kein Treffer: \U0001f1e9\U0001f1ea \u2764\ufe0f haus\u00adhaus",
    None,
    "",
]


@pytest.fixture
def docs(database):
    schema = Schema(
        {"w": Sparse(encoder="bm25", source="body"), "v": Dense(2)},
        {"body": Text(analyzer=GERMAN), "plain": Text(), "tags": Text(array=True), "key": Keyword()},
    )
    docs = database.create_collection("docs", schema)
    docs.upsert(
        ids=list(range(len(BODIES))),
        vectors={"v": [[1.0, i] for i in range(len(BODIES))]},
        attributes={
            "body": BODIES,
            "plain": BODIES,
            "tags": [["Haus", "x", "am Haus haus"]] * len(BODIES),
            "key": ["Haus am"] * len(BODIES),
        },
    )
    return docs


def by_slices(text, query, analyzer):
    """The places of words: of all slices between borders of characters, those that alone are exactly one word of the query."""
    words = analysis(analyzer)
    wanted = set(words.words(query))
    plain = [character.isascii() and character.isalnum() for character in text] + [False]
    found = set()
    for start in range(len(text)):
        for end in range(start + 1, min(len(text), start + 12) + 1):
            cut = (plain[end - 1] and plain[end]) or (plain[start] and start > 0 and plain[start - 1])
            word = words.words(text[start:end]) if text[start:end].isalnum() and not cut else []
            if len(word) == 1 and word[0] in wanted:
                found.add((start, end))
    joined = []
    for start, end in sorted(found):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


@pytest.mark.parametrize("query", ["Haus", "hauser meer", "auto", "京都", "und", "ein Wagen am haus"])
def test_places_are_those_of_all_slices_that_are_words_of_the_query(docs, query):
    for hit in docs.search(text=query, limit=10, highlight=["body"]):
        if hit.id < 3:  # where the rule of borders above holds
            assert hit.highlights == {"body": by_slices(BODIES[hit.id], query, GERMAN)}
            assert all(BODIES[hit.id][start:end].strip() == BODIES[hit.id][start:end] for start, end in hit.highlights["body"])


def marked(text, places):
    for start, end in reversed(places):
        text = f"{text[:start]}[{text[start:end]}]{text[end:]}"
    return text


@pytest.mark.parametrize(
    ("query", "row", "expected"),
    [
        ("haus", 0, "Die [Häuser], und ein [HAUS] am Meer."),
        ("pkw auto", 1, "Ein [Wagen]; viele Autos - [Auto]"),
        ("京都", 2, "東[京都]に行く、[京都]も"),
        ("ete cafe 2 fin ガ", 3, "[e\u0301te\u0301] [Caf\u00e9] [ﬁn] ①② [ｶﾞ] haus"),
        ("12 haus", 3, "e\u0301te\u0301 Caf\u00e9 ﬁn [①②] ｶﾞ [haus]"),
        ("\u2764 haushaus", 4, "kein Treffer: \U0001f1e9\U0001f1ea [\u2764\ufe0f] [haus\u00adhaus]"),
    ],
)
def test_places_are_in_the_text_as_it_was_given(docs, query, row, expected):
    hit = {hit.id: hit for hit in docs.search(text=query, limit=10, highlight="body")}[row]
    assert marked(BODIES[row], hit.highlights["body"]) == expected


def test_each_attribute_has_its_own_analyzer_and_an_array_a_list_for_each_element(docs):
    hit = docs.search(text="Häuser haus", limit=1, highlight=["body", "plain", "tags", "key"], with_attributes=False)[0]
    assert hit.id == 0 and hit.attributes == {}
    assert hit.highlights == {
        "body": [(4, 10), (20, 24)],
        "plain": [(4, 10), (20, 24)],
        "tags": [[(0, 4)], [], [(3, 7), (8, 12)]],
        "key": [(0, 4)],
    }
    assert docs.search(text="hauser", limit=1, highlight=["body", "plain"])[0].highlights == {"body": [(4, 10), (20, 24)], "plain": []}
    assert json.loads(hit.to_json())["highlights"]["key"] == [[0, 4]] and "highlights" not in docs.search(text="haus")[0].to_dict()


def test_with_batches_stages_filters_and_prepared_searches(docs):
    alone = [docs.search(text=query, limit=2, highlight=["body"]) for query in ("haus", "auto")]
    assert [plain(hits) for hits in docs.search_batch(text=["haus", "auto"], limit=2, highlight=["body"])] == [
        plain(hits) for hits in alone
    ]
    assert plain(docs.prepare(limit=2, highlight=["body"])(text="haus")) == plain(alone[0])
    fused = docs.search({"v": [1.0, 0.0]}, text="haus", limit=10, highlight=["body"], filter="body MATCH 'meer'")
    assert [hit.highlights for hit in fused] == [{"body": [(4, 10), (20, 24)]}]
    staged = docs.search({"v": [1.0, 0.0]}, prefetch=Prefetch(text="haus", limit=10), highlight=["body"], limit=10)
    assert staged.ids.tolist() == [0, 3] and all(hit.highlights["body"] for hit in staged)
    missing = {hit.id: hit.highlights for hit in docs.search({"v": [1.0, 0.0]}, text="haus", limit=10, highlight="body")}
    assert missing[5] == {} and missing[6] == {"body": []}
    plan = docs.search(text="haus", highlight=["body"], explain=True).plan
    assert plan["request"]["highlight"] == ["body"]


@pytest.mark.parametrize(
    ("highlight", "message"),
    [
        (["nothing"], "highlight: no attribute 'nothing'; those with text are: body, plain, tags, key"),
        (3, "highlight must be a list of names, such as \\['body'\\], not 3"),
        ([1], "highlight must be a list of names"),
        (["number"], "highlight: attribute 'number' is Int; name a Text or Keyword attribute"),
    ],
)
def test_wrong_names_are_refused(docs, highlight, message):
    from vectordb import Int

    docs.add_fields(attributes={"number": Int()})
    with pytest.raises(InvalidArgumentError, match=message):
        docs.search(text="haus", highlight=highlight)


def test_a_search_without_text_has_no_words(docs):
    for _ in range(3):
        with pytest.raises(InvalidArgumentError, match="highlight marks the words of text=…, and this search has vectors only"):
            docs.search({"v": [1.0, 0.0]}, highlight=["body"])
        docs.search({"v": [1.0, 0.0]})


def test_the_command_line_marks_the_words(embedded, directory, capsys):
    docs = embedded.create_collection("docs", Schema({"w": Sparse(encoder="bm25", source="body")}, {"body": Text()}))
    docs.upsert(ids=[1], attributes={"body": ["x " * 60 + "the harbour"]})
    assert main(["search", str(directory), "docs", "harbour", "--highlight", "body", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["highlights"] == {"body": [[124, 131]]}
    assert main(["search", str(directory), "docs", "harbour", "--highlight", "body"]) == 0
    assert "…x x x x x x x x the harbour" in capsys.readouterr().out
