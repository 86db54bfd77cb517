"""The ranking of a search with several arms: fusions, and prefetch stages.

``missing`` of a fusion says how it ranks a point that has no vector in the field of an arm. "zero": the arm contributes 0. "renormalise":
the weights of the other arms are scaled up, so that their sum is that of all arms; the point then ranks as if the missing arm gave it the
average of the others. If a point has a vector but isn't among the candidates of an arm, the arm contributes 0 in both cases.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import InvalidArgumentError, shown
from .arguments import named_class
from .boosts import Boost, check_boosts
from .checks import MAX_LIMIT, MAX_NUMBER, check_count, checked_number

if TYPE_CHECKING:
    from .aliases import FusionLike, Vector, VectorColumn

MISSING = ("zero", "renormalise")
MIN_CANDIDATES = 100  # candidates of each arm by default, at least
MAX_STAGES = 8
KEPT_RANKS = 4_096  # longest list of 1 / (k + rank) that is kept between searches


class Fusion:
    """How the scores of several arms become one. A hit's score is ``Σ weight · normalised score`` over the arms that list it.

    A fusion is a frozen dataclass, whose fields are its options, under its name in ``FUSIONS``. It has the options ``weights`` (field →
    weight; the default is 1) and ``missing`` ("zero" or "renormalise").

    Attributes:
        name: its name in ``FUSIONS``, in plans and in messages.
        all_points: whether it ranks all points by ``Σ weight · score``, not only the candidates of the arms. ``normalise`` is not called.
    """

    name: ClassVar[str]
    all_points: ClassVar[bool] = False
    weights: Mapping[str, float]
    missing: str

    def __post_init__(self):
        if isinstance(self.weights, Mapping):  # ``check`` refuses others
            object.__setattr__(self, "weights", dict(self.weights))  # a copy, which the caller can't change

    def normalise(self, scores: np.ndarray) -> np.ndarray:
        """Bring the scores of an arm's candidates to a scale that all arms share.

        Args:
            scores: float32 or float64 ``(n,)``, best first. Higher is better: l2 distances are squared and negated.

        Returns:
            float64 ``(n,)``, finite.
        """
        raise NotImplementedError

    def check(self) -> None:
        """Check the options. Raises InvalidArgumentError, which says what to write."""
        self._check_weights()
        self._check_missing()

    def _check_weights(self) -> None:
        if not isinstance(self.weights, Mapping):
            example = f'{type(self).__name__}(weights={{"text": 2.0}})'
            what = f"the weights of a fusion must map fields to numbers, as in {example}, not {shown(self.weights)}"
            raise InvalidArgumentError(what, field="fusion", value=self.weights)
        for name, weight in self.weights.items():
            if not 0.0 <= checked_number(weight) <= MAX_NUMBER:
                what = f"the weight of {shown(name)} in a fusion must be a number from 0 to {MAX_NUMBER:g}, not {shown(weight)}"
                raise InvalidArgumentError(what, field="fusion", value=weight)

    def _check_missing(self) -> None:
        if not isinstance(self.missing, str) or self.missing not in MISSING:
            what = f"missing of a fusion must be {' or '.join(map(repr, MISSING))}, not {shown(self.missing)}"
            raise InvalidArgumentError(what, field="fusion", value=self.missing)

    def arms(self) -> dict[str, Boost]:
        """Attributes that are arms of their own, by name, checked."""
        return {}

    @property
    def options(self) -> dict[str, Any]:
        """The options by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]


@lru_cache(maxsize=64)
def _reciprocal_ranks(k: float, n: int) -> np.ndarray:
    """``1 / (k + rank)`` of the ranks 1 … n, float64 ``(n,)``, read-only."""
    normal = 1.0 / (k + np.arange(1, n + 1))
    normal.flags.writeable = False
    return normal


@named_class
@dataclass(frozen=True)
class RRF(Fusion):
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

    def normalise(self, scores: np.ndarray) -> np.ndarray:
        make = _reciprocal_ranks if len(scores) <= KEPT_RANKS else _reciprocal_ranks.__wrapped__
        return make(self.k, len(scores))

    def check(self) -> None:
        self._check_weights()
        if not 0.0 < checked_number(self.k) <= MAX_NUMBER:  # before ``missing``: weights given by position are k
            what = f"k of RRF must be a number above 0 and at most {MAX_NUMBER:g}, not {shown(self.k)}"
            raise InvalidArgumentError(what, field="fusion", value=self.k)
        self._check_missing()


@named_class
@dataclass(frozen=True)
class Relative(Fusion):
    """Weighted sum of scores, each arm normalized to 0 … 1 over its candidates. A hit that isn't a candidate of an arm gets 0 there.

    Attributes:
        weights: field → weight, from 0 to 1e6. The default is 1.
        missing: as in ``RRF``.
    """

    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    missing: str = "zero"
    name = "relative"

    def normalise(self, scores: np.ndarray) -> np.ndarray:
        wide = scores.astype(np.float64)
        if not len(wide):
            return wide
        low, high = wide.min(), wide.max()
        return np.ones(len(wide)) if high == low else (wide - low) / (high - low)


