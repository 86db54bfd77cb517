"""The answers of a worker, judged: a pass over the queries, a load of many clients. And the changes that "churn" makes to the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import data, loads, metrics, truth
from .data import Dataset, store
from .filters import Filter


def passed(
    answers: Path,
    dataset: Dataset,
    queries: Sequence[int],
    k: int,
    expected: truth.Truth,
    filters: Sequence[Filter] | None,
    alive: np.ndarray | None,
    quality: bool,
) -> dict:
    """The times of a pass and the recall of each answer. answers: the worker's file. quality: rank metrics too, if there are judgements."""
    with np.load(answers) as arrays:
        times, ids, ends = arrays["times"].tolist(), arrays["ids"], arrays["ends"]
    recall, returned, wrong, under, answered = [], [], 0, 0, {}
    for i in range(len(times)):
        rows = ids[ends[i] : ends[i + 1]]
        allowed = alive if filters is None else filters[i].mask if alive is None else filters[i].mask & alive
        judged = truth.judge(expected, dataset, i, queries[i], rows, k, allowed)
        matches = int(expected.matches[i])
        recall.append(round(metrics.recall(judged.good, k, matches), 5))
        returned.append(judged.returned)
        wrong += judged.wrong
        under += judged.returned < min(k, matches)
        answered[queries[i]] = rows.tolist()
    fact = {"times_ns": times, "recall": recall, "returned": returned, "wrong": wrong, "under": under}
    if quality and dataset.qrels:
        ranked = metrics.rankings(dataset.qrels, answered, k)
        fact["quality"] = {measure: {part: value for part, value in one.items() if part != "queries"} for measure, one in ranked.items()}
    return fact


def loaded(load: dict, dataset: Dataset, queries: Sequence[int]) -> dict:
    """The figures of a load. Its answers are judged like those of searches; each distinct answer is weighted by its count."""
    every = np.array(load["milliseconds"])
    expected = truth.exact(dataset, queries, loads.K)
    total, right, under = 0, 0.0, 0
    for i, count, rows in load["answers"]:
        judged = truth.judge(expected, dataset, i, queries[i], np.array(rows), loads.K)
        matches = int(expected.matches[i])
        right += count * metrics.recall(judged.good, loads.K, matches)
        under += count * (judged.returned < min(loads.K, matches))
        total += count
    rest = {name: load[name] for name in ("failed", "reason", "timed_out", "asked_rate", "seconds", "milliseconds")}
    figures = metrics.percentiles(every) if len(every) else {}
    return {"qps": len(every) / load["seconds"], "recall": right / total if total else None, "under": under, **figures, **rest}


def changed(original: Dataset, share: float, folder: Path) -> tuple[Dataset, np.ndarray, dict[str, str]]:
    """This share of the rows gets other vectors, and as many other rows are deleted.

    Returns the changed data, the rows that are left, (n,) bool, and the paths that the operation "change" needs, of files in ``folder``.
    """
    rng = np.random.default_rng(1)
    n = len(original)
    chosen = rng.permutation(n)[: 2 * round(share * n)]
    updated, deleted = np.sort(chosen[: len(chosen) // 2]), np.sort(chosen[len(chosen) // 2 :])
    vectors = np.array(original.vectors)
    other = vectors[rng.permutation(n)[: len(updated)]]
    spread = np.linalg.norm(other, axis=1, keepdims=True) * 0.3 / np.sqrt(vectors.shape[1])
    vectors[updated] = other + spread * rng.standard_normal(other.shape, dtype=np.float32)
    if original.metric == "cosine":
        vectors[updated] = data.unit(vectors[updated])
    dataset = Dataset(**{**vars(original), "vectors": vectors, "hash": ""})
    store.write(dataset, folder / "changed.data")
    paths = {"dataset": str(folder / "changed.data"), "rows": str(folder / "rows.npy"), "deleted": str(folder / "gone.npy")}
    np.save(paths["rows"], updated)
    np.save(paths["deleted"], deleted)
    alive = np.ones(n, dtype=bool)
    alive[deleted] = False
    return dataset, alive, paths
