"""``Collection.alter``: the schema afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import SchemaError, listing, shown
from .schema import AttributeType, Float, Int, Schema, spelled
from .unset import UNSET


def altered(schema: Schema, attributes: Mapping[str, AttributeType] | None, ttl: Any = UNSET) -> Schema:
    """A schema with other types of attributes and another ``ttl``. Raises SchemaError."""
    if attributes is not None and not isinstance(attributes, Mapping):
        what = f"attributes must be a mapping of names to definitions, not {shown(attributes)}; write attributes={{'price': Float()}}"
        raise SchemaError(what, field="attributes", value=attributes)
    if not attributes and ttl is UNSET:
        raise SchemaError("alter needs something to change: attributes={'price': Float()}, or ttl='until'", field="attributes")
    changed = dict(schema.attributes)
    for name, spec in (attributes or {}).items():
        before = schema.attributes.get(name)
        if before is None:
            what = f"no attribute {shown(name)} to alter; there are: {listing(schema.attributes)}. add_fields adds one"
            raise SchemaError(what, field="attributes", value=name)
        if spec != before and not (type(before) is Int and spec == Float(before.array)):
            other = spelled(spec) if isinstance(spec, AttributeType) else shown(spec)
            what = f"attribute {name!r} is {spelled(before)} and can't become {other}: only Int() can become Float()"
            raise SchemaError(f"{what}; add another attribute, write its values, and drop this one", field=name, value=spec)
        changed[name] = spec
    return Schema(schema.vectors, changed, dynamic=schema.dynamic, ttl=schema.ttl if ttl is UNSET else ttl)
