"""The option ``without``: the parts of queries along given directions are projected out.

The given vectors are orthonormalised (by a singular value decomposition). The query q becomes q − Σ (q · u) u over the directions u that
they span. It is an ordinary query from then on: for a cosine its direction counts, for dot its products, for l2 the distances from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from vectordb_client.errors import InvalidArgumentError, VectorDBError, listing, shown
from vectordb_client.model.vectors import query_vector

from ..engine import deriving
from ..engine.encoding import load_encoder
from ..engine.snapshot import View

INDEPENDENT = 1e-6  # least singular value of a direction, relative to the largest; smaller ones are rounding
LEAST_REST = 1e-5  # least length of what is left of a query, relative to the query; less is rounding


def project(view: View, stages: Sequence[Sequence[Any]], given: Any) -> None:
    """Project the queries of the arms of all stages. given: the checked option: a tuple for all arms, or field → tuple.

    Raises InvalidArgumentError, which says which arm can't be projected.
    """
    every = [arm for arms in stages for arm in arms]
    if isinstance(given, Mapping):
        asked = {arm.field for arm in every}
        for field in given:
            view.schema.vector(field)
            if field not in asked:
                what = f"without names field {field!r}, which this search doesn't ask; it asks: {listing(sorted(asked))}"
                raise InvalidArgumentError(what, field="without", value=field)
    bases: dict[str, np.ndarray] = {}
    every = [arm for arm in every if not isinstance(given, Mapping) or arm.field in given]
    for arm in every:
        _check(arm, given)
    for arm in every:
        if arm.spec.pools and (len(arm.queries) or isinstance(given, Mapping)):
            if arm.field not in bases:
                bases[arm.field] = _basis(view, arm, given[arm.field] if isinstance(given, Mapping) else given)
            _project(arm, bases[arm.field])


def _check(arm: Any, given: Any) -> None:
    if not arm.spec.pools:
        if len(arm.queries) or isinstance(given, Mapping):
            what = f"without is for dense fields, and {arm.field!r} is {arm.spec.kind}; write without={{field: […]}} for a dense field"
            raise InvalidArgumentError(what, field="without", value=arm.field)
    elif arm.pooled:
        what = f"without projects a query vector, and arm {arm.name!r} has examples that are not pooled to one; write pool='mean'"
        raise InvalidArgumentError(what, field="without", value=arm.name)


def _basis(view: View, arm: Any, given: Sequence[Any]) -> np.ndarray:
    """Orthonormal directions that span the given texts and vectors: float64 ``(directions, dim)``."""
    if not given:
        raise InvalidArgumentError("without must name at least one text or vector", field="without", value=given)
    texts = [each for each in given if isinstance(each, str)]
    encoding = view.schema.encoding(arm.field)
    if texts and encoding is None:
        what = f"without has the text {shown(texts[0])}, but vector field {arm.field!r} has no encoder; give a vector"
        raise InvalidArgumentError(what, field="without", value=texts[0])
    vectors = []
    for each in given:
        if not isinstance(each, str):
            vectors.append(_vector(arm, each))
    if texts and encoding is not None:
        encoder = load_encoder(encoding, view.schema.vectors[encoding], view.snapshot.meta.encoders[encoding])
        vectors += list(encoder.encode_queries(texts))
    if arm.spec.derived is not None:
        vectors = deriving.queries(view, arm.field, vectors)
    rows = np.array(vectors, np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    if not lengths.all():
        raise InvalidArgumentError("a vector in without is all zeros, which has no direction", field="without", value=0.0)
    _, sizes, directions = np.linalg.svd(rows / lengths[:, None], full_matrices=False)
    return directions[sizes > INDEPENDENT * sizes[0]]


def _vector(arm: Any, value: Any) -> np.ndarray:
    query: Callable[..., Any] = query_vector
    try:
        return query(arm.field, arm.spec, value)
    except VectorDBError as error:
        what = f"without must be a list of texts and vectors: {error.message}"
        raise InvalidArgumentError(what, field="without", value=error.value) from None


def _project(arm: Any, basis: np.ndarray) -> None:
    """Take the part along the directions from the queries of an arm."""
    rests = []
    for q, query in enumerate(arm.queries):
        wide = np.asarray(query, np.float64)
        rest = wide - (basis @ wide) @ basis
        before, after = float(np.linalg.norm(wide)), float(np.linalg.norm(rest))
        if before and after <= LEAST_REST * before:
            what = f"nothing is left of the query of arm {arm.name!r} without {len(basis)} directions; leave some of them out"
            raise InvalidArgumentError(what, field="without", value=len(basis))
        if q == 0:
            removed = 1.0 - (after / before) ** 2 if before else 0.0
            arm.without = {"directions": len(basis), "removed": round(removed, 4)}
        rests.append(rest.astype(np.float32))
    arm.queries = rests
