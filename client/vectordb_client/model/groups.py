"""Groups of hits: those that share a value of an attribute."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import InvalidArgumentError, LimitError, SchemaError, shown
from .attributes import ATTRIBUTE_TYPES
from .checks import MAX_LIMIT
from .facets import attribute_of, value_from_json, value_to_json
from .schema import Schema

if TYPE_CHECKING:
    from .results import Hits

SIZE, COUNT = 1, 10  # hits of a group, and groups, where a search doesn't say
# Options of a search that order or cut a list of single hits → what to write instead.
_OF_SINGLE_HITS = {
    "offset": "ask for more groups and slice hits.groups",
    "cursor": "ask for more groups and slice hits.groups",
    "order_by": "sort hits.groups",
    "diversity": "groups are diverse already",
    "rerank": "rerank the hits of each group",
}


class Group(NamedTuple):
    """The best hits that share a value of the attribute of ``group_by``.

    Attributes:
        value: the value, in the form of ``Hit.attributes``. Of an array it is one element.
        hits: the best ``group_size`` hits with it, best first, or fewer where fewer match.
    """

    value: Any
    hits: Hits


def groups_of(hits: Hits, grouping: Sequence[tuple[Any, int]]) -> tuple[Group, ...]:
    """The groups of hits that stand group by group. grouping: the value and the number of hits of each."""
    ends = [*itertools.accumulate((size for _, size in grouping), initial=0)]
    listed = type(hits)(list(hits)) if hits.plan is not None else hits  # without the plan, which is that of all groups
    return tuple([Group(value, listed[low:high]) for (value, _), (low, high) in zip(grouping, itertools.pairwise(ends), strict=True)])


def check_name(name: str, value: Any) -> str:
    """Check the name of an attribute. Raises InvalidArgumentError."""
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{name} must be the name of an attribute, not {shown(value)}", field=name, value=value)
    return str(value)


def check_request(request: Any, schema: Schema) -> None:
    """Check the options of a search that concern groups, against each other and against a schema.

    Raises InvalidArgumentError, SchemaError or LimitError.
    """
    changed = request.changed()
    if request.group_by is None:
        for name in ("group_size", "groups"):
            if name in changed:
                what = (
                    f"{name} needs group_by, the attribute whose values make the groups: search(…, group_by='doc', {name}={changed[name]})"
                )
                raise InvalidArgumentError(what, field=name, value=changed[name])
        return
    if "limit" in changed:
        what = f"limit counts single hits, and group_by makes groups: write groups={min(request.limit, 10)}, group_size=… in its place"
        raise InvalidArgumentError(what, field="limit", value=request.limit)
    for name, advice in _OF_SINGLE_HITS.items():
        if name in changed:
            raise InvalidArgumentError(f"{name} and group_by don't go together; {advice}", field=name, value=changed[name])
    most = request.groups * request.group_size
    if most > MAX_LIMIT:
        what = f"groups × group_size is {most}, at most {MAX_LIMIT} hits are allowed"
        raise LimitError(what, field="groups", value=most)
    spec = attribute_of(schema, request.group_by, "group_by")
    if spec.stored == "text":
        what = f"group_by can't use {request.group_by!r}: Text is stored as words; store the values in a Keyword attribute as well"
        raise SchemaError(what, field=request.group_by, value=request.group_by)


def to_json(groups: Sequence[tuple[Any, int]], schema: Schema, attribute: str) -> dict[str, Any]:
    """The values and sizes of groups as JSON data."""
    spec = schema.attributes[attribute]
    return {"kind": spec.kind, "values": [value_to_json(spec, value) for value, _ in groups], "sizes": [size for _, size in groups]}


def from_json(data: Mapping[str, Any]) -> list[tuple[Any, int]]:
    """The values and sizes of groups of their JSON data."""
    spec = ATTRIBUTE_TYPES[data["kind"]]()
    return [(value_from_json(spec, value), size) for value, size in zip(data["values"], data["sizes"], strict=True)]
