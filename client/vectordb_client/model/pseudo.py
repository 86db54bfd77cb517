"""Queries made of stored texts, so that a fusion can be tuned without judgements. Pure, no I/O: it yields reads and is sent their answers.

The inverse cloze task (Lee, Chang and Toutanova 2019): a sentence of a text asks for the rest of it.
"""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..errors import InvalidArgumentError, SchemaError, listing, shown
from .attributes import Text
from .foreign import is_integer
from .schema import Schema
from .values import Id

KINDS = ("ict",)
MAX_QUERIES = 10_000
PAGE, BATCH = 1_000, 100  # ids in a page; texts that are read in a call
SPARE = 4  # points that are looked at for each query, at most
LEAST_WORDS, MOST_WORDS = 4, 60  # of a sentence
SPAN_WORDS = 8  # of a query, where a text has one sentence; the text has at least three times as many
MAX_SEED = 2**63 - 1
_ENDS = re.compile(r"(?<=[.!?…])[\"')\]]*\s+|(?<=[。！？])|\n\s*\n")
Read = tuple[str, dict[str, Any]]  # the name of a method, and its arguments


@dataclass(frozen=True)
class PseudoQueries(Sequence[str]):
    """The result of ``pseudo_queries``: a sequence of queries.

    Attributes:
        field: the attribute whose texts they are made of.
        kind: how they are made.
        texts: the queries.
        ids: the point that each asks for. No point is asked for twice.
        qrels: the same as ``tune_fusion`` takes it: ``{id: 1.0}`` for each query.
        rests: for each query the text of its point without the sentence.
    """

    field: str
    kind: str
    texts: list[str]
    ids: list[Id]
    qrels: list[dict[Id, float]]
    rests: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: Any) -> Any:
        return self.texts[index]

    def __repr__(self) -> str:
        return f"PseudoQueries({len(self)} by {self.kind!r} from {self.field!r})"


def pseudo(schema: Schema, field: Any, kind: Any, n: Any, seed: Any, filter: Any) -> Generator[Read, Any, PseudoQueries]:
    """The steps of ``pseudo_queries``: yields reads, is sent their answers, returns the result.

    Raises SchemaError or InvalidArgumentError, which name the argument.
    """
    spec = schema.attributes.get(field) if isinstance(field, str) else None
    texts = [name for name, each in schema.attributes.items() if each.kind == Text.kind and not each.array]
    if spec is None or field not in texts:
        hint = ""
        if isinstance(field, str) and field in schema.vectors and schema.vectors[field].reads:
            hint = f"; {field!r} is a vector field that reads {schema.vectors[field].reads[0]!r}: write that"
        what = f"pseudo_queries needs a Text attribute, not {shown(field)}; there are: {listing(texts)}{hint}"
        raise SchemaError(what, field="field", value=field)
    if kind not in KINDS:
        raise InvalidArgumentError(f"kind must be {' or '.join(map(repr, KINDS))}, not {shown(kind)}", field="kind", value=kind)
    for name, value, least, most in (("n", n, 1, MAX_QUERIES), ("seed", seed, 0, MAX_SEED)):
        if not is_integer(value) or not least <= value <= most:
            what = f"{name} must be an integer from {least:,} to {most:,}, not {shown(value)}"
            raise InvalidArgumentError(what, field=name, value=value)
    result = PseudoQueries(field, kind, [], [], [], [])
    chosen = yield from _chosen(SPARE * int(n), int(seed), filter)
    for low in range(0, len(chosen), BATCH):
        some = chosen[low : low + BATCH]
        points = yield "get", {"ids": [each for _, each in some], "with_attributes": [field], "with_payload": False}
        for (draw, name), point in zip(some, points, strict=True):
            made = None if point is None else _cloze(point.attributes.get(field), draw)
            if made is not None:
                result.texts.append(made[0])
                result.rests.append(made[1])
                result.ids.append(name)
                result.qrels.append({name: 1.0})
            if len(result) == n:
                return result
    if not len(result):
        what = f"no text of {field!r} has two sentences of {LEAST_WORDS} words, or {3 * SPAN_WORDS} words"
        raise InvalidArgumentError(f"{what}, in {len(chosen):,} points", field="field", value=field)
    return result


def _chosen(most: int, seed: int, filter: Any) -> Generator[Read, Any, list[tuple[int, Id]]]:
    """(a random number, the id) of some points, in the order of the numbers, which depend on id and seed alone."""
    kept: list[tuple[int, Id]] = []
    cursor = None
    while True:
        arguments = {"filter": filter, "limit": PAGE, "cursor": cursor, "with_attributes": False, "with_payload": False}
        page = yield "scroll", arguments
        drawn = [(_draw(point.id, seed), point.id) for point in page.points]
        kept = heapq.nsmallest(most, [*kept, *drawn], key=lambda each: each[0])
        cursor = page.cursor
        if cursor is None:
            return kept


def _draw(name: Id, seed: int) -> int:
    data = f"{seed}:{type(name).__name__}:{name}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def _cloze(text: Any, draw: int) -> tuple[str, str] | None:
    """(a sentence of a text, the rest of the text), chosen by a random number. None if it is too short."""
    if not isinstance(text, str):
        return None
    ends = [0, *(found.end() for found in _ENDS.finditer(text)), len(text)]
    pieces = [(low, high) for low, high in pairwise(ends) if _usable(text[low:high])]
    if len(pieces) < 2:
        words = list(re.finditer(r"\S+", text))
        if len(words) < 3 * SPAN_WORDS:
            return None
        first = draw % (len(words) - SPAN_WORDS + 1)
        pieces = [(words[first].start(), words[first + SPAN_WORDS - 1].end())]
    low, high = pieces[draw % len(pieces)]
    rest = f"{text[:low].rstrip()} {text[high:].lstrip()}".strip()
    return " ".join(text[low:high].split()), rest


def _usable(piece: str) -> bool:
    words = len(piece.split())
    return LEAST_WORDS <= words <= MOST_WORDS or (words < LEAST_WORDS and len(piece) >= 3 * LEAST_WORDS and not piece.isascii())
