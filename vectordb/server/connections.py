"""Limits the connections of a process, in total and per peer address.

gRPC closes connections above the total. It has no limit per peer, so once a second the process examines its own sockets. It shuts the
newest connections of a peer that has too many and, when connections run short, those that never made a call. A client that is shut out by
mistake reconnects.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import resource
import socket
import threading
import time
from collections import defaultdict
from functools import lru_cache
from typing import Any

import grpc

from .settings import Settings

log = logging.getLogger("vectordb.server")
LOOK_SECONDS, HURRIED_SECONDS = 1.0, 0.25
_HANDSHAKE_MS = 10_000
_SOCKETS = "/proc/self/fd"

Peer = tuple[str, int]  # address and port


class Connections:
    """The connections of one process. At most half of its file descriptors are used for connections, the rest for files."""

    def __init__(self, settings: Settings):
        self.most_of_a_peer = settings.max_connections_per_peer
        self.most = min(settings.max_connections, max(_descriptors() // 2, 1))
        if self.most < settings.max_connections:
            log.info("max_connections is lowered to half of the limit of open files", extra={"connections": self.most})
        self._of_callers: set[Peer] = set()
        self._seen: dict[Peer, float] = {}  # peer → when it was first seen

    def options(self) -> list[tuple[str, Any]]:
        """The options for gRPC."""
        return [("grpc.max_allowed_incoming_connections", self.most), ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS)]

    def called(self, address: str) -> None:
        """Record that an authorised call came over this connection. address: gRPC's name of the peer."""
        self._of_callers.add(peer_of(address))

    def follow(self, server: grpc.Server, port: int) -> None:
        """Enforce the limits while the server runs."""
        if os.path.isdir(_SOCKETS):
            threading.Thread(target=self._watch, args=(server, port), name="vectordb-connections", daemon=True).start()

    def _watch(self, server: grpc.Server, port: int) -> None:
        pause = LOOK_SECONDS
        while server.wait_for_termination(pause):  # True if it timed out
            try:
                pause = HURRIED_SECONDS if self.look(port) > self.most // 2 else LOOK_SECONDS
            except Exception as error:  # such as too many open files: try again next time
                log.warning("connections can't be examined: %s", type(error).__qualname__)

    def look(self, port: int) -> int:
        """Shut excess connections; returns the number of connections."""
        connected = _connected(port)
        now = time.monotonic()
        self._seen = {peer: self._seen.get(peer, now) for peer in connected}
        self._of_callers.intersection_update(connected)
        for peer in too_many(self._seen, self._of_callers, self.most, self.most_of_a_peer, now):
            _peer_at(connected[peer], port, shut=peer)
        return len(connected)


def too_many(seen: dict[Peer, float], callers: set[Peer], most: int, most_of_a_peer: int, now: float) -> list[Peer]:
    """The connections to shut. seen: peer → when it was first seen; callers: peers that made an authorised call."""
    by_age = sorted(seen, key=lambda peer: seen[peer])
    of_hosts: dict[str, list[Peer]] = defaultdict(list)
    for peer in by_age:
        of_hosts[peer[0]].append(peer)
    shut = [peer for peers in of_hosts.values() for peer in sorted(peers, key=lambda peer: peer not in callers)[most_of_a_peer:]]
    left = len(seen) - len(shut)
    if left > most * 3 // 4:
        shut_already = set(shut)
        silent = [peer for peer in by_age if peer not in callers and peer not in shut_already and seen[peer] < now]
        shut += silent[: left - most // 2]
    return shut


@lru_cache(maxsize=4_096)
def peer_of(address: str) -> Peer:
    """gRPC's ``ipv4:127.0.0.1:50000`` or ``ipv6:%5B::1%5D:50000`` as (address, port); (the text, 0) for any other text."""
    host, _, port = address.partition(":")[2].replace("%5B", "[").replace("%5D", "]").rpartition(":")
    return (_plain(host.strip("[]")), int(port)) if host and port.isdecimal() else (address, 0)


def _plain(host: str) -> str:
    """An address as text; an IPv4-mapped IPv6 address becomes IPv4."""
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return host
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)


def _descriptors() -> int:
    """Raise the limit of open files as far as allowed, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):
            pass
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


def _connected(port: int) -> dict[Peer, int]:
    """This process's connections to its port: their descriptors."""
    descriptors = {}
    for name in os.listdir(_SOCKETS):
        try:
            if os.readlink(f"{_SOCKETS}/{name}").startswith("socket:"):
                peer = _peer_at(int(name), port)
                if peer is not None:
                    descriptors[peer] = int(name)
        except OSError:  # closed meanwhile, or not connected
            pass
    return descriptors


def _peer_at(descriptor: int, port: int, shut: Peer | None = None) -> Peer | None:
    """The peer of a socket that is connected to the port, else None. shut: shut the socket if it has this peer."""
    copy = os.dup(descriptor)
    try:
        with socket.socket(fileno=copy) as each:
            if each.family not in (socket.AF_INET, socket.AF_INET6) or each.getsockname()[1] != port:
                return None
            host, at, *_ = each.getpeername()
            peer = _plain(host), at
            if peer == shut:
                each.shutdown(socket.SHUT_RDWR)
            return peer
    except OSError:
        return None
