"""A search option that is not in the package: ``reverse=True`` returns the hits in the opposite order. One declaration and one step."""

from __future__ import annotations

import asyncio
import dataclasses

import numpy as np
import pytest
from vectordb_client import AsyncClient, Client
from vectordb_client.model.arguments import UnknownArgumentError
from vectordb_client.model.checks import check_flag
from vectordb_client.model.search_request import OPTIONS, Flag, Option, SearchRequest
from vectordb_client.rpc.wire_search import pack_search, unpack_search

import vectordb
from vectordb import Dense, InvalidArgumentError, Prefetch, Schema
from vectordb.cli import parsers
from vectordb.query.request import RANKING_STEPS
from vectordb.server.main import start

QUERY = {"d": [1.0, 0.5, -0.5, 0.25]}
REVERSE = Option(False, check_flag, Flag("switch", "the opposite order"), type="bool")


def reverse(view, search, ranking):
    assert search.request.reverse is True
    return tuple(column[::-1] for column in ranking)


def register(patch) -> None:
    patch.setitem(OPTIONS, "reverse", REVERSE)
    patch.setitem(RANKING_STEPS, "reverse", reverse)


@pytest.fixture
def registered(monkeypatch):
    register(monkeypatch)


@pytest.fixture
def embedded(tmp_path):
    with vectordb.open(tmp_path / "data", maintenance=False) as database:
        docs = database.create_collection("docs", Schema({"d": Dense(4)}))
        docs.upsert(ids=list(range(40)), vectors={"d": np.random.default_rng(1).standard_normal((40, 4))})
        yield docs


@pytest.fixture
def address(embedded, tmp_path):
    with vectordb.open(tmp_path / "data") as database:
        server, port = start(database, port=0)
        yield f"127.0.0.1:{port}"
        server.stop(0).wait()


@pytest.fixture(params=["embedded", "served"])
def docs(request, embedded):
    if request.param == "embedded":
        yield embedded
        return
    with Client(request.getfixturevalue("address")) as client:
        yield client.collection("docs")


def test_it_changes_the_answer_and_is_a_part_of_the_key_of_kept_requests(registered, docs):
    for _ in range(2):  # the second time from the requests that are kept
        plain, turned = docs.search(QUERY, limit=5), docs.search(QUERY, limit=5, reverse=True)
        assert turned.ids.tolist() == plain.ids.tolist()[::-1] and [*turned] == [*plain][::-1]
        assert docs.search(QUERY, limit=5, reverse=False) == plain
    assert docs.search_batch({"d": [QUERY["d"]] * 2}, limit=5, reverse=True) == [turned, turned]
    assert docs.prepare(limit=5, reverse=True)(QUERY) == turned
    assert docs.search(QUERY, prefetch=Prefetch(QUERY, limit=5), reverse=True).ids.tolist() == turned.ids.tolist()
    assert docs.search(QUERY, limit=5, reverse=True, with_attributes=False).ids.tolist() == turned.ids.tolist()


def test_an_asyncio_client_has_it(registered, embedded, address):
    async def ask():
        async with AsyncClient(address) as client:
            docs = await client.collection("docs")
            prepared = await docs.prepare(limit=5, reverse=True)
            return await docs.search(QUERY, limit=5, reverse=True), await prepared(QUERY), (await prepared.batch({"d": [QUERY["d"]]}))[0]

    assert asyncio.run(ask()) == (embedded.search(QUERY, limit=5, reverse=True),) * 3


def test_plans_and_logs_show_it(registered, docs):
    plan = docs.search(QUERY, limit=5, reverse=True, explain=True).plan
    assert plan["request"] == {"limit": 5, "reverse": True} == SearchRequest.of({"limit": 5, "reverse": True}).shown()
    assert "request: limit=5, reverse=True" in str(plan)
    assert docs.search(QUERY, explain=True).plan["request"] == {}


