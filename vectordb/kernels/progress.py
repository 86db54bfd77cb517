"""What is said on stderr while kernels are compiled: a bar on a terminal, else a few lines."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

_LINE_SECONDS = 10.0  # between two lines


class Progress:
    """Says nothing. ``done`` is called for each kernel with its recorded seconds, ``tick`` ten times a second."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def done(self, seconds: float) -> None:
        """One more kernel is compiled."""

    def tick(self) -> None:
        """Time went by."""


class Lines(Progress):
    """Lines: one at first, one every ten seconds, one at the end."""

    def __init__(self, kernels: int, processes: int, seconds: float, folder: Path):
        self._kernels, self._processes, self._seconds, self._folder = kernels, processes, seconds, folder
        self._done, self._work_done, self._started, self._said = 0, 0.0, time.monotonic(), time.monotonic()

    def __enter__(self) -> Progress:
        beside = f" in {self._processes} processes" if self._processes > 1 else ""
        _say(
            f"compiling {self._kernels} search kernels for this processor{beside}, about {_seconds(self._seconds)}; "
            f"they are kept in {self._folder}"
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            _say(f"compiled {self._done} search kernels in {time.monotonic() - self._started:.1f} s")

    def done(self, seconds: float) -> None:
        self._done += 1
        self._work_done += seconds

    def left(self) -> float:
        """Seconds that are left, as far as one can tell."""
        spent, share = time.monotonic() - self._started, self.share()
        return max(spent / share * (1 - share) if share > 0.2 else max(self._seconds - spent, spent), 1.0)

    def share(self) -> float:
        """Of the work that is done, 0 to 1."""
        return min(self._work_done / max(self._seconds * self._processes, 0.1), 1.0)

    def tick(self) -> None:
        if time.monotonic() - self._said > _LINE_SECONDS:
            self._said = time.monotonic()
            _say(f"{self._done} of {self._kernels} search kernels are compiled, about {_seconds(self.left())} left")


class Bar(Lines):
    """A bar of the library rich, which grows by the recorded seconds of each kernel."""

    def __enter__(self) -> Progress:
        from rich import progress
        from rich.console import Console

        columns = (
            progress.TextColumn("compiling search kernels, once for this processor"),
            progress.BarColumn(),
            progress.TextColumn("{task.fields[done]} of {task.fields[kernels]}, {task.fields[left]}"),
        )
        self._bar: Any = progress.Progress(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task("", total=1.0, done=0, kernels=self._kernels, left=f"about {_seconds(self._seconds)}")
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            took = f"{time.monotonic() - self._started:.1f} s, kept in {self._folder}"
            self._bar.update(self._task, completed=1.0, done=self._done, left=took)
        self._bar.stop()

    def tick(self) -> None:
        # The heaviest kernels come first: until one is done, the bar goes by time.
        spent, left = time.monotonic() - self._started, self.left()
        self._bar.update(
            self._task, completed=max(self.share(), spent / (spent + left)), done=self._done, left=f"about {_seconds(left)} left"
        )


def progress_for(kernels: int, processes: int, seconds: float, folder: Path) -> Progress:
    """What suits stderr."""
    with contextlib.suppress(ImportError, ValueError, AttributeError):
        if sys.stderr.isatty():
            import rich  # noqa: F401

            return Bar(kernels, processes, seconds, folder)
    return Lines(kernels, processes, seconds, folder)


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(f"vectordb: {text}", file=sys.stderr, flush=True)


def _seconds(count: float) -> str:
    return f"{max(round(count), 1)} s"
