"""The options of the methods in the proto file: every method states all of them, and one that doesn't is refused."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from vectordb_client.rpc.methods import METHODS, SERVICE, read_methods
from vectordb_client.v1 import options_pb2 as options
from vectordb_client.v1 import vectordb_pb2 as pb

from vectordb.server.access.keys import ROLES
from vectordb.server.settings import NAMES

OPTIONS = [field.name for field in options.Method.DESCRIPTOR.fields if field.has_presence]


def service(given: options.Method):
    """A service whose only method is a copy of Write with these options."""
    pool = descriptor_pool.DescriptorPool()
    for file in (descriptor_pb2.DESCRIPTOR, options.DESCRIPTOR, pb.DESCRIPTOR):
        pool.AddSerializedFile(file.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(name="new.proto", package="new", dependency=[pb.DESCRIPTOR.name])
    method = file.service.add(name="New").method.add(
        name="Write", input_type=".vectordb.v1.WriteRequest", output_type=".vectordb.v1.WriteResponse"
    )
    method.options.Extensions[options.method].CopyFrom(given)
    pool.Add(file)
    return pool.FindServiceByName("new.New")


def of(name: str) -> options.Method:
    copy = options.Method()
    copy.CopyFrom(SERVICE.methods_by_name[name].GetOptions().Extensions[options.method])
    return copy


def test_every_method_states_every_option():
    assert set(METHODS) == {method.name for method in SERVICE.methods}
    for method in SERVICE.methods:
        given = method.GetOptions().Extensions[options.method]
        assert [name for name in OPTIONS if given.HasField(name)] == OPTIONS, method.name
    for method in METHODS.values():
        assert method.role in ROLES and method.pool in ("read", "write", "wait", "stream", "other")
        assert {setting for _, setting in method.limits} <= set(NAMES)


@pytest.mark.parametrize("option", OPTIONS)
def test_a_method_without_an_option_is_refused(option):
    given = of("Write")
    assert list(read_methods(service(given))) == ["Write"]
    given.ClearField(option)
    with pytest.raises(ValueError, match=rf"^method new\.New\.Write has no option '{option}'"):
        read_methods(service(given))


@pytest.mark.parametrize(
    "wrong",
    [
        options.Method(role=options.ROLE_UNSPECIFIED),
        options.Method(pool=options.POOL_UNSPECIFIED),
        options.Method(collection="nothing"),
        options.Method(limits=[options.Limit(field="batch.nothing", setting="max_ids")]),
        options.Method(idempotent_reversed_by=["batch.ids.strings.more"]),
    ],
)
def test_an_option_that_means_nothing_is_refused(wrong):
    given = of("Write")
    given.MergeFrom(wrong)
    with pytest.raises(ValueError, match=r"'role'|'pool'|'nothing'|'batch\.nothing'|'batch\.ids\.strings\.more'"):
        read_methods(service(given))


def test_a_request_with_ids_a_filter_or_a_limit_of_points_is_limited():
    for method in METHODS.values():
        fields = method.request.DESCRIPTOR.fields_by_name
        limited = {path for path, _ in method.limits}
        for name in ("ids", "filter", "if_filter"):
            assert name not in fields or (name,) in limited, method.name


def test_which_calls_may_be_executed_twice():
    conditional = pb.Filter(text="n = 1")
    for name, request, repeatable in (
        ("Write", pb.WriteRequest(), True),
        ("Write", pb.WriteRequest(batch=pb.Batch(if_version=b"\1")), False),
        ("Write", pb.WriteRequest(batch=pb.Batch(if_filter=conditional)), False),
        ("Write", pb.WriteRequest(batch=pb.Batch(filter=conditional)), True),
        ("Write", pb.WriteRequest(batch=pb.Batch(increments=[pb.JsonColumn()])), False),
        ("Write", pb.WriteRequest(batch=pb.Batch(if_absent=True)), False),
        ("Delete", pb.DeleteRequest(filter=conditional), True),
        ("Delete", pb.DeleteRequest(if_version=b"\1"), False),
        ("Delete", pb.DeleteRequest(if_filter=conditional), False),
        ("CreateCollection", pb.CreateCollectionRequest(), False),
        ("CreateCollection", pb.CreateCollectionRequest(exist_ok=True), True),
        ("DropCollection", pb.DropCollectionRequest(), False),
        ("Search", pb.SearchRequest(), True),
        ("Transact", pb.TransactRequest(), False),
    ):
        assert METHODS[name].repeatable(request) is repeatable, (name, request)
