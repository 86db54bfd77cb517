"""How a search with several arms ranks: fusions of the arms, and stages whose hits are the candidates of the next.

``missing`` says what a fusion makes of a point without a vector in the field of an arm. "zero": the arm adds nothing, so the point can't
score what one with all vectors can. "renormalise": for this point each weight is multiplied by the sum of all arms' weights, divided by
the sum of the weights of the arms that it has a vector for; the point ranks as if the arms that it lacks said of it what its own say on
average. An arm whose list of candidates doesn't hold a point that has a vector there adds nothing in both cases.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InvalidArgumentError, shown

MISSING = ("zero", "renormalise")
MAX_NUMBER = 1e6  # a weight, or k: so that the longest vectors still have weighted scores within float32


@dataclass(frozen=True)
class RRF:
    """Reciprocal rank fusion: ``Σ weight / (k + rank)`` (Cormack, Clarke, Büttcher 2009).

    k: above 0, at most 1e9. weights: arm name → weight from 0 to 1e9, default 1. missing: "zero" or "renormalise" (see the module).
    """

    k: float = 60.0
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    missing: str = "zero"
    name = "rrf"


@dataclass(frozen=True)
class Relative:
    """Weighted sum of min–max normalised scores; an arm that doesn't hold a hit adds 0. weights, missing: as in ``RRF``."""

    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    missing: str = "zero"
    name = "relative"


@dataclass(frozen=True)
class DBSF:
    """Distribution-based score fusion, by Qdrant's formula: a weighted sum of ``(score − (mean − 3s)) / 6s``, with the mean and the sample
    standard deviation s of each arm's candidates. Not clipped: an outlier gets more than 1. A single candidate, or equal ones, get 0.5.
    weights, missing: as in ``RRF``.
    """

    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    missing: str = "zero"
    name = "dbsf"


@dataclass(frozen=True)
class Linear:
    """The true top of ``Σ weight · score`` over all points, not of what the arms happened to find (Fagin's threshold algorithm).

    weights: arm name → weight from 0 to 1e9, default 1. An l2 arm adds minus its squared distance. A point without a vector, or without a
    term of the query, adds 0 in the other arms; without a vector in an l2 arm, where 0 would be the best there is, it is no hit. With
    missing="renormalise" it is one: it is ranked by the arms that it has. ``tune_fusion`` learns weights.
    """

    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    missing: str = "zero"
    name = "linear"


Fusion = RRF | Relative | DBSF | Linear
FUSIONS = {c.name: c for c in (RRF, Relative, DBSF, Linear)}


def checked_fusion(value: Any) -> Fusion:
    """A fusion's name, or a fusion with its options. Raises InvalidArgumentError that says what to write."""
    if isinstance(value, str) and value in FUSIONS:
        return FUSIONS[value]()
    if not isinstance(value, Fusion):
        kinds = FUSIONS.values()
        calls = ", ".join(f"{kind.__name__}(…)" for kind in kinds)
        what = f"fusion must be one of {', '.join(map(repr, FUSIONS))}, or {calls}, not {shown(value)}"
        meant = value.__name__ if isinstance(value, type) else value if isinstance(value, str) else None
        for kind in kinds:
            if meant == kind.__name__:
                what = f"fusion must be {kind.__name__}() or {kind.name!r}, not {shown(value)}"
        raise InvalidArgumentError(what, field="fusion", value=value)
    if not isinstance(value.weights, Mapping):
        example = f'{type(value).__name__}(weights={{"text": 2.0}})'
        what = f"the weights of a fusion must map fields to numbers, as in {example}, not {shown(value.weights)}"
        raise InvalidArgumentError(what, field="fusion", value=value.weights)
    for name, weight in value.weights.items():
        if not 0.0 <= _number(weight) <= MAX_NUMBER:
            what = f"the weight of {shown(name)} in a fusion must be a number from 0 to {MAX_NUMBER:g}, not {shown(weight)}"
            raise InvalidArgumentError(what, field="fusion", value=weight)
    if isinstance(value, RRF) and not 0.0 < _number(value.k) <= MAX_NUMBER:
        what = f"k of RRF must be a number above 0 and at most {MAX_NUMBER:g}, not {shown(value.k)}"
        raise InvalidArgumentError(what, field="fusion", value=value.k)
    if not isinstance(value.missing, str) or value.missing not in MISSING:
        what = f"missing of a fusion must be {' or '.join(map(repr, MISSING))}, not {shown(value.missing)}"
        raise InvalidArgumentError(what, field="fusion", value=value.missing)
    return value


def _number(value: Any) -> float:
    """As float; NaN, which no bound holds for, of what is no number."""
    if isinstance(value, (bool, np.bool_, np.timedelta64)) or not isinstance(value, (int, float, np.integer, np.floating)):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


MAX_STAGES = 8


@dataclass(frozen=True)
class Prefetch:
    """A search whose ``limit`` best points are the only candidates of the search, or of the stage, that it is given to.

    vectors, text, fusion, candidates: as in ``search``; the filter, ``recall`` and ``exact`` are those of the search. prefetch: the stage
    before this one; at most 8 in all. A stage scores its candidates exactly and gives those that its arms match, so a search answers
    with min(limit, candidates that match) hits.
    """

    vectors: Mapping[str, Any] | None = None
    text: Any = None
    limit: int = 100
    fusion: str | Fusion = "rrf"
    candidates: int | None = None
    prefetch: Prefetch | None = None
