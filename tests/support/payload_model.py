"""Helpers for tests of filters on the payload: strategies for payloads and filters, and an evaluator of one payload at a time."""

from __future__ import annotations

import fnmatch

from hypothesis import strategies as st
from vectordb_client.model import filter_extended as e
from vectordb_client.model import filter_nodes as f

from tests.support.filter_model import OPERATORS, _folds, _in_box, _in_polygon, _in_radius, _phrase
from vectordb.common.tokenize import words

BIG = [2**53, 2**53 + 1, 2**63, 2**64 - 1, -(2**63)]
TEXTS = ["", "1", "a", "ab", "AB", "b", "red Fox", "straße"]
numbers = st.integers(-2, 3) | st.sampled_from([0.5, 1.0, -0.0, 2.5, 1e300, float(2**53), *BIG])
scalars = st.none() | st.booleans() | numbers | st.sampled_from(TEXTS)
given_values = st.booleans() | numbers | st.sampled_from([*TEXTS, "zz"])
places = st.fixed_dictionaries({"lat": st.sampled_from([0, 10.0, 52.5]), "lon": st.sampled_from([0, 13.4, 179.0, -180])})
KEYS = ["a", "b", "a.b", "items"]
objects = st.dictionaries(st.sampled_from(["a", "b"]), scalars | st.lists(scalars, max_size=2), max_size=2)
values = st.recursive(
    scalars | places,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=2),
    max_leaves=5,
)
payloads = st.none() | st.dictionaries(st.sampled_from(KEYS), values | st.lists(objects, max_size=3), max_size=3)
PATHS = ["a", "b", "a.b", "items", "items.a", "items.b", "a.a"]


def leaves(paths=PATHS):
    path = st.sampled_from(paths)
    same_kind = st.tuples(numbers, numbers) | st.tuples(st.sampled_from(TEXTS), st.sampled_from(TEXTS))
    listed = st.lists(given_values, max_size=3)
    corners = st.just(((0, 0), (20, 0), (20, 20), (0, 20)))
    return st.one_of(
        st.builds(f.Compare, path, st.sampled_from(["eq", "ne"]), given_values),
        st.builds(f.Compare, path, st.sampled_from(["lt", "le", "gt", "ge"]), numbers | st.sampled_from(TEXTS)),
        st.builds(lambda at, pair: f.Between(at, *pair), path, same_kind),
        st.builds(lambda kind, at, some: kind(at, some), st.sampled_from([f.In, e.SomeNotIn]), path, listed),
        st.builds(f.ContainsAll, path, st.lists(given_values, min_size=1, max_size=2)),
        st.builds(lambda kind, at: kind(at), st.sampled_from([f.IsNull, e.IsMissing]), path),
        st.builds(f.Count, path, st.sampled_from(f.COMPARISONS), st.integers(-1, 3)),
        st.builds(f.Match, path, st.sampled_from(f.MODES), st.sampled_from(["red", "fox red", "red fox", ""])),
        st.builds(f.Prefix, path, st.sampled_from(TEXTS)),
        st.builds(f.Glob, path, st.sampled_from(["*", "a?", "[ab]*", "*o*", "a"])),
        st.builds(e.Fold, path, st.sampled_from(e.FOLDED), st.sampled_from(["A", "aB", "STRASSE", ""])),
        st.builds(lambda at: f.GeoRadius(at, 52.5, 13.4, 10), path),
        st.builds(lambda at: f.GeoBox(at, -1, 170, 20, -170), path),
        st.builds(e.GeoPolygon, path, corners),
    )


def combined(leaf):
    return st.recursive(
        leaf,
        lambda inner: (
            st.builds(f.Not, inner)
            | st.builds(f.And, st.lists(inner, max_size=3))
            | st.builds(f.Or, st.lists(inner, max_size=3))
            | st.builds(e.MinShould, st.lists(inner, max_size=3), st.integers(0, 3))
        ),
        max_leaves=5,
    )


inner_filters = combined(leaves(["a", "b"]))
any_element = st.builds(e.AnyElement, st.sampled_from(["items", "a", "a.items"]), inner_filters)
nested = st.builds(e.AnyElement, st.just("a"), combined(leaves(["b"]) | st.builds(e.AnyElement, st.just("items"), inner_filters)))
filters = combined(leaves() | any_element | nested)


