"""The reference of filters: its three notations agree, every operation is listed, and each type supports what its row says."""

from __future__ import annotations

import json
import re

import pytest
from vectordb_client.model.filter import _FORMS

from tests.support.paths import ROOT
from vectordb import SAE, Bool, Datetime, Dense, F, FilterError, Float, Geo, Int, Keyword, Schema, Sparse, Text, Uuid
from vectordb.filters import as_filter
from vectordb.filters.canonical import canonical

PAGE = (ROOT / "docs" / "reference" / "filters.md").read_text()
TYPES = {"Keyword": Keyword, "Text": Text, "Int": Int, "Float": Float, "Datetime": Datetime, "Bool": Bool, "Uuid": Uuid, "Geo": Geo}
VALUES = {
    "Keyword": "'x'",
    "Text": "'x'",
    "Int": "1",
    "Float": "1.5",
    "Datetime": "'2021-05-01'",
    "Bool": "true",
    "Uuid": "'12345678-1234-5678-1234-567812345678'",
    "Geo": "'x'",
}
FORMS = {
    **{op: f"a {op} {{}}" for op in ("=", "!=", "<", "<=", ">", ">=")},
    "IN": "a IN ({})",
    "BETWEEN": "a BETWEEN {} AND {}",
    **{f"MATCH {mode}".strip(): f"a MATCH {mode} 'x y'" for mode in ("ANY", "ALL", "PHRASE", "")},
    "STARTSWITH": "a STARTSWITH 'x'",
    "GLOB": "a GLOB 'x*'",
    **{name: f"a {name} 'x'" for name in ("CONTAINS", "IEQ", "ISTARTSWITH", "ICONTAINS")},
    "GEO_POLYGON": "GEO_POLYGON(a, 1, 2, 3, 4, 5, 2)",
    "GEO_RADIUS": "GEO_RADIUS(a, 1, 2, 3)",
    "GEO_BOX": "GEO_BOX(a, 1, 2, 3, 4)",
    "IS NULL": "a IS NULL",
    "IS NOT NULL": "a IS NOT NULL",
}


def test_the_notations_of_a_row_mean_the_same():
    attributes = {"lines": Int(), "module": Keyword(), "tags": Keyword(array=True), "body": Text(), "place": Geo()}
    schema = Schema({"text": Dense(8), "codes": Sparse(derived=SAE("text", hidden=32, k=8))}, attributes)
    rows = re.findall(r"^\| [a-z, ]+ \| (`F.*?) \| (`.*?) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 17
    for python, string in rows:
        for left, right in zip(re.findall("`([^`]+)`", python), re.findall("`([^`]+)`", string), strict=True):
            assert canonical(eval(left, {"F": F}), schema) == canonical(as_filter(right), schema), left


def test_every_operation_of_the_json_notation_is_listed_with_its_keys():
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    tags = F("tags").contains_any(["io", "text"])
    assert as_filter(json.loads(example)) == (F("package") == "numpy") & F("module").isin(["json", "csv"]) & ~tags
    table = re.search(r"^\| op \| keys \|\n\| --- \| --- \|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)[1]
    shown = {}
    for ops, keys in re.findall(r"^\| ([^|]*) \| ([^|]*) \|$", table, re.MULTILINE):
        for some, theirs in zip(ops.split(";"), keys.split(";"), strict=True):
            shown |= {op: set(re.findall("`([a-z_]+)`", theirs)) for op in re.findall("`([^`]+)`", some)}
    assert set(shown) == set(_FORMS)
    for op, (_, keys) in _FORMS.items():
        assert set(keys) <= shown[op], op


@pytest.mark.parametrize("name", TYPES)
def test_a_type_supports_what_its_row_lists_and_nothing_else(name):
    (row,) = re.findall(rf"^\| [^|]*`{name}`[^|]* \| (.*) \|$", PAGE, re.MULTILINE)
    listed = set(re.findall("`([^`]+)`", row)) | {"IS NULL", "IS NOT NULL"}
    assert listed <= set(FORMS)
    schema = Schema({}, {"a": TYPES[name]()})
    for form, text in FORMS.items():
        try:
            canonical(as_filter(text.replace("{}", VALUES[name])), schema)
            supported = True
        except FilterError:
            supported = False
        assert supported == (form in listed), form


@pytest.mark.parametrize("name", TYPES)
def test_arrays_support_contains_but_for_places(name):
    schema = Schema({}, {"a": TYPES[name](array=True)})
    canonical(as_filter("COUNT(a) >= 2"), schema)
    for form in ("a CONTAINS {}", "a CONTAINS ANY ({})", "a CONTAINS ALL ({})"):
        condition = as_filter(form.replace("{}", VALUES[name]))
        if name == "Geo":
            with pytest.raises(FilterError):
                canonical(condition, schema)
        else:
            canonical(condition, schema)


def test_the_rules_hold():
    schema = Schema({}, {"added": Datetime()})
    canonical(as_filter("added >= '2021-05'"), schema)
    with pytest.raises(FilterError, match="whole period"):
        canonical(as_filter("added = '2021-05'"), schema)
