"""The alignment of multi-vector hits: which row of a point each row of the query was compared with, and the words behind both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..encoders import Encoder
from ..encoders.base import Piece
from ..engine.encoding import load_encoder
from ..engine.snapshot import View
from ..fields import FIELD_TYPES
from ..index.exact import Found
from .read import vectors_of

EXPLAINED = 10  # best rows whose alignment is explained
PARTS = 256  # pairs that are listed of each: those with the highest scores


def explained(view: View, arm: Any, query: Any, found: Found) -> dict[str, Any]:
    """The alignment of the best rows of a multi-vector arm, for ``explain``; {} for an arm of another type.

    arm, here and below: a ``request.Arm``. query: prepared. found: the result. For each row: its score; parts: query and row (the rows),
    score, and the word of each if it is known; others: how many parts are not listed, and their score. Parts and others add up to the
    score of the row.
    """
    if not FIELD_TYPES[arm.spec.kind].aligns:
        return {}
    docids = found[0][:EXPLAINED].tolist()
    encoder = encoder_of(view, arm)
    asked = [] if encoder is None or arm.texts is None else fitting(encoder.pieces(arm.texts[0], query=True), len(query))
    records = [{}] * len(docids) if encoder is None or arm.spec.source is None else [row.attributes for row in view.records(docids)]
    listed = []
    for held, attributes in zip(vectors_of(view, docids, [arm.field]), records, strict=True):
        vector = held[arm.field]
        aligned = FIELD_TYPES[arm.spec.kind].aligned(arm.spec, query, vector)
        assert aligned is not None  # of a type that aligns
        listed.append(_alignment(aligned, asked, row_pieces(encoder, attributes.get(arm.spec.source), len(vector))))
    return {"alignment": listed} if listed else {}


def encoder_of(view: View, arm: Any) -> Encoder | None:
    """The encoder of an arm's field."""
    return None if arm.spec.encoder is None else load_encoder(arm.field, arm.spec, view.snapshot.meta.encoders[arm.field])


def row_pieces(encoder: Encoder | None, text: Any, rows: int) -> Sequence[Piece]:
    """What each row of a stored multi-vector stands for; [] if there is no text, or if its rows are not those of the text: they were
    clustered, or given.
    """
    return fitting(encoder.pieces(text), rows) if encoder is not None and isinstance(text, str) else []


def fitting(pieces: Sequence[Piece], rows: int) -> Sequence[Piece]:
    """The pieces if there is one for each row, else []."""
    return pieces if len(pieces) == rows else []


def _alignment(aligned: tuple[np.ndarray, ...], asked: Sequence[Piece], held: Sequence[Piece]) -> dict[str, Any]:
    in_query, in_row, scores = aligned
    shown = np.sort(np.argsort(-scores, kind="stable")[:PARTS])
    parts = []
    for i in shown.tolist():
        q, row = int(in_query[i]), int(in_row[i])
        words: Mapping[str, Any] = {"query_word": asked[q].word} if asked else {}
        parts.append({"query": q, "row": row, "score": float(scores[i]), **words, **({"word": held[row].word} if held else {})})
    total = float(scores.sum())
    left = {"parts": len(scores) - len(shown), "score": total - float(scores[shown].sum())} if len(shown) < len(scores) else None
    return {"score": total, "parts": parts, **({} if left is None else {"others": left})}
