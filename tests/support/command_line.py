"""The command line in this process, and a directory for it."""

from __future__ import annotations

import json
from pathlib import Path

from vectordb_client.model.schema import Dense, Int, Keyword, Schema, Sparse

import vectordb
from vectordb import cli


def run(capsys, *arguments):
    """(exit code, stdout, stderr) of one command."""
    try:
        code = cli.main([str(a) for a in arguments])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def filled(path: Path) -> Path:
    """A directory with ten points in the collection ``docs``."""
    with vectordb.open(path) as database:
        collection = database.create_collection("docs", Schema({"v": Dense(2), "s": Sparse()}, {"n": Int(), "word": Keyword()}))
        collection.upsert(
            [
                {
                    "id": i,
                    "vectors": {"v": [1, i], "s": {i: 0.5}},
                    "attributes": {"n": i, "word": "even" if i % 2 == 0 else "odd"},
                    "payload": {"i": i},
                }
                for i in range(10)
            ]
        )
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
