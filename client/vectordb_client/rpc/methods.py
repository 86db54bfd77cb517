"""The methods of the service with their options, read from the descriptor of the proto file. Pure, no grpc.

proto/vectordb/v1/options.proto says what each option means. This is the only table of methods: the clients take paths, message classes and
retries from it, the server access rules, threads, limits and logs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from ..v1 import options_pb2 as options
from ..v1 import vectordb_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["VectorDB"]


@dataclass(frozen=True, slots=True)
class Method:
    """A method and its options. A path of a field is a tuple of names: ``("batch", "ids")``.

    role: "read", "write" or "admin". collection: the field of the request that names the collection, or "". collections: the fields that
    name them, of a method that concerns several. pool: "read", "write", "wait",
    "stream" or "other". limits: (path, setting). selects_vectors: the request has a field ``with_vectors``.
    tenants: whether API keys bound to a tenant may call it.
    """

    name: str
    path: str
    request: Any
    response: Any
    streams: bool
    role: str
    collection: str
    all_collections: bool
    reads_vectors: bool
    selects_vectors: bool
    pool: str
    audited: bool
    slow_logged: bool
    traced: bool
    idempotent: bool
    idempotent_reversed_by: tuple[tuple[str, ...], ...]
    limits: tuple[tuple[tuple[str, ...], str], ...]
    collections: tuple[tuple[str, ...], ...]
    tenants: bool

    def named(self, request: Any) -> list[str]:
        """The collections that a request of a method with ``collections`` names, without repetitions."""
        return list(dict.fromkeys(getattr(holder, path[-1]) for path in self.collections for holder in holders(request, path)))

    def repeatable(self, request: Any) -> bool:
        """Whether a call that may have been executed can be executed again without another effect."""
        return self.idempotent != any(_is_set(request, path) for path in self.idempotent_reversed_by)


def read_methods(service: ServiceDescriptor) -> dict[str, Method]:
    """The methods of a service by name. Raises ValueError if a method leaves out an option, or names a field that its request lacks."""
    return {method.name: _read(method) for method in service.methods}


def _read(method: MethodDescriptor) -> Method:
    extension: Any = options.method  # the stub file gives it a type that ``Extensions`` doesn't take
    given = method.GetOptions().Extensions[extension]
    for field in given.DESCRIPTOR.fields:
        if field.has_presence and not (given.HasField(field.name) and (field.enum_type is None or getattr(given, field.name))):
            raise ValueError(f"method {method.full_name} has no option {field.name!r}; see vectordb/v1/options.proto")
    fields = method.input_type.fields_by_name
    if given.collection and given.collection not in fields:
        raise ValueError(f"option 'collection' of method {method.full_name}: {method.input_type.name} has no field {given.collection!r}")
    return Method(
        name=method.name,
        path=f"/{method.containing_service.full_name}/{method.name}",
        request=GetMessageClass(method.input_type),
        response=GetMessageClass(method.output_type),
        streams=method.server_streaming,
        role=options.Role.Name(given.role).removeprefix("ROLE_").lower(),
        collection=given.collection,
        all_collections=given.all_collections,
        reads_vectors=given.reads_vectors,
        selects_vectors="with_vectors" in fields,
        pool=options.Pool.Name(given.pool).removeprefix("POOL_").lower(),
        audited=given.audited,
        slow_logged=given.slow_logged,
        traced=given.traced,
        idempotent=given.idempotent,
        idempotent_reversed_by=tuple(_path(method.input_type, path) for path in given.idempotent_reversed_by),
        limits=tuple((_path(method.input_type, limit.field), limit.setting) for limit in given.limits),
        collections=tuple(_path(method.input_type, path) for path in given.collections),
        tenants=given.tenants,
    )


def _path(message: Descriptor | None, path: str) -> tuple[str, ...]:
    """The names of a path such as "batch.ids". Raises ValueError if the message has no such field."""
    names = tuple(path.split("."))
    for name in names:
        field = None if message is None else message.fields_by_name.get(name)
        if field is None:
            raise ValueError(f"an option names the field {path!r}, which the request doesn't have")
        message = field.message_type
    return names


def holders(message: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """The messages that hold the last field of a path. A repeated message on the way stands for each of its items.

    A message of a oneof that isn't the one that is set holds nothing.
    """
    *parents, _ = path
    if not parents:
        yield message
        return
    name, field = parents[0], message.DESCRIPTOR.fields_by_name[parents[0]]
    if field.containing_oneof is None or message.HasField(name):
        for each in getattr(message, name) if field.is_repeated else (getattr(message, name),):
            yield from holders(each, path[1:])


def _is_set(message: Any, path: tuple[str, ...]) -> bool:
    *parents, last = path
    for name in parents:
        message = getattr(message, name)
    return message.HasField(last) if message.DESCRIPTOR.fields_by_name[last].has_presence else bool(getattr(message, last))


METHODS = read_methods(SERVICE)
