"""Points and hits on a terminal, and ids as words of a command line."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vectordb_client.errors import InvalidArgumentError, shown
from vectordb_client.model.facets import FacetResult
from vectordb_client.model.results import Hit, Hits, Point
from vectordb_client.model.schema import Schema

from ..transfer.forms import attribute_cell, cell_id, dumps, full_record

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_UUID = "uuid:"
CELL_WIDTH = 80  # characters of a value that a table shows


def read_id_word(word: str) -> Any:
    """An id as it is written on a command line: see ``vectordb get --help``."""
    if not word.startswith(_UUID):
        return cell_id(word)
    try:
        return uuid.UUID(word.removeprefix(_UUID))
    except ValueError:
        what = f"id {shown(word)} is not a UUID; as a string it is written {json.dumps(word)!r}"
        raise InvalidArgumentError(what, field="ids", value=word) from None


def id_word(point_id: Any) -> str:
    """The word that ``read_id_word`` reads back as this id."""
    if isinstance(point_id, uuid.UUID):
        return f"{_UUID}{point_id}"
    if isinstance(point_id, int):
        return str(point_id)
    plain = not point_id.startswith(_UUID) and type(cell_id(point_id)) is str and cell_id(point_id) == point_id
    return point_id if plain and point_id.strip() == point_id and point_id.isprintable() and point_id else dumps(point_id)


def hit_record(schema: Schema, hit: Hit, with_vectors: bool) -> dict[str, Any]:
    """A hit as JSON data: the record of its point, and its score."""
    record = full_record(schema, hit, with_vectors)
    marked = {"highlights": dict(hit.highlights)} if hit.highlights else {}
    return {"id": record.pop("id"), "score": hit.score, **record, **marked}


def hits_table(out: Console, schema: Schema, hits: Hits, columns: Sequence[str] | None, with_vectors: bool) -> None:
    """Hits as a table: id, score, attributes that a hit has, payload, vectors. On a terminal it fits the width."""
    from rich.table import Table
    from rich.text import Text

    rows = [dict(_values(schema, hit, columns, with_vectors)) for hit in hits]
    shown_columns = dict.fromkeys(name for name in _names(schema, columns, with_vectors) if any(name in row for row in rows))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("id", "score", *shown_columns):
        table.add_column(Text(name), justify="right" if name == "score" else "left", no_wrap=True, overflow="ellipsis")
    for hit, row in zip(hits, rows, strict=True):
        cells = {name: Text(_cut(row.get(name, ""))) for name in shown_columns}
        cells |= {_column(name, "attributes"): _marked(hit, name) for name in hit.highlights if _column(name, "attributes") in cells}
        table.add_row(Text(id_word(hit.id)), Text(f"{hit.score:.4g}"), *cells.values())
    if not out.is_terminal:  # a file or a pipe has no width
        out.width = 1_000_000
    out.print(table, soft_wrap=False)


def facet_record(name: str, result: FacetResult) -> dict[str, Any]:
    """The result of a facet as JSON data."""
    counts = [{"value": value, "count": count} for value, count in result]
    return {"facet": name, "counts": counts, "points": result.points, "missing": result.missing, "distinct": result.distinct}


def facet_table(out: Console, name: str, result: FacetResult) -> None:
    """The result of a facet as lines: a count and its value. The last one says what isn't listed."""
    out.print(f"\n{name}", markup=False)
    width = max((len(f"{count:,}") for _, count in result), default=1)
    for value, count in result:
        out.print(f"  {count:>{width},}  {_printable(_cut(value if isinstance(value, str) else dumps(value)))}", markup=False)
    others = f"{result.distinct - len(result):,} more, " if result.distinct > len(result) else ""
    out.print(f"  {others}{result.missing:,} of {result.points:,} points without a value", markup=False)


def aggregate_lines(name: str, values: Mapping[str, Any]) -> Iterator[str]:
    """The aggregates of an attribute, as JSON data, as lines: its name, then each function and its value."""
    width = max(map(len, values))
    yield _printable(name)
    for function, value in values.items():
        yield f"  {function:<{width}}  {'-' if value is None else _printable(value if isinstance(value, str) else dumps(value))}"


def _marked(hit: Hit, name: str) -> Text:
    """A text from shortly before the first word of the query that it has, with these words in bold."""
    from rich.text import Text

    value, places = hit.attributes.get(name), hit.highlights[name]
    if not isinstance(value, str) or not places:
        return Text(_cut(_printable(value if isinstance(value, str) else dumps(value))))
    at = max(0, places[0][0] - CELL_WIDTH // 4)
    cell = Text("…" if at else "")
    for start, end in places:
        cell.append(_printable(value[at:start])).append(_printable(value[start:end]), style="bold")
        at = end
    cell.append(_printable(value[at:]))
    cell.truncate(CELL_WIDTH, overflow="ellipsis")
    return cell


def point_lines(schema: Schema, point: Point, columns: Sequence[str] | None, with_vectors: bool) -> Iterator[str]:
    """A point as lines: a name and its value, in full."""
    values = {"id": id_word(point.id), "version": str(point.version), **dict(_values(schema, point, columns, with_vectors))}
    width = max(map(len, values))
    for name, value in values.items():
        yield f"{name:<{width}}  {value}"


def _names(schema: Schema, columns: Sequence[str] | None, with_vectors: bool) -> list[str]:
    """The columns that may be shown, in order. What is called like a column of ours is ``attributes.NAME`` or ``vectors.NAME``."""
    attributes = [_column(name, "attributes") for name in columns or schema.attributes]
    return [*attributes, "payload", *((_column(name, "vectors") for name in schema.vectors) if with_vectors else ())]


def _values(schema: Schema, point: Point | Hit, columns: Sequence[str] | None, with_vectors: bool) -> Iterator[tuple[str, str]]:
    for name in columns or schema.attributes:
        if point.attributes.get(name) is not None:
            yield _column(name, "attributes"), _printable(attribute_cell(schema.attributes[name], point.attributes[name]))
    if point.payload is not None:
        yield "payload", _printable(dumps(point.payload))
    if with_vectors:
        for name, vector in point.vectors.items():
            yield _column(name, "vectors"), dumps(schema.vectors[name].column.to_json(vector))


def _column(name: str, section: str) -> str:
    return f"{section}.{name}" if name in ("id", "score", "version", "payload") else name


def _printable(text: str) -> str:
    """Escape control characters, which a terminal would execute."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _cut(text: str) -> str:
    return text if len(text) <= CELL_WIDTH else f"{text[: CELL_WIDTH - 1]}…"
