"""TLS certificates of the service, and the addresses on which it may listen without TLS."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import grpc
from vectordb_client.errors import InvalidArgumentError, StorageError

from ..settings import Settings


def check_exposure(settings: Settings, keys: bool) -> None:
    """Raises InvalidArgumentError for a public address without API keys or TLS, unless ``insecure`` is set."""
    if settings.insecure or is_loopback(settings.host):
        return
    protection = {"API keys (vectordb keys create)": keys, "TLS (tls_cert, tls_key)": bool(settings.tls_cert)}
    missing = [what for what, given in protection.items() if not given]
    if missing:
        message = f"{settings.host} is reachable from other machines, which requires {' and '.join(missing)}, or --insecure"
        raise InvalidArgumentError(message, field="host", value=settings.host)


def is_loopback(host: str) -> bool:
    """Whether the address is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """The TLS credentials; None without TLS. Changed files are read again at the next handshake, so certificates can be renewed.

    Raises InvalidArgumentError or StorageError naming the file.
    """
    if not settings.tls_cert:
        return None
    files = [Path(os.path.abspath(name)) for name in (settings.tls_key, settings.tls_cert, settings.tls_client_ca) if name]
    current = _marks(files)
    first = _configuration(files)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal current
        try:
            marks = _marks(files)
            if marks == current:
                return None
            configuration = _configuration(files)
        except StorageError:  # being written: keep the old ones until the next handshake
            return None
        current = marks
        return configuration

    return grpc.dynamic_ssl_server_credentials(first, fetch, require_client_authentication=bool(settings.tls_client_ca))


def _configuration(files: list[Path]) -> grpc.ServerCertificateConfiguration:
    key, chain, *authorities = [_read(file) for file in files]
    return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=authorities[0] if authorities else None)


def _read(file: Path) -> bytes:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise StorageError(f"{file} can't be read: {error.strerror}", field="tls_cert", value=str(file)) from error
    if b"-----BEGIN " not in data:
        raise StorageError(f"{file} is not a PEM file", field="tls_cert", value=str(file))
    return data


def _marks(files: list[Path]) -> list[tuple[int, int]]:
    try:
        return [(status.st_ino, status.st_mtime_ns) for status in map(os.stat, files)]
    except OSError as error:
        raise StorageError(f"{error.filename} can't be read: {error.strerror}", field="tls_cert", value=str(error.filename)) from error
