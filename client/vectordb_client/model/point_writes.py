"""The methods that write points, with their documentation: of a collection, and of a collection in a transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from .aliases import Column, Durability, FilterLike, Ids, PointsLike, VectorColumn, Versions
from .arguments import named
from .batch import Columns

R = TypeVar("R")


class PointWrites(Generic[R]):
    """The methods that write points. R: what they return. A subclass implements the steps ``_write`` and ``_delete``."""

    _write: Callable[..., R]
    _delete: Callable[..., R]

    @named
    def upsert(
        self,
        points: PointsLike | None = None,
        *,
        ids: Ids | None = None,
        vectors: Mapping[str, VectorColumn | None] | None = None,
        attributes: Mapping[str, Column | None] | None = None,
        payload: Column | None = None,
        if_version: Versions | None = None,
        if_filter: FilterLike | None = None,
        if_absent: bool = False,
        durability: Durability | None = None,
    ) -> R:
        """Insert points. A point whose id exists is replaced as a whole.

        The batch is atomic: either every point is written or none. The next read of any process sees it.
        Give either points, or columns (ids, vectors, attributes, payload).

        A client splits a batch that is larger than one message of the service into several batches, each atomic, which are sent in order.
        A batch with ``if_version`` or ``if_filter`` is never split.

        Args:
            points: a list of ``Point`` or of dicts with the keys id, vectors, attributes, payload. Or a table: a DataFrame of pandas or
                polars, or an Arrow table, with a column ``id``, columns named like fields, and optionally ``payload``. Columns given as
                arguments are added to the table.
            ids: the ids of n points: a list, an array, a Series or a generator.
            vectors: field → n vectors: an ``(n, dim)`` array or tensor, a list or Series of vectors, or a sparse matrix of n rows. A
                sparse vector is ``{term: weight}``, ``(indices, values)`` or a list of ``(term, weight)``. None: the point has no vector
                in the field.
            attributes: name → n values. None, NaT, ``pandas.NA`` and masked values are null, and so is NaN in a column of pandas, polars
                or Arrow. Nanoseconds of datetimes are cut off.
            payload: n JSON values.
            if_version: the version that each point must have: an int for all, a list, or a mapping from id. 0: the point must not exist.
            if_filter: a filter that each point must match; a point that doesn't exist doesn't match.
            if_absent: write only the points whose id doesn't exist yet, and leave the others as they are. Then ``count`` is the number of
                points that were inserted.
            durability: "commit" or "batched", see ``vectordb.open``. None: the default of the database.

        Returns:
            The sequence number of the batch; its ``count`` is the number of points. Of several batches: the last sequence, and the sum.

        Raises:
            InvalidArgumentError: a value can't be accepted. The error names the field and the value.
            SchemaError: a field is not in the schema.
            LimitError: the batch has more than 100,000 points, or a value is too large, or one point is larger than a message.
            EncoderError: the encoder of a field is not installed, or is another one than the field was built with.
            PreconditionError: ``if_version`` or ``if_filter`` doesn't hold; nothing was written.
            LockedError: another process held the write lock for too long.
            StorageError: the file system refused the write.

        Example:
            ```python
            docs.upsert([{"id": 1, "vectors": {"v": [0.1, 0.2]}, "attributes": {"year": 2021}, "payload": {"url": "…"}}])
            docs.upsert(ids=[1, 2], vectors={"v": np.zeros((2, 2), np.float32)}, attributes={"year": [2021, None]})
            docs.upsert(data_frame)
            ```
        """
        return self._write(
            "upsert", points, Columns(ids, vectors, attributes, payload, if_version, if_filter, if_absent=if_absent), durability
        )

    @named
    def update(
        self,
        points: PointsLike | None = None,
        *,
        ids: Ids | None = None,
        vectors: Mapping[str, VectorColumn | None] | None = None,
        attributes: Mapping[str, Column | None] | None = None,
        payload: Column | None = None,
        filter: FilterLike | None = None,
        increment: Mapping[str, Any] | None = None,
        payload_merge: Mapping[str, Any] | Column | None = None,
        if_version: Versions | None = None,
        if_filter: FilterLike | None = None,
        durability: Durability | None = None,
    ) -> R:
        """Change some fields of points that exist. Fields that are not given stay as they are.

        With a filter, all points that match are changed, in one transaction. Then each field has one value, for all of them:
        ``update(filter="stock = 0", attributes={"hidden": True})``.

        Args:
            points: as in ``upsert``, with only the fields to change. None as a value removes a vector or an attribute.
            ids: as in ``upsert``.
            vectors: as in ``upsert``.
            attributes: as in ``upsert``.
            payload: as in ``upsert``.
            filter: change the points that match, instead of points with ids; "ALL" changes all. It is evaluated when the update is carried
                out, so no write of another process comes in between.
            increment: attribute → a number to add to it, for all points or n of them. The attribute is an ``Int`` or a ``Float``; a point
                without a value counts from 0. Nothing is lost if several writers increment at the same time.
            payload_merge: an object for all points, or n of them, to merge into the payload (JSON Merge Patch, RFC 7396): its keys are
                set, None removes a key, and objects are merged in the same way. A payload that isn't an object becomes one.
            if_version: as in ``upsert``.
            if_filter: as in ``upsert``.
            durability: as in ``upsert``.

        Returns:
            The sequence number of the batch; its ``count`` is the number of points. An update by filter of more than 100,000 points has
            several sequence numbers; the last one is returned.

        Raises:
            NotFoundError: a point doesn't exist. The error names the first missing id; nothing was written.
            InvalidArgumentError: also if a sum doesn't fit its attribute.
            VectorDBError: what ``upsert`` raises.
        Example:
            ```python
            docs.update(ids=[1, 2], increment={"views": 1}, payload_merge={"seen": True})
            docs.update(filter="year < 2000", attributes={"old": True})
            ```
        """
        return self._write(
            "update",
            points,
            Columns(ids, vectors, attributes, payload, if_version, if_filter, filter, increment, payload_merge),
            durability,
        )

    @named
    def delete(
        self,
        ids: Ids | None = None,
        *,
        filter: FilterLike | None = None,
        if_version: Versions | None = None,
        if_filter: FilterLike | None = None,
        durability: Durability | None = None,
    ) -> R:
        """Delete points by id or by filter. Ids that don't exist are ignored.

        Args:
            ids: one id or several; a set is accepted, too.
            filter: delete the points that match; ``"ALL"`` deletes all points. Give either ids or a filter.
            if_version: as in ``upsert``; only with ids.
            if_filter: as in ``upsert``.
            durability: as in ``upsert``.

        Returns:
            The sequence number of the batch; its ``count`` is the number of points deleted.

        Raises:
            InvalidArgumentError: neither or both of ids and filter are given, or an id is not valid, or no point has the one id that
                was given and it reads like a filter.
            FilterError: the filter can't be read, or doesn't fit the schema.
            PreconditionError: ``if_version`` or ``if_filter`` doesn't hold; nothing was deleted.
        """
        return self._delete(ids, filter, if_version, if_filter, durability)
