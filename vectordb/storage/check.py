"""Checks every invariant of a directory. Each problem is a line that says where it is. Nothing is changed, and writers may continue."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import VectorDBError, shown
from vectordb_client.model.schema import Dense, MultiVector, Sparse, check_name
from vectordb_client.model.terms import is_word
from vectordb_client.model.values import check_id

from ..common.tokenize import RULE, words
from ..kernels.columns import ELEMENT_END
from . import catalog, change_log, chunks, fields, format, locks, place, segments, term_words
from .chunks import Chunk
from .format import Txn
from .lmdb_env import Env
from .reader import read_only
from .segments import Record
from .store import Store, Texts, rule_of

MAX_PROBLEMS = 1_000
_NORM_TOLERANCE = 1e-5
_LOOK_SECONDS = 0.25  # between two checks whether a process has opened the directory
_BLOCK = 65_536  # rows compared at a time
_SINGLE = (format.META, format.STATE, format.DERIVED, format.LOG_KEPT)  # kinds of keys that a collection has only once
_KINDS = (
    *_SINGLE,
    *(format.IDS, format.TOMBSTONES, format.LOG, format.CHUNK, format.TERMS, format.TERM_COUNT, format.ENCODER, format.TERM_WORD),
    format.SEGMENT,
)
_OPERATIONS = ("write", "delete", "schema")


@dataclass(frozen=True)
class Report:
    """The result of ``check``. problems: one line each, naming collection, field and rows; empty if the directory is sound.

    notes: problems of index files. These can be built again, so no answer is wrong and nothing is lost.
    points: live rows of all collections. bytes: size of all keys, values and index files that were read.
    """

    path: str
    problems: tuple[str, ...]
    collections: int
    points: int
    rows: int
    chunks: int
    bytes: int
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems


def check(path: str | os.PathLike, untouched: bool = False, env: Env | None = None) -> Report:
    """Check the database of a directory in one read transaction. Writes nothing. untouched: nobody else writes to the directory.

    env: the open environment of the directory; the check is then one more LMDB reader. Without it the check creates no files and makes
    writers wait, and raises Overtaken if a process has or opens the directory.
    Raises StorageError, CorruptionError or FormatVersionError if the directory can't be read at all.
    """
    where = place.resolved(path)
    if untouched:
        return _alone(where, path, None)
    if env is None:
        looker = _Looker(where)
        looker.look()
        return _alone(where, path, looker)
    survey = env.survey()  # first of all: damaged trees must not be read
    with env.read() as txn:
        return _Check(txn, segments.folder(env.path)).run(os.fspath(path), survey.problem)


def _alone(where: Path, path: str | os.PathLike, overtaken: _Looker | None) -> Report:
    with read_only(where, alone=overtaken is None) as (txn, survey):
        return _Check(txn, segments.folder(where), overtaken).run(os.fspath(path), survey.problem)


class Overtaken(Exception):
    """Another process has opened the directory and may want to write."""


class _Looker:
    """Checks every ``_LOOK_SECONDS`` whether another process has opened the directory."""

    def __init__(self, path: Path):
        self._path = path
        self._next = 0.0

    def look(self) -> None:
        """Raises Overtaken."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _LOOK_SECONDS
            if locks.in_use(self._path):
                raise Overtaken


class _Full(Exception):
    """``MAX_PROBLEMS`` problems were found."""


