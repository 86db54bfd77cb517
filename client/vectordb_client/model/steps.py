"""Run generators that yield what to do next. The clients and the embedded database share such generators. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import TypeVar

Step = TypeVar("Step")
Answer = TypeVar("Answer")
Result = TypeVar("Result")


def run_steps(steps: Generator[Step, Answer, Result], act: Callable[[Step], Answer]) -> Result:
    """Send ``act(step)`` for each step that is yielded; returns what the generator returns."""
    try:
        step = next(steps)
        while True:
            step = steps.send(act(step))
    except StopIteration as end:
        return end.value


async def run_steps_async(steps: Generator[Step, Answer, Result], act: Callable[[Step], Awaitable[Answer]]) -> Result:
    """``run_steps`` with an awaited ``act``."""
    try:
        step = next(steps)
        while True:
            step = steps.send(await act(step))
    except StopIteration as end:
        return end.value
