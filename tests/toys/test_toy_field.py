"""A type of vector fields that is not in the package: dense vectors compared by the sum of absolute differences. A definition and a type,
each registered by one line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from vectordb_client import InvalidArgumentError, Schema, SchemaError
from vectordb_client.model.fields import VECTOR_TYPES, DenseColumn, VectorField

import vectordb
from vectordb.engine.check import check
from vectordb.fields import FIELD_TYPES
from vectordb.fields.dense import DenseType
from vectordb.storage import format
from vectordb.transfer import export_points, import_points


@dataclass(frozen=True)
class Taxicab(VectorField):
    dim: int
    encoder: str | None = None
    source: str | None = None
    kind: ClassVar[str] = "taxicab"
    column: ClassVar[type] = DenseColumn
    dtype: ClassVar[str] = "float32"
    metric: ClassVar[str] = "dot"  # in the limits of norms


class TaxicabType(DenseType):
    kind = "taxicab"
    exact_plan = "sum of differences"

    def sign(self, spec):
        return -1.0  # users see distances

    def search(self, view, name, queries, k, rows):
        table, spec = view.chunks(view.fields[name]), view.schema.vectors[name]
        docids = np.concatenate([np.empty(0, np.uint32), *(table.docids_of(c) for c in range(len(table)))]) if rows is None else rows
        column = self.vectors(spec, table.chunks_with(docids.astype(np.int64), self.item_bytes(spec)))
        if column is None:
            return [(np.empty(0, np.int64), np.empty(0, np.float32))] * len(queries)
        docids = docids[column.rows].astype(np.int64)
        scores = [-np.abs(column.values - query).sum(axis=1) for query in queries]
        orders = [np.lexsort((docids, -each))[:k] for each in scores]
        return [(docids[order], each[order]) for order, each in zip(orders, scores, strict=True)]

    def score(self, view, name, queries, rows):
        return self.search(view, name, queries, len(rows), rows)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(VECTOR_TYPES, Taxicab.kind, Taxicab)
    monkeypatch.setitem(FIELD_TYPES, TaxicabType.kind, TaxicabType())


VECTORS = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
IDS = list(range(50))


def schema() -> Schema:
    return Schema({"v": Taxicab(3)}, {"n": vectordb.Int()})


def fill(opened):
    docs = opened.create_collection("docs", schema())
    docs.upsert(ids=IDS, vectors={"v": VECTORS}, attributes={"n": IDS})
    return docs


@pytest.fixture
def docs(database):
    return fill(database)


def expected(query, ids, limit=10) -> list[tuple[int, float]]:
    distances = np.abs(VECTORS[ids] - query).sum(axis=1)
    order = np.argsort(distances, kind="stable")[:limit]
    return [(ids[i], pytest.approx(float(distances[i]))) for i in order.tolist()]


def hits_of(hits) -> list[tuple[int, float]]:
    return [(hit.id, hit.score) for hit in hits]


def test_it_is_searched_by_its_own_distance(docs):
    assert hits_of(docs.search({"v": VECTORS[7]})) == expected(VECTORS[7], IDS)
    assert hits_of(docs.search({"v": VECTORS[7]}, filter="n >= 20")) == expected(VECTORS[7], IDS[20:])
    both = docs.search_batch({"v": VECTORS[:2]}, limit=3)
    assert [hits_of(hits) for hits in both] == [expected(query, IDS, 3) for query in VECTORS[:2]]
    docs.delete(IDS[:10])
    assert hits_of(docs.search({"v": VECTORS[7]})) == expected(VECTORS[7], IDS[10:])


def test_it_is_written_read_and_described(docs):
    docs.update(ids=[3], vectors={"v": [[1, 2, 3]]})
    assert docs.get([3], with_vectors=True)[0].vectors["v"].tolist() == [1, 2, 3]
    with pytest.raises(InvalidArgumentError, match=r"vector 'v' of point 1 has 2 dimensions, not 3"):
        docs.upsert(ids=[1], vectors={"v": [[1, 2]]})
    assert docs.info().schema == schema()
    facts = docs.info().statistics["v"]
    assert (facts["kind"], facts["rows"]) == ("taxicab", 51)
    (arm,) = docs.search({"v": VECTORS[0]}, explain=True).plan["arms"]
    assert (arm["kind"], arm["plan"]) == ("taxicab", "sum of differences")


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_files_keep_it(docs, embedded, tmp_path, ending):
    path = tmp_path / f"docs.{ending}"
    export_points(docs, path, with_vectors=True)
    again = embedded.create_collection("again", schema())
    import_points(again, path)
    np.testing.assert_array_equal([point.vectors["v"] for point in again.get(IDS, with_vectors=True)], VECTORS)


def test_it_is_checked(directory, monkeypatch):
    with vectordb.open(directory) as opened:
        fill(opened)
    assert check(directory).problems == ()
    with monkeypatch.context() as patch:
        patch.setattr(TaxicabType, "parts", lambda self, spec, bm25=False: {format.FORWARD: (2, 12)})
        assert any("has kind 1, not 2" in problem for problem in check(directory).problems)


def test_without_the_type_the_collection_is_refused(tmp_path, monkeypatch):
    with vectordb.open(tmp_path / "apart") as opened:
        fill(opened)
    monkeypatch.delitem(VECTOR_TYPES, Taxicab.kind)
    with vectordb.open(tmp_path / "apart") as opened, pytest.raises(SchemaError, match="kind of vector field 'v' must be one of"):
        opened.collection("docs")
