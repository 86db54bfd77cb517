"""Rows by the weight that they have of one term of a sparse field."""

from __future__ import annotations

import numpy as np
from numba import carray

from . import AUX, DATA, EXTRA, FIRST, ITEMS, LAST, NORMS
from .dense import lower_bound
from .jit import kernel, pointer


@kernel(ordered=True)
def rows_with_weight(table, term, low, high, inside, start, out):
    """Docids ≥ start that hold a term (uint64) with a weight from low to high (float32), ascending into ``out``. Returns how many.

    table: inverted blocks. inside: False for the weights outside of this range. A posting without a weight counts as 1.
    """
    n = 0
    for c in range(len(table)):
        if table[c, LAST] < start:
            continue
        vocabulary = table[c, ITEMS]
        terms = carray(pointer(table[c, DATA]), vocabulary, np.uint64)
        place = lower_bound(terms, 0, vocabulary, term)
        if place >= vocabulary or terms[place] != term:
            continue
        indptr = carray(pointer(table[c, AUX]), vocabulary + 1, np.uint32)
        begin, end = np.int64(indptr[place]), np.int64(indptr[place + 1])
        postings = np.int64(indptr[vocabulary])
        docs = carray(pointer(table[c, EXTRA]), postings, np.uint16)
        valued = table[c, NORMS] != 0
        values = carray(pointer(table[c, NORMS]), postings if valued else np.int64(0), np.float32)
        for p in range(begin, end):
            value = values[p] if valued else np.float32(1)
            docid = table[c, FIRST] + np.int64(docs[p])
            if (low <= value <= high) == inside and docid >= start:
                out[n] = docid
                n += 1
    return n
