"""What the demo stores and asks: the schema, and searches with filters in all three notations and the three ways of fusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vectordb_client.filter import F

from ..types import DBSF, Bool, Dense, Int, Keyword, Relative, Schema, Sparse, Text

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
    """A question, its filter in one of the three notations, and how the two arms are fused. ``code``: the call as one writes it."""

    text: str
    filter: Any
    fusion: Any
    code: tuple[str, ...]


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
        Relative(weights={"text": 1.0, "terms": 0.5}),
        (
            "filter=\"lines BETWEEN 20 AND 200 AND parameters CONTAINS ANY ('a', 'alo', 'pattern')\"",
            'fusion=Relative(weights={"text": 1.0, "terms": 0.5})',
        ),
    ),
)
