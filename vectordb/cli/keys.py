"""``vectordb keys create | list | revoke``: the API keys of a service. The service need not run."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vectordb_client.errors import InvalidArgumentError, NotFoundError, VectorDBError, shown

from ..server.access.keys import FILE_NAME, ROLES, Key, create, expiry, file_of, read, revoke
from ..storage.place import DATA, is_snapshot
from .options import Command, add_directory, open_directory, require_directory


def add_arguments(parser: Command) -> None:
    parser.epilog = "A running service applies changes within a second. Once the key file exists, every call needs a key."
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")

    def action(name: str, run: Any, text: str, form: str = "") -> Command:
        usage = f"vectordb keys {name} (DIR | --keys-file FILE){form} [options]"
        sub = actions.add_parser(name, usage=usage, help=text, about=text)
        sub.set_defaults(run=run)
        add_directory(sub, required=False, about=f"the database's directory, which holds {FILE_NAME}")
        sub.add_argument("--keys-file", metavar="FILE", type=Path, help="use this key file instead (the service's setting keys_file)")

        def check(arguments: argparse.Namespace) -> None:
            if (arguments.data is None) == (arguments.keys_file is None):
                raise argparse.ArgumentTypeError(f"write {sub.prog} DIR, or {sub.prog} --keys-file FILE")

        sub.checks.append(check)
        return sub

    make = action("create", _create, "create a key and print it; it cannot be shown again")
    roles = "read: search and get; write: also change points; admin: also change schemas and collections (default: read)"
    make.add_argument("--role", choices=ROLES, default="read", help=roles)
    make.add_argument("--collection", metavar="NAME", action="append", help="allow only this collection; may be repeated (default: all)")
    bound = "only points of this tenant: the value of the attribute Keyword(tenant=True) (default: all points)"
    make.add_argument("--tenant", metavar="VALUE", help=bound)
    make.add_argument("--vectors", action="store_true", help="allow reading stored vectors")
    make.add_argument("--expires", metavar="WHEN", help="expiry, such as 90d, 12h or 2030-01-31 (default: never)")
    make.add_argument("--create", action="store_true", help="create the directory if it does not exist")
    make.add_argument("--note", metavar="TEXT", default="", help="a note shown by keys list")
    action("list", _list, "list all keys, without their secrets").add_argument("--json", action="store_true", help="print JSON")
    action("revoke", _revoke, "revoke a key", " ID").add_argument("id", metavar="ID", help="the key's id, as shown by keys list")


def _file(arguments: argparse.Namespace) -> Path:
    """The key file. Raises NotFoundError when its folder does not exist: a mistyped path must not create one."""
    if arguments.keys_file is None:
        require_directory(arguments.data)
        return file_of(arguments.data, "")
    if not arguments.keys_file.parent.is_dir():
        raise NotFoundError(f"folder {arguments.keys_file.parent} does not exist", field="keys_file", value=str(arguments.keys_file))
    return arguments.keys_file


def _create(arguments: argparse.Namespace) -> int:
    if arguments.data is not None:
        if arguments.create:
            arguments.data.mkdir(parents=True, exist_ok=True)
        _check_there(arguments.data, arguments.create)
    token, key = create(
        _file(arguments),
        arguments.role,
        collections=arguments.collection,
        vectors=arguments.vectors,
        expires=expiry(arguments.expires) if arguments.expires else None,
        note=arguments.note,
        tenant=arguments.tenant,
    )
    print(token)
    print(f"key {key.id}: {_said(key)}. This key is not shown again.", file=sys.stderr)
    for name in _not_there(arguments.data, key.collections or ()):
        print(f"warning: collection {shown(name)} does not exist in {arguments.data} yet", file=sys.stderr)
    return 0


def _check_there(directory: Path, create: bool) -> None:
    """Raises NotFoundError unless this is a database or an empty directory: another one is most likely a typo."""
    if is_snapshot(directory):
        problem = f"{directory} is a snapshot, which must not be changed; restore it and create the key in the restored directory"
        raise InvalidArgumentError(problem, field="data", value=str(directory))
    try:
        names = set(os.listdir(directory))
    except OSError:
        names = None
    if names is None or (not create and DATA not in names and names - {FILE_NAME, "lost+found"}):
        problem = f"no database in {directory}; start vectordb serve to create one, or add --create to create the directory"
        raise NotFoundError(problem, field="data", value=str(directory))


def _not_there(directory: Path | None, names: Sequence[str]) -> list[str]:
    """Names without a collection in the database. Empty when that cannot be checked."""
    if directory is None or not names or not (directory / DATA).exists():
        return list(names) if directory is not None else []
    try:
        with open_directory(directory, read_only=True) as database:
            return sorted(set(names) - set(database.collections()))
    except VectorDBError:  # the key is created anyway
        return []


def _list(arguments: argparse.Namespace) -> int:
    path = _file(arguments)
    keys = read(path) if path.exists() else ()
    if arguments.json:
        print(json.dumps([_facts(key) for key in keys], indent=1))
    for key in () if arguments.json else keys:
        print(f"{key.id}  created {key.created.date()}  {_said(key)}{f'  # {key.note}' if key.note else ''}")
    if not keys and not arguments.json:
        print(f"{path}: no keys", file=sys.stderr)
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    revoke(_file(arguments), arguments.id)
    print(f"key {arguments.id} is revoked", file=sys.stderr)
    return 0


def _said(key: Key) -> str:
    where = "all collections" if key.collections is None else ", ".join(key.collections)
    past = key.expires is not None and key.expires <= datetime.now(UTC)
    end = "" if key.expires is None else f", {'expired' if past else 'expires'} {key.expires.isoformat(timespec='minutes')}"
    whose = "" if key.tenant is None else f", tenant {shown(key.tenant)}"
    return f"{key.role} {where}{whose}, {'with' if key.vectors else 'without'} vectors{end}"


def _facts(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "role": key.role,
        "collections": key.collections,
        "vectors": key.vectors,
        "tenant": key.tenant,
        "created": key.created.isoformat(),
        "expires": None if key.expires is None else key.expires.isoformat(),
        "note": key.note,
    }
