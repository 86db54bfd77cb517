"""Fusion of candidate lists: a row's score is Σ weight · normalised score over the arms that list it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from vectordb_client.errors import InvalidArgumentError
from vectordb_client.model.ranking import Fusion
from vectordb_client.model.results import ArmScore

from ...engine.snapshot import View
from ...index.exact import Found
from ...kernels.fusion import merge_lists
from ..arms import sign
from ..request import Arm, Search
from .missing import arm_weights, everywhere, has_vectors, rescaled

# Docids, scores as users see them, each hit's scores by arm.
Ranked = tuple[list[int], list[float], Sequence[dict[str, ArmScore]]]


_arm_score = tuple.__new__  # half the cost of the named tuple's constructor


class Rows(NamedTuple):
    """A ranking that may be as long as the collection. docids: int64. scores: as users see them, float64. parts: position → the scores by
    arm of the row there.
    """

    docids: np.ndarray
    scores: np.ndarray
    parts: Callable[[int], dict[str, ArmScore]]


def fuse(view: View, search: Search, lists: Sequence[Found]) -> Ranked:
    """The best ``limit`` rows of the union of the arms' candidates. A hit's contributions add up to its fused score. Ties go to the lower
    docid.

    lists: (docids, scores) of each arm, best first, higher is better.
    """
    weights = arm_weights(search)
    merged = merge(view, search, lists, weights, search.limit)
    return merged.docids.tolist(), merged.sums.tolist(), ArmScores(merged, weights, present_in(view, search.arms, merged), search)


def present_in(view: View, arms: Sequence[Arm], merged: Merged) -> np.ndarray | None:
    """bool ``(n, arms)``: whether a row has a vector in the field of an arm; None if every row has them all."""
    if all(everywhere(view, arm) for arm in arms):
        return None
    present = merged.places >= 0  # a row that an arm lists has a vector there, so only the others are looked up
    for a, arm in enumerate(arms):
        if not present[:, a].all():
            present[~present[:, a], a] = has_vectors(view, arm, merged.docids[~present[:, a]])
    return present


class ArmScores(Sequence[dict[str, ArmScore]]):
    """The scores of hits by arm, made when they are read.

    weights: float64 ``(arms,)``. present: bool ``(n, arms)``, whether a hit has a vector in the field of an arm; None if all have.
    """

    __slots__ = ("_made", "_merged", "_names", "_present", "_renormalised", "_signs", "_weights")

    def __init__(self, merged: Merged, weights: np.ndarray, present: np.ndarray | None, search: Search):
        self._merged, self._weights, self._present = merged, weights, present
        self._names, self._signs = [arm.name for arm in search.arms], [sign(arm) for arm in search.arms]
        self._renormalised = search.fusion.missing == "renormalise"
        self._made: list[dict[str, ArmScore]] | None = None

    def __len__(self) -> int:
        return len(self._merged.docids)

    def __getitem__(self, index: Any) -> Any:
        return self._all()[index]

    def __iter__(self) -> Iterator[dict[str, ArmScore]]:
        return iter(self._all())

    def _all(self) -> list[dict[str, ArmScore]]:
        if self._made is None:
            self._made = self._make()
        return self._made

    def _make(self) -> list[dict[str, ArmScore]]:
        merged, weights, present, names, signs = self._merged, self._weights, self._present, self._names, self._signs
        counts, has = [weights.tolist()] * len(self), [(True,) * len(names)] * len(self)
        if present is not None:
            has = present.tolist()
            if self._renormalised:
                counts = rescaled(weights, present.T).T.tolist()
        explained = []
        for row, scores, normal, parts, own, there in zip(merged.places.tolist(), *merged.facts.tolist(), counts, has, strict=True):
            by_arm = {}
            for a, place in enumerate(row):
                if place >= 0:
                    facts = (place + 1, signs[a] * scores[a], normal[a], own[a], parts[a], False)
                else:
                    facts = (None, None, None, own[a], 0.0, not there[a])
                by_arm[names[a]] = _arm_score(ArmScore, facts)
            explained.append(by_arm)
        return explained


class Merged(NamedTuple):
    """The best rows of several lists. docids: int64 ``(n,)``, best first. sums: float64 ``(n,)``. places: int64 ``(n, arms)``, from 0, −1
    where an arm doesn't list a row. facts: float64 ``(3, n, arms)``: score, normalised score and contribution, 0 where it doesn't.
    """

    docids: np.ndarray
    sums: np.ndarray
    places: np.ndarray
    facts: np.ndarray


def merge(view: View, search: Search, lists: Sequence[Found], weights: np.ndarray, limit: int) -> Merged:
    """The best ``limit`` rows by Σ weight · normalised score. weights: float64 ``(arms,)``. Others as ``fuse``."""
    lengths = [len(scores) for _, scores in lists]
    docids = np.concatenate([docids for docids, _ in lists], dtype=np.int64)
    scores = np.concatenate([scores for _, scores in lists], dtype=np.float32)
    normal = _normalised(search.fusion, [scores for _, scores in lists])
    renormalised = search.fusion.missing == "renormalise" and not all(everywhere(view, arm) for arm in search.arms)
    if renormalised:  # the weight of each candidate in the arm that lists it
        has = np.array([has_vectors(view, arm, docids) for arm in search.arms])
        weights = rescaled(weights, has)[np.repeat(np.arange(len(lengths)), lengths), np.arange(len(docids))]
    limit, arms = min(limit, len(docids)), len(lengths)
    best, sums, places = np.empty(limit, np.int64), np.empty(limit), np.empty((limit, arms), np.int64)
    facts = np.empty((3, limit, arms))
    ends = np.array(list(accumulate(lengths)), np.int64)
    count = merge_lists(docids, scores, normal, ends, weights, renormalised, best, sums, places, facts)
    return Merged(best[:count], sums[:count], places[:count], facts[:, :count])


def _normalised(fusion: Fusion, lists: Sequence[np.ndarray]) -> np.ndarray:
    """The scores of all arms as the fusion normalises them, one after another: float64, finite."""
    normal = [np.asarray(fusion.normalise(scores), np.float64) for scores in lists]
    shapes = [each.shape == scores.shape for each, scores in zip(normal, lists, strict=True)]
    joined = np.concatenate(normal) if all(shapes) else np.empty(0)
    if not all(shapes) or not np.isfinite(joined).all():
        wrong = [not same or not np.isfinite(each).all() for same, each in zip(shapes, normal, strict=True)].index(True)
        what = f"fusion {fusion.name!r} must normalise {len(lists[wrong])} scores to as many finite numbers"
        raise InvalidArgumentError(what, field="fusion", value=fusion.name)
    return joined
