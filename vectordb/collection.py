"""A collection: write, read, search. Each method is the straight line that ARCHITECTURE.md draws."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol, TypeVar

import numpy as np
from vectordb_client.arguments import named

from . import deadline, encoders
from .apply import Delete, OvertakenError, Write, apply
from .changes import changes
from .changes import pieces as change_pieces
from .errors import EncoderError, InvalidArgumentError, SchemaError, shown
from .filters import as_filter
from .filters.bitmap import FilterCache
from .query import execute, read
from .query.info import describe
from .query.request import Familiar, Words, check_limit, check_selection, make_search, selected
from .snapshot import Snapshots, View
from .storage import catalog, change_log, fields, term_words
from .storage.commit import Committer
from .storage.env import Env
from .storage.store import Store
from .types import (
    Batch,
    Bulk,
    BulkResult,
    Change,
    CollectionInfo,
    Dense,
    FusionTuning,
    Hits,
    Id,
    Page,
    Point,
    Prefetch,
    Schema,
    VectorField,
    WriteResult,
    check_each_id,
    check_id,
    check_ids,
    check_page,
    check_sparse,
    check_words,
    drive,
    is_single_id,
    is_word,
    make_batch,
    tune,
    versions_of,
    write_all,
)

MAX_KNOWN_TERMS = 1_000_000  # dictionary entries kept in memory for a field
MAX_FREQUENCY = 1 << 24  # of a term in a text: float32 holds every whole number up to it
MAX_LENGTH = (1 << 32) - 1  # words of a text
MAX_WORDED_TERMS = 1 << 17  # those met first are the frequent ones
_NO_TERMS = np.empty(0, np.uint64)
# What searches are that differ in nothing but query vectors and what ``Familiar`` goes by.
_PLAIN = (("text", None), ("candidates", None), ("prefetch", None), ("exact", False), ("with_vectors", False), ("explain", False))
_FAMILIAR = ("vectors", "filter", "limit", "recall", "with_attributes")
T = TypeVar("T")


class Upkeep(Protocol):
    """What a collection needs of ``maintenance``, which is above it."""

    def wrote(self, number: int, rows: int) -> None: ...

    def optimize(self, number: int, wait: bool, timeout: float | None) -> dict[str, Any]: ...

    def purge(self, numbers: Sequence[int], timeout: float | None) -> dict[str, Any]: ...

    def status(self, number: int) -> dict[str, Any]: ...

    def pending(self, view: View) -> int: ...


class Collection:
    """Points with named vectors, typed attributes and a JSON payload. Get one from ``Database.collection``. Safe to share among threads."""

    def __init__(self, name: str, number: int, env: Env, committer: Committer, durability: str, maintainer: Upkeep):
        self.name = name
        self._number = number
        self._env = env
        self._committer = committer
        self._durability = durability
        self._maintainer = maintainer
        self._snapshots = Snapshots(env, number)
        self._filters = FilterCache()
        self._familiar = Familiar()
        self._worded: dict[str, np.ndarray] = {}  # by field: terms (ascending) whose words are stored, as far as this process knows

    def __repr__(self) -> str:
        return f"Collection({self.name!r})"

    @property
    def schema(self) -> Schema:
        with self._snapshots.pin() as view:
            return view.schema

    @property
    def number(self) -> int:
        """Tells collections of one name apart: one that is made again after a drop has a higher number."""
        return self._number

    @property
    def revision(self) -> int:
        """Of the schema: grows with every change of it, here as far as this process has read."""
        newest = self._snapshots.newest
        if newest is not None:
            return newest.meta.revision
        with self._snapshots.pin() as view:
            return view.snapshot.meta.revision

    def reached(self, sequence: int) -> bool:
        """Whether reads show the collection as it was after the write of that sequence, or later."""
        newest = self._snapshots.newest
        if newest is not None and newest.sequence >= sequence:
            return True
        with self._snapshots.pin() as view:
            return view.sequence >= sequence

    # Writing

    @named
    def upsert(
        self,
        points: Sequence[Point | Mapping] | None = None,
        *,
        ids: Any = None,
        vectors: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        payload: Sequence[Any] | None = None,
        if_version: Any = None,
        if_filter: Any = None,
        durability: str | None = None,
    ) -> WriteResult:
        """Insert points, replacing those whose ids exist. All or nothing; visible to the next read.

        points: Point objects or dicts with id, vectors, attributes, payload. Or a table (DataFrame of pandas or polars, Arrow table): its
        column ``id``, its columns named like fields, and ``payload``; what is given beside it joins it. Or columns: ids (list, array,
        Series, generator), vectors (field → ``(n, dim)`` array or tensor, list or Series of vectors, scipy matrix), attributes (name →
        n values), payload (n JSON values). None, NaT, ``pandas.NA`` and masked values are null, and so is NaN in a column of pandas,
        polars or Arrow.
        if_version: the version each point must be at (an int, a list, or a mapping from id; 0: it must not exist).
        if_filter: each point must exist and match. durability: see ``vectordb.open``.
        Returns the batch's sequence. Raises InvalidArgumentError, SchemaError, LimitError, EncoderError, PreconditionError, StorageError.
        """
        batch = self._batch("upsert", points, ids, vectors, attributes, payload, if_version, if_filter)
        return self.apply_batch(batch, durability)

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
    ) -> BulkResult:
        """Writes many points as ``upsert`` does, in chunks of which several are under way; for points by the million.

        points: any iterable of points, read as it is needed. Or a table or columns, as in ``upsert``. Each chunk of ``chunk`` points is
        one atomic batch; ``parallel`` are written at a time, in no order, so ids must be distinct throughout (with ``parallel=1`` later
        ones win).
        progress: True draws a bar (needs rich); or a function that is called with the points written and failed so far.
        A point that can't be taken is left out and listed in the result's ``failed`` with its error. Whatever isn't about single points
        ends it: the chunks under way are finished, then that error is raised; writing all of it again does no harm.
        """
        columns = {"ids": ids, "vectors": vectors, "attributes": attributes, "payload": payload}
        work = Bulk(points, columns, chunk, parallel, progress)
        return write_all(work, functools.partial(self.upsert, durability=durability))

    @named
    def update(
        self,
        points: Sequence[Point | Mapping] | None = None,
        *,
        ids: Any = None,
        vectors: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        payload: Sequence[Any] | None = None,
        if_version: Any = None,
        if_filter: Any = None,
        durability: str | None = None,
    ) -> WriteResult:
        """Change only what is named of points that exist; None takes a vector or an attribute away. Arguments as in ``upsert``.

        Raises NotFoundError naming the first missing id, and what ``upsert`` raises.
        """
        batch = self._batch("update", points, ids, vectors, attributes, payload, if_version, if_filter)
        return self.apply_batch(batch, durability)

    @named
    def delete(
        self, ids: Any = None, *, filter: Any = None, if_version: Any = None, if_filter: Any = None, durability: str | None = None
    ) -> WriteResult:
        """Delete points by ids (missing ones are passed over) or by filter; ``.count`` of the result says how many there were."""
        if (ids is None) == (filter is None):
            raise InvalidArgumentError("delete needs either ids or a filter", field="ids" if ids is None else "filter")
        schema = self.schema
        for condition in (filter, if_filter):
            self._filters.bind(condition, schema)
        if ids is not None:
            ids = check_ids([ids] if is_single_id(ids) else ids)
        elif if_version is not None:
            raise InvalidArgumentError("if_version needs ids", field="if_version", value=if_version)
        change = Delete(ids, as_filter(filter), versions_of(if_version, ids or []), as_filter(if_filter), change_log.now())
        return self._commit(change, durability)

    def apply_batch(self, batch: Batch, durability: str | None = None) -> WriteResult:
        """Write a batch that ``make_batch`` made, its texts encoded first."""
        self._filters.bind(batch.if_filter, self.schema)
        while True:
            write = self._encoded(batch)
            try:
                result = self._commit(write, durability)
                break
            except OvertakenError:  # once in the life of a field
                continue
        for name, words in write.words.items():
            known = self._worded.get(name, _NO_TERMS)
            if len(known) < MAX_WORDED_TERMS:
                # Should another thread add terms at the same time, some are forgotten: they are looked up once more.
                self._worded[name] = np.union1d(known, np.fromiter(words, np.uint64, len(words)))
        return result

    def add_fields(
        self, *, vectors: Mapping[str, Any] | None = None, attributes: Mapping[str, Any] | None = None, exist_ok: bool = False
    ) -> None:
        """Add vector fields and attributes; points written before don't have them.

        exist_ok: a field that exists with the same definition is left as it is, so several processes may add the same fields at once.
        Raises SchemaError when a name is taken.
        """
        if not isinstance(exist_ok, bool):
            raise InvalidArgumentError(f"exist_ok must be True or False, not {shown(exist_ok)}", field="exist_ok", value=exist_ok)
        self.schema.with_fields(vectors, attributes, exist_ok=exist_ok)
        vectors, attributes = vectors or {}, attributes or {}
        identities = encoder_identities(vectors)
        check_graph_builders(vectors)
        at = change_log.now()

        def work(txn) -> None:
            store = Store(txn, self._number)
            meta = catalog.add_fields(txn, self._number, vectors, attributes, identities, exist_ok)
            if meta is not None:
                store.touch(store.state()[0] + 1, {"op": "schema", "at": at, "revision": meta.revision}, self._env.change_log)

        self._committer.run(work, self._durability)

    def set_terms(self, field: str, terms: Mapping[int, str | None], *, durability: str | None = None) -> int:
        """Say what terms of a sparse field stand for: explained searches and ``info`` show a term's word instead of its number.

        terms: term (0 … 2^64−1, in a point or not) → word, of 1 to 480 UTF-8 bytes that can all be printed; None takes the word away (a
        later text that has the term may bring it back). All or nothing; no answer depends on it, so it has no sequence.
        durability: see ``vectordb.open``. Returns how many terms have another word now. Texts name their terms by themselves when they are
        written, and don't change what is set. Raises SchemaError, InvalidArgumentError, LimitError, StorageError.
        """
        words = check_words(terms)
        with self._snapshots.pin() as view:
            number = view.fields[check_sparse(view.schema, field)]
        work = functools.partial(term_words.change, collection=self._number, field=number, words=words)
        return self._committer.run(work, self._durability if durability is None else durability)

    def _batch(self, kind: str, points, ids, vectors, attributes, payload, if_version, if_filter) -> Batch:
        columns = {"ids": ids, "vectors": vectors, "attributes": attributes, "payload": payload}
        return make_batch(self.schema, kind, points, **columns, if_version=if_version, if_filter=if_filter)

    def _commit(self, change: Write | Delete, durability: str | None) -> WriteResult:
        def work(txn):
            return apply(txn, self._number, change, self._snapshots.newest, self._env.map_moves, self._env.change_log)

        applied = self._committer.run(work, self._durability if durability is None else durability)
        newest = self._snapshots.newest
        if newest is not None:
            for field, numbered in applied.used.items():
                known = newest.known.setdefault(field, {})
                if len(known) < MAX_KNOWN_TERMS:
                    known.update(numbered)
        self._maintainer.wrote(self._number, applied.result.count)
        return applied.result

    def _encoded(self, batch: Batch) -> Write:
        """The batch with the vectors that fields with an encoder and a source make of their text, and the words of terms not met before."""
        with self._snapshots.pin() as view:
            made = {}
            encoded = {name: view.fields[name] for name, spec in view.schema.vectors.items() if getattr(spec, "counts_words", False)}
            for name in batch.vectors:
                if view.schema.is_bm25(name):
                    _check_frequencies(name, batch)
            for name, spec in view.schema.vectors.items():
                if spec.source is None or spec.source not in batch.attributes:
                    continue
                rows = _rows_to_encode(batch, name, batch.attributes[spec.source])
                if rows:
                    made[name] = (spec, rows, view.store.encoder_state(view.fields[name]), view.snapshot.meta.encoders[name])
        vectors, removed, counted, words = dict(batch.vectors), dict(batch.removed), {}, {}
        for name, (spec, rows, state, identity) in made.items():
            deadline.check()
            texts = [batch.attributes[spec.source][row] for row in rows]
            column, counters, words_but = load_encoder(name, spec, identity).encode_documents(texts, state)
            if counters:
                counted[name] = counters
            new = words_but(self._worded.get(name, _NO_TERMS)) if words_but is not None else None
            if new:
                words[name] = {term: word for term, word in new.items() if is_word(word)}
            places = np.array(rows, dtype=np.int32)
            column = _placed(column, places if column.rows is None else places[column.rows])
            vectors[name] = fields.overlaid(spec, _placed(vectors[name], _rows_of(vectors[name])) if name in vectors else None, column)
            if batch.kind == "update":  # a text that says nothing leaves no vector of the old text behind
                silent = np.setdiff1d(places, column.rows).astype(np.int32)
                removed[name] = np.union1d(removed.get(name, silent), silent).astype(np.int32)
        if batch.kind == "update":
            for name, spec in self.schema.vectors.items():
                if spec.source in batch.attributes and spec.source is not None:
                    gone = [row for row, text in enumerate(batch.attributes[spec.source]) if text is None]
                    given = set() if name not in batch.vectors else set(_rows_of(batch.vectors[name]).tolist())
                    gone = np.array([row for row in gone if row not in given], dtype=np.int32)
                    removed[name] = np.union1d(removed.get(name, gone), gone).astype(np.int32)
        batch = Batch(batch.kind, batch.ids, vectors, batch.attributes, batch.payload, removed, batch.if_version, batch.if_filter)
        return Write(batch, counted, words, change_log.now(), encoded)

    # Reading

    @named
    def get(self, ids: Any, *, with_vectors: Any = False, with_attributes: Any = True) -> list[Point | None] | Point | None:
        """Points by id, in the order asked, None where there is none; a single id gives a single point. The ids 1 and "1" are two.

        with_vectors, with_attributes: True, False, or a list of names. Raises InvalidArgumentError.
        """
        single = is_single_id(ids)
        asked = [check_id(ids)] if single else check_each_id(ids)

        def take(there: list[bool], pieces: Iterator[list[Point]]) -> list[Point | None]:
            found = chain.from_iterable(pieces)
            return [next(found) if one else None for one in there]

        found = self._get_pieces(asked, take, with_vectors=with_vectors, with_attributes=with_attributes)
        return found[0] if single else found

    def _get_pieces(
        self, ids: list[Id], take: Callable[[list[bool], Iterator[list[Point]]], T], *, with_vectors: Any, with_attributes: Any
    ) -> T:
        """What ``take`` makes of what ``get`` finds: which of the ids are there, and their points, some at a time while they are read."""
        with self._snapshots.pin() as view:
            return take(*read.get(view, ids, *_selections(view, with_attributes, with_vectors)))

    @named
    def count(self, filter: Any = None) -> int:
        """How many points there are, or match a filter. Raises FilterError."""
        with self._snapshots.pin() as view:
            return read.count(view, self._filters.bind(filter, view.schema), self._filters)

    @named
    def scroll(
        self, *, filter: Any = None, limit: int = 100, cursor: str | None = None, with_vectors: Any = False, with_attributes: Any = True
    ) -> Page:
        """A page of points in id order (integers, strings, UUIDs); pass ``page.cursor`` to go on, None is the end.

        Stable under writes: a point that is there all the while comes exactly once. Raises InvalidArgumentError, FilterError.
        """

        def take(pieces: Iterator[list[Point]], more: bool) -> Page:
            points = tuple(chain.from_iterable(pieces))
            return Page(points, read.encode_cursor(points[-1].id) if more else None)

        return self._scroll_pieces(take, filter, limit, cursor, with_vectors=with_vectors, with_attributes=with_attributes)

    def _scroll_pieces(
        self,
        take: Callable[[Iterator[list[Point]], bool], T],
        filter: Any,
        limit: int,
        cursor: str | None,
        *,
        with_vectors: Any,
        with_attributes: Any,
    ) -> T:
        """What ``take`` makes of a page's points, given some at a time while they are read, and of whether more follow the page."""
        check_limit(limit)
        with self._snapshots.pin() as view:
            selections = _selections(view, with_attributes, with_vectors)
            wanted = self._filters.bind(filter, view.schema)
            return take(*read.scroll(view, wanted, int(limit), cursor, *selections, self._filters))

    def iterate(self, *, filter: Any = None, page: int = 1000, with_vectors: Any = False, with_attributes: Any = True) -> Iterator[Point]:
        """All points that match, page by page."""
        check_limit(page, "page")
        cursor = None
        while True:
            found = self.scroll(filter=filter, limit=page, cursor=cursor, with_vectors=with_vectors, with_attributes=with_attributes)
            yield from found
            cursor = found.cursor
            if cursor is None:
                return

    @named
    def search(
        self,
        vectors: Mapping[str, Any] | None = None,
        *,
        text: Any = None,
        filter: Any = None,
        limit: int = 10,
        recall: float | None = None,
        exact: bool = False,
        fusion: Any = "rrf",
        candidates: int | None = None,
        prefetch: Prefetch | None = None,
        with_attributes: Any = True,
        with_vectors: Any = False,
        explain: bool = False,
    ) -> Hits:
        """The best ``limit`` points for a query of one or several arms.

        vectors: field → a ``(dim,)`` vector (list, array, tensor, Series), a sparse one (``{term: weight}``, (indices, values) or a list of
        (term, weight)), or a ``(rows, dim)`` multi-vector. text: a string for
        every field with an encoder, or field → string. filter: an ``F`` expression, a string, or a dict.
        recall: the mean share of the true best ``limit`` points that is to be found, above 0 and at most 1; None is 0.95. Each dense or
        sparse field takes the cheapest plan that its calibration expects to reach it under this filter; the mean is over queries, one may
        get less. Fields without an index, multi-vectors, and rows too new to be indexed are always searched exactly.
        exact: the oracle, and so is ``recall=1.0``: no index, but for plans of a sparse field's that lose nothing.
        fusion (with several arms): "rrf", "relative", "dbsf", "linear" or RRF(…), Relative(…), DBSF(…), Linear(…) with weights; each arm
        gives its best ``candidates`` rows (default max(100, 4·limit)). "linear" goes further, until the best sums of all points are proven;
        where a recall is named, it only looks up every score of the candidates. With ``candidates`` given the first hits are the same for
        every limit up to it; the default grows with the limit, and lists of another length can make others the first.
        Each fusion's ``missing`` says what a point without a vector in an arm's field gets: "zero", or "renormalise", its other weights
        rescaled.
        prefetch: a ``Prefetch`` whose hits are the only points that this search ranks, exactly.
        explain: ``hits.plan`` tells how it was run, as data that prints well. Always min(limit, matches) hits, best first; after a
        prefetch min(limit, candidates that match).
        Raises InvalidArgumentError, SchemaError, FilterError, EncoderError.
        """
        arms = {"vectors": vectors, "text": text, "fusion": fusion, "candidates": candidates, "prefetch": prefetch}
        wanted = {"filter": filter, "limit": limit, "recall": recall, "exact": exact}
        shown = {"with_attributes": with_attributes, "with_vectors": with_vectors, "explain": explain}
        return self._search_pieces(False, execute.whole, arms | wanted | shown)[0]

    @named
    def search_batch(
        self,
        vectors: Mapping[str, Any] | None = None,
        *,
        text: Any = None,
        filter: Any = None,
        limit: int = 10,
        recall: float | None = None,
        exact: bool = False,
        fusion: Any = "rrf",
        candidates: int | None = None,
        prefetch: Prefetch | None = None,
        with_attributes: Any = True,
        with_vectors: Any = False,
        explain: bool = False,
    ) -> list[Hits]:
        """Many searches at once, on all cores: one Hits a query. vectors: field → n queries; text: n strings, or field → n strings.

        Everything else as in ``search``, and the same for all queries.
        """
        arms = {"vectors": vectors, "text": text, "fusion": fusion, "candidates": candidates, "prefetch": prefetch}
        wanted = {"filter": filter, "limit": limit, "recall": recall, "exact": exact}
        shown = {"with_attributes": with_attributes, "with_vectors": with_vectors, "explain": explain}
        return self._search_pieces(True, execute.whole, arms | wanted | shown)

    def _search_pieces(self, batch: bool, take: Callable[[execute.Answers], T], asked: Mapping[str, Any]) -> T:
        """What ``take`` makes of what ``search`` (or with ``batch`` ``search_batch``) finds, while it is read. asked: all its arguments."""
        fusion = asked["fusion"]
        plain = not batch and type(fusion) is str and fusion == "rrf" and all(asked[name] is value for name, value in _PLAIN)
        with self._snapshots.pin() as view:
            if plain:
                like = [asked[name] for name in _FAMILIAR]
                search = self._familiar.again(view.schema, *like)
                if search is not None:
                    return take(execute.Answers(view, search, self._filters))
            identities = view.snapshot.meta.encoders

            def encode(name: str, spec, texts: Sequence[str]) -> tuple[list, Words]:
                encoder = load_encoder(name, spec, identities[name])
                return encoder.encode_queries(texts), lambda terms: encoder.words_of(texts[0], terms)

            search = make_search(view.schema, self._filters, encode, batch, **asked)
            if plain:
                self._familiar.keep(view.schema, *like, search)
            return take(execute.Answers(view, search, self._filters))

    def terms(self, field: str, *, after: int | None = None, limit: int = 10_000) -> dict[int, str]:
        """The words of a sparse field's terms, ascending by term: a page of at most ``limit`` (1 … 100,000), past the term ``after``.

        An empty page is the end. Raises SchemaError, InvalidArgumentError.
        """
        after, limit = check_page(after, limit)
        with self._snapshots.pin() as view:
            return term_words.page(view.txn, self._number, view.fields[check_sparse(view.schema, field)], after, limit)

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
    ) -> FusionTuning:
        """Learns the weights of ``Linear`` fusion from judged queries, and reports what they are worth on queries not learned from.

        vectors, text: as in ``search_batch``, at least two arms. qrels: for each query a mapping from id to grade (≥ 0, absent is 0);
        queries without a relevant point are left out. filter, recall: as in ``search``. limit: nDCG is that of the best ``limit``.
        candidates: so many of each arm's best points are learned from. folds, seed: of the cross-validation; the same give the same.
        Returns weights learned on all queries, and nDCG of each fold: linear with weights learned on the other folds, rrf, each arm alone.
        Raises InvalidArgumentError, and what ``search_batch`` raises.
        """
        return drive(tune(vectors, qrels, text, filter, limit, candidates, recall, folds, seed), self.search_batch)

    def info(self) -> CollectionInfo:
        """Schema, counts, sequence and per-field statistics."""
        with self._snapshots.pin() as view:
            facts = self._maintainer.status(self._number) | {"pending": self._maintainer.pending(view)}
            return describe(view, self.name, facts)

    def changes(
        self,
        since: int = 0,
        *,
        follow: bool = False,
        with_vectors: Any = False,
        with_attributes: Any = False,
        timeout: float | None = None,
    ) -> Iterator[Change]:
        """What each batch after sequence ``since`` did, in order and without gaps: whoever applies it all has an equal collection.

        follow: wait for more, until ``timeout`` seconds have passed or the database is closed. Go on later with the sequence of the last
        change that was dealt with. with_vectors, with_attributes (and payload): the points written, as they are.
        Raises NotFoundError (field "since") when changes that far back aren't kept: the newest 65,536 batches are, and a purge forgets
        what was deleted. InvalidArgumentError when ``since`` lies ahead, DeadlineError when it takes too long without ``follow``.
        """
        return changes(self._env, self._snapshots, since, follow, with_vectors, with_attributes, timeout)

    def _change_pieces(self, since: int, **arguments: Any) -> Iterator[tuple[Change, bool]]:
        """``changes``, a batch of many points in several parts; beside each whether more of the same batch follows."""
        wanted = {"follow": False, "with_vectors": False, "with_attributes": False, "timeout": None} | arguments
        return change_pieces(self._env, self._snapshots, since, **wanted)

    # Maintenance

    def optimize(self, wait: bool = True, timeout: float | None = None) -> dict[str, Any]:
        """Index what isn't yet, merge each field's segments into one, and take dead rows out of segments and chunks.

        A tail of fewer than 256 rows stays a tail, which is searched exactly. Reads and writes go on meanwhile; ``info().maintenance``
        tells how far it is. wait: return when it is done, else at once. timeout: seconds to wait at most; what has begun goes on.
        Returns done (bool), seconds, segments_built, rows_indexed, rows_dropped (dead rows whose records were taken out) and
        bytes_rewritten. Raises LockedError when another process maintains the directory all that time, DeadlineError when there was too
        little of it, CorruptionError naming what is damaged (everything else is done then), NotFoundError, ClosedError.
        """
        self._committer.check_writable()
        return self._maintainer.optimize(self._number, wait, timeout)

    def purge(self, timeout: float | None = None) -> dict[str, Any]:
        """Take deleted and replaced points out of every file of the directory, and prove it by searching all of them.

        Index files that hold dead rows are built again, chunks are compacted, the change log forgets the ids of deleted points, and
        data.mdb is written anew: it needs room for a second one. Reads go on but for the moment in which the files change places, writes
        wait. All processes that have the directory open must be of this version; each lets go of the old file within a second.
        Names in dictionaries (keywords and words that no point has any more), earlier snapshots and exports are not reached, nor is what
        a disk keeps of files that were removed.
        timeout: seconds to wait at most; what has begun goes on. Returns done, seconds, rows_dropped, segments_built, bytes_before,
        bytes_after, bytes_reclaimed (of the directory); what was looked for: ids, rows, vectors (vague: too short or plain to tell, alike:
        the same in points that live); proven (bool), and residue: files that still hold something.
        Raises LockedError when another process maintains the directory or doesn't let go, DeadlineError, StorageError, CorruptionError.
        """
        self._committer.check_writable()
        return self._maintainer.purge((self._number,), timeout)


