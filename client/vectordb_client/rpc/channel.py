"""gRPC for both clients: channel options, methods by name, and errors of failed calls."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import silence  # noqa: F401  # isort: skip  # before grpc is loaded
import grpc

from ..errors import ClosedError, DeadlineError, InvalidArgumentError, UnavailableError, VectorDBError, shown
from .methods import METHODS
from .status import DETAIL_KEY, error_of

DEFAULT_PORT = 7070
_RESOLVED = ("unix:", "unix-abstract:", "dns:", "ipv4:", "ipv6:", "vsock:", "xds:")
_BRACKETED = re.compile(r"\[[^\[\]]+\]")

_OPTIONS = {
    # The service limits its answers, and a request is split before it is sent.
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    # A service that restarts is reconnected within seconds. The default of gRPC grows to two minutes.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 1000,
    "grpc.max_reconnect_backoff_ms": 3000,
    # Each client has its own connection, so clients are spread over the processes of a service.
    "grpc.use_local_subchannel_pool": 1,
}


def channel_options(given: Mapping[str, Any] | Iterable[tuple[str, Any]] | None) -> list[tuple[str, Any]]:
    """The default options, overridden by those of the caller."""
    return list((_OPTIONS | dict(given or ())).items())


def open_channel(aio: Any, target: str, options: list[tuple[str, Any]], tls: Any, tls_cert: Any, tls_key: Any) -> Any:
    """A channel of the module ``aio`` (grpc or grpc.aio), encrypted if ``tls`` is given."""
    credentials = tls_credentials(tls, tls_cert, tls_key)
    return aio.insecure_channel(target, options) if credentials is None else aio.secure_channel(target, credentials, options)


def bind(channel: Any) -> dict[str, Any]:
    """For each method by name a callable that sends a request over the channel."""
    return {
        method.name: (channel.unary_stream if method.streams else channel.unary_unary)(
            method.path, method.request.SerializeToString, method.response.FromString
        )
        for method in METHODS.values()
    }


def tls_credentials(tls: Any, tls_cert: Any, tls_key: Any) -> grpc.ChannelCredentials | None:
    """The credentials of an encrypted channel; None without tls. Raises InvalidArgumentError.

    tls: False, True (the certificate authorities that gRPC knows), or a PEM file of authorities. tls_cert, tls_key: PEM files of the
    client's own certificate and key.
    """
    if tls is False or tls is None:
        if tls_cert is not None or tls_key is not None:
            raise InvalidArgumentError(
                "tls_cert and tls_key need an encrypted connection: add tls=True or tls='ca.pem'", field="tls", value=tls
            )
        return None
    if (tls_cert is None) != (tls_key is None):
        raise InvalidArgumentError("tls_cert and tls_key must be given together", field="tls_cert" if tls_cert is None else "tls_key")
    roots = None if tls is True else _pem(tls, "tls")
    shown_by = (None, None) if tls_cert is None else (_pem(tls_key, "tls_key"), _pem(tls_cert, "tls_cert"))
    return grpc.ssl_channel_credentials(roots, *shown_by)


def _pem(file: Any, field: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except (TypeError, ValueError, OSError) as error:
        raise InvalidArgumentError(f"{field} must be a PEM file, not {shown(file)}: {error}", field=field, value=file) from None


def call_metadata(api_key: Any) -> tuple[tuple[str, str], ...] | None:
    """The metadata of every call. Raises InvalidArgumentError, which doesn't show the key."""
    if api_key is None:
        return None
    if not isinstance(api_key, str) or not re.fullmatch(r"[!-~]{1,1000}", api_key):
        raise InvalidArgumentError(
            "api_key must be a string of printable ASCII characters, as `vectordb keys create` printed it", field="api_key"
        )
    return (("authorization", f"Bearer {api_key}"),)


