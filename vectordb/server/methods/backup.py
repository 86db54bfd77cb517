"""The methods of snapshots, purges, the memory budget and change streams."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
from vectordb_client.errors import InvalidArgumentError, LimitError, PreconditionError, UnavailableError, shown
from vectordb_client.rpc import changes, wire
from vectordb_client.v1 import vectordb_pb2 as pb

from ..deadlines import longest_wait
from .served import Methods, Served, optional

_ROUND_SECONDS = 0.25  # of waiting for changes, between two checks that the caller is still there
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


class BackupMethods(Methods):
    def __init__(self, served: Served):
        super().__init__(served)
        settings = served.settings
        self._snapshot_dir = os.path.abspath(settings.snapshot_dir) if settings.snapshot_dir else ""
        self._most_streams = settings.change_streams
        self._streams = threading.BoundedSemaphore(settings.change_streams)

    def snapshot(self, request: pb.SnapshotRequest, context: grpc.ServicerContext) -> pb.SnapshotResponse:
        if not _NAME.fullmatch(request.name):
            raise InvalidArgumentError(
                f"a snapshot's name must be 1 to 100 characters of A-Z a-z 0-9 _ . - and not start with a dot, not {shown(request.name)}",
                field="path",
                value=request.name,
            )
        if not self._snapshot_dir:
            raise PreconditionError("the service can't take snapshots: its setting snapshot_dir is not set", field="snapshot_dir")
        manifest = self.served.database.snapshot(Path(self._snapshot_dir) / request.name, archive=request.archive)
        return pb.SnapshotResponse(manifest=wire.pack_json(manifest, "manifest"))

    def purge(self, request: pb.PurgeRequest, context: grpc.ServicerContext) -> pb.PurgeResponse:
        target = self.served.find(request)[0] if request.HasField("collection") else self.served.database
        result = target.purge(timeout=longest_wait(context, optional(request, "timeout")))
        return pb.PurgeResponse(result=wire.pack_json(result, "result"))

    def set_memory(self, request: pb.SetMemoryRequest, context: grpc.ServicerContext) -> pb.SetMemoryResponse:
        workers = self.served.settings.workers
        if workers > 1:
            what = (
                f"the service has {workers} processes, and a call reaches one of them; restart it with another value of its setting memory"
            )
            raise PreconditionError(what, field="memory", value=workers)
        facts = self.served.database.set_memory(optional(request, "memory"))
        return pb.SetMemoryResponse(facts=wire.pack_json(facts, "facts"))

    def changes(self, request: pb.ChangesRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        if not self._streams.acquire(blocking=False):
            raise LimitError(
                f"all {self._most_streams} change streams are in use (setting change_streams of the service); retry later",
                field="change_streams",
                value=self._most_streams,
            )
        try:
            collection, _ = self.served.find(request)
            since, timeout = request.since, _ROUND_SECONDS if request.follow else None
            selections = {name: wire.unpack_selection(request, name) for name in ("with_vectors", "with_attributes")}
            while context.is_active():
                for change, more in collection.pieces.changes(since, follow=request.follow, timeout=timeout, **selections):
                    if self.served.stopping.is_set():
                        break
                    schema = self.served.find(request)[1]
                    forms = self.served.forms(request.collection, schema)
                    yield from changes.pack(change, schema, forms, self.served.max_message_bytes, more)
                    since = since if more else change.sequence
                if self.served.stopping.is_set():
                    raise UnavailableError("the service is shutting down")
                if not request.follow:
                    return
        finally:
            self._streams.release()
