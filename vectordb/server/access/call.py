"""One call to the service, and what its API key and the limits let it do."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import grpc
from vectordb_client.errors import EncoderError, NotFoundError, PermissionDeniedError, SchemaError, VectorDBError, shown
from vectordb_client.model.schema import check_name
from vectordb_client.rpc import wire
from vectordb_client.rpc.methods import Method
from vectordb_client.rpc.status import status_of
from vectordb_client.v1 import vectordb_pb2 as pb

from ... import encoders
from ...common import deadline
from ..deadlines import time_left
from ..turns import Place, Turn
from . import limits
from .keys import ANYBODY, ROLES
from .tenants import CALLER

if TYPE_CHECKING:
    from .guard import Guard

_LEVEL = {role: level for level, role in enumerate(ROLES)}
Behavior = Callable[[Any, grpc.ServicerContext, "AdmittedCall"], Any]


class AdmittedCall:
    """One call, from its arrival to its end. gRPC sees it as the method's behavior, with the thread pool to run it."""

    __slots__ = (
        "_allowance", "_behavior", "_context", "_count", "_explained", "_guard", "_reads_vectors",
        "_scope", "caller", "collection", "collections", "experimental_thread_pool", "key", "method", "place", "refusal",
    )  # fmt: skip

    def __init__(self, guard: Guard, method: Method, behavior: Behavior):
        self._guard, self.method, self._behavior = guard, method, behavior
        self.key = ANYBODY
        self.caller: str | None = None  # set while the call counts towards its caller's limit
        self.place: Place | None = None
        self.refusal: VectorDBError | None = None
        self.experimental_thread_pool = guard.entrance  # the name is gRPC's
        self.collection: str | None = None
        self.collections: Sequence[str] = ()
        self._reads_vectors = self._explained = False
        self._count = 0

    def __call__(self, data: Any, context: grpc.ServicerContext) -> Any:
        return self._behavior(data, context, self)

    def refuse(self, error: VectorDBError) -> None:
        """Answer the call with this error, without reading its message."""
        self.refusal = error

    def ended(self) -> None:
        """The work is done, or the caller is gone. May be called twice."""
        self._guard.leave(self)

    def admitted(self, context: grpc.ServicerContext) -> AdmittedCall:
        """``with call.admitted(context):`` around the work raises the error of a refused call, stops the work when the caller is gone, and
        writes the audit log.
        """
        self._context = context
        return self

    def __enter__(self) -> AdmittedCall:
        if self.refusal is not None:
            raise self.refusal
        self._allowance = self._guard.memory.allowance()
        turn = Turn(time_left(self._context), self.place, self._guard.open, self._allowance)
        if not self._context.add_callback(turn.leave):
            turn.leave()
        self._scope = deadline.scope(turn)
        self._scope.__enter__()
        CALLER.tenant = self.key.tenant
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._scope.__exit__(None, None, None)
        self._allowance.close()
        self.ended()  # before the answer is sent: the caller may call again at once
        audit = self._guard.audit
        if audit is not None and (self.method.audited or self._reads_vectors):
            audit.write(**self._facts(error))
        limited = self.key.collections is not None or self.key.tenant is not None
        if limited and isinstance(error, NotFoundError) and error.field == "collection":
            # The database's error lists all collections, which this key may not know.
            raise NotFoundError(f"no collection {shown(error.value)}", field="collection", value=error.value) from None

    def check(self, request: Any) -> None:
        """Raises PermissionDeniedError if the key doesn't allow the request, LimitError if it exceeds a limit. Does not depend on whether
        the collection exists.
        """
        method, key = self.method, self.key
        self.collection = getattr(request, method.collection) if method.collection else None
        self.collections = method.named(request) if method.collections else ()
        if _LEVEL[key.role] < _LEVEL[method.role]:
            raise self._denied(f"the role {method.role}", "role", method.role)
        if key.tenant is not None and not method.tenants:
            raise self._denied("a key without a tenant", "tenant", key.tenant)
        if key.collections is not None and (method.all_collections or (method.collection and not self._may_use(self.collection))):
            needed = "a key for all collections" if method.all_collections else "a key for that collection"
            raise self._denied(needed, "collection", self.collection)
        for name in self.collections if key.collections is not None else ():
            if not self._may_use(name):
                raise self._denied(f"a key for collection {shown(name)}", "collection", name)
        self._reads_vectors = method.reads_vectors or (method.selects_vectors and _selects(request.with_vectors))
        if self._reads_vectors and not key.vectors:
            raise self._denied("the right to read vectors (keys create --vectors)", "with_vectors", None)
        kind = type(request)
        if kind is pb.SearchRequest:
            self._explained = request.explain
        elif kind is pb.CreateCollectionRequest:
            self._check_fields(request.schema, None)
            limits.check_collections(self._guard.settings, self._guard.database.collections(), request.name)
        elif kind is pb.AddFieldsRequest:
            self._check_fields(request.fields, self._guard.database.collection(request.collection).schema)
        elif kind is pb.MigrateRequest:
            self._check_models({"vectors": {request.field: {"encoder": request.encoder}}})
        limits.check(self._guard.settings, method, request)

    def _may_use(self, name: str | None) -> bool:
        """Whether the key is for a collection of this name, or for one that this alias or an alias of the key means now."""
        names = self.key.collections
        if names is None or name in names:
            return True
        aliases = self._guard.database.aliases()
        return aliases.get(name, name) in {aliases.get(each, each) for each in names}

    def visible(self, answer: Any) -> Any:
        """The answer, without what the key may not see."""
        kind = type(answer)
        if kind is pb.ListCollectionsResponse and self.key.collections is not None:
            return pb.ListCollectionsResponse(names=[name for name in answer.names if self._may_use(name)])
        if kind is pb.ListAliasesResponse and self.key.collections is not None:
            return pb.ListAliasesResponse(aliases={alias: name for alias, name in answer.aliases.items() if self._may_use(name)})
        if kind is pb.SearchResponse and self._explained and not self.key.vectors:
            for hits in answer.results:
                hits.plan = json.dumps(_without_weights(json.loads(hits.plan))).encode()
        if self.method.audited or self._reads_vectors:
            self._count = _points_in(answer)
        return answer

    def _check_fields(self, data: bytes, existing: Any) -> None:
        fields = wire.unpack_json(data, "schema")
        limits.check_schema(self._guard.settings, fields, existing)
        self._check_models(fields)

    def _check_models(self, fields: Any) -> None:
        if not self._guard.may_load_models(self.key) and _names_a_model(fields):
            raise self._denied("the role admin for all collections to name a model", "encoder", None)

    def _denied(self, what: str, field: str, value: Any) -> PermissionDeniedError:
        about = f" of collection {shown(self.collection)}" if self.collection is not None else ""
        return PermissionDeniedError(
            f"{self.method.name}{about} needs {what}, which API key {self.key.id} does not have", field=field, value=value
        )

    def _facts(self, error: BaseException | None) -> dict[str, Any]:
        outcome = "OK" if error is None else status_of(error)[0] if isinstance(error, VectorDBError) else "INTERNAL"
        identities = self._context.peer_identities()
        facts = {"key": self.key.id, "peer": self._context.peer(), "method": self.method.name, "collection": _name(self.collection)}
        if self.collections:
            facts["collections"] = [_name(name) for name in self.collections]
        if identities:
            facts["certificate"] = [identity.decode("utf-8", "replace") for identity in identities]
        return facts | {"points": self._count, "vectors": self._reads_vectors, "outcome": outcome}


