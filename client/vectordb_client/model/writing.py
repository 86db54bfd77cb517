"""The methods of a collection that write, with their documentation. The embedded collection inherits them; a client adds timeouts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .aliases import Column, Durability, Ids, PointsLike, Span, VectorColumn
from .arguments import named
from .bulk import Bulk, BulkResult, write_all
from .point_writes import PointWrites
from .results import WriteResult
from .schema import AttributeType, VectorField
from .unset import UNSET


class Writing(PointWrites[WriteResult]):
    """The methods that write points and names of terms, add fields and maintain indexes.

    A subclass implements the steps of ``PointWrites``, and the methods that have no body here. Or it replaces the methods that call a step.
    """

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
            InvalidArgumentError: a term or a word is not valid, or a derived field has no such term.
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

    def drop_fields(self, names: str | Sequence[str]) -> None:
        """Drop vector fields and attributes with all their values, in one transaction. Other fields stay as they are.

        The records of rows are written again without the dropped attributes, which takes as long as rewriting them all. The pages of what
        was removed are free for later writes; ``purge`` also makes the file smaller and erases the bytes.

        Args:
            names: the name of a field, or several.

        Raises:
            SchemaError: there is no such field, an attribute is the source of a vector field that stays, or no field would be left.
        """
        raise NotImplementedError

    def rename_fields(self, names: Mapping[str, str]) -> None:
        """Give vector fields and attributes new names, all in one transaction: two fields may exchange their names.

        Vectors and indexes stay as they are. The records of rows are written again if attributes are renamed. Searches and filters use the
        new names from now on.

        Args:
            names: old name → new name.

        Raises:
            SchemaError: there is no such field, or a new name is taken or not valid.
        """
        raise NotImplementedError

    def alter(self, *, attributes: Mapping[str, AttributeType] | None = None, ttl: Any = UNSET) -> None:
        """Change definitions of the schema, all in one transaction: let attributes take floats, and say when points end.

        An ``Int()`` can become a ``Float()``, also of arrays. All values stay equal, and reads return them as floats. The values and the
        records of rows are written again, which takes as long as rewriting them all. Nothing else can change its type: add another
        attribute, write its values, and drop the old one. Attributes that aren't declared (``Schema(dynamic=True)``) take all types anyway.

        Args:
            attributes: name → ``Float()``.
            ttl: the name of a ``Datetime()`` attribute that says when points end, from now on; those whose moment has passed end at once.
                None: points don't end any more; those that have ended stay deleted. Left out: as it is.

        Raises:
            SchemaError: there is no such attribute, it can't get this type, or an integer has no equal float (some above 2^53); the error
                names the point and the value.

        Example:
            ```python
            docs.alter(attributes={"price": Float()}, ttl="until")
            ```
        """
        raise NotImplementedError

    def keep_history(self, history: Span | None) -> None:
        """Keep the history of the collection from now on, for another time, or no longer, so that ``as_of`` can read earlier states.

        While history is kept, compaction and the change log spare what the states of that time need: replaced and deleted rows take space
        until they are older. A state stays readable for at least that time. ``purge`` removes deleted and replaced points at once, and
        history begins anew.

        Args:
            history: a time such as "7d", "12h" or "30m", a timedelta, or seconds. None or 0 keeps none: earlier states can't be read any
                more, and their rows are removed by the next compaction. A longer time brings nothing back that was removed.

        Raises:
            InvalidArgumentError: not a time.

        Example:
            ```python
            docs.keep_history("7d")
            docs.search({"v": query}, as_of="2026-11-30T18:00:00Z")
            ```
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

    def fit(self, field: str, *, timeout: float | None = None) -> dict[str, Any]:
        """Fit a derived field (``PCA``, ``Pick``, ``CSR``) to the points as they are now, and derive its vectors anew.

        A field is fitted for the first time by itself, in the background, when 1,024 points have a vector of its source, and twice as many
        as that has dimensions. After that only this method and ``purge`` fit it again. Searches go on with the old vectors until all new
        ones are made; then all are exchanged at once. ``info().maintenance`` shows the progress.

        Args:
            field: the name of the derived field.
            timeout: wait at most this many seconds; None has no limit. Work that has begun continues.

        Returns:
            done, seconds, and what ``report`` returns.

        Raises:
            SchemaError: there is no such field.
            InvalidArgumentError: the field is not derived, learns nothing, or there are fewer than 20 points, or not more points than
                dimensions.
            DeadlineError: the timeout passed.
            LockedError: another process maintained the directory during the whole timeout.

        Example:
            ```python
            print(docs.fit("small")["recall_at_10"])
            ```
        """
        raise NotImplementedError

    def migrate(
        self,
        field: str,
        encoder: str,
        *,
        anchors: int = 2000,
        seed: int = 0,
        encode: bool = True,
        dry_run: bool = False,
        wait: bool = True,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Bring a dense field to another encoder, of any number of dimensions, while searches and writes go on.

        Every text is encoded anew in the background, and the index of the new vectors is built. Until then searches use the old vectors
        and the old encoder. Then one transaction exchanges all: no search compares vectors of two encoders. Points written meanwhile get
        vectors of the new encoder, too. The work goes on after a crash. ``migration`` shows how far it is; ``cancel_migration`` ends it.

        Points without a text have a vector that the database can't make again. It is mapped into the space of the new encoder, by a map
        that is fitted to points with a text. The report says how good the map is. ``info`` counts the points with mapped vectors, until
        they are written again. A point that has a text gets the vector of its text, also if it was written with another one.

        Called again with the same field and encoder, the method goes on with the migration that is under way, or does nothing if the field
        has the encoder.

        Args:
            field: the name of the field. It must have an encoder and a source.
            encoder: the new encoder, such as "wordllama(dim=256)".
            anchors: how many points with a text the map is fitted to and measured with, 40 to 100,000.
            seed: chooses these points.
            encode: encode the texts. False maps all vectors, which takes seconds, but finds less. A later call with the same encoder
                encodes the texts of mapped points.
            dry_run: only fit and measure the map, and write nothing. It encodes the anchors.
            wait: return when everything is done; False returns when the map is fitted and the migration has begun.
            timeout: wait at most this many seconds; None has no limit. Work that has begun continues in the background.

        Returns:
            field, encoder, from and to (identities of the encoders), dim, encode; rows with a vector, and rows_with_text; state ("planned"
            after a dry run, else as in ``migration``; "none" when it is done). Of the map anchors, held_out, map ("orthogonal", "ridge",
            or None if nothing needed one), recall_at_10 and cosine: with the vectors of held-out texts by the new encoder as queries,
            the mean share of the ten nearest that are found among mapped vectors, and the mean cosine of mapped vectors and those. In
            a collection of many more points than held_out, mapped vectors find less than recall_at_10.
            After waiting also mapped: points with a mapped vector.

        Raises:
            SchemaError: there is no such field.
            EncoderError: the new encoder isn't known, or a model is missing.
            InvalidArgumentError: the field isn't dense, has no encoder or source, or is the source of derived fields; too few points have
                a text; an argument is not valid.
            PreconditionError: the field is being migrated to another encoder, or the migration was cancelled meanwhile.
            DeadlineError: the timeout passed.

        Example:
            ```python
            print(docs.migrate("text_vector", "wordllama(dim=256)", dry_run=True)["recall_at_10"])
            docs.migrate("text_vector", "wordllama(dim=256)")
            ```
        """
        raise NotImplementedError

    def cancel_migration(self, field: str) -> bool:
        """End the migration of a field. The field keeps its vectors and its encoder, and points written meanwhile have their vectors.

        Args:
            field: the name of the field.

        Returns:
            Whether a migration was under way. After it has finished there is nothing to cancel.

        Raises:
            SchemaError: there is no such field.
        """
        raise NotImplementedError

    def purge(self, timeout: float | None = None) -> dict[str, Any]:
        """Erase deleted and replaced points from every file of the directory, then search all files for leftovers.

        Index files that contain deleted rows are rebuilt, chunks are compacted, the change log forgets the ids of deleted points, and
        data.mdb is rewritten, which needs free space for a second copy. Reads continue, except for the moment in which the files are
        exchanged. Writes wait. Every process that has the directory open must run this version of vectordb. A history (``keep_history``)
        loses these points, too: it begins anew with the present state. Branches of the collection, and its original, are purged with it,
        because they may store its deleted points. Derived fields that were fitted to deleted points are fitted again to those that are
        left; with too few of them, they lose what they have learned, and can't be searched until they are fitted.

        Not erased: points that a branch or its original still has, names in dictionaries (keywords and words that no point uses any more),
        earlier snapshots and exports, and blocks that the disk itself keeps of removed files.

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
