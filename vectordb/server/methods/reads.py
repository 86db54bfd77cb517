"""The methods that read points."""

from __future__ import annotations

from typing import Any

import grpc
from vectordb_client.errors import InvalidArgumentError
from vectordb_client.model.batch import check_each_id
from vectordb_client.model.ranking import MAX_STAGES, Prefetch
from vectordb_client.model.schema import Schema
from vectordb_client.model.vectors import DenseColumn, point_vector
from vectordb_client.rpc import answers, wire
from vectordb_client.v1 import vectordb_pb2 as pb

from ...query.execute import Answers
from ...query.read import encode_cursor
from .served import Methods, optional


class ReadMethods(Methods):
    def get(self, request: pb.GetRequest, context: grpc.ServicerContext) -> pb.GetResponse:
        collection, schema = self.served.find_fresh(request, context)
        forms = self.served.forms(request.collection, schema)
        response = collection._get_pieces(
            check_each_id(wire.unpack_ids(request.ids)),
            lambda there, pieces: answers.pack_get(there, pieces, schema, forms, self.served.room()),
            with_vectors=wire.unpack_selection(request, "with_vectors"),
            with_attributes=wire.unpack_selection(request, "with_attributes"),
        )
        response.revision = collection.revision
        return response

    def search(self, request: pb.SearchRequest, context: grpc.ServicerContext) -> pb.SearchResponse:
        collection, schema = self.served.find_fresh(request, context)
        n = request.queries
        if n != 1 and not request.batch:
            raise InvalidArgumentError(f"'queries' is {n}; without 'batch' it must be 1", field="queries", value=n)
        stage = _stage(request, n, schema, request.batch)
        asked = {
            "vectors": stage.vectors,
            "text": stage.text,
            "filter": wire.unpack_filter(request),
            "limit": stage.limit,
            "recall": optional(request, "recall"),
            "exact": request.exact,
            "fusion": stage.fusion,
            "candidates": stage.candidates,
            "prefetch": stage.prefetch,
            "with_attributes": wire.unpack_selection(request, "with_attributes"),
            "with_vectors": wire.unpack_selection(request, "with_vectors"),
            "explain": request.explain,
        }
        forms = self.served.forms(request.collection, schema) if request.HasField("with_attributes") else None

        def take(found: Answers) -> pb.SearchResponse:
            response, room = pb.SearchResponse(forms=forms), self.served.room()
            for hits in found:
                answers.pack_hits(response.results.add(), hits, schema, room)
            plan = found.plan
            if plan is not None:
                packed = answers.pack_plan(plan)
                for result in response.results:
                    room.take(len(packed))
                    result.plan = packed
            return response

        response = collection._search_pieces(request.batch, take, asked)
        response.revision = collection.revision
        return response

    def count(self, request: pb.CountRequest, context: grpc.ServicerContext) -> pb.CountResponse:
        collection, _ = self.served.find_fresh(request, context)
        return pb.CountResponse(count=collection.count(wire.unpack_filter(request)), revision=collection.revision)

    def scroll(self, request: pb.ScrollRequest, context: grpc.ServicerContext) -> pb.ScrollResponse:
        collection, schema = self.served.find_fresh(request, context)
        forms = self.served.forms(request.collection, schema)
        response = collection._scroll_pieces(
            lambda pieces, more: answers.pack_page(pieces, more, encode_cursor, schema, forms, self.served.room()),
            wire.unpack_filter(request),
            request.limit,
            optional(request, "cursor"),
            with_vectors=wire.unpack_selection(request, "with_vectors"),
            with_attributes=wire.unpack_selection(request, "with_attributes"),
        )
        response.revision = collection.revision
        return response


def _stage(message: pb.SearchRequest | pb.Prefetch, n: int, schema: Schema, batch: bool, depth: int = 0) -> Prefetch:
    """A search or one of its prefetch stages, decoded."""
    if depth > MAX_STAGES:
        raise InvalidArgumentError(f"a search has at most {MAX_STAGES} prefetch stages", field="prefetch", value=depth)
    columns = wire.query_columns(message.vectors, n, schema)
    text = _texts(message, n)
    return Prefetch(
        vectors={name: _queries(column, n) if batch else point_vector(column, 0) for name, column in columns.items()} or None,
        text=text if batch else _first(text),
        limit=message.limit,
        fusion=wire.unpack_fusion(message),
        candidates=optional(message, "candidates"),
        prefetch=_stage(message.prefetch, n, schema, batch, depth + 1) if message.HasField("prefetch") else None,
    )


def _texts(request: pb.SearchRequest | pb.Prefetch, n: int) -> dict[str, list[str]] | list[str] | None:
    """One list of texts for all fields with an encoder, or field → list of texts."""
    texts: dict[str, list[str]] = {}
    for query in request.texts:
        if query.field in texts or (texts and not (query.field and "" not in texts)):
            raise InvalidArgumentError(f"texts for field {query.field!r} are given twice", field="text")
        if len(query.texts) != n:
            raise InvalidArgumentError(f"there are {len(query.texts)} texts for {n} queries", field="text", value=len(query.texts))
        texts[query.field] = list(query.texts)
    return texts.get("", texts) if texts else None


def _first(text: Any) -> Any:
    if isinstance(text, dict):
        return {field: values[0] for field, values in text.items()}
    return text[0] if text else None


def _queries(column: Any, n: int) -> Any:
    return column.values if isinstance(column, DenseColumn) else [point_vector(column, i) for i in range(n)]
