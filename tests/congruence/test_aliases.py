"""Aliases and new names of collections, in every place and on the command line."""

from __future__ import annotations

import pytest
from vectordb_client import Client

import vectordb
from tests.support.places import serving
from vectordb import (
    AlreadyExistsError,
    Int,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    Schema,
    SchemaError,
)
from vectordb.cli import main
from vectordb.engine.check import check
from vectordb.server.access import keys

SCHEMA = Schema({}, {"n": Int()})


@pytest.fixture
def two(database):
    for i, name in enumerate(("v1", "v2")):
        database.create_collection(name, SCHEMA).upsert(ids=[1], attributes={"n": [i]})
    return database


def value(database, name):
    return database.collection(name).get(1).attributes["n"]


def test_an_alias_is_read_wherever_a_name_is_and_is_switched(two, embedded, directory):
    two.alias("live", "v1")
    assert (value(two, "live"), two.aliases(), two.collections()) == (0, {"live": "v1"}, ["v1", "v2"])
    before = two.collection("live")
    assert before.name == "v1"
    two.alias("live", "v2")
    two.alias("old", "v1")
    two.alias("also", "live")
    assert [value(two, name) for name in ("live", "old", "also")] == [1, 0, 1]
    assert before.get(1).attributes["n"] == 0  # a handle stays with its collection
    two.alias("also", "v1")
    assert two.aliases() == {"also": "v1", "live": "v2", "old": "v1"}
    with two.transaction() as t:
        t["live"].update(ids=[1], increment={"n": 5})
        t["old"].update(ids=[1], increment={"n": 7})
    assert value(two, "v2") == 6 and value(two, "v1") == 7 and set(t.sequences) == {"v1", "v2"}
    assert two.create_collection("live", SCHEMA, exist_ok=True).get(1).attributes["n"] == 6
    two.drop_alias("live")
    with pytest.raises(NotFoundError):
        two.collection("live")
    assert value(two, "v2") == 6
    embedded.flush()
    assert check(directory).problems == ()


def test_a_collection_is_renamed_with_all_that_it_has(two, embedded):
    two.alias("live", "v1")
    handle = embedded.collection("v1")
    two.rename_collection("v1", "archive")
    assert two.collections() == ["archive", "v2"] and two.aliases() == {"live": "archive"}
    assert value(two, "archive") == value(two, "live") == 0 == handle.get(1).attributes["n"]
    with pytest.raises(NotFoundError):
        two.collection("v1")
    two.create_collection("v1", SCHEMA)
    assert two.collection("v1").count() == 0 and embedded.collection("archive").name == "archive"
    two.rename_collection("archive", "archive")
    two.collection("archive").upsert(ids=[2])
    assert two.collection("live").count() == 2


def test_names_that_clash_and_uses_that_make_no_sense_are_refused(two):
    two.alias("live", "v1")
    wrong = [
        (lambda: two.alias("v2", "v1"), AlreadyExistsError, "'v2' is the name of a collection"),
        (lambda: two.alias("x", "nothing"), NotFoundError, "no collection 'nothing'"),
        (lambda: two.alias("a b", "v1"), SchemaError, "'a b' is not a name"),
        (lambda: two.alias("x", 7), SchemaError, "7 is not a name"),
        (lambda: two.drop_alias("nothing"), NotFoundError, "no alias 'nothing'; existing aliases: live"),
        (lambda: two.drop_alias("v1"), NotFoundError, "no alias 'v1'"),
        (lambda: two.drop_collection("live"), InvalidArgumentError, r"alias of collection 'v1'; write drop_collection\('v1'\)"),
        (lambda: two.drop_collection("v1"), PreconditionError, "has the alias 'live'"),
        (lambda: two.rename_collection("live", "x"), InvalidArgumentError, r"rename_collection\('v1', …\)"),
        (lambda: two.rename_collection("v1", "v2"), AlreadyExistsError, "a collection 'v2'"),
        (lambda: two.rename_collection("v1", "live"), AlreadyExistsError, "an alias 'live'"),
        (lambda: two.rename_collection("nothing", "x"), NotFoundError, "no collection 'nothing'"),
        (lambda: two.rename_collection("v1", "a b"), SchemaError, "'a b' is not a name"),
        (lambda: two.create_collection("live", SCHEMA), AlreadyExistsError, "'live' is an alias of collection 'v1'"),
    ]
    for call, kind, words in wrong:
        with pytest.raises(kind, match=words):
            call()
    assert two.collections() == ["v1", "v2"] and two.aliases() == {"live": "v1"}


def test_a_handle_of_a_client_for_a_name_that_means_another_collection_now_is_refused(embedded, address):
    embedded.create_collection("v1", SCHEMA)
    with Client(address) as client:
        docs = client.collection("v1")
        embedded.rename_collection("v1", "v2")
        embedded.create_collection("v1", SCHEMA)
        with pytest.raises(NotFoundError, match="renamed"):
            docs.upsert(ids=[1])
    assert embedded.collection("v1").count() == embedded.collection("v2").count() == 0


def test_rights_belong_to_what_a_name_means_now(tmp_path):
    file = tmp_path / "data" / "keys.json"
    with vectordb.open(tmp_path / "data") as database:
        for name in ("v1", "v2", "other"):
            database.create_collection(name, SCHEMA).upsert(ids=[1], attributes={"n": [len(name)]})
        database.alias("live", "v1")
        database.alias("hidden", "other")
        made = {name: keys.create(file, "admin", collections=[name])[0] for name in ("live", "v2")}
        with serving(database) as address, Client(address, api_key=made["live"]) as live, Client(address, api_key=made["v2"]) as v2:
            assert live.collections() == ["v1"] and live.aliases() == {"live": "v1"} and v2.aliases() == {}
            assert live.collection("live").count() == live.collection("v1").count() == 1
            for client, name in ((live, "v2"), (live, "hidden"), (v2, "live"), (v2, "v1")):
                with pytest.raises(PermissionDeniedError):
                    client.collection(name)
            old = live.collection("live")
            for refused in (
                lambda: v2.alias("live", "v2"),
                lambda: live.drop_alias("live"),
                lambda: v2.rename_collection("v2", "live2"),
            ):
                with pytest.raises(PermissionDeniedError, match="a key for all collections"):
                    refused()
            database.alias("live", "v2")
            assert live.collection("live").count() == 1 == v2.collection("live").count()
            for denied in (lambda: live.collection("v1"), old.count):
                with pytest.raises(PermissionDeniedError):
                    denied()


def test_aliases_and_names_on_the_command_line(tmp_path, capsys):
    with vectordb.open(tmp_path / "data") as database:
        database.create_collection("v1", SCHEMA).upsert(ids=[1, 2])
    place = str(tmp_path / "data")

    def told(*words):
        code = main([*words])
        out, err = capsys.readouterr()
        return code, (out + err).strip()

    assert told("alias", place, "v1", "live") == (0, "'live' now means collection 'v1'")
    assert told("count", place, "live") == (0, "2")
    assert told("alias", place) == (0, "live  v1")
    assert told("rename", place, "v1", "v2") == (0, "renamed collection 'v1' to 'v2'")
    assert told("alias", place, "--json") == (0, '{\n "live": "v2"\n}')
    assert told("drop", place, "v2")[0] == 1
    assert told("alias", place, "--drop", "live") == (0, "dropped alias 'live'")
    with pytest.raises(SystemExit):
        main(["alias", place, "v2"])
