"""Directions that order points by a property: axes between examples, and probes of few dimensions.

Axes are the rankability of a property: the difference of the means of two extremes. Probes are sparse linear probes: the dimensions with
the largest difference of means, then a logistic regression on these. Both say how well they order examples that they weren't made of.
"""

from __future__ import annotations

import numpy as np
from vectordb_client.errors import InvalidArgumentError, NotFoundError, shown
from vectordb_client.model.explorations import LEAST_RELIABILITY, unreliable
from vectordb_client.model.explored_labels import Axis, Probe
from vectordb_client.model.vectors import query_vector

from ...common import deadline
from ...engine import deriving
from ...engine.encoding import load_encoder
from .space import Space, Steps, by_content

# Chosen, not measured.
FOLDS = 5  # of a probe's cross-validation
DEFAULT_DIMS = 32
PENALTY = 1.0  # of the squared weights of standardized dimensions
ROUNDS = 30  # of Newton's method, at most
NEGATIVES = 500  # points that stand for the others, where no negatives are given


def axis(space: Space) -> Steps[Axis]:
    yield 0, 2
    low, high = (_sorted(_examples(space, side)) for side in ("low", "high"))
    yield 1, 2
    reliability = _held_out(low, high)
    if reliability < LEAST_RELIABILITY:
        raise unreliable("axis", reliability, "low and high examples")
    start, end = low.mean(axis=0), high.mean(axis=0)
    vector = (end - start) / np.linalg.norm(end - start)
    yield 2, 2
    columns = {name: each.astype(np.float32) for name, each in (("vector", vector), ("start", start), ("end", end))}
    counts = len(low), len(high)
    return Axis(field=space.field, metric=space.metric, **columns, reliability=round(reliability, 6), examples=counts)


def _held_out(low: np.ndarray, high: np.ndarray) -> float:
    """2 · AUC − 1 of the places of examples on axes that are made without them."""
    sums, counts = (low.sum(axis=0), high.sum(axis=0)), (len(low), len(high))
    places: list[list[float]] = [[], []]
    for side, examples in enumerate((low, high)):
        for example in examples:
            deadline.check()
            means = [(sums[each] - example * (each == side)) / (counts[each] - (each == side)) for each in (0, 1)]
            way = means[1] - means[0]
            length = float(way @ way)
            places[side].append(float((example - means[0]) @ way) / length if length > 0.0 else 0.5)
    return _reliability(*map(np.array, places))


def _reliability(low: np.ndarray, high: np.ndarray) -> float:
    """2 · AUC − 1: the share of pairs in order, less that of pairs out of order."""
    ordered = np.sort(low)
    below, not_above = np.searchsorted(ordered, high, "left"), np.searchsorted(ordered, high, "right")
    return float((below + not_above).sum() / (len(low) * len(high)) - 1.0)


def _sorted(examples: np.ndarray) -> np.ndarray:
    """Examples in an order that depends on nothing but them."""
    return examples[by_content(examples)].astype(np.float64)


def _examples(space: Space, name: str) -> np.ndarray:
    """The places of the examples of one side, without repetitions, float32 ``(n, dim)``.

    Raises NotFoundError, InvalidArgumentError or EncoderError.
    """
    given, texts = space.options.get(name, []), space.options.get(f"{name}_text", [])
    if len(given) + len(texts) < 2:
        more = f", as {name} or {name}_text" if name in ("low", "high") else ""
        what = f"{name} needs at least 2 examples{more}, so that one can be held out; there are {len(given) + len(texts)}"
        raise InvalidArgumentError(what, field=name, value=len(given) + len(texts))
    ids = [each for each in given if not isinstance(each, np.ndarray)]
    vectors = [_stored(space, name, ids)] if ids else []
    own = [each for each in given if isinstance(each, np.ndarray)]
    if own:
        vectors.append(_given(space, name, own))
    if texts:
        if space.spec.encoder is None:
            what = f"{name}_text: vector field {space.field!r} has no encoder; give ids or vectors as {name}"
            raise InvalidArgumentError(what, field=f"{name}_text", value=texts[0])
        encoder = load_encoder(space.field, space.spec, space.view.snapshot.meta.encoders[space.field])
        vectors.append(np.array(encoder.encode_queries(texts), np.float32))
    places = np.unique(space.placed(np.concatenate(vectors)), axis=0)
    if len(places) < 2:
        what = f"{name} needs at least 2 examples that differ, so that one can be held out; all {len(given) + len(texts)} are equal"
        raise InvalidArgumentError(what, field=name, value=len(given) + len(texts))
    return places


def _given(space: Space, name: str, vectors: list[np.ndarray]) -> np.ndarray:
    """Examples that are vectors of the field, or of the field that it is derived from."""
    try:
        checked = [query_vector(space.field, space.spec, each) for each in vectors]
        if space.spec.derived is not None:
            checked = deriving.queries(space.view, space.field, checked)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{name}: {error.message}", field=name, value=error.value) from None
    return np.array(checked, np.float32)


