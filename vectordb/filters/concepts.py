"""Conditions on concepts: the weight of one term of a derived sparse field."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import FilterError, PreconditionError, listing, shown
from vectordb_client.model.filter_concepts import Concept
from vectordb_client.model.filter_nodes import Filter, Not
from vectordb_client.model.schema import Schema

from ..kernels import COUNT, sparse
from ..kernels.concepts import rows_with_weight
from ..storage import derived, format
from .nodes import ConceptRange, make

Rows = Callable[[Any, np.ndarray, np.ndarray, Callable[[np.ndarray, np.ndarray], int]], BitMap]


def bind_concept(node: Concept, schema: Schema) -> Any:
    """The canonical form of a comparison. Raises FilterError, which names the field and the concept."""
    spec, field = schema.vectors.get(node.field), node.field
    if spec is None or spec.derived is None or spec.derived.makes != "sparse":
        having = [name for name, each in schema.vectors.items() if each.derived is not None and each.derived.makes == "sparse"]
        what = f"{field!r} is no field of concepts; such fields are derived, as Sparse(derived=SAE('v')): {listing(having)}"
        raise FilterError(what, field=field, value=field)
    term = _term(node, spec)
    value = np.float32(node.value)
    low, high = np.float32(-np.inf), np.float32(np.inf)
    if node.op in ("ge", "eq", "ne"):
        low = value
    if node.op in ("le", "eq", "ne"):
        high = value
    if node.op == "gt":
        low = np.nextafter(value, high)
    if node.op == "lt":
        high = np.nextafter(value, low)
    if (math.isinf(low) and low > 0) or (math.isinf(high) and high < 0):
        return False  # beyond the largest number
    found: Filter = make(ConceptRange, field=field, term=term, low=float(low) + 0.0, high=float(high) + 0.0)
    return make(Not, child=found) if node.op == "ne" else found


def _term(node: Concept, spec: Any) -> int:
    """The number of a concept. Raises FilterError if the field has no such concept."""
    words, size = spec.derived.words, spec.derived.width(spec.source_dim)
    if isinstance(node.concept, str):
        if node.concept in words:
            return words.index(node.concept)
        what = f"{node.field!r} has no concept {shown(node.concept)}; "
        what += f"it has: {listing(words)}" if words else f"write its number: terms({node.field!r}) shows numbers and labels"
        raise FilterError(what, field=node.field, value=node.concept)
    if node.concept >= size:
        what = f"{node.field!r} has the concepts 0 to {size - 1}, not {node.concept}"
        raise FilterError(what, field=node.field, value=node.concept)
    return node.concept


def weighted(node: ConceptRange, reader: Any, start: int, kernel_rows: Rows) -> BitMap:
    """Rows ≥ start whose weight is in the range. Raises PreconditionError if the field has no vectors yet."""
    field = reader.fields[node.field]
    if not derived.is_made(reader.store.txn, reader.store.collection, field):
        what = f"vector field {node.field!r} has no concepts yet: it is not fitted; call fit({node.field!r}), or write more points"
        raise PreconditionError(what, field=node.field)
    zero = node.low <= 0 <= node.high
    table = reader.table(field, format.POSTINGS)
    term, low, high = np.uint64(node.term), np.float32(node.low), np.float32(node.high)
    rows = kernel_rows(reader, table, table[:, COUNT], lambda some, out: rows_with_weight(some, term, low, high, not zero, start, out))
    if not zero:
        return rows
    rows_table = reader.table(field, format.FORWARD)
    return kernel_rows(reader, rows_table, rows_table[:, COUNT], lambda some, out: sparse.present_rows(some, start, out)) - rows
