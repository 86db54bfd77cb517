"""What a service can be told, in one place: flags, environment, file and documentation are all made from ``Settings``.

A setting ``max_message_bytes`` is the flag ``--max-message-bytes``, the environment's ``VECTORDB_SERVE_MAX_MESSAGE_BYTES`` and the key
``max_message_bytes`` of a TOML file. What is nearest to the command wins: a flag, then the environment, then the file, then the default.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InvalidArgumentError, shown
from ..storage import modes

PREFIX = "VECTORDB_SERVE_"
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _setting(default: Any, about: str, *, least: float = -math.inf, most: float = math.inf, choices: tuple[str, ...] = ()) -> Any:
    """A field: its type is that of its default. Numbers are from ``least`` to ``most``."""
    return field(default=default, metadata={"about": about, "least": least, "most": most, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a service. Raises InvalidArgumentError that names the setting and its value."""

    host: str = _setting("127.0.0.1", "address to listen on")
    port: int = _setting(7070, "port; 0 takes a free one and prints it", least=0, most=65_535)
    threads: int = _setting(4, "calls a caller has at work in a process; one more for others", least=1, most=1024)
    max_message_bytes: int = _setting(64 << 20, "largest request and answer, bytes", least=64 << 10, most=(1 << 31) - 1)
    durability: str = _setting(
        "commit", "commit: a write is on disk when it is answered; batched: soon after", choices=("commit", "batched")
    )
    maintenance: bool = _setting(True, "index, merge and compact in the background")
    grace: float = _setting(10.0, "seconds for calls under way when stopping", least=0, most=86_400)
    # Several processes (workers.py)
    workers: int = _setting(1, "processes that share the port; calls spread over them by connection", least=1, most=64)

    file_mode: str = _setting(
        "", "mode of new files, octal, less the umask (640: a group may read them); as data.mdb has it, or 600, unless given"
    )

    # Who is let in, and what is told of it.
    keys_file: str = _setting("", "API keys (vectordb keys); keys.json in the data directory unless named. Calls need one once it exists")
    tls_cert: str = _setting("", "PEM file of the service's certificate chain; connections are encrypted. Read again when it changes")
    tls_key: str = _setting("", "PEM file of the certificate's private key")
    tls_client_ca: str = _setting("", "PEM file of the authorities whose certificates clients must show (mutual TLS)")
    insecure: bool = _setting(False, "listen beyond this machine without API keys and TLS")
    audit_log: str = _setting("", "file that tells of admin calls and bulk reads, a JSON object a line; none unless named")
    audit_log_bytes: int = _setting(64 << 20, "size at which the audit log is put aside; four old ones are kept", least=4096)

    # Limits. What is refused is answered with RESOURCE_EXHAUSTED, and names the setting.
    write_threads: int = _setting(4, "writes a caller has at work in a process; one more for others", least=1, most=1024)
    queue: int = _setting(512, "calls that wait for a thread, reads and writes each", least=0, most=1 << 20)
    concurrent_requests: int = _setting(256, "calls of a caller in a process, waiting ones included", least=1)
    max_connections: int = _setting(4_096, "connections of a process; at most half of the files it may open", least=1, most=1 << 20)
    max_connections_per_peer: int = _setting(1_024, "connections of a process from one address, this machine's too", least=1, most=1 << 20)
    message_seconds: float = _setting(20.0, "seconds a call has to send its message", least=0.1, most=86_400)
    requests_per_second: float = _setting(100_000.0, "calls of an API key, in all processes of the directory", least=0.001, most=1e9)
    max_limit: int = _setting(100_000, "largest limit and candidates of a search, and limit of a page", least=1, most=100_000)
    max_queries: int = _setting(10_000, "queries of one search", least=1)
    max_batch_hits: int = _setting(4_000_000, "queries of one search times the hits (or candidates) of each", least=1)
    max_points: int = _setting(100_000, "points of one write", least=1, most=100_000)
    max_ids: int = _setting(1_000_000, "ids of one get or delete", least=1)
    max_query_rows: int = _setting(2_048, "rows of a multi-vector that is searched for", least=1)
    max_filter_nodes: int = _setting(100_000, "nodes of a filter, a list counted by its values and a match by its words", least=1)
    max_vector_fields: int = _setting(64, "vector fields of a collection", least=1)
    max_attributes: int = _setting(1_000, "attributes of a collection", least=1)
    max_collections: int = _setting(10_000, "collections", least=1, most=10_000)

    working_memory: int = _setting(
        0,
        "bytes that the calls of a process hold together while they are answered; 0: half of the memory there is, shared by the workers",
        least=0,
    )
    request_memory: int = _setting(0, "bytes of it that one call may hold; 0: half of working_memory", least=0)

    # What is told of the service while it runs
    metrics_port: int = _setting(0, "port of Prometheus metrics over HTTP; 0: none", least=0, most=65_535)
    metrics_host: str = _setting("127.0.0.1", "address of the metrics")
    recall_audit: float = _setting(1 / 64, "share of single searches done again exactly in the background, 0 to 1", least=0, most=1)
    slow_query_ms: float = _setting(1000.0, "milliseconds from which a read is logged as slow; 0: none is", least=0)
    slow_query_log: str = _setting("", "file of slow queries, JSON lines; empty: stderr")
    slow_query_values: bool = _setting(False, "the values of filters too in the log of slow queries")
    log_format: str = _setting("text", "lines of the log", choices=("text", "json"))
    log_level: str = _setting("info", "least level logged; debug has a line a call", choices=("debug", "info", "warning", "error"))
    tracing: bool = _setting(False, "OpenTelemetry spans, sent as OTEL_* variables say; needs vectordb[otel]")

    # Keeping data.
    snapshot_dir: str = _setting("", "folder for the snapshots that clients ask for; without it they can't")
    change_log_batches: int = _setting(65_536, "batches of a collection that the change stream can tell of", least=1)
    change_log_bytes: int = _setting(64 << 20, "bytes of a collection's change log", least=0)
    change_log_seconds: float = _setting(30 * 86_400.0, "age of the oldest batch in a collection's change log", least=1, most=1e9)
    change_streams: int = _setting(16, "change streams answered at a time, each by a thread of its own", least=1, most=1024)

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            object.__setattr__(self, setting.name, _checked(setting, getattr(self, setting.name)))
        if self.file_mode:
            modes.parse_mode(self.file_mode)
        if not self.host:
            raise InvalidArgumentError("host must be a name or an address, not ''", field="host", value=self.host)
        for name, needed in (("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("tls_client_ca", "tls_cert")):
            if getattr(self, name) and not getattr(self, needed):
                raise InvalidArgumentError(f"{name} needs {needed} too", field=needed, value="")

    @property
    def mode(self) -> int | None:
        """``file_mode`` as a number; None where it isn't given."""
        return modes.parse_mode(self.file_mode) if self.file_mode else None


NAMES = tuple(setting.name for setting in dataclasses.fields(Settings))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A flag a setting, and ``--config FILE``. What isn't given isn't in the namespace."""
    parser.add_argument("--config", metavar="FILE", type=Path, default=argparse.SUPPRESS, help="settings as TOML: name = value")
    for setting in dataclasses.fields(Settings):
        about = setting.metadata["about"] + (f" ({_said(setting.default)})" if setting.default != "" else "")
        flag = "--" + setting.name.replace("_", "-")
        if isinstance(setting.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=about)
        else:
            choices = setting.metadata["choices"] or None
            parser.add_argument(flag, type=type(setting.default), choices=choices, default=argparse.SUPPRESS, help=about)


def gather(flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None = None) -> Settings:
    """The settings of a command line, an environment and a file. Names that no setting has are refused, in the environment too."""
    known = {setting.name: setting for setting in dataclasses.fields(Settings)}
    chosen: dict[str, Any] = {}
    for name, value in (_read(file) if file is not None else {}).items():
        chosen[_known(name, known, str(file))] = value
    for variable, text in environ.items():
        if variable.startswith(PREFIX):
            name = _known(variable[len(PREFIX) :].lower(), known, "the environment")
            chosen[name] = _parsed(known[name], text, variable)
    return Settings(**chosen | dict(flags))


def table() -> str:
    """The settings as a Markdown table, which docs/OPERATIONS.md holds."""
    rows = ["| setting | default | what |", "| --- | --- | --- |"]
    rows += [f"| `{s.name}` | {_said(s.default) or '–'} | {s.metadata['about']} |" for s in dataclasses.fields(Settings)]
    return "\n".join(rows)


def _checked(setting: dataclasses.Field, value: Any) -> Any:
    name, kind, about = setting.name, type(setting.default), setting.metadata
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        words = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}[kind]
        raise InvalidArgumentError(f"{name} must be {words}, not {shown(value)}", field=name, value=value)
    if kind in (int, float) and not about["least"] <= value <= about["most"]:
        span = f"from {about['least']:g} to {about['most']:g}" if about["most"] < math.inf else f"{about['least']:g} or more"
        raise InvalidArgumentError(f"{name} must be {span}, not {shown(value)}", field=name, value=value)
    if about["choices"] and value not in about["choices"]:
        raise InvalidArgumentError(f"{name} must be one of {', '.join(about['choices'])}, not {shown(value)}", field=name, value=value)
    return value


def _parsed(setting: dataclasses.Field, text: str, variable: str) -> Any:
    kind = type(setting.default)
    try:
        return _WORDS[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        raise InvalidArgumentError(f"{variable} can't be read: {shown(text)}", field=setting.name, value=text) from None


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise InvalidArgumentError(f"config {file} can't be read: {error.strerror}", field="config", value=str(file)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"config {file} is not TOML: {error}", field="config", value=str(file)) from None


def _known(name: str, known: Mapping[str, Any], where: str) -> str:
    if name not in known:
        raise InvalidArgumentError(f"{where} sets {name!r}, which is no setting; there are: {', '.join(known)}", field=name)
    return name


def _said(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
