"""How well an attribute can be predicted from the vectors of a field: each point from others."""

from __future__ import annotations

from typing import Any

import numpy as np
from vectordb_client.errors import SchemaError, listing, shown
from vectordb_client.model.explored_labels import Classification

from ...common import deadline
from ..read import attribute_reader, pieces
from .space import Space, Steps, by_content

# Chosen, not measured.
MOST_LABELS = 1_000
CONFUSED = 100  # pairs of values that are listed
_ROWS = 512  # rows that are compared at a time


def classify(space: Space) -> Steps[Classification]:
    label, method, k = space.options["label"], space.options["method"], space.options["k"]
    _check_label(space, label)
    docids = space.sample()
    yield 0, len(docids)
    values = _values(space, docids, label)
    there = np.array([value is not None for value in values], np.bool_)
    docids, values = docids[there], [value for value in values if value is not None]
    names = sorted(set(values))
    if len(names) > MOST_LABELS:
        what = f"classify: {label!r} has {len(names):,} values in the sample, at most {MOST_LABELS:,} are possible; write a filter"
        raise SchemaError(what, field=label, value=len(names))
    number = {name: place for place, name in enumerate(names)}
    matrix, labels = space.placed(space.matrix(docids)), np.array([number[value] for value in values], np.int64)
    space.end()  # what follows reads nothing
    order = by_content(matrix)
    matrix, labels = matrix[order], labels[order]
    predicted = (yield from _nearest(space, matrix, labels, k)) if method == "nearest" else _centroid(matrix, labels, len(names))
    yield len(docids), len(docids)
    table = np.zeros((len(names), len(names)), np.int64)
    np.add.at(table, (labels, predicted), 1)
    counts, right = table.sum(axis=1), np.diag(table).copy()
    wrong = table - np.diag(right)
    pairs = np.argsort(-wrong.ravel(), kind="stable")[:CONFUSED].tolist()
    confused = [(names[at // len(names)], names[at % len(names)], int(wrong.flat[at])) for at in pairs if wrong.flat[at]]
    n = len(labels)
    return Classification(
        label,
        method,
        n,
        float(right.sum() / n) if n else 0.0,
        float(counts.max() / n) if n else 0.0,
        {name: float(right[at] / counts[at]) for at, name in enumerate(names)},
        {name: int(counts[at]) for at, name in enumerate(names)},
        tuple(confused),
    )


def _check_label(space: Space, label: str) -> None:
    """Raise SchemaError unless the attribute has one value of a kind that makes classes."""
    attributes = space.view.schema.attributes
    spec = attributes.get(label)
    if spec is None:
        what = f"classify: no attribute {shown(label)}; the attributes are: {listing(attributes)}"
        raise SchemaError(what, field=label, value=label)
    if spec.array or not spec.plain or spec.stored not in ("string", "flag", "int64"):
        such = [name for name, each in attributes.items() if not each.array and each.plain and each.stored in ("string", "flag", "int64")]
        kind = f"{'an array of ' if spec.array else ''}{type(spec).__name__}"
        what = f"classify needs one Keyword, Bool or Int for each point, and {label!r} is {kind}; such are: {listing(such)}"
        raise SchemaError(what, field=label, value=label)


def _values(space: Space, docids: np.ndarray, label: str) -> list[Any]:
    """The value of each row, None where it has none."""
    read = attribute_reader(space.view.schema, [label])
    assert read is not None
    values = []
    for some, _, _ in pieces(space.view, docids.tolist(), False, ()):
        values += [read(record.attributes).get(label) for record in space.view.records(some)]
    return values


def _nearest(space: Space, matrix: np.ndarray, labels: np.ndarray, k: int) -> Steps[np.ndarray]:
    """The value that most of the k nearest other points have; of equally frequent ones that of the nearer points."""
    n, predicted = len(matrix), labels.copy()
    k = min(k, n - 1)
    squares = np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64).astype(np.float32) / 2
    for low in range(0, n if k > 0 else 0, _ROWS):
        deadline.check()
        yield low, n
        rows = np.arange(low, min(low + _ROWS, n))
        scores = matrix[rows] @ matrix.T - (squares if space.metric == "l2" else np.float32(0))
        scores[np.arange(len(rows)), rows] = -np.inf
        near = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        near = np.take_along_axis(near, np.argsort(-np.take_along_axis(scores, near, axis=1), axis=1, kind="stable"), axis=1)
        votes = labels[near]
        same = (votes[:, :, None] == votes[:, None]).sum(axis=2)  # of each neighbour: how many have its value; the first of the most wins
        predicted[rows] = np.take_along_axis(votes, same.argmax(axis=1)[:, None], axis=1)[:, 0]
    return predicted


def _centroid(matrix: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The value whose mean is nearest, each point left out of the mean of its own value. A value of one point is never predicted."""
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    sums = np.zeros((classes, matrix.shape[1]))
    np.add.at(sums, labels, matrix)
    means, predicted = sums / np.maximum(counts, 1.0)[:, None], np.empty(len(labels), np.int64)
    for low in range(0, len(matrix), _ROWS):
        deadline.check()
        rows = matrix[low : low + _ROWS].astype(np.float64)
        own = labels[low : low + _ROWS]
        apart = (means**2).sum(axis=1) - 2 * rows @ means.T
        rest = counts[own] - 1
        without = (sums[own] - rows) / np.maximum(rest, 1.0)[:, None]
        apart[np.arange(len(own)), own] = np.where(rest > 0, (without**2).sum(axis=1) - 2 * (rows * without).sum(axis=1), np.inf)
        predicted[low : low + _ROWS] = apart.argmin(axis=1)
    return predicted
