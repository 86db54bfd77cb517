"""The option ``steer``: queries of a dense field are moved along the directions of concepts of a field that ``SAE`` derives from it.

x becomes x + |x| Σ (t − z) d, of the same length as before: t is the weight asked for, z the one that the query has, d the direction of the
concept (steering by a sparse autoencoder; Templeton et al. 2024).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from vectordb_client.errors import InvalidArgumentError, listing

from ..derivations import sae
from ..engine import deriving
from ..engine.snapshot import View


def steer(view: View, stages: Sequence[Sequence[Any]], given: Mapping[str, Mapping[int, float]]) -> None:
    """Steer the queries of the arms of all stages. given: the checked option.

    Raises InvalidArgumentError or SchemaError, which say which field or concept is wrong, or PreconditionError if the field isn't fitted.
    """
    every = [arm for arms in stages for arm in arms]
    asked = {arm.field for arm in every}
    vectors = view.schema.vectors
    fields = {name: each.derived.source for name, each in vectors.items() if each.derived is not None and each.derived.steers}
    for name, targets in given.items():
        field = name or _only(fields, asked)
        spec = view.schema.vector(field)
        if field not in fields:
            what = (
                f"steer names vector field {field!r}, which has no concepts to steer by; such fields are derived by SAE: {listing(fields)}"
            )
            raise InvalidArgumentError(what, field="steer", value=field)
        if fields[field] not in asked:
            what = (
                f"steer by {field!r} moves queries of {fields[field]!r}, which this search doesn't ask; it asks: {listing(sorted(asked))}"
            )
            raise InvalidArgumentError(what, field="steer", value=field)
        width = spec.derived.width(spec.source_dim)
        for concept in targets:
            if concept >= width:
                what = f"steer: {field!r} has the concepts 0 to {width - 1}, not {concept}"
                raise InvalidArgumentError(what, field="steer", value=concept)
        made = deriving.ready(view, field)
        for arm in every:
            if arm.field == fields[field]:
                _steer(view, arm, field, spec, made, targets)


def _only(fields: Mapping[str, str], asked: set[str]) -> str:
    """The only field of concepts of the fields that a search asks."""
    having = [name for name, source in fields.items() if source in asked]
    if len(having) == 1:
        return having[0]
    if having:
        what = f"steer must name the field of the concepts, which are of {listing(having)}; write steer={{{having[0]!r}: {{17: 0.8}}}}"
    else:
        what = f"steer needs a field of concepts that is derived from a field of this search ({listing(sorted(asked))}), such as "
        what += "Sparse(derived=SAE('v')), and there is none"
    raise InvalidArgumentError(what, field="steer", value=having)


def _steer(view: View, arm: Any, field: str, spec: Any, made: deriving.Made, targets: Mapping[int, float]) -> None:
    if arm.pooled:
        what = f"steer moves a query vector, and arm {arm.name!r} has examples that are not pooled to one; write pool='mean'"
        raise InvalidArgumentError(what, field="steer", value=arm.name)
    queries = []
    for q, query in enumerate(arm.queries):
        if not np.any(query):
            raise InvalidArgumentError(f"a query of {arm.name!r} is all zeros, which can't be steered", field="steer", value=0.0)
        vector, before = sae.moved(spec.derived, made.parts, query, targets)
        if not vector.any():
            what = f"nothing is left of the query of arm {arm.name!r} with these weights of concepts; choose others"
            raise InvalidArgumentError(what, field="steer", value=dict(targets))
        if q == 0:
            words = deriving.words_of(view.txn, view.store.collection, view.fields[field], sorted(targets))
            moves = [_move(field, concept, words, before[concept], targets[concept]) for concept in sorted(targets)]
            arm.steered = [*(arm.steered or ()), *moves]
        queries.append(vector)
    arm.queries = queries


def _move(field: str, concept: int, words: Mapping[int, str], before: float, target: float) -> dict[str, Any]:
    label = {"label": words[concept]} if concept in words else {}
    return {"field": field, "concept": concept, **label, "before": round(before, 4), "asked": target}
