"""What a type of attribute is: how its values are checked, stored, compared, sent, exported and imported.

A value has three forms:

* the *user's form*, which reads return: a string, a number, a datetime …
* the *stored form*, which the engine stores and filters compare: a string, a number, a bool, bytes, or a tuple of floats.
* the *JSON form*, in messages, in filters that are sent, and in files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, cast
from uuid import UUID

from ...errors import InvalidArgumentError, LimitError, SchemaError, VectorDBError, shown
from ..arguments import named_class
from ..checks import check_flag
from ..foreign import is_nan, is_null, listed, plain, read_with

MAX_ARRAY = 65_535
_NEVER_NULL = frozenset((str, int, bool, list, tuple, datetime, UUID))


@dataclass(frozen=True)
class Operators:
    """The operators of filters that a type supports, beside IS NULL and, of an array, COUNT and CONTAINS. text: for errors."""

    text: str
    names: frozenset[str]


EQUALITY = Operators("=, != and IN", frozenset(("=", "!=", "IN")))
RANGES = Operators("comparisons, IN and BETWEEN", EQUALITY.names | {"<", "<=", ">", ">=", "BETWEEN"})
PATTERNS = Operators(
    "comparisons, IN, BETWEEN, STARTSWITH, GLOB, CONTAINS, IEQ, ISTARTSWITH and ICONTAINS",
    RANGES.names | {"STARTSWITH", "GLOB", "CONTAINS", "IEQ", "ISTARTSWITH", "ICONTAINS"},
)
WORDS = Operators(
    "MATCH (match_all, match_any, match_phrase), CONTAINS and ICONTAINS (contains, icontains)",
    frozenset(("MATCH", "CONTAINS", "ICONTAINS")),
)
PLACES = Operators(
    "GEO_RADIUS, GEO_BOX and GEO_POLYGON (geo_radius, geo_box, geo_polygon)", frozenset(("GEO_RADIUS", "GEO_BOX", "GEO_POLYGON"))
)


@named_class
@dataclass(frozen=True)
class AttributeType:
    """array: each point has a list of values, and a condition holds if any element satisfies it.

    The methods are for one value, also of an array, unless they say otherwise. A type overrides those that its values need.

    Class attributes:
        kind: the name in the JSON form of a schema.
        stored: the name of the stored form, a key of ``vectordb.storage.attribute_forms.FORMS``: "int64", "float64", "place" (two float64),
            "flag" (bool), "string", "uuid" (16 bytes), "text" (a string that is searched by words).
        operators: RANGES needs the stored form "int64", "float64" or "string", PATTERNS "string", WORDS "text", PLACES "place".
        plain: whether the user's form is the stored form.
        nan_is_null: whether NaN is a missing value.
        python: the classes of the user's form, if JSON has no such values.
        analyzer: of a text, how its words are made (``Analyzer``); None: by the rules for words.
        tenant: of a keyword, whether it says to which tenant a point belongs.
        parts: as what an attribute can go into the vectors of ``Attributes``: "number", "cyclic", "category". The first is meant by its
            bare name, unless it is of moments.
        moments: whether the stored values are microseconds.
        message_list: the list in the message ``AttributeForms`` that names such attributes; "": they are in its map ``others``.
    """

    array: bool = False
    kind: ClassVar[str] = ""
    stored: ClassVar[str] = ""
    operators: ClassVar[Operators] = EQUALITY
    plain: ClassVar[bool] = True
    nan_is_null: ClassVar[bool] = True
    python: ClassVar[tuple[type, ...]] = ()
    parts: ClassVar[tuple[str, ...]] = ()
    moments: ClassVar[bool] = False
    message_list: ClassVar[str] = ""
    analyzer = cast(Any, None)  # without an annotation, so that Text can make it a field
    tenant = cast(Any, False)  # so that Keyword can

    def __post_init__(self):
        check_flag("array", self.array, SchemaError)

    # ---- The stored form ----

    def coerce_one(self, name: str, value: Any) -> Any:
        """The stored form of a value in the user's or the JSON form. Raises InvalidArgumentError or LimitError."""
        raise NotImplementedError

    def restore_one(self, stored: Any) -> Any:
        """The user's form of a stored value."""
        return stored

    def coerce(self, name: str, value: Any) -> Any:
        """The stored form of the value of a point, or None if it is null. Raises InvalidArgumentError or LimitError.

        Null are None, NaT, ``pandas.NA``, a masked value, and NaN unless the type has it. An array can't have null elements.
        """
        if value is None:
            return None
        if type(value) not in _NEVER_NULL and not (type(value) is float and value == value):
            if is_null(value):
                return None
            value = plain(value)
            if is_nan(value) and (self.array or self.nan_is_null):
                return None
        return self._coerce_array(name, value) if self.array else self.coerce_one(name, value)

    def _coerce_array(self, name: str, value: Any) -> list:
        elements = list(value) if isinstance(value, (set, frozenset)) else read_with(name, value, listed)
        if elements is None:
            raise wrong(name, value, f"a list of {self.kind} values")
        for element in elements:
            if element is None or (type(element) not in _NEVER_NULL and type(element) is not float and is_null(element)):
                raise InvalidArgumentError(f"{name} {shown(value)} has a null element; leave it out", field=name, value=value)
        elements = [self.coerce_one(name, e if type(e) in _NEVER_NULL or type(e) is float else plain(e)) for e in elements]
        if len(elements) > MAX_ARRAY:
            raise LimitError(f"{name} has {len(elements)} elements, at most {MAX_ARRAY} are allowed", field=name, value=len(elements))
        return elements

    def restore(self, stored: Any) -> Any:
        """The user's form of the stored value of a point."""
        if stored is None or self.plain:
            return stored
        return [self.restore_one(element) for element in stored] if self.array else self.restore_one(stored)

    def read_frame(self, values: list) -> list:
        """The values of a column of a data frame, in which a null may have changed the type of the others."""
        return values

    # ---- JSON ----

    def to_json(self, value: Any) -> Any:
        """The JSON form of a value in the user's form."""
        return value

    def from_json(self, value: Any) -> Any:
        """The user's form of a value in the JSON form. Raises ValueError, TypeError or AttributeError."""
        return value

    def from_answer(self, value: Any) -> Any:
        """``from_json`` of the value of a point, which may be a list of values."""
        return [self.from_json(element) for element in value] if type(value) is list else self.from_json(value)

    # ---- Values in filters ----

    def filter_value(self, name: str, value: Any) -> Any:
        """The stored form of a value that the attribute is compared with. Raises InvalidArgumentError, which names the value."""
        return self.coerce_one(name, value)

    def filter_values(self, values: Sequence) -> Sequence | None:
        """The stored forms of many values, without those that no value of the type can equal. None: read them one by one."""
        return None

    def filter_bound(self, name: str, value: Any, lower: bool) -> tuple[Any, Any]:
        """(the stored value nearest to a bound of a range, on the edge of the range or outside; the bound, to compare with it).

        lower: whether it is the lower bound.
        """
        stored = self.filter_value(name, value)
        return stored, stored

    # ---- Files ----

    def from_file(self, value: Any) -> Any:
        """A JSON or Arrow value of a file in a form that ``coerce_one`` takes."""
        return value

    def from_cell(self, name: str, text: str) -> Any:
        """The value that a cell of a CSV file holds, in a form that ``coerce_one`` takes. Raises InvalidArgumentError."""
        return self.from_file(text.strip())

    def to_cell(self, value: Any) -> str:
        """The cell from which ``from_cell`` reads a value in the user's form."""
        return str(self.to_json(value))

    @staticmethod
    def is_in_text(text: str) -> bool:
        """Whether a string in a file is most likely a value of this type."""
        return False

    def arrow_type(self, pyarrow: Any) -> Any:
        """The type of an Arrow column of such values."""
        return pyarrow.string()

    def to_arrow(self, stored: Any) -> Any:
        """A stored value in a form that a column of ``arrow_type`` takes."""
        return stored

    def arrow_column_type(self, pyarrow: Any) -> Any:
        """The type of an Arrow column of the values of points."""
        return pyarrow.list_(self.arrow_type(pyarrow)) if self.array else self.arrow_type(pyarrow)

    def arrow_column(self, name: str, values: Sequence) -> list:
        """The values of points, in the user's form, in forms that a column of ``arrow_column_type`` takes."""
        column = [self.coerce(name, value) for value in values]
        if self.array:
            return [None if value is None else [*map(self.to_arrow, value)] for value in column]
        return [None if value is None else self.to_arrow(value) for value in column]


def wrong(name: str, value: Any, expected: str) -> VectorDBError:
    """The error for a value of a wrong type."""
    return InvalidArgumentError(f"{name} must be {expected}, not {shown(value)} ({type(value).__name__})", field=name, value=value)


def utf8(value: str, name: str) -> bytes:
    """Raises InvalidArgumentError for a string that UTF-8 can't represent."""
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise InvalidArgumentError(f"{name} {shown(value)} has a lone surrogate and isn't valid text", field=name, value=value) from None


def read_json_cell(name: str, text: str, loads: Callable[[str], Any] | None = None) -> Any:
    """The JSON value in a cell, None if it is blank. loads: a faster ``strict_json``. Raises InvalidArgumentError."""
    try:
        return (loads or strict_json)(text) if text.strip() else None
    except ValueError as error:
        raise InvalidArgumentError(f"{name} is not JSON ({error}): {shown(text)}", field=name, value=text) from None


def strict_json(text: str) -> Any:
    """JSON as the standard defines it. Raises ValueError, also on NaN."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
