"""What comparing and merging a branch returns, and the check of their options."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from ..errors import InvalidArgumentError, shown
from .values import Id

OnConflict = Literal["error", "branch", "original"]
KINDS = ("added", "changed", "deleted", "conflicts")  # of differences, in the order of the attributes of BranchDiff
MAX_LIMIT = 100_000


@dataclass(frozen=True)
class BranchDiff:
    """What changed on a branch since it was made, or merged.

    Attributes:
        added: ids of points that only the branch has. Ids are in their order, and at most ``limit`` of each kind.
        changed: ids of points that were written on the branch.
        deleted: ids of points that were deleted on the branch.
        conflicts: those of all these that the original has changed since, too.
        counts: how many there are of each, whatever the limit: ``counts["added"]`` …
    """

    added: tuple[Id, ...] = ()
    changed: tuple[Id, ...] = ()
    deleted: tuple[Id, ...] = ()
    conflicts: tuple[Id, ...] = ()
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The same as a dict."""
        return {**{kind: list(getattr(self, kind)) for kind in KINDS}, "counts": dict(self.counts)}


@dataclass(frozen=True)
class MergeResult:
    """What a merge did to the original.

    Attributes:
        added, changed, deleted: numbers of points.
        conflicts: number of points that were changed on both sides. ``on_conflict`` said which side was kept.
        sequence: of the original afterwards.
    """

    added: int
    changed: int
    deleted: int
    conflicts: int
    sequence: int

    def to_dict(self) -> dict[str, int]:
        """The same as a dict."""
        return dataclasses.asdict(self)


def check_on_conflict(value: Any) -> OnConflict:
    """Raises InvalidArgumentError."""
    if value not in get_args(OnConflict) or not isinstance(value, str):
        what = f"on_conflict must be 'error', 'branch' (take the branch's points) or 'original' (keep the original's), not {shown(value)}"
        raise InvalidArgumentError(what, field="on_conflict", value=value)
    return cast(OnConflict, value)


def check_diff_limit(value: Any) -> int:
    """Raises InvalidArgumentError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_LIMIT:
        what = f"limit must be an integer from 0 to {MAX_LIMIT:,}, not {shown(value)}"
        raise InvalidArgumentError(what, field="limit", value=value)
    return value
