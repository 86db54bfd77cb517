"""The project's files: they exist and parse, their links work, and facts stated in several of them agree."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from collections import Counter

import pytest
import yaml

from tests.support.paths import ROOT

DISTRIBUTIONS = {"hybrid-vectordb": ".", "hybrid-vectordb-client": "client", "hybrid-vectordb-bench": "bench"}
DOCUMENTS = ["CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "RELEASING.md", "CHANGELOG.md"]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def _tool(name: str):
    """A program of tools/, imported from its file: the folder is no package, so it can't be imported by name."""
    specification = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


ratchet = _tool("check_types")


def project(folder: str) -> dict:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]


def python_versions(folder: str = ".") -> list[str]:
    """The versions 3.x that the classifiers name."""
    named = (re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", text) for text in project(folder)["classifiers"])
    return [match[1] for match in named if match]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_of_documents_lead_to_files(name):
    text = (ROOT / name).read_text()
    assert text.startswith("# ")
    links = [target for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    missing = [target for target in links if not (ROOT / target.split("#")[0]).exists()]
    assert not missing


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "RELEASING.md"])
def test_files_and_make_targets_that_documents_name_exist(name):
    text = (ROOT / name).read_text()
    makefile = (ROOT / "Makefile").read_text()
    commands = re.findall(r"`make ([a-z-]+)`", text) + re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)
    assert commands
    for target in commands:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    paths = re.findall(r"`((?:tools|tests|client|bench|proto|docs|\.github|\.ci)/[\w./-]*)`", text)
    assert paths
    assert not [path for path in paths if not (ROOT / path).exists()]


@pytest.mark.parametrize("name, folder", DISTRIBUTIONS.items())
def test_a_distribution_has_the_name_and_the_metadata_that_the_others_have(name, folder):
    metadata = project(folder)
    assert metadata["name"] == name and name in (ROOT / "RELEASING.md").read_text()
    assert metadata["requires-python"] == project(".")["requires-python"]
    assert python_versions(folder) == python_versions(".")
    assert metadata["keywords"] and metadata["description"] and metadata["license"] == "Apache-2.0"
    assert (ROOT / folder / metadata["readme"]).is_file()


def test_classifiers_start_at_the_oldest_python_that_is_allowed():
    assert project(".")["requires-python"] == f">={python_versions()[0]}"


def test_ci_runs_every_python_that_the_classifiers_name():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    matrix = jobs["tests"]["strategy"]["matrix"]
    assert matrix["python"] == python_versions()
    assert any("ubuntu" in name for name in matrix["os"]) and any("macos" in name for name in matrix["os"])
    newest = re.search(r"for version in ([\d. ]+); do", (ROOT / ".ci" / "newest-python").read_text())
    assert newest is not None and newest[1].split() == python_versions()[:0:-1]


def test_the_type_checker_and_the_linter_assume_the_oldest_python():
    oldest = python_versions()[0]
    assert json.loads((ROOT / "pyrightconfig.json").read_text())["pythonVersion"] == oldest
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    assert ruff["target-version"] == "py" + oldest.replace(".", "")


def test_packages_that_claim_types_ship_the_marker():
    for folder, package, path in [(".", "vectordb", "vectordb"), ("client", "vectordb_client", "client/vectordb_client")]:
        assert "Typing :: Typed" in project(folder)["classifiers"]
        tools = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["tool"]["setuptools"]
        assert (ROOT / path / "py.typed").is_file() and "py.typed" in tools["package-data"][package]


def test_all_distributions_have_the_same_version():
    files = ["client/vectordb_client/_version.py", "bench/_version.py"]
    versions = {re.search(r'^__version__ = "(\d+\.\d+\.\d+)"', (ROOT / file).read_text(), re.MULTILINE)[1] for file in files}
    assert len(versions) == 1
    import vectordb_client

    import vectordb

    assert versions == {vectordb.__version__} == {vectordb_client.__version__}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_parses_and_runs_what_exists(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["name"] and workflow[True]  # YAML reads the key `on` as true
    assert workflow["permissions"] == {"contents": "read"}
    makefile = (ROOT / "Makefile").read_text()
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] > 0
        steps = [step["run"] for step in job["steps"] if "run" in step]
        assert steps
        for step in steps:
            command, *rest = step.split()
            if command == "make":
                assert re.search(rf"^{rest[0]}:", makefile, re.MULTILINE), step
            else:
                assert (ROOT / command).is_file() and (ROOT / command).stat().st_mode & 0o111, step


