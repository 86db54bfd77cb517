"""The settings of a service. Flags, environment variables, the TOML file and the documentation are all generated from ``Settings``.

The setting ``max_message_bytes`` is the flag ``--max-message-bytes``, the environment variable ``VECTORDB_SERVE_MAX_MESSAGE_BYTES`` and
the key ``max_message_bytes`` of the TOML file. Order of precedence: flag, environment, file, default.
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

from vectordb_client.errors import InvalidArgumentError, shown
from vectordb_client.model.memory import LEAST_MEMORY, check_memory

from ..storage import modes

PREFIX = "VECTORDB_SERVE_"
_METAVARS = {int: "N", float: "NUMBER", str: "TEXT"}
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _setting(
    default: Any, about: str, *, least: float = -math.inf, most: float = math.inf, choices: tuple[str, ...] = (), metavar: str = ""
) -> Any:
    """A field of the type of its default. Numbers must be from ``least`` to ``most``. metavar: what the flag's help calls the value."""
    return field(default=default, metadata={"about": about, "least": least, "most": most, "choices": choices, "metavar": metavar})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a service. Raises InvalidArgumentError naming the setting and its value."""

    host: str = _setting("127.0.0.1", "address to listen on", metavar="ADDRESS")
    port: int = _setting(7070, "port to listen on; 0 picks a free port and prints it", least=0, most=65_535)
    threads: int = _setting(
        4, "calls that one caller can run at the same time in a process; one more thread serves other callers", least=1, most=1024
    )
    max_message_bytes: int = _setting(64 << 20, "maximum size of a request or answer, in bytes", least=64 << 10, most=(1 << 31) - 1)
    durability: str = _setting(
        "commit", "commit: a write is on disk before it is answered; batched: shortly afterwards", choices=("commit", "batched")
    )
    maintenance: bool = _setting(True, "index, merge and compact in the background")
    grace: float = _setting(10.0, "seconds that running calls may take to finish when the service stops", least=0, most=86_400)
    # Several processes (workers.py)
    workers: int = _setting(1, "processes that share the port; connections are distributed among them", least=1, most=64)

    file_mode: str = _setting(
        "",
        "mode of new files, octal, minus the umask (640: the group may read them); default: the mode of data.mdb, or 600",
        metavar="MODE",
    )

    # Access and auditing.
    keys_file: str = _setting(
        "",
        "file of API keys (see vectordb keys); default: keys.json in the data directory. Once it exists, every call needs a key",
        metavar="FILE",
    )
    tls_cert: str = _setting(
        "", "PEM file of the service's certificate chain; enables TLS. It is read again when it changes", metavar="FILE"
    )
    tls_key: str = _setting("", "PEM file of the certificate's private key", metavar="FILE")
    tls_client_ca: str = _setting(
        "", "PEM file of the certificate authorities that client certificates must come from (mutual TLS)", metavar="FILE"
    )
    insecure: bool = _setting(False, "allow listening on a public address without API keys or TLS")
    audit_log: str = _setting("", "file of the audit log: admin calls and bulk reads, as JSON lines; default: no audit log", metavar="FILE")
    audit_log_bytes: int = _setting(64 << 20, "size in bytes at which the audit log is rotated; four old files are kept", least=4096)

    # Limits. A refused call gets RESOURCE_EXHAUSTED, and its message names the setting.
    write_threads: int = _setting(
        4, "writes that one caller can run at the same time in a process; one more thread serves other callers", least=1, most=1024
    )
    queue: int = _setting(512, "maximum number of calls waiting for a thread, for reads and writes each", least=0, most=1 << 20)
    concurrent_requests: int = _setting(256, "maximum number of running and waiting calls of one caller in a process", least=1)
    max_connections: int = _setting(
        4_096, "maximum number of connections of a process; at most half of its limit of open files", least=1, most=1 << 20
    )
    max_connections_per_peer: int = _setting(
        1_024, "maximum number of connections of a process from one address, including this machine's", least=1, most=1 << 20
    )
    message_seconds: float = _setting(20.0, "seconds within which a call must send its message", least=0.1, most=86_400)
    requests_per_second: float = _setting(
        100_000.0, "maximum calls per second of an API key, over all processes of the directory", least=0.001, most=1e9
    )
    max_limit: int = _setting(100_000, "maximum limit and candidates of a search, and limit of a page", least=1, most=100_000)
    max_queries: int = _setting(10_000, "maximum number of queries in one search", least=1)
    max_batch_hits: int = _setting(4_000_000, "maximum number of queries in one search times the hits (or candidates) of each", least=1)
    max_points: int = _setting(100_000, "maximum number of points in one write", least=1, most=100_000)
    max_ids: int = _setting(1_000_000, "maximum number of ids in one get or delete", least=1)
    max_query_rows: int = _setting(2_048, "maximum number of rows of a multi-vector query", least=1)
    max_filter_nodes: int = _setting(
        100_000, "maximum number of nodes in a filter; each value of a list and each word of a match counts as one", least=1
    )
    max_vector_fields: int = _setting(64, "maximum number of vector fields of a collection", least=1)
    max_attributes: int = _setting(1_000, "maximum number of attributes of a collection", least=1)
    max_collections: int = _setting(10_000, "maximum number of collections", least=1, most=10_000)

    working_memory: int = _setting(
        0,
        "bytes of memory that the calls of a process may use together; 0: half of the available memory, divided among the workers",
        least=0,
    )
    request_memory: int = _setting(0, "bytes of memory that one call may use; 0: half of working_memory", least=0)

    memory: str = _setting(
        "",
        "memory that index files and caches of all processes together may take, such as 2GiB or 500MB; default: no limit",
        metavar="SIZE",
    )

    # Monitoring
    metrics_port: int = _setting(0, "port of the Prometheus metrics (HTTP); 0: no metrics", least=0, most=65_535)
    metrics_host: str = _setting("127.0.0.1", "address on which the metrics are served", metavar="ADDRESS")
    recall_audit: float = _setting(
        1 / 64, "share of searches (without batches) that are repeated exactly in the background to measure recall, 0 to 1", least=0, most=1
    )
    slow_query_ms: float = _setting(
        1000.0, "reads that take at least this many milliseconds are logged as slow; 0: no slow-query log", least=0
    )
    slow_query_log: str = _setting("", "file of the slow-query log, as JSON lines; default: stderr", metavar="FILE")
    slow_query_values: bool = _setting(False, "include filter values in the slow-query log")
    log_format: str = _setting("text", "format of the log lines", choices=("text", "json"))
    log_level: str = _setting("info", "minimum level of the log; debug logs every call", choices=("debug", "info", "warning", "error"))
    tracing: bool = _setting(False, "record OpenTelemetry spans, exported as the OTEL_* variables say; needs opentelemetry-sdk")

    # Snapshots and the change log.
    snapshot_dir: str = _setting("", "folder for snapshots requested by clients; default: clients can't take snapshots", metavar="DIR")
    change_log_batches: int = _setting(65_536, "maximum number of batches in a collection's change log", least=1)
    change_log_bytes: int = _setting(64 << 20, "maximum size of a collection's change log, in bytes", least=0)
    change_log_seconds: float = _setting(
        30 * 86_400.0, "maximum age of a batch in a collection's change log, in seconds", least=1, most=1e9
    )
    change_streams: int = _setting(16, "maximum number of open change streams; each has its own thread", least=1, most=1024)

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            object.__setattr__(self, setting.name, _checked(setting, getattr(self, setting.name)))
        if self.file_mode:
            modes.parse_mode(self.file_mode)
        if self.budget is not None and self.budget < LEAST_MEMORY:
            what = f"memory must be at least 16MiB for each of the {self.workers} workers, not {shown(self.memory)} for all"
            raise InvalidArgumentError(what, field="memory", value=self.memory)
        if not self.host:
            raise InvalidArgumentError("host must be a name or an address, not ''", field="host", value=self.host)
        for name, needed in (("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("tls_client_ca", "tls_cert")):
            if getattr(self, name) and not getattr(self, needed):
                raise InvalidArgumentError(f"{name} needs {needed} too", field=needed, value="")

    @property
    def mode(self) -> int | None:
        """``file_mode`` as a number; None if not set."""
        return modes.parse_mode(self.file_mode) if self.file_mode else None

    @property
    def budget(self) -> int | None:
        """The share of ``memory`` of each process, in bytes; None if not set."""
        total = check_memory(self.memory) if self.memory else None
        return None if total is None else total // self.workers


NAMES = tuple(setting.name for setting in dataclasses.fields(Settings))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one flag per setting, and ``--config FILE``. The namespace has only the settings that were given."""
    parser.add_argument("--config", metavar="FILE", type=Path, default=argparse.SUPPRESS, help="TOML file of settings (name = value)")
    for setting in dataclasses.fields(Settings):
        about = setting.metadata["about"] + (f" (default: {_text(setting.default)})" if setting.default != "" else "")
        flag = "--" + setting.name.replace("_", "-")
        if isinstance(setting.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=about)
        else:
            choices = setting.metadata["choices"] or None
            kind, metavar = type(setting.default), setting.metadata["metavar"] or (None if choices else _METAVARS[type(setting.default)])
            parser.add_argument(flag, type=kind, metavar=metavar, choices=choices, default=argparse.SUPPRESS, help=about)


def gather(flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None = None) -> Settings:
    """Settings from a command line, an environment and a file. Raises InvalidArgumentError for unknown names, also in the environment."""
    settings = {setting.name: setting for setting in dataclasses.fields(Settings)}
    chosen: dict[str, Any] = {}
    for name, value in (_read(file) if file is not None else {}).items():
        chosen[_check_name(name, settings, str(file))] = value
    for variable, text in environ.items():
        if variable.startswith(PREFIX):
            name = _check_name(variable[len(PREFIX) :].lower(), settings, "the environment")
            chosen[name] = _parsed(settings[name], text, variable)
    return Settings(**chosen | dict(flags))


def table() -> str:
    """The settings as a Markdown table, which is part of docs/OPERATIONS.md."""
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    rows += [f"| `{s.name}` | {_text(s.default) or '–'} | {s.metadata['about']} |" for s in dataclasses.fields(Settings)]
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


def _check_name(name: str, settings: Mapping[str, Any], where: str) -> str:
    if name not in settings:
        raise InvalidArgumentError(f"{where} sets {name!r}, which is not a setting; the settings are: {', '.join(settings)}", field=name)
    return name


def _text(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
