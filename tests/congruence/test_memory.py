"""The memory budget of a database, in every place: its values, what is said of it, and that it can be changed."""

from __future__ import annotations

import pytest

import vectordb
from tests.support.places import opened, serving
from vectordb import Dense, InvalidArgumentError, PreconditionError, Schema
from vectordb.server.settings import Settings


@pytest.mark.parametrize(
    "value, nbytes", [("2GiB", 2 << 30), ("500MB", 500_000_000), ("1.5 gib", 3 << 29), (16 << 20, 16 << 20), ("64000 kB", 64_000_000)]
)
def test_a_budget_is_set_and_shown_and_lifted(database, value, nbytes):
    docs = database.create_collection("docs", Schema({"v": Dense(4)}))
    docs.upsert(ids=[1], vectors={"v": [[1, 2, 3, 4]]})
    facts = database.set_memory(value)
    assert facts["budget"] == nbytes and facts["kept"] == facts["mapped"] == 0 and facts["mapped_most"] == int(nbytes * 3 / 4)
    assert docs.info().statistics["v"]["memory"] == facts
    assert "memory budget" in str(docs.info())
    assert database.set_memory(None) == {} and "memory" not in docs.info().statistics["v"]


@pytest.mark.parametrize("value", ["2", "2G", "many", "-1GiB", "1KiB", 0, -5, True, 1.5, "", b"2GiB", "2000TiB"])
def test_other_values_are_refused_with_a_word_on_what_to_write(database, value):
    with pytest.raises(InvalidArgumentError, match="2GiB") as caught:
        database.set_memory(value)
    assert caught.value.field == "memory"


def test_a_wrong_budget_creates_nothing(tmp_path):
    with pytest.raises(InvalidArgumentError, match="2 gigs"):
        vectordb.open(tmp_path / "d", memory="2 gigs")
    assert not (tmp_path / "d").exists()


def test_a_service_divides_its_budget_among_its_workers(embedded):
    assert Settings().budget is None and Settings(memory="1GiB").budget == 1 << 30
    assert Settings(memory="1GiB", workers=4).budget == 1 << 28
    with pytest.raises(InvalidArgumentError, match="at least 16MiB for each of the 4 workers"):
        Settings(memory="20MiB", workers=4)
    with pytest.raises(InvalidArgumentError, match='"2GiB" or "500MB"'):
        Settings(memory="plenty")
    with serving(embedded, workers=2) as address, opened("served", embedded, address) as client, pytest.raises(PreconditionError) as caught:
        client.set_memory("1GiB")
    assert "2 processes" in str(caught.value) and caught.value.field == "memory"


def test_the_status_of_a_service_has_its_budget(embedded, address):
    from vectordb.cli.top import _budget

    with opened("served", embedded, address) as client:
        client.set_memory("64MiB")
        memory = client.status()["memory"]
        assert memory["budget"] == 64 << 20 and memory["index_kept"] == memory["index_mapped"] == 0
        assert _budget(memory) == ["memory budget: 64.0 MiB; index files: 0 B kept, 0 B mapped, 0 B of both in memory"]
        client.set_memory(None)
        assert client.status()["memory"]["budget"] == 0 and _budget(client.status()["memory"]) == []
