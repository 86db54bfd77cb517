"""The results of operations that compare points with examples or labels: axes, probes, classifications."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..errors import InvalidArgumentError, shown
from .explored import Columns, Explored
from .foreign import unwrapped


@dataclass(frozen=True, eq=False)
class Axis(Explored):
    """A direction from low to high examples of something.

    In a field with cosine or dot, ``docs.search({field: axis.vector})`` finds the highest points first, and ``-axis.vector`` the lowest. In
    an l2 field, ``docs.search({field: axis.at(1.0)})`` finds points that are like the high examples.

    Attributes:
        field: the vector field.
        metric: of the field.
        vector: float32 ``(dim,)``, the direction, of length 1.
        start, end: float32 ``(dim,)``, the means of the low and of the high examples; for a cosine of vectors of length 1.
        reliability: how well the direction orders examples that it wasn't made of, each held out in turn: 2 · AUC − 1, which is 1 if every
            high example is above every low one, and 0 by chance.
        examples: the number of low and of high examples.
    """

    field: str
    metric: str
    vector: np.ndarray
    start: np.ndarray
    end: np.ndarray
    reliability: float
    examples: tuple[int, int]
    forms = {"vector": "float32", "start": "float32", "end": "float32"}
    names = ("field", "metric", "reliability", "examples")

    @classmethod
    def joined(cls, facts: dict[str, Any], columns: Columns) -> Self:
        return super().joined({**facts, "examples": tuple(facts["examples"])}, columns)

    def project(self, vectors: Any) -> np.ndarray:
        """The places of vectors ``(n, dim)`` on the axis, float64 ``(n,)``: 0 at the mean of the low examples, 1 at that of the high ones.
        Places may be below 0 and above 1. One vector ``(dim,)`` gives ``(1,)``. Raises InvalidArgumentError.
        """
        places = _places(vectors, len(self.vector), self.metric)
        way = self.end.astype(np.float64) - self.start
        return (places - self.start) @ way / (way @ way)

    def at(self, place: float) -> np.ndarray:
        """The vector at a place between the means, float32 ``(dim,)``: 0 is the mean of the low examples, 1 that of the high ones."""
        return (self.start + np.float64(place) * (self.end.astype(np.float64) - self.start)).astype(np.float32)

    def __repr__(self) -> str:
        return f"Axis of {self.field!r} from {self.examples[0]} low to {self.examples[1]} high examples, reliability {self.reliability:.2f}"


@dataclass(frozen=True, eq=False)
class Probe(Explored):
    """A property as few dimensions of a field: a logistic regression on the dimensions that separate the examples best.

    Attributes:
        field: the vector field.
        metric: of the field.
        dims: int64 ``(k,)``, the dimensions, the one that separates them best first.
        weights: float32 ``(k,)``, their weights; for a cosine of vectors of length 1.
        bias: the logit of a vector of zeros.
        reliability: as that of ``Axis``, by cross-validation.
        accuracy: the mean share of positives and of negatives that are classified correctly, by cross-validation.
        examples: the number of positives and of negatives.
        dim: of the field.
    """

    field: str
    metric: str
    dims: np.ndarray
    weights: np.ndarray
    bias: float
    reliability: float
    accuracy: float
    examples: tuple[int, int]
    dim: int
    forms = {"dims": "int64", "weights": "float32"}
    names = ("field", "metric", "bias", "reliability", "accuracy", "examples", "dim")

    @classmethod
    def joined(cls, facts: dict[str, Any], columns: Columns) -> Self:
        return super().joined({**facts, "examples": tuple(facts["examples"])}, columns)

    @property
    def vector(self) -> np.ndarray:
        """The weights as a vector of the field, float32 ``(dim,)``, as the query of a search: for dot it orders points by probability."""
        vector = np.zeros(self.dim, np.float32)
        vector[self.dims] = self.weights
        return vector

    def probability(self, vectors: Any) -> np.ndarray:
        """The probability that each of ``(n, dim)`` vectors has the property, float64 ``(n,)``. It counts positives and negatives as
        equally frequent. One vector ``(dim,)`` gives ``(1,)``. Raises InvalidArgumentError.
        """
        places = _places(vectors, self.dim, self.metric)
        logits = places[:, self.dims] @ self.weights.astype(np.float64) + self.bias
        return 0.5 * (1.0 + np.tanh(0.5 * logits))

    def __repr__(self) -> str:
        return f"Probe of {self.field!r} by {len(self.dims)} dimensions, reliability {self.reliability:.2f}, accuracy {self.accuracy:.2f}"


def _places(vectors: Any, dim: int, metric: str) -> np.ndarray:
    """Vectors as float64 ``(n, dim)``, of length 1 for a cosine."""
    try:
        given = np.atleast_2d(np.asarray(unwrapped(vectors), np.float64))
    except (TypeError, ValueError):
        given = np.empty((0, 0))
    if given.ndim != 2 or given.shape[1] != dim:
        raise InvalidArgumentError(f"vectors must be (n, {dim}) numbers, not {shown(vectors)}", field="vectors", value=vectors)
    if metric == "cosine":
        lengths = np.linalg.norm(given, axis=1, keepdims=True)
        given = given / np.where(lengths == 0.0, 1.0, lengths)
    return given


@dataclass(frozen=True, eq=False)
class Classification(Explored):
    """How well an attribute can be predicted from the vectors of a field: each point from others. ``print`` shows it.

    Attributes:
        label: the attribute.
        method: "nearest" or "centroid".
        points: the points of the sample that have a vector and a value.
        accuracy: the share of points whose value is predicted correctly.
        baseline: the share of the most frequent value: what guessing it would reach.
        recalls: value → the share of its points whose value is predicted correctly.
        counts: value → the number of its points.
        confused: (value, value that was predicted, how many points), the most frequent first; at most 100.
    """

    label: str
    method: str
    points: int
    accuracy: float
    baseline: float
    recalls: Mapping[Any, float]
    counts: Mapping[Any, int]
    confused: Sequence[tuple[Any, Any, int]]
    names = ("label", "method", "points", "accuracy", "baseline")

    def parts(self) -> tuple[dict[str, Any], Columns]:
        facts, columns = super().parts()
        values = list(self.counts)
        facts |= {"values": values, "recalls": [self.recalls[value] for value in values], "counts": list(self.counts.values())}
        return {**facts, "confused": [list(each) for each in self.confused]}, columns

    @classmethod
    def joined(cls, facts: dict[str, Any], columns: Columns) -> Self:
        values, confused = facts.pop("values"), tuple(tuple(each) for each in facts.pop("confused"))
        named: dict[str, Any] = {name: dict(zip(values, facts.pop(name), strict=True)) for name in ("recalls", "counts")}
        return cls(**facts, **named, confused=confused)

    def __str__(self) -> str:
        shares = f"{self.accuracy:.1%} of {self.points:,} points are predicted correctly, {self.baseline:.1%} by guessing"
        lines = [f"{self.label} by {self.method}: {shares}"]
        return "\n".join([*lines, *(f"  {one!r} is taken for {other!r}: {count:,}" for one, other, count in self.confused[:10])])
