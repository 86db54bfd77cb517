"""Answers built in pieces: points and hits are encoded while they are read, up to the size limit of a message. Pure, no I/O."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import LimitError
from ..model.fields import Column
from ..model.results import ArmScore, Hit, Point
from ..model.schema import Schema
from ..model.values import Id
from ..v1 import vectordb_pb2 as pb
from .wire import pack_bits, pack_column, pack_doubles, pack_ids, pack_json

_NAN = float("nan")
_ABSENT = ArmScore(None, None, None, 0.0, _NAN)
_HELD = 3  # copies of each byte in memory at most: as a piece, in the message, and serialized
_STEP = 1 << 20
_TAGS = 64  # bytes; an upper bound of the lengths and field numbers in a message


class Room:
    """The size of an answer. most: the limit of its message in bytes; None: no limit. hold: called with the memory that it takes."""

    def __init__(self, most: int | None = None, hold: Callable[[int, str], None] | None = None):
        self.most, self.taken = most, 0
        self._hold, self._held = hold, 0

    def take(self, nbytes: int) -> None:
        """Count bytes of the answer. Raises LimitError if it becomes too large."""
        self.taken += nbytes
        if self.most is not None and self.taken > self.most:
            raise self.refusal()
        if self._hold is not None and self.taken - self._held >= _STEP:
            grown, self._held = self.taken - self._held, self.taken
            self._hold(_HELD * grown, "the answer")

    def refusal(self) -> LimitError:
        """The error for an answer that is too large."""
        return LimitError(
            f"the answer exceeds {self.most} bytes, the limit of the service (setting max_message_bytes); lower limit, "
            "request fewer points, queries, attributes or vectors at a time, or read pages with scroll",
            field="limit",
            value=self.taken,
        )


class _Ids:
    """Ids; integers are stored in 8 bytes each."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray | list[Id]] = []

    def add(self, ids: list[Id]) -> int:
        integers = set(map(type, ids)) == {int}
        self.parts.append(np.array(ids, np.uint64) if integers else ids)
        return 8 * len(ids) if integers else sum(len(i) + 4 if type(i) is str else 17 for i in ids)

    def message(self) -> pb.Ids:
        arrays = [part for part in self.parts if isinstance(part, np.ndarray)]
        if len(self.parts) != 1 and len(arrays) == len(self.parts):
            return pb.Ids(integers=b"".join([part.astype("<u8", copy=False).tobytes() for part in arrays]))
        return pack_ids([i for part in self.parts for i in (part.tolist() if isinstance(part, np.ndarray) else part)])


class _Json:
    """A JSON array of values. It is empty as long as all values are blank."""

    def __init__(self, field: str, blank: str):
        self._field, self._blank = field, blank
        self._parts: list[bytes] = []
        self._blanks = 0

    def add(self, values: list, filled: bool) -> int:
        if not filled and not self._parts:
            self._blanks += len(values)
            return 0
        grown = 0
        if self._blanks:
            self._parts.append(",".join([self._blank] * self._blanks).encode())
            grown, self._blanks = len(self._parts[0]) + 1, 0
        self._parts.append(pack_json(values, self._field)[1:-1])
        return grown + len(self._parts[-1]) + 1

    def mark(self) -> tuple[int, int]:
        return len(self._parts), self._blanks

    def back(self, mark: tuple[int, int]) -> None:
        """Return to the state at ``mark``."""
        length, self._blanks = mark
        del self._parts[length:]

    def data(self) -> bytes:
        return b"".join((b"[", b",".join(self._parts), b"]")) if self._parts else b""


class _Vectors:
    """One column for each vector field that any of the rows has."""

    def __init__(self, schema: Schema):
        self._schema = schema
        self.parts: dict[str, list[Column]] = {}

    def add(self, rows: Sequence[Mapping[str, Any]], first: int) -> int:
        grown = 0
        for name in dict.fromkeys(name for row in rows for name in row):
            have = [i for i, row in enumerate(rows) if row.get(name) is not None]
            if have:
                spec = self._schema.vector(name)
                column = spec.column.of(spec, [rows[i][name] for i in have], np.array(have, np.int32) + np.int32(first))
                if name not in self.parts:
                    self.parts[name], grown = [], grown + len(name) * 4 + _TAGS
                self.parts[name].append(column)
                grown += sum(array.nbytes for array in vars(column).values())
        return grown

    def pack(self, messages: Any) -> None:
        for name, parts in self.parts.items():
            column = parts[0] if len(parts) == 1 else parts[0].join(parts, np.concatenate([part.positions() for part in parts]))
            pack_column(messages.add(), name, column)


