"""What maintenance does now, and what it has done since the directory was opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Progress = Callable[[str, float], None]  # called with the stage of a job and the share done, 0 … 1


class Status:
    """The current job of one directory, and the builds since it was opened.

    built: kind of build → {"builds", "rows", "seconds"}.
    """

    def __init__(self) -> None:
        self.built: dict[str, dict[str, float]] = {}
        self._job: tuple[int, dict[str, Any]] | None = None  # (collection, the current job)

    def of(self, number: int) -> dict[str, Any] | None:
        """task, stage and share (0 … 1) of the current job of a collection; None if there is none."""
        job = self._job
        return job[1] if job is not None and job[0] == number else None

    @contextmanager
    def running(self, number: int, task: str) -> Iterator[Progress]:
        """Show a job of a collection while the block runs. Yields the function that reports its progress."""

        def progress(stage: str, share: float) -> None:
            self._job = (number, {"task": task, "stage": stage, "share": round(float(share), 4)})

        progress("begin", 0.0)
        try:
            yield progress
        finally:
            self._job = None

    def add_build(self, kind: str, rows: int, seconds: float) -> None:
        """Count a finished build."""
        total = self.built.setdefault(kind, {"builds": 0, "rows": 0, "seconds": 0.0})
        total["builds"], total["rows"], total["seconds"] = total["builds"] + 1, total["rows"] + rows, total["seconds"] + seconds
