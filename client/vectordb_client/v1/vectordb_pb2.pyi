from . import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[DType]
    DTYPE_FLOAT32: _ClassVar[DType]
    DTYPE_FLOAT16: _ClassVar[DType]

class WriteKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WRITE_KIND_UNSPECIFIED: _ClassVar[WriteKind]
    WRITE_KIND_UPSERT: _ClassVar[WriteKind]
    WRITE_KIND_UPDATE: _ClassVar[WriteKind]
DTYPE_UNSPECIFIED: DType
DTYPE_FLOAT32: DType
DTYPE_FLOAT16: DType
WRITE_KIND_UNSPECIFIED: WriteKind
WRITE_KIND_UPSERT: WriteKind
WRITE_KIND_UPDATE: WriteKind

class Ids(_message.Message):
    __slots__ = ("kinds", "integers", "strings", "uuids")
    KINDS_FIELD_NUMBER: _ClassVar[int]
    INTEGERS_FIELD_NUMBER: _ClassVar[int]
    STRINGS_FIELD_NUMBER: _ClassVar[int]
    UUIDS_FIELD_NUMBER: _ClassVar[int]
    kinds: bytes
    integers: bytes
    strings: _containers.RepeatedScalarFieldContainer[str]
    uuids: bytes
    def __init__(self, kinds: _Optional[bytes] = ..., integers: _Optional[bytes] = ..., strings: _Optional[_Iterable[str]] = ..., uuids: _Optional[bytes] = ...) -> None: ...

class DenseVectors(_message.Message):
    __slots__ = ("data", "dtype", "dim", "keep")
    DATA_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    dtype: DType
    dim: int
    keep: bytes
    def __init__(self, data: _Optional[bytes] = ..., dtype: _Optional[_Union[DType, str]] = ..., dim: _Optional[int] = ..., keep: _Optional[bytes] = ...) -> None: ...

class SparseVectors(_message.Message):
    __slots__ = ("counts", "terms", "weights")
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    counts: bytes
    terms: bytes
    weights: bytes
    def __init__(self, counts: _Optional[bytes] = ..., terms: _Optional[bytes] = ..., weights: _Optional[bytes] = ...) -> None: ...

class MultiVectors(_message.Message):
    __slots__ = ("counts", "data", "dtype", "dim")
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    counts: bytes
    data: bytes
    dtype: DType
    dim: int
    def __init__(self, counts: _Optional[bytes] = ..., data: _Optional[bytes] = ..., dtype: _Optional[_Union[DType, str]] = ..., dim: _Optional[int] = ...) -> None: ...

class VectorColumn(_message.Message):
    __slots__ = ("field", "rows", "dense", "sparse", "multi", "removed")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    DENSE_FIELD_NUMBER: _ClassVar[int]
    SPARSE_FIELD_NUMBER: _ClassVar[int]
    MULTI_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    field: str
    rows: bytes
    dense: DenseVectors
    sparse: SparseVectors
    multi: MultiVectors
    removed: bytes
    def __init__(self, field: _Optional[str] = ..., rows: _Optional[bytes] = ..., dense: _Optional[_Union[DenseVectors, _Mapping]] = ..., sparse: _Optional[_Union[SparseVectors, _Mapping]] = ..., multi: _Optional[_Union[MultiVectors, _Mapping]] = ..., removed: _Optional[bytes] = ...) -> None: ...

class JsonColumn(_message.Message):
    __slots__ = ("name", "json", "unset")
    NAME_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    UNSET_FIELD_NUMBER: _ClassVar[int]
    name: str
    json: bytes
    unset: bytes
    def __init__(self, name: _Optional[str] = ..., json: _Optional[bytes] = ..., unset: _Optional[bytes] = ...) -> None: ...

class Filter(_message.Message):
    __slots__ = ("text", "json")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    text: str
    json: bytes
    def __init__(self, text: _Optional[str] = ..., json: _Optional[bytes] = ...) -> None: ...

class Selection(_message.Message):
    __slots__ = ("all", "names")
    ALL_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    all: bool
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, all: _Optional[bool] = ..., names: _Optional[_Iterable[str]] = ...) -> None: ...

