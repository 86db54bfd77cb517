"""An update of more points than a batch may have: several batches, one transaction."""

from __future__ import annotations

import vectordb
from vectordb import Dense, Int, InvalidArgumentError, Schema
from vectordb.engine import batches


def test_a_large_update_by_filter_is_several_batches_in_one_transaction(directory, monkeypatch):
    monkeypatch.setattr(batches, "MAX_BATCH", 4)
    with vectordb.open(directory, maintenance=False) as database:
        docs = database.create_collection("docs", Schema({"v": Dense(2)}, {"n": Int()}))
        docs.upsert(ids=range(10), vectors={"v": [[1, 2]] * 10}, attributes={"n": range(10)})
        result = docs.update(filter="n >= 1", increment={"n": 100}, vectors={"v": [3, 4]})
        assert (result.count, result.sequence, docs.info().sequence) == (9, 4, 4)
        assert sorted(p.attributes["n"] for p in docs.iterate()) == [0, *range(101, 110)]
        assert docs.count("n > 100") == 9
        docs.update(ids=[9], attributes={"n": [2**63 - 1]})
        before = docs.info().sequence
        try:
            docs.update(filter="ALL", increment={"n": 1})
            raise AssertionError
        except InvalidArgumentError:
            pass
        assert docs.info().sequence == before and docs.get(0).attributes["n"] == 0  # the batches before it are undone, too
