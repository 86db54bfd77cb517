"""The environment of a run (machine, versions, commit), and memory and CPU time of processes, read from /proc."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_SHOWN = ("numpy", "scipy", "numba", "lmdb", "grpcio", "ir-measures", "wordllama")


def machine() -> dict:
    """CPU model, cores this process may use, RAM, kernel, load."""
    facts = {"cpu": _cpu(), "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()}
    memory = dict(line.split(":", 1) for line in _text("/proc/meminfo").splitlines() if ":" in line)
    if "MemTotal" in memory:
        facts["ram_gib"] = round(int(memory["MemTotal"].split()[0]) / 2**20, 1)
    governor = _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip()
    if governor:
        facts["governor"] = governor
    return facts | {"system": platform.platform(), "load": [round(value, 2) for value in os.getloadavg()]}


def _cpu() -> str:
    named = [line.split(":", 1)[1].strip() for line in _text("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def software() -> dict:
    """Versions of Python, of vectordb and of the libraries of the harness, and the commit (with "+" if files differ from it)."""
    versions = {"python": platform.python_version(), "vectordb": _version("hybrid-vectordb"), "commit": commit()}
    return versions | {name: _version(name) for name in _SHOWN if _version(name) != "not installed"}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        if name == "hybrid-vectordb":
            from vectordb import __version__

            return __version__
        return "not installed"


def commit() -> str:
    folder = Path(__file__).resolve().parent
    try:
        named = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=20)
        if named.returncode:
            return "unknown"
        changed = subprocess.run(["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, timeout=20).stdout.strip()
        return named.stdout.strip() + ("+" if changed else "")
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"


def environment() -> dict:
    from .timing import overhead

    program, *arguments = sys.argv or [""]
    command = " ".join(["vectordb" if program.endswith("__main__.py") else Path(program).name, *arguments])
    return {**machine(), "software": software(), "command": command, "overhead": overhead()}


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


# Processes


def tree(pids: Iterable[int]) -> list[int]:
    """The ids of these processes and of all their descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if entry.isdecimal():
            stat = _text(f"/proc/{entry}/stat")
            if stat:
                children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    ids, left = [], list(pids)
    while left:
        pid = left.pop()
        if pid not in ids:
            ids.append(pid)
            left += children.get(pid, [])
    return ids


_MEMORY = {"rss": "VmRSS", "anon": "RssAnon", "file": "RssFile", "peak": "VmHWM"}


def memory(pids: Iterable[int]) -> dict[str, int]:
    """Memory in bytes. rss: resident now; of it anon: the processes' own, file: pages of mapped files. peak: the sum of the processes'
    high-water marks (VmHWM), an upper bound of their joint peak."""
    result = dict.fromkeys(_MEMORY, 0)
    for pid in pids:
        fields = dict(line.split(":", 1) for line in _text(f"/proc/{pid}/status").splitlines() if ":" in line)
        for name, field in _MEMORY.items():
            result[name] += int(fields.get(field, "0 kB").split()[0]) * 1024
    return result


def forget_peak() -> None:
    """Reset this process's high-water mark, so that the peak excludes the reading of the data set."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def cpu_seconds(pids: Iterable[int]) -> float:
    """User plus system time of these processes, in seconds."""
    total = 0
    for pid in pids:
        parts = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
        if len(parts) > 12:
            total += int(parts[11]) + int(parts[12])
    return total / os.sysconf("SC_CLK_TCK")


def drop_cache(folder: Path) -> None:
    """Drop the files of a folder from the page cache, so that the next open reads from the disk."""
    os.sync()
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                handle = os.open(os.path.join(place, name), os.O_RDONLY)
            except OSError:
                continue
            try:
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)


def tail(path: Path, size: int = 300) -> str:
    """The last ``size`` characters of a log, on one line."""
    text = _text(str(path)).strip()
    return " ".join(text[-size:].split())
