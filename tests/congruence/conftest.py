"""A database embedded, with a ``Client`` and with an ``AsyncClient``: cases run with each, or compare the answers of all three."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

import vectordb
from tests.congruence.filled import fill
from tests.support.places import difference, opened, outcome, plain, serving
from vectordb import VectorDBError

PLACES = ["embedded", "served", "asyncio"]


@pytest.fixture
def embedded(directory):
    """The database itself, where tests need it whatever the place: to fill it, or to look into it."""
    with vectordb.open(directory, durability="batched") as opened:
        yield opened


@pytest.fixture
def settings(tmp_path):
    """Settings of the service; test modules override this."""
    (tmp_path / "snapshots").mkdir()
    return {"snapshot_dir": str(tmp_path / "snapshots")}


@pytest.fixture
def address(embedded, settings):
    with serving(embedded, **settings) as address:
        yield address


@pytest.fixture(params=PLACES)
def database(request, embedded):
    """The same empty database, as each kind of user has it."""
    address = "" if request.param == "embedded" else request.getfixturevalue("address")
    with opened(request.param, embedded, address) as one:
        yield one


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    """{place: a database with the collections of ``filled``, which no test changes}."""
    with contextlib.ExitStack() as stack:
        folder = tmp_path_factory.mktemp("filled")
        embedded = stack.enter_context(vectordb.open(folder / "data", durability="batched", maintenance=False))
        fill(embedded)
        address = stack.enter_context(serving(embedded, snapshot_dir=str(folder / "snapshots")))
        yield {place: stack.enter_context(opened(place, embedded, address)) for place in PLACES}


@pytest.fixture
def same(filled):
    """``same(call)`` runs a call in each place and returns the answer, which must be the same to the last bit; or raises the same error."""

    def run(call: Callable[[Any], Any], collection: str | None = "docs", places: list[str] = PLACES) -> Any:
        handles = [filled[place] if collection is None else filled[place].collection(collection) for place in places]
        expected, *others = [outcome(call, handle) for handle in handles]
        wanted = plain(expected)
        for place, other in zip(places[1:], others, strict=True):
            assert not difference(wanted, plain(other)), place
        if isinstance(expected, VectorDBError):
            raise expected
        return expected

    return run
