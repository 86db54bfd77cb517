"""Boosts: the factors of rows, and searches whose ranking they change.

A boosted score grows with the score and with the factor. So a row that isn't among the K best without boosts can't have a better boosted
score than the K-th score with the highest factor that any row has. K grows until the ``limit``-th boosted score exceeds that; the result is
then what boosting all rows would give. The highest factors come from the extremes of the attributes' columns.

RRF, relative and dbsf rank the candidates of their arms. All of these are boosted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from vectordb_client.errors import FilterError, InvalidArgumentError
from vectordb_client.model.attributes.base import AttributeType
from vectordb_client.model.boosts import Boost, Decay, If, Value, seconds
from vectordb_client.model.checks import checked_number
from vectordb_client.model.filter_nodes import Filter
from vectordb_client.model.results import ArmScore
from vectordb_client.model.schema import Schema

from ..common import deadline
from ..engine.snapshot import View
from ..filters.bitmap import matching
from ..filters.cache import FilterCache
from ..filters.text import to_string
from ..storage.attribute_forms import FORMS

FIRST = 4  # times ``limit``: the rows that are boosted first, at least 100. Chosen, not measured
DEEPER = 8  # factor by which these grow
PART = "boost"  # the name of the boosts among the parts of a hit
EXPLAINED = 10  # best rows whose factors are explained
MOST = 1e30  # highest product of factors, and 1 ÷ the least: no score becomes 0 or infinite


class Bound:
    """A boost bound to a schema. shown: for plans."""

    def __init__(self, shown: str):
        self.shown = shown

    def factors(self, view: View, docids: np.ndarray, now: float) -> np.ndarray:
        """Of rows (int64, ascending), float64. now: microseconds since 1970."""
        raise NotImplementedError

    def highest(self, view: View) -> float:
        """An upper bound of the factors of all rows."""
        raise NotImplementedError

    def scores(self, view: View, docids: np.ndarray, now: float) -> np.ndarray:
        """What rows (int64, ascending) score in an arm of linear fusion, float64; NaN where they have no value."""
        raise NotImplementedError


class _Attribute(Bound):
    least = 0.0  # what is subtracted from a factor, so that it is a score

    def __init__(self, boost: Any, spec: AttributeType, shown: str):
        super().__init__(shown)
        self.boost, self.name, self.dtype = boost, boost.attribute, FORMS[spec.stored].dtype

    def of(self, values: np.ndarray, now: float) -> np.ndarray:
        """The factors of values of the attribute (float64)."""
        raise NotImplementedError

    def factors(self, view: View, docids: np.ndarray, now: float) -> np.ndarray:
        return self._filled(view, docids, now, float(self.boost.missing))

    def scores(self, view: View, docids: np.ndarray, now: float) -> np.ndarray:
        return np.clip(self._filled(view, docids, now, np.nan) - self.least, 0.0, MOST)

    def _filled(self, view: View, docids: np.ndarray, now: float, missing: float) -> np.ndarray:
        """The factors of rows, and ``missing`` for those without a value."""
        factors = np.full(len(docids), missing)
        for chunk, indexes, positions in view.chunks(view.fields[self.name]).chunks_with(docids, 8):
            factors[indexes] = self.of(chunk.data.reshape(-1).view(self.dtype)[positions].astype(np.float64), now)
        return factors

    def extremes(self, view: View) -> tuple[float, float]:
        """The lowest and highest value of all rows, dead ones too; NaN and NaN if there is none. Kept in the snapshot."""
        key = ("extremes", self.name)
        known = view.snapshot.prepared.get(key)
        if known is None:
            table = view.chunks(view.fields[self.name])
            table.verify_all()
            ends = [np.nan]
            for c in range(len(table)):
                numbers = table.data_of(c, 8).reshape(-1).view(self.dtype)
                if len(numbers):
                    ends += [float(np.nanmin(numbers)), float(np.nanmax(numbers))]
            known = (float("nan"), float("nan")) if len(ends) == 1 else (float(np.nanmin(ends)), float(np.nanmax(ends)))
            view.snapshot.prepared[key] = known
        return known


class _Decay(_Attribute):
    def __init__(self, boost: Decay, spec: AttributeType, shown: str):
        super().__init__(boost, spec, shown)
        self._moments = _are_moments(spec)
        self._origin = None if boost.origin is None else float(spec.coerce_one(boost.attribute, boost.origin))
        self._half_life = seconds(boost.half_life) * (1e6 if self._moments else 1.0)

    def of(self, values: np.ndarray, now: float) -> np.ndarray:
        origin = now if self._origin is None else self._origin
        floor = self.boost.floor
        return floor + (1.0 - floor) * np.nan_to_num(np.exp2(-np.abs(values - origin) / self._half_life))

    def highest(self, view: View) -> float:
        return max(1.0, float(self.boost.missing))


class _Value(_Attribute):
    least = 1.0

    def of(self, values: np.ndarray, now: float) -> np.ndarray:
        values = np.clip(np.nan_to_num(values, nan=0.0), 0.0, None)
        return 1.0 + self.boost.weight * (np.log1p(values) if self.boost.log else values)

    def highest(self, view: View) -> float:
        _, high = self.extremes(view)
        most = 1.0 if high != high else float(self.of(np.array([high]), 0.0)[0])
        return max(most, float(self.boost.missing))


class _If(Bound):
    def __init__(self, boost: If, node: Filter, filters: FilterCache):
        super().__init__(f"if {to_string(node, values=True)}: {boost.factor:g}")
        self._node, self._filters, self._factor = node, filters, float(boost.factor)

    def factors(self, view: View, docids: np.ndarray, now: float) -> np.ndarray:
        return np.where(self._match(view, docids), self._factor, 1.0)

    def scores(self, view: View, docids: np.ndarray, now: float) -> np.ndarray:
        return np.where(self._match(view, docids), self._factor, np.nan)

    def _match(self, view: View, docids: np.ndarray) -> np.ndarray:
        rows = np.asarray(matching(self._node, view, self._filters).to_array(), np.int64)
        return np.append(rows, -1)[np.searchsorted(rows, docids)] == docids

    def highest(self, view: View) -> float:
        return max(self._factor, 1.0)


def _are_moments(spec: AttributeType) -> bool:
    return any(kind.__name__ == "datetime" for kind in spec.python)


def bind_boosts(boosts: Sequence[Boost], schema: Schema, filters: FilterCache) -> tuple[Bound, ...]:
    """Boosts bound to a schema. Raises SchemaError, InvalidArgumentError or FilterError."""
    return tuple([_bound(boost, schema, filters) for boost in boosts])


def _bound(boost: Boost, schema: Schema, filters: FilterCache) -> Bound:
    if isinstance(boost, If):
        try:
            node = filters.bind(boost.filter, schema)
            assert node is not None  # ``check`` refuses None
            return _If(boost, node, filters)
        except FilterError as error:
            raise FilterError(f"boost If: {error.message}", field=error.field, value=error.value) from None
    assert isinstance(boost, (Decay, Value))
    name, kind = boost.attribute, type(boost).__name__
    spec = schema.attribute(name)
    moments = _are_moments(spec)
    numeric = FORMS[spec.stored].dtype in (np.int64, np.float64) and getattr(FORMS[spec.stored], "width", 1) == 1
    if spec.array or not numeric or (isinstance(boost, Value) and moments):
        wanted = "a Datetime, Int or Float" if isinstance(boost, Decay) else "an Int or Float"
        what = f"boost {kind} needs {wanted} with one value a point, and {name!r} is {spec.kind}{' (array)' * spec.array}"
        raise InvalidArgumentError(what, field="boost", value=name)
    shown = ", ".join(f"{option}={value}" for option, value in boost.to_json().items() if option not in ("boost", "attribute"))
    text = f"{boost.kind}({name}{', ' * bool(shown)}{shown})"
    if isinstance(boost, Value):
        return _Value(boost, spec, text)
    if boost.origin is None and not moments:
        what = f"boost Decay needs an origin: Decay({name!r}, half_life, origin=…); only a Datetime has one, the moment of the search"
        raise InvalidArgumentError(what, field="boost", value=name)
    if not moments and checked_number(boost.half_life) != checked_number(boost.half_life):
        what = f"half_life of Decay must be a number for the {spec.kind} {name!r}, not {boost.half_life!r}"
        raise InvalidArgumentError(what, field="boost", value=boost.half_life)
    try:
        return _Decay(boost, spec, text)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"origin of Decay: {error.message}", field="boost", value=boost.origin) from None


def _product(factors: np.ndarray) -> np.ndarray:
    """The products of factors, float64 ``(boosts, …)``, over the boosts."""
    with np.errstate(over="ignore"):
        return np.clip(factors.prod(axis=0), 1 / MOST, MOST)


def boosted(scores: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Scores (higher is better) with their factors: a negative score is divided."""
    return np.where(scores >= 0.0, scores * factors, scores / factors)


