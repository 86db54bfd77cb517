"""Evaluate filters on the payload: to owners in columns of paths, and of arrays of objects to owners in columns of their elements."""

from __future__ import annotations

import fnmatch
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
from vectordb_client.errors import CorruptionError
from vectordb_client.model.filter_nodes import All, And, Filter, Not, Nothing, Or

from ..common import deadline
from ..common.tokenize import RULE, words
from .areas import in_box, in_polygon, in_radius
from .nodes import AtLeast, PathAny, PathTest
from .payload import PathColumn, column_of, equal_to, flat, merged, number_range, reach, steps_of, string_range, strings_between

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
NONE = np.empty(0, np.uint32)


class Objects:
    """The objects at a path of some documents, as documents with paths of their own. They are kept encoded and numbered from 0.

    owners: uint32 ascending, the document that has each object.
    """

    def __init__(self, owners: np.ndarray, encoded: list[bytes]):
        self.owners, self._encoded = owners, encoded
        self._nbytes = owners.nbytes + sum(map(len, encoded)) + 56 * len(encoded) + 256
        self._columns: dict[str, PathColumn] = {}
        self._inner: dict[str, Objects] = {}

    @property
    def any(self) -> bool:
        """Whether any document has an object at the path."""
        return len(self.owners) > 0

    @property
    def nbytes(self) -> int:
        """Estimated memory in bytes."""
        return self._nbytes + sum(each.nbytes for each in [*self._inner.values(), *self._columns.values()])

    def documents(self) -> Iterator[tuple[int, Any]]:
        return enumerate(map(_decode, deadline.each(self._encoded)))

    def column(self, path: str) -> PathColumn:
        column = self._columns.get(path)
        if column is None:
            column = self._columns[path] = column_of(self.documents(), path)
        return column

    def objects(self, path: str) -> Objects:
        inner = self._inner.get(path)
        if inner is None:
            inner = self._inner[path] = objects_of(self.documents(), path)
        return inner

    def matching(self, node: Filter) -> np.ndarray:
        """The documents with an object that matches a canonical filter, in any order, some repeatedly."""
        return self.owners[self._evaluate(node)]

    def _evaluate(self, node: Filter) -> np.ndarray:
        """The numbers of the objects that match, uint32 ascending."""
        everything = np.arange(len(self.owners), dtype=np.uint32)
        if type(node) is PathTest:
            return np.unique(owners_of(node, self.column(node.field), lambda: everything))
        if type(node) is PathAny:
            return np.unique(self.objects(node.field).matching(node.child))
        if type(node) is Not:
            return np.setdiff1d(everything, self._evaluate(node.child), assume_unique=True)
        if type(node) is And or type(node) is Or or type(node) is AtLeast:
            held = np.zeros(len(self.owners), np.int64)
            for child in node.children:
                held[self._evaluate(child)] += 1
            least = node.n if type(node) is AtLeast else 1 if type(node) is Or else len(node.children)
            return np.flatnonzero(held >= least).astype(np.uint32)
        if type(node) is All or type(node) is Nothing:
            return everything if type(node) is All else NONE
        raise AssertionError(type(node).__name__)


def objects_of(documents: Iterable[tuple[int, Any]], path: str) -> Objects:
    """The objects at a path of documents: (owner, JSON value), owners ascending."""
    steps, owners, encoded = steps_of(path), [], []
    for owner, document in documents:
        found: list = []
        reach(document, steps, 0, found)
        for value in found:
            for one in flat(value):
                if type(one) is dict:
                    owners.append(owner)
                    encoded.append(_encode(one))
    return Objects(np.array(owners, np.uint32), encoded)


def joined_objects(some: list[Objects]) -> Objects:
    """The objects of several ranges of documents that follow one another."""
    return Objects(np.concatenate([each.owners for each in some]), [one for each in some for one in each._encoded])


def joined_columns(some: list[PathColumn]) -> PathColumn:
    return some[0] if len(some) == 1 else merged(some)


def owners_of(node: PathTest, column: PathColumn, everything: Callable[[], np.ndarray]) -> np.ndarray:
    """The owners in a column that pass a test, uint32 in any order, some repeatedly. everything: the owners of all documents, those
    without the path too.
    """
    found = _TESTS[node.test](node.values, column, everything)
    return found[0] if len(found) == 1 else np.concatenate(found) if found else NONE


def _in(values: tuple, column: PathColumn, everything: Any) -> list[np.ndarray]:
    return [owners for value in deadline.each(values) for owners in equal_to(column, value)]


