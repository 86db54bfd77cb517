"""Virtual environments for peers: which systems share one, and how they are made.

An environment is the folder ``venvs/_GROUP`` in the cache folder; ``System.environment`` names the group. A link ``venvs/SYSTEM`` to it
means that the system was installed there and could be imported; ``python_of`` looks for this link. Systems with the same requirements are
installed together. Requirements are pinned in the adapters
(``System.needs``).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from . import SYSTEMS, load

BASE = ("numpy==2.4.6", "scipy==1.17.1")  # needed by the worker
SECONDS = 1800


def group_of(name: str) -> str:
    """The group whose environment a system shares. Raises KeyError for an unknown system and for one without an environment."""
    group = load(name).environment if name in SYSTEMS else None
    if not group:
        raise KeyError(f"unknown system {name!r}" if group is None else f"{name!r} needs no environment: it runs in vectordb's own")
    return group


def root() -> Path:
    from ..data import cache_folder

    return cache_folder() / "venvs"


def install(names: Iterable[str], where: Path | None = None, say: Callable[[str], None] = print) -> dict[str, str | None]:
    """Make the environments of these systems. Returns name → None if the system can run now, else the reason. Existing ones are reused.

    If one system can't be installed (hnswlib without a compiler), the others of its group still work.
    """
    where = where or root()
    where.mkdir(parents=True, exist_ok=True)
    result = {}
    for name in names:
        say(f"{name}: installing into {where}/_{group_of(name)}")
        result[name] = _install(name, where)
        say(f"{name}: {result[name] or 'ready'}")
    return result


def _install(name: str, where: Path) -> str | None:
    folder, link, needs = where / f"_{group_of(name)}", where / name, load(name).needs
    python = folder / "bin" / "python"
    if link.is_symlink():
        link.unlink()
    if not python.exists():
        reason = _run([sys.executable, "-m", "venv", str(folder)], folder.with_suffix(".log"))
        if reason is not None:
            return f"can't make a virtual environment: {reason}"
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *BASE, *needs]
    reason = _run(pip, folder.with_suffix(".log"))
    if reason is None:
        modules = ", ".join(module for module in load(name).imports)
        reason = _run([str(python), "-c", f"import {modules}"], folder.with_suffix(".log"))
    if reason is None:
        for other in _alike(name):
            (where / other).unlink(missing_ok=True)
            os.symlink(folder.name, where / other)
    return reason


def _alike(name: str) -> list[str]:
    """The system and those that need nothing else: other settings of the same library."""
    return [other for other in SYSTEMS if (load(other).environment, load(other).needs) == (load(name).environment, load(name).needs)]


def _run(command: list[str], log: Path) -> str | None:
    """Run a command. Returns None on success, else the last error line. The whole output goes to the log."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        completed = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(command)}\n{completed.stdout}{completed.stderr}\n")
    if not completed.returncode:
        return None
    lines = [line.strip() for line in (completed.stdout + completed.stderr).splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["it failed"])[-1][:300]
