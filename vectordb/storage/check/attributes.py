"""Values of attributes: their stored forms against the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from vectordb_client.model.attributes import AttributeType

from .. import attribute_forms
from ..chunks import Chunk

if TYPE_CHECKING:
    from .rows import FieldRows

_NO_TERM = 2**32 - 2  # stands for a term that is not in the dictionary; no dictionary is that large


def check_attribute(rows: FieldRows, spec: AttributeType, values: Sequence, terms: Mapping[bytes, int], rule: int) -> None:
    """Check the parts of an attribute. values: of the records. terms: its dictionary. rule: the version of the word rules."""
    having = np.array([rows.first + i for i, value in enumerate(values) if value is not None], dtype=np.int64)
    docids = np.arange(rows.first, rows.end)
    expected = attribute_forms.encode(spec, values, docids, rule, lambda needed: {term: terms.get(term, _NO_TERM) for term in needed})
    for part in attribute_forms.parts_of(spec):
        if rows.is_damaged(part):
            continue
        chunk = rows.part(part)
        stored = np.empty(0, np.int64) if chunk is None else chunk.docids.astype(np.int64)
        docids = rows.common(stored, having)
        what = f"part {part} covers {len(stored)} rows, but {len(having)} records have the attribute"
        if rows.expect(docids is not None, what) and len(docids):
            same = _equal(rows.kept(chunk, docids), rows.kept(expected[part], docids))
            rows.expect(same, f"part {part} differs from the records")


def _equal(one: Chunk, other: Chunk) -> bool:
    """Whether two chunks of the same rows are equal."""
    mine, its = one.sections(), other.sections()
    return len(mine) == len(its) and all(np.array_equal(a.reshape(-1), b.reshape(-1)) for a, b in zip(mine, its, strict=True))
