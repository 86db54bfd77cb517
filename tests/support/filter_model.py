"""Helpers for filter tests: a schema, Hypothesis strategies for filters and rows, a printer, and two row-by-row evaluators.

``holds`` evaluates a filter as the user wrote it. ``holds_canonical`` evaluates the nodes of ``vectordb.filters.canonical``. They share
only the geometry, and neither uses bitmaps.
"""

from __future__ import annotations

import fnmatch
import math
import operator
import uuid
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st
from vectordb_client.model import filter_extended as e
from vectordb_client.model import filter_nodes as f
from vectordb_client.model.attributes import ATTRIBUTE_TYPES
from vectordb_client.model.schema import Bool, Datetime, Dense, Float, Geo, Int, Keyword, Schema, Text, Uuid

from vectordb.common.tokenize import words
from vectordb.filters.nodes import AtLeast, CountRange, MatchWords, Part, Range, TermRange, TermsOutside

KINDS = {"kw": Keyword, "n": Int, "x": Float, "ok": Bool, "at": Datetime, "body": Text, "u": Uuid, "place": Geo}
SCHEMA = Schema({"vec": Dense(4), "vec2": Dense(4)}, {name + s: kind(array=bool(s)) for name, kind in KINDS.items() for s in ("", "s")})
IDS = [0, 7, "a", "7", uuid.UUID(int=7)]

keywords = st.sampled_from(["", "a", "ab", "abc", "b", "a*c", "[a]", "é'\"`\\"])
ints = st.integers(-4, 6) | st.sampled_from([-(2**63), 2**63 - 1])
floats = st.sampled_from([-1.5, 0.0, 1.0, 2.5, math.nextafter(2.5, 3), math.nextafter(2.5, 2), 5e-324, 1.7976931348623157e308])
floats |= st.sampled_from([sign * n for sign in (1.0, -1.0) for n in (2.0**53, 2.0**53 + 2, 2.0**63, math.nextafter(2.0**63, 0), 2.0**64)])
# The earliest and the latest times that a datetime can represent, in UTC and in the most extreme time zones.
far = [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
far += [datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))]
moments = st.sampled_from([datetime(2024, 1, day, 12, 30, 0, micro, UTC) for day in (1, 2) for micro in (0, 1)] + far)
years = st.sampled_from([np.datetime64(text, "us") for text in ("-044-03-15", "0000-02-29T12:00:00.000001", "10000-01-01", "200000-01-01")])
uuids = st.sampled_from([uuid.UUID(int=n) for n in (1, 2, 2**100)])
texts = st.lists(st.sampled_from(["red", "Fox", "dog-", "the"]), max_size=3).map(" ".join)
places = st.tuples(st.sampled_from([-90.0, -10.0, 0.0, 52.5]), st.sampled_from([-180.0, -170.0, 0.0, 13.4, 179.0]))
polygons = st.lists(places | st.sampled_from([(60.0, 20.0), (-20.0, -160.0), (10.0, 150.0)]), min_size=3, max_size=5).filter(
    lambda corners: len(set(corners)) > 2
)
parts = st.sampled_from(["", "red", "ed F", "fox", "dog- t", "THE", "x"])
STORED = {"kw": keywords, "n": ints, "x": floats, "ok": st.booleans(), "at": moments | years, "body": texts, "u": uuids, "place": places}
# values that a filter accepts: also non-integers for integers, integers for floats, and strings for datetimes and UUIDs
GIVEN = STORED | {
    "n": ints | st.sampled_from([2.0, 2.5, -0.5, -0.0, 1e300, -1e300, 2.0**63, -(2.0**63), 2**63, 2**64 - 1, 2**70, -(2**63) - 1, 10**400]),
    "x": floats
    | st.integers(-2, 3)
    | st.sampled_from([sign * n for sign in (1, -1) for n in (2**53, 2**53 + 1, 2**53 + 2, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**400)])
    | st.just(-0.0),
    "at": moments | moments.map(datetime.isoformat) | years | years.map(str),
    "u": uuids | uuids.map(str),
}

rows = st.fixed_dictionaries(
    {"id": st.sampled_from(IDS), "vectors": st.sets(st.sampled_from(["vec", "vec2"]))}
    | {
        name + s: st.none()
        | (st.lists(value, max_size=3) if s else value).map(
            lambda v, kind=KINDS[name], s=s: [kind().coerce_one("", e) for e in v] if s else kind().coerce_one("", v)
        )
        for name, value in STORED.items()
        for s in ("", "s")
    }
)


def _with_field(names, build):
    return st.sampled_from([name + s for name in names for s in ("", "s")]).flatmap(build)


