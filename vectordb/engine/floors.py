"""Recall by group: what audits find of the true results that have one value of an attribute, and how far a setting is lifted by it.

It is kept for as long as the process has the directory open, as the corrections of predictions are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

# Constants: unit and meaning. Chosen, not measured.
TOLERANCE = 0.03  # by which the recall of a group may be lower than was asked
LEAST_RESULTS = 200  # true results of a group that were looked for, before it is judged
KEPT_RESULTS = 4_000  # of a group; older ones fade
MOST_GROUPS = 1_000  # of an attribute; the results of others are not counted
MOST_FLOORS = 100  # combinations of field, recall and attribute
HIGHEST = 0.9995  # a target above is an exact search

Key = tuple[int, str, float, str]  # collection, field, recall asked, attribute


@dataclass
class Floor:
    """The groups of one key. target: the recall that searches are planned for now; 1.0: they are exact. groups: value → [true results that
    were found, true results] of the audits since the target was lifted. lifted: how often it was.
    """

    asked: float
    target: float
    groups: dict[Any, list[float]] = field(default_factory=dict)
    lifted: int = 0

    def learn(self, results: Iterable[tuple[Any, bool]]) -> None:
        """Count true results, each with its group and whether it was found, and lift the target if a group is too low."""
        for group, found in results:
            if group not in self.groups and len(self.groups) >= MOST_GROUPS:
                continue
            counts = self.groups.setdefault(group, [0.0, 0.0])
            counts[0] += found
            counts[1] += 1
            if counts[1] > KEPT_RESULTS:
                counts[0], counts[1] = counts[0] / 2, counts[1] / 2
        low = any(total >= LEAST_RESULTS and found < (self.asked - TOLERANCE) * total for found, total in self.groups.values())
        if low and self.target < 1.0:
            target = 1.0 - (1.0 - self.target) / 2
            self.target, self.groups, self.lifted = target if target <= HIGHEST else 1.0, {}, self.lifted + 1

    def facts(self) -> dict[str, Any]:
        """target, lifted, and groups: value → results (the true results that were looked for) and recall, the lowest first."""
        known = sorted((found / total, str(group), total) for group, (found, total) in self.groups.items())
        groups = {group: {"results": int(total), "recall": round(recall, 4)} for recall, group, total in known}
        return {"target": round(self.target, 6), "lifted": self.lifted, "groups": groups}


class Floors:
    """The floors of one directory. listener: is called with what ``learn`` is given, for metrics."""

    listener: Callable[[Key, list[tuple[Any, bool]]], None] | None = None

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._floors: dict[Key, Floor] = {}

    def target(self, key: Key) -> float:
        """The recall that a search is planned for."""
        floor = self._floors.get(key)
        return key[2] if floor is None else floor.target

    def learn(self, key: Key, target: float, results: list[tuple[Any, bool]]) -> None:
        """Count the true results of a search that was planned for ``target``. Those of an earlier target are out of date."""
        with self._lock:
            if key not in self._floors and len(self._floors) >= MOST_FLOORS:
                return
            floor = self._floors.setdefault(key, Floor(key[2], key[2]))
            if floor.target == target:
                floor.learn(results)
        if self.listener is not None:
            self.listener(key, results)

    def facts(self, collection: int, name: str, asked: float) -> dict[str, Any]:
        """attribute → ``Floor.facts`` of a field and a recall, rounded as in the statistics of audits."""
        with self._lock:
            known = [(key, floor) for key, floor in sorted(self._floors.items()) if key[:2] == (collection, name)]
            return {key[3]: floor.facts() for key, floor in known if rounded(key[2]) == asked}


def rounded(recall: float) -> float:
    """A recall target, rounded for statistics: to two digits, above 0.99 to three."""
    return round(recall, 3 if recall > 0.99 else 2)
