"""Facts about the terms of sparse fields: their distribution, and for ``explain`` each query term's contribution to the scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..engine import deriving
from ..engine.snapshot import View
from ..index import exact as flat
from ..index.saturation import Saturation
from ..storage import format
from ..storage.tables import ChunkTable
from .read import vectors_of
from .request import Arm

HEAVIEST = 8  # most frequent terms listed in a dictionary's statistics
EXPLAINED = 10  # best rows whose terms are explained


def dictionary(view: View, field: int) -> dict[str, Any]:
    """The distribution of a field's terms over its rows. Dead rows count until compaction removes them.

    terms: the number of distinct terms. imbalance: d·Σp² ÷ (Σp)², where d is the number of terms and p the share of rows that have a term;
    1 if all terms are equally frequent. postings_a_query: Σ df² ÷ rows, the mean number of postings that an exact search for a row's own
    terms reads (Paria et al., "Minimizing FLOPs to learn efficient sparse representations", ICLR 2020). heaviest: the most frequent terms
    (term, rows, and word if one is stored).
    """
    table = view.snapshot.table(view.store, field, format.POSTINGS)
    cached = view.snapshot.prepared.get(("dictionary", field))
    if cached is None or cached[0] is not table:
        cached = view.snapshot.prepared[("dictionary", field)] = (table, _dictionary(table))
    # Words are looked up each time: they can change while the rows stay the same.
    heaviest = [dict(part) for part in cached[1]["heaviest"]]
    _name(heaviest, _stored(view, field, [part["term"] for part in heaviest]))
    return cached[1] | {"heaviest": heaviest}


def _dictionary(table: ChunkTable) -> dict[str, Any]:
    parts = [table.lists_of(c) for c in range(len(table))]
    if not parts or not sum(len(terms) for terms, _ in parts):
        return {"terms": 0, "imbalance": 1.0, "postings_a_query": 0.0, "heaviest": []}
    terms, where = np.unique(np.concatenate([terms for terms, _ in parts]), return_inverse=True)
    rows = np.bincount(where, weights=np.concatenate([sizes for _, sizes in parts])).astype(np.int64)
    squares = float(np.square(rows, dtype=np.float64).sum())
    heaviest = np.lexsort((terms, -rows))[:HEAVIEST]
    return {
        "terms": len(terms),
        "imbalance": len(terms) * squares / float(rows.sum()) ** 2,
        "postings_a_query": squares / table.present,
        "heaviest": [{"term": int(terms[i]), "rows": int(rows[i])} for i in heaviest],
    }


def explained(
    view: View, arm: Arm, query: tuple[np.ndarray, np.ndarray], found: flat.Found, saturation: Saturation | None
) -> dict[str, Any]:
    """The terms of a sparse arm's query, for ``explain``.

    query: (terms, weights), multiplied by IDF if the field asks for it. found: the result. saturation: of a BM25 field. Returns postings
    (the number that an exact search reads), terms (term, weight, number of live rows that have it) and matched: for each of the best rows a
    list of (term, contribution), the largest first. A term also has its word if the query's text or the field's term table has one.
    """
    field, (terms, weights) = view.fields[arm.field], query
    table = view.table(field, format.POSTINGS)
    live = flat.document_frequencies(table, terms, view.snapshot.dead_words() if view.dead else None)
    touched = flat.document_frequencies(table, terms, None)
    docids = found[0][:EXPLAINED].tolist()
    vectors = vectors_of(view, docids, [arm.field])
    asked = [{"term": int(t), "weight": float(w), "rows": int(n)} for t, w, n in zip(terms, weights, live, strict=True)]
    matched = [_contributions(terms, weights, vector[arm.field], saturation) for vector in vectors]
    words = {} if arm.words is None else arm.words(terms.tolist())
    words |= _stored(view, field, (term for term in terms.tolist() if term not in words))
    for parts in (asked, *matched):
        _name(parts, words)
    return {"postings": int(touched.sum()), "terms": asked, "matched": matched}


def _contributions(
    terms: np.ndarray, weights: np.ndarray, vector: tuple[np.ndarray, np.ndarray], saturation: Saturation | None
) -> list[dict[str, Any]]:
    """The shared terms of a query and a row with their contributions to the score, the largest first."""
    shared, in_query, in_row = np.intersect1d(terms, vector[0], assume_unique=True, return_indices=True)
    row_weights = vector[1] if saturation is None else saturation.weights(vector[1], vector[1].sum(dtype=np.float64))
    parts = weights[in_query] * row_weights[in_row]
    return [{"term": int(shared[i]), "contribution": float(parts[i])} for i in np.lexsort((shared, -np.abs(parts)))]


def _stored(view: View, field: int, terms: Iterable[int]) -> dict[int, str]:
    return deriving.words_of(view.txn, view.store.collection, field, terms)


def _name(parts: Sequence[dict[str, Any]], words: dict[int, str]) -> None:
    """Add the word of each term that has one."""
    for part in parts:
        if part["term"] in words:
            part["word"] = words[part["term"]]
