"""Learning the weights of linear fusion from judged queries. Pure, no I/O: it yields searches and is sent their hits."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from ..errors import InvalidArgumentError, shown
from .arms import Arm, is_named
from .foreign import is_integer, is_number, is_sparse, size_of
from .ranking import Linear
from .results import Hits
from .values import Id

BATCH = 64  # queries in a call, so that an answer fits a message
MAX_POOL = 10_000
STEPS = np.linspace(-4.0, 4.0, 33)  # of the logarithm of a weight; at 0 all arms have the same standard deviation
ROUNDS = 5
Searching = Generator[dict[str, Any], list[Hits], Any]


@dataclass(frozen=True)
class FusionTuning:
    """The result of ``tune_fusion``. ``print`` shows it as a table.

    Attributes:
        fusion: linear fusion with the weights learned on all queries; the largest is 1.
        ndcg: the mean nDCG@limit over all judged queries: "linear" with weights learned without the query's own fold, "rrf", and each arm
            alone, for example "terms alone".
        folds: the same for each fold.
        weights: for each fold the weights learned on the other folds.
        limit: the number of hits that nDCG is measured on.
        queries: the number of judged queries.
    """

    fusion: Linear
    ndcg: Mapping[str, float]
    folds: tuple[Mapping[str, float], ...]
    weights: tuple[Mapping[str, float], ...]
    limit: int
    queries: int

    def __str__(self) -> str:
        width = max(map(len, self.ndcg))
        columns = [*(f"fold {i}" for i in range(1, len(self.folds) + 1)), "mean"]
        lines = [f"nDCG@{self.limit} of {self.queries} queries; linear with weights learned on the other folds"]
        lines.append(" " * width + "".join(f"{column:>9}" for column in columns))
        for name in self.ndcg:
            values = [*(fold[name] for fold in self.folds), self.ndcg[name]]
            lines.append(name.ljust(width) + "".join(f"{value:9.4f}" for value in values))
        weights = ", ".join(f"{name} {weight:.4g}" for name, weight in self.fusion.weights.items())
        return "\n".join([*lines, f"weights learned on all: {weights}"])


def tune(
    vectors: Any,
    qrels: Any,
    text: Any,
    filter: Any,
    limit: Any,
    candidates: Any,
    recall: float | None,
    folds: Any,
    seed: Any,
    attributes: Any = None,
) -> Generator[dict[str, Any], list[Hits], FusionTuning]:
    """The steps of ``tune_fusion``: yields arguments of ``search_batch``, is sent its hits, returns the result.

    Raises InvalidArgumentError, which names the argument.
    """
    for name, value, least, most in (("limit", limit, 1, MAX_POOL), ("candidates", candidates, 1, MAX_POOL), ("folds", folds, 2, 1000)):
        if not is_integer(value) or not least <= value <= most:
            raise InvalidArgumentError(f"{name} must be an integer from {least} to {most}, not {shown(value)}", field=name, value=value)
    if not is_integer(seed) or seed < 0:
        raise InvalidArgumentError(f"seed must be an integer ≥ 0, not {shown(seed)}", field="seed", value=seed)
    judged, grades = _judged(qrels, _count(vectors, text))
    if len(judged) < folds:
        raise InvalidArgumentError(f"{folds} folds need at least {folds} queries with a relevant point, not {len(judged)}", field="qrels")
    queries = _Queries(vectors, text, {"filter": filter, "recall": recall, "with_attributes": False})
    attributes = {} if attributes is None else attributes

    def linear(weights: Mapping[str, float]) -> Linear:
        return Linear(weights, attributes=attributes)

    by_rank = yield from queries.search(judged, limit=limit, fusion="rrf")
    by_sum = (yield from queries.search(judged, limit=1, fusion=linear({}))) if attributes else by_rank
    arms = next((list(hits[0].arms) for hits in by_sum if len(hits)), [])
    if len(arms) < 2:
        raise InvalidArgumentError("tune_fusion needs at least two arms with hits", field="vectors")
    figures = {"rrf": _ndcg([hits.ids.tolist() for hits in by_rank], grades, limit)}
    pools: list[dict[Id, list[float]]] = [{} for _ in judged]
    for arm in arms:
        alone = yield from queries.search(judged, limit=max(candidates, limit), fusion=linear({name: float(name == arm) for name in arms}))
        ranked = [[hit.id for hit in hits if hit.arms[arm].score is not None][:limit] for hits in alone]
        figures[f"{arm} alone"] = _ndcg(ranked, grades, limit)
        for pool, hits in zip(pools, alone, strict=True):
            pool.update({hit.id: [hit.arms[name].normalized or 0.0 for name in arms] for hit in hits})
    task = _Task(pools, grades, len(arms), limit)
    places = np.random.default_rng(seed).permutation(len(judged))
    parts = [np.sort(places[fold::folds]) for fold in range(folds)]
    figures["linear"], weights = np.zeros(len(judged)), []
    for part in parts:
        weights.append(dict(zip(arms, task.learned(np.setdiff1d(places, part)), strict=True)))
        held = yield from queries.search([judged[i] for i in part], limit=limit, fusion=linear(weights[-1]))
        figures["linear"][part] = _ndcg([hits.ids.tolist() for hits in held], [grades[i] for i in part], limit)
    order = ["rrf", "linear", *(f"{arm} alone" for arm in arms)]
    return FusionTuning(
        fusion=linear(dict(zip(arms, task.learned(np.arange(len(judged))), strict=True))),
        ndcg={name: float(figures[name].mean()) for name in order},
        folds=tuple([{name: float(figures[name][part].mean()) for name in order} for part in parts]),
        weights=tuple(weights),
        limit=int(limit),
        queries=len(judged),
    )


@dataclass(frozen=True)
class _Queries:
    """The queries, and the arguments that all searches share."""

    vectors: Any
    text: Any
    options: dict[str, Any]

    def search(self, queries: Sequence[int], **options: Any) -> Searching:
        """The hits of some queries, given by their numbers."""
        results: list[Hits] = []
        for low in range(0, len(queries), BATCH):
            rows = list(queries[low : low + BATCH])
            vectors = None if self.vectors is None else {name: _taken(value, rows) for name, value in self.vectors.items()}
            text = {name: _taken(value, rows) for name, value in self.text.items()} if isinstance(self.text, Mapping) else None
            if text is None and self.text is not None:
                text = _taken(self.text, rows)
            results += yield {"vectors": vectors, "text": text, **self.options, **options}
        return results


def _taken(queries: Any, rows: list[int]) -> Any:
    if is_named(queries):  # the weights are what is learned
        arm = queries if isinstance(queries, Arm) else Arm(*queries)
        return replace(arm, query=_taken(arm.query, rows), weight=None)
    return queries[rows] if hasattr(queries, "shape") else [queries[row] for row in rows]


def _count(vectors: Any, text: Any) -> int:
    """The number of queries."""
    if vectors is not None and not isinstance(vectors, Mapping):
        raise InvalidArgumentError(
            f"vectors must be a mapping of field names to queries, not {shown(vectors)}", field="vectors", value=vectors
        )
    given = {**(vectors or {})} | ({} if text is None else dict(text) if isinstance(text, Mapping) else {"text": text})
    sizes = {}
    for name, value in given.items():
        value = cast(Any, value.query if isinstance(value, Arm) else value[1]) if is_named(value) else value
        size = value.shape[0] if is_sparse(value) else size_of(value)
        if size is None or isinstance(value, (str, bytes, Mapping)) or not (hasattr(value, "shape") or isinstance(value, Sequence)):
            raise InvalidArgumentError(
                f"{name} must be a list of queries, one for each mapping in qrels, not {shown(value)}", field=name, value=value
            )
        sizes[name] = size
    if len(set(sizes.values())) != 1:
        raise InvalidArgumentError(f"all fields must have the same number of queries, not {sizes}", field="vectors", value=sizes)
    return next(iter(sizes.values()))


def _judged(qrels: Any, n: int) -> tuple[list[int], list[dict[Id, float]]]:
    """The queries that have a relevant point, by number, and their positive grades."""
    if isinstance(qrels, (str, bytes, Mapping)) or not isinstance(qrels, Sequence) or size_of(qrels) != n:
        what = f"qrels must be a list of {n} mappings from id to grade, one for each query"
        raise InvalidArgumentError(f"{what}, not {shown(qrels)}", field="qrels", value=qrels)
    judged, grades = [], []
    for query, given in enumerate(qrels):
        if not isinstance(given, Mapping):
            raise InvalidArgumentError(f"qrels of query {query} must map ids to grades, not {shown(given)}", field="qrels", value=given)
        for value in given.values():
            if not is_number(value) or not 0 <= value < math.inf:
                raise InvalidArgumentError(f"grades of query {query} must be numbers ≥ 0, not {shown(value)}", field="qrels", value=value)
        relevant = {i: float(grade) for i, grade in given.items() if grade > 0}
        if relevant:
            judged.append(query)
            grades.append(relevant)
    return judged, grades


def _discounts(limit: int) -> np.ndarray:
    return 1.0 / np.log2(np.arange(2, limit + 2))


def _ideal(grades: Mapping[Id, float], discounts: np.ndarray) -> float:
    best = np.sort(list(grades.values()))[::-1][: len(discounts)]
    return float(best @ discounts[: len(best)])


def _ndcg(rankings: Sequence[Sequence[Id]], grades: Sequence[Mapping[Id, float]], limit: int) -> np.ndarray:
    """Normalized discounted cumulative gain of each ranking (Järvelin, Kekäläinen 2002) with the grades as gains: float64 ``(n,)``."""
    discounts = _discounts(limit)
    gains = [np.array([judged.get(i, 0.0) for i in ids]) @ discounts[: len(ids)] for ids, judged in zip(rankings, grades, strict=True)]
    return np.array([gain / _ideal(judged, discounts) for gain, judged in zip(gains, grades, strict=True)])


class _Task:
    """The candidates of all queries with the scores of all arms. Finds the weights with the highest nDCG."""

    def __init__(self, pools: Sequence[Mapping[Id, list[float]]], grades: Sequence[Mapping[Id, float]], arms: int, limit: int):
        n, widest = len(pools), max(limit, *map(len, pools))
        self.scores = np.zeros((n, widest, arms))
        self.present = np.zeros((n, widest), np.bool_)
        self.gains = np.zeros((n, widest))
        for q, (pool, judged) in enumerate(zip(pools, grades, strict=True)):
            self.scores[q, : len(pool)] = list(pool.values()) or np.zeros((0, arms))
            self.present[q, : len(pool)] = True
            self.gains[q, : len(pool)] = [judged.get(i, 0.0) for i in pool]
        self.discounts = _discounts(limit)
        self.ideal = np.array([_ideal(judged, self.discounts) for judged in grades])

    def ndcg(self, queries: np.ndarray, weights: np.ndarray) -> float:
        """The mean nDCG over some queries."""
        sums = np.where(self.present[queries], self.scores[queries] @ weights, -np.inf)
        limit = len(self.discounts)
        best = np.argpartition(-sums, limit - 1, axis=1)[:, :limit]
        best = np.take_along_axis(best, np.argsort(-np.take_along_axis(sums, best, 1), axis=1, kind="stable"), 1)
        gains = np.take_along_axis(self.gains[queries], best, 1) @ self.discounts
        return float((gains / self.ideal[queries]).mean())

    def learned(self, queries: np.ndarray) -> list[float]:
        """Weights by coordinate ascent: each arm in turn gets the best of a ladder of weights, while the others are fixed."""
        spread = np.array([self.scores[queries, :, a][self.present[queries]].std() or 1.0 for a in range(self.scores.shape[2])])
        weights, before = 1.0 / spread, -1.0
        for _ in range(ROUNDS):
            for a in range(len(weights)):
                ladder = np.append(np.exp(STEPS) / spread[a] * max(weights * spread), 0.0)
                figures = np.array([self.ndcg(queries, np.where(np.arange(len(weights)) == a, w, weights)) for w in ladder])
                # Smooth the figures over neighbours, so that a broad maximum wins over a lucky one.
                padded = np.pad(figures[:-1], 1, mode="edge")
                figures[:-1] = padded[:-2] / 4 + padded[1:-1] / 2 + padded[2:] / 4
                if np.delete(weights, a).any():
                    weights[a] = ladder[figures.argmax()]
            now = self.ndcg(queries, weights)
            if now <= before:
                break
            before = now
        return (weights / weights.max()).tolist()
