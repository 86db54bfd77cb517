"""The values at one path of the payloads of some rows, in an order in which filters find them.

A path is keys joined by dots. Arrays on the way are looked into at any depth, so ``items.size`` has the sizes of all items. A key that
itself contains dots is found too.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

Steps = tuple[tuple[tuple[str, int], ...], ...]


@lru_cache(maxsize=1_024)
def steps_of(path: str) -> Steps:
    """For each key of a path, the keys that may come next, each with the number of the step after it: "a.b" is a and then b, or "a.b"."""
    keys = path.split(".")
    return tuple(tuple((".".join(keys[i:j]), j) for j in range(i + 1, len(keys) + 1)) for i in range(len(keys)))


def reach(value: Any, steps: Steps, at: int, found: list) -> None:
    """Append the values at a path to a list: of a value that stands before step ``at``."""
    if at == len(steps):
        found.append(value)
    elif type(value) is dict:
        for key, following in steps[at]:
            if key in value:
                reach(value[key], steps, following, found)
    elif type(value) is list:
        for each in value:
            reach(each, steps, at, found)


def flat(value: Any) -> Iterator[Any]:
    """The elements of an array, and of arrays in it; of another value itself."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if type(one) is list:
            waiting.extend(reversed(one))
        else:
            yield one


class PathColumn(NamedTuple):
    """The values at a path, by type. An owner is the docid of the row, or the number of the object, that has a value; uint32.

    numbers: float64 ascending, with ``number_owners``. large: integers that no float64 equals, each with its owner. strings: ascending; the
    owners of string i are ``string_owners[starts[i] : starts[i + 1]]``. flags: owners of False and of True. present: owners with a
    value or a null, ascending. nulls: those of them with nothing but null. counts: int64, values of each in ``present``. places: float64
    ``(n, 2)``, latitude and longitude in degrees, with ``place_owners``.
    """

    numbers: np.ndarray
    number_owners: np.ndarray
    large: tuple[tuple[int, int], ...]
    strings: list[str]
    starts: np.ndarray
    string_owners: np.ndarray
    flags: tuple[np.ndarray, np.ndarray]
    present: np.ndarray
    nulls: np.ndarray
    counts: np.ndarray
    places: np.ndarray
    place_owners: np.ndarray

    @property
    def any(self) -> bool:
        """Whether any document has the path."""
        return len(self.present) > 0

    @property
    def nbytes(self) -> int:
        """Estimated memory in bytes."""
        arrays = (each.nbytes for each in chain(self, self.flags) if isinstance(each, np.ndarray))
        return sum(arrays) + sum(map(len, self.strings)) + 64 * len(self.strings) + 96 * len(self.large) + 1_024


def _owners(listed: list[int]) -> np.ndarray:
    return np.array(listed, np.uint32)


def column_of(documents: Iterable[tuple[int, Any]], path: str) -> PathColumn:
    """The column of documents: (owner, JSON value), owners ascending."""
    steps = steps_of(path)
    numbers: list[float] = []
    number_owners: list[int] = []
    large: list[tuple[int, int]] = []
    strings: dict[str, list[int]] = {}
    flags: tuple[list[int], list[int]] = [], []
    present: list[int] = []
    nulls: list[int] = []
    counts: list[int] = []
    places: list[tuple[float, float]] = []
    place_owners: list[int] = []
    single = steps[0][0][0] if len(steps) == 1 else None
    for owner, document in documents:
        if single is not None and type(document) is dict:
            if single not in document:
                continue
            found = [document[single]]
        else:
            found = []
            reach(document, steps, 0, found)
            if not found:
                continue
        present.append(owner)
        count = 0
        for value in found:
            if type(value) is list:
                count += len(value)
                elements: Iterable = flat(value)
            else:
                count += value is not None
                elements = (value,)
            for one in elements:
                kind = type(one)
                if kind is str:
                    owners = strings.get(one)
                    if owners is None:
                        strings[one] = [owner]
                    else:
                        owners.append(owner)
                elif kind is float or kind is int:
                    number = float(one)
                    if number == one:
                        numbers.append(number)
                        number_owners.append(owner)
                    else:
                        large.append((one, owner))
                elif kind is bool:
                    flags[one].append(owner)
                elif kind is dict and (place := _place(one)) is not None:
                    places.append(place)
                    place_owners.append(owner)
        counts.append(count)
        if found.count(None) == len(found):
            nulls.append(owner)
    ordered = sorted(strings)
    values = np.array(numbers, np.float64)
    order = np.argsort(values, kind="stable")
    return PathColumn(
        values[order],
        _owners(number_owners)[order],
        tuple(sorted(large)),
        ordered,
        np.cumsum([0, *[len(strings[each]) for each in ordered]]),
        _owners([*chain.from_iterable([strings[each] for each in ordered])]),
        (_owners(flags[0]), _owners(flags[1])),
        _owners(present),
        _owners(nulls),
        np.array(counts, np.int64),
        np.array(places, np.float64).reshape(-1, 2),
        _owners(place_owners),
    )


