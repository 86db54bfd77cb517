"""The errors that the documentation quotes are those of the code, so a search for a message finds its page."""

from __future__ import annotations

import ast
import functools
import re

import pytest
from vectordb_client import errors

from tests.support.paths import ROOT

TABLES = ("| you see |", "| message or symptom |")
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted((ROOT / "docs").rglob("*.md"))}
PAGES = {name: text for name, text in PAGES.items() if any(table in text for table in TABLES)}
SHORT = 12  # shorter pieces would be found anywhere


@functools.cache
def literals() -> str:
    """All string literals of the database and the client, a line each; an f-string gives a line for each part between its values."""
    found = []
    for folder in ("vectordb", "client/vectordb_client"):
        for path in (ROOT / folder).rglob("*.py"):
            nodes = ast.walk(ast.parse(path.read_text()))
            found += [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return "\n".join(found)


def quoted(page: str) -> list[str]:
    """The code in the first column of the tables of errors."""
    found: list[str] = []
    for heading in TABLES:
        for table in page.split(heading)[1:]:
            for row in table.split("\n\n")[0].splitlines()[2:]:
                found += re.findall(r"`([^`]+)`", row.split(" | ")[0])
    return [code for code in found if not re.fullmatch(r"[\w.]+\(.*\)|[a-z_]+\.[a-z_]+", code)]  # not a call


def pieces(message: str) -> list[str]:
    """The constant parts of a message: the text between quoted values, numbers, ellipses, colons and semicolons."""
    message = re.sub(r"^\w+Error: ", "", message)
    parts = re.split(r"'[^']*'|…|[\d.,]*\d|\bDIR\b|\bN\b|[:;] ", message)
    parts = [part.strip(" ;:,()") for part in parts]
    return [part for part in parts if len(part) >= SHORT]


def test_pieces_are_the_constant_parts_of_a_message():
    assert pieces("FilterError: no attribute 'folder'; the attributes are: a") == ["no attribute", "the attributes are"]
    assert pieces("row 7: must be a number, not 'n/a' …") == ["must be a number, not"]
    assert pieces("LockedError") == []


@pytest.mark.parametrize("name", PAGES)
def test_quoted_errors_are_those_of_the_code(name):
    found = quoted(PAGES[name])
    assert found
    wrong = [message for message in found if not all(piece in literals() for piece in pieces(message))]
    assert wrong == [], f"{name} quotes errors that nothing raises"


def test_quoted_errors_name_classes_that_exist():
    named = {word for page in PAGES.values() for message in quoted(page) for word in re.findall(r"\b[A-Z]\w+Error\b", message)}
    assert len(named) > 8 and named - {"KeyError"} <= {name for name in vars(errors) if name.endswith("Error")}
