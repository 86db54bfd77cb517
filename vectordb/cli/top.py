"""``vectordb top``: show ``Client.status()`` of a running service and its change since the previous status."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..server.telemetry.status import quantile

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Status = Mapping[str, Any]
SHOWN_SLOW = 5


def run(ask: Callable[[], Status], console: Console, interval: float, once: bool, as_json: bool) -> None:
    """Show a service until Ctrl-C, or once. interval: seconds between updates. as_json: print the raw status, one object per line."""
    if as_json:
        while True:
            print(json.dumps(ask()), flush=True)
            if once:
                return
            time.sleep(interval)
    now, at = ask(), time.monotonic()
    first = frame(now, None, now["uptime_seconds"])
    if once:
        console.print(first)
        return
    with contextlib.ExitStack() as shown:
        show = console.print  # into a file or a pipe: one frame after another
        if console.is_terminal:
            from rich.live import Live

            live = shown.enter_context(Live(first, console=console, screen=True, auto_refresh=False))
            show = functools.partial(live.update, refresh=True)
        while True:
            time.sleep(interval)
            before, then, now, at = now, at, ask(), time.monotonic()
            show(frame(now, before, at - then))


def frame(now: Status, before: Status | None, seconds: float) -> RenderableType:
    """One frame. before: the status of ``seconds`` ago; None shows totals since the start, ``seconds`` ago."""
    from rich.console import Group
    from rich.text import Text

    parts = [Text(line) for line in _head(now, before, seconds)]
    parts += [Text(""), _calls(now, before, seconds), Text(""), _collections(now)]
    if now["recall"]:
        parts += [Text(""), _recall(now)]
    parts += [Text(line) for line in _problems(now)]
    return Group(*parts)


def difference(now: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The change of a distribution between two statuses: count, p50 and p99 (seconds)."""
    earlier = {} if before is None else dict(before["buckets"])
    buckets = [[bound, count - earlier.get(bound, 0)] for bound, count in now["buckets"]]
    if buckets and buckets[-1][1] < 0:  # the service was restarted in between
        buckets = now["buckets"]
    return {"count": buckets[-1][1] if buckets else 0, "p50": quantile(buckets, 0.5), "p99": quantile(buckets, 0.99)}


def _head(now: Status, before: Status | None, seconds: float) -> list[str]:
    queue = difference(now["queue"], None if before is None else before["queue"])
    memory, disk, workers = now["memory"], now["disk"], now["workers"]
    used = sum(size for kind, size in disk.items() if kind != "free")
    since = "since the start" if before is None else f"last {seconds:.1f} s"
    return [
        f"vectordb {now['version']}, up {_span(now['uptime_seconds'])}, {workers} process{'es' * (workers != 1)}; calls: {since}",
        f"queue: {now['queue']['under_way']} running, {now['queue']['waiting']} waiting, p99 wait {_time(queue['p99'])}",
        f"memory: {_size(memory.get('resident', 0))} resident, {_size(memory.get('own', 0))} own; "
        f"disk: {_size(used)} used, {_size(disk.get('free', 0))} free; readers {now['lmdb']['readers']}",
        *_budget(memory),
    ]


def _budget(memory: Mapping[str, int]) -> list[str]:
    """A line about the memory budget, if there is one."""
    if not memory.get("budget"):
        return []
    kept, mapped, resident = (_size(memory.get(f"index_{kind}", 0)) for kind in ("kept", "mapped", "resident"))
    return [f"memory budget: {_size(memory['budget'])}; index files: {kept} kept, {mapped} mapped, {resident} of both in memory"]


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
    return table


def _calls(now: Status, before: Status | None, seconds: float) -> Any:
    table = _table("call", "per second", "p50", "p99", "errors", "slow")
    for group in ("calls", "plans"):
        for name, counts in sorted(now[group].items()):
            new = difference(counts, None if before is None else before[group].get(name))
            failed = sum(error["count"] for error in now["errors"] if error["method"] == name) if group == "calls" else 0
            slow = now["slow"].get(name, 0) if group == "calls" else 0
            shown = name if group == "calls" else f"  plan {name}"
            rate = f"{new['count'] / max(seconds, 1e-3):,.1f}"
            table.add_row(shown, rate, _time(new["p50"]), _time(new["p99"]), f"{failed or ''}", f"{slow or ''}")
    return table


def _collections(now: Status) -> Any:
    table = _table("collection", "points", "dead", "segments", "indexed", "tail", "pending")
    for name, collection in sorted(now["collections"].items()):
        doing = "running" if collection["running"] else f"{collection['pending'] or ''}"
        table.add_row(name, f"{collection['points']:,}", f"{collection['dead_rows']:,}", "", "", "", doing)
        for field, facts in sorted(collection["fields"].items()):
            damaged = f" ({facts['damaged_files']} damaged)" if facts["damaged_files"] else ""
            table.add_row(
                f"  {field}", "", "", f"{facts['segments']}{damaged}", f"{facts['segment_rows']:,}", f"{facts['tail_rows']:,}", ""
            )
    return table


def _recall(now: Status) -> Any:
    table = _table("recall", "target", "measured", "p5", "predicted", "audited")
    for row in now["recall"]:
        predicted = "" if row["predicted"] is None else f"{row['predicted']:.3f}"
        shown = (f"{row['asked']:g}", f"{row['mean']:.3f}", f"{row['p5']:.3f}", predicted, f"{row['audited']:,}")
        table.add_row(f"{row['collection']}.{row['field']}", *shown)
    return table


def _problems(now: Status) -> list[str]:
    lines = []
    if now["maintenance_failures"]:
        lines.append(f"maintenance failed {now['maintenance_failures']} times; see the log")
    for slow in list(now["slow_queries"])[-SHOWN_SLOW:]:
        about = f" where {slow['filter']}" if slow.get("filter") else ""
        lines.append(f"slow: {slow['time']} {slow['method']} of {slow.get('collection')}, {_time(slow['seconds'])}{about}")
    return ["", *lines] if lines else []


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _span(seconds: float) -> str:
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    return f"{int(seconds)} s" if minutes < 1 else f"{minutes} min" if hours < 1 else f"{hours // 24} d {hours % 24} h {minutes % 60} min"


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def main(interval: float, once: bool, as_json: bool, connect: Callable[[], Any], console: Console) -> None:
    """Run ``vectordb top``. A service that becomes unreachable is retried; one that cannot be reached at the start is an error."""
    from vectordb_client.errors import UnavailableError

    with connect() as client:
        last: list[Status] = []

        def ask() -> Status:
            while True:
                try:
                    last[:] = [client.status()]
                    return last[0]
                except UnavailableError as error:
                    if not last or once:
                        raise
                    print(f"vectordb: {error}", file=sys.stderr)
                    time.sleep(interval)

        run(ask, console, interval, once, as_json)
