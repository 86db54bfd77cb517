"""The blocking client: the surface of an embedded database, over gRPC."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import grpc

from . import calls, changes
from .arguments import named
from .bulk import Bulk, BulkResult, write_all
from .channel import (
    METHODS,
    STREAMS,
    call_metadata,
    channel_options,
    check_fork,
    check_target,
    check_timeout,
    failure,
    metadata_of,
    open_channel,
)
from .errors import ClosedError, DeadlineError
from .ranking import Fusion, Prefetch
from .results import Change, CollectionInfo, Hits, Page, Point, WriteResult
from .retry import check_retries, pause_before_retry
from .schema import Attribute, Schema, VectorField
from .tuning import FusionTuning, drive, tune
from .values import Id

T = TypeVar("T")


class Client:
    """A connection to a service, with the methods of an embedded ``Database``. Safe to share between threads.

    target: "host:port". timeout: seconds that a call may take in all; None is no limit, and a call's own ``timeout=`` goes first.
    retries: how often a call is made again, after growing pauses and within its timeout, when the service can't be reached or says that
    calls come too fast; never a write that might then be done twice (``retry.py`` says which).
    options: gRPC channel options by name. The connection is made by the first call and made again when it was lost, and after a fork.
    api_key: what ``vectordb keys create`` printed. tls: True trusts the authorities that gRPC knows, a PEM file those in it.
    tls_cert, tls_key: PEM files of the client's own certificate, where the service wants one.
    Reads show what this client has written, whichever process of the service answers.

    Every method raises UnavailableError when the service can't be reached, DeadlineError when time ran out (a write may have
    happened then), AuthenticationError or PermissionDeniedError when the key won't do, RateLimitError when there are too many calls,
    ClosedError after ``close``, and otherwise what the embedded database raises, by the same classes.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout: float | None = 30.0,
        retries: int = 5,
        options: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
        api_key: str | None = None,
        tls: bool | str | os.PathLike[str] = False,
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
    ):
        self.target = check_target(target)
        self._timeout = check_timeout(timeout)
        self._retries = check_retries(retries)
        self._metadata = call_metadata(api_key)
        self._closed = False
        self._service = calls.Service()
        self._options = channel_options(options)
        self._tls = tls, tls_cert, tls_key
        self._left_behind: list[grpc.Channel] = []
        self._connect()

    def create_collection(self, name: str, schema: Schema, *, exist_ok: bool = False, timeout: float | None = None) -> Collection:
        """A new collection. Raises AlreadyExistsError, or SchemaError. exist_ok: one that exists is returned as it is."""
        return Collection(self, self._run(calls.create_collection(self._service, name, schema, exist_ok), timeout))

    def collection(self, name: str, *, timeout: float | None = None) -> Collection:
        """A collection that exists; reads its schema. Raises NotFoundError."""
        return Collection(self, self._run(calls.collection(self._service, name), timeout))

    def collections(self, *, timeout: float | None = None) -> list[str]:
        """The names of all collections."""
        return self._run(calls.collections(), timeout)

    def drop_collection(self, name: str, *, timeout: float | None = None) -> None:
        """Removes a collection and its points. Raises NotFoundError."""
        return self._run(calls.drop_collection(name), timeout)

    def server_info(self, *, timeout: float | None = None) -> dict[str, Any]:
        """``version``, ``max_message_bytes`` and ``max_batch`` of the service."""
        return self._run(calls.server_info(), timeout)

    def status(self, *, timeout: float | None = None) -> dict[str, Any]:
        """What the service has been doing since it started, of all its processes: plain data, as StatusResponse in the proto file says."""
        return self._run(calls.status(), timeout)

    def snapshot(self, path: str, *, archive: bool = False, timeout: float | None = None) -> dict[str, Any]:
        """Copies the database as it is now into the service's ``snapshot_dir``, as a directory or (archive) one tar file.

        path: a plain name in that folder. Reads and writes go on meanwhile. Returns the manifest: created, collections, files and path.
        timeout: None is no limit here, whatever the client's own. Raises PreconditionError when the service has no such folder,
        AlreadyExistsError, InvalidArgumentError for what is no plain name.
        """
        return self._run(calls.snapshot(path, archive), timeout, endless=True)

    def purge(self, timeout: float | None = None) -> dict[str, Any]:
        """``Collection.purge`` of all collections, and of what was dropped."""
        return self._run(calls.purge(None, timeout), calls.patience(timeout), endless=True)

    def close(self) -> None:
        """Ends calls under way and the connection. Closing twice is fine."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.target!r}{', closed' if self._closed else ''})"

    def _connect(self) -> None:
        self._pid = os.getpid()
        self._channel = open_channel(grpc, self.target, self._options, *self._tls)
        self._methods = {
            name: (self._channel.unary_stream if name in STREAMS else self._channel.unary_unary)(path, write, read)
            for name, (path, write, read) in METHODS.items()
        }

    def _connect_after_fork(self) -> None:
        check_fork()
        self._left_behind.append(self._channel)  # the parent's: nothing here may end it
        self._connect()

    def _run(self, steps: calls.Steps[T], timeout: float | None, endless: bool = False) -> T:
        """Makes the calls. ``timeout`` None: the client's own, or with ``endless`` no limit."""
        if self._closed:
            raise ClosedError("the client was closed")
        if self._pid != os.getpid():
            self._connect_after_fork()
        left = self._timeout if timeout is None and not endless else check_timeout(timeout)
        end = None if left is None else time.monotonic() + left
        try:
            name, request = next(steps)
            while True:
                name, request = steps.send(self._call(name, request, end))
        except StopIteration as done:
            return done.value
        except ValueError:
            if self._closed:  # between the look above and the call
                raise ClosedError("the client was closed") from None
            raise

    def _call(self, name: str, request: Any, end: float | None) -> Any:
        """One answer, after as many tries as it may take."""
        attempt, left = 0, None
        while True:
            if end is not None:
                left = end - time.monotonic()
                if left <= 0:
                    raise DeadlineError(f"time ran out before {name}", field="timeout")
            try:
                return self._methods[name](request, timeout=left, metadata=self._metadata)
            except grpc.RpcError as error:
                left = None if end is None else end - time.monotonic()
                again = attempt < self._retries and not self._closed
                pause = pause_before_retry(error.code().name, metadata_of(error), name, request, attempt, left) if again else None
                if pause is None:
                    raise failure(error, self.target, self._closed) from None
            attempt += 1
            time.sleep(pause)

    def _stream(self, name: str, request: Any, assembly: Any, timeout: float | None, ends_quietly: bool) -> Iterator[Any]:
        """Makes a streaming call. ends_quietly: its deadline and ``close`` are its end, not its failure."""
        if self._closed:
            raise ClosedError("the client was closed")
        if self._pid != os.getpid():
            self._connect_after_fork()
        seconds = check_timeout(timeout)
        try:
            call = self._methods[name](request, timeout=seconds, metadata=self._metadata)
        except ValueError:
            raise ClosedError("the client was closed") from None
        return self._assembled(call, assembly, ends_quietly)

    def _assembled(self, call: Any, assembly: Any, ends_quietly: bool) -> Iterator[Any]:
        try:
            for message in call:
                whole = assembly.add(message)
                if whole is not None:
                    yield whole
        except grpc.RpcError as error:
            raised = failure(error, self.target, self._closed)
            if not (ends_quietly and isinstance(raised, (DeadlineError, ClosedError))):
                raise raised from None
        finally:
            call.cancel()


