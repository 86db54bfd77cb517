"""What both clients need of gRPC: channel options, the methods by name, and failures as our errors."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from .errors import ClosedError, DeadlineError, InvalidArgumentError, UnavailableError, VectorDBError, shown
from .status import DETAIL_KEY, error_of
from .v1 import vectordb_pb2 as pb

_SERVICE = pb.DESCRIPTOR.services_by_name["VectorDB"]
METHODS = {
    method.name: (
        f"/{_SERVICE.full_name}/{method.name}",
        GetMessageClass(method.input_type).SerializeToString,
        GetMessageClass(method.output_type).FromString,
    )
    for method in _SERVICE.methods
}
STREAMS = frozenset(method.name for method in _SERVICE.methods if method.server_streaming)

DEFAULT_PORT = 7070
_RESOLVED = ("unix:", "unix-abstract:", "dns:", "ipv4:", "ipv6:", "vsock:", "xds:")
_BRACKETED = re.compile(r"\[[^\[\]]+\]")

_OPTIONS = {
    # The service bounds what it sends; a request is split before it is sent.
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    # A service that restarts is found again within seconds; gRPC's own default grows to two minutes.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 1000,
    "grpc.max_reconnect_backoff_ms": 3000,
    # A connection of its own for each client: a service of several processes gets the clients spread over them.
    "grpc.use_local_subchannel_pool": 1,
}


def channel_options(given: Mapping[str, Any] | Iterable[tuple[str, Any]] | None) -> list[tuple[str, Any]]:
    """Ours, with the caller's on top."""
    return list((_OPTIONS | dict(given or ())).items())


def open_channel(aio: Any, target: str, options: list[tuple[str, Any]], tls: Any, tls_cert: Any, tls_key: Any) -> Any:
    """A channel of ``aio`` (the module grpc, or grpc.aio), encrypted when ``tls`` says so."""
    credentials = tls_credentials(tls, tls_cert, tls_key)
    return aio.insecure_channel(target, options) if credentials is None else aio.secure_channel(target, credentials, options)


def tls_credentials(tls: Any, tls_cert: Any, tls_key: Any) -> grpc.ChannelCredentials | None:
    """tls: False, True (certificate authorities that gRPC knows), or a PEM file with those to trust. tls_cert, tls_key: PEM files by which
    the client shows who it is. None without tls. Raises InvalidArgumentError.
    """
    if tls is False or tls is None:
        if tls_cert is not None or tls_key is not None:
            raise InvalidArgumentError("tls_cert and tls_key are for an encrypted connection: tls=True or a file", field="tls", value=tls)
        return None
    if (tls_cert is None) != (tls_key is None):
        raise InvalidArgumentError("tls_cert and tls_key go together", field="tls_cert" if tls_cert is None else "tls_key")
    roots = None if tls is True else _pem(tls, "tls")
    shown_by = (None, None) if tls_cert is None else (_pem(tls_key, "tls_key"), _pem(tls_cert, "tls_cert"))
    return grpc.ssl_channel_credentials(roots, *shown_by)


