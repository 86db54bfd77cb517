"""What ``tune`` found, in sentences and tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .report import rate, short, size

_SLOW = 2.0  # times the unfiltered median: a slow filter


def advice(found: dict, targets: Sequence[float]) -> list[str]:
    """What the figures say to do, in sentences; nothing that wasn't measured."""
    base = found["base"]
    p50 = base["p50_ms"]
    said = _exactness(found, targets) if found["exact"] else _costs(found)
    said += _work(found)
    if found["float16"] is not None:
        deepest, half = max(100, found["k"]), found["raw_vectors"] / 2
        said.append(f"With dtype float16 the vectors would take {size(half)}; recall@{deepest} would be {found['float16']:.4f}.")
    slow = [one for one in found["filters"] if one["p50_ms"] > _SLOW * p50]
    for one in sorted(slow, key=lambda one: -one["p50_ms"])[:3]:
        times = f"{one['p50_ms']:.3g} ms, {one['p50_ms'] / p50:.1f} times the unfiltered search"
        said.append(f"The filter {_named(one['filter'])} ({one['matches']:,} points) takes {times}.")
    if found["filters"] and not slow:
        worst = max(found["filters"], key=lambda one: one["p50_ms"])
        what = f"{_named(worst['filter'])}, takes {worst['p50_ms']:.3g} ms"
        said.append(f"No filter is slow: the slowest of {len(found['filters'])}, {what}.")
    single, best = found["batches"][0]["qps"], max(found["batches"], key=lambda one: one["qps"])
    if best["qps"] > 1.5 * single:
        said.append(f"search_batch with {best['batch']} queries answers {best['qps'] / single:.1f} times as many a second as one by one.")
    alone, most = found["threads"][0]["qps"], max(found["threads"], key=lambda one: one["qps"])
    if most["qps"] > 1.3 * alone:
        said.append(f"{most['threads']} threads answer {most['qps'] / alone:.1f} times as many a second as one.")
    if found["attributes_ms"] > 0.2 * p50:
        said.append(f"Attributes of the hits cost {found['attributes_ms']:.3g} ms: name the ones you need, or pass with_attributes=False.")
    if found["deleted_rows"] > 0.2 * max(found["points"], 1):
        said.append(f"{found['deleted_rows']:,} deleted rows still take space beside {found['points']:,} points.")
    return said


def _exactness(found: dict, targets: Sequence[float]) -> list[str]:
    """Of a field whose searches say that they are exact."""
    base = found["base"]
    every = [one for one in (base, *found["filters"]) if one["recall"]]
    lowest = min((one["recall"]["mean"] for one in every), default=1.0)
    if lowest < 1:
        return [f"Recall is {lowest:.4f}, though searches are exact: run `vectordb check` and report this, please."]
    wanted = ", ".join(f"{target:g}" for target in targets)
    cost = f"{base['p50_ms']:.3g} ms at the median"
    which = {"dense": "this dense field", "sparse": "sparse fields", "multi": "multi-vector fields"}[found["kind"]]
    return [f"Searches of {which} are exact here: recall {wanted} all cost the same, {cost}, and recall is 1.000."]


def _costs(found: dict) -> list[str]:
    """Of a field that is searched through an index: what each asked-for recall gave."""
    *asked, exact = found["targets"]
    said = []
    for one in asked:
        if one["recall"] and one["recall"]["mean"] < one["target"] - 0.01:
            said.append(f"Recall {one['target']:g} was asked for and {one['recall']['mean']:.4f} measured: the target is not met here.")
    cheapest = min(asked, key=lambda one: one["p50_ms"])
    times = f"{exact['p50_ms'] / cheapest['p50_ms']:.1f} times as long"
    said.append(f"recall={cheapest['target']:g} takes {cheapest['p50_ms']:.3g} ms at the median; an exact search {times}.")
    return said