class Collection:
    """A collection of a service, with the methods of the embedded ``Collection``; ``timeout=`` is the client's when not given."""

    def __init__(self, client: Client, remote: calls.Remote):
        self._client = client
        self._remote = remote

    @property
    def name(self) -> str:
        return self._remote.name

    @property
    def schema(self) -> Schema:
        """As it was last read: ``info()`` reads it again, and so does a call that needs it after somebody changed it."""
        return self._remote.schema

    @named
    def upsert(
        self,
        points: Iterable[Point | Mapping[str, Any]] | None = None,
        *,
        ids: Any = None,
        vectors: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        payload: Sequence[Any] | None = None,
        if_version: Any = None,
        if_filter: Any = None,
        durability: str | None = None,
        timeout: float | None = None,
    ) -> WriteResult:
        """Writes whole points, replacing those with the same ids. Returns once it is durable.

        points: Point objects or dicts with id, vectors, attributes, payload. Or a table (DataFrame of pandas or polars, Arrow table): its
        column ``id``, its columns named like fields, and ``payload``; what is given beside it joins it. Or columns: ids (list, array,
        Series, generator), vectors (field → ``(n, dim)`` array or tensor, list or Series of vectors, scipy matrix), attributes (name →
        n values), payload (n JSON values). None, NaT, ``pandas.NA`` and masked values are null, and so is NaN in a column of pandas,
        polars or Arrow.

        The batch is atomic, unless it is larger than a message of the service may be: then it is sent as several batches in
        order, each atomic, and the result has the last sequence and the sum of the counts. A write with ``if_version`` or
        ``if_filter`` is never taken apart: it raises LimitError instead, as does one point larger than a message.
        """
        columns = calls.Columns(ids, vectors, attributes, payload, if_version, if_filter)
        return self._client._run(calls.write(self._remote, "upsert", points, columns, durability), timeout)

    @named
    def bulk(
        self,
        points: Iterable[Point | Mapping[str, Any]] | None = None,
        *,
        ids: Any = None,
        vectors: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        payload: Sequence[Any] | None = None,
        chunk: int = 1000,
        parallel: int = 4,
        progress: bool | Callable[[int, int], Any] = False,
        durability: str | None = None,
        timeout: float | None = None,
    ) -> BulkResult:
        """Writes many points as ``upsert`` does, in chunks of which several are under way; for points by the million.

        points: any iterable of points, read as it is needed. Or a table or columns, as in ``upsert``. Each chunk of ``chunk`` points is
        one atomic batch; ``parallel`` are written at a time, in no order, so ids must be distinct throughout (with ``parallel=1`` later
        ones win).
        progress: True draws a bar (needs rich); or a function that is called with the points written and failed so far.
        A point that can't be taken is left out and listed in the result's ``failed`` with its error. Whatever isn't about single points
        ends it: the chunks under way are finished, then that error is raised; writing all of it again does no harm.
        timeout: seconds for each chunk.
        """
        columns = {"ids": ids, "vectors": vectors, "attributes": attributes, "payload": payload}
        work = Bulk(points, columns, chunk, parallel, progress)
        return write_all(work, functools.partial(self.upsert, durability=durability, timeout=timeout))

    @named
    def update(
        self,
        points: Iterable[Point | Mapping[str, Any]] | None = None,
        *,
        ids: Any = None,
        vectors: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        payload: Sequence[Any] | None = None,
        if_version: Any = None,
        if_filter: Any = None,
        durability: str | None = None,
        timeout: float | None = None,
    ) -> WriteResult:
        """Changes what is named of points that exist, as ``upsert`` otherwise. Raises NotFoundError naming a missing id."""
        columns = calls.Columns(ids, vectors, attributes, payload, if_version, if_filter)
        return self._client._run(calls.write(self._remote, "update", points, columns, durability), timeout)

    @named
    def delete(
        self,
        ids: Any = None,
        *,
        filter: Any = None,
        if_version: Any = None,
        if_filter: Any = None,
        durability: str | None = None,
        timeout: float | None = None,
    ) -> WriteResult:
        """Deletes points by id or by filter; ``.count`` is how many there were."""
        return self._client._run(calls.delete(self._remote, ids, filter, if_version, if_filter, durability), timeout)

    def set_terms(self, field: str, terms: Mapping[int, str | None], *, durability: str | None = None, timeout: float | None = None) -> int:
        """Says what terms of a sparse field stand for: explained searches and ``info`` show a term's word instead of its number.

        terms: term → word, of 1 to 480 UTF-8 bytes that can all be printed; None takes the word away. Atomic, unless there are more than a
        message of the service may hold: then in several parts, each atomic. Returns how many terms have another word now.
        """
        return self._client._run(calls.set_terms(self._remote, field, terms, durability), timeout)

    @named
    def get(
        self,
        ids: Any,
        *,
        with_vectors: bool | Sequence[str] = False,
        with_attributes: bool | Sequence[str] = True,
        timeout: float | None = None,
    ) -> list[Point | None] | Point | None:
        """One point or None for each id, in the order asked; for a single id that point or None."""
        return self._client._run(calls.get(self._remote, ids, with_vectors, with_attributes), timeout)

    @named
    def search(
        self,
        vectors: Mapping[str, Any] | None = None,
        *,
        text: str | Mapping[str, str] | None = None,
        filter: Any = None,
        limit: int = 10,
        recall: float | None = None,
        exact: bool = False,
        fusion: str | Fusion = "rrf",
        candidates: int | None = None,
        prefetch: Prefetch | None = None,
        with_attributes: bool | Sequence[str] = True,
        with_vectors: bool | Sequence[str] = False,
        explain: bool = False,
        timeout: float | None = None,
    ) -> Hits:
        """The best ``limit`` points for one query a field (``{field: vector}``) and/or a text; several arms are fused.

        recall: the mean share of the true best ``limit`` points that is to be found, above 0 and at most 1; None is 0.95. The service takes
        the cheapest plan that is expected to reach it. What has no index is searched exactly. exact, or ``recall=1.0``: exactly.
        fusion "linear" proves its result unless a recall is named; ``missing`` of a fusion says what a point without a vector in an arm's
        field gets. With ``candidates`` given the first hits are the same for every limit up to it. prefetch: its hits are the only points
        that are ranked.
        explain: ``hits.plan`` tells how it was run, as data that prints well.
        """
        wanted = calls.Wanted(filter, limit, recall, exact, fusion, candidates, prefetch, with_attributes, with_vectors, explain)
        return self._client._run(calls.search(self._remote, vectors, text, wanted), timeout)

    @named
    def search_batch(
        self,
        vectors: Mapping[str, Any] | None = None,
        *,
        text: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        filter: Any = None,
        limit: int = 10,
        recall: float | None = None,
        exact: bool = False,
        fusion: str | Fusion = "rrf",
        candidates: int | None = None,
        prefetch: Prefetch | None = None,
        with_attributes: bool | Sequence[str] = True,
        with_vectors: bool | Sequence[str] = False,
        explain: bool = False,
        timeout: float | None = None,
    ) -> list[Hits]:
        """``search`` for many queries in one message: ``{field: n queries}`` and/or n texts; n results."""
        wanted = calls.Wanted(filter, limit, recall, exact, fusion, candidates, prefetch, with_attributes, with_vectors, explain)
        return self._client._run(calls.search_batch(self._remote, vectors, text, wanted), timeout)

    def tune_fusion(
        self,
        vectors: Mapping[str, Any] | None,
        qrels: Sequence[Mapping[Id, float]],
        *,
        text: Any = None,
        filter: Any = None,
        limit: int = 10,
        candidates: int = 100,
        recall: float | None = None,
        folds: int = 5,
        seed: int = 0,
        timeout: float | None = None,
    ) -> FusionTuning:
        """Learns the weights of ``Linear`` fusion from judged queries, and reports what they are worth on queries not learned from.

        vectors, text: as in ``search_batch``, at least two arms. qrels: for each query a mapping from id to grade (≥ 0, absent is 0);
        queries without a relevant point are left out. filter, recall: as in ``search``. limit: nDCG is that of the best ``limit``.
        candidates: so many of each arm's best points are learned from. folds, seed: of the cross-validation; the same give the same.
        Returns weights learned on all queries, and nDCG of each fold: linear with weights learned on the other folds, rrf, each arm alone.
        timeout: seconds for each of its searches. Raises InvalidArgumentError, and what ``search_batch`` raises.
        """
        steps = tune(vectors, qrels, text, filter, limit, candidates, recall, folds, seed)
        return drive(steps, functools.partial(self.search_batch, timeout=timeout))

    @named
    def count(self, filter: Any = None, *, timeout: float | None = None) -> int:
        """How many points match; all of them without a filter."""
        return self._client._run(calls.count(self._remote, filter), timeout)

    @named
    def scroll(
        self,
        *,
        filter: Any = None,
        limit: int = 100,
        cursor: str | None = None,
        with_vectors: bool | Sequence[str] = False,
        with_attributes: bool | Sequence[str] = True,
        timeout: float | None = None,
    ) -> Page:
        """One page of points in id order. It holds fewer than ``limit`` when more don't fit a message; ``cursor`` None is the end."""
        return self._client._run(calls.scroll(self._remote, filter, limit, cursor, with_vectors, with_attributes), timeout)

    def iterate(
        self,
        *,
        filter: Any = None,
        page: int = 1000,
        with_vectors: bool | Sequence[str] = False,
        with_attributes: bool | Sequence[str] = True,
        timeout: float | None = None,
    ) -> Iterator[Point]:
        """All points that match, in id order; ``page`` are read at a time, each page within ``timeout``."""
        cursor = None
        while True:
            points = self.scroll(
                filter=filter, limit=page, cursor=cursor, with_vectors=with_vectors, with_attributes=with_attributes, timeout=timeout
            )
            yield from points
            cursor = points.cursor
            if cursor is None:
                return

    def terms(self, field: str, *, after: int | None = None, limit: int = 10_000, timeout: float | None = None) -> dict[int, str]:
        """The words of a sparse field's terms, ascending by term: a page of at most ``limit`` (1 … 100,000), past the term ``after``.

        A page may hold fewer, so as to fit a message; an empty one is the end.
        """
        return self._client._run(calls.terms(self._remote, field, after, limit), timeout)

    def info(self, *, timeout: float | None = None) -> CollectionInfo:
        """Facts about the collection; reads its schema again."""
        return self._client._run(calls.info(self._remote), timeout)

    def add_fields(
        self,
        *,
        vectors: Mapping[str, VectorField] | None = None,
        attributes: Mapping[str, Attribute] | None = None,
        exist_ok: bool = False,
        timeout: float | None = None,
    ) -> None:
        """More fields; the points there have no value in them.

        exist_ok: a field that exists with the same definition is left as it is, so several clients may add the same fields at once.
        Raises SchemaError when a name is taken.
        """
        return self._client._run(calls.add_fields(self._remote, vectors, attributes, exist_ok), timeout)

    def optimize(self, wait: bool = True, timeout: float | None = None) -> dict[str, Any]:
        """Brings the indexes up to date, merges their segments and takes dead rows out; returns what was done.

        Searches and writes go on meanwhile. wait: return when all is done; False returns at once, and ``info().maintenance`` shows how
        far it is. timeout: seconds to wait at most; None is no limit here, whatever the client's own. Returns done (bool), seconds,
        segments_built, rows_indexed, rows_dropped and bytes_rewritten. Raises DeadlineError when time was too short (the service goes
        on with what has begun), LockedError when another process maintains the directory all that time.
        """
        return self._client._run(calls.optimize(self._remote, wait, timeout), calls.patience(timeout), endless=wait)

    def purge(self, timeout: float | None = None) -> dict[str, Any]:
        """Takes deleted and replaced points out of every file of the service's directory, and proves it by searching all of them.

        timeout: seconds to wait at most; None is no limit here, whatever the client's own. Returns done, seconds, rows_dropped,
        segments_built, bytes_before, bytes_after, bytes_reclaimed; what was looked for: ids, rows, vectors (vague: too short or plain to
        tell, alike: the same in points that live); proven (bool), and residue: files that still hold something.
        """
        return self._client._run(calls.purge(self._remote, timeout), calls.patience(timeout), endless=True)

    def changes(
        self,
        since: int = 0,
        *,
        follow: bool = False,
        with_vectors: bool | Sequence[str] = False,
        with_attributes: bool | Sequence[str] = False,
        timeout: float | None = None,
    ) -> Iterator[Change]:
        """What each batch after sequence ``since`` did, in order and without gaps: whoever applies it all has an equal collection.

        follow: wait for more, until ``timeout`` seconds have passed or the client is closed. Go on later with the sequence of the last
        change that was dealt with. with_vectors, with_attributes (and payload): the points written, as they are. timeout: None is no limit
        here. Raises NotFoundError (field "since") when changes that far back aren't kept, InvalidArgumentError when ``since`` lies ahead,
        LimitError when the service answers as many streams as it may, UnavailableError when it ends.
        """
        request = calls.changes(self._remote, since, follow, with_vectors, with_attributes)
        return self._client._stream("Changes", request, changes.Assembly(), timeout, ends_quietly=follow)

    def __repr__(self) -> str:
        return f"Collection({self.name!r} of {self._client.target!r})"
