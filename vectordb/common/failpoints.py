"""Named points in the code of every change, where a test can kill the process or make the step fail.

``reach(name)`` stands right before or after a step at which a crash must be survived. It does nothing unless a test armed that name. The
environment variable ``VECTORDB_FAILPOINT=name:nth``, set before vectordb is imported, kills the process (SIGKILL) when it reaches the name
for the nth time. ``arm`` registers any other callable.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

VARIABLE = "VECTORDB_FAILPOINT"
# All names, in the order in which a change reaches them. Modules with their own steps list them in a ``STEPS`` beside the code.
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
    "chunk.removed",  # the newest chunks of a field are joined
    "chunk.written",
    "delete.ids",
    "delete.buried",
    "transaction.applied",  # after each write of a transaction over several collections
    "collection.described",
    "collection.named",
    "drop.unnamed",
    "drop.removed",
    "rename.unnamed",
    "field.removed",  # drop_fields, rename_fields
    "field.rewritten",
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
    """Run the action that is armed for ``name``, if any."""
    if _armed and name in _armed:
        _armed[name]()


def arm(name: str, action: Callable[[], None]) -> None:
    """Call ``action`` each time ``name`` is reached. Its exceptions are raised there."""
    _armed[name] = action


def disarm() -> None:
    """Remove all actions."""
    _armed.clear()


def kill_at(nth: int) -> Callable[[], None]:
    """An action that kills the process when it is called for the nth time."""
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
