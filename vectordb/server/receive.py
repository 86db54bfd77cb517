"""A call's message is read before a thread is taken: who begins a call and never sends its message holds no thread.

gRPC's own way is to wait for the message in the thread that the call is to run in. This is the one place that knows how gRPC hands a call
to its threads. A gRPC that does so in another way than is known here is let wait in its own (``Arrival.readable`` is false then).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc

try:
    from grpc import _server
    from grpc._cython import cygrpc
except ImportError:  # another gRPC than any that was tried
    _server = cygrpc = None

log = logging.getLogger("vectordb.server")
_NAMES = ("_RPCState", "_receive_message", "_is_rpc_state_active", "_abort", "_RECEIVE_MESSAGE_TOKEN", "_CLOSED")
_KNOWN = _server is not None and all(hasattr(_server, name) for name in _NAMES) and hasattr(cygrpc, "ReceiveMessageOperation")
_NO_MESSAGE = "the call needs a message, and was ended without one"


class Arrival:
    """One call, as gRPC hands it over: its function and arguments, among them the call's event and state, the method's behavior, and what
    waits for the message.
    """

    __slots__ = ("_arguments", "_at", "_named", "_work", "behavior", "peer", "request")

    def __init__(self, work: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]):
        self._work, self._arguments, self._named = work, arguments, named
        self.request: Any = None
        self._at = next((i for i, each in enumerate(arguments) if isinstance(each, _server._RPCState)), 0) if _KNOWN else 0
        if self._at and len(arguments) > self._at + 3:
            self.behavior = arguments[self._at + 1]
            self.peer = arguments[self._at - 1].call.peer()
            self.peer = self.peer.decode() if isinstance(self.peer, bytes) else self.peer
        else:
            self._at, self.peer = 0, ""
            self.behavior = next((each for each in arguments if hasattr(each, "ended")), None)

    @property
    def readable(self) -> bool:
        """Whether the message can be read before a thread is taken."""
        return self._at > 0

    def read(self, then: Callable[[], None]) -> None:
        """Begin to read the message. ``then()`` is called once, by a thread of gRPC's: ``request`` is the message by then, or None when
        the caller is gone or has ended the call without one.
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
            except Exception as error:  # gRPC's thread must go on
                log.error("a message can't be taken: %s", type(error).__qualname__)
            return result

        with state.condition:
            if there := _server._is_rpc_state_active(state):
                event.call.start_server_batch((cygrpc.ReceiveMessageOperation(0),), arrived)
                state.due.add(_server._RECEIVE_MESSAGE_TOKEN)
        if not there:
            then()

    def run(self, request: Any = None) -> None:
        """The behavior and its answer, in this thread. request: in place of the message that was read."""
        arguments, request = self._arguments, self.request if request is None else request
        if self.readable:
            arguments = (*arguments[: self._at + 2], lambda: request, *arguments[self._at + 3 :])
        self._work(*arguments, **self._named)

    def abort(self, status: grpc.StatusCode = grpc.StatusCode.UNIMPLEMENTED, details: str = _NO_MESSAGE) -> None:
        """End the call without its behavior, if it hasn't ended."""
        if self.readable:
            event, state = self._arguments[self._at - 1], self._arguments[self._at]
            with state.condition:
                if _server._is_rpc_state_active(state):
                    _server._abort(state, event.call, status.value[0], details.encode())


class Overdue:
    """What must be over within ``seconds``, and what is done otherwise."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._lock = threading.Lock()
        self._awaited: dict[Any, tuple[float, Callable[[], None]]] = {}
        self._some = threading.Event()
        self._thread: threading.Thread | None = None

    def expect(self, what: Any, give_up: Callable[[], None], end: float | None = None) -> None:
        """Call ``give_up()`` in ``seconds``, or after ``end`` (of ``time.monotonic``), unless ``met(what)`` is called before."""
        with self._lock:
            self._awaited[what] = (time.monotonic() + self.seconds if end is None else end, give_up)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="vectordb-overdue", daemon=True)
                self._thread.start()
        if not self._some.is_set():
            self._some.set()

    def met(self, what: Any) -> None:
        """It is over."""
        with self._lock:
            self._awaited.pop(what, None)

    def __len__(self) -> int:
        return len(self._awaited)

    def _watch(self) -> None:
        while self._some.wait():
            time.sleep(min(self.seconds / 4, 1.0))  # not for each call: most messages come at once
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
    """Threads for small methods that need no key, none of which a call has before its message is there. A message takes memory, so
    ``most`` are read at a time: one more, and the call that has waited longest for its own is ended.
    """

    def __init__(self, threads: int, name: str, overdue: Overdue, most: int = 8):
        super().__init__(threads, name)
        self._overdue, self._most = overdue, most
        self._reading: dict[Arrival, None] = {}
        self._reading_lock = threading.Lock()

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> None:
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
    """What a caller is told whose message didn't come."""
    return f"the call's message didn't come in time; that is {seconds:g} s at most (the service's setting message_seconds)"
