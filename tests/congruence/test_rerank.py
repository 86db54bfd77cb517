"""``rerank``: a function puts the best hits in a new order, embedded, with a ``Client`` and with an ``AsyncClient``."""

from __future__ import annotations

import builtins
import itertools
import sys
import types

import numpy as np
import pytest

from vectordb import Arm, EncoderError, InvalidArgumentError, Rerank

QUERY = {"d": [0.3, -1, 0.5, 0, 1, 0.25, 0, 1]}


def by_number(query, hits):
    assert query == QUERY
    return [hit.attributes["n"] % 10 for hit in hits]


def test_a_function_orders_the_best_hits(same):
    best = list(same(lambda docs: docs.search(QUERY, limit=20)))
    expected = sorted(best, key=lambda hit: -(hit.attributes["n"] % 10))[:5]
    hits = same(lambda docs: docs.search(QUERY, limit=5, rerank=Rerank(by_number, over=20), explain=True))
    assert list(hits) == expected and hits.reranked == tuple(float(hit.attributes["n"] % 10) for hit in expected)
    assert hits.plan["request"] == {"limit": 5, "rerank": {"by": "by_number", "over": 20}}
    assert hits.plan["rerank"] == {"hits": 20, "scored": 20} and hits.plan["milliseconds"]["rerank"] >= 0
    assert "rerank: 20 of 20 hits scored" in str(hits.plan)
    plain = same(lambda docs: docs.search(QUERY, limit=60, rerank=by_number))  # more than ``over``
    assert len(plain) == 60 and not same(lambda docs: docs.search(QUERY)).reranked


def test_functions_get_the_query_of_each_search(same):
    asked = []

    def note(query, hits):
        asked.append(query)
        return [0] * len(hits)

    text = {"words": "fox"}
    one = same(lambda docs: docs.search(text=text, rerank=note), places=["embedded"])
    assert asked == ["fox"] and list(one) == list(same(lambda docs: docs.search(text=text), places=["embedded"]))  # equal scores
    for call in (
        lambda docs: docs.search_batch(text={"words": ["fox", "dog"]}, rerank=note),
        lambda docs: docs.prepare(rerank=note).batch(text={"words": ["fox", "dog"]}),
    ):
        asked.clear()
        assert same(call, places=["embedded", "served"])[0].ids.tolist() == one.ids.tolist()
        assert asked == ["fox", "dog"] * 2
    asked.clear()
    same(lambda docs: docs.search_batch({"d": [[1.0] * 8, [2.0] * 8]}, rerank=note, facets="lang"), places=["asyncio"])
    assert asked == [{"d": [1.0] * 8}, {"d": [2.0] * 8}]


def test_knockouts_order_by_the_matches_that_were_won(same):
    matches = []

    def better(query, a, b):
        matches.append((a.id, b.id))
        return a.attributes["n"] > b.attributes["n"]

    best = list(same(lambda docs: docs.search(QUERY, limit=13)))
    hits = same(lambda docs: docs.search(QUERY, limit=13, rerank=Rerank(better, over=13, pairwise=4)), places=["embedded", "served"])
    assert len(matches) == 2 * 4 * 12 and matches[:48] == matches[48:]  # the same matches in each place
    assert sum(hits.reranked) == 48 and list(hits.reranked) == sorted(hits.reranked, reverse=True)
    assert hits[0].attributes["n"] == max(hit.attributes["n"] for hit in best)
    numbers = {hit.id: hit.attributes["n"] for hit in best}
    wins = dict.fromkeys(numbers, 0)
    for a, b in matches[:48]:
        wins[a if numbers[a] > numbers[b] else b] += 1
    assert [hit.id for hit in hits] == [hit.id for hit in sorted(best, key=lambda hit: -wins[hit.id])]
    assert len(same(lambda docs: docs.search(QUERY, filter="n < 0", rerank=Rerank(better, pairwise=True)))) == 0


def test_a_budget_ends_the_scoring(same, monkeypatch):
    clock = itertools.count()
    calls = []

    def slow(query, hits):
        calls.append(len(hits))
        return [-i for i in range(len(hits))]

    from vectordb_client.model import rerank

    times = types.SimpleNamespace(perf_counter=lambda: float(next(clock)))
    monkeypatch.setattr(rerank, "time", times)
    best = list(same(lambda docs: docs.search(QUERY, limit=50), places=["embedded"]))
    hits = same(lambda docs: docs.search(QUERY, limit=50, rerank=Rerank(slow, budget_ms=2500)), places=["embedded"])
    assert calls == [16, 16] and hits.reranked[32:] == (None,) * 18
    assert list(hits)[32:] == best[32:]  # those that were not scored keep their order, behind the others


class CrossEncoder:
    """Scores a pair by the words that both texts have."""

    def __init__(self, folder, local_files_only):
        assert local_files_only and "broken" not in folder, "no weights"

    def predict(self, pairs, show_progress_bar):
        return [float(len(set(query.split()) & set(text.lower().split()))) for query, text in pairs]


