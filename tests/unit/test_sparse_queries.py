"""Sparse queries given as dicts: those of integers and floats are read without a look at each element, and mean the same."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from vectordb_client.model.fields import sparse
from vectordb_client.model.vectors import query_vector

from vectordb import InvalidArgumentError, Sparse

READ = {
    "ascending": {1: 0.5, 3: 1.0},
    "in any order": {9: -2.5, 1: 0.1, 2**64 - 1: 1e-9, 4: 0.3},
    "integer weights": {1: 1, 2: 2.0},
    "a zero": {1: 0.0, 2: 1.0},
    "too small for float32": {1: 1e-60, 2: 1.0},
    "numbers of numpy": {np.uint64(3): np.float32(2)},
    "tiny": {1: 1e-30},
    "indices": {"indices": [4, 1], "values": [1.0, 2.0]},
    "nothing": {},
}
REFUSED = {
    "negative": {-1: 1.0},
    "too large": {2**64: 1.0},
    "NaN": {1: float("nan"), 2: 1.0},
    "infinite": {1: float("inf")},
    "above float32": {1: 1e300},
    "too long": {1: 2e16},
    "a float": {1.0: 1.0},
    "a text": {"a": 1.0},
}


def read(value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            terms, weights = query_vector("s", Sparse(), value)
        except InvalidArgumentError as error:
            return error.message, error.field, repr(error.value)
    return terms.dtype, terms.tolist(), weights.dtype, weights.tobytes()


@pytest.mark.parametrize("value", [*READ.values(), *REFUSED.values()], ids=[*READ, *REFUSED])
def test_a_dict_is_read_as_before(monkeypatch, value):
    found = read(value)
    monkeypatch.setattr(sparse, "_arrays_of", lambda value: value)
    assert found == read(value)
    assert (type(found[0]) is str) == (value in REFUSED.values())


def test_many_terms():
    rng = np.random.default_rng(0)
    value = {int(term): float(weight) for term, weight in zip(rng.choice(2**40, 500, replace=False), rng.standard_normal(500), strict=True)}
    terms, weights = query_vector("s", Sparse(), value)
    assert terms.tolist() == sorted(value) and weights.tolist() == [np.float32(value[term]) for term in sorted(value)]
