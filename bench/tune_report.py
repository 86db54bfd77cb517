"""The output of ``tune``: tables, and advice in sentences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .tables import rate, short, size

_SLOW = 2.0  # a filter is called slow above this multiple of the unfiltered median


def advice(found: dict, targets: Sequence[float]) -> list[str]:
    """Conclusions from the measured figures, one sentence each."""
    base = found["base"]
    p50 = base["p50_ms"]
    said = _exactness(found, targets) if found["exact"] else _costs(found)
    said += _work(found)
    if found["float16"] is not None:
        deepest, half = max(100, found["k"]), found["raw_vectors"] / 2
        said.append(f"With dtype='float16' the vectors would take {size(half)}, and recall@{deepest} would be {found['float16']:.4f}.")
    slow = [one for one in found["filters"] if one["p50_ms"] > _SLOW * p50]
    for one in sorted(slow, key=lambda one: -one["p50_ms"])[:3]:
        times = f"{one['p50_ms']:.3g} ms, {one['p50_ms'] / p50:.1f} times the unfiltered search"
        said.append(f"The filter {_named(one['filter'])} ({one['matches']:,} points) takes {times}.")
    if found["filters"] and not slow:
        worst = max(found["filters"], key=lambda one: one["p50_ms"])
        what = f"{_named(worst['filter'])}, takes {worst['p50_ms']:.3g} ms"
        said.append(f"No filter is slow. The slowest of {len(found['filters'])}, {what}.")
    single, best = found["batches"][0]["qps"], max(found["batches"], key=lambda one: one["qps"])
    if best["qps"] > 1.5 * single:
        times = f"{best['qps'] / single:.1f} times as many queries per second"
        said.append(f"search_batch with {best['batch']} queries answers {times} as single searches.")
    alone, most = found["threads"][0]["qps"], max(found["threads"], key=lambda one: one["qps"])
    if most["qps"] > 1.3 * alone:
        said.append(f"{most['threads']} threads answer {most['qps'] / alone:.1f} times as many queries per second as one thread.")
    if found["attributes_ms"] > 0.2 * p50:
        cost = f"{found['attributes_ms']:.3g} ms"
        said.append(f"Reading the attributes of hits takes {cost}: name those you need, or pass with_attributes=False.")
    if found["deleted_rows"] > 0.2 * max(found["points"], 1):
        rows = f"{found['deleted_rows']:,} deleted rows still take space, beside {found['points']:,} points"
        said.append(f"{rows}; `vectordb optimize` removes them.")
    return said


def _exactness(found: dict, targets: Sequence[float]) -> list[str]:
    """Sentences on recall for a field whose searches are exact."""
    base = found["base"]
    every = [one for one in (base, *found["filters"]) if one["recall"]]
    lowest = min((one["recall"]["mean"] for one in every), default=1.0)
    if lowest < 1:
        return [f"Recall is {lowest:.4f} although searches are exact. This is a bug: run `vectordb check` and report this, please."]
    wanted = ", ".join(f"{target:g}" for target in targets)
    cost = f"{base['p50_ms']:.3g} ms at the median"
    which = {"dense": "this dense field", "sparse": "sparse fields", "multi": "multi-vector fields"}[found["kind"]]
    return [f"Searches of {which} are exact here: recall {wanted} all cost the same, {cost}, and the recall is 1.000."]


def _costs(found: dict) -> list[str]:
    """Sentences on recall targets for a field that is searched through an index."""
    *asked, exact = found["targets"]
    said = []
    for one in asked:
        if one["recall"] and one["recall"]["mean"] < one["target"] - 0.01:
            said.append(f"The target recall={one['target']:g} is not met: the measured recall is {one['recall']['mean']:.4f}.")
    cheapest = min(asked, key=lambda one: one["p50_ms"])
    times = f"{exact['p50_ms'] / cheapest['p50_ms']:.1f} times as long"
    said.append(f"recall={cheapest['target']:g} takes {cheapest['p50_ms']:.3g} ms at the median; an exact search takes {times}.")
    return said


def _work(found: dict) -> list[str]:
    """Sentences on the amount of data that an exact search reads."""
    if not found["exact"]:
        return []
    if found["kind"] != "sparse":
        read = size(found["raw_vectors"])
        return [f"A search without a filter reads {read} of vectors, so its time is proportional to the number of points."]
    read = f"{found['postings']:,.0f} postings"
    said = [f"A query has {found['query_terms']:.0f} terms here and reads {read}. Its time is proportional to the postings."]
    if found["queries_from"] == "points of the collection":
        said.append("The queries were points of the collection. Users' queries have other and usually fewer terms: pass --queries FILE.")
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
    made = table("recall and latency by number of hits", "hits", "recall", "p5", "p50 ms", "p95", "p99", "QPS")
    for one in found["limits"]:
        recall = one["recall"]
        judged = (f"{recall['mean']:.4f}", f"{recall['p5']:.2f}") if recall else ("–", "–")
        made.add_row(f"{one['limit']:,}", *judged, *(f"{one[key]:.3g}" for key in ("p50_ms", "p95_ms", "p99_ms")), rate(one["qps"]))
    console.print(made, "")
    made = table("cost of recall targets", "target", "setting", "measured recall", "p50 ms", "QPS")
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
    added = f"{size(memory['now'] - memory['before'])} more than before the database was opened (this includes the tool itself)"
    console.print(f"memory    {size(memory['now'])} resident, {added}; {size(memory['peak'])} at the peak", markup=False)
    console.print(f"disk      {size(found['disk'])}; the vectors alone are {size(found['raw_vectors'])}\n", markup=False)
    for sentence in found["advice"]:
        console.print(f"• {sentence}", markup=False)


def _target_rows(found: dict, targets: Sequence[float]) -> list[tuple[str, ...]]:
    """Rows of the table of recall targets: (target, setting, measured recall, median, QPS)."""

    def row(target: str, setting: str, one: dict) -> tuple[str, ...]:
        recall = f"{one['recall']['mean']:.4f}" if one["recall"] else "–"
        return target, setting, recall, f"{one['p50_ms']:.3g}", rate(one["qps"])

    if found["exact"]:
        return [row(f"{target:g}", "exact", found["base"]) for target in targets]
    *asked, exact = found["targets"]
    return [*(row(f"{one['target']:g}", f"recall={one['target']:g}", one) for one in asked), row("1", "exact=True", exact)]


def _named(expression: dict) -> str:
    op, name = expression["op"], expression.get("field", "")
    if op == "eq":
        return f"{name} = {expression['value']!r}"
    if op == "ge":
        return f"{name} >= {expression['value']}"
    return f"{name} contains {expression['values'][0]!r}" if op == "contains_any" else json.dumps(expression)
