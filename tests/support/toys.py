"""What every toy of ``tests.toys`` is put through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import vectordb
from vectordb import cli


@contextmanager
def moved(path: Path, collection: str, folder: Path, *, with_vectors: bool = True) -> Iterator[vectordb.Collection]:
    """The collection as ``vectordb export`` and ``vectordb import`` bring it into a database in the new folder.

    Without vectors, the import encodes texts again.
    """
    folder.mkdir()
    points, schema, target = folder / "points.jsonl", folder / "schema.json", folder / "data"
    more = ["--with-vectors"] if with_vectors else []
    assert cli.main(["export", str(path), collection, str(points), "--schema", str(schema), *more]) == 0
    assert cli.main(["import", str(target), collection, str(points), "--create", "--schema", str(schema)]) == 0
    checked(target)
    with vectordb.open(target, create=False) as database:
        yield database.collection(collection)


def checked(path: Path) -> None:
    """Assert that ``vectordb check`` finds no problem."""
    assert cli.main(["check", str(path)]) == 0
