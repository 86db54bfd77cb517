"""A derivation from outside: a definition in ``model.derivations.DERIVATIONS`` and a method in ``vectordb.derivations.DERIVATIONS``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from vectordb_client.model import derivations as definitions
from vectordb_client.model.arguments import named_class

import vectordb
from tests.support.toys import checked, moved
from vectordb import Dense, Schema, SchemaError, derivations
from vectordb.derivations.base import Method


@named_class
@dataclass(frozen=True)
class Sums(definitions.Derivation):
    """The sums of neighbouring dimensions, less their mean in a sample if ``centred``."""

    source: str
    centred: bool = False
    sample: int = 100
    seed: int = 0
    name = "sums"
    learned = True


class SumsMethod(Method):
    name = "sums"
    learned = True

    def derive(self, given, spec, parts, rows):
        return np.add.reduceat(rows, np.arange(0, rows.shape[1], rows.shape[1] // spec.dim), axis=1)[:, : spec.dim] - parts["mean"]

    def fit(self, given, spec, rows):
        sums = self.derive(given, spec, {"mean": np.zeros(spec.dim, np.float32)}, rows)
        return {"mean": sums.mean(axis=0) * np.float32(given.centred)}, {"sums": len(rows)}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(definitions.DERIVATIONS, "sums", Sums)
    monkeypatch.setitem(derivations.DERIVATIONS, "sums", SumsMethod())


ROWS = np.random.default_rng(1).standard_normal((60, 8)).astype(np.float32)
SCHEMA = Schema({"v": Dense(8, "l2"), "small": Dense(4, "l2", derived=Sums("v", centred=True))})


def fill(database):
    docs = database.create_collection("docs", SCHEMA)
    docs.upsert(ids=range(60), vectors={"v": ROWS})
    assert docs.fit("small")["sums"] == 54
    return docs


def test_it_is_fitted_written_and_searched_in_each_place(database):
    docs = fill(database)
    sums = ROWS.reshape(60, 4, 2).sum(axis=2)
    differences = {point.id: point.vectors["small"] - sums[point.id] for point in docs.iterate(with_vectors=["small"])}
    assert np.ptp(np.stack(list(differences.values())), axis=0).max() < 1e-5 and abs(differences[0]).max() > 0.01
    expected = np.argsort(np.square(sums - sums[5]).sum(axis=1))[:4]
    assert docs.search({"small": ROWS[5]}, limit=4).ids.tolist() == expected.tolist()
    assert docs.schema.vectors["small"].derived == Sums("v", centred=True)


def test_it_is_exported_imported_and_checked(directory, tmp_path):
    with vectordb.open(directory) as database:
        expected = fill(database).search({"small": ROWS[5]}, limit=4).ids.tolist()
    checked(directory)
    with moved(directory, "docs", tmp_path / "moved") as docs:
        docs.fit("small")
        assert docs.search({"small": ROWS[5]}, limit=4).ids.tolist() == expected


def test_without_it_the_collection_is_refused_by_name(monkeypatch):
    data = SCHEMA.to_dict()
    monkeypatch.delitem(definitions.DERIVATIONS, "sums")
    with pytest.raises(SchemaError, match="'small' is derived by 'sums', which this version doesn't know; it knows prefix, project"):
        Schema.from_dict(data)
