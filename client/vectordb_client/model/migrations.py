"""The arguments of ``migrate``, as both sides check them."""

from __future__ import annotations

from typing import Any

from ..errors import InvalidArgumentError, shown
from .checks import check_flag, check_wait
from .values import is_integer, text_of

USUAL_ANCHORS = 2_000
LEAST_ANCHORS, MOST_ANCHORS = 40, 100_000
MAX_SEED = 2**63 - 1


def check_migration(
    field: Any, encoder: Any, anchors: Any, seed: Any, encode: Any, dry_run: Any, wait: Any, timeout: Any
) -> dict[str, Any]:
    """The checked arguments by name. Raises InvalidArgumentError."""
    return {
        "field": text_of(field, "field"),
        "encoder": text_of(encoder, "encoder"),
        "anchors": _number("anchors", anchors, LEAST_ANCHORS, MOST_ANCHORS),
        "seed": _number("seed", seed, 0, MAX_SEED),
        "encode": check_flag("encode", encode),
        "dry_run": check_flag("dry_run", dry_run),
        "wait": check_flag("wait", wait),
        "timeout": check_wait(timeout),
    }


def _number(name: str, value: Any, low: int, high: int) -> int:
    if not is_integer(value) or not low <= value <= high:
        raise InvalidArgumentError(f"{name} must be an integer from {low} to {high}, not {shown(value)}", field=name, value=value)
    return int(value)
