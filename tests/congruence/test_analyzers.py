"""Analyzers of Text attributes: MATCH and BM25 use the same words, by hand-made stems, folds, synonyms and pairs."""

from __future__ import annotations

import pytest

import vectordb
from vectordb import Analyzer, EncoderError, F, Schema, SchemaError, Sparse, Text, read_synonyms
from vectordb.common.analyze import analysis
from vectordb.engine.check import check

TEXTS = {
    1: "Die Häuser am Meer",
    2: "Ein Haus, ein Wagen",
    3: "Autos und Café",
    4: "東京都に行く",
    5: "京都の寺 👍",
    6: "ไทยแลนด์",
    7: "",
}
GERMAN = Analyzer("german", stopwords=["die", "und", "ein"], fold_accents=True, bigrams=True, synonyms=[["Auto", "Wagen"], ["Auto", "Pkw"]])
# Written out by hand: what each text's words are, "Auto" and "Wagen" being one word, "Autos" having the stem "autos".
WORDS = {
    1: ["haus", "am", "meer"],
    2: ["haus", "AUTO"],
    3: ["autos", "caf"],
    4: ["東", "東京", "京", "京都", "都", "都に", "に", "に行", "行", "行く", "く"],
    5: ["京", "京都", "都", "都の", "の", "の寺", "寺", "👍"],
}


def made(database, analyzer, name="docs"):
    docs = database.create_collection(name, Schema({"terms": Sparse(encoder="bm25", source="body")}, {"body": Text(analyzer=analyzer)}))
    docs.upsert(ids=[*TEXTS], attributes={"body": [*TEXTS.values()]})
    return docs


def test_words_are_those_written_out_by_hand():
    found = {row: analysis(GERMAN).words(TEXTS[row]) for row in WORDS}
    car = analysis(GERMAN).words("Auto")[0]
    assert {analysis(GERMAN).words(word)[0] for word in ("Wagen", "PKW")} == {car}
    assert found == {row: [car if word == "AUTO" else word for word in words] for row, words in WORDS.items()}


@pytest.mark.parametrize(
    ("query", "any_", "all_", "phrase"),
    [
        ("haus", [1, 2], [1, 2], [1, 2]),
        ("HÄUSER", [1, 2], [1, 2], [1, 2]),
        ("die", [], [], []),
        ("Die Hauser", [1, 2], [1, 2], [1, 2]),
        ("haus pkw", [1, 2], [2], [2]),  # "ein" between them is left out
        ("cafe", [3], [3], [3]),
        ("京都", [4, 5], [4, 5], [4, 5]),
        ("都京", [4, 5], [], []),
        ("東京都", [4, 5], [4], [4]),
        ("👍", [5], [5], [5]),
    ],
)
def test_match_and_bm25_find_the_same_words(database, query, any_, all_, phrase):
    docs = made(database, GERMAN)
    for mode, expected in (("match_any", any_), ("match_all", all_), ("match_phrase", phrase)):
        assert [p.id for p in docs.iterate(filter=getattr(F("body"), mode)(query))] == expected
    assert sorted(docs.search(text=query).ids.tolist()) == any_


def test_pairs_rank_texts_that_have_the_pieces_side_by_side_first(database):
    docs = database.create_collection(
        "docs", Schema({"t": Sparse(encoder="bm25", source="b")}, {"b": Text(analyzer=Analyzer(bigrams=True))})
    )
    docs.upsert(ids=[1, 2], attributes={"b": ["都人京人", "人人京都"]})
    assert docs.search(text="京都").ids.tolist() == [2, 1]


def test_the_schema_keeps_the_analyzer_and_a_field_may_be_added(database):
    docs = made(database, GERMAN)
    assert database.collection("docs").schema.attributes["body"].analyzer == GERMAN
    assert Schema.from_dict(docs.schema.to_dict()) == docs.schema
    docs.add_fields(attributes={"title": Text(analyzer="english")}, vectors={"titles": Sparse(encoder="bm25", source="title")})
    docs.update(ids=[1], attributes={"title": ["Running dogs"]})
    assert docs.count(F("title").match_all("dog run")) == 1
    assert docs.search(text={"titles": "dogs"}).ids.tolist() == [1]
    assert "bm25(k1=1.2, b=0.75, analyzer(language=english snowball" in str(docs.info())


