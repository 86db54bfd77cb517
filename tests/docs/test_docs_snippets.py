"""Every example in README.md and docs/ works: Python runs, command lines parse, JSON and TOML are valid.

The blocks of a page run in order, in one namespace and in a folder of their own, as a reader would paste them. Three comments may stand on
the line before a block:

    <!-- not run: REASON -->    Python that must not run; it must compile all the same
    <!-- needs: MODULE -->      Python that runs only where the module is installed
    <!-- run -->                command lines that run here; without it they are only parsed

A command line ``vectordb serve DIR --port PORT`` starts a service for the rest of the page, on a free port instead of PORT.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

import vectordb
from tests.support.paths import ROOT
from vectordb import NotFoundError
from vectordb.cli import main, parser
from vectordb.server.main import start
from vectordb.server.settings import Settings

PAGES = [ROOT / "README.md", ROOT / "client" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
COMMENTS = re.compile(r"<!--\s*(not run|needs|run)(?::\s*(.*?))?\s*-->")


@dataclass
class Block:
    language: str
    code: str
    line: int  # of the file, of the first line of code
    mark: str | None  # "not run", "needs" or "run"
    about: str


def blocks(text: str) -> list[Block]:
    found, lines, at = [], text.splitlines(), 0
    while at < len(lines):
        opened = re.match(r"^(\s*)```(\w+)", lines[at])
        if opened is None:
            at += 1
            continue
        end = next((i for i in range(at + 1, len(lines)) if lines[i].strip() == "```"), None)
        assert end is not None, f"line {at + 1}: the block has no end"
        before = next((line for line in reversed(lines[:at]) if line.strip()), "")
        mark = COMMENTS.fullmatch(before.strip())
        code = "\n".join(line.removeprefix(opened[1]) for line in lines[at + 1 : end]) + "\n"
        found.append(Block(opened[2], code, at + 2, mark and mark[1], (mark and mark[2]) or ""))
        at = end + 1
    return found


def command_lines(code: str) -> list[list[str]]:
    """The ``vectordb …`` command lines of a shell block, without what is after a comment, a pipe or a redirection."""
    found = []
    for line in re.sub(r"\\\n\s*", "", code).splitlines():
        words = shlex.split(line.strip().removeprefix("$ "), comments=True)
        if words and words[0] == "vectordb":
            end = next((i for i, word in enumerate(words) if word in ("|", "||", "&&", ">", ">>", "<", "&", "2>")), len(words))
            found.append(words[1:end])
    return found


class Page:
    """A page that is read from top to bottom."""

    def __init__(self, path: Path):
        self.path, self.services, self.ports = path, [], {}
        self.namespace = {"__name__": "__main__"}

    def run(self, block: Block) -> None:
        code = block.code
        for port, real in self.ports.items():
            code = re.sub(rf"\b(localhost|127\.0\.0\.1):{port}\b", f"127.0.0.1:{real}", code)
        if block.language == "python":
            self.python(block, compile("\n" * (block.line - 1) + code, str(self.path), "exec"))
        elif block.language in ("sh", "bash", "console"):
            for words in command_lines(code):
                self.command(block, words)

    def python(self, block: Block, code) -> None:
        if block.mark == "not run":
            assert len(block.about) > 10, f"{self.path.name}:{block.line}: a block that isn't run needs a reason"
        elif block.mark != "needs" or all(importlib.util.find_spec(name.strip()) for name in block.about.split(",")):
            exec(code, self.namespace)

    def command(self, block: Block, words: list[str]) -> None:
        where = f"{self.path.name}:{block.line}: vectordb {shlex.join(words)}"
        try:
            parser().parse_args(words)
        except SystemExit as stop:
            assert stop.code == 0, where
        except NotFoundError:
            assert words[0] == "bench", where  # its distribution isn't installed
        if words[0] == "serve" and len(words) == 4 and words[2] == "--port":
            database = vectordb.open(words[1])
            server, self.ports[words[3]] = start(database, port=0)
            self.services.append((server, database))
        elif block.mark == "run":
            try:
                assert main(words) == 0, where
            except SystemExit as stop:
                assert stop.code == 0, where

    def close(self) -> None:
        from vectordb_client import Client

        for value in list(self.namespace.values()):
            if isinstance(value, (vectordb.Database, Client)):
                value.close()
        for server, database in self.services:
            server.stop(1).wait()
            database.close()


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_the_examples_of_a_page_work_in_their_order(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = Page(path)
    try:
        for block in blocks(path.read_text()):
            page.run(block)
    finally:
        page.close()


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_json_and_settings_in_a_page_are_valid(path):
    for block in blocks(path.read_text()):
        if block.language == "json":
            json.loads(block.code)
        elif block.language == "toml":
            Settings(**tomllib.loads(block.code))


def test_a_failing_example_is_reported_with_its_page_and_line(tmp_path):
    text = "# Page\n\n```python\nvalue = 1\n```\n\n<!-- not run: it needs a cluster of its own -->\n```python\nvalue = 2\n```\n"
    text += "\n```python\n\n1 / 0\n```\n"
    first, second, third = blocks(text)
    assert (first.line, first.mark, second.mark, second.about) == (4, None, "not run", "it needs a cluster of its own")
    page = Page(tmp_path / "page.md")
    page.run(first)
    page.run(second)
    assert page.namespace["value"] == 1
    with pytest.raises(ZeroDivisionError) as error:
        page.run(third)
    last = error.traceback[-1]
    assert str(last.path).endswith("page.md") and last.lineno + 1 == 14


def test_command_lines_that_do_not_exist_fail(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = Page(tmp_path / "page.md")
    (block,) = blocks("```sh\nvectordb serve data --no-such-flag 3\n```\n")
    with pytest.raises(AssertionError, match="no-such-flag"):
        page.run(block)
    assert command_lines("vectordb info \\\n  data  # all\nls\nvectordb info data --json | jq .\n") == [
        ["info", "data"],
        ["info", "data", "--json"],
    ]
