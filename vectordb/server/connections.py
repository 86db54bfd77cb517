"""How many connections a process takes: in all, and from one machine; and which go when places run short.

gRPC closes what comes beyond the number in all. It knows of no other limit, so once a second the process looks at its own sockets, and
shuts the newest of a machine that has too many, and those that never made a call while places are short. Whoever is shut out so by mistake
connects again.
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
    """Of one process. No more than half of its file descriptors are for connections; the rest are for its files."""

    def __init__(self, settings: Settings):
        self.most_of_a_peer = settings.max_connections_per_peer
        self.most = min(settings.max_connections, max(_descriptors() // 2, 1))
        if self.most < settings.max_connections:
            log.info("fewer connections are taken than max_connections", extra={"connections": self.most})
        self._of_callers: set[Peer] = set()
        self._seen: dict[Peer, float] = {}  # since when

    def options(self) -> list[tuple[str, Any]]:
        """What gRPC is told."""
        return [("grpc.max_allowed_incoming_connections", self.most), ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS)]

    def called(self, address: str) -> None:
        """Somebody who may call has called over this connection (gRPC's name of a peer)."""
        self._of_callers.add(peer_of(address))

    def follow(self, server: grpc.Server, port: int) -> None:
        """Keep the limits for as long as the server runs."""
        if os.path.isdir(_SOCKETS):
            threading.Thread(target=self._watch, args=(server, port), name="vectordb-connections", daemon=True).start()

    def _watch(self, server: grpc.Server, port: int) -> None:
        pause = LOOK_SECONDS
        while server.wait_for_termination(pause):  # whether it timed out
            try:
                pause = HURRIED_SECONDS if self.look(port) > self.most // 2 else LOOK_SECONDS
            except Exception as error:  # such as too many open files: next time
                log.warning("connections can't be looked at: %s", type(error).__qualname__)

    def look(self, port: int) -> int:
        """Shut those that are too many; returns how many connections there are."""
        there = _connected(port)
        now = time.monotonic()
        self._seen = {peer: self._seen.get(peer, now) for peer in there}
        self._of_callers.intersection_update(there)
        for peer in too_many(self._seen, self._of_callers, self.most, self.most_of_a_peer, now):
            _peer_at(there[peer], port, shut=peer)
        return len(there)


def too_many(seen: dict[Peer, float], callers: set[Peer], most: int, most_of_a_peer: int, now: float) -> list[Peer]:
    """Which connections are to be shut: seen since when; callers: those that were called over."""
    by_age = sorted(seen, key=lambda peer: seen[peer])
    of_hosts: dict[str, list[Peer]] = defaultdict(list)
    for peer in by_age:
        of_hosts[peer[0]].append(peer)
    shut = [peer for peers in of_hosts.values() for peer in sorted(peers, key=lambda peer: peer not in callers)[most_of_a_peer:]]
    left = len(seen) - len(shut)
    if left > most * 3 // 4:
        gone = set(shut)
        silent = [peer for peer in by_age if peer not in callers and peer not in gone and seen[peer] < now]
        shut += silent[: left - most // 2]
    return shut


@lru_cache(maxsize=4_096)
def peer_of(address: str) -> Peer:
    """gRPC's ``ipv4:127.0.0.1:50000`` or ``ipv6:%5B::1%5D:50000`` as address and port; whatever else as it is, and 0."""
    host, _, port = address.partition(":")[2].replace("%5B", "[").replace("%5D", "]").rpartition(":")
    return (_plain(host.strip("[]")), int(port)) if host and port.isdecimal() else (address, 0)


def _plain(host: str) -> str:
    """An IPv4 address in IPv6's clothes as what it is."""
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return host
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)


def _descriptors() -> int:
    """How many files this process may have open, now that it may have as many as it can be allowed."""
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
    found = {}
    for name in os.listdir(_SOCKETS):
        try:
            if os.readlink(f"{_SOCKETS}/{name}").startswith("socket:"):
                peer = _peer_at(int(name), port)
                if peer is not None:
                    found[peer] = int(name)
        except OSError:  # it is closed by now, or isn't connected
            pass
    return found


def _peer_at(descriptor: int, port: int, shut: Peer | None = None) -> Peer | None:
    """Whose connection to the port it is, None if it is none. shut: shut it if it is theirs."""
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
