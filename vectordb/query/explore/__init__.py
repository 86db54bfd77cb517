"""Operations on a dense field that read many of its points, each a generator that yields how much of its work is done.

An operation is a function of a ``Space`` and an entry in ``OPERATIONS``, beside its options (``model/explorations.py``) and its result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vectordb_client.model.explorations import Exploration

from ...engine.snapshot import View
from ...filters.cache import FilterCache
from .axes import axis, probe
from .classes import classify
from .clusters import cluster
from .health import health
from .join import duplicates, neighbours
from .space import Pin, Space, Steps

OPERATIONS: dict[str, Callable[[Space], Steps[Any]]] = {
    "neighbours": neighbours,
    "duplicates": duplicates,
    "health": health,
    "cluster": cluster,
    "axis": axis,
    "probe": probe,
    "classify": classify,
}


def explore(pin: Callable[[], View], exploration: Exploration, filters: FilterCache) -> Steps[Any]:
    """Run an operation on the state that ``pin`` gives a view of. Yields (work done, all work), returns its result.

    Raises SchemaError, InvalidArgumentError, FilterError or PreconditionError, and the errors of ``deadline.check()``.
    """
    with Pin(pin) as pinned:
        return (yield from OPERATIONS[exploration.operation](Space(pinned, exploration, filters)))