def _selections(view: View, with_attributes: Any, with_vectors: Any) -> tuple[bool | Sequence[str], Sequence[str]]:
    """Checked: True, False or names of attributes, and the names of vector fields. Raises InvalidArgumentError."""
    attributes = check_selection("with_attributes", with_attributes, view.schema.attributes)
    return attributes, selected(check_selection("with_vectors", with_vectors, view.schema.vectors), view.schema.vectors)


def _check_frequencies(name: str, batch: Batch) -> None:
    """Raises InvalidArgumentError when vectors given for a BM25 field are no term frequencies."""
    column = batch.vectors[name]
    weights = column.weights
    bad = np.flatnonzero(~((weights >= 1) & (weights <= MAX_FREQUENCY) & (weights == np.floor(weights))))
    rule = "a BM25 field's vector says how often a text says each term"
    if len(bad):
        row, term, value = np.searchsorted(column.indptr, bad[0], side="right") - 1, int(column.terms[bad[0]]), float(weights[bad[0]])
        wrong = f"has {value:g} for term {term}; {rule}: whole numbers from 1 to {MAX_FREQUENCY}, or no vector, to have it made of the text"
    else:
        lengths = fields.lengths_of(column)
        if lengths.max(initial=0) <= MAX_LENGTH:
            return
        row, value = lengths.argmax(), int(lengths.max())
        wrong = f"adds up to {value} words; {rule}, and a text has at most {MAX_LENGTH}"
    point = batch.ids[int(_rows_of(column)[row])]
    raise InvalidArgumentError(f"vector {name!r} of point {shown(point)} {wrong}", field=name, value=value)


