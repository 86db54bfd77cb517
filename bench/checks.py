"""What probes measured: figures by round, ratios of two systems within the rounds, and the bounds that a suite asks for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from . import metrics
from .suites import SUITES, Check

LOWER_IS_BETTER = ("µs", "ms", "s", "MiB", "B", "× raw", "× alone", "× plain")
HIGHER_IS_BETTER = ("points/s", "queries/s", "searches/s", "texts/s", "×")
VALUES: dict[str, Callable[[np.ndarray], float]] = {
    "median": lambda values: float(np.median(values)),
    "mean": lambda values: float(np.mean(values)),
    "geometric mean": lambda values: float(np.exp(np.log(values).mean())),
    "highest": lambda values: float(np.max(values)),
    "share ≤ 0.01": lambda values: float(np.mean(values <= 0.01 + 1e-9)),
}


def figures(probed: Iterable[dict]) -> list[dict]:
    """A dict for each figure of each system: suite, dataset, system, cell, what, unit, and its value in each round."""
    figures_of: dict[tuple, dict] = {}
    for fact in probed:
        place = {name: fact[name] for name in ("suite", "dataset", "cell", "system")}
        for what, value, unit in fact["figures"]:
            one = figures_of.setdefault((*place.values(), what), {**place, "what": what, "unit": unit, "values": []})
            one["values"].append(value)
    return list(figures_of.values())


def ratios(one: dict, other: dict) -> list[float]:
    """How many times as fast, as many or as small as ``other`` the figure ``one`` is, in each round. Empty if neither is better."""
    pairs = [(a, b) for a, b in zip(one["values"], other["values"]) if a > 0 and b > 0]
    if one["unit"] in LOWER_IS_BETTER:
        return [b / a for a, b in pairs]
    return [a / b for a, b in pairs] if one["unit"] in HIGHER_IS_BETTER else []


def best(one: dict) -> float:
    """The figure of its best round."""
    return min(one["values"]) if one["unit"] in LOWER_IS_BETTER else max(one["values"])


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """(median, lower, upper): the 95 % bootstrap interval of the median over rounds; of fewer than six the lowest and highest."""
    values = np.asarray(values, dtype=float)
    if len(values) < 6:
        return float(np.median(values)), float(values.min()), float(values.max())
    medians = np.median(values[np.random.default_rng(0).integers(0, len(values), (metrics.RESAMPLES, len(values)))], axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(np.median(values)), float(low), float(high)


def checked(figures_found: Sequence[dict]) -> list[dict]:
    """The suites' checks for which there are figures: suite, dataset, what is bounded, the value, the bound, and whether it is met."""
    result = []
    for suite, dataset in dict.fromkeys((one["suite"], one["dataset"]) for one in figures_found):
        figures_here = [one for one in figures_found if (one["suite"], one["dataset"]) == (suite, dataset)]
        for check in SUITES[suite].checks:
            value = _value(check, figures_here) if check.data in ("", dataset) else None
            if value is not None:
                met = value <= check.limit if check.most else value >= check.limit
                what = f"{check.system}: {check.what}{f' {check.other}' if check.other else ''}, {check.value}".replace(".*", "…")
                result.append(
                    {"suite": suite, "dataset": dataset, "what": what, "value": value, "most": check.most, "limit": check.limit, "met": met}
                )
    return result


def _value(check: Check, figures_found: Sequence[dict]) -> float | None:
    values: list[float] = []
    for one in figures_found:
        if one["system"] != check.system or not re.fullmatch(check.what, one["what"]):
            continue
        if not check.other:
            values += one["values"]
            continue
        sign, name = check.other.split(" ", 1)
        same = [other for other in figures_found if other["system"] == name and all(other[part] == one[part] for part in ("cell", "what"))]
        for other in same:
            values += ratios(one, other) if sign == "÷" else [a - b for a, b in zip(one["values"], other["values"])]
    return VALUES[check.value](np.array(values)) if values else None


def missed(results: dict) -> list[str]:
    """The checks that aren't met, one text each."""
    return [f"{one['suite']} · {one['dataset']}: {bound(one)}" for one in results.get("checks", ()) if not one["met"]]


def bound(one: dict) -> str:
    text = f"{one['what']} {figure(one['value'])} {'≤' if one['most'] else '≥'} {figure(one['limit'])}"
    return text if one["met"] else f"{text}: missed by {abs(one['value'] / one['limit'] - 1):.0%}"


def figure(value: float) -> str:
    """A number with three significant digits and thousands separators."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def factor(value: float) -> str:
    """A ratio with three digits, at least two of them decimals: 1.02, 0.97, 12.3."""
    return f"{value:.2f}" if 0.1 <= value < 10 else figure(value)
