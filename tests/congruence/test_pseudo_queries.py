"""Queries made of stored texts, and a fusion tuned by them on a branch, as users of a directory and of a service do it."""

from __future__ import annotations

import pytest

from vectordb import InvalidArgumentError, Linear, Schema, SchemaError, Sparse, Text

SUBJECTS = ["ferry", "garden", "library", "violin", "glacier", "bakery"]
TEXTS = [
    f"The {name} number {i} opens at {i % 12} in the morning. Visitors of the {name} pay {i} coins. Nobody sleeps in this {name}, ever."
    for i, name in enumerate(SUBJECTS * 10)
]


def test_a_fusion_is_tuned_on_a_branch(database):
    fields = {"words": Sparse(encoder="bm25", source="text"), "parts": Sparse(encoder="bm25", source="text")}
    docs = database.create_collection("docs", Schema(fields, {"text": Text()}))
    docs.upsert(ids=range(60), attributes={"text": TEXTS})
    made = docs.pseudo_queries("text", n=30)
    assert len(made) == 30 and made.qrels == [{i: 1.0} for i in made.ids]
    for text, rest, i in zip(made.texts, made.rests, made.ids, strict=True):
        assert text in TEXTS[i] and rest == " ".join(TEXTS[i].replace(text, " ").split())
    database.branch("docs", "trial")
    trial = database.collection("trial")
    trial.update(ids=made.ids, attributes={"text": made.rests})
    tuned = trial.tune_fusion(None, made.qrels, text={"words": made.texts, "parts": made.texts})
    database.drop_collection("trial")
    assert isinstance(tuned.fusion, Linear) and tuned.queries == 30
    assert docs.search(text={"words": "violin", "parts": "violin"}, fusion=tuned.fusion, limit=1)[0].id % 6 == 3
    assert docs.pseudo_queries("text", n=30) == made
    with pytest.raises(SchemaError, match=r"needs a Text attribute, not 'words'; there are: text; .* write that"):
        docs.pseudo_queries("words")
    with pytest.raises(InvalidArgumentError, match="kind must be 'ict', not 'bfs'"):
        docs.pseudo_queries("text", kind="bfs")
