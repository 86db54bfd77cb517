"""Points and hits as plain data, JSON, data frames and HTML tables.

The JSON form of a point is the one that ``vectordb export`` writes and ``upsert`` reads: ids as numbers, strings or ``{"uuid": "…"}``;
datetimes in ISO 8601; places as ``[lat, lon]``; dense vectors and multi-vectors as lists; sparse vectors as
``{"indices": […], "values": […]}``; bytes as ``{"base64": "…"}``.
"""

from __future__ import annotations

import base64
import html
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InvalidArgumentError, VectorDBError, shown
from .attributes import type_of
from .foreign import compressed, is_sparse, unwrapped
from .values import Id, to_json

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

    from .results import Hit, Point

HTML_ROWS = 20
HTML_COLUMNS = 8
HTML_CHARACTERS = 80


# ---- Plain data ----


def point_dict(point: Point) -> dict[str, Any]:
    """A point as a dict that ``upsert`` accepts."""
    return {
        "id": point.id,
        "vectors": dict(point.vectors),
        "attributes": dict(point.attributes),
        "payload": point.payload,
        "version": point.version,
    }


def hit_dict(hit: Hit) -> dict[str, Any]:
    """A hit as a dict; ``arms``, ``vectors`` and ``highlights`` only where it has some."""
    data: dict[str, Any] = {"id": hit.id, "score": hit.score, "attributes": dict(hit.attributes), "payload": hit.payload}
    if hit.arms:
        data["arms"] = {name: arm._asdict() for name, arm in hit.arms.items()}
    if hit.vectors:
        data["vectors"] = dict(hit.vectors)
    if hit.highlights:
        data["highlights"] = dict(hit.highlights)
    return data


# ---- JSON ----


def json_text(data: dict[str, Any] | list[dict[str, Any]], indent: int | None) -> str:
    """The JSON text of dicts of ``point_dict`` and ``hit_dict``. Raises InvalidArgumentError for a value that JSON can't hold."""
    rows = [_json_row(row) for row in data] if isinstance(data, list) else _json_row(data)
    try:
        return json.dumps(rows, default=_json_value, ensure_ascii=False, allow_nan=False, indent=indent)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"these points have no JSON form: {error}", field="points") from error


def _json_row(row: dict[str, Any]) -> dict[str, Any]:
    changed = {"id": _json_id(row["id"])}
    if row.get("vectors"):
        changed["vectors"] = {name: _json_vector(name, vector) for name, vector in row["vectors"].items()}
    return {**row, **changed}


def _json_id(value: Id) -> Any:
    return {"uuid": str(value)} if isinstance(value, uuid.UUID) else value


def _json_vector(name: str, vector: Any) -> Any:
    """Numbers in lists. Terms and weights of a sparse vector may be given in any form that ``upsert`` accepts."""
    try:
        if vector is None:
            return None
        if isinstance(vector, Mapping):
            pairs = {"indices": list(vector), "values": list(vector.values())}
            return vector if set(vector) == {"indices", "values"} else pairs
        if is_sparse(vector):
            _, terms, weights = compressed(vector)
            return {"indices": terms.tolist(), "values": weights.tolist()}
        if isinstance(vector, tuple) and len(vector) == 2 and not all(isinstance(part, (int, float)) for part in vector):
            return {"indices": np.asarray(vector[0]).tolist(), "values": np.asarray(vector[1]).tolist()}
        return np.asarray(unwrapped(vector)).tolist()
    except Exception as error:  # of an object of another library
        raise InvalidArgumentError(f"vector {name!r} has no JSON form: {shown(vector)}", field=name, value=vector) from error


def _json_value(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    return to_json(value)


# ---- Data frames ----


def columns_of(rows: Sequence[Mapping[str, Any]], first: Sequence[str]) -> dict[str, list[Any]]:
    """Rows of ``point_dict`` or ``hit_dict`` as columns: ``first``, then attributes, vector fields, and ``payload`` if there is one.

    An attribute or a field with the name of another column is called ``attributes.NAME`` or ``vectors.NAME``.
    """
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in first}
    reserved = {*first, "payload"}
    for part in ("attributes", "vectors"):
        for name in dict.fromkeys(name for row in rows for name in row.get(part, ())):
            column = f"{part}.{name}" if name in reserved or name in columns else name
            columns[column] = [row.get(part, {}).get(name) for row in rows]
    if any(row["payload"] is not None for row in rows):
        columns["payload"] = [row["payload"] for row in rows]
    return columns


def to_pandas(columns: dict[str, list[Any]]) -> pandas.DataFrame:
    """The columns as a DataFrame of pandas; vectors are arrays, one in each cell."""
    try:
        import pandas
    except ImportError as error:
        raise VectorDBError("to_pandas() needs pandas: pip install pandas") from error
    # Series one by one: a list of arrays or tuples would be taken for several columns.
    return pandas.DataFrame({name: _series(pandas, values) for name, values in columns.items()}, columns=list(columns))