def check_target(target: Any) -> str:
    """Check a target: ``host:port``, or a name that gRPC resolves, such as ``unix:/run/db.sock``. Raises InvalidArgumentError."""
    if not isinstance(target, str) or not target:
        raise InvalidArgumentError(f"target must be 'host:port', not {shown(target)}", field="target", value=target)
    if target.startswith(_RESOLVED):
        return target
    if re.match(r"[.~]{0,2}/|~$", target):
        what = f"target must be 'host:port', not {shown(target)}, which is a path: write vectordb.open({target!r}) for a directory"
        raise InvalidArgumentError(what, field="target", value=target)
    scheme, separator, rest = target.partition("://")
    if separator:
        host = rest.split("/")[0] or "localhost"
        what = f"target must be 'host:port', not {shown(target)}: write {_with_port(host)!r}"
        secure = ", and tls=True for an encrypted connection" if scheme.lower() in ("https", "grpcs") else ""
        raise InvalidArgumentError(what + secure, field="target", value=target)
    host, _, port = target.rpartition(":")
    if not host or (":" in host and not _BRACKETED.fullmatch(host)) or target.endswith("]"):
        what = f"target must be 'host:port', not {shown(target)}: write {_with_port(target)!r}"
        what += f" ({DEFAULT_PORT} is the default port of a service)"
        raise InvalidArgumentError(what, field="target", value=target)
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65_536) or re.search(r"[\s/]", host):
        what = f"target must be 'host:port' with a port from 1 to 65535, not {shown(target)}: write it like 'localhost:{DEFAULT_PORT}'"
        raise InvalidArgumentError(what, field="target", value=target)
    return target


def _with_port(host: str) -> str:
    """A host as a target, with the default port if it has none."""
    if host.count(":") > 1 and not host.startswith("["):
        return f"[{host}]:{DEFAULT_PORT}"
    if re.search(r":\d+$", host):
        return f"localhost{host}" if host.startswith(":") else host
    if re.fullmatch(r"\d{1,5}", host):
        return f"localhost:{host}"
    return f"{host.rstrip(':/')}:{DEFAULT_PORT}"


def failure(error: grpc.RpcError, target: str, closed: bool) -> VectorDBError:
    """The error of a failed call: the one that the service raised, if it sent one."""
    code, details = error.code(), error.details() or ""
    detail = dict(metadata_of(error)).get(DETAIL_KEY)
    if detail is None:
        if closed and code is grpc.StatusCode.CANCELLED:
            return ClosedError("the client was closed")
        if code is grpc.StatusCode.UNAVAILABLE:
            return UnavailableError(f"{target} can't be reached: {connection_problem(details)}", field="target", value=target)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineError(f"{target} didn't answer before the timeout", field="timeout")
    return error_of(code.name, details, detail)


def connection_problem(details: str) -> str:
    """Why a connection could not be made, and what to do. details: the text of gRPC, which is repeated only where it is not understood."""
    if "WRONG_VERSION_NUMBER" in details:
        return "the service doesn't seem to use TLS; leave tls out"
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return "its certificate isn't trusted; pass tls='ca.pem', the file of the authority that signed it (on the command line --tls-ca)"
    if "ailed to connect" in details and re.search(r"Socket closed|reset by peer|Broken pipe", details):
        return "it closed the connection at once; does it use TLS? pass tls=True, or tls='ca.pem' (on the command line --tls or --tls-ca)"
    if "Connection refused" in details:
        return "connection refused; is `vectordb serve` running there?"
    if re.search("DNS resolution failed|Domain name not found|Name or service not known", details):
        return "no host has this name"
    return details


def metadata_of(error: grpc.RpcError) -> Sequence[tuple[str, Any]]:
    """The trailing metadata of a failed call."""
    trailing: Any = error.trailing_metadata() or ()
    return [(key, value) for key, value in trailing]


# ---- Forks ----
#
# gRPC restarts in a forked process, unless a thread was inside gRPC during the fork. Then it can't restart, and calls would hang.

_inside_at_fork = False  # at the last fork of this process; it concerns the child only
_broken = False  # in this process


def _before_fork() -> None:
    global _inside_at_fork
    mine = threading.get_ident()
    _inside_at_fork = any(_inside_grpc(frame) for thread, frame in sys._current_frames().items() if thread != mine)


def _after_fork_in_child() -> None:
    global _broken
    _broken = _broken or _inside_at_fork


def _inside_grpc(frame: Any) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] == "grpc":
            return True
        frame = frame.f_back
    return False


def check_fork() -> None:
    """Raise ClosedError in a process that was forked while another thread was in a call."""
    if _broken:
        raise ClosedError("gRPC doesn't work in a process that was forked during a call of another thread; start processes with 'spawn'")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
