from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_READ: _ClassVar[Role]
    ROLE_WRITE: _ClassVar[Role]
    ROLE_ADMIN: _ClassVar[Role]

class Pool(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POOL_UNSPECIFIED: _ClassVar[Pool]
    POOL_READ: _ClassVar[Pool]
    POOL_WRITE: _ClassVar[Pool]
    POOL_WAIT: _ClassVar[Pool]
    POOL_STREAM: _ClassVar[Pool]
    POOL_OTHER: _ClassVar[Pool]
ROLE_UNSPECIFIED: Role
ROLE_READ: Role
ROLE_WRITE: Role
ROLE_ADMIN: Role
POOL_UNSPECIFIED: Pool
POOL_READ: Pool
POOL_WRITE: Pool
POOL_WAIT: Pool
POOL_STREAM: Pool
POOL_OTHER: Pool
METHOD_FIELD_NUMBER: _ClassVar[int]
method: _descriptor.FieldDescriptor

class Limit(_message.Message):
    __slots__ = ("field", "setting")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    SETTING_FIELD_NUMBER: _ClassVar[int]
    field: str
    setting: str
    def __init__(self, field: _Optional[str] = ..., setting: _Optional[str] = ...) -> None: ...

class Method(_message.Message):
    __slots__ = ("role", "collection", "all_collections", "reads_vectors", "pool", "audited", "slow_logged", "traced", "idempotent", "idempotent_reversed_by", "limits", "collections", "tenants")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    ALL_COLLECTIONS_FIELD_NUMBER: _ClassVar[int]
    READS_VECTORS_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    AUDITED_FIELD_NUMBER: _ClassVar[int]
    SLOW_LOGGED_FIELD_NUMBER: _ClassVar[int]
    TRACED_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENT_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENT_REVERSED_BY_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    COLLECTIONS_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    role: Role
    collection: str
    all_collections: bool
    reads_vectors: bool
    pool: Pool
    audited: bool
    slow_logged: bool
    traced: bool
    idempotent: bool
    idempotent_reversed_by: _containers.RepeatedScalarFieldContainer[str]
    limits: _containers.RepeatedCompositeFieldContainer[Limit]
    collections: _containers.RepeatedScalarFieldContainer[str]
    tenants: bool
    def __init__(self, role: _Optional[_Union[Role, str]] = ..., collection: _Optional[str] = ..., all_collections: _Optional[bool] = ..., reads_vectors: _Optional[bool] = ..., pool: _Optional[_Union[Pool, str]] = ..., audited: _Optional[bool] = ..., slow_logged: _Optional[bool] = ..., traced: _Optional[bool] = ..., idempotent: _Optional[bool] = ..., idempotent_reversed_by: _Optional[_Iterable[str]] = ..., limits: _Optional[_Iterable[_Union[Limit, _Mapping]]] = ..., collections: _Optional[_Iterable[str]] = ..., tenants: _Optional[bool] = ...) -> None: ...
