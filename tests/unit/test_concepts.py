"""Definitions of Concepts: what is refused, and their JSON form."""

from __future__ import annotations

import numpy as np
import pytest

from vectordb import Concepts, Dense, InvalidArgumentError, Schema, SchemaError, Sparse
from vectordb.derivations import DERIVATIONS

SUCH = r"such as \['war', 'music'\]"
WRONG = [
    (lambda: Concepts("v"), r"needs 1 to 4096 words, such as words=\['war', 'music'\], not 0"),
    (lambda: Concepts("v", words=[]), "not 0"),
    (lambda: Concepts("v", words="war"), "must be a list of strings, .* not 'war'"),
    (lambda: Concepts("v", words={"war": 1}), "must be a list of strings"),
    (lambda: Concepts("v", words=5), "must be a list of strings"),
    (lambda: Concepts("v", words=["war", 3]), r"words\[1\] of Concepts must be a text in one line, .*not 3"),
    (lambda: Concepts("v", words=["war", " "]), r"words\[1\] .* not blank"),
    (lambda: Concepts("v", words=["a\nb"]), r"words\[0\] .* in one line"),
    (lambda: Concepts("v", words=["é" * 241]), r"words\[0\] .* at most 480 bytes"),
    (lambda: Concepts("v", words=["\ud800"]), r"words\[0\] "),
    (lambda: Concepts("v", words=["war", "art", "war"]), "has 'war' twice, at 0 and 2; write each word once"),
    (lambda: Concepts("v", words=[str(i) for i in range(4097)]), "needs 1 to 4096 words, .* not 4097"),
    (lambda: Concepts("v", words=["war", "art"], k=3), "k of Concepts is 3, but there are 2 words; write k=2, or more words"),
    (lambda: Concepts("v", words=["war"], k=2), "there is 1 word; write k=1"),
    (lambda: Concepts("v", words=["war"], k=0), "k must be"),
    (
        lambda: Schema({"v": Dense(8), "c": Sparse(derived=Concepts("v", words=["war"]))}),
        "needs an encoder .* declare 'v' with encoder=",
    ),
    (lambda: Schema({"v": Dense(8), "d": Dense(4, derived=Concepts("v", words=["war"]))}), "Concepts makes sparse vectors; write Sparse"),
    (lambda: Sparse(derived=Concepts("v", words=["war"]), weighting="idf"), "a derived field has no weighting"),
]


@pytest.mark.parametrize("make, words", WRONG)
def test_wrong_definitions_are_refused(make, words):
    with pytest.raises((SchemaError, InvalidArgumentError), match=words) as caught:
        make()
    assert caught.value.field is not None


def test_a_definition_is_a_value_with_a_json_form():
    given = Concepts("v", words=["war", "art"])
    assert given == Concepts("v", words=("war", "art"), k=2) and hash(given) == hash(Concepts("v", words=["war", "art"]))
    assert given.to_dict() == {"by": "concepts", "source": "v", "words": ["war", "art"], "k": 2}
    assert Concepts("v", words=list("abcdefghij")).k == 8
    schema = Schema({"v": Dense(256, encoder="wordllama"), "c": Sparse(derived=given)})
    assert Schema.from_dict(schema.to_dict()) == schema
    with pytest.raises(SchemaError, match="there are: k, source, words"):
        Schema.from_dict(schema.to_dict() | {"vectors": {"c": {"kind": "sparse", "derived": given.to_dict() | {"hidden": 3}}}})


def test_a_row_has_the_same_weights_whatever_stands_beside_it():
    rng, given = np.random.default_rng(1), Concepts("v", words=[f"word {i}" for i in range(40)], k=5)
    method, rows = DERIVATIONS["concepts"], rng.standard_normal((1_500, 24)).astype(np.float32)
    rows[3] = 0
    parts = method.parts_of(rng.standard_normal((40, 24)).astype(np.float32) * 7)
    whole = method.derive(given, None, parts, rows)
    assert len(whole.vector(3)[0]) == 0 and np.diff(whole.indptr).max() == 5 and 0 < whole.weights.min() <= whole.weights.max() < 1
    for low, high in ((0, 1), (1_023, 1_026), (3, 3)):
        part = method.derive(given, None, parts, np.ascontiguousarray(rows[low:high]))
        for i in range(high - low):
            assert [each.tobytes() for each in part.vector(i)] == [each.tobytes() for each in whole.vector(low + i)]
