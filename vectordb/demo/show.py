"""How the demo looks: plain text that reads well at 100 columns, with colour on a terminal."""

from __future__ import annotations

import re
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from vectordb_client.model.results import Hit, Hits

from .queries import Query

WIDTH = 100
_BAR = 19
_ARMS = {"text": ("█", "cyan"), "terms": ("▒", "magenta")}  # two signs, so that bars differ without colour
_SHOWN_ANSWERS = 4
# What each plan of an index does: kind of index → plan → a few words.
PLANS = {
    "dense": {
        "scan": "score every matching row by its byte codes",
        "binary-code scan": "compare the binary codes of all rows, score the nearest",
        "clusters": "score the rows of the nearest clusters",
        "clusters, binary codes": "compare binary codes in the nearest clusters only",
        "graph": "walk a graph of neighbours towards the query",
        "graph, fixed width": "the same, as files of earlier versions are searched",
        "two-hop graph": "walk the graph over matching rows only",
        "post-filter": "walk the graph, drop rows that don't match",
        "exact scan": "score every matching row at full precision",
    },
    "sparse": {
        "scan": "score every matching row",
        "impacts": "add up the largest weights, score the best rows",
        "safe impacts": "add up all weights, score what may be among the best",
        "full postings": "add up all weights at full precision",
    },
    "lists": {
        "lists": "score the rows in the lists of the nearest centroids",
        "exact scan": "score every matching row at full precision",
    },
    "multi": {
        "byte scan": "score every matching row by its byte codes",
        "token lists": "score the rows whose vectors are near the same centroids",
        "exact scan": "score every matching row at full precision",
    },
}
_CALL = re.compile(r"[\w.]+\(.*\)(\s*-+>.*)?")


def console() -> Console:
    """A console of at most 100 columns; ANSI codes only on a terminal."""
    console_ = Console(highlight=False)
    console_.width = min(console_.width, WIDTH) if console_.is_terminal else WIDTH
    return console_


def heading(out: Console, text: str) -> None:
    out.print()
    out.rule(f"[bold]{escape(text)}[/]", align="left", style="dim")


def fact(out: Console, text: str, seconds: float | None = None) -> None:
    """One line of what was done, with how long it took at the right."""
    line = Text(f"  {text}")
    if seconds is not None:
        right = duration(seconds)
        line.append(" " * max(2, out.width - len(line) - len(right)))
        line.append(right, style="green")
    out.print(line)


