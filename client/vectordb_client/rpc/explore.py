"""Operations on a field as messages, and back. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError, LimitError, shown
from ..model.explorations import Exploration
from ..model.explored import Explored
from ..model.exploring import RESULTS
from ..v1 import vectordb_pb2 as pb
from . import wire

_ROWS = 8_192  # rows of a message at most
_DTYPES = ("int32", "int64", "float32")


def request(collection: str, exploration: Exploration) -> pb.ExploreRequest:
    """The request of an operation."""
    return pb.ExploreRequest(
        collection=collection,
        operation=exploration.operation,
        field=exploration.field,
        options=wire.pack_json(exploration.to_json(), "options"),
        filter=wire.pack_filter(exploration.filter),
        with_vectors=wire.pack_selection(exploration.with_vectors, "with_vectors"),
    )


def unpack_request(message: pb.ExploreRequest) -> Exploration:
    """The operation of a request. Raises InvalidArgumentError."""
    options = wire.unpack_json(message.options, "options") if message.options else {}
    exploration = Exploration.of_json(message.operation, message.field, options, wire.unpack_filter(message))
    if exploration.with_vectors and not wire.unpack_selection(message, "with_vectors"):
        what = f"the result of {exploration.operation} holds vectors: set with_vectors, which needs the right to read them"
        raise InvalidArgumentError(what, field="with_vectors", value=False)
    return exploration


def pack(result: Explored, most: int, revision: int) -> Iterator[bytes]:
    """The result as messages of at most ``most`` bytes. Raises LimitError if a single row is larger."""
    facts, columns = result.parts()
    yield pb.ExploreResponse(facts=wire.pack_json(facts, "facts"), revision=revision).SerializeToString()
    for name, values in columns.items():
        pieces = [slice(low, low + _ROWS) for low in range(0, max(len(values), 1), _ROWS)][::-1]
        while pieces:
            piece = pieces.pop()
            data = pb.ExploreResponse(columns=[_column(name, values[piece])]).SerializeToString()
            if len(data) <= most:
                yield data
                continue
            stop = min(piece.stop, len(values))
            if stop - piece.start < 2:
                what = f"a row of the result takes {len(data)} bytes, at most {most} can be sent"
                raise LimitError(what, field="max_message_bytes", value=len(data))
            middle = (piece.start + stop) // 2
            pieces += [slice(middle, stop), slice(piece.start, middle)]
    yield pb.ExploreResponse(last=True, revision=revision).SerializeToString()


def _column(name: str, values: Any) -> pb.ExploreColumn:
    if not isinstance(values, np.ndarray):
        return pb.ExploreColumn(name=name, ids=wire.pack_ids(values))
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return pb.ExploreColumn(name=name, dtype=values.dtype.name, values=little.tobytes(), width=values.shape[1] if values.ndim > 1 else 0)


class Assembly:
    """Joins the messages of a stream into the result, and reports the progress."""

    def __init__(self, exploration: Exploration):
        self._result, self._progress = RESULTS[exploration.operation], exploration.progress
        self._facts: dict[str, Any] | None = None
        self._columns: dict[str, list[Any]] = {}

    def add(self, message: pb.ExploreResponse) -> Explored | None:
        """The result that this message completes, or None."""
        if message.total and self._progress is not None:
            self._progress(message.done, message.total)
        if message.facts:
            self._facts = wire.unpack_json(message.facts, "facts")
        for column in message.columns:
            self._columns.setdefault(column.name, []).append(_values(column))
        if not message.last:
            return None
        if self._facts is None:
            raise InvalidArgumentError("the answer has no facts", field="facts")
        return self._result.joined(self._facts, {name: _joined(parts) for name, parts in self._columns.items()})


def _values(column: pb.ExploreColumn) -> Any:
    if not column.dtype:
        return wire.unpack_ids(column.ids)
    if column.dtype not in _DTYPES or len(column.values) % (np.dtype(column.dtype).itemsize * max(column.width, 1)):
        what = f"column {shown(column.name)} has {len(column.values)} bytes of dtype {shown(column.dtype)}, {column.width} a row"
        raise InvalidArgumentError(what, field=column.name, value=column.dtype)
    values = np.frombuffer(column.values, np.dtype(column.dtype).newbyteorder("<")).astype(column.dtype)
    return values.reshape(-1, column.width) if column.width else values


def _joined(parts: list[Any]) -> Any:
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else [id for part in parts for id in part]
