"""Checks of the options of a field: choices and ranges."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import SchemaError, shown

# The name of an option in other libraries → its name here.
_ALIASES = {
    **dict.fromkeys(("cos", "cosine_similarity", "angular"), "cosine"),
    **dict.fromkeys(("ip", "inner", "inner_product", "dot_product", "dotproduct", "max_inner_product"), "dot"),
    **dict.fromkeys(("euclid", "euclidean", "l2_squared", "sqeuclidean", "squared_l2", "euclidean_squared"), "l2"),
    **dict.fromkeys(("f32", "float", "single", "fp32"), "float32"),
    **dict.fromkeys(("f16", "half", "fp16"), "float16"),
}


def choice(field: str, value: Any, choices: tuple) -> None:
    """Check that an option is one of some choices. Raises SchemaError, which says which one another library calls like that."""
    if value is None or isinstance(value, str):
        if value in choices:
            return
        meant = str(value).lower()
        meant = _ALIASES.get(meant, meant)
    else:
        meant = getattr(value, "__name__", str(value) if isinstance(value, np.dtype) else "")  # np.float32 and the like
    hint = ""
    if meant in choices:
        hint = f"; write {meant!r}" + (", whose scores are squared distances" if meant == "l2" else "")
    what = f"{field} must be one of {', '.join(map(repr, choices))}, not {shown(value)}{hint}"
    raise SchemaError(what, field=field, value=value)


def check_integer(field: str, value: Any, low: int, high: int) -> None:
    """Check that an option is an integer in a range. Raises SchemaError."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise SchemaError(f"{field} must be an integer from {low} to {high}, not {shown(value)}", field=field, value=value)
