"""The option ``recall_floor`` as users of a directory and of a service give it."""

from __future__ import annotations

import numpy as np
import pytest

from vectordb import Dense, Float, InvalidArgumentError, Keyword, Prefetch, Schema, SchemaError


def test_it_changes_no_exact_answer_and_wrong_ones_are_refused(database):
    docs = database.create_collection(
        "docs", Schema({"v": Dense(8), "w": Dense(8)}, {"lang": Keyword(), "tags": Keyword(array=True), "price": Float()})
    )
    rows = np.random.default_rng(1).standard_normal((300, 8))
    docs.upsert(ids=range(300), vectors={"v": rows, "w": rows}, attributes={"lang": ["de", "en", None] * 100})
    docs.optimize()
    query = {"v": rows[5]}
    assert docs.search(query, recall_floor="lang", exact=True).ids.tolist() == docs.search(query, exact=True).ids.tolist()
    assert docs.search(query, recall_floor="tags", recall=0.9)[0].id == 5
    assert [hits[0].id for hits in docs.search_batch({"v": rows[:3]}, recall_floor="lang")] == [0, 1, 2]
    assert docs.search(query, recall_floor="lang", explain=True).plan["arms"][0]["field"] == "v"
    for options, error, words in (
        ({"recall_floor": True}, InvalidArgumentError, "recall_floor must be the name of an attribute, not True"),
        ({"recall_floor": "nope"}, SchemaError, "no attribute 'nope'; there are: lang, tags, price"),
        ({"recall_floor": "price"}, InvalidArgumentError, "needs an attribute of categories, and 'price' is float; there are: lang, tags"),
        (
            {"recall_floor": "lang", "vectors": {**query, "w": rows[5]}},
            InvalidArgumentError,
            "searches of one field without a prefetch",
        ),
        ({"recall_floor": "lang", "prefetch": Prefetch(query)}, InvalidArgumentError, "searches of one field without a prefetch"),
    ):
        with pytest.raises(error, match=words):
            docs.search(**{"vectors": query, **options})
