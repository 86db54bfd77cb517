"""A fusion that is not in the package: the Borda count. One class, registered by one line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from vectordb_client import Client
from vectordb_client.model.arguments import UnknownArgumentError, named_class
from vectordb_client.model.ranking import FUSIONS, Fusion
from vectordb_client.model.search_request import SearchRequest
from vectordb_client.rpc.wire_search import pack_search, unpack_search

import vectordb
from vectordb import Dense, InvalidArgumentError, Prefetch, Schema, Sparse
from vectordb.server.main import start

QUERY = {"d": [1.0, 0.5, -0.5, 0.25], "s": {1: 1.0, 3: 0.5}}


@named_class
@dataclass(frozen=True)
class Borda(Fusion):
    """The best of n candidates of an arm gets 1, the next (n − 1) ÷ n, and so on, each raised to ``power``."""

    power: float = 1.0
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    missing: str = "zero"
    name = "borda"

    def normalise(self, scores):
        return ((len(scores) - np.arange(len(scores))) / max(len(scores), 1)) ** self.power

    def check(self):
        super().check()
        if not isinstance(self.power, (int, float)) or not 0 < self.power <= 100:
            what = f"power of Borda must be above 0 and at most 100, not {self.power!r}"
            raise InvalidArgumentError(what, field="fusion", value=self.power)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(FUSIONS, Borda.name, Borda)


@pytest.fixture
def embedded(tmp_path):
    rng = np.random.default_rng(1)
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        docs = database.create_collection("docs", Schema({"d": Dense(4), "s": Sparse()}))
        docs.upsert(ids=list(range(40)), vectors={"d": rng.standard_normal((40, 4)), "s": [{1 + i % 4: 1.0 + i} for i in range(40)]})
        yield docs


@pytest.fixture(params=["embedded", "served"])
def docs(request, embedded, tmp_path):
    if request.param == "embedded":
        yield embedded
        return
    with vectordb.open(tmp_path / "data") as database:
        server, port = start(database, port=0)
        with Client(f"127.0.0.1:{port}") as client:
            yield client.collection("docs")
        server.stop(0).wait()


def borda(embedded, power: float, weights: Mapping[str, float], candidates: int) -> dict[int, float]:
    """id → score, by the definition."""
    scores: dict[int, float] = {}
    for name, query in QUERY.items():
        ranked = embedded.search({name: query}, limit=candidates, exact=True).ids.tolist()
        for place, each in enumerate(ranked):
            scores[each] = scores.get(each, 0.0) + weights.get(name, 1.0) * ((len(ranked) - place) / len(ranked)) ** power
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))


@pytest.mark.parametrize(("fusion", "power", "weights"), [("borda", 1.0, {}), (Borda(2.0, {"s": 0.5}), 2.0, {"s": 0.5})])
def test_it_ranks_by_its_definition(registered, docs, embedded, fusion, power, weights):
    expected = borda(embedded, power, weights, 20)
    for hits in (
        docs.search(QUERY, fusion=fusion, candidates=20, limit=15, exact=True),
        docs.prepare(fusion=fusion, candidates=20, limit=15, exact=True)(QUERY),
        *docs.search_batch({"d": [QUERY["d"]], "s": [QUERY["s"]]}, fusion=fusion, candidates=20, limit=15, exact=True),
    ):
        assert hits.ids.tolist() == list(expected)[:15]
        assert [hit.score for hit in hits] == pytest.approx([expected[hit.id] for hit in hits])
        for hit in hits:
            assert sum(arm.contribution for arm in hit.arms.values()) == pytest.approx(hit.score)


def test_it_ranks_a_stage_before_a_search(registered, docs):
    few = docs.search(QUERY, fusion=Borda(3.0), limit=5)
    assert set(docs.search({"d": QUERY["d"]}, prefetch=Prefetch(QUERY, fusion=Borda(3.0), limit=5)).ids) == set(few.ids)


def test_it_is_explained_with_its_options(registered, docs):
    plan = docs.search(QUERY, fusion=Borda(2.0, missing="renormalise"), explain=True).plan
    assert plan["fusion"]["method"] == "borda" and plan["fusion"]["missing"] == "renormalise"
    assert plan["request"]["fusion"] == {"method": "borda", "power": 2.0, "missing": "renormalise"}
    assert "fusion: borda of the best" in str(plan) and "power=2.0" in str(plan)
    assert json.loads(json.dumps(plan))["request"] == plan["request"]


def test_its_options_are_in_the_message_and_come_back(registered, embedded):
    message = pack_search("docs", embedded.schema, SearchRequest({"fusion": Borda(2.0, {"s": 0.5})}), QUERY, None, False)
    assert (message.fusion.method, json.loads(message.fusion.options)) == ("borda", {"power": 2.0})
    assert unpack_search(message, embedded.schema)[0].fusion == Borda(2.0, {"s": 0.5})
    message.fusion.options = b'{"base": 3}'
    with pytest.raises(InvalidArgumentError, match="fusion 'borda' has no base"):
        unpack_search(message, embedded.schema)


def test_wrong_options_are_refused(registered, docs):
    with pytest.raises(InvalidArgumentError, match="power of Borda must be above 0 and at most 100, not -1"):
        docs.search(QUERY, fusion=Borda(-1))
    with pytest.raises(InvalidArgumentError, match="not a field of this search"):
        docs.search(QUERY, fusion=Borda(weights={"x": 1.0}))
    with pytest.raises(UnknownArgumentError, match="has no argument 'powr'; write power="):
        Borda(powr=1.0)


def test_scores_of_another_number_are_refused(registered, docs, monkeypatch):
    monkeypatch.setattr(Borda, "normalise", lambda self, scores: np.ones(3))
    with pytest.raises(InvalidArgumentError, match="fusion 'borda' must normalise 40 scores to as many finite numbers"):
        docs.search(QUERY, fusion="borda")


def test_without_its_line_in_the_table_it_is_refused_by_name(docs, embedded, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(FUSIONS, Borda.name, Borda)
        message = pack_search("docs", embedded.schema, SearchRequest({"fusion": Borda(2.0)}), QUERY, None, False)
    for wrong in ("borda", Borda()):
        for call in (docs.search, docs.prepare):
            with pytest.raises(InvalidArgumentError, match=r"fusion must be one of 'rrf', 'relative', 'dbsf', 'linear', .* not .*[bB]orda"):
                call(**{"fusion": wrong} | ({"vectors": QUERY} if call is docs.search else {}))
    with pytest.raises(InvalidArgumentError, match="not 'borda'"):  # from a client that has it
        embedded._search(*unpack_search(message, embedded.schema), False)
    assert len(docs.search(QUERY)) == 10