@pytest.mark.parametrize("path", [form for form in FORMS if form.name != "config.yml"], ids=lambda path: path.name)
def test_an_issue_form_is_complete(path):
    form = yaml.safe_load(path.read_text())
    assert form["name"] and form["description"]
    asked = [field for field in form["body"] if field["type"] != "markdown"]
    assert any(field.get("validations", {}).get("required") for field in asked)
    assert len({field["id"] for field in asked}) == len(asked)
    assert all(field["attributes"]["label"] for field in asked)


def test_there_are_forms_and_a_pull_request_template():
    assert {"bug.yml", "feature.yml", "documentation.yml", "config.yml"} == {form.name for form in FORMS}
    assert "- [ ]" in (ROOT / ".github" / "pull_request_template.md").read_text()


def test_pre_commit_runs_what_ci_runs():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = {hook["id"]: hook["entry"] for repository in config["repos"] for hook in repository["hooks"]}
    assert set(hooks) == {"ruff", "ruff-format", "proto", "pyright"}
    makefile = (ROOT / "Makefile").read_text()
    for entry in hooks.values():
        command, argument = entry.split()[:2]
        assert command == ".venv/bin/ruff" or re.search(rf"^{argument}:", makefile, re.MULTILINE), entry


@pytest.mark.parametrize("script", ["run", "newest-python"])
def test_ci_scripts_can_be_run(script):
    path = ROOT / ".ci" / script
    assert path.stat().st_mode & 0o111 and path.read_text().startswith("#!/usr/bin/env bash\n")
    for target in re.findall(r"^make ([a-z-]+)$", path.read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


def test_every_change_of_the_changelog_is_one_line_under_a_kind_of_change():
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    section = ""
    released = 0
    for number, line in enumerate((ROOT / "CHANGELOG.md").read_text().splitlines(), 1):
        if line.startswith("## "):
            assert re.fullmatch(r"## (Unreleased|\d+\.\d+\.\d+( - \d{4}-\d\d-\d\d)?)", line), number
            section, released = "", released + 1
        elif line.startswith("### "):
            section = line[4:]
            assert section in kinds, f"line {number}: {line}"
        elif line.startswith("- "):
            assert section, f"line {number} stands under no kind of change"
        elif section:
            assert not line, f"line {number} continues a change: write a change on one line"
    assert released >= 2


def test_type_errors_may_fall_and_not_rise():
    baseline = {"a": 3, "b": 2, "c": 1}
    counted = Counter({"a": 2, "b": 4, "d": 1})
    assert ratchet.compare(counted, baseline) == ({"b": 4, "d": 1}, {"a": 2, "c": 0})
    assert ratchet.lowered(counted, baseline) == {"a": 2, "b": 2}
    assert ratchet.compare(Counter(baseline), baseline) == ({}, {})


def test_type_errors_are_counted_by_package_and_warnings_are_not():
    report = {
        "summary": {"filesAnalyzed": 2},
        "generalDiagnostics": [
            {"file": str(ROOT / "vectordb/storage/lmdb_env.py"), "severity": "error"},
            {"file": str(ROOT / "vectordb/collection.py"), "severity": "error"},
            {"file": str(ROOT / "vectordb/collection.py"), "severity": "warning"},
        ],
    }
    assert [ratchet.package_of(found["file"]) for found in ratchet.errors_of(report)] == ["vectordb/storage", "vectordb"]
    with pytest.raises(SystemExit, match="no file"):
        ratchet.errors_of({"summary": {"filesAnalyzed": 0}, "generalDiagnostics": []})


def test_the_baseline_names_packages_that_exist_and_none_of_the_client():
    baseline = json.loads((ROOT / "tools" / "types-baseline.json").read_text())
    assert all((ROOT / name / "__init__.py").is_file() and number > 0 for name, number in baseline.items())
    assert not [name for name in baseline if name.startswith("client/")]
