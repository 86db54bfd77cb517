"""The trigram encoder: its parts of words, its scores by brute force, and that it finds texts by misspelt words."""

from __future__ import annotations

import math
import random
import string
import sysconfig
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import xxhash

import vectordb
from vectordb import EncoderError, Schema, SchemaError, Sparse, Text, encoders
from vectordb.common.tokenize import words
from vectordb.demo.corpus import collect

LIBRARY = Path(sysconfig.get_path("stdlib"))
TEXTS = ["The cat sat.", "Two cats", "a dog", "Straße STRASSE", "猫が好き", "", "cat cat cat catalogue", "bat", "naïve café"]


def parts(text, n=3):
    """The parts of a text, cut one by one."""
    cut = []
    for word in words(text):
        marked = "<" + word + ">"
        cut += [marked[i : i + n] for i in range(len(marked) - n + 1)] or [marked]
    return cut


def scores(texts, query, n=3, k1=0.4, b=0.75, term=lambda part: part):
    """BM25 over the parts, in Python floats."""
    counted = {row: Counter(map(term, parts(text, n))) for row, text in texts.items()}
    lengths = {row: sum(count.values()) for row, count in counted.items()}
    mean = sum(lengths.values()) / len(counted)
    found = {}
    for row, count in counted.items():
        score = 0.0
        for part, times in Counter(map(term, parts(query, n))).items():
            df = sum(part in other for other in counted.values())
            if tf := count[part]:
                idf = math.log(1 + (len(counted) - df + 0.5) / (df + 0.5))
                score += times * idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * lengths[row] / mean))
        if score:
            found[row] = score
    return found


def opened(tmp_path, encoder):
    database = vectordb.open(tmp_path / "data", maintenance=False, durability="batched")
    return database, database.create_collection("docs", Schema({"parts": Sparse(encoder=encoder, source="body")}, {"body": Text()}))


@pytest.mark.parametrize(
    ("encoder", "options"),
    [
        ("trigram", {}),
        ("trigram(n=2, k1=1.5, b=0.2)", {"n": 2, "k1": 1.5, "b": 0.2}),
        ("trigram(n=5)", {"n": 5}),
        ("trigram(buckets=256, seed=7)", {"term": lambda part: xxhash.xxh3_64_intdigest(part.encode(), 7) % 256}),
    ],
)
def test_scores_are_bm25_over_the_parts_of_live_texts(tmp_path, encoder, options):
    database, docs = opened(tmp_path, encoder)
    with database:
        docs.upsert(ids=list(range(len(TEXTS))), attributes={"body": TEXTS})
        docs.delete(ids=[2])
        docs.upsert(ids=[1], attributes={"body": ["three cats"]})
        live = {row: text for row, text in enumerate(TEXTS) if row != 2} | {1: "three cats"}
        for _ in range(2):  # as a tail, then by a segment
            for query in ("cat", "cats catalog", "strasse", "猫", "cafe", "zzz"):
                expected = scores(live, query, **options)
                hits = docs.search(text=query, limit=20)
                assert dict(zip(hits.ids.tolist(), hits.scores.tolist(), strict=True)) == pytest.approx(expected, rel=1e-5)
            docs.optimize()


def test_a_plan_and_the_terms_of_a_field_show_the_parts(tmp_path):
    database, docs = opened(tmp_path, "trigram")
    with database:
        docs.upsert(ids=[1], attributes={"body": ["Cat"]})
        encoder = encoders.load("trigram")
        assert docs.terms("parts") == {encoder.term(part): part for part in ("<ca", "cat", "at>")}
        assert "<ca" in str(docs.search(text="car", explain=True).plan)
        with pytest.raises(EncoderError, match=r"a part of a word.*not 'cats'"):
            encoder.term("cats")


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("trigram(n=1)", "an integer from 2 to 6"),
        ("trigram(buckets=100)", "0 .*or an integer from 256"),
        ("trigram(language=x)", "no option"),
    ],
)
def test_wrong_options_are_refused(tmp_path, encoder, message):
    with vectordb.open(tmp_path / "data") as database:
        with pytest.raises(EncoderError, match=message):
            database.create_collection("docs", Schema({"parts": Sparse(encoder=encoder, source="body")}, {"body": Text()}))
        with pytest.raises((EncoderError, SchemaError), match="weighting"):
            Schema({"parts": Sparse(encoder="trigram", weighting="tf")})
        assert database.collections() == []


def misspelt(word, random):
    """A word with one letter inside left out, added, replaced, or swapped with the next; short words stay."""
    if len(word) < 4:
        return word
    i, letter = random.randrange(1, len(word) - 1), random.choice(string.ascii_lowercase)
    kinds = (word[i + 1 :], letter + word[i:], letter + word[i + 1 :], word[i + 1] + word[i] + word[i + 2 :])
    return word[:i] + random.choice(kinds)


def test_known_texts_are_found_by_misspelt_words(tmp_path):
    """The suite ``typos`` of ``vectordb bench`` asks more texts; here are fewer, so that it is fast."""
    texts = list(dict.fromkeys(entry.doc for entry in islice(collect(LIBRARY), 1800) if len(words(entry.doc)) >= 8))[:1000]
    chance, clean, typed, wanted = random.Random(7), [], [], []
    for row in chance.sample(range(len(texts)), 100):
        distinct = list(dict.fromkeys(words(texts[row])))
        query = chance.sample(distinct, min(12, len(distinct)))
        wanted.append(row)
        clean.append(" ".join(query))
        typed.append(" ".join(misspelt(word, chance) for word in query))

    def reciprocal(docs, field, queries):
        ranks = [hits.ids.tolist() for hits in docs.search_batch(text={field: queries}, with_attributes=False)]
        return np.mean([1 / (found.index(row) + 1) if row in found else 0 for row, found in zip(wanted, ranks, strict=True)])

    with vectordb.open(tmp_path / "data", maintenance=False, durability="batched") as database:
        fields = {"all": "trigram", "few": "trigram(buckets=8192)", "bm25": "bm25"}
        docs = database.create_collection(
            "docs", Schema({f: Sparse(encoder=e, source="body") for f, e in fields.items()}, {"body": Text()})
        )
        docs.upsert(ids=list(range(len(texts))), attributes={"body": texts})
        found = {field: (reciprocal(docs, field, clean), reciprocal(docs, field, typed)) for field in fields}
    assert found["all"][0] >= 0.97 and found["all"][1] >= 0.90, found
    assert found["few"][0] >= found["all"][0] - 0.02 and found["few"][1] >= found["all"][1] - 0.02, found
    assert found["bm25"][1] < found["all"][1] - 0.2, found


def test_an_analyzer_of_the_attribute_doesnt_change_the_parts(tmp_path):
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        schema = Schema({"p": Sparse(encoder="trigram(n=4)", source="body")}, {"body": Text(analyzer="english")})
        docs = database.create_collection("docs", schema)
        docs.upsert(ids=[1, 2], attributes={"body": ["quick foxes", "lazy dogs"]})
        assert docs.info().statistics["p"]["encoder"].startswith("trigram(n=4, ")
        assert docs.search(text={"p": "qiuck foxs"}).ids.tolist() == [1]