@pytest.fixture
def model(tmp_path, monkeypatch):
    library = types.ModuleType("sentence_transformers")
    library.CrossEncoder = CrossEncoder
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    (tmp_path / "config.json").write_text("{}")
    return f"cross-encoder(model={tmp_path})"


def test_a_cross_encoder_reads_the_text_of_an_attribute(same, model):
    def ask(docs):
        return docs.search(text={"words": "the lazy dog"}, limit=5, rerank=Rerank(model, source="body", over=40))

    hits, best = same(ask), list(same(lambda docs: docs.search(text={"words": "the lazy dog"}, limit=40)))
    words = [len({"the", "lazy", "dog"} & set((hit.attributes.get("body") or "").lower().split())) for hit in best]
    order = sorted(range(len(best)), key=lambda i: -words[i])[:5]
    assert [hit.id for hit in hits] == [best[i].id for i in order] and hits.reranked == tuple(float(words[i]) for i in order)
    with pytest.raises(InvalidArgumentError, match=r"needs the text of the query: search\(text=…\)"):
        same(lambda docs: docs.search(QUERY, rerank=Rerank(model, source="body")))
    with pytest.raises(InvalidArgumentError, match="with_attributes leaves out 'body'"):
        same(lambda docs: docs.search(text="dog", with_attributes=["n"], rerank=Rerank(model, source="body")))
    with pytest.raises(InvalidArgumentError, match="reads the text of an attribute"):
        same(lambda docs: docs.search(text="dog", rerank=Rerank(model)))
    with pytest.raises(InvalidArgumentError, match="leave out pairwise"):
        same(lambda docs: docs.search(text="dog", rerank=Rerank(model, source="body", pairwise=True)))


def test_what_a_cross_encoder_lacks_is_said(same, tmp_path, monkeypatch):
    for spec, text in (
        ("cross-encoder", r"must be a function or 'cross-encoder\(model=FOLDER\)', not 'cross-encoder'"),
        ("bm25(model=x)", "must be a function or"),
        (f"cross-encoder(model={tmp_path / 'none'})", r"finds no model at .*models are not downloaded"),
    ):
        with pytest.raises(EncoderError, match=text):
            same(lambda docs, s=spec: docs.search(text="dog", rerank=Rerank(s, source="body")))
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    load = builtins.__import__

    def refuse(name, *rest):
        if name == "sentence_transformers":
            raise ImportError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(EncoderError, match=r"needs sentence-transformers: pip install 'sentence-transformers>=5.1'"):
        same(lambda docs: docs.search(text="dog", rerank=Rerank(f"cross-encoder(model={folder})", source="body")))


def test_a_model_that_cannot_be_loaded_is_said(same, model, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"can.t load the model in .*: no weights"):
        same(lambda docs: docs.search(text={"words": "dog"}, rerank=Rerank(f"cross-encoder(model={broken})", source="body")))


WRONG = [
    (3, {}, "rerank must be a function, Rerank"),
    (Rerank(by_number, over=0), {}, "over of Rerank must be an integer from 1"),
    (Rerank(by_number, pairwise=0), {}, "pairwise of Rerank must be True, False or a number of knockouts"),
    (Rerank(by_number, budget_ms=0), {}, "budget_ms of Rerank must be a number of milliseconds above 0"),
    (Rerank(by_number, source="body"), {}, "source is for a cross-encoder"),
    (lambda query, hits: [1], {}, "must return a finite number for each of 50 hits"),
    (lambda query, hits: [float("nan")] * len(hits), {}, "must return a finite number"),
    (lambda query, hits: None, {}, "must return a finite number"),
    (Rerank(lambda query, a, b: "a", pairwise=True), {}, "what the function of rerank returns must be True or False, not 'a'"),
    (by_number, {"group_by": "lang"}, "rerank and group_by don't go together; rerank the hits of each group"),
    (by_number, {"diversity": 0.5}, "rerank and diversity don't go together"),
]


@pytest.mark.parametrize("case", range(len(WRONG)))
def test_wrong_reranks_say_what_to_write(same, case):
    rerank, options, text = WRONG[case]
    with pytest.raises(InvalidArgumentError, match=text):
        same(lambda docs: docs.search(QUERY, rerank=rerank, **options))


def test_errors_of_the_function_are_passed_on(same):
    def fail(query, hits):
        raise ZeroDivisionError("mine")

    for place in ("embedded", "served", "asyncio"):
        with pytest.raises(ZeroDivisionError, match="mine"):
            same(lambda docs: docs.search(QUERY, rerank=fail), places=[place])


def test_a_function_gets_the_queries_of_named_arms(same):
    got = []

    def remember(query, hits):
        got.append(query)
        return [float(place) for place in range(len(hits))]

    rows = np.arange(1.0, 17.0).reshape(2, 8)
    same(lambda docs: docs.search_batch({"a": Arm("d", rows), "b": ("d", rows[::-1])}, rerank=remember, limit=3))
    assert all(query.keys() == {"a", "b"} and len(query["a"]) == 8 for query in got)
    assert [query["a"].tolist() for query in got[:2]] == [query["b"].tolist() for query in got[1::-1]] == rows.tolist()
