"""The methods that write points."""

from __future__ import annotations

from typing import Any

import grpc
from vectordb_client.errors import InvalidArgumentError
from vectordb_client.model.batch import Batch
from vectordb_client.model.schema import Schema
from vectordb_client.rpc import wire
from vectordb_client.v1 import vectordb_pb2 as pb

from ...common import memory
from ..deadlines import check_deadline
from .served import Methods, optional
from .tenants import TenantCollection

_VALUE_BYTES = 8  # bytes of memory per byte of JSON, in addition to those of the request


class WriteMethods(Methods):
    def write(self, request: pb.WriteRequest, context: grpc.ServicerContext) -> pb.WriteResponse:
        collection, schema = self.served.find(request)
        batch = self._batch(request, schema)
        check_deadline(context)
        result = collection.apply_batch(batch, durability=optional(request, "durability"))
        return pb.WriteResponse(sequence=int(result), count=result.count, collection=collection.number, revision=collection.revision)

    def transact(self, request: pb.TransactRequest, context: grpc.ServicerContext) -> pb.TransactResponse:
        collections = []
        with self.served.database.transaction(durability=optional(request, "durability")) as transaction:
            for step in request.steps:
                kind = step.WhichOneof("step")
                if kind is None:
                    raise InvalidArgumentError("a step of a transaction must be a write or a deletion", field="steps")
                part = getattr(step, kind)
                if part.HasField("durability"):
                    raise InvalidArgumentError("durability belongs to the whole transaction", field="durability", value=part.durability)
                collection, schema = self.served.find(part)
                collections.append(collection)
                bound = collection if isinstance(collection, TenantCollection) else None
                if kind == "write":
                    batch = self._batch(part, schema)
                    transaction.keep(*((collection, batch) if bound is None else bound.write_of(batch)))
                elif bound is None:
                    transaction[collection].delete(**_deletion(part))
                else:
                    transaction.keep(*bound.deletion_of(**_deletion(part)))
                check_deadline(context)
        response = pb.TransactResponse()
        for step, collection, result in zip(request.steps, collections, transaction.results, strict=True):
            done = getattr(response.results.add(), step.WhichOneof("step"))
            done.sequence, done.count = int(result), result.count
            done.collection, done.revision = collection.number, collection.revision
        return response

    def delete(self, request: pb.DeleteRequest, context: grpc.ServicerContext) -> pb.DeleteResponse:
        collection, _ = self.served.find(request)
        result = collection.delete(**_deletion(request), durability=optional(request, "durability"))
        return pb.DeleteResponse(sequence=int(result), count=result.count, collection=collection.number, revision=collection.revision)

    def _batch(self, request: pb.WriteRequest, schema: Schema) -> Batch:
        values = [request.batch.payload, *request.batch.attributes]
        memory.hold(_VALUE_BYTES * sum(len(column.json) for column in values), "the attributes and payloads")
        return wire.unpack_batch(request.batch, schema)


def _deletion(request: pb.DeleteRequest) -> dict[str, Any]:
    """The arguments of ``Collection.delete``."""
    ids = wire.unpack_ids(request.ids) if request.HasField("ids") else None
    return {
        "ids": ids,
        "filter": wire.unpack_filter(request),
        "if_version": wire.unpack_versions(request.if_version, len(ids or ())),
        "if_filter": wire.unpack_filter(request, "if_filter"),
    }
