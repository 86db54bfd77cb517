"""The memory available to a process, and the part that calls may use."""

from __future__ import annotations

import os
from pathlib import Path

from ..common.memory import Pool
from .settings import Settings

_GROUPS = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")
_WAIT_SECONDS = 2.0  # that a call waits for others to free memory before it is refused
_LEAST = 64 << 20  # minimum for the calls of a process


def pool(settings: Settings) -> Pool:
    """The memory pool for the calls of a process, from its settings."""
    most = settings.working_memory or max(available_memory() // (2 * settings.workers), _LEAST)
    return Pool(most, settings.request_memory or most // 2, _WAIT_SECONDS, ("working_memory", "request_memory"))


def available_memory() -> int:
    """Bytes of memory that this process may use: the minimum of the machine's memory and the limits of its control groups."""
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_limits(_GROUPS, _ROOT)])


def _limits(groups: Path, root: Path) -> list[int]:
    """The limits of the control groups listed in a file like /proc/self/cgroup, and of their parents."""
    limits = []
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return limits
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base, name = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
        folder = base / path.lstrip("/")
        for place in (folder, *folder.parents):  # inside a container, the path often does not exist and the root is the group
            try:
                limits.append(int((place / name).read_text()))
            except (OSError, ValueError):  # "max": no limit
                pass
            if place == base:
                break
    return limits
