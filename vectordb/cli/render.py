"""Schemas and collection facts as text for a terminal, or as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..types import CollectionInfo, Dense, Schema, Sparse

if TYPE_CHECKING:
    from rich.console import Console

_OWN_LINES = ("kind", "segments", "damaged", "stale", "tail", "dictionary", "recall")  # facts that are printed on lines of their own


def fields(schema: Schema) -> str:
    """One line per field."""
    data = schema.to_dict()
    lines = []
    for section in ("vectors", "attributes"):
        for name, spec in data[section].items():
            options = _options(spec)
            lines.append(f"  {name}: {spec['kind']}{f' ({options})' if options else ''}")
    return "\n".join(lines) or "  no fields"


def _options(spec: Mapping[str, Any]) -> str:
    """A field's options in Python notation, without its kind."""
    kind = "SparseIndex" if spec["kind"] == "sparse" else "Index"

    def shown(value: Any) -> str:
        return f"{kind}({', '.join(f'{k}={v}' for k, v in value.items())})" if isinstance(value, Mapping) else str(value)

    return ", ".join(f"{key}={shown(value)}" for key, value in spec.items() if key != "kind")


def info_dict(info: CollectionInfo) -> dict:
    """The facts as plain JSON data."""
    facts = {key: getattr(info, key) for key in ("name", "points", "sequence", "deleted_rows", "bytes")}
    statistics = {name: dict(values) for name, values in info.statistics.items()}
    return {**facts, "schema": info.schema.to_dict(), "statistics": statistics, "maintenance": dict(info.maintenance)}


def print_info(console: Console, info: CollectionInfo) -> None:
    """Print a line of counts, a table of fields, and a line per index."""
    from rich.markup import escape
    from rich.table import Table

    deleted = f", {info.deleted_rows:,} deleted rows not yet removed" if info.deleted_rows else ""
    console.print(f"[bold]{escape(info.name)}[/]  {info.points:,} points, {_size(info.bytes)}, sequence {info.sequence:,}{deleted}")
    if info.maintenance.get("state") in ("running", "failed"):
        console.print(f"maintenance {_doing(info.maintenance)}", markup=False)
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for column in ("field", "kind", "options", "statistics"):
        table.add_column(column)
    data = info.schema.to_dict()
    for name, spec in {**data["vectors"], **data["attributes"]}.items():
        facts = info.statistics.get(name, {})
        statistics = ", ".join(f"{k} {_number(v)}" for k, v in facts.items() if k not in _OWN_LINES)
        table.add_row(escape(name), spec["kind"], escape(_options(spec)), escape(statistics))
    console.print(table, soft_wrap=False)
    for line in (*indexes(info), *vocabularies(info), *notes(info)):
        console.print(line, markup=False)
    console.print()


def indexes(info: CollectionInfo) -> list[str]:
    """One line per field that has an index or waits for one."""
    lines = []
    for name, spec in info.schema.vectors.items():
        facts = info.statistics.get(name, {})
        tail = facts.get("tail", 0)
        if isinstance(spec, (Dense, Sparse)) and spec.index is not None and (facts.get("segments") or tail):
            rest = f"{tail:,} row{'s' * (tail != 1)} not indexed" if tail else "all rows indexed"
            lost = [(len(facts.get(why, ())), why) for why in ("damaged", "stale")]
            unused = "".join(f"; {files} {why} file{'s' * (files > 1)}, will be rebuilt" for files, why in lost if files)
            lines.append(f"index of {name}: {_segments(facts['segments'])}; {rest}{unused}")
            lines += [f"  {_recall(found)}" for found in facts.get("recall") or ()]
    return lines


def notes(info: CollectionInfo) -> list[str]:
    """One line per field that keeps the behaviour of an earlier version."""
    return [f"{name}: {facts['note']}" for name, facts in info.statistics.items() if "note" in facts]


def vocabularies(info: CollectionInfo) -> list[str]:
    """One line per sparse field with terms: their number and the most frequent ones."""
    lines = []
    for name in info.schema.vectors:
        said = info.statistics.get(name, {}).get("dictionary")
        if said and said["terms"]:
            heaviest = ", ".join(
                f"{part.get('word', part['term'])} ({part['rows']:,} row{'s' * (part['rows'] != 1)})" for part in said["heaviest"]
            )
            lines.append(f"terms of {name}: {said['terms']:,} distinct term{'s' * (said['terms'] != 1)}; most frequent: {heaviest}")
    return lines


def _recall(found: Mapping[str, Any]) -> str:
    predicted = "" if found["predicted"] is None else f", {found['predicted']:.3f} predicted"
    searches = f"{found['audited']:,} audited search{'es' * (found['audited'] != 1)}"
    return f"recall for target {found['asked']:g}: {found['mean']:.3f} measured{predicted}, p5 {found['p5']:.3f}, {searches}"


def _segments(segments: Sequence[Mapping[str, Any]]) -> str:
    if not segments:
        return "none yet"
    rows, size, dead = (sum(segment[key] for segment in segments) for key in ("rows", "bytes", "dead"))
    graphs = [segment["graph"] for segment in segments if "graph" in segment]
    linked = f"{sum(graphs)} with a graph, " if graphs else ""
    return f"{len(segments)} segment{'s' * (len(segments) > 1)} ({linked}{rows:,} rows, {dead:,} dead, {_size(size)})"


def _doing(facts: Mapping[str, Any]) -> str:
    """The background work, such as ``running: seal text, graph 25 %``."""
    doing = ", ".join(str(facts[key]) for key in ("task", "stage") if facts.get(key))
    share = f" {100 * facts['share']:.0f} %" if doing and facts.get("share") is not None else ""
    failed = f" (failed: {facts['error']})" if facts.get("error") else ""
    return f"{facts.get('state', 'unknown')}{': ' * bool(doing)}{doing}{share}{failed}"


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"
