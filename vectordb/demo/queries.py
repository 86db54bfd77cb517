"""What the demo stores and asks: the schema, and searches whose filters are written in each of the three notations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vectordb_client.filter import F

from ..types import Bool, Dense, Int, Keyword, Schema, Sparse, Text

COLLECTION = "docstrings"
SCHEMA = Schema(
    vectors={
        "text": Dense(256, metric="cosine", encoder="wordllama", source="body"),
        "terms": Sparse(weighting="idf", encoder="bm25", source="body"),
    },
    attributes={
        "module": Keyword(),
        "package": Keyword(),
        "kind": Keyword(),
        "name": Keyword(),
        "lines": Int(),
        "has_signature": Bool(),
        "parameters": Keyword(array=True),
        "body": Text(),
    },
)


@dataclass(frozen=True)
class Query:
    """A question with its filter. notation: which of the three it is in; code: the filter as one writes it in Python."""

    text: str
    notation: str
    filter: Any
    code: str


QUERIES = (
    Query(
        "copy a whole directory with everything in it",
        "a string",
        "kind IN ('function', 'method') AND has_signature = TRUE AND package != 'distutils'",
        "\"kind IN ('function', 'method') AND has_signature = TRUE AND package != 'distutils'\"",
    ),
    Query(
        "wait for several coroutines to finish",
        "Python operators",
        F("package").isin(["asyncio", "concurrent"]) & (F("lines") > 15),
        'F("package").isin(["asyncio", "concurrent"]) & (F("lines") > 15)',
    ),
    Query(
        "split a string by a separator",
        "JSON",
        {
            "op": "and",
            "filters": [
                {"op": "eq", "field": "kind", "value": "method"},
                {"op": "contains_any", "field": "parameters", "values": ["sep", "delimiter"]},
            ],
        },
        '{"op": "and", "filters": [{"op": "eq", "field": "kind", "value": "method"}, '
        '{"op": "contains_any", "field": "parameters", "values": ["sep", "delimiter"]}]}',
    ),
    Query(
        "random choice with weights",
        "Python operators",
        F("body").match_any("weight weights weighted") & ~F("name").glob("*._*"),
        'F("body").match_any("weight weights weighted") & ~F("name").glob("*._*")',
    ),
    Query(
        "find the longest matching block of two sequences",
        "a string",
        "lines BETWEEN 20 AND 200 AND parameters CONTAINS ANY ('a', 'alo', 'pattern') AND NOT module STARTSWITH 'test'",
        "\"lines BETWEEN 20 AND 200 AND parameters CONTAINS ANY ('a', 'alo', 'pattern') AND NOT module STARTSWITH 'test'\"",
    ),
)
