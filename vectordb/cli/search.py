"""``vectordb search DIR COLLECTION TEXT``, or ``--target HOST:PORT COLLECTION TEXT``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vectordb_client.errors import InvalidArgumentError, StorageError, shown
from vectordb_client.model.page_options import AUTO
from vectordb_client.model.schema import Schema
from vectordb_client.model.search_request import OPTIONS

from .options import Command, add_place, check_columns, console, names, opened, positive, state

_DETAILS = """\
TEXT is searched in every field that has an encoder, or in the fields that --field names. It may be several words without quotes.
A VECTOR is JSON: [0.1, 0.7] for a dense field, {"17": 0.5} or {"indices": [17], "values": [0.5]} for a sparse field,
[[0.1, 0.7], [0.3, 0.2]] for a multi-vector field; @FILE reads it from a file. Results of several queries are fused by rank (RRF).

The table shortens long values. --json prints one object per line with id, score, attributes and payload; with --explain, a line
{"plan": …} follows, with --facets a line for each attribute, and with --next {"next": CURSOR}.
"""


def add_arguments(parser: Command) -> None:
    parser.epilog = _DETAILS
    add_place(parser, rest=("words", "TEXT", "the text to search for"))
    add = parser.add_argument
    add("--vector", metavar="[FIELD=]VECTOR", action="append", default=[], help="a query vector, as JSON or @FILE; may be repeated")
    add(
        "--field",
        metavar="NAME",
        action="append",
        default=[],
        help="the vector field to search; may be repeated (default: all with an encoder)",
    )
    for name, option in OPTIONS.items():
        flag, spelling = option.flag, f"--{name.replace('_', '-')}"
        if flag is not None and flag.kind == "switch":
            add(spelling, action="store_true", help=flag.help)
        elif flag is not None:
            add(spelling, metavar=flag.metavar, type=_KINDS[flag.kind], default=option.default, help=flag.help)
    add("--columns", metavar="NAME[,NAME…]", type=names, help="show only these attributes (default: all)")
    add("--json", action="store_true", help="print JSON lines, one hit per line")
    add("--next", action="store_true", help="print the cursor of the next page last, as --cursor takes it; of the last page nothing")

    def check(arguments: argparse.Namespace) -> None:
        if not (arguments.words or arguments.vector or arguments.order_by or arguments.like):
            raise argparse.ArgumentTypeError("a search needs TEXT or --vector, or --like or --order-by")

    parser.checks.append(check)


def run(arguments: argparse.Namespace) -> int:
    from ..transfer.forms import dumps
    from .points import facet_record, facet_table, hit_record, hits_table

    text = " ".join(arguments.words) or None
    options = {name: getattr(arguments, name) for name, option in OPTIONS.items() if option.flag is not None}
    with opened(arguments) as database:
        collection = database.collection(arguments.collection)
        schema = collection.schema
        check_columns(schema, arguments.columns)
        hits = collection.search(
            _vectors(arguments, schema) or None,
            text=dict.fromkeys(arguments.field, text) if text and arguments.field else text,
            with_attributes=arguments.columns or True,
            **options,
        )
    if arguments.json:
        for hit in hits:
            print(dumps(hit_record(schema, hit, arguments.with_vectors)))
        if hits.plan is not None:
            print(dumps({"plan": hits.plan}))
        for name, result in hits.facets.items():
            print(dumps(facet_record(name, result)))
        if arguments.next and hits.next is not None:
            print(dumps({"next": hits.next}))
        return 0
    out = console()
    if len(hits):
        hits_table(out, schema, hits, arguments.columns, arguments.with_vectors)
    else:
        console(stderr=True).print("no hits", markup=False)
    for name, result in hits.facets.items():
        facet_table(out, name, result)
    if hits.plan is not None:
        out.print(f"\n{hits.plan}", markup=False)
    if arguments.next and hits.next is not None:
        print(hits.next)
    return 0


def _vectors(arguments: argparse.Namespace, schema: Schema) -> dict[str, Any]:
    """field → query vector, as ``Collection.search`` takes them."""
    from ..transfer.forms import loads

    queries: dict[str, Any] = {}
    for given in arguments.vector:
        name, text = None, given
        if not given.startswith(("[", "{", "@")):
            name, equals, text = given.partition("=")
            if not equals:
                what = f"--vector {shown(given)} is not a vector: write JSON such as [0.1, 0.7], @FILE, or FIELD=VECTOR"
                raise InvalidArgumentError(what, field="vector", value=given)
        name = _field(arguments, schema) if name is None else name
        if name in queries:
            raise InvalidArgumentError(f"--vector gives field {shown(name)} twice", field="vector", value=name)
        try:
            queries[name] = _query(schema.vector(name), loads(_content(text)))
        except ValueError as error:
            if isinstance(error, InvalidArgumentError):
                raise
            raise InvalidArgumentError(f"--vector {shown(text)} is not JSON: {error}", field="vector", value=text) from None
    return queries


def _query(spec: Any, value: Any) -> Any:
    """A query in JSON. The terms of a field with words may be named by these."""
    words = () if spec.derived is None else spec.derived.words
    if not words or not isinstance(value, dict) or set(value) == {"indices", "values"}:
        return spec.column.from_json(value)
    return {int(term) if term not in words and term.isdecimal() else term: weight for term, weight in value.items()}


def _field(arguments: argparse.Namespace, schema: Schema) -> str:
    """The field of a vector that names none."""
    fields = arguments.field or list(schema.vectors)
    if len(fields) != 1:
        fields = ", ".join(schema.vectors) or "none"
        raise InvalidArgumentError(f"the vector names no field: write --vector FIELD=VECTOR; vector fields: {fields}", field="vector")
    return fields[0]


def _content(text: str) -> str:
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise StorageError(f"can't read {text[1:]}: {why}", field="vector", value=text) from None


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and at most 1")
    return share


def _limit(text: str) -> int | str:
    return text if text == AUTO else positive(text)


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 0")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _ids(text: str) -> list[Any]:
    from .points import read_id_word

    try:
        return [read_id_word(word) for word in names(text)]
    except InvalidArgumentError as error:
        raise argparse.ArgumentTypeError(error.message) from None


_KINDS = {
    "text": str,
    "count": positive,
    "share": _share,
    "limit": _limit,
    "whole": _whole,
    "number": _number,
    "names": names,
    "ids": _ids,
    "moment": state,
}  # kind of a flag → what reads its value
