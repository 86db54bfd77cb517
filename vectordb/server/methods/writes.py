"""The methods that write points."""

from __future__ import annotations

import grpc
from vectordb_client.rpc import wire
from vectordb_client.v1 import vectordb_pb2 as pb

from ...common import memory
from ..deadlines import check_deadline
from .served import Methods, optional

_VALUE_BYTES = 8  # bytes of memory per byte of JSON, in addition to those of the request


class WriteMethods(Methods):
    def write(self, request: pb.WriteRequest, context: grpc.ServicerContext) -> pb.WriteResponse:
        collection, schema = self.served.find(request)
        values = [request.batch.payload, *request.batch.attributes]
        memory.hold(_VALUE_BYTES * sum(len(column.json) for column in values), "the attributes and payloads")
        batch = wire.unpack_batch(request.batch, schema)
        check_deadline(context)
        result = collection.apply_batch(batch, durability=optional(request, "durability"))
        return pb.WriteResponse(sequence=int(result), count=result.count, collection=collection.number, revision=collection.revision)

    def delete(self, request: pb.DeleteRequest, context: grpc.ServicerContext) -> pb.DeleteResponse:
        collection, _ = self.served.find(request)
        ids = wire.unpack_ids(request.ids) if request.HasField("ids") else None
        result = collection.delete(
            ids,
            filter=wire.unpack_filter(request),
            if_version=wire.unpack_versions(request.if_version, len(ids or ())),
            if_filter=wire.unpack_filter(request, "if_filter"),
            durability=optional(request, "durability"),
        )
        return pb.DeleteResponse(sequence=int(result), count=result.count, collection=collection.number, revision=collection.revision)
