"""The calls behind each method, shared by both clients. Pure, no I/O.

Each function is a generator. It yields ``(rpc name, request message)``, is sent the response message, and returns the result. ``Client``
drives it with blocking calls, ``AsyncClient`` by awaiting.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from ..errors import InvalidArgumentError, LimitError, SchemaError
from ..model import aggregates, groups
from ..model import facets as facet_model
from ..model.alterations import altered
from ..model.batch import Batch, Columns, make_batch
from ..model.batch_ids import check_deleted_ids, check_each_id, check_not_a_filter, check_what, versions_of
from ..model.branches import BranchDiff, MergeResult, OnConflict, check_diff_limit, check_on_conflict
from ..model.checks import LONGEST_WAIT, check_count, check_durability, check_flag, check_wait, not_a_cursor
from ..model.collection_info import CollectionInfo
from ..model.explorations import Exploration
from ..model.facets import check_facets
from ..model.foreign import repeatable
from ..model.history import check_history, pack_as_of
from ..model.memory import check_memory
from ..model.migrations import check_migration
from ..model.page_options import check_order
from ..model.rerank import late_of
from ..model.results import Page, WriteResult
from ..model.schema import Schema, check_field_names, check_name, check_new_names, check_schema
from ..model.search_request import SearchRequest
from ..model.searching import no_queries
from ..model.terms import check_page, check_sparse, check_words
from ..model.unset import UNSET
from ..model.values import check_id, is_single_id, text_of
from ..v1 import vectordb_pb2 as pb
from . import answers, wire, wire_terms
from . import changes as change_stream
from . import explore as exploring
from .split import split_batch
from .wire_search import pack_search

T = TypeVar("T")
Steps = Generator[tuple[str, Any], Any, T]
KeptStep = tuple[str, pb.TransactStep]  # a write of a transaction, with the name of its collection
_ANSWER_SECONDS = 5.0


class Service:
    """The state that a client keeps about its service.

    max_message_bytes: the limit of the service, once it was read. seen: collection → (its number, the highest sequence number of this
    client's writes). Reads send it, so that no process of the service answers from an older state.
    """

    __slots__ = ("_lock", "max_message_bytes", "seen")

    def __init__(self):
        self.max_message_bytes: int | None = None
        self.seen: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def wrote(self, collection: str, number: int, sequence: int) -> None:
        """Record the sequence number of a write."""
        with self._lock:
            self.seen[collection] = max(self.seen.get(collection, (0, 0)), (number, sequence))


class Remote:
    """The state that a client keeps about a collection: its name, and its schema as last read.

    number: distinguishes it from other collections that had the same name; each request sends it. revision: of the schema. outdated: an
    answer had a newer revision, so the schema is read again before its next use.
    """

    __slots__ = ("name", "number", "outdated", "revision", "schema", "service")

    def __init__(self, service: Service, name: str, described: Any):
        self.service = service
        self.name = name
        self.adopt(described)

    def adopt(self, described: Any) -> None:
        """Take schema, number and revision from a response."""
        self.schema = answers.unpack_schema(described.schema)
        self.name = getattr(described, "name", "") or self.name  # its own, if it was opened by an alias
        self.number = described.collection_number
        self.revision = described.revision
        self.outdated = False


# ---- The service and its collections ----


def server_info() -> Steps[dict]:
    info = yield "ServerInfo", pb.ServerInfoRequest()
    return {"version": info.version, "max_message_bytes": info.max_message_bytes, "max_batch": info.max_batch}


def status() -> Steps[dict]:
    response = yield "Status", pb.StatusRequest()
    return wire.unpack_json(response.status, "status")


def create_collection(service: Service, name: str, schema: Schema, exist_ok: bool, history: Any) -> Steps[Remote]:
    check_schema(schema)
    request = pb.CreateCollectionRequest(
        name=check_name(name, "collection"),
        schema=answers.pack_schema(schema),
        exist_ok=check_flag("exist_ok", exist_ok),
        history=check_history("history", history),
    )
    return Remote(service, name, (yield "CreateCollection", request))


def collection(service: Service, name: str) -> Steps[Remote]:
    return Remote(service, name, (yield "DescribeCollection", pb.DescribeCollectionRequest(name=check_name(name, "collection"))))


def collections() -> Steps[list[str]]:
    response = yield "ListCollections", pb.ListCollectionsRequest()
    return list(response.names)


def drop_collection(name: str) -> Steps[None]:
    yield "DropCollection", pb.DropCollectionRequest(name=check_name(name, "collection"))


def rename_collection(name: str, new_name: str) -> Steps[None]:
    request = pb.RenameCollectionRequest(collection=check_name(name, "collection"), new_name=check_name(new_name, "collection"))
    yield "RenameCollection", request


def alias(alias: str, collection: str) -> Steps[None]:
    yield "SetAlias", pb.SetAliasRequest(alias=check_name(alias, "alias"), collection=check_name(collection, "collection"))


def drop_alias(alias: str) -> Steps[None]:
    yield "DropAlias", pb.DropAliasRequest(alias=check_name(alias, "alias"))


def branch(service: Service, source: str, name: str) -> Steps[Remote]:
    request = pb.BranchRequest(collection=check_name(source, "collection"), name=check_name(name, "collection"))
    return Remote(service, name, (yield "Branch", request))


def diff(branch: str, limit: int) -> Steps[BranchDiff]:
    request = pb.DiffRequest(collection=check_name(branch, "collection"), limit=check_diff_limit(limit))
    return answers.unpack_diff((yield "Diff", request))


def merge(branch: str, on_conflict: OnConflict) -> Steps[MergeResult]:
    request = pb.MergeRequest(collection=check_name(branch, "collection"), on_conflict=check_on_conflict(on_conflict))
    merged = yield "Merge", request
    return MergeResult(merged.added, merged.changed, merged.deleted, merged.conflicts, merged.sequence)


def aliases() -> Steps[dict[str, str]]:
    response = yield "ListAliases", pb.ListAliasesRequest()
    return dict(sorted(response.aliases.items()))


def info(remote: Remote) -> Steps[CollectionInfo]:
    response = yield from _ask(remote, "DescribeCollection", _seen(remote, pb.DescribeCollectionRequest(name=remote.name, info=True)))
    remote.adopt(response)
    return answers.unpack_info(remote.name, response)


def add_fields(remote: Remote, vectors: Any, attributes: Any, exist_ok: Any) -> Steps[None]:
    exist_ok = check_flag("exist_ok", exist_ok)
    added = {"vectors": vectors, "attributes": attributes}

    def build(schema: Schema) -> bytes:
        # Check the whole schema, because a new vector field may name an existing attribute as its source.
        whole = schema.with_fields(**added, exist_ok=exist_ok).to_dict()
        return wire.pack_json({part: {name: whole[part][name] for name in names or ()} for part, names in added.items()}, "schema")

    fields = yield from _with_schema(remote, build)
    request = pb.AddFieldsRequest(collection=remote.name, fields=fields, exist_ok=exist_ok)
    remote.adopt((yield from _ask(remote, "AddFields", request)))


def drop_fields(remote: Remote, names: Any) -> Steps[None]:
    request = pb.DropFieldsRequest(collection=remote.name, names=check_field_names(names))
    remote.adopt((yield from _ask(remote, "DropFields", request)))


def rename_fields(remote: Remote, names: Any) -> Steps[None]:
    request = pb.RenameFieldsRequest(collection=remote.name, names=check_new_names(names))
    remote.adopt((yield from _ask(remote, "RenameFields", request)))


def alter(remote: Remote, attributes: Any, ttl: Any) -> Steps[None]:
    def build(schema: Schema) -> pb.AlterRequest:
        whole = altered(schema, attributes, ttl).to_dict()["attributes"]
        given = wire.pack_json({name: whole[name] for name in attributes or ()}, "attributes")
        return pb.AlterRequest(collection=remote.name, attributes=given, ttl=None if ttl is UNSET else ttl, no_ttl=ttl is None)

    request = yield from _with_schema(remote, build)
    remote.adopt((yield from _ask(remote, "Alter", request)))


def keep_history(remote: Remote, history: Any) -> Steps[None]:
    request = pb.KeepHistoryRequest(collection=remote.name, history=check_history("history", history))
    yield from _ask(remote, "KeepHistory", request)


def optimize(remote: Remote, wait: Any, timeout: Any) -> Steps[dict[str, Any]]:
    """timeout: seconds that the service waits at most. The call itself gets a few more, see ``call_timeout``."""
    request = pb.OptimizeRequest(collection=remote.name, wait=check_flag("wait", wait), timeout=check_wait(timeout))
    return answers.unpack_optimized((yield from _ask(remote, "Optimize", request)))


def fit(remote: Remote, field: Any, timeout: Any) -> Steps[dict[str, Any]]:
    request = pb.FitRequest(collection=remote.name, field=text_of(field, "field"), timeout=check_wait(timeout))
    return wire.unpack_json((yield from _ask(remote, "Fit", request)).report, "report")


def report(remote: Remote, field: Any) -> Steps[dict[str, Any]]:
    request = pb.ReportRequest(collection=remote.name, field=text_of(field, "field"))
    return wire.unpack_json((yield from _ask(remote, "Report", request)).report, "report")


def migrate(remote: Remote, *arguments: Any) -> Steps[dict[str, Any]]:
    """arguments: those of ``check_migration``."""
    request = pb.MigrateRequest(collection=remote.name, **check_migration(*arguments))
    report = wire.unpack_json((yield from _ask(remote, "Migrate", request)).report, "report")
    yield from _read_schema(remote)  # the field may have other dimensions now
    return report


def migration(remote: Remote, field: Any) -> Steps[dict[str, Any]]:
    request = pb.MigrationRequest(collection=remote.name, field=text_of(field, "field"))
    return wire.unpack_json((yield from _ask(remote, "Migration", request)).facts, "facts")


def cancel_migration(remote: Remote, field: Any) -> Steps[bool]:
    request = pb.CancelMigrationRequest(collection=remote.name, field=text_of(field, "field"))
    return (yield from _ask(remote, "CancelMigration", request)).cancelled


def snapshot(path: Any, archive: Any) -> Steps[dict[str, Any]]:
    response = yield "Snapshot", pb.SnapshotRequest(name=text_of(path, "path"), archive=check_flag("archive", archive))
    return wire.unpack_json(response.manifest, "manifest")


def purge(remote: Remote | None, timeout: Any) -> Steps[dict[str, Any]]:
    """Purge one collection, or all. timeout: as in ``optimize``."""
    seconds = check_wait(timeout)
    if remote is None:
        response = yield "Purge", pb.PurgeRequest(timeout=seconds)
    else:
        response = yield from _ask(remote, "Purge", pb.PurgeRequest(collection=remote.name, timeout=seconds))
    return wire.unpack_json(response.result, "result")


def set_memory(memory: Any) -> Steps[dict[str, int]]:
    response = yield "SetMemory", pb.SetMemoryRequest(memory=check_memory(memory))
    return wire.unpack_json(response.facts, "facts")


def call_timeout(timeout: Any) -> float | None:
    """The timeout of a call in which the service itself waits for ``timeout`` seconds: a few more, so that its answer arrives."""
    number = isinstance(timeout, (int, float)) and 0 <= timeout < LONGEST_WAIT
    return timeout + _ANSWER_SECONDS if number else None


# ---- Writes ----


def write(remote: Remote, kind: str, points: Any, columns: Columns, durability: Any) -> Steps[WriteResult]:
    """Write one batch, or several if one exceeds the message limit. The result has the last sequence number and the sum of the counts."""
    points, columns = repeatable(points), Columns(*map(repeatable, columns))  # a generator can be read once, and these may be read twice
    batch = yield from _with_schema(remote, lambda schema: make_batch(schema, kind, points, **columns._asdict()))
    limit = yield from _max_message_bytes(remote.service)
    durability = _durability(durability)

    def pack(part: Batch) -> pb.WriteRequest:
        request = pb.WriteRequest(collection=remote.name, durability=durability)
        wire.pack_batch(request.batch, part, remote.schema)
        return request

    sequence, count = 0, 0
    for request in split_batch(batch, limit, pack):
        response = yield from _ask(remote, "Write", request)
        remote.service.wrote(remote.name, response.collection, response.sequence)
        sequence, count = response.sequence, count + response.count
    return WriteResult(sequence, count)


def _max_message_bytes(service: Service) -> Steps[int]:
    limit = service.max_message_bytes
    if limit is None:
        facts = yield from server_info()
        limit = service.max_message_bytes = int(facts["max_message_bytes"])
    return limit


def set_terms(remote: Remote, field: Any, terms: Any, durability: Any) -> Steps[int]:
    """One request, or several if one exceeds the message limit."""
    words = check_words(terms)
    yield from _with_schema(remote, lambda schema: check_sparse(schema, field))
    durability, limit = _durability(durability), (yield from _max_message_bytes(remote.service))
    changed = 0
    for request in wire_terms.pack_words(remote.name, field, words, durability, limit):
        response = yield from _ask(remote, "SetTerms", request)
        changed += response.changed
    return changed


def terms(remote: Remote, field: Any, after: Any, limit: Any) -> Steps[dict[int, str]]:
    after, limit = check_page(after, limit)
    yield from _with_schema(remote, lambda schema: check_sparse(schema, field))
    request = pb.ListTermsRequest(collection=remote.name, field=field, after=after, limit=limit)
    return wire_terms.unpack_page((yield from _ask(remote, "ListTerms", request)))


def delete(remote: Remote, ids: Any, filter: Any, if_version: Any, if_filter: Any, durability: Any) -> Steps[WriteResult]:
    response = yield from _ask(remote, "Delete", _deletion(remote, ids, filter, if_version, if_filter, durability))
    remote.service.wrote(remote.name, response.collection, response.sequence)
    check_not_a_filter(ids, response.count)
    return WriteResult(response.sequence, response.count)


def _deletion(remote: Remote, ids: Any, filter: Any, if_version: Any, if_filter: Any, durability: Any) -> pb.DeleteRequest:
    if ids is None and if_version is not None:
        raise InvalidArgumentError("if_version needs ids", field="if_version", value=if_version)
    request = pb.DeleteRequest(
        collection=remote.name,
        filter=wire.pack_filter(filter),
        if_filter=wire.pack_filter(if_filter),
        durability=_durability(durability),
    )
    if ids is not None:
        checked = check_deleted_ids(ids, if_version)
        request.ids.CopyFrom(wire.pack_ids(checked))
        request.if_version = wire.pack_versions(versions_of(if_version, checked))
    return request


# ---- Transactions ----


def kept_write(service: Service, remotes: dict[str, Remote], name: str, kind: str, points: Any, columns: Columns) -> Steps[KeptStep]:
    """A checked write of a transaction. remotes: name → collection, of those that the transaction knows; one that is missing is read."""
    remote = remotes.get(name) or remotes.setdefault(name, (yield from collection(service, name)))
    points, columns = repeatable(points), Columns(*map(repeatable, columns))
    batch = yield from _with_schema(remote, lambda schema: make_batch(schema, kind, points, **columns._asdict()))
    step = pb.TransactStep()
    step.write.collection, step.write.collection_number = remote.name, remote.number
    wire.pack_batch(step.write.batch, batch, remote.schema)
    return remote.name, step


def kept_delete(
    service: Service, remotes: dict[str, Remote], name: str, ids: Any, filter: Any, if_version: Any, if_filter: Any
) -> Steps[KeptStep]:
    """A checked deletion of a transaction. remotes: as in ``kept_write``."""
    remote = remotes.get(name) or remotes.setdefault(name, (yield from collection(service, name)))
    check_what(ids, filter)
    request = _deletion(remote, ids, filter, if_version, if_filter, None)
    request.collection_number = remote.number
    return remote.name, pb.TransactStep(delete=request)


def transact(service: Service, kept: Sequence[KeptStep], durability: str | None) -> Steps[list[WriteResult]]:
    """Send the writes of a transaction as one request. Raises LimitError if they don't fit one message."""
    request = pb.TransactRequest(steps=[step for _, step in kept], durability=durability)
    size, limit = request.ByteSize(), (yield from _max_message_bytes(service))
    if size > limit:
        what = f"the transaction takes {size} bytes; the service accepts messages of at most {limit}, and a transaction isn't split"
        raise LimitError(f"{what}; write fewer points in it", field="transaction", value=size)
    response = yield "Transact", request
    results = []
    for (name, _), each in zip(kept, response.results, strict=True):
        done = getattr(each, each.WhichOneof("step"))
        service.wrote(name, done.collection, done.sequence)
        results.append(WriteResult(done.sequence, done.count))
    return results


def _durability(value: Any) -> str | None:
    return None if value is None else check_durability(value)


def _with_schema(remote: Remote, build: Callable[[Schema], T]) -> Steps[T]:
    """``build(schema)``. If the schema doesn't permit it, the schema is read again first.

    Another client may have added a field, or dropped the collection, since it was read.
    """
    refused = None
    if not remote.outdated:
        try:
            return build(remote.schema)
        except (SchemaError, InvalidArgumentError) as error:
            refused = error
    revision = remote.revision
    yield from _read_schema(remote)
    if refused is not None and revision and remote.revision == revision:
        raise refused
    return build(remote.schema)


def _read_schema(remote: Remote) -> Steps[None]:
    remote.adopt((yield from _ask(remote, "DescribeCollection", pb.DescribeCollectionRequest(name=remote.name))))


def _ask(remote: Remote, name: str, request: Any) -> Steps[Any]:
    """One call about this collection, and no other with the same name."""
    request.collection_number = remote.number
    response = yield name, request
    if getattr(response, "revision", 0) > remote.revision:
        remote.outdated = True
    return response


# ---- Reads ----


def _seen(remote: Remote, request: Any) -> Any:
    """The request, extended so that the answer shows the writes of this client."""
    position = remote.service.seen.get(remote.name)
    if position is not None:
        request.seen.collection, request.seen.sequence = position
    return request


def get(remote: Remote, ids: Any, with_vectors: Any, with_attributes: Any, with_payload: Any, as_of: Any) -> Steps[Any]:
    single = is_single_id(ids)
    asked = [check_id(ids)] if single else check_each_id(ids)
    request = pb.GetRequest(
        collection=remote.name,
        ids=wire.pack_ids(asked),
        with_attributes=wire.pack_selection(with_attributes, "with_attributes"),
        with_vectors=wire.pack_selection(with_vectors, "with_vectors"),
        with_payload=wire.pack_paths(with_payload),
        as_of=pack_as_of(as_of),
    )
    response = yield from _ask(remote, "Get", _seen(remote, request))
    points = answers.unpack_found(response, len(asked))
    return points[0] if single else points


def search(remote: Remote, request: SearchRequest, vectors: Any, text: Any, batch: bool) -> Steps[Any]:
    """The hits of one query, or with ``batch`` a list with the hits of each of n queries."""
    late = late_of(request, SearchRequest.of)
    request = request if late is None else late.request
    message = yield from _with_schema(remote, lambda schema: pack_search(remote.name, schema, request, vectors, text, batch))
    response = yield from _ask(remote, "Search", _seen(remote, message))
    if len(response.results) != message.queries:
        raise InvalidArgumentError(f"the answer has {len(response.results)} results for {message.queries} queries", field="results")
    results = [answers.unpack_hits(hits, response.forms) for hits in response.results]
    for hits, message_of_hits in zip(results, response.results, strict=True):
        if message_of_hits.groups:
            hits._grouping = groups.from_json(wire.unpack_json(message_of_hits.groups, "groups"))
    if response.facets:
        counted = facet_model.results_from_json(wire.unpack_json(response.facets, "facets"))
        for hits in results:
            hits.facets = counted
    found = results if batch else results[0]
    return found if late is None else late.results(found, vectors, text, batch)


def prepare(remote: Remote, request: SearchRequest) -> Steps[None]:
    """Check options of a search: the service runs it for no queries."""
    late = late_of(request, SearchRequest.of)
    request = request if late is None else late.request
    message = yield from _with_schema(remote, lambda schema: pack_search(remote.name, schema, request, no_queries(schema), None, True))
    yield from _ask(remote, "Search", _seen(remote, message))


def count(remote: Remote, filter: Any, as_of: Any) -> Steps[int]:
    request = pb.CountRequest(collection=remote.name, filter=wire.pack_filter(filter), as_of=pack_as_of(as_of))
    response = yield from _ask(remote, "Count", _seen(remote, request))
    return response.count


def facets(remote: Remote, facets: Any, filter: Any, as_of: Any) -> Steps[dict[str, Any]]:
    asked, state = check_facets("facets", facets), pack_as_of(as_of)
    yield from _with_schema(remote, lambda schema: facet_model.check_against(schema, asked))
    packed = wire.pack_json(facet_model.facets_json(asked), "facets")
    request = pb.FacetsRequest(collection=remote.name, filter=wire.pack_filter(filter), facets=packed, as_of=state)
    response = yield from _ask(remote, "Facets", _seen(remote, request))
    return facet_model.results_from_json(wire.unpack_json(response.facets, "facets"))


def aggregate(remote: Remote, functions: Any, filter: Any, as_of: Any) -> Steps[dict[str, dict[str, Any]]]:
    asked, state = aggregates.check_aggregates(functions), pack_as_of(as_of)
    yield from _with_schema(remote, lambda schema: aggregates.check_against(schema, asked))
    packed = wire.pack_json(asked, "functions")
    request = pb.AggregateRequest(collection=remote.name, filter=wire.pack_filter(filter), functions=packed, as_of=state)
    response = yield from _ask(remote, "Aggregate", _seen(remote, request))
    return aggregates.results_from_json(wire.unpack_json(response.results, "results"))


def explore(remote: Remote, exploration: Exploration) -> pb.ExploreRequest:
    """The request of an operation on a field, whose answer is a stream."""
    request = _seen(remote, exploring.request(remote.name, exploration))
    request.collection_number = remote.number
    return request


def scroll(
    remote: Remote,
    filter: Any,
    limit: Any,
    cursor: Any,
    order_by: Any,
    with_vectors: Any,
    with_attributes: Any,
    with_payload: Any,
    as_of: Any,
) -> Steps[Page]:
    request = pb.ScrollRequest(
        collection=remote.name,
        filter=wire.pack_filter(filter),
        limit=check_count("limit", limit),
        cursor=_cursor(cursor),
        order_by=() if order_by is None else check_order("order_by", order_by),
        with_attributes=wire.pack_selection(with_attributes, "with_attributes"),
        with_vectors=wire.pack_selection(with_vectors, "with_vectors"),
        with_payload=wire.pack_paths(with_payload),
        as_of=pack_as_of(as_of),
    )
    return answers.unpack_page((yield from _ask(remote, "Scroll", _seen(remote, request))))


def _cursor(value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and value.isascii()):
        raise not_a_cursor(value)
    return value


def changes(remote: Remote, since: Any, follow: Any, with_vectors: Any, with_attributes: Any) -> pb.ChangesRequest:
    """The request of a change stream. ``changes.Assembly`` puts its answers together."""
    request = change_stream.request(remote.name, since, follow, with_vectors, with_attributes)
    request.collection_number = remote.number
    return request
