"""One collection: first its records, then its rows, block by block, against everything that is derived from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pyroaring import BitMap
from vectordb_client.errors import EncoderError, SchemaError, shown
from vectordb_client.model.derivations import nameless
from vectordb_client.model.terms import is_word

from ...common.analyze import analysis
from ...common.tokenize import RULE
from .. import attribute_forms, catalog, change_log, chunks, derived, format, segments, term_words
from ..segments import Record
from ..store import Store, Texts
from .chunks import check_chunks
from .ids import check_ids
from .migrations import check_migrations
from .rows import check_block
from .walker import Walker

_BLOCK = 65_536  # rows compared at a time
_OPERATIONS = ("write", "delete", "schema")


class CollectionCheck:
    """Checks one collection: first its records, then its rows, block by block, against everything that is derived from them."""

    def __init__(self, walker: Walker, name: str, number: int, types: Mapping[str, Any]):
        self.walker, self.name, self.number, self.types = walker, name, number, types
        self.txn = walker.txn
        self.store = Store(walker.txn, number)
        self.terms: dict[int, dict[bytes, int]] = {}  # field → its dictionary
        self.damaged: set[tuple[int, int]] = set()  # (field, part) with damaged chunks, which can't be compared

    def where(self, what: str = "") -> str:
        return f"collection {self.name!r}" + (f" {what}" if what else "")

    def problem(self, what: str, text: str) -> None:
        self.walker.problem(self.where(what), text)

    def expect(self, holds: Any, what: str, text: str) -> bool:
        return self.walker.expect(holds, self.where(what), text)

    def run(self) -> None:
        self.meta = catalog.read_meta(self.txn, self.number)
        self.schema = catalog.schema_of(self.meta)
        self.bm25 = catalog.bm25_fields(self.meta, self.schema)
        self.texts = dict.fromkeys(self.bm25, Texts(0, 0))  # live texts, counted from the rows
        state = self.store.state()
        if state is None:
            return self.problem("state", "is missing")
        self.sequence, self.rows, self.live = state
        self.walker.rows += self.rows
        self.walker.points += self.live
        self.expect(self.live <= self.rows <= format.MAX_ROWS, "state", f"counts {self.live} live rows of {self.rows} rows")
        self._meta()
        self._log()
        for field, spec in self.schema.attributes.items():
            form = attribute_forms.FORMS[spec.stored]
            if form.has_terms:
                self._dictionary(field, form)
        self._small_records()
        self._term_words()
        layout = {(format.ROWS_FIELD, format.FORWARD): (chunks.RAGGED, 1)}
        for field, spec in (*self.schema.vectors.items(), *self.schema.attributes.items()):
            for part, form in self.parts(field, spec).items():
                layout[self.meta.fields[field], part] = form
        for field, spec in self.schema.vectors.items():  # those whose vectors are being derived
            pending = self.meta.deriving.get(self.meta.fields[field])
            if pending is not None:
                layout |= {(pending, part): form for part, form in self.parts(field, spec).items()}
        self._derivations()
        layout |= check_migrations(self)
        self.unmade = self._unmade()
        self.damaged = check_chunks(self, layout)
        self.dead = self._dead()
        self._segments()
        ids: list = []
        for first in range(0, self.rows, _BLOCK):
            ids.extend(check_block(self, first, min(first + _BLOCK, self.rows)))
        check_ids(self, ids)
        self._expiry()
        for number, field in self.bm25.items():
            with self.walker.guard(self.where(f"texts of {field!r}")):
                counted = self.store.texts(number)
                self.expect(
                    counted == self.texts[number],
                    f"texts of {field!r}",
                    f"are counted as {counted}, but the rows have {self.texts[number]}",
                )

    def _unmade(self) -> set[str]:
        """Attributes whose words can't be made again here, because another version of the stemmer or of the stop words is installed."""
        unmade = set()
        for name, spec in self.schema.attributes.items():
            try:
                analysis(spec.analyzer)
            except (EncoderError, SchemaError) as error:
                unmade.add(name)
                self.walker.notes.append(
                    f"{self.where(f'attribute {name!r}')}: its words were not compared with the texts: {error.message}"
                )
        return unmade

    def parts(self, field: str, spec: Any) -> dict[int, tuple[int, int]]:
        """part → (kind of its chunks, bytes of an item) of a field."""
        if field in self.schema.vectors:
            return self.types[spec.kind].parts(spec, self.schema.is_bm25(field))
        return attribute_forms.parts_of(spec)

    # Records

    def _meta(self) -> None:
        meta, named = self.meta, (*self.schema.vectors, *self.schema.attributes)
        self.expect(meta.name == self.name, "descriptor", f"has the name {meta.name!r}")
        self.expect(
            set(meta.fields) == set(named), "descriptor", f"numbers the fields {sorted(meta.fields)}, but the schema has {sorted(named)}"
        )
        numbers = sorted(meta.fields.values())
        holds = len(set(numbers)) == len(numbers) and all(n >= format.FIRST_FIELD for n in numbers)
        self.expect(holds, "descriptor", f"has invalid or repeated field numbers {numbers}")
        encoded = {field for field, spec in self.schema.vectors.items() if spec.encoder is not None}
        encoded |= {name for name, spec in self.schema.attributes.items() if spec.analyzer is not None}
        ruled = {name for name, spec in (*self.schema.vectors.items(), *self.schema.attributes.items()) if catalog.ruled(spec)}
        holds = set(meta.rules) <= ruled and all(1 <= rule <= RULE for rule in meta.rules.values())
        self.expect(holds, "descriptor", f"has the rules {meta.rules}, but the fields with rules are {sorted(ruled)}")
        self.expect(
            set(meta.encoders) == encoded, "descriptor", f"names encoders of the fields {sorted(meta.encoders)}, not of {sorted(encoded)}"
        )

    def _log(self) -> None:
        """Check that the log has no gaps and ends at the sequence. If it reaches back to the first batch, it must account for every row."""
        kept = self.txn.get(format.key(self.number, format.LOG_KEPT))
        expected = first = change_log.oldest(self.txn, self.number) or 1
        whole, rows, size = expected == 1, 0, 0
        dead = BitMap()
        for key, value in self.walker.walk(format.key(self.number, format.LOG)):
            sequence = int.from_bytes(key[5:], "big")
            size += len(value)
            self.expect(sequence == expected, f"change log {sequence}", f"follows sequence {expected - 1}")
            expected = sequence + 1
            with self.walker.guard(self.where(f"change log {sequence}")):
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
            with self.walker.guard(self.where("change log")):
                stored = format.unpack_log_kept(kept)[:2]
                self.expect(stored == (first, size), "change log", f"begins at {first} and has {size} bytes, but its record says {stored}")
        if whole:
            self.expect(rows == self.rows, "change log", f"accounts for {rows} rows, but there are {self.rows}")
            self.expect(
                len(dead) == self.rows - self.live, "change log", f"marks {len(dead)} rows as dead, but {self.rows - self.live} are dead"
            )

    def _dictionary(self, field: str, form: Any) -> None:
        number, numbers, what = self.meta.fields[field], {}, f"dictionary of {field!r}"
        prefix = format.field_key(self.number, format.TERMS, number)
        for key, value in self.walker.walk(prefix):
            term = key[len(prefix) :]
            if self.expect(len(value) == 4, what, f"has {len(value)} bytes for the number of {shown(term)}, not 4"):
                numbers[term] = int.from_bytes(value, "little")
            with self.walker.guard(self.where(f"{what} term {shown(term)}")):
                fault = form.fault(term)
                self.expect(fault is None, what, fault or "")
        ordinals = np.sort(np.fromiter(numbers.values(), np.int64, len(numbers)))
        self.expect(np.array_equal(ordinals, np.arange(len(numbers))), what, "has gaps or repetitions in its term numbers")
        stored = self.txn.get(format.field_key(self.number, format.TERM_COUNT, number))
        count = 0 if stored is None else int.from_bytes(stored, "little")
        self.expect(count == len(numbers), what, f"has {len(numbers)} terms, but its counter says {count}")
        self.terms[number] = numbers

    def _small_records(self) -> None:
        """Check that records by field belong to fields that have such records, and that counters of encoders can be read."""
        encoded = {self.meta.fields[field] for field, spec in self.schema.vectors.items() if spec.encoder is not None}
        for kind, numbers in ((format.TERMS, self.terms), (format.TERM_COUNT, self.terms), (format.ENCODER, encoded)):
            for key, value in self.walker.walk(format.key(self.number, kind)):
                field = int.from_bytes(key[5:7], "big")
                holds = self.expect(field in numbers, f"key {shown(key)}", f"is of field {field}, which has no such record")
                if holds and kind == format.ENCODER:
                    with self.walker.guard(self.where(f"encoder counters of field {field}")):
                        format.unpack_record(value, "encoder state")

    def _expiry(self) -> None:
        """Check that exactly the live rows with a moment have a record of it."""
        records = {format.expiry_of_key(key) for key, _ in self.walker.walk(format.key(self.number, format.EXPIRY))}
        wanted, ttl = set(), self.schema.ttl
        for first in range(0, self.rows if ttl is not None else 0, _BLOCK):
            live = BitMap(range(first, min(first + _BLOCK, self.rows))) - self.dead
            docids = np.asarray(live.to_array(), np.int64)
            with self.walker.guard(self.where("expiry")):
                for docid, row in zip(docids.tolist(), self.store.rows(docids), strict=True):
                    if row.attributes.get(ttl) is not None:
                        wanted.add((row.attributes[ttl], docid))
        self.expect(
            records == wanted, "expiry", f"{len(records - wanted)} records of moments are wrong, {len(wanted - records)} are missing"
        )

    def _term_words(self) -> None:
        """Check that the words of terms belong to sparse fields, and are words that a user could set."""
        names = {self.meta.fields[name]: name for name, spec in self.schema.vectors.items() if spec.has_terms}
        for key, value in self.walker.walk(format.key(self.number, format.TERM_WORD)):
            field, term = int.from_bytes(key[5:7], "big"), int.from_bytes(key[7:], "big")
            if self.expect(field in names and len(key) == 15, f"key {shown(key)}", f"is of field {field}, which has no such record"):
                what = f"term table of {names[field]!r}"
                with self.walker.guard(self.where(what)):
                    word = term_words.unpack(value, term)
                    self.expect(is_word(word), what, f"has {shown(word)} for term {term}, which is not a valid word")

    def _derivations(self) -> None:
        """Check that the records of derivations belong to derived fields, and are those of their definitions."""
        derivations = {self.meta.fields[name]: spec.derived for name, spec in self.schema.vectors.items() if spec.derived is not None}
        for field, pending in self.meta.deriving.items():
            self.expect(field in derivations, "descriptor", f"derives field {field}, which is not a derived field")
            derivations[pending] = derivations.get(field)
        for key, value in self.walker.walk(format.key(self.number, format.DERIVATION)):
            field = int.from_bytes(key[5:], "big")
            if self.expect(len(key) == 7 and field in derivations, f"key {shown(key)}", f"is of field {field}, which has no such record"):
                with self.walker.guard(self.where(f"derivation of field {field}")):
                    record = derived.unpack(value)
                    expected = nameless(derivations[field].to_dict()) if derivations[field] is not None else None
                    self.expect(nameless(record.by) == expected, f"derivation of field {field}", f"is {record.by}, unlike the schema")

    def _dead(self) -> BitMap:
        """The docids of all dead rows."""
        dead = BitMap()
        for key, value in self.walker.walk(format.key(self.number, format.TOMBSTONES)):
            block = int.from_bytes(key[5:], "big")
            with self.walker.guard(self.where(f"dead rows block {block}")):
                bitmap = BitMap.deserialize(format.verify_checksum(value, "dead rows"))
                holds = len(bitmap) and bitmap.min() >> format.BLOCK_BITS == block == bitmap.max() >> format.BLOCK_BITS
                self.expect(holds, f"dead rows block {block}", "is empty or contains rows of another block")
                dead |= bitmap
        return dead

    # Index files

    def _segments(self) -> None:
        """Check the registry of index files. Its faults are problems; faults of the files are notes, because files can be built again."""
        with self.walker.guard(self.where("derived record")):
            self.store.derived()
        records, damaged = segments.records(self.txn, self.number)
        self.walker.notes.extend(f"{self.where()}: {line}; its rows will be indexed again" for line in damaged)
        names = {self.meta.fields[name]: name for name, spec in self.schema.vectors.items() if spec.index_options}
        names |= {each.to: names[field] for field, each in self.meta.migrating.items() if field in names}
        for field, group in records.items():
            what = f"index of {names.get(field, f'field {field}')!r}"
            self.expect(field in names, what, "belongs to no field that can have one")
            end = 0
            for record in group:
                self.expect(
                    end <= record.first and record.end <= self.rows,
                    what,
                    f"covers rows {record.first} … {record.end - 1}, out of order or past the last row",
                )
                holds = record.rows + record.dead <= record.end - record.first
                self.expect(
                    holds,
                    what,
                    f"says {record.rows} live and {record.dead} dead rows, which do not fit into {record.first} … {record.end - 1}",
                )
                end = record.end
                self._file(what, record)

    def _file(self, what: str, record: Record) -> None:
        path = self.walker.folder / record.file
        try:
            size = path.stat().st_size
            self.walker.bytes += size
            wrong = None if size == record.bytes and segments.checksum(path) == record.checksum else "is damaged"
        except FileNotFoundError:
            wrong = "is missing"
        if wrong is not None:
            self.walker.notes.append(f"{self.where(what)}: file {record.file} {wrong}; it will be rebuilt")
