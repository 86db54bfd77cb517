"""Attributes may have any name of 1 to 255 bytes: they are written, read, filtered and shown like others."""

from __future__ import annotations

import pytest
from vectordb_client.model.filter import to_dict

from vectordb import Dense, F, Int, Keyword, Schema, SchemaError, Text

NAMES = ["unit price", "9 lives", "é→`x`", "and", "a.b", " ", "line\nbreak", "名前", "n" * 255, "'quoted\"", "GEO_RADIUS"]


def backticks(name):
    return "`" + name.replace("`", "``") + "`"


def test_any_name_is_written_read_and_filtered(database):
    schema = Schema({"v": Dense(2), "words": vectordb_words()}, {**{name: Int() for name in NAMES}, "the text": Text()})
    docs = database.create_collection("c", schema)
    rows = range(6)
    values = {name: [i * (k + 1) for i in rows] for k, name in enumerate(NAMES)}
    texts = ["a fox", "a dog", None, "fox", "", "dogs"]
    docs.upsert(ids=list(rows), vectors={"v": [[1, i] for i in rows]}, attributes={**values, "the text": texts})
    assert docs.schema == schema == Schema.from_dict(schema.to_dict())
    assert docs.get(2).attributes == {name: some[2] for name, some in values.items()}
    for k, name in enumerate(NAMES):
        condition = F(name) > 2 * (k + 1)
        for notation in (condition, f"{backticks(name)} > {2 * (k + 1)}", to_dict(condition)):
            assert docs.count(notation) == 3
        hits = docs.search({"v": [0, 1]}, filter=condition, with_attributes=[name], explain=True)
        assert [hit.attributes for hit in hits] == [{name: values[name][hit.id]} for hit in hits] and len(hits) == 3
        assert "\n" not in hits.plan["request"]["filter"]
    assert {hit.id for hit in docs.search(text="fox")} >= {0, 3}
    docs.update([{"id": 1, "attributes": {"unit price": 77}}])
    assert docs.count("`unit price` = 77") == 1
    docs.add_fields(attributes={"a later one": Keyword()})
    docs.upsert(ids=[9], attributes={"a later one": ["x"]})
    assert docs.count("`a later one` = 'x'") == 1


def vectordb_words():
    from vectordb import Sparse

    return Sparse("idf", encoder="bm25", source="the text")


@pytest.mark.parametrize("name", ["", "n" * 256, "é" * 128, "\ud800", 5, None])
def test_other_names_are_refused(name):
    with pytest.raises(SchemaError, match="1 to 255 UTF-8 bytes") as error:
        Schema({}, {name: Int()})
    assert error.value.field == "attribute"