def test_a_message_has_it_only_where_it_is_given(registered, embedded):
    for options, sent in (({}, {}), ({"reverse": False}, {}), ({"reverse": True}, {"reverse": b"true"})):
        message = pack_search("docs", embedded.schema, SearchRequest(options), QUERY, None, False)
        assert dict(message.options) == sent
        assert unpack_search(message, embedded.schema)[0].reverse == options.get("reverse", False)


def test_wrong_values_are_refused_on_both_sides(registered, docs, embedded):
    for wrong in (1, "yes", None):
        with pytest.raises(InvalidArgumentError, match="reverse must be True or False"):
            docs.search(QUERY, reverse=wrong)
    message = pack_search("docs", embedded.schema, SearchRequest({}), QUERY, None, False)
    for sent, text in ((b"3", "reverse must be True or False"), (b"{", "reverse is not JSON")):
        message.options["reverse"] = sent
        with pytest.raises(InvalidArgumentError, match=text):
            unpack_search(message, embedded.schema)
    message.options.clear()
    message.options["limit"] = b"1000000"  # would pass by the limits of a service
    with pytest.raises(InvalidArgumentError, match="option 'limit' has a field of its own"):
        unpack_search(message, embedded.schema)


def test_an_option_that_plans_do_not_show_runs_its_step(monkeypatch, docs):
    monkeypatch.setitem(OPTIONS, "reverse", dataclasses.replace(REVERSE, show=None))
    monkeypatch.setitem(RANKING_STEPS, "reverse", reverse)
    plain, turned = docs.search(QUERY, limit=5), docs.search(QUERY, limit=5, reverse=True, explain=True)
    assert turned.ids.tolist() == plain.ids.tolist()[::-1] and turned.plan["request"] == {"limit": 5}
    assert docs.prepare(limit=5, reverse=True)(QUERY).ids.tolist() == turned.ids.tolist()


@pytest.mark.parametrize(
    ("default", "same", "other"),
    [(1e300, 1e299 * 10, 2.0), ("rrf", "".join(["r", "rf"]), "dbsf"), (np.arange(3), np.arange(3), np.arange(4)), (np.nan, np.nan, 1.0)],
    ids=["number", "text", "array", "nan"],
)
def test_a_value_equal_to_the_default_is_not_shown_and_not_sent(monkeypatch, embedded, default, same, other):
    to_json = lambda value: np.asarray(value).tolist()  # noqa: E731
    option = Option(default, lambda name, value: value, show=to_json, to_json=to_json)
    monkeypatch.setitem(OPTIONS, "extra", option)
    for value, shown in ((same, {}), (other, {"extra": to_json(other)})):
        request = SearchRequest({"extra": value})
        assert request.shown() == shown and ("extra" in repr(request)) == bool(shown)
        message = pack_search("docs", embedded.schema, request, QUERY, None, False)
        assert set(message.options) == set(shown)


def test_options_given_as_their_defaults_are_not_shown():
    assert SearchRequest({"fusion": "".join(["r", "rf"]), "limit": np.int64(10), "filter": None}).shown() == {}
    assert repr(SearchRequest({"fusion": np.arange(3)})) == "SearchRequest(fusion=array([0, 1, 2]))"  # a search refuses it


def test_the_command_line_has_its_flag(registered):
    assert "--reverse" in parsers()["search"].format_help()


def test_without_its_declaration_it_is_unknown(docs, embedded, monkeypatch):
    with monkeypatch.context() as patch:
        register(patch)
        assert len(docs.search(QUERY, reverse=True)) == 10
        message = pack_search("docs", embedded.schema, SearchRequest({"reverse": True}), QUERY, None, False)
    for call in (docs.search, docs.search_batch, docs.prepare):
        with pytest.raises(UnknownArgumentError, match=rf"{call.__name__}\(\) has no argument 'reverse'"):
            call(reverse=True)
    with pytest.raises(
        InvalidArgumentError, match="a search has no option 'reverse'; there are: filter, limit"
    ):  # from a client that has it
        unpack_search(message, embedded.schema)
    assert "--reverse" not in parsers()["search"].format_help()
    assert len(docs.search(QUERY)) == 10
