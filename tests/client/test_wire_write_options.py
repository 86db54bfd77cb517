"""Messages of updates by filter, increments, merges and insert-only upserts: packed and read back, and refused where they mean nothing."""

from __future__ import annotations

import numpy as np
import pytest
from vectordb_client import Dense, InvalidArgumentError, Schema, VectorDBError, make_batch
from vectordb_client.model.schema import Int
from vectordb_client.rpc import wire
from vectordb_client.v1 import vectordb_pb2 as pb

SCHEMA = Schema({"v": Dense(2), "w": Dense(2)}, {"n": Int(), "m": Int()})


def packed(**arguments) -> pb.Batch:
    message = pb.Batch()
    wire.pack_batch(message, make_batch(SCHEMA, arguments.pop("kind", "update"), **arguments), SCHEMA)
    return message


@pytest.mark.parametrize(
    "arguments",
    [
        {"filter": "n = 1", "vectors": {"v": [1, 2], "w": None}, "attributes": {"m": None}, "payload": {"a": 1}, "increment": {"n": 2}},
        {"filter": {"op": "eq", "field": "n", "value": 1}, "payload_merge": {"a": {"b": None}}},
        {"ids": [1, "b"], "increment": {"n": [1, None]}, "payload_merge": [{"x": 1}, None]},
        {"kind": "upsert", "ids": [1], "if_absent": True},
    ],
)
def test_a_batch_is_read_back_as_it_was(arguments):
    message = packed(**arguments)
    batch = wire.unpack_batch(message, SCHEMA)
    again = pb.Batch()
    wire.pack_batch(again, batch, SCHEMA)
    assert again == message and batch.if_absent == bool(arguments.get("if_absent"))
    assert (batch.filter is None) == ("filter" not in arguments)


def test_messages_that_mean_nothing_are_refused():
    by_filter = packed(filter="n = 1", vectors={"v": [1, 2]}, attributes={"m": 3})
    with_ids, upsert, two, both, merged, counted = (pb.Batch() for _ in range(6))
    for each in (with_ids, upsert, two, both, merged, counted):
        each.CopyFrom(by_filter)
    with_ids.ids.CopyFrom(wire.pack_ids([1, 2]))
    upsert.kind = pb.WRITE_KIND_UPSERT
    two.attributes[0].json = b"[1, 2]"
    both.vectors[0].removed = np.array([0], "<i4").tobytes()
    merged.payload_merge.json = b"[3]"
    counted.increments.add(name="n", json=b'["x"]')
    for message in (with_ids, upsert, two, both, merged, counted, pb.Batch(kind=1, if_absent=True, if_version=b"\0" * 8)):
        with pytest.raises(VectorDBError):
            wire.unpack_batch(message, SCHEMA)
    with pytest.raises(InvalidArgumentError, match="either ids or a filter"):
        wire.unpack_batch(with_ids, SCHEMA)