def test_what_is_stored_passes_the_check(directory):
    with vectordb.open(directory) as database:
        made(database, GERMAN)
        made(database, None, "plain")
    assert check(directory).problems == ()


@pytest.mark.parametrize(
    ("analyzer", "message"),
    [
        ("klingon", "attribute 'body': an analyzer has no language 'klingon'; the languages are: none"),
        (Analyzer("basque", stopwords=True), "attribute 'body': .*stop words .*'basque'.* give a list of words"),  # also without the lists
        (Analyzer(synonyms=[["new york", "ny"]]), "attribute 'body': synonyms of an analyzer are single words, not 'new york'"),
    ],
)
def test_an_analyzer_that_cannot_be_made_is_refused_when_the_field_is_created(database, analyzer, message):
    with pytest.raises(SchemaError, match=message):
        made(database, analyzer)
    assert database.collections() == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Text(analyzer=3), "analyzer must be an Analyzer, such as Analyzer\\('german'\\), or the name of a language, not 3"),
        (lambda: Text(analyzer={"lang": "german"}), "an analyzer has no option 'lang'; there are: language"),
        (lambda: Analyzer(""), "language of an analyzer must be a name"),
        (lambda: Analyzer(stopwords="the"), "stopwords of an analyzer must be True, False or a list of words, not 'the'"),
        (lambda: Analyzer(stopwords=[1]), "and 1 is not a word"),
        (lambda: Analyzer(synonyms=[["car"]]), "at least two words"),
        (lambda: Analyzer(fold_accents=1), "fold_accents must be True or False"),
    ],
)
def test_wrong_options_are_refused(make, message):
    with pytest.raises(SchemaError, match=message):
        make()


def test_the_language_of_the_encoder_and_of_the_analyzer_exclude_each_other(database):
    schema = Schema({"terms": Sparse(encoder="bm25(language=german)", source="body")}, {"body": Text(analyzer="german")})
    with pytest.raises(EncoderError, match="takes its words from the analyzer of the attribute that it reads; leave language out"):
        database.create_collection("docs", schema)


def test_synonyms_are_read_from_a_file(tmp_path):
    (tmp_path / "s.txt").write_text("# cars\ncar, automobile , auto\n\ntv,television # the box\n")
    assert read_synonyms(tmp_path / "s.txt") == [["car", "automobile", "auto"], ["tv", "television"]]
    (tmp_path / "s.txt").write_text("car, auto\ncar\n")
    with pytest.raises(SchemaError, match=r"line 2 of .*must be at least two words with commas between, not 'car'"):
        read_synonyms(tmp_path / "s.txt")


def test_twenty_languages_have_stemmers_and_stop_words():
    pytest.importorskip("stop_words")
    languages = [
        "arabic",
        "catalan",
        "czech",
        "danish",
        "dutch",
        "english",
        "finnish",
        "french",
        "german",
        "greek",
        "hindi",
        "hungarian",
        "indonesian",
        "italian",
        "norwegian",
        "persian",
        "polish",
        "portuguese",
        "romanian",
        "russian",
        "spanish",
        "swedish",
        "turkish",
    ]
    identities = {analysis(Analyzer(language, stopwords=True, fold_accents=True)).identity for language in languages}
    assert len(identities) == len(languages) >= 20
    assert analysis(Analyzer("french", stopwords=True)).words("les maisons de la ville") == ["maison", "vill"]


def test_words_that_another_analyzer_made_are_not_mixed(directory, monkeypatch):
    with vectordb.open(directory) as database:
        made(database, GERMAN)
    monkeypatch.setattr(vectordb.common.analyze, "_analyzed", vectordb.common.analyze.Analyzed)
    monkeypatch.setattr(vectordb.common.analyze, "RULE", 99)  # as if another version was installed
    with vectordb.open(directory) as database:
        docs = database.collection("docs")
        with pytest.raises(EncoderError, match=r"the words of attribute 'body' were made by analyzer.*can't be compared"):
            docs.count(F("body").match_all("haus"))
        with pytest.raises(EncoderError, match="'body' were made by"):
            docs.upsert(ids=[9], attributes={"body": ["Haus"]})
        assert docs.get([1])[0].attributes["body"] == TEXTS[1]
    report = check(directory)
    assert report.problems == () and "attribute 'body': its words were not compared with the texts" in report.notes[0]
