"""Statistics: recall with confidence intervals, latency percentiles, ranking metrics, Pareto fronts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

PERCENTILES = (50, 95, 99, 99.9)
RESAMPLES = 2000


def recall(good: int, k: int, matches: int) -> float:
    """Recall of one answer: good ÷ min(k, matches), good being the correct rows. 1.0 if no row matches the filter."""
    expected = min(k, matches)
    return good / expected if expected else 1.0


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """95 % confidence interval of the mean over queries, by the percentile bootstrap (Efron 1979).

    If all values are equal (such as recall 1.000), the bootstrap interval would be empty. Then one side is the exact binomial bound: after
    n queries without a failure, up to 1 - .025^(1/n) of all queries may fail.
    """
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    if n == 0:
        return float("nan"), float("nan")
    if np.all(values == values[0]):
        room = 1 - 0.025 ** (1 / n)
        low, high = values[0] * (1 - room), values[0] + (1 - values[0]) * room
        return (float(low), float(values[0])) if values[0] >= 1 else (float(low), float(high))
    rng = np.random.default_rng(seed)
    means = np.concatenate([values[rng.integers(0, n, (100, n))].mean(axis=1) for _ in range(RESAMPLES // 100)])
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def recalls(values: Sequence[float]) -> dict[str, float]:
    """Mean recall, its 95 % interval, p5 and p1. 95 % of the queries reach p5, and 99 % reach p1. A mean alone hides bad queries."""
    values = np.asarray(values, dtype=np.float64)
    low, high = interval(values)
    p5, p1 = np.percentile(values, [5, 1], method="lower")
    return {"mean": float(values.mean()), "low": low, "high": high, "p5": float(p5), "p1": float(p1), "min": float(values.min())}


def latencies(repeats: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Latency statistics. repeats: for each repeat, the nanoseconds of its requests.

    qps is requests ÷ the sum of their times: the median over the repeats, with the lowest and the highest. Percentiles are in milliseconds,
    over the requests of all repeats.
    """
    rates = [len(times) / (sum(times) / 1e9) for times in repeats if len(times)]
    every = np.concatenate([np.asarray(times, dtype=np.float64) for times in repeats]) / 1e6
    result: dict[str, Any] = {"qps": float(np.median(rates)), "qps_low": min(rates), "qps_high": max(rates), "mean_ms": float(every.mean())}
    return result | percentiles(every)


def percentiles(milliseconds: np.ndarray) -> dict[str, float]:
    return {f"p{p:g}_ms": float(v) for p, v in zip(PERCENTILES, np.percentile(milliseconds, PERCENTILES), strict=True)}


def rankings(qrels: Mapping[int, Mapping[int, float]], run: Mapping[int, Sequence[int]], k: int) -> dict[str, dict]:
    """nDCG@10, recall@k and MRR@10 by ir-measures, each with mean, interval and the value of each query. run: query → rows, best first.

    A judged query without an answer counts as 0. Returns {} if ir-measures is not installed or no query has judgements.
    """
    try:
        import ir_measures
    except ImportError:
        return {}
    judged_queries = [query for query in run if query in qrels]
    if not judged_queries:
        return {}
    judged = [ir_measures.Qrel(str(q), str(row), int(grade)) for q in judged_queries for row, grade in qrels[q].items()]
    ranked = [ir_measures.ScoredDoc(str(q), str(row), float(-place)) for q in judged_queries for place, row in enumerate(run[q])]
    measures = {"nDCG@10": ir_measures.nDCG @ 10, f"recall@{k}": ir_measures.R @ k, "MRR@10": ir_measures.RR @ 10}
    values: dict[str, dict[int, float]] = {name: dict.fromkeys(judged_queries, 0.0) for name in measures}
    names = {measure: name for name, measure in measures.items()}
    for metric in ir_measures.iter_calc(list(measures.values()), judged, ranked):
        values[names[metric.measure]][int(metric.query_id)] = metric.value
    result = {}
    for name, each in values.items():
        low, high = interval(list(each.values()))
        result[name] = {"mean": float(np.mean(list(each.values()))), "low": low, "high": high, "queries": [each[q] for q in judged_queries]}
    return result


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """The Pareto front: indices of the (recall, qps) points that no other point beats in both, by ascending recall."""
    order = sorted(range(len(points)), key=lambda i: (-points[i][0], -points[i][1]))
    kept, best = [], -np.inf
    for i in order:
        if points[i][1] > best:
            kept.append(i)
            best = points[i][1]
    return kept[::-1]


def fastest(measured: Sequence[dict], target: float) -> dict | None:
    """The measurement (a dict of ``journal.results``) with the highest QPS among those whose mean recall is at least ``target``."""
    reached = [one for one in measured if one["recall"]["mean"] >= target - 1e-9]
    return max(reached, key=lambda one: one["latency"]["qps"], default=None)


def at_recall(points: Sequence[tuple[float, float]], target: float) -> float | None:
    """The highest measured QPS at a recall of at least ``target``, without interpolation. None if no setting reached the target."""
    reached = [qps for recall, qps in points if recall >= target - 1e-9]
    return max(reached) if reached else None
