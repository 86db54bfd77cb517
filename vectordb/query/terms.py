"""What is said of terms: how a sparse field's are spread, which of a query's terms matched, and what each contributed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..index import flat
from ..index.saturation import Saturation
from ..snapshot import View
from ..storage import format, term_words
from ..storage.tables import ChunkTable
from .read import vectors_of
from .request import Arm

HEAVIEST = 8  # terms that statistics name
EXPLAINED = 10  # best rows whose terms are told


def dictionary(view: View, field: int) -> dict[str, Any]:
    """How a field's terms are spread over its rows, dead ones included until they are compacted away.

    terms: different ones. imbalance: d·Σp² ÷ (Σp)² with p the share of rows that have a term: 1 where all terms are equally frequent.
    postings_a_query: Σ df² ÷ rows, what an exact search for a row's own terms adds up on average (Paria et al., "Minimizing FLOPs to learn
    efficient sparse representations", ICLR 2020). heaviest: the most frequent ones (term, rows, and word where one is stored).
    """
    table = view.snapshot.table(view.store, field, format.POSTINGS)
    known = view.snapshot.prepared.get(("dictionary", field))
    if known is None or known[0] is not table:
        known = view.snapshot.prepared[("dictionary", field)] = (table, _dictionary(table))
    # Words may change without a row.
    heaviest = [dict(part) for part in known[1]["heaviest"]]
    _name(heaviest, _stored(view, field, [part["term"] for part in heaviest]))
    return known[1] | {"heaviest": heaviest}


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


def told(view: View, arm: Arm, query: tuple[np.ndarray, np.ndarray], found: flat.Found, saturation: Saturation | None) -> dict[str, Any]:
    """Of a sparse arm's query, with the weights that scores are made of: postings (what an exact search adds up), terms (term, weight, live
    rows that have it), and of the best rows matched: (term, contribution), the largest first. A term also has its
    word where the text asked has one for it or the term table does. saturation: of BM25 fields, whose vectors are term frequencies.
    """
    field, (terms, weights) = view.fields[arm.name], query
    table = view.table(field, format.POSTINGS)
    live = flat.document_frequencies(table, terms, view.snapshot.dead_words() if view.dead else None)
    touched = flat.document_frequencies(table, terms, None)
    docids = found[0][:EXPLAINED].tolist()
    vectors = vectors_of(view, docids, [arm.name])
    known = [{"term": int(t), "weight": float(w), "rows": int(n)} for t, w, n in zip(terms, weights, live, strict=True)]
    matched = [_contributions(terms, weights, vector[arm.name], saturation) for vector in vectors]
    words = {} if arm.words is None else arm.words(terms.tolist())
    words |= _stored(view, field, (term for term in terms.tolist() if term not in words))
    for parts in (known, *matched):
        _name(parts, words)
    return {"postings": int(touched.sum()), "terms": known, "matched": matched}


def _contributions(
    terms: np.ndarray, weights: np.ndarray, vector: tuple[np.ndarray, np.ndarray], saturation: Saturation | None
) -> list[dict[str, Any]]:
    shared, mine, its = np.intersect1d(terms, vector[0], assume_unique=True, return_indices=True)
    counted = vector[1] if saturation is None else saturation.weights(vector[1], vector[1].sum(dtype=np.float64))
    parts = weights[mine] * counted[its]
    return [{"term": int(shared[i]), "contribution": float(parts[i])} for i in np.lexsort((shared, -np.abs(parts)))]


def _stored(view: View, field: int, terms: Iterable[int]) -> dict[int, str]:
    return term_words.read(view.txn, view.store.collection, field, terms)


def _name(parts: Sequence[dict[str, Any]], words: dict[int, str]) -> None:
    """Give the words to those that have one."""
    for part in parts:
        if part["term"] in words:
            part["word"] = words[part["term"]]
