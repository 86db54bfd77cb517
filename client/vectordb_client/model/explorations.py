"""What is asked for by operations on a vector field (``exploring``): their checked options, and the JSON form of these. Pure, no I/O."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InvalidArgumentError, PreconditionError, SchemaError, listing, shown
from .checks import check_flag, check_recall, checked_number
from .foreign import is_integer, listed, read_with, unwrapped
from .schema import Schema, VectorField
from .values import check_id, is_single_id, text_of

Check = Callable[[str, Any], Any]
Progress = Callable[[int, int], Any]
LEAST_RELIABILITY = 0.5  # of the direction of an axis or a probe, on examples that it wasn't made of
MAX_SAMPLE, MAX_EXAMPLES, MAX_PAIRS, MAX_NEIGHBOURS, MAX_CLUSTERS = 200_000, 1_000, 10_000_000, 1_000, 1_000


@dataclass(frozen=True)
class Exploration:
    """A checked call of an operation. filter: as it was given. with_vectors: the result holds vectors that are made of stored ones."""

    operation: str
    field: str
    options: Mapping[str, Any]
    filter: Any = None
    progress: Progress | None = None

    @classmethod
    def of(cls, operation: str, field: Any, filter: Any = None, progress: Any = None, **options: Any) -> Exploration:
        """Check a call. Options that may be None, and are, are left out. Raises InvalidArgumentError, which names the option."""
        checks = OPERATIONS.get(operation)
        if checks is None:
            what = f"there is no operation {shown(operation)}; there are: {listing(OPERATIONS)}"
            raise InvalidArgumentError(what, field="operation", value=operation)
        if not isinstance(field, str):
            what = f"{operation} needs the name of a dense vector field first, not {shown(field)}"
            raise InvalidArgumentError(what, field="field", value=field)
        if progress is not None and not callable(progress):
            what = f"progress must be a function of what is done and the total, not {shown(progress)}"
            raise InvalidArgumentError(what, field="progress", value=progress)
        checked = {}
        for name, value in options.items():
            if name not in checks:
                what = f"{operation} has no option {shown(name)}; it has: {listing(checks)}"
                raise InvalidArgumentError(what, field=name, value=value)
            if value is not None or (name not in _MAY_BE_NONE and (operation, name) != ("cluster", "k")):
                checked[name] = checks[name](name, value)
        return cls(operation, field, checked, filter, progress)

    @property
    def with_vectors(self) -> bool:
        return self.operation in ("axis", "probe") or bool(self.options.get("with_centres"))

    def spec(self, schema: Schema) -> VectorField:
        """The definition of the field. Raises SchemaError if there is none, or it isn't dense."""
        spec = schema.vectors.get(self.field)
        if spec is None:
            what = f"{self.operation}: no vector field {shown(self.field)}; the vector fields are: {listing(schema.vectors)}"
            raise SchemaError(what, field=self.field, value=self.field)
        if not spec.pools:
            dense = [name for name, each in schema.vectors.items() if each.pools]
            what = f"{self.operation} is for dense fields, and {self.field!r} is {spec.kind}; dense are: {listing(dense) or 'none'}"
            raise SchemaError(what, field=self.field, value=self.field)
        return spec

    def to_json(self) -> dict[str, Any]:
        """The options as JSON, which ``of_json`` reads."""
        return {name: examples_json(value) if name in _EXAMPLES else value for name, value in self.options.items()}

    @classmethod
    def of_json(cls, operation: str, field: str, options: Any, filter: Any) -> Exploration:
        """A call from its message. Raises InvalidArgumentError."""
        if not isinstance(options, dict):
            raise InvalidArgumentError(f"options must be a JSON object, not {shown(options)}", field="options", value=options)
        read = {name: _examples_of(name, value) if name in _EXAMPLES else value for name, value in options.items()}
        return cls.of(operation, field, filter, **read)


# ---- Checks of options ----


def _whole(least: int, most: int) -> Check:
    def check(name: str, value: Any) -> int:
        if not is_integer(value) or not least <= value <= most:
            what = f"{name} must be an integer from {least:,} to {most:,}, not {shown(value)}"
            raise InvalidArgumentError(what, field=name, value=value)
        return int(value)

    return check


def _score(name: str, value: Any) -> float:
    number = checked_number(value)
    if not np.isfinite(number):
        raise InvalidArgumentError(f"{name} must be a finite number, not {shown(value)}", field=name, value=value)
    return number


def _distance(name: str, value: Any) -> float:
    number = _score(name, value)
    if number < 0.0:
        raise InvalidArgumentError(f"{name} must be a squared distance, 0 or more, not {shown(value)}", field=name, value=value)
    return number


def _one_of(*choices: str) -> Check:
    def check(name: str, value: Any) -> str:
        if value not in choices:
            what = f"{name} must be {' or '.join(map(repr, choices))}, not {shown(value)}"
            raise InvalidArgumentError(what, field=name, value=value)
        return value

    return check


