"""Change streams as messages, and back. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import InvalidArgumentError, LimitError, shown
from ..model.checks import check_flag, check_since
from ..model.results import Change
from ..model.schema import Schema
from ..v1 import vectordb_pb2 as pb
from . import answers, wire

KINDS = ("write", "delete", "schema")


def request(collection: str, since: Any, follow: Any, with_vectors: Any, with_attributes: Any) -> pb.ChangesRequest:
    """The request of a change stream."""
    return pb.ChangesRequest(
        collection=collection,
        since=check_since(since),
        follow=check_flag("follow", follow),
        with_vectors=wire.pack_selection(with_vectors, "with_vectors"),
        with_attributes=wire.pack_selection(with_attributes, "with_attributes"),
    )


def pack(change: Change, schema: Schema, forms: pb.AttributeForms | None, most: int, more: bool = False) -> Iterator[bytes]:
    """A change as messages of at most ``most`` bytes. more: further parts of the same change follow.

    Raises LimitError if a single point is larger.
    """
    data = _message(change, slice(None), schema, forms, more)
    if len(data) <= most:
        yield data
        return
    pieces = [slice(0, len(change.ids))]
    while pieces:
        piece = pieces.pop()
        data = _message(change, piece, schema, forms, more or piece.stop < len(change.ids))
        if len(data) <= most:
            yield data
        elif piece.stop - piece.start > 1:
            middle = (piece.start + piece.stop) // 2
            pieces += [slice(middle, piece.stop), slice(piece.start, middle)]
        else:
            raise LimitError(
                f"a point of change {change.sequence} takes {len(data)} bytes, at most {most} can be sent", field="limit", value=most
            )


def _message(change: Change, piece: slice, schema: Schema, forms: pb.AttributeForms | None, more: bool = False) -> bytes:
    message = pb.Change(sequence=change.sequence, kind=change.kind, more=more, ids=wire.pack_ids(change.ids[piece]))
    if change.points is not None:
        message.points.CopyFrom(answers.pack_points(change.points[piece], schema, forms))
    if change.schema is not None:
        message.schema = answers.pack_schema(change.schema)
    return message.SerializeToString()


class Assembly:
    """Joins the messages of a stream into changes."""

    def __init__(self) -> None:
        self._ids: list = []
        self._points: list = []

    def add(self, message: pb.Change) -> Change | None:
        """The change that this message completes, or None if parts are missing."""
        if message.kind not in KINDS:
            raise InvalidArgumentError(f"a change has an unknown kind {shown(message.kind)}", field="kind", value=message.kind)
        self._ids += wire.unpack_ids(message.ids)
        if message.HasField("points"):
            self._points += answers.unpack_points(message.points)
        if message.more:
            return None
        ids, points = tuple(self._ids), tuple(self._points)
        self._ids, self._points = [], []
        schema = answers.unpack_schema(message.schema) if message.kind == "schema" else None
        return Change(message.sequence, message.kind, ids, points if message.HasField("points") else None, schema)
