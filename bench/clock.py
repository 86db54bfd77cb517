"""The time of a run, shared by what is still to do: data sets, then their cells."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager


class TimeUp(Exception):
    """The time of this part of the run is up."""


class Clock:
    """When the current part of the run must end. minutes: of the whole run, None for no end. left: what wasn't measured, one text each."""

    def __init__(self, minutes: float | None = None):
        self.end = math.inf if minutes is None else time.monotonic() + minutes * 60
        self.left: list[str] = []

    def seconds(self) -> float:
        """Seconds until the end of the current part; infinite without an end."""
        return self.end - time.monotonic()

    def up(self) -> bool:
        return self.seconds() <= 0

    def check(self) -> None:
        """Raise TimeUp if the time is up."""
        if self.up():
            raise TimeUp

    def leave(self, what: str) -> None:
        """Note what isn't measured in this run."""
        self.left.append(what)

    @contextmanager
    def share(self, parts: float) -> Iterator[None]:
        """Until the block ends, the time is one of ``parts`` equal parts of what is left; what the block doesn't use, the others get."""
        whole = self.end
        if not math.isinf(whole):
            self.end = time.monotonic() + max(0.0, self.seconds()) / parts
        try:
            yield
        finally:
            self.end = whole
