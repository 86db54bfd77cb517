"""``vectordb bench COMMAND …``: a distribution of its own, found by its entry point and imported for this command alone."""

from __future__ import annotations

from importlib.metadata import entry_points

from vectordb_client.errors import NotFoundError

from .options import Command

_GROUP = "vectordb.commands"


def add_arguments(parser: Command) -> None:
    entries = list(entry_points(group=_GROUP, name="bench"))
    if not entries:
        raise NotFoundError("the benchmark is not installed: in a checkout of vectordb, run pip install ./bench")
    entries[0].load()(parser)
