"""How the demo looks: plain text that reads well at 100 columns, with colour on a terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ..types import Hit, Hits
from .queries import Query

WIDTH = 100
_BAR = 19
_ARMS = {"text": ("█", "cyan"), "terms": ("▒", "magenta")}  # two signs, so that bars differ without colour
_CALL = re.compile(r"[\w.]+\(.*\)(\s*-+>.*)?")


def console() -> Console:
    """A console of at most 100 columns; ANSI codes only on a terminal."""
    made = Console(highlight=False)
    made.width = min(made.width, WIDTH) if made.is_terminal else WIDTH
    return made


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
    """3 significant digits and a unit."""
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


def query(out: Console, number: int, asked: Query) -> None:
    heading(out, f"{number}. {asked.text}")
    for line in asked.code:
        out.print(Text(f"  {line}", style="yellow"), soft_wrap=True)
    out.print()


def hits(out: Console, found: Hits) -> None:
    best = max((arm.contribution for hit in found for arm in hit.arms.values()), default=0) or 1
    for rank, hit in enumerate(found, 1):
        _hit(out, rank, hit, best)
    if not len(found):
        out.print("  nothing matches")


def _hit(out: Console, rank: int, hit: Hit, best: float) -> None:
    attributes, payload = hit.attributes, hit.payload or {}
    lines = f", {attributes['lines']} lines" if attributes.get("lines") else ""
    left = Text.assemble((f"  {rank}  ", "bold"), (str(hit.id), "bold cyan"), (f"  {attributes['kind']}{lines}", "dim"))
    right = _short(hit.score)
    left.append(" " * max(2, out.width - left.cell_len - len(right)))
    out.print(left.append(right, style="bold green"), soft_wrap=True)
    signature = payload.get("signature", "")
    if signature:
        room = out.width - 5
        out.print(Text("     " + (signature if len(signature) <= room else signature[: room - 1] + "…"), style="green"), soft_wrap=True)
    out.print(Text("     " + summary(attributes["body"], out.width - 6)), soft_wrap=True)
    bars, parts = Text("     "), Text()
    for name, (sign, style) in _ARMS.items():
        arm = hit.arms[name]
        bars.append(sign * round(_BAR * arm.contribution / best), style=style)
        said = f"  {name} #{arm.rank} {_short(arm.score)} → {_short(arm.contribution)}" if arm.rank else f"  {name} not found"
        parts.append(f"{said:<27}" if not parts else said, style=style if arm.rank else "dim")
    bars.append(" " * max(0, 5 + 2 * _BAR - bars.cell_len))
    out.print(bars.append_text(parts), soft_wrap=True)
    out.print()


def _short(number: float) -> str:
    """4 significant digits, at most 4 after the point."""
    return f"{number:.{max(0, 4 - max(0, len(str(int(abs(number)))) - 1))}f}"


def plan(out: Console, run: Mapping[str, Any] | None, seconds: float) -> None:
    """How the search was run, in one or two lines."""
    run = run or {}
    parts = []
    kept = run.get("filter")
    if kept:
        parts.append(f"filter leaves {kept['matches']:,} of {run['live_rows']:,} points ({kept['selectivity']:.1%})")
    for arm in run.get("arms", ()):
        parts.append(f"{arm['field']}: {arm['plan']}, {arm['candidates']:,} candidates")
    fusion = run.get("fusion")
    if fusion:
        parts.append(f"{fusion['method']} fuses them")
    right = f"{duration(seconds)} a search"
    lines = [""]
    for part in parts:
        joined = f"{lines[-1]} · {part}" if lines[-1] else part
        if len(joined) > out.width - len(right) - 6:
            lines.append(part)
        else:
            lines[-1] = joined
    for line in lines[:-1]:
        out.print(Text(f"  {line}", style="dim"), soft_wrap=True)
    last = Text(f"  {lines[-1]}", style="dim")
    last.append(" " * max(2, out.width - last.cell_len - len(right)))
    out.print(last.append(right, style="not dim green"), soft_wrap=True)


def comparison(out: Console, rows: Sequence[tuple[str, float, float, bool, bool]]) -> None:
    """Embedded against served: (query, embedded seconds, served seconds, same ids, same scores)."""
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("search")
    for column in ("embedded", "served", "ids", "scores"):
        table.add_column(column, justify="right")
    for text, embedded, served, ids, scores in rows:
        words = [("same", "green") if same else ("DIFFERENT", "bold red") for same in (ids, scores)]
        table.add_row(escape(text), duration(embedded), duration(served), *(f"[{style}]{word}[/]" for word, style in words))
    out.print(table)
