"""The output of ``tune``: tables, and advice in sentences."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from . import codes
from .tables import rate, short, size, terminal_table

_SLOW = 2.0  # a filter is called slow above this multiple of the unfiltered median


def advice(results: dict, targets: Sequence[float]) -> list[str]:
    """Conclusions from the measured figures, one sentence each."""
    base = results["base"]
    p50 = base["p50_ms"]
    lines = _exactness(results, targets) if results["exact"] else _costs(results)
    lines += _work(results)
    if results["float16"] is not None:
        deepest, half = max(100, results["k"]), results["raw_vectors"] / 2
        lines.append(f"With dtype='float16' the vectors would take {size(half)}, and recall@{deepest} would be {results['float16']:.4f}.")
    slow = [one for one in results["filters"] if one["p50_ms"] > _SLOW * p50]
    for one in sorted(slow, key=lambda one: -one["p50_ms"])[:3]:
        times = f"{one['p50_ms']:.3g} ms, {one['p50_ms'] / p50:.1f} times the unfiltered search"
        lines.append(f"The filter {_named(one['filter'])} ({one['matches']:,} points) takes {times}.")
    if results["filters"] and not slow:
        worst = max(results["filters"], key=lambda one: one["p50_ms"])
        what = f"{_named(worst['filter'])}, takes {worst['p50_ms']:.3g} ms"
        lines.append(f"No filter is slow. The slowest of {len(results['filters'])}, {what}.")
    single, best = results["batches"][0]["qps"], max(results["batches"], key=lambda one: one["qps"])
    if best["qps"] > 1.5 * single:
        times = f"{best['qps'] / single:.1f} times as many queries per second"
        lines.append(f"search_batch with {best['batch']} queries answers {times} as single searches.")
    alone, most = results["threads"][0]["qps"], max(results["threads"], key=lambda one: one["qps"])
    if most["qps"] > 1.3 * alone:
        lines.append(f"{most['threads']} threads answer {most['qps'] / alone:.1f} times as many queries per second as one thread.")
    if results["attributes_ms"] > 0.2 * p50:
        cost = f"{results['attributes_ms']:.3g} ms"
        lines.append(f"Reading the attributes of hits takes {cost}: name those you need, or pass with_attributes=False.")
    if results["deleted_rows"] > 0.2 * max(results["points"], 1):
        rows = f"{results['deleted_rows']:,} deleted rows still take space, beside {results['points']:,} points"
        lines.append(f"{rows}; `vectordb optimize` removes them.")
    return lines


WIDTH = 150  # characters of the table of codes, at most


def show_codes(console: Any, results: dict) -> None:
    """Print the table of codes."""
    rows = f"{results['rows']:,} rows × {results['dim']}, {results['metric']}, {results['queries']} queries"
    title = f"{results['collection']}, field {results['field']}: what codes keep of the {codes.K} best ({rows})"
    console.width = max(console.width, WIDTH)  # a narrower table would leave figures out
    console.print(terminal_table(title, codes.HEAD, codes.table(results["codes"]), figures=True))


def _exactness(results: dict, targets: Sequence[float]) -> list[str]:
    """Sentences on recall for a field whose searches are exact."""
    base = results["base"]
    every = [one for one in (base, *results["filters"]) if one["recall"]]
    lowest = min((one["recall"]["mean"] for one in every), default=1.0)
    if lowest < 1:
        return [f"Recall is {lowest:.4f} although searches are exact. This is a bug: run `vectordb check` and report this, please."]
    listed = ", ".join(f"{target:g}" for target in targets)
    cost = f"{base['p50_ms']:.3g} ms at the median"
    which = {"dense": "this dense field", "sparse": "sparse fields", "multi": "multi-vector fields"}[results["kind"]]
    return [f"Searches of {which} are exact here: recall {listed} all cost the same, {cost}, and the recall is 1.000."]


def _costs(results: dict) -> list[str]:
    """Sentences on recall targets for a field that is searched through an index."""
    *targets, exact = results["targets"]
    lines = []
    for one in targets:
        if one["recall"] and one["recall"]["mean"] < one["target"] - 0.01:
            lines.append(f"The target recall={one['target']:g} is not met: the measured recall is {one['recall']['mean']:.4f}.")
    cheapest = min(targets, key=lambda one: one["p50_ms"])
    times = f"{exact['p50_ms'] / cheapest['p50_ms']:.1f} times as long"
    lines.append(f"recall={cheapest['target']:g} takes {cheapest['p50_ms']:.3g} ms at the median; an exact search takes {times}.")
    return lines


def _work(results: dict) -> list[str]:
    """Sentences on the amount of data that an exact search reads."""
    if not results["exact"]:
        return []
    if results["kind"] != "sparse":
        read = size(results["raw_vectors"])
        return [f"A search without a filter reads {read} of vectors, so its time is proportional to the number of points."]
    read = f"{results['postings']:,.0f} postings"
    lines = [f"A query has {results['query_terms']:.0f} terms here and reads {read}. Its time is proportional to the postings."]
    if results["queries_from"] == "points of the collection":
        lines.append("The queries were points of the collection. Users' queries have other and usually fewer terms: pass --queries FILE.")
    return lines


def show(console: Any, results: dict, targets: Sequence[float]) -> None:
    def table(title: str, *header: str, rows: Iterable[Sequence[str]]) -> None:
        console.print(terminal_table(title, header, rows, figures=True), "")

    machine, base = results["machine"], results["base"]
    console.print(f"[bold]{results['collection']}[/].{results['field']}: {results['points']:,} points × {results['form']}")
    console.print(f"{machine['cpu']}, {machine['cores']} cores; {results['queries']} queries ({results['queries_from']})\n", markup=False)
    rows = [
        (f"{one['limit']:,}", _recall(one), _recall(one, "p5", 2), *_latency(one, "p50_ms", "p95_ms", "p99_ms"), rate(one["qps"]))
        for one in results["limits"]
    ]
    table("recall and latency by number of hits", "hits", "recall", "p5", "p50 ms", "p95", "p99", "QPS", rows=rows)
    table("cost of recall targets", "target", "setting", "measured recall", "p50 ms", "QPS", rows=_target_rows(results, targets))
    if results["filters"]:
        rows = []
        for one in results["filters"]:
            times = one["p50_ms"] / base["p50_ms"]
            figures = (_recall(one), *_latency(one, "p50_ms", "p99_ms"), f"{times:.2f}{' slow' if times > _SLOW else ''}")
            rows.append((_named(one["filter"]), f"{one['matches']:,}", *figures))
        table(f"filters, {results['k']} hits", "filter", "matches", "recall", "p50 ms", "p99", "× unfiltered", rows=rows)
    batches = "  ".join(f"{one['batch']}: {short(one['qps'])}/s" for one in results["batches"])
    threads = "  ".join(f"{one['threads']}: {short(one['qps'])}/s" for one in results["threads"])
    console.print(f"batches   {batches}\nthreads   {threads}", markup=False)
    memory = results["memory"]
    added = f"{size(memory['now'] - memory['before'])} more than before the database was opened (this includes the tool itself)"
    console.print(f"memory    {size(memory['now'])} resident, {added}; {size(memory['peak'])} at the peak", markup=False)
    console.print(f"disk      {size(results['disk'])}; the vectors alone are {size(results['raw_vectors'])}\n", markup=False)
    for sentence in results["advice"]:
        console.print(f"• {sentence}", markup=False)


def _target_rows(results: dict, targets: Sequence[float]) -> list[tuple[str, ...]]:
    """Rows of the table of recall targets: (target, setting, measured recall, median, QPS)."""

    def row(target: str, setting: str, one: dict) -> tuple[str, ...]:
        return target, setting, _recall(one), *_latency(one, "p50_ms"), rate(one["qps"])

    if results["exact"]:
        return [row(f"{target:g}", "exact", results["base"]) for target in targets]
    *by_target, exact = results["targets"]
    return [*(row(f"{one['target']:g}", f"recall={one['target']:g}", one) for one in by_target), row("1", "exact=True", exact)]


def _recall(one: dict, part: str = "mean", digits: int = 4) -> str:
    return f"{one['recall'][part]:.{digits}f}" if one["recall"] else "–"


def _latency(one: dict, *names: str) -> list[str]:
    return [f"{one[name]:.3g}" for name in names]


def _named(expression: dict) -> str:
    op, name = expression["op"], expression.get("field", "")
    if op == "eq":
        return f"{name} = {expression['value']!r}"
    if op == "ge":
        return f"{name} >= {expression['value']}"
    return f"{name} contains {expression['values'][0]!r}" if op == "contains_any" else json.dumps(expression)
