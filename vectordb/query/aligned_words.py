"""The words of a text that the words of a query were aligned with, for ``highlight``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..common.analyze import Plain
from ..encoders.base import Piece
from ..engine.snapshot import View
from ..fields import FIELD_TYPES
from .alignment import encoder_of, fitting, row_pieces
from .read import vectors_of

Places = list[tuple[int, int]]


def compares(arm: Any) -> bool:
    """Whether the vectors of an arm's field are compared row by row (``FieldType.aligned``). arm: a ``request.Arm``."""
    return FIELD_TYPES[arm.spec.kind].aligns


class AlignedWords:
    """The words that a query of an arm was aligned with, in the texts of the attribute that the arm's field reads. q: the place of the
    query among those of the arm.
    """

    def __init__(self, view: View, arm: Any, q: int):
        self._view, self._arm = view, arm
        self._type, self._encoder = FIELD_TYPES[arm.spec.kind], encoder_of(view, arm)
        (self._query,) = self._type.prepare(view, arm.field, [arm.queries[q]], None)
        texts: Any = arm.texts
        self._asked = [] if self._encoder is None else fitting(self._encoder.pieces(texts[q], query=True), len(self._query))

    def places(self, text: Any, docid: int, words: Plain) -> Places | None:
        """The places of those words, ascending; None if it isn't known which word each row of the point stands for."""
        vector = vectors_of(self._view, [docid], [self._arm.field])[0].get(self._arm.field)
        if vector is None or not self._asked:
            return None
        held = row_pieces(self._encoder, text, len(vector))
        aligned = self._type.aligned(self._arm.spec, self._query, vector)
        if not held or aligned is None:
            return None
        chosen = {row for q, row in zip(*(each.tolist() for each in aligned[:2]), strict=True) if _is_word(self._asked[q])}
        pieces = sorted((held[row].start, held[row].end) for row in chosen if _is_word(held[row]))
        return _whole(pieces, [(start, end) for _, start, end in words.spans(text)])


def _is_word(piece: Piece) -> bool:
    return piece.end > piece.start and any(letter.isalnum() for letter in piece.word)


def _whole(pieces: Places, words: Places) -> Places:
    """The words that have one of the pieces in them. Both ascending."""
    found, i = [], 0
    for start, end in words:
        while i < len(pieces) and pieces[i][1] <= start:
            i += 1
        if i < len(pieces) and pieces[i][0] < end:
            found.append((start, end))
    return found


def merged(places: Sequence[Places]) -> Places:
    """Several lists of places as one, ascending. Those that overlap or touch are one place."""
    found: Places = []
    for start, end in sorted(place for some in places for place in some):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