def _rows_of(column) -> np.ndarray:
    return np.arange(len(column), dtype=np.int32) if column.rows is None else column.rows


def _placed(column, rows: np.ndarray):
    """The column with its rows named."""
    return type(column)(**{**vars(column), "rows": rows})


def _rows_to_encode(batch: Batch, name: str, texts: Sequence) -> list[int]:
    """Rows whose text is given and whose vector isn't."""
    given = set() if name not in batch.vectors else set(_rows_of(batch.vectors[name]).tolist())
    return [row for row, text in enumerate(texts) if isinstance(text, str) and row not in given]


def encoder_identities(vectors: Mapping[str, VectorField]) -> dict[str, str]:
    """Field → identity of its encoder, checked to fit the field. Raises EncoderError."""
    identities = {}
    for name, spec in vectors.items():
        if spec.encoder is not None:
            encoder = encoders.load(spec.encoder)
            encoder.check(spec)
            identities[name] = encoder.identity
    return identities


def check_graph_builders(vectors: Mapping[str, VectorField]) -> None:
    """Raises SchemaError when an index asks for a library that isn't installed here, where it would be built."""
    for name, spec in vectors.items():
        if isinstance(spec, Dense) and spec.index is not None and spec.index.graph_builder == "hnswlib":
            try:
                importlib.import_module("hnswlib")
            except ImportError as error:
                what = f"vector field {name!r}: graph_builder 'hnswlib' is not installed here ({error}): pip install 'hnswlib>=0.8'"
                raise SchemaError(what, field="graph_builder", value="hnswlib") from error


def load_encoder(name: str, spec, identity: str) -> encoders.Encoder:
    """A field's encoder. Raises EncoderError unless it is the one the field was built with: its vectors would not compare."""
    encoder = encoders.load_as(spec.encoder, identity)
    if encoder is None:
        installed = encoders.load(spec.encoder).identity
        raise EncoderError(
            f"vector field {name!r} was built with encoder {identity}, installed is {installed}: their vectors don't compare",
            field=name,
            value=installed,
        )
    return encoder