def boost_rankings(
    view: View, search: Any, sign: float, matches: int, run: Callable[[Any], tuple[Any, dict | None]], clock: Any
) -> tuple[tuple, dict | None]:
    """The boosted ranking of a search of one query, and how its stage was run. sign: −1 where a lower score is better. run: gives the
    ranking (``Ranked`` or ``Rows``) and the plan of the same search without boosts and with another limit.
    """
    now = time.time() * 1e6
    highest = [each.highest(view) for each in search.boosts]
    complete = search.fused and not search.fusion.all_points  # a fusion of lists: all candidates
    depth = len(search.arms) * search.candidates if complete else min(max(FIRST * search.limit, 100), max(matches, 1))
    while True:
        deadline.check()
        ranking, plan = run(search._replace(limit=depth, boosts=()))
        docids, scores = ranking[:2]
        by_arm: Any = ranking[2]
        docids, base = np.asarray(docids, np.int64), sign * np.asarray(scores, np.float64)
        factors = _factors(view, search.boosts, docids, now)
        raised = boosted(base, _product(factors))
        order = _best(raised, docids, search.limit)
        if complete or len(docids) < depth or depth >= matches:
            break
        unseen = float(boosted(base[-1:], _product(np.array(highest)))[0])
        if len(order) == search.limit and unseen < raised[order[-1]]:
            break
        depth = min(depth * DEEPER, matches)
    clock.lap("boost")
    if plan is not None:
        plan["boost"] = _described(search, highest, factors, sign * base, order, depth, complete, plan)
    hits: list[Any] = [by_arm(i) if callable(by_arm) else by_arm[i] for i in order.tolist()]
    if search.fused:  # what the boosts add, so that the parts of a hit still add up to its score
        ratios = _product(factors)[order].tolist()
        added = (raised - base)[order].tolist()
        hits = [arms | {PART: ArmScore(None, None, None, ratio, part)} for arms, ratio, part in zip(hits, ratios, added, strict=True)]
    return (docids[order].tolist(), (sign * raised[order]).tolist(), hits), plan


