"""The metrics as plain data: the answer of the ``Status`` call, shown by ``vectordb top``."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry
from vectordb_client._version import __version__

from .metrics import PREFIX

Labels = dict[str, str]


def of(registry: CollectorRegistry, begun: float) -> dict[str, Any]:
    """The status from a registry. begun: start of the answering process, in seconds since 1970.

    version, uptime_seconds, workers; calls (method →) and plans (plan →): count, seconds, p50 and p99 (seconds, since the start) and
    buckets ([upper bound, count up to it], from which a difference between two answers can be computed; the last bound is null); queue:
    waiting, under_way and the distribution of waiting times; errors: method, status, error, count; slow: method → count; recall:
    collection, field, asked, audited, mean, p5 and predicted; collections (name →): points, dead_rows, sequence, bytes, pending, running,
    fields (name →): segments, segment_rows, index_bytes, tail_rows, damaged_files, stale_files; builds (kind →): builds, rows, seconds;
    memory, disk: bytes by kind; lmdb; kernels.
    """
    seen = _Samples(registry)
    disk, pages = seen.by("disk_bytes", "kind"), seen.by("lmdb_pages", "kind")
    return {
        "version": __version__,
        "uptime_seconds": round(time.time() - begun, 1),
        "workers": int(seen.one("workers", 1)),
        "calls": seen.distributions("call_seconds", "method"),
        "plans": seen.distributions("search_seconds", "plan"),
        "queue": {
            "waiting": int(seen.one("calls_waiting")),
            "under_way": int(seen.one("calls_under_way")),
            **seen.distributions("queue_seconds", None).get("", _distribution([], 0.0)),
        },
        "errors": [{**labels, "count": int(value)} for labels, value in seen.all("errors_total") if value],
        "slow": {method: int(count) for method, count in seen.by("slow_queries_total", "method").items()},
        "recall": _recalls(seen),
        "collections": _collections(seen),
        "builds": {
            kind: {
                "builds": int(count),
                "rows": int(seen.by("build_rows_total", "kind").get(kind, 0)),
                "seconds": round(seen.by("build_seconds_total", "kind").get(kind, 0.0), 3),
            }
            for kind, count in seen.by("builds_total", "kind").items()
        },
        "maintenance_failures": int(seen.one("maintenance_failures_total")),
        "memory": {kind: int(size) for kind, size in seen.by("memory_bytes", "kind").items()},
        "disk": {kind: int(size) for kind, size in disk.items()},
        "lmdb": {
            "readers": int(seen.one("lmdb_readers")),
            "page_bytes": int(seen.one("lmdb_page_bytes")),
            "map_bytes": int(seen.one("lmdb_map_bytes")),
            **{f"{kind}_pages": int(count) for kind, count in pages.items()},
        },
        "kernels": {"compiled": int(seen.one("kernels_compiled_total")), "cache_bytes": int(seen.one("kernel_cache_bytes"))},
    }


class _Samples:
    """The samples of a registry, by name."""

    def __init__(self, registry: CollectorRegistry):
        self._samples: dict[str, list[tuple[Labels, float]]] = defaultdict(list)
        for family in registry.collect():
            for sample in family.samples:
                self._samples[sample.name.removeprefix(PREFIX)].append((sample.labels, sample.value))

    def all(self, name: str) -> list[tuple[Labels, float]]:
        return self._samples.get(name, [])

    def one(self, name: str, default: float = 0.0) -> float:
        samples = self.all(name)
        return samples[0][1] if samples else default

    def by(self, name: str, label: str) -> dict[str, float]:
        return {labels[label]: value for labels, value in self.all(name)}

    def buckets(self, name: str) -> dict[tuple[tuple[str, str], ...], list[tuple[float, float]]]:
        """Labels without ``le`` → [(upper bound, count up to it)], ascending."""
        buckets = defaultdict(list)
        for labels, value in self.all(f"{name}_bucket"):
            buckets[tuple((k, v) for k, v in sorted(labels.items()) if k != "le")].append((float(labels["le"]), value))
        return {key: sorted(pairs) for key, pairs in buckets.items()}

    def distributions(self, name: str, label: str | None) -> dict[str, dict[str, Any]]:
        sums = {tuple(sorted(labels.items())): value for labels, value in self.all(f"{name}_sum")}
        return {
            dict(key).get(label or "", ""): _distribution(pairs, sums.get(key, 0.0))
            for key, pairs in self.buckets(name).items()
            if pairs[-1][1] or label is None
        }


def _distribution(pairs: list[tuple[float, float]], total: float) -> dict[str, Any]:
    buckets = [[None if math.isinf(bound) else bound, int(count)] for bound, count in pairs]
    middle, slow = quantile(buckets, 0.5), quantile(buckets, 0.99)
    return {"count": buckets[-1][1] if buckets else 0, "seconds": round(total, 6), "p50": middle, "p99": slow, "buckets": buckets}


def quantile(buckets: Iterable[list[Any]], share: float) -> float | None:
    """The quantile ``share`` of buckets ([upper bound, count up to it]), interpolated linearly within a bucket."""
    buckets = list(buckets)
    if not buckets or not buckets[-1][1]:
        return None
    rank, low, below = share * buckets[-1][1], 0.0, 0
    for bound, count in buckets:
        if count >= rank and count > below:
            return low if bound is None else round(low + (bound - low) * (rank - below) / (count - below), 6)
        low, below = (low if bound is None else bound), count
    return low


def _recalls(seen: _Samples) -> list[dict[str, Any]]:
    counts = {tuple(sorted(labels.items())): value for labels, value in seen.all("recall_observed_count")}
    observed = {tuple(sorted(labels.items())): value for labels, value in seen.all("recall_observed_sum")}
    predictions = {tuple(sorted(labels.items())): value for labels, value in seen.all("recall_predicted_count")}
    predicted = {tuple(sorted(labels.items())): value for labels, value in seen.all("recall_predicted_sum")}
    buckets = seen.buckets("recall_observed")
    recalls = []
    for key, count in sorted(counts.items()):
        labels = dict(key)
        if count:
            recalls.append(
                {
                    "collection": labels["collection"],
                    "field": labels["field"],
                    "asked": float(labels["asked"]),
                    "audited": int(count),
                    "mean": round(observed[key] / count, 4),
                    "p5": quantile([[bound, number] for bound, number in buckets[key]], 0.05),
                    "predicted": round(predicted[key] / predictions[key], 4) if predictions.get(key) else None,
                }
            )
    return recalls


def _collections(seen: _Samples) -> dict[str, dict[str, Any]]:
    collections: dict[str, dict[str, Any]] = {}
    for key, name in (
        ("points", "points"),
        ("dead_rows", "dead_rows"),
        ("sequence", "sequence"),
        ("bytes", "collection_bytes"),
        ("pending", "maintenance_pending"),
        ("running", "maintenance_running"),
    ):
        for labels, value in seen.all(name):
            collections.setdefault(labels["collection"], {"fields": {}})[key] = int(value)
    for name in ("segments", "segment_rows", "index_bytes", "tail_rows", "damaged_files", "stale_files"):
        for labels, value in seen.all(name):
            collections[labels["collection"]]["fields"].setdefault(labels["field"], {})[name] = int(value)
    return collections