class _Check:
    def __init__(self, txn: Txn, folder: Path, overtaken: _Looker | None = None):
        self.txn = txn
        self.folder = folder
        self._overtaken = overtaken
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.points = self.rows = self.chunks = self.bytes = 0

    def run(self, path: str, damage: str | None) -> Report:
        collections: dict[str, int] = {}
        try:
            self.expect(damage is None, "data.mdb", damage or "")
            collections = self._catalog()
            self._keys(collections)
            for name, number in collections.items():
                with self.guard(f"collection {name!r}"):
                    _Collection(self, name, number).run()
        except _Full:
            self.problems.append(f"… and more: only the first {MAX_PROBLEMS} are listed")
        counts = (len(collections), self.points, self.rows, self.chunks, self.bytes)
        return Report(path, tuple(self.problems), *counts, tuple(self.notes))

    def problem(self, where: str, what: str) -> None:
        if len(self.problems) >= MAX_PROBLEMS:
            raise _Full
        self.problems.append(f"{where}: {what}")

    def expect(self, good: Any, where: str, what: str) -> bool:
        if not good:
            self.problem(where, what)
        return bool(good)

    @contextmanager
    def guard(self, where: str) -> Iterator[None]:
        """Any error that reading raises inside the block, because of damaged bytes, becomes a problem of ``where``."""
        if self._overtaken is not None:
            self._overtaken.look()
        try:
            yield
        except (_Full, Overtaken):
            raise
        except VectorDBError as error:
            self.problem(where, error.message)
        except Exception as error:
            self.problem(where, f"can't be read: {type(error).__name__}: {error}")

    def walk(self, prefix: bytes) -> Iterator[tuple[bytes, format.Stored]]:
        return format.walk(self.txn, prefix)

    def _catalog(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for key, value in self.walk(format.key(format.CATALOG, format.NAME)):
            with self.guard(f"catalog entry {key[5:]!r}"):
                name = check_name(key[5:].decode(), "collection")
                found[name] = format.unpack_record(value, "catalog")
        stored = self.txn.get(format.key(format.CATALOG, format.NEXT))
        with self.guard("catalog"):
            following = format.unpack_record(stored, "catalog") if stored is not None else 1
            for name, number in found.items():
                self.expect(
                    1 <= number < following, f"collection {name!r}", f"has the number {number}, but the next free number is {following}"
                )
            self.expect(len(set(found.values())) == len(found), "catalog", "two collections share a number")
        return found

    def _keys(self, collections: dict[str, int]) -> None:
        """Check that every key belongs to a collection, and has a known kind."""
        known = set(collections.values())
        strangers: set[int] = set()
        cursor = self.txn.cursor()
        more = cursor.first()
        while more:
            key = bytes(cursor.key())
            self.bytes += len(key) + len(cursor.value())
            number, kind = int.from_bytes(key[:4], "big"), key[4:5]
            if number == format.CATALOG:
                single = (format.FORMAT_KEY, format.DIGEST_KEY, format.REQUEST_KEY, format.key(format.CATALOG, format.NEXT))
                good = kind == format.NAME or key in single
            elif number not in known:
                good = number in strangers
                strangers.add(number)
            else:
                good = kind in _KINDS and (kind not in _SINGLE or len(key) == 5)
            self.expect(good, f"key {shown(key)}", "belongs to no collection or has an unknown kind")
            more = cursor.next()


class _Collection:
    """Checks one collection: first its records, then its rows, block by block, against everything that is derived from them."""

    def __init__(self, outer: _Check, name: str, number: int):
        self.outer, self.name, self.number = outer, name, number
        self.txn = outer.txn
        self.store = Store(outer.txn, number)
        self.terms: dict[int, dict[bytes, int]] = {}  # field → its dictionary
        self.damaged: set[tuple[int, int]] = set()  # (field, part) with damaged chunks, which can't be compared

    def where(self, what: str = "") -> str:
        return f"collection {self.name!r}" + (f" {what}" if what else "")

    def problem(self, what: str, text: str) -> None:
        self.outer.problem(self.where(what), text)

    def expect(self, good: Any, what: str, text: str) -> bool:
        return self.outer.expect(good, self.where(what), text)

    def run(self) -> None:
        self.meta = catalog.read_meta(self.txn, self.number)
        self.schema = catalog.schema_of(self.meta)
        self.bm25 = catalog.bm25_fields(self.meta, self.schema)
        self.texts = dict.fromkeys(self.bm25, Texts(0, 0))  # live texts, counted from the rows
        state = self.store.state()
        if not self.expect(state is not None, "state", "is missing"):
            return
        self.sequence, self.rows, self.live = state
        self.outer.rows += self.rows
        self.outer.points += self.live
        self.expect(self.live <= self.rows <= format.MAX_ROWS, "state", f"counts {self.live} live rows of {self.rows} rows")
        self._meta()
        self._log()
        for field, spec in self.schema.attributes.items():
            if spec.kind in ("keyword", "text", "uuid"):
                self._dictionary(field, spec.kind)
        self._small_records()
        self._term_words()
        layout = {(format.ROWS_FIELD, format.FORWARD): (chunks.RAGGED, 1)}
        for field, spec in (*self.schema.vectors.items(), *self.schema.attributes.items()):
            for part, form in self._layout(field, spec).items():
                layout[self.meta.fields[field], part] = form
        self._chunks(layout)
        self.dead = self._dead()
        self._segments()
        ids: list = []
        for first in range(0, self.rows, _BLOCK):
            ids.extend(self._block(first, min(first + _BLOCK, self.rows)))
        self._ids(ids)
        for number, field in self.bm25.items():
            with self.outer.guard(self.where(f"texts of {field!r}")):
                counted = self.store.texts(number)
                self.expect(
                    counted == self.texts[number],
                    f"texts of {field!r}",
                    f"are counted as {counted}, but the rows have {self.texts[number]}",
                )

    # Records

    def _meta(self) -> None:
        meta, named = self.meta, (*self.schema.vectors, *self.schema.attributes)
        self.expect(meta.name == self.name, "descriptor", f"has the name {meta.name!r}")
        self.expect(
            set(meta.fields) == set(named), "descriptor", f"numbers the fields {sorted(meta.fields)}, but the schema has {sorted(named)}"
        )
        numbers = sorted(meta.fields.values())
        good = len(set(numbers)) == len(numbers) and all(n >= format.FIRST_FIELD for n in numbers)
        self.expect(good, "descriptor", f"has invalid or repeated field numbers {numbers}")
        encoded = {field for field, spec in self.schema.vectors.items() if spec.encoder is not None}
        ruled = {name for name, spec in (*self.schema.vectors.items(), *self.schema.attributes.items()) if catalog.ruled(spec)}
        good = set(meta.rules) <= ruled and all(1 <= rule <= RULE for rule in meta.rules.values())
        self.expect(good, "descriptor", f"has the rules {meta.rules}, but the fields with rules are {sorted(ruled)}")
        self.expect(
            set(meta.encoders) == encoded, "descriptor", f"names encoders of the fields {sorted(meta.encoders)}, not of {sorted(encoded)}"
        )

    def _log(self) -> None:
        """Check that the log has no gaps and ends at the sequence. If it reaches back to the first batch, it must account for every row."""
        kept = self.txn.get(format.key(self.number, format.LOG_KEPT))
        expected = first = change_log.oldest(self.txn, self.number) or 1
        whole, rows, size = expected == 1, 0, 0
        dead = BitMap()
        for key, value in self.outer.walk(format.key(self.number, format.LOG)):
            sequence = int.from_bytes(key[5:], "big")
            size += len(value)
            self.expect(sequence == expected, f"change log {sequence}", f"follows sequence {expected - 1}")
            expected = sequence + 1
            with self.outer.guard(self.where(f"change log {sequence}")):
                entry = format.unpack_record(value, "change log")
                self.expect(entry["op"] in _OPERATIONS, f"change log {sequence}", f"has the unknown operation {shown(entry['op'])}")
                if whole and entry["op"] == "write":
                    self.expect(entry["first"] == rows, f"change log {sequence}", f"begins at row {entry['first']}, not {rows}")
                    rows = entry["first"] + entry["rows"]
                dead.update(entry.get("dead", ()))
        self.expect(expected == self.sequence + 1, "change log", f"ends at sequence {expected - 1}, but the newest is {self.sequence}")
        if kept is None:  # not written yet by a version that has this record
            self.expect(first == max(1, self.sequence - change_log.Limits.batches + 1), "change log", f"begins at sequence {first}")
        else:
            with self.outer.guard(self.where("change log")):
                stored = format.unpack_log_kept(kept)[:2]
                self.expect(stored == (first, size), "change log", f"begins at {first} and has {size} bytes, but its record says {stored}")
        if whole:
            self.expect(rows == self.rows, "change log", f"accounts for {rows} rows, but there are {self.rows}")
            self.expect(
                len(dead) == self.rows - self.live, "change log", f"marks {len(dead)} rows as dead, but {self.rows - self.live} are dead"
            )

    def _dictionary(self, field: str, kind: str) -> None:
        number, found, what = self.meta.fields[field], {}, f"dictionary of {field!r}"
        prefix = format.field_key(self.number, format.TERMS, number)
        for key, value in self.outer.walk(prefix):
            term = key[len(prefix) :]
            if self.expect(len(value) == 4, what, f"has {len(value)} bytes for the number of {shown(term)}, not 4"):
                found[term] = int.from_bytes(value, "little")
            if kind == "uuid":
                self.expect(len(term) == 16, what, f"contains {shown(term)}, which is not a UUID")
            else:
                with self.outer.guard(self.where(f"{what} term {shown(term)}")):
                    term.decode()
        ordinals = np.sort(np.fromiter(found.values(), np.int64, len(found)))
        self.expect(np.array_equal(ordinals, np.arange(len(found))), what, "has gaps or repetitions in its term numbers")
        stored = self.txn.get(format.field_key(self.number, format.TERM_COUNT, number))
        count = 0 if stored is None else int.from_bytes(stored, "little")
        self.expect(count == len(found), what, f"has {len(found)} terms, but its counter says {count}")
        self.terms[number] = found

    def _small_records(self) -> None:
        """Check that records by field belong to fields that have such records, and that counters of encoders can be read."""
        encoded = {self.meta.fields[field] for field, spec in self.schema.vectors.items() if spec.encoder is not None}
        for kind, numbers in ((format.TERMS, self.terms), (format.TERM_COUNT, self.terms), (format.ENCODER, encoded)):
            for key, value in self.outer.walk(format.key(self.number, kind)):
                field = int.from_bytes(key[5:7], "big")
                good = self.expect(field in numbers, f"key {shown(key)}", f"is of field {field}, which has no such record")
                if good and kind == format.ENCODER:
                    with self.outer.guard(self.where(f"encoder counters of field {field}")):
                        format.unpack_record(value, "encoder state")

    def _term_words(self) -> None:
        """Check that the words of terms belong to sparse fields, and are words that a user could set."""
        names = {self.meta.fields[name]: name for name, spec in self.schema.vectors.items() if isinstance(spec, Sparse)}
        for key, value in self.outer.walk(format.key(self.number, format.TERM_WORD)):
            field, term = int.from_bytes(key[5:7], "big"), int.from_bytes(key[7:], "big")
            if self.expect(field in names and len(key) == 15, f"key {shown(key)}", f"is of field {field}, which has no such record"):
                what = f"term table of {names[field]!r}"
                with self.outer.guard(self.where(what)):
                    word = term_words.unpack(value, term)
                    self.expect(is_word(word), what, f"has {shown(word)} for term {term}, which is not a valid word")

    def _dead(self) -> BitMap:
        """The docids of all dead rows."""
        dead = BitMap()
        for key, value in self.outer.walk(format.key(self.number, format.TOMBSTONES)):
            block = int.from_bytes(key[5:], "big")
            with self.outer.guard(self.where(f"dead rows block {block}")):
                bitmap = BitMap.deserialize(format.verify_checksum(value, "dead rows"))
                good = len(bitmap) and bitmap.min() >> format.BLOCK_BITS == block == bitmap.max() >> format.BLOCK_BITS
                self.expect(good, f"dead rows block {block}", "is empty or contains rows of another block")
                dead |= bitmap
        return dead

    # Index files

    def _segments(self) -> None:
        """Check the registry of index files. Its faults are problems; faults of the files are notes, because files can be built again."""
        with self.outer.guard(self.where("derived record")):
            self.store.derived()
        found, damaged = segments.records(self.txn, self.number)
        self.outer.notes.extend(f"{self.where()}: {line}; its rows will be indexed again" for line in damaged)
        names = {self.meta.fields[name]: name for name, spec in self.schema.vectors.items() if isinstance(spec, (Dense, Sparse))}
        for field, group in found.items():
            what = f"index of {names.get(field, f'field {field}')!r}"
            self.expect(field in names, what, "belongs to no field that can have one")
            end = 0
            for record in group:
                self.expect(
                    end <= record.first and record.end <= self.rows,
                    what,
                    f"covers rows {record.first} … {record.end - 1}, out of order or past the last row",
                )
                good = record.rows + record.dead <= record.end - record.first
                self.expect(
                    good,
                    what,
                    f"says {record.rows} live and {record.dead} dead rows, which do not fit into {record.first} … {record.end - 1}",
                )
                end = record.end
                self._file(what, record)

    def _file(self, what: str, record: Record) -> None:
        path = self.outer.folder / record.file
        try:
            size = path.stat().st_size
            self.outer.bytes += size
            wrong = None if size == record.bytes and segments.checksum(path) == record.checksum else "is damaged"
        except FileNotFoundError:
            wrong = "is missing"
        if wrong is not None:
            self.outer.notes.append(f"{self.where(what)}: file {record.file} {wrong}; it will be rebuilt")

    # Chunks

    def _chunks(self, layout: dict[tuple[int, int], tuple[int, int]]) -> None:
        """Check every chunk by itself, and the order of the chunks of a part."""
        last: dict[tuple[int, int], int] = {}
        for key, value in self.outer.walk(format.key(self.number, format.CHUNK)):
            if not self.expect(len(key) == 12, f"key {shown(key)}", "is not a valid key of a chunk"):
                continue
            field, part, first = int.from_bytes(key[5:7], "big"), key[7], int.from_bytes(key[8:], "big")
            what, place = f"field {field} part {part} rows {first}…", (field, part)
            if not self.expect(place in layout, what, "belongs to no field of the schema"):
                continue
            self.outer.chunks += 1
            before = len(self.outer.problems)
            with self.outer.guard(self.where()):
                chunk = chunks.decode(value, self.store.chunk_name(field, part, first))
                self._chunk(chunk, what, first, *layout[place])
                self.expect(first > last.get(place, -1), what, f"overlaps the chunk before it, which ends at {last.get(place)}")
                last[place] = chunk.last
            if len(self.outer.problems) > before:
                self.damaged.add(place)

    def _chunk(self, chunk: Chunk, what: str, first: int, kind: int, width: int) -> None:
        self.expect(chunk.kind == kind, what, f"has kind {chunk.kind}, not {kind}")
        self.expect(chunk.first == first, what, f"begins at row {chunk.first}, unlike its key")
        self.expect(len(chunk) and _ascending(chunk.docids), what, "has no rows, or rows out of order")
        self.expect(chunk.last < self.rows, what, f"ends at row {chunk.last}, but there are only {self.rows} rows")
        if kind == chunks.FIXED:
            self.expect(chunks.width_of(chunk) == width, what, f"has values of {chunks.width_of(chunk)} bytes, not {width}")
        elif kind == chunks.RAGGED:
            self.expect(
                _offsets(chunk.offsets, len(chunk.data)), what, "has offsets that don't ascend, or don't end at its number of items"
            )
            good = not len(chunk.data) or chunks.width_of(chunk) == width
            self.expect(good, what, f"has items of {chunks.width_of(chunk)} bytes, not {width}")
        else:
            self.expect(_ascending(chunk.terms), what, "has terms out of order")
            self.expect(
                _offsets(chunk.indptr, len(chunk.docs)), what, "has list offsets that don't ascend, or don't end at its number of postings"
            )
            owners = chunk.docs.astype(np.int64) + chunk.first
            self.expect(np.isin(owners, chunk.docids).all(), what, "has postings of rows that it does not list")
            falls = np.flatnonzero(np.diff(owners) <= 0) + 1
            self.expect(np.isin(falls, chunk.indptr).all(), what, "has a posting list out of order")

    def _part(self, field: int, part: int, first: int, end: int) -> Any:
        """Rows [first, end) of a part as one Chunk; None if the part has none of them."""
        pieces = []
        for chunk, _, _ in self.store.chunks_with(field, part, np.arange(first, end)):
            low, high = np.searchsorted(chunk.docids, [first, end])
            pieces.append(chunks.sliced(chunk, int(low), int(high)))
        return chunks.joined(pieces) if pieces else None

    def _common(self, there: np.ndarray, wanted: np.ndarray) -> Any:
        """The docids that both ascending arrays have; None if a live docid is in only one of them. Dead ones may be, because compaction
        treats the parts one after another.
        """
        if not self.dead.issuperset(BitMap(np.setxor1d(there, wanted).astype(np.uint32))):
            return None
        return np.intersect1d(there, wanted, assume_unique=True)

    @staticmethod
    def _kept(chunk: Chunk, docids: np.ndarray) -> Any:
        """The rows of a chunk that are among ``docids``."""
        keep = np.isin(chunk.docids, docids, assume_unique=True)
        return chunks.kept(chunk, keep) if keep.any() else None

    # Rows, compared with what is derived from them

    def _block(self, first: int, end: int) -> list:
        """Check rows [first, end); returns their ids, None where a record is missing or damaged.

        Dead rows may be missing, from all parts or from some.
        """
        what = f"rows {first} … {end - 1}"
        records: list = [None] * (end - first)
        with self.outer.guard(self.where(what)):
            chunk = self._part(format.ROWS_FIELD, format.FORWARD, first, end)
            data = b"" if chunk is None else chunk.data.reshape(-1).tobytes()
            for position, docid in enumerate([] if chunk is None else chunk.docids.tolist()):
                with self.outer.guard(self.where(f"row {docid}")):
                    (row,) = format.unpack_rows([data[chunk.offsets[position] : chunk.offsets[position + 1]]])
                    check_id(row.id)
                    unknown = set(row.attributes) - set(self.schema.attributes)
                    self.expect(not unknown, f"row {docid}", f"has attributes {sorted(unknown)}, which are not in the schema")
                    records[docid - first] = row
        gone = set((self.dead & BitMap(range(first, end))).to_array().tolist())
        missing = [first + i for i, row in enumerate(records) if row is None and first + i not in gone]
        if self.expect(not missing, what, f"lack a readable record for {len(missing)} rows, the first of them {shown(missing[:3])}"):
            for field, spec in self.schema.attributes.items():
                values = [None if row is None else row.attributes.get(field) for row in records]
                with self.outer.guard(self.where(f"attribute {field!r} {what}")):
                    self._attribute(field, spec, values, first, end)
        for field, spec in self.schema.vectors.items():
            with self.outer.guard(self.where(f"vector {field!r} {what}")):
                self._vector(field, spec, first, end)
        return [None if row is None else row.id for row in records]

    def _attribute(self, field: str, spec: Any, values: Sequence, first: int, end: int) -> None:
        number, what = self.meta.fields[field], f"attribute {field!r} rows {first} … {end - 1}"
        having = np.array([first + i for i, value in enumerate(values) if value is not None], dtype=np.int64)
        rule = rule_of(self.schema, field)
        for part in self._layout(field, spec):
            if (number, part) in self.damaged:
                continue
            chunk = self._part(number, part, first, end)
            there = np.empty(0, np.int64) if chunk is None else chunk.docids.astype(np.int64)
            docids = self._common(there, having)
            if not self.expect(
                docids is not None, what, f"part {part} covers {len(there)} rows, but {len(having)} records have the attribute"
            ):
                continue
            if not len(docids):
                continue
            chunk = self._kept(chunk, docids)
            lists = [values[docid - first] if spec.array else [values[docid - first]] for docid in docids.tolist()]
            sizes = np.array([len(row) for row in lists], dtype=np.int64)
            if part == format.COUNTS:
                good = self._same_pairs(chunk, sizes, docids)
            elif part == format.POSTINGS:
                numbers = [self._numbers(number, spec.kind, row, rule) for row in lists]
                owners = np.repeat(docids, [len(row) for row in numbers])
                good = self._same_pairs(chunk, np.array([n for row in numbers for n in row], np.int64), owners)
            elif spec.kind == "text":
                ordered = [self._spoken(number, row, rule) for row in lists]
                flat = np.array([n for row in ordered for n in row], np.uint32)
                good = np.array_equal(np.diff(chunk.offsets), [len(row) for row in ordered]) and np.array_equal(_as(chunk, np.uint32), flat)
            else:
                dtype = fields.NUMERIC[spec.kind]
                flat = np.array([element for row in lists for element in row], dtype=dtype).reshape(-1)
                good = np.array_equal(_as(chunk, dtype), flat) and (not spec.array or np.array_equal(np.diff(chunk.offsets), sizes))
            self.expect(good, what, f"part {part} differs from the records")

    def _numbers(self, field: int, kind: str, row: Sequence, rule: int) -> set[int]:
        """The term numbers of a row's value; −1 for a term that is not in the dictionary."""
        if kind == "bool":
            return {int(value) for value in row}
        terms = self.terms[field]
        if kind == "text":
            return {terms.get(word.encode(), -1) for text in row for word in words(text, rule)}
        return {terms.get(fields.term_bytes(kind, value), -1) for value in row}

    def _spoken(self, field: int, row: Sequence[str], rule: int) -> list[int]:
        """The word numbers of texts, in order, with ``ELEMENT_END`` between texts."""
        terms, ordered = self.terms[field], []
        for position, text in enumerate(row):
            ordered.extend([int(ELEMENT_END)] * (position > 0))
            ordered.extend(terms.get(word.encode(), int(ELEMENT_END)) for word in words(text, rule))
        return ordered

    @staticmethod
    def _same_pairs(chunk: Chunk, terms: np.ndarray, owners: np.ndarray) -> bool:
        """Whether postings are exactly these (term, row) pairs."""
        order = np.lexsort((owners, terms))
        stored = np.repeat(chunk.terms.astype(np.int64), np.diff(chunk.indptr))
        return np.array_equal(stored, terms[order]) and np.array_equal(chunk.docs.astype(np.int64) + chunk.first, owners[order])

    def _vector(self, field: str, spec: Any, first: int, end: int) -> None:
        number, what = self.meta.fields[field], f"vector {field!r} rows {first} … {end - 1}"
        if any((number, part) in self.damaged for part in self._layout(field, spec)):
            return
        chunk = self._part(number, format.FORWARD, first, end)
        if isinstance(spec, Sparse):
            postings = self._part(number, format.POSTINGS, first, end)
            there, also = (np.empty(0, np.uint32) if part is None else part.docids for part in (chunk, postings))
            docids = self._common(there, also)
            if not self.expect(docids is not None, what, "covers different rows in the forward index and in the posting lists") or not len(
                docids
            ):
                return
            chunk, postings = self._kept(chunk, docids), self._kept(postings, docids)
            bare = chunk.extra is None, postings.weights is None
            if not self.expect(bare == (spec.binary, spec.binary), what, "has weights though it is binary, or lacks them though it is not"):
                return
            terms = _as(chunk, np.uint64)
            weights = np.ones(len(terms), np.float32) if spec.binary else chunk.extra.reshape(-1).view(np.float32)
            owners = np.repeat(chunk.docids.astype(np.int64), np.diff(chunk.offsets))
            same = owners[1:] == owners[:-1]
            self.expect((terms[1:] > terms[:-1])[same].all(), what, "has terms out of order")
            self.expect(np.isfinite(weights).all() and weights.all(), what, "has weights that are 0 or not finite")
            order = np.lexsort((owners, terms))
            good = (
                np.array_equal(np.repeat(postings.terms, np.diff(postings.indptr)), terms[order])
                and np.array_equal(postings.docs.astype(np.int64) + postings.first, owners[order])
                and (spec.binary or np.array_equal(postings.weights, weights[order]))
            )
            self.expect(good, what, "differs between the forward index and the posting lists")
            if number in self.bm25:
                self._texts(number, chunk, weights, what, first, end)
            return
        if chunk is None:
            return
        values = _as(chunk, spec.dtype).reshape(-1, spec.dim)
        self.expect(np.isfinite(values).all(), what, "has values that are not finite")
        if isinstance(spec, MultiVector):
            self.expect((np.diff(chunk.offsets) > 0).all(), what, "has points without a vector row")
        if self.expect(
            (chunk.norms is not None) == (spec.metric == "cosine"), what, "has norms though its metric needs none, or lacks them"
        ):
            if chunk.norms is None:
                return
            lengths = fields.norms(values)
            self.expect(
                np.allclose(chunk.norms, lengths, rtol=_NORM_TOLERANCE, atol=0),
                what,
                "has norms that differ from the lengths of its vectors",
            )

    def _texts(self, number: int, chunk: Chunk, frequencies: np.ndarray, what: str, first: int, end: int) -> None:
        """Check that lengths are the sums of term frequencies; adds the live texts to ``texts``."""
        whole = (frequencies >= 1) & (frequencies == np.floor(frequencies))
        self.expect(whole.all(), what, "has term frequencies that are not whole numbers from 1 on")
        sums = np.concatenate([[0], np.cumsum(frequencies, dtype=np.int64)])[chunk.offsets]
        mine = dict(zip(chunk.docids.tolist(), np.diff(sums).tolist(), strict=True))
        stored = self._part(number, format.LENGTHS, first, end)
        docids = [] if stored is None else stored.docids.tolist()
        lengths = {} if stored is None else dict(zip(docids, _as(stored, np.uint32).tolist(), strict=True))
        live = [docid for docid in mine if docid not in self.dead]
        self.expect(
            all(lengths.get(docid) == mine[docid] for docid in live), what, "has text lengths that differ from the sums of term frequencies"
        )
        strangers = [docid for docid in lengths if docid not in mine and docid not in self.dead]
        self.expect(not strangers, what, "has text lengths of rows without a vector")
        before = self.texts[number]
        self.texts[number] = Texts(before.documents + len(live), before.words + sum(mine[docid] for docid in live))

    def _layout(self, field: str, spec: Any) -> dict[int, tuple[int, int]]:
        """part → (kind of its chunks, bytes a value or item)."""
        lengths = {format.LENGTHS: (chunks.FIXED, 4)} if self.meta.fields[field] in self.bm25 else {}
        return _layout(spec) | lengths

    # Ids

    def _ids(self, ids: list) -> None:
        """Check that the id map and the records name the same live rows, and that all other rows are marked dead."""
        mapped = np.zeros(self.rows, np.bool_)
        count = 0
        for key, value in self.outer.walk(format.id_prefix(self.number)):
            count += 1
            what = f"id key {shown(key[5:])}"
            with self.outer.guard(self.where(what)):
                given = check_id(format.id_of_key(key))
                what = f"id {shown(given)}"
                if not self.expect(len(value) == 12, what, f"has an entry of {len(value)} bytes, not 12"):
                    continue
                docid, version = format.unpack_entry(value)
                self.expect(1 <= version <= self.sequence, what, f"has version {version}, but the newest sequence is {self.sequence}")
                if self.expect(docid < self.rows, what, f"points to row {docid}, but there are only {self.rows} rows"):
                    good = type(ids[docid]) is type(given) and ids[docid] == given
                    self.expect(good, what, f"points to row {docid}, which belongs to {shown(ids[docid])}")
                    mapped[docid] = True
        self.expect(count == self.live, "id map", f"has {count} ids, but {self.live} rows are live")
        wrong = self.dead ^ BitMap(np.flatnonzero(~mapped).astype(np.uint32))
        self.expect(not wrong, "dead rows", f"differ from the rows without an id, first in {shown(list(wrong[:3]))}")


def _layout(spec: Any) -> dict[int, tuple[int, int]]:
    """part → (kind of its chunks, bytes a value or item)."""
    if isinstance(spec, Sparse):
        return {format.FORWARD: (chunks.RAGGED, 8), format.POSTINGS: (chunks.POSTINGS, 0)}
    if isinstance(spec, (Dense, MultiVector)):
        width = spec.dim * np.dtype(spec.dtype).itemsize
        return {format.FORWARD: (chunks.FIXED if isinstance(spec, Dense) else chunks.RAGGED, width)}
    parts = {format.COUNTS: (chunks.POSTINGS, 0)} if spec.array else {}
    if spec.kind in fields.NUMERIC:
        parts[format.FORWARD] = (chunks.RAGGED if spec.array else chunks.FIXED, 16 if spec.kind == "geo" else 8)
    else:
        parts[format.POSTINGS] = (chunks.POSTINGS, 0)
        if spec.kind == "text":
            parts[format.FORWARD] = (chunks.RAGGED, 4)
    return parts


def _as(chunk: Chunk, dtype: Any) -> np.ndarray:
    return chunk.data.reshape(-1).view(dtype)


def _ascending(values: np.ndarray) -> bool:
    return bool((values[1:] > values[:-1]).all())


def _offsets(offsets: np.ndarray, items: int) -> bool:
    return int(offsets[0]) == 0 and bool((offsets[1:] >= offsets[:-1]).all()) and int(offsets[-1]) == items
