"""A collection that refuses bad input: what the error must say, and that nothing was written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import vectordb
from vectordb import Bool, Datetime, Dense, Float, Geo, Int, Keyword, MultiVector, Schema, Sparse, Text, Uuid, VectorDBError

SCHEMA = Schema(
    {"v": Dense(3), "l": Dense(2, "l2", "float16"), "s": Sparse(), "m": MultiVector(2)},
    {
        "k": Keyword(),
        "n": Int(),
        "x": Float(),
        "ok": Bool(),
        "at": Datetime(),
        "t": Text(),
        "u": Uuid(),
        "g": Geo(),
        "ks": Keyword(array=True),
    },
)
NAN, INF = float("nan"), float("inf")


class Unreadable:
    def __repr__(self):
        return "<unreadable>"


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[vectordb.Collection]:
    """A collection of two points."""
    with vectordb.open(folder, durability="batched") as database:
        collection = database.create_collection("c", SCHEMA)
        collection.upsert(
            ids=[1, 2],
            vectors={"v": np.eye(3)[:2], "s": [{1: 1.0}, {2: 1.0}]},
            attributes={"k": ["a", "b"], "n": [1, 2]},
            payload=[None, 1],
        )
        yield collection


@contextlib.contextmanager
def unchanged(collection) -> Iterator[None]:
    """Nothing is half-written: the same sequence, the same points, the same terms."""

    def state():
        with collection._directory.env.read() as txn:
            entries = [(bytes(key), bytes(value)) for key, value in txn.cursor()]
        return collection.info(), entries

    before = state()
    yield
    assert state() == before


def refuse(error, call, field, value=...):
    with pytest.raises(error) as caught:
        call()
    assert isinstance(caught.value, VectorDBError)
    assert caught.value.field == field, (caught.value.field, str(caught.value))
    if value is not ...:
        assert caught.value.value == value or (caught.value.value != caught.value.value and value != value)
    assert len(str(caught.value)) < 600
    return str(caught.value)