def _stored(space: Space, name: str, ids: list) -> np.ndarray:
    """The vectors of points."""
    rows = []
    for id, entry in zip(ids, space.view.entries(ids), strict=True):
        if entry is None:
            raise NotFoundError(f"{name}: there is no point with the id {shown(id)}", field=name, value=id)
        rows.append(entry[0])
    docids, places = np.unique(np.array(rows, np.int64), return_inverse=True)
    column = space.view.vectors(space.field, docids)
    there = np.empty(0, np.int64) if column is None else column.positions()
    if len(there) < len(docids):
        missing = ids[int(np.flatnonzero(~np.isin(places, there))[0])]
        what = f"{name}: point {shown(missing)} has no vector in field {space.field!r}"
        raise InvalidArgumentError(what, field=name, value=missing)
    return np.asarray(column.values, np.float32)[places]  # type: ignore[union-attr]


def probe(space: Space) -> Steps[Probe]:
    total = FOLDS + 1
    yield 0, total
    positives = _examples(space, "positives")
    negatives = _examples(space, "negatives") if "negatives" in space.options else _others(space)
    sides = _sorted(negatives), _sorted(positives)
    k = min(space.options.get("k", DEFAULT_DIMS), space.dim)
    logits: list[list[np.ndarray]] = [[], []]
    folds = min(FOLDS, *map(len, sides))
    for fold in range(folds):
        deadline.check()
        yield fold, total
        kept, others = (side[np.arange(len(side)) % folds != fold] for side in sides)
        dims, weights, bias = _fitted(kept, others, k)
        for side, found in zip(sides, logits, strict=True):
            found.append(side[np.arange(len(side)) % folds == fold][:, dims] @ weights + bias)
    low, high = (np.concatenate(each) for each in logits)
    reliability = _reliability(low, high)
    if reliability < LEAST_RELIABILITY:
        raise unreliable("probe", reliability, "positives and negatives")
    dims, weights, bias = _fitted(sides[0], sides[1], k)
    yield total, total
    accuracy = float(((low < 0).mean() + (high > 0).mean()) / 2)
    counts = len(sides[1]), len(sides[0])
    facts = float(bias), round(reliability, 6), round(accuracy, 6), counts, space.dim
    return Probe(space.field, space.metric, dims.astype(np.int64), weights.astype(np.float32), *facts)


def _others(space: Space) -> np.ndarray:
    """The places of points that stand for all that aren't given as positives."""
    given = [each for each in space.options["positives"] if not isinstance(each, np.ndarray)]
    own = {entry[0] for entry in space.view.entries(given) if entry is not None}
    docids = space.sample()
    docids = docids[~np.isin(docids, list(own))]
    if len(docids) < 2:
        what = f"probe finds no other points in {space.field!r}; give negatives"
        raise InvalidArgumentError(what, field="negatives", value=None)
    return space.points(docids)


def _fitted(negatives: np.ndarray, positives: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, float]:
    """(k dimensions, their weights, the bias) of a logistic regression in which both sides weigh the same."""
    rows = np.concatenate([negatives, positives])
    right = np.arange(len(rows)) >= len(negatives)
    share = np.where(right, 0.5 / len(positives), 0.5 / len(negatives)) * len(rows)
    difference = positives.mean(axis=0) - negatives.mean(axis=0)
    # A few examples may be equal in a dimension: then they don't show how much it varies.
    least = max(1e-6 * float(rows.std(axis=0).max()), 1e-30)
    spread = np.sqrt((negatives.var(axis=0) + positives.var(axis=0)) / 2)
    spread = np.maximum(spread, np.maximum(0.01 * np.abs(difference), least))
    apart = difference / spread
    dims = np.argsort(-np.abs(apart), kind="stable")[:k]
    centre = (positives.mean(axis=0)[dims] + negatives.mean(axis=0)[dims]) / 2
    inputs = np.column_stack([(rows[:, dims] - centre) / spread[dims], np.ones(len(rows))])
    penalty = np.append(np.full(len(dims), PENALTY), 1e-6)
    weights = np.zeros(len(dims) + 1)

    def loss(weights: np.ndarray) -> float:
        logits = inputs @ weights
        return float(share @ (np.logaddexp(0.0, logits) - right * logits) + (penalty * weights**2).sum() / 2)

    for _ in range(ROUNDS):
        predicted = 0.5 * (1.0 + np.tanh(0.5 * (inputs @ weights)))
        slope = inputs.T @ (share * (predicted - right)) + penalty * weights
        curve = (inputs * (share * np.maximum(predicted * (1.0 - predicted), 1e-6))[:, None]).T @ inputs + np.diag(penalty)
        step, before = np.linalg.solve(curve, slope), loss(weights)
        for _ in range(ROUNDS):
            if loss(weights - step) <= before:
                break
            step /= 2
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    own = weights[:-1] / spread[dims]
    return dims, own, float(weights[-1] - own @ centre)
