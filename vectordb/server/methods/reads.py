"""The methods that read points."""

from __future__ import annotations

from typing import Any

import grpc
from vectordb_client.model import aggregates, facets, groups
from vectordb_client.model.batch_ids import check_each_id
from vectordb_client.model.history import unpack_as_of
from vectordb_client.model.page_options import check_order
from vectordb_client.rpc import answers, wire
from vectordb_client.rpc.wire_search import unpack_search
from vectordb_client.v1 import vectordb_pb2 as pb

from ...query.execute import Answers
from .served import Methods, optional


class ReadMethods(Methods):
    def get(self, request: pb.GetRequest, context: grpc.ServicerContext) -> pb.GetResponse:
        collection, schema = self.served.find_fresh(request, context)
        forms = self.served.forms(request.collection, schema)
        response = collection.pieces.get(
            check_each_id(wire.unpack_ids(request.ids)),
            lambda exists, pieces: answers.pack_get(exists, pieces, schema, forms, self.served.room()),
            with_vectors=wire.unpack_selection(request, "with_vectors"),
            with_attributes=wire.unpack_selection(request, "with_attributes"),
            with_payload=wire.unpack_paths(request),
            as_of=unpack_as_of(request.as_of),
        )
        response.revision = collection.revision
        return response

    def search(self, request: pb.SearchRequest, context: grpc.ServicerContext) -> pb.SearchResponse:
        collection, schema = self.served.find_fresh(request, context)
        asked, vectors, text = unpack_search(request, schema)
        forms = self.served.forms(request.collection, schema) if request.HasField("with_attributes") else None

        def take(results: Answers) -> pb.SearchResponse:
            response, room = pb.SearchResponse(forms=forms), self.served.room()
            for q, hits in enumerate(results):
                answers.pack_hits(response.results.add(), hits, schema, room)
                if asked.group_by is not None:
                    packed = wire.pack_json(groups.to_json(results.groups[q], schema, asked.group_by), "groups")
                    response.results[q].groups = packed
                    room.take(len(packed))
            following = None if request.batch else results.next
            if following is not None:
                room.take(len(following))
                response.results[0].next = following
            if results.facets and asked.facets is not None:
                response.facets = _packed_facets(results.facets, schema, asked.facets)
                room.take(len(response.facets))
            plan = results.plan
            if plan is not None:
                packed = answers.pack_plan(plan)
                for result in response.results:
                    room.take(len(packed))
                    result.plan = packed
            return response

        response = collection.pieces.search(asked, vectors, text, request.batch, take)
        response.revision = collection.revision
        return response

    def count(self, request: pb.CountRequest, context: grpc.ServicerContext) -> pb.CountResponse:
        collection, _ = self.served.find_fresh(request, context)
        count = collection.count(wire.unpack_filter(request), as_of=unpack_as_of(request.as_of))
        return pb.CountResponse(count=count, revision=collection.revision)

    def facets(self, request: pb.FacetsRequest, context: grpc.ServicerContext) -> pb.FacetsResponse:
        collection, schema = self.served.find_fresh(request, context)
        asked = facets.check_facets("facets", wire.unpack_json(request.facets, "facets"))
        results = collection.facets(asked, filter=wire.unpack_filter(request), as_of=unpack_as_of(request.as_of))
        packed = _packed_facets(results, schema, asked)
        self.served.room().take(len(packed))
        return pb.FacetsResponse(facets=packed, revision=collection.revision)

    def aggregate(self, request: pb.AggregateRequest, context: grpc.ServicerContext) -> pb.AggregateResponse:
        collection, schema = self.served.find_fresh(request, context)
        functions, state = wire.unpack_json(request.functions, "functions"), unpack_as_of(request.as_of)
        results = collection.aggregate(functions, filter=wire.unpack_filter(request), as_of=state)
        packed = wire.pack_json(aggregates.results_to_json(results, schema), "results")
        return pb.AggregateResponse(results=packed, revision=collection.revision)

    def scroll(self, request: pb.ScrollRequest, context: grpc.ServicerContext) -> pb.ScrollResponse:
        collection, schema = self.served.find_fresh(request, context)
        forms = self.served.forms(request.collection, schema)
        response = collection.pieces.scroll(
            lambda pieces, more, cursor_at: answers.pack_page(pieces, more, cursor_at, schema, forms, self.served.room()),
            wire.unpack_filter(request),
            request.limit,
            optional(request, "cursor"),
            check_order("order_by", list(request.order_by)) if request.order_by else None,
            with_vectors=wire.unpack_selection(request, "with_vectors"),
            with_attributes=wire.unpack_selection(request, "with_attributes"),
            with_payload=wire.unpack_paths(request),
            as_of=unpack_as_of(request.as_of),
        )
        response.revision = collection.revision
        return response


def _packed_facets(results: Any, schema: Any, asked: Any) -> bytes:
    return wire.pack_json(facets.results_to_json(results, schema, asked), "facets")