def _attribute(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidArgumentError(f"{name} must be the name of an attribute, not {shown(value)}", field=name, value=value)
    return value


def _examples(name: str, value: Any) -> list[Any]:
    """Examples: ids, or vectors as float32 ``(dim,)``."""
    value = read_with(name, value, unwrapped)
    if is_single_id(value):
        what = f"{name} must be a list of ids or vectors, not {shown(value)}; for one example write [{shown(value)}]"
        raise InvalidArgumentError(what, field=name, value=value)
    given = read_with(name, value, listed) if not isinstance(value, np.ndarray) else value
    if given is None:
        raise InvalidArgumentError(f"{name} must be a list of ids or vectors, not {shown(value)}", field=name, value=value)
    if isinstance(given, np.ndarray) and given.ndim == 1 and given.dtype.kind == "f":
        what = f"{name} must be a list of ids or vectors, not one vector; for one example write [vector]"
        raise InvalidArgumentError(what, field=name, value=value)
    if not 1 <= len(given) <= MAX_EXAMPLES:
        what = f"{name} must have 1 to {MAX_EXAMPLES:,} examples, not {len(given)}"
        raise InvalidArgumentError(what, field=name, value=len(given))
    return [_example(name, each) for each in given]


def _example(name: str, value: Any) -> Any:
    if isinstance(value, (int, str, uuid.UUID, np.integer)):
        return check_id(value)
    try:
        vector = np.asarray(unwrapped(value), np.float32)
    except (TypeError, ValueError):
        vector = np.empty(0, np.float32)
    if vector.ndim != 1 or not len(vector) or not np.isfinite(vector).all():
        what = f"{name} must hold ids or vectors of finite numbers, not {shown(value)}"
        raise InvalidArgumentError(what, field=name, value=value)
    return vector


def _texts(name: str, value: Any) -> list[str]:
    texts = read_with(name, value, listed) if not isinstance(value, str) else None
    if texts is None or not all(isinstance(text, str) for text in texts) or not 1 <= len(texts) <= MAX_EXAMPLES:
        what = f"{name} must be a list of 1 to {MAX_EXAMPLES:,} strings, not {shown(value)}"
        raise InvalidArgumentError(what, field=name, value=value)
    return [text_of(text, name) for text in texts]


_EXAMPLES = ("low", "high", "positives", "negatives")
_MAY_BE_NONE = ("min_score", "radius", "recall", "low", "high", "low_text", "high_text", "negatives")
_SEARCH: dict[str, Check] = {"recall": check_recall, "exact": check_flag}
_SAMPLE: dict[str, Check] = {"sample": _whole(10, MAX_SAMPLE), "seed": _whole(0, 2**63 - 1)}
# Operation → option → its check.
OPERATIONS: dict[str, dict[str, Check]] = {
    "neighbours": {"k": _whole(1, MAX_NEIGHBOURS), **_SEARCH},
    "duplicates": {"min_score": _score, "radius": _distance, "limit": _whole(1, MAX_PAIRS), **_SEARCH},
    "health": {"k": _whole(1, MAX_NEIGHBOURS), **_SAMPLE},
    "cluster": {
        "k": _whole(1, MAX_CLUSTERS),
        "max_k": _whole(1, MAX_CLUSTERS),
        "central": _whole(0, MAX_NEIGHBOURS),
        "with_centres": check_flag,
        **_SAMPLE,
    },
    "axis": {"low": _examples, "high": _examples, "low_text": _texts, "high_text": _texts},
    "probe": {"positives": _examples, "negatives": _examples, "k": _whole(1, 1 << 20), **_SAMPLE},
    "classify": {"label": _attribute, "method": _one_of("nearest", "centroid"), "k": _whole(1, MAX_NEIGHBOURS), **_SAMPLE},
}


# ---- JSON ----


def examples_json(examples: Sequence[Any]) -> list[dict[str, Any]]:
    """Checked examples as JSON."""
    return [_example_json(each) for each in examples]


def _example_json(example: Any) -> dict[str, Any]:
    if isinstance(example, np.ndarray):
        return {"vector": example.tolist()}
    return {"uuid": str(example)} if isinstance(example, uuid.UUID) else {"id": example}


def _examples_of(name: str, value: Any) -> list[Any]:
    try:
        return [_example_of(each) for each in value]
    except (TypeError, ValueError, KeyError, AttributeError):
        what = f'{name} must be a list of {{"id": …}}, {{"uuid": …}} or {{"vector": […]}}, not {shown(value)}'
        raise InvalidArgumentError(what, field=name, value=value) from None


def _example_of(value: Any) -> Any:
    ((kind, given),) = value.items()
    return {"id": check_id, "uuid": uuid.UUID, "vector": lambda numbers: np.asarray(numbers, np.float32)}[kind](given)


def unreliable(operation: str, reliability: float, what: str) -> PreconditionError:
    """The error for a direction that doesn't order points that it wasn't made of."""
    text = f"{operation}: {what} are separated with a held-out reliability of {reliability:.2f}, and {LEAST_RELIABILITY:.2f} is needed"
    text += "; give more examples, or examples that differ in this property and in nothing else"
    return PreconditionError(text, field=operation, value=round(reliability, 4))
