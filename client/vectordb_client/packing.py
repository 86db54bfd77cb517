"""Answers made piece by piece: points and hits become bytes as they are read, and stop at the size of a message. Pure, no I/O."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .errors import LimitError
from .results import ArmScore, Hit, Point
from .schema import Dense, Schema, Sparse
from .v1 import vectordb_pb2 as pb
from .values import Id
from .vectors import Column, DenseColumn, MultiColumn, SparseColumn
from .wire import pack_bits, pack_column, pack_doubles, pack_ids, pack_json

_NAN = float("nan")
_ABSENT = ArmScore(None, None, None, 0.0, _NAN)
_HELD = 3  # bytes of memory that a byte of an answer takes at most until it is sent: in pieces, in its message, and written out
_STEP = 1 << 20
_TAGS = 64  # bytes, more than the lengths and numbers of a message's fields take


class Room:
    """What an answer may still grow by. most: bytes of its message; None: it has no bound. hold: told of the memory that it takes."""

    def __init__(self, most: int | None = None, hold: Callable[[int, str], None] | None = None):
        self.most, self.taken = most, 0
        self._hold, self._held = hold, 0

    def take(self, nbytes: int) -> None:
        """Raises LimitError when the answer becomes too large."""
        self.taken += nbytes
        if self.most is not None and self.taken > self.most:
            raise self.refusal()
        if self._hold is not None and self.taken - self._held >= _STEP:
            grown, self._held = self.taken - self._held, self.taken
            self._hold(_HELD * grown, "the answer")

    def refusal(self) -> LimitError:
        return LimitError(
            f"the answer takes more than {self.most} bytes, the most that is sent (the service's setting max_message_bytes); lower limit, "
            "ask for fewer points, queries, attributes or vectors at a time, or read page by page with scroll",
            field="limit",
            value=self.taken,
        )


class _Ids:
    """Ids, integers as numbers of 8 bytes."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray | list[Id]] = []

    def add(self, ids: list[Id]) -> int:
        integers = set(map(type, ids)) == {int}
        self.parts.append(np.array(ids, np.uint64) if integers else ids)
        return 8 * len(ids) if integers else sum(len(i) + 4 if type(i) is str else 17 for i in ids)

    def message(self) -> pb.Ids:
        if len(self.parts) != 1 and all(type(part) is np.ndarray for part in self.parts):
            return pb.Ids(integers=b"".join([part.astype("<u8", copy=False).tobytes() for part in self.parts]))
        return pack_ids([i for part in self.parts for i in (part.tolist() if type(part) is np.ndarray else part)])


class _Json:
    """A JSON array of values; nothing as long as all are blank."""

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
        """To where it was at ``mark``."""
        length, self._blanks = mark
        del self._parts[length:]

    def data(self) -> bytes:
        return b"".join((b"[", b",".join(self._parts), b"]")) if self._parts else b""


class _Vectors:
    """A column a vector field that any of the rows has."""

    def __init__(self, schema: Schema):
        self._schema = schema
        self.parts: dict[str, list[Column]] = {}

    def add(self, rows: Sequence[Mapping[str, Any]], first: int) -> int:
        grown = 0
        for name in dict.fromkeys(name for row in rows for name in row):
            have = [i for i, row in enumerate(rows) if row.get(name) is not None]
            if have:
                column = _column(self._schema.vector(name), [rows[i][name] for i in have], np.array(have, np.int32) + np.int32(first))
                if name not in self.parts:
                    self.parts[name], grown = [], grown + len(name) * 4 + _TAGS
                self.parts[name].append(column)
                grown += sum(array.nbytes for array in vars(column).values())
        return grown

    def pack(self, messages: Any) -> None:
        for name, parts in self.parts.items():
            pack_column(messages.add(), name, parts[0] if len(parts) == 1 else _joined(parts))


def _column(spec: Any, values: list, rows: np.ndarray) -> Column:
    if isinstance(spec, Dense):
        return DenseColumn(np.stack(values), rows)
    if isinstance(spec, Sparse):
        indptr = np.cumsum([0, *(len(terms) for terms, _ in values)])
        return SparseColumn(indptr, np.concatenate([t for t, _ in values]), np.concatenate([w for _, w in values]), rows)
    return MultiColumn(np.cumsum([0, *map(len, values)]), np.concatenate(values), rows)


def _joined(parts: list[Column]) -> Column:
    rows = np.concatenate([part.rows for part in parts])
    if isinstance(parts[0], DenseColumn):
        return DenseColumn(np.concatenate([part.values for part in parts]), rows)
    indptr = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(part.indptr) for part in parts]))])
    if isinstance(parts[0], SparseColumn):
        return SparseColumn(indptr, np.concatenate([p.terms for p in parts]), np.concatenate([p.weights for p in parts]), rows)
    return MultiColumn(indptr, np.concatenate([part.values for part in parts]), rows)


class _Rows:
    """What points and hits have in common."""

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
    """Points as columns. What a point doesn't have isn't sent."""

    def __init__(self, schema: Schema, forms: pb.AttributeForms | None, room: Room):
        super().__init__(schema, room)
        room.take(0 if forms is None else forms.ByteSize())
        self._forms = forms
        self._versions: list[bytes] = []

    def add(self, points: Sequence[Point]) -> None:
        """Some more of them. Raises LimitError when there is no room."""
        self._add(points)
        self._versions.append(np.array([-1 if p.version is None else p.version for p in points], dtype="<i8").tobytes())
        self.room.take(8 * len(points))

    def add_fitting(self, points: Sequence[Point]) -> int:
        """As many more of them as there is room for; returns how many. Raises LimitError when the first point of all doesn't fit."""
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
        """How far everything is."""
        columns = [len(part) for part in self._vectors.parts.values()]
        lists = len(self._ids.parts), len(self._versions), columns
        return self.room.taken, self.count, self._attributes.mark(), self._payloads.mark(), lists

    def _back(self, mark: tuple) -> None:
        """To where everything was."""
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
    """The hits of one query as columns; scores as float64, so that they are the very numbers."""

    def __init__(self, schema: Schema, room: Room):
        super().__init__(schema, room)
        self._scores: list[bytes] = []
        self._arms: dict[str, list[tuple[bytes, ...]]] = {}

    def add(self, hits: Sequence[Hit]) -> None:
        """Some more of them. Raises LimitError when there is no room."""
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

    def fill(self, message: pb.Hits) -> None:
        message.ids.CopyFrom(self._ids.message())
        message.scores = b"".join(self._scores)
        message.attributes = self._attributes.data()
        message.payloads = self._payloads.data()
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
        bytes([s.missing for s in scores]),  # a byte each, until all are there
    )
