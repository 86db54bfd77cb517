"""How two schemas differ, for the error of a collection that can't be created because its name is taken."""

from __future__ import annotations

from ..errors import AlreadyExistsError
from .schema import Schema, spelled


def differences(expected: Schema, existing: Schema) -> str:
    """How a schema differs from the expected one, in a few words; empty if they are equal."""
    parts = []
    for what, ours, theirs in (
        ("vector field", expected.vectors, existing.vectors),
        ("attribute", expected.attributes, existing.attributes),
    ):
        for name in dict.fromkeys((*ours, *theirs)):
            if name not in theirs:
                parts.append(f"it has no {what} {name!r}")
            elif name not in ours:
                parts.append(f"it also has the {what} {name!r}")
            elif ours[name] != theirs[name]:
                parts.append(f"{what} {name!r} is {spelled(theirs[name])}, not {spelled(ours[name])}")
    if expected.dynamic is not existing.dynamic:
        parts.append(f"it has dynamic={existing.dynamic}")
    if expected.ttl != existing.ttl:
        parts.append(f"ttl is {existing.ttl!r}, not {expected.ttl!r}")
    return "; ".join(parts[:5]) + (f"; and {len(parts) - 5} more" if len(parts) > 5 else "")


def exists_already(name: str, expected: Schema, existing: Schema, exist_ok: bool) -> AlreadyExistsError:
    """The error for a collection that can't be created because its name is taken."""
    other = differences(expected, existing)
    if not other:
        what = f"collection {name!r} exists already; exist_ok=True opens it"
    elif exist_ok:
        what = f"collection {name!r} exists with another schema: {other}. collection({name!r}) opens it as it is"
    else:
        what = f"collection {name!r} exists already, with another schema: {other}. collection({name!r}) opens it as it is"
    return AlreadyExistsError(what, field="collection", value=name)
