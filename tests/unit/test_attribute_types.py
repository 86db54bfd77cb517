"""The contract of attribute types: what differs between types is in their files, and nowhere else."""

from __future__ import annotations

import ast
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vectordb_client.model.attributes import ATTRIBUTE_TYPES
from vectordb_client.model.attributes.base import AttributeType
from vectordb_client.v1 import vectordb_pb2 as pb

from tests.support.filter_model import KINDS, STORED
from tests.support.paths import ROOT
from vectordb.filters.sets import DOMAINS, Ordered
from vectordb.storage import attribute_forms, format

CLASSES = {cls.__name__ for cls in ATTRIBUTE_TYPES.values()}
OWN = {ROOT / "client" / "vectordb_client" / "model" / "schema.py"}
FILES = sorted(
    path
    for folder in (ROOT / "vectordb", ROOT / "client" / "vectordb_client")
    for path in folder.rglob("*.py")
    if path not in OWN and path.parent.name not in ("attributes", "v1")
)


def names_types(node: ast.AST) -> int:
    """How many types the strings in some code name."""
    strings = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)}
    return len(strings & set(ATTRIBUTE_TYPES))


def asks_for_a_type(node: ast.AST) -> bool:
    """Whether code compares ``….kind`` with the name of a type, looks up such names in a dict, or tests for the class of a type."""
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        return names_types(node) > 0 and any(isinstance(side, ast.Attribute) and side.attr == "kind" for side in sides)
    if isinstance(node, ast.Dict):
        return sum(names_types(key) for key in node.keys if isinstance(key, ast.Constant)) > 2
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass"):
        return any(isinstance(each, ast.Name) and each.id in CLASSES for each in ast.walk(node.args[1]))
    return False


def test_nobody_asks_which_type_an_attribute_has():
    asking = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if asks_for_a_type(node)
    ]
    assert len(FILES) > 300 and not asking, f"these lines ask for the type of an attribute; ask the type instead: {asking}"


@pytest.mark.parametrize(
    "code", ["spec.kind == 'uuid'", "x.kind in ('text', 'geo')", "isinstance(spec, (Text, Keyword))", "{'int': 1, 'float': 2, 'bool': 3}"]
)
def test_the_search_for_such_code_finds_it(code):
    assert any(map(asks_for_a_type, ast.walk(ast.parse(code))))


@pytest.mark.parametrize("kind", ATTRIBUTE_TYPES)
def test_each_type_names_a_stored_form_and_operators_that_fit(kind):
    cls = ATTRIBUTE_TYPES[kind]
    assert issubclass(cls, AttributeType) and cls.kind == kind
    form = attribute_forms.FORMS[cls.stored]
    assert ("=" in cls.operators.names) == (cls.stored in DOMAINS)
    numbers = cls.stored in DOMAINS and isinstance(DOMAINS[cls.stored], Ordered) and form.dtype is not None
    assert "<" not in cls.operators.names or numbers or cls.stored == "string"
    for array in (False, True):
        parts = attribute_forms.parts_of(cls(array))
        assert attribute_forms.main_part(cls(array)) in parts and (format.COUNTS in parts) == array
    assert not cls.message_list or cls.message_list in pb.AttributeForms.DESCRIPTOR.fields_by_name


@given(st.data())
@pytest.mark.parametrize("name", STORED)
def test_every_form_of_a_value_is_read_back(name, data):
    spec = KINDS[name]()
    stored = spec.coerce(name, data.draw(STORED[name]))
    value = spec.restore(stored)
    sent = json.loads(json.dumps(spec.to_json(value)))
    assert stored == spec.coerce(name, value) == spec.coerce(name, sent) == spec.coerce(name, spec.from_file(sent))
    assert spec.from_answer(sent) == value
    assert spec.coerce(name, spec.from_cell(name, spec.to_cell(value))) == stored
