"""How hits are made that a search left unread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from .results import Hit


class HitReader(Protocol):
    """Makes hits of what a search has found, when somebody reads them. found: as the search left it; it doesn't change any more."""

    def columns(self, found: Any) -> tuple[np.ndarray | None, np.ndarray]:
        """The ids (uint64 ``(n,)``; None if some are not integers) and scores (float32 ``(n,)``)."""
        ...

    def hits(self, found: Any) -> tuple[Hit, ...]:
        """The hits."""
        ...

    @property
    def bare(self) -> bool:
        """Whether a hit consists of an id and a score only."""
        ...
