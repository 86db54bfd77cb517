"""The methods of the words of sparse fields' terms."""

from __future__ import annotations

import grpc
from vectordb_client.rpc import wire_terms
from vectordb_client.v1 import vectordb_pb2 as pb

from .served import Methods, optional


class TermMethods(Methods):
    def set_terms(self, request: pb.SetTermsRequest, context: grpc.ServicerContext) -> pb.SetTermsResponse:
        collection, _ = self.served.find(request)
        words = wire_terms.unpack_words(request)
        return pb.SetTermsResponse(changed=collection.set_terms(request.field, words, durability=optional(request, "durability")))

    def list_terms(self, request: pb.ListTermsRequest, context: grpc.ServicerContext) -> pb.ListTermsResponse:
        collection, _ = self.served.find(request)
        limit = request.limit
        while True:
            response = wire_terms.pack_page(collection.terms(request.field, after=optional(request, "after"), limit=limit))
            if response.ByteSize() <= self.served.max_message_bytes:
                return response
            limit = min(limit, len(response.words)) // 2
