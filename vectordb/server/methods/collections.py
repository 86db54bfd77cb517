"""The methods of the service itself and of its collections."""

from __future__ import annotations

from typing import Any

import grpc
from vectordb_client._version import __version__
from vectordb_client.errors import InvalidArgumentError
from vectordb_client.model.schema import Schema
from vectordb_client.model.unset import UNSET
from vectordb_client.rpc import answers, wire
from vectordb_client.v1 import vectordb_pb2 as pb

from ..deadlines import longest_wait
from .served import Methods, optional


class CollectionMethods(Methods):
    def status(self, request: pb.StatusRequest, context: grpc.ServicerContext) -> pb.StatusResponse:
        return pb.StatusResponse(status=wire.pack_json(self.served.telemetry.status(), "status"))

    def server_info(self, request: pb.ServerInfoRequest, context: grpc.ServicerContext) -> pb.ServerInfoResponse:
        settings = self.served.settings
        return pb.ServerInfoResponse(version=__version__, max_message_bytes=settings.max_message_bytes, max_batch=settings.max_points)

    def create_collection(self, request: pb.CreateCollectionRequest, context: grpc.ServicerContext) -> pb.CreateCollectionResponse:
        schema, exist_ok, history = answers.unpack_schema(request.schema), request.exist_ok, request.history
        collection = self.served.database.create_collection(request.name, schema, exist_ok=exist_ok, history=history)
        return pb.CreateCollectionResponse(
            schema=answers.pack_schema(collection.schema),
            collection_number=collection.number,
            revision=collection.revision,
            name=collection.name,
        )

    def drop_collection(self, request: pb.DropCollectionRequest, context: grpc.ServicerContext) -> pb.DropCollectionResponse:
        self.served.database.drop_collection(request.name)
        self.served.forget(request.name)
        return pb.DropCollectionResponse()

    def rename_collection(self, request: pb.RenameCollectionRequest, context: grpc.ServicerContext) -> pb.RenameCollectionResponse:
        self.served.database.rename_collection(request.collection, request.new_name)
        self.served.forget(request.collection)
        return pb.RenameCollectionResponse()

    def set_alias(self, request: pb.SetAliasRequest, context: grpc.ServicerContext) -> pb.SetAliasResponse:
        self.served.database.alias(request.alias, request.collection)
        return pb.SetAliasResponse()

    def drop_alias(self, request: pb.DropAliasRequest, context: grpc.ServicerContext) -> pb.DropAliasResponse:
        self.served.database.drop_alias(request.alias)
        return pb.DropAliasResponse()

    def list_aliases(self, request: pb.ListAliasesRequest, context: grpc.ServicerContext) -> pb.ListAliasesResponse:
        return pb.ListAliasesResponse(aliases=self.served.database.aliases())

    def branch(self, request: pb.BranchRequest, context: grpc.ServicerContext) -> pb.BranchResponse:
        made = self.served.database.branch(request.collection, request.name)
        schema = answers.pack_schema(made.schema)
        return pb.BranchResponse(schema=schema, name=made.name, collection_number=made.number, revision=made.revision)

    def diff(self, request: pb.DiffRequest, context: grpc.ServicerContext) -> pb.DiffResponse:
        return answers.pack_diff(self.served.database.diff(request.collection, limit=request.limit))

    def merge(self, request: pb.MergeRequest, context: grpc.ServicerContext) -> pb.MergeResponse:
        return pb.MergeResponse(**self.served.database.merge(request.collection, on_conflict=request.on_conflict).to_dict())

    def list_collections(self, request: pb.ListCollectionsRequest, context: grpc.ServicerContext) -> pb.ListCollectionsResponse:
        return pb.ListCollectionsResponse(names=self.served.database.collections())

    def describe_collection(self, request: pb.DescribeCollectionRequest, context: grpc.ServicerContext) -> pb.DescribeCollectionResponse:
        collection, _ = self.served.find_fresh(request, context)
        revision = collection.revision  # read before the schema, so that a change in between is noticed
        response = pb.DescribeCollectionResponse(collection_number=collection.number, revision=revision, name=collection.name)
        if not request.info:
            response.schema = answers.pack_schema(collection.schema)
            return response
        info = collection.info()
        response.schema = answers.pack_schema(info.schema)
        response.info.CopyFrom(answers.pack_info(info))
        return response

    def add_fields(self, request: pb.AddFieldsRequest, context: grpc.ServicerContext) -> pb.AddFieldsResponse:
        collection, schema = self.served.find(request)
        given = wire.unpack_json(request.fields, "fields")
        if not isinstance(given, dict) or not all(isinstance(section, dict) for section in given.values()):
            raise InvalidArgumentError("fields must be a JSON object of 'vectors' and 'attributes'", field="fields")
        # Parsed together with the existing schema: a new vector field may name an existing source.
        whole = schema.to_dict()
        parts = ("vectors", "attributes")
        schema = Schema.from_dict({**given, **{part: whole[part] | given.get(part, {}) for part in parts}})
        collection.add_fields(
            vectors={name: schema.vectors[name] for name in given.get("vectors", {})},
            attributes={name: schema.attributes[name] for name in given.get("attributes", {})},
            exist_ok=request.exist_ok,
        )
        return _changed(collection)

    def drop_fields(self, request: pb.DropFieldsRequest, context: grpc.ServicerContext) -> pb.AddFieldsResponse:
        collection, _ = self.served.find(request)
        collection.drop_fields(list(request.names))
        return _changed(collection)

    def rename_fields(self, request: pb.RenameFieldsRequest, context: grpc.ServicerContext) -> pb.AddFieldsResponse:
        collection, _ = self.served.find(request)
        collection.rename_fields(dict(request.names))
        return _changed(collection)

    def alter(self, request: pb.AlterRequest, context: grpc.ServicerContext) -> pb.AddFieldsResponse:
        collection, _ = self.served.find(request)
        given = wire.unpack_json(request.attributes, "attributes") if request.attributes else {}
        if not isinstance(given, dict):
            raise InvalidArgumentError("attributes must be a JSON object of definitions", field="attributes")
        if request.no_ttl and request.HasField("ttl"):
            raise InvalidArgumentError("ttl names an attribute, or no_ttl takes it away; not both", field="ttl", value=request.ttl)
        ttl = None if request.no_ttl else request.ttl if request.HasField("ttl") else UNSET
        collection.alter(attributes=Schema.from_dict({"attributes": given}).attributes, ttl=ttl)
        return _changed(collection)

    def keep_history(self, request: pb.KeepHistoryRequest, context: grpc.ServicerContext) -> pb.KeepHistoryResponse:
        collection, _ = self.served.find(request)
        collection.keep_history(request.history)
        return pb.KeepHistoryResponse(revision=collection.revision)

    def optimize(self, request: pb.OptimizeRequest, context: grpc.ServicerContext) -> pb.OptimizeResponse:
        collection, _ = self.served.find(request)
        wait = request.wait if request.HasField("wait") else True
        result = collection.optimize(wait=wait, timeout=longest_wait(context, optional(request, "timeout")))
        return answers.pack_optimized(result)

    def fit(self, request: pb.FitRequest, context: grpc.ServicerContext) -> pb.FitResponse:
        collection, _ = self.served.find(request)
        report = collection.fit(request.field, timeout=longest_wait(context, optional(request, "timeout")))
        return pb.FitResponse(report=wire.pack_json(report, "report"))

    def report(self, request: pb.ReportRequest, context: grpc.ServicerContext) -> pb.ReportResponse:
        collection, _ = self.served.find(request)
        return pb.ReportResponse(report=wire.pack_json(collection.report(request.field), "report"))

    def migrate(self, request: pb.MigrateRequest, context: grpc.ServicerContext) -> pb.MigrateResponse:
        collection, _ = self.served.find(request)
        given = {name: optional(request, name) for name in ("anchors", "encode", "wait")}
        report = collection.migrate(
            request.field,
            request.encoder,
            seed=request.seed,
            dry_run=request.dry_run,
            timeout=longest_wait(context, optional(request, "timeout")),
            **{name: value for name, value in given.items() if value is not None},
        )
        return pb.MigrateResponse(report=wire.pack_json(report, "report"))

    def migration(self, request: pb.MigrationRequest, context: grpc.ServicerContext) -> pb.MigrationResponse:
        collection, _ = self.served.find(request)
        return pb.MigrationResponse(facts=wire.pack_json(collection.migration(request.field), "facts"))

    def cancel_migration(self, request: pb.CancelMigrationRequest, context: grpc.ServicerContext) -> pb.CancelMigrationResponse:
        collection, _ = self.served.find(request)
        return pb.CancelMigrationResponse(cancelled=collection.cancel_migration(request.field))


def _changed(collection: Any) -> pb.AddFieldsResponse:
    """The schema of a collection after a change."""
    schema = answers.pack_schema(collection.schema)  # read first, so that ``revision`` is at least its own
    return pb.AddFieldsResponse(schema=schema, collection_number=collection.number, revision=collection.revision)
