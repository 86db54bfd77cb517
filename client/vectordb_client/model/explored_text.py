"""The health of a field as text."""

from __future__ import annotations

from typing import Any


def health_text(health: Any) -> str:
    """The lines that ``print(docs.health("v"))`` shows. health: a ``Health``."""
    norms = health.norms
    dims = ", ".join(f"{number} for {float(share):.0%}" for share, number in health.dims_for.items())
    lines = [
        f"{health.sample:,} of {health.points:,} points, {health.dim} dimensions, {health.metric}",
        f"  rank            {health.rank} above noise, {health.effective_rank:.1f} effective",
        f"  dimensions      {dims} of the variance; {len(health.dead)} dead",
        f"  norms           {norms['min']:.4g} to {norms['max']:.4g}, mean {norms['mean']:.4g}, deviation {norms['deviation']:.4g}",
        f"  duplicates      {health.duplicates:,}",
        f"  hubness         {health.hubness:.2f} (skewness, k = {health.hub_k}, {health.hub_sample:,} points); {health.lonely:.1%} lonely",
        f"  outliers        {health.outlier_count:,}",
    ]
    return "\n".join([*lines, *(f"- {sentence}" for sentence in health.advice)])


def advice(health: dict[str, Any], field: str) -> list[str]:
    """What is unusual, and what to do. health: the attributes of a ``Health``."""
    found, sample, norms = [], health["sample"], health["norms"]
    if sample < 2:
        return ["there are too few points to say more"]
    if health["dead"]:
        found.append(f"{len(health['dead'])} of {health['dim']} dimensions are the same in all vectors: a smaller model may do")
    if 0 < health["rank"] < health["dim"] / 4 and health["rank"] < sample / 4:
        found.append(f"the vectors vary in {health['rank']} of {health['dim']} directions: fewer dimensions would hold nearly the same")
    if health["duplicates"] > sample // 100:
        share = f"{health['duplicates'] / sample:.1%} of the vectors equal another one"
        found.append(f"{share}: look at duplicates({field!r}, …), or for texts that are cut off")
    if norms["zero"]:
        found.append(f"{norms['zero']:.0f} vectors have length 0: their texts may be empty")
    if health["metric"] == "dot" and norms["deviation"] > 0.1 * norms["mean"]:
        found.append("lengths differ, and a dot product prefers long vectors: choose metric='cosine' unless the model was trained for that")
    if health["hubness"] > 3:
        found.append("few points are among the neighbours of very many: look at the hubs, which are often empty or generic texts")
    if health["outlier_count"]:
        found.append(f"{health['outlier_count']:,} points are far from all others: look at outliers, which are often errors of the import")
    return found
