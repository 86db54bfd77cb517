"""Hard negatives: what a search finds for a query and isn't relevant. Pure, no I/O: it yields searches and is sent their hits."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

from ..errors import InvalidArgumentError, NotFoundError, SchemaError, listing, shown
from .checks import check_count, checked_number
from .filter_nodes import HasId
from .foreign import listed, read_with, size_of
from .results import Hits
from .schema import Schema
from .values import Id, check_id, is_single_id

BATCH = 64  # queries in a call, so that an answer fits a message
Mined = list[list[tuple[Id, float]]]


def mine(
    schema: Schema, field: Any, queries: Any, relevant: Any, n: Any, candidates: Any, margin: Any, filter: Any, recall: Any
) -> Generator[dict[str, Any], list[Hits], Mined]:
    """The steps of ``mine_negatives``: yields arguments of ``search_batch``, is sent its hits, returns the result.

    Raises InvalidArgumentError, SchemaError or NotFoundError, which name the argument.
    """
    spec = schema.vectors.get(field) if isinstance(field, str) else None
    if spec is None:
        what = f"mine_negatives: no vector field {shown(field)}; the vector fields are: {listing(schema.vectors)}"
        raise SchemaError(what, field="field", value=field)
    n, candidates, share = check_count("n", n), check_count("candidates", candidates), checked_number(margin)
    if not 0 <= share <= 1:
        raise InvalidArgumentError(f"margin must be a number from 0 to 1, not {shown(margin)}", field="margin", value=margin)
    total = size_of(queries)
    if total is None or isinstance(queries, (str, bytes, Mapping)):
        what = f"queries must be a list of n vectors or texts, not {shown(queries)}"
        raise InvalidArgumentError(what, field="queries", value=queries)
    positives = _relevant(relevant, total)
    sign = -1.0 if getattr(spec, "metric", None) == "l2" else 1.0
    mined: Mined = []
    for low in range(0, total, BATCH):
        some = queries[low : low + BATCH]
        texts = isinstance(some[0], str)
        asked = {"text" if texts else "vectors": {field: some}, "recall": recall, "with_attributes": False}
        ids = positives[low : low + BATCH]
        own = yield {**asked, "filter": [HasId(each) for each in ids], "limit": max(map(len, ids))}
        found = yield {**asked, "filter": filter, "limit": candidates}
        for query, (known, best, hits) in enumerate(zip(ids, own, found, strict=True), low):
            if not len(best):
                what = f"none of the relevant points of query {query} has a vector in field {field!r}: {listing(known, 5)}"
                raise NotFoundError(what, field="relevant", value=known[0])
            lowest = min(sign * hit.score for hit in best)
            highest = lowest - share * abs(lowest)
            near = [(hit.id, hit.score) for hit in hits if hit.id not in known and sign * hit.score < highest]
            mined.append(near[:n])
    return mined


def _relevant(given: Any, total: int) -> list[tuple[Id, ...]]:
    """For each query the ids of its relevant points."""
    lists = read_with("relevant", given, listed)
    if lists is None or len(lists) != total:
        count = "" if lists is None else f", and there are {len(lists)} for {total} queries"
        what = f"relevant must be a list with the ids of the relevant points of each query{count}"
        raise InvalidArgumentError(what, field="relevant", value=given if lists is None else len(lists))
    found = []
    for query, each in enumerate(lists):
        if isinstance(each, Mapping):
            ids: Sequence[Any] = [id for id, grade in each.items() if grade > 0]
        else:
            ids = [each] if is_single_id(each) else list(each)
        if not ids:
            what = f"relevant has no id for query {query}: leave the query out"
            raise InvalidArgumentError(what, field="relevant", value=each)
        found.append(tuple(check_id(id) for id in ids))
    return found