def _best(scores: np.ndarray, docids: np.ndarray, limit: int) -> np.ndarray:
    """The positions of the ``limit`` highest scores, highest first; of equal ones the lower docid."""
    if limit < len(scores):
        least = np.partition(scores, len(scores) - limit)[len(scores) - limit]
        some = np.flatnonzero(scores >= least)
    else:
        some = np.arange(len(scores))
    return some[np.lexsort((docids[some], -scores[some]))][:limit]


def _factors(view: View, boosts: Sequence[Bound], docids: np.ndarray, now: float) -> np.ndarray:
    """float64 ``(boosts, rows)``."""
    order = np.argsort(docids, kind="stable")
    factors = np.ones((len(boosts), len(docids)))
    for own, boost in zip(factors, boosts, strict=True):
        own[order] = boost.factors(view, docids[order], now)
    return factors


def _described(
    search: Any,
    highest: Sequence[float],
    factors: np.ndarray,
    scores: np.ndarray,
    order: np.ndarray,
    depth: int,
    complete: bool,
    plan: dict,
) -> dict[str, Any]:
    """The entry of the plan. proven: no row that wasn't boosted can be among the best; None where the candidates alone are ranked."""
    best = order[:EXPLAINED]
    return {
        "boosts": [boost.shown for boost in search.boosts],
        "highest": [float(each) for each in highest],
        "depth": depth,
        "proven": None if complete else bool(plan["exact"]),
        "scores": scores[best].tolist(),
        "factors": factors[:, best].T.tolist(),
    }
