"""Eight writers and eight readers on the same points: the history of each point is linearizable."""

from __future__ import annotations

import random
import threading
import time

import numpy as np
import pytest
from vectordb_client import Client

import vectordb
from tests.support.history import History, Operation, not_linear
from tests.support.nightly import cases, record
from vectordb import Dense, Int, Schema
from vectordb.server.main import start

SCHEMA = Schema({"v": Dense(4)}, {"n": Int()})
WRITES = cases(30, 600)  # of each writer
IDS = 12


@pytest.fixture(params=["embedded", "served"])
def collections_of(request, directory):
    """A function that opens the collection, for one thread."""
    with vectordb.open(directory, durability="batched") as database:
        collection = database.create_collection("c", SCHEMA)
        if request.param == "embedded":
            yield lambda: collection
            return
        server, port = start(database, port=0, threads=16)
        clients = []

        def connected():
            clients.append(Client(f"127.0.0.1:{port}"))
            return clients[-1].collection("c")

        yield connected
        for client in clients:
            client.close()
        server.stop(0).wait()


def test_what_eight_writers_and_eight_readers_see_of_each_point_has_one_order(collections_of, request):
    history, errors, writing = History(), [], threading.Event()
    writing.set()

    def write(number: int) -> None:
        c, rng = collections_of(), random.Random(number)
        for turn in range(WRITES):
            ids = rng.sample(range(IDS), rng.randint(1, 4))
            value = number * 1_000_000 + turn
            begin = time.monotonic()
            if rng.random() < 0.2:
                for i in ids[:1]:  # one by one: a delete of what isn't there has no version
                    done = c.delete([i])
                    if done.count:
                        history.add({i: (int(done), None)}, begin, writes=True)
            else:
                done = c.upsert(ids=ids, vectors={"v": np.full((len(ids), 4), turn + 1.0)}, attributes={"n": [value] * len(ids)})
                history.add({i: (int(done), value) for i in ids}, begin, writes=True)

    def read(number: int) -> None:
        c, rng = collections_of(), random.Random(100 + number)
        while writing.is_set():
            ids = rng.sample(range(IDS), rng.randint(1, IDS))
            begin = time.monotonic()
            points = c.get(ids)
            seen = {i: (None, None) if p is None else (p.version, p.attributes["n"]) for i, p in zip(ids, points, strict=True)}
            history.add(seen, begin, writes=False)
            begin = time.monotonic()
            hits = c.search({"v": [1, 1, 1, 1]}, limit=IDS)
            by_id = {hit.id: hit.attributes["n"] for hit in hits}
            assert len(by_id) == len(hits)
            points = {p.id: p for p in c.get(list(by_id)) if p is not None}
            same = {i: (p.version, p.attributes["n"]) for i, p in points.items() if p.attributes["n"] == by_id[i]}
            history.add(same, begin, writes=False)

    def run(work, number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)
            writing.clear()

    writers = [threading.Thread(target=run, args=(write, n)) for n in range(8)]
    readers = [threading.Thread(target=run, args=(read, n)) for n in range(8)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    writing.clear()
    for thread in readers:
        thread.join()
    assert not errors
    assert history.problems() == []
    record(f"concurrency_{request.node.callspec.params['collections_of']}", operations=history.count(), writers=8, readers=8)


def test_histories_that_have_no_order_are_found():
    def write(begin, end, version, value):
        return Operation(begin, end, True, version, value)

    def read(begin, end, version, value):
        return Operation(begin, end, False, version, value)

    one, two, gone = write(0, 1, 1, 10), write(2, 3, 2, 20), write(4, 5, 3, None)
    for good in ([one, two, read(2.5, 2.6, 1, 10)], [one, two, gone, read(4.5, 6, None, None)], [read(0, 1, None, None), one]):
        assert not_linear(good) == []
    assert not_linear([one, two, gone, read(4.5, 4.6, 2, 20), read(6, 7, None, None)]) == []
    for bad in (
        [one, two, read(4, 5, 1, 10)],  # stale
        [one, two, read(2.1, 2.2, 2, 20), read(2.3, 2.4, 1, 10)],  # newer, then older
        [one, two, read(0.1, 0.2, 2, 20)],  # from the future
        [one, read(2, 3, 1, 11)],  # of no write
        [one, two, read(4, 5, None, None)],  # lost
        [write(2, 3, 1, 10), write(0, 1, 2, 20)],  # written in another order
    ):
        assert not_linear(bad)
