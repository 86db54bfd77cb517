"""``Keyword(tenant=True)``: every point has a tenant and keeps it, whoever writes."""

from __future__ import annotations

import pytest

from vectordb import AlreadyExistsError, Int, InvalidArgumentError, Keyword, Schema, SchemaError

SCHEMA = Schema({}, {"owner": Keyword(tenant=True), "n": Int()})


@pytest.fixture
def docs(database):
    docs = database.create_collection("docs", SCHEMA)
    docs.upsert(ids=[1, 2], attributes={"owner": ["acme", "zeta"], "n": [1, 2]})
    return docs


def owners(docs):
    return {point.id: point.attributes["owner"] for point in docs}


def test_a_schema_has_one_tenant(docs):
    assert docs.schema == SCHEMA and docs.schema.tenant == "owner" and Schema.from_dict(SCHEMA.to_dict()).tenant == "owner"
    with pytest.raises(SchemaError, match="both array and tenant"):
        Keyword(array=True, tenant=True)
    with pytest.raises(SchemaError, match="tenant must be True or False"):
        Keyword(tenant="acme")
    with pytest.raises(SchemaError, match="'a' and 'b' are both the tenant"):
        Schema({}, {"a": Keyword(tenant=True), "b": Keyword(tenant=True)})
    with pytest.raises(SchemaError, match="both the tenant"):
        docs.add_fields(attributes={"b": Keyword(tenant=True)})


def test_a_point_without_a_tenant_is_refused(docs):
    for attributes in ({}, {"owner": None}, {"owner": ["acme", None]}):
        with pytest.raises(InvalidArgumentError, match="has no 'owner', which is the tenant") as caught:
            docs.upsert(ids=[3, 4], attributes={"n": [3, 4], **attributes})
        assert caught.value.field == "owner" and owners(docs) == {1: "acme", 2: "zeta"}


def test_a_point_keeps_its_tenant(docs):
    for wrong in ("zeta", None):
        with pytest.raises(InvalidArgumentError, match="a point keeps its tenant"):
            docs.update(ids=[1], attributes={"owner": [wrong]})
    with pytest.raises(InvalidArgumentError, match="a point keeps its tenant"):
        docs.update(filter="ALL", attributes={"owner": "acme"})
    for options in ({}, {"if_absent": True}):
        with pytest.raises(AlreadyExistsError, match="id 1 belongs to another tenant"):
            docs.upsert(ids=[5, 1], attributes={"owner": ["zeta", "zeta"]}, **options)
    assert owners(docs) == {1: "acme", 2: "zeta"}
    assert docs.update(ids=[1, 2], attributes={"owner": ["acme", "zeta"], "n": [5, 6]}).count == 2
    assert docs.update(filter="n = 5", attributes={"owner": "acme"}).count == 1
    assert docs.upsert(ids=[1], attributes={"owner": ["acme"]}, if_absent=True).count == 0
    docs.delete([1])
    docs.upsert(ids=[1], attributes={"owner": ["zeta"]})
    assert owners(docs) == {1: "zeta", 2: "zeta"}


def test_transactions_and_bulk(docs, database):
    with pytest.raises(AlreadyExistsError, match="belongs to another tenant"), database.transaction() as t:
        t["docs"].delete([2])
        t["docs"].upsert(ids=[1], attributes={"owner": ["zeta"]})
    with database.transaction() as t:
        t["docs"].delete([2])
        t["docs"].upsert(ids=[2], attributes={"owner": ["acme"]})
    assert owners(docs) == {1: "acme", 2: "acme"}
    written = docs.bulk([{"id": i, "attributes": {"owner": "acme"} if i != 7 else {}} for i in range(5, 10)])
    assert written.count == 4 and [failure.id for failure in written.failed] == [7]


def test_a_tenant_can_be_added_while_there_are_no_points(database):
    docs = database.create_collection("later", Schema({}, {"n": Int()}))
    docs.upsert(ids=[1])
    with pytest.raises(SchemaError, match="'owner' can't be added, because every point must have a tenant"):
        docs.add_fields(attributes={"owner": Keyword(tenant=True)})
    docs.delete([1])
    docs.add_fields(attributes={"owner": Keyword(tenant=True)})
    assert docs.schema.tenant == "owner"
    with pytest.raises(InvalidArgumentError, match="which is the tenant"):
        docs.upsert(ids=[1])
    docs.rename_fields({"owner": "whose"})
    assert docs.schema.tenant == "whose"
    docs.upsert(ids=[1], attributes={"whose": ["acme"]})
    docs.purge()
    assert owners_of(docs) == {1: "acme"}


def owners_of(docs):
    return {point.id: point.attributes["whose"] for point in docs}
