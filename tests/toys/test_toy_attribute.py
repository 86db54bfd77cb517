"""A type of attributes that is not in the package: versions such as 1.10.2, in the order of versions. One class, registered by one line."""

from __future__ import annotations

import itertools
import json
import operator
import re
from dataclasses import astuple, dataclass

import numpy as np
import pytest
from vectordb_client import Client, Dense, F, Int, InvalidArgumentError, Keyword, Schema, SchemaError
from vectordb_client.errors import FilterError
from vectordb_client.model.attributes import ATTRIBUTE_TYPES
from vectordb_client.model.attributes.base import RANGES, AttributeType, wrong

import vectordb
from tests.support.places import serving
from vectordb.engine.check import check
from vectordb.transfer import export_points, import_points, infer_schema

PART = 1 << 20  # a version has three numbers below this one


@dataclass(frozen=True, order=True)
class Version:
    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return ".".join(map(str, astuple(self)))


class SemVer(AttributeType):
    """Versions: ``Version(1, 10, 2)`` or "1.10.2"."""

    kind = "semver"
    stored = "int64"
    operators = RANGES
    plain = False
    python = (Version,)

    def coerce_one(self, name, value):
        try:
            version = self.from_json(value) if isinstance(value, str) else value
        except ValueError:
            raise wrong(name, value, "a version such as '1.10.2'") from None
        if not isinstance(version, Version) or not all(0 <= number < PART for number in astuple(version)):
            raise wrong(name, value, "a version such as '1.10.2'")
        return (version.major * PART + version.minor) * PART + version.patch

    def restore_one(self, stored):
        return Version(stored // PART**2, stored // PART % PART, stored % PART)

    def to_json(self, value):
        return str(value)

    def from_json(self, value):
        if not self.is_in_text(value):
            raise ValueError(value)
        return Version(*map(int, value.split(".")))

    @staticmethod
    def is_in_text(text):
        return re.fullmatch(r"\d+\.\d+\.\d+", text, re.ASCII) is not None

    def to_arrow(self, stored):
        return str(self.restore_one(stored))


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(ATTRIBUTE_TYPES, SemVer.kind, SemVer)


VERSIONS = [Version(1, 2, 3), Version(1, 10, 0), Version(1, 9, 12), None, Version(0, 0, 0), Version(2, 0, 0), Version(1, 2, 3)]
LISTS = [[], VERSIONS[:2], [Version(1, 10, 0)], None, [Version(0, 0, 1), Version(3, 0, 0)], [Version(1, 2, 3)], VERSIONS[4:]]
IDS = list(range(len(VERSIONS)))
VECTORS = np.eye(len(IDS), 8, dtype=np.float32) + 1


def schema() -> Schema:
    return Schema({"v": Dense(8)}, {"version": SemVer(), "versions": SemVer(array=True), "n": Int()})


def fill(opened) -> vectordb.Collection:
    docs = opened.create_collection("docs", schema())
    docs.upsert(ids=IDS, vectors={"v": VECTORS}, attributes={"version": VERSIONS, "versions": LISTS, "n": IDS})
    return docs


@pytest.fixture
def docs(database):
    return fill(database)


def found(docs, condition) -> list[int]:
    return sorted(point.id for point in docs.iterate(filter=condition, with_attributes=False))


def test_values_come_back_as_they_were_written(docs):
    assert [point.attributes.get("version") for point in docs.get(IDS)] == VERSIONS
    assert [point.attributes.get("versions") for point in docs.get(IDS)] == LISTS
    docs.update(ids=[3], attributes={"version": ["1.0.0"]})
    (hit,) = docs.search({"v": VECTORS[3]}, filter=F("version") == Version(1, 0, 0), with_attributes=True)
    assert hit.id == 3 and hit.attributes["version"] == Version(1, 0, 0)
    with pytest.raises(InvalidArgumentError, match=r"version must be a version such as .1\.10\.2., not .1\.x."):
        docs.upsert(ids=[9], attributes={"version": ["1.x"]})


@pytest.mark.parametrize("form", [lambda version: version, str], ids=["version", "text"])
def test_filters_compare_as_versions_do(docs, form):
    for bound in [*filter(None, VERSIONS), Version(1, 5, 0), Version(9, 9, 9)]:
        for name in ("eq", "lt", "le", "gt", "ge"):
            compare = getattr(operator, name)
            wanted = [i for i in IDS if VERSIONS[i] is not None and compare(VERSIONS[i], bound)]
            assert found(docs, compare(F("version"), form(bound))) == wanted
            wanted = [i for i in IDS if any(compare(version, bound) for version in LISTS[i] or ())]
            assert found(docs, compare(F("versions"), form(bound))) == wanted
        assert found(docs, F("version") != form(bound)) == [i for i in IDS if VERSIONS[i] != bound]
    for low, high in itertools.combinations(sorted(filter(None, VERSIONS)), 2):
        wanted = [i for i in IDS if VERSIONS[i] is not None and low <= VERSIONS[i] <= high]
        assert found(docs, F("version").between(form(low), form(high))) == wanted
        assert found(docs, F("version").isin([form(low), form(high)])) == [i for i in IDS if VERSIONS[i] in (low, high)]
    assert found(docs, F("versions").contains_all([form(Version(1, 2, 3)), form(Version(1, 10, 0))])) == [1]
    assert found(docs, F("version").is_null()) == [3]
    assert found(docs, F("versions").count() >= 2) == [1, 4, 6]
    assert found(docs, "version >= '1.9.0' AND version < '2.0.0'") == [1, 2]
    assert found(docs, {"op": "gt", "field": "version", "value": {"semver": "1.10.0"}}) == [5]


def test_what_the_type_lacks_is_refused(docs):
    with pytest.raises(FilterError, match="'version' is SemVer, which supports only comparisons, IN and BETWEEN; use a Text attribute"):
        docs.count(filter=F("version").match_all("1"))
    with pytest.raises(FilterError, match="'versions' is an array of SemVer: versions must be a version"):
        docs.count(filter=F("versions") > "1")


def test_it_is_described_and_explained(docs):
    facts = docs.info().statistics["version"]
    assert (facts["kind"], facts["rows"]) == ("semver", 6)
    assert docs.info().schema == schema()
    plan = docs.search({"v": VECTORS[0]}, filter="version < '1.9.0'", explain=True).plan
    assert plan["filter"]["matches"] == 3
    hits = docs.search({"v": VECTORS[1]}, limit=1, with_attributes=["version", "versions"])
    assert json.loads(hits.to_json())[0]["attributes"] == {"version": "1.10.0", "versions": ["1.2.3", "1.10.0"]}
    assert hits.to_arrow()["versions"].to_pylist() == [["1.2.3", "1.10.0"]]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_files_keep_it(docs, embedded, tmp_path, ending):
    path = tmp_path / f"docs.{ending}"
    assert export_points(docs, path, with_vectors=True) == len(IDS)
    again = embedded.create_collection("again", schema())
    import_points(again, path)
    for old, new in zip(docs.get(IDS), again.get(IDS), strict=True):
        assert old.attributes == new.attributes


def test_a_column_of_versions_is_recognised(tmp_path):
    path = tmp_path / "file.csv"
    path.write_text("id,version,name\n1,1.2.3,a\n2,1.10.0,b\n")
    assert infer_schema(path).attributes == {"version": SemVer(), "name": Keyword()}


def test_it_is_checked(directory, monkeypatch):
    with vectordb.open(directory) as opened:
        fill(opened)
    assert check(directory).problems == ()
    monkeypatch.setattr(SemVer, "stored", "float64")
    problems = check(directory).problems
    assert len(problems) == 2 and all("part 0 differs from the records" in problem for problem in problems)
    monkeypatch.undo()
    monkeypatch.setitem(ATTRIBUTE_TYPES, SemVer.kind, SemVer)


def test_without_the_type_the_collection_is_refused_and_others_work(tmp_path, monkeypatch):
    directory = tmp_path / "apart"
    with vectordb.open(directory) as opened:
        fill(opened)
        opened.create_collection("plain", Schema(attributes={"n": Int()})).upsert(ids=[1], attributes={"n": [7]})
    monkeypatch.delitem(ATTRIBUTE_TYPES, SemVer.kind)
    (problem,) = check(directory).problems
    refused = "kind of attribute 'version' must be one of .*, not 'semver'"
    assert re.search(refused, problem)
    with vectordb.open(directory) as opened:
        with serving(opened) as address, Client(address) as client:
            for database in (opened, client):
                with pytest.raises(SchemaError, match=refused) as caught:
                    database.collection("docs").count()
                assert caught.value.field == "version" and caught.value.value == "semver"
                plain = database.collection("plain")
                plain.upsert(ids=[2], attributes={"n": [8]})
                assert plain.count(filter=F("n") >= 7) == 2
                assert database.collections() == ["docs", "plain"]
        opened.drop_collection("docs")
        assert opened.collections() == ["plain"]
    assert check(directory).problems == ()
