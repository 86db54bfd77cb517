"""The blocking client: the methods of an embedded database, over gRPC."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from ..model.access import Collections
from ..model.aliases import Durability, Span
from ..model.arguments import like, named
from ..model.branches import BranchDiff, MergeResult, OnConflict
from ..model.memory import Memory
from ..model.schema import Schema
from . import calls
from .collection import Collection
from .transaction import Transaction
from .transport import Transport

__all__ = ["Client", "Collection"]


class Client(Transport, Collections[Collection]):
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
        super().__init__(target, timeout, retries, options, api_key, tls, tls_cert, tls_key)

    @like(Collections.create_collection)
    @named
    def create_collection(
        self,
        name: str,
        schema: Schema,
        *,
        exist_ok: bool = False,
        history: Span | None = None,
        timeout: float | None = None,
    ) -> Collection:
        return Collection(self, self._run(calls.create_collection(self._service, name, schema, exist_ok, history), timeout))

    @like(Collections.collection)
    @named
    def collection(self, name: str, *, timeout: float | None = None) -> Collection:
        return Collection(self, self._run(calls.collection(self._service, name), timeout))

    @like(Collections.collections)
    def collections(self, *, timeout: float | None = None) -> list[str]:
        return self._run(calls.collections(), timeout)

    @like(Collections.drop_collection)
    @named
    def drop_collection(self, name: str, *, timeout: float | None = None) -> None:
        return self._run(calls.drop_collection(name), timeout)

    @like(Collections.rename_collection)
    @named
    def rename_collection(self, name: str, new_name: str, *, timeout: float | None = None) -> None:
        return self._run(calls.rename_collection(name, new_name), timeout)

    @like(Collections.alias)
    @named
    def alias(self, alias: str, collection: str, *, timeout: float | None = None) -> None:
        return self._run(calls.alias(alias, collection), timeout)

    @like(Collections.drop_alias)
    @named
    def drop_alias(self, alias: str, *, timeout: float | None = None) -> None:
        return self._run(calls.drop_alias(alias), timeout)

    @like(Collections.aliases)
    def aliases(self, *, timeout: float | None = None) -> dict[str, str]:
        return self._run(calls.aliases(), timeout)

    @like(Collections.branch)
    @named
    def branch(self, source: str, name: str, *, timeout: float | None = None) -> Collection:
        return Collection(self, self._run(calls.branch(self._service, source, name), timeout))

    @like(Collections.diff)
    @named
    def diff(self, branch: str, *, limit: int = 1_000, timeout: float | None = None) -> BranchDiff:
        return self._run(calls.diff(branch, limit), timeout)

    @like(Collections.merge)
    @named
    def merge(self, branch: str, *, on_conflict: OnConflict = "error", timeout: float | None = None) -> MergeResult:
        return self._run(calls.merge(branch, on_conflict), timeout)

    def server_info(self, *, timeout: float | None = None) -> dict[str, Any]:
        """The ``version`` of the service, and its limits ``max_message_bytes`` and ``max_batch``."""
        return self._run(calls.server_info(), timeout)

    def status(self, *, timeout: float | None = None) -> dict[str, Any]:
        """Counters and states of all processes of the service since it started: plain data, see StatusResponse in the proto file."""
        return self._run(calls.status(), timeout)

    @like(Collections.transaction, "seconds for the call at the end of the block, and for each that reads a schema")
    def transaction(self, *, durability: Durability | None = None, timeout: float | None = None) -> Transaction:
        return Transaction(self, durability, timeout)

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
        return self._run(calls.purge(None, timeout), calls.call_timeout(timeout), endless=True)

    @like(Collections.set_memory)
    @named
    def set_memory(self, memory: Memory, *, timeout: float | None = None) -> dict[str, int]:
        return self._run(calls.set_memory(memory), timeout)
