"""A schema with every type, and Hypothesis batches of it, for the wire tests."""

from __future__ import annotations

from datetime import UTC

import numpy as np
from hypothesis import strategies as st
from vectordb_client.model.batch import UNSET, make_batch
from vectordb_client.model.schema import Bool, Datetime, Dense, Float, Geo, Int, Keyword, MultiVector, Schema, Sparse, Text, Uuid
from vectordb_client.rpc import wire
from vectordb_client.v1 import vectordb_pb2 as pb

SCHEMA = Schema(
    {
        "d": Dense(4),
        "h": Dense(3, metric="l2", dtype="float16"),
        "s": Sparse(),
        "m": MultiVector(2, metric="dot"),
    },
    {
        "k": Keyword(),
        "i": Int(),
        "f": Float(),
        "b": Bool(),
        "t": Datetime(),
        "x": Text(),
        "u": Uuid(),
        "g": Geo(),
        "ks": Keyword(array=True),
        "ts": Datetime(array=True),
        "us": Uuid(array=True),
        "gs": Geo(array=True),
    },
)

IDS = st.one_of(st.integers(0, 2**64 - 1), st.text(min_size=1, max_size=20), st.uuids())
TEXT = st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
GEO = st.tuples(st.floats(-90, 90), st.floats(-180, 180))
TIMES = st.datetimes(timezones=st.just(UTC)) | st.sampled_from([np.datetime64("12345-06-07T08:09:10.000011"), np.datetime64("-0044-03-15")])
VALUES = {
    "k": TEXT,
    "i": st.integers(-(2**63), 2**63 - 1),
    "f": st.floats(allow_nan=False, allow_infinity=False),
    "b": st.booleans(),
    "t": TIMES,
    "x": TEXT,
    "u": st.uuids(),
    "g": GEO,
    "ks": st.lists(TEXT, max_size=3),
    "ts": st.lists(TIMES, max_size=3),
    "us": st.lists(st.uuids(), max_size=3),
    "gs": st.lists(GEO, max_size=3),
}
NUMBER = st.floats(0.5, 100, width=16)
VECTORS = {
    "d": st.lists(NUMBER, min_size=4, max_size=4),
    "h": st.lists(NUMBER, min_size=3, max_size=3),
    "s": st.dictionaries(st.integers(0, 2**64 - 1), NUMBER, max_size=4),
    "m": st.lists(st.lists(NUMBER, min_size=2, max_size=2), min_size=1, max_size=3),
}


@st.composite
def batches(draw):
    kind = draw(st.sampled_from(["upsert", "update"]))
    ids = draw(st.lists(IDS, unique=True, max_size=6))
    gap = st.sampled_from([None, UNSET]) if kind == "update" else st.none()
    n = len(ids)

    def column(values):
        return draw(st.lists(values | gap, min_size=n, max_size=n))

    vectors = {name: column(VECTORS[name]) for name in draw(st.sets(st.sampled_from(sorted(VECTORS))))}
    attributes = {name: column(VALUES[name]) for name in draw(st.sets(st.sampled_from(sorted(VALUES)), max_size=5))}
    payload = column(JSON) if draw(st.booleans()) else None
    if_version = draw(st.none() | st.lists(st.none() | st.integers(0, 2**63 - 1), min_size=n, max_size=n))
    if_filter = draw(st.sampled_from([None, "i > 1", {"op": "gt", "field": "i", "value": 1}]))
    return make_batch(
        SCHEMA, kind, ids=ids, vectors=vectors, attributes=attributes, payload=payload, if_version=if_version, if_filter=if_filter
    )


def packed(batch) -> pb.Batch:
    message = pb.Batch()
    wire.pack_batch(message, batch, SCHEMA)
    return message