class _Rows:
    """The columns that points and hits share."""

    def __init__(self, schema: Schema, room: Room):
        self.room = room
        self.count = 0
        room.take(_TAGS)
        self._ids, self._vectors = _Ids(), _Vectors(schema)
        self._attributes, self._payloads = _Json("attributes", "{}"), _Json("payload", "null")

    def _add(self, rows: Sequence[Point] | Sequence[Hit]) -> None:
        room = self.room
        room.take(self._ids.add([row.id for row in rows]))
        attributes = [row.attributes if type(row.attributes) is dict else dict(row.attributes) for row in rows]
        room.take(self._attributes.add(attributes, any(attributes)))
        payloads = [row.payload for row in rows]
        room.take(self._payloads.add(payloads, any(value is not None for value in payloads)))
        room.take(self._vectors.add([row.vectors for row in rows], self.count))
        self.count += len(rows)


class PointsPacker(_Rows):
    """Points as columns. Fields that a point doesn't have are not sent."""

    def __init__(self, schema: Schema, forms: pb.AttributeForms | None, room: Room):
        super().__init__(schema, room)
        room.take(0 if forms is None else forms.ByteSize())
        self._forms = forms
        self._versions: list[bytes] = []

    def add(self, points: Sequence[Point]) -> None:
        """Add rows. Raises LimitError if the answer becomes too large."""
        self._add(points)
        self._versions.append(np.array([-1 if p.version is None else p.version for p in points], dtype="<i8").tobytes())
        self.room.take(8 * len(points))

    def add_fitting(self, points: Sequence[Point]) -> int:
        """Add as many points as fit, and return how many. Raises LimitError if even the first point of the answer doesn't fit."""
        n = len(points)
        while True:
            mark = self._mark()
            try:
                self.add(points[:n])
                return n
            except LimitError:
                self._back(mark)
                if n == 1:
                    if self.count:
                        return 0
                    raise
                n //= 2

    def _mark(self) -> tuple:
        """The current state, for ``_back``."""
        columns = [len(part) for part in self._vectors.parts.values()]
        lists = len(self._ids.parts), len(self._versions), columns
        return self.room.taken, self.count, self._attributes.mark(), self._payloads.mark(), lists

    def _back(self, mark: tuple) -> None:
        """Return to the state at ``mark``."""
        self.room.taken, self.count, attributes, payloads, (ids, versions, columns) = mark
        self._attributes.back(attributes)
        self._payloads.back(payloads)
        del self._ids.parts[ids:], self._versions[versions:]
        for name, kept in zip(list(self._vectors.parts), [*columns, *[0] * len(self._vectors.parts)], strict=False):
            del self._vectors.parts[name][kept:]
            if not kept:
                del self._vectors.parts[name]

    def message(self) -> pb.Points:
        message = pb.Points(
            ids=self._ids.message(),
            versions=b"".join(self._versions),
            attributes=self._attributes.data(),
            forms=self._forms,
            payloads=self._payloads.data(),
        )
        self._vectors.pack(message.vectors)
        return message


class HitsPacker(_Rows):
    """The hits of one query as columns; scores are float64, so that they are exact."""

    def __init__(self, schema: Schema, room: Room):
        super().__init__(schema, room)
        self._scores: list[bytes] = []
        self._arms: dict[str, list[tuple[bytes, ...]]] = {}
        self._highlights = _Json("highlights", "{}")

    def add(self, hits: Sequence[Hit]) -> None:
        """Add rows. Raises LimitError if the answer becomes too large."""
        before = self.count
        self._add(hits)
        self._scores.append(pack_doubles([hit.score for hit in hits]))
        rows = [hit.arms for hit in hits]
        for arm in dict.fromkeys([*self._arms, *(arm for row in rows for arm in row)]):
            parts = self._arms.get(arm)
            if parts is None:
                parts = self._arms[arm] = [_arm_columns([_ABSENT] * before)] if before else []
            parts.append(_arm_columns([row.get(arm, _ABSENT) for row in rows]))
        self.room.take((8 + 37 * len(self._arms)) * len(hits))
        highlights = [dict(hit.highlights) for hit in hits]
        self.room.take(self._highlights.add(highlights, any(highlights)))

    def fill(self, message: pb.Hits) -> None:
        message.ids.CopyFrom(self._ids.message())
        message.scores = b"".join(self._scores)
        message.attributes = self._attributes.data()
        message.payloads = self._payloads.data()
        message.highlights = self._highlights.data()
        for arm, parts in self._arms.items():
            *columns, missing = [b"".join(column) for column in zip(*parts, strict=True)]
            names = ("ranks", "scores", "normalized", "weights", "contributions")
            flags = pack_bits(np.frombuffer(missing, bool))
            message.arms.add(arm=arm, missing=flags, **dict(zip(names, columns, strict=True)))
        self._vectors.pack(message.vectors)


def _arm_columns(scores: list[ArmScore]) -> tuple[bytes, ...]:
    return (
        struct.pack(f"<{len(scores)}I", *[s.rank or 0 for s in scores]),
        pack_doubles([_NAN if s.score is None else s.score for s in scores]),
        pack_doubles([_NAN if s.normalized is None else s.normalized for s in scores]),
        pack_doubles([s.weight for s in scores]),
        pack_doubles([s.contribution for s in scores]),
        bytes([s.missing for s in scores]),  # one byte each; packed into bits at the end
    )