def _place(value: dict) -> tuple[float, float] | None:
    """The place of an object with "lat" and "lon" in degrees; None if it has none."""
    lat, lon = value.get("lat"), value.get("lon")
    if (type(lat) is int or type(lat) is float) and (type(lon) is int or type(lon) is float) and -90 <= lat <= 90 and -180 <= lon <= 180:
        return float(lat), float(lon)
    return None


def merged(columns: list[PathColumn]) -> PathColumn:
    """One column of several, whose owners follow one another."""
    numbers, owners = (np.concatenate([each[i] for each in columns]) for i in (0, 1))
    order = np.argsort(numbers, kind="stable")
    strings = sorted(set().union(*[each.strings for each in columns]))
    place = {text: i for i, text in enumerate(strings)}
    codes = np.concatenate(
        [np.repeat(np.array([place[text] for text in each.strings], np.int64), np.diff(each.starts)) for each in columns]
    )
    by_string = np.argsort(codes, kind="stable")
    string_owners = np.concatenate([each.string_owners for each in columns])[by_string]
    return PathColumn(
        numbers[order],
        owners[order],
        tuple(sorted(chain.from_iterable([each.large for each in columns]))),
        strings,
        np.searchsorted(codes[by_string], np.arange(len(strings) + 1)),
        string_owners,
        (np.concatenate([each.flags[0] for each in columns]), np.concatenate([each.flags[1] for each in columns])),
        *(np.concatenate([each[i] for each in columns]) for i in range(7, 12)),
    )


# Looking values up. Each returns the owners, in any order, some repeatedly.


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def number_range(column: PathColumn, low: Any, high: Any, low_open: bool, high_open: bool) -> list[np.ndarray]:
    """Owners of numbers between exact bounds; a bound of None is open."""
    begin, end = 0, len(column.numbers)
    if low is not None:
        bound = _float(low)
        after = bound < low or (bound == low and low_open)
        begin = int(np.searchsorted(column.numbers, bound, "right" if after else "left"))
    if high is not None:
        bound = _float(high)
        before = bound > high or (bound == high and high_open)
        end = int(np.searchsorted(column.numbers, bound, "left" if before else "right"))
    found = [column.number_owners[begin:end]]
    if column.large:
        least = (
            0 if low is None else bisect_right(column.large, low, key=_first) if low_open else bisect_left(column.large, low, key=_first)
        )
        most = len(column.large)
        if high is not None:
            most = (bisect_left if high_open else bisect_right)(column.large, high, key=_first)
        found.append(_owners([owner for _, owner in column.large[least:most]]))
    return found


def _first(pair: tuple) -> Any:
    return pair[0]


def string_range(column: PathColumn, low: str | None, high: str | None, low_open: bool, high_open: bool) -> list[np.ndarray]:
    """Owners of strings between bounds, by code points; a bound of None is open."""
    begin = 0 if low is None else (bisect_right if low_open else bisect_left)(column.strings, low)
    end = len(column.strings) if high is None else (bisect_left if high_open else bisect_right)(column.strings, high)
    return [column.string_owners[column.starts[begin] : column.starts[max(begin, end)]]]


def strings_between(column: PathColumn, numbers: Iterable[int]) -> list[np.ndarray]:
    """Owners of some strings, given by their positions."""
    return [column.string_owners[column.starts[i] : column.starts[i + 1]] for i in numbers]


def equal_to(column: PathColumn, value: Any) -> list[np.ndarray]:
    """Owners of a value."""
    if type(value) is str:
        return string_range(column, value, value, False, False)
    if type(value) is bool:
        return [column.flags[value]]
    return number_range(column, value, value, False, False)
