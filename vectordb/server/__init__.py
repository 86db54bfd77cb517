"""The gRPC service: ``serve`` a directory until a signal comes, or ``start`` a server over an open database."""

from .serve import DEFAULT_HOST, DEFAULT_PORT, MAX_MESSAGE_BYTES, serve, start

__all__ = ["DEFAULT_HOST", "DEFAULT_PORT", "MAX_MESSAGE_BYTES", "serve", "start"]
