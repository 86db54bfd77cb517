"""The methods of a collection that write, with their documentation. The embedded collection inherits them; a client adds timeouts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from .aliases import Column, Durability, FilterLike, Ids, PointsLike, VectorColumn, Versions
from .arguments import named
from .batch import Columns
from .bulk import Bulk, BulkResult, write_all
from .results import WriteResult
from .schema import AttributeType, VectorField


class Writing:
    """The methods that write points and names of terms, add fields and maintain indexes.

    A subclass implements the steps below, and the methods that have no body here. Or it replaces the methods that call a step.
    """

    _write: Callable[..., WriteResult]
    _delete: Callable[..., WriteResult]

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
        durability: Durability | None = None,
    ) -> WriteResult:
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
        return self._write("upsert", points, Columns(ids, vectors, attributes, payload, if_version, if_filter), durability)

    @named
    def bulk(
        self,
        points: PointsLike | None = None,
        *,
        ids: Ids | None = None,
        vectors: Mapping[str, VectorColumn | None] | None = None,
        attributes: Mapping[str, Column | None] | None = None,
        payload: Column | None = None,
        chunk: int = 1000,
        parallel: int = 4,
        progress: bool | Callable[[int, int], Any] = False,
        durability: Durability | None = None,
    ) -> BulkResult:
        """Write many points like ``upsert``, in chunks, of which several are written at the same time.

        A point that can't be accepted is skipped and listed in ``failed``. Any other error ends the call after the chunks under way are
        written; running the same call again does no harm.

        Args:
            points: any iterable of points, read lazily. Or a table or columns, as in ``upsert``.
            ids: as in ``upsert``.
            vectors: as in ``upsert``.
            attributes: as in ``upsert``.
            payload: as in ``upsert``.
            chunk: points in a chunk, 1 to 100,000. Each chunk is one atomic batch.
            parallel: chunks written at the same time, 1 to 64. Their order is not defined, so ids must be distinct in the whole call; with
                ``parallel=1`` the last point with an id wins.
            progress: True draws a progress bar (needs rich). A function is called with the number of points written and failed so far.
            durability: "commit" or "batched", see ``vectordb.open``.

        Returns:
            ``count`` (points written), ``sequence`` (the highest one), and ``failed`` (position, id and error of each skipped point).

        Raises:
            InvalidArgumentError: an argument is wrong.
            VectorDBError: what ``upsert`` raises, unless it is about a single point.
        """
        columns = {"ids": ids, "vectors": vectors, "attributes": attributes, "payload": payload}
        work = Bulk(points, columns, chunk, parallel, progress)
        return write_all(work, functools.partial(self.upsert, durability=durability))

    @named
    def update(
        self,
        points: PointsLike | None = None,
        *,
        ids: Ids | None = None,
        vectors: Mapping[str, VectorColumn | None] | None = None,
        attributes: Mapping[str, Column | None] | None = None,
        payload: Column | None = None,
        if_version: Versions | None = None,
        if_filter: FilterLike | None = None,
        durability: Durability | None = None,
    ) -> WriteResult:
        """Change some fields of points that exist. Fields that are not given stay as they are.

        Args:
            points: as in ``upsert``, with only the fields to change. None as a value removes a vector or an attribute.
            ids: as in ``upsert``.
            vectors: as in ``upsert``.
            attributes: as in ``upsert``.
            payload: as in ``upsert``.
            if_version: as in ``upsert``.
            if_filter: as in ``upsert``.
            durability: as in ``upsert``.

        Returns:
            The sequence number of the batch; its ``count`` is the number of points.

        Raises:
            NotFoundError: a point doesn't exist. The error names the first missing id; nothing was written.
            VectorDBError: what ``upsert`` raises.
        """
        return self._write("update", points, Columns(ids, vectors, attributes, payload, if_version, if_filter), durability)

    @named
    def delete(
        self,
        ids: Ids | None = None,
        *,
        filter: FilterLike | None = None,
        if_version: Versions | None = None,
        if_filter: FilterLike | None = None,
        durability: Durability | None = None,
    ) -> WriteResult:
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

    def set_terms(self, field: str, terms: Mapping[int, str | None], *, durability: Durability | None = None) -> int:
        """Name the terms of a sparse field. Explained searches and ``info`` then show words instead of term numbers.

        Texts that the database encodes name their terms by themselves, and don't change names that are set here. No result of a search
        depends on these names, so the write has no sequence number. It is atomic, unless a client sends more names than fit one message.

        Args:
            field: a sparse vector field.
            terms: term (0 to 2^64−1) → word of 1 to 480 UTF-8 bytes of printable characters. None removes the word; a text that is
                written later may add it again.
            durability: as in ``upsert``.

        Returns:
            The number of terms whose word changed.

        Raises:
            SchemaError: the field is not a sparse field.
            InvalidArgumentError: a term or a word is not valid.
            LimitError: a word is too long.
        """
        raise NotImplementedError

    def add_fields(
        self,
        *,
        vectors: Mapping[str, VectorField] | None = None,
        attributes: Mapping[str, AttributeType] | None = None,
        exist_ok: bool = False,
    ) -> None:
        """Add vector fields and attributes. Existing points have no value in them.

        Args:
            vectors: name → ``Dense(…)``, ``Sparse(…)`` or ``MultiVector(…)``.
            attributes: name → ``Keyword()``, ``Int()`` and so on.
            exist_ok: accept a field that exists with the same definition, so that several processes may add the same fields.

        Raises:
            SchemaError: a name is taken, or a definition is not valid.
        """
        raise NotImplementedError

    def optimize(self, wait: bool = True, timeout: float | None = None) -> dict[str, Any]:
        """Index rows that are not indexed yet, merge the index segments of each field, and remove deleted rows.

        Reads and writes continue meanwhile. Fewer than 256 rows are not indexed, because scanning them is cheaper. ``info().maintenance``
        shows the progress.

        Args:
            wait: return when everything is done; False returns at once.
            timeout: wait at most this many seconds; None has no limit. Work that has begun continues.

        Returns:
            done (bool), seconds, segments_built, rows_indexed, rows_dropped (deleted rows removed) and bytes_rewritten.

        Raises:
            DeadlineError: the timeout passed.
            LockedError: another process maintained the directory during the whole timeout.
            CorruptionError: stored data is damaged. The error names it; everything else was done.
        """
        raise NotImplementedError

    def purge(self, timeout: float | None = None) -> dict[str, Any]:
        """Erase deleted and replaced points from every file of the directory, then search all files for leftovers.

        Index files that contain deleted rows are rebuilt, chunks are compacted, the change log forgets the ids of deleted points, and
        data.mdb is rewritten, which needs free space for a second copy. Reads continue, except for the moment in which the files are
        exchanged. Writes wait. Every process that has the directory open must run this version of vectordb.

        Not erased: names in dictionaries (keywords and words that no point uses any more), earlier snapshots and exports, and blocks that
        the disk itself keeps of removed files.

        Args:
            timeout: wait at most this many seconds; None has no limit. Work that has begun continues.

        Returns:
            done, seconds, rows_dropped, segments_built; bytes_before, bytes_after and bytes_reclaimed of the directory; counts of what was
            searched for: ids, rows, vectors, vague (vectors too short or too common to identify), alike (vectors equal to one of a live
            point); proven (bool): nothing was found; residue: files that still contain something.

        Raises:
            LockedError: another process maintained the directory during the whole timeout, or didn't release the old file.
            DeadlineError: the timeout passed.
            StorageError: the file system refused a write.
            CorruptionError: stored data is damaged.
        """
        raise NotImplementedError
