"""Which bounds of scores make sense: of one arm by its metric, of several by their fusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vectordb_client.errors import InvalidArgumentError
from vectordb_client.model.ranking import Fusion
from vectordb_client.model.search_request import SearchRequest

from ..fields import FIELD_TYPES


def check_bounds(request: SearchRequest, arms: Sequence[Any], fusion: Fusion) -> None:
    """Check ``min_score`` and ``radius`` of a search with these arms. Raises InvalidArgumentError, which says what to write."""
    if request.min_score is None and request.radius is None:
        return
    distances = [arm.name for arm in arms if FIELD_TYPES[arm.spec.kind].sign(arm.spec) < 0]
    calibrated = request.score == "calibrated"
    if request.radius is not None:
        what = None
        if calibrated:
            what = "radius is a squared distance, but the scores are calibrated: give min_score, from 0 to 1"
        elif len(arms) > 1:
            what = "radius is for a search of one l2 field, but this one fuses several: give min_score with fusion='linear', or search one"
        elif not distances:
            what = f"radius is for l2 fields, but scores of {arms[0].name!r} are higher for better hits: give min_score"
        if what is not None:
            raise InvalidArgumentError(what, field="radius", value=request.radius)
        return
    what, least = None, float(request.min_score or 0.0)
    if calibrated:
        if not 0 <= least <= 1:
            what = f"min_score of calibrated scores is a share from 0 to 1, not {least:g}"
    elif len(arms) > 1:
        if not fusion.all_points:
            what = (
                f"min_score needs scores with a fixed meaning, but those of fusion {fusion.name!r} depend on the candidates: write "
                "score='calibrated' or fusion='linear'"
            )
    elif distances:
        what = f"min_score is for scores where higher is better, but those of {arms[0].name!r} are squared distances: give radius"
    if what is not None:
        raise InvalidArgumentError(what, field="min_score", value=request.min_score)
