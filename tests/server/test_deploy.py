"""The deployment files: every command, flag, setting, file and metric in them exists."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib

import pytest
import yaml

from tests.support.paths import ROOT
from vectordb.cli import parser
from vectordb.server import settings
from vectordb.server.telemetry import metrics

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def parses(words: list[str]) -> None:
    """The command line exists: command, flags and kinds of values."""
    parser().parse_args(words)


def commands(text: str) -> list[list[str]]:
    """The ``vectordb …`` command lines of a text."""
    return [
        shlex.split(line, comments=True) for line in re.findall(r"^\s*(?:/opt/vectordb/bin/)?vectordb ([a-z]+ .*)$", text, re.MULTILINE)
    ]


def test_the_image_runs_commands_that_exist_as_somebody_who_is_not_root():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    words = {line.split()[0]: line for line in lines if line and line.split()[0].isupper()}
    (health,) = re.findall(r"^\s+CMD (\[.*\])$", "\n".join(lines), re.MULTILINE)
    assert json.loads(health)[0] == "vectordb"
    parses(json.loads(health)[1:])
    assert json.loads(words["ENTRYPOINT"].split(None, 1)[1]) == ["vectordb"]
    parses(json.loads(words["CMD"].split(None, 1)[1]))
    assert words["USER"].split()[1] not in ("root", "0")
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert not {"vectordb", "client", "tools", "setup.py", "MANIFEST.in", "pyproject.toml"} & set(ignored)


def test_the_services_of_the_compose_file_name_files_and_commands_that_exist():
    services = COMPOSE["services"]
    assert set(services) == {"vectordb", "prometheus", "grafana"}
    for service in services.values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            made = source == "./deploy/tls"  # by deploy/certificates.sh
            assert made or (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], volume
    ours = services["vectordb"]
    parses(ours["command"])
    assert ours["healthcheck"]["test"][:2] == ["CMD", "vectordb"]
    parses(ours["healthcheck"]["test"][2:])
    assert set(ours.get("environment", {})) <= {settings.PREFIX + name.upper() for name in settings.NAMES}


def test_the_settings_of_the_container_exist_and_say_what_the_others_expect():
    given = tomllib.loads((DEPLOY / "vectordb.toml").read_text())
    known = settings.Settings(**given)
    (job,) = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [f"vectordb:{known.metrics_port}"]
    assert COMPOSE["services"]["vectordb"]["ports"] == [f"{known.port}:{known.port}"]
    assert int(COMPOSE["services"]["vectordb"]["stop_grace_period"].removesuffix("s")) > known.grace


def test_grafana_finds_its_data_and_its_dashboard():
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "vectordb.yml").read_text())["providers"]
    mounted = dict(volume.split(":")[1::-1] for volume in COMPOSE["services"]["grafana"]["volumes"])
    folder = ROOT / mounted[provider["options"]["path"]]
    assert [path.name for path in folder.iterdir()] == ["vectordb.json"]
    for panel in json.loads((folder / "vectordb.json").read_text())["panels"]:
        assert panel["datasource"]["uid"] == source["uid"] and panel["targets"]


def test_the_dashboard_asks_for_metrics_that_are_exported_by_labels_that_they_have():
    exported, asked = metrics.exported(), set()
    for panel in json.loads((DEPLOY / "grafana" / "dashboards" / "vectordb.json").read_text())["panels"]:
        for target in panel["targets"]:
            labels = set()
            for name in re.findall(r"vectordb_\w+", target["expr"]):
                base = name if name in exported else re.sub(r"_(bucket|sum|count)$", "", name)
                assert base in exported, name
                assert (base == name) == (exported[base].kind != "histogram"), f"{name}: parts are of histograms only"
                labels |= set(exported[base].labels)
                asked.add(base)
            grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in group.split(",")}
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert grouped <= labels | {"le"} and shown <= labels, target
    assert len(asked) > 20


def test_the_unit_file_starts_a_command_that_exists():
    unit = (DEPLOY / "vectordb.service").read_text()
    (start,) = re.findall(r"^ExecStart=/opt/vectordb/bin/vectordb (.*)$", unit, re.MULTILINE)
    parses(shlex.split(start))
    assert int(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[1]) > settings.Settings().grace


def test_the_snapshot_script_runs_commands_that_exist_and_keeps_the_newest(tmp_path):
    script = (DEPLOY / "snapshot.sh").read_text()
    found = commands(script)
    assert [words[0] for words in found] == ["snapshot", "check"]
    for words in found:
        parses(words)
    # The script itself, with a stand-in for the program.
    program = tmp_path / "bin" / "vectordb"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\ncase "$1" in\nsnapshot) mkdir "$4" ;;\ncheck) [ -d "$3" ] && [ ! -e "$BAD" ] ;;\nesac\n')
    program.chmod(0o755)
    backups = tmp_path / "backups"
    for day in range(1, 5):
        (backups / f"2024010{day}T033000Z").mkdir(parents=True)
    (backups / "mine").mkdir()
    environment = {"PATH": f"{program.parent}:/usr/bin:/bin", "BAD": str(tmp_path / "bad")}
    command = ["sh", str(DEPLOY / "snapshot.sh"), str(tmp_path), str(backups), "3"]
    subprocess.run(command, env=environment, check=True)
    kept = sorted(path.name for path in backups.iterdir())
    assert kept[:2] == ["20240103T033000Z", "20240104T033000Z"] and len(kept) == 4 and kept[3] == "mine"
    (tmp_path / "bad").touch()
    assert subprocess.run(command, env=environment).returncode != 0
    assert sorted(path.name for path in backups.iterdir()) == kept, "what didn't pass the check doesn't count, and nothing goes for it"
    cron = (DEPLOY / "snapshots.cron").read_text()
    assert re.search(r"^30 3 \* \* \* vectordb sh /etc/vectordb/snapshot\.sh \S+ \S+ 7$", cron, re.MULTILINE)


def test_the_certificates_are_what_a_client_trusts(tmp_path):
    if subprocess.run(["sh", "-c", "command -v openssl"], capture_output=True).returncode:
        pytest.skip("no openssl here")
    folder = tmp_path / "tls"
    subprocess.run(["sh", str(DEPLOY / "certificates.sh"), str(folder), "db.example"], check=True, capture_output=True)
    assert sorted(path.name for path in folder.iterdir()) == ["ca-key.pem", "ca.pem", "server-key.pem", "server.pem"]
    assert (folder / "ca-key.pem").stat().st_mode & 0o077 == 0
    for name in ("localhost", "db.example"):
        verify = ["openssl", "verify", "-CAfile", folder / "ca.pem", "-verify_hostname", name, folder / "server.pem"]
        subprocess.run(verify, check=True, capture_output=True)
    again = subprocess.run(["sh", str(DEPLOY / "certificates.sh"), str(folder)], capture_output=True, text=True)
    assert again.returncode == 1 and "already exists" in again.stderr


def test_the_page_on_deploying_names_commands_and_files_that_exist():
    page = (ROOT / "docs" / "OPERATIONS.md").read_text()
    given = re.findall(r"docker compose run --rm vectordb (.*)$", page + (ROOT / "docker-compose.yml").read_text(), re.MULTILINE)
    assert len(given) == 2
    for line in given:
        parses(shlex.split(line))
    for path in set(re.findall(r"deploy/[\w.-]+[\w]", page)) - {"deploy/tls"}:
        assert (ROOT / path).exists(), path


def test_the_documents_tables_are_those_of_the_code():
    page = (ROOT / "docs" / "OPERATIONS.md").read_text()
    assert metrics.table() in page and settings.table() in (ROOT / "docs" / "reference" / "settings.md").read_text()
    for words in commands("\n".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL))):
        parses(words)