def duration(seconds: float) -> str:
    """About 3 significant digits and a unit."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def summary(body: str, width: int) -> str:
    """The first sentences of a text, without the name before them and the signature that compiled functions begin with."""
    _, _, doc = body.partition(": ")
    paragraphs = [" ".join(p.split()) for p in re.split(r"\n\s*\n", doc.strip())]
    lines = doc.strip().splitlines()
    if lines and _CALL.fullmatch(lines[0].strip()):
        rest = "\n".join(lines[1:]).strip()
        paragraphs = [" ".join(p.split()) for p in re.split(r"\n\s*\n", rest)] if rest else paragraphs
    return textwrap.shorten(paragraphs[0], width=width, placeholder=" …")


def code(out: Console, text: str) -> None:
    """Code as one would type it."""
    out.print(Text(f"  {text}", style="yellow"), soft_wrap=True)


def note(out: Console, text: str) -> None:
    """A sentence or two, wrapped."""
    for line in textwrap.wrap(text, out.width - 2):
        out.print(Text(f"  {line}"))


def concept(out: Console, number: int, label: str, points: Sequence[str]) -> None:
    """A concept with its label, and the points that have most of it."""
    line = Text(f"  {number:>4}  ", style="dim")
    line.append(_cut(label or "(without a label)", 38).ljust(40), style="bold")
    line.append(_cut(", ".join(points), WIDTH - 50))
    out.print(line)


def names(out: Console, points: Sequence[str]) -> None:
    """The points that a search found, in one line or two."""
    out.print(Padding(Text(", ".join(points)), (0, 0, 1, 4)))


def query(out: Console, number: int, example: Query) -> None:
    heading(out, f"{number}. {example.text}")
    for line in example.code:
        code(out, line)
    out.print()


def hits(out: Console, answer: Hits, detailed: bool) -> None:
    """Hits of two lines each; detailed ones also have a signature, and a bar of what each vector field contributed to the score."""
    best = max((arm.contribution for hit in answer for arm in hit.arms.values()), default=0) or 1
    for rank, hit in enumerate(answer, 1):
        _hit(out, rank, hit)
        signature = (hit.payload or {}).get("signature", "")
        if detailed and signature:
            out.print(Text(f"     {_cut(signature, out.width - 5)}", style="green"), soft_wrap=True)
        out.print(Text("     " + summary(hit.attributes["body"], out.width - 6)), soft_wrap=True)
        if detailed and hit.arms:
            _bars(out, hit, best)
    if not len(answer):
        out.print("  nothing matches")
    out.print()


def _hit(out: Console, rank: int, hit: Hit) -> None:
    lines = f", {hit.attributes['lines']} lines" if hit.attributes.get("lines") else ""
    left = Text.assemble((f"  {rank}  ", "bold"), (str(hit.id), "bold cyan"), (f"  {hit.attributes['kind']}{lines}", "dim"))
    _with_right(out, left, _short(hit.score), "bold green")


def _bars(out: Console, hit: Hit, best: float) -> None:
    bars, parts = Text("     "), Text()
    for name, (sign, style) in _ARMS.items():
        arm = hit.arms[name]
        bars.append(sign * round(_BAR * arm.contribution / best), style=style)
        text = f"  {name} #{arm.rank} {_short(arm.score)} → {_short(arm.contribution)}" if arm.rank else f"  {name} not found"
        parts.append(f"{text:<27}" if not parts else text, style=style if arm.rank else "dim")
    bars.append(" " * max(0, 5 + 2 * _BAR - bars.cell_len))
    out.print(bars.append_text(parts), soft_wrap=True)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _short(number: float) -> str:
    """4 significant digits, at most 4 after the point."""
    return f"{number:.{max(0, 4 - max(0, len(str(int(abs(number)))) - 1))}f}"


def _with_right(out: Console, left: Text, right: str, style: str) -> None:
    """A line whose end stands at the right edge."""
    left.append(" " * max(2, out.width - left.cell_len - len(right)))
    out.print(left.append(right, style=style), soft_wrap=True)


def steps(out: Console, plan: Mapping[str, Any], seconds: float) -> None:
    """How a search was run, on one line: what the filter left, the plan of each vector field, the time of a search."""
    parts = []
    kept = plan.get("filter")
    if kept:
        parts.append(f"filter: {kept['matches']:,} of {plan['live_rows']:,} match")
    parts += [f"{arm['field']}: {plan_name(arm)}" for arm in plan.get("arms", ())]
    fusion = plan.get("fusion")
    if fusion and len(plan.get("arms", ())) > 1:
        parts.append(f"fusion: {fusion['method']}")
    _with_right(out, Text(f"  {' · '.join(parts)}", style="dim"), duration(seconds), "not dim green")


def plan_name(arm: Mapping[str, Any]) -> str:
    """The plan that ran for a vector field: that of its index segment, where it has one."""
    segments = arm.get("segments") or ()
    return segments[0]["plan"] if segments else arm["plan"]


def choice(out: Console, arm: Mapping[str, Any]) -> None:
    """The plans that were considered for a search of one field, each with its best setting, and the one that ran."""
    segment, target = arm["segments"][0], arm["recall"]["target"]
    ran, considered = segment["plan"], segment["considered"]
    table = _table(("", ""), ("plan", ""), ("what it does", ""), ("time", ">"), ("recall", ">"))
    for step in best_settings(considered, target):
        name, chosen = step["plan"], step["plan"] == ran
        if chosen:
            step = {**step, **(segment["predicted"] or {})}
        cells = (
            ">" if chosen else "",
            name,
            PLANS.get(arm["kind"], {}).get(name, ""),
            duration(step["microseconds"] / 1e6),
            f"{step['recall']:.3f}",
        )
        table.add_row(*cells, style="bold" if chosen else "dim")
    _print(out, table)
    plans = len({step["plan"] for step in considered})
    if segment["fallback"]:
        why = "The plan chosen first found too few rows, so this one took over."
    else:
        why = f"The planner takes the fastest that is predicted to reach the recall asked for, {target}, with a small margin."
    note(
        out,
        f"{len(considered)} settings of {plans} plans were considered; the best of each is shown, with its prediction. {why}",
    )
    out.print()


def best_settings(considered: Sequence[Mapping[str, Any]], target: float) -> list[Mapping[str, Any]]:
    """Of each plan the cheapest setting that reaches the target, or else the one of the highest recall; the cheapest plan first."""
    best: dict[str, Mapping[str, Any]] = {}
    for step in considered:
        before = best.get(step["plan"])
        if before is None or _rank(step, target) < _rank(before, target):
            best[step["plan"]] = step
    return sorted(best.values(), key=lambda step: step["microseconds"])


def _rank(step: Mapping[str, Any], target: float) -> tuple[bool, float]:
    reached = step["recall"] >= target
    return not reached, step["microseconds"] if reached else -step["recall"]


def choices(out: Console, plans: Mapping[str, Mapping[str, Any]]) -> None:
    """The plan that ran under each filter. plans: filter → ``explain``'s plan of a search of one field."""
    table = _table(("the same search with filter=", ""), ("match", ">"), ("plan", ""), ("time", ">"), ("recall", ">"))
    for condition, plan in plans.items():
        arm = plan["arms"][0]
        segments = arm.get("segments") or ({},)  # none is searched where nothing matches
        predicted = segments[0].get("predicted") or {}
        cells = [predicted.get("microseconds"), predicted.get("recall")]
        cells = ["" if cells[0] is None else duration(cells[0] / 1e6), "" if cells[1] is None else f"{cells[1]:.3f}"]
        table.add_row(escape(condition), f"{plan['filter']['matches']:,}", plan_name(arm), *cells)
    _print(out, table)
    out.print()


