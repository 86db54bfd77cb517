"""``as_of`` in every place: the answers of earlier states are those that the collection gave then; what makes no sense is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tests.support.places import difference, plain
from vectordb import Dense, Int, InvalidArgumentError, Keyword, NotFoundError, PreconditionError, Schema, Sparse, Text

SCHEMA = Schema({"d": Dense(3), "t": Sparse(encoder="bm25", source="body")}, {"body": Text(), "n": Int(), "k": Keyword()})


def answers(docs, **state):
    d = {"d": [1.0, 2.0, 0.5]}
    found = [docs.count(**state), docs.count("n > 3", **state), docs.get([*range(12)], with_vectors=True, **state), docs.get(4, **state)]
    found += [list(docs.iterate(page=3, **state)), list(docs.iterate(filter="k = 'b' OR body MATCH 'fox'", page=2, **state))]
    found += [docs.scroll(order_by="-n", limit=5, **state).points, docs.search(order_by=["k", "n"], **state)]
    found += [docs.search(d, **state), docs.search(text={"t": "fox w1"}, **state), docs.search(d, text={"t": "fox"}, exact=True, **state)]
    found += [docs.search(d, filter="n < 7", limit=3, with_payload=True, **state), docs.search(d, limit=3, with_attributes=False, **state)]
    found += [docs.search_batch({"d": [[1, 1, 1], [0, 1, 0]]}, limit=2, **state), docs.prepare(limit=3, **state)(d)]
    found += [docs.facets("k", filter="n < 9", **state), docs.aggregate({"n": ["sum", "max"]}, **state)]
    return plain(found)


def filled(database, **given):
    """(a collection, sequence → its answers then)."""
    docs = database.create_collection("docs", SCHEMA, **given)
    rng, states = np.random.default_rng(4), {}
    points = [
        {
            "id": i,
            "vectors": {"d": rng.standard_normal(3).tolist()},
            "attributes": {"body": f"fox w{i % 3}", "n": i, "k": "abc"[i % 3]},
            "payload": {"p": i},
        }
        for i in range(10)
    ]
    for write in (
        lambda: docs.upsert(points[:8]),
        lambda: docs.delete([2, 5]),
        lambda: docs.update(filter="n > 4", increment={"n": 3}),
        lambda: docs.upsert([*points[8:], {**points[2], "attributes": {"n": 1}}]),
        lambda: docs.update([{"id": 4, "attributes": {"body": None, "k": "z"}}], payload_merge={"q": 1}),
        lambda: docs.delete(filter="k = 'a'"),
    ):
        sequence = write().sequence
        states[sequence] = answers(docs)
    return docs, states


def test_earlier_states_answer_as_they_did(database):
    docs, states = filled(database, history="7d")
    docs.optimize()
    for state in (*states, *reversed(states)):
        assert not difference(states[state], answers(docs, as_of=state)), state
    history = docs.info().history
    assert (history["seconds"], history["first"]) == (604_800.0, 0) and "history of 7 days, from sequence 0" in str(docs.info())
    assert docs.count(as_of=datetime.now(UTC)) == docs.count() and docs.count(as_of="1990-01-01T00:00:00+01:00") == 0
    plan = docs.search({"d": [1, 2, 3]}, as_of=2, explain=True).plan
    assert plan["request"] == {"as_of": 2} and plan["sequence"] == 2
    assert plan["as_of"] == {"sequence": 2, "newest": 6, "old_rows": 5, "index_files": {"used": 0, "left_out": 0}}
    assert "as of sequence 2, 4 writes ago: 5 rows replaced or deleted since" in str(plan)
    assert "as_of" not in docs.search({"d": [1, 2, 3]}, explain=True).plan


def test_pages_stay_in_their_state(database):
    docs, _ = filled(database, history=3600)
    query = {"d": [1.0, 2.0, 0.5]}
    whole, ordered = docs.search(query, as_of=1, exact=True), docs.search(order_by="-n", as_of=1)
    for options, expected in (({"vectors": query}, whole), ({"order_by": "-n"}, ordered)):
        hits, ids = docs.search(limit=3, as_of=1, **options), []
        while True:
            ids += hits.ids.tolist()
            docs.upsert([{"id": 50 + len(ids)}, {"id": 3, "attributes": {"n": len(ids)}}])
            if hits.next is None:
                break
            for other in ({}, {"as_of": 2}):
                with pytest.raises(InvalidArgumentError, match="cursor is of another search"):
                    docs.search(limit=3, cursor=hits.next, **options, **other)
            hits = docs.search(limit=3, cursor=hits.next, as_of=1, **options)
        assert ids == expected.ids.tolist()
    page = docs.scroll(order_by="n", limit=3, as_of=1)
    with pytest.raises(InvalidArgumentError, match="cursor is of another search"):
        docs.scroll(order_by="n", limit=3, cursor=page.cursor)
    assert docs.scroll(order_by="n", limit=9, cursor=page.cursor, as_of=1).points == docs.scroll(order_by="n", as_of=1).points[3:]


def test_examples_are_points_of_that_state(database):
    docs, _ = filled(database, history="1h")
    assert len(docs.search(like=[5], as_of=1)) == 7
    with pytest.raises(NotFoundError, match="no point with the id 5"):
        docs.search(like=[5], as_of=2)


def test_history_is_changed_later(database):
    docs, _ = filled(database)
    with pytest.raises(PreconditionError, match="as_of needs a collection that keeps its history; keep_history") as caught:
        docs.count(as_of=3)
    assert caught.value.field == "as_of" and docs.info().history == {}
    docs.keep_history("90m")
    assert docs.info().history["seconds"] == 5400 and docs.count(as_of=6) == docs.count()
    with pytest.raises(NotFoundError, match="as_of is 5, but the history begins at sequence 6"):
        docs.get(1, as_of=5)
    docs.keep_history(timedelta(days=2))
    assert docs.info().history["seconds"] == 172_800
    docs.keep_history(None)
    with pytest.raises(PreconditionError, match="keeps its history"):
        docs.search({"d": [1, 2, 3]}, as_of=6)
    for wrong in ("week", -3, True):
        with pytest.raises(InvalidArgumentError, match="history must be a time such as '7d'"):
            docs.keep_history(wrong)


def test_what_makes_no_sense_is_refused(database):
    docs, _ = filled(database, history="1d")
    calls = [
        lambda state: docs.count(as_of=state),
        lambda state: docs.get(1, as_of=state),
        lambda state: docs.scroll(as_of=state),
        lambda state: docs.facets("k", as_of=state),
        lambda state: docs.aggregate({"n": "max"}, as_of=state),
        lambda state: docs.search({"d": [1, 2, 3]}, as_of=state),
        lambda state: docs.search_batch({"d": [[1, 2, 3]]}, as_of=state),
    ]
    for state, what in (
        (7, "as_of is 7, but the newest sequence is 6"),
        (-1, "as_of must be a sequence number, a datetime with a time zone, or ISO text"),
        ("yesterday", "as_of must be a sequence number, a datetime with a time zone, or ISO text"),
        (1.5, "as_of must be a sequence number"),
        (True, "as_of must be a sequence number"),
        (datetime(2026, 1, 1), "as_of needs a time zone, or it would mean another moment elsewhere"),
        ("2026-01-01T00:00:00", "as_of needs a time zone"),
        (np.datetime64("2026-01-01T00:00:00"), "as_of needs a time zone"),
        (datetime(2999, 1, 1, tzinfo=UTC), "which is in the future; leave it out"),
    ):
        for call in calls:
            with pytest.raises(InvalidArgumentError, match=what) as caught:
                call(state)
            assert caught.value.field == "as_of"
