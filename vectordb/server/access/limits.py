"""Limits of the size of one request. (``rates`` limits calls per second, ``turns`` running and waiting calls.)

Every refusal names the limit, the value and the setting.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from vectordb_client.errors import LimitError
from vectordb_client.model.batch_ids import MAX_BATCH
from vectordb_client.model.checks import MAX_LIMIT
from vectordb_client.model.foreign import is_integer
from vectordb_client.model.groups import COUNT, SIZE
from vectordb_client.model.ranking import default_candidates
from vectordb_client.rpc import wire
from vectordb_client.rpc.methods import Method, holders
from vectordb_client.v1 import vectordb_pb2 as pb

from ...common import memory
from ...filters import as_filter
from ...filters.nodes import weight
from ..settings import Settings

_UNITS = {"max_filter_nodes": "nodes and values", "max_query_rows": "rows"}  # setting → the unit that it counts
_LIBRARY_LIMITS = {"max_limit": MAX_LIMIT, "max_points": MAX_BATCH}  # setting → the library's own limit
_WORDS_OF_A_CHARACTER = 4  # upper bound: one ligature character can stand for several words
_FILTER_BYTES = 24  # bytes of memory per byte of a filter once parsed: "{}," becomes a dict


def check(settings: Settings, method: Method, request: Any) -> None:
    """Raises LimitError when a request exceeds the settings. Other errors are left to the method itself."""
    if type(request) is pb.SearchRequest:
        _check_search(settings, request)
    for path, setting in method.limits:
        most, field = getattr(settings, setting), path[-1]
        for holder in holders(request, path):
            value = getattr(holder, field)
            if type(value) is pb.Filter:
                if holder.HasField(field):
                    _check_filter(holder, field, setting, most)
            else:
                _within(field, value if type(value) is int else _count(value), setting, most, _LIBRARY_LIMITS.get(setting))


def check_schema(settings: Settings, fields: Any, existing: Any = None) -> None:
    """Raises LimitError when a schema (as a JSON dict), combined with the schema ``existing``, has too many fields."""
    for part, setting in (("vectors", "max_vector_fields"), ("attributes", "max_attributes")):
        given = fields.get(part) if isinstance(fields, dict) else None
        names = set(given) if isinstance(given, dict) else set()
        before = set() if existing is None else set(getattr(existing, part))
        if names - before:
            _within(part, len(names | before), setting, getattr(settings, setting))


def check_collections(settings: Settings, names: list[str], name: str) -> None:
    """Raises LimitError when one more collection would exceed the maximum."""
    if name not in names:
        _within("collection", len(names) + 1, "max_collections", settings.max_collections)


def _check_search(settings: Settings, request: pb.SearchRequest) -> None:
    queries = request.queries
    _within("queries", queries, "max_queries", settings.max_queries)
    longest = 1
    for stage in _stages(request):
        field = "limit" if stage is request else "prefetch.limit"
        _within(field, stage.limit, "max_limit", settings.max_limit, MAX_LIMIT)
        if stage is request and "offset" in request.options:
            longest = _offset(request) + stage.limit
            _within("offset + limit", longest, "max_limit", settings.max_limit, MAX_LIMIT)
        longest = max(longest, stage.limit)
        if stage.HasField("candidates"):
            _within("candidates", stage.candidates, "max_limit", settings.max_limit, MAX_LIMIT)
        for column in (*stage.vectors, *(arm.vectors for arm in stage.arms)):
            if column.WhichOneof("vectors") == "multi":
                _within("the query", _most_rows(column.multi.counts), "max_query_rows", settings.max_query_rows)
        for arm in stage.arms:
            _within(f"limit of arm {arm.name!r}", arm.limit, "max_limit", settings.max_limit, MAX_LIMIT)
            longest = max(longest, arm.limit)
        if len(stage.vectors) + len(stage.texts) + len(stage.arms) > 1:  # with several arms, each arm lists its candidates
            longest = max(longest, stage.candidates if stage.HasField("candidates") else default_candidates(stage.limit))
    in_groups = _hits_in_groups(request)
    _within("groups × group_size", in_groups, "max_limit", settings.max_limit, MAX_LIMIT)
    longest = max(longest, in_groups)
    if queries > 1:
        _within("queries × hits", queries * longest, "max_batch_hits", settings.max_batch_hits)


def _offset(request: pb.SearchRequest) -> int:
    """The offset of a search; 0 for values that the search refuses."""
    value = wire.unpack_json(request.options["offset"], "offset")
    return value if is_integer(value) else 0


def _hits_in_groups(request: pb.SearchRequest) -> int:
    """The hits of a search in groups; 1 for other searches, and for values that the query refuses."""
    if "group_by" not in request.options:
        return 1
    product = 1
    for name, default in (("groups", COUNT), ("group_size", SIZE)):
        given = request.options.get(name, b"")
        product *= int(given) if given.isdigit() and len(given) < 10 else default
    return product


def _stages(request: pb.SearchRequest) -> Iterator[Any]:
    stage: Any = request
    while True:
        yield stage
        if not stage.HasField("prefetch"):
            return
        stage = stage.prefetch


def _count(ids: pb.Ids) -> int:
    return len(ids.integers) // 8 + len(ids.strings) + len(ids.uuids) // 16


def _most_rows(counts: bytes) -> int:
    """The rows of the largest of several multi-vectors; 0 for counts that can't be decoded, which unpacking refuses."""
    return 0 if not counts or len(counts) % 4 else int(np.frombuffer(counts, "<u4").max())


def _check_filter(holder: Any, field: str, setting: str, most: int) -> None:
    given = getattr(holder, field)
    size = len(given.text) + len(given.json)
    memory.hold(_FILTER_BYTES * size, "the filter")
    if size * _WORDS_OF_A_CHARACTER > most:  # most filters are shorter, and need not be parsed twice
        _within(field, weight(as_filter(wire.unpack_filter(holder, field))), setting, most)


def _within(field: str, value: int, setting: str, most: int, library: int | None = None) -> None:
    """Raises LimitError above ``most``. library: the library's own limit; values above it are left to the library's error."""
    if value > most and (library is None or value <= library):
        size = f"has {value} {_UNITS[setting]}" if setting in _UNITS else f"is {value}"
        raise LimitError(f"{field} {size}, but this service allows at most {most} (setting {setting})", field=field, value=value)
