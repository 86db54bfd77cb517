"""Named places on the way of every change, where a test can end the process or fail the step.

``reach(name)`` is put right before or after what must be survived; unless a test armed that name it does nothing. A process is armed
by its environment before it imports us: ``VECTORDB_FAILPOINT=name:nth`` kills it (SIGKILL) when it reaches the name for the nth time.
``arm`` puts any callable there instead.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

VARIABLE = "VECTORDB_FAILPOINT"
# Every name, in the order in which a change comes by. (Modules with steps of their own list them in a ``STEPS`` beside the work.)
STEPS = (
    "commit.begun",  # every transaction
    "commit.changed",
    "commit.digested",
    "commit.unsynced",
    "commit.synced",
    "write.ids",  # upsert and update
    "write.records",
    "write.vectors",
    "write.attributes",
    "write.state",
    "write.logged",
    "chunk.removed",  # a field's newest chunks, rewritten as one
    "chunk.written",
    "delete.ids",
    "delete.buried",
    "collection.described",
    "collection.named",
    "drop.unnamed",
    "drop.removed",
    "schema.described",
    "index.copied",  # seal, merge, rebuild
    "index.begun",
    "index.section",
    "index.unsynced",
    "index.written",
    "index.renamed",
    "index.folder_synced",
    "index.recorded",
    "index.registered",
    "index.replaced",
    "compact.planned",
    "compact.removed",
    "compact.written",
    "compact.committed",
    "tidy.removed",
)
_armed: dict[str, Callable[[], None]] = {}


def reach(name: str) -> None:
    """The process is at ``name``."""
    if _armed and name in _armed:
        _armed[name]()


def arm(name: str, action: Callable[[], None]) -> None:
    """Call ``action`` each time ``name`` is reached; what it raises is raised there."""
    _armed[name] = action


def disarm() -> None:
    """Nothing happens anywhere any more."""
    _armed.clear()


def kill_at(nth: int) -> Callable[[], None]:
    """An action that ends the process without warning when it is called for the nth time."""
    left = nth

    def count() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return count


if VARIABLE in os.environ:
    _name, _, _nth = os.environ[VARIABLE].partition(":")
    arm(_name, kill_at(int(_nth or 1)))
