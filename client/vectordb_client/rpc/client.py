"""The blocking client: the methods of an embedded database, over gRPC."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from . import silence  # noqa: F401  # isort: skip  # before grpc is loaded
import grpc

from ..errors import ClosedError, DeadlineError
from ..model.access import Collections
from ..model.arguments import named
from ..model.checks import check_timeout
from ..model.schema import Schema
from . import calls
from .channel import (
    METHODS,
    STREAMS,
    call_metadata,
    channel_options,
    check_fork,
    check_target,
    failure,
    metadata_of,
    open_channel,
)
from .collection import Collection
from .retry import check_retries, pause_before_retry

__all__ = ["Client", "Collection"]

T = TypeVar("T")


class Client(Collections[Collection]):
    """A connection to a service, with the methods of an embedded ``Database``. Safe to share between threads.

    The first call connects. A lost connection is made again, also after a fork. Reads show every write of this client, whichever process
    of the service answers. ``client["docs"]``, ``"docs" in client``, ``len(client)`` and iteration over the names of collections work as
    well; each makes a call.

    Args:
        target: "host:port".
        timeout: seconds for each call including its retries; None has no limit. A ``timeout=`` of a call overrides it.
        retries: how often a call is repeated, with growing pauses, if the service can't be reached or limits the rate of calls. A write
            that might be executed twice is not repeated, see ``retry.py``.
        options: channel options of gRPC by name.
        api_key: the key that ``vectordb keys create`` printed.
        tls: True trusts the certificate authorities that gRPC knows, a PEM file the authorities in it. False doesn't encrypt.
        tls_cert: PEM file of the client's own certificate, if the service requires one.
        tls_key: PEM file of its private key.

    Raises:
        InvalidArgumentError: an argument is not valid.

    Besides the errors of the embedded database, every method may raise UnavailableError (the service can't be reached), DeadlineError (the
    timeout passed; a write may have been executed), AuthenticationError and PermissionDeniedError (the API key), RateLimitError (too many
    calls) and ClosedError (after ``close``).

    Example:
        ```python
        with Client("localhost:7070", api_key=key) as client:
            docs = client.collection("docs")
            hits = docs.search({"v": query}, limit=5)
        ```
    """

    @named
    def __init__(
        self,
        target: str,
        *,
        timeout: float | None = 30.0,
        retries: int = 5,
        options: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
        api_key: str | None = None,
        tls: bool | str | os.PathLike[str] = False,
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
    ):
        self.target = check_target(target)
        self._timeout = check_timeout(timeout)
        self._retries = check_retries(retries)
        self._metadata = call_metadata(api_key)
        self._closed = False
        self._service = calls.Service()
        self._options = channel_options(options)
        self._tls = tls, tls_cert, tls_key
        self._left_behind: list[grpc.Channel] = []
        self._connect()

    @named
    def create_collection(self, name: str, schema: Schema, *, exist_ok: bool = False, timeout: float | None = None) -> Collection:
        """Create a collection.

        Args:
            name: 1 to 64 letters, digits, ``_``, ``.`` and ``-``, starting with a letter or ``_``.
            schema: the vector fields and attributes.
            exist_ok: return a collection that exists with the same schema.
            timeout: seconds; None is the timeout of the client.

        Raises:
            AlreadyExistsError: the name is taken, or with exist_ok its schema differs. The error says how.
            SchemaError: the name or the schema is not valid.

        Example:
            ```python
            schema = Schema(vectors={"v": Dense(384)}, attributes={"year": Int(), "tags": Keyword(array=True)})
            docs = client.create_collection("docs", schema, exist_ok=True)
            ```
        """
        return Collection(self, self._run(calls.create_collection(self._service, name, schema, exist_ok), timeout))

    @named
    def collection(self, name: str, *, timeout: float | None = None) -> Collection:
        """Open a collection that exists, and read its schema.

        Args:
            name: the name of the collection.
            timeout: seconds; None is the timeout of the client.

        Raises:
            NotFoundError: there is no collection of this name. The error lists those that exist.
        """
        return Collection(self, self._run(calls.collection(self._service, name), timeout))

    def collections(self, *, timeout: float | None = None) -> list[str]:
        """The names of all collections, sorted."""
        return self._run(calls.collections(), timeout)

    @named
    def drop_collection(self, name: str, *, timeout: float | None = None) -> None:
        """Delete a collection with all its points. Raises NotFoundError."""
        return self._run(calls.drop_collection(name), timeout)

    def server_info(self, *, timeout: float | None = None) -> dict[str, Any]:
        """The ``version`` of the service, and its limits ``max_message_bytes`` and ``max_batch``."""
        return self._run(calls.server_info(), timeout)

    def status(self, *, timeout: float | None = None) -> dict[str, Any]:
        """Counters and states of all processes of the service since it started: plain data, see StatusResponse in the proto file."""
        return self._run(calls.status(), timeout)

    @named
    def snapshot(self, path: str, *, archive: bool = False, timeout: float | None = None) -> dict[str, Any]:
        """Copy the current state of the database into the ``snapshot_dir`` of the service. Reads and writes continue meanwhile.

        Args:
            path: a plain name in that folder.
            archive: write one tar file instead of a directory.
            timeout: seconds; None has no limit, whatever the timeout of the client.

        Returns:
            The manifest: created, collections, files and path.

        Raises:
            PreconditionError: the service has no ``snapshot_dir``.
            AlreadyExistsError: the name is taken.
            InvalidArgumentError: the name is not a plain name.
        """
        return self._run(calls.snapshot(path, archive), timeout, endless=True)

    def purge(self, timeout: float | None = None) -> dict[str, Any]:
        """``Collection.purge`` for all collections, those that were dropped included."""
        return self._run(calls.purge(None, timeout), calls.patience(timeout), endless=True)

    def close(self) -> None:
        """Cancel calls under way and close the connection. A second call does nothing."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.target!r}{', closed' if self._closed else ''})"

    def _connect(self) -> None:
        self._pid = os.getpid()
        self._channel = open_channel(grpc, self.target, self._options, *self._tls)
        self._methods = {
            name: (self._channel.unary_stream if name in STREAMS else self._channel.unary_unary)(path, write, read)
            for name, (path, write, read) in METHODS.items()
        }

    def _connect_after_fork(self) -> None:
        check_fork()
        self._left_behind.append(self._channel)  # it belongs to the parent process and must not be closed here
        self._connect()

    def _run(self, steps: calls.Steps[T], timeout: float | None, endless: bool = False) -> T:
        """Drive the steps of a method. timeout: None is the timeout of the client, or with ``endless`` no limit."""
        if self._closed:
            raise ClosedError("the client was closed")
        if self._pid != os.getpid():
            self._connect_after_fork()
        left = self._timeout if timeout is None and not endless else check_timeout(timeout)
        end = None if left is None else time.monotonic() + left
        try:
            name, request = next(steps)
            while True:
                name, request = steps.send(self._call(name, request, end))
        except StopIteration as done:
            return done.value
        except ValueError:
            if self._closed:  # between the check above and the call
                raise ClosedError("the client was closed") from None
            raise

    def _call(self, name: str, request: Any, end: float | None) -> Any:
        """Make one call, and repeat it as ``retry`` allows."""
        attempt, left = 0, None
        while True:
            if end is not None:
                left = end - time.monotonic()
                if left <= 0:
                    raise DeadlineError(f"the timeout passed before {name} was called", field="timeout")
            try:
                return self._methods[name](request, timeout=left, metadata=self._metadata)
            except grpc.RpcError as error:
                left = None if end is None else end - time.monotonic()
                again = attempt < self._retries and not self._closed
                pause = pause_before_retry(error.code().name, metadata_of(error), name, request, attempt, left) if again else None
                if pause is None:
                    raise failure(error, self.target, self._closed) from None
            attempt += 1
            time.sleep(pause)

    def _stream(self, name: str, request: Any, assembly: Any, timeout: float | None, ends_quietly: bool) -> Iterator[Any]:
        """Make a streaming call. ends_quietly: the timeout and ``close`` end the stream without an error."""
        if self._closed:
            raise ClosedError("the client was closed")
        if self._pid != os.getpid():
            self._connect_after_fork()
        seconds = check_timeout(timeout)
        try:
            call = self._methods[name](request, timeout=seconds, metadata=self._metadata)
        except ValueError:
            raise ClosedError("the client was closed") from None
        return self._assembled(call, assembly, ends_quietly)

    def _assembled(self, call: Any, assembly: Any, ends_quietly: bool) -> Iterator[Any]:
        try:
            for message in call:
                whole = assembly.add(message)
                if whole is not None:
                    yield whole
        except grpc.RpcError as error:
            raised = failure(error, self.target, self._closed)
            if not (ends_quietly and isinstance(raised, (DeadlineError, ClosedError))):
                raise raised from None
        finally:
            call.cancel()
