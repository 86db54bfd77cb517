"""How a search with several arms ranks: fusions of the arms, and stages whose hits are the candidates of the next."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RRF:
    """Reciprocal rank fusion: ``Σ weight / (k + rank)`` (Cormack, Clarke, Büttcher 2009). weights: arm name → weight ≥ 0, default 1."""

    k: float = 60.0
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    name = "rrf"


@dataclass(frozen=True)
class Relative:
    """Weighted sum of min–max normalised scores; an arm that doesn't hold a hit adds 0."""

    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    name = "relative"


@dataclass(frozen=True)
class DBSF:
    """Distribution-based score fusion: each arm's scores mapped from mean ± 3 standard deviations to 0 … 1, then a weighted sum."""

    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    name = "dbsf"


@dataclass(frozen=True)
class Linear:
    """The true top of ``Σ weight · score`` over all points, not of what the arms happened to find (Fagin's threshold algorithm).

    weights: arm name → weight ≥ 0, default 1. An l2 arm adds minus its squared distance, and a point without a vector there is no hit, as
    it has no distance. In any other arm a point without a vector, or without a term of the query, adds 0. ``tune_fusion`` learns weights.
    """

    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    name = "linear"


Fusion = RRF | Relative | DBSF | Linear
FUSIONS = {c.name: c for c in (RRF, Relative, DBSF, Linear)}
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