def _values(field):
    return GIVEN[field.removesuffix("s") if field not in GIVEN else field]


VALUED = ["kw", "n", "x", "ok", "at", "u"]
leaves = st.one_of(
    _with_field(VALUED, lambda field: st.builds(f.Compare, st.just(field), st.sampled_from(["eq", "ne"]), _values(field))),
    _with_field(["n", "x", "at", "kw"], lambda field: st.builds(f.Compare, st.just(field), st.sampled_from(f.COMPARISONS), _values(field))),
    _with_field(VALUED, lambda field: st.builds(e.SomeNotIn, st.just(field), st.lists(_values(field), max_size=3))),
    _with_field(["n", "x", "at", "kw"], lambda field: st.builds(f.Between, st.just(field), _values(field), _values(field))),
    _with_field(
        VALUED,
        lambda field: st.builds(
            # CONTAINS applies only to arrays and needs at least one value.
            lambda kind, values: (kind if values and field.endswith("s") else f.In)(field, values),
            st.sampled_from([f.In, f.ContainsAny, f.ContainsAll]),
            st.lists(_values(field), max_size=4),
        ),
    ),
    _with_field(KINDS, lambda field: st.builds(f.IsNull, st.just(field)) | st.builds(e.IsMissing, st.just(field))),
    _with_field(["kw"], lambda field: st.builds(e.Fold, st.just(field), st.sampled_from(e.FOLDED), keywords | st.just("AB"))),
    _with_field(["body"], lambda field: st.builds(e.Fold, st.just(field), st.just("contains"), parts)),
    _with_field(
        ["body"],
        lambda field: st.builds(
            lambda kind, values: kind(field, values),
            st.sampled_from([f.ContainsAny, f.ContainsAll]),
            st.lists(parts, min_size=1, max_size=2),
        ),
    ),
    st.builds(lambda values: f.ContainsAny("kw", values), st.lists(keywords, min_size=1, max_size=2)),
    _with_field(["place"], lambda field: st.builds(e.GeoPolygon, st.just(field), polygons)),
    _with_field(KINDS, lambda field: st.builds(f.Count, st.just(field), st.sampled_from(f.COMPARISONS), st.integers(-1, 4))),
    _with_field(["body"], lambda field: st.builds(f.Match, st.just(field), st.sampled_from(f.MODES), texts)),
    _with_field(["kw"], lambda field: st.builds(f.Prefix, st.just(field), keywords)),
    _with_field(["kw"], lambda field: st.builds(f.Glob, st.just(field), keywords | st.text("ab*?[]!-", max_size=5))),
    _with_field(
        ["place"],
        lambda field: (
            st.builds(lambda at, m: f.GeoRadius(field, *at, m), places, st.sampled_from([0, 1e5, 1e6, 3e7]))
            | st.builds(lambda a, b: f.GeoBox(field, min(a[0], b[0]), a[1], max(a[0], b[0]), b[1]), places, places)
            | st.just(f.GeoBox(field, -90, -180, 90, 180))
        ),
    ),
    st.builds(f.HasId, st.lists(st.sampled_from(IDS), max_size=3)),
    st.builds(f.HasVector, st.sampled_from(["vec", "vec2"])),
    st.sampled_from([f.All(), f.Nothing()]),
)


def combined(leaf):
    return st.recursive(
        leaf,
        lambda inner: (
            st.builds(f.Not, inner)
            | st.builds(e.MinShould, st.lists(inner, max_size=4), st.integers(0, 4))
            | st.builds(f.And, st.lists(inner, max_size=4))
            | st.builds(f.Or, st.lists(inner, max_size=4))
        ),
        max_leaves=8,
    )


filters = combined(leaves)
OPERATORS = {op: getattr(operator, op) for op in f.COMPARISONS}


def _elements(row, field):
    value = row[field]
    return [] if value is None else value if SCHEMA.attributes[field].array else [value]


def _comparable(field, value):
    kind = SCHEMA.attributes[field].kind
    return value if kind in ("int", "float") else ATTRIBUTE_TYPES[kind]().coerce_one(field, value)


def _phrase(found, wanted):
    return any(found[i : i + len(wanted)] == wanted for i in range(len(found) - len(wanted) + 1))


def _in_radius(place, node):
    lat, lon, other_lat, other_lon = map(math.radians, (*place, node.lat, node.lon))
    a = math.sin((lat - other_lat) / 2) ** 2 + math.cos(lat) * math.cos(other_lat) * math.sin((lon - other_lon) / 2) ** 2
    return 2 * 6_371_008.8 * math.asin(min(1, math.sqrt(a))) <= node.meters


