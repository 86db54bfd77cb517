"""A minimal HTTP/2 connection for misbehaving clients: calls that are begun but never sent, and answers that are never read."""

from __future__ import annotations

import socket
import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS = 1, 4


class RawConnection:
    """A socket to a gRPC server. window: number of bytes that the server may send of each answer (HTTP/2 flow control)."""

    def __init__(self, port: int, window: int = 65_535, source: str = ""):
        self._socket = socket.create_connection(("127.0.0.1", port), 10, (source, 0) if source else None)
        self._socket.sendall(_PREFACE + _frame(SETTINGS, 0, 0, struct.pack(">HI", 4, window)))
        self._next = 1

    def begin(self, method: str, metadata: dict[str, str] | None = None) -> int:
        """Begin a call and send no message. Returns the stream."""
        stream, self._next = self._next, self._next + 2
        fields = {":method": "POST", ":scheme": "http", ":path": method, ":authority": "localhost", "te": "trailers"}
        fields |= {"content-type": "application/grpc"} | (metadata or {})
        block = b"".join(b"\0" + _string(name) + _string(value) for name, value in fields.items())  # literal, not indexed
        self._socket.sendall(_frame(HEADERS, END_HEADERS, stream, block))
        return stream

    def send(self, stream: int, message: bytes = b"", last: bool = True) -> None:
        """Send a call's message."""
        self._socket.sendall(_frame(DATA, END_STREAM if last else 0, stream, b"\0" + struct.pack(">I", len(message)) + message))

    def end(self, stream: int) -> None:
        """End a call without a message."""
        self._socket.sendall(_frame(DATA, END_STREAM, stream, b""))

    def received(self, seconds: float = 10.0) -> bytes:
        """Read until the headers of an answer have arrived. Returns the bytes of the frames."""
        self._socket.settimeout(seconds)
        data = b""
        while True:
            head = self._exactly(9)
            body = self._exactly(int.from_bytes(head[:3], "big"))
            data += body
            if head[3] == HEADERS and head[4] & END_STREAM:
                return data

    def closed(self, seconds: float = 10.0) -> bool:
        """Whether the server closes the connection within some seconds."""
        self._socket.settimeout(seconds)
        try:
            while self._socket.recv(1 << 16):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def close(self) -> None:
        self._socket.close()

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise ConnectionError("the server closed the connection")
            data += part
        return data


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _string(text: str) -> bytes:
    data = text.encode()
    assert len(data) < 127
    return bytes((len(data),)) + data
