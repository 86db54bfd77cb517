"""Benchmark of a release: about 30 figures, each with the ratio to a peer of the same run. ``python -m bench.foundation``.

Rounds are interleaved (ours, peer, peer, ours, …): one unmeasured, then at least three measured. A figure is the median of the rounds, with
the lowest and highest in brackets. A ratio compares two figures of the same round, because other load on the machine slows both. Answers
are compared with the peer's before timing. bench/README.md explains each row.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench import foundation_reads as reads
from bench import foundation_writes as writes
from bench.kit import Lab, Row, Skip, figure, latencies, median

SECTIONS: dict[str, Callable[[Lab], Iterator[Row]]] = {
    "upsert": writes.upsert,
    "dense": reads.dense,
    "sparse": reads.sparse,
    "small": reads.small,
    "service": reads.served,
    "filters": reads.filters,
    "start": reads.start,
    "compiling": reads.compiling,
    "rows": writes.rows,
    "changes": writes.changes,
    "hybrid": reads.hybrid,
    "text": writes.text,
    "disk": writes.disk,
}


# Report


def machine(folder: Path) -> dict:
    """The environment: date, versions, processor, load, and the time of a 4 KiB write with fsync in ``folder``."""
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        models = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
        family = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith(("cpu family", "model\t"))][:2]
        cpu = f"{models[0]} (family {' model '.join(family)})" if models else cpu
    with open(folder / "sync", "wb") as file:
        syncs = latencies(lambda _: (file.write(bytes(4096)), file.flush(), os.fsync(file.fileno())), range(30))
    versions = {"python": platform.python_version()}
    for name in ("numpy", "scipy", "numba", "lmdb", "pyroaring", "grpcio", "qdrant-edge-py", "wordllama"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "none"
    from vectordb_client._version import __version__

    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "vectordb": __version__,
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "sync_ms": round(median(syncs) * 1e3, 3),
        "folder": str(folder),
        "versions": versions,
    }


def described(about: dict) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return [
        f"vectordb {about['vectordb']}, {about['date']}; {versions}",
        f"{about['cpu']}, {about['cores']} cores, load {about['load']}; {about['folder']}: 4 KiB write + fsync {about['sync_ms']:.2f} ms",
        "Figures: median [lowest–highest] of rounds. ×: how many times as fast (or as small) as the peer.\n",
    ]


def spread(values: list[float], unit: str = "") -> str:
    if not values:
        return ""
    text = f"{figure(median(values))}{unit}"
    return f"{text} [{figure(min(values))}–{figure(max(values))}]" if len(set(values)) > 1 else text


def report(row: Row) -> str:
    lines = [f"{row.section:<10} {row.what}"]
    parts = [f"{spread(row.ours)} {row.unit}"] if row.ours else []
    if row.theirs:
        parts.append(f"{row.peer}: {spread(row.theirs)} {row.unit}")
        parts.append(f"{spread(row.ratios, '×')}")
    if parts:
        lines.append(" " * 11 + "   ".join(parts))
    lines += [" " * 11 + str(check) for check in row.checks]
    if row.note:
        lines.append(" " * 11 + row.note)
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the sections. Returns the exit code: 0 success, 1 a target was missed, 2 a section failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.foundation", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=SECTIONS, help="run only this section; may be repeated")
    parser.add_argument("--json", metavar="FILE", help="also write the environment and all rows to FILE, as JSON")
    parser.add_argument("--dir", metavar="DIR", help="folder for temporary data, on a disk (on tmpfs a sync costs nothing)")
    options = parser.parse_args(arguments)
    began, rows, failed = time.perf_counter(), [], []
    with tempfile.TemporaryDirectory(prefix="vectordb-bench-", dir=options.dir) as scratch:
        lab = Lab(Path(scratch))
        about = machine(lab.folder)
        print("\n".join(described(about)), flush=True)
        try:
            for name in options.only or SECTIONS:
                since = time.perf_counter()
                try:
                    for row in SECTIONS[name](lab):
                        rows.append(row)
                        print(report(row), flush=True)
                except Skip as reason:
                    print(f"{name:<10} skipped: {reason}", flush=True)
                except Exception:  # a failed section must not prevent the others
                    failed.append(name)
                    print(f"{name:<10} FAILED\n{traceback.format_exc()}", flush=True)
                print(f"  ({name}: {time.perf_counter() - since:.0f} s)", file=sys.stderr, flush=True)
        finally:
            lab.close()
    missed = [f"{row.section}: {row.what}: {check}" for row in rows for check in row.checks if not check.met]
    checks = sum(len(row.checks) for row in rows)
    print(f"\n{checks - len(missed)} of {checks} targets met in {time.perf_counter() - began:.0f} s, load now {os.getloadavg()[0]:.2f}")
    print("\n".join(missed + [f"{name}: FAILED" for name in failed]))
    if options.json:
        plain = [asdict(row) | {"ratios": row.ratios, "met": [check.met for check in row.checks]} for row in rows]
        Path(options.json).write_text(json.dumps({"machine": about, "rows": plain, "missed": missed, "failed": failed}, indent=1) + "\n")
    return 2 if failed else 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