def _outside(values: tuple, column: PathColumn, everything: Any) -> list[np.ndarray]:
    texts = {value for value in values if type(value) is str}
    numbers = sorted(value for value in values if type(value) is int or type(value) is float)
    found = strings_between(column, [i for i, text in enumerate(column.strings) if text not in texts])
    found += [column.flags[flag] for flag in (False, True) if not any(value is flag for value in values)]
    for low, high in zip([None, *numbers], [*numbers, None], strict=True):
        found += number_range(column, low, high, True, True)
    return found


def _range(values: tuple, column: PathColumn, everything: Any) -> list[np.ndarray]:
    low, high, low_open, high_open = values
    found = string_range if type(high if low is None else low) is str else number_range
    return found(column, low, high, low_open, high_open)


def _null(values: tuple, column: PathColumn, everything: Callable[[], np.ndarray]) -> list[np.ndarray]:
    return [*_missing(values, column, everything), column.nulls]


def _missing(values: tuple, column: PathColumn, everything: Callable[[], np.ndarray]) -> list[np.ndarray]:
    return [np.setdiff1d(everything(), column.present, assume_unique=True)]


def _count(values: tuple, column: PathColumn, everything: Callable[[], np.ndarray]) -> list[np.ndarray]:
    low, high = values
    held = (column.counts >= low) & (column.counts <= (np.iinfo(np.int64).max if high is None else high))
    return [column.present[held], *([] if low else _missing(values, column, everything))]


def _prefix(values: tuple, column: PathColumn, everything: Any) -> list[np.ndarray]:
    (text,) = values
    if not text:
        return [column.string_owners]
    return _strings(column, lambda each: each.startswith(text), text)


def _glob(values: tuple, column: PathColumn, everything: Any) -> list[np.ndarray]:
    pattern = re.compile(fnmatch.translate(values[0]))
    return _strings(column, lambda each: pattern.match(each) is not None, re.split(r"[*?\[]", values[0], maxsplit=1)[0])


def _fold(values: tuple, column: PathColumn, everything: Any) -> list[np.ndarray]:
    mode, text = values
    return _strings(column, folded(mode, text))


def folded(mode: str, text: str) -> Callable[[str], bool]:
    """A test of strings against a case-folded text. mode: eq, prefix, contains."""
    if mode == "eq":
        return lambda each: each.casefold() == text
    return (lambda each: each.casefold().startswith(text)) if mode == "prefix" else (lambda each: text in each.casefold())


def _match(values: tuple, column: PathColumn, everything: Any) -> list[np.ndarray]:
    mode, *wanted = values
    needed = set(wanted)

    def holds(text: str) -> bool:
        found = words(text, RULE)
        if mode == "all":
            return needed.issubset(found)
        return any(found[i : i + len(wanted)] == wanted for i in range(len(found) - len(wanted) + 1))

    return _strings(column, holds)


def _strings(column: PathColumn, holds: Callable[[str], bool], start: str = "") -> list[np.ndarray]:
    """The owners of the strings that pass a test. start: all of these begin with it."""
    low = bisect_left(column.strings, start)
    numbers = []
    for i in deadline.each(range(low, len(column.strings))):
        if start and not column.strings[i].startswith(start):
            break
        if holds(column.strings[i]):
            numbers.append(i)
    return strings_between(column, numbers)


def _area(inside: Callable[..., np.ndarray], given: Callable[[tuple], tuple] = lambda values: values) -> Callable[..., list[np.ndarray]]:
    return lambda values, column, everything: [column.place_owners[inside(column.places, *given(values))]]


_TESTS: dict[str, Callable[[tuple, PathColumn, Any], list[np.ndarray]]] = {
    "in": _in,
    "outside": _outside,
    "range": _range,
    "null": _null,
    "missing": _missing,
    "count": _count,
    "prefix": _prefix,
    "glob": _glob,
    "fold": _fold,
    "match": _match,
    "radius": _area(in_radius),
    "box": _area(in_box),
    "polygon": _area(in_polygon, lambda values: (values,)),
}


class _PayloadOfRow(msgspec.Struct, array_like=True):
    """The payload of a row record; the other values are skipped."""

    id: msgspec.Raw
    attributes: msgspec.Raw
    payload: object = None


_decode_payload = msgspec.msgpack.Decoder(_PayloadOfRow).decode


def payloads(records: Iterable[Any], docids: Iterable[int]) -> Iterator[tuple[int, Any]]:
    """(docid, payload) of row records, without rows that have no payload. Raises CorruptionError."""
    try:
        for docid, record in zip(docids, records, strict=True):
            payload = _decode_payload(record).payload
            if payload is not None:
                yield docid, payload
    except msgspec.DecodeError as error:
        raise CorruptionError(f"a row doesn't decode: {error}", field="rows") from None
