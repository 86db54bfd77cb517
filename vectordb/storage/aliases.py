"""Aliases of collections, and new names. An alias is a record: alias → collection number, so it follows a renamed collection."""

from __future__ import annotations

import msgspec
from vectordb_client.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, PreconditionError, shown
from vectordb_client.model.schema import check_name

from ..common.failpoints import reach
from . import catalog, format
from .format import Txn


def aliases(txn: Txn) -> dict[str, str]:
    """Alias → name of its collection, in the order of the aliases."""
    records = [(key[5:].decode(), format.unpack_record(value, "catalog")) for key, value in format.walk(txn, _key(""))]
    return {alias: catalog.read_meta(txn, number).name for alias, number in records}


def put(txn: Txn, alias: str, collection: str) -> None:
    """Make an alias of a collection, or let one that exists mean this collection from now on. Raises NotFoundError, AlreadyExistsError."""
    check_name(alias, "alias")
    number = catalog.number_of(txn, collection)
    if txn.get(format.key(format.CATALOG, format.NAME, alias.encode())) is not None:
        what = f"{shown(alias)} is the name of a collection, so it can't be an alias; rename or drop the collection first"
        raise AlreadyExistsError(what, field="alias", value=alias)
    txn.put(_key(alias), format.pack_record(number))


def drop(txn: Txn, alias: str) -> None:
    """Remove an alias; its collection stays. Raises NotFoundError."""
    check_name(alias, "alias")
    if not txn.delete(_key(alias)):
        existing = ", ".join(aliases(txn)) or "none"
        raise NotFoundError(f"no alias {shown(alias)}; existing aliases: {existing}", field="alias", value=alias)


def rename(txn: Txn, name: str, new: str) -> int:
    """Give a collection a new name and return its number. Raises NotFoundError, AlreadyExistsError, InvalidArgumentError."""
    check_name(new, "collection")
    number = own_number(txn, name, "rename_collection")
    if new == name:
        return number
    for kind, what in ((format.NAME, "a collection"), (format.ALIAS, "an alias")):
        if txn.get(format.key(format.CATALOG, kind, new.encode())) is not None:
            raise AlreadyExistsError(f"there is {what} {shown(new)} already", field="collection", value=new)
    txn.delete(format.key(format.CATALOG, format.NAME, name.encode()))
    reach("rename.unnamed")
    txn.put(format.key(format.CATALOG, format.NAME, new.encode()), format.pack_record(number))
    catalog.write_meta(txn, number, msgspec.structs.replace(catalog.read_meta(txn, number), name=new))
    return number


def own_number(txn: Txn, name: str, method: str) -> int:
    """The number of the collection that has this name itself. Raises NotFoundError, or InvalidArgumentError for an alias."""
    own, number = catalog.find(txn, name)
    if own != name:
        what = f"{shown(name)} is an alias of collection {shown(own)}; write {method}({shown(own)}, …), or drop_alias({shown(name)})"
        raise InvalidArgumentError(what.replace(", …)", ")") if method == "drop_collection" else what, field="collection", value=name)
    return number


def check_no_alias(txn: Txn, name: str) -> None:
    """Raise PreconditionError if aliases mean this collection."""
    left = [alias for alias, collection in aliases(txn).items() if collection == name]
    if left:
        what = f"collection {shown(name)} has the alias {shown(left[0])}"
        advice = f"let it mean another one with alias({shown(left[0])}, …), or remove it with drop_alias({shown(left[0])})"
        raise PreconditionError(f"{what}; {advice}", field="collection", value=name)


def _key(alias: str) -> bytes:
    return format.key(format.CATALOG, format.ALIAS, alias.encode())
