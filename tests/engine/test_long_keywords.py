"""Keywords of more than 480 bytes, which are indexed by a hash: every test of keywords, against the strings themselves."""

from __future__ import annotations

import fnmatch
import random

import pytest

import vectordb
from vectordb import F, Keyword, Schema
from vectordb.engine.check import check
from vectordb.storage.attribute_forms import MAX_TERM_BYTES, is_hashed, keyword_term

BASE = "k" * 463
VALUES = [
    "", "a", "Z", "k" * 462, BASE, BASE + "a", "k" * 480, "k" * 481, BASE + "b" * 30, BASE + "B" * 30, BASE + "c" * 500,
    "é" * 240, "é" * 241, "é" * 231 + "x" * 40, "\U0010ffff" * 130, BASE.upper() + "b" * 30, "l" * 900, "z" * 100_000,
]  # fmt: skip
QUESTIONS = [
    *[(F("k") == value, lambda v, value=value: v == value) for value in VALUES],
    (F("k") != BASE + "b" * 30, lambda v: v != BASE + "b" * 30),
    (F("k").isin(VALUES[6:11]), lambda v: v in VALUES[6:11]),
    *[(F("k") < value, lambda v, value=value: v < value) for value in VALUES],
    *[(F("k") >= value, lambda v, value=value: v >= value) for value in VALUES],
    (F("k").between(BASE + "b", BASE + "c" * 400), lambda v: BASE + "b" <= v <= BASE + "c" * 400),
    *[(F("k").startswith(start), lambda v, start=start: v.startswith(start)) for start in ("k", BASE, BASE + "b", "é" * 235)],
    (F("k").startswith(BASE + "c" * 450), lambda v: v.startswith(BASE + "c" * 450)),
    (F("k").glob("k*b"), lambda v: fnmatch.fnmatchcase(v, "k*b")),
    (F("k").glob(BASE + "?" * 30), lambda v: fnmatch.fnmatchcase(v, BASE + "?" * 30)),
    (F("k").contains("cc"), lambda v: "cc" in v),
    (F("k").ieq(BASE + "b" * 30), lambda v: v.casefold() == BASE + "b" * 30),
    (F("k").istartswith(BASE + "B"), lambda v: v.casefold().startswith(BASE + "b")),
    (F("k").icontains("BB"), lambda v: "bb" in v.casefold()),
    (F("k").some_not_in(VALUES[:12]), lambda v: v not in VALUES[:12]),
]  # fmt: skip


def test_a_term_fits_a_key_and_says_that_it_is_hashed():
    terms = [keyword_term(value) for value in VALUES]
    assert len(set(terms)) == len(VALUES) and max(map(len, terms)) == MAX_TERM_BYTES
    for value, term in zip(VALUES, terms, strict=True):
        assert is_hashed(term) == (len(value.encode()) > MAX_TERM_BYTES) == (term != value.encode())


@pytest.mark.parametrize("array", [False, True])
def test_every_test_of_keywords(tmp_path, array):
    rng = random.Random(1)
    with vectordb.open(tmp_path / "data", durability="batched", maintenance=False) as database:
        docs = database.create_collection("c", Schema({}, {"k": Keyword(array=array)}))
        rows: dict = {}
        for step in range(3):
            ids = range(step * 20, step * 20 + 30)
            made = {i: [rng.choice(VALUES) for _ in range(rng.randrange(3))] if array else rng.choice([*VALUES, None]) for i in ids}
            docs.upsert(ids=list(ids), attributes={"k": list(made.values())})
            rows |= made
            for i in rng.sample(sorted(rows), 5):
                docs.delete([i])
                del rows[i]
            if step == 1:
                docs.optimize()
            agree(docs, rows, array)
        assert docs.get(max(rows)).attributes.get("k") == rows[max(rows)]
    with vectordb.open(tmp_path / "data") as again:
        agree(again.collection("c"), rows, array)
    report = check(tmp_path / "data")
    assert not report.problems, report


def agree(docs, rows, array):
    for condition, holds in QUESTIONS:
        if array and repr(condition).startswith("ContainsAny"):
            continue
        values = {i: value if array else [] if value is None else [value] for i, value in rows.items()}
        expected = {i for i, some in values.items() if any(map(holds, some))}
        if getattr(condition, "op", "") == "ne":
            expected = {i for i, some in values.items() if all(map(holds, some))}
        assert {point.id for point in docs.iterate(filter=condition, with_attributes=False)} == expected, repr(condition)[:80]