class AttributeForms(_message.Message):
    __slots__ = ("datetimes", "uuids", "geos", "others")
    class OthersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DATETIMES_FIELD_NUMBER: _ClassVar[int]
    UUIDS_FIELD_NUMBER: _ClassVar[int]
    GEOS_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    datetimes: _containers.RepeatedScalarFieldContainer[str]
    uuids: _containers.RepeatedScalarFieldContainer[str]
    geos: _containers.RepeatedScalarFieldContainer[str]
    others: _containers.ScalarMap[str, str]
    def __init__(self, datetimes: _Optional[_Iterable[str]] = ..., uuids: _Optional[_Iterable[str]] = ..., geos: _Optional[_Iterable[str]] = ..., others: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Points(_message.Message):
    __slots__ = ("ids", "versions", "attributes", "forms", "payloads", "vectors")
    IDS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    FORMS_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    ids: Ids
    versions: bytes
    attributes: bytes
    forms: AttributeForms
    payloads: bytes
    vectors: _containers.RepeatedCompositeFieldContainer[VectorColumn]
    def __init__(self, ids: _Optional[_Union[Ids, _Mapping]] = ..., versions: _Optional[bytes] = ..., attributes: _Optional[bytes] = ..., forms: _Optional[_Union[AttributeForms, _Mapping]] = ..., payloads: _Optional[bytes] = ..., vectors: _Optional[_Iterable[_Union[VectorColumn, _Mapping]]] = ...) -> None: ...

class ErrorDetail(_message.Message):
    __slots__ = ("class_name", "message", "field", "value", "retry_after")
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    class_name: str
    message: str
    field: str
    value: str
    retry_after: float
    def __init__(self, class_name: _Optional[str] = ..., message: _Optional[str] = ..., field: _Optional[str] = ..., value: _Optional[str] = ..., retry_after: _Optional[float] = ...) -> None: ...

class ServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ServerInfoResponse(_message.Message):
    __slots__ = ("version", "max_message_bytes", "max_batch")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_FIELD_NUMBER: _ClassVar[int]
    version: str
    max_message_bytes: int
    max_batch: int
    def __init__(self, version: _Optional[str] = ..., max_message_bytes: _Optional[int] = ..., max_batch: _Optional[int] = ...) -> None: ...

class CreateCollectionRequest(_message.Message):
    __slots__ = ("name", "schema", "exist_ok", "history")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    EXIST_OK_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    name: str
    schema: bytes
    exist_ok: bool
    history: float
    def __init__(self, name: _Optional[str] = ..., schema: _Optional[bytes] = ..., exist_ok: _Optional[bool] = ..., history: _Optional[float] = ...) -> None: ...

class CreateCollectionResponse(_message.Message):
    __slots__ = ("schema", "collection_number", "revision", "name")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    schema: bytes
    collection_number: int
    revision: int
    name: str
    def __init__(self, schema: _Optional[bytes] = ..., collection_number: _Optional[int] = ..., revision: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...

class DropCollectionRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DropCollectionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListCollectionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListCollectionsResponse(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class DescribeCollectionRequest(_message.Message):
    __slots__ = ("name", "info", "seen", "collection_number")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    name: str
    info: bool
    seen: Position
    collection_number: int
    def __init__(self, name: _Optional[str] = ..., info: _Optional[bool] = ..., seen: _Optional[_Union[Position, _Mapping]] = ..., collection_number: _Optional[int] = ...) -> None: ...

class DescribeCollectionResponse(_message.Message):
    __slots__ = ("schema", "info", "collection_number", "revision", "name")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    schema: bytes
    info: CollectionInfo
    collection_number: int
    revision: int
    name: str
    def __init__(self, schema: _Optional[bytes] = ..., info: _Optional[_Union[CollectionInfo, _Mapping]] = ..., collection_number: _Optional[int] = ..., revision: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...

class DropFieldsRequest(_message.Message):
    __slots__ = ("collection", "names", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    names: _containers.RepeatedScalarFieldContainer[str]
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., names: _Optional[_Iterable[str]] = ..., collection_number: _Optional[int] = ...) -> None: ...

class RenameFieldsRequest(_message.Message):
    __slots__ = ("collection", "names", "collection_number")
    class NamesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    names: _containers.ScalarMap[str, str]
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., names: _Optional[_Mapping[str, str]] = ..., collection_number: _Optional[int] = ...) -> None: ...

class AlterRequest(_message.Message):
    __slots__ = ("collection", "attributes", "ttl", "no_ttl", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    NO_TTL_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    attributes: bytes
    ttl: str
    no_ttl: bool
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., attributes: _Optional[bytes] = ..., ttl: _Optional[str] = ..., no_ttl: _Optional[bool] = ..., collection_number: _Optional[int] = ...) -> None: ...

class RenameCollectionRequest(_message.Message):
    __slots__ = ("collection", "new_name")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    NEW_NAME_FIELD_NUMBER: _ClassVar[int]
    collection: str
    new_name: str
    def __init__(self, collection: _Optional[str] = ..., new_name: _Optional[str] = ...) -> None: ...

class RenameCollectionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SetAliasRequest(_message.Message):
    __slots__ = ("alias", "collection")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    alias: str
    collection: str
    def __init__(self, alias: _Optional[str] = ..., collection: _Optional[str] = ...) -> None: ...

class SetAliasResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DropAliasRequest(_message.Message):
    __slots__ = ("alias",)
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    alias: str
    def __init__(self, alias: _Optional[str] = ...) -> None: ...

class DropAliasResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListAliasesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListAliasesResponse(_message.Message):
    __slots__ = ("aliases",)
    class AliasesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    aliases: _containers.ScalarMap[str, str]
    def __init__(self, aliases: _Optional[_Mapping[str, str]] = ...) -> None: ...

class CollectionInfo(_message.Message):
    __slots__ = ("points", "sequence", "deleted_rows", "bytes", "statistics", "maintenance", "history", "branch")
    POINTS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DELETED_ROWS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    MAINTENANCE_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    points: int
    sequence: int
    deleted_rows: int
    bytes: int
    statistics: bytes
    maintenance: bytes
    history: bytes
    branch: bytes
    def __init__(self, points: _Optional[int] = ..., sequence: _Optional[int] = ..., deleted_rows: _Optional[int] = ..., bytes: _Optional[int] = ..., statistics: _Optional[bytes] = ..., maintenance: _Optional[bytes] = ..., history: _Optional[bytes] = ..., branch: _Optional[bytes] = ...) -> None: ...

class AddFieldsRequest(_message.Message):
    __slots__ = ("collection", "fields", "exist_ok", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    EXIST_OK_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    fields: bytes
    exist_ok: bool
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., fields: _Optional[bytes] = ..., exist_ok: _Optional[bool] = ..., collection_number: _Optional[int] = ...) -> None: ...

class AddFieldsResponse(_message.Message):
    __slots__ = ("schema", "collection_number", "revision")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    schema: bytes
    collection_number: int
    revision: int
    def __init__(self, schema: _Optional[bytes] = ..., collection_number: _Optional[int] = ..., revision: _Optional[int] = ...) -> None: ...

class KeepHistoryRequest(_message.Message):
    __slots__ = ("collection", "history", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    history: float
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., history: _Optional[float] = ..., collection_number: _Optional[int] = ...) -> None: ...

class KeepHistoryResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class OptimizeRequest(_message.Message):
    __slots__ = ("collection", "wait", "timeout", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    wait: bool
    timeout: float
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., wait: _Optional[bool] = ..., timeout: _Optional[float] = ..., collection_number: _Optional[int] = ...) -> None: ...

class OptimizeResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: bytes
    def __init__(self, result: _Optional[bytes] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("kind", "ids", "vectors", "attributes", "payload", "if_version", "if_filter", "filter", "increments", "payload_merge", "if_absent")
    KIND_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    IF_FILTER_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    INCREMENTS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_MERGE_FIELD_NUMBER: _ClassVar[int]
    IF_ABSENT_FIELD_NUMBER: _ClassVar[int]
    kind: WriteKind
    ids: Ids
    vectors: _containers.RepeatedCompositeFieldContainer[VectorColumn]
    attributes: _containers.RepeatedCompositeFieldContainer[JsonColumn]
    payload: JsonColumn
    if_version: bytes
    if_filter: Filter
    filter: Filter
    increments: _containers.RepeatedCompositeFieldContainer[JsonColumn]
    payload_merge: JsonColumn
    if_absent: bool
    def __init__(self, kind: _Optional[_Union[WriteKind, str]] = ..., ids: _Optional[_Union[Ids, _Mapping]] = ..., vectors: _Optional[_Iterable[_Union[VectorColumn, _Mapping]]] = ..., attributes: _Optional[_Iterable[_Union[JsonColumn, _Mapping]]] = ..., payload: _Optional[_Union[JsonColumn, _Mapping]] = ..., if_version: _Optional[bytes] = ..., if_filter: _Optional[_Union[Filter, _Mapping]] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ..., increments: _Optional[_Iterable[_Union[JsonColumn, _Mapping]]] = ..., payload_merge: _Optional[_Union[JsonColumn, _Mapping]] = ..., if_absent: _Optional[bool] = ...) -> None: ...

class WriteRequest(_message.Message):
    __slots__ = ("collection", "batch", "durability", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    batch: Batch
    durability: str
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., batch: _Optional[_Union[Batch, _Mapping]] = ..., durability: _Optional[str] = ..., collection_number: _Optional[int] = ...) -> None: ...

class WriteResponse(_message.Message):
    __slots__ = ("sequence", "count", "collection", "revision")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    count: int
    collection: int
    revision: int
    def __init__(self, sequence: _Optional[int] = ..., count: _Optional[int] = ..., collection: _Optional[int] = ..., revision: _Optional[int] = ...) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("collection", "ids", "filter", "if_version", "if_filter", "durability", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    IF_FILTER_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    ids: Ids
    filter: Filter
    if_version: bytes
    if_filter: Filter
    durability: str
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., ids: _Optional[_Union[Ids, _Mapping]] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ..., if_version: _Optional[bytes] = ..., if_filter: _Optional[_Union[Filter, _Mapping]] = ..., durability: _Optional[str] = ..., collection_number: _Optional[int] = ...) -> None: ...

class DeleteResponse(_message.Message):
    __slots__ = ("sequence", "count", "collection", "revision")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    count: int
    collection: int
    revision: int
    def __init__(self, sequence: _Optional[int] = ..., count: _Optional[int] = ..., collection: _Optional[int] = ..., revision: _Optional[int] = ...) -> None: ...

class TransactStep(_message.Message):
    __slots__ = ("write", "delete")
    WRITE_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    write: WriteRequest
    delete: DeleteRequest
    def __init__(self, write: _Optional[_Union[WriteRequest, _Mapping]] = ..., delete: _Optional[_Union[DeleteRequest, _Mapping]] = ...) -> None: ...

class TransactRequest(_message.Message):
    __slots__ = ("steps", "durability")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[TransactStep]
    durability: str
    def __init__(self, steps: _Optional[_Iterable[_Union[TransactStep, _Mapping]]] = ..., durability: _Optional[str] = ...) -> None: ...

class TransactStepResult(_message.Message):
    __slots__ = ("write", "delete")
    WRITE_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    write: WriteResponse
    delete: DeleteResponse
    def __init__(self, write: _Optional[_Union[WriteResponse, _Mapping]] = ..., delete: _Optional[_Union[DeleteResponse, _Mapping]] = ...) -> None: ...

class TransactResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[TransactStepResult]
    def __init__(self, results: _Optional[_Iterable[_Union[TransactStepResult, _Mapping]]] = ...) -> None: ...

class Position(_message.Message):
    __slots__ = ("collection", "sequence")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    collection: int
    sequence: int
    def __init__(self, collection: _Optional[int] = ..., sequence: _Optional[int] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("collection", "ids", "with_attributes", "with_vectors", "with_payload", "as_of", "seen", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    WITH_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    WITH_VECTORS_FIELD_NUMBER: _ClassVar[int]
    WITH_PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    ids: Ids
    with_attributes: Selection
    with_vectors: Selection
    with_payload: Selection
    as_of: str
    seen: Position
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., ids: _Optional[_Union[Ids, _Mapping]] = ..., with_attributes: _Optional[_Union[Selection, _Mapping]] = ..., with_vectors: _Optional[_Union[Selection, _Mapping]] = ..., with_payload: _Optional[_Union[Selection, _Mapping]] = ..., as_of: _Optional[str] = ..., seen: _Optional[_Union[Position, _Mapping]] = ..., collection_number: _Optional[int] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("points", "found", "revision")
    POINTS_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    points: Points
    found: bytes
    revision: int
    def __init__(self, points: _Optional[_Union[Points, _Mapping]] = ..., found: _Optional[bytes] = ..., revision: _Optional[int] = ...) -> None: ...

class TextQuery(_message.Message):
    __slots__ = ("field", "texts")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    field: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, field: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ...) -> None: ...

class Fusion(_message.Message):
    __slots__ = ("method", "k", "weights", "missing", "options")
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    METHOD_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    method: str
    k: float
    weights: _containers.ScalarMap[str, float]
    missing: str
    options: bytes
    def __init__(self, method: _Optional[str] = ..., k: _Optional[float] = ..., weights: _Optional[_Mapping[str, float]] = ..., missing: _Optional[str] = ..., options: _Optional[bytes] = ...) -> None: ...

class Examples(_message.Message):
    __slots__ = ("field", "json")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    field: str
    json: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, field: _Optional[str] = ..., json: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Arm(_message.Message):
    __slots__ = ("name", "vectors", "text", "examples", "filter", "limit", "weight")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    name: str
    vectors: VectorColumn
    text: TextQuery
    examples: Examples
    filter: Filter
    limit: int
    weight: float
    def __init__(self, name: _Optional[str] = ..., vectors: _Optional[_Union[VectorColumn, _Mapping]] = ..., text: _Optional[_Union[TextQuery, _Mapping]] = ..., examples: _Optional[_Union[Examples, _Mapping]] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ..., limit: _Optional[int] = ..., weight: _Optional[float] = ...) -> None: ...

class Prefetch(_message.Message):
    __slots__ = ("vectors", "texts", "limit", "fusion", "candidates", "prefetch", "arms")
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    FUSION_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    PREFETCH_FIELD_NUMBER: _ClassVar[int]
    ARMS_FIELD_NUMBER: _ClassVar[int]
    vectors: _containers.RepeatedCompositeFieldContainer[VectorColumn]
    texts: _containers.RepeatedCompositeFieldContainer[TextQuery]
    limit: int
    fusion: Fusion
    candidates: int
    prefetch: Prefetch
    arms: _containers.RepeatedCompositeFieldContainer[Arm]
    def __init__(self, vectors: _Optional[_Iterable[_Union[VectorColumn, _Mapping]]] = ..., texts: _Optional[_Iterable[_Union[TextQuery, _Mapping]]] = ..., limit: _Optional[int] = ..., fusion: _Optional[_Union[Fusion, _Mapping]] = ..., candidates: _Optional[int] = ..., prefetch: _Optional[_Union[Prefetch, _Mapping]] = ..., arms: _Optional[_Iterable[_Union[Arm, _Mapping]]] = ...) -> None: ...

class SearchRequest(_message.Message):
    __slots__ = ("collection", "queries", "vectors", "texts", "filter", "limit", "exact", "fusion", "candidates", "with_attributes", "with_vectors", "explain", "batch", "recall", "prefetch", "options", "auto_limit", "seen", "collection_number", "arms", "filters")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    FUSION_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    WITH_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    WITH_VECTORS_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    RECALL_FIELD_NUMBER: _ClassVar[int]
    PREFETCH_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    AUTO_LIMIT_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    ARMS_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    queries: int
    vectors: _containers.RepeatedCompositeFieldContainer[VectorColumn]
    texts: _containers.RepeatedCompositeFieldContainer[TextQuery]
    filter: Filter
    limit: int
    exact: bool
    fusion: Fusion
    candidates: int
    with_attributes: Selection
    with_vectors: Selection
    explain: bool
    batch: bool
    recall: float
    prefetch: Prefetch
    options: _containers.ScalarMap[str, bytes]
    auto_limit: bool
    seen: Position
    collection_number: int
    arms: _containers.RepeatedCompositeFieldContainer[Arm]
    filters: _containers.RepeatedCompositeFieldContainer[Filter]
    def __init__(self, collection: _Optional[str] = ..., queries: _Optional[int] = ..., vectors: _Optional[_Iterable[_Union[VectorColumn, _Mapping]]] = ..., texts: _Optional[_Iterable[_Union[TextQuery, _Mapping]]] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ..., limit: _Optional[int] = ..., exact: _Optional[bool] = ..., fusion: _Optional[_Union[Fusion, _Mapping]] = ..., candidates: _Optional[int] = ..., with_attributes: _Optional[_Union[Selection, _Mapping]] = ..., with_vectors: _Optional[_Union[Selection, _Mapping]] = ..., explain: _Optional[bool] = ..., batch: _Optional[bool] = ..., recall: _Optional[float] = ..., prefetch: _Optional[_Union[Prefetch, _Mapping]] = ..., options: _Optional[_Mapping[str, bytes]] = ..., auto_limit: _Optional[bool] = ..., seen: _Optional[_Union[Position, _Mapping]] = ..., collection_number: _Optional[int] = ..., arms: _Optional[_Iterable[_Union[Arm, _Mapping]]] = ..., filters: _Optional[_Iterable[_Union[Filter, _Mapping]]] = ...) -> None: ...

class SearchResponse(_message.Message):
    __slots__ = ("results", "forms", "facets", "revision")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    FORMS_FIELD_NUMBER: _ClassVar[int]
    FACETS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[Hits]
    forms: AttributeForms
    facets: bytes
    revision: int
    def __init__(self, results: _Optional[_Iterable[_Union[Hits, _Mapping]]] = ..., forms: _Optional[_Union[AttributeForms, _Mapping]] = ..., facets: _Optional[bytes] = ..., revision: _Optional[int] = ...) -> None: ...

class Hits(_message.Message):
    __slots__ = ("ids", "scores", "attributes", "payloads", "arms", "vectors", "plan", "single_scores", "highlights", "next", "groups")
    IDS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    ARMS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    SINGLE_SCORES_FIELD_NUMBER: _ClassVar[int]
    HIGHLIGHTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    ids: Ids
    scores: bytes
    attributes: bytes
    payloads: bytes
    arms: _containers.RepeatedCompositeFieldContainer[ArmScores]
    vectors: _containers.RepeatedCompositeFieldContainer[VectorColumn]
    plan: bytes
    single_scores: bytes
    highlights: bytes
    next: bytes
    groups: bytes
    def __init__(self, ids: _Optional[_Union[Ids, _Mapping]] = ..., scores: _Optional[bytes] = ..., attributes: _Optional[bytes] = ..., payloads: _Optional[bytes] = ..., arms: _Optional[_Iterable[_Union[ArmScores, _Mapping]]] = ..., vectors: _Optional[_Iterable[_Union[VectorColumn, _Mapping]]] = ..., plan: _Optional[bytes] = ..., single_scores: _Optional[bytes] = ..., highlights: _Optional[bytes] = ..., next: _Optional[bytes] = ..., groups: _Optional[bytes] = ...) -> None: ...

class ArmScores(_message.Message):
    __slots__ = ("arm", "ranks", "scores", "normalized", "weights", "contributions", "missing")
    ARM_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    NORMALIZED_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    arm: str
    ranks: bytes
    scores: bytes
    normalized: bytes
    weights: bytes
    contributions: bytes
    missing: bytes
    def __init__(self, arm: _Optional[str] = ..., ranks: _Optional[bytes] = ..., scores: _Optional[bytes] = ..., normalized: _Optional[bytes] = ..., weights: _Optional[bytes] = ..., contributions: _Optional[bytes] = ..., missing: _Optional[bytes] = ...) -> None: ...

class CountRequest(_message.Message):
    __slots__ = ("collection", "filter", "as_of", "seen", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    filter: Filter
    as_of: str
    seen: Position
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ..., as_of: _Optional[str] = ..., seen: _Optional[_Union[Position, _Mapping]] = ..., collection_number: _Optional[int] = ...) -> None: ...

class CountResponse(_message.Message):
    __slots__ = ("count", "revision")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    count: int
    revision: int
    def __init__(self, count: _Optional[int] = ..., revision: _Optional[int] = ...) -> None: ...

class FacetsRequest(_message.Message):
    __slots__ = ("collection", "filter", "facets", "as_of", "seen", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    FACETS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    filter: Filter
    facets: bytes
    as_of: str
    seen: Position
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ..., facets: _Optional[bytes] = ..., as_of: _Optional[str] = ..., seen: _Optional[_Union[Position, _Mapping]] = ..., collection_number: _Optional[int] = ...) -> None: ...

class FacetsResponse(_message.Message):
    __slots__ = ("facets", "revision")
    FACETS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    facets: bytes
    revision: int
    def __init__(self, facets: _Optional[bytes] = ..., revision: _Optional[int] = ...) -> None: ...

class AggregateRequest(_message.Message):
    __slots__ = ("collection", "filter", "functions", "as_of", "seen", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    FUNCTIONS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    filter: Filter
    functions: bytes
    as_of: str
    seen: Position
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ..., functions: _Optional[bytes] = ..., as_of: _Optional[str] = ..., seen: _Optional[_Union[Position, _Mapping]] = ..., collection_number: _Optional[int] = ...) -> None: ...

class AggregateResponse(_message.Message):
    __slots__ = ("results", "revision")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    results: bytes
    revision: int
    def __init__(self, results: _Optional[bytes] = ..., revision: _Optional[int] = ...) -> None: ...

class ScrollRequest(_message.Message):
    __slots__ = ("collection", "filter", "limit", "cursor", "with_attributes", "with_vectors", "order_by", "with_payload", "as_of", "seen", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    WITH_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    WITH_VECTORS_FIELD_NUMBER: _ClassVar[int]
    ORDER_BY_FIELD_NUMBER: _ClassVar[int]
    WITH_PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    filter: Filter
    limit: int
    cursor: str
    with_attributes: Selection
    with_vectors: Selection
    order_by: _containers.RepeatedScalarFieldContainer[str]
    with_payload: Selection
    as_of: str
    seen: Position
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ..., limit: _Optional[int] = ..., cursor: _Optional[str] = ..., with_attributes: _Optional[_Union[Selection, _Mapping]] = ..., with_vectors: _Optional[_Union[Selection, _Mapping]] = ..., order_by: _Optional[_Iterable[str]] = ..., with_payload: _Optional[_Union[Selection, _Mapping]] = ..., as_of: _Optional[str] = ..., seen: _Optional[_Union[Position, _Mapping]] = ..., collection_number: _Optional[int] = ...) -> None: ...

class ScrollResponse(_message.Message):
    __slots__ = ("points", "cursor", "revision")
    POINTS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    points: Points
    cursor: str
    revision: int
    def __init__(self, points: _Optional[_Union[Points, _Mapping]] = ..., cursor: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class SetTermsRequest(_message.Message):
    __slots__ = ("collection", "field", "terms", "words", "removed", "durability", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    field: str
    terms: bytes
    words: _containers.RepeatedScalarFieldContainer[str]
    removed: bytes
    durability: str
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., field: _Optional[str] = ..., terms: _Optional[bytes] = ..., words: _Optional[_Iterable[str]] = ..., removed: _Optional[bytes] = ..., durability: _Optional[str] = ..., collection_number: _Optional[int] = ...) -> None: ...

class SetTermsResponse(_message.Message):
    __slots__ = ("changed",)
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    changed: int
    def __init__(self, changed: _Optional[int] = ...) -> None: ...

class ListTermsRequest(_message.Message):
    __slots__ = ("collection", "field", "after", "limit", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    field: str
    after: int
    limit: int
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., field: _Optional[str] = ..., after: _Optional[int] = ..., limit: _Optional[int] = ..., collection_number: _Optional[int] = ...) -> None: ...

class ListTermsResponse(_message.Message):
    __slots__ = ("terms", "words")
    TERMS_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    terms: bytes
    words: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, terms: _Optional[bytes] = ..., words: _Optional[_Iterable[str]] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: bytes
    def __init__(self, status: _Optional[bytes] = ...) -> None: ...

class SnapshotRequest(_message.Message):
    __slots__ = ("name", "archive")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    name: str
    archive: bool
    def __init__(self, name: _Optional[str] = ..., archive: _Optional[bool] = ...) -> None: ...

class SnapshotResponse(_message.Message):
    __slots__ = ("manifest",)
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    manifest: bytes
    def __init__(self, manifest: _Optional[bytes] = ...) -> None: ...

class PurgeRequest(_message.Message):
    __slots__ = ("collection", "timeout", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    timeout: float
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., timeout: _Optional[float] = ..., collection_number: _Optional[int] = ...) -> None: ...

class PurgeResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: bytes
    def __init__(self, result: _Optional[bytes] = ...) -> None: ...

class ChangesRequest(_message.Message):
    __slots__ = ("collection", "since", "follow", "with_attributes", "with_vectors", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    WITH_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    WITH_VECTORS_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    since: int
    follow: bool
    with_attributes: Selection
    with_vectors: Selection
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., since: _Optional[int] = ..., follow: _Optional[bool] = ..., with_attributes: _Optional[_Union[Selection, _Mapping]] = ..., with_vectors: _Optional[_Union[Selection, _Mapping]] = ..., collection_number: _Optional[int] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("sequence", "kind", "ids", "points", "schema", "more")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    kind: str
    ids: Ids
    points: Points
    schema: bytes
    more: bool
    def __init__(self, sequence: _Optional[int] = ..., kind: _Optional[str] = ..., ids: _Optional[_Union[Ids, _Mapping]] = ..., points: _Optional[_Union[Points, _Mapping]] = ..., schema: _Optional[bytes] = ..., more: _Optional[bool] = ...) -> None: ...

class BranchRequest(_message.Message):
    __slots__ = ("collection", "name")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    collection: str
    name: str
    def __init__(self, collection: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class BranchResponse(_message.Message):
    __slots__ = ("schema", "name", "collection_number", "revision")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    schema: bytes
    name: str
    collection_number: int
    revision: int
    def __init__(self, schema: _Optional[bytes] = ..., name: _Optional[str] = ..., collection_number: _Optional[int] = ..., revision: _Optional[int] = ...) -> None: ...

class DiffRequest(_message.Message):
    __slots__ = ("collection", "limit")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    collection: str
    limit: int
    def __init__(self, collection: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class DiffResponse(_message.Message):
    __slots__ = ("added", "changed", "deleted", "conflicts", "counts")
    class CountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ADDED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    CONFLICTS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    added: Ids
    changed: Ids
    deleted: Ids
    conflicts: Ids
    counts: _containers.ScalarMap[str, int]
    def __init__(self, added: _Optional[_Union[Ids, _Mapping]] = ..., changed: _Optional[_Union[Ids, _Mapping]] = ..., deleted: _Optional[_Union[Ids, _Mapping]] = ..., conflicts: _Optional[_Union[Ids, _Mapping]] = ..., counts: _Optional[_Mapping[str, int]] = ...) -> None: ...

class MergeRequest(_message.Message):
    __slots__ = ("collection", "on_conflict")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    ON_CONFLICT_FIELD_NUMBER: _ClassVar[int]
    collection: str
    on_conflict: str
    def __init__(self, collection: _Optional[str] = ..., on_conflict: _Optional[str] = ...) -> None: ...

class MergeResponse(_message.Message):
    __slots__ = ("added", "changed", "deleted", "conflicts", "sequence")
    ADDED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    CONFLICTS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    added: int
    changed: int
    deleted: int
    conflicts: int
    sequence: int
    def __init__(self, added: _Optional[int] = ..., changed: _Optional[int] = ..., deleted: _Optional[int] = ..., conflicts: _Optional[int] = ..., sequence: _Optional[int] = ...) -> None: ...

class ExploreRequest(_message.Message):
    __slots__ = ("collection", "operation", "field", "options", "filter", "with_vectors", "seen", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    WITH_VECTORS_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    operation: str
    field: str
    options: bytes
    filter: Filter
    with_vectors: Selection
    seen: Position
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., operation: _Optional[str] = ..., field: _Optional[str] = ..., options: _Optional[bytes] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ..., with_vectors: _Optional[_Union[Selection, _Mapping]] = ..., seen: _Optional[_Union[Position, _Mapping]] = ..., collection_number: _Optional[int] = ...) -> None: ...

class ExploreResponse(_message.Message):
    __slots__ = ("done", "total", "facts", "columns", "last", "revision")
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    done: int
    total: int
    facts: bytes
    columns: _containers.RepeatedCompositeFieldContainer[ExploreColumn]
    last: bool
    revision: int
    def __init__(self, done: _Optional[int] = ..., total: _Optional[int] = ..., facts: _Optional[bytes] = ..., columns: _Optional[_Iterable[_Union[ExploreColumn, _Mapping]]] = ..., last: _Optional[bool] = ..., revision: _Optional[int] = ...) -> None: ...

class ExploreColumn(_message.Message):
    __slots__ = ("name", "ids", "dtype", "values", "width")
    NAME_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    name: str
    ids: Ids
    dtype: str
    values: bytes
    width: int
    def __init__(self, name: _Optional[str] = ..., ids: _Optional[_Union[Ids, _Mapping]] = ..., dtype: _Optional[str] = ..., values: _Optional[bytes] = ..., width: _Optional[int] = ...) -> None: ...

class FitRequest(_message.Message):
    __slots__ = ("collection", "field", "timeout", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    field: str
    timeout: float
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., field: _Optional[str] = ..., timeout: _Optional[float] = ..., collection_number: _Optional[int] = ...) -> None: ...

class FitResponse(_message.Message):
    __slots__ = ("report",)
    REPORT_FIELD_NUMBER: _ClassVar[int]
    report: bytes
    def __init__(self, report: _Optional[bytes] = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("collection", "field", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    field: str
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., field: _Optional[str] = ..., collection_number: _Optional[int] = ...) -> None: ...

class ReportResponse(_message.Message):
    __slots__ = ("report",)
    REPORT_FIELD_NUMBER: _ClassVar[int]
    report: bytes
    def __init__(self, report: _Optional[bytes] = ...) -> None: ...

class SetMemoryRequest(_message.Message):
    __slots__ = ("memory",)
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    memory: int
    def __init__(self, memory: _Optional[int] = ...) -> None: ...

class SetMemoryResponse(_message.Message):
    __slots__ = ("facts",)
    FACTS_FIELD_NUMBER: _ClassVar[int]
    facts: bytes
    def __init__(self, facts: _Optional[bytes] = ...) -> None: ...

class MigrateRequest(_message.Message):
    __slots__ = ("collection", "field", "encoder", "anchors", "seed", "encode", "dry_run", "wait", "timeout", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    ANCHORS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    ENCODE_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    field: str
    encoder: str
    anchors: int
    seed: int
    encode: bool
    dry_run: bool
    wait: bool
    timeout: float
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., field: _Optional[str] = ..., encoder: _Optional[str] = ..., anchors: _Optional[int] = ..., seed: _Optional[int] = ..., encode: _Optional[bool] = ..., dry_run: _Optional[bool] = ..., wait: _Optional[bool] = ..., timeout: _Optional[float] = ..., collection_number: _Optional[int] = ...) -> None: ...

class MigrateResponse(_message.Message):
    __slots__ = ("report",)
    REPORT_FIELD_NUMBER: _ClassVar[int]
    report: bytes
    def __init__(self, report: _Optional[bytes] = ...) -> None: ...

class MigrationRequest(_message.Message):
    __slots__ = ("collection", "field", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    field: str
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., field: _Optional[str] = ..., collection_number: _Optional[int] = ...) -> None: ...

class MigrationResponse(_message.Message):
    __slots__ = ("facts",)
    FACTS_FIELD_NUMBER: _ClassVar[int]
    facts: bytes
    def __init__(self, facts: _Optional[bytes] = ...) -> None: ...

class CancelMigrationRequest(_message.Message):
    __slots__ = ("collection", "field", "collection_number")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    COLLECTION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    field: str
    collection_number: int
    def __init__(self, collection: _Optional[str] = ..., field: _Optional[str] = ..., collection_number: _Optional[int] = ...) -> None: ...

class CancelMigrationResponse(_message.Message):
    __slots__ = ("cancelled",)
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    cancelled: bool
    def __init__(self, cancelled: _Optional[bool] = ...) -> None: ...
