"""Sparse vectors: terms with weights, by row and as posting lists. A BM25 field holds term frequencies, and the lengths of its texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from vectordb_client.model.fields import Sparse, SparseColumn
from vectordb_client.model.filter_nodes import HasVector

from .. import encoders
from ..common import deadline
from ..filters.bitmap import matching
from ..index import exact
from ..index.exact import Found
from ..index.saturation import Saturation
from ..storage import chunks, format
from ..storage.check.rows import FieldRows
from ..storage.chunks import RaggedChunk
from ..storage.store import Texts
from .base import FieldType, Part, writable

Query = tuple[np.ndarray, np.ndarray]  # terms uint64 ascending, weights float32


class SparseType(FieldType):
    kind = "sparse"
    search_part = format.POSTINGS
    exact_plan = "exact term-at-a-time"

    def parts(self, spec: Sparse, bm25: bool = False) -> dict[int, Part]:
        lengths = {format.LENGTHS: (chunks.FIXED, 4)} if bm25 else {}
        return {format.FORWARD: (chunks.RAGGED, 8), format.POSTINGS: (chunks.POSTINGS, 0)} | lengths

    def encode(self, spec: Sparse, column: SparseColumn, docids: np.ndarray, bm25: bool = False) -> dict[int, Any]:
        weights = None if spec.binary else column.weights
        parts: dict[int, Any] = {format.FORWARD: chunks.ragged(docids, column.indptr, column.terms, extra=weights)}
        if bm25:
            parts[format.LENGTHS] = chunks.fixed(docids, column.sums().astype(np.uint32))
        parts[format.POSTINGS] = chunks.postings(docids, column.terms, np.repeat(docids, np.diff(column.indptr)), weights)
        return parts

    def decode(self, spec: Sparse, chunk: RaggedChunk, rows: np.ndarray | None) -> SparseColumn:
        terms = chunk.data.reshape(-1).view(np.uint64)
        weights = np.ones(len(terms), np.float32) if chunk.extra is None else chunk.extra.reshape(-1).view(np.float32)
        return SparseColumn(chunk.offsets.astype(np.int64), terms, weights, rows)

    def stored_bytes(self, spec: Sparse, column: SparseColumn, bm25: bool) -> Iterator[bytes]:
        """Terms and weights, which are stored apart. Term frequencies are left out: they are equal for many texts."""
        for terms, weights in column.vectors():
            yield terms.tobytes()
            if not bm25:
                yield weights.tobytes()

    # ---- Check ----

    def check(self, rows: FieldRows, spec: Sparse) -> None:
        chunk, postings = rows.part(format.FORWARD), rows.part(format.POSTINGS)
        by_row, by_term = (np.empty(0, np.uint32) if part is None else part.docids for part in (chunk, postings))
        docids = rows.common(by_row, by_term)
        if not rows.expect(docids is not None, "covers different rows in the forward index and in the posting lists") or not len(docids):
            return
        chunk, postings = rows.kept(chunk, docids), rows.kept(postings, docids)
        bare = chunk.extra is None, postings.weights is None
        if not rows.expect(bare == (spec.binary, spec.binary), "has weights though it is binary, or lacks them though it is not"):
            return
        column = self.decode(spec, chunk, None)
        terms, weights = column.terms, column.weights
        owners = np.repeat(chunk.docids.astype(np.int64), np.diff(chunk.offsets))
        same = owners[1:] == owners[:-1]
        rows.expect((terms[1:] > terms[:-1])[same].all(), "has terms out of order")
        rows.expect(np.isfinite(weights).all() and weights.all(), "has weights that are 0 or not finite")
        order = np.lexsort((owners, terms))
        agree = (
            np.array_equal(np.repeat(postings.terms, np.diff(postings.indptr)), terms[order])
            and np.array_equal(postings.owners(), owners[order])
            and (spec.binary or np.array_equal(postings.weights, weights[order]))
        )
        rows.expect(agree, "differs between the forward index and the posting lists")
        if rows.bm25:
            self._check_texts(rows, chunk.docids, column)

    @staticmethod
    def _check_texts(rows: FieldRows, docids: np.ndarray, column: SparseColumn) -> None:
        """Check that lengths are the sums of term frequencies; count the live texts."""
        frequencies = column.weights
        whole = (frequencies >= 1) & (frequencies == np.floor(frequencies))
        rows.expect(whole.all(), "has term frequencies that are not whole numbers from 1 on")
        sums = dict(zip(docids.tolist(), column.sums().tolist(), strict=True))
        part = rows.part(format.LENGTHS)
        stored = {} if part is None else dict(zip(part.docids.tolist(), part.data.reshape(-1).view(np.uint32).tolist(), strict=True))
        live = [docid for docid in sums if docid not in rows.dead]
        agree = all(stored.get(docid) == sums[docid] for docid in live)
        rows.expect(agree, "has text lengths that differ from the sums of term frequencies")
        strangers = [docid for docid in stored if docid not in sums and docid not in rows.dead]
        rows.expect(not strangers, "has text lengths of rows without a vector")
        rows.count_texts(len(live), sum(sums[docid] for docid in live))

    # ---- Search ----

    def prepare(self, view: Any, name: str, queries: Sequence[Any], cache: Any) -> list[Query]:
        """The weights are multiplied by inverse document frequencies over the live rows if the field has weighting="idf"."""
        spec = view.schema.vectors[name]
        pairs = [(writable(terms), writable(weights)) for terms, weights in queries]
        if spec.weighting != "idf":
            return pairs
        table = view.table(view.fields[name], format.POSTINGS)
        return [(terms, self._weighted(view, name, table, terms, weights, cache)) for terms, weights in pairs]

    def _weighted(self, view: Any, name: str, table: np.ndarray, terms: np.ndarray, weights: np.ndarray, cache: Any) -> np.ndarray:
        if not len(terms):
            return weights
        frequency = exact.document_frequencies(table, terms, view.snapshot.dead_words() if view.dead else None)
        saturation = self.saturation(view, name)
        total = len(matching(HasVector(name), view, cache)) if saturation is None else saturation.documents
        return (weights * np.log1p((total - frequency + 0.5) / (frequency + 0.5))).astype(np.float32)

    def saturation(self, view: Any, name: str) -> Saturation | None:
        if not view.schema.is_bm25(name):
            return None
        cache, key = view.snapshot.prepared, ("saturation", name)
        saturation = cache.get(key)
        if saturation is None:
            field = view.fields[name]
            live = view.snapshot.texts.get(field) or view.store.texts(field)  # of an earlier state, if the view is of one
            if view.snapshot.expired:  # counted until they are deleted
                lengths = view.store.lengths(field, np.asarray(view.snapshot.expired.to_array(), np.int64))
                live = Texts(live.documents - len(lengths), live.words - int(lengths.sum()))
            k1, b = encoders.saturation_of(view.schema.vectors[name].encoder)
            saturation = cache[key] = Saturation(k1, b, live.documents, live.words, view.table(field, format.LENGTHS))
        return saturation

    def exact(self, view: Any, name: str, table: np.ndarray, queries: Any, k: int, rows: np.ndarray | None) -> list[Found]:
        saturation = self.saturation(view, name)

        def one(query: Query) -> Found:
            return exact.search_sparse(table, *query, k, rows, saturation)

        if len(queries) == 1:
            return [one(queries[0])]
        return deadline.map_with_deadline(exact.pool(), one, queries)

    def score(self, view: Any, name: str, queries: Sequence[Query], rows: np.ndarray) -> list[Found]:
        table, saturation = view.chunks(view.fields[name]), self.saturation(view, name)
        table.verify_rows(rows)
        return [exact.score_sparse(table.rows, *query, rows, saturation) for query in queries]
