"""The ranking of a search with several arms: fusions, and prefetch stages.

``missing`` of a fusion says how it ranks a point that has no vector in the field of an arm. "zero": the arm contributes 0. "renormalise":
the weights of the other arms are scaled up, so that their sum is that of all arms; the point then ranks as if the missing arm gave it the
average of the others. If a point has a vector but isn't among the candidates of an arm, the arm contributes 0 in both cases.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InvalidArgumentError, shown
from .arguments import named_class
from .checks import check_count

if TYPE_CHECKING:
    from .aliases import FusionLike, Vector, VectorColumn

MISSING = ("zero", "renormalise")
MAX_NUMBER = 1e6  # limit of a weight and of k; weighted scores of the longest vectors then stay within float32


@named_class
@dataclass(frozen=True)
class RRF:
    """Reciprocal rank fusion: ``Σ weight / (k + rank)`` (Cormack, Clarke, Büttcher 2009).

    Attributes:
        k: above 0 and at most 1e6. A lower k favours the first ranks.
        weights: field → weight, from 0 to 1e6. The default is 1.
        missing: "zero" or "renormalise", for points without a vector in a field: it contributes 0, or the other weights are scaled up.
    """

    k: float = 60.0
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    missing: str = "zero"
    name = "rrf"


@named_class
@dataclass(frozen=True)
class Relative:
    """Weighted sum of scores, each arm normalized to 0 … 1 over its candidates. A hit that isn't a candidate of an arm gets 0 there.

    Attributes:
        weights: field → weight, from 0 to 1e6. The default is 1.
        missing: as in ``RRF``.
    """

    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    missing: str = "zero"
    name = "relative"


@named_class
@dataclass(frozen=True)
class DBSF:
    """Distribution-based score fusion, with the formula of Qdrant.

    It is a weighted sum of ``(score − (mean − 3s)) / 6s``, with the mean and the sample standard deviation s over the candidates of each
    arm. It isn't clipped, so an outlier can exceed 1. A single candidate, or candidates with equal scores, get 0.5.

    Attributes:
        weights: field → weight, from 0 to 1e6. The default is 1.
        missing: as in ``RRF``.
    """

    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    missing: str = "zero"
    name = "dbsf"


@named_class
@dataclass(frozen=True)
class Linear:
    """The points with the highest ``Σ weight · score`` over all points, not only over the candidates (Fagin's threshold algorithm).

    An l2 field contributes its negated squared distance. A field in which a point has no vector, or no term of the query, contributes 0.
    For an l2 field 0 would be the best score, so points with no vector in it are not returned, unless missing="renormalise".
    ``Collection.tune_fusion`` learns the weights.

    Attributes:
        weights: field → weight, from 0 to 1e6. The default is 1.
        missing: as in ``RRF``.
    """

    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    missing: str = "zero"
    name = "linear"


Fusion = RRF | Relative | DBSF | Linear
FUSIONS = {c.name: c for c in (RRF, Relative, DBSF, Linear)}


def checked_fusion(value: Any) -> Fusion:
    """Check the name of a fusion, or a fusion with options. Raises InvalidArgumentError, which says what to write."""
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
    """The value as float; NaN, which fails every comparison, if it isn't a number."""
    if isinstance(value, (bool, np.bool_, np.timedelta64)) or not isinstance(value, (int, float, np.integer, np.floating)):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


MAX_STAGES = 8


def check_prefetch(value: Any, before: int) -> Prefetch:
    """Check a stage before a search. before: the number of stages so far. Raises InvalidArgumentError, which says what to write."""
    if not isinstance(value, Prefetch):
        what = f"prefetch must be a Prefetch, such as Prefetch(text='…', limit=100), not {shown(value)}"
        raise InvalidArgumentError(what, field="prefetch", value=value)
    check_count("prefetch.limit", value.limit)
    if value.candidates is not None:
        check_count("prefetch.candidates", value.candidates)
    if before >= MAX_STAGES:
        raise InvalidArgumentError(f"a search has at most {MAX_STAGES} prefetch stages", field="prefetch", value=before + 1)
    return value


@named_class
@dataclass(frozen=True)
class Prefetch:
    """A stage before a search: its best ``limit`` points are the only candidates of the search, which scores them exactly.

    Filter, recall and exact are those of the search. In ``search_batch`` the queries are n as well.

    Attributes:
        vectors: as in ``search``.
        text: as in ``search``.
        limit: the number of candidates.
        fusion: as in ``search``.
        candidates: as in ``search``.
        prefetch: the stage before this one. There can be 8 stages in all.

    Example:
        ```python
        docs.search({"colbert": rows}, prefetch=Prefetch({"v": query}, limit=200), limit=10)
        ```
    """

    vectors: Mapping[str, Vector | VectorColumn] | None = None
    text: str | Sequence[str] | Mapping[str, str | Sequence[str]] | None = None
    limit: int = 100
    fusion: FusionLike = "rrf"
    candidates: int | None = None
    prefetch: Prefetch | None = None
