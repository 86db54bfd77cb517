"""Steps that change a finished ranking by its scores: bounds, and ``limit="auto"``. The table's order is the order in which they run."""

from __future__ import annotations

import numpy as np

from ..engine.snapshot import View
from .calibration import calibrated
from .paging import cut, score_sign
from .request import RANKING_STEPS, Search


def at_least(view: View, search: Search, ranking: tuple) -> tuple:
    """The hits that score at least ``min_score``."""
    return _kept(ranking, [score >= search.request.min_score for score in ranking[1]])


def within(view: View, search: Search, ranking: tuple) -> tuple:
    """The hits whose squared distance is at most ``radius``."""
    return _kept(ranking, [score <= search.request.radius for score in ranking[1]])


def _kept(ranking: tuple, keep: list[bool]) -> tuple:
    return tuple([value for value, kept in zip(column, keep, strict=True) if kept] for column in ranking)


def before_the_fall(view: View, search: Search, ranking: tuple) -> tuple:
    """The hits before the scores fall off."""
    count = support(score_sign(search) * np.array(ranking[1], np.float64))
    return tuple(column[:count] for column in ranking)


def support(scores: np.ndarray) -> int:
    """How many of some scores (float64, descending) have a share above 0 in their sparsemax (Martins and Astudillo 2016).

    The scores are divided by their standard deviation before, so the answer doesn't depend on their scale. Equal scores are all kept.
    """
    if not len(scores):
        return 0
    spread = scores.std()
    if not spread > 0:
        return len(scores)
    scaled = (scores - scores[0]) / spread
    counts = np.arange(1, len(scores) + 1)
    inside = 1 + counts * scaled > np.cumsum(scaled)
    return int(np.flatnonzero(inside)[-1]) + 1


RANKING_STEPS.update({"score": calibrated, "min_score": at_least, "radius": within, "auto": before_the_fall, "offset": cut, "cursor": cut})
