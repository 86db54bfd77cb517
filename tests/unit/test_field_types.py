"""The types of vector fields: both tables name the same types, and nothing else asks of which type a field is."""

from __future__ import annotations

import re

import pytest
import vectordb_client
from vectordb_client.model.fields import VECTOR_TYPES

import vectordb
from tests.support.paths import ROOT
from vectordb.fields import FIELD_TYPES

KINDS = "Dense|Sparse|MultiVector|DenseColumn|SparseColumn|MultiColumn|Indexed|AnySegment"
ASKS = re.compile(rf"(isinstance|issubclass)\(.*\b({KINDS})\b")
# The types themselves, and the schema, which says what to write in place of a wrong definition.
MAY_ASK = ("vectordb/fields/", "client/vectordb_client/model/fields/", "client/vectordb_client/model/schema.py")


def test_both_tables_name_the_same_types():
    assert list(VECTOR_TYPES) == list(FIELD_TYPES)
    for kind, definition in VECTOR_TYPES.items():
        assert definition.kind == definition.column.message == FIELD_TYPES[kind].kind == kind


def test_nothing_else_asks_of_which_type_a_field_is():
    lines = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder in ("vectordb", "client/vectordb_client")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not str(path.relative_to(ROOT)).startswith(MAY_ASK)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if ASKS.search(line)
    ]
    assert not lines, "\n".join(lines)


@pytest.mark.parametrize("package", [vectordb, vectordb_client])
def test_the_options_of_indexes_keep_their_earlier_names(package):
    assert package.Index is package.HNSW
    assert package.SparseIndex is package.ImpactIndex