def _in_box(place, node):
    lat, lon = place
    across = node.west <= lon <= node.east if node.west <= node.east else lon >= node.west or lon <= node.east
    return node.south <= lat <= node.north and across


def _in_polygon(place, corners):
    """By exact arithmetic; each side takes the shorter way around the Earth."""
    lons = [Fraction(corners[0][1])]
    for _, lon in corners[1:]:
        lons.append(min((Fraction(lon) + turn for turn in (0, 360, -360, 720, -720)), key=lambda each: abs(each - lons[-1])))
    path = [(Fraction(lat), lon) for (lat, _), lon in zip(corners, lons, strict=True)]
    y = Fraction(place[0])
    for x in (Fraction(place[1]) + turn for turn in (0, 360, -360)):
        odd = False
        for (y1, x1), (y2, x2) in zip(path, [*path[1:], path[0]], strict=True):
            cross = (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)
            if cross == 0 and min(x1, x2) <= x <= max(x1, x2) and min(y1, y2) <= y <= max(y1, y2):
                return True
            if (y1 > y) != (y2 > y) and x < x1 + (y - y1) * (x2 - x1) / (y2 - y1):
                odd = not odd
        if odd:
            return True
    return False


def _folds(text, mode, value):
    text, value = text.casefold(), value.casefold()
    return {"eq": text == value, "prefix": text.startswith(value), "contains": value in text}[mode]


def _in_parts(field):
    """Whether CONTAINS looks for parts of the attribute's texts."""
    return field.startswith("body") or field == "kw"


def holds(node, row):
    """Whether a filter, as the user wrote it, matches a row of stored values."""
    match node:
        case f.All():
            return True
        case f.Nothing():
            return False
        case f.And(children):
            return all(holds(child, row) for child in children)
        case f.Or(children):
            return any(holds(child, row) for child in children)
        case f.Not(child):
            return not holds(child, row)
        case f.Compare(field, "ne", value):
            return not holds(f.Compare(field, "eq", value), row)
        case f.Compare(field, op, value):
            return any(OPERATORS[op](e, _comparable(field, value)) for e in _elements(row, field))
        case f.Between(field, low, high):
            return any(_comparable(field, low) <= e <= _comparable(field, high) for e in _elements(row, field))
        case e.IsMissing(field):
            return row[field] is None
        case e.Fold(field, mode, value):
            return any(_folds(text, mode, value) for text in _elements(row, field))
        case e.SomeNotIn(field, values):
            return any(all(_comparable(field, value) != one for value in values) for one in _elements(row, field))
        case e.GeoPolygon(field, points):
            return any(_in_polygon(place, points) for place in _elements(row, field))
        case e.MinShould(children, n):
            return sum(holds(child, row) for child in children) >= n
        case f.ContainsAny(field, values) if _in_parts(field):
            return any(value in text for value in values for text in _elements(row, field))
        case f.ContainsAll(field, values) if _in_parts(field):
            return all(any(value in text for text in _elements(row, field)) for value in values)
        case f.In(field, values) | f.ContainsAny(field, values):
            return any(_comparable(field, value) in _elements(row, field) for value in values)
        case f.ContainsAll(field, values):
            return all(_comparable(field, value) in _elements(row, field) for value in values)
        case f.IsNull(field):
            return row[field] is None
        case f.Count(field, op, n):
            return OPERATORS[op](len(_elements(row, field)), n)
        case f.Match(field, mode, text):
            wanted = words(text)
            tests = {"any": lambda found: bool(set(wanted) & set(found)), "all": lambda found: set(wanted) <= set(found)}
            test = tests.get(mode, lambda found: _phrase(found, wanted))
            return bool(wanted) and any(test(words(text)) for text in _elements(row, field))
        case f.Prefix(field, value):
            return any(e.startswith(value) for e in _elements(row, field))
        case f.Glob(field, pattern):
            return any(fnmatch.fnmatchcase(e, pattern) for e in _elements(row, field))
        case f.HasId(ids):
            return row["id"] in ids
        case f.HasVector(field):
            return field in row["vectors"]
        case f.GeoRadius(field):
            return any(_in_radius(place, node) for place in _elements(row, field))
        case f.GeoBox(field):
            return any(_in_box(place, node) for place in _elements(row, field))
    raise AssertionError(node)


def _within(value, node):
    return (node.low is None or node.low <= value) and (node.high is None or value <= node.high)