def _selects(selection: pb.Selection) -> bool:
    """Whether a selection names any field."""
    return selection.all or bool(selection.names)


def _names_a_model(fields: Any) -> bool:
    """Whether an encoder in a schema (as a JSON dict) names a model."""
    vectors = fields.get("vectors") if isinstance(fields, dict) else None
    for spec in vectors.values() if isinstance(vectors, dict) else ():
        encoder = spec.get("encoder") if isinstance(spec, dict) else None
        try:
            if encoder is not None and "model" in encoders.parse(encoder)[1]:
                return True
        except EncoderError:
            pass  # the method itself raises the error
    return False


def _without_weights(plan: Any) -> Any:
    """A plan without the contributions of terms, from which stored weights could be computed."""
    if isinstance(plan, dict):
        return {name: [] if name == "matched" else _without_weights(part) for name, part in plan.items()}
    return [_without_weights(part) for part in plan] if isinstance(plan, list) else plan


def _points_in(answer: Any) -> int:
    kind = type(answer)
    if kind is pb.TransactResponse:
        return sum(getattr(each, each.WhichOneof("step")).count for each in answer.results)
    if kind in (pb.GetResponse, pb.ScrollResponse):
        return len(answer.points.versions) // 8
    return sum(len(hits.scores) // 8 for hits in answer.results) if kind is pb.SearchResponse else 0


def _name(collection: str | None) -> str | None:
    """The name if it is a valid collection name, else None: it may contain anything."""
    try:
        return None if collection is None else check_name(collection, "collection")
    except SchemaError:
        return None
