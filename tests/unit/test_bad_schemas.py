"""Fields, schemas, names and directories that are none are refused with a typed error that names the field and the value."""

from __future__ import annotations

import pytest

import vectordb
from tests.support.refusals import INF, NAN, SCHEMA, filled, refuse, unchanged
from vectordb import (
    HNSW,
    Dense,
    ImpactIndex,
    Int,
    InvalidArgumentError,
    MultiVector,
    Schema,
    SchemaError,
    Sparse,
    StorageError,
    TokenLists,
)


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    with filled(tmp_path_factory.mktemp("bad")) as collection:
        yield collection


@pytest.fixture(autouse=True)
def nothing_written(collection):
    with unchanged(collection):
        yield


SCHEMAS = [
    (lambda: Dense(0), "dim"),
    (lambda: Dense(65_537), "dim"),
    (lambda: Dense(True), "dim"),
    (lambda: Dense(3, "euclid"), "metric"),
    (lambda: Dense(3, dtype="int8"), "dtype"),
    (lambda: Dense(3, source="k"), "source"),
    (lambda: Dense(3, index=HNSW), "index"),
    (lambda: Dense(3, index="faiss"), "index"),
    (lambda: Dense(3, index=False), "index"),
    (lambda: Dense(3, index={"degree": 8}), "index"),
    (lambda: HNSW("annoy"), "graph_builder"),
    (lambda: HNSW(None), "graph_builder"),
    (lambda: HNSW(["faiss"]), "graph_builder"),
    (lambda: HNSW(degree=3), "degree"),
    (lambda: HNSW(degree=65), "degree"),
    (lambda: HNSW(degree=16.0), "degree"),
    (lambda: HNSW(degree=True), "degree"),
    (lambda: HNSW(ef_construction=15), "ef_construction"),
    (lambda: HNSW(degree=64, ef_construction=63), "ef_construction"),
    (lambda: HNSW(ef_construction=2001), "ef_construction"),
    (lambda: HNSW(ef_construction="80"), "ef_construction"),
    (lambda: MultiVector(3, "l2"), "metric"),
    (lambda: MultiVector(3, aggregation="mean"), "aggregation"),
    (lambda: Sparse("bm25"), "weighting"),
    (lambda: Int(array=1), "array"),
    (lambda: Schema({"v": Dense}), "v"),
    (lambda: Schema({"v": Int()}), "v"),
    (lambda: Schema({"1v": Dense(3)}), "vector field"),
    (lambda: Schema({"v": Dense(3)}, {"v": Int()}), "v"),
    (lambda: Schema({}, {"x" * 256: Int()}), "attribute"),
    (lambda: Schema([]), "vector field"),
    (lambda: Schema({}, {f"a{i}": Int() for i in range(4097)}), "schema"),
    (lambda: Schema({"v": Dense(3, encoder="e", source="nope")}), "v"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "dens"}}}), "v"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "dense", "dimension": 3}}}), "v"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "dense", "dim": 3, "index": {"ef": 3}}}}), "v"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "dense", "dim": 3, "index": {5: 3}}}}), "v"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "dense", "dim": 3, "index": {"degree": 1}}}}), "degree"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "dense", "dim": 3, "index": True}}}), "index"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "sparse", "index": {"degree": 8}}}}), "v"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "multi", "dim": 2, "index": {"degree": 8}}}}), "v"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "multi", "dim": 2, "index": {"centroids": 1}}}}), "centroids"),
    (lambda: MultiVector(2, index=ImpactIndex()), "index"),
    (lambda: MultiVector(2, index=TokenLists), "index"),
    (lambda: TokenLists(True), "centroids"),
    (lambda: Sparse(index=HNSW()), "index"),
    (lambda: Sparse(index=ImpactIndex), "index"),
    (lambda: Dense(3, index=ImpactIndex()), "index"),
    (lambda: Sparse(binary=1), "binary"),
    (lambda: ImpactIndex(levels=1), "levels"),
    (lambda: ImpactIndex(levels=65), "levels"),
    (lambda: ImpactIndex(levels=True), "levels"),
    (lambda: Schema.from_dict({"vectors": {"v": {"kind": "dense"}}}), "v"),
    (lambda: Schema.from_dict({"fields": {}}), "schema"),
]


@pytest.mark.parametrize("at", range(len(SCHEMAS)))
def test_schemas(at):
    make, field = SCHEMAS[at]
    refuse(SchemaError, make, field)


def test_collections_and_fields(tmp_path, collection):
    with vectordb.open(tmp_path / "d") as database:
        for name in ("", "1x", "a b", "x" * 65, None, 5, "é", "../x"):
            refuse(SchemaError, lambda name=name: database.create_collection(name, SCHEMA), "collection", name)
        for schema in (None, {}, {"vectors": {}}, Schema()):
            refuse(SchemaError, lambda schema=schema: database.create_collection("c", schema), "schema")
        assert database.collections() == []
    for added in ({"vectors": {"v": Dense(3)}}, {"attributes": {"k": Int()}}, {"attributes": {"v": Int()}}, {"vectors": {"new": Int()}}):
        with pytest.raises(SchemaError):
            collection.add_fields(**added)


def test_opening(tmp_path):
    path = tmp_path / "d"
    for durability in ("fast", None, 1):
        refuse(InvalidArgumentError, lambda durability=durability: vectordb.open(path, durability=durability), "durability", durability)
    for timeout in (0, -1, NAN, INF, "1", True, None):
        refuse(InvalidArgumentError, lambda timeout=timeout: vectordb.open(path, write_timeout=timeout), "write_timeout", timeout)
    assert not path.exists()
    refuse(StorageError, lambda: vectordb.open(path, create=False), "path", str(path))
    assert not path.exists()
    path.mkdir()
    refuse(StorageError, lambda: vectordb.open(path, create=False), "path", str(path))
    assert list(path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    refuse(StorageError, lambda: vectordb.open(tmp_path / "file"), "path")
    refuse(StorageError, lambda: vectordb.open(tmp_path / "file" / "below"), "path")
