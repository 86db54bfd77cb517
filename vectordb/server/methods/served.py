"""What the methods share: the open database, its collections by request, and the settings that concern answers."""

from __future__ import annotations

import threading
import time
from typing import Any

import grpc
from vectordb_client.errors import NotFoundError, UnavailableError, shown
from vectordb_client.model.schema import Schema
from vectordb_client.rpc import answers
from vectordb_client.rpc.packing import Room
from vectordb_client.v1 import vectordb_pb2 as pb

from ...common import memory
from ..access.tenants import CALLER
from ..deadlines import check_deadline, longest_wait
from ..settings import Settings
from ..telemetry.telemetry import Telemetry
from .tenants import TenantCollection

_FRESH_SECONDS, _FRESH_POLL_SECONDS = 1.0, 0.002  # how long a read waits for its caller's own write to become visible


class Served:
    """An open database as the methods see it. stopping: set when the service shuts down; streams end then."""

    def __init__(self, database: Any, settings: Settings, telemetry: Telemetry, stopping: threading.Event):
        self.database = database
        self.settings = settings
        self.telemetry = telemetry
        self.stopping = stopping
        self.max_message_bytes = settings.max_message_bytes
        self._forms: dict[str, tuple[Schema, pb.AttributeForms | None]] = {}

    def find(self, request: Any) -> tuple[Any, Schema]:
        """The collection of a request, and its schema. Raises NotFoundError, also if it was dropped and created again."""
        name = request.name if isinstance(request, pb.DescribeCollectionRequest) else request.collection
        collection, schema = self._open(name)
        if request.collection_number not in (0, collection.number):
            raise NotFoundError(
                f"collection {shown(name)} was dropped and created again, or renamed; get a new handle with client.collection()",
                field="collection",
                value=name,
            )
        return collection, schema

    def find_fresh(self, request: Any, context: grpc.ServicerContext) -> tuple[Any, Schema]:
        """``find`` for a read: waits until the caller's own writes are visible. Raises UnavailableError if that takes too long."""
        collection, schema = self.find(request)
        if not request.HasField("seen"):
            return collection, schema
        seen, end = request.seen, time.monotonic() + min(_FRESH_SECONDS, longest_wait(context) or _FRESH_SECONDS)
        while not (collection.number > seen.collection or (collection.number == seen.collection and collection.reached(seen.sequence))):
            if time.monotonic() >= end:
                raise UnavailableError(
                    f"this client's write of sequence {seen.sequence} isn't visible here yet; "
                    "if the service was restored from an older snapshot, create a new client",
                    field="seen",
                    value=seen.sequence,
                )
            time.sleep(_FRESH_POLL_SECONDS)
            check_deadline(context)
            collection, schema = self.find(request)
        return collection, schema

    def forget(self, name: str) -> None:
        """Drop what is cached of a collection."""
        self._forms.pop(name, None)

    def forms(self, name: str, schema: Schema) -> pb.AttributeForms | None:
        """Which attributes of the collection's answers are strings or lists in JSON but something else."""
        cached = self._forms.get(name)
        if cached is None or cached[0] is not schema:
            cached = self._forms[name] = (schema, answers.forms_of(schema))
        return cached[1]

    def room(self) -> Room:
        """Counts the size of an answer while it is built."""
        return Room(self.max_message_bytes, memory.hold)

    def _open(self, name: str) -> tuple[Any, Schema]:
        """The collection by name or alias, as it is now: another process may have renamed it or switched the alias."""
        collection = self.database.collection(name)
        schema, tenant = collection.schema, CALLER.tenant
        return collection if tenant is None else TenantCollection(collection, schema, tenant), schema


class Methods:
    """The base of the classes whose methods answer gRPC methods. A gRPC method ``DoThis`` is answered by ``do_this(request, context)``."""

    def __init__(self, served: Served):
        self.served = served


def optional(request: Any, field: str) -> Any:
    """The value of an optional field; None if it is absent."""
    return getattr(request, field) if request.HasField(field) else None
