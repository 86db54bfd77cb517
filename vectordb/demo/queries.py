"""What the demo stores and asks: the schema, five searches with filters in all three notations, and questions for the index."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from vectordb_client.model.filter import F
from vectordb_client.model.ranking import DBSF, Relative
from vectordb_client.model.schema import Bool, Dense, Int, Keyword, Schema, Sparse, Text

COLLECTION = "docstrings"
DENSE, TERMS = "text", "terms"  # the two vector fields
ENCODER = "wordllama"  # of the dense field; its package is an extra
_ATTRIBUTES = {
    "module": Keyword(),
    "package": Keyword(),
    "kind": Keyword(),
    "name": Keyword(),
    "lines": Int(),
    "has_signature": Bool(),
    "parameters": Keyword(array=True),
    "body": Text(),
}
_TERMS = Sparse(weighting="idf", encoder="bm25", source="body")
SCHEMA = Schema({DENSE: Dense(256, metric="cosine", encoder=ENCODER, source="body"), TERMS: _TERMS}, _ATTRIBUTES)
TERMS_SCHEMA = Schema({TERMS: _TERMS}, _ATTRIBUTES)  # where the dense encoder isn't installed


@dataclass(frozen=True)
class Query:
    """A text to search for, a filter in one of the three notations, and how the two fields' rankings are fused.

    code: the arguments as they are written in a call, one line each or several.
    """

    text: str
    filter: Any
    fusion: Any
    code: tuple[str, ...]

    def with_terms_only(self) -> Query:
        """The same search without fusion, for a collection without the dense field."""
        code = tuple(line for line in self.code if not line.startswith("fusion="))
        return dataclasses.replace(self, fusion="rrf", code=code)


QUERIES = (
    Query(
        "copy a whole directory with everything in it",
        "kind IN ('function', 'method') AND has_signature = TRUE AND package != 'distutils'",
        "rrf",
        ("filter=\"kind IN ('function', 'method') AND has_signature = TRUE AND package != 'distutils'\"",),
    ),
    Query(
        "wait for several coroutines to finish",
        F("package").isin(["asyncio", "concurrent"]) & (F("lines") > 15),
        Relative(),
        ('filter=F("package").isin(["asyncio", "concurrent"]) & (F("lines") > 15)', "fusion=Relative()"),
    ),
    Query(
        "split a string by a separator",
        {
            "op": "and",
            "filters": [
                {"op": "eq", "field": "kind", "value": "method"},
                {"op": "contains_any", "field": "parameters", "values": ["sep", "delimiter"]},
            ],
        },
        "rrf",
        (
            'filter={"op": "and", "filters": [',
            '    {"op": "eq", "field": "kind", "value": "method"},',
            '    {"op": "contains_any", "field": "parameters", "values": ["sep", "delimiter"]}]}',
        ),
    ),
    Query(
        "compress a bytes object",
        F("parameters").contains_any(["data", "level"]) & F("body").match_any("compress compressed") & ~F("name").glob("*._*"),
        DBSF(),
        (
            'filter=F("parameters").contains_any(["data", "level"])',
            '    & F("body").match_any("compress compressed") & ~F("name").glob("*._*")',
            "fusion=DBSF()",
        ),
    ),
    Query(
        "find the longest matching block of two sequences",
        "lines BETWEEN 20 AND 200 AND parameters CONTAINS ANY ('a', 'alo', 'pattern')",
        Relative(weights={DENSE: 1.0, TERMS: 0.5}),
        (
            "filter=\"lines BETWEEN 20 AND 200 AND parameters CONTAINS ANY ('a', 'alo', 'pattern')\"",
            'fusion=Relative(weights={"text": 1.0, "terms": 0.5})',
        ),
    ),
)

# Searched exactly and through the index: the recall that is shown is the mean over all of them.
QUESTIONS = (
    "read a csv file row by row",
    "parse the options of a command line",
    "send an email over an encrypted connection",
    "run a function in another process",
    "find all files that match a pattern",
    "open a zip archive and extract one file",
    "convert a date to text",
    "wait until a lock is free",
    "sort a list by a key",
    "compute the hash of a file",
    "download a web page",
    "generate random numbers",
    "pretty print a nested dictionary",
    "replace text with a regular expression",
    "measure how long some code takes",
    "store objects on disk and load them again",
    "the mean and the standard deviation of numbers",
    "compare two versions of a text",
    "draw a window with a button",
    "connect to a server with a timeout",
)

# The plans of QUESTIONS[0] are shown without a filter, and then under these.
PLAN_FILTERS = ("kind = 'function'", "lines > 60", "package = 'csv'")