@named_class
@dataclass(frozen=True)
class DBSF(Fusion):
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

    def normalise(self, scores: np.ndarray) -> np.ndarray:
        wide = scores.astype(np.float64)
        if not len(wide):
            return wide
        if wide.min() == wide.max():  # a single candidate, or equal scores
            return np.full(len(wide), 0.5)
        spread = 3.0 * wide.std(ddof=1)
        return (wide - (wide.mean() - spread)) / (2.0 * spread)


@named_class
@dataclass(frozen=True)
class Linear(Fusion):
    """The points with the highest ``Σ weight · score`` over all points, not only over the candidates (Fagin's threshold algorithm).

    An l2 field contributes its negated squared distance. A field in which a point has no vector, or no term of the query, contributes 0.
    For an l2 field 0 would be the best score, so points with no vector in it are not returned, unless missing="renormalise".
    ``Collection.tune_fusion`` learns the weights.

    Attributes are arms too: they add weight · their score to the sum. ``Decay`` scores from 0 to 1, ``Value`` weight · value or weight ·
    ln(1 + value), ``If`` its factor where the filter matches. A point without a value gets 0 from it. The result is proven as without them.

    Attributes:
        weights: field, or name of an attribute arm → weight, from 0 to 1e6. The default is 1.
        missing: as in ``RRF``. Attribute arms have no part in it.
        attributes: name → ``Decay(…)``, ``Value(…)`` or ``If(…)``.

    Example:
        ```python
        docs.search({"v": query}, fusion=Linear({"v": 1.0, "fresh": 0.2}, attributes={"fresh": Decay("date", "30d")}))
        ```
    """

    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    missing: str = "zero"
    attributes: Mapping[str, Boost] = dataclasses.field(default_factory=dict)
    name = "linear"
    all_points = True

    def check(self) -> None:
        super().check()
        self.arms()

    def arms(self) -> dict[str, Boost]:
        """The attribute arms, checked. Raises InvalidArgumentError."""
        if not isinstance(self.attributes, Mapping):
            what = f'attributes of Linear must map names to boosts, as in {{"fresh": Decay("date", "30d")}}, not {shown(self.attributes)}'
            raise InvalidArgumentError(what, field="fusion", value=self.attributes)
        for name in self.attributes:
            if not isinstance(name, str) or not name:
                what = f"the name of an attribute arm must be a string, not {shown(name)}"
                raise InvalidArgumentError(what, field="fusion", value=name)
        return dict(zip(self.attributes, check_boosts("attributes of Linear", list(self.attributes.values())), strict=True))

    @property
    def options(self) -> dict[str, Any]:
        return super().options | {"attributes": {name: each.to_json() for name, each in self.arms().items()}}


FUSIONS: dict[str, type[Fusion]] = {kind.name: kind for kind in (RRF, Relative, DBSF, Linear)}


def checked_fusion(value: Any) -> Fusion:
    """Check the name of a fusion, or a fusion with options. Raises InvalidArgumentError, which says what to write."""
    if isinstance(value, str) and value in FUSIONS:
        return FUSIONS[value]()
    if not isinstance(value, Fusion) or FUSIONS.get(getattr(value, "name", "")) is not type(value):
        calls = ", ".join(f"{kind.__name__}(…)" for kind in FUSIONS.values())
        what = f"fusion must be one of {', '.join(map(repr, FUSIONS))}, or {calls}, not {shown(value)}"
        meant = value.__name__ if isinstance(value, type) else value if isinstance(value, str) else None
        for kind in FUSIONS.values():
            if meant == kind.__name__:
                what = f"fusion must be {kind.__name__}() or {kind.name!r}, not {shown(value)}"
        raise InvalidArgumentError(what, field="fusion", value=value)
    value.check()
    return value


def default_candidates(limit: int) -> int:
    """How many of its best rows each arm passes to the fusion where the search doesn't say."""
    return min(max(MIN_CANDIDATES, 4 * limit), MAX_LIMIT)


def check_prefetch(name: str, value: Any) -> Prefetch:
    """Check the stages before a search. Raises InvalidArgumentError, which says what to write."""
    stage, count = value, 0
    while count == 0 or stage is not None:
        if not isinstance(stage, Prefetch):
            what = f"{name} must be a Prefetch, such as Prefetch(text='…', limit=100), not {shown(stage)}"
            raise InvalidArgumentError(what, field=name, value=stage)
        check_count("prefetch.limit", stage.limit)
        if stage.candidates is not None:
            check_count("prefetch.candidates", stage.candidates)
        count += 1
        if count > MAX_STAGES:
            raise InvalidArgumentError(f"a search has at most {MAX_STAGES} prefetch stages", field=name, value=count)
        stage = stage.prefetch
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