def holds_canonical(node, row):
    """Whether a canonical filter matches a row. Fails on nodes that a canonical filter must not contain."""
    match node:
        case f.And(children):
            return all(holds_canonical(child, row) for child in children)
        case f.Or(children):
            return any(holds_canonical(child, row) for child in children)
        case f.Not(child):
            return not holds_canonical(child, row)
        case f.In(field, values):
            return any(e in values for e in _elements(row, field))
        case Range(field):
            return any(_within(e, node) for e in _elements(row, field))
        case CountRange(field):
            return _within(len(_elements(row, field)), node)
        case MatchWords(field, mode, wanted):
            split = map(words, _elements(row, field))
            return any(set(wanted) <= set(found) if mode == "all" else _phrase(found, list(wanted)) for found in split)
        case TermRange(field, low, high, low_open, high_open):
            return any(
                (low is None or low < one or (low == one and not low_open))
                and (high is None or one < high or (one == high and not high_open))
                for one in _elements(row, field)
            )
        case TermsOutside(field, values):
            return any(one not in values for one in _elements(row, field))
        case Part(field, value, fold):
            return any(value in (text.casefold() if fold else text) for text in _elements(row, field))
        case AtLeast(n, children):
            return sum(holds_canonical(child, row) for child in children) >= n
        case e.Fold() | e.GeoPolygon():
            return holds(node, row)
        case f.All() | f.Nothing() | f.IsNull() | f.Prefix() | f.Glob() | f.HasId() | f.HasVector() | f.GeoRadius() | f.GeoBox():
            return holds(node, row)
    raise AssertionError(f"not canonical: {node}")


FOLDS = {"eq": "IEQ", "prefix": "ISTARTSWITH", "contains": "ICONTAINS"}
SYMBOLS = {"eq": "=", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def _literal(value):
    match value:
        case bool():
            return str(value)
        case str():
            return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
        case datetime():
            return f"DATETIME '{value.isoformat()}'"
        case np.datetime64():
            return f"DATETIME '{value}'"
        case uuid.UUID():
            return f"UUID '{value}'"
    return repr(value)


def _list(values):
    return f"({', '.join(map(_literal, values))})"


def printed(node):
    """A filter in the string notation. Its And and Or nodes must not be empty."""
    match node:
        case f.All():
            return "TRUE"
        case f.Nothing():
            return "FALSE"
        case f.And(children):
            return " AND ".join(f"({printed(child)})" for child in children)
        case f.Or(children):
            return " OR ".join(f"({printed(child)})" if isinstance(child, f.Or) else printed(child) for child in children)
        case f.Not(child):
            return f"NOT ({printed(child)})"
        case f.Compare(field, op, value):
            return f"{field} {SYMBOLS[op]} {_literal(value)}"
        case f.Between(field, low, high):
            return f"{field} BETWEEN {_literal(low)} AND {_literal(high)}"
        case f.In(field, values):
            return f"{field} IN {_list(values)}"
        case f.ContainsAny(field, values):
            return f"{field} CONTAINS ANY {_list(values)}"
        case f.ContainsAll(field, values):
            return f"{field} CONTAINS ALL {_list(values)}"
        case f.IsNull(field):
            return f"{field} IS NULL"
        case e.IsMissing(field):
            return f"{field} IS MISSING"
        case e.Fold(field, mode, value):
            return f"{field} {FOLDS[mode]} {_literal(value)}"
        case e.SomeNotIn(field, values):
            return f"{field} SOME NOT IN {_list(values)}"
        case e.GeoPolygon(field, points):
            return f"GEO_POLYGON({field}, {', '.join(f'{lat!r}, {lon!r}' for lat, lon in points)})"
        case e.MinShould(children, n):
            return f"MIN_SHOULD({', '.join([str(n), *map(printed, children)])})"
        case e.AnyElement(field, child):
            return f"{field} ANY ({printed(child)})"
        case f.Count(field, op, n):
            return f"COUNT({field}) {SYMBOLS[op]} {n}"
        case f.Match(field, mode, text):
            return f"{field} MATCH {mode} {_literal(text)}"
        case f.Prefix(field, value):
            return f"{field} STARTSWITH {_literal(value)}"
        case f.Glob(field, pattern):
            return f"{field} GLOB {_literal(pattern)}"
        case f.HasId(ids):
            return f"HAS_ID{_list(ids)}"
        case f.HasVector(field):
            return f"HAS_VECTOR({field})"
        case f.GeoRadius(field, lat, lon, meters):
            return f"GEO_RADIUS({field}, {lat!r}, {lon!r}, {meters!r})"
        case f.GeoBox(field, south, west, north, east):
            return f"GEO_BOX({field}, {south!r}, {west!r}, {north!r}, {east!r})"
    raise AssertionError(node)