def recalls(out: Console, answers: Sequence[tuple[str, float, Mapping[float, tuple[float, float]]]]) -> None:
    """Exact and indexed searches. answers: (question, seconds exact, recall asked for → (seconds, share of the exact answer found))."""
    recalls_asked = list(answers[0][2])
    columns = [column for recall in recalls_asked for column in ((f"recall={recall}", ">"), ("found", ">"))]
    table = _table((f"{len(answers)} questions", ""), ("exact=True", ">"), *columns)
    for question, exact, indexed in answers[:_SHOWN_ANSWERS]:
        cells = [cell for recall in recalls_asked for cell in (duration(indexed[recall][0]), f"{indexed[recall][1]:.0%}")]
        table.add_row(escape(question), duration(exact), *cells, style="dim")
    exact = statistics.fmean(seconds for _, seconds, _ in answers)
    means = [[statistics.fmean(indexed[recall][part] for *_, indexed in answers) for part in (0, 1)] for recall in recalls_asked]
    cells = [cell for seconds, recall in means for cell in (duration(seconds), f"{recall:.1%}")]
    table.add_row("mean of all questions", duration(exact), *cells, style="bold")
    _print(out, table)
    out.print()
    note(
        out,
        "Found: the share of the exact answer's 10 points. The planner predicts it from searches for stored texts; questions are shorter, "
        "so it may lie below what was asked for.",
    )


def comparison(out: Console, rows: Sequence[tuple[str, float, float, bool, bool]]) -> None:
    """Embedded against served: (query, seconds embedded, seconds served, same ids, same scores)."""
    table = _table(("exact search", ""), ("embedded", ">"), ("served", ">"), ("ids", ">"), ("scores", ">"))
    for text, embedded, served, ids, scores in rows:
        words = [("same", "green") if same else ("DIFFERENT", "bold red") for same in (ids, scores)]
        table.add_row(escape(text), duration(embedded), duration(served), *(f"[{style}]{word}[/]" for word, style in words))
    _print(out, table)


def _table(*columns: tuple[str, str]) -> Table:
    """A table without lines. columns: (header, ">" for numbers)."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for header, side in columns:
        table.add_column(header, justify="right" if side else "left", no_wrap=True)
    return table


def _print(out: Console, table: Table) -> None:
    out.print(Padding(table, (0, 0, 0, 2)))