def _work(found: dict) -> list[str]:
    """What an exact search goes through."""
    if not found["exact"]:
        return []
    if found["kind"] != "sparse":
        return [f"A search without a filter reads {size(found['raw_vectors'])} of vectors: twice as many points take twice as long."]
    said = [f"A query has {found['query_terms']:.0f} terms here and reaches {found['postings']:,.0f} postings: its time goes with them."]
    if found["queries_from"] == "points of the collection":
        said.append("The queries were points of the collection; users' queries have other terms, mostly fewer: pass --queries.")
    return said


def show(console: Any, found: dict, targets: Sequence[float]) -> None:
    from rich.table import Table

    def table(title: str, *columns: str) -> Table:
        made = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), header_style="dim")
        for i, column in enumerate(columns):
            made.add_column(column, justify="left" if i == 0 else "right")
        return made

    machine = found["machine"]
    console.print(f"[bold]{found['collection']}[/].{found['field']}: {found['points']:,} points × {found['form']}")
    console.print(f"{machine['cpu']}, {machine['cores']} cores; {found['queries']} queries ({found['queries_from']})\n", markup=False)
    made = table("recall and latency by hits", "hits", "recall", "p5", "p50 ms", "p95", "p99", "QPS")
    for one in found["limits"]:
        recall = one["recall"]
        judged = (f"{recall['mean']:.4f}", f"{recall['p5']:.2f}") if recall else ("–", "–")
        made.add_row(f"{one['limit']:,}", *judged, *(f"{one[key]:.3g}" for key in ("p50_ms", "p95_ms", "p99_ms")), rate(one["qps"]))
    console.print(made, "")
    made = table("what a recall target costs", "recall ≥", "setting", "measured", "p50 ms", "QPS")
    for row in _target_rows(found, targets):
        made.add_row(*row)
    console.print(made, "")
    if found["filters"]:
        made = table(f"filters, {found['k']} hits", "filter", "matches", "recall", "p50 ms", "p99", "× unfiltered")
        for one in found["filters"]:
            times = one["p50_ms"] / found["base"]["p50_ms"]
            figures = (
                f"{one['recall']['mean']:.4f}",
                f"{one['p50_ms']:.3g}",
                f"{one['p99_ms']:.3g}",
                f"{times:.2f}{' slow' if times > _SLOW else ''}",
            )
            made.add_row(_named(one["filter"]), f"{one['matches']:,}", *figures)
        console.print(made, "")
    batches = "  ".join(f"{one['batch']}: {short(one['qps'])}/s" for one in found["batches"])
    threads = "  ".join(f"{one['threads']}: {short(one['qps'])}/s" for one in found["threads"])
    console.print(f"batches   {batches}\nthreads   {threads}", markup=False)
    memory = found["memory"]
    added = f"{size(memory['now'] - memory['before'])} more than before it was opened (this tool's own share included)"
    console.print(f"memory    {size(memory['now'])} resident, {added}; {size(memory['peak'])} at the peak", markup=False)
    console.print(f"disk      {size(found['disk'])}; the vectors alone are {size(found['raw_vectors'])}\n", markup=False)
    for sentence in found["advice"]:
        console.print(f"• {sentence}", markup=False)


def _target_rows(found: dict, targets: Sequence[float]) -> list[tuple[str, ...]]:
    """(target, setting, measured recall, median, QPS)"""

    def row(target: str, setting: str, one: dict) -> tuple[str, ...]:
        recall = f"{one['recall']['mean']:.4f}" if one["recall"] else "–"
        return target, setting, recall, f"{one['p50_ms']:.3g}", rate(one["qps"])

    if found["exact"]:
        return [row(f"{target:g}", "exact (the only one)", found["base"]) for target in targets]
    *asked, exact = found["targets"]
    return [*(row(f"{one['target']:g}", f"recall={one['target']:g}", one) for one in asked), row("1", "exact=True", exact)]


def _named(expression: dict) -> str:
    op, name = expression["op"], expression.get("field", "")
    if op == "eq":
        return f"{name} = {expression['value']!r}"
    if op == "ge":
        return f"{name} >= {expression['value']}"
    return f"{name} contains {expression['values'][0]!r}" if op == "contains_any" else json.dumps(expression)
