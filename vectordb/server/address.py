"""The address of a service: its form, whether it is free, and the line that announces it."""

from __future__ import annotations

import errno
import os
import socket

from vectordb_client.errors import UnavailableError

from .access.keys import file_of
from .settings import Settings


def address_of(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_free(host: str, port: int) -> int:
    """The port, or for 0 a free port. Raises UnavailableError if the port is in use or the address isn't one of this machine."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            return probe.getsockname()[1]
    except OSError as error:
        raise UnavailableError(f"can't listen on {address_of(host, port)}: {reason(error)}", field="port", value=port) from None


def reason(error: OSError) -> str:
    """Why a port can't be used, and what to do."""
    why = os.strerror(error.errno) if error.errno else str(error)
    return f"{why}; choose another --port, or stop what uses this one" if error.errno == errno.EADDRINUSE else why


def announce(path: str | os.PathLike[str], address: str, settings: Settings, new: bool) -> None:
    """Print the line that says that calls are accepted. new: the directory had no database before."""
    facts = ["a new database"] if new else []
    workers = f"{settings.workers} workers with " if settings.workers > 1 else ""
    facts += [f"{workers}{settings.threads} threads", f"messages up to {settings.max_message_bytes / (1 << 20):g} MiB"]
    print(f"vectordb serving {os.fspath(path)} on {address} ({', '.join(facts + _protection(path, settings))})", flush=True)


def _protection(path: str | os.PathLike[str], settings: Settings) -> list[str]:
    """How calls are protected, for the announcement."""
    tls = ("mutual TLS" if settings.tls_client_ca else "TLS") if settings.tls_cert else "no TLS"
    return ["API keys" if file_of(path, settings.keys_file).exists() else "no API keys", tls]
