"""Migrations to another encoder, as users of a directory and of a service have them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.support.toy_encoders import DIM, TOYS, Plain, Turned, texts
from vectordb import (
    PCA,
    Dense,
    EncoderError,
    InvalidArgumentError,
    MultiVector,
    PreconditionError,
    Schema,
    SchemaError,
    Sparse,
    Text,
    cli,
    encoders,
)

N = 200


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for name, each in TOYS.items():
        monkeypatch.setitem(encoders.ENCODERS, name, each)


def filled(database, name="docs"):
    docs = database.create_collection(name, Schema({"v": Dense(DIM, encoder="toy", source="body")}, {"body": Text()}))
    docs.upsert(ids=range(N), attributes={"body": texts(N)})
    docs.upsert(ids=range(N, N + 4), vectors={"v": Plain().encode_documents(texts(4, 7)).column.values})
    return docs


def test_a_field_gets_another_encoder(database):
    docs = filled(database)
    planned = docs.migrate("v", "wide", anchors=120, dry_run=True)
    assert planned["state"] == "planned" and planned["recall_at_10"] >= 0.99  # observed 1.0
    assert docs.migration("v")["answers"] == "toy 1"
    report = docs.migrate("v", encoder="wide", anchors=120)
    assert report == planned | {"state": "none", "mapped": 4}
    assert docs.schema.vectors["v"].dim == DIM + 8
    facts = docs.migration("v")
    assert (facts["state"], facts["answers"], facts["mapped"], facts["map"]) == ("none", "wide 1", 4, "ridge")
    text = texts(N)[5]
    hits = docs.search(text=text, limit=3, exact=True, explain=True)
    assert hits[0].id == 5 and hits[0].score == pytest.approx(1, abs=1e-4)
    assert hits.plan["arms"][0]["migration"] == {"encoder": "wide 1", "mapped": 4}
    (query,) = TOYS["wide"]().encode_queries([text])
    assert docs.search({"v": query}, limit=1)[0].id == 5
    np.testing.assert_allclose(docs.get(5, with_vectors=True).vectors["v"], query, rtol=1e-5)
    docs.upsert(ids=[900], vectors={"v": [query]})
    assert docs.info().statistics["v"]["migration"]["mapped"] == 4


def test_a_migration_is_seen_and_cancelled(database):
    docs = filled(database)
    begun = docs.migrate("v", "turned", wait=False)
    assert begun["state"] in ("encoding", "indexing", "none")
    with_encoder = docs.migrate("v", "turned")  # goes on
    assert with_encoder.get("to", "turned 1") == "turned 1" and docs.migration("v")["answers"] == "turned 1"
    assert docs.cancel_migration("v") is False
    assert docs.search(text=texts(N)[7], limit=1)[0].id == 7


def test_all_vectors_can_be_mapped_first(database):
    docs = filled(database)
    assert docs.migrate("v", "turned", encode=False)["mapped"] == N + 4
    (query,) = Turned().encode_queries([texts(N)[9]])
    assert docs.search({"v": query}, limit=1)[0].id == 9
    assert docs.migrate("v", "turned")["mapped"] == 4


def test_what_makes_no_sense_is_refused_before_anything_is_written(database):
    docs = filled(database)
    docs.add_fields(
        vectors={
            "free": Dense(DIM),
            "asked": Dense(DIM, encoder="toy"),
            "words": Sparse(encoder="bm25", source="body"),
            "own": Dense(DIM, encoder="toy", source="body"),
            "small": Dense(4, derived=PCA("own")),
            "tokens": MultiVector(4),
            "empty": Dense(DIM, encoder="toy", source="body"),
        }
    )
    docs.upsert(ids=range(N + 10, N + 20), vectors={"empty": np.ones((10, DIM))})
    cases = [
        (SchemaError, "'nothing'", ("nothing", "turned"), {}),
        (EncoderError, "no encoder 'new'; the encoders are", ("v", "new"), {}),
        (EncoderError, "must be a name with or without options", ("v", "no name!"), {}),
        (InvalidArgumentError, "'free' has no encoder; add a field with encoder= and source=", ("free", "turned"), {}),
        (InvalidArgumentError, "'asked' has an encoder, but no source", ("asked", "turned"), {}),
        (InvalidArgumentError, "'words' is sparse; only dense fields can be migrated", ("words", "turned"), {}),
        (InvalidArgumentError, "'tokens' has no encoder", ("tokens", "turned"), {}),
        (InvalidArgumentError, "'small' is derived from 'own'; migrate that field", ("small", "turned"), {}),
        (InvalidArgumentError, "'own' is the source of small, which would have to be derived anew; drop it", ("own", "turned"), {}),
        (InvalidArgumentError, "encoder 'bm25' makes sparse vectors, but vector field 'v' is dense", ("v", "bm25"), {}),
        (
            InvalidArgumentError,
            "'empty' has 0 points with a text that was encoded; a map to another encoder needs 20",
            ("empty", "turned"),
            {},
        ),
        (InvalidArgumentError, "anchors must be an integer from 40 to 100000, not 12", ("v", "turned"), {"anchors": 12}),
        (InvalidArgumentError, "seed must be an integer", ("v", "turned"), {"seed": -1}),
        (InvalidArgumentError, "encode must be True or False, not 'yes'", ("v", "turned"), {"encode": "yes"}),
        (InvalidArgumentError, "encoder must be a string, not 3", ("v", 3), {}),
    ]
    before = docs.info().sequence
    for error, text, arguments, given in cases:
        with pytest.raises(error) as caught:
            docs.migrate(*arguments, **given)
        assert text in caught.value.message, (text, caught.value.message)
    for call in (docs.migration, docs.cancel_migration):
        with pytest.raises(SchemaError):
            call("nothing")
    assert docs.info().sequence == before and docs.migration("v")["state"] == "none"


def test_vectors_of_the_old_dimensions_are_refused_after_it(database):
    docs = filled(database)
    docs.migrate("v", "wide")
    old = np.ones(DIM, np.float32)
    for call in (lambda: docs.search({"v": old}), lambda: docs.upsert(ids=[1], vectors={"v": [old]})):
        with pytest.raises(InvalidArgumentError, match=rf"{DIM}"):
            call()


def test_two_encoders_are_not_taken_at_once(embedded):
    docs = filled(embedded)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded["docs"]._maintainer, "changed", lambda number: None)
        docs.migrate("v", "wide", wait=False)
    with pytest.raises(PreconditionError, match="is being migrated to 'wide'"):
        docs.migrate("v", "turned")


@pytest.mark.parametrize("served", [False, True])
def test_the_command(embedded, request, directory, capsys, served):
    filled(embedded)
    place = ["--target", request.getfixturevalue("address")] if served else [str(directory)]

    def run(*words, code=0):
        assert cli.main(["migrate", *place, "docs", "v", *words]) == code
        return capsys.readouterr()

    text = run("--encoder", "wide", "--dry-run").out
    assert text.startswith(
        "v: 32 dimensions of wide 1, 204 points, 200 of them with a text; ridge map from toy 1: recall@10 1.000, cosine 1.000"
    )
    assert text.endswith("fitted to 150; nothing was changed\n")
    assert run("--status").out == "v: vectors of toy 1, no migration is under way\n"
    assert json.loads(run("--encoder", "wide", "--json").out)["mapped"] == 4
    assert run("--encoder", "wide").out == "v: has vectors of wide 1 already\n"
    assert run("--status").out == "v: 4 of its vectors are mapped from another encoder\n"
    assert run("--cancel").out == "v: nothing to cancel\n"
    with pytest.raises(SystemExit):
        run()
    assert "--encoder NAME, with one field" in capsys.readouterr().err