def _pem(file: Any, field: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except (TypeError, ValueError, OSError) as error:
        raise InvalidArgumentError(f"{field} must be a PEM file, not {shown(file)}: {error}", field=field, value=file) from None


def call_metadata(api_key: Any) -> tuple[tuple[str, str], ...] | None:
    """What every call carries. Raises InvalidArgumentError, which doesn't show the key."""
    if api_key is None:
        return None
    if not isinstance(api_key, str) or not re.fullmatch(r"[!-~]{1,1000}", api_key):
        raise InvalidArgumentError("api_key must be a string of printable ASCII characters, as it was shown when made", field="api_key")
    return (("authorization", f"Bearer {api_key}"),)


def check_target(target: Any) -> str:
    """``host:port``, or a name that gRPC itself resolves, such as ``unix:/run/db.sock``. Raises InvalidArgumentError."""
    if not isinstance(target, str) or not target:
        raise InvalidArgumentError(f"target must be 'host:port', not {shown(target)}", field="target", value=target)
    if target.startswith(_RESOLVED):
        return target
    scheme, found, rest = target.partition("://")
    if found:
        host = rest.split("/")[0] or "localhost"
        what = f"target must be 'host:port', not {shown(target)}: write {_with_port(host)!r}"
        secure = ", and tls=True for an encrypted connection" if scheme.lower() in ("https", "grpcs") else ""
        raise InvalidArgumentError(what + secure, field="target", value=target)
    host, _, port = target.rpartition(":")
    if not host or (":" in host and not _BRACKETED.fullmatch(host)) or target.endswith("]"):
        what = f"target must be 'host:port', not {shown(target)}: write {_with_port(target)!r}"
        what += f" ({DEFAULT_PORT} is the port of a service that wasn't told another one)"
        raise InvalidArgumentError(what, field="target", value=target)
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65_536) or re.search(r"[\s/]", host):
        what = f"target must be 'host:port' with a port from 1 to 65535, not {shown(target)}: write it like 'localhost:{DEFAULT_PORT}'"
        raise InvalidArgumentError(what, field="target", value=target)
    return target


def _with_port(host: str) -> str:
    """A host as a target, with the default port where it has none."""
    if host.count(":") > 1 and not host.startswith("["):
        return f"[{host}]:{DEFAULT_PORT}"
    if re.search(r":\d+$", host):
        return f"localhost{host}" if host.startswith(":") else host
    return f"{host.rstrip(':/')}:{DEFAULT_PORT}"


def check_timeout(timeout: Any) -> float | None:
    """Seconds, more than 0; None or infinity waits for as long as it takes. Raises InvalidArgumentError."""
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0):
        raise InvalidArgumentError(f"timeout must be a number of seconds above 0, not {shown(timeout)}", field="timeout", value=timeout)
    return None if timeout == float("inf") else timeout  # gRPC takes infinity for a deadline that has passed


def failure(error: grpc.RpcError, target: str, closed: bool) -> VectorDBError:
    """The error of a failed call: the service's own where it said one."""
    code, details = error.code(), error.details() or ""
    found = dict(metadata_of(error)).get(DETAIL_KEY)
    if found is None:
        if closed and code is grpc.StatusCode.CANCELLED:
            return ClosedError("the client was closed")
        if code is grpc.StatusCode.UNAVAILABLE:
            return UnavailableError(f"{target} can't be reached: {details}{connection_hint(details)}", field="target", value=target)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineError(f"{target} didn't answer in time", field="timeout")
    return error_of(code.name, details, found)


def connection_hint(details: str) -> str:
    """What to look at when no connection came about."""
    if "WRONG_VERSION_NUMBER" in details:
        return " (the service doesn't seem to speak TLS: leave tls out)"
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return " (its certificate isn't trusted: pass tls='ca.pem', the file of the authority that signed it; on the command line --tls-ca)"
    if "ailed to connect" in details and re.search(r"Socket closed|reset by peer|Broken pipe", details):
        return " (does it speak TLS? pass tls=True, or tls='ca.pem'; on the command line --tls or --tls-ca)"
    return ""


def metadata_of(error: grpc.RpcError) -> Sequence[tuple[str, Any]]:
    """The trailing metadata of a failed call."""
    return [(key, value) for key, value in error.trailing_metadata() or ()]


# ---- Forks ----
#
# gRPC starts anew in a forked process, unless some thread was inside it at that moment: then it can't, and a call would wait for ever.

_forked_inside = False


def _look_before_fork() -> None:
    global _forked_inside
    mine = threading.get_ident()
    _forked_inside = any(_inside_grpc(frame) for thread, frame in sys._current_frames().items() if thread != mine)


def _inside_grpc(frame: Any) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] == "grpc":
            return True
        frame = frame.f_back
    return False


def check_fork() -> None:
    """Raises ClosedError in a process that was forked while another thread was in a call."""
    if _forked_inside:
        raise ClosedError("this process was forked while a thread was in a call, and gRPC can't go on here; start processes with 'spawn'")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_look_before_fork)
