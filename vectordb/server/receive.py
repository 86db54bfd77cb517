"""Reads a call's message before the call takes a thread, so that a caller that never sends its message holds no thread.

gRPC itself waits for the message in the thread that runs the call. This module relies on gRPC's internals; with a gRPC version whose
internals differ, gRPC's own way is used (``Arrival.readable`` is false).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from typing import Any

import grpc

_server: Any = None
cygrpc: Any = None
with contextlib.suppress(ImportError):  # an unknown version of gRPC
    _server, cygrpc = import_module("grpc._server"), import_module("grpc._cython.cygrpc")

log = logging.getLogger("vectordb.server")
_NAMES = ("_RPCState", "_receive_message", "_is_rpc_state_active", "_abort", "_RECEIVE_MESSAGE_TOKEN", "_CLOSED")
_KNOWN = _server is not None and all(hasattr(_server, name) for name in _NAMES) and hasattr(cygrpc, "ReceiveMessageOperation")
IDLE_SECONDS = 10.0  # after which the thread of timers ends where nothing is awaited. Chosen, not measured.
_NO_MESSAGE = "the call ended without the message that it needs"


class Arrival:
    """One call as gRPC submits it to a thread pool: a function and its arguments, among them the call's event and state, the method's
    behavior, and the function that waits for the message.
    """

    __slots__ = ("_arguments", "_at", "_named", "_work", "behavior", "peer", "request")

    def __init__(self, work: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]):
        self._work, self._arguments, self._named = work, arguments, named
        self.request: Any = None
        self._at = next((i for i, each in enumerate(arguments) if isinstance(each, _server._RPCState)), 0) if _KNOWN else 0
        if self._at and len(arguments) > self._at + 3:
            self.behavior: Any = arguments[self._at + 1]
            self.peer = arguments[self._at - 1].call.peer()
            self.peer = self.peer.decode() if isinstance(self.peer, bytes) else self.peer
        else:
            self._at, self.peer = 0, ""
            self.behavior = next((each for each in arguments if hasattr(each, "ended")), None)

    @property
    def readable(self) -> bool:
        """Whether the message can be read before the call takes a thread."""
        return self._at > 0

    def read(self, then: Callable[[], None]) -> None:
        """Start reading the message. ``then()`` is called once, in a gRPC thread; ``request`` then is the message, or None if the caller
        is gone or ended the call without one.
        """
        if not self.readable:
            then()
            return
        event, state = self._arguments[self._at - 1], self._arguments[self._at]
        received = _server._receive_message(state, event.call, self._arguments[self._at + 3])

        def arrived(event: Any) -> Any:
            result = received(event)
            try:
                with state.condition:
                    self.request, state.request = state.request, None
                then()
            except Exception as error:  # gRPC's thread must survive
                log.error("a message can't be received: %s", type(error).__qualname__)
            return result

        with state.condition:
            if active := _server._is_rpc_state_active(state):
                event.call.start_server_batch((cygrpc.ReceiveMessageOperation(0),), arrived)
                state.due.add(_server._RECEIVE_MESSAGE_TOKEN)
        if not active:
            then()

    def run(self, request: Any = None) -> None:
        """Run the behavior and send its answer, in this thread. request: replaces the message that was read."""
        arguments, request = self._arguments, self.request if request is None else request
        if self.readable:
            arguments = (*arguments[: self._at + 2], lambda: request, *arguments[self._at + 3 :])
        self._work(*arguments, **self._named)

    def abort(self, status: grpc.StatusCode = grpc.StatusCode.UNIMPLEMENTED, details: str = _NO_MESSAGE) -> None:
        """End the call without running its behavior, if it hasn't ended."""
        if self.readable:
            event, state = self._arguments[self._at - 1], self._arguments[self._at]
            with state.condition:
                if _server._is_rpc_state_active(state):
                    _server._abort(state, event.call, status.value[0], details.encode())


class Overdue:
    """Timers: calls a function for everything that isn't ``met`` within ``seconds``."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._lock = threading.Lock()
        self._awaited: dict[Any, tuple[float, Callable[[], None]]] = {}
        self._some = threading.Event()
        self._thread: threading.Thread | None = None

    def expect(self, what: Any, give_up: Callable[[], Any], end: float | None = None) -> None:
        """Call ``give_up()`` after ``seconds``, or at ``end`` (by ``time.monotonic``), unless ``met(what)`` is called before."""
        with self._lock:
            self._awaited[what] = (time.monotonic() + self.seconds if end is None else end, give_up)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="vectordb-overdue", daemon=True)
                self._thread.start()
        if not self._some.is_set():
            self._some.set()

    def met(self, what: Any) -> None:
        """Cancel the timer of ``what``."""
        with self._lock:
            self._awaited.pop(what, None)

    def __len__(self) -> int:
        return len(self._awaited)

    def _watch(self) -> None:
        while True:
            if not self._some.wait(IDLE_SECONDS):
                with self._lock:
                    if not self._awaited:  # the service may have ended; the next call starts another thread
                        self._thread = None
                        return
            time.sleep(min(self.seconds / 4, 1.0))  # one sleep for all calls: most messages arrive at once
            now = time.monotonic()
            with self._lock:
                late = [(what, give_up) for what, (end, give_up) in self._awaited.items() if end <= now]
                for what, _ in late:
                    del self._awaited[what]
                if not self._awaited:
                    self._some.clear()
            for _, give_up in late:
                try:
                    give_up()
                except Exception as error:
                    log.error("a call can't be given up: %s", type(error).__qualname__)


class MessageFirst(ThreadPoolExecutor):
    """A thread pool for small methods without keys. A call gets a thread only when its message has arrived. Messages take memory, so at
    most ``most`` are read at a time; beyond that, the call that has waited longest is ended.
    """

    def __init__(self, threads: int, name: str, overdue: Overdue, most: int = 8):
        super().__init__(threads, name)
        self._overdue, self._most = overdue, most
        self._reading: dict[Arrival, None] = {}
        self._reading_lock = threading.Lock()

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        arrival = Arrival(work, arguments, named)
        if not arrival.readable:
            super().submit(arrival.run)
            return
        with self._reading_lock:
            first = next(iter(self._reading)) if len(self._reading) >= self._most else None
            if first is not None:
                del self._reading[first]
            self._reading[arrival] = None
        if first is not None:
            self._give_up(first)
        self._overdue.expect(arrival, partial(self._give_up, arrival))
        arrival.read(partial(self._received, arrival))

    def _received(self, arrival: Arrival) -> None:
        self._met(arrival)
        if arrival.request is None:
            arrival.abort()
        else:
            super().submit(arrival.run)

    def _give_up(self, arrival: Arrival) -> None:
        self._met(arrival)
        arrival.abort(grpc.StatusCode.DEADLINE_EXCEEDED, late_words(self._overdue.seconds))

    def _met(self, arrival: Arrival) -> None:
        self._overdue.met(arrival)
        with self._reading_lock:
            self._reading.pop(arrival, None)


def late_words(seconds: float) -> str:
    """The error text for a call whose message didn't arrive."""
    return f"the call's message did not arrive within {seconds:g} s (setting message_seconds of the service)"