def _series(pandas: Any, values: list[Any]) -> Any:
    if any(isinstance(value, (np.ndarray, tuple, list, dict)) for value in values):
        cells = np.empty(len(values), dtype=object)
        for row, value in enumerate(values):
            cells[row] = value
        return pandas.Series(cells, dtype=object)
    if None in values and {type(value) for value in values} == {int, type(None)}:
        return pandas.Series(values, dtype="Int64")  # as floats, which are the default, large integers would change
    return pandas.Series(values)


def to_polars(columns: dict[str, list[Any]]) -> polars.DataFrame:
    """The columns as a DataFrame of polars, with the types of ``to_arrow``."""
    try:
        import polars
    except ImportError as error:
        raise VectorDBError("to_polars() needs polars: pip install polars") from error
    frame = polars.from_arrow(to_arrow(columns, "to_polars()"))
    assert isinstance(frame, polars.DataFrame)
    return frame


def to_arrow(columns: dict[str, list[Any]], caller: str = "to_arrow()") -> pyarrow.Table:
    """The columns as an Arrow table.

    Ids are uint64, or strings where any isn't an integer. Datetimes are timestamps in UTC, UUIDs strings, dense vectors and multi-vectors
    lists of numbers, sparse vectors structs of ``indices`` and ``values``. Payloads are JSON text.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise VectorDBError(f"{caller} needs pyarrow: pip install pyarrow") from error
    arrays = {}
    for name, values in columns.items():
        if name == "id":
            integers = all(type(value) is int for value in values)
            ids = values if integers else [str(v) for v in values]
            arrays[name] = pyarrow.array(ids, pyarrow.uint64() if integers else pyarrow.string())
        elif name == "payload":
            texts = [None if v is None else json.dumps(v, ensure_ascii=False, default=_json_value) for v in values]
            arrays[name] = pyarrow.array(texts, pyarrow.string())
        else:
            arrays[name] = _arrow_column(pyarrow, name, values)
    return pyarrow.table(arrays)


def _arrow_column(pyarrow: Any, name: str, values: list[Any]) -> Any:
    given = [value for value in values if value is not None]
    array = bool(given) and all(isinstance(value, list) for value in given)
    elements = [element for value in given for element in value] if array else given
    attribute = type_of(elements[0]) if elements else None
    if attribute is not None and all(isinstance(element, attribute.python) for element in elements):
        spec = type(attribute)(array)
        return pyarrow.array(spec.arrow_column(name, values), spec.arrow_column_type(pyarrow))
    return pyarrow.array([_arrow_value(value) for value in values])


def _arrow_value(value: Any) -> Any:
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, np.ndarray) for part in value):
        return {"indices": value[0], "values": value[1]}
    if isinstance(value, np.ndarray) and value.ndim > 1:
        return list(value)
    return [_arrow_value(element) for element in value] if isinstance(value, (list, tuple)) else value


# ---- HTML ----


def html_table(title: str, columns: Mapping[str, Sequence[Any]], rows: int) -> str:
    """A table for a notebook: at most 20 rows, 8 columns and 80 characters a cell. Everything in it is escaped.

    columns: name → values, of which the first 20 are read. rows: how many there are in all.
    """
    names = list(columns)[:HTML_COLUMNS]
    head = "".join(f"<th>{_cell(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(columns[name][row])}</td>" for name in names) + "</tr>" for row in range(min(rows, HTML_ROWS))
    )
    notes = []
    if rows > HTML_ROWS:
        notes.append(f"{rows - HTML_ROWS:,} more rows")
    if len(columns) > len(names):
        notes.append(_cut(f"{len(columns) - len(names)} more columns: {', '.join(list(columns)[HTML_COLUMNS:])}"))
    note = f"<p>and {html.escape('; '.join(notes))}</p>" if notes else ""
    return f"<p>{html.escape(title)}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


def html_text(text: str) -> str:
    """A text of several lines for a notebook, escaped."""
    return f"<pre>{html.escape(text)}</pre>"


def _cell(value: Any) -> str:
    return html.escape(_cut(_words(value)))


def _cut(text: str) -> str:
    return text if len(text) <= HTML_CHARACTERS else text[: HTML_CHARACTERS - 1] + "…"


def _words(value: Any) -> str:
    """One value in one line."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value[: 2 * HTML_CHARACTERS]
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {' × '.join(map(str, value.shape))}: {_few(value.ravel()[:4].tolist(), value.size)}"
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, np.ndarray) for part in value):
        return f"{len(value[0])} terms: {_few([f'{term}: {weight:.3g}' for term, weight in zip(*value)][:4], len(value[0]))}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    return shown(value)


def _few(values: Iterable[Any], size: int) -> str:
    shown_values = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in values]
    return ", ".join(shown_values) + (", …" if size > len(shown_values) else "")
