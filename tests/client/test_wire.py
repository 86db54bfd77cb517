"""The wire format: messages are decoded as they were encoded, and invalid ones are refused with the field's name."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectordb_client.errors import FilterError, InvalidArgumentError
from vectordb_client.model.collection_info import CollectionInfo
from vectordb_client.model.fields import VECTOR_TYPES, DenseColumn, MultiColumn, SparseColumn
from vectordb_client.model.filter import F
from vectordb_client.model.ranking import DBSF, RRF, Linear, Relative
from vectordb_client.model.results import ArmScore, Hit, Hits, Point
from vectordb_client.model.schema import HNSW, Dense, Schema
from vectordb_client.model.search_request import SearchRequest
from vectordb_client.model.vectors import query_vector
from vectordb_client.rpc import answers, wire, wire_search
from vectordb_client.rpc.split import slice_batch
from vectordb_client.v1 import vectordb_pb2 as pb

from tests.support.nightly import cases
from tests.support.paths import ROOT
from tests.support.wire_batches import IDS, SCHEMA, batches, packed


def carried(batch):
    """Through bytes and back."""
    return wire.unpack_batch(pb.Batch.FromString(packed(batch).SerializeToString()), SCHEMA)


def plain(batch) -> dict:
    """Everything a batch says, comparable."""

    def rows(column):
        return range(len(column)) if column.rows is None else column.rows.tolist()

    vectors = {
        name: {row: [np.asarray(part).tolist() for part in np.atleast_1d(column.vector(at))] for at, row in enumerate(rows(column))}
        if not isinstance(column, SparseColumn)
        else {row: tuple(part.tolist() for part in column.vector(at)) for at, row in enumerate(rows(column))}
        for name, column in batch.vectors.items()
    }
    return {
        "kind": batch.kind,
        "ids": [(type(i), i) for i in batch.ids],
        "vectors": vectors,
        "dtypes": {name: column.values.dtype for name, column in batch.vectors.items() if not isinstance(column, SparseColumn)},
        "attributes": {name: [(type(v), v) for v in values] for name, values in batch.attributes.items()},
        "payload": batch.payload,
        "removed": {name: rows.tolist() for name, rows in batch.removed.items() if len(rows)},
        "if_version": batch.if_version or None,
        "if_filter": batch.if_filter,
    }


# ---- Round trips ----


@given(batches())
@settings(max_examples=cases(100, 300), deadline=None)
def test_a_batch_comes_back_as_it_was(batch):
    assert plain(carried(batch)) == plain(batch)


@given(st.lists(IDS, max_size=20))
@settings(deadline=None)
def test_ids_keep_their_kind_and_order(ids):
    found = wire.unpack_ids(pb.Ids.FromString(wire.pack_ids(ids).SerializeToString()))
    assert [(type(i), i) for i in found] == [(type(i), i) for i in ids]


def test_a_hundred_thousand_integer_ids_take_eight_bytes_each():
    ids = list(range(100_000))
    message = wire.pack_ids(ids)
    assert message.ByteSize() < 800_010
    assert wire.unpack_ids(message) == ids


@given(batches(), st.data())
@settings(max_examples=cases(50, 100), deadline=None)
def test_slices_of_a_batch_are_the_batch(batch, data):
    n = len(batch.ids)
    cut = data.draw(st.integers(0, n))
    parts = [plain(slice_batch(batch, 0, cut)), plain(slice_batch(batch, cut, n))]
    whole = plain(batch)
    assert parts[0]["ids"] + parts[1]["ids"] == whole["ids"]
    for name, values in whole["attributes"].items():
        assert parts[0]["attributes"][name] + parts[1]["attributes"][name] == values
    for name, by_row in whole["vectors"].items():
        joined = dict(parts[0]["vectors"].get(name, {})) | {row + cut: v for row, v in parts[1]["vectors"].get(name, {}).items()}
        assert joined == by_row
    for name, rows in whole["removed"].items():
        assert parts[0]["removed"].get(name, []) + [row + cut for row in parts[1]["removed"].get(name, [])] == rows


def sample_hits() -> Hits:
    arms = {"d": ArmScore(1, 0.1 + 0.2, 1.0, 2.0, 0.5), "s": ArmScore(None, None, None, 1.0, 0.0)}
    attributes = {
        "t": datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=UTC),
        "u": uuid.UUID(int=7),
        "g": (1.5, -2.25),
        "gs": [(0.0, 1.0), (2.0, 3.0)],
        "ts": [],
        "k": None,
        "us": [uuid.UUID(int=8)],
    }
    vectors = {
        "d": np.arange(4, dtype=np.float32),
        "s": (np.array([3, 2**63], np.uint64), np.array([1, 2], np.float32)),
        "m": np.ones((2, 2), np.float32),
        "h": np.ones(3, np.float16),
    }
    return Hits(
        [Hit(1, 1 / 3, attributes, {"a": [1]}, arms, vectors), Hit("two", -0.0, {"t": None}, None, {"d": arms["d"]}, {})], {"op": "scan"}
    )


def same_vectors(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(
        all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(v, b[k], strict=True))
        if isinstance(v, tuple)
        else np.array_equal(v, b[k]) and v.dtype == b[k].dtype
        for k, v in a.items()
    )


def test_hits_come_back_as_the_very_numbers():
    hits, message = sample_hits(), pb.Hits()
    answers.pack_hits(message, hits, SCHEMA)
    found = answers.unpack_hits(pb.Hits.FromString(message.SerializeToString()), answers.forms_of(SCHEMA))
    assert found.plan == {"op": "scan"}
    for a, b in zip(hits, found, strict=True):
        assert a[:5] == b[:5]
        assert same_vectors(a.vectors, b.vectors)
    found[0].vectors["d"][0] = 5  # a user's own array


def test_no_hits_come_back_as_no_hits():
    message = pb.Hits()
    answers.pack_hits(message, Hits([]), SCHEMA)
    assert answers.unpack_hits(message, pb.AttributeForms()) == Hits([])


def test_points_and_gaps_come_back():
    hit = sample_hits()[0]
    points = [None, Point(5, hit.vectors, hit.attributes, {"p": 1}, 9), None, Point("x", {}, {}, None, 3)]
    message = pb.GetResponse.FromString(answers.pack_found(points, SCHEMA, answers.forms_of(SCHEMA)).SerializeToString())
    found = answers.unpack_found(message, 4)
    assert found[0] is found[2] is None
    assert (found[1].attributes, found[1].payload, found[1].version) == (hit.attributes, {"p": 1}, 9)
    assert same_vectors(found[1].vectors, hit.vectors)
    assert found[3] == points[3]


def test_a_year_beyond_datetime_comes_back_as_numpy():
    far = np.datetime64("12345-06-07T08:09:10.000011")
    message = answers.pack_points([Point(1, {}, {"t": far}, None, 1)], SCHEMA, answers.forms_of(SCHEMA))
    assert answers.unpack_points(message)[0].attributes["t"] == far


@pytest.mark.parametrize(
    "fusion",
    ["rrf", "relative", "nonsense", RRF(k=10.0, weights={"d": 2.0}), Relative({"d": 0.5}), DBSF({"s": 0.0}), "linear", Linear({"d": 2.0})],
)
def test_a_fusion_comes_back(fusion):
    request = pb.SearchRequest()
    if (message := wire_search.pack_fusion(fusion)) is not None:
        request.fusion.CopyFrom(message)
    assert wire_search.unpack_fusion(request) == fusion


@pytest.mark.parametrize("value", [True, False, ["a", "b"], []])
def test_a_selection_comes_back(value):
    request = pb.GetRequest()
    if (message := wire.pack_selection(value, "with_vectors")) is not None:
        request.with_vectors.CopyFrom(message)
    assert wire.unpack_selection(request, "with_vectors") == value


def test_filters_travel_as_text_or_as_their_tree():
    for given_filter, form in (("i > 1", "text"), (F("i") > 1, "json"), ({"op": "gt", "field": "i", "value": 1}, "json")):
        request = pb.CountRequest(filter=wire.pack_filter(given_filter))
        assert request.filter.WhichOneof("form") == form
        expected = given_filter if isinstance(given_filter, (str, dict)) else {"op": "gt", "field": "i", "value": 1}
        assert wire.unpack_filter(request) == expected


@pytest.mark.parametrize("bad", [5, [1], object(), {"op": object()}])
def test_what_is_no_filter_is_refused_before_it_is_sent(bad):
    with pytest.raises(FilterError):
        wire.pack_filter(bad)


def packed_search(vectors, batch=False, **options):
    return wire_search.pack_search("c", SCHEMA, SearchRequest.of(options), vectors, None, batch)


def test_queries_of_every_kind_arrive_as_they_were():
    queries = {"d": [1, 2, 3, 4], "s": {5: 1.0, 2: 2.0}, "m": [[1, 2], [3, 4]]}
    request = packed_search(queries)
    columns = wire.query_columns(pb.SearchRequest.FromString(request.SerializeToString()).vectors, 1, SCHEMA)
    for name, value in queries.items():
        expected = query_vector(name, SCHEMA.vectors[name], value)
        found = columns[name].vector(0)
        for a, b in zip(expected, found, strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("changed", "error", "field"),
    [
        ({"limit": "ten"}, InvalidArgumentError, "limit"),
        ({"recall": 0}, InvalidArgumentError, "recall"),
        ({"recall": float("nan")}, InvalidArgumentError, "recall"),
        ({"recall": "0.9"}, InvalidArgumentError, "recall"),
        ({"recall": True}, InvalidArgumentError, "recall"),
        ({"exact": 1}, InvalidArgumentError, "exact"),
        ({"candidates": 2.5}, InvalidArgumentError, "candidates"),
        ({"fusion": 3}, InvalidArgumentError, "fusion"),
        ({"fusion": RRF(weights={"d": "heavy"})}, InvalidArgumentError, "fusion"),
        ({"with_vectors": "d"}, InvalidArgumentError, "with_vectors"),
        ({"filter": "\ud800"}, InvalidArgumentError, "filter"),
    ],
)
def test_a_search_that_cannot_be_said_is_refused_by_name(changed, error, field):
    with pytest.raises(error) as caught:
        packed_search({"d": [1, 2, 3, 4]}, **changed)
    assert caught.value.field == field


def test_a_recall_is_said_where_it_is_named():
    def sent(recall):
        request = packed_search({"d": [1, 2, 3, 4]}, recall=recall)
        return request.recall if request.HasField("recall") else None

    assert [sent(recall) for recall in (None, 0.95, 0.5, 1, np.float32(0.25))] == [None, 0.95, 0.5, 1.0, 0.25]


@pytest.mark.parametrize("index", [HNSW(), None, HNSW("hnswlib"), HNSW(degree=4, ef_construction=2000)])
def test_a_schema_keeps_its_index(index):
    schema = Schema({"d": Dense(4, index=index)})
    assert answers.unpack_schema(answers.pack_schema(schema)) == schema
    said = schema.to_dict()["vectors"]["d"].get("index", ...)
    assert (said is ...) == (index == HNSW()) and (said is None) == (index is None)


def test_a_schema_that_says_nothing_of_an_index_has_the_default_one():
    stored = {"vectors": {"d": {"kind": "dense", "dim": 4}, "e": {"kind": "dense", "dim": 4, "index": {}}}, "attributes": {}}
    assert {spec.index for spec in Schema.from_dict(stored).vectors.values()} == {HNSW()}
    assert Dense(4) == Dense(4, index=HNSW()) != Dense(4, index=None)


def test_facts_come_back_as_they_were():
    segments = [{"first": 0, "end": 9, "rows": 8, "bytes": 100, "dead": 1, "graph": True}]
    statistics = {"d": {"kind": "dense", "rows": 9, "segments": segments, "tail": 3}}
    maintenance = {"state": "running", "task": "seal d", "stage": "graph", "share": 0.25, "error": None}
    schema = Schema({"d": Dense(4)})
    info = CollectionInfo("c", schema, 8, 7, 1, 1000, statistics, maintenance)
    message = pb.DescribeCollectionResponse(schema=answers.pack_schema(schema), info=answers.pack_info(info))
    assert answers.unpack_info("c", pb.DescribeCollectionResponse.FromString(message.SerializeToString())) == info
    message.info.ClearField("maintenance")  # of a service that has none
    assert answers.unpack_info("c", message).maintenance == {}


def test_arms_of_a_batch_must_have_as_many_queries():
    with pytest.raises(InvalidArgumentError, match="same number of queries"):
        packed_search({"d": np.ones((2, 4)), "m": [np.ones((1, 2))]}, True)


def test_generated_code_is_what_the_proto_says():
    pytest.importorskip("grpc_tools")
    import os
    import subprocess
    import sys

    checked = subprocess.run(
        ["sh", ROOT / "tools/proto.sh", "--check"], env=os.environ | {"PYTHON": sys.executable}, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_words_alone_import_no_grpc():
    import subprocess
    import sys

    before = "import sys, vectordb_client, vectordb_client.model.schema; assert 'grpc' not in sys.modules; "
    subprocess.run([sys.executable, "-c", before + "vectordb_client.Client; assert 'grpc' in sys.modules"], check=True)


def test_columns_of_all_kinds_are_named_in_the_tests():
    assert {DenseColumn, SparseColumn, MultiColumn} == {kind.column for kind in VECTOR_TYPES.values()}
