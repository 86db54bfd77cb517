"""The options of a search that say which part of the ranking is returned: their checks, and which of them don't fit together.

All raise InvalidArgumentError, which names the option and shows its value.
"""

from __future__ import annotations

import binascii
import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..errors import InvalidArgumentError, shown
from .checks import MAX_LIMIT, check_count, checked_number
from .foreign import is_integer

AUTO = "auto"
AUTO_LIMIT = 100  # hits that limit="auto" looks at, and returns at most
SCORES = ("raw", "calibrated")

# (option, the option that it can't stand beside, what to do). Options that don't exist are never given.
_APART = (
    ("cursor", "offset", "a cursor continues where the page before ended: leave offset out"),
    ("cursor", "group_by", "groups have no pages: ask for more groups in one search"),
    ("cursor", "diversity", "a diverse list has no pages: ask for a larger limit in one search"),
    ("cursor", "rerank", "a reranked list has no pages: ask for a larger limit in one search"),
    ("order_by", "offset", "pass hits.next as cursor to read the next page"),
    ("order_by", "min_score", "an ordered search has no scores: write a filter"),
    ("order_by", "radius", "an ordered search has no scores: write a filter"),
    ("order_by", "score", "an ordered search has no scores"),
    ("order_by", "fusion", "an ordered search has no scores to fuse"),
    ("order_by", "candidates", "an ordered search has no scores to fuse"),
    ("order_by", "recall", "an ordered search is exact"),
    ("order_by", "prefetch", "an ordered search ranks all points that match the filter"),
    ("order_by", "like", "an ordered search has no query"),
    ("order_by", "unlike", "an ordered search has no query"),
    ("order_by", "context", "an ordered search has no query"),
    ("order_by", "without", "an ordered search has no query"),
    ("order_by", "steer", "an ordered search has no query"),
    ("order_by", "highlight", "an ordered search has no query"),
    ("order_by", "facets", "count them in a call of their own"),
    ("order_by", "group_by", "groups are ordered by their best score"),
    ("order_by", "diversity", "an ordered search has no scores"),
    ("order_by", "rerank", "an ordered search has no scores"),
    ("order_by", "boost", "an ordered search has no scores"),
    ("order_by", "fuzzy", "an ordered search has no text: write a filter, such as F(name).match_any(text, fuzzy=1)"),
    ("order_by", "wildcards", "an ordered search has no text: write a filter, such as F(name).match_any(text, wildcards=True)"),
    ("min_score", "radius", "min_score is for scores where higher is better, radius for squared distances: give one of them"),
)
# Options that need the scores of a whole list, or a fixed size of the answer.
_NOT_AUTO = {
    "cursor": "pages need a number",
    "offset": "pages need a number",
    "order_by": "an ordered search has no scores that could fall off",
    "group_by": "groups need a number",
    "rerank": "the function puts a given number of hits in order",
    "diversity": "a diverse list isn't in the order of its scores, so they don't fall off",
}


def check_limit(name: str, value: Any) -> int | str:
    """Check the limit of a search: an integer from 1 to 100,000, or "auto"."""
    if type(value) is str and value == AUTO:
        return AUTO
    if isinstance(value, str) or not is_integer(value) or not 1 <= value <= MAX_LIMIT:
        what = f"{name} must be an integer from 1 to {MAX_LIMIT}, or 'auto', not {shown(value)}"
        raise InvalidArgumentError(what, field=name, value=value)
    return check_count(name, value)


def check_offset(name: str, value: Any) -> int:
    """Check the number of hits that are left out at the beginning: an integer from 0 to 99,999."""
    if not is_integer(value) or not 0 <= value < MAX_LIMIT:
        raise InvalidArgumentError(f"{name} must be an integer from 0 to {MAX_LIMIT - 1}, not {shown(value)}", field=name, value=value)
    return int(value)


def check_bound(name: str, value: Any) -> float:
    """Check a bound of scores: a finite number."""
    number = checked_number(value)
    if not math.isfinite(number):
        raise InvalidArgumentError(f"{name} must be a finite number, not {shown(value)}", field=name, value=value)
    return number


def check_radius(name: str, value: Any) -> float:
    """Check a bound of squared distances: a finite number of at least 0."""
    bound = check_bound(name, value)
    if bound < 0:
        raise InvalidArgumentError(f"{name} is a squared distance, at least 0, not {shown(value)}", field=name, value=value)
    return bound


def check_score(name: str, value: Any) -> str:
    """Check the kind of scores: "raw" or "calibrated"."""
    if not isinstance(value, str) or value not in SCORES:
        raise InvalidArgumentError(f"{name} must be 'raw' or 'calibrated', not {shown(value)}", field=name, value=value)
    return value


def check_order(name: str, value: Any) -> tuple[str, ...]:
    """Check an order: an attribute or a list of attributes, each with "-" in front for descending order."""
    names = (value,) if isinstance(value, str) else value
    if isinstance(names, (bytes, bytearray, memoryview)) or not isinstance(names, Sequence) or not names:
        what = f"{name} must be a list of attributes such as ['-date', 'price'], not {shown(value)}"
        raise InvalidArgumentError(what, field=name, value=value)
    for each in names:
        if not isinstance(each, str) or not each.removeprefix("-"):
            what = f"{name} must name attributes, each with '-' in front for descending order, not {shown(each)}"
            raise InvalidArgumentError(what, field=name, value=each)
    plain = [each.removeprefix("-") for each in names]
    for i, each in enumerate(plain):
        if each in plain[:i]:
            raise InvalidArgumentError(f"{name} names {shown(each)} twice; leave the second one out", field=name, value=each)
    return tuple(names)


# ---- Cursors ----


def cursor_text(raw: bytes) -> str:
    """The text of a cursor, which is safe in URLs."""
    return urlsafe_b64encode(raw).decode().rstrip("=")


def cursor_bytes(text: str) -> bytes:
    """The bytes of a cursor's text. Raises InvalidArgumentError."""
    try:
        return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise not_next(text) from None


def check_cursor(name: str, value: Any) -> str:
    """Check that a cursor is text. What it says is checked where the search runs."""
    if not isinstance(value, str) or not value or not value.isascii():
        raise not_next(value)
    return value


def not_next(value: Any) -> InvalidArgumentError:
    """The error for a value that is not ``hits.next``."""
    what = f"cursor must be hits.next of an earlier search, or None, not {shown(value)}"
    return InvalidArgumentError(what, field="cursor", value=value)


# ---- Combinations ----


def check_together(values: Mapping[str, Any], given: Collection[str]) -> None:
    """Check that options fit together. values: of all options. given: those that differ from their defaults."""
    for one, other, advice in _APART:
        if one in given and other in given:
            raise InvalidArgumentError(f"{one} and {other} can't be given together: {advice}", field=one, value=values[one])
    if values["limit"] == AUTO:
        for other, advice in _NOT_AUTO.items():
            if other in given:
                raise InvalidArgumentError(f"limit='auto' and {other} can't be given together: {advice}", field="limit", value=AUTO)
    elif values["offset"] + values["limit"] > MAX_LIMIT:
        what = f"offset + limit must be at most {MAX_LIMIT}, not {values['offset'] + values['limit']}; read later hits with hits.next"
        raise InvalidArgumentError(what, field="offset", value=values["offset"])
