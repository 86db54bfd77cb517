"""Fields with inverted lists, in each place."""

from __future__ import annotations

import numpy as np
import pytest

from vectordb import HNSW, IVF, Dense, F, Int, Schema


@pytest.mark.parametrize("index, bits", [(IVF(), 4), (IVF(bits=2), 2)])
def test_a_field_with_lists(database, index, bits):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((700, 12)).astype(np.float32)
    docs = database.create_collection("docs", Schema({"v": Dense(12, index=index), "w": Dense(12, index=HNSW())}, {"n": Int()}))
    assert docs.schema.vectors["v"].index == index and docs.schema.vectors["w"].index == HNSW()
    docs.upsert(ids=range(700), vectors={"v": vectors, "w": vectors}, attributes={"n": range(700)})
    docs.optimize()
    info = docs.info()
    (facts,) = info.statistics["v"]["segments"]
    assert (facts["kind"], facts["rows"], facts["bits"]) == ("lists", 700, [1, bits])
    assert ("IVF()" if bits == 4 else "IVF(bits=2)") in str(info)
    for condition in (None, F("n") < 500):
        query = rng.standard_normal(12).astype(np.float32)
        truth = docs.search({"v": query}, filter=condition, exact=True)
        hits = docs.search({"v": query}, filter=condition, recall=0.99, explain=True)
        assert len(hits) == 10 and len({(hit.id, hit.score) for hit in hits} & {(hit.id, hit.score) for hit in truth}) >= 9  # observed: 10
        (shown,) = hits.plan["arms"][0]["segments"]
        assert shown["plan"] in ("exact scan", "lists") and {row["plan"] for row in shown["considered"]} <= {"exact scan", "lists"}
        assert len(docs.search({"v": query, "w": query}, filter=condition)) == 10
