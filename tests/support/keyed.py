"""A service that wants API keys: two collections to ask for, and clients whose keys have such rights."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vectordb_client import AuthenticationError, Client, Dense, Sparse
from vectordb_client.model.schema import Int, Schema

import vectordb
from vectordb.server.access import keys
from vectordb.server.main import start

SCHEMA = Schema({"d": Dense(4), "s": Sparse()}, {"n": Int()})
POINT = {"id": 1, "vectors": {"d": [1, 2, 3, 4], "s": {7: 0.5, 8: 0.25}}, "attributes": {"n": 3}}


@contextlib.contextmanager
def serving(folder: Path, file: Path) -> Iterator[str]:
    """The address of a service with two collections and the key ``root`` to everything."""
    with vectordb.open(folder) as database:
        for name in ("mine", "theirs"):
            database.create_collection(name, SCHEMA).upsert([POINT])
        keys.create(file, "read")
        server, port = start(database, port=0)
        yield f"127.0.0.1:{port}"
        server.stop(0).wait()


@contextlib.contextmanager
def clients(address: str, file: Path) -> Iterator[Callable[..., Client]]:
    """Makes a client whose key has such rights."""
    opened = []

    def make(role="read", collections=None, **rights):
        token, _ = keys.create(file, role, collections=collections, **rights)
        opened.append(Client(address, api_key=token))
        until(lambda: opened[-1].server_info())
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def until(works, refused=(AuthenticationError,), seconds=300.0):
    """What ``works`` returns, once the service has seen the change."""
    end = time.monotonic() + seconds
    while True:
        try:
            return works()
        except refused:
            assert time.monotonic() < end
            time.sleep(0.02)


def until_refused(work, error):
    end = time.monotonic() + 300
    while True:
        try:
            work()
        except error as caught:
            return caught
        assert time.monotonic() < end
        time.sleep(0.02)
