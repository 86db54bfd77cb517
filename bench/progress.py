"""Progress output: a bar on a terminal, else a line every 20 seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_EVERY = 20.0


class Progress:
    """Shows stages, steps and messages. console: a rich Console, or None for no output."""

    def __init__(self, console: Console | None):
        self.console = console
        self._bar: Any = None
        self._task: Any = None
        self._last = 0.0

    def __enter__(self) -> Progress:
        if self.console is not None and self.console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            layout = (TextColumn("{task.description}", markup=False), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Bar(*layout, console=self.console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task("", total=None)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def stage(self, text: str) -> None:
        self._show(text, 0, None, always=True)

    def step(self, text: str, done: int, total: int) -> None:
        self._show(text, done, total, always=False)

    def _show(self, text: str, done: int, total: int | None, always: bool) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=text[:110], completed=done, total=total)
        elif self.console is not None and (always or time.monotonic() - self._last > _EVERY):
            self._last = time.monotonic()
            count = f" [{done}/{total}]" if total else ""
            self.console.print(f"{text}{count}", markup=False, highlight=False)

    def say(self, text: str) -> None:
        if self.console is not None:
            self.console.print(f"  {text}", markup=False, highlight=False)