def reached(value, path):
    """The values at a path, by every way of splitting it into keys."""
    if isinstance(value, list):
        return [one for each in value for one in reached(each, path)]
    if not isinstance(value, dict):
        return []
    found = [value[path]] if path in value else []
    for i, character in enumerate(path):
        if character == "." and path[:i] in value:
            found += reached(value[path[:i]], path[i + 1 :])
    return found


def flat(value):
    return [one for each in value for one in flat(each)] if isinstance(value, list) else [value]


def _elements(payload, path):
    return [one for value in reached(payload, path) for one in flat(value)]


def _kind(value):
    return "number" if type(value) in (int, float) else type(value).__name__


def _equal(one, value):
    return _kind(one) == _kind(value) and one == value


def _texts(payload, path):
    return [one for one in _elements(payload, path) if isinstance(one, str)]


def _places(payload, path):
    for one in _elements(payload, path):
        pair = (one.get("lat"), one.get("lon")) if isinstance(one, dict) else ()
        if {*map(_kind, pair)} == {"number"} and -90 <= pair[0] <= 90 and -180 <= pair[1] <= 180:
            yield pair


def holds(node, payload):
    """Whether a filter matches a payload."""
    match node:
        case f.All() | f.Nothing():
            return isinstance(node, f.All)
        case f.And(children):
            return all(holds(child, payload) for child in children)
        case f.Or(children):
            return any(holds(child, payload) for child in children)
        case e.MinShould(children, n):
            return sum(holds(child, payload) for child in children) >= n
        case f.Not(child):
            return not holds(child, payload)
        case e.AnyElement(field, child):
            return any(holds(child, one) for one in _elements(payload, field) if isinstance(one, dict))
        case f.Compare(field, "ne", value):
            return not holds(f.Compare(field, "eq", value), payload)
        case f.Compare(field, "eq", value):
            return any(_equal(one, value) for one in _elements(payload, field))
        case f.Compare(field, op, value):
            return any(_kind(one) == _kind(value) and OPERATORS[op](one, value) for one in _elements(payload, field))
        case f.Between(field, low, high):
            return any(_kind(one) == _kind(low) and low <= one <= high for one in _elements(payload, field))
        case f.In(field, given):
            return any(_equal(one, value) for one in _elements(payload, field) for value in given)
        case f.ContainsAll(field, given):
            return all(any(_equal(one, value) for one in _elements(payload, field)) for value in given)
        case e.SomeNotIn(field, given):
            plain = [one for one in _elements(payload, field) if isinstance(one, (bool, int, float, str))]
            return any(not any(_equal(one, value) for value in given) for one in plain)
        case f.IsNull(field):
            return all(value is None for value in reached(payload, field))
        case e.IsMissing(field):
            return not reached(payload, field)
        case f.Count(field, op, n):
            counts = [len(value) if isinstance(value, list) else value is not None for value in reached(payload, field)]
            return OPERATORS[op](sum(counts), n)
        case f.Match(field, mode, text):
            wanted = words(text)
            tests = {"any": lambda found: bool(set(wanted) & set(found)), "all": lambda found: set(wanted) <= set(found)}
            test = tests.get(mode, lambda found: _phrase(found, wanted))
            if mode == "any":
                return any(test(words(one)) for one in _texts(payload, field))
            return bool(wanted) and any(test(words(one)) for one in _texts(payload, field))
        case f.Prefix(field, value):
            return any(one.startswith(value) for one in _texts(payload, field))
        case f.Glob(field, pattern):
            return any(fnmatch.fnmatchcase(one, pattern) for one in _texts(payload, field))
        case e.Fold(field, mode, value):
            return any(_folds(one, mode, value) for one in _texts(payload, field))
        case f.GeoRadius(field):
            return any(_in_radius(place, node) for place in _places(payload, field))
        case f.GeoBox(field):
            return any(_in_box(place, node) for place in _places(payload, field))
        case e.GeoPolygon(field, points):
            return any(_in_polygon(place, points) for place in _places(payload, field))
    raise AssertionError(node)
